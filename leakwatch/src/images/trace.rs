//! Frames as the Go runtime's tracebacks print them, with all that decides which of them are printed.
//!
//! The rules are those of `traceback2`, `showfuncinfo`, `elideWrapperCalling` and `printcreatedby` (runtime/traceback.go,
//! Go 1.19 and 1.21 to 1.27). Which frames are left out depends on their callees, so that is decided over a whole stack,
//! by whoever asks; here stands what a frame is.

use leakwatch_inspect::{
    Arch,
    go::pclntab::{self, Pclntab, SpecialIds},
};

use super::{
    Frame, Image, Modules,
    names::{is_hidden, is_system, is_wrapper, printed},
    plugins::Tables,
};

/// A frame and what decides whether a traceback has it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The function, as it is printed.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// It was inlined into the next frame.
    pub inlined: bool,
    /// Bytes from the function's entry; `None`: inlined, or at the entry itself.
    pub offset: Option<u64>,
    /// It takes no arguments that the runtime would print.
    pub no_arguments: bool,
    /// The runtime's own machinery, which tracebacks leave out.
    pub hidden: bool,
    /// A wrapper, which tracebacks leave out unless it called one that panics.
    pub wrapper: bool,
    /// A function that panics.
    pub panics: bool,
    /// `runtime.gopanic`, which tracebacks leave out where it is innermost.
    pub gopanic: bool,
    /// It was not called by the frame below it but put there by a signal: that one's address is of the instruction
    /// at which it stopped.
    pub injected: bool,
    /// `runtime.goexit`, below every goroutine.
    pub outermost: bool,
}

impl From<Frame> for Traced {
    /// A frame of code that no Go runtime prints: all of it is shown.
    fn from(frame: Frame) -> Self {
        Self {
            function: frame.function,
            file: frame.file,
            line: frame.line,
            inlined: frame.inlined,
            offset: None,
            no_arguments: false,
            hidden: false,
            wrapper: false,
            panics: false,
            gopanic: false,
            injected: false,
            outermost: false,
        }
    }
}

/// Where a goroutine comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The function of the `go` statement, as in `created by`.
    pub function: Option<String>,
    /// Source file of the statement.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// Bytes from that function's entry.
    pub offset: Option<u64>,
    /// Tracebacks have a line `created by`.
    pub shown: bool,
    /// What it runs.
    pub task: Option<String>,
    /// It is the runtime's own, by the rule at its creation.
    pub system: bool,
}

/// Names of one Go program for tracebacks. Addresses are run-time addresses. It keeps nothing: who asks does.
#[derive(Debug)]
pub struct Tracer<'a> {
    tables: Tables<'a>,
    quantum: u64,
    ids: SpecialIds,
}

impl Image {
    /// For tracebacks; `None` without the tables of a Go program.
    pub fn tracer<'a>(&'a self, modules: &'a Modules) -> Option<Tracer<'a>> {
        let (tables, ids) = self.go_tables(modules)?;
        let quantum = match self.inspection().elf.arch {
            Arch::X86_64 => 1,
            Arch::Aarch64 => 4,
        };
        Some(Tracer { tables, quantum, ids })
    }
}

impl Tracer<'_> {
    /// The frames at an address of a stack, innermost first. `stopped`: not a return address, but where the function
    /// stopped without a call ([`Traced::injected`]).
    pub fn traced(&self, pc: u64, stopped: bool) -> Vec<Traced> {
        let Some((table, function, pc)) = self.find(pc) else { return Vec::new() };
        let call = if stopped { pc } else { self.call_of(&function, pc) };
        table
            .traced(call)
            .into_iter()
            .map(|traced| {
                let name = traced.frame.function;
                let is = |id: Option<u8>| id == Some(traced.id);
                Traced {
                    function: if is(self.ids.gopanic) { "panic".to_owned() } else { printed(name) },
                    file: traced.frame.file.map(str::to_owned),
                    line: traced.frame.line,
                    inlined: traced.frame.inlined,
                    offset: Some(pc - function.entry).filter(|&offset| offset > 0 && !traced.frame.inlined),
                    no_arguments: traced.no_arguments,
                    hidden: is_hidden(name),
                    wrapper: if self.ids.wrapper.is_some() { is(self.ids.wrapper) } else { is_wrapper(name) },
                    panics: is(self.ids.gopanic) || is(self.ids.sigpanic) || is(self.ids.panicwrap),
                    gopanic: is(self.ids.gopanic),
                    injected: is(self.ids.sigpanic) || is(self.ids.async_preempt),
                    outermost: name == "runtime.goexit",
                }
            })
            .collect()
    }

    /// Where a goroutine with this `g.gopc` and `g.startpc` comes from.
    pub fn origin(&self, gopc: u64, startpc: u64) -> Origin {
        let start = self.find(startpc).map(|(_, function, _)| printed(function.name));
        let mut origin =
            Origin { system: start.as_deref().is_some_and(is_system), task: start, ..Origin::default() };
        // Made by the runtime's assembly; the runtime prints no "created by" for it either.
        if origin.task.as_deref() == Some("runtime.main") {
            return origin;
        }
        let Some((table, function, pc)) = self.find(gopc) else { return origin };
        let position = table.line_at(self.call_of(&function, pc));
        origin.file = position.map(|(file, _)| file.to_owned());
        origin.line = position.map(|(_, line)| line);
        origin.offset = Some(pc - function.entry).filter(|&offset| offset > 0);
        origin.shown = !is_hidden(function.name);
        origin.function = Some(printed(function.name));
        origin
    }

    /// The tables that hold a run-time address, the function, and the address as its file was linked.
    fn find(&self, pc: u64) -> Option<(&Pclntab<'_>, pclntab::Function<'_>, u64)> {
        self.tables.iter().find_map(|(table, bias)| {
            let pc = pc.wrapping_sub(*bias);
            Some((table, table.function_at(pc)?, pc))
        })
    }

    /// The call before a return address: the runtime goes back one `sys.PCQuantum`, but not out of the function.
    fn call_of(&self, function: &pclntab::Function<'_>, pc: u64) -> u64 {
        if pc > function.entry { pc.saturating_sub(self.quantum) } else { pc }
    }
}
