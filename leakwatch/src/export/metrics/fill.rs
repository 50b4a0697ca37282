//! Reports and the agent's own figures into families.

use std::{collections::BTreeMap, sync::Arc};

use super::labels::{self, OTHER};
use super::{AgentFigures, Family, Histogram, Kind, Labels, Limits, Metric, Series, Subject, TABLE, Value};
use crate::report::{Mode, ProcessReport, RuntimeReport, SiteReport, Timestamp, Verdict, float};

/// All series of these reports, in the table's order; families without series are left out.
pub fn families(processes: &[Arc<ProcessReport>], agent: &AgentFigures, limits: &Limits) -> Vec<Family> {
    let mut filler = Filler {
        families: TABLE.iter().map(|definition| Family { definition, series: Vec::new() }).collect(),
        processes,
        started: agent.started,
        limits,
    };
    let ranked = ranked(processes);
    let (own, others) = ranked.split_at(limits.processes.min(ranked.len()));
    let mut shown = sites_to_show(processes, own, limits);
    let mut sites_left_out = 0;
    let mut own = own.to_vec();
    own.sort_unstable();
    for place in own {
        if let Some(process) = processes.get(place) {
            let sites = shown.remove(&place).unwrap_or_default();
            sites_left_out += filler.process(place, process, &sites);
        }
    }
    filler.others(others);
    filler.agent(agent, processes.len());
    let processes_left_out = (others.len() as u64).saturating_add(agent.turned_away);
    for (what, count) in [("processes", processes_left_out), ("sites", sites_left_out)] {
        filler.own(Metric::LeftOut, &[("what", what)], float(count));
    }
    filler.families.retain(|family| !family.series.is_empty());
    filler.families
}

/// Places of processes, those that matter most first.
fn ranked(processes: &[Arc<ProcessReport>]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..processes.len()).collect();
    places.sort_by_key(|&place| {
        let process = &processes[place];
        std::cmp::Reverse((process.leaks, process.tasks.live, process.threads.live, process.pid))
    });
    places
}

/// Places of the sites that have series of their own, by place of their process.
fn sites_to_show(
    processes: &[Arc<ProcessReport>],
    own: &[usize],
    limits: &Limits,
) -> BTreeMap<usize, Vec<usize>> {
    let mut candidates: Vec<(usize, usize)> = Vec::new();
    for &place in own {
        // Sites are sorted, worst first.
        let sites = processes[place].sites.iter().enumerate().filter(|(_, site)| !site.system);
        candidates.extend(sites.take(limits.sites_of_a_process).map(|(site, _)| (place, site)));
    }
    candidates.sort_by_key(|&(place, site)| {
        let report = &processes[place].sites[site];
        (std::cmp::Reverse((report.verdict, report.live)), place, site)
    });
    let mut shown: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &(place, site) in candidates.iter().take(limits.sites) {
        shown.entry(place).or_default().push(site);
    }
    shown
}

/// Figures of sites that have the same labels, or are beyond the limit, together.
#[derive(Default)]
struct SiteFigures {
    live: u64,
    started: u64,
    ended: u64,
    leak_rate_per_s: Option<f64>,
    verdict: Option<Verdict>,
    proven: Option<u64>,
    oldest_s: Option<f64>,
}

impl SiteFigures {
    fn add(&mut self, site: &SiteReport) {
        self.live = self.live.saturating_add(site.live);
        self.started = self.started.saturating_add(site.started);
        self.ended = self.ended.saturating_add(site.ended);
        let rate = site.leak_rate_per_min.map(|rate| rate / 60.0);
        self.leak_rate_per_s = both(self.leak_rate_per_s, rate, |a, b| a + b);
        let verdict = (site.verdict != Verdict::NotYet).then_some(site.verdict);
        self.verdict = both(self.verdict, verdict, Ord::max);
        self.proven = both(self.proven, site.proven, u64::saturating_add);
        self.oldest_s = both(self.oldest_s, site.age.max_s, f64::max);
    }
}

fn both<T>(a: Option<T>, b: Option<T>, join: impl Fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (one, other) => one.or(other),
    }
}

/// Figures of all tasks of one runtime of a process.
#[derive(Clone, Copy, Default)]
struct TaskFigures {
    live: u64,
    started: u64,
    ended: u64,
}

/// Threads and children have figures of their own; what else starts tasks is a runtime.
fn has_tasks(runtime: &str) -> bool {
    !matches!(runtime, "thread" | "process")
}

/// Tasks by runtime. A process's totals are exact, whatever became of its sites: where it has one runtime they are
/// that one's, and where it has several, what no site has is under [`OTHER`].
fn tasks_by_runtime(process: &ProcessReport) -> BTreeMap<&str, TaskFigures> {
    let mut by_runtime: BTreeMap<&str, TaskFigures> = process
        .runtimes
        .iter()
        .filter(|runtime| has_tasks(&runtime.kind))
        .map(|runtime| (runtime.kind.as_str(), TaskFigures::default()))
        .collect();
    for site in process.sites.iter().filter(|site| !site.system && has_tasks(&site.runtime)) {
        let figures = by_runtime.entry(&site.runtime).or_default();
        figures.live = figures.live.saturating_add(site.live);
        figures.started = figures.started.saturating_add(site.started);
        figures.ended = figures.ended.saturating_add(site.ended);
    }
    let tasks = &process.tasks;
    let all = TaskFigures { live: tasks.live, started: tasks.started, ended: tasks.ended };
    if by_runtime.len() == 1 {
        for only in by_runtime.values_mut() {
            *only = all;
        }
    } else if !by_runtime.is_empty() {
        let rest = by_runtime.values().fold(all, |rest, one| TaskFigures {
            live: rest.live.saturating_sub(one.live),
            started: rest.started.saturating_sub(one.started),
            ended: rest.ended.saturating_sub(one.ended),
        });
        if rest.live + rest.started + rest.ended > 0 {
            by_runtime.insert(OTHER, rest);
        }
    }
    by_runtime
}

struct Filler<'a> {
    families: Vec<Family>,
    processes: &'a [Arc<ProcessReport>],
    /// When the agent was.
    started: Option<Timestamp>,
    limits: &'a Limits,
}

impl Filler<'_> {
    fn push(&mut self, metric: Metric, subject: Subject, labels: Labels, value: Value) {
        let began = || match subject {
            Subject::Agent => self.started,
            Subject::Process(place) => self.processes.get(place)?.watched_since,
            Subject::Others => None,
        };
        if let Some(family) = self.families.get_mut(metric as usize) {
            let grows = matches!(family.definition.kind, Kind::Counter | Kind::Histogram);
            let since = grows.then(began).flatten();
            family.series.push(Series { subject, labels, value, since });
        }
    }

    fn number(&mut self, metric: Metric, subject: Subject, labels: &Labels, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.push(metric, subject, labels.clone(), Value::Number(value));
        }
    }

    fn count(&mut self, metric: Metric, subject: Subject, labels: &Labels, value: Option<u64>) {
        self.number(metric, subject, labels, value.map(float));
    }

    /// A series of the agent itself.
    fn own(&mut self, metric: Metric, texts: &[(&'static str, &str)], value: f64) {
        let mut labels = Labels::new();
        for (name, text) in texts {
            labels::push(&mut labels, name, Some(text), self.limits.label);
        }
        self.number(metric, Subject::Agent, &labels, Some(value));
    }

    /// A process; answers with how many of its sites have no series of their own.
    fn process(&mut self, place: usize, process: &ProcessReport, shown: &[usize]) -> u64 {
        let subject = Subject::Process(place);
        let most = self.limits.label;
        let whole = labels::process(process, most);
        let by_runtime = tasks_by_runtime(process);
        for (&runtime, tasks) in &by_runtime {
            let labels = labels::with_runtime(&whole, runtime, most);
            self.count(Metric::TasksLive, subject, &labels, Some(tasks.live));
            self.count(Metric::TasksStarted, subject, &labels, Some(tasks.started));
            self.count(Metric::TasksEnded, subject, &labels, Some(tasks.ended));
            if let Some(lifetimes) = lifetimes(process, runtime) {
                self.push(Metric::TaskLifetime, subject, labels, Value::Histogram(Box::new(lifetimes)));
            }
        }
        let mut built = whole.clone();
        labels::push(&mut built, "build_id", process.build_id.as_deref(), most);
        if let Some(container) = &process.container {
            labels::push(&mut built, "image", container.image.as_deref(), most);
            labels::push(&mut built, "container_name", container.name.as_deref(), most);
            labels::push(&mut built, "container_engine", container.engine.as_deref(), most);
        }
        let of_pod = process.pod.iter().filter_map(|pod| pod.labels.as_ref()).flatten();
        built.extend(of_pod.map(|(key, text)| (labels::of_pod(key).into(), labels::value(text, most))));
        self.number(Metric::ProcessInfo, subject, &built, Some(1.0));
        for runtime in &process.runtimes {
            let mut labels = labels::with_runtime(&whole, &runtime.kind, most);
            labels::push(&mut labels, "version", runtime.version.as_deref(), most);
            labels::push(&mut labels, "mode", Some(runtime.mode.name()), most);
            self.number(Metric::RuntimeInfo, subject, &labels, Some(1.0));
        }
        #[expect(clippy::cast_precision_loss, reason = "figures are printed with fewer digits")]
        self.number(Metric::TasksDrift, subject, &whole, process.tasks.drift.map(|drift| drift as f64));
        self.count(Metric::ProcessLeaks, subject, &whole, Some(process.leaks as u64));
        self.count(Metric::ThreadsLive, subject, &whole, process.threads.live);
        self.count(Metric::ThreadsStarted, subject, &whole, Some(process.threads.started));
        self.count(Metric::Forks, subject, &whole, Some(process.forks.count));
        self.count(Metric::ResidentMemory, subject, &whole, process.memory.rss_bytes);
        self.count(Metric::TaskStacks, subject, &whole, process.memory.task_stack_bytes);
        self.number(Metric::ProcessStart, subject, &whole, process.start_time.map(unix_seconds));
        let mut zombies: BTreeMap<Labels, u64> = BTreeMap::new();
        for some in &process.zombies {
            let mut labels = whole.clone();
            labels::push(&mut labels, "command", Some(&some.command), most);
            *zombies.entry(labels).or_default() += some.count;
        }
        for (labels, count) in zombies {
            self.count(Metric::Zombies, subject, &labels, Some(count));
        }
        self.sites(subject, process, &whole, shown, &by_runtime)
    }

    fn sites(
        &mut self,
        subject: Subject,
        process: &ProcessReport,
        whole: &Labels,
        shown: &[usize],
        by_runtime: &BTreeMap<&str, TaskFigures>,
    ) -> u64 {
        let most = self.limits.label;
        // Names that were cut may have become equal: a series must not come twice.
        let mut named: BTreeMap<Labels, SiteFigures> = BTreeMap::new();
        let mut others: BTreeMap<&str, SiteFigures> = BTreeMap::new();
        let mut left_out = process.sites_beyond();
        for (&runtime, tasks) in by_runtime {
            let own = process.sites.iter().filter(|site| !site.system && site.runtime == runtime);
            let live = own.fold(0, |sum: u64, site| sum.saturating_add(site.live));
            let unnamed = tasks.live.saturating_sub(live);
            if unnamed > 0 {
                others.entry(runtime).or_default().live = unnamed;
            }
        }
        for (place, site) in process.sites.iter().enumerate().filter(|(_, site)| !site.system) {
            if shown.contains(&place) {
                let mut labels = labels::with_runtime(whole, &site.runtime, most);
                labels.extend(labels::site(site, most));
                named.entry(labels).or_default().add(site);
            } else {
                left_out += 1;
                others.entry(&site.runtime).or_default().add(site);
            }
        }
        for (labels, figures) in named {
            self.site(subject, &labels, &figures);
            self.count(Metric::SiteTasksStarted, subject, &labels, Some(figures.started));
            self.count(Metric::SiteTasksEnded, subject, &labels, Some(figures.ended));
        }
        for (runtime, figures) in others {
            let mut labels = labels::with_runtime(whole, runtime, most);
            labels::push(&mut labels, "function", Some(OTHER), most);
            // Which sites these are changes: a sum of their counters would go down.
            self.site(subject, &labels, &figures);
        }
        left_out
    }

    fn site(&mut self, subject: Subject, labels: &Labels, figures: &SiteFigures) {
        self.count(Metric::SiteTasksLive, subject, labels, Some(figures.live));
        self.number(Metric::SiteLeakRate, subject, labels, figures.leak_rate_per_s);
        let verdict = figures.verdict.and_then(|verdict| match verdict {
            Verdict::Ok => Some(0.0),
            Verdict::Suspect => Some(1.0),
            Verdict::Leak => Some(2.0),
            Verdict::NotYet => None,
        });
        self.number(Metric::SiteVerdict, subject, labels, verdict);
        self.count(Metric::SiteProven, subject, labels, figures.proven);
        self.number(Metric::SiteOldest, subject, labels, figures.oldest_s);
    }

    /// Processes beyond the limit: what can be added up, by runtime.
    fn others(&mut self, places: &[usize]) {
        let mut live: BTreeMap<&str, u64> = BTreeMap::new();
        let mut threads = None;
        for process in places.iter().filter_map(|place| self.processes.get(*place)) {
            for (runtime, tasks) in tasks_by_runtime(process) {
                *live.entry(runtime).or_default() += tasks.live;
            }
            threads = both(threads, process.threads.live, u64::saturating_add);
        }
        let mut whole = Labels::new();
        labels::push(&mut whole, "comm", Some(OTHER), self.limits.label);
        for (runtime, live) in live {
            let labels = labels::with_runtime(&whole, runtime, self.limits.label);
            self.count(Metric::TasksLive, Subject::Others, &labels, Some(live));
        }
        self.count(Metric::ThreadsLive, Subject::Others, &whole, threads);
    }

    fn agent(&mut self, agent: &AgentFigures, processes: usize) {
        self.own(Metric::BuildInfo, &[("version", agent.version), ("revision", agent.revision)], 1.0);
        self.own(Metric::Processes, &[], float(processes as u64));
        for (tier, count) in &agent.tiers {
            self.own(Metric::ProcessesByTier, &[("tier", tier)], float(*count));
        }
        for (reason, count) in agent.totals.lost() {
            self.own(Metric::EventsLost, &[("reason", reason)], float(count));
        }
        for (runtime, count) in agent.totals.hits() {
            self.own(Metric::ProbeHits, &[("runtime", runtime)], float(count));
        }
        for (pid, ratio) in &agent.overhead {
            self.own(Metric::Overhead, &[("pid", &pid.to_string())], *ratio);
        }
        let mut own = |metric, value: Option<f64>| {
            if let Some(value) = value {
                self.own(metric, &[], value);
            }
        };
        own(Metric::AgentStart, agent.started.map(unix_seconds));
        own(Metric::AgentCpu, agent.cpu_s);
        own(Metric::AgentMemory, agent.rss_bytes.map(float));
        own(Metric::AgentFds, agent.open_fds.map(float));
        own(Metric::AgentLook, agent.look_s);
        own(Metric::AgentBinaries, agent.binaries.map(|[known, _]| float(known)));
        own(Metric::AgentBinariesRead, agent.binaries.map(|[_, read]| float(read)));
        for (kind, count) in &agent.errors {
            self.own(Metric::AgentErrors, &[("kind", kind)], float(*count));
        }
        for (feature, on) in &agent.features {
            self.own(Metric::AgentFeature, &[("feature", feature)], f64::from(u8::from(*on)));
        }
        for (to, count) in &agent.tier_changes {
            self.own(Metric::TierChanges, &[("to", to)], float(*count));
        }
        if let Some(proofs) = &agent.proofs {
            self.own(Metric::Proofs, &[("result", "made")], float(proofs.made));
            self.own(Metric::Proofs, &[("result", "failed")], float(proofs.failed));
            self.own(Metric::ProofsRefuted, &[], float(proofs.refuted));
            self.own(Metric::ProofsCpu, &[], proofs.cpu_s);
        }
        for export in &agent.exports {
            let to = [("to", export.to)];
            self.own(Metric::ExportSent, &to, float(export.sent));
            self.own(Metric::ExportFailed, &to, float(export.failed));
            self.own(Metric::ExportDropped, &to, float(export.dropped));
            self.own(Metric::ExportQueued, &to, float(export.queued_bytes));
        }
    }
}

/// Lifetimes of the ended tasks of a runtime, over its sites.
/// `None`: nobody has seen starts and ends of its tasks. Memory alone tells no lifetimes, and most processes have no more.
fn lifetimes(process: &ProcessReport, runtime: &str) -> Option<Histogram> {
    let probed = |one: &RuntimeReport| one.kind == runtime && one.mode != Mode::Memory;
    let seen = |site: &SiteReport| !site.system && site.runtime == runtime && site.lives.is_some();
    if !process.runtimes.iter().any(probed) && !process.sites.iter().any(seen) {
        return None;
    }
    let mut histogram = Histogram::default();
    for site in process.sites.iter().filter(|site| !site.system && site.runtime == runtime) {
        for bucket in site.lives.iter().flat_map(|lives| &lives.ended) {
            histogram.add(bucket.from_ns(), bucket.count);
        }
    }
    Some(histogram)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds are exact for 200,000 years")]
fn unix_seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1e3
}
