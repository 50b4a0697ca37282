//! What a stack walk and a traceback need of a function: how far the stack pointer stands below its frame's start, and
//! the marks by which the runtime ends a walk or leaves a frame out.
//!
//! Read in `src/runtime/traceback.go` and `symtab.go` of Go 1.19 and 1.21 to 1.27. The numbers of special functions
//! (`abi.FuncID`) differ from release to release: they are never compared with constants, but with those of functions
//! that are known by name. Must end on any bytes, as all of `pclntab`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Frame, Func, MAX_INLINED, Pclntab};
use crate::reader::{slice_at, u32_at};

/// `abi.FuncFlagTopFrame`: nothing called it.
const TOP_FRAME: u8 = 1;
/// `abi.FuncFlagSPWrite`: it writes the stack pointer; its caller cannot be told.
const SP_WRITE: u8 = 2;
/// `FUNCDATA_ArgInfo` of `internal/abi/symtab.go`, and `TraceArgsEndSeq`.
const FUNCDATA_ARG_INFO: usize = 5;
const ARGS_END: u8 = 0xff;

/// How a walk goes on from a pc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The function's first instruction.
    pub entry: u64,
    /// Bytes from the stack pointer at this pc to the end of the frame's locals; after them stands, on x86-64, the
    /// return address. `None`: the table does not say, and the walk ends before this frame.
    pub sp_delta: Option<u32>,
    /// Nothing called it: the stack ends here.
    pub top: bool,
    /// It writes the stack pointer: the walk ends with this frame, unless it is the innermost one of a system call.
    pub writes_sp: bool,
    /// Number of the special function that it is; 0 for all others.
    pub id: u8,
}

/// A frame with what a traceback needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced<'a> {
    /// Names and place.
    pub frame: Frame<'a>,
    /// Number of the special function that it is; 0 for all others.
    pub id: u8,
    /// It takes no arguments that the runtime would print.
    pub no_arguments: bool,
}

/// Numbers of special functions in this binary. `None`: no such function was linked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Wrappers that the compiler makes.
    pub wrapper: Option<u8>,
    /// `runtime.gopanic`.
    pub gopanic: Option<u8>,
    /// `runtime.sigpanic`, which the kernel's signal calls, not the function below it.
    pub sigpanic: Option<u8>,
    /// `runtime.panicwrap`.
    pub panicwrap: Option<u8>,
    /// `runtime.asyncPreempt`, which is called as sigpanic is.
    pub async_preempt: Option<u8>,
    /// `runtime.cgocallback`.
    pub cgocallback: Option<u8>,
}

impl<'a> Pclntab<'a> {
    /// How a walk goes on from a pc: that of the next instruction, as it stands in a register or on the stack.
    pub fn step(&self, pc: u64) -> Option<Step> {
        let index = self.index_at(pc)?;
        let (entry, func) = (self.entry(index)?, self.func(index)?);
        let delta = self.value(func.pcsp, pc.checked_sub(entry)?);
        Some(Step {
            entry,
            sp_delta: delta.and_then(|delta| u32::try_from(delta).ok()),
            top: func.flags & TOP_FRAME != 0,
            writes_sp: func.flags & SP_WRITE != 0,
            id: func.id,
        })
    }

    /// As [`Self::frames`], with what a traceback needs to know.
    pub fn traced(&self, pc: u64) -> Vec<Traced<'a>> {
        self.traced_at(pc).unwrap_or_default()
    }

    fn traced_at(&self, pc: u64) -> Option<Vec<Traced<'a>>> {
        let index = self.index_at(pc)?;
        let (entry, func) = (self.entry(index)?, self.func(index)?);
        let mut offset = pc.checked_sub(entry)?;
        let mut traced = Vec::new();
        let mut push = |name: u32, offset, inlined, id, no_arguments| {
            let position = self.source(&func, offset);
            let (file, line) = (position.map(|p| p.0), position.map(|p| p.1));
            let frame = Frame { function: self.name(name)?, file, line, inlined };
            traced.push(Traced { frame, id, no_arguments });
            Some(traced.len())
        };
        let mut depth = 0;
        while let Some(call) = self.inlined_at(&func, offset).filter(|_| depth < MAX_INLINED) {
            depth = push(call.name, offset, true, call.id, false)?;
            offset = u64::from(call.parent_pc);
        }
        push(func.name, offset, false, func.id, self.has_no_arguments(&func))?;
        Some(traced)
    }

    /// Numbers of the special functions, by their names: `deferreturn` is numbered as wrappers are
    /// (`cmd/internal/objabi/funcid.go`).
    pub fn special_ids(&self) -> SpecialIds {
        let found = self.find([
            "runtime.deferreturn",
            "runtime.gopanic",
            "runtime.sigpanic",
            "runtime.panicwrap",
            "runtime.asyncPreempt",
            "runtime.cgocallback",
        ]);
        let id = |function: &Option<super::Function<'_>>| {
            let index = self.index_at(function.as_ref()?.entry)?;
            self.func(index).map(|func| func.id).filter(|id| *id != 0)
        };
        let [wrapper, gopanic, sigpanic, panicwrap, async_preempt, cgocallback] = found.each_ref().map(id);
        SpecialIds { wrapper, gopanic, sigpanic, panicwrap, async_preempt, cgocallback }
    }

    /// `printArgs`: nothing is printed without a description of the arguments, or when it ends at once.
    fn has_no_arguments(&self, func: &Func<'_>) -> bool {
        let described = u32_at(func.funcdata, FUNCDATA_ARG_INFO.saturating_mul(4)).filter(|o| *o != u32::MAX);
        let Some(offset) = described else { return true };
        slice_at(self.gofunc, u64::from(offset), 1).is_some_and(|bytes| bytes == [ARGS_END])
    }
}
