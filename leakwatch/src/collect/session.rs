//! A watched process, and samples of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use leakwatch_common::{Counter, EventKind, ProbeDescriptor, RuntimeKind, process_flags};

use super::{
    attach::{self, AtAttach},
    children::Children,
    custom::{self, Named},
    error::CollectError,
    follow::Follow,
    found::Found,
    go::{Seen, Stacks},
    runtime::{self, Probe, ProbedFile, Runtime, Tasks},
    sample::{Last, Looks, empty_site},
    sampled::{BeforeProbes, Numbered, SAMPLED_SINCE},
    spawns::Spawns,
    threads::{Threads, Views},
    tokio_rt::{self, Kinds},
    witnesses::Witnesses,
};
use crate::{
    host::{HostError, Process, ProcessMemory, ReadError},
    images::{Binaries, Image, Modules},
    kernel::{Kernel, KernelError, Watched},
    observe::{Census, CensusTask, Event, SiteId, SiteSample, StackCopy, ThreadNames},
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

/// How a runtime's tasks are being counted.
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

/// What to watch of a process, and how.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// How to count.
    pub mode: Mode,
    /// Send task events through the ring buffer.
    pub stream: bool,
    /// Probes of our own program; empty: the process's runtimes are recognised.
    pub probes: Vec<CustomProbe>,
    /// Runtimes that the user named, watched beside those that are recognised.
    pub named: Vec<Arc<Named>>,
}

/// A runtime of a watched process, and how it is counted.
#[derive(Debug)]
pub struct Counted {
    /// The runtime.
    pub runtime: Runtime,
    /// How.
    pub counting: Counting,
    /// A look at its tasks that is not over yet.
    begun: Option<tokio_rt::Look>,
}

/// One watched process. End it with [`Session::close`].
pub struct Session {
    pub(super) process: Process,
    pub(super) image: Image,
    pub(super) modules: Modules,
    pub(super) memory: ProcessMemory,
    pub(super) runtimes: Vec<Counted>,
    /// What the kernel side knows it as; `None` once closed, or where there is no kernel side.
    pub(super) watched: Option<Watched>,
    /// It was not closed.
    pub(super) open: bool,
    /// Of threads and children only the totals are counted.
    pub(super) totals_only: bool,
    /// None of its tasks was there before it was watched.
    pub(super) newborn: bool,
    incarnation: u32,
    /// What the kernel's tables said at the last look.
    pub(super) last: Option<Last>,
    pub(super) at_attach: AtAttach,
    /// Kinds of tasks of which the first look tells what was alive at attach; it is not over yet.
    pub(super) unseen: BTreeSet<RuntimeKind>,
    /// Bytes that the last look at tokio's tasks read.
    pub(super) looked_through: u64,
    pub(super) threads: Threads,
    pub(super) children: Children,
    spawns: Spawns,
    /// Sites as memory shows them, of the runtimes that are counted so.
    pub(super) by_memory: BTreeMap<SiteId, SiteSample>,
    /// What was counted by memory before the probes were placed: the kernel's figures begin there.
    pub(super) before_probes: BeforeProbes,
    /// How many goroutines were ever numbered, as memory showed it.
    pub(super) numbered: Numbered,
    pub(super) witnesses: Witnesses,
    /// Tasks of each runtime, and threads, by their identity.
    follows: BTreeMap<RuntimeKind, Follow>,
}

impl Session {
    /// Attaches to a running process.
    ///
    /// # Errors
    /// When the process has no runtime that we know, when something that watching needs was not found, when the
    /// kernel refuses, or when the process ends meanwhile. Nothing is left attached then.
    pub async fn attach(kernel: &mut Kernel, process: Process, ask: &Ask) -> Result<Self, CollectError> {
        Self::attach_found(kernel, Found::look(process, &mut Binaries::new(0))?, ask).await
    }

    /// The same where its program is known already.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub async fn attach_found(kernel: &mut Kernel, found: Found, ask: &Ask) -> Result<Self, CollectError> {
        let Found { process, loaded, mut modules, libraries, .. } = found;
        let pid = process.pid();
        let mut image = Image::new(loaded, libraries);
        // It may have been found a while ago.
        modules.refresh()?;
        let memory = ProcessMemory::open(&process)?;
        let no_probes = kernel.no_probes().filter(|_| ask.mode == Mode::Auto);
        let runtimes = if ask.probes.is_empty() {
            let mode = if no_probes.is_some() { Mode::Memory } else { ask.mode };
            let mut runtimes = recognised(pid, &image, &modules, &memory, mode, &ask.named)?;
            for runtime in runtimes.iter_mut().filter(|runtime| runtime.probes.is_empty()) {
                runtime.problems.extend(no_probes.as_ref().map(ToString::to_string));
            }
            runtimes
        } else {
            vec![named(&image, &ask.probes)]
        };
        let mut watched = kernel.watch(pid, 0)?;
        let stream = if ask.stream { process_flags::STREAM } else { 0 };
        let plan: Vec<&Runtime> = runtimes.iter().collect();
        let mut threads = Threads::new(pid);
        let views = Views { image: &mut image, modules: &mut modules, memory: &memory };
        let attached = match threads.find_interpreter(&views, kernel, &watched) {
            Ok(()) => attach::attach(kernel, &mut watched, &memory, &plan, &mut threads, stream).await,
            Err(error) => Err(error.into()),
        };
        let at_attach = attached_or_undone(kernel, &process, &mut watched, attached)?;
        let children = Children::of(pid, process.comm());
        let mut session = Self::new(process, (image, modules, memory), runtimes, Some(watched), at_attach);
        session.threads = threads;
        session.children = children;
        session.note_unreadable();
        session.note_spawns();
        // What the threads run is learnt before the first figures, so that no site seems to grow by it.
        session.look_at_threads_first();
        Ok(session)
    }

    /// A session of which nothing was counted yet.
    pub(super) fn new(
        process: Process,
        (image, modules, memory): (Image, Modules, ProcessMemory),
        runtimes: Vec<Runtime>,
        watched: Option<Watched>,
        at_attach: AtAttach,
    ) -> Self {
        Self {
            threads: Threads::new(process.pid()),
            children: Children::default(),
            spawns: Spawns::default(),
            incarnation: watched.as_ref().map_or(0, Watched::incarnation),
            process,
            image,
            modules,
            memory,
            runtimes: runtimes.into_iter().map(Counted::new).collect(),
            watched,
            open: true,
            totals_only: false,
            newborn: false,
            last: None,
            at_attach,
            unseen: BTreeSet::new(),
            looked_through: 0,
            by_memory: BTreeMap::new(),
            before_probes: BeforeProbes::default(),
            numbered: Numbered::default(),
            witnesses: Witnesses::default(),
            follows: BTreeMap::new(),
        }
    }

    /// Learns where tasks from before the attach were spawned, where the program keeps that.
    fn note_spawns(&mut self) {
        for Counted { runtime, .. } in &self.runtimes {
            let Some(Tasks::Tokio(tokio)) = &runtime.tasks else { continue };
            // What cannot be read is not known, and is read for the figures anyway, which say so.
            for ((vtable, address), tasks) in tokio.spawned_at(&self.memory).unwrap_or_default() {
                self.spawns.note(&self.memory, vtable, address, tasks);
            }
        }
    }

    /// Says of each runtime which of its tasks could not be read at attach.
    fn note_unreadable(&mut self) {
        for Counted { runtime, .. } in &mut self.runtimes {
            if let Some(count) = self.at_attach.unreadable.get(&runtime.kind) {
                runtime.problems.push(format!(
                    "{count} tasks could not be read at attach and are in no figure until they end"
                ));
            }
        }
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Gives back memory that only the last look needed.
    pub fn rest(&mut self) {
        self.image.forget_pages();
    }

    /// Probes that are placed in it.
    pub fn probes(&self) -> usize {
        self.watched.as_ref().map_or(0, Watched::probes)
    }

    /// Executions of its probes so far.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub fn probe_hits(&self, kernel: &Kernel) -> Result<u64, KernelError> {
        let Some(watched) = &self.watched else { return Ok(0) };
        Ok(kernel.counters(watched)?.get(Counter::ProbeHits))
    }

    /// Its executable.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// All that names of its addresses and sites come from (caches in it change).
    pub fn names(&mut self) -> NameSources<'_> {
        NameSources {
            image: &mut self.image,
            modules: &mut self.modules,
            threads: &self.threads,
            children: &self.children,
            spawns: &self.spawns,
        }
    }

    /// Its runtimes.
    pub fn runtimes(&self) -> &[Counted] {
        &self.runtimes
    }

    /// Why it is not known which lines of an interpreter's program make its threads, where it has an interpreter.
    pub fn no_lines(&self) -> Option<&str> {
        self.threads.no_lines()
    }

    /// The number that its events carry.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Calls `each` with every task that memory shows now, and what it does.
    ///
    /// # Errors
    /// When the lists of tasks cannot be read.
    pub fn for_each_task(&self, mut each: impl FnMut(&CensusTask, &str)) -> Result<(), ReadError> {
        for tasks in self.runtimes.iter().filter_map(|counted| counted.runtime.tasks.as_ref()) {
            tasks.for_each(&self.memory, Stacks::Skip, |seen| {
                if let Seen::Live(task) = seen {
                    each(&task, &tasks.reason(&task));
                }
            })?;
        }
        Ok(())
    }

    /// Runtimes of which nobody knows what was alive at attach.
    pub fn blind(&self) -> Vec<RuntimeKind> {
        let blind = self.runtimes.iter().filter(|counted| counted.runtime.tasks.is_none());
        blind.map(|counted| counted.runtime.kind).collect()
    }

    /// Takes the probes off and counts by memory from now on, where memory can be read. Where they are off already, this reason
    /// takes the place of the one before it, if that ends in [`SAMPLED_SINCE`].
    pub fn take_probes_off(&mut self, kernel: &mut Kernel, why: &str) -> Result<(), KernelError> {
        let Some(watched) = self.watched.as_mut() else { return Ok(()) };
        if self.runtimes.iter().any(|counted| counted.counting == Counting::Probes) {
            let flags = if self.totals_only { process_flags::THREAD_TOTALS } else { process_flags::THREADS };
            kernel.set_flags(watched, flags)?;
            // At once: from here on they count nothing, and the kernel takes its time to remove them.
            let next = self.next_number();
            self.numbered.probes_off(next);
            if let Some(watched) = self.watched.as_mut() {
                kernel.detach(watched);
            }
        }
        for counted in self.runtimes.iter_mut().filter(|counted| counted.counting != Counting::Memory) {
            counted.counting = Counting::Both;
            counted.runtime.problems.retain(|problem| !problem.ends_with(SAMPLED_SINCE));
            counted.runtime.problems.push(why.to_owned());
        }
        Ok(())
    }

    /// Takes everything off; what was sampled last stays the last word.
    ///
    /// # Errors
    /// When the kernel's tables cannot be cleaned; the probes are off all the same.
    pub fn close(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        self.open = false;
        self.watched.take().map_or(Ok(()), |mut watched| kernel.forget(&mut watched))
    }

    /// Tells kinds apart that one probe sees, by their entry; `None`: no probe of this process does.
    pub(super) fn kinds(&self) -> Option<Kinds> {
        let kinds = self.runtimes.iter().filter_map(|counted| counted.runtime.tasks.as_ref()?.kinds());
        // All versions' types are with the first.
        kinds.into_iter().find(|kinds| !kinds.is_empty())
    }

    /// An event with the kind that its entry tells.
    pub fn told_apart(&self, event: Event) -> Event {
        if event.runtime != Some(RuntimeKind::Tokio) {
            return event;
        }
        let kind = self.kinds().and_then(|kinds| kinds.get(&event.entry).copied());
        Event { runtime: kind.or(event.runtime), ..event }
    }

    /// Says that probes were hit by what is no known task.
    pub(super) fn note_strangers(&mut self, kind: RuntimeKind, hits: u64) {
        self.note_hits(kind, hits, "hits of probes were of no known type of task and are in no figure");
    }

    /// Says that functions that were named failed: what they returned or took is no task.
    pub(super) fn note_refused(&mut self, hits: u64) {
        const TEXT: &str =
            "calls had a value that is no task (NULL, or what else was said to be none) and are in no figure";
        self.note_hits(RuntimeKind::Custom, hits, TEXT);
    }

    /// Says a sentence with a number in front of it, in the place of what it said before.
    pub(super) fn note_hits(&mut self, kind: RuntimeKind, hits: u64, text: &str) {
        let of_kind = self.runtimes.iter_mut().find(|counted| counted.runtime.kind == kind);
        if let Some(counted) = of_kind.filter(|_| hits > 0) {
            counted.runtime.problems.retain(|problem| !problem.ends_with(text));
            counted.runtime.problems.push(format!("{hits} {text}"));
        }
    }

    /// Sites with what was alive at attach, and what was counted before there were probes.
    pub(super) fn sites_at_attach(&self) -> BTreeMap<SiteId, SiteSample> {
        let at_attach = self.at_attach.live.iter();
        let mut sites: BTreeMap<SiteId, SiteSample> = at_attach
            .map(|(&id, &live_at_attach)| (id, SiteSample { live_at_attach, ..empty_site(id) }))
            .collect();
        sites.extend(self.before_probes.sites.iter().map(|(&id, site)| (id, site.clone())));
        self.threads.sites_at_attach(&mut sites);
        sites
    }

    /// A thread or child of the process began or ended.
    pub fn take_event(&mut self, event: &Event) {
        self.threads.event(event);
        self.children.event(event);
    }

    /// Learns from a stack where threads and children are made, and where tasks are spawned.
    ///
    /// # Errors
    /// When the kernel's tables cannot be written.
    pub fn take_stack(&mut self, kernel: &mut Kernel, stack: &StackCopy) -> Result<(), KernelError> {
        let Some(watched) = &self.watched else { return Ok(()) };
        let mut views = Views { image: &mut self.image, modules: &mut self.modules, memory: &self.memory };
        if stack.event.kind == EventKind::TaskStart {
            self.spawns.take(&mut self.threads, &mut views, stack);
            return Ok(());
        }
        self.threads.take_stack(&mut views, stack, kernel, watched)
    }

    /// Makes room in the kernel's tables: figures that are final are kept here.
    ///
    /// # Errors
    /// When the kernel's tables cannot be written.
    pub fn make_room(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        let Some(watched) = &self.watched else { return Ok(()) };
        self.threads.fold(kernel, watched)
    }

    /// These goroutines are proven to wait for ever, by address and number: their ends are looked out for.
    pub fn watch_proven(&mut self, proven: Vec<(u64, u64)>) {
        self.witnesses.set(proven);
    }

    /// Numbers of goroutines that were proven to wait for ever, and whose ends a probe saw since the last time.
    pub fn ended_though_proven(&mut self) -> Vec<u64> {
        self.witnesses.take_ended()
    }

    /// Pids of the children that have not ended, as far as is known.
    pub fn children(&self) -> Vec<u32> {
        self.children.pids()
    }

    /// Names, states and waits of all threads; `None`: the process has ended.
    pub(super) fn look_at_threads(&mut self, looks: Looks, now_ns: u64) -> Option<(Census, ThreadNames)> {
        let mut views = Views { image: &mut self.image, modules: &mut self.modules, memory: &self.memory };
        let follow = self.follows.entry(RuntimeKind::Thread).or_default();
        follow.begin(now_ns);
        let (mut census, names) =
            self.threads.look(&mut views, looks.stacks, &mut |task| follow.see(task)).ok()?;
        census.followed = follow.end();
        Some((census, names))
    }

    /// Learns what the threads run.
    fn look_at_threads_first(&mut self) {
        let mut views = Views { image: &mut self.image, modules: &mut self.modules, memory: &self.memory };
        // A process that has ended shows it at the next look.
        drop(self.threads.look(&mut views, false, &mut |_| ()));
    }

    /// Sites as memory shows them, the last time it was looked at.
    pub(super) fn sites_by_memory(&self) -> impl Iterator<Item = &SiteSample> {
        self.by_memory.values()
    }

    /// How the tasks of a kind are counted; by probes where no runtime of it is known.
    pub(super) fn counting(&self, kind: RuntimeKind) -> Counting {
        let kind = if kind == RuntimeKind::TokioBlocking { RuntimeKind::Tokio } else { kind };
        let of_kind = self.runtimes.iter().find(|counted| counted.runtime.kind == kind);
        of_kind.map_or(Counting::Probes, |counted| counted.counting)
    }

    /// One look at the tasks in the process's memory, with the runtimes that it is of. A runtime whose tasks cannot be
    /// read is not among them.
    pub(super) fn census(&mut self, looks: Looks, now_ns: u64) -> Vec<(RuntimeKind, Census)> {
        let stacks = if looks.stacks { Stacks::Read } else { Stacks::Skip };
        let Self { runtimes, follows, memory, looked_through, .. } = self;
        let wanted = |one: &Counted| looks.census || one.counting != Counting::Probes;
        // Looks that go on show nothing yet.
        let mut under_way = BTreeSet::new();
        for Counted { runtime, begun, .. } in runtimes.iter_mut().filter(|one| wanted(one)) {
            let Some(Tasks::Tokio(tokio)) = &runtime.tasks else { continue };
            let look = begun.get_or_insert_default();
            match tokio.go_on(look, memory, looks.most_bytes.unwrap_or(u64::MAX)) {
                Ok(true) => {}
                Ok(false) => drop(under_way.insert(runtime.kind)),
                Err(_unreadable) => *begun = None,
            }
        }
        // Several versions of a runtime are one look, which is whole when each of them could be read.
        let mut sums: BTreeMap<RuntimeKind, (Option<Census>, bool)> = BTreeMap::new();
        for Counted { runtime, begun, .. } in runtimes.iter_mut().filter(|one| wanted(one)) {
            let kind = runtime.kind;
            let Some(tasks) = runtime.tasks.as_ref().filter(|_| !under_way.contains(&kind)) else { continue };
            let follow = follows.entry(kind).or_default();
            let (sum, whole) = sums.entry(kind).or_insert_with(|| {
                follow.begin(now_ns);
                (None, true)
            });
            let see = &mut |task: &CensusTask| follow.see(task);
            let census = match tasks {
                Tasks::Tokio(tokio) => begun.take().map(|look| {
                    // All versions' types are with the first.
                    *looked_through = if look.read() > 0 { look.read() } else { *looked_through };
                    tokio.census_of(look, memory, see)
                }),
                Tasks::Go(_) => memory.in_one_go(|memory| tasks.census(memory, stacks, now_ns, see)).ok(),
            };
            match census {
                Some(census) => sum.get_or_insert_default().add(census),
                None => *whole = false,
            }
        }
        let end = |(kind, (census, whole)): (RuntimeKind, (Option<Census>, bool))| {
            let follow = follows.get_mut(&kind)?;
            if !whole {
                follow.abandon();
            }
            census.map(|census| (kind, Census { followed: follow.end(), ..census }))
        };
        sums.into_iter().filter_map(end).collect()
    }

    /// The first look at its tasks goes on: nobody knows yet how many there are.
    pub fn is_unseen(&self) -> bool {
        self.runtimes
            .iter()
            .any(|counted| counted.begun.is_some() && self.unseen.contains(&counted.runtime.kind))
    }

    /// A look goes on.
    pub fn is_looking(&self) -> bool {
        self.runtimes.iter().any(|counted| counted.begun.is_some())
    }

    /// What the first look at a process shows was alive at attach, where nobody looked then.
    pub(super) fn note_first_look(
        &mut self,
        kind: RuntimeKind,
        census: &Census,
        sites: &mut BTreeMap<SiteId, SiteSample>,
    ) {
        if !self.unseen.remove(&kind) {
            return;
        }
        // What is alive of a newborn was started since, which `count_by_memory` says.
        for group in census.waiting.iter().filter(|_| !self.newborn) {
            *self.at_attach.live.entry(group.site).or_default() += group.count;
            sites.entry(group.site).or_insert_with(|| empty_site(group.site)).live_at_attach += group.count;
        }
        if census.unreadable > 0 {
            self.at_attach.unreadable.insert(kind, census.unreadable);
            self.note_unreadable();
        }
    }

    /// Brings `by_memory` up to date for one runtime: what a site has more than before was started, what it has less
    /// has ended.
    pub(super) fn count_by_memory(
        &mut self,
        kind: RuntimeKind,
        census: &Census,
        so_far: &BTreeMap<SiteId, SiteSample>,
    ) {
        let mut live: BTreeMap<SiteId, u64> = BTreeMap::new();
        for group in &census.waiting {
            *live.entry(group.site).or_default() += group.count;
        }
        // A look at tokio's tasks shows its blocking jobs, too.
        let seen_with = |id: &SiteId| {
            id.runtime == kind || (kind == RuntimeKind::Tokio && id.runtime == RuntimeKind::TokioBlocking)
        };
        // The first time: what the probes counted until they were taken off, or what was alive at attach.
        if !self.by_memory.keys().any(seen_with) {
            // What probes knew of ages is not known any more.
            let probed = self.counting(kind) == Counting::Both;
            let of_kind = so_far.iter().filter(|(id, _)| seen_with(id));
            self.by_memory.extend(of_kind.clone().map(|(&id, site)| {
                let ages = if probed { None } else { site.ages.clone() };
                (id, SiteSample { ages, ..site.clone() })
            }));
            if kind == RuntimeKind::Go {
                self.go_on_from_probes(of_kind.map(|(_, site)| site));
            }
        }
        for &id in live.keys() {
            self.by_memory.entry(id).or_insert_with(|| empty_site(id));
        }
        for (id, site) in self.by_memory.iter_mut().filter(|(id, _)| seen_with(id)) {
            site.come_to(live.get(id).copied().unwrap_or(0));
        }
    }
}

/// All that names of a process's addresses and sites come from.
#[derive(Debug)]
pub struct NameSources<'a> {
    /// Its executable.
    pub image: &'a mut Image,
    /// Its libraries.
    pub modules: &'a mut Modules,
    /// What made its threads.
    pub threads: &'a Threads,
    /// What its children execute.
    pub children: &'a Children,
    /// Where its tasks are spawned.
    pub spawns: &'a Spawns,
}

impl Counted {
    fn new(runtime: Runtime) -> Self {
        let counting = if runtime.probes.is_empty() { Counting::Memory } else { Counting::Probes };
        Self { runtime, counting, begun: None }
    }
}

/// The runtimes that are recognised, and those that the user named. With one of these, a process need have no other.
fn recognised(
    pid: u32,
    image: &Image,
    modules: &Modules,
    memory: &ProcessMemory,
    mode: Mode,
    named: &[Arc<Named>],
) -> Result<Vec<Runtime>, CollectError> {
    let found = runtime::recognise(pid, image, memory, mode);
    if named.is_empty() {
        return found;
    }
    let plans = custom::plan_all(named, modules, image.inspection(), image.path(), memory);
    let mut plans = plans.map_err(|why| CollectError::Named { pid, why })?;
    let mut runtimes = match found {
        Ok(runtimes) => runtimes,
        Err(CollectError::Incomplete { why, .. }) => {
            let Some(plan) = plans.first_mut() else { return Ok(plans) };
            plan.problems.push(format!("the process's own runtime is not watched: {why}"));
            Vec::new()
        }
        Err(other) => return Err(other),
    };
    runtimes.extend(plans);
    Ok(runtimes)
}

/// Probes in the process's executable that were named, as a runtime.
fn named(image: &Image, probes: &[CustomProbe]) -> Runtime {
    let file = ProbedFile::of_image(image);
    let probe = |probe: &CustomProbe| Probe {
        file: file.clone(),
        offset: probe.offset,
        descriptor: probe.descriptor,
        at_return: false,
    };
    Runtime {
        kind: RuntimeKind::Custom,
        name: None,
        version: None,
        probes: probes.iter().map(probe).collect(),
        tasks: None,
        problems: Vec::new(),
        places: Vec::new(),
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
