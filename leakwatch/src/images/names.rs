//! Names as the Go runtime prints them, with a bounded cache.
//!
//! The rules are those of Go's `src/runtime/traceback.go` (`printcreatedby1`, `funcNamePiecesForPrint`,
//! `isSystemGoroutine`, `showfuncinfo`), read in Go 1.19 and 1.21 to 1.27:
//! <https://github.com/golang/go/blob/go1.26.0/src/runtime/traceback.go>.

use std::{cell::OnceCell, hash::Hash, sync::Arc};

use leakwatch_inspect::{
    Arch, Inspection,
    go::pclntab::{self, Pclntab},
};
use rustc_hash::FxHashMap;

use super::native::Native;
use crate::host::Executable;

/// Addresses kept of each kind. A program has some thousand sites; a cache that is full starts anew.
const KEPT: usize = 1 << 14;

/// What started a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    /// The function, as in `created by`; `None`: no function holds the address.
    pub function: Option<String>,
    /// Source file of the statement.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
}

/// One frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// It was inlined into the next frame.
    pub inlined: bool,
    /// The runtime leaves it out of tracebacks: its own machinery (`runtime.gopark`, `runtime.chanrecv`).
    pub internal: bool,
}

/// Frames in words, shared by all who have them.
pub type Words = Arc<[Arc<str>]>;

/// The caches. Keys are link-time addresses.
#[derive(Debug, Default)]
pub(super) struct Names {
    created: FxHashMap<u64, Created>,
    functions: FxHashMap<u64, Option<String>>,
    frames: FxHashMap<u64, Vec<Frame>>,
    words: FxHashMap<u64, Option<Words>>,
    /// Read when a program without a runtime of its own tables is asked for a name.
    native: OnceCell<Native>,
}

impl Names {
    pub(super) fn created(&mut self, exe: &Executable, inspection: &Inspection, pc: u64) -> Created {
        let native = &self.native;
        cached(&mut self.created, pc, || {
            if inspection.go.is_none() {
                return native.get_or_init(|| Native::read(exe.bytes(), None)).created(pc);
            }
            let created = |table| created_in(&table, inspection.elf.arch, pc);
            table(exe, inspection).and_then(created).unwrap_or_default()
        })
    }

    pub(super) fn function(&mut self, exe: &Executable, inspection: &Inspection, pc: u64) -> Option<String> {
        let native = &self.native;
        cached(&mut self.functions, pc, || {
            if inspection.go.is_none() {
                return native.get_or_init(|| Native::read(exe.bytes(), None)).function(pc);
            }
            function_in(&table(exe, inspection)?, pc)
        })
    }

    pub(super) fn frames(&mut self, exe: &Executable, inspection: &Inspection, pc: u64) -> Vec<Frame> {
        let native = &self.native;
        cached(&mut self.frames, pc, || {
            if inspection.go.is_none() {
                return native.get_or_init(|| Native::read(exe.bytes(), None)).frames(pc);
            }
            table(exe, inspection).map_or_else(Vec::new, |table| frames_in(&table, inspection.elf.arch, pc))
        })
    }

    /// The frames at an address in words, as `of` says them: whoever asks for one of them must say all of them so.
    pub(super) fn words(
        &mut self,
        exe: &Executable,
        inspection: &Inspection,
        pc: u64,
        of: impl FnOnce(Vec<Frame>) -> Words,
    ) -> Option<Words> {
        if let Some(known) = self.words.get(&pc) {
            return known.clone();
        }
        let frames = self.frames(exe, inspection, pc);
        cached(&mut self.words, pc, || (!frames.is_empty()).then(|| of(frames)))
    }
}

fn cached<K: Hash + Eq, V: Clone>(cache: &mut FxHashMap<K, V>, key: K, find: impl FnOnce() -> V) -> V {
    if let Some(known) = cache.get(&key) {
        return known.clone();
    }
    if cache.len() >= KEPT {
        cache.clear();
    }
    let found = find();
    cache.insert(key, found.clone());
    found
}

fn table<'a>(exe: &'a Executable, inspection: &Inspection) -> Option<Pclntab<'a>> {
    Pclntab::new(exe.bytes(), inspection.go.as_ref()?.pclntab.as_ref()?)
}

/// The place before a return address, by these tables.
pub(super) fn created_in(table: &Pclntab<'_>, arch: Arch, pc: u64) -> Option<Created> {
    let function = table.function_at(pc)?;
    let position = table.line_at(call_of(arch, &function, pc));
    Some(Created {
        function: Some(printed(function.name)),
        file: position.map(|(file, _)| file.to_owned()),
        line: position.map(|(_, line)| line),
    })
}

/// The function that holds an address, by these tables.
pub(super) fn function_in(table: &Pclntab<'_>, pc: u64) -> Option<String> {
    Some(printed(table.function_at(pc)?.name))
}

/// The frames at a return address, by these tables.
pub(super) fn frames_in(table: &Pclntab<'_>, arch: Arch, pc: u64) -> Vec<Frame> {
    let Some(function) = table.function_at(pc) else { return Vec::new() };
    table.frames(call_of(arch, &function, pc)).iter().map(frame).collect()
}

/// The call before a return address: the runtime goes back one `sys.PCQuantum`, but not out of the function.
fn call_of(arch: Arch, function: &pclntab::Function<'_>, pc: u64) -> u64 {
    let quantum = match arch {
        Arch::X86_64 => 1,
        Arch::Aarch64 => 4,
    };
    if pc > function.entry { pc.saturating_sub(quantum) } else { pc }
}

fn frame(frame: &pclntab::Frame<'_>) -> Frame {
    Frame {
        function: printed(frame.function),
        file: frame.file.map(str::to_owned),
        line: frame.line,
        inlined: frame.inlined,
        internal: is_internal(frame.function),
    }
}

/// A function's name as printed: type arguments, which are shapes that nobody wrote, become `[...]`.
///
/// The linker of Go 1.18 to 1.20 writes `[...]` into the table itself; from 1.21 on the runtime does it when it prints.
pub(super) fn printed(name: &str) -> String {
    match pieces(name) {
        Some(pieces) => pieces.concat(),
        None => name.to_owned(),
    }
}

fn pieces(name: &str) -> Option<Vec<&str>> {
    let (head, rest) = name.split_once('[')?;
    let (inside, tail) = rest.rsplit_once(']')?;
    // From 1.27: a generic method of a generic type, `T[shape].m[shape]`, has a name between two brackets.
    let mut depth = 1_i32;
    let mut closed = None;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'[' => {
                depth += 1;
                if let (1, Some(closed)) = (depth, closed) {
                    let between = inside.get(closed + 1..at)?;
                    return Some(vec![head, "[...]", between, "[...]", tail]);
                }
            }
            b']' => {
                depth -= 1;
                if depth == 0 {
                    closed = Some(at);
                }
            }
            _ => {}
        }
    }
    (depth == 1 && closed.is_none()).then(|| vec![head, "[...]", tail])
}

/// The runtime's `isSystemGoroutine` as of a goroutine's creation, by the name of its start function. Finalizer and
/// cleanup goroutines count as user goroutines while they run the program's code; when they are created they do not.
pub(super) fn is_system(start: &str) -> bool {
    const OF_THE_USER: [&str; 3] = ["runtime.main", "runtime.corostart", "runtime.handleAsyncEvent"];
    start.starts_with("runtime.") && !OF_THE_USER.contains(&start)
}

/// The runtime's `showfuncinfo`, reversed.
fn is_internal(name: &str) -> bool {
    is_hidden(name) || is_wrapper(name)
}

/// Whether the runtime leaves a function of this name out of its tracebacks; it leaves wrappers out, too, whatever
/// they are called.
pub fn is_hidden(name: &str) -> bool {
    const SHOWN: [&str; 3] = ["runtime.gopanic", "runtime.runFinalizers", "runtime.runCleanups"];
    let Some(rest) = name.strip_prefix("runtime.") else { return !name.contains('.') };
    !SHOWN.contains(&name) && !is_exported(rest)
}

/// `main.main.gowrap1`: what the compiler puts around the call of a `go` statement (from Go 1.22; older ones look like
/// any other function).
pub(super) fn is_wrapper(name: &str) -> bool {
    let number = name.rsplit_once(".gowrap").map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A function of package runtime that programs can call: `Gosched`, `(*Func).Entry`.
fn is_exported(name: &str) -> bool {
    let capital = |name: &str| name.starts_with(|first: char| first.is_ascii_uppercase());
    match name.rsplit_once('.') {
        None => capital(name),
        Some((receiver, method)) => {
            let receiver =
                receiver.strip_prefix("(*").and_then(|rest| rest.strip_suffix(')')).unwrap_or(receiver);
            capital(method) && capital(receiver)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_arguments_are_not_printed() {
        let check = |linked, expect| assert_eq!(printed(linked), expect);
        check("main.main", "main.main");
        check("main.(*Server).accept.func1", "main.(*Server).accept.func1");
        check("main.worker[go.shape.int]", "main.worker[...]");
        check("main.worker[go.shape.int].func1", "main.worker[...].func1");
        check("main.(*T[go.shape.[]uint8,go.shape.map[string]int]).run", "main.(*T[...]).run");
        check("main.T[go.shape.int].m[go.shape.string]", "main.T[...].m[...]");
        check("main.T[go.shape.[]int].m[go.shape.[4]string].func2", "main.T[...].m[...].func2");
        check("odd]name[", "odd]name[");
        check("odd[name", "odd[name");
        check("a[b]]c[d]", "a[b]]c[d]");
        check("", "");
    }

    #[test]
    fn system_goroutines() {
        for system in [
            "runtime.bgsweep",
            "runtime.forcegchelper",
            "runtime.runfinq",
            "runtime.runCleanups",
            "runtime.gcBgMarkWorker",
        ] {
            assert!(is_system(system), "{system}");
        }
        for user in [
            "runtime.main",
            "runtime.corostart",
            "main.main.func1",
            "runtime/trace.Start.func1",
            "os/signal.loop",
        ] {
            assert!(!is_system(user), "{user}");
        }
    }

    #[test]
    fn frames_that_tracebacks_leave_out() {
        for internal in [
            "runtime.gopark",
            "runtime.chanrecv1",
            "runtime.(*mheap).alloc",
            "runtime.Func.x",
            "_cgo_thread_start",
        ] {
            assert!(is_internal(internal), "{internal}");
        }
        for shown in [
            "main.leak.func1",
            "runtime.Gosched",
            "runtime.(*Func).Entry",
            "runtime.gopanic",
            "sync.(*Mutex).Lock",
        ] {
            assert!(!is_internal(shown), "{shown}");
        }
    }

    #[test]
    fn a_cache_is_bounded() {
        let mut cache = FxHashMap::default();
        for key in 0..KEPT * 2 + 5 {
            assert_eq!(cached(&mut cache, key, || key), key);
            assert!(cache.len() <= KEPT);
        }
        assert_eq!(cached(&mut cache, KEPT * 2 + 4, || 0), KEPT * 2 + 4, "the newest are kept");
    }
}
