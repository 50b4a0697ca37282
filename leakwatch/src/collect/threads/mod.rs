//! The threads of a process: what made them, what they run, what they wait in.
//!
//! The kernel side counts threads by site ([`leakwatch_common::thread_site`]), exactly. A site there is a call that is
//! known, or the number of a stack that was sent, or of a thread that was alive at attach; this is the book of what the
//! numbers mean. A number's meaning may become known later: figures are translated when they are read.
//!
//! It must never stop a thread, and never take a stack for more than what its tables vouch for.

pub mod dump;
mod glue;
mod jvm;
mod look;
mod python;
mod syscalls;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use leakwatch_common::{
    CHAIN_LINKS, Chain, ChainLink, EventKind, ManagedFrame, RuntimeKind, SiteCounters, UserRegisters,
    thread_site,
};
use rustc_hash::FxHashMap;

use self::{
    jvm::{JavaFrame, Jvm},
    python::{Located, NoPython, Python},
};
use super::{error::CollectError, sample::empty_site};
use crate::{
    host::{Memory, threads},
    images::{Created, Frame, Image, Modules, NativeStack, NativeUnwinder, Registers, frames},
    kernel::{self, Kernel, KernelError, Watched},
    observe::{Event, SiteId, SiteSample, StackCopy},
};

/// A stack's words further above the copy than this are read from the process: a thread's other memory. What is nearer
/// may have changed since the copy was taken.
const STACK_SPAN: u64 = 8 << 20;

/// Numbers whose meaning is kept. Those of ended threads are dropped ([`Threads::fold`]), so this many are alive.
const MOST_KNOWN: usize = 1 << 20;

/// Sites whose name and creation stack are kept.
const MOST_CREATIONS: usize = 1 << 14;

/// Functions that threads run, as far as they are told apart.
const MOST_ROUTINES: usize = 4096;

/// Why an interpreter's frames are not read.
const NO_THREAD_POINTER: &str = "lines of Python are not known: this kernel does not tell where it keeps a thread's \
                                 pointer (no BTF)";

/// What a site's threads or children are made by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Creation {
    /// The call.
    pub created: Created,
    /// It is code of a runtime that makes threads for itself.
    pub system: bool,
    /// The stack on which the first of them was made, innermost first: return addresses, and places of an interpreter's
    /// program ([`Threads::place`]).
    pub stack: Vec<u64>,
}

/// From here up addresses are numbers of places in an interpreter's program: no program's memory is there.
const PLACES: u64 = 1 << 61;

/// Places in an interpreter's program that are kept.
const MOST_PLACES: usize = 1 << 16;

/// Who knows names and code: the process's files and memory.
pub(super) struct Views<'a, M> {
    pub(super) image: &'a mut Image,
    pub(super) modules: &'a mut Modules,
    pub(super) memory: &'a M,
}

/// The threads of one process.
#[derive(Debug, Default)]
pub struct Threads {
    pid: u32,
    unwinder: NativeUnwinder,
    /// What numbers of stacks and of threads from before the attach mean.
    known: FxHashMap<u64, SiteId>,
    /// Chains that the kernel side has.
    chains: Vec<Chain>,
    /// By the call that makes them.
    creations: FxHashMap<u64, Creation>,
    /// What a site's threads run: its place in `routines`, and one.
    tasks: FxHashMap<u64, u64>,
    /// Functions that threads run.
    routines: Vec<String>,
    /// The site, as the kernel side has it, of every live thread.
    live: FxHashMap<u32, u64>,
    /// Numbers of threads that were alive at attach.
    at_attach: BTreeSet<u64>,
    /// Figures of numbers that are not in the kernel's table any more.
    folded: BTreeMap<SiteId, SiteSample>,
    /// Numbers all of whose threads ended, with their last figures.
    done: BTreeMap<u64, SiteSample>,
    /// Where an interpreter is in the process, and how many modules were there when it was looked for.
    located: Option<Located>,
    searched: usize,
    /// The interpreter that the process runs.
    python: Option<Python>,
    /// Why there is none, where that is odd.
    no_python: Option<String>,
    /// The JVM that it runs, and how many modules were there when it was looked for.
    jvm: Option<Jvm>,
    jvm_searched: usize,
    /// Places in an interpreter's program, by number less [`PLACES`].
    places: Vec<Frame>,
    /// Their numbers.
    place_numbers: FxHashMap<Frame, u64>,
    /// Something was learnt since the figures were translated last.
    learnt: bool,
}

impl Threads {
    /// A process whose threads are not listed yet.
    pub(super) fn new(pid: u32) -> Self {
        Self { pid, ..Self::default() }
    }

    /// Enters every thread that is alive into the kernel's live table, unless an event spoke of it. The process's flags
    /// have `THREADS` and `THREAD_CENSUS`.
    ///
    /// # Errors
    /// When the threads cannot be listed, or the table is full.
    pub(super) fn enter_live(&mut self, kernel: &mut Kernel, watched: &Watched) -> Result<(), CollectError> {
        for tid in threads::ids(self.pid)? {
            if threads::info(self.pid, tid).is_none_or(|thread| thread.has_ended()) {
                continue;
            }
            let number = thread_site::SEEN | u64::from(tid);
            if kernel.add_seen(watched, u64::from(tid), at(RuntimeKind::Thread, number, 0))? {
                self.at_attach.insert(number);
                self.live.insert(tid, number);
            }
        }
        self.known.insert(main_number(self.pid), at(RuntimeKind::Thread, thread_site::SEEN, 0));
        Ok(())
    }

    /// Takes those out again whose end was under way when counting began: no event told of it, and they are gone now.
    pub(super) fn remove_ended(
        &mut self,
        kernel: &mut Kernel,
        watched: &Watched,
    ) -> Result<(), CollectError> {
        for number in self.at_attach.clone() {
            let Some(tid) = tid_of(number) else { continue };
            let gone = threads::info(self.pid, tid).is_none_or(|thread| thread.has_ended());
            if gone && kernel.remove_seen(watched, u64::from(tid), RuntimeKind::Thread)? {
                self.at_attach.remove(&number);
                self.live.remove(&tid);
            }
        }
        Ok(())
    }

    /// Figures of what was alive at attach and is not folded, by site.
    pub(super) fn sites_at_attach(&self, into: &mut BTreeMap<SiteId, SiteSample>) {
        for (&id, sample) in &self.folded {
            add(into, id, sample);
        }
        for &number in &self.at_attach {
            let id = self.site(at(RuntimeKind::Thread, number, 0));
            into.entry(id).or_insert_with(|| empty_site(id)).live_at_attach += 1;
        }
    }

    /// What a site of the kernel's table means: itself, or what its number stands for.
    pub fn site(&self, id: SiteId) -> SiteId {
        let numbered = matches!(id.runtime, RuntimeKind::Thread | RuntimeKind::Process)
            && id.site & (thread_site::STACK | thread_site::SEEN) != 0;
        if !numbered || id.site == thread_site::SEEN {
            return id;
        }
        self.known.get(&id.site).copied().unwrap_or(at(id.runtime, thread_site::UNKNOWN, 0))
    }

    /// The same for an event, which carries the number alone.
    pub(super) fn process_site(&self, number: u64) -> u64 {
        self.site(at(RuntimeKind::Process, number, 0)).site
    }

    /// What a site of the kernel's table means. One whose threads have all ended is noted: its figures are final.
    pub(super) fn read(&mut self, id: SiteId, counters: &SiteCounters) -> SiteId {
        let meaning = self.site(id);
        let at_attach = u64::from(self.at_attach.contains(&id.site));
        if id.runtime == RuntimeKind::Thread
            && id.site & (thread_site::STACK | thread_site::SEEN) != 0
            && !thread_site::is_frames(id.site)
            && counters.ended == counters.started + at_attach
        {
            let (started, ended) = (counters.started, counters.ended);
            let lifetimes = counters.lifetimes.into();
            let sample = SiteSample { started, ended, lifetimes, ..empty_site(meaning) };
            self.done.insert(id.site, sample);
        }
        meaning
    }

    /// Takes figures that are final out of the kernel's table, which has room for living numbers then.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub(super) fn fold(&mut self, kernel: &mut Kernel, watched: &Watched) -> Result<(), KernelError> {
        for (number, mut sample) in std::mem::take(&mut self.done) {
            kernel.remove_thread_site(watched, number)?;
            let id = self.site(at(RuntimeKind::Thread, number, 0));
            sample.live_at_attach = u64::from(self.at_attach.remove(&number));
            self.known.remove(&number);
            add(&mut self.folded, id, &sample);
        }
        Ok(())
    }

    /// Whether something was learnt that changes what the kernel's figures mean; once.
    pub(super) fn take_learnt(&mut self) -> bool {
        std::mem::take(&mut self.learnt)
    }

    /// A thread began or ended.
    pub(super) fn event(&mut self, event: &Event) {
        let Ok(tid) = u32::try_from(event.task) else { return };
        match event.kind {
            EventKind::ThreadStart => {
                self.live.insert(tid, event.site);
            }
            EventKind::ThreadExit => {
                self.live.remove(&tid);
            }
            _ => {}
        }
    }

    /// After events were lost: the live threads as the kernel's table has them.
    pub(super) fn resync(&mut self, kernel: &Kernel, incarnation: u32) -> Result<(), KernelError> {
        self.live.clear();
        kernel.for_each_live(|process, task| {
            if process == incarnation
                && task.site.runtime == RuntimeKind::Thread
                && let Ok(tid) = u32::try_from(task.task)
            {
                self.live.insert(tid, task.site.site);
            }
        })
    }

    /// Learns where a thread or child was made from the stack that was sent, and has the kernel side recognise it.
    ///
    /// # Errors
    /// When the kernel's table of chains cannot be written.
    pub(super) fn take_stack(
        &mut self,
        views: &mut Views<'_, impl Memory>,
        stack: &StackCopy,
        kernel: &mut Kernel,
        watched: &Watched,
    ) -> Result<(), KernelError> {
        let runtime =
            if stack.event.kind == EventKind::Fork { RuntimeKind::Process } else { RuntimeKind::Thread };
        self.find_interpreter(views, kernel, watched)?;
        self.find_jvm(views);
        let frames = self.unwind(views, stack);
        if let Some(number) = self.take_java(views, stack, &frames, kernel, watched)? {
            self.learnt = true;
            if self.known.len() < MOST_KNOWN {
                self.known.insert(stack.event.site, at(runtime, number, 0));
            }
            return Ok(());
        }
        let site = find_site(views, &frames);
        self.learnt = true;
        let number = match site {
            Some((index, creation)) => {
                let pc = frames.frames.get(index).map_or(thread_site::UNKNOWN, |frame| frame.pc);
                let managed = self.is_interpreted(views, pc);
                if let Some(mut chain) = chain(&frames, index, &stack.registers, &[]) {
                    chain.managed = u64::from(managed);
                    self.add_chain(&chain, kernel, watched)?;
                }
                self.note_creation(pc, creation.clone());
                let place = if managed { self.interpreted(views, &stack.managed, creation) } else { None };
                place.unwrap_or(pc)
            }
            None => thread_site::UNKNOWN,
        };
        if self.known.len() < MOST_KNOWN {
            self.known.insert(stack.event.site, at(runtime, number, 0));
        }
        Ok(())
    }

    /// Has the kernel side recognise calls from now on, if there is room.
    fn add_chain(
        &mut self,
        chain: &Chain,
        kernel: &mut Kernel,
        watched: &Watched,
    ) -> Result<(), KernelError> {
        let number = u32::try_from(self.chains.len()).unwrap_or(u32::MAX);
        if !self.chains.contains(chain) && kernel.add_chain(watched, number, *chain)? {
            self.chains.push(*chain);
        }
        Ok(())
    }

    /// Looks for a JVM in the process, unless it is known.
    fn find_jvm(&mut self, views: &Views<'_, impl Memory>) {
        let modules = views.modules.all().len();
        if self.jvm.is_none() && self.jvm_searched != modules {
            self.jvm_searched = modules;
            self.jvm = Jvm::find(views.modules, views.memory);
        }
    }

    /// As [`Self::take_stack`], where Java code made something; the number of the place. `None`: it did not.
    fn take_java(
        &mut self,
        views: &Views<'_, impl Memory>,
        stack: &StackCopy,
        frames: &NativeStack,
        kernel: &mut Kernel,
        watched: &Watched,
    ) -> Result<Option<u64>, KernelError> {
        let java = self.java_frames(views, frames, copied(stack, views.memory));
        let methods =
            || java.iter().flat_map(|frame| frame.methods.iter().map(move |method| (frame.index, method)));
        let user = methods().find(|(_, method)| !jvm::is_library(&method.function));
        let library = || methods().find(|(_, method)| !method.function.starts_with("java.lang.Thread."));
        let Some((index, method)) = user.or_else(library) else { return Ok(None) };
        let Some(number) = self.place_of(method.clone()) else { return Ok(None) };
        let created =
            Created { function: Some(method.function.clone()), file: method.file.clone(), line: method.line };
        let whole = self.with_java(frames, &java);
        self.note_creation(number, Creation { created, system: false, stack: whole });
        let words: Vec<(u64, u64)> =
            java.iter().filter(|frame| frame.index <= index).filter_map(|frame| frame.word).collect();
        if let Some(mut chain) = chain(frames, index, &stack.registers, &words) {
            chain.site = number;
            self.add_chain(&chain, kernel, watched)?;
        }
        Ok(Some(number))
    }

    /// The Java frames of a stack; none where the process has no JVM.
    fn java_frames(
        &self,
        views: &Views<'_, impl Memory>,
        frames: &NativeStack,
        read: impl FnMut(u64) -> Option<u64>,
    ) -> Vec<JavaFrame> {
        let jvm = self.jvm.as_ref();
        jvm.map_or_else(Vec::new, |jvm| jvm.frames(views.memory, views.modules, frames, read))
    }

    /// A stack's return addresses, with the numbers of places for those that are in Java code.
    fn with_java(&mut self, frames: &NativeStack, java: &[JavaFrame]) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(frames.frames.len());
        for (index, frame) in frames.frames.iter().enumerate() {
            match java.iter().find(|java| java.index == index) {
                Some(java) => {
                    let places = java.methods.iter().filter_map(|method| self.place_of(method.clone()));
                    numbers.extend(places);
                }
                None => numbers.push(frame.pc),
            }
        }
        numbers
    }

    fn note_creation(&mut self, number: u64, creation: Creation) {
        if self.creations.len() < MOST_CREATIONS {
            self.creations.entry(number).or_insert(creation);
        }
    }

    /// Looks for an interpreter in the process, unless it is known, and has the kernel side read its frames.
    ///
    /// # Errors
    /// When the kernel's table cannot be written.
    pub(super) fn find_interpreter(
        &mut self,
        views: &Views<'_, impl Memory>,
        kernel: &mut Kernel,
        watched: &Watched,
    ) -> Result<(), KernelError> {
        if self.python.is_some() || self.no_python.is_some() {
            return Ok(());
        }
        // A library that is loaded later brings another module.
        let modules = views.modules.all().len();
        if self.located.is_none() && self.searched != modules {
            self.searched = modules;
            self.located = Located::find(views.image, views.modules);
        }
        let Some(located) = &self.located else { return Ok(()) };
        match Python::of(located, views.memory) {
            Ok(python) => match kernel::thread_pointer() {
                Some(thread_pointer) => {
                    kernel.set_interpreter(watched, python.for_kernel(thread_pointer))?;
                    self.python = Some(python);
                }
                None => self.no_python = Some(NO_THREAD_POINTER.to_owned()),
            },
            Err(NoPython::Odd(why)) => self.no_python = Some(why),
            Err(NoPython::Early) => {}
        }
        Ok(())
    }

    /// Why the lines of an interpreter's program are not known, where there is one.
    pub(super) fn no_lines(&self) -> Option<&str> {
        self.no_python.as_deref()
    }

    /// Whether a place in native code is in the interpreter.
    fn is_interpreted(&self, views: &Views<'_, impl Memory>, pc: u64) -> bool {
        let Some(python) = &self.python else { return false };
        views.modules.at(pc).is_some_and(|(module, _)| python.owns(module))
    }

    /// The number of the place in an interpreter's program from which something was made. `native` is what its native
    /// stack tells.
    fn interpreted(
        &mut self,
        views: &Views<'_, impl Memory>,
        managed: &[ManagedFrame],
        native: Creation,
    ) -> Option<u64> {
        let python = self.python.as_ref()?;
        let frames: Vec<Frame> =
            managed.iter().filter_map(|frame| python.describe(views.memory, *frame)).collect();
        let index = python::site_of(&frames)?;
        let numbers: Vec<u64> = frames.iter().filter_map(|frame| self.place_of(frame.clone())).collect();
        let number = *numbers.get(index)?;
        let own = frames.into_iter().nth(index)?;
        let created = Created { function: Some(own.function), file: own.file, line: own.line };
        let stack = native.stack.into_iter().chain(numbers).collect();
        self.note_creation(number, Creation { created, system: false, stack });
        Some(number)
    }

    /// The number of a place in an interpreter's program; `None`: there is no room for more.
    fn place_of(&mut self, frame: Frame) -> Option<u64> {
        if let Some(&number) = self.place_numbers.get(&frame) {
            return Some(number);
        }
        let number = PLACES + self.places.len() as u64;
        if self.places.len() >= MOST_PLACES {
            return None;
        }
        self.places.push(frame.clone());
        self.place_numbers.insert(frame, number);
        Some(number)
    }

    /// The place in an interpreter's program that a number of a stack stands for; `None`: it is an address.
    pub fn place(&self, number: u64) -> Option<&Frame> {
        self.places.get(usize::try_from(number.checked_sub(PLACES)?).ok()?)
    }

    /// The frames of a stack that was sent.
    pub(super) fn unwind(&mut self, views: &mut Views<'_, impl Memory>, stack: &StackCopy) -> NativeStack {
        let read = copied(stack, views.memory);
        self.unwind_from(views, &Registers::from(&stack.registers), read)
    }

    /// The frames of a stack whose words `read` gives, with those of Java code.
    fn unwind_from(
        &mut self,
        views: &mut Views<'_, impl Memory>,
        registers: &Registers,
        read: impl FnMut(u64) -> Option<u64>,
    ) -> NativeStack {
        let memory = views.memory;
        match &self.jvm {
            Some(jvm) => self.unwinder.unwind_with(views.modules, *registers, read, &|registers, read| {
                jvm.step(memory, registers, read)
            }),
            None => self.unwinder.unwind(views.modules, *registers, read),
        }
    }

    /// See [`NativeUnwinder::function_at`].
    pub(super) fn function_at(&mut self, modules: &Modules, pc: u64, innermost: bool) -> Option<Range<u64>> {
        self.unwinder.function_at(modules, pc, innermost)
    }

    /// What makes the threads of a site; `None`: not known.
    pub fn creation(&self, site: u64) -> Option<&Creation> {
        self.creations.get(&site)
    }

    /// The function that the threads of a site run; `None`: not known yet.
    pub fn task_of(&self, id: SiteId) -> Option<&str> {
        let entry = if id.entry != 0 { id.entry } else { *self.tasks.get(&id.site)? };
        let place = usize::try_from(entry.checked_sub(1)?).ok()?;
        self.routines.get(place).map(String::as_str)
    }

    /// Whether threads that run a function are their runtime's own.
    pub fn is_of_runtime(function: &str) -> bool {
        glue::is_of_runtime(function)
    }

    /// The number under which a function is known that threads run.
    fn routine(&mut self, name: String) -> u64 {
        let known = self.routines.iter().position(|routine| *routine == name);
        let place = known.unwrap_or_else(|| {
            if self.routines.len() < MOST_ROUTINES {
                self.routines.push(name);
            }
            self.routines.len() - 1
        });
        place as u64 + 1
    }
}

/// Words of a stack that was sent; what is not of that stack is read from the process.
fn copied<'a>(stack: &'a StackCopy, memory: &'a impl Memory) -> impl FnMut(u64) -> Option<u64> + 'a {
    let base = stack.registers.rsp;
    move |address| {
        if (base..base.saturating_add(STACK_SPAN)).contains(&address) {
            let from = usize::try_from(address - base).ok()?;
            let bytes = stack.bytes.get(from..from.checked_add(8)?)?;
            return bytes.try_into().ok().map(u64::from_le_bytes);
        }
        memory.read_u64(address).ok()
    }
}

/// The first frame outside of what only leads to the system call.
fn find_site(views: &mut Views<'_, impl Memory>, stack: &NativeStack) -> Option<(usize, Creation)> {
    for (index, frame) in stack.frames.iter().enumerate().skip(1) {
        let Some(own) = own_frame(views, frame.pc) else { continue };
        let system = glue::is_of_runtime(&own.function);
        let created = Created { function: Some(own.function), file: own.file, line: own.line };
        let stack = stack.frames.iter().map(|frame| frame.pc).collect();
        return Some((index, Creation { created, system, stack }));
    }
    None
}

/// The innermost function at a return address that is not glue; `None`: all of it is.
fn own_frame(views: &mut Views<'_, impl Memory>, pc: u64) -> Option<Frame> {
    if views.modules.at(pc).is_some_and(|(module, _)| glue::is_library(&module.file_name())) {
        return None;
    }
    frames(views.image, views.modules, pc).into_iter().find(|frame| !glue::is_glue(frame))
}

/// How the kernel side recognises the frames from the site to the system call; `words` are further words of the stack,
/// with their addresses, that must be there.
fn chain(stack: &NativeStack, site: usize, registers: &UserRegisters, words: &[(u64, u64)]) -> Option<Chain> {
    let rip = stack.frames.first()?.pc;
    let (sp, rdi) = (registers.rsp, registers.rdi);
    let mut chain = Chain { rip, site: stack.frames.get(site)?.pc, ..Chain::default() };
    if site + words.len() > CHAIN_LINKS {
        return None;
    }
    let mut links = chain.links.iter_mut();
    // In this order: the other one would take a link for which there is no word.
    for ((place, word), link) in words.iter().zip(links.by_ref()) {
        *link = ChainLink { offset: place.checked_sub(sp)?, address: *word };
        chain.count += 1;
    }
    for (link, frame) in links.zip(stack.frames.get(1..=site)?.iter().rev()) {
        let offset = match frame.at {
            Some(at) => at.checked_sub(sp)?,
            None if frame.pc == rdi => ChainLink::IN_RDI,
            None => return None,
        };
        *link = ChainLink { offset, address: frame.pc };
        chain.count += 1;
    }
    Some(chain)
}

fn at(runtime: RuntimeKind, site: u64, entry: u64) -> SiteId {
    SiteId { runtime, site, entry }
}

fn main_number(pid: u32) -> u64 {
    thread_site::SEEN | u64::from(pid)
}

/// The thread that a number of one from before the attach is of.
fn tid_of(number: u64) -> Option<u32> {
    (number & thread_site::STACK == 0).then_some(number & !thread_site::SEEN)?.try_into().ok()
}

/// Adds figures to those of a site.
fn add(into: &mut BTreeMap<SiteId, SiteSample>, id: SiteId, sample: &SiteSample) {
    let site = into.entry(id).or_insert_with(|| empty_site(id));
    site.live_at_attach += sample.live_at_attach;
    site.started += sample.started;
    site.ended += sample.ended;
    site.lifetimes.add(&sample.lifetimes);
}
