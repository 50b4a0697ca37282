//! Which goroutines nothing alive can ever wake, proven by reachability, from outside and without a stop.
//!
//! A goroutine that waits for a channel, a lock, a wait group or a condition can be woken only by somebody who has that
//! object. So whatever is alive is followed through the heap, and a goroutine whose objects nobody reaches leaks: it and
//! all that its stack holds stay until the program ends. `docs/proof.md` has the whole argument.
//!
//! The look is not atomic. What is said here is never from one look, a failed read makes things reachable and never
//! unreachable, and what is not known (memory that cannot be read, a layout that does not fit) is said instead of
//! guessed around: in doubt a goroutine is **not** proven. It must never write to the process, never make a page of it
//! present, and never read a clock: time is an argument.

mod explain;
mod ledger;
mod look;
mod marks;
mod process;
mod roots;
mod spans;
#[cfg(test)]
mod tests;
mod waits;
mod why;

use std::ops::Range;

use leakwatch_inspect::go::layout::HeapLayout;
use rustc_hash::FxHashMap;

use super::go::GoRuntime;
use crate::{
    host::{Activity, Memory, ReadError},
    observe::{Proof, ProvenTask, Refutation},
};

pub use ledger::Ledger;
use look::{Look, Pass};
use marks::Marks;
pub use process::Subject;
use roots::Running;
use spans::Spans;
use waits::{Goroutine, Reader};

/// Where a Go process keeps its heap: run-time addresses and offsets.
#[derive(Clone, Debug)]
pub struct GoHeap {
    /// Its goroutines.
    pub runtime: GoRuntime,
    /// Offsets.
    pub layout: HeapLayout,
    /// Address of `runtime.mheap_`.
    pub mheap: u64,
    /// Address of `runtime.allp`.
    pub allp: u64,
    /// The kind of a special that only the memory profiler has noted; `None`: not known for this release.
    pub profile_special: Option<u8>,
}

/// Why nothing can be proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// Memory that the proof cannot do without.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The runtime's tables are not what they should be.
    #[error("the heap of the process makes no sense: {0}; nothing is proven")]
    Corrupt(String),
    /// A table would be larger than leakwatch allows itself.
    #[error(
        "the table of the heap would take {bytes} bytes, more than the {budget} that are allowed; nothing is proven"
    )]
    TooLarge {
        /// What it would take.
        bytes: u64,
        /// What is allowed.
        budget: u64,
    },
    /// More objects are waited for than can be counted.
    #[error("more than 2^32 objects are waited for; nothing is proven")]
    TooMany,
    /// What the kernel says of the process.
    #[error("{0}; nothing is proven")]
    Surroundings(String),
}

/// What a proof needs of a process besides its memory.
pub trait Surroundings {
    /// Memory of the process that was ever written to and can be read: present or swapped, shared or its own.
    ///
    /// # Errors
    /// One sentence, when it cannot be told; nothing is proven then.
    fn written(&self) -> Result<Vec<Range<u64>>, String>;

    /// What its threads have done so far; `None`: not known.
    fn activity(&self) -> Option<Activity>;

    /// Bytes of memory that it has.
    fn resident_bytes(&self) -> u64;
}

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Passes, unless the process stood still or they would take too long.
    pub passes: u32,
    /// Fewest passes over a process that did not stand still.
    pub fewest: u32,
    /// Time that the passes may take together for each GiB of heap, and at least, ns; the fewest are made whatever they take.
    pub time_per_gib_ns: u64,
    /// And at most, ns.
    pub time_most_ns: u64,
    /// Shortest time from the first to the last pass over a process that did not stand still: longer than a goroutine may
    /// run before the runtime interrupts it (10 ms, `forcePreemptNS` of runtime/proc.go, noticed within 10 ms by sysmon).
    pub span_ns: u64,
    /// The same where a goroutine runs without a break: on a busy machine the runtime's own thread has to wait for its turn.
    pub break_ns: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            passes: 24,
            fewest: 5,
            time_per_gib_ns: 2_000_000_000,
            time_most_ns: 20_000_000_000,
            span_ns: 100_000_000,
            break_ns: 3_000_000_000,
        }
    }
}

impl Options {
    /// Time that the passes over such a heap may take together, ns.
    fn time_ns(&self, heap_bytes: u64) -> u64 {
        let of_heap = (u128::from(self.time_per_gib_ns) * u128::from(heap_bytes)) >> 30;
        let of_heap = u64::try_from(of_heap).unwrap_or(u64::MAX);
        of_heap.max(self.time_per_gib_ns).min(self.time_most_ns)
    }
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Look again after so many ns.
    Again {
        /// How long to wait.
        pause_ns: u64,
    },
    /// That was the last look.
    Done(Box<Proof>),
}

/// A proof in the making. Call [`Prover::step`] until it is done.
#[derive(Debug)]
pub struct Prover {
    heap: GoHeap,
    options: Options,
    spans: Spans,
    marks: Marks,
    /// Unreachable in all passes so far, by address; `None` before the first.
    suspects: Option<Vec<Suspect>>,
    /// Goroutines that ran in all passes without a break, by P.
    unbroken: Option<FxHashMap<u64, Running>>,
    proof: Proof,
    begun_ns: Option<u64>,
    activity: Option<Activity>,
    sweep: Option<u32>,
    why_void: Option<String>,
    /// The last pass did not count.
    broken: bool,
    random: u64,
    /// The last pass, where it is asked why.
    last: Option<Pass>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Suspect {
    goroutine: Goroutine,
    objects: Box<[u64]>,
}

/// Chance that one pass misses a pointer that is moved at full speed between k places: (1 - 1/k)^k, below this for all k.
const MISS: f64 = 0.4;

impl Prover {
    /// A new proof for a process.
    pub fn new(heap: GoHeap, around: &impl Surroundings, options: Options) -> Self {
        // Marks are 2 bits for an object of 8 bytes at least, and tables are less than half of that.
        const LEAST: u64 = 32 << 20;
        let budget = LEAST.max(around.resident_bytes() / 16);
        Self {
            heap,
            options,
            spans: Spans::new(budget),
            marks: Marks::default(),
            suspects: None,
            unbroken: None,
            proof: Proof::default(),
            begun_ns: None,
            activity: None,
            sweep: None,
            why_void: None,
            broken: false,
            random: 0,
            last: None,
        }
    }

    /// One pass. `clock` gives `CLOCK_MONOTONIC` in ns.
    ///
    /// # Errors
    /// When the process cannot be read at all or its heap makes no sense: nothing is proven.
    pub fn step(
        &mut self,
        memory: &impl Memory,
        around: &impl Surroundings,
        clock: &mut dyn FnMut() -> u64,
    ) -> Result<Step, ProveError> {
        let now_ns = clock();
        let begun_ns = *self.begun_ns.get_or_insert(now_ns);
        self.random = (self.random ^ now_ns).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) | 1;
        if self.activity.is_none() {
            self.activity = around.activity();
        }
        let look = self.look(memory, around)?;
        let ended_ns = clock();
        self.take(look);
        let elapsed_ns = ended_ns.saturating_sub(begun_ns);
        let made = self.proof.passes + self.proof.void;
        let each_ns = elapsed_ns / u64::from(made.max(1));
        let nothing = self.suspects.as_ref().is_some_and(Vec::is_empty);
        let still = self.proof.passes >= 2
            && self.proof.void == 0
            && self
                .activity
                .as_ref()
                .zip(around.activity())
                .is_some_and(|(then, now)| then.stood_still_until(&now));
        let time_ns = self.options.time_ns(self.proof.heap_bytes);
        let enough = self.proof.passes >= self.options.passes
            || (self.proof.passes >= self.options.fewest && elapsed_ns + each_ns > time_ns);
        let hopeless = self.proof.void > 8 + 2 * self.options.passes;
        let unbroken = self.unbroken.as_ref().is_some_and(|unbroken| !unbroken.is_empty());
        let span_ns = if unbroken { self.options.break_ns } else { self.options.span_ns };
        if nothing || still || hopeless || (enough && elapsed_ns >= span_ns) {
            self.proof.still = still;
            self.proof.took_ns = elapsed_ns;
            return Ok(Step::Done(Box::new(self.conclude(memory, hopeless))));
        }
        // Moving pointers may keep time with us if we do.
        let spread = (each_ns * 2).clamp(2_000_000, 50_000_000);
        Ok(Step::Again { pause_ns: self.random % spread })
    }

    /// Takes in what a pass found.
    fn take(&mut self, look: Look) {
        self.proof.goroutines = look.goroutines;
        self.proof.candidates = look.candidates;
        self.proof.heap_bytes = self.spans.heap_bytes();
        self.proof.read_bytes = look.read_bytes;
        let suspects = look.unreached.capacity().max(self.suspects.as_ref().map_or(0, Vec::capacity));
        // Most wait for one object each.
        let suspects = (suspects * (size_of::<Suspect>() + size_of::<u64>())) as u64;
        self.proof.own_bytes = self
            .proof
            .own_bytes
            .max(look.own_bytes + suspects + self.spans.own_bytes() + self.marks.own_bytes());
        if let Some(why) = look.void {
            self.proof.void += 1;
            self.why_void = Some(why);
            return;
        }
        self.proof.passes += 1;
        match self.suspects.as_mut() {
            None => self.suspects = Some(look.unreached),
            Some(suspects) => {
                let mut confirmed = look.confirmed.iter();
                suspects.retain(|_| confirmed.next().is_some_and(|confirmed| *confirmed));
            }
        }
        match self.unbroken.as_mut() {
            None => self.unbroken = Some(look.running),
            Some(unbroken) => unbroken.retain(|p, running| look.running.get(p) == Some(running)),
        }
    }

    /// The last word.
    fn conclude(&mut self, memory: &impl Memory, hopeless: bool) -> Proof {
        let mut suspects = self.suspects.take().unwrap_or_default();
        let mut proof = std::mem::take(&mut self.proof);
        let unbroken = self.unbroken.as_ref().map_or(0, FxHashMap::len);
        if hopeless {
            let why = self.why_void.take().unwrap_or_default();
            proof.problems.push(format!(
                "{} of {} passes do not count: {why}",
                proof.void,
                proof.void + proof.passes
            ));
            suspects.clear();
        }
        if !proof.still && unbroken > 0 && !suspects.is_empty() {
            proof.problems.push(format!(
                "{unbroken} goroutines ran all the time without a break, and what they have in registers cannot be seen: \
                 {} goroutines that nothing else reaches are not proven",
                suspects.len()
            ));
            suspects.clear();
        }
        let sure = i32::try_from(proof.passes).unwrap_or(i32::MAX);
        proof.confidence = match (proof.still, proof.passes) {
            (_, 0) => 0.0,
            (true, _) => 1.0,
            (false, _) => 1.0 - MISS.powi(sure),
        };
        self.explain(memory, suspects, &mut proof);
        proof
    }

    fn reader(heap: &GoHeap) -> Reader<'_> {
        Reader::new(heap)
    }
}

/// Proven goroutines that are no more what they were: each must be waiting where it was proven, for ever.
pub fn refutations(heap: &GoHeap, memory: &impl Memory, proven: &[ProvenTask]) -> Vec<Refutation> {
    let addresses: Vec<u64> = proven.iter().map(|task| task.address).collect();
    let now = Reader::new(heap).read(memory, &addresses);
    let live: FxHashMap<u64, Goroutine> =
        now.live.into_iter().map(|goroutine| (goroutine.address, goroutine)).collect();
    // A struct that cannot be read says nothing: perhaps the process just ended.
    if now.senseless > 0 {
        return Vec::new();
    }
    let story = |task: &ProvenTask| match live.get(&task.address) {
        None => Some("it ended".to_owned()),
        Some(now) if now.id != task.id => {
            Some(format!("it ended, and its struct is goroutine {} now", now.id))
        }
        Some(now) if now.doing != waits::Doing::Waits(task.kind) => {
            Some("it does not wait any more".to_owned())
        }
        Some(now) if now.turn != task.turn => Some("it ran, and waits again".to_owned()),
        // The collector notes it, once for a wait.
        Some(now) if task.waiting_since_ns.is_some_and(|since| since != now.since) => {
            Some("it waits for another time".to_owned())
        }
        Some(_) => None,
    };
    proven
        .iter()
        .filter_map(|task| story(task).map(|story| Refutation { task: task.clone(), story }))
        .collect()
}
