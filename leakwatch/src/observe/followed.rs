//! What following tasks by their identity, from one look at memory to the next, tells of their sites.

use super::{Histogram, SiteId};

/// Most stretches into which the time since attach is cut.
pub const STRETCHES: usize = 16;

/// Tasks of one stretch of births.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cohort {
    /// Tasks that a look met first in this stretch.
    pub born: u64,
    /// Of those, alive.
    pub live: u64,
    /// Of those, stalled: since so long without having run that nothing seen at the site explains it.
    pub stalled: u64,
}

impl Cohort {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            born: self.born.saturating_add(other.born),
            live: self.live.saturating_add(other.live),
            stalled: self.stalled.saturating_add(other.stalled),
        }
    }
}

/// A site's tasks, followed from the attach on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Which site.
    pub site: SiteId,
    /// When following began, `CLOCK_MONOTONIC` ns.
    pub since_ns: u64,
    /// When the last look was.
    pub now_ns: u64,
    /// One in so many tasks is followed; all counts are of those.
    pub one_in: u64,
    /// Tasks that were there when following began.
    pub older: Cohort,
    /// Length of a stretch of births.
    pub stretch_ns: u64,
    /// Those that were met since, by stretch; the last one is not over.
    pub cohorts: Vec<Cohort>,
    /// Lifetimes of those that were met since and have ended, by [`leakwatch_common::lifetime_bucket`]: upper bounds.
    pub lifetimes: Histogram,
    /// The latest end of one that was there when following began, after that beginning: it lived longer than this.
    pub older_ended_ns: Option<u64>,
    /// It can be seen whether tasks run between two looks. Where not, none is said to be stalled.
    pub runs_seen: bool,
    /// Live tasks that have run since they were met.
    pub ran: u64,
    /// Longest time that a task stood still and then ran.
    pub longest_rest_ns: u64,
    /// Longest time for which a live task has stood still.
    pub longest_still_ns: u64,
    /// The program's other tasks that were started between the first and the last of `older`, for each of `older`: 0
    /// when all were started in one go. `None`: the runtime does not number its tasks, or there are fewer than two.
    pub apart: Option<u64>,
}

impl Followed {
    /// Tasks of another site that is the same to a person, followed by the same looks.
    pub fn add(&mut self, other: &Self) {
        self.older = self.older.plus(other.older);
        for (sum, more) in self.cohorts.iter_mut().zip(&other.cohorts) {
            *sum = sum.plus(*more);
        }
        self.lifetimes.add(&other.lifetimes);
        self.older_ended_ns = self.older_ended_ns.max(other.older_ended_ns);
        self.runs_seen |= other.runs_seen;
        self.ran = self.ran.saturating_add(other.ran);
        self.longest_rest_ns = self.longest_rest_ns.max(other.longest_rest_ns);
        self.longest_still_ns = self.longest_still_ns.max(other.longest_still_ns);
        self.apart = self.apart.into_iter().chain(other.apart).min();
    }
}
