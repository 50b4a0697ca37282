//! Models, findings and names into a report.

use leakwatch_common::{Counter, RuntimeKind};
use std::{cmp::Reverse, sync::Arc};

use super::{
    Alerting, CommandReport, Container, Environment, ForksReport, Lifetimes, Lives, MemoryReport, Names,
    Overhead, Pod, ProcessReport, Report, RuntimeReport, SiteReport, Span, TasksReport, ThreadsReport,
    Timestamp, Verdict, WaitingReport, ZombieReport,
};
use crate::detect::{Detector, Evidence, Forecast, zombies};
use crate::model::{Losses, ProcessModel, SiteView, float, growth_per_min, seconds};

/// What a report says besides its processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// Host name.
    pub host: String,
    /// When the watch began.
    pub started: Timestamp,
    /// Seconds watched.
    pub duration_s: f64,
    /// Processor time of probes and leakwatch, percent of one core.
    pub cpu_percent_of_one_core: Option<f64>,
    /// The user's budget, percent.
    pub budget_percent: Option<f64>,
    /// Who makes it, and where.
    pub environment: Option<Environment>,
    /// What rates are of: all of the watch, or its last interval (`jsonl`).
    pub rates: Span,
}

/// What is known of a process besides its figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: u32,
    /// When it was started.
    pub start_time: Option<Timestamp>,
    /// Name of its main thread.
    pub comm: String,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Build id of the executable, hexadecimal.
    pub build_id: Option<String>,
    /// Its container.
    pub container: Option<Container>,
    /// Kubernetes pod.
    pub pod: Option<Pod>,
    /// When its watching began.
    pub watched_since: Option<Timestamp>,
    /// It has exited.
    pub exited: bool,
    /// Runtimes found in it.
    pub runtimes: Vec<RuntimeReport>,
    /// Events are streamed through the ring buffer: what did not fit is lost to whoever reads the stream.
    pub streaming: bool,
    /// Runtimes of which nobody knows what was alive at attach.
    pub blind: Vec<RuntimeKind>,
    /// Tasks that are at least this old when the process ends were left behind, ns; `None`: nobody asks.
    pub grace_ns: Option<u64>,
}

/// A process to be reported.
pub struct ProcessInput<'a> {
    /// Facts.
    pub info: &'a ProcessInfo,
    /// Figures.
    pub model: &'a ProcessModel,
    /// Names of its addresses.
    pub names: &'a mut dyn Names,
}

/// Makes a report of processes, in their order.
pub fn assemble<'a>(
    context: &Context,
    processes: impl IntoIterator<Item = ProcessInput<'a>>,
    detector: &Detector,
) -> Report {
    let mut probe_hits = 0u64;
    let mut reports = Vec::new();
    for input in processes {
        probe_hits = probe_hits.saturating_add(input.model.counters().get(Counter::ProbeHits));
        reports.push(Arc::new(assemble_process(input, detector, context.rates)));
    }
    Report::of(context, reports, probe_hits)
}

impl Report {
    /// Reports of processes that were made already, together. `probe_hits` are those of all processes.
    pub fn of(context: &Context, processes: Vec<Arc<ProcessReport>>, probe_hits: u64) -> Self {
        Self {
            host: context.host.clone(),
            started: context.started,
            duration_s: context.duration_s,
            environment: context.environment.clone(),
            overhead: Overhead {
                probe_hits,
                cpu_percent_of_one_core: context.cpu_percent_of_one_core,
                budget_percent: context.budget_percent,
            },
            processes,
            alerting: Alerting::default(),
        }
    }

    /// The same report of one of its processes alone.
    #[must_use]
    pub fn only(&self, process: &Arc<ProcessReport>) -> Self {
        Self {
            host: self.host.clone(),
            environment: self.environment.clone(),
            processes: vec![Arc::clone(process)],
            alerting: self.alerting.clone(),
            ..*self
        }
    }
}

/// Makes the report of one process.
pub fn assemble_process(input: ProcessInput<'_>, detector: &Detector, rates: Span) -> ProcessReport {
    let ProcessInput { info, model, names } = input;
    let losses = model.losses();
    let mut sites: Vec<SiteReport> =
        model.sites().map(|site| site_report(&site, &losses, info, &mut *names, detector, rates)).collect();
    sort_worst_first(&mut sites);
    let zombies = zombies_report(model);
    let leaks = sites.iter().filter(|site| site.verdict == Verdict::Leak).count()
        + zombies.iter().filter(|zombies| zombies.verdict == Verdict::Leak).count();
    let threads = model.threads();
    ProcessReport {
        pid: info.pid,
        start_time: info.start_time,
        comm: info.comm.clone(),
        exe: info.exe.clone(),
        build_id: info.build_id.clone(),
        container: info.container.clone(),
        pod: info.pod.clone(),
        exited: info.exited,
        watched_since: info.watched_since,
        watched_s: seconds(model.elapsed_ns()),
        runtimes: info.runtimes.clone(),
        tasks: tasks_report(info, model, &losses, rates),
        threads: ThreadsReport {
            live: threads.live,
            started: threads.started,
            ended: threads.ended,
            by_name: model.thread_names().to_vec(),
        },
        forks: forks_report(model, rates),
        zombies,
        memory: MemoryReport {
            rss_bytes: model.rss_bytes(),
            rss_growth_per_min: model.rss_growth_per_min(),
            task_stack_bytes: model.stack_bytes(),
            task_stack_growth_per_min: model.stack_growth_per_min(),
        },
        proof: model.proof().cloned(),
        probe_hits: model.counters().get(Counter::ProbeHits),
        recent: model.recent().copied().collect(),
        leaks,
        losses: losses.named,
        sites,
    }
}

fn forks_report(model: &ProcessModel, rates: Span) -> ForksReport {
    let children = model.children();
    let commands = children.commands.iter().map(|command| CommandReport {
        command: command.command.clone(),
        live: command.live,
        forked: command.forked,
        ended: command.ended,
    });
    let mut by_command: Vec<CommandReport> = commands.collect();
    by_command.sort_by(|a, b| (b.forked, b.live, &a.command).cmp(&(a.forked, a.live, &b.command)));
    ForksReport {
        count: model.threads().forks,
        rate_per_s: model.fork_rate_per_s(rates),
        ended: model.counters().get(Counter::ChildrenEnded),
        live: children.live,
        by_command,
    }
}

fn zombies_report(model: &ProcessModel) -> Vec<ZombieReport> {
    let zombies = model.children().zombies.iter().map(|zombies| {
        let oldest_s = zombies.since_ns.map(|since| seconds(model.last_ns().saturating_sub(since)));
        // Of one from before the attach only a least age is known.
        let finding = zombies::judge(zombies.count, oldest_s.unwrap_or_else(|| seconds(model.elapsed_ns())));
        ZombieReport {
            command: zombies.command.clone(),
            count: zombies.count,
            oldest_s,
            verdict: finding.verdict,
            why: finding.why,
            confidence: finding.confidence,
        }
    });
    let mut zombies: Vec<ZombieReport> = zombies.collect();
    zombies.sort_by(|a, b| (b.count, &a.command).cmp(&(a.count, &b.command)));
    zombies
}

fn tasks_report(info: &ProcessInfo, model: &ProcessModel, losses: &Losses, rates: Span) -> TasksReport {
    let tasks = model.tasks();
    let streamed = if info.streaming { losses.count(Counter::RingFull.name()) } else { 0 };
    TasksReport {
        live: tasks.live,
        live_at_attach: (!info.blind.iter().any(|kind| kind.is_task())).then_some(tasks.live_at_attach),
        started: tasks.started,
        ended: tasks.ended,
        start_rate_per_s: model.start_rate_per_s(rates),
        end_rate_per_s: model.end_rate_per_s(rates),
        growth_per_min: model.growth_per_min(),
        lost_events: losses.count(Counter::TaskUnreadable.name()).saturating_add(streamed),
        drift: tasks.drift,
        system_live: tasks.system_live,
    }
}

fn site_report(
    site: &SiteView<'_>,
    losses: &Losses,
    info: &ProcessInfo,
    names: &mut dyn Names,
    detector: &Detector,
    rates: Span,
) -> SiteReport {
    let recent = site.series();
    let growth_per_min = growth_per_min(&recent);
    let evidence = Evidence { site: *site, series: &recent, growth_per_min, losses };
    let finding = detector.judge(&evidence);
    let forecast = (finding.verdict >= Verdict::Suspect).then(|| Forecast::of(&evidence)).flatten();
    let id = site.id();
    let plateau = site.plateau();
    let mut name = names.site(id);
    let by_type = matches!(id.runtime, RuntimeKind::Tokio | RuntimeKind::TokioBlocking);
    let defined = if by_type { (name.file.clone(), name.line) } else { (None, None) };
    let spawns = names.spawns(id);
    if let Some(most) = spawns.first() {
        (name.function, name.file, name.line) = (most.function.clone(), most.file.clone(), most.line);
    }
    let left_behind = left_behind(site, info, name.task.as_deref());
    SiteReport {
        runtime: id.runtime.name().to_owned(),
        function: name.function.or_else(|| address(id.site)),
        file: name.file,
        line: name.line,
        task_file: defined.0,
        task_line: defined.1,
        spawns,
        creation_stack: frames(&names.creation_stack(id), names),
        task: name.task.or_else(|| address(id.entry)),
        system: site.system(),
        live: site.live(),
        live_at_attach: (!info.blind.contains(&id.runtime)).then(|| site.live_at_attach()),
        started: site.started(),
        ended: site.ended(),
        start_rate_per_s: site.start_rate_per_s(rates),
        end_rate_per_s: site.end_rate_per_s(rates),
        growth_per_min,
        age: site.ages(),
        lifetime: Lifetimes { p50_s: site.lifetime_s(0.5), p99_s: site.lifetime_s(0.99) },
        lives: Lives::of(site.lifetimes(), site.young()),
        never_ending_share: plateau.map(|plateau| plateau.share),
        never_ending_interval: plateau.map(|plateau| plateau.interval),
        leak_rate_per_min: plateau
            .and_then(|plateau| Some(plateau.share * site.start_rate_per_s(rates)? * 60.0)),
        left_behind,
        proven: site.proven().map(|proven| proven.count),
        stack_bytes: site.stack_bytes(),
        waiting: waiting_report(site, names),
        verdict: finding.verdict,
        why: finding.why,
        confidence: finding.confidence,
        settles: finding.settles,
        forecast,
        recent,
    }
}

/// What the task of Go's main goroutine is called.
const MAIN_GOROUTINE: &str = "runtime.main";

/// Tasks of a site that the process left behind when it ended: alive, and not only just started. The main goroutine is
/// not among them. Of threads it is not known: those that the process's end ended have ended, too.
fn left_behind(site: &SiteView<'_>, info: &ProcessInfo, task: Option<&str>) -> Option<u64> {
    let grace_ns = info.grace_ns.filter(|_| info.exited && site.id().runtime.is_task())?;
    let is_main = site.id().runtime == RuntimeKind::Go && task == Some(MAIN_GOROUTINE);
    Some(if is_main || site.system() { 0 } else { site.older_than(grace_ns) })
}

/// An address in place of a name; `None` when there is none.
fn address(address: u64) -> Option<String> {
    (address != 0).then(|| format!("0x{address:x}"))
}

/// Groups with named frames. Stacks that differ in addresses only are one.
fn waiting_report(site: &SiteView<'_>, names: &mut dyn Names) -> Vec<WaitingReport> {
    let groups = site.waiting();
    let all = groups.iter().fold(site.live(), |all, group| all.max(group.count));
    let mut reports: Vec<WaitingReport> = Vec::with_capacity(groups.len());
    for group in groups {
        let stack = frames(&group.stack, names);
        let longest_s = group.longest_ns.map(seconds);
        let seen = site.steadiness(group);
        match reports.iter_mut().find(|report| report.reason == group.reason && report.stack == stack) {
            Some(report) => {
                report.count = report.count.saturating_add(group.count);
                report.longest_s = report.longest_s.into_iter().chain(longest_s).reduce(f64::max);
                report.seen = report.seen.into_iter().chain(seen).reduce(f64::max);
            }
            None => {
                reports.push(WaitingReport {
                    reason: group.reason.clone(),
                    stack,
                    count: group.count,
                    longest_s,
                    share: 0.0,
                    seen,
                });
            }
        }
    }
    for report in &mut reports {
        report.share = (float(report.count) / float(all.max(1))).min(1.0);
    }
    reports.sort_by_key(|report| Reverse(report.count));
    reports
}

/// A stack in words, an address where there is no name; nothing where stacks are not told.
fn frames(stack: &[u64], names: &mut dyn Names) -> Vec<Arc<str>> {
    if !names.tells_stacks() {
        return Vec::new();
    }
    let mut words = Vec::with_capacity(stack.len());
    for &pc in stack {
        match names.words(pc) {
            Some(frames) => words.extend(frames.iter().cloned()),
            None => words.push(format!("0x{pc:x}").into()),
        }
    }
    words
}

/// Worst first: verdict, then the program's before the runtime's, growth, live, starts; then by name, so that the
/// order is the same whatever order the sites came in.
fn sort_worst_first(sites: &mut [SiteReport]) {
    fn growth(site: &SiteReport) -> f64 {
        site.growth_per_min.unwrap_or(f64::NEG_INFINITY)
    }
    fn name(site: &SiteReport) -> (&Option<String>, &Option<String>, Option<u32>, &Option<String>) {
        (&site.function, &site.file, site.line, &site.task)
    }
    sites.sort_by(|a, b| {
        (b.verdict, Reverse(b.system))
            .cmp(&(a.verdict, Reverse(a.system)))
            .then_with(|| growth(b).total_cmp(&growth(a)))
            .then_with(|| (b.live, b.started).cmp(&(a.live, a.started)))
            .then_with(|| name(a).cmp(&name(b)))
    });
}
