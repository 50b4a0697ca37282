//! Samples of watched processes: the kernel's tables and the processes' memory at one moment.
//!
//! Reading a table costs in proportion to its size, whether or not anything happened. So the counters, which cost
//! one system call, are read first: where they have not moved, the tables say what they said before.

use std::collections::BTreeMap;

use leakwatch_common::{Counter, RuntimeKind, lifetime_bucket};
use rustc_hash::FxHashMap;

use super::session::{Counting, Session};
use super::tokio_rt::Kinds;
use crate::{
    kernel::{Kernel, KernelError, LiveTask},
    observe::{AgeSummary, Census, Counters, Histogram, ProcessSample, SiteId, SiteSample},
};

/// What a sample should contain beside the counters, which are cheap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Read the live table for the ages of live tasks, where something started or ended since the last time.
    pub ages: bool,
    /// Read the process's memory: what tasks wait for, and the drift.
    pub census: bool,
    /// With their stacks.
    pub stacks: bool,
    /// Bytes of memory that may be looked through; a look that needs more is gone on with by the next ones, and there is no census
    /// until it is over. `None`: as many as there are.
    pub most_bytes: Option<u64>,
}

/// What the kernel's tables said of a process.
#[derive(Debug)]
pub(super) struct Last {
    counters: Counters,
    sites: BTreeMap<SiteId, SiteSample>,
    /// Starts and ends of what is no known task.
    strangers: [u64; 2],
    /// When the ages were read; `None`: they never were.
    ages: Option<AgesRead>,
}

/// Ages of a process's live tasks as they were read.
#[derive(Debug)]
struct AgesRead {
    counters: Counters,
    at_ns: u64,
    by_site: FxHashMap<SiteId, AgeSummary>,
}

/// Samples all open sessions, with one pass over each of the kernel's tables at most. The answer has one place for
/// each session, in their order; closed ones have `None`. Without a kernel side nothing is known but what memory shows.
///
/// # Errors
/// When a table of the kernel side cannot be read. A process that ended or whose memory cannot be read is not an
/// error: its figures are absent.
pub fn sample_all<'a, 'k>(
    kernel: impl Into<Option<&'k Kernel>>,
    sessions: impl IntoIterator<Item = &'a mut Session>,
    looks: Looks,
    now_ns: u64,
) -> Result<Vec<Option<ProcessSample>>, KernelError> {
    let kernel = kernel.into();
    let mut sessions: Vec<&mut Session> = sessions.into_iter().collect();
    let mut moved = FxHashMap::default();
    let mut before_tables = Vec::with_capacity(sessions.len());
    let mut kinds = FxHashMap::default();
    let mut stale_ages = false;
    for session in &mut sessions {
        let (Some(kernel), Some(watched)) = (kernel, &session.watched) else {
            before_tables.push(Counters::default());
            continue;
        };
        let counters = kernel.counters(watched)?;
        before_tables.push(counters);
        // Nothing of it is in the tables.
        if session.is_untouched() {
            continue;
        }
        let last = session.last.as_ref();
        stale_ages |= last
            .and_then(|last| last.ages.as_ref())
            .is_none_or(|then| tasks_moved(&then.counters, &counters));
        let stale = last.is_none_or(|last| tasks_moved(&last.counters, &counters));
        if session.threads.take_learnt() | stale {
            let sites = SitesRead { sites: session.sites_at_attach(), ..SitesRead::default() };
            moved.insert(session.incarnation(), sites);
        }
        kinds.extend(session.kinds().map(|kinds| (session.incarnation(), kinds)));
    }
    let mut ages = None;
    if let Some(kernel) = kernel {
        if !moved.is_empty() {
            read_sites(kernel, &kinds, &mut sessions, &mut moved)?;
        }
        if looks.ages && stale_ages {
            ages = Some(read_ages(kernel, &kinds, &mut sessions, now_ns)?);
        }
    }
    let mut samples = Vec::with_capacity(sessions.len());
    for (session, before) in sessions.iter_mut().zip(before_tables) {
        let sites = moved.remove(&session.incarnation());
        samples.push(session.sample(kernel, before, sites, ages.as_mut(), looks, now_ns)?);
    }
    Ok(samples)
}

/// A start or an end was counted between the two.
fn tasks_moved(before: &Counters, now: &Counters) -> bool {
    [Counter::Started, Counter::Ended, Counter::ThreadsStarted, Counter::ThreadsEnded]
        .into_iter()
        .any(|counter| before.get(counter) != now.get(counter))
}

impl Session {
    /// The sample; `None` when closed. `sites` are those of the kernel's table, where they were read, and `before` the
    /// counters before that: an event that came since is not surely in them, so the next look has to read them again.
    fn sample(
        &mut self,
        kernel: Option<&Kernel>,
        before: Counters,
        sites: Option<SitesRead>,
        ages: Option<&mut Ages>,
        looks: Looks,
        now_ns: u64,
    ) -> Result<Option<ProcessSample>, KernelError> {
        if !self.open {
            return Ok(None);
        }
        let mut counters = match (kernel, &self.watched) {
            // After the table: an event between the two makes a total larger, never smaller.
            (Some(kernel), Some(watched)) if !self.is_untouched() => kernel.counters(watched)?,
            _ => before,
        };
        let incarnation = self.incarnation();
        // Of one that nothing in the tables is of, this is all that is known beside its memory.
        let sites_at_attach = if self.last.is_none() { self.sites_at_attach() } else { BTreeMap::new() };
        let last = self.last.get_or_insert_with(|| Last {
            counters: Counters::default(),
            sites: sites_at_attach,
            strangers: [0; 2],
            ages: None,
        });
        if let Some(sites) = sites {
            last.sites = sites.sites;
            last.strangers = sites.strangers;
            last.counters = before;
        }
        let strangers = last.strangers;
        for (counter, hits) in [Counter::Started, Counter::Ended].into_iter().zip(strangers) {
            counters.set(counter, counters.get(counter).saturating_sub(hits));
        }
        last.age(incarnation, before, ages, now_ns);
        let kernel_sites = last.sites.clone();
        self.before_probes.add_to(&mut counters);
        self.note_refused(counters.get(Counter::NotATask));
        self.note_strangers(RuntimeKind::Tokio, strangers.into_iter().fold(0, u64::saturating_add));

        let mut sites = kernel_sites;
        let mut census: Option<Census> = None;
        for (kind, mut of_kind) in self.census(looks, now_ns) {
            if self.counting(kind) == Counting::Probes {
                let live = live_of(kind, sites.values());
                of_kind.drift = Some(live.cast_signed().wrapping_sub(of_kind.live.cast_signed()));
            } else {
                self.note_first_look(kind, &of_kind, &mut sites);
                self.count_by_memory(kind, &of_kind, &sites);
            }
            census.get_or_insert_default().add(of_kind);
        }
        let by_memory = self.runtimes.iter().any(|counted| counted.counting != Counting::Probes);
        if by_memory {
            sites.retain(|id, _| self.counting(id.runtime) == Counting::Probes);
            sites.extend(self.sites_by_memory().map(|site| (site.id, site.clone())));
            self.note_numbers();
            let tasks = || sites.values().filter(|site| site.id.runtime.is_probed());
            counters.set(Counter::Started, tasks().map(|site| site.started).sum());
            counters.set(Counter::Ended, tasks().map(|site| site.ended).sum());
        }
        // What came and went between two looks was started and has ended.
        for counter in [Counter::Started, Counter::Ended] {
            counters.set(counter, counters.get(counter).saturating_add(self.numbered.unseen));
        }
        let lost = counters.get(Counter::RingFull) > 0;
        let mut thread_names = None;
        if looks.census && !self.totals_only {
            self.children.look(lost);
            if let Some(kernel) = kernel.filter(|_| lost) {
                self.threads.resync(kernel, incarnation)?;
            }
            if let Some((mut of_threads, names)) = self.look_at_threads(looks, now_ns) {
                if self.runtimes.is_empty() {
                    let live = live_of(RuntimeKind::Thread, sites.values());
                    of_threads.drift = Some(live.cast_signed().wrapping_sub(of_threads.live.cast_signed()));
                } else {
                    // What is said of tasks is of the runtimes' tasks; of threads only what they wait for.
                    of_threads = Census {
                        waiting: of_threads.waiting,
                        followed: of_threads.followed,
                        ..Census::default()
                    };
                }
                census.get_or_insert_default().add(of_threads);
                thread_names = Some(names);
            }
        }
        let threads = &self.threads;
        self.children.sites(|number| threads.process_site(number), &mut sites);
        let usage = self.process.usage().ok();
        Ok(Some(ProcessSample {
            time_ns: now_ns,
            counters,
            sites: sites.into_values().collect(),
            threads_live: usage.map(|usage| usage.threads),
            rss_bytes: usage.map(|usage| usage.rss_bytes),
            census,
            thread_names,
            children: self.children.sample(),
            proof: None,
        }))
    }
}

impl Session {
    /// The kernel side counts nothing of it but totals: its sites and tasks are in none of the tables, and never were.
    fn is_untouched(&self) -> bool {
        let by_memory = self.runtimes.iter().all(|counted| counted.counting == Counting::Memory);
        self.totals_only && by_memory
    }
}

/// Live tasks of a runtime.
fn live_of<'a>(kind: RuntimeKind, sites: impl Iterator<Item = &'a SiteSample>) -> u64 {
    sites.filter(|site| site.id.runtime == kind).map(SiteSample::live).sum()
}

impl Last {
    /// Brings the ages up to date: newly read ones, or the same tasks grown older, or unknown.
    fn age(&mut self, incarnation: u32, counters: Counters, read: Option<&mut Ages>, now_ns: u64) {
        if let Some(read) = read {
            let of_site = |&id: &SiteId| Some((id, summarise(read.remove(&(incarnation, id))?)));
            let by_site = self.sites.keys().filter_map(of_site).collect();
            self.ages = Some(AgesRead { counters, at_ns: now_ns, by_site });
        }
        let known = self.ages.as_ref().filter(|read| !tasks_moved(&read.counters, &counters));
        for site in self.sites.values_mut() {
            site.ages = known.map(|read| {
                let passed = now_ns.saturating_sub(read.at_ns);
                // A site without an entry has no live task that was born since the attach: known, and none.
                let ages = read.by_site.get(&site.id).cloned().unwrap_or_default();
                if passed == 0 { ages } else { ages.older_by(passed) }
            });
        }
    }
}

/// A process's sites in the kernel's table.
#[derive(Default)]
struct SitesRead {
    sites: BTreeMap<SiteId, SiteSample>,
    /// Starts and ends of what is no known task.
    strangers: [u64; 2],
}

/// The kinds that one probe sees, by incarnation.
type KindsOf = FxHashMap<u32, Kinds>;

/// The site as the report has it: what one probe sees is told apart by its entry. `None`: it is no task that is known.
fn told_apart(kinds: &KindsOf, incarnation: u32, id: SiteId) -> Option<SiteId> {
    match (id.runtime, kinds.get(&incarnation)) {
        (RuntimeKind::Tokio, Some(kinds)) => kinds.get(&id.entry).map(|&runtime| SiteId { runtime, ..id }),
        _ => Some(id),
    }
}

/// Adds the kernel's figures to those of `processes`, whose sessions say what numbers of threads mean.
fn read_sites(
    kernel: &Kernel,
    kinds: &KindsOf,
    sessions: &mut [&mut Session],
    processes: &mut FxHashMap<u32, SitesRead>,
) -> Result<(), KernelError> {
    let places = places(sessions);
    kernel.for_each_site(|incarnation, id, counters| {
        let Some(read) = processes.get_mut(&incarnation) else { return };
        let Some(id) = told_apart(kinds, incarnation, id) else {
            let [started, ended] = &mut read.strangers;
            *started = started.saturating_add(counters.started);
            *ended = ended.saturating_add(counters.ended);
            return;
        };
        let session = places.get(&incarnation).and_then(|place| sessions.get_mut(*place));
        let id = session.map_or(id, |session| session.threads.read(id, counters));
        let site = read.sites.entry(id).or_insert_with(|| empty_site(id));
        site.live_at_attach = site
            .live_at_attach
            .saturating_add(counters.ended_before_seen)
            .saturating_sub(counters.seen_in_vain);
        // Several of the kernel's sites may be one: the numbers of stacks that were made by the same call.
        site.started += counters.started;
        site.ended += counters.ended;
        site.lifetimes.add(&counters.lifetimes);
    })
}

/// Where the session of an incarnation is.
fn places(sessions: &[&mut Session]) -> FxHashMap<u32, usize> {
    sessions.iter().enumerate().map(|(place, session)| (session.incarnation(), place)).collect()
}

/// Ages in ns of the live tasks whose birth was seen, by incarnation and site.
type Ages = FxHashMap<(u32, SiteId), Vec<u64>>;

fn read_ages(
    kernel: &Kernel,
    kinds: &KindsOf,
    sessions: &mut [&mut Session],
    now_ns: u64,
) -> Result<Ages, KernelError> {
    let mut ages = Ages::default();
    let places = places(sessions);
    for session in sessions.iter_mut() {
        session.witnesses.begin();
    }
    kernel.for_each_live(|incarnation, task: LiveTask| {
        let site = told_apart(kinds, incarnation, task.site);
        let session = places.get(&incarnation).and_then(|place| sessions.get_mut(*place));
        if let Some(session) = session
            && task.site.runtime == RuntimeKind::Go
        {
            session.witnesses.meet(task.task, task.born_ns);
        }
        if let (Some(born), Some(site)) = (task.born_ns, site) {
            let session = places.get(&incarnation).and_then(|place| sessions.get(*place));
            let site = session.map_or(site, |session| session.threads.site(site));
            ages.entry((incarnation, site)).or_default().push(now_ns.saturating_sub(born));
        }
    })?;
    for session in sessions.iter_mut() {
        session.witnesses.close();
    }
    Ok(ages)
}

fn summarise(mut ages: Vec<u64>) -> AgeSummary {
    ages.sort_unstable();
    let at = |percent: usize| ages.get((ages.len().saturating_sub(1)) * percent / 100).copied().unwrap_or(0);
    let mut by_bucket = Histogram::default();
    for &age in &ages {
        by_bucket.count(lifetime_bucket(age), 1);
    }
    AgeSummary {
        count: ages.len() as u64,
        p50_ns: at(50),
        p99_ns: at(99),
        max_ns: ages.last().copied().unwrap_or(0),
        by_bucket,
    }
}

/// A site of which nothing was counted.
pub(super) fn empty_site(id: SiteId) -> SiteSample {
    SiteSample { id, live_at_attach: 0, started: 0, ended: 0, lifetimes: Histogram::default(), ages: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_process_grows_older_without_a_look() {
        let id = SiteId { runtime: RuntimeKind::Go, site: 1, entry: 2 };
        let mut last = Last {
            counters: Counters::default(),
            sites: BTreeMap::from_iter([(id, empty_site(id))]),
            strangers: [0; 2],
            ages: None,
        };
        let mut read = Ages::from_iter([((7, id), vec![30, 10, 20])]);
        last.age(7, Counters::default(), Some(&mut read), 100);
        last.age(7, Counters::default(), None, 150);
        let ages = last.sites[&id].ages.as_ref().expect("known");
        assert_eq!((ages.count, ages.p50_ns, ages.p99_ns, ages.max_ns), (3, 70, 70, 80));
        assert_eq!(ages.by_bucket[0], 3);
        let mut busy = Counters::default();
        busy.set(Counter::Started, 1);
        last.age(7, busy, None, 160);
        assert_eq!(last.sites[&id].ages, None, "unknown, not a guess");
    }
}
