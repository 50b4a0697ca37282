//! What stands in a recording, one JSON object a line. These types are the form of the file: fields are only ever added,
//! each with a default, so that old recordings stay readable.
//!
//! Figures that a leakwatch of another version does not know are passed over; those that it lacks are 0 or unknown.

use leakwatch_common::{COUNTERS, EventKind, RuntimeKind};
use serde::{Deserialize, Serialize};

use super::proof::ProofLine;
use crate::{
    model::{Attach, TasksAre},
    observe::{
        AgeSummary, Census, ChildrenSample, Cohort, CommandSample, Counters, Event, Followed, LiveByState,
        ProcessId, ProcessSample, STRETCHES, SiteId, SiteSample, ThreadNames, Waiting, ZombieSample,
    },
    report::{Container, Context, Environment, FrameName, Mode, ProcessInfo, RuntimeReport, SiteName, Span},
};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// A process is watched from here on.
    Process { number: u32, attach: AttachLine },
    /// What is known of a process.
    Info { number: u32, info: Box<InfoLine> },
    /// A site's name.
    Site { number: u32, site: SiteLine, name: NameLine },
    /// The frames of an address.
    Frames { number: u32, pc: u64, frames: Vec<FrameLine> },
    /// A look at a process.
    Sample { number: u32, sample: Box<SampleLine> },
    /// The wall clock at a moment of the monotonic one.
    Clock { wall: String, monotonic_ns: u64 },
    /// Events, in the order in which they came.
    Events { events: Vec<EventLine> },
    /// A report was made of all that came before.
    Report { context: ContextLine, last: bool },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AttachLine {
    pid: u32,
    start_ticks: u64,
    time_ns: u64,
    #[serde(default)]
    threads_are_tasks: bool,
}

impl AttachLine {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }
}

impl From<&Attach> for AttachLine {
    fn from(attach: &Attach) -> Self {
        let Attach { process: ProcessId { pid, start_ticks }, time_ns, tasks } = *attach;
        Self { pid, start_ticks, time_ns, threads_are_tasks: tasks == TasksAre::Threads }
    }
}

impl From<AttachLine> for Attach {
    fn from(line: AttachLine) -> Self {
        Self {
            process: ProcessId { pid: line.pid, start_ticks: line.start_ticks },
            time_ns: line.time_ns,
            tasks: if line.threads_are_tasks { TasksAre::Threads } else { TasksAre::OfRuntimes },
        }
    }
}

/// An event: the number of its process's watching, ns after the event before it (the first: after 0), kind, runtime (0: none),
/// task, site, entry, and what belongs to its kind.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventLine(u32, i64, u16, u16, u64, u64, u64, u64);

impl EventLine {
    pub(super) fn new(event: &Event, before_ns: u64) -> Self {
        Self(
            event.process,
            event.time_ns.wrapping_sub(before_ns).cast_signed(),
            event.kind as u16,
            event.runtime.map_or(0, |runtime| runtime as u16),
            event.task,
            event.site,
            event.entry,
            event.extra,
        )
    }

    /// `CLOCK_MONOTONIC` ns, from that of the event before it.
    pub(super) fn time_ns(&self, before_ns: u64) -> u64 {
        before_ns.wrapping_add_signed(self.1)
    }

    /// `None`: of a kind that this leakwatch does not know.
    pub(super) fn event(&self, time_ns: u64) -> Option<Event> {
        Some(Event {
            process: self.0,
            time_ns,
            kind: EventKind::from_id(self.2)?,
            runtime: if self.3 == 0 { None } else { Some(RuntimeKind::from_id(self.3)?) },
            task: self.4,
            site: self.5,
            entry: self.6,
            extra: self.7,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InfoLine {
    pid: u32,
    start_time: Option<String>,
    comm: String,
    exe: Option<String>,
    #[serde(default)]
    build_id: Option<String>,
    container: Option<String>,
    #[serde(default)]
    container_name: Option<String>,
    #[serde(default)]
    container_engine: Option<String>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    watched_since: Option<String>,
    exited: bool,
    runtimes: Vec<RuntimeLine>,
    #[serde(default)]
    streaming: bool,
    #[serde(default)]
    blind: Vec<u16>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RuntimeLine {
    kind: String,
    #[serde(default)]
    name: Option<String>,
    version: Option<String>,
    mode: String,
    problems: Vec<String>,
}

impl From<&ProcessInfo> for InfoLine {
    fn from(info: &ProcessInfo) -> Self {
        let container = info.container.as_ref();
        Self {
            pid: info.pid,
            start_time: info.start_time.map(|time| time.to_string()),
            comm: info.comm.clone(),
            exe: info.exe.clone(),
            build_id: info.build_id.clone(),
            container: container.map(|container| container.id.clone()),
            container_name: container.and_then(|container| container.name.clone()),
            container_engine: container.and_then(|container| container.engine.clone()),
            image: container.and_then(|container| container.image.clone()),
            watched_since: info.watched_since.map(|time| time.to_string()),
            exited: info.exited,
            runtimes: info
                .runtimes
                .iter()
                .map(|runtime| RuntimeLine {
                    kind: runtime.kind.clone(),
                    name: runtime.name.clone(),
                    version: runtime.version.clone(),
                    mode: runtime.mode.name().to_owned(),
                    problems: runtime.problems.clone(),
                })
                .collect(),
            streaming: info.streaming,
            blind: info.blind.iter().map(|kind| *kind as u16).collect(),
        }
    }
}

impl From<InfoLine> for ProcessInfo {
    fn from(line: InfoLine) -> Self {
        let mode = |name: &str| match name {
            "memory" => Mode::Memory,
            "mixed" => Mode::Mixed,
            _ => Mode::Probes,
        };
        Self {
            pid: line.pid,
            start_time: line.start_time.and_then(|time| time.parse().ok()),
            comm: line.comm,
            exe: line.exe,
            build_id: line.build_id,
            container: line.container.map(|id| Container {
                id,
                engine: line.container_engine,
                name: line.container_name,
                image: line.image,
            }),
            pod: None,
            watched_since: line.watched_since.and_then(|time| time.parse().ok()),
            exited: line.exited,
            runtimes: line
                .runtimes
                .into_iter()
                .map(|runtime| RuntimeReport {
                    mode: mode(&runtime.mode),
                    kind: runtime.kind,
                    name: runtime.name,
                    version: runtime.version,
                    problems: runtime.problems,
                })
                .collect(),
            streaming: line.streaming,
            grace_ns: None,
            blind: line.blind.into_iter().filter_map(RuntimeKind::from_id).collect(),
        }
    }
}

/// Runtime, site, entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SiteLine(u16, u64, u64);

impl From<SiteId> for SiteLine {
    fn from(id: SiteId) -> Self {
        Self(id.runtime as u16, id.site, id.entry)
    }
}

impl SiteLine {
    /// `None`: of a runtime that this leakwatch does not know.
    pub(super) fn id(self) -> Option<SiteId> {
        Some(SiteId { runtime: RuntimeKind::from_id(self.0)?, site: self.1, entry: self.2 })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NameLine {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    task: Option<String>,
    system: bool,
}

impl From<SiteName> for NameLine {
    fn from(name: SiteName) -> Self {
        let SiteName { function, file, line, task, system } = name;
        Self { function, file, line, task, system }
    }
}

impl From<NameLine> for SiteName {
    fn from(name: NameLine) -> Self {
        let NameLine { function, file, line, task, system } = name;
        Self { function, file, line, task, system }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrameLine {
    function: String,
    file: Option<String>,
    line: Option<u32>,
    internal: bool,
}

impl From<FrameName> for FrameLine {
    fn from(frame: FrameName) -> Self {
        let FrameName { function, file, line, internal } = frame;
        Self { function, file, line, internal }
    }
}

impl From<FrameLine> for FrameName {
    fn from(frame: FrameLine) -> Self {
        let FrameLine { function, file, line, internal } = frame;
        Self { function, file, line, internal }
    }
}

/// An array's places that are not 0.
type Sparse = Vec<(usize, u64)>;

fn sparse(figures: &[u64]) -> Sparse {
    figures.iter().copied().enumerate().filter(|(_, figure)| *figure != 0).collect()
}

fn dense<const N: usize>(sparse: &Sparse) -> [u64; N] {
    let mut figures = [0; N];
    for &(place, figure) in sparse {
        if let Some(slot) = figures.get_mut(place) {
            *slot = figure;
        }
    }
    figures
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SampleLine {
    time_ns: u64,
    counters: Sparse,
    sites: Vec<SiteSampleLine>,
    threads_live: Option<u64>,
    rss_bytes: Option<u64>,
    census: Option<CensusLine>,
    #[serde(default)]
    thread_names: Option<Vec<(String, u64)>>,
    #[serde(default)]
    children: ChildrenLine,
    #[serde(default)]
    proof: Option<Box<ProofLine>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct ChildrenLine {
    live: u64,
    /// Command, live, forked, ended.
    commands: Vec<(String, u64, u64, u64)>,
    /// Command, how many, since when.
    zombies: Vec<(String, u64, Option<u64>)>,
}

impl From<&ChildrenSample> for ChildrenLine {
    fn from(children: &ChildrenSample) -> Self {
        let ChildrenSample { live, commands, zombies } = children.clone();
        let command = |command: CommandSample| {
            let CommandSample { command, live, forked, ended } = command;
            (command, live, forked, ended)
        };
        Self {
            live,
            commands: commands.into_iter().map(command).collect(),
            zombies: zombies
                .into_iter()
                .map(|zombie| (zombie.command, zombie.count, zombie.since_ns))
                .collect(),
        }
    }
}

impl From<ChildrenLine> for ChildrenSample {
    fn from(line: ChildrenLine) -> Self {
        let command = |(command, live, forked, ended)| CommandSample { command, live, forked, ended };
        Self {
            live: line.live,
            commands: line.commands.into_iter().map(command).collect(),
            zombies: line
                .zombies
                .into_iter()
                .map(|(command, count, since_ns)| ZombieSample { command, count, since_ns })
                .collect(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct SiteSampleLine {
    id: SiteLine,
    live_at_attach: u64,
    started: u64,
    ended: u64,
    lifetimes: Sparse,
    ages: Option<AgesLine>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AgesLine {
    count: u64,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    #[serde(default)]
    by_bucket: Sparse,
}

#[derive(Debug, Serialize, Deserialize)]
struct CensusLine {
    live: u64,
    /// Runnable, running, in a system call, waiting, preempted.
    by_state: [u64; 5],
    waiting: Vec<WaitingLine>,
    foreign: u64,
    unreadable: u64,
    stack_bytes: Option<u64>,
    drift: Option<i64>,
    #[serde(default)]
    followed: Vec<FollowedLine>,
}

/// Born, alive, stalled.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CohortLine(u64, u64, u64);

impl From<Cohort> for CohortLine {
    fn from(Cohort { born, live, stalled }: Cohort) -> Self {
        Self(born, live, stalled)
    }
}

impl From<CohortLine> for Cohort {
    fn from(CohortLine(born, live, stalled): CohortLine) -> Self {
        Self { born, live, stalled }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct FollowedLine {
    site: SiteLine,
    since_ns: u64,
    now_ns: u64,
    one_in: u64,
    older: CohortLine,
    stretch_ns: u64,
    cohorts: Vec<CohortLine>,
    lifetimes: Sparse,
    older_ended_ns: Option<u64>,
    runs_seen: bool,
    ran: u64,
    longest_rest_ns: u64,
    longest_still_ns: u64,
    apart: Option<u64>,
}

impl From<&Followed> for FollowedLine {
    fn from(followed: &Followed) -> Self {
        let Followed {
            site,
            since_ns,
            now_ns,
            one_in,
            older,
            stretch_ns,
            cohorts,
            lifetimes,
            older_ended_ns,
            runs_seen,
            ran,
            longest_rest_ns,
            longest_still_ns,
            apart,
        } = followed;
        Self {
            site: (*site).into(),
            since_ns: *since_ns,
            now_ns: *now_ns,
            one_in: *one_in,
            older: (*older).into(),
            stretch_ns: *stretch_ns,
            cohorts: cohorts.iter().copied().map(CohortLine::from).collect(),
            lifetimes: sparse(&lifetimes[..]),
            older_ended_ns: *older_ended_ns,
            runs_seen: *runs_seen,
            ran: *ran,
            longest_rest_ns: *longest_rest_ns,
            longest_still_ns: *longest_still_ns,
            apart: *apart,
        }
    }
}

impl FollowedLine {
    fn followed(self) -> Option<Followed> {
        Some(Followed {
            site: self.site.id()?,
            since_ns: self.since_ns,
            now_ns: self.now_ns,
            one_in: self.one_in,
            older: self.older.into(),
            stretch_ns: self.stretch_ns,
            cohorts: self.cohorts.into_iter().take(STRETCHES).map(Cohort::from).collect(),
            lifetimes: dense(&self.lifetimes).into(),
            older_ended_ns: self.older_ended_ns,
            runs_seen: self.runs_seen,
            ran: self.ran,
            longest_rest_ns: self.longest_rest_ns,
            longest_still_ns: self.longest_still_ns,
            apart: self.apart,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct WaitingLine {
    site: SiteLine,
    reason: String,
    stack: Vec<u64>,
    count: u64,
    longest_ns: Option<u64>,
    stack_bytes: u64,
}

impl From<&ProcessSample> for SampleLine {
    fn from(sample: &ProcessSample) -> Self {
        let ProcessSample {
            time_ns,
            counters,
            sites,
            threads_live,
            rss_bytes,
            census,
            thread_names,
            children,
            proof,
        } = sample;
        Self {
            time_ns: *time_ns,
            counters: sparse(&counters.0),
            sites: sites.iter().map(SiteSampleLine::from).collect(),
            threads_live: *threads_live,
            rss_bytes: *rss_bytes,
            census: census.as_ref().map(CensusLine::from),
            thread_names: thread_names.as_ref().map(|names| names.0.clone()),
            children: children.into(),
            proof: proof.as_ref().map(|proof| Box::new(proof.into())),
        }
    }
}

impl From<&SiteSample> for SiteSampleLine {
    fn from(sample: &SiteSample) -> Self {
        let SiteSample { id, live_at_attach, started, ended, lifetimes, ages } = sample;
        Self {
            id: (*id).into(),
            live_at_attach: *live_at_attach,
            started: *started,
            ended: *ended,
            lifetimes: sparse(&lifetimes[..]),
            ages: ages.as_ref().map(|ages| {
                let AgeSummary { count, p50_ns, p99_ns, max_ns, by_bucket } = ages;
                AgesLine {
                    count: *count,
                    p50_ns: *p50_ns,
                    p99_ns: *p99_ns,
                    max_ns: *max_ns,
                    by_bucket: sparse(&by_bucket[..]),
                }
            }),
        }
    }
}

impl From<&Census> for CensusLine {
    fn from(census: &Census) -> Self {
        let Census { live, by_state, waiting, foreign, unreadable, stack_bytes, drift, followed } = census;
        let LiveByState { runnable, running, syscall, waiting: parked, preempted } = *by_state;
        let line = |waiting: &Waiting| {
            let Waiting { site, reason, stack, count, longest_ns, stack_bytes } = waiting.clone();
            WaitingLine { site: site.into(), reason, stack, count, longest_ns, stack_bytes }
        };
        Self {
            live: *live,
            by_state: [runnable, running, syscall, parked, preempted],
            waiting: waiting.iter().map(line).collect(),
            foreign: *foreign,
            unreadable: *unreadable,
            stack_bytes: *stack_bytes,
            drift: *drift,
            followed: followed.iter().map(FollowedLine::from).collect(),
        }
    }
}

impl From<SampleLine> for ProcessSample {
    fn from(line: SampleLine) -> Self {
        Self {
            time_ns: line.time_ns,
            counters: Counters(dense::<COUNTERS>(&line.counters)),
            sites: line.sites.into_iter().filter_map(SiteSampleLine::sample).collect(),
            threads_live: line.threads_live,
            rss_bytes: line.rss_bytes,
            census: line.census.map(Census::from),
            thread_names: line.thread_names.map(ThreadNames),
            children: line.children.into(),
            proof: line.proof.map(|proof| (*proof).into()),
        }
    }
}

impl SiteSampleLine {
    fn sample(self) -> Option<SiteSample> {
        Some(SiteSample {
            id: self.id.id()?,
            live_at_attach: self.live_at_attach,
            started: self.started,
            ended: self.ended,
            lifetimes: dense(&self.lifetimes).into(),
            ages: self.ages.map(|ages| AgeSummary {
                count: ages.count,
                p50_ns: ages.p50_ns,
                p99_ns: ages.p99_ns,
                max_ns: ages.max_ns,
                by_bucket: dense(&ages.by_bucket).into(),
            }),
        })
    }
}

impl From<CensusLine> for Census {
    fn from(line: CensusLine) -> Self {
        let [runnable, running, syscall, waiting, preempted] = line.by_state;
        let group = |line: WaitingLine| {
            Some(Waiting {
                site: line.site.id()?,
                reason: line.reason,
                stack: line.stack,
                count: line.count,
                longest_ns: line.longest_ns,
                stack_bytes: line.stack_bytes,
            })
        };
        Self {
            live: line.live,
            by_state: LiveByState { runnable, running, syscall, waiting, preempted },
            waiting: line.waiting.into_iter().filter_map(group).collect(),
            foreign: line.foreign,
            unreadable: line.unreadable,
            stack_bytes: line.stack_bytes,
            drift: line.drift,
            followed: line.followed.into_iter().filter_map(FollowedLine::followed).collect(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ContextLine {
    host: String,
    started: String,
    duration_s: f64,
    cpu_percent_of_one_core: Option<f64>,
    budget_percent: Option<f64>,
    #[serde(default)]
    environment: Option<EnvironmentLine>,
}

/// Who recorded, and where.
#[derive(Debug, Serialize, Deserialize)]
struct EnvironmentLine {
    leakwatch: String,
    #[serde(default)]
    kernel: Option<String>,
    #[serde(default)]
    machine: Option<String>,
    #[serde(default)]
    command: Vec<String>,
}

impl From<&Environment> for EnvironmentLine {
    fn from(environment: &Environment) -> Self {
        let Environment { leakwatch, kernel, machine, command } = environment.clone();
        Self { leakwatch, kernel, machine, command }
    }
}

impl From<EnvironmentLine> for Environment {
    fn from(line: EnvironmentLine) -> Self {
        let EnvironmentLine { leakwatch, kernel, machine, command } = line;
        Self { leakwatch, kernel, machine, command }
    }
}

impl From<&Context> for ContextLine {
    fn from(context: &Context) -> Self {
        Self {
            environment: context.environment.as_ref().map(EnvironmentLine::from),
            host: context.host.clone(),
            started: context.started.to_string(),
            duration_s: context.duration_s,
            cpu_percent_of_one_core: context.cpu_percent_of_one_core,
            budget_percent: context.budget_percent,
        }
    }
}

impl ContextLine {
    /// With the rates that whoever replays it asks for. `None`: its time is none.
    pub(super) fn context(self, rates: Span) -> Option<Context> {
        Some(Context {
            host: self.host,
            started: self.started.parse().ok()?,
            duration_s: self.duration_s,
            cpu_percent_of_one_core: self.cpu_percent_of_one_core,
            budget_percent: self.budget_percent,
            environment: self.environment.map(Environment::from),
            rates,
        })
    }
}
