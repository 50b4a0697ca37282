//! One creation site: its latest figures and the recent course of its live count.

use std::collections::VecDeque;

use leakwatch_common::bucket_floor_ns;

use super::ages::{self, Ages};
use super::presence::Presence;
use super::survival::{self, Plateau};
use super::{Limits, Span, float, lifetimes, per_second, seconds, trend};
use crate::observe::{AgeSummary, Awaited, Followed, Histogram, SiteId, SiteSample, Waiting};

/// Ages that were read stand this long where they are not read again.
const AGES_STAND_NS: u64 = 30_000_000_000;

/// What a site is, told by whoever knows names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteClass {
    /// The site under which this one is counted: itself, or one that a person cannot tell from it (the same
    /// function, file, line and task at other addresses, as instances of a generic function are).
    pub canonical: SiteId,
    /// Its tasks are the runtime's own.
    pub system: bool,
}

/// Says what a site is. Asked once for every site.
pub trait Classify {
    /// The class of a site.
    fn class(&mut self, site: SiteId) -> SiteClass;
}

impl<F: FnMut(SiteId) -> SiteClass> Classify for F {
    fn class(&mut self, site: SiteId) -> SiteClass {
        self(site)
    }
}

/// Every site is itself, and none is the runtime's.
#[derive(Clone, Copy, Debug, Default)]
pub struct EachItself;

impl Classify for EachItself {
    fn class(&mut self, site: SiteId) -> SiteClass {
        SiteClass { canonical: site, system: false }
    }
}

/// A live count at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds since attach.
    pub at_s: f64,
    /// Tasks alive.
    pub live: u64,
}

/// What proofs say of a site's tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteProof {
    /// Tasks that are proven to wait for ever.
    pub count: u64,
    /// What they wait on.
    pub awaited: Awaited,
    /// How sure the last proof was.
    pub confidence: f64,
    /// Tasks of the process that were proven and ran or ended all the same.
    pub refuted: u64,
}

impl SiteProof {
    /// Of tasks to which nothing refers that could wake them ([`crate::observe::NO_WAKER`]). One look is enough: that does not
    /// change again.
    pub(super) fn by_references(count: u64) -> Self {
        Self { count, confidence: 0.99, ..Self::default() }
    }
}

/// Sums of one sample, over all addresses of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) live_at_attach: u64,
    pub(super) started: u64,
    pub(super) ended: u64,
    pub(super) lifetimes: Histogram,
    pub(super) ages: Option<AgeSummary>,
}

impl Figures {
    fn add(&mut self, sample: &SiteSample) {
        self.live_at_attach = self.live_at_attach.saturating_add(sample.live_at_attach);
        self.started = self.started.saturating_add(sample.started);
        self.ended = self.ended.saturating_add(sample.ended);
        self.lifetimes.add(&sample.lifetimes);
        self.ages = ages::merge(self.ages.take(), sample.ages.as_ref());
    }

    pub(super) fn live(&self) -> u64 {
        self.live_at_attach.saturating_add(self.started).saturating_sub(self.ended)
    }
}

/// State of a site.
#[derive(Debug)]
pub(super) struct SiteState {
    pub(super) id: SiteId,
    pub(super) system: bool,
    pub(super) now: Figures,
    /// Started and ended at the sample before the last.
    before: (u64, u64),
    ages: Ages,
    /// Live tasks born since attach by age, as of the last time when they were read.
    young: Option<Histogram>,
    /// Time since attach when ages were read last.
    ages_read_ns: Option<u64>,
    /// Live counts, aligned with the last moments of the process.
    series: VecDeque<u64>,
    pub(super) waiting: Vec<Waiting>,
    /// `None`: no proof was made that could say anything of it.
    pub(super) proven: Option<SiteProof>,
    /// Their stacks' bytes, all groups together; `None`: not known for this runtime.
    pub(super) stack_bytes: Option<u64>,
    pub(super) presence: Presence,
    pub(super) followed: Option<Box<Followed>>,
    /// Sample in which it was met last.
    epoch: u64,
}

impl SiteState {
    pub(super) fn new(id: SiteId, system: bool) -> Self {
        Self {
            id,
            system,
            now: Figures::default(),
            before: (0, 0),
            ages: Ages::default(),
            young: None,
            ages_read_ns: None,
            series: VecDeque::new(),
            waiting: Vec::new(),
            proven: None,
            stack_bytes: None,
            presence: Presence::default(),
            followed: None,
            epoch: 0,
        }
    }

    /// Adds what the sample `epoch` says of one of the site's addresses. `advance`: time went on since the last one.
    pub(super) fn add(&mut self, sample: &SiteSample, epoch: u64, advance: bool) {
        if self.epoch != epoch {
            self.epoch = epoch;
            if advance {
                self.before = (self.now.started, self.now.ended);
            }
            self.now = Figures::default();
        }
        self.now.add(sample);
    }

    /// The sample `epoch` is complete: `elapsed_ns` after attach.
    pub(super) fn close(
        &mut self,
        epoch: u64,
        advance: bool,
        elapsed_ns: u64,
        ages_read: bool,
        limits: &Limits,
    ) {
        if self.epoch == epoch {
            self.close_ages(elapsed_ns, ages_read);
        } else if advance {
            self.before = (self.now.started, self.now.ended);
        }
        if !advance {
            self.series.pop_back();
        }
        self.push(self.now.live(), limits);
    }

    /// Takes a point of the series.
    pub(super) fn push(&mut self, live: u64, limits: &Limits) {
        self.series.push_back(live);
        while self.series.len() > limits.site_samples.max(1) {
            self.series.pop_front();
        }
    }

    /// `table_read`: this sample knows the ages of tasks born since attach; sites without any have none.
    fn close_ages(&mut self, elapsed_ns: u64, table_read: bool) {
        let (live, at_attach, longest) = (self.now.live(), self.now.live_at_attach, self.longest_wait_ns());
        let born = self.now.ages.clone().or_else(|| table_read.then(AgeSummary::default));
        if let Some(born) = &born {
            self.young = Some(born.by_bucket.clone());
        }
        if live == 0 {
            self.ages = Ages::default();
            self.young = Some(Histogram::default());
        } else if let Some(born) = born {
            let older = live.saturating_sub(born.count).min(at_attach);
            self.ages = ages::combine(&born, older, elapsed_ns, longest);
            self.ages_read_ns = Some(elapsed_ns);
        } else if self.ages_read_ns.is_none_or(|read_ns| elapsed_ns.saturating_sub(read_ns) > AGES_STAND_NS) {
            self.young = None;
            self.ages = ages::least(live, at_attach.saturating_sub(self.now.ended), elapsed_ns, longest);
        }
    }

    fn longest_wait_ns(&self) -> Option<u64> {
        self.waiting.iter().filter_map(Waiting::certain_ns).max()
    }
}

/// A site as of the last sample.
#[derive(Clone, Copy, Debug)]
pub struct SiteView<'a> {
    pub(super) state: &'a SiteState,
    /// Time since attach at the last sample, ns.
    pub(super) elapsed_ns: u64,
    /// Time between the last two samples, ns.
    pub(super) interval_ns: u64,
    /// Times of the process's moments, seconds since attach; its end is aligned with the series' end.
    pub(super) times: &'a VecDeque<f64>,
}

impl<'a> SiteView<'a> {
    /// Which site.
    pub fn id(&self) -> SiteId {
        self.state.id
    }

    /// Its tasks are the runtime's own.
    pub fn system(&self) -> bool {
        self.state.system
    }

    /// Tasks alive.
    pub fn live(&self) -> u64 {
        self.state.now.live()
    }

    /// Tasks that were alive at attach.
    pub fn live_at_attach(&self) -> u64 {
        self.state.now.live_at_attach
    }

    /// Tasks started since attach.
    pub fn started(&self) -> u64 {
        self.state.now.started
    }

    /// Tasks ended since attach.
    pub fn ended(&self) -> u64 {
        self.state.now.ended
    }

    /// Starts per second; `None` when no time passed.
    pub fn start_rate_per_s(&self, span: Span) -> Option<f64> {
        match span {
            Span::Watch => per_second(self.started(), self.elapsed_ns),
            Span::Interval => {
                per_second(self.started().saturating_sub(self.state.before.0), self.interval_ns)
            }
        }
    }

    /// Ends per second; `None` when no time passed.
    pub fn end_rate_per_s(&self, span: Span) -> Option<f64> {
        match span {
            Span::Watch => per_second(self.ended(), self.elapsed_ns),
            Span::Interval => per_second(self.ended().saturating_sub(self.state.before.1), self.interval_ns),
        }
    }

    /// The recent course of the live count, oldest first. A site met late had no task before: the points
    /// before its first one are 0.
    pub fn series(&self) -> Vec<Point> {
        let own = &self.state.series;
        let missing = self.times.len().saturating_sub(own.len());
        let lives = std::iter::repeat_n(0, missing).chain(own.iter().copied());
        self.times.iter().zip(lives).map(|(&at_s, live)| Point { at_s, live }).collect()
    }

    /// Growth of the live count per minute: Theil-Sen slope of [`Self::series`]. `None` before a second has passed.
    pub fn growth_per_min(&self) -> Option<f64> {
        growth_per_min(&self.series())
    }

    /// Lifetime in seconds that a share `q` of the ended tasks did not outlive; `None` when none ended whose
    /// birth was seen.
    pub fn lifetime_s(&self, q: f64) -> Option<f64> {
        lifetimes::quantile_s(&self.state.now.lifetimes, q)
    }

    /// Counts of ended tasks by lifetime, see [`leakwatch_common::lifetime_bucket`].
    pub fn lifetimes(&self) -> &'a Histogram {
        &self.state.now.lifetimes
    }

    /// Counts of live tasks born since attach by age; `None` where ages were not read, or not lately.
    pub fn young(&self) -> Option<&'a Histogram> {
        self.state.young.as_ref()
    }

    /// The share of its tasks that never ends, of those born since attach; `None` where that is not known (yet), or where
    /// their ages are not.
    pub fn plateau(&self) -> Option<Plateau> {
        survival::plateau(&self.state.now.lifetimes, self.state.young.as_ref()?)
    }

    /// Survival of its tasks born since attach; empty where their ages are not known.
    pub fn survival(&self) -> Vec<survival::Step> {
        let young = self.state.young.as_ref();
        young.map_or_else(Vec::new, |young| survival::curve(&self.state.now.lifetimes, young))
    }

    /// Ages of the live tasks, as of the last time when they were read.
    pub fn ages(&self) -> Ages {
        self.state.ages
    }

    /// Live tasks that are at least this old, as of the last time when ages were read. Ages are known in half octaves: one
    /// that is not certainly that old is left out. Where births are not seen, all are as old as the watch.
    pub fn older_than(&self, age_ns: u64) -> u64 {
        let Some(young) = self.state.young.as_ref() else {
            return if self.elapsed_ns >= age_ns { self.live() } else { 0 };
        };
        let perhaps_younger: u64 = young
            .iter()
            .enumerate()
            .filter(|(bucket, _)| bucket_floor_ns(*bucket) < age_ns)
            .map(|(_, count)| count)
            .sum();
        let from_before = self.live().saturating_sub(young.iter().sum());
        let old_enough = if self.elapsed_ns >= age_ns { 0 } else { from_before };
        self.live().saturating_sub(perhaps_younger).saturating_sub(old_enough)
    }

    /// What the live tasks waited for at the last census, largest group first.
    pub fn waiting(&self) -> &'a [Waiting] {
        &self.state.waiting
    }

    /// What proofs say of its tasks; `None`: no proof was made that could say anything of them.
    pub fn proven(&self) -> Option<&'a SiteProof> {
        self.state.proven.as_ref()
    }

    /// Bytes of its tasks' stacks at the last census; `None`: not known for this runtime.
    pub fn stack_bytes(&self) -> Option<u64> {
        self.state.stack_bytes
    }

    /// The share of the last ten censuses, 0 to 1, in which tasks waited for the same at the same place as this group of
    /// [`Self::waiting`] does.
    pub fn steadiness(&self, group: &Waiting) -> Option<f64> {
        self.state.presence.share(group)
    }

    /// What following its tasks from look to look told, as of the last look at memory; `None`: they cannot be followed.
    pub fn followed(&self) -> Option<&'a Followed> {
        self.state.followed.as_deref()
    }

    /// Time since attach, seconds.
    pub fn elapsed_s(&self) -> f64 {
        seconds(self.elapsed_ns)
    }
}

/// Theil-Sen slope of a live count, per minute; `None` when the points span less than a second.
pub fn growth_per_min(points: &[Point]) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    if last.at_s - first.at_s < 1.0 {
        return None;
    }
    if points.iter().all(|point| point.live == first.live) {
        return Some(0.0);
    }
    let pick = |index: usize| points.get(index).map(|point| (point.at_s, float(point.live)));
    let thinned: Vec<(f64, f64)> =
        trend::thin(points.len(), trend::MOST_POINTS).into_iter().filter_map(pick).collect();
    trend::theil_sen(&thinned).map(|slope| slope * 60.0)
}
