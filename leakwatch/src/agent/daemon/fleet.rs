//! All processes that the agent watches, and what it decides about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use leakwatch_common::Counter;
use tracing::{debug, info, warn};

use super::{
    Parts,
    discovery::Reason,
    ends::Ends,
    figures::{ErrorKind, Errors, Feature, Figures, WatchedFigures},
    options::Options,
    proofs::Proofs,
    quiet::Quiet,
    tiers::{Step, Tier},
    watched::{Watched, Watches, share_of_each},
};
use crate::{
    agent::{clock, environment, process},
    collect::{Ask, CollectError, Found, Session},
    detect::Detector,
    export::metrics::Totals,
    host::{
        self, Root,
        own::{self, Own},
    },
    images::BinaryFigures,
    kernel::Kernel,
    model::{Span, float, seconds},
    observe::{Event, StackCopy},
    report::{Context, Environment, ProcessInfo, Report, Timestamp, WallClock, alerting::Alerting},
};

/// Time that looks may take in one turn before the others have to wait for the next, ns.
const SLICE_NS: u64 = 100_000_000;

/// A process that was just found is looked at this soon again: what begins at its start is seen early.
const SOONEST_NS: u64 = 2_000_000_000;

/// A process is looked at when it is so many times as old as at the look before, up to the interval.
const OLDER: u64 = 3;

/// A program without a runtime is watched when it has lived for so long: most that live shorter are a shell's commands, and
/// their parent counts them.
const THREADS_OF_AGE: Duration = Duration::from_secs(1);

/// Turns over the budget of the host in a row after which probes are taken off.
const OVER_IN_A_ROW: u32 = 3;

/// The processes, the kernel side, and the figures.
pub(super) struct Fleet {
    kernel: Option<Kernel>,
    hit_ns: Option<f64>,
    features: Vec<Feature>,
    options: Options,
    detector: Detector,
    watches: Watches,
    /// Counted, and not looked at yet; by pid.
    fresh: BTreeMap<u32, Box<Fresh>>,
    /// Some came or went since the last report.
    came_or_went: bool,
    /// Numbers of watchings, to pids.
    numbers: BTreeMap<u64, u32>,
    /// What the kernel side calls them, to pids.
    incarnations: BTreeMap<u32, u32>,
    /// Without a runtime, and too young to be watched; by pid.
    young: BTreeMap<u32, Found>,
    /// Wanted ones that there was no room for.
    turned_away: BTreeSet<u32>,
    ends: Ends,
    next_number: u64,
    started: WallClock,
    /// When the machine was booted, if somebody asked since the wall clock was stepped.
    booted: Option<Timestamp>,
    host: String,
    root: Arc<Root>,
    environment: Environment,
    attached: u64,
    left_out: BTreeMap<Reason, u64>,
    binaries: BinaryFigures,
    /// What only grows, over processes that are gone, too.
    totals: Totals,
    hits_of_gone: u64,
    lost_execs: u64,
    errors: Errors,
    quiet: Quiet,
    promoted: u64,
    thinned: u64,
    demoted: u64,
    turn_ns: u64,
    /// When the last round was.
    round_ns: Option<u64>,
    alerting: Alerting,
    usage: Usage,
    proofs: Proofs,
}

/// A process that was just attached.
struct Fresh {
    number: u64,
    session: Session,
    since: Timestamp,
}

/// What watching took, from turn to turn.
#[derive(Debug, Default)]
struct Usage {
    /// When, our processor time then, and probe hits then.
    last: Option<(u64, u64, u64)>,
    /// Percent of the machine since the turn before.
    host_percent: Option<f64>,
    over: u32,
}

impl Fleet {
    pub(super) fn new(parts: Parts, ends: Ends) -> Self {
        let Parts { kernel, hit_ns, features, options, host, root, reading } = parts;
        Self {
            kernel,
            hit_ns,
            features,
            options,
            detector: Detector::default(),
            watches: Watches::new(),
            fresh: BTreeMap::new(),
            came_or_went: false,
            numbers: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            young: BTreeMap::new(),
            turned_away: BTreeSet::new(),
            ends,
            next_number: 0,
            started: WallClock { wall: clock::now(), monotonic_ns: clock::monotonic_ns() },
            booted: None,
            host,
            root,
            environment: environment(),
            attached: 0,
            left_out: BTreeMap::new(),
            binaries: BinaryFigures::default(),
            totals: Totals::default(),
            hits_of_gone: 0,
            lost_execs: 0,
            errors: Errors::default(),
            quiet: Quiet::default(),
            promoted: 0,
            thinned: 0,
            demoted: 0,
            turn_ns: 0,
            round_ns: None,
            alerting: Alerting::default(),
            usage: Usage::default(),
            proofs: Proofs::new(reading),
        }
    }

    /// Something failed.
    pub(super) fn note(&mut self, kind: ErrorKind) {
        self.errors.add(kind);
    }

    /// Something failed, and is to be read in the log, now and then.
    fn complain(&mut self, kind: ErrorKind, what: &dyn std::fmt::Display) {
        self.errors.add(kind);
        match self.quiet.may_say(kind, clock::monotonic_ns()) {
            Some(0) => warn!(kind = kind.name(), "{what}"),
            Some(kept) => warn!(kind = kind.name(), kept_quiet = kept, "{what}"),
            None => debug!(kind = kind.name(), "{what}"),
        }
    }

    /// A look through all processes is over.
    pub(super) fn scanned(&mut self, left_out: BTreeMap<Reason, u64>, binaries: BinaryFigures) {
        self.left_out = left_out;
        self.binaries = binaries;
        // Nobody waits for the end of what is not watched.
        self.turned_away.retain(|&pid| host::identity(pid).is_some());
    }

    /// Those that there was no room for, as many of them as there is room for now.
    pub(super) fn with_room(&mut self) -> Vec<u32> {
        let room = self.options.discover.most_processes.saturating_sub(self.watched());
        std::iter::from_fn(|| self.turned_away.pop_first()).take(room).collect()
    }

    /// How many processes are watched, those that were not looked at yet among them.
    fn watched(&self) -> usize {
        self.watches.len() + self.fresh.len()
    }

    /// Watches a process that was found. Whatever was watched under its pid is another process or program by now.
    pub(super) async fn attach(&mut self, found: Found) {
        let pid = found.process.pid();
        self.forget(pid);
        self.young.remove(&pid);
        self.turned_away.remove(&pid);
        let watched = self.watched();
        if watched >= self.options.discover.most_processes {
            self.turned_away.insert(pid);
            self.complain(
                ErrorKind::Attach,
                &format_args!(
                    "pid {pid} is not watched: {watched} processes are, as many as [discover] max_processes allows"
                ),
            );
            return;
        }
        let threads_only = found.runtimes().is_empty();
        let attached = match self.kernel.as_mut() {
            Some(_) if threads_only && age(&found) < THREADS_OF_AGE => {
                self.young.insert(pid, found);
                return;
            }
            Some(kernel) if threads_only => Session::attach_found(kernel, found, &Ask::default()).await,
            // Nobody would count its threads.
            None if threads_only => return,
            kernel => Session::look_on(kernel, found),
        };
        match attached {
            Ok(session) => self.begin(session, threads_only),
            // It ended meanwhile, as most new processes do.
            Err(error) if is_end(&error) => debug!("pid {pid}: {error}"),
            Err(error) => {
                self.complain(ErrorKind::Attach, &format_args!("pid {pid} is not watched: {error}"));
            }
        }
    }

    /// From now on its end is awaited, and it is looked at: `at_once` if it has events to be taken, else with the other new ones.
    fn begin(&mut self, session: Session, at_once: bool) {
        let pid = session.process().pid();
        let number = self.next_number;
        self.next_number += 1;
        if let Err(error) = self.ends.tell(session.process(), number) {
            self.complain(
                ErrorKind::Attach,
                &format_args!("the end of pid {pid} cannot be awaited: {error}"),
            );
        }
        if session.incarnation() != 0 {
            self.incarnations.insert(session.incarnation(), pid);
        }
        self.numbers.insert(number, pid);
        self.attached += 1;
        self.came_or_went = true;
        debug!(pid, comm = session.process().comm(), "watched");
        let fresh = Fresh { number, session, since: clock::now() };
        if at_once {
            self.look_first(pid, fresh);
        } else {
            self.fresh.insert(pid, Box::new(fresh));
        }
    }

    /// Looks at those that were attached since the last time, in one go: what is done once for each of them right when it begins
    /// takes twice as long, for the machine has forgotten how by then. Some may be left, where there are many.
    pub(super) fn look_at_new(&mut self) {
        let begun_ns = clock::monotonic_ns();
        while clock::monotonic_ns().saturating_sub(begun_ns) <= SLICE_NS
            && let Some((pid, fresh)) = self.fresh.pop_first()
        {
            self.look_first(pid, *fresh);
        }
    }

    /// Some were not looked at yet.
    pub(super) fn has_new(&self) -> bool {
        !self.fresh.is_empty()
    }

    fn look_first(&mut self, pid: u32, Fresh { number, session, since }: Fresh) {
        self.booted = self.booted.or_else(|| host::boot_time().ok());
        let labels = &self.options.discover.labels;
        let info = process::info(session.process(), self.booted, &self.root, labels);
        let info = ProcessInfo { watched_since: Some(since), ..info };
        let mut watched = Box::new(Watched::new(number, session, info));
        if let Err(error) = watched.look(self.kernel.as_ref(), &self.options, &self.detector) {
            // Who it is can be said all the same.
            watched.tell(&self.detector, &self.options.redact);
            self.complain(ErrorKind::Kernel, &error);
        }
        watched.due_ns = clock::monotonic_ns().saturating_add(SOONEST_NS);
        self.watches.insert(pid, watched);
    }

    /// Forgets those that have ended since the last time.
    pub(super) fn forget_ended(&mut self) {
        match self.ends.take() {
            Ok(numbers) => {
                for number in numbers {
                    if let Some(&pid) = self.numbers.get(&number) {
                        self.forget(pid);
                    }
                }
            }
            Err(error) => {
                self.complain(ErrorKind::Kernel, &format_args!("ends of processes cannot be read: {error}"));
            }
        }
    }

    /// It runs another program now: what was known of it is of the old one. Discovery tells of the new one.
    pub(super) fn executed(&mut self, incarnation: u32) {
        if let Some(&pid) = self.incarnations.get(&incarnation) {
            self.forget(pid);
        }
    }

    /// Forgets a process, at once and wholly; what was lost of it stays counted.
    fn forget(&mut self, pid: u32) {
        if let Some(fresh) = self.fresh.remove(&pid) {
            self.forget_session(pid, fresh.number, fresh.session);
        }
        if let Some(watched) = self.watches.remove(&pid) {
            self.proofs.forget(&watched);
            self.hits_of_gone = self.hits_of_gone.saturating_add(watched.probe_hits());
            self.forget_session(pid, watched.number, watched.session);
        }
    }

    fn forget_session(&mut self, pid: u32, number: u64, mut session: Session) {
        self.came_or_went = true;
        self.numbers.remove(&number);
        self.incarnations.remove(&session.incarnation());
        if let Some(kernel) = self.kernel.as_mut()
            && let Err(error) = session.close(kernel)
        {
            self.complain(ErrorKind::Kernel, &format_args!("pid {pid}: {error}"));
        }
        debug!(pid, "forgotten");
    }

    /// A thread or child of a process began or ended.
    pub(super) fn take_event(&mut self, event: &Event) {
        let watched = self.incarnations.get(&event.process).and_then(|pid| self.watches.get_mut(pid));
        if let Some(watched) = watched {
            watched.session.take_event(event);
        }
    }

    /// Where something of a process was made.
    pub(super) fn take_stack(&mut self, stack: &StackCopy) {
        let Some(pid) = self.incarnations.get(&stack.event.process) else { return };
        let (Some(watched), Some(kernel)) = (self.watches.get_mut(pid), self.kernel.as_mut()) else { return };
        if let Err(error) = watched.session.take_stack(kernel, stack) {
            self.complain(ErrorKind::Kernel, &error);
        }
    }

    /// News of execs was lost since the last time: there may be processes that nobody told of.
    pub(super) fn lost_execs(&mut self) -> bool {
        let Some(kernel) = &self.kernel else { return false };
        match kernel.counters_of_nobody() {
            Ok(counters) => {
                let lost = counters.get(Counter::RingFull);
                std::mem::replace(&mut self.lost_execs, lost) != lost
            }
            Err(error) => {
                self.complain(ErrorKind::Kernel, &error);
                true
            }
        }
    }

    /// Execs are told of together, and whoever calls this asks for them in time; or each at once. Whether they are told of together now.
    pub(super) fn gather_execs(&mut self, together: bool) -> bool {
        let Some(kernel) = self.kernel.as_mut() else { return false };
        let told = kernel.announce_execs(together);
        if let Err(error) = &told {
            self.complain(ErrorKind::Kernel, error);
        }
        together && told.is_ok()
    }

    /// Other options from now on. Which processes they do not want discovery tells; the rest keep their figures.
    pub(super) fn reload(&mut self, options: Options) {
        let renamed = options.redact != self.options.redact;
        self.options = options;
        if renamed {
            for watched in self.watches.values_mut() {
                watched.tell(&self.detector, &self.options.redact);
            }
            self.alerting = Alerting::default();
        }
    }

    /// The configuration does not want it any more.
    pub(super) fn unwanted(&mut self, pid: u32) {
        self.young.remove(&pid);
        self.turned_away.remove(&pid);
        self.forget(pid);
    }

    /// One turn: looks at who is due, keeps the budgets, and moves processes between the tiers.
    pub(super) async fn turn(&mut self) {
        let begun_ns = clock::monotonic_ns();
        let grown = self.young.extract_if(.., |_, found| age(found) >= THREADS_OF_AGE);
        for (_, found) in grown.collect::<Vec<_>>() {
            self.attach(found).await;
        }
        self.look_at_new();
        self.proofs.turn(&mut self.watches, &self.numbers, &self.options);
        let steps = self.look_at_due(begun_ns);
        let steps = steps.into_iter().chain(self.keep_process_budgets());
        for (pid, step) in steps.chain(self.keep_host_budget()) {
            match step {
                Step::Stay => {}
                Step::Promote(reason) => self.promote(pid, &reason).await,
                Step::Thin(reason) => {
                    info!(pid, reason, "probes are thinned");
                    self.thinned += 1;
                    self.pause(pid, &reason);
                }
                Step::Pause(reason) => self.pause(pid, &reason),
                Step::Resume => self.resume(pid).await,
                Step::Demote(reason) => self.demote(pid, &reason),
            }
        }
        self.make_room();
        self.turn_ns = clock::monotonic_ns().saturating_sub(begun_ns);
    }

    fn look_at_due(&mut self, begun_ns: u64) -> Vec<(u32, Step)> {
        let mut due: Vec<(u64, u32)> = self
            .watches
            .iter()
            .filter(|(_, watched)| watched.due_ns <= begun_ns)
            .map(|(&pid, watched)| (watched.due_ns, pid))
            .collect();
        due.sort_unstable();
        let interval_ns = process::nanoseconds(self.options.sampling.interval);
        let took = self.watches.values().map(|watched| watched.took_ns).collect();
        let share = share_of_each(took, interval_ns, self.options.sampling.cpu_percent);
        let mut steps = Vec::new();
        for (_, pid) in due {
            let now_ns = clock::monotonic_ns();
            if now_ns.saturating_sub(begun_ns) > SLICE_NS {
                break;
            }
            let Some(watched) = self.watches.get_mut(&pid) else { continue };
            let took_ns = match watched.look(self.kernel.as_ref(), &self.options, &self.detector) {
                Ok(took_ns) => took_ns,
                Err(error) => {
                    self.complain(ErrorKind::Kernel, &format_args!("pid {pid}: {error}"));
                    continue;
                }
            };
            let age_ns = now_ns.saturating_sub(watched.attach().time_ns);
            watched.schedule(
                took_ns,
                interval_ns.min(age_ns.saturating_mul(OLDER - 1).max(SOONEST_NS)),
                share,
            );
            steps.push((pid, watched.course.judge(&watched.report, now_ns, &self.options.promote)));
        }
        steps
    }

    /// Measures what probes add to each process that has some, and turns thinned ones on and off.
    fn keep_process_budgets(&mut self) -> Vec<(u32, Step)> {
        let Some(kernel) = &self.kernel else { return Vec::new() };
        let mut steps = Vec::new();
        let mut failed = None;
        let (now_ns, budget) = (clock::monotonic_ns(), &self.options.budget);
        for (&pid, watched) in self.watches.iter_mut().filter(|(_, w)| w.course.tier() != Tier::Memory) {
            steps.push((pid, watched.course.turn(now_ns, budget)));
            match watched.measure(kernel, self.hit_ns) {
                Ok(Some(added)) => steps.push((pid, watched.course.measured(added, now_ns, budget))),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            self.complain(ErrorKind::Kernel, &error);
        }
        steps
    }

    /// Measures what all of it takes; what is to be done with the most expensive probes when that is too much.
    fn keep_host_budget(&mut self) -> Option<(u32, Step)> {
        let hits = self.probe_hits();
        let budget = self.options.budget.host_percent;
        let own_ns = clock::own_cpu_ns().saturating_sub(self.proofs.owed_ns());
        if !self.usage.measure(own_ns, hits, self.hit_ns, budget) {
            return None;
        }
        let percent = self.usage.host_percent.unwrap_or_default();
        let probed = self.watches.iter_mut().filter(|(_, watched)| watched.course.is_probed());
        let dearest = probed.max_by(|(_, a), (_, b)| {
            a.added_percent.unwrap_or(0.0).total_cmp(&b.added_percent.unwrap_or(0.0))
        });
        let Some((&pid, watched)) = dearest else {
            debug!(
                "watching took {percent:.2} % of the machine, over the budget of {budget} %, without any probe"
            );
            return None;
        };
        let why = format!(
            "watching took {percent:.2} % of the machine, over the budget of {budget} %, and these were the most expensive \
             probes"
        );
        Some((pid, watched.course.dearest(&why, clock::monotonic_ns(), &self.options.budget)))
    }

    /// Places probes, if there is room for more.
    async fn promote(&mut self, pid: u32, reason: &str) {
        let probed = self.watches.values().filter(|watched| watched.course.tier() != Tier::Memory).count();
        // Without a price nobody could keep a budget.
        if probed >= self.options.promote.at_once || self.hit_ns.is_none() {
            return;
        }
        if self.place(pid).await {
            info!(pid, reason, "probes are placed");
            self.promoted += 1;
        }
    }

    /// Thinned probes are placed again.
    async fn resume(&mut self, pid: u32) {
        if self.place(pid).await {
            debug!(pid, "probes are placed again");
        }
    }

    /// Places probes; `false`: there are none, and the process is left alone for a while.
    async fn place(&mut self, pid: u32) -> bool {
        let (Some(kernel), Some(watched)) = (self.kernel.as_mut(), self.watches.get_mut(&pid)) else {
            return false;
        };
        let now_ns = clock::monotonic_ns();
        match watched.session.put_probes_on(kernel).await {
            Ok(true) => {
                watched.begin_probes(kernel, now_ns);
                return true;
            }
            Ok(false) => watched.course.demoted(now_ns, &self.options.promote),
            Err(error) => {
                watched.course.demoted(now_ns, &self.options.promote);
                if !is_end(&error) {
                    self.complain(ErrorKind::Probes, &format_args!("pid {pid} gets no probes: {error}"));
                }
            }
        }
        false
    }

    /// Takes thinned probes off for a while.
    fn pause(&mut self, pid: u32, reason: &str) {
        let (Some(kernel), Some(watched)) = (self.kernel.as_mut(), self.watches.get_mut(&pid)) else {
            return;
        };
        if watched.course.tier() != Tier::Thinned {
            return;
        }
        // Memory is looked at before probes come again: what they counted is taken over by that.
        watched.due_ns = 0;
        if let Err(error) = watched.pause_probes(kernel, reason) {
            self.complain(ErrorKind::Probes, &format_args!("pid {pid}: {error}"));
        }
    }

    /// Takes the probes off.
    fn demote(&mut self, pid: u32, reason: &str) {
        let (Some(kernel), Some(watched)) = (self.kernel.as_mut(), self.watches.get_mut(&pid)) else {
            return;
        };
        if watched.course.tier() == Tier::Memory {
            return;
        }
        info!(pid, reason, "probes are taken off");
        let taken = watched.end_probes(kernel, reason, &self.options.promote);
        self.demoted += 1;
        if let Err(error) = taken {
            self.complain(ErrorKind::Probes, &format_args!("pid {pid}: {error}"));
        }
    }

    fn make_room(&mut self) {
        let Some(kernel) = self.kernel.as_mut() else { return };
        let mut failed = None;
        for watched in self.watches.values_mut() {
            failed = watched.session.make_room(kernel).err().or(failed);
        }
        if let Some(error) = failed {
            self.complain(ErrorKind::Kernel, &error);
        }
    }

    /// Hits of the probes of all processes so far, of those that are gone, too.
    fn probe_hits(&self) -> u64 {
        let hits = self.watches.values().map(|watched| watched.probe_hits());
        hits.fold(self.hits_of_gone, u64::saturating_add)
    }

    /// It is time for another round of whoever looks at reports.
    pub(super) fn round_is_due(&mut self) -> bool {
        let now_ns = clock::monotonic_ns();
        let interval_ns = process::nanoseconds(self.options.sampling.interval);
        let due = self.round_ns.is_none_or(|then_ns| now_ns.saturating_sub(then_ns) >= interval_ns);
        if due {
            self.round_ns = Some(now_ns);
        }
        due
    }

    /// What was said of alerts in this report is said until the next round.
    pub(super) fn keep_alerting(&mut self, report: &Report) {
        self.alerting.clone_from(&report.alerting);
    }

    /// Processes came or went since the last report.
    pub(super) const fn came_or_went(&self) -> bool {
        self.came_or_went
    }

    /// What is to be published now.
    pub(super) fn report(&mut self) -> (Report, Figures) {
        self.came_or_went = false;
        let now_ns = clock::monotonic_ns();
        if self.started.follow(clock::now(), now_ns) {
            self.booted = None;
        }
        // Of a process whose first look is not over, nothing is known.
        let seen = || self.watches.iter().filter(|(_, watched)| !watched.session.is_unseen());
        let processes: Vec<_> = seen().map(|(_, watched)| Arc::clone(&watched.report)).collect();
        let unseen = (self.watched() - processes.len()) as u64;
        self.totals.add(&processes);
        let hits = self.probe_hits();
        let context = Context {
            host: self.host.clone(),
            environment: Some(self.environment.clone()),
            started: self.started.wall,
            duration_s: seconds(now_ns.saturating_sub(self.started.monotonic_ns)),
            cpu_percent_of_one_core: self
                .usage
                .host_percent
                .map(|percent| percent * f64::from(own::processors())),
            budget_percent: Some(self.options.budget.host_percent * f64::from(own::processors())),
            rates: Span::Watch,
        };
        let watched = seen().map(|(_, watched)| WatchedFigures {
            process: watched.session.process().id(),
            tier: watched.course.tier(),
            probe_hits: watched.probe_hits(),
            added_percent: watched.added_percent,
            looks: watched.looks,
        });
        let mut left_out = self.left_out.clone();
        if unseen > 0 {
            left_out.insert(Reason::FirstLook, unseen);
        }
        if !self.turned_away.is_empty() {
            left_out.insert(Reason::NoRoom, self.turned_away.len() as u64);
        }
        let figures = Figures {
            started: self.started.wall,
            cpu_s: seconds(clock::own_cpu_ns()),
            own: Own::read(),
            watched: watched.collect(),
            attached: self.attached,
            left_out,
            probes: self.watches.values().map(|watched| watched.session.probes() as u64).sum(),
            binaries: self.binaries,
            totals: self.totals.clone(),
            lost_execs: self.lost_execs,
            errors: self.errors,
            features: self.features.clone(),
            hit_ns: self.hit_ns,
            host_percent: self.usage.host_percent,
            promoted: self.promoted,
            thinned: self.thinned,
            demoted: self.demoted,
            proofs: self.proofs.totals(),
            turn_s: seconds(self.turn_ns),
            exports: Vec::new(),
        };
        let report = Report { alerting: self.alerting.clone(), ..Report::of(&context, processes, hits) };
        (report, figures)
    }

    /// Takes everything off.
    pub(super) fn close(mut self) {
        let pids: Vec<u32> = self.watches.keys().chain(self.fresh.keys()).copied().collect();
        for pid in pids {
            self.forget(pid);
        }
    }
}

impl Usage {
    /// A turn is over; `own_ns` is our own processor time that counts by now. `true`: the budget was exceeded for some turns in a row.
    fn measure(&mut self, own_ns: u64, hits: u64, hit_ns: Option<f64>, budget_percent: f64) -> bool {
        let now_ns = clock::monotonic_ns();
        if let Some((then_ns, own_then_ns, hits_then)) = self.last.replace((now_ns, own_ns, hits)) {
            let machine_ns = float(now_ns.saturating_sub(then_ns)) * f64::from(own::processors());
            let probes_ns = float(hits.saturating_sub(hits_then)) * hit_ns.unwrap_or(0.0);
            let spent_ns = float(own_ns.saturating_sub(own_then_ns)) + probes_ns;
            self.host_percent = (machine_ns > 0.0).then(|| spent_ns * 100.0 / machine_ns);
        }
        let over = self.host_percent.is_some_and(|percent| percent > budget_percent);
        self.over = if over { self.over + 1 } else { 0 };
        if self.over < OVER_IN_A_ROW {
            return false;
        }
        self.over = 0;
        true
    }
}

/// How long ago a process was started.
fn age(found: &Found) -> Duration {
    let started = Duration::try_from(found.process.started_after_boot()).unwrap_or_default();
    clock::since_boot().saturating_sub(started)
}

/// The process ended before it could be watched.
fn is_end(error: &CollectError) -> bool {
    use crate::{host::HostError, images::ImageError};
    matches!(
        error,
        CollectError::Host(
            HostError::Ended { .. } | HostError::NoSuchProcess { .. } | HostError::Zombie { .. }
        ) | CollectError::Image(ImageError::Host(HostError::Ended { .. }))
    )
}
