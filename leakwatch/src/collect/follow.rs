//! Follows tasks by their identity from one look at memory to the next: who was born when, who ended, who runs.
//!
//! Works without any probe. A task is its runtime, number and address. A task that is missing in one look may not have
//! held still; missing in two, it has ended. Whether it runs between looks is seen by a figure that its runtime keeps of
//! it and that changes with every run ([`CensusTask::runs`]).
//!
//! Bounded: beyond [`MOST`] tasks, one in two, four, … is followed, chosen by a hash of its identity. It must never judge
//! (that is `detect`), read a clock, or look at a process.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;

use leakwatch_common::{LIFETIME_BUCKETS, RuntimeKind, lifetime_bucket};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::observe::{CensusTask, Cohort, Followed, STRETCHES, SiteId, TaskStatus};

/// Most tasks followed in one process.
const MOST: usize = 1 << 17;

/// Length of a stretch of births at first; it doubles when there are too many of them.
const STRETCH_NS: u64 = 5_000_000_000;

/// A task that did not run for less than this is not stalled.
const STALLED_LEAST_NS: u64 = 10_000_000_000;

/// A task is stalled when it stood still for this many times as long as the longest rest seen at its site.
const RESTS: u64 = 2;

/// Runtime, number and address.
type Key = (RuntimeKind, u64, u64);

/// A task that is followed.
#[derive(Debug)]
struct One {
    site: SiteId,
    /// When it was met.
    met_ns: u64,
    /// It was there when following began.
    older: bool,
    runs: Option<u64>,
    /// It was seen to run last, or was met.
    ran_ns: u64,
    has_run: bool,
    /// It waits for nothing but the time.
    wakes_itself: bool,
    /// Look in which it was seen last, and when that was.
    look: u64,
    seen_ns: u64,
}

/// What is kept of a site beside its live tasks.
#[derive(Debug)]
struct Site {
    older_born: u64,
    born: Vec<u64>,
    lifetimes: [u64; LIFETIME_BUCKETS],
    older_ended_ns: Option<u64>,
    longest_rest_ns: u64,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            older_born: 0,
            born: Vec::new(),
            lifetimes: [0; LIFETIME_BUCKETS],
            older_ended_ns: None,
            longest_rest_ns: 0,
        }
    }
}

/// The tasks of one runtime in a process.
#[derive(Debug)]
pub(super) struct Follow {
    tasks: FxHashMap<Key, One>,
    sites: BTreeMap<SiteId, Site>,
    /// Bits of the hash that must be 0.
    mask: u64,
    stretch_ns: u64,
    /// `None` before the first look.
    since_ns: Option<u64>,
    look: u64,
    /// When the look before the present one was.
    before_ns: u64,
    now_ns: u64,
}

impl Default for Follow {
    fn default() -> Self {
        Self {
            tasks: FxHashMap::default(),
            sites: BTreeMap::new(),
            mask: 0,
            stretch_ns: STRETCH_NS,
            since_ns: None,
            look: 0,
            before_ns: 0,
            now_ns: 0,
        }
    }
}

impl Follow {
    /// A look begins.
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.before_ns = self.now_ns;
        self.now_ns = now_ns.max(self.now_ns);
        self.since_ns.get_or_insert(self.now_ns);
        self.look += 1;
        while self.elapsed_ns(self.now_ns) / self.stretch_ns >= STRETCHES as u64 {
            self.stretch_ns = self.stretch_ns.saturating_mul(2);
            for site in self.sites.values_mut() {
                site.born = site.born.chunks(2).map(|pair| pair.iter().sum()).collect();
            }
        }
    }

    /// The look shows a live task.
    pub(super) fn see(&mut self, task: &CensusTask) {
        let key = (task.site.runtime, task.id, task.address);
        if FxBuildHasher.hash_one(key) >> 32 & self.mask != 0 {
            return;
        }
        let (now_ns, look) = (self.now_ns, self.look);
        let busy = matches!(task.status, TaskStatus::Running | TaskStatus::Runnable);
        if let Some(one) = self.tasks.get_mut(&key) {
            one.look = look;
            one.seen_ns = now_ns;
            one.wakes_itself = task.wakes_itself;
            // What a thread runs, and with it its site, may become known only after it was met.
            if one.site != task.site {
                self.moved(key, task.site);
            } else if busy || task.runs != one.runs {
                let rest_ns = self.before_ns.saturating_sub(one.ran_ns);
                one.runs = task.runs;
                one.ran_ns = now_ns;
                one.has_run = true;
                if let Some(site) = self.sites.get_mut(&task.site) {
                    site.longest_rest_ns = site.longest_rest_ns.max(rest_ns);
                }
            }
            return;
        }
        let older = look == 1;
        let stretch = self.stretch(now_ns);
        let site = self.sites.entry(task.site).or_default();
        if older {
            site.older_born += 1;
        } else {
            count(&mut site.born, stretch, 1);
        }
        let one = One {
            site: task.site,
            met_ns: now_ns,
            older,
            runs: task.runs,
            ran_ns: now_ns,
            has_run: false,
            wakes_itself: task.wakes_itself,
            look,
            seen_ns: now_ns,
        };
        self.tasks.insert(key, one);
        if self.tasks.len() > MOST {
            self.thin_out();
        }
    }

    /// The look is over: what is known of each site by now.
    pub(super) fn end(&mut self) -> Vec<Followed> {
        self.bury();
        let Some(since_ns) = self.since_ns else { return Vec::new() };
        let mut all: BTreeMap<SiteId, Followed> = BTreeMap::new();
        let mut numbers: FxHashMap<SiteId, (u64, u64)> = FxHashMap::default();
        // Whom this look does not show is not said to live: with long times between looks that would be wrong for long.
        for (&(_, number, _), one) in self.tasks.iter().filter(|(_, one)| one.look == self.look) {
            let Some(site) = self.sites.get(&one.site) else { continue };
            let known = all.entry(one.site).or_insert_with(|| self.nothing(one.site, since_ns));
            let still_ns = self.now_ns.saturating_sub(one.ran_ns);
            known.runs_seen |= one.runs.is_some();
            known.ran += u64::from(one.has_run);
            if one.runs.is_some() {
                known.longest_still_ns = known.longest_still_ns.max(still_ns);
            }
            let stalled = one.runs.is_some()
                && !one.wakes_itself
                && still_ns >= STALLED_LEAST_NS.max(site.longest_rest_ns.saturating_mul(RESTS));
            let cohort = Cohort { born: 0, live: 1, stalled: u64::from(stalled) };
            if one.older {
                known.older = known.older.plus(cohort);
                let (low, high) = numbers.entry(one.site).or_insert((number, number));
                (*low, *high) = ((*low).min(number), (*high).max(number));
            } else if let Some(sum) = known.cohorts.get_mut(self.stretch(one.met_ns)) {
                *sum = sum.plus(cohort);
            }
        }
        for (&id, site) in &self.sites {
            let known = all.entry(id).or_insert_with(|| self.nothing(id, since_ns));
            known.older.born = site.older_born;
            for (cohort, &born) in known.cohorts.iter_mut().zip(&site.born) {
                cohort.born = born;
            }
            known.lifetimes = site.lifetimes;
            known.older_ended_ns = site.older_ended_ns;
            known.longest_rest_ns = site.longest_rest_ns;
            if let Some(&(low, high)) = numbers.get(&id).filter(|(low, high)| high > low) {
                let others = (high - low + 1).saturating_sub(known.older.live.saturating_mul(self.mask + 1));
                known.apart = others.checked_div(known.older.live);
            }
        }
        all.into_values().collect()
    }

    fn nothing(&self, site: SiteId, since_ns: u64) -> Followed {
        Followed {
            site,
            since_ns,
            now_ns: self.now_ns,
            one_in: self.mask + 1,
            older: Cohort::default(),
            stretch_ns: self.stretch_ns,
            cohorts: vec![Cohort::default(); self.stretch(self.now_ns) + 1],
            lifetimes: [0; LIFETIME_BUCKETS],
            older_ended_ns: None,
            runs_seen: false,
            ran: 0,
            longest_rest_ns: 0,
            longest_still_ns: 0,
            apart: None,
        }
    }

    /// Takes out those that two looks have missed.
    fn bury(&mut self) {
        let (look, since_ns, now_ns) = (self.look, self.since_ns.unwrap_or(0), self.now_ns);
        let sites = &mut self.sites;
        self.tasks.retain(|_, one| {
            if one.look + 1 >= look {
                return true;
            }
            if let Some(site) = sites.get_mut(&one.site) {
                let ended_ns = one.seen_ns.saturating_sub(since_ns);
                if one.older {
                    site.older_ended_ns = site.older_ended_ns.max(Some(ended_ns));
                } else if let Some(count) =
                    // It may have been born just after the look before it was met, and ended before the next.
                    site.lifetimes.get_mut(lifetime_bucket(
                        one.seen_ns
                            .saturating_sub(one.met_ns)
                            .saturating_add(now_ns.saturating_sub(one.seen_ns) / 2),
                    ))
                {
                    *count += 1;
                }
            }
            false
        });
    }

    /// Follows half as many from here on.
    fn thin_out(&mut self) {
        self.mask = self.mask * 2 + 1;
        let mask = self.mask;
        self.tasks.retain(|key, _| FxBuildHasher.hash_one(key) >> 32 & mask == 0);
        for site in self.sites.values_mut() {
            site.older_born /= 2;
            site.born.iter_mut().chain(&mut site.lifetimes).for_each(|count| *count /= 2);
        }
    }

    /// A task that was met is of another site than was thought.
    fn moved(&mut self, key: Key, to: SiteId) {
        let Some(one) = self.tasks.get_mut(&key) else { return };
        let from = std::mem::replace(&mut one.site, to);
        let (older, met_ns) = (one.older, one.met_ns);
        let stretch = self.stretch(met_ns);
        if let Some(site) = self.sites.get_mut(&from) {
            if older {
                site.older_born = site.older_born.saturating_sub(1);
            } else if let Some(born) = site.born.get_mut(stretch) {
                *born = born.saturating_sub(1);
            }
        }
        let site = self.sites.entry(to).or_default();
        if older {
            site.older_born += 1;
        } else {
            count(&mut site.born, stretch, 1);
        }
    }

    fn elapsed_ns(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.since_ns.unwrap_or(at_ns))
    }

    fn stretch(&self, at_ns: u64) -> usize {
        usize::try_from(self.elapsed_ns(at_ns) / self.stretch_ns).unwrap_or(STRETCHES).min(STRETCHES - 1)
    }
}

fn count(counts: &mut Vec<u64>, place: usize, more: u64) {
    if counts.len() <= place {
        counts.resize(place + 1, 0);
    }
    if let Some(count) = counts.get_mut(place) {
        *count += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const SITE: SiteId = SiteId { runtime: RuntimeKind::Go, site: 1, entry: 2 };

    fn task(id: u64, runs: u64) -> CensusTask {
        CensusTask {
            address: 0x1000 + id,
            id,
            site: SITE,
            status: TaskStatus::Waiting,
            wait_reason: None,
            waiting_since_ns: None,
            runs: Some(runs),
            wakes_itself: false,
            unwakeable: false,
            stack_bytes: 0,
            stack: Vec::new(),
        }
    }

    fn look(follow: &mut Follow, at_s: u64, tasks: impl IntoIterator<Item = CensusTask>) -> Followed {
        follow.begin(at_s * SECOND);
        tasks.into_iter().for_each(|task| follow.see(&task));
        follow.end().into_iter().next().expect("a site")
    }

    #[test]
    fn births_ends_and_rests_are_told_apart() {
        let mut follow = Follow::default();
        // 1 and 2 from before; 2 runs between every two looks. From 5 s on one more every 5 s, which stays and stands still.
        for at_s in (0..=60).step_by(5) {
            let stays = (1..=at_s / 5).map(|n| task(100 + n, 0));
            look(&mut follow, at_s, stays.chain([task(1, 0), task(2, at_s)]));
        }
        // In a last look 1 is missing, and in the one after it, too.
        let all = || (1..=12).map(|n| task(100 + n, 0)).chain([task(2, 65)]);
        let missed_once = look(&mut follow, 65, all());
        assert_eq!(missed_once.older, Cohort { born: 2, live: 1, stalled: 0 });
        assert_eq!(missed_once.older_ended_ns, None, "it may come back");
        let known = look(&mut follow, 70, all());
        assert_eq!(known.older, Cohort { born: 2, live: 1, stalled: 0 });
        assert_eq!(known.older_ended_ns, Some(60 * SECOND));
        assert_eq!(known.cohorts.len(), 15);
        assert_eq!(known.cohorts[0], Cohort::default());
        assert_eq!(known.cohorts[1], Cohort { born: 1, live: 1, stalled: 1 });
        assert_eq!(known.cohorts.iter().map(|cohort| cohort.live).sum::<u64>(), 12);
        assert_eq!((known.runs_seen, known.ran), (true, 1));
        assert!(known.longest_still_ns >= 60 * SECOND && known.longest_rest_ns <= 5 * SECOND, "{known:?}");
    }

    #[test]
    fn rests_of_its_like_make_a_task_less_conspicuous() {
        let mut follow = Follow::default();
        look(&mut follow, 0, [task(1, 0), task(2, 0)]);
        for at_s in 1..=14 {
            look(&mut follow, at_s, [task(1, 0), task(2, 0)]);
        }
        // 2 runs after 14 s: 1 may, too.
        let known = look(&mut follow, 15, [task(1, 0), task(2, 1)]);
        assert_eq!(known.older.stalled, 0, "{known:?}");
        let known = look(&mut follow, 30, [task(1, 0), task(2, 1)]);
        assert_eq!(known.older.stalled, 1, "{known:?}");
    }

    #[test]
    fn what_wakes_itself_is_not_stalled() {
        let mut follow = Follow::default();
        let sleeps = || CensusTask { wakes_itself: true, ..task(1, 0) };
        look(&mut follow, 0, [sleeps()]);
        assert_eq!(look(&mut follow, 100, [sleeps()]).older.stalled, 0);
    }

    #[test]
    fn stretches_grow_with_the_watch_and_lose_nobody() {
        let mut follow = Follow::default();
        for at_s in (0..=1_000).step_by(10) {
            look(&mut follow, at_s, (0..=at_s / 10).map(|n| task(1 + n, 0)));
        }
        let known = look(&mut follow, 1_000, (0..=100).map(|n| task(1 + n, 0)));
        assert!(known.cohorts.len() <= STRETCHES && known.stretch_ns == 80 * SECOND, "{known:?}");
        let sum = known.cohorts.iter().fold(known.older, |sum, cohort| sum.plus(*cohort));
        assert_eq!((sum.born, sum.live), (101, 101));
    }

    #[test]
    fn more_than_can_be_followed_are_sampled() {
        let mut follow = Follow::default();
        let many = || (1..=400_000).map(|id| task(id, 0));
        let known = look(&mut follow, 1, many());
        assert!(follow.tasks.len() <= MOST);
        let scaled = known.older.live * known.one_in;
        assert!((360_000..440_000).contains(&scaled), "{scaled}");
        assert!(known.older.born.abs_diff(known.older.live) < known.older.live / 10, "{known:?}");
    }

    #[test]
    fn tasks_started_in_one_go_are_next_to_each_other() {
        let mut follow = Follow::default();
        assert_eq!(look(&mut follow, 0, (50..100).map(|id| task(id, 0))).apart, Some(0));
        let mut follow = Follow::default();
        assert_eq!(look(&mut follow, 0, (1..100).map(|n| task(50 + 4 * n, 0))).apart, Some(2));
    }
}
