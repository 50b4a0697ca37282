//! Processes that are looked at without being touched: their tasks by memory, of threads and children the totals. And the
//! way from there to probes and back, without a figure that jumps.
//!
//! While there are no probes, a site's starts and ends are what its live count rose and fell by from look to look. Of all
//! starts together Go's runtime keeps a number itself (`sched.goidgen`), so that those are known that came and went between
//! two looks. When probes are placed, the kernel's counters begin at what was counted until then; when they are taken off,
//! counting by memory goes on from what they counted. Must never let a total go back.

use std::collections::BTreeMap;

use leakwatch_common::{Counter, RuntimeKind, process_flags};

use super::{
    attach::{self, AtAttach},
    error::CollectError,
    found::Found,
    runtime::{self, Runtime, Tasks},
    session::{Ask, Counted, Counting, Mode, Session},
};
use crate::{
    host::{ProcessMemory, own},
    images::Image,
    kernel::Kernel,
    observe::{Counters, SiteId, SiteSample},
};

/// How a reason ends for which probes were taken off: of several only the last one is told.
pub const SAMPLED_SINCE: &str = "its tasks are counted by memory since";

/// To place probes takes two whole looks at the tasks, in one go: a process with more memory than this, bytes, gets none.
const MOST_FOR_PROBES: u64 = 1 << 30;

/// What is said then, behind the number of megabytes.
const TOO_LARGE: &str = "MB of memory are too much to be looked through in one go, as probes need it: its tasks are counted by memory";

/// What was counted by memory until probes were placed.
#[derive(Debug, Default)]
pub(super) struct BeforeProbes {
    /// By site. What is alive of it was entered into the kernel's live table.
    pub(super) sites: BTreeMap<SiteId, SiteSample>,
    /// The kernel's counters at that moment: they may be from an earlier time of probes, which is in `sites`.
    counters: Counters,
}

impl BeforeProbes {
    /// The kernel's counters, of tasks beginning at what was counted before.
    pub(super) fn add_to(&self, counters: &mut Counters) {
        if self.sites.is_empty() && self.counters == Counters::default() {
            return;
        }
        let sum = |figure: fn(&SiteSample) -> u64| self.sites.values().map(figure).sum::<u64>();
        let sums = [(Counter::Started, sum(|site| site.started)), (Counter::Ended, sum(|site| site.ended))];
        for (counter, before) in sums {
            let since = counters.get(counter).saturating_sub(self.counters.get(counter));
            counters.set(counter, before.saturating_add(since));
        }
    }
}

/// Goroutines by their numbers.
///
/// Numbers are given out by processor, 16 at a time (`_GoidCacheBatch` of runtime/proc.go), and not given back: the total
/// is exact to within 16 for each processor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbered {
    /// The next number, and what the sites had counted, when memory was looked at last.
    last: Option<(u64, u64)>,
    /// Starts that no site shows: their goroutines ended before the next look.
    pub(super) unseen: u64,
    /// The next number when probes were taken off, until memory is looked at.
    off_at: Option<u64>,
    /// The numbers from 1 on are of this watch, except for so many which perhaps nobody has, until memory is looked at.
    newborn: Option<u64>,
}

/// Numbers that a processor is given at once: `_GoidCacheBatch` of runtime/proc.go.
const BATCH: u64 = 16;

impl Numbered {
    /// A process that begins to run its program, on a machine with so many processors.
    fn newborn(processors: u32) -> Self {
        Self { newborn: Some(BATCH.saturating_mul(u64::from(processors))), ..Self::default() }
    }

    /// The next number to be given is this, and by their sites this many were started.
    fn take(&mut self, next: u64, by_sites: u64) {
        // It had none: what was numbered and no site shows has come and gone, unless it was only given to a processor.
        let first = self.newborn.take().map(|given| (given.min(next), 0));
        if let Some((before, sites_before)) = self.last.or(first) {
            let started = next.saturating_sub(before);
            let shown = by_sites.saturating_sub(sites_before);
            self.unseen = self.unseen.saturating_add(started.saturating_sub(shown));
        }
        self.last = Some((next, by_sites));
    }

    /// Starts are counted by probes from here on. Until the next number was this, they counted so many; by their sites so
    /// many were started before.
    fn pause(&mut self, next: Option<u64>, by_probes: u64, by_sites: u64) {
        if let Some(next) = next.filter(|_| self.last.is_some()) {
            self.take(next.saturating_sub(by_probes), by_sites);
        }
        self.newborn = None;
        self.last = None;
    }

    /// Probes were taken off when the next number was this.
    pub(super) fn probes_off(&mut self, next: Option<u64>) {
        self.off_at = next;
    }

    /// By their sites this many had been started when probes were taken off.
    fn go_on(&mut self, by_sites: u64) {
        if let Some(next) = self.off_at.take() {
            self.last = Some((next, by_sites));
        }
    }
}

impl Session {
    /// Looks on as a process lives: its tasks by memory, and of threads and children the totals, where there is a kernel
    /// side that counts them. Nothing of the process is touched.
    ///
    /// # Errors
    /// As [`Session::attach`].
    pub fn look_on(kernel: Option<&mut Kernel>, found: Found) -> Result<Self, CollectError> {
        let Found { process, newborn, loaded, modules, libraries } = found;
        let pid = process.pid();
        let image = Image::new(loaded, libraries);
        let memory = ProcessMemory::open(&process)?;
        let runtimes = runtime::recognise(pid, &image, &memory, Mode::Memory)?;
        let watched = kernel.map(|kernel| kernel.watch(pid, process_flags::THREAD_TOTALS)).transpose()?;
        let kinds = runtimes.iter().filter(|runtime| runtime.tasks.is_some()).map(|runtime| runtime.kind);
        let unseen = kinds.collect();
        let parts = (image, modules, memory);
        let mut session = Self::new(process, parts, runtimes, watched, AtAttach::default());
        session.totals_only = true;
        session.newborn = newborn;
        session.numbered = if newborn { Numbered::newborn(own::processors()) } else { Numbered::default() };
        session.unseen = unseen;
        Ok(session)
    }

    /// Counts by probes from now on, where they can be placed; `false`: nowhere. Figures go on from what memory showed.
    ///
    /// # Errors
    /// When the kernel refuses, the process's memory cannot be read, or it ends. It is counted by memory as before then.
    pub async fn put_probes_on(&mut self, kernel: &mut Kernel) -> Result<bool, CollectError> {
        let pid = self.process.pid();
        let Some(watched) = self.watched.as_mut().filter(|_| self.totals_only) else { return Ok(false) };
        let planned = runtime::recognise(pid, &self.image, &self.memory, Ask::default().mode)?;
        if self.looked_through > MOST_FOR_PROBES {
            let megabytes = self.looked_through >> 20;
            self.note_hits(RuntimeKind::Tokio, megabytes, TOO_LARGE);
            return Ok(false);
        }
        let places: Vec<(usize, Runtime)> = planned
            .into_iter()
            .enumerate()
            .filter(|(place, plan)| {
                let known = self.runtimes.get(*place);
                !plan.probes.is_empty() && known.is_some_and(|known| known.runtime.kind == plan.kind)
            })
            .collect();
        if places.is_empty() {
            return Ok(false);
        }
        let kinds: Vec<RuntimeKind> = places.iter().map(|(_, plan)| plan.kind).collect();
        let is_probed = move |kind: RuntimeKind| {
            kinds.contains(&kind)
                || (kind == RuntimeKind::TokioBlocking && kinds.contains(&RuntimeKind::Tokio))
        };
        // An earlier time of probes is in the figures by memory.
        kernel.forget_tasks(watched, &is_probed)?;
        self.witnesses.begin_anew();
        let before = kernel.counters(watched)?;
        let plans: Vec<&Runtime> = places.iter().map(|(_, plan)| plan).collect();
        let taken =
            attach::take_in(kernel, watched, &self.memory, &plans, process_flags::THREAD_TOTALS).await;
        let live = match taken {
            Ok(found) => found.live,
            Err(error) => {
                kernel.detach(watched);
                kernel.set_flags(watched, process_flags::THREAD_TOTALS)?;
                kernel.forget_tasks(watched, &is_probed)?;
                return Err(error);
            }
        };
        for (place, plan) in places {
            if let Some(counted) = self.runtimes.get_mut(place) {
                counted.runtime.probes = plan.probes;
                counted.runtime.problems.retain(|problem| !problem.ends_with(SAMPLED_SINCE));
                counted.counting = Counting::Probes;
            }
        }
        let next = self.next_number();
        // Read later: what started between the two is missed rather than counted twice.
        let counted = match (&self.watched, next) {
            (Some(watched), Some(_)) => kernel.counters(watched)?.get(Counter::Started),
            _ => 0,
        };
        let by_probes = counted.saturating_sub(before.get(Counter::Started));
        let by_sites = self.go_on_from_memory(&live, before, is_probed);
        self.numbered.pause(next, by_probes, by_sites);
        Ok(true)
    }

    /// What memory showed becomes what the kernel's counters begin at; `live` is what was entered there as alive. How many
    /// goroutines were started until then.
    fn go_on_from_memory(
        &mut self,
        live: &BTreeMap<SiteId, u64>,
        counters: Counters,
        is_probed: impl Fn(RuntimeKind) -> bool,
    ) -> u64 {
        let mut sites: BTreeMap<SiteId, SiteSample> =
            self.sites_at_attach().into_iter().filter(|(id, _)| is_probed(id.runtime)).collect();
        sites.extend(
            self.by_memory
                .iter()
                .filter(|(id, _)| is_probed(id.runtime))
                .map(|(&id, site)| (id, site.clone())),
        );
        self.by_memory.retain(|id, _| !is_probed(id.runtime));
        self.at_attach.live.retain(|id, _| !is_probed(id.runtime));
        for &id in live.keys() {
            sites.entry(id).or_insert_with(|| super::sample::empty_site(id));
        }
        for (id, site) in &mut sites {
            site.come_to(live.get(id).copied().unwrap_or(0));
        }
        let started = goroutines_started(sites.values());
        self.before_probes = BeforeProbes { sites, counters };
        // The tables are read anew.
        self.last = None;
        started
    }

    /// Takes note of how many goroutines were numbered, while they are counted by memory.
    pub(super) fn note_numbers(&mut self) {
        let is_probed = |counted: &Counted| {
            counted.runtime.kind == RuntimeKind::Go && counted.counting == Counting::Probes
        };
        if self.runtimes.iter().any(is_probed) {
            return;
        }
        if let Some(next) = self.next_number() {
            self.numbered.take(next, goroutines_started(self.by_memory.values()));
        }
    }

    /// Counting by memory begins after probes; `sites` are as the probes left them.
    pub(super) fn go_on_from_probes<'a>(&mut self, sites: impl Iterator<Item = &'a SiteSample>) {
        self.numbered.go_on(goroutines_started(sites));
    }

    /// The number that the next goroutine gets; `None`: there is no Go runtime, or it cannot be read.
    pub(super) fn next_number(&self) -> Option<u64> {
        let mut tasks = self.runtimes.iter().filter_map(|counted| counted.runtime.tasks.as_ref());
        tasks.find_map(|tasks| match tasks {
            Tasks::Go(go) => go.next_number(&self.memory),
            Tasks::Tokio(_) => None,
        })
    }
}

fn goroutines_started<'a>(sites: impl Iterator<Item = &'a SiteSample>) -> u64 {
    sites.filter(|site| site.id.runtime == RuntimeKind::Go).map(|site| site.started).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_went_between_two_looks_is_known_by_its_numbers() {
        let mut numbered = Numbered::default();
        numbered.take(1000, 5);
        assert_eq!(numbered.unseen, 0, "what was before the first look is not ours");
        numbered.take(1100, 15);
        assert_eq!(numbered.unseen, 90);
        numbered.take(1104, 25);
        assert_eq!(numbered.unseen, 90, "numbers are given out in batches: sites may be ahead of them");
        // Ten came before the probes and went; four are alive, and two the probes have counted already.
        numbered.pause(Some(1120), 2, 29);
        assert_eq!(numbered.unseen, 100);
        numbered.take(5000, 3000);
        assert_eq!(numbered.unseen, 100, "what probes counted is not unseen");
        // Probes were taken off at 6000; by the next look 50 more had come, of which it shows 20.
        numbered.probes_off(Some(6000));
        numbered.go_on(4000);
        numbered.take(6050, 4020);
        assert_eq!(numbered.unseen, 130);
    }

    #[test]
    fn a_newborn_had_no_number() {
        let mut few = Numbered::newborn(2);
        few.take(33, 5);
        assert_eq!(few.unseen, 0, "two processors have 16 numbers each, and have given five of them away");
        let mut many = Numbered::newborn(2);
        many.take(1041, 9);
        assert_eq!(many.unseen, 1000);
        many.take(1051, 9);
        assert_eq!(many.unseen, 1010, "from the first look on as of any other");
        let mut probed = Numbered::newborn(2);
        probed.pause(Some(1000), 0, 9);
        probed.take(2000, 9);
        assert_eq!(probed.unseen, 0, "what was before the probes is not counted after them");
    }

    #[test]
    fn the_kernels_counters_begin_where_memory_ended() {
        let id = SiteId { runtime: RuntimeKind::Go, site: 1, entry: 2 };
        let site =
            SiteSample { live_at_attach: 1, started: 10, ended: 4, ..super::super::sample::empty_site(id) };
        let mut counters = Counters::default();
        counters.set(Counter::Started, 100);
        counters.set(Counter::Ended, 100);
        let before = BeforeProbes { sites: BTreeMap::from_iter([(id, site)]), counters };
        counters.set(Counter::Started, 103);
        before.add_to(&mut counters);
        assert_eq!((counters.get(Counter::Started), counters.get(Counter::Ended)), (13, 4));
        let mut untouched = Counters::default();
        untouched.set(Counter::Started, 7);
        BeforeProbes::default().add_to(&mut untouched);
        assert_eq!(untouched.get(Counter::Started), 7);
    }
}
