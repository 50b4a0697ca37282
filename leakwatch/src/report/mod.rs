//! The one report that every output prints: plain structs with public fields, schema `leakwatch.report/1`.
//!
//! [`assemble()`] puts it together from models, findings and names. Unknown is `None`, never 0. Nothing here is
//! serialised, drawn or measured; names come through the trait [`Names`], so that a report needs no process.

pub mod agent;
pub mod alerting;
pub mod assemble;
pub mod binary;
pub mod clean;
pub mod clock;
pub mod course;
pub mod diff;
pub mod digest;
pub mod dump;
pub mod fleet;
pub mod leftovers;
pub mod lives;
pub mod machine;
pub mod names;
pub mod notes;
pub mod proof;
pub mod stacks;
pub mod words;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

pub use crate::detect::{Forecast, Verdict, units};
use crate::model::SITES_OVER_LIMIT;
pub use crate::model::{Ages, Loss, Moment, Point, Span, float, seconds};
pub use crate::observe::ProofSample;
pub use alerting::Alerting;
pub use assemble::{Context, ProcessInfo, ProcessInput, assemble, assemble_process};
pub use clock::WallClock;
pub use jiff::Timestamp;
pub use lives::{Bucket, Lives, Step};
pub use names::{FrameName, Identities, Names, SiteName, in_words};

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Host name.
    pub host: String,
    /// When the watch began.
    pub started: Timestamp,
    /// Seconds watched.
    pub duration_s: f64,
    /// Who made it, and where; `None`: a report from a file that does not tell.
    pub environment: Option<Environment>,
    /// What watching cost.
    pub overhead: Overhead,
    /// Watched processes, in the order in which they were given.
    pub processes: Vec<Arc<ProcessReport>>,
    /// What rules say of them, where rules were given.
    pub alerting: Alerting,
}

impl Report {
    /// Sites that leak, over all processes.
    pub fn leaks(&self) -> usize {
        self.processes.iter().map(|process| process.leaks).sum()
    }
}

/// Who made a report, and where: what somebody needs to make it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Version of leakwatch, with the revision of its sources.
    pub leakwatch: String,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Processor architecture, as `uname` prints it.
    pub machine: Option<String>,
    /// The command line, without what it gave to a program that it ran; empty where it is not known.
    pub command: Vec<String>,
}

/// What watching cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overhead {
    /// Executions of our probes.
    pub probe_hits: u64,
    /// Processor time spent in them and in leakwatch, percent of one core.
    pub cpu_percent_of_one_core: Option<f64>,
    /// What the user allows.
    pub budget_percent: Option<f64>,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessReport {
    /// Process id.
    pub pid: u32,
    /// When it was started.
    pub start_time: Option<Timestamp>,
    /// Name of its main thread.
    pub comm: String,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Build id of the executable, hexadecimal; `None`: it has none, or it is not known.
    pub build_id: Option<String>,
    /// Its container.
    pub container: Option<Container>,
    /// Kubernetes pod.
    pub pod: Option<Pod>,
    /// It has exited.
    pub exited: bool,
    /// When its watching, and with it each count, began, by the clock of that moment; `None`: a report from a file that does not tell.
    pub watched_since: Option<Timestamp>,
    /// Seconds for which this process was watched.
    pub watched_s: f64,
    /// Runtimes found in it.
    pub runtimes: Vec<RuntimeReport>,
    /// The program's tasks.
    pub tasks: TasksReport,
    /// Threads.
    pub threads: ThreadsReport,
    /// Child processes forked.
    pub forks: ForksReport,
    /// Children that ended and were not collected, at the last look; by command, most first.
    pub zombies: Vec<ZombieReport>,
    /// Memory.
    pub memory: MemoryReport,
    /// Executions of our probes in it since attach.
    pub probe_hits: u64,
    /// What was lost, by name; only what happened.
    pub losses: Vec<Loss>,
    /// Creation sites, worst first.
    pub sites: Vec<SiteReport>,
    /// What proofs have shown; `None`: none was asked for.
    pub proof: Option<ProofSample>,
    /// Its recent course, for pictures: as far back as that of its sites.
    pub recent: Vec<Moment>,
    /// Number of sites, and of commands of zombies, whose verdict is [`Verdict::Leak`].
    pub leaks: usize,
}

impl ProcessReport {
    /// Tasks that it left behind when it ended; 0 when nobody asked.
    pub fn left_behind(&self) -> u64 {
        self.sites.iter().filter_map(|site| site.left_behind).sum()
    }

    /// Sites that there was no room for: their tasks are in the totals alone.
    pub fn sites_beyond(&self) -> u64 {
        let beyond = self.losses.iter().find(|loss| loss.name == SITES_OVER_LIMIT);
        beyond.map_or(0, |loss| loss.count)
    }
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Who runs it: docker, containerd, cri-o, podman, ecs.
    pub engine: Option<String>,
    /// Its name; in a pod that which the pod's specification has.
    pub name: Option<String>,
    /// The image that it was made of, as users write it.
    pub image: Option<String>,
}

/// A Kubernetes pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its uid.
    pub uid: Option<String>,
    /// Those of its labels that are to be told; `None`: they are not known, or none was asked for.
    pub labels: Option<BTreeMap<String, String>>,
}

/// How tasks are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Starts and ends by probes.
    Probes,
    /// By reading the process's memory only: rates are sampled.
    Memory,
    /// Part of the time by probes, or some of the figures.
    Mixed,
}

impl Mode {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::Memory => "memory",
            Self::Mixed => "mixed",
        }
    }
}

/// A runtime found in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeReport {
    /// Which: `go`, `tokio`, `custom`, `custom_2`.
    pub kind: String,
    /// What the user called it.
    pub name: Option<String>,
    /// Its version, as it calls itself (`go1.26.1`).
    pub version: Option<String>,
    /// How it is observed.
    pub mode: Mode,
    /// What is missing or odd, one sentence each.
    pub problems: Vec<String>,
}

/// Totals of the program's own tasks; the runtime's are only in `system_live`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TasksReport {
    /// Alive.
    pub live: u64,
    /// Alive at attach; `None` when no census was made then: `live` is then of the tasks born since.
    pub live_at_attach: Option<u64>,
    /// Started since attach.
    pub started: u64,
    /// Ended since attach.
    pub ended: u64,
    /// Started per second.
    pub start_rate_per_s: Option<f64>,
    /// Ended per second.
    pub end_rate_per_s: Option<f64>,
    /// Growth of `live` per minute.
    pub growth_per_min: Option<f64>,
    /// Starts and ends that are in no figure, and events that the stream misses.
    pub lost_events: u64,
    /// Live by probes minus live by memory; 0 at rest.
    pub drift: Option<i64>,
    /// The runtime's own tasks alive.
    pub system_live: u64,
}

/// Threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadsReport {
    /// Alive.
    pub live: Option<u64>,
    /// Started since attach.
    pub started: u64,
    /// Ended since attach.
    pub ended: u64,
    /// Live ones by name, most first; names that differ in numbers only are one (`worker-*`). Empty before the first
    /// look at them.
    pub by_name: Vec<(String, u64)>,
}

/// Child processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForksReport {
    /// Forked since attach.
    pub count: u64,
    /// Per second.
    pub rate_per_s: Option<f64>,
    /// Children that ended since attach, of those forked since.
    pub ended: u64,
    /// Children that have not ended, those from before the attach among them.
    pub live: u64,
    /// By what they executed, most forked first.
    pub by_command: Vec<CommandReport>,
}

/// Children that executed the same command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandReport {
    /// Its name; that of the parent for children that executed nothing.
    pub command: String,
    /// Those that have not ended.
    pub live: u64,
    /// Forked since attach.
    pub forked: u64,
    /// Ended since attach.
    pub ended: u64,
}

/// Children that ended and that the process has not collected.
#[derive(Clone, Debug, PartialEq)]
pub struct ZombieReport {
    /// What they executed.
    pub command: String,
    /// How many.
    pub count: u64,
    /// Seconds since the oldest of them ended; `None`: one ended before the attach.
    pub oldest_s: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one sentence with its figures.
    pub why: String,
    /// How sure, 0 to 1.
    pub confidence: f64,
}

/// Memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryReport {
    /// Resident set.
    pub rss_bytes: Option<u64>,
    /// Its growth, bytes per minute.
    pub rss_growth_per_min: Option<f64>,
    /// Stacks of all tasks.
    pub task_stack_bytes: Option<u64>,
    /// Their growth, bytes per minute.
    pub task_stack_growth_per_min: Option<f64>,
}

/// A place that spawns tasks of one type, seen on the stacks of some of their starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpawnReport {
    /// The function; `None`: it has no name.
    pub function: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
    /// How many of the starts whose stacks were seen were there.
    pub seen: u64,
}

/// A creation site.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteReport {
    /// Runtime that owns the tasks.
    pub runtime: String,
    /// Function that starts them, as the runtime itself prints `created by`; an address when it has no name.
    pub function: Option<String>,
    /// Source file of the statement that starts them.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// What the tasks run; an address when it has no name.
    pub task: Option<String>,
    /// Where the code of the tasks stands, for runtimes that tell sites apart by what runs (tokio).
    pub task_file: Option<String>,
    /// Its line.
    pub task_line: Option<u32>,
    /// Where the tasks were seen to be spawned, for such runtimes; the most frequent place, which is also in `function`,
    /// `file` and `line`, first.
    pub spawns: Vec<SpawnReport>,
    /// The stack on which the first of them was made, frames as `function (file:line)`, innermost first; empty where it was
    /// not seen.
    pub creation_stack: Vec<Arc<str>>,
    /// The runtime's own tasks.
    pub system: bool,
    /// Alive.
    pub live: u64,
    /// Alive at attach; `None` when no census was made then.
    pub live_at_attach: Option<u64>,
    /// Started since attach.
    pub started: u64,
    /// Ended since attach.
    pub ended: u64,
    /// Started per second.
    pub start_rate_per_s: Option<f64>,
    /// Ended per second.
    pub end_rate_per_s: Option<f64>,
    /// Growth of `live` per minute.
    pub growth_per_min: Option<f64>,
    /// Ages of the live ones.
    pub age: Ages,
    /// Lifetimes of the ended ones.
    pub lifetime: Lifetimes,
    /// Lifetimes and ages of those born since attach, counted; `None`: nothing ended and no age is known.
    pub lives: Option<Lives>,
    /// Share of the started ones that never end, 0 to 1.
    pub never_ending_share: Option<f64>,
    /// Confidence interval of that share.
    pub never_ending_interval: Option<(f64, f64)>,
    /// Tasks per minute that never end.
    pub leak_rate_per_min: Option<f64>,
    /// Alive when the process ended, and not only just started; `None`: it lives, or nobody asks (`leakwatch run` does).
    pub left_behind: Option<u64>,
    /// Tasks proven unwakeable; `None` when no proof was tried.
    pub proven: Option<u64>,
    /// Bytes of their stacks; `None`: not known for this runtime.
    pub stack_bytes: Option<u64>,
    /// What the live ones wait for, largest group first.
    pub waiting: Vec<WaitingReport>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one sentence with its figures.
    pub why: String,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// What would settle it or change it; empty where nothing is open.
    pub settles: String,
    /// What comes of it if it goes on so; `None`: none of its tasks stays, or it is not known.
    pub forecast: Option<Forecast>,
    /// Recent course of `live`, for pictures.
    pub recent: Vec<Point>,
}

/// Lifetimes of ended tasks in seconds; `None` when none ended whose birth was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lifetimes {
    /// Median.
    pub p50_s: Option<f64>,
    /// 99th percentile.
    pub p99_s: Option<f64>,
}

/// Live tasks of a site that wait for the same thing at the same place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WaitingReport {
    /// Wait reason or status.
    pub reason: String,
    /// Frames as `func (file:line)`, innermost first; empty when stacks were not read.
    pub stack: Vec<Arc<str>>,
    /// How many.
    pub count: u64,
    /// Longest wait, seconds.
    pub longest_s: Option<f64>,
    /// Share of the site's live tasks that they are, 0 to 1.
    pub share: f64,
    /// Share of the last ten censuses in which there were such, 0 to 1.
    pub seen: Option<f64>,
}
