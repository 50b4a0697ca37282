//! Code of tokio's own in a type of task: which types are jobs of `spawn_blocking`, and which of those are the loops of
//! tokio's worker threads.
//!
//! Told by the source files that panic Locations name; they are there in stripped programs, too. Must never take a job of
//! the program for a worker's loop: that has both a Location of the worker's file and the message of its own assertion.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::code::Code;
use super::vtables::Found;
use super::{VtableForm, locations};

/// What the worker's loop asserts each time it takes its core back (`Context::run_task`, `Context::park` of
/// `src/runtime/scheduler/multi_thread/worker.rs`, until 1.20 `src/runtime/thread_pool/worker.rs`).
const CORE_MISSING: &[u8] = b"core missing";
/// How many calls below `poll` that stands: eleven where little is inlined (`Harness::poll`, `poll_inner`, `poll_future`,
/// `Core::poll`, `BlockingTask::poll`, `worker::run`, `enter_runtime`, `LocalKey::with`, `Scoped::set`, `Context::run`,
/// `Context::run_task`).
const LOOP_DEPTH: u8 = 14;
/// How many calls below the vtable's function the scheduler's `schedule` is.
const SCHEDULE_DEPTH: u8 = 3;
/// Most functions that are looked at for one type.
const MAX_LOOKED_AT: usize = 1000;
/// Functions whose facts are kept.
const MAX_KEPT: usize = 1 << 16;

/// What a function has in its code.
#[derive(Debug, Default)]
struct Facts {
    /// What it calls, or lets others call.
    calls: Vec<u64>,
    /// A Location of the worker's file, and its message.
    worker_loop: bool,
    /// The Location of `BlockingSchedule::schedule`, which does nothing but panic.
    never_scheduled: bool,
}

/// Reads functions, each once.
pub(super) struct Own<'c, 'a> {
    code: &'c Code<'a>,
    messages: BTreeSet<u64>,
    known: BTreeMap<u64, Rc<Facts>>,
}

impl<'c, 'a> Own<'c, 'a> {
    /// Of a program.
    pub(super) fn new(code: &'c Code<'a>) -> Self {
        let at = memchr::memmem::find_iter(code.image, CORE_MISSING).take(64);
        let messages = at.filter_map(|at| code.elf.address_of(u64::try_from(at).ok()?)).collect();
        Self { code, messages, known: BTreeMap::new() }
    }

    /// Is the job a loop of one of tokio's worker threads?
    pub(super) fn is_worker_loop(&mut self, table: &Found) -> bool {
        self.reaches(table.functions.first().copied(), LOOP_DEPTH, |facts| facts.worker_loop)
    }

    /// Is the type's scheduler that of blocking jobs? Until 1.22 the vtable has no `schedule`, but the abort from another
    /// thread, which calls it, is its seventh function.
    pub(super) fn is_blocking(&mut self, form: VtableForm, table: &Found) -> bool {
        let index = match form {
            VtableForm::Plain | VtableForm::Trailer => 6,
            VtableForm::Offsets => 1,
        };
        self.reaches(table.functions.get(index).copied(), SCHEDULE_DEPTH, |facts| facts.never_scheduled)
    }

    fn reaches(&mut self, from: Option<u64>, depth: u8, is: impl Fn(&Facts) -> bool) -> bool {
        let mut edge: Vec<u64> = from.into_iter().collect();
        let mut seen: BTreeSet<u64> = edge.iter().copied().collect();
        for _ in 0..depth {
            let mut next = Vec::new();
            for function in edge {
                let facts = self.facts(function);
                if is(&facts) {
                    return true;
                }
                next.extend(facts.calls.iter().filter(|call| seen.insert(**call)));
            }
            if next.is_empty() || seen.len() > MAX_LOOKED_AT {
                break;
            }
            edge = next;
        }
        false
    }

    fn facts(&mut self, function: u64) -> Rc<Facts> {
        if let Some(known) = self.known.get(&function) {
            return Rc::clone(known);
        }
        if self.known.len() >= MAX_KEPT {
            self.known.clear();
        }
        let facts = Rc::new(self.read(function).unwrap_or_default());
        self.known.insert(function, Rc::clone(&facts));
        facts
    }

    fn read(&self, function: u64) -> Option<Facts> {
        let function = self.code.function_at(function)?;
        let mut facts = Facts::default();
        let (mut message, mut workers) = (false, false);
        for instruction in self.code.decode(&function)? {
            let taken = self.code.address_taken(&instruction);
            if let Some(address) = taken {
                message |= self.messages.contains(&address);
                if let Some(location) = locations::read(self.code, address) {
                    workers |= ["/multi_thread/worker.rs", "/thread_pool/worker.rs"]
                        .iter()
                        .any(|file| location.file.ends_with(file));
                    facts.never_scheduled |= location.file.ends_with("/runtime/blocking/schedule.rs");
                }
            }
            // A function whose address is passed on is called, too: what may panic runs below `__rust_try`.
            let targets = [self.code.target(&instruction), taken];
            for target in targets.into_iter().flatten().filter(|target| !function.contains(target)) {
                if self.code.is_function(target) && !facts.calls.contains(&target) {
                    facts.calls.push(target);
                }
            }
        }
        facts.worker_loop = message && workers;
        Some(facts)
    }
}
