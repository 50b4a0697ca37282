//! Where the tasks of a type are spawned: by whom tokio's functions are called, seen on the stacks of some starts.
//!
//! The kernel side sends the stack of a type's first start, second, fourth, and so on, and of one of 64
//! ([`leakwatch_common::Action::StartTraced`]); no more than a few in a second. The place is the first frame outside of
//! tokio's and the standard library's code: by its name where there are symbols, with its line from debug information;
//! else from the `Location` that the caller passes to `tokio::spawn`, which stripping leaves.
//!
//! These are samples, and say so. It must never name a place further out than the poll of the task that spawns.

use leakwatch_inspect::{ElfKind, tokio_rt};
use rustc_hash::FxHashMap;

use super::threads::{Threads, Views};
use crate::{
    host::Memory,
    images::{Created, Frame},
    observe::StackCopy,
};

/// Types of tasks of which places are kept, and places of each.
const MOST_TYPES: usize = 1 << 14;
const MOST_PLACES: usize = 32;
/// Return addresses whose meaning is kept.
const MOST_KNOWN: usize = 1 << 14;
/// Frames between the start and the caller where nothing is inlined.
const DEEPEST: usize = 16;
/// The same where an optimizer inlined: what is further out is not believed without a name.
const DEEPEST_WITHOUT_NAMES: usize = 4;
/// Longest file name in a `Location` that is believed.
const LONGEST_FILE: usize = 512;

/// Crates whose functions are not who spawns.
const RUNTIME_CRATES: &[&str] = &["tokio::", "std::", "core::", "alloc::"];
/// Their files, by a part of the path.
const RUNTIME_FILES: &[&str] =
    &["/tokio-1.", "/tokio/src/", "/rustc/", "/library/std/", "/library/core/", "/library/alloc/"];
/// Functions of tokio that run a task: who spawns stands further in.
const RUNNERS: &[&str] =
    &["::harness::", "task::raw::poll", "::block_on", "::run_task", "::poll_future", "core::Core<"];
/// Libraries that call the program, by the beginning of the file's name.
const OUTERMOST: &[&str] = &["libc.", "libc-", "libpthread", "ld-"];
/// Files of tokio that only such functions have Locations of.
const RUNNERS_FILES: &[&str] = &[
    "/runtime/task/harness.rs",
    "/runtime/park.rs",
    "/runtime/context/runtime.rs",
    "/scheduler/current_thread/mod.rs",
    "/scheduler/current_thread.rs",
    "/runtime/basic_scheduler.rs",
];

/// A place, and how many of the starts whose stacks were seen were there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// The place.
    pub place: Created,
    /// How many.
    pub count: u64,
}

/// Places by type of task: by run-time address of its vtable.
#[derive(Debug, Default)]
pub struct Spawns {
    types: FxHashMap<u64, Vec<Spawn>>,
    known: FxHashMap<u64, Meaning>,
}

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    /// Who spawns.
    Caller(Created),
    /// tokio's or the standard library's, or not known.
    Between,
    /// All further out is past who spawns: it runs a task, or is the program's own function without a place.
    Runner,
}

impl Spawns {
    /// Where tasks of a type are spawned, the most frequent place first; empty: no stack told.
    pub fn of(&self, vtable: u64) -> &[Spawn] {
        self.types.get(&vtable).map(Vec::as_slice).unwrap_or_default()
    }

    /// Learns from a `Location` that tasks from before the attach were spawned at.
    pub(super) fn note(&mut self, memory: &impl Memory, vtable: u64, address: u64, tasks: u64) {
        if let Some(place) = location(memory, address) {
            self.add(vtable, place, tasks);
        }
    }

    /// Learns from the stack of a start.
    pub(super) fn take(
        &mut self,
        threads: &mut Threads,
        views: &mut Views<'_, impl Memory>,
        stack: &StackCopy,
    ) {
        let frames = threads.unwind(views, stack).frames;
        let mut caller = None;
        for (depth, frame) in frames.iter().enumerate().take(DEEPEST) {
            match self.meaning(threads, views, frame.pc, depth == 0) {
                Meaning::Caller(place) => {
                    let believed = place.function.is_some() || depth <= DEEPEST_WITHOUT_NAMES;
                    if !believed {
                        break;
                    }
                    caller = Some(place);
                    break;
                }
                Meaning::Between => {}
                Meaning::Runner => break,
            }
        }
        if let Some(place) = caller {
            self.add(stack.event.entry, place, 1);
        }
    }

    fn add(&mut self, vtable: u64, place: Created, tasks: u64) {
        if self.types.len() >= MOST_TYPES && !self.types.contains_key(&vtable) {
            return;
        }
        let spawns = self.types.entry(vtable).or_default();
        // A Location names no function.
        let same = |known: &Created| {
            let line = known.line.is_some() && (&known.file, known.line) == (&place.file, place.line);
            *known == place || (line && (known.function.is_none() || place.function.is_none()))
        };
        if let Some(known) = spawns.iter_mut().find(|spawn| same(&spawn.place)) {
            known.count = known.count.saturating_add(tasks);
            if known.place.function.is_none() {
                known.place = place;
            }
        } else if spawns.len() < MOST_PLACES {
            spawns.push(Spawn { place, count: tasks });
        }
        // Stable: of equals the one that was seen first stays first.
        spawns.sort_by_key(|spawn| std::cmp::Reverse(spawn.count));
    }

    fn meaning(
        &mut self,
        threads: &mut Threads,
        views: &mut Views<'_, impl Memory>,
        pc: u64,
        innermost: bool,
    ) -> Meaning {
        if let Some(known) = self.known.get(&pc) {
            return known.clone();
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        let meaning = look(threads, views, pc, innermost);
        self.known.insert(pc, meaning.clone());
        meaning
    }
}

/// What the frame at a place is: of the innermost the next instruction, of the others the return address.
fn look(threads: &mut Threads, views: &mut Views<'_, impl Memory>, pc: u64, innermost: bool) -> Meaning {
    let file = views.modules.at(pc).map(|(module, _)| module.file_name()).unwrap_or_default();
    if OUTERMOST.iter().any(|begin| file.starts_with(begin)) {
        return Meaning::Runner;
    }
    // Names are asked for by return address.
    let frames = views.modules.frames(if innermost { pc.saturating_add(1) } else { pc });
    let named = frames.iter().any(|frame| frame.file.is_some() || !frame.function.contains("+0x"));
    if named {
        let Some(own) = frames.iter().find(|frame| !is_runtimes(frame)) else {
            let runs = frames.iter().any(|frame| RUNNERS.iter().any(|part| frame.function.contains(part)));
            return if runs { Meaning::Runner } else { Meaning::Between };
        };
        let mut place =
            Created { function: Some(own.function.clone()), file: own.file.clone(), line: own.line };
        if place.line.is_none()
            && let Some(located) = locations(threads, views, pc, innermost).caller
        {
            (place.file, place.line) = (located.file, located.line);
        }
        return Meaning::Caller(place);
    }
    match locations(threads, views, pc, innermost) {
        Located { caller: Some(place), .. } => Meaning::Caller(place),
        Located { runs: true, .. } => Meaning::Runner,
        Located { .. } => Meaning::Between,
    }
}

/// What the Locations in a function's code say.
#[derive(Debug, Default)]
struct Located {
    /// Where the call stands that a place is in.
    caller: Option<Created>,
    /// The function runs tasks, or is the program's own: who is further out does not spawn.
    runs: bool,
}

fn locations(threads: &mut Threads, views: &mut Views<'_, impl Memory>, pc: u64, innermost: bool) -> Located {
    let elf = &views.image.inspection().elf;
    let bias = views.image.bias();
    let function = threads.function_at(views.modules, pc, innermost);
    let of_image = views.modules.at(pc).and_then(|(_, link)| link) == Some(pc.wrapping_sub(bias));
    let Some(function) = function.filter(|_| of_image) else { return Located::default() };
    let length = usize::try_from(function.end.saturating_sub(function.start)).unwrap_or(usize::MAX);
    let bytes = elf.bytes(views.image.executable().bytes(), function.start, length);
    let behind = (!innermost).then(|| pc.wrapping_sub(bias));
    let fixed = elf.kind == ElfKind::Executable;
    let taken = bytes.and_then(|bytes| tokio_rt::taken(bytes, function.start, behind, fixed));
    let Some(taken) = taken else { return Located::default() };
    let read = |address: &u64| location(views.memory, address.wrapping_add(bias));
    let is_callers = |place: &Created| !place.file.as_deref().is_some_and(is_runtimes_file);
    let all: Vec<Created> = taken.all.iter().filter_map(read).collect();
    let is_runners = |place: &Created| {
        place.file.as_deref().is_some_and(|file| RUNNERS_FILES.iter().any(|end| file.ends_with(end)))
    };
    if innermost {
        // A function of the program with tokio's inlined: which of its Locations is meant is not told, and who calls
        // it is not who spawns.
        return Located { caller: None, runs: all.iter().any(is_callers) };
    }
    let caller = taken.for_call.iter().rev().filter_map(read).find(is_callers);
    Located { caller, runs: all.iter().any(is_runners) }
}

/// The `core::panic::Location` at a run-time address: `{file: &str, line: u32, column: u32}`.
fn location(memory: &impl Memory, address: u64) -> Option<Created> {
    address.is_multiple_of(8).then_some(())?;
    let mut bytes = [0; 24];
    memory.read(address, &mut bytes).ok()?;
    let (words, _) = bytes.as_chunks::<8>();
    let [text, length, numbers] = words else { return None };
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    (4..=LONGEST_FILE).contains(&length).then_some(())?;
    let [line, column] =
        [0_u32, 32].map(|shift| (u64::from_le_bytes(*numbers) >> shift) & u64::from(u32::MAX));
    (line > 0 && column > 0).then_some(())?;
    let mut file = vec![0; length];
    memory.read(u64::from_le_bytes(*text), &mut file).ok()?;
    let file = String::from_utf8(file).ok()?;
    let printable =
        file.as_bytes().ends_with(b".rs") && file.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    printable.then_some(Created { function: None, file: Some(file), line: u32::try_from(line).ok() })
}

fn is_runtimes(frame: &Frame) -> bool {
    let name = frame.function.trim_start_matches("<impl ").trim_start_matches(['<', '&']);
    RUNTIME_CRATES.iter().any(|part| name.starts_with(part))
        || frame.file.as_deref().is_some_and(is_runtimes_file)
}

fn is_runtimes_file(file: &str) -> bool {
    RUNTIME_FILES.iter().any(|part| file.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::memory::Fake;

    #[test]
    fn a_location_is_a_file_of_rust_with_a_line_and_a_column() {
        let at = |file: &str, numbers: u64| {
            let length = u64::try_from(file.len()).expect("short");
            let memory = Fake::new().with_words(0x1000, &[0x2000, length, numbers]);
            location(&memory.with(0x2000, file.as_bytes()), 0x1000)
        };
        let expected = Created { function: None, file: Some("src/main.rs".to_owned()), line: Some(12) };
        assert_eq!(at("src/main.rs", 0x9_0000_000c), Some(expected));
        assert_eq!(at("src/main.rs", 0xc), None, "no column");
        assert_eq!(at("src/main.c", 0x9_0000_000c), None);
        assert_eq!(at("src/\u{7}ain.rs", 0x9_0000_000c), None);
        assert_eq!(location(&Fake::new(), 0x1000), None);
    }

    #[test]
    fn who_spawns_is_neither_tokio_nor_the_standard_library() {
        let frame = |function: &str, file: Option<&str>| Frame {
            function: function.to_owned(),
            file: file.map(str::to_owned),
            line: None,
            inlined: false,
            internal: false,
        };
        for (function, file) in [
            ("tokio::task::spawn::spawn", None),
            ("<tokio::runtime::handle::Handle>::spawn::<my::Fut>", None),
            ("<alloc::boxed::Box<F> as core::ops::function::FnOnce<A>>::call_once", None),
            ("spawn<my::Fut>", Some("/x/tokio-1.54.1/src/task/spawn.rs")),
        ] {
            assert!(is_runtimes(&frame(function, file)), "{function}");
        }
        for function in [
            "tokio_util::task::spawn",
            "my::server::accept::{closure#0}",
            "<my::Exec as hyper::Executor>::execute",
        ] {
            assert!(!is_runtimes(&frame(function, None)), "{function}");
        }
    }
}
