//! What is known of a site's survivors: who of its tasks has outlived everything that was seen to end.
//!
//! Two sources say the same and check each other: lifetimes and ages by probes ([`crate::model::Plateau`]), and tasks
//! followed by their identity through looks at memory ([`Followed`]), which needs no probe. Arithmetic only; judges
//! nothing.

use leakwatch_common::{LIFETIME_BUCKETS, bucket_floor_ns};

use super::Evidence;
use crate::model::{Point, float, seconds};
use crate::observe::{Cohort, Followed};

/// A task is a survivor from this many times the longest lifetime seen on.
const BEYOND: f64 = 1.5;
/// And not before this age, seconds: a rare slow task among many fast ones has not been seen to end before.
const BEYOND_LEAST_S: f64 = 8.0;
/// Where nothing ended yet: tasks of this age count, seconds.
const COUNTED_S: f64 = 10.0;
/// The longest lifetime is the one that this share of the ended tasks did not exceed: one in a thousand may be odd.
const LONGEST: f64 = 0.999;

/// The lives of those that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lives {
    /// How many of those that were met since the attach have ended.
    pub ended: u64,
    /// How many of those from before it.
    pub older_ended: u64,
    /// The longest life seen, seconds; of those from before the attach the part after it.
    pub longest_s: f64,
}

/// Births and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// Started.
    pub born: u64,
    /// Ended.
    pub ended: u64,
}

/// Tasks that have outlived all that ended, by when they were started.
#[derive(Clone, Debug, PartialEq)]
pub struct Survivors {
    /// Seconds for which the tasks were followed.
    pub followed_s: f64,
    /// Lives of those that ended; `None`: none was seen to end.
    pub lives: Option<Lives>,
    /// A task of this age counts, seconds.
    pub counted_s: f64,
    /// Tasks met in each stretch all of whose tasks are of that age, and how many of them live; oldest first.
    pub cohorts: Vec<Cohort>,
    /// Length of a stretch, seconds.
    pub stretch_s: f64,
    /// Those that were there when following began.
    pub older: Cohort,
    /// Tasks met in each stretch that is over, oldest first, whatever their age.
    pub births: Vec<u64>,
}

impl Survivors {
    /// Of a site whose tasks are followed.
    pub fn of(evidence: &Evidence<'_>) -> Option<Self> {
        let followed = evidence.site.followed()?;
        let scaled = |cohort: Cohort| Cohort {
            born: cohort.born.saturating_mul(followed.one_in),
            live: cohort.live.saturating_mul(followed.one_in),
            stalled: cohort.stalled.saturating_mul(followed.one_in),
        };
        let lives = lives(evidence.site.lifetimes(), followed);
        let counted_s = lives.map_or(COUNTED_S, |lives| (BEYOND * lives.longest_s).max(BEYOND_LEAST_S));
        let followed_s = seconds(followed.now_ns.saturating_sub(followed.since_ns));
        let stretch_s = seconds(followed.stretch_ns);
        let old_enough = |place: usize| float(place as u64 + 1).mul_add(stretch_s, counted_s) <= followed_s;
        let cohorts = followed.cohorts.iter().copied().map(scaled).enumerate();
        Some(Self {
            followed_s,
            lives,
            counted_s,
            cohorts: cohorts.take_while(|(place, _)| old_enough(*place)).map(|(_, cohort)| cohort).collect(),
            stretch_s,
            older: scaled(followed.older),
            births: followed.cohorts.iter().rev().skip(1).rev().map(|cohort| scaled(*cohort).born).collect(),
        })
    }

    /// All cohorts together.
    pub fn all(&self) -> Cohort {
        self.cohorts.iter().fold(Cohort::default(), |sum, cohort| sum.plus(*cohort))
    }

    /// Stretches of which somebody survives.
    pub fn stretches(&self) -> usize {
        self.cohorts.iter().filter(|cohort| cohort.live > 0).count()
    }

    /// Age of the oldest survivors that were started under watch, seconds: what is certain of it.
    pub fn oldest_s(&self) -> Option<f64> {
        let first = self.cohorts.iter().position(|cohort| cohort.live > 0)?;
        Some(float(first as u64 + 1).mul_add(-self.stretch_s, self.followed_s))
    }

    /// Survivors keep being added, up to now: the last stretch that added some is not longer ago than they were ever apart, and
    /// the second half of the time added a fair share of them.
    pub fn goes_on(&self) -> bool {
        /// Stretches without any after which it may be over.
        const PAUSE: usize = 2;
        /// Of a pool that fills up by a fixed share of what is missing, less comes late.
        const LATE: f64 = 0.25;
        let all = self.all();
        // Of a site whose tasks come and go, a stretch in which none was met is one without a look, and says nothing.
        let churns = 4 * all.born > 5 * all.live;
        let counted = self.cohorts.iter().filter(|cohort| !churns || cohort.born > 0);
        let mut added: Vec<u64> = counted.map(|cohort| cohort.live).collect();
        // Those of later stretches are too young to count. But where none ever ended they all live, and where none was started
        // none was added.
        let later = self.births.get(self.cohorts.len()..).unwrap_or_default();
        if self.lives.is_none() || (!churns && later.iter().all(|born| *born == 0)) {
            added.extend(later);
        }
        let places: Vec<usize> =
            added.iter().enumerate().filter(|(_, added)| **added > 0).map(|(place, _)| place).collect();
        let apart = places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let Some(last) = places.last() else { return false };
        let pause = added.len() - 1 - last;
        let late = added.iter().skip(added.len() / 2).sum::<u64>();
        pause <= apart.max(PAUSE) && float(late) >= LATE * float(added.iter().sum())
    }

    /// The same number of tasks is started all the time: what grows is not explained by more and more being started.
    pub fn steady_births(&self) -> bool {
        /// Stretches that make a course.
        const LEAST: usize = 6;
        /// More in the second half than this is more traffic.
        const MORE: f64 = 1.3;
        let (early, late) = self.births.split_at(self.births.len() / 2);
        let mean = |births: &[u64]| float(births.iter().sum()) / float(births.len().max(1) as u64);
        self.births.len() >= LEAST && mean(late) <= MORE * mean(early)
    }

    /// Births and ends in the two halves of the watch, the present stretch left out; `None` where the live counts that are
    /// kept do not cover them.
    pub fn ends_by_half(&self, series: &[Point]) -> Option<[Turnover; 2]> {
        let half = self.births.len() / 2;
        let live_at = |stretches: usize| {
            let at_s = series.last()?.at_s - self.followed_s + float(stretches as u64) * self.stretch_s;
            let point = series.iter().rev().find(|point| point.at_s <= at_s + 0.5)?;
            (at_s - point.at_s <= self.stretch_s).then_some(point.live)
        };
        let turnover = |from: usize, to: usize| {
            let born = self.births.get(from..to)?.iter().sum::<u64>();
            let ended = born.saturating_add(live_at(from)?).saturating_sub(live_at(to)?);
            Some(Turnover { born, ended })
        };
        Some([turnover(0, half)?, turnover(half, 2 * half)?])
    }

    /// Survivors per second, over the stretches that count. Tasks are met at the look after their start: those of the first
    /// stretch may be met in the second one, and so on, and the first is left out.
    pub fn per_s(&self) -> f64 {
        let from = usize::from(self.cohorts.len() > 1);
        let counted = self.cohorts.iter().skip(from);
        let over_s = float((self.cohorts.len() - from.min(self.cohorts.len())) as u64) * self.stretch_s;
        if over_s > 0.0 { float(counted.map(|cohort| cohort.live).sum()) / over_s } else { 0.0 }
    }
}

/// The lives of a site's ended tasks, by the kernel's histogram where there is one.
fn lives(by_probes: &[u64; LIFETIME_BUCKETS], followed: &Followed) -> Option<Lives> {
    let ended =
        |histogram: &[u64; LIFETIME_BUCKETS]| histogram.iter().fold(0u64, |a, b| a.saturating_add(*b));
    let histogram = if ended(by_probes) > 0 { by_probes } else { &followed.lifetimes };
    let older_s = followed.older_ended_ns.map(seconds);
    let gone = followed.older.born.saturating_sub(followed.older.live).saturating_mul(followed.one_in);
    let older_ended = if older_s.is_some() { gone } else { 0 };
    let lives = Lives {
        ended: ended(histogram),
        older_ended,
        longest_s: longest_s(histogram).into_iter().chain(older_s).fold(0.0, f64::max),
    };
    (lives.ended > 0 || older_s.is_some()).then_some(lives)
}

/// The upper end of the bucket in which the longest lifetime lies, seconds.
fn longest_s(histogram: &[u64; LIFETIME_BUCKETS]) -> Option<f64> {
    let total = histogram.iter().fold(0u64, |a, b| a.saturating_add(*b));
    let mut so_far = 0u64;
    let bucket = histogram.iter().position(|count| {
        so_far = so_far.saturating_add(*count);
        total > 0 && float(so_far) >= LONGEST * float(total)
    })?;
    Some(seconds(bucket_floor_ns((bucket + 1).min(LIFETIME_BUCKETS - 1))))
}
