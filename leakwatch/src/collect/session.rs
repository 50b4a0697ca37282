//! A watched process, and samples of it.

use std::fmt;

use leakwatch_common::{LIFETIME_BUCKETS, process_flags};
use rustc_hash::FxHashMap;

use super::{
    attach::{self, AtAttach, CollectError},
    go::{GoRuntime, Stacks},
};
use crate::{
    host::{Process, ProcessMemory},
    images::Image,
    kernel::{Kernel, KernelError, LiveTask, Watched},
    observe::{AgeSummary, Census, Counters, Event, ProcessSample, SiteId, SiteSample},
};

/// What a sample should contain beside the counters, which are cheap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Read the live table for the ages of live tasks.
    pub ages: bool,
    /// Read the process's memory: what tasks wait for, and the drift.
    pub census: bool,
    /// With their stacks.
    pub stacks: bool,
}

/// How a process's tasks are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By probes: every start and end.
    Probes,
    /// By looking at memory now and then: no probe, no cost to the program, no rates by site.
    Memory,
}

/// One watched process. Give it back with [`Session::close`].
pub struct Session {
    process: Process,
    image: Image,
    memory: ProcessMemory,
    go: GoRuntime,
    watched: Watched,
    mode: Mode,
    at_attach: AtAttach,
    problems: Vec<String>,
}

impl Session {
    /// Attaches to a running process.
    ///
    /// # Errors
    /// When the process has no runtime that we know, when something that watching needs was not found, when the
    /// kernel refuses, or when the process ends meanwhile. Nothing is left attached then.
    pub async fn attach(
        kernel: &mut Kernel,
        process: Process,
        mode: Mode,
        stream: bool,
    ) -> Result<Self, CollectError> {
        let pid = process.pid();
        let image = Image::of_process(&process)?;
        let exe = image.path().display().to_string();
        let facts = image.inspection().go.as_ref().ok_or_else(|| CollectError::NoRuntime { pid, exe: exe.clone() })?;
        let incomplete = |why: String| CollectError::Incomplete { pid, exe: exe.clone(), why };
        let memory = ProcessMemory::open(&process)?;
        let mut problems: Vec<String> = facts.problems.iter().map(|problem| problem.0.clone()).collect();
        if mode == Mode::Probes && (facts.start.is_none() || facts.end.is_none()) {
            return Err(incomplete(problems.join("; ")));
        }
        if let Some(problem) = image.check_sites(&memory).into_iter().next() {
            return Err(incomplete(problem.0));
        }
        let go = attach::go_runtime(facts, image.bias(), &memory).map_err(&incomplete)?;
        let mut watched = kernel.watch(pid)?;
        let flags = if stream { process_flags::STREAM } else { 0 };
        let attached = match mode {
            Mode::Probes => attach::attach(kernel, &mut watched, &image, &memory, facts, &go, flags).await,
            Mode::Memory => Ok(AtAttach::default()),
        };
        let at_attach = match attached {
            Ok(at_attach) => at_attach,
            Err(error) => {
                kernel.forget(watched)?;
                // Whatever the end of the process made fail, the true sentence is that it ended.
                return Err(if process.alive() {
                    error
                } else {
                    CollectError::Host(crate::host::HostError::Ended { pid })
                });
            }
        };
        if at_attach.unreadable > 0 {
            problems.push(format!(
                "{} goroutines could not be read at attach and are in no figure until they end",
                at_attach.unreadable
            ));
        }
        Ok(Self { process, image, memory, go, watched, mode, at_attach, problems })
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its executable.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The executable, to look names up in (its cache changes).
    pub fn image_mut(&mut self) -> &mut Image {
        &mut self.image
    }

    /// How its tasks are counted.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The number that its events carry.
    pub fn incarnation(&self) -> u32 {
        self.watched.incarnation()
    }

    /// What is missing or odd, for the report.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Tasks that were alive at attach, the runtime's own among them.
    pub fn live_at_attach(&self) -> u64 {
        self.at_attach.live.values().sum()
    }

    /// Whether an event is of this process.
    pub fn owns(&self, event: &Event) -> bool {
        event.process == self.watched.incarnation()
    }

    /// Takes everything off again.
    ///
    /// # Errors
    /// When the kernel's tables cannot be cleaned; the probes are off all the same.
    pub fn close(self, kernel: &mut Kernel) -> Result<(), KernelError> {
        kernel.forget(self.watched)
    }

    fn census(&self, live_by_probes: u64, looks: Looks, now_ns: u64) -> Option<Census> {
        let stacks = if looks.stacks { Stacks::Read } else { Stacks::Skip };
        let mut census = self.go.census(&self.memory, stacks, now_ns).ok()?;
        if self.mode == Mode::Probes {
            census.drift = Some(live_by_probes.cast_signed().wrapping_sub(census.live.cast_signed()));
        }
        Some(census)
    }

    /// Live tasks by memory alone, as site samples without rates.
    fn sites_of_memory(census: &Census) -> Vec<SiteSample> {
        let mut sites: FxHashMap<SiteId, u64> = FxHashMap::default();
        for group in &census.waiting {
            *sites.entry(group.site).or_default() += group.count;
        }
        sites.into_iter().map(|(id, live)| SiteSample { live_at_attach: live, ..empty_site(id) }).collect()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("process", &self.process).finish_non_exhaustive()
    }
}

/// Samples all sessions, with one pass over each of the kernel's tables. The order of the answer is the order of
/// the sessions.
///
/// # Errors
/// When a table of the kernel side cannot be read. A process that ended or whose memory cannot be read is not an
/// error: its figures are absent.
pub fn sample_all(
    kernel: &Kernel,
    sessions: &[Session],
    looks: Looks,
    now_ns: u64,
) -> Result<Vec<ProcessSample>, KernelError> {
    let index: FxHashMap<u32, usize> =
        sessions.iter().enumerate().map(|(index, session)| (session.incarnation(), index)).collect();
    let mut sites: Vec<FxHashMap<SiteId, SiteSample>> = sessions
        .iter()
        .map(|session| {
            session
                .at_attach
                .live
                .iter()
                .map(|(&id, &live_at_attach)| (id, SiteSample { live_at_attach, ..empty_site(id) }))
                .collect()
        })
        .collect();
    // The table first, the totals after it: an event between the two makes a total larger, never smaller.
    kernel.for_each_site(|incarnation, id, counters| {
        if let Some(sites) = index.get(&incarnation).and_then(|&index| sites.get_mut(index)) {
            let site = sites.entry(id).or_insert_with(|| empty_site(id));
            site.live_at_attach += counters.ended_before_seen;
            site.started = counters.started;
            site.ended = counters.ended;
            site.lifetimes = counters.lifetimes;
        }
    })?;
    if looks.ages {
        add_ages(kernel, &index, &mut sites, now_ns)?;
    }
    let mut samples = Vec::with_capacity(sessions.len());
    for (session, sites) in sessions.iter().zip(sites) {
        let counters = match session.mode {
            Mode::Probes => kernel.counters(&session.watched)?,
            Mode::Memory => Counters::default(),
        };
        let mut sites: Vec<SiteSample> = sites.into_values().collect();
        let live_by_probes = sites.iter().map(SiteSample::live).sum();
        let census = (looks.census || session.mode == Mode::Memory)
            .then(|| session.census(live_by_probes, looks, now_ns))
            .flatten();
        if session.mode == Mode::Memory {
            sites = census.as_ref().map(Session::sites_of_memory).unwrap_or_default();
        }
        samples.push(ProcessSample {
            time_ns: now_ns,
            counters,
            sites,
            threads_live: session.process.threads_live().ok(),
            rss_bytes: session.process.rss_bytes().ok(),
            census,
        });
    }
    Ok(samples)
}

/// Summaries of the ages of live tasks, by site.
fn add_ages(
    kernel: &Kernel,
    index: &FxHashMap<u32, usize>,
    sites: &mut [FxHashMap<SiteId, SiteSample>],
    now_ns: u64,
) -> Result<(), KernelError> {
    let mut ages: FxHashMap<(usize, SiteId), Vec<u64>> = FxHashMap::default();
    kernel.for_each_live(|incarnation, task: LiveTask| {
        if let (Some(&index), Some(born)) = (index.get(&incarnation), task.born_ns) {
            ages.entry((index, task.site)).or_default().push(now_ns.saturating_sub(born));
        }
    })?;
    for ((index, site), mut ages) in ages {
        ages.sort_unstable();
        let at = |share: f64| {
            // A rank below the length: exact enough in f64 for any length that fits into memory.
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank below the length")]
            let rank = ((ages.len() - 1) as f64 * share) as usize;
            ages.get(rank).copied().unwrap_or(0)
        };
        let summary = AgeSummary {
            count: ages.len() as u64,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            max_ns: ages.last().copied().unwrap_or(0),
        };
        if let Some(sample) = sites.get_mut(index).and_then(|sites| sites.get_mut(&site)) {
            sample.ages = Some(summary);
        }
    }
    Ok(())
}

fn empty_site(id: SiteId) -> SiteSample {
    SiteSample {
        id,
        live_at_attach: 0,
        started: 0,
        ended: 0,
        lifetimes: [0; LIFETIME_BUCKETS],
        ages: None,
    }
}

