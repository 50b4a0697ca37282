//! One watched process: totals, recent course, sites.

use std::collections::{BTreeSet, VecDeque};

use leakwatch_common::{Counter, RuntimeKind};
use rustc_hash::FxHashMap;

use super::loss::{CENSUS_UNREADABLE, SITES_OVER_LIMIT};
use super::site::{Classify, Figures, Point, SiteClass, SiteProof, SiteState, SiteView, growth_per_min};
use super::{Limits, Loss, Losses, Span, per_second, seconds};
use crate::observe::{
    Census, ChildrenSample, Counters, Followed, LiveByState, NO_WAKER, ProcessId, ProcessSample, ProofSample,
    SiteId, SiteSample, ThreadNames, Waiting,
};

/// Facts of a process when the watch of it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Which process.
    pub process: ProcessId,
    /// When counting began: `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// What the totals are of.
    pub tasks: TasksAre,
}

/// What a process's tasks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TasksAre {
    /// What its runtimes call tasks (`RuntimeKind::is_task`). Threads and other sites are beside the totals.
    #[default]
    OfRuntimes,
    /// Its threads: it has no runtime that makes anything else.
    Threads,
}

/// A process at one moment of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Seconds since attach.
    pub at_s: f64,
    /// The program's tasks alive, the runtime's own not among them.
    pub live: u64,
    /// The program's tasks started since attach.
    pub started: u64,
    /// The program's tasks ended since attach.
    pub ended: u64,
    /// Threads alive.
    pub threads_live: Option<u64>,
    /// Resident set, bytes.
    pub rss_bytes: Option<u64>,
}

/// The program's own tasks: what `runtime.NumGoroutine()` or tokio's `num_alive_tasks()` counts. System tasks are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskTotals {
    /// Alive.
    pub live: u64,
    /// Alive at attach.
    pub live_at_attach: u64,
    /// Started since attach.
    pub started: u64,
    /// Ended since attach.
    pub ended: u64,
    /// The runtime's own tasks alive.
    pub system_live: u64,
    /// Live tasks by probes minus live tasks by memory, at the last census that could tell.
    pub drift: Option<i64>,
}

/// Threads and forks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadTotals {
    /// Threads alive; `None`: not known.
    pub live: Option<u64>,
    /// Threads started since attach.
    pub started: u64,
    /// Threads ended since attach.
    pub ended: u64,
    /// Child processes forked since attach.
    pub forks: u64,
}

/// Tasks of sites that there was no room for. They are in the totals, and in no site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Sites.
    pub sites: u64,
    /// Tasks alive.
    pub live: u64,
    /// Tasks alive at attach.
    pub live_at_attach: u64,
    /// Tasks started.
    pub started: u64,
    /// Tasks ended.
    pub ended: u64,
}

/// A watched process.
#[derive(Debug)]
pub struct ProcessModel {
    attach: Attach,
    limits: Limits,
    sites: Vec<SiteState>,
    /// Every address of a site, to its place in `sites`.
    index: FxHashMap<SiteId, usize>,
    overflow: Overflow,
    /// Number of the last sample; 0 before the first.
    epoch: u64,
    /// `CLOCK_MONOTONIC` of the last sample.
    last_ns: u64,
    /// Time between the last two samples.
    interval_ns: u64,
    counters: Counters,
    counters_before: Counters,
    totals_before: TaskTotals,
    totals: TaskTotals,
    moments: VecDeque<Moment>,
    /// Times of the last `limits.site_samples` moments, which the sites' series are aligned with.
    times: VecDeque<f64>,
    by_state: Option<LiveByState>,
    stack_bytes: Option<u64>,
    /// Bytes of task stacks at the last censuses.
    stacks: VecDeque<Point>,
    census_unreadable: u64,
    thread_names: ThreadNames,
    children: ChildrenSample,
    proof: Option<ProofSample>,
}

impl ProcessModel {
    /// A process of which nothing is known yet.
    pub fn new(attach: Attach, limits: Limits) -> Self {
        Self {
            attach,
            limits: Limits { site_samples: limits.site_samples.clamp(1, limits.moments.max(1)), ..limits },
            sites: Vec::new(),
            index: FxHashMap::default(),
            overflow: Overflow::default(),
            epoch: 0,
            last_ns: attach.time_ns,
            interval_ns: 0,
            counters: Counters::default(),
            counters_before: Counters::default(),
            totals_before: TaskTotals::default(),
            totals: TaskTotals::default(),
            moments: VecDeque::new(),
            times: VecDeque::new(),
            by_state: None,
            stack_bytes: None,
            stacks: VecDeque::new(),
            census_unreadable: 0,
            thread_names: ThreadNames::default(),
            children: ChildrenSample::default(),
            proof: None,
        }
    }

    /// Takes the next sample. `classify` is asked for every site not met before.
    ///
    /// A sample that is not later than the last one replaces its figures, and time stands still.
    pub fn apply(&mut self, sample: &ProcessSample, classify: &mut dyn Classify) {
        let advance = self.epoch == 0 || sample.time_ns > self.last_ns;
        let first = self.epoch == 0;
        self.epoch += 1;
        if advance {
            self.interval_ns = sample.time_ns.saturating_sub(self.last_ns);
            self.last_ns = self.last_ns.max(sample.time_ns);
            self.counters_before = self.counters;
            self.totals_before = self.totals;
        }
        self.counters = sample.counters;
        self.children.clone_from(&sample.children);
        if let Some(names) = &sample.thread_names {
            self.thread_names.clone_from(names);
        }
        if let Some(census) = &sample.census {
            self.take_census(census, classify);
        }
        self.take_sites(&sample.sites, advance, classify);
        if let Some(proof) = &sample.proof {
            self.proof = Some(proof.clone());
        }
        self.take_proof(classify);
        if first && self.elapsed_ns() > 0 {
            self.begin_series();
        }
        let (epoch, elapsed_ns, limits) = (self.epoch, self.elapsed_ns(), self.limits);
        let ages_read = sample.sites.iter().any(|site| site.ages.is_some());
        for site in &mut self.sites {
            site.close(epoch, advance, elapsed_ns, ages_read, &limits);
        }
        self.totals = self.sum_up();
        let moment = Moment {
            at_s: seconds(elapsed_ns),
            live: self.totals.live,
            started: self.totals.started,
            ended: self.totals.ended,
            threads_live: sample.threads_live,
            rss_bytes: sample.rss_bytes,
        };
        if !advance {
            self.moments.pop_back();
            self.times.pop_back();
        }
        self.push_moment(moment);
    }

    /// Which process.
    pub fn process(&self) -> ProcessId {
        self.attach.process
    }

    /// `CLOCK_MONOTONIC` of the last sample, ns; that of the attach before the first.
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Time from attach to the last sample, ns.
    pub fn elapsed_ns(&self) -> u64 {
        self.last_ns.saturating_sub(self.attach.time_ns)
    }

    /// Samples taken.
    pub fn samples(&self) -> u64 {
        self.epoch
    }

    /// The program's tasks.
    pub fn tasks(&self) -> TaskTotals {
        self.totals
    }

    /// Starts of the program's tasks per second; `None` when no time passed.
    pub fn start_rate_per_s(&self, span: Span) -> Option<f64> {
        self.rate(span, self.totals.started, self.totals_before.started)
    }

    /// Ends of the program's tasks per second; `None` when no time passed.
    pub fn end_rate_per_s(&self, span: Span) -> Option<f64> {
        self.rate(span, self.totals.ended, self.totals_before.ended)
    }

    /// Forks per second; `None` when no time passed.
    pub fn fork_rate_per_s(&self, span: Span) -> Option<f64> {
        self.rate(span, self.counters.get(Counter::Forks), self.counters_before.get(Counter::Forks))
    }

    /// Growth of the live count per minute over the stretch that the sites' series cover.
    pub fn growth_per_min(&self) -> Option<f64> {
        let points: Vec<Point> =
            self.recent().map(|moment| Point { at_s: moment.at_s, live: moment.live }).collect();
        growth_per_min(&points)
    }

    /// Live threads by name at the last look at them.
    pub fn thread_names(&self) -> &[(String, u64)] {
        &self.thread_names.0
    }

    /// Child processes.
    pub fn children(&self) -> &ChildrenSample {
        &self.children
    }

    /// What proofs have shown; `None`: none was asked for.
    pub fn proof(&self) -> Option<&ProofSample> {
        self.proof.as_ref()
    }

    /// Threads and forks.
    pub fn threads(&self) -> ThreadTotals {
        ThreadTotals {
            live: self.moments.back().and_then(|moment| moment.threads_live),
            started: self.counters.get(Counter::ThreadsStarted),
            ended: self.counters.get(Counter::ThreadsEnded),
            forks: self.counters.get(Counter::Forks),
        }
    }

    /// Resident set, bytes, where the last sample knows it.
    pub fn rss_bytes(&self) -> Option<u64> {
        self.moments.back().and_then(|moment| moment.rss_bytes)
    }

    /// Growth of the resident set, bytes per minute.
    pub fn rss_growth_per_min(&self) -> Option<f64> {
        let points: Vec<Point> = self
            .recent()
            .filter_map(|moment| Some(Point { at_s: moment.at_s, live: moment.rss_bytes? }))
            .collect();
        growth_per_min(&points)
    }

    /// Bytes of task stacks at the last census; `None`: not known.
    pub fn stack_bytes(&self) -> Option<u64> {
        self.stack_bytes
    }

    /// Growth of the task stacks, bytes per minute; `None`: not known, or not yet.
    pub fn stack_growth_per_min(&self) -> Option<f64> {
        let stacks: Vec<Point> = self.stacks.iter().copied().collect();
        growth_per_min(&stacks)
    }

    /// Live tasks by status at the last census, system tasks among them.
    pub fn by_state(&self) -> Option<LiveByState> {
        self.by_state
    }

    /// The kernel's counters since attach.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was lost.
    pub fn losses(&self) -> Losses {
        let own = [
            Loss { name: CENSUS_UNREADABLE.into(), count: self.census_unreadable },
            Loss { name: SITES_OVER_LIMIT.into(), count: self.overflow.sites },
        ];
        Losses::gather(&self.counters, own)
    }

    /// Tasks of sites beyond the limit.
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// The past, oldest first; the first moment is the attach.
    pub fn moments(&self) -> impl DoubleEndedIterator<Item = &Moment> + ExactSizeIterator {
        self.moments.iter()
    }

    /// All sites, in the order in which they were met.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = SiteView<'_>> {
        self.sites.iter().map(|state| SiteView {
            state,
            elapsed_ns: self.elapsed_ns(),
            interval_ns: self.interval_ns,
            times: &self.times,
        })
    }

    /// One site, by any of its addresses.
    pub fn site(&self, id: SiteId) -> Option<SiteView<'_>> {
        self.sites().nth(*self.index.get(&id)?)
    }

    fn rate(&self, span: Span, now: u64, before: u64) -> Option<f64> {
        match span {
            Span::Watch => per_second(now, self.elapsed_ns()),
            Span::Interval => per_second(now.saturating_sub(before), self.interval_ns),
        }
    }

    /// The end of [`Self::moments`]: as far back as the series of the sites.
    pub fn recent(&self) -> impl Iterator<Item = &Moment> {
        self.moments.iter().skip(self.moments.len().saturating_sub(self.times.len()))
    }

    /// Place of a site, made when there is room.
    fn place(&mut self, id: SiteId, classify: &mut dyn Classify) -> Option<usize> {
        if let Some(&place) = self.index.get(&id) {
            return Some(place);
        }
        // Addresses are bounded too: a few for each site. What is beyond is not asked for again and again.
        let most = self.limits.sites;
        if self.sites.len() >= most || self.index.len() >= most.saturating_mul(4) {
            return None;
        }
        let SiteClass { canonical, system } = classify.class(id);
        let place = self.index.get(&canonical).copied().unwrap_or(self.sites.len());
        if place == self.sites.len() {
            self.sites.push(SiteState::new(canonical, system));
        }
        self.index.insert(canonical, place);
        self.index.insert(id, place);
        Some(place)
    }

    fn take_sites(&mut self, samples: &[SiteSample], advance: bool, classify: &mut dyn Classify) {
        let mut overflow = Overflow::default();
        for sample in samples {
            let place = self.place(sample.id, classify);
            if let Some(site) = place.and_then(|place| self.sites.get_mut(place)) {
                site.add(sample, self.epoch, advance);
                continue;
            }
            overflow.sites += 1;
            if !sample.id.runtime.is_task() {
                continue;
            }
            let live = sample.live_at_attach.saturating_add(sample.started).saturating_sub(sample.ended);
            overflow.live = overflow.live.saturating_add(live);
            overflow.live_at_attach = overflow.live_at_attach.saturating_add(sample.live_at_attach);
            overflow.started = overflow.started.saturating_add(sample.started);
            overflow.ended = overflow.ended.saturating_add(sample.ended);
        }
        self.overflow = overflow;
    }

    fn take_census(&mut self, census: &Census, classify: &mut dyn Classify) {
        for site in &mut self.sites {
            site.waiting.clear();
            site.stack_bytes = None;
            if site.id.runtime == RuntimeKind::Tokio {
                site.proven = Some(SiteProof::by_references(0));
            }
        }
        self.take_followed(&census.followed, classify);
        let mut groups: Vec<&Waiting> = census.waiting.iter().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        for group in groups {
            let place = self.place(group.site, classify);
            let Some(site) = place.and_then(|place| self.sites.get_mut(place)) else { continue };
            if group.reason == NO_WAKER {
                let sum = site.proven.get_or_insert_with(|| SiteProof::by_references(0));
                *sum = SiteProof::by_references(sum.count.saturating_add(group.count));
            }
            if group.stack_bytes > 0 {
                site.stack_bytes = Some(site.stack_bytes.unwrap_or(0).saturating_add(group.stack_bytes));
            }
            if site.waiting.len() < self.limits.waiting_per_site {
                let stack = group.stack.iter().take(self.limits.stack_depth).copied().collect();
                site.waiting.push(Waiting { stack, reason: group.reason.clone(), ..*group });
            }
        }
        for site in &mut self.sites {
            site.presence.take(&site.waiting);
        }
        self.by_state = Some(census.by_state);
        if let Some(bytes) = census.stack_bytes {
            self.stacks.push_back(Point { at_s: seconds(self.elapsed_ns()), live: bytes });
            while self.stacks.len() > self.limits.site_samples.max(1) {
                self.stacks.pop_front();
            }
        }
        self.stack_bytes = census.stack_bytes;
        self.census_unreadable = census.unreadable;
        self.totals.drift = census.drift.or(self.totals.drift);
    }

    /// Gives each site its share of what proofs have shown.
    fn take_proof(&mut self, classify: &mut dyn Classify) {
        let Some(proof) = self.proof.take() else { return };
        if proof.proofs > 0 {
            let none =
                || SiteProof { confidence: proof.confidence, refuted: proof.refuted, ..SiteProof::default() };
            for site in self.sites.iter_mut().filter(|site| site.id.runtime == RuntimeKind::Go) {
                site.proven = Some(none());
            }
            for proven in &proof.sites {
                let place = self.place(proven.site, classify);
                let Some(site) = place.and_then(|place| self.sites.get_mut(place)) else { continue };
                let sum = site.proven.get_or_insert_with(none);
                sum.count = sum.count.saturating_add(proven.count);
                sum.awaited = std::mem::take(&mut sum.awaited).and(&proven.awaited);
            }
        }
        self.proof = Some(proof);
    }

    fn take_followed(&mut self, all: &[Followed], classify: &mut dyn Classify) {
        // A look at one runtime says nothing of another's tasks.
        for site in all.iter().map(|followed| followed.site.runtime).collect::<BTreeSet<_>>() {
            let of_runtime = self.sites.iter_mut().filter(|state| state.id.runtime == site);
            of_runtime.for_each(|state| state.followed = None);
        }
        for followed in all {
            let place = self.place(followed.site, classify);
            let Some(site) = place.and_then(|place| self.sites.get_mut(place)) else { continue };
            match &mut site.followed {
                Some(sum) => sum.add(followed),
                none => *none = Some(Box::new(followed.clone())),
            }
        }
    }

    /// The attach is the first moment of every series.
    fn begin_series(&mut self) {
        let limits = self.limits;
        let own = self.sites.iter().filter(|site| self.is_own(site));
        let live =
            own.fold(self.overflow.live_at_attach, |sum, site| sum.saturating_add(site.now.live_at_attach));
        for site in &mut self.sites {
            site.push(site.now.live_at_attach, &limits);
        }
        self.push_moment(Moment { live, ..Moment::default() });
    }

    fn push_moment(&mut self, moment: Moment) {
        self.moments.push_back(moment);
        while self.moments.len() > self.limits.moments.max(1) {
            self.moments.pop_front();
        }
        self.times.push_back(moment.at_s);
        while self.times.len() > self.limits.site_samples {
            self.times.pop_front();
        }
    }

    /// Totals: the kernel's counters are right even where sites are lost, sites are where there are no probes.
    fn sum_up(&self) -> TaskTotals {
        let (started_by, ended_by) = match self.attach.tasks {
            TasksAre::OfRuntimes => (Counter::Started, Counter::Ended),
            TasksAre::Threads => (Counter::ThreadsStarted, Counter::ThreadsEnded),
        };
        let sum = |own: bool, figure: fn(&Figures) -> u64| {
            let of = self.sites.iter().filter(|site| self.is_counted(site) && self.is_own(site) == own);
            of.fold(0u64, |sum, site| sum.saturating_add(figure(&site.now)))
        };
        let own = |counter: Counter, figure: fn(&Figures) -> u64, beyond: u64| {
            let (others, by_site) = (sum(false, figure), sum(true, figure).saturating_add(beyond));
            self.counters.get(counter).saturating_sub(others).max(by_site)
        };
        let started = own(started_by, |figures| figures.started, self.overflow.started);
        let ended = own(ended_by, |figures| figures.ended, self.overflow.ended);
        let live_at_attach =
            sum(true, |figures| figures.live_at_attach).saturating_add(self.overflow.live_at_attach);
        TaskTotals {
            live: live_at_attach.saturating_add(started).saturating_sub(ended),
            live_at_attach,
            started,
            ended,
            system_live: self
                .sites
                .iter()
                .filter(|site| site.system && self.is_task(site))
                .fold(0u64, |sum, site| sum.saturating_add(site.now.live())),
            drift: self.totals.drift,
        }
    }

    /// The counters that the totals come from count the site's tasks too.
    fn is_counted(&self, site: &SiteState) -> bool {
        match self.attach.tasks {
            TasksAre::OfRuntimes => site.id.runtime.is_probed(),
            TasksAre::Threads => site.id.runtime == RuntimeKind::Thread,
        }
    }

    /// The site's tasks are what the totals are of, or the runtime's own ones beside them.
    fn is_task(&self, site: &SiteState) -> bool {
        match self.attach.tasks {
            TasksAre::OfRuntimes => site.id.runtime.is_task(),
            TasksAre::Threads => site.id.runtime == RuntimeKind::Thread,
        }
    }

    /// The site's tasks are in the totals.
    fn is_own(&self, site: &SiteState) -> bool {
        !site.system && self.is_task(site)
    }
}
