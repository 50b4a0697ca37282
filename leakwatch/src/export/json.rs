//! The JSON form of a report, schema `leakwatch.report/1` (CONTRACT.md). Fields are only ever added.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use super::{alerts::AlertingJson, proof::WatchedProofJson, safe};
use crate::report::{
    Ages, Bucket, CommandReport, ForksReport, Lives, Moment, Pod, Point, ProcessReport, Report,
    RuntimeReport, SiteReport, SpawnReport, TasksReport, Verdict, WaitingReport, ZombieReport, notes::notes,
};

/// Name of the schema.
pub const SCHEMA: &str = "leakwatch.report/1";

/// A report as an indented JSON document that ends with a newline.
pub fn to_json(report: &Report) -> String {
    text(report, Form::Whole)
}

/// A report as one line of JSON, with its newline; without the courses, which the lines before it tell.
pub fn to_json_line(report: &Report) -> String {
    text(report, Form::Line)
}

/// Which form a report has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By itself, indented, with what it knows of the past.
    Whole,
    /// One of many, on one line.
    Line,
}

fn text(report: &Report, form: Form) -> String {
    let mut bytes = Vec::new();
    // Writing into memory does not fail, and these types have no key that is not a string.
    if safe::write(&mut bytes, &ReportJson::of(report, form), form == Form::Whole).is_err() {
        bytes.clear();
    }
    bytes.push(b'\n');
    safe::text_of(bytes)
}

/// A time as RFC 3339 in UTC with this many decimals.
pub(super) fn rfc3339(time: Timestamp, decimals: u8) -> String {
    DateTimePrinter::new().precision(Some(decimals)).timestamp_to_string(&time)
}

/// A figure that JSON can hold, without digits that mean nothing.
pub(super) fn number(value: f64) -> Option<f64> {
    let rounded = (value * 1e6).round() / 1e6;
    // Not minus zero.
    rounded.is_finite().then_some(rounded + 0.0)
}

fn known(value: Option<f64>) -> Option<f64> {
    value.and_then(number)
}

#[derive(Serialize)]
struct ReportJson<'a> {
    schema: &'static str,
    host: &'a str,
    started: String,
    duration_s: Option<f64>,
    environment: Option<EnvironmentJson<'a>>,
    overhead: OverheadJson,
    processes: Vec<ProcessJson<'a>>,
    #[serde(flatten)]
    alerting: AlertingJson<'a>,
}

#[derive(Serialize)]
struct EnvironmentJson<'a> {
    leakwatch: &'a str,
    kernel: Option<&'a str>,
    machine: Option<&'a str>,
    command: &'a [String],
}

#[derive(Serialize)]
struct OverheadJson {
    probe_hits: u64,
    cpu_percent_of_one_core: Option<f64>,
    budget_percent: Option<f64>,
}

#[derive(Serialize)]
struct ProcessJson<'a> {
    pid: u32,
    start_time: Option<String>,
    comm: &'a str,
    exe: Option<&'a str>,
    build_id: Option<&'a str>,
    container: Option<&'a str>,
    container_name: Option<&'a str>,
    container_engine: Option<&'a str>,
    image: Option<&'a str>,
    pod: Option<PodJson<'a>>,
    exited: bool,
    watched_since: Option<String>,
    watched_s: Option<f64>,
    runtimes: Vec<RuntimeJson<'a>>,
    tasks: TasksJson,
    threads: ThreadsJson<'a>,
    forks: ForksJson<'a>,
    zombies: Vec<ZombiesJson<'a>>,
    memory: MemoryJson,
    losses: BTreeMap<&'a str, u64>,
    sites: Vec<SiteJson<'a>>,
    proof: Option<WatchedProofJson<'a>>,
    course: Option<Vec<MomentJson>>,
    notes: Vec<String>,
    leaks: usize,
}

/// Seconds since attach, alive, started, ended, threads, resident bytes.
#[derive(Serialize)]
struct MomentJson(Option<f64>, u64, u64, u64, Option<u64>, Option<u64>);

impl From<&Moment> for MomentJson {
    fn from(moment: &Moment) -> Self {
        let Moment { at_s, live, started, ended, threads_live, rss_bytes } = *moment;
        Self(number(at_s), live, started, ended, threads_live, rss_bytes)
    }
}

/// A pod, in reports and lists alike.
#[derive(Serialize)]
pub(super) struct PodJson<'a> {
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    uid: Option<&'a str>,
    labels: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct RuntimeJson<'a> {
    kind: &'a str,
    name: Option<&'a str>,
    version: Option<&'a str>,
    mode: &'static str,
    problems: &'a [String],
}

#[derive(Serialize)]
struct TasksJson {
    live: u64,
    live_at_attach: Option<u64>,
    started: u64,
    ended: u64,
    start_rate_per_s: Option<f64>,
    end_rate_per_s: Option<f64>,
    growth_per_min: Option<f64>,
    lost_events: u64,
    drift: Option<i64>,
    system_live: u64,
}

#[derive(Serialize)]
struct ThreadsJson<'a> {
    live: Option<u64>,
    started: u64,
    ended: u64,
    by_name: Vec<ThreadNameJson<'a>>,
}

#[derive(Serialize)]
struct ThreadNameJson<'a> {
    name: &'a str,
    live: u64,
}

#[derive(Serialize)]
struct ForksJson<'a> {
    count: u64,
    rate_per_s: Option<f64>,
    ended: u64,
    live: u64,
    by_command: Vec<CommandJson<'a>>,
}

#[derive(Serialize)]
struct CommandJson<'a> {
    command: &'a str,
    live: u64,
    forked: u64,
    ended: u64,
}

#[derive(Serialize)]
struct ZombiesJson<'a> {
    command: &'a str,
    count: u64,
    oldest_s: Option<f64>,
    verdict: Verdict,
    why: &'a str,
    confidence: Option<f64>,
}

#[derive(Serialize)]
struct MemoryJson {
    rss_bytes: Option<u64>,
    rss_growth_per_min: Option<f64>,
    task_stack_bytes: Option<u64>,
    task_stack_growth_per_min: Option<f64>,
}

#[derive(Serialize)]
struct SpawnJson<'a> {
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    seen: u64,
}

impl<'a> From<&'a SpawnReport> for SpawnJson<'a> {
    fn from(spawn: &'a SpawnReport) -> Self {
        let SpawnReport { function, file, line, seen } = spawn;
        Self { function: function.as_deref(), file: file.as_deref(), line: *line, seen: *seen }
    }
}

#[derive(Serialize)]
struct SiteJson<'a> {
    runtime: &'a str,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    task: Option<&'a str>,
    task_file: Option<&'a str>,
    task_line: Option<u32>,
    spawns: Vec<SpawnJson<'a>>,
    creation_stack: &'a [Arc<str>],
    system: bool,
    live: u64,
    live_at_attach: Option<u64>,
    started: u64,
    ended: u64,
    start_rate_per_s: Option<f64>,
    end_rate_per_s: Option<f64>,
    growth_per_min: Option<f64>,
    age_s: AgeJson,
    lifetime_s: LifetimeJson,
    never_ending_share: Option<f64>,
    never_ending_interval: Option<[Option<f64>; 2]>,
    leak_rate_per_min: Option<f64>,
    left_behind: Option<u64>,
    proven: Option<u64>,
    stack_bytes: Option<u64>,
    waiting: Vec<WaitingJson<'a>>,
    verdict: Verdict,
    why: &'a str,
    confidence: Option<f64>,
    settles: Option<&'a str>,
    forecast: Option<ForecastJson>,
    lives: Option<LivesJson>,
    course: Option<Vec<(Option<f64>, u64)>>,
}

#[derive(Serialize)]
struct ForecastJson {
    tasks_per_h: Option<f64>,
    bytes_per_h: Option<f64>,
    doubles_in_s: Option<f64>,
}

/// The points between which a course is a straight line: most sites stand still most of the time.
fn corners(points: &[Point]) -> impl Iterator<Item = &Point> {
    points
        .iter()
        .enumerate()
        .filter(|(index, point)| {
            let beside = [index.checked_sub(1), index.checked_add(1)];
            let beside =
                beside.map(|index| index.and_then(|index| points.get(index)).map(|point| point.live));
            beside.iter().any(|live| *live != Some(point.live))
        })
        .map(|(_, point)| point)
}

/// Counts by lifetime or age: at least so many seconds, and how many. Bounds are not rounded: they tell which bucket it is.
#[derive(Serialize)]
struct LivesJson {
    ended: Vec<(f64, u64)>,
    alive: Option<Vec<(f64, u64)>>,
    survival: Option<Vec<(f64, Option<f64>)>>,
}

impl LivesJson {
    fn of(lives: &Lives, form: Form) -> Self {
        let pairs =
            |buckets: &Vec<Bucket>| buckets.iter().map(|bucket| (bucket.from_s, bucket.count)).collect();
        let survival = (form == Form::Whole).then(|| lives.survival()).flatten();
        Self {
            ended: pairs(&lives.ended),
            alive: lives.alive.as_ref().map(pairs),
            survival: survival
                .map(|steps| steps.iter().map(|step| (step.age_s, number(step.share))).collect()),
        }
    }
}

#[derive(Serialize)]
struct AgeJson {
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    /// The tasks are at least this old: some are from before attach.
    lower_bound: bool,
}

#[derive(Serialize)]
struct LifetimeJson {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Serialize)]
struct WaitingJson<'a> {
    reason: &'a str,
    stack: &'a [Arc<str>],
    count: u64,
    longest_s: Option<f64>,
    share: Option<f64>,
    seen: Option<f64>,
}

impl Serialize for Verdict {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'a> ReportJson<'a> {
    fn of(report: &'a Report, form: Form) -> Self {
        Self {
            schema: SCHEMA,
            host: &report.host,
            started: rfc3339(report.started, 3),
            duration_s: number(report.duration_s),
            environment: report.environment.as_ref().map(|environment| EnvironmentJson {
                leakwatch: &environment.leakwatch,
                kernel: environment.kernel.as_deref(),
                machine: environment.machine.as_deref(),
                command: &environment.command,
            }),
            overhead: OverheadJson {
                probe_hits: report.overhead.probe_hits,
                cpu_percent_of_one_core: known(report.overhead.cpu_percent_of_one_core),
                budget_percent: known(report.overhead.budget_percent),
            },
            processes: report.processes.iter().map(|process| ProcessJson::of(process, form)).collect(),
            alerting: AlertingJson::from(&report.alerting),
        }
    }
}

impl<'a> ProcessJson<'a> {
    fn of(process: &'a ProcessReport, form: Form) -> Self {
        let container = process.container.as_ref();
        Self {
            pid: process.pid,
            start_time: process.start_time.map(|time| rfc3339(time, 3)),
            comm: &process.comm,
            exe: process.exe.as_deref(),
            build_id: process.build_id.as_deref(),
            container: container.map(|container| container.id.as_str()),
            container_name: container.and_then(|container| container.name.as_deref()),
            container_engine: container.and_then(|container| container.engine.as_deref()),
            image: container.and_then(|container| container.image.as_deref()),
            pod: process.pod.as_ref().map(PodJson::from),
            exited: process.exited,
            watched_since: process.watched_since.map(|time| rfc3339(time, 3)),
            watched_s: number(process.watched_s),
            runtimes: process.runtimes.iter().map(RuntimeJson::from).collect(),
            tasks: TasksJson::from(&process.tasks),
            threads: ThreadsJson {
                live: process.threads.live,
                started: process.threads.started,
                ended: process.threads.ended,
                by_name: names(&process.threads.by_name),
            },
            forks: ForksJson::from(&process.forks),
            zombies: process.zombies.iter().map(ZombiesJson::from).collect(),
            memory: MemoryJson {
                rss_bytes: process.memory.rss_bytes,
                rss_growth_per_min: known(process.memory.rss_growth_per_min),
                task_stack_bytes: process.memory.task_stack_bytes,
                task_stack_growth_per_min: known(process.memory.task_stack_growth_per_min),
            },
            losses: process.losses.iter().map(|loss| (&*loss.name, loss.count)).collect(),
            sites: process.sites.iter().map(|site| SiteJson::of(site, form)).collect(),
            proof: process.proof.as_ref().map(|proof| WatchedProofJson::of(proof, process.watched_s)),
            course: (form == Form::Whole).then(|| process.recent.iter().map(MomentJson::from).collect()),
            notes: notes(process),
            leaks: process.leaks,
        }
    }
}

fn names(by_name: &[(String, u64)]) -> Vec<ThreadNameJson<'_>> {
    by_name.iter().map(|(name, live)| ThreadNameJson { name, live: *live }).collect()
}

impl<'a> From<&'a ForksReport> for ForksJson<'a> {
    fn from(forks: &'a ForksReport) -> Self {
        let command = |command: &'a CommandReport| CommandJson {
            command: &command.command,
            live: command.live,
            forked: command.forked,
            ended: command.ended,
        };
        Self {
            count: forks.count,
            rate_per_s: known(forks.rate_per_s),
            ended: forks.ended,
            live: forks.live,
            by_command: forks.by_command.iter().map(command).collect(),
        }
    }
}

impl<'a> From<&'a ZombieReport> for ZombiesJson<'a> {
    fn from(zombies: &'a ZombieReport) -> Self {
        Self {
            command: &zombies.command,
            count: zombies.count,
            oldest_s: known(zombies.oldest_s),
            verdict: zombies.verdict,
            why: &zombies.why,
            confidence: number(zombies.confidence),
        }
    }
}

impl<'a> From<&'a Pod> for PodJson<'a> {
    fn from(pod: &'a Pod) -> Self {
        Self {
            name: pod.name.as_deref(),
            namespace: pod.namespace.as_deref(),
            uid: pod.uid.as_deref(),
            labels: pod.labels.as_ref(),
        }
    }
}

impl<'a> From<&'a RuntimeReport> for RuntimeJson<'a> {
    fn from(runtime: &'a RuntimeReport) -> Self {
        Self {
            kind: &runtime.kind,
            name: runtime.name.as_deref(),
            version: runtime.version.as_deref(),
            mode: runtime.mode.name(),
            problems: &runtime.problems,
        }
    }
}

impl From<&TasksReport> for TasksJson {
    fn from(tasks: &TasksReport) -> Self {
        Self {
            live: tasks.live,
            live_at_attach: tasks.live_at_attach,
            started: tasks.started,
            ended: tasks.ended,
            start_rate_per_s: known(tasks.start_rate_per_s),
            end_rate_per_s: known(tasks.end_rate_per_s),
            growth_per_min: known(tasks.growth_per_min),
            lost_events: tasks.lost_events,
            drift: tasks.drift,
            system_live: tasks.system_live,
        }
    }
}

impl<'a> SiteJson<'a> {
    fn of(site: &'a SiteReport, form: Form) -> Self {
        Self {
            runtime: &site.runtime,
            function: site.function.as_deref(),
            file: site.file.as_deref(),
            line: site.line,
            task: site.task.as_deref(),
            task_file: site.task_file.as_deref(),
            task_line: site.task_line,
            spawns: site.spawns.iter().map(SpawnJson::from).collect(),
            creation_stack: &site.creation_stack,
            system: site.system,
            live: site.live,
            live_at_attach: site.live_at_attach,
            started: site.started,
            ended: site.ended,
            start_rate_per_s: known(site.start_rate_per_s),
            end_rate_per_s: known(site.end_rate_per_s),
            growth_per_min: known(site.growth_per_min),
            age_s: AgeJson::from(&site.age),
            lifetime_s: LifetimeJson { p50: known(site.lifetime.p50_s), p99: known(site.lifetime.p99_s) },
            never_ending_share: known(site.never_ending_share),
            never_ending_interval: site.never_ending_interval.map(|(low, high)| [number(low), number(high)]),
            leak_rate_per_min: known(site.leak_rate_per_min),
            left_behind: site.left_behind,
            proven: site.proven,
            stack_bytes: site.stack_bytes,
            waiting: site.waiting.iter().map(WaitingJson::from).collect(),
            verdict: site.verdict,
            why: &site.why,
            confidence: number(site.confidence),
            settles: (!site.settles.is_empty()).then_some(&*site.settles),
            forecast: site.forecast.map(|forecast| ForecastJson {
                tasks_per_h: number(forecast.tasks_per_h),
                bytes_per_h: known(forecast.bytes_per_h),
                doubles_in_s: known(forecast.doubles_in_s),
            }),
            lives: site.lives.as_ref().map(|lives| LivesJson::of(lives, form)),
            course: (form == Form::Whole)
                .then(|| corners(&site.recent).map(|point| (number(point.at_s), point.live)).collect()),
        }
    }
}

impl From<&Ages> for AgeJson {
    fn from(ages: &Ages) -> Self {
        let Ages { p50_s, p99_s, max_s, lower_bound } = *ages;
        Self { p50: known(p50_s), p99: known(p99_s), max: known(max_s), lower_bound }
    }
}

impl<'a> From<&'a WaitingReport> for WaitingJson<'a> {
    fn from(waiting: &'a WaitingReport) -> Self {
        Self {
            reason: &waiting.reason,
            stack: &waiting.stack,
            count: waiting.count,
            longest_s: known(waiting.longest_s),
            share: number(waiting.share),
            seen: known(waiting.seen),
        }
    }
}
