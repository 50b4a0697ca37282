//! The one list of metrics: names, kinds, units, labels, meaning. `docs/metrics.md` is written from it.
//!
//! Names and labels are an interface (CONTRACT.md): rows are only added. A metric is in this list because a rule, a
//! dashboard or a document in `deploy/` and `docs/` uses it; a test says so.

/// What kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, from 0 when the watching began.
    Counter,
    /// A distribution; its counts only grow.
    Histogram,
    /// Facts in labels; its value is 1.
    Info,
}

impl Kind {
    /// The word that documents use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// Whom a metric is about, which decides the labels that it has before its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A process: [`PROCESS_LABELS`] without `runtime`.
    Process,
    /// The tasks of one runtime in a process: [`PROCESS_LABELS`].
    Tasks,
    /// A creation site: [`PROCESS_LABELS`] and [`SITE_LABELS`].
    Site,
    /// The agent: none.
    Agent,
}

/// Labels that name a process and a runtime in it.
pub const PROCESS_LABELS: [&str; 7] = ["pid", "comm", "exe", "runtime", "container", "namespace", "pod"];

/// Labels that name a site.
pub const SITE_LABELS: [&str; 4] = ["function", "file", "line", "task"];

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Which.
    pub metric: Metric,
    /// Its name, that of its sample: counters end in `_total`, facts in `_info`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Whom it is about.
    pub of: Of,
    /// Its own labels, after those of [`Definition::of`].
    pub labels: &'static [&'static str],
    /// The unit that its name says.
    pub unit: Option<&'static str>,
    /// What it says, in one sentence without a full stop.
    pub help: &'static str,
}

impl Definition {
    /// The names of all its labels, in order.
    pub fn label_names(&self) -> impl Iterator<Item = &'static str> {
        let process: &[&'static str] = if self.of == Of::Agent { &[] } else { &PROCESS_LABELS };
        let site: &[&'static str] = if self.of == Of::Site { &SITE_LABELS } else { &[] };
        let of = self.of;
        let process = process.iter().filter(move |name| of != Of::Process || **name != "runtime");
        process.chain(site).chain(self.labels).copied()
    }
}

macro_rules! table {
    ($($metric:ident = $name:literal, $kind:ident of $of:ident [$($label:literal),*] $unit:expr, $help:literal;)+) => {
        /// A metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $help] $metric,)+
        }

        /// Every metric, in the order in which they are printed: that of [`Metric`].
        pub static TABLE: [Definition; [$(Metric::$metric),+].len()] = [$(Definition {
            metric: Metric::$metric,
            name: $name,
            kind: Kind::$kind,
            of: Of::$of,
            labels: &[$($label),*],
            unit: $unit,
            help: $help,
        }),+];
    };
}

table! {
    TasksLive = "leakwatch_tasks_live", Gauge of Tasks [] None,
        "Tasks of the program that are alive, without the runtime's own";
    TasksStarted = "leakwatch_tasks_started_total", Counter of Tasks [] None,
        "Tasks started since the watching of the process began";
    TasksEnded = "leakwatch_tasks_ended_total", Counter of Tasks [] None,
        "Tasks ended since the watching of the process began";
    TasksDrift = "leakwatch_tasks_drift", Gauge of Process [] None,
        "Live tasks by probes minus live tasks by memory; 0 at rest";
    SiteTasksLive = "leakwatch_site_tasks_live", Gauge of Site [] None,
        "Tasks alive that this site started; of the worst sites of a process, the others together as (other)";
    SiteTasksStarted = "leakwatch_site_tasks_started_total", Counter of Site [] None,
        "Tasks that this site started since the watching began; none for (other)";
    SiteTasksEnded = "leakwatch_site_tasks_ended_total", Counter of Site [] None,
        "Tasks of this site that ended since the watching began; none for (other)";
    SiteLeakRate = "leakwatch_site_leak_rate", Gauge of Site [] None,
        "Tasks per second started at this site that will never end, by the survival of those before them";
    SiteVerdict = "leakwatch_site_verdict", Gauge of Site [] None,
        "0 ok, 1 suspect, 2 leak; no series while there is not enough data for a verdict";
    SiteProven = "leakwatch_site_tasks_proven_leaked", Gauge of Site [] None,
        "Tasks of this site that nothing alive can ever wake; no series where no proof was tried";
    SiteOldest = "leakwatch_site_oldest_task_seconds", Gauge of Site [] Some("seconds"),
        "Age of the oldest live task of this site; at least, where it is from before the watching";
    TaskLifetime = "leakwatch_task_lifetime_seconds", Histogram of Tasks [] Some("seconds"),
        "How long tasks lived that started and ended while watched; the sum is an estimate from the buckets";
    ProcessLeaks = "leakwatch_process_leaks", Gauge of Process [] None,
        "Sites whose verdict is leak, and commands whose children are left uncollected";
    ThreadsLive = "leakwatch_threads_live", Gauge of Process [] None, "Threads alive";
    ThreadsStarted = "leakwatch_threads_started_total", Counter of Process [] None,
        "Threads started since the watching began";
    Forks = "leakwatch_forks_total", Counter of Process [] None, "Child processes forked since the watching began";
    Zombies = "leakwatch_zombies", Gauge of Process ["command"] None,
        "Children that ended and were not collected, by what they executed";
    ResidentMemory = "leakwatch_process_resident_memory_bytes", Gauge of Process [] Some("bytes"),
        "Resident set of the process";
    TaskStacks = "leakwatch_task_stack_bytes", Gauge of Process [] Some("bytes"),
        "Memory of the stacks of all tasks of the process";
    ProcessStart = "leakwatch_process_start_time_seconds", Gauge of Process [] Some("seconds"),
        "When the process was started, seconds since 1970";
    ProcessInfo = "leakwatch_process_info", Info of Process ["build_id", "image", "container_name", "container_engine"] None,
        "A watched process: the build id of its executable, image, name and engine of its container, where they are known";
    RuntimeInfo = "leakwatch_runtime_info", Info of Tasks ["version", "mode"] None,
        "A runtime in the process: its version, and whether it is watched by probes, memory or both (mixed)";
    EventsLost = "leakwatch_events_lost_total", Counter of Agent ["reason"] None,
        "What could not be seen, kept or read, over all processes since the agent started";
    ProbeHits = "leakwatch_probe_hits_total", Counter of Agent ["runtime"] None,
        "Executions of probes, over all processes since the agent started";
    Overhead = "leakwatch_overhead_ratio", Gauge of Agent ["pid"] Some("ratio"),
        "Processor time that probes add to a process, as a share of one core";
    BuildInfo = "leakwatch_build_info", Info of Agent ["version", "revision"] None, "Version of leakwatch";
    Processes = "leakwatch_processes", Gauge of Agent [] None, "Processes that are watched";
    ProcessesByTier = "leakwatch_processes_by_tier", Gauge of Agent ["tier"] None,
        "Processes that are watched, by how they are looked at";
    LeftOut = "leakwatch_series_left_out", Gauge of Agent ["what"] None,
        "Sites and processes that have no series of their own, for want of room";
    AgentStart = "leakwatch_agent_start_time_seconds", Gauge of Agent [] Some("seconds"),
        "When the agent was started, seconds since 1970";
    AgentCpu = "leakwatch_agent_cpu_seconds_total", Counter of Agent [] Some("seconds"),
        "Processor time of the agent itself, without the probes";
    AgentMemory = "leakwatch_agent_resident_memory_bytes", Gauge of Agent [] Some("bytes"),
        "Resident set of the agent";
    AgentFds = "leakwatch_agent_open_fds", Gauge of Agent [] None, "File descriptors that the agent has open";
    AgentLook = "leakwatch_agent_look_seconds", Gauge of Agent [] Some("seconds"),
        "How long the last look at all processes took";
    AgentErrors = "leakwatch_agent_errors_total", Counter of Agent ["kind"] None,
        "What failed in the agent: attach (a process could not be watched), probes, kernel (its tables), reload";
    AgentFeature = "leakwatch_agent_feature", Gauge of Agent ["feature"] None,
        "1 where the machine lets the agent do this, 0 where it does not; /api/v1/processes says why";
    AgentBinaries = "leakwatch_agent_binaries", Gauge of Agent [] None, "Binaries of which it is remembered what is in them";
    AgentBinariesRead = "leakwatch_agent_binaries_read_total", Counter of Agent [] None,
        "Binaries that were read because nothing was known of them";
    TierChanges = "leakwatch_tier_changes_total", Counter of Agent ["to"] None,
        "Times that a process got probes (probes), got them for a part of the time (thinned), and lost them (memory)";
    Proofs = "leakwatch_proofs_total", Counter of Agent ["result"] None,
        "Proofs of which goroutines nothing alive can wake: that came to their end (made), and that could not be made (failed)";
    ProofsRefuted = "leakwatch_proofs_refuted_total", Counter of Agent [] None,
        "Goroutines that were proven to wait for ever, and ended or ran all the same; anything but 0 is an error of leakwatch";
    ProofsCpu = "leakwatch_proofs_cpu_seconds_total", Counter of Agent [] Some("seconds"),
        "Processor time that proofs took, a part of that of the agent";
    ExportSent = "leakwatch_export_requests_sent_total", Counter of Agent ["to"] None,
        "Requests that a receiver of metrics or alerts took";
    ExportFailed = "leakwatch_export_requests_failed_total", Counter of Agent ["to"] None,
        "Requests to a receiver that failed; they are tried again";
    ExportDropped = "leakwatch_export_samples_dropped_total", Counter of Agent ["to"] None,
        "Samples given up: the queue was full, or the receiver refused them for good";
    ExportQueued = "leakwatch_export_queue_bytes", Gauge of Agent ["to"] Some("bytes"),
        "Bytes that wait to be sent to a receiver";
}
