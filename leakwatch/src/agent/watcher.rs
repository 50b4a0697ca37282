//! Watching processes: attach, look at intervals, follow execs, notice ends, report.

use std::{collections::BTreeSet, io, pin::pin, sync::Arc, time::Duration};

use leakwatch_common::{Counter, EventKind, RuntimeKind};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, sleep},
};
use tracing::{debug, info, warn};

use super::{
    clock,
    environment::environment,
    main_program::{Main, MainProgram},
    names::ImageNames,
    overhead::Meter,
    pace::Pace,
    process,
    proofs::{Pace as ProofPace, Proofs},
};
use crate::{
    collect::{Ask, CollectError, CustomProbe, Looks, Mode, Session, custom::Named, sample_all},
    detect::{Detector, Verdict},
    host::{self, Process, Root},
    kernel::{EventReader, Kernel, KernelError},
    model::{Attach, Limits, ProcessModel, TasksAre},
    observe::{CensusTask, Counters, Event, Observed, ProcessSample},
    report::{self, Context, Environment, Identities, ProcessInfo, ProcessInput, Report, Span, WallClock},
};

/// While events are streamed, the ring is looked at this often even when nothing woke us.
const STREAM_POLL: Duration = Duration::from_millis(20);

/// Otherwise it carries thread and process events only; those that cannot wait wake us.
const QUIET_POLL: Duration = Duration::from_secs(1);

/// Processes that are followed in one watch: each is in the report to the end.
const MOST_FOLLOWED: usize = 512;

/// Records taken from the ring before anything else gets its turn.
const DRAIN: usize = 65_536;

/// Looks at memory are never closer than this.
const CENSUS_EVERY_NS: u64 = 5_000_000_000;

/// How to watch.
#[expect(clippy::struct_excessive_bools, reason = "independent switches, not states")]
#[derive(Clone, Debug)]
pub struct Options {
    /// Time between looks.
    pub interval: Duration,
    /// Stop after this; `None`: on a signal or when all processes ended.
    pub duration: Option<Duration>,
    /// How to count.
    pub mode: Mode,
    /// Read stacks with every census.
    pub stacks: bool,
    /// Most percent of one core that the probes may add to a process.
    pub budget_percent: Option<f64>,
    /// Send task events through the ring buffer.
    pub stream: bool,
    /// Tell the sink of each look and report, for a recording.
    pub looks: bool,
    /// Tell the sink what each task does, with every census.
    pub states: bool,
    /// What rates are of.
    pub rates: Span,
    /// Runtimes that the user named, in every process.
    pub named: Vec<Arc<Named>>,
    /// Watch children that a process forks as processes of their own, and theirs.
    pub follow: bool,
    /// Prove which goroutines nothing alive can wake; `None`: do not.
    pub prove: Option<ProofPace>,
    /// Begin to prove where a site of goroutines is suspected to leak; `None`: do not.
    pub prove_suspects: Option<ProofPace>,
    /// The program that we started ourselves; `None`: all were running.
    pub main: Option<Main>,
    /// Told to stop by someone who is no signal: the watch ends with its report then.
    pub stop: Option<Arc<Notify>>,
}

/// A process to watch.
#[derive(Debug)]
pub struct Target {
    /// The process.
    pub process: Process,
    /// Its failure to attach is the end of the watch (it was asked for by pid), not a warning.
    pub required: bool,
    /// Probes that were named; empty: its runtime is recognised.
    pub probes: Vec<CustomProbe>,
}

/// What the sink is told.
#[derive(Debug)]
pub enum Update<'a> {
    /// All processes are attached.
    Attached,
    /// A report was made, and is about to be told: the sink may add what it knows.
    Made(&'a mut Report),
    /// An interval went by.
    Interval(&'a Arc<Report>),
    /// The watch is over.
    Final(&'a Arc<Report>),
    /// One event of the stream, with the process it is of.
    Event(&'a Event, &'a mut Watch),
    /// What a task did at this moment (`CLOCK_MONOTONIC`, ns); with [`Options::states`].
    State(u64, &'a CensusTask, &'a str, &'a mut Watch),
    /// Records of the stream that made no sense.
    Malformed,
    /// A look at one process, before it becomes figures; with [`Options::looks`].
    Looked(Looked<'a>),
    /// A report is about to be made of these processes, by the number of their watching; with [`Options::looks`].
    Reporting {
        /// What it says besides.
        context: &'a Context,
        /// What is known of the processes.
        infos: &'a [(u32, &'a ProcessInfo)],
        /// It is the last one.
        last: bool,
    },
}

/// A look at one process.
#[derive(Debug)]
pub struct Looked<'a> {
    /// The number of its watching.
    pub number: u32,
    /// How that began.
    pub attach: &'a Attach,
    /// What was seen.
    pub sample: &'a ProcessSample,
    /// Names of the process's addresses.
    pub names: ImageNames<'a>,
}

/// Who takes the updates. An error ends the watch.
pub type Sink<'a> = dyn FnMut(Update<'_>) -> io::Result<()> + 'a;

/// How a watch ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Sites with the verdict "leak".
    pub leaks: usize,
}

/// A watched process and what is known of it.
#[derive(Debug)]
pub struct Watch {
    session: Session,
    attach: Attach,
    info: ProcessInfo,
    model: ProcessModel,
    identities: Identities,
    /// `None`: no proofs were asked for, or it is no Go program, or it has ended.
    proofs: Option<Proofs>,
    /// Hits at the last look, and the intervals in a row over budget.
    hits: u64,
    over_budget: u32,
}

impl Watch {
    /// What is known of the process besides its figures.
    pub fn info(&self) -> &ProcessInfo {
        &self.info
    }

    /// The number of its watching.
    pub fn number(&self) -> u32 {
        self.session.incarnation()
    }

    /// How its watching began.
    pub fn attach(&self) -> Attach {
        self.attach
    }

    /// Names of the process's addresses.
    pub fn names(&mut self) -> ImageNames<'_> {
        ImageNames::new(self.session.names())
    }

    /// Takes a sample in, with what proofs have shown; `tell`: the sink is told of it first.
    fn apply(&mut self, sample: ProcessSample, tell: bool, sink: &mut Sink<'_>) -> io::Result<()> {
        let proof = self.proofs.as_mut().and_then(|proofs| proofs.news(&mut self.session));
        let sample = &ProcessSample { proof, ..sample };
        if tell {
            let (number, attach) = (self.session.incarnation(), &self.attach);
            let names = ImageNames::new(self.session.names());
            sink(Update::Looked(Looked { number, attach, sample, names }))?;
        }
        let mut names = ImageNames::new(self.session.names());
        self.model.apply(sample, &mut self.identities.with(&mut names));
        Ok(())
    }
}

/// Watches processes until the time is up, a signal comes, or all of them ended; then reports for the last time.
///
/// # Errors
/// When a required process cannot be attached, none can, the kernel side fails, or the sink does.
pub async fn watch(
    kernel: &mut Kernel,
    targets: Vec<Target>,
    hit_ns: Option<f64>,
    options: &Options,
    sink: &mut Sink<'_>,
) -> anyhow::Result<Outcome> {
    let (ended_sender, mut ended) = mpsc::unbounded_channel();
    let mut watcher = Watcher {
        started: WallClock { wall: clock::now(), monotonic_ns: clock::monotonic_ns() },
        host: host::name(),
        environment: environment(),
        meter: Meter::new(hit_ns),
        detector: Detector::default(),
        options,
        watches: Vec::new(),
        ended: ended_sender,
        // What a short program did last is wanted.
        census: Pace::new(match options {
            Options { main: Some(_), .. } | Options { states: true, .. } => {
                process::nanoseconds(options.interval)
            }
            _ => CENSUS_EVERY_NS,
        }),
        ages: Pace::new(0),
        closing: false,
        forked: BTreeSet::new(),
        followed: 0,
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut events = process::readable(kernel.take_events()?)?;
    let mut log = kernel.take_log()?;
    for target in targets {
        let (pid, required) = (target.process.pid(), target.required);
        match watcher.attach(kernel, target.process, &target.probes).await {
            Ok(()) => info!(pid, "attached"),
            Err(error) if required => {
                watcher.close_all(kernel);
                return Err(error.into());
            }
            Err(error) => warn!("pid {pid} is left out: {error}"),
        }
    }
    if watcher.watches.is_empty() {
        anyhow::bail!("none of the chosen processes can be watched");
    }
    sink(Update::Attached)?;

    let mut ticks = clock::ticks(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut polls = tokio::time::interval(if options.stream { STREAM_POLL } else { QUIET_POLL });
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deadline = pin!(passed(options.duration));
    let mut stopped = pin!(told(options.stop.as_deref()));
    let mut in_full = false;
    let mut main = MainProgram::new(options.main);
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => if !main.pass_on(rustix::process::Signal::INT) { break },
            _ = terminate.recv() => if !main.pass_on(rustix::process::Signal::TERM) { break },
            () = &mut stopped => break,
            () = main.over() => break,
            () = &mut deadline => {
                in_full = true;
                break;
            }
            Some(incarnation) = ended.recv() => {
                watcher.drain(kernel, events.get_mut(), sink).await?;
                // Children that it forked last are followed before it is forgotten.
                watcher.follow_forked(kernel).await;
                watcher.process_ended(kernel, incarnation, sink)?;
                if watcher.watches.iter().all(|watch| watch.info.exited) {
                    break;
                }
                if main.pid().is_some_and(|pid| !watcher.watches_live(pid)) {
                    main.ended();
                }
            }
            _ = ticks.tick() => {
                // What threads there are is known from events that wait to be read.
                watcher.drain(kernel, events.get_mut(), sink).await?;
                let mut report = watcher.look(kernel, false, sink)?;
                watcher.keep_budget(kernel)?;
                watcher.make_room(kernel)?;
                watcher.follow_forked(kernel).await;
                sink(Update::Made(&mut report))?;
                sink(Update::Interval(&Arc::new(report)))?;
            }
            ready = events.readable_mut() => {
                ready?.clear_ready();
                watcher.drain(kernel, events.get_mut(), sink).await?;
            }
            _ = polls.tick() => {
                log.flush();
                watcher.drain(kernel, events.get_mut(), sink).await?;
            }
        }
    }
    watcher.closing = true;
    watcher.finish_proofs(in_full, &mut interrupt).await;
    watcher.drain(kernel, events.get_mut(), sink).await?;
    let mut report = watcher.look(kernel, true, sink)?;
    watcher.close_all(kernel);
    let outcome = Outcome { leaks: report.leaks() };
    sink(Update::Made(&mut report))?;
    sink(Update::Final(&Arc::new(report)))?;
    Ok(outcome)
}

/// Ends when somebody says so; never, where nobody can.
async fn told(stop: Option<&Notify>) {
    match stop {
        Some(stop) => stop.notified().await,
        None => std::future::pending().await,
    }
}

/// Ends when the time is up; never, where there is no end.
async fn passed(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

struct Watcher<'o> {
    started: WallClock,
    host: String,
    environment: Environment,
    meter: Meter,
    detector: Detector,
    options: &'o Options,
    watches: Vec<Watch>,
    ended: mpsc::UnboundedSender<u32>,
    census: Pace,
    ages: Pace,
    closing: bool,
    /// Children that were forked and have not executed anything yet, to be followed.
    forked: BTreeSet<u32>,
    /// Children that were followed.
    followed: usize,
}

impl Watcher<'_> {
    /// A process of this id is watched and has not ended.
    fn watches_live(&self, pid: u32) -> bool {
        self.watches.iter().any(|watch| watch.info.pid == pid && !watch.info.exited)
    }

    async fn attach(
        &mut self,
        kernel: &mut Kernel,
        process: Process,
        probes: &[CustomProbe],
    ) -> Result<(), CollectError> {
        let mut info = ProcessInfo {
            streaming: self.options.stream,
            grace_ns: self.options.main.map(|main| process::nanoseconds(main.grace)),
            ..process::info(&process, host::boot_time().ok(), &Root::of_machine()?, &BTreeSet::new())
        };
        let id = process.id();
        let ask = Ask {
            mode: self.options.mode,
            stream: self.options.stream,
            probes: probes.to_vec(),
            named: self.options.named.clone(),
        };
        let session = Session::attach(kernel, process, &ask).await?;
        info.blind = session.blind();
        info.build_id = session.image().inspection().elf.build_id();
        info.watched_since = Some(clock::now());
        self.notify_of_end(&session);
        let proofs = self.options.prove.and_then(|pace| Proofs::begin(&session, pace));
        let tasks = if session.runtimes().is_empty() { TasksAre::Threads } else { TasksAre::OfRuntimes };
        let attach = Attach { process: id, time_ns: clock::monotonic_ns(), tasks };
        self.watches.push(Watch {
            session,
            attach,
            info,
            model: ProcessModel::new(attach, Limits::default()),
            identities: Identities::default(),
            proofs,
            hits: 0,
            over_budget: 0,
        });
        Ok(())
    }

    /// A pidfd becomes readable when the process ended.
    fn notify_of_end(&self, session: &Session) {
        let (sender, incarnation) = (self.ended.clone(), session.incarnation());
        let end = process::end_of(session);
        tokio::spawn(async move {
            match end.await {
                // Nobody listens any more when the watch is over.
                Ok(()) => drop(sender.send(incarnation)),
                Err(error) => warn!("the end of a process cannot be awaited: {error}"),
            }
        });
    }

    /// Takes what waits in the ring buffer, and follows execs.
    async fn drain(
        &mut self,
        kernel: &mut Kernel,
        events: &mut EventReader,
        sink: &mut Sink<'_>,
    ) -> anyhow::Result<()> {
        let mut execs = Vec::new();
        let mut stacks = Vec::new();
        let mut executed = Vec::new();
        let mut failure = Ok(());
        let taken = events.drain(DRAIN, |observed| {
            let told = match observed {
                Observed::Malformed => sink(Update::Malformed),
                // Nobody here asked for them.
                Observed::HostExec(_) => Ok(()),
                Observed::Stack(stack) => {
                    stacks.push(stack);
                    Ok(())
                }
                Observed::Event(event) => {
                    let watch =
                        self.watches.iter_mut().find(|watch| watch.session.incarnation() == event.process);
                    let Some(watch) = watch else { return };
                    if event.kind == EventKind::Exec {
                        execs.push(event.process);
                    }
                    let event = watch.session.told_apart(event);
                    watch.session.take_event(&event);
                    match (event.kind, u32::try_from(event.task)) {
                        (EventKind::Fork, Ok(pid)) if self.options.follow => {
                            self.forked.insert(pid);
                        }
                        (EventKind::ChildExec, Ok(pid)) if self.options.follow => executed.push(pid),
                        _ => {}
                    }
                    sink(Update::Event(&event, watch))
                }
            };
            if failure.is_ok() {
                failure = told;
            }
        });
        failure?;
        if taken == DRAIN {
            debug!("the ring buffer filled faster than it was read");
        }
        for stack in stacks {
            let mut watches = self.watches.iter_mut();
            let of = watches.find(|watch| watch.session.incarnation() == stack.event.process);
            if let Some(watch) = of {
                watch.session.take_stack(kernel, &stack)?;
            }
        }
        for incarnation in execs {
            self.process_executed(kernel, incarnation, sink).await?;
        }
        for pid in executed {
            self.follow(kernel, pid).await;
        }
        Ok(())
    }

    /// Follows the children that were forked before the last look and have not executed anything.
    async fn follow_forked(&mut self, kernel: &mut Kernel) {
        for pid in std::mem::take(&mut self.forked) {
            self.follow(kernel, pid).await;
        }
    }

    /// Watches a child as a process of its own, and those that it has forked already. One that ended is counted all the
    /// same, by its parent.
    async fn follow(&mut self, kernel: &mut Kernel, pid: u32) {
        let mut open = vec![pid];
        while let Some(pid) = open.pop() {
            self.forked.remove(&pid);
            if self.closing || self.watches_live(pid) {
                continue;
            }
            if self.followed == MOST_FOLLOWED {
                warn!(
                    "{MOST_FOLLOWED} children were followed; further ones are counted by their parents only"
                );
            }
            self.followed += 1;
            if self.followed > MOST_FOLLOWED {
                return;
            }
            let attached = match Process::open(pid) {
                Ok(process) => self.attach(kernel, process, &[]).await,
                Err(error) => Err(error.into()),
            };
            match attached {
                Ok(()) => {
                    info!(pid, "a child is followed");
                    open.extend(
                        self.watches.last().map(|watch| watch.session.children()).unwrap_or_default(),
                    );
                }
                // Most children end before they can be looked at.
                Err(error) => debug!("child {pid} is not followed: {error}"),
            }
        }
    }

    /// The process runs another program now: the probes went with the old one. What was watched is closed, and
    /// the new program is watched as a process of its own.
    async fn process_executed(
        &mut self,
        kernel: &mut Kernel,
        incarnation: u32,
        sink: &mut Sink<'_>,
    ) -> anyhow::Result<()> {
        let Some(pid) = self.process_ended(kernel, incarnation, sink)? else { return Ok(()) };
        if self.closing {
            return Ok(());
        }
        let attached = match Process::open(pid) {
            Ok(process) => self.attach(kernel, process, &[]).await,
            Err(error) => Err(error.into()),
        };
        match attached {
            Ok(()) => info!(pid, "the process executed another program, which is watched now"),
            Err(error) => warn!("pid {pid} executed another program, which is not watched: {error}"),
        }
        Ok(())
    }

    /// The last look at a process that is gone; its pid, if it was still open.
    fn process_ended(
        &mut self,
        kernel: &mut Kernel,
        incarnation: u32,
        sink: &mut Sink<'_>,
    ) -> anyhow::Result<Option<u32>> {
        let now_ns = clock::monotonic_ns();
        let Some(watch) = self
            .watches
            .iter_mut()
            .find(|watch| watch.session.incarnation() == incarnation && !watch.info.exited)
        else {
            return Ok(None);
        };
        let looks = Looks { ages: true, ..Looks::default() };
        for sample in sample_all(&*kernel, [&mut watch.session], looks, now_ns)?.into_iter().flatten() {
            watch.apply(sample, self.options.looks, sink)?;
        }
        watch.info.runtimes = process::runtimes(&watch.session);
        watch.info.exited = true;
        watch.proofs = None;
        watch.session.close(kernel)?;
        Ok(Some(watch.info.pid))
    }

    /// One look at everything, and the report of it.
    fn look(&mut self, kernel: &Kernel, last: bool, sink: &mut Sink<'_>) -> anyhow::Result<Report> {
        let begun_ns = clock::monotonic_ns();
        let census = last || self.census.due(begun_ns);
        let ages = last || self.ages.due(begun_ns);
        let looks = Looks { ages, census, stacks: census && self.options.stacks, most_bytes: None };
        let sessions = self.watches.iter_mut().map(|watch| &mut watch.session);
        let samples = sample_all(kernel, sessions, looks, begun_ns)?;
        for (watch, sample) in self.watches.iter_mut().zip(samples) {
            if let Some(sample) = sample {
                watch.apply(sample, self.options.looks, sink)?;
                watch.info.runtimes = process::runtimes(&watch.session);
            }
        }
        if census && self.options.states {
            self.tell_states(sink)?;
        }
        let now_ns = clock::monotonic_ns();
        let moved = self.watches.iter().map(|watch| moved(watch.model.counters())).sum();
        for (pace, looked) in [(&mut self.census, census), (&mut self.ages, ages)] {
            pace.passed(moved, looked.then_some((begun_ns, now_ns)));
        }
        let report = self.report(now_ns, last, sink)?;
        if !last {
            self.prove_suspects(&report);
        }
        Ok(report)
    }

    fn tell_states(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        for watch in self.watches.iter_mut().filter(|watch| !watch.info.exited) {
            let now_ns = clock::monotonic_ns();
            let mut tasks = Vec::new();
            // A process that ends meanwhile has no states any more.
            let read =
                watch.session.for_each_task(|task, state| tasks.push((task.clone(), state.to_owned())));
            if let Err(error) = read {
                debug!("pid {}: {error}", watch.info.pid);
            }
            for (task, state) in &tasks {
                sink(Update::State(now_ns, task, state, watch))?;
            }
        }
        Ok(())
    }

    fn report(&mut self, now_ns: u64, last: bool, sink: &mut Sink<'_>) -> io::Result<Report> {
        let hits = self.watches.iter().map(|watch| watch.model.counters().get(Counter::ProbeHits)).sum();
        let context = Context {
            host: self.host.clone(),
            started: self.started.wall,
            duration_s: crate::model::seconds(now_ns.saturating_sub(self.started.monotonic_ns)),
            cpu_percent_of_one_core: self.meter.percent_of_one_core(hits),
            budget_percent: self.options.budget_percent,
            environment: Some(self.environment.clone()),
            rates: self.options.rates,
        };
        if self.options.looks {
            let infos: Vec<_> =
                self.watches.iter().map(|watch| (watch.session.incarnation(), &watch.info)).collect();
            sink(Update::Reporting { context: &context, infos: &infos, last })?;
        }
        let mut parts: Vec<_> = self
            .watches
            .iter_mut()
            .map(|watch| (&watch.info, &watch.model, ImageNames::new(watch.session.names())))
            .collect();
        let inputs = parts.iter_mut().map(|(info, model, names)| ProcessInput { info, model, names });
        Ok(report::assemble(&context, inputs, &self.detector))
    }

    /// Takes the probes off a process whose cost was over the budget for three looks in a row.
    fn keep_budget(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        const IN_A_ROW: u32 = 3;
        let interval_ns = process::nanoseconds(self.options.interval);
        for watch in &mut self.watches {
            let hits = watch.model.counters().get(Counter::ProbeHits);
            let added = self.meter.added_percent(hits.saturating_sub(watch.hits), interval_ns);
            watch.hits = hits;
            let (Some(budget), Some(added)) = (self.options.budget_percent, added) else { continue };
            watch.over_budget = if added > budget { watch.over_budget + 1 } else { 0 };
            if watch.over_budget == IN_A_ROW {
                let why = format!(
                    "the probes added {added:.1} % of a core to the process, over the budget of {budget} %: they were \
                     taken off, and figures since then are sampled from memory"
                );
                warn!("pid {}: {why}", watch.info.pid);
                watch.session.take_probes_off(kernel, &why)?;
            }
        }
        Ok(())
    }

    /// A suspicion is no verdict, and a proof settles it: begins one of each process with goroutines that are suspected, unless
    /// it is so large that the proof would be felt.
    fn prove_suspects(&mut self, report: &Report) {
        const LARGEST: u64 = 1 << 30;
        let Some(pace) = self.options.prove_suspects else { return };
        let suspected = report.processes.iter().filter(|process| {
            let small = process.memory.rss_bytes.is_some_and(|bytes| bytes <= LARGEST);
            let go = RuntimeKind::Go.name();
            small && process.sites.iter().any(|site| site.runtime == go && site.verdict == Verdict::Suspect)
        });
        for process in suspected {
            let same = |watch: &&mut Watch| watch.info.pid == process.pid && !watch.info.exited;
            if let Some(watch) = self.watches.iter_mut().find(same).filter(|watch| watch.proofs.is_none()) {
                watch.proofs = Proofs::begin(&watch.session, pace);
            }
        }
    }

    /// Has all proofs come to an end, and waits for it. `in_full`: those of which there is no first one yet come to theirs,
    /// unless the user does not want to wait.
    async fn finish_proofs(&self, in_full: bool, interrupt: &mut Signal) {
        const LOOK: Duration = Duration::from_millis(10);
        let proofs = || self.watches.iter().filter_map(|watch| watch.proofs.as_ref());
        // Nobody waits for a proof that was not asked for.
        proofs().for_each(|proofs| proofs.finish(in_full && self.options.prove.is_some()));
        while !proofs().all(Proofs::finished) {
            tokio::select! {
                _ = interrupt.recv() => proofs().for_each(|proofs| proofs.finish(false)),
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Has the kernel's tables hold what is alive only.
    fn make_room(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        self.watches.iter_mut().try_for_each(|watch| watch.session.make_room(kernel))
    }

    fn close_all(&mut self, kernel: &mut Kernel) {
        for watch in &mut self.watches {
            if let Err(error) = watch.session.close(kernel) {
                warn!("pid {}: {error}", watch.info.pid);
            }
        }
    }
}

/// A figure that changes with every start and end of a task or thread.
fn moved(counters: &Counters) -> u64 {
    [Counter::Started, Counter::Ended, Counter::ThreadsStarted, Counter::ThreadsEnded]
        .into_iter()
        .fold(0, |sum, counter| sum.wrapping_add(counters.get(counter)))
}
