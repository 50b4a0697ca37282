//! Follows tasks by their identity from one look at memory to the next: who was born when, who ended, who runs.
//!
//! Works without any probe. A task is its runtime, number and address. A task that is missing in one look may not have
//! held still; missing in two, it has ended. Whether it runs between looks is seen by a figure that its runtime keeps of
//! it and that changes with every run ([`CensusTask::runs`]).
//!
//! Bounded: beyond [`MOST`] tasks, one in two, four, … is followed, chosen by a hash of its identity. It must never judge
//! (that is `detect`), read a clock, or look at a process.

use std::hash::BuildHasher as _;

use leakwatch_common::lifetime_bucket;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::observe::{CensusTask, Cohort, Followed, Histogram, STRETCHES, SiteId, TaskStatus};

/// Most tasks followed in one process. A hash table with 2^17 places takes 114,688, and half of these are few enough for it to
/// clear itself up in place.
const MOST: usize = 110_000;

/// Length of a stretch of births at first; it doubles when there are too many of them.
const STRETCH_NS: u64 = 5_000_000_000;

/// A task that did not run for less than this is not stalled.
const STALLED_LEAST_NS: u64 = 10_000_000_000;

/// A task is stalled when it stood still for this many times as long as the longest rest seen at its site.
const RESTS: u64 = 2;

/// Number and address. What goes by one number in two runtimes of a kind has two addresses.
type Key = (u64, u64);

/// A task that is followed: there may be a hundred thousand.
#[derive(Debug)]
struct One {
    /// When it was met.
    met_ns: u64,
    /// It was seen to run last, or was met.
    ran_ns: u64,
    /// The low half of [`CensusTask::runs`], which comes round anyway.
    runs: Option<u32>,
    /// Its place in [`Follow::sites`].
    site: u32,
    /// Look in which it was seen last.
    look: u32,
    /// It was there when following began.
    older: bool,
    has_run: bool,
    /// It waits for nothing but the time.
    wakes_itself: bool,
}

/// What is kept of a site beside its live tasks.
#[derive(Debug)]
struct Site {
    id: SiteId,
    older_born: u64,
    born: Vec<u64>,
    lifetimes: Histogram,
    older_ended_ns: Option<u64>,
    longest_rest_ns: u64,
}

/// The tasks of one runtime in a process.
#[derive(Debug)]
pub(super) struct Follow {
    tasks: FxHashMap<Key, One>,
    sites: Vec<Site>,
    places: FxHashMap<SiteId, u32>,
    /// Bits of the hash that must be 0.
    mask: u64,
    stretch_ns: u64,
    /// `None` before the first look.
    since_ns: Option<u64>,
    /// Number of the present look, and when it, the one before it and the one before that were.
    look: u32,
    now_ns: u64,
    before_ns: u64,
    long_before_ns: u64,
}

impl Default for Follow {
    fn default() -> Self {
        Self {
            tasks: FxHashMap::default(),
            sites: Vec::new(),
            places: FxHashMap::default(),
            mask: 0,
            stretch_ns: STRETCH_NS,
            since_ns: None,
            look: 0,
            now_ns: 0,
            before_ns: 0,
            long_before_ns: 0,
        }
    }
}

impl Follow {
    /// A look begins.
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.long_before_ns = self.before_ns;
        self.before_ns = self.now_ns;
        self.now_ns = now_ns.max(self.now_ns);
        self.since_ns.get_or_insert(self.now_ns);
        self.look += 1;
        while self.elapsed_ns(self.now_ns) / self.stretch_ns >= STRETCHES as u64 {
            self.stretch_ns = self.stretch_ns.saturating_mul(2);
            for site in &mut self.sites {
                site.born = site.born.chunks(2).map(|pair| pair.iter().sum()).collect();
            }
        }
    }

    /// The look shows a live task.
    pub(super) fn see(&mut self, task: &CensusTask) {
        let key = (task.id, task.address);
        if !is_followed(key, self.mask) {
            return;
        }
        let (now_ns, look) = (self.now_ns, self.look);
        let busy = matches!(task.status, TaskStatus::Running | TaskStatus::Runnable);
        #[expect(clippy::cast_possible_truncation, reason = "it comes round anyway")]
        let runs = task.runs.map(|runs| runs as u32);
        let place = self.place(task.site);
        if let Some(one) = self.tasks.get_mut(&key) {
            one.look = look;
            one.wakes_itself = task.wakes_itself;
            // What a thread runs, and with it its site, may become known only after it was met.
            if one.site != place {
                self.moved(key, place);
            } else if busy || runs != one.runs {
                let rest_ns = self.before_ns.saturating_sub(one.ran_ns);
                one.runs = runs;
                one.ran_ns = now_ns;
                one.has_run = true;
                if let Some(site) = site_mut(&mut self.sites, place) {
                    site.longest_rest_ns = site.longest_rest_ns.max(rest_ns);
                }
            }
            return;
        }
        if self.tasks.len() >= MOST {
            self.thin_out();
            if !is_followed(key, self.mask) {
                return;
            }
        }
        let older = look == 1;
        self.count_birth(place, older, now_ns);
        let one = One {
            met_ns: now_ns,
            ran_ns: now_ns,
            runs,
            site: place,
            look,
            older,
            has_run: false,
            wakes_itself: task.wakes_itself,
        };
        self.tasks.insert(key, one);
    }

    /// The look could not be brought to its end: whom it did not show is not missing. What is known is again what it was
    /// before it, but for those that were met.
    pub(super) fn abandon(&mut self) {
        self.look = self.look.saturating_sub(1);
        let look = self.look;
        self.tasks.values_mut().for_each(|one| one.look = one.look.min(look));
        (self.now_ns, self.before_ns) = (self.before_ns, self.long_before_ns);
    }

    /// The look is over: what is known of each site by now.
    pub(super) fn end(&mut self) -> Vec<Followed> {
        self.bury();
        let Some(since_ns) = self.since_ns.filter(|_| self.look > 0) else { return Vec::new() };
        // As the sites are.
        let mut all: Vec<Followed> = self.sites.iter().map(|site| self.nothing(site.id, since_ns)).collect();
        let mut numbers: Vec<Option<(u64, u64)>> = vec![None; all.len()];
        // Whom this look does not show is not said to live: with long times between looks that would be wrong for long.
        for (&(number, _), one) in self.tasks.iter().filter(|(_, one)| one.look == self.look) {
            let at = one.site as usize;
            let (Some(site), Some(known)) = (self.sites.get(at), all.get_mut(at)) else { continue };
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
                if let Some(numbers) = numbers.get_mut(at) {
                    let (low, high) = numbers.unwrap_or((number, number));
                    *numbers = Some((low.min(number), high.max(number)));
                }
            } else if let Some(sum) = known.cohorts.get_mut(self.stretch(one.met_ns)) {
                *sum = sum.plus(cohort);
            }
        }
        for ((site, known), numbers) in self.sites.iter().zip(&mut all).zip(numbers) {
            known.older.born = site.older_born;
            for (cohort, &born) in known.cohorts.iter_mut().zip(&site.born) {
                cohort.born = born;
            }
            known.lifetimes.clone_from(&site.lifetimes);
            known.older_ended_ns = site.older_ended_ns;
            known.longest_rest_ns = site.longest_rest_ns;
            if let Some((low, high)) = numbers.filter(|(low, high)| high > low) {
                let others = (high - low + 1).saturating_sub(known.older.live.saturating_mul(self.mask + 1));
                known.apart = others.checked_div(known.older.live);
            }
        }
        all.sort_unstable_by_key(|known| known.site);
        all
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
            lifetimes: Histogram::default(),
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
        // Each look buries those that were seen two looks ago, and not since.
        let seen_ns = self.long_before_ns;
        let sites = &mut self.sites;
        self.tasks.retain(|_, one| {
            if one.look + 1 >= look {
                return true;
            }
            if let Some(site) = site_mut(sites, one.site) {
                if one.older {
                    site.older_ended_ns = site.older_ended_ns.max(Some(seen_ns.saturating_sub(since_ns)));
                } else {
                    // It may have been born just after the look before it was met, and ended before the next.
                    let lived_ns = seen_ns.saturating_sub(one.met_ns);
                    let lived_ns = lived_ns.saturating_add(now_ns.saturating_sub(seen_ns) / 2);
                    site.lifetimes.count(lifetime_bucket(lived_ns), 1);
                }
            }
            false
        });
    }

    /// Follows half as many from here on.
    fn thin_out(&mut self) {
        self.mask = self.mask * 2 + 1;
        let mask = self.mask;
        self.tasks.retain(|&key, _| is_followed(key, mask));
        for site in &mut self.sites {
            site.older_born /= 2;
            site.born.iter_mut().for_each(|count| *count /= 2);
            site.lifetimes.halve();
        }
    }

    /// A task that was met is of another site than was thought.
    fn moved(&mut self, key: Key, to: u32) {
        let Some(one) = self.tasks.get_mut(&key) else { return };
        let from = std::mem::replace(&mut one.site, to);
        let (older, met_ns) = (one.older, one.met_ns);
        let stretch = self.stretch(met_ns);
        if let Some(site) = site_mut(&mut self.sites, from) {
            if older {
                site.older_born = site.older_born.saturating_sub(1);
            } else if let Some(born) = site.born.get_mut(stretch) {
                *born = born.saturating_sub(1);
            }
        }
        self.count_birth(to, older, met_ns);
    }

    fn count_birth(&mut self, place: u32, older: bool, met_ns: u64) {
        let stretch = self.stretch(met_ns);
        let Some(site) = site_mut(&mut self.sites, place) else { return };
        if older {
            site.older_born += 1;
            return;
        }
        if site.born.len() <= stretch {
            site.born.resize(stretch + 1, 0);
        }
        if let Some(born) = site.born.get_mut(stretch) {
            *born += 1;
        }
    }

    /// Where what is kept of a site stands, from now on at least.
    fn place(&mut self, id: SiteId) -> u32 {
        *self.places.entry(id).or_insert_with(|| {
            self.sites.push(Site {
                id,
                older_born: 0,
                born: Vec::new(),
                lifetimes: Histogram::default(),
                older_ended_ns: None,
                longest_rest_ns: 0,
            });
            u32::try_from(self.sites.len() - 1).unwrap_or(u32::MAX)
        })
    }

    fn elapsed_ns(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.since_ns.unwrap_or(at_ns))
    }

    fn stretch(&self, at_ns: u64) -> usize {
        usize::try_from(self.elapsed_ns(at_ns) / self.stretch_ns).unwrap_or(STRETCHES).min(STRETCHES - 1)
    }
}

fn is_followed(key: Key, mask: u64) -> bool {
    FxBuildHasher.hash_one(key) >> 32 & mask == 0
}

fn site_mut(sites: &mut [Site], place: u32) -> Option<&mut Site> {
    sites.get_mut(place as usize)
}

#[cfg(test)]
mod tests {
    use leakwatch_common::RuntimeKind;

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
    fn whom_a_broken_look_did_not_show_has_not_ended() {
        let mut follow = Follow::default();
        let both = || [task(1, 0), task(2, 0)];
        look(&mut follow, 0, both());
        look(&mut follow, 10, both());
        for at_s in [20, 30, 40] {
            follow.begin(at_s * SECOND);
            follow.see(&task(1, 0));
            follow.abandon();
            let known = follow.end().into_iter().next().expect("a site");
            assert_eq!(
                (known.older.live, known.now_ns),
                (2, 10 * SECOND),
                "as the last whole look showed it"
            );
        }
        assert_eq!(look(&mut follow, 50, both()).older, Cohort { born: 2, live: 2, stalled: 2 });
        look(&mut follow, 60, [task(1, 0)]);
        assert_eq!(look(&mut follow, 70, [task(1, 0)]).older_ended_ns, Some(50 * SECOND));
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
