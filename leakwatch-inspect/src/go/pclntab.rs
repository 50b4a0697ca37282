//! gopclntab: the function table, names, source lines and inlined frames of every pc. Survives `strip`.
//!
//! Must never panic or run without a bound on hostile tables: every offset is checked, every walk has an end.
//!
//! Formats read in Go's own sources, 1.19 and 1.21 to 1.27: `src/internal/abi/symtab.go`, `src/runtime/symtab.go`,
//! `src/runtime/symtabinl.go`, `src/runtime/runtime2.go` (`_func`), `src/debug/gosym/pclntab.go`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod header;
mod locate;
mod pcvalue;
mod unwind;

use std::ops::Range;

use crate::Problem;
use crate::elf::{Arch, Elf};
use crate::reader::{c_string, range_of, slice_at, u32_at, u64_at};
use header::{Format, Header};
pub use unwind::{SpecialIds, Step, Traced};

/// Where the tables stand and in which format; small, owned, kept with the facts. Make a [`Pclntab`] of it and
/// the image to look things up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct PclntabLocation {
    /// Link-time address of the header.
    pub address: u64,
    /// Its bytes in the file.
    pub file: Range<u64>,
    /// `runtime.text`: what function entry offsets are relative to (not `.text` in external links).
    pub text_start: u64,
    /// `runtime.etext`, or the end of the last function.
    pub text_end: u64,
    /// First Go version that has this header format: 16, 18 or 20 (for 1.16, 1.18, 1.20 and later).
    pub format: u8,
    /// Number of functions.
    pub functions: u32,
    /// Address of `go:func.*` (moduledata.gofunc), which inline trees are relative to. `None`: not found, and frames
    /// are then given without the inlined ones.
    pub gofunc: Option<u64>,
    /// From `gofunc` to the end of its segment in the file; empty when `gofunc` is `None`.
    pub gofunc_file: Range<u64>,
    /// Address of `runtime.firstmoduledata`, if it was found (by its pointers to these tables).
    pub moduledata: Option<u64>,
    /// Machine of the file.
    pub arch: Arch,
}

/// A function of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Full linker name, such as `main.(*Server).accept.func1` or `main.worker[go.shape.int]`. Go before 1.21 keeps
    /// no type arguments: `main.worker[...]`, for several functions.
    pub name: &'a str,
    /// Link-time address of the first instruction.
    pub entry: u64,
    /// Address of the next function's entry.
    pub end: u64,
}

/// One frame of a pc; a pc in inlined code has several, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Function name as in [`Function::name`].
    pub function: &'a str,
    /// Source file as recorded (absolute, or module path with -trimpath). `None`: not recorded.
    pub file: Option<&'a str>,
    /// Source line. `None`: not recorded.
    pub line: Option<u32>,
    /// This frame was inlined into the next one.
    pub inlined: bool,
}

/// Longest function name that is read.
const MAX_NAME: usize = 32 * 1024;
/// Longest file name that is read.
const MAX_FILE_NAME: usize = 16 * 1024;
/// Deepest inlining that is followed; the compiler's budget keeps it far below.
const MAX_INLINED: usize = 128;
/// `PCDATA_InlTreeIndex` and `FUNCDATA_InlTree` of `internal/abi/symtab.go`.
const PCDATA_INL_TREE_INDEX: usize = 2;
const FUNCDATA_INL_TREE: usize = 3;

/// The tables, ready to look things up.
#[derive(Clone, Copy, Debug)]
pub struct Pclntab<'a> {
    format: Format,
    quantum: u32,
    text_start: u64,
    names: &'a [u8],
    units: &'a [u8],
    files: &'a [u8],
    pcs: &'a [u8],
    /// ftab and after it the functions, whose offsets count from its start.
    ftab: &'a [u8],
    gofunc: &'a [u8],
    functions: usize,
}

impl<'a> Pclntab<'a> {
    /// Finds the tables: by their section, or by their header in the segments when section headers are stripped or
    /// renamed. Then `runtime.text`, without which entries mean nothing, from moduledata, the header or the symbol.
    ///
    /// # Errors
    /// When there are none, when they are of Go 1.15 or older, or when no text address makes entries executable.
    pub fn locate(elf: &Elf, image: &[u8]) -> Result<PclntabLocation, Problem> {
        locate::locate(elf, image)
    }

    /// The tables at a location found in the same image. `None` when the image is not the same.
    pub fn new(image: &'a [u8], location: &PclntabLocation) -> Option<Pclntab<'a>> {
        let bytes = range_of(image, &location.file)?;
        let header::Read::Header(h) = Header::read(bytes, location.arch) else { return None };
        let same = h.format == Format::of_first_minor(location.format)?
            && u32::try_from(h.functions).is_ok_and(|n| n == location.functions);
        same.then_some(Pclntab {
            format: h.format,
            quantum: locate::quantum(location.arch),
            text_start: location.text_start,
            names: bytes.get(h.names..h.units)?,
            units: bytes.get(h.units..h.files)?,
            files: bytes.get(h.files..h.pcs)?,
            pcs: bytes.get(h.pcs..h.ftab)?,
            ftab: bytes.get(h.ftab..)?,
            gofunc: range_of(image, &location.gofunc_file)?,
            functions: h.functions,
        })
    }

    /// Number of functions.
    pub fn len(&self) -> usize {
        self.functions
    }

    /// Always false: a table without functions is not accepted.
    pub fn is_empty(&self) -> bool {
        self.functions == 0
    }

    /// The function with this index, in the order of addresses.
    pub fn function(&self, index: usize) -> Option<Function<'a>> {
        Some(Function {
            name: self.name(self.func(index)?.name)?,
            entry: self.entry(index)?,
            end: self.entry(index.checked_add(1)?)?,
        })
    }

    /// The function that holds a pc.
    pub fn function_at(&self, pc: u64) -> Option<Function<'a>> {
        self.function(self.index_at(pc)?)
    }

    /// All functions by address; one whose name cannot be read is left out.
    pub fn functions(&self) -> impl Iterator<Item = Function<'a>> + use<'a> {
        let table = *self;
        (0..table.functions).filter_map(move |index| table.function(index))
    }

    /// Looks up functions by their exact full names, in one scan of the table. Where a name is given to several
    /// functions (as to a wrapper) the first by address is meant.
    pub fn find<const N: usize>(&self, names: [&str; N]) -> [Option<Function<'a>>; N] {
        let wanted = names.map(|name| self.name_offset(name));
        let mut found = [None; N];
        let mut left = wanted.iter().flatten().count();
        for index in 0..self.functions {
            if left == 0 {
                break;
            }
            let Some(offset) = self.name_offset_of(index) else { continue };
            for (slot, _) in
                found.iter_mut().zip(wanted).filter(|(slot, w)| slot.is_none() && *w == Some(offset))
            {
                *slot = Some(index);
                left = left.saturating_sub(1);
            }
        }
        found.map(|index| self.function(index?))
    }

    /// The frames of a pc, innermost first: functions inlined there, then the function itself. Empty when no function
    /// holds the pc.
    ///
    /// The pc is that of an instruction. For a return address (also g.gopc) pass the address minus 1: what counts is
    /// the call before it.
    pub fn frames(&self, pc: u64) -> Vec<Frame<'a>> {
        self.frames_at(pc).unwrap_or_default()
    }

    /// File and line of exactly this pc, as `runtime.funcline` gives them: where code is inlined, those of the
    /// innermost function.
    pub fn line_at(&self, pc: u64) -> Option<(&'a str, u32)> {
        let index = self.index_at(pc)?;
        self.source(&self.func(index)?, pc.checked_sub(self.entry(index)?)?)
    }

    fn frames_at(&self, pc: u64) -> Option<Vec<Frame<'a>>> {
        let index = self.index_at(pc)?;
        let (entry, func) = (self.entry(index)?, self.func(index)?);
        let mut offset = pc.checked_sub(entry)?;
        let mut frames = Vec::new();
        // `runtime/symtabinl.go`, inlineUnwinder: each call's parentPc is a pc that has the position of the call and
        // the tree index of the function around it.
        while let Some(call) = self.inlined_at(&func, offset).filter(|_| frames.len() < MAX_INLINED) {
            let position = self.source(&func, offset);
            let (file, line) = (position.map(|p| p.0), position.map(|p| p.1));
            frames.push(Frame { function: self.name(call.name)?, file, line, inlined: true });
            offset = u64::from(call.parent_pc);
        }
        let position = self.source(&func, offset);
        let (file, line) = (position.map(|p| p.0), position.map(|p| p.1));
        frames.push(Frame { function: self.name(func.name)?, file, line, inlined: false });
        Some(frames)
    }

    /// Entry of the function with this index; one past the last: where the last function ends.
    fn entry(&self, index: usize) -> Option<u64> {
        let at = index.checked_mul(self.format.ftab_entry())?;
        if self.format == Format::Go116 {
            u64_at(self.ftab, at)
        } else {
            self.text_start.checked_add(u64::from(u32_at(self.ftab, at)?))
        }
    }

    /// Index of the function that holds a pc, by binary search.
    fn index_at(&self, pc: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.functions);
        if pc < self.entry(0)? || pc >= self.entry(high)? {
            return None;
        }
        // entry(low) <= pc < entry(high)
        while high.saturating_sub(low) > 1 {
            let middle = usize::midpoint(low, high);
            if self.entry(middle)? <= pc { low = middle } else { high = middle }
        }
        Some(low)
    }

    /// Bytes of the `_func` with this index, to the end of the table.
    fn func_bytes(&self, index: usize) -> Option<&'a [u8]> {
        let entry = self.format.ftab_entry();
        let at = index.checked_mul(entry)?.checked_add(entry >> 1)?;
        let offset =
            if self.format == Format::Go116 { u64_at(self.ftab, at)? } else { u32_at(self.ftab, at)?.into() };
        self.ftab.get(usize::try_from(offset).ok()?..)
    }

    fn name_offset_of(&self, index: usize) -> Option<u32> {
        u32_at(self.func_bytes(index)?, self.format.func_shift().checked_add(4)?)
    }

    fn func(&self, index: usize) -> Option<Func<'a>> {
        let bytes = self.func_bytes(index)?;
        let shift = self.format.func_shift();
        let word = |at: usize| u32_at(bytes, at.checked_add(shift)?);
        let size = self.format.func_size();
        let pcdata = usize::try_from(word(28)?).ok()?;
        let funcdata = usize::from(*bytes.get(size.checked_sub(1)?)?);
        let tables = bytes.get(size..)?;
        let pcdata_end = pcdata.checked_mul(4)?;
        Some(Func {
            name: word(4)?,
            pcsp: word(16)?,
            pcfile: word(20)?,
            pcln: word(24)?,
            unit: word(32)?,
            pcdata: tables.get(..pcdata_end)?,
            funcdata: tables.get(pcdata_end..)?.get(..funcdata.checked_mul(4)?).unwrap_or_default(),
            id: *bytes.get(size.checked_sub(4)?)?,
            flags: *bytes.get(size.checked_sub(3)?)?,
        })
    }

    fn name(&self, offset: u32) -> Option<&'a str> {
        let bytes = c_string(self.names, usize::try_from(offset).ok()?, MAX_NAME)?;
        str::from_utf8(bytes).ok().filter(|name| !name.is_empty())
    }

    /// Offset of a name in the name table, where each name stands once between NULs.
    fn name_offset(&self, name: &str) -> Option<u32> {
        let name = Some(name.as_bytes()).filter(|n| !n.is_empty() && !n.contains(&0))?;
        memchr::memmem::find_iter(self.names, name).find_map(|at| {
            let after = self.names.get(at.checked_add(name.len())?);
            let before = at.checked_sub(1).and_then(|before| self.names.get(before));
            (after == Some(&0) && matches!(before, None | Some(0))).then(|| u32::try_from(at).ok()).flatten()
        })
    }

    /// File and line at an offset from the function's entry.
    fn source(&self, func: &Func<'a>, offset: u64) -> Option<(&'a str, u32)> {
        let file = u32::try_from(self.value(func.pcfile, offset)?).ok()?;
        let line = u32::try_from(self.value(func.pcln, offset)?).ok()?;
        let at = usize::try_from(func.unit.checked_add(file)?).ok()?.checked_mul(4)?;
        let name = u32_at(self.units, at).filter(|o| *o != u32::MAX)?;
        let name = c_string(self.files, usize::try_from(name).ok()?, MAX_FILE_NAME)?;
        Some((str::from_utf8(name).ok()?, line))
    }

    fn value(&self, table: u32, offset: u64) -> Option<i32> {
        // Offset 0 means that there is no table.
        let table = usize::try_from(table).ok().filter(|t| *t != 0)?;
        pcvalue::value_at(self.pcs.get(table..)?, self.quantum, offset)
    }

    /// The inlined call whose code the pc at this offset belongs to.
    fn inlined_at(&self, func: &Func<'a>, offset: u64) -> Option<InlinedCall> {
        let table = u32_at(func.pcdata, PCDATA_INL_TREE_INDEX.checked_mul(4)?)?;
        let index = u64::try_from(self.value(table, offset)?).ok()?;
        self.inlined_call(func, index)
    }

    /// `inlinedCall` of the function's tree: {parent i16, funcID, pad, file, line, func, parentPc} in 1.18 and 1.19
    /// (`runtime/symtab.go`), {funcID, pad, nameOff, parentPc, startLine} since 1.20 (`runtime/symtabinl.go`).
    fn inlined_call(&self, func: &Func<'a>, index: u64) -> Option<InlinedCall> {
        let (size, name, parent, id) = match self.format {
            Format::Go12 | Format::Go116 => return None,
            Format::Go118 => (20, 12, 16, 2),
            Format::Go120 => (16, 4, 8, 0),
        };
        let tree = u32_at(func.funcdata, FUNCDATA_INL_TREE.checked_mul(4)?).filter(|o| *o != u32::MAX)?;
        let at = index.checked_mul(size)?.checked_add(u64::from(tree))?;
        let entry = slice_at(self.gofunc, at, size)?;
        Some(InlinedCall {
            name: u32_at(entry, name)?,
            parent_pc: u32_at(entry, parent)?,
            id: *entry.get(id)?,
        })
    }

    /// Do the trees of the first functions that have some name functions and lie inside them? That is how a guess
    /// where `go:func.*` is gets checked.
    fn inline_trees_are_plausible(&self) -> bool {
        const ENOUGH: usize = 200;
        let mut seen: usize = 0;
        for index in 0..self.functions {
            let Some(func) = self.func(index) else { continue };
            let has_tree =
                u32_at(func.funcdata, FUNCDATA_INL_TREE.saturating_mul(4)).is_some_and(|o| o != u32::MAX);
            if !has_tree {
                continue;
            }
            let size = self.entry(index.saturating_add(1)).zip(self.entry(index));
            let size = size.map_or(0, |(end, entry)| end.saturating_sub(entry));
            let call = self.inlined_call(&func, 0);
            let good = call.is_some_and(|c| u64::from(c.parent_pc) < size && self.starts_a_name(c.name));
            if !good {
                return false;
            }
            seen = seen.saturating_add(1);
            if seen == ENOUGH {
                break;
            }
        }
        seen > 0
    }

    fn starts_a_name(&self, offset: u32) -> bool {
        let before = usize::try_from(offset).ok().and_then(|o| o.checked_sub(1));
        before.is_none_or(|at| self.names.get(at) == Some(&0)) && self.name(offset).is_some()
    }
}

/// What is needed of a `_func`.
struct Func<'a> {
    name: u32,
    pcsp: u32,
    pcfile: u32,
    pcln: u32,
    unit: u32,
    pcdata: &'a [u8],
    funcdata: &'a [u8],
    /// `abi.FuncID`: which special function it is, 0 for all others.
    id: u8,
    /// `abi.FuncFlag`.
    flags: u8,
}

/// What is needed of an `inlinedCall`.
struct InlinedCall {
    name: u32,
    parent_pc: u32,
    id: u8,
}
