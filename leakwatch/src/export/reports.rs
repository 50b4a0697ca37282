//! Reports that leakwatch wrote as JSON, read back whole: one, or one a line.
//!
//! Such files come from anywhere: cut, damaged, of a newer leakwatch. Fields that this one does not know are passed over,
//! and those that an older one did not write are unknown; what is missing that every leakwatch writes is an error, one
//! sentence each. Nothing in them sizes an allocation unchecked.

use std::{borrow::Cow, collections::BTreeMap, io::Read, sync::Arc};

use serde::Deserialize;

use super::{alerting::AlertingJson, json::SCHEMA, read::Unreadable};
use crate::report::{
    Ages, Bucket, CommandReport, Container, Environment, Forecast, ForksReport, Lifetimes, Lives, Loss,
    MemoryReport, Mode, Moment, Overhead, Pod, Point, ProcessReport, ProofSample, Report, RuntimeReport,
    SiteReport, SpawnReport, TasksReport, ThreadsReport, Timestamp, Verdict, WaitingReport, ZombieReport,
};

/// Reports of a file, one after the other.
#[expect(missing_debug_implementations, reason = "a reader is whoever's")]
pub struct Reports<R: Read> {
    stream: serde_json::StreamDeserializer<'static, serde_json::de::IoRead<R>, ReportJson>,
    read: u64,
    /// The file ended inside a report.
    cut: bool,
}

/// Whether these are reports of a form that this leakwatch knows.
///
/// # Errors
/// When it is no JSON, something else, or of a newer form.
pub fn check_reports(input: impl Read) -> Result<(), Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }
    let mut heads = serde_json::Deserializer::from_reader(input).into_iter::<Head>();
    let head = match heads.next() {
        Some(Ok(head)) => head,
        Some(Err(error)) if error.is_eof() => {
            return Err(Unreadable::new("it was cut before its first report ended"));
        }
        Some(Err(error)) => return Err(Unreadable::new(format!("it is no report as JSON ({error})"))),
        None => return Err(Unreadable::new("it is empty")),
    };
    if head.schema == SCHEMA {
        return Ok(());
    }
    let number = head.schema.strip_prefix("leakwatch.report/").and_then(|number| number.parse::<u32>().ok());
    Err(Unreadable::new(match number {
        Some(_) => format!(
            "its schema {:?} is newer than this leakwatch knows; read it with the leakwatch that wrote it",
            head.schema
        ),
        None => format!("its schema {:?} is not that of a report", head.schema),
    }))
}

impl<R: Read> Reports<R> {
    /// Begins to read what [`check_reports`] found fit.
    pub fn open(input: R) -> Self {
        Self { stream: serde_json::Deserializer::from_reader(input).into_iter(), read: 0, cut: false }
    }

    /// The next report; `None` at the end, or where the file was cut after at least one.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn next_report(&mut self) -> Result<Option<Report>, Unreadable> {
        let report = match self.stream.next() {
            None => return Ok(None),
            Some(Ok(report)) => report,
            Some(Err(error)) if error.is_eof() && self.read > 0 => {
                self.cut = true;
                return Ok(None);
            }
            Some(Err(error)) => return Err(Unreadable::new(format!("its JSON is damaged ({error})"))),
        };
        self.read += 1;
        report.report().map(Some)
    }

    /// The file ended inside a report, which is left out.
    pub fn cut(&self) -> bool {
        self.cut
    }
}

pub(super) fn time(text: &str) -> Result<Timestamp, Unreadable> {
    let damaged = |error| Unreadable::new(format!("its JSON is damaged ({error})"));
    text.parse().map_err(|error: jiff::Error| damaged(error))
}

#[derive(Deserialize)]
struct ReportJson {
    schema: String,
    host: String,
    started: String,
    duration_s: f64,
    environment: Option<EnvironmentJson>,
    overhead: OverheadJson,
    #[serde(flatten)]
    alerting: AlertingJson,
    processes: Vec<ProcessJson>,
}

#[derive(Deserialize)]
struct EnvironmentJson {
    leakwatch: String,
    kernel: Option<String>,
    machine: Option<String>,
    #[serde(default)]
    command: Vec<String>,
}

#[derive(Deserialize)]
struct OverheadJson {
    probe_hits: u64,
    cpu_percent_of_one_core: Option<f64>,
    budget_percent: Option<f64>,
}

impl ReportJson {
    fn report(self) -> Result<Report, Unreadable> {
        if self.schema != SCHEMA {
            return Err(Unreadable::new(format!("one of its reports has the schema {:?}", self.schema)));
        }
        let OverheadJson { probe_hits, cpu_percent_of_one_core, budget_percent } = self.overhead;
        Ok(Report {
            host: self.host,
            started: time(&self.started)?,
            duration_s: self.duration_s,
            environment: self.environment.map(|environment| {
                let EnvironmentJson { leakwatch, kernel, machine, command } = environment;
                Environment { leakwatch, kernel, machine, command }
            }),
            alerting: self.alerting.alerting()?,
            overhead: Overhead { probe_hits, cpu_percent_of_one_core, budget_percent },
            processes: self
                .processes
                .into_iter()
                .map(|process| process.process().map(Arc::new))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Deserialize)]
struct ProcessJson {
    pid: u32,
    start_time: Option<String>,
    comm: String,
    exe: Option<String>,
    build_id: Option<String>,
    container: Option<String>,
    container_name: Option<String>,
    container_engine: Option<String>,
    image: Option<String>,
    pod: Option<PodJson>,
    #[serde(default)]
    exited: bool,
    watched_since: Option<String>,
    watched_s: f64,
    runtimes: Vec<RuntimeJson>,
    tasks: TasksJson,
    threads: ThreadsJson,
    forks: ForksJson,
    #[serde(default)]
    zombies: Vec<ZombiesJson>,
    memory: MemoryJson,
    #[serde(default)]
    losses: BTreeMap<String, u64>,
    sites: Vec<SiteJson>,
    proof: Option<ProofJson>,
    course: Option<Vec<MomentJson>>,
    leaks: usize,
}

/// Seconds since attach, alive, started, ended, threads, resident bytes.
#[derive(Deserialize)]
struct MomentJson(f64, u64, u64, u64, Option<u64>, Option<u64>);

#[derive(Deserialize)]
struct PodJson {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RuntimeJson {
    kind: String,
    name: Option<String>,
    version: Option<String>,
    mode: ModeJson,
    #[serde(default)]
    problems: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeJson {
    Probes,
    Memory,
    Mixed,
}

#[derive(Deserialize)]
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
    #[serde(default)]
    system_live: u64,
}

#[derive(Deserialize)]
struct ThreadsJson {
    live: Option<u64>,
    started: u64,
    ended: u64,
    #[serde(default)]
    by_name: Vec<ThreadNameJson>,
}

#[derive(Deserialize)]
struct ThreadNameJson {
    name: String,
    live: u64,
}

#[derive(Deserialize)]
struct ForksJson {
    count: u64,
    rate_per_s: Option<f64>,
    #[serde(default)]
    ended: u64,
    #[serde(default)]
    live: u64,
    #[serde(default)]
    by_command: Vec<CommandJson>,
}

#[derive(Deserialize)]
struct CommandJson {
    command: String,
    live: u64,
    forked: u64,
    ended: u64,
}

#[derive(Deserialize)]
struct ZombiesJson {
    command: String,
    count: u64,
    oldest_s: Option<f64>,
    verdict: VerdictJson,
    why: String,
    confidence: Option<f64>,
}

#[derive(Deserialize)]
struct MemoryJson {
    rss_bytes: Option<u64>,
    rss_growth_per_min: Option<f64>,
    task_stack_bytes: Option<u64>,
    task_stack_growth_per_min: Option<f64>,
}

/// What is told of proofs; the rest of it is not shown of a report that was read back.
#[derive(Deserialize)]
struct ProofJson {
    proofs: u64,
    failed: u64,
    #[serde(default)]
    judged: u64,
    proven: Option<u64>,
    refuted: u64,
    #[serde(default)]
    refutations: Vec<String>,
    #[serde(default)]
    passes: u32,
    #[serde(default)]
    passes_void: u32,
    #[serde(default)]
    stood_still: bool,
    confidence: Option<f64>,
    #[serde(default)]
    goroutines: u64,
    #[serde(default)]
    problems: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum VerdictJson {
    Ok,
    NotYet,
    Suspect,
    Leak,
}

impl From<VerdictJson> for Verdict {
    fn from(verdict: VerdictJson) -> Self {
        match verdict {
            VerdictJson::Ok => Self::Ok,
            VerdictJson::NotYet => Self::NotYet,
            VerdictJson::Suspect => Self::Suspect,
            VerdictJson::Leak => Self::Leak,
        }
    }
}

#[derive(Deserialize)]
struct SiteJson {
    runtime: String,
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    task: Option<String>,
    task_file: Option<String>,
    task_line: Option<u32>,
    #[serde(default)]
    spawns: Vec<SpawnJson>,
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
    #[serde(default)]
    waiting: Vec<WaitingJson>,
    #[serde(default)]
    creation_stack: Vec<Arc<str>>,
    verdict: VerdictJson,
    why: String,
    confidence: Option<f64>,
    settles: Option<String>,
    forecast: Option<ForecastJson>,
    lives: Option<LivesJson>,
    course: Option<Vec<(f64, u64)>>,
}

#[derive(Deserialize)]
struct SpawnJson {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    seen: u64,
}

#[derive(Deserialize)]
struct AgeJson {
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    #[serde(default)]
    lower_bound: bool,
}

#[derive(Deserialize)]
struct LifetimeJson {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Deserialize)]
struct WaitingJson {
    reason: String,
    #[serde(default)]
    stack: Vec<Arc<str>>,
    count: u64,
    longest_s: Option<f64>,
    share: Option<f64>,
    seen: Option<f64>,
}

#[derive(Deserialize)]
struct ForecastJson {
    tasks_per_h: Option<f64>,
    bytes_per_h: Option<f64>,
    doubles_in_s: Option<f64>,
}

/// Lifetime or age at least, seconds, and count.
#[derive(Deserialize)]
struct LivesJson {
    ended: Vec<(f64, u64)>,
    alive: Option<Vec<(f64, u64)>>,
}

impl LivesJson {
    fn lives(self) -> Lives {
        let buckets = |pairs: Vec<(f64, u64)>| {
            pairs.into_iter().map(|(from_s, count)| Bucket { from_s, count }).collect()
        };
        Lives { ended: buckets(self.ended), alive: self.alive.map(buckets) }
    }
}

impl ProcessJson {
    fn process(self) -> Result<ProcessReport, Unreadable> {
        let loss = |(name, count)| Loss { name: Cow::Owned(name), count };
        let moment = |MomentJson(at_s, live, started, ended, threads_live, rss_bytes): MomentJson| Moment {
            at_s,
            live,
            started,
            ended,
            threads_live,
            rss_bytes,
        };
        Ok(ProcessReport {
            pid: self.pid,
            start_time: self.start_time.as_deref().map(time).transpose()?,
            comm: self.comm,
            exe: self.exe,
            build_id: self.build_id,
            container: self.container.map(|id| Container {
                id,
                engine: self.container_engine,
                name: self.container_name,
                image: self.image,
            }),
            pod: self.pod.map(|PodJson { name, namespace, uid, labels }| Pod {
                name,
                namespace,
                uid,
                labels,
            }),
            exited: self.exited,
            watched_since: self.watched_since.as_deref().map(time).transpose()?,
            watched_s: self.watched_s,
            runtimes: self.runtimes.into_iter().map(RuntimeJson::runtime).collect(),
            tasks: self.tasks.tasks(),
            threads: ThreadsReport {
                live: self.threads.live,
                started: self.threads.started,
                ended: self.threads.ended,
                by_name: self.threads.by_name.into_iter().map(|name| (name.name, name.live)).collect(),
            },
            forks: self.forks.forks(),
            zombies: self.zombies.into_iter().map(ZombiesJson::zombies).collect(),
            memory: MemoryReport {
                rss_bytes: self.memory.rss_bytes,
                rss_growth_per_min: self.memory.rss_growth_per_min,
                task_stack_bytes: self.memory.task_stack_bytes,
                task_stack_growth_per_min: self.memory.task_stack_growth_per_min,
            },
            losses: self.losses.into_iter().map(loss).collect(),
            sites: self.sites.into_iter().map(SiteJson::site).collect(),
            proof: self.proof.map(ProofJson::proof),
            recent: self.course.into_iter().flatten().map(moment).collect(),
            // Known of all processes together only.
            probe_hits: 0,
            leaks: self.leaks,
        })
    }
}

impl RuntimeJson {
    fn runtime(self) -> RuntimeReport {
        RuntimeReport {
            kind: self.kind,
            name: self.name,
            version: self.version,
            mode: match self.mode {
                ModeJson::Probes => Mode::Probes,
                ModeJson::Memory => Mode::Memory,
                ModeJson::Mixed => Mode::Mixed,
            },
            problems: self.problems,
        }
    }
}

impl TasksJson {
    fn tasks(self) -> TasksReport {
        TasksReport {
            live: self.live,
            live_at_attach: self.live_at_attach,
            started: self.started,
            ended: self.ended,
            start_rate_per_s: self.start_rate_per_s,
            end_rate_per_s: self.end_rate_per_s,
            growth_per_min: self.growth_per_min,
            lost_events: self.lost_events,
            drift: self.drift,
            system_live: self.system_live,
        }
    }
}

impl ForksJson {
    fn forks(self) -> ForksReport {
        let command =
            |CommandJson { command, live, forked, ended }| CommandReport { command, live, forked, ended };
        ForksReport {
            count: self.count,
            rate_per_s: self.rate_per_s,
            ended: self.ended,
            live: self.live,
            by_command: self.by_command.into_iter().map(command).collect(),
        }
    }
}

impl ZombiesJson {
    fn zombies(self) -> ZombieReport {
        ZombieReport {
            command: self.command,
            count: self.count,
            oldest_s: self.oldest_s,
            verdict: self.verdict.into(),
            why: self.why,
            confidence: self.confidence.unwrap_or(0.0),
        }
    }
}

impl ProofJson {
    fn proof(self) -> ProofSample {
        ProofSample {
            proofs: self.proofs,
            failed: self.failed,
            judged: self.judged,
            proven: self.proven.unwrap_or(0),
            refuted: self.refuted,
            refutations: self.refutations,
            passes: self.passes,
            void: self.passes_void,
            still: self.stood_still,
            confidence: self.confidence.unwrap_or(0.0),
            goroutines: self.goroutines,
            problems: self.problems,
            ..ProofSample::default()
        }
    }
}

impl SiteJson {
    fn site(self) -> SiteReport {
        let spawn = |SpawnJson { function, file, line, seen }| SpawnReport { function, file, line, seen };
        let interval = self.never_ending_interval.and_then(|[low, high]| Some((low?, high?)));
        let forecast = self.forecast.and_then(|ForecastJson { tasks_per_h, bytes_per_h, doubles_in_s }| {
            Some(Forecast { tasks_per_h: tasks_per_h?, bytes_per_h, doubles_in_s })
        });
        SiteReport {
            runtime: self.runtime,
            function: self.function,
            file: self.file,
            line: self.line,
            task: self.task,
            task_file: self.task_file,
            task_line: self.task_line,
            spawns: self.spawns.into_iter().map(spawn).collect(),
            system: self.system,
            live: self.live,
            live_at_attach: self.live_at_attach,
            started: self.started,
            ended: self.ended,
            start_rate_per_s: self.start_rate_per_s,
            end_rate_per_s: self.end_rate_per_s,
            growth_per_min: self.growth_per_min,
            age: Ages {
                p50_s: self.age_s.p50,
                p99_s: self.age_s.p99,
                max_s: self.age_s.max,
                lower_bound: self.age_s.lower_bound,
            },
            lifetime: Lifetimes { p50_s: self.lifetime_s.p50, p99_s: self.lifetime_s.p99 },
            never_ending_share: self.never_ending_share,
            never_ending_interval: interval,
            leak_rate_per_min: self.leak_rate_per_min,
            left_behind: self.left_behind,
            proven: self.proven,
            stack_bytes: self.stack_bytes,
            creation_stack: self.creation_stack,
            waiting: self.waiting.into_iter().map(WaitingJson::waiting).collect(),
            verdict: self.verdict.into(),
            why: self.why,
            confidence: self.confidence.unwrap_or(0.0),
            settles: self.settles.unwrap_or_default(),
            forecast,
            lives: self.lives.map(LivesJson::lives),
            recent: self.course.into_iter().flatten().map(|(at_s, live)| Point { at_s, live }).collect(),
        }
    }
}

impl WaitingJson {
    fn waiting(self) -> WaitingReport {
        WaitingReport {
            reason: self.reason,
            stack: self.stack,
            count: self.count,
            longest_s: self.longest_s,
            share: self.share.unwrap_or(0.0),
            seen: self.seen,
        }
    }
}
