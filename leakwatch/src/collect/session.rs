//! A watched process, and samples of it.

use std::{collections::BTreeMap, fmt};

use leakwatch_common::{ProbeDescriptor, process_flags};

use super::{
    attach::{self, AtAttach, CollectError},
    go::{GoRuntime, Stacks},
    sample::{Last, Looks, empty_site},
};
use crate::{
    host::{HostError, Process, ProcessMemory},
    images::Image,
    kernel::{Kernel, KernelError, Watched},
    observe::{Census, SiteId, SiteSample},
};

/// How a process's tasks are to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By probes where they can be placed, else by memory.
    #[default]
    Auto,
    /// By probes: every start and end. An error where they cannot be placed.
    Probes,
    /// By looking at memory now and then: no probe, no cost to the program; starts and ends are only known as
    /// far as the live count of their site shows them.
    Memory,
}

/// How a process's tasks are being counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// By probes.
    Probes,
    /// By memory.
    Memory,
    /// By probes until [`Session::take_probes_off`], by memory since.
    Both,
}

/// A probe that the user named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomProbe {
    /// Byte offset in the process's executable.
    pub offset: u64,
    /// What passing it means.
    pub descriptor: ProbeDescriptor,
}

/// One watched process. End it with [`Session::close`].
pub struct Session {
    pub(super) process: Process,
    image: Image,
    memory: ProcessMemory,
    /// Where its tasks are in memory; `None` for a runtime whose memory we cannot read.
    go: Option<GoRuntime>,
    /// `None` once closed.
    pub(super) watched: Option<Watched>,
    incarnation: u32,
    pub(super) counting: Counting,
    /// What the kernel's tables said at the last look.
    pub(super) last: Option<Last>,
    at_attach: AtAttach,
    /// Sites as memory shows them, once that is how they are counted.
    by_memory: BTreeMap<SiteId, SiteSample>,
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
        let facts = image
            .inspection()
            .go
            .as_ref()
            .ok_or_else(|| CollectError::NoRuntime { pid, exe: exe.clone() })?;
        let incomplete = |why: String| CollectError::Incomplete { pid, exe: exe.clone(), why };
        let memory = ProcessMemory::open(&process)?;
        let mut problems: Vec<String> = facts.problems.iter().map(|problem| problem.0.clone()).collect();
        let counting = match (mode, facts.start.is_some() && facts.end.is_some()) {
            (Mode::Memory, _) | (Mode::Auto, false) => Counting::Memory,
            (Mode::Auto | Mode::Probes, true) => Counting::Probes,
            (Mode::Probes, false) => return Err(incomplete(problems.join("; "))),
        };
        if let Some(problem) = image.check_sites(&memory).into_iter().next() {
            return Err(incomplete(problem.0));
        }
        let go = attach::go_runtime(facts, image.bias()).map_err(&incomplete)?;
        let mut watched = kernel.watch(pid)?;
        let flags = if stream { process_flags::STREAM } else { 0 };
        let attached = match counting {
            Counting::Probes => {
                attach::attach(kernel, &mut watched, &image, &memory, facts, &go, flags).await
            }
            Counting::Memory | Counting::Both => attach::first_look(pid, &memory, &go),
        };
        let at_attach = attached_or_undone(kernel, &process, &mut watched, attached)?;
        if at_attach.unreadable > 0 {
            problems.push(format!(
                "{} goroutines could not be read at attach and are in no figure until they end",
                at_attach.unreadable
            ));
        }
        Ok(Self {
            incarnation: watched.incarnation(),
            process,
            image,
            memory,
            go: Some(go),
            watched: Some(watched),
            last: None,
            counting,
            at_attach,
            by_memory: BTreeMap::new(),
            problems,
        })
    }

    /// Attaches probes that were named, to a process whose tasks we cannot read from memory: what is alive
    /// already is not known.
    ///
    /// # Errors
    /// When a probe cannot be placed. Nothing is left attached then.
    pub fn attach_custom(
        kernel: &mut Kernel,
        process: Process,
        probes: &[CustomProbe],
        stream: bool,
    ) -> Result<Self, CollectError> {
        let image = Image::of_process(&process)?;
        let memory = ProcessMemory::open(&process)?;
        let mut watched = kernel.watch(process.pid())?;
        let stream = if stream { process_flags::STREAM } else { 0 };
        let attached = probes
            .iter()
            .try_for_each(|probe| {
                kernel
                    .attach(&mut watched, &image.attach_path(), probe.offset, probe.descriptor)
                    .map_err(|error| error.with_path(image.path()))
            })
            .and_then(|()| {
                kernel.set_flags(&mut watched, stream | process_flags::COUNTING | process_flags::LIVE_TABLE)
            })
            .map(|()| AtAttach::default())
            .map_err(CollectError::from);
        let at_attach = attached_or_undone(kernel, &process, &mut watched, attached)?;
        Ok(Self {
            incarnation: watched.incarnation(),
            process,
            image,
            memory,
            go: None,
            watched: Some(watched),
            last: None,
            counting: Counting::Probes,
            at_attach,
            by_memory: BTreeMap::new(),
            problems: Vec::new(),
        })
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
    pub fn counting(&self) -> Counting {
        self.counting
    }

    /// The number that its events carry.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Whether what was alive at attach is known.
    pub fn knows_live_at_attach(&self) -> bool {
        self.go.is_some()
    }

    /// What is missing or odd, for the report.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Takes the probes off and counts by memory from now on.
    pub fn take_probes_off(&mut self, kernel: &mut Kernel, why: String) -> Result<(), KernelError> {
        if let (Counting::Probes, Some(watched)) = (self.counting, self.watched.as_mut()) {
            kernel.set_flags(watched, 0)?;
            kernel.detach(watched);
            self.counting = Counting::Both;
            self.problems.push(why);
        }
        Ok(())
    }

    /// Takes everything off; what was sampled last stays the last word.
    ///
    /// # Errors
    /// When the kernel's tables cannot be cleaned; the probes are off all the same.
    pub fn close(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        self.watched.take().map_or(Ok(()), |mut watched| kernel.forget(&mut watched))
    }

    /// Sites with what was alive at attach.
    pub(super) fn sites_at_attach(&self) -> BTreeMap<SiteId, SiteSample> {
        let at_attach = self.at_attach.live.iter();
        at_attach
            .map(|(&id, &live_at_attach)| (id, SiteSample { live_at_attach, ..empty_site(id) }))
            .collect()
    }

    /// Sites as memory shows them, the last time it was looked at.
    pub(super) fn sites_by_memory(&self) -> impl Iterator<Item = &SiteSample> {
        self.by_memory.values()
    }

    /// One look at the process's memory; `None`: it cannot be read.
    pub(super) fn census(&self, looks: Looks, now_ns: u64) -> Option<Census> {
        let stacks = if looks.stacks { Stacks::Read } else { Stacks::Skip };
        self.go.as_ref()?.census(&self.memory, stacks, now_ns).ok()
    }

    /// Brings `by_memory` up to date: what a site has more than before was started, what it has less has ended.
    pub(super) fn count_by_memory(&mut self, census: &Census, so_far: BTreeMap<SiteId, SiteSample>) {
        let mut live: BTreeMap<SiteId, u64> = BTreeMap::new();
        for group in &census.waiting {
            *live.entry(group.site).or_default() += group.count;
        }
        // The first time: what the probes counted until they were taken off, or what was alive at attach.
        if self.by_memory.is_empty() {
            self.by_memory = so_far;
        }
        for &id in live.keys() {
            self.by_memory.entry(id).or_insert_with(|| empty_site(id));
        }
        for (id, site) in &mut self.by_memory {
            let (now, before) = (live.get(id).copied().unwrap_or(0), site.live());
            if now > before {
                site.started += now - before;
            } else {
                site.ended += before - now;
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("process", &self.process).finish_non_exhaustive()
    }
}

/// Gives what an attach found, or undoes it.
fn attached_or_undone(
    kernel: &mut Kernel,
    process: &Process,
    watched: &mut Watched,
    attached: Result<AtAttach, CollectError>,
) -> Result<AtAttach, CollectError> {
    attached.or_else(|error| {
        kernel.forget(watched)?;
        // Whatever the end of the process made fail, the true sentence is that it ended.
        Err(if process.alive() { error } else { HostError::Ended { pid: process.pid() }.into() })
    })
}
