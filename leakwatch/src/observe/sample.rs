//! One look at one process: what the kernel counted and what its memory shows.

use leakwatch_common::{COUNTERS, Counter, LIFETIME_BUCKETS, bucket_floor_ns, lifetime_bucket};

use super::{Followed, Histogram, ProofSample, SiteId};

/// The kernel's counters for one process, since attach, summed over CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub [u64; COUNTERS]);

impl Counters {
    /// One figure.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// Replaces one figure: one that is counted elsewhere than in the kernel.
    pub fn set(&mut self, counter: Counter, value: u64) {
        if let Some(figure) = self.0.get_mut(counter as usize) {
            *figure = value;
        }
    }
}

/// Ages of a site's live tasks whose birth the probe saw, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgeSummary {
    /// How many tasks the figures are of.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Oldest.
    pub max_ns: u64,
    /// How many are how old, by [`lifetime_bucket`].
    pub by_bucket: Histogram,
}

impl AgeSummary {
    /// The same tasks, this much older. Inside a bucket ages are not known: all of it is taken for as old as its middle.
    #[must_use]
    pub fn older_by(&self, passed_ns: u64) -> Self {
        let mut by_bucket = Histogram::default();
        for (bucket, &count) in self.by_bucket.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (floor, next) = (bucket_floor_ns(bucket), (bucket + 1).min(LIFETIME_BUCKETS - 1));
            let middle = floor.midpoint(bucket_floor_ns(next).max(floor));
            by_bucket.count(lifetime_bucket(middle.saturating_add(passed_ns)), count);
        }
        Self {
            count: self.count,
            p50_ns: self.p50_ns.saturating_add(passed_ns),
            p99_ns: self.p99_ns.saturating_add(passed_ns),
            max_ns: self.max_ns.saturating_add(passed_ns),
            by_bucket,
        }
    }
}

/// Figures of one site, since attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteSample {
    /// Which site.
    pub id: SiteId,
    /// Tasks that were alive at attach.
    pub live_at_attach: u64,
    /// Starts since attach.
    pub started: u64,
    /// Ends since attach, of tasks from before attach too.
    pub ended: u64,
    /// Lifetimes of ended tasks whose birth was seen, by [`leakwatch_common::lifetime_bucket`].
    pub lifetimes: Histogram,
    /// Ages of live tasks born after attach; `None` when the live table was not read for this sample.
    pub ages: Option<AgeSummary>,
}

impl SiteSample {
    /// Tasks alive now.
    pub fn live(&self) -> u64 {
        self.live_at_attach.saturating_add(self.started).saturating_sub(self.ended)
    }

    /// This many are alive now: what there are more than before were started, what there are less have ended.
    pub fn come_to(&mut self, live: u64) {
        let before = self.live();
        self.started = self.started.saturating_add(live.saturating_sub(before));
        self.ended = self.ended.saturating_add(before.saturating_sub(live));
    }
}

/// Everything that was read of a process at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSample {
    /// `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// Kernel counters since attach.
    pub counters: Counters,
    /// By site; sites without any figure are absent. No order.
    pub sites: Vec<SiteSample>,
    /// Threads alive; `None`: could not be read.
    pub threads_live: Option<u64>,
    /// Resident set in bytes; `None`: could not be read.
    pub rss_bytes: Option<u64>,
    /// A census, where this sample took one.
    pub census: Option<Census>,
    /// Names of the live threads, where this sample looked at them.
    pub thread_names: Option<ThreadNames>,
    /// Child processes.
    pub children: ChildrenSample,
    /// What proofs have shown since the attach, where this sample has news of it.
    pub proof: Option<ProofSample>,
}

/// Live threads by name, most first. Names that differ in numbers only are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadNames(pub Vec<(String, u64)>);

/// The child processes of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildrenSample {
    /// Those that have not ended, of all that were there at attach or forked since.
    pub live: u64,
    /// By command.
    pub commands: Vec<CommandSample>,
    /// Those that ended and were not collected at the last look, by command.
    pub zombies: Vec<ZombieSample>,
}

/// Children that execute the same command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandSample {
    /// Its name, of 15 bytes at most; that of the parent for children that executed nothing.
    pub command: String,
    /// Those that have not ended.
    pub live: u64,
    /// Forked since attach.
    pub forked: u64,
    /// Ended since attach.
    pub ended: u64,
}

/// Children of the same command that ended and were not collected by their parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZombieSample {
    /// What they executed.
    pub command: String,
    /// How many.
    pub count: u64,
    /// When the oldest of them ended, `CLOCK_MONOTONIC` ns; `None`: one ended before the attach.
    pub since_ns: Option<u64>,
}

/// What a task was doing when the census read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskStatus {
    /// On a run queue.
    Runnable,
    /// Executing.
    Running,
    /// In a system call.
    Syscall,
    /// Parked; see [`CensusTask::wait_reason`].
    Waiting,
    /// Stopped for a moment by its own runtime (stack copy, preemption).
    Preempted,
}

/// One live task as its process's memory shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CensusTask {
    /// Its address (Go: the `g`).
    pub address: u64,
    /// Its number in its runtime (Go: goid).
    pub id: u64,
    /// Site and entry.
    pub site: SiteId,
    /// State.
    pub status: TaskStatus,
    /// Go: `g.waitreason`, where `status` is waiting.
    pub wait_reason: Option<u8>,
    /// `CLOCK_MONOTONIC` ns since which it waits; `None`: the runtime has not noted it.
    pub waiting_since_ns: Option<u64>,
    /// A figure that is another one after the task has run; `None`: there is none. It may come round to the same (Go's has
    /// 256 values), and a task of which nothing that is read changes seems not to have run.
    pub runs: Option<u64>,
    /// It waits for nothing but a moment: it will wake without anybody's doing.
    pub wakes_itself: bool,
    /// Nothing is left that could wake it; `false`: something is, or that is not known. See [`NO_WAKER`].
    pub unwakeable: bool,
    /// Bytes of stack it holds.
    pub stack_bytes: u64,
    /// Return addresses, innermost first; empty when it was not walked.
    pub stack: Vec<u64>,
}

/// Tasks by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveByState {
    /// On a run queue.
    pub runnable: u64,
    /// Executing.
    pub running: u64,
    /// In a system call.
    pub syscall: u64,
    /// Parked.
    pub waiting: u64,
    /// Stopped by its runtime.
    pub preempted: u64,
}

/// [`Waiting::reason`] of tokio tasks that nothing can wake: only the list of their runtime refers to them. Each waker, each
/// handle and each place in a queue is a reference more (`src/runtime/task/mod.rs`), and a waker is had from a poll alone,
/// so there will never be one again. Their runtime's end ends them.
pub const NO_WAKER: &str = "idle, no waker";

/// Live tasks of one site that wait for the same thing at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which site made them.
    pub site: SiteId,
    /// Go: wait reason or status, as text (`chan receive`, `running`).
    pub reason: String,
    /// Return addresses, innermost first; empty when stacks were not read.
    pub stack: Vec<u64>,
    /// How many.
    pub count: u64,
    /// Longest wait, ns, as the runtime would print it; `None`: unknown. Go notes the beginning of a wait late, and
    /// then as the end of the collection before: see [`Self::certain_ns`].
    pub longest_ns: Option<u64>,
    /// Bytes of stack they hold together.
    pub stack_bytes: u64,
}

impl Waiting {
    /// Longest wait that is certain, ns.
    ///
    /// The collector sets `g.waitsince` where it finds a goroutine parked, to the end of the collection before that
    /// one (`gp.waitsince = work.tstart`, runtime/mgcmark.go). Collections are at most two minutes apart
    /// (`forcegcperiod`, runtime/proc.go), so a wait may have begun that much later than it says.
    pub fn certain_ns(&self) -> Option<u64> {
        const COLLECTIONS_APART_NS: u64 = 120_000_000_000;
        self.longest_ns.map(|ns| ns.saturating_sub(COLLECTIONS_APART_NS))
    }
}

/// A process's live tasks by its own memory, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Live tasks, the runtime's own (system) ones among them.
    pub live: u64,
    /// By status.
    pub by_state: LiveByState,
    /// Grouped by site, reason and stack.
    pub waiting: Vec<Waiting>,
    /// Tasks on threads that the runtime did not start (Go: C threads that call back into Go). No start
    /// function made them and no end function ends them; they are in no other figure.
    pub foreign: u64,
    /// Tasks that could not be read or did not hold still; they are in no other figure.
    pub unreadable: u64,
    /// Bytes of task stacks; `None`: not known for this runtime.
    pub stack_bytes: Option<u64>,
    /// Live tasks by probes minus live tasks by memory at this moment, where both are known. 0 at rest.
    pub drift: Option<i64>,
    /// What following tasks by their identity tells, by site.
    pub followed: Vec<Followed>,
}

impl Census {
    /// Adds the census of another runtime of the same process. Stack bytes and drift are of the runtimes that know them.
    pub fn add(&mut self, other: Self) {
        self.live = self.live.saturating_add(other.live);
        self.by_state.add(other.by_state);
        self.waiting.extend(other.waiting);
        self.followed.extend(other.followed);
        self.foreign = self.foreign.saturating_add(other.foreign);
        self.unreadable = self.unreadable.saturating_add(other.unreadable);
        self.stack_bytes = self.stack_bytes.into_iter().chain(other.stack_bytes).reduce(u64::saturating_add);
        self.drift = self.drift.into_iter().chain(other.drift).reduce(i64::saturating_add);
    }
}

impl LiveByState {
    fn add(&mut self, other: Self) {
        let Self { runnable, running, syscall, waiting, preempted } = self;
        for (sum, more) in [
            (runnable, other.runnable),
            (running, other.running),
            (syscall, other.syscall),
            (waiting, other.waiting),
            (preempted, other.preempted),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}
