//! The kernel object: loading it with the sizes asked for, attaching it, forgetting processes.

use std::{num::NonZeroU32, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf},
    programs::{
        ProgramInfo, TracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use leakwatch_common::{
    ABI, COUNTERS, ProbeDescriptor, ProcessSlot, TracepointLayout, limits, pack_cookie, process_flags,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use rustc_hash::FxHashMap;

use super::{
    error::{KernelError, refused},
    plain::Plain,
    ring::EventReader,
};

/// The object kept in the repository, or the one that `LEAKWATCH_EBPF_OBJECT` named when this was built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leakwatch.bpf.o"));

/// Sizes and switches of the kernel side.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most tasks in the live table.
    pub live_tasks: u32,
    /// Most sites over all processes.
    pub sites: u32,
    /// Most processes watched at once.
    pub processes: u32,
    /// Ring buffer bytes, a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Kernel-side log level as aya-log numbers it (0 off, 4 debug, 5 trace).
    pub log_level: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            live_tasks: limits::LIVE_TASKS,
            sites: limits::SITES,
            processes: limits::PROCESSES,
            ring_bytes: limits::RING_BYTES,
            log_level: 0,
        }
    }
}

/// A tracepoint program of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracepoint {
    /// Threads and forks.
    NewTask,
    /// `execve`.
    Exec,
    /// Thread ends.
    Exit,
}

impl Tracepoint {
    const ALL: [Self; 3] = [Self::NewTask, Self::Exec, Self::Exit];

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::NewTask => ("task", "task_newtask"),
            Self::Exec => ("sched", "sched_process_exec"),
            Self::Exit => ("sched", "sched_process_exit"),
        }
    }

    /// What of it is for kernels that refuse the program of its name.
    const fn plainer_program(self) -> Option<&'static str> {
        match self {
            Self::NewTask => Some("task_newtask_blind"),
            Self::Exec | Self::Exit => None,
        }
    }
}

/// The kernel side's own messages.
pub struct KernelLog(Option<aya_log::EbpfLogger<&'static dyn log::Log>>);

impl KernelLog {
    /// Passes on what has gathered.
    pub fn flush(&mut self) {
        if let Some(log) = self.0.as_mut() {
            log.flush();
        }
    }
}

/// A program as the verifier saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedProgram {
    /// Its name.
    pub name: String,
    /// Instructions after translation, if the kernel tells.
    pub instructions: Option<u32>,
    /// Instructions that the verifier walked, if the kernel tells (5.16 and later).
    pub verified: Option<u32>,
}

/// One process that the kernel side watches. Give it back with [`Kernel::forget`].
#[derive(Debug)]
pub struct Watched {
    /// Its tgid.
    pub pid: u32,
    pub(super) slot: ProcessSlot,
    links: Vec<UProbeLink>,
    /// Something of it may be in the tables of tasks: looking for it there takes time in proportion to their sizes.
    in_tables: bool,
}

/// Threads that take probes off.
const AT_ONCE: usize = 32;

/// Takes probes off, many at a time. The kernel waits several times at each until no processor can be in it any more,
/// 50 to 200 ms in all. Half of that is under a lock that all events share (`perf_uprobe_destroy` in
/// `kernel/trace/trace_event_perf.c`); the other half may be the same time for many.
fn take_off(mut links: Vec<UProbeLink>) {
    if links.is_empty() {
        return;
    }
    let share = links.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        while !links.is_empty() {
            let some = links.split_off(links.len().saturating_sub(share));
            // Where no thread can be had, this one drops them: the closure owns them.
            drop(std::thread::Builder::new().spawn_scoped(scope, move || drop(some)));
        }
    });
}

impl Watched {
    /// Probes that are placed.
    pub fn probes(&self) -> usize {
        self.links.len()
    }

    /// The number under which its events and tables run.
    pub fn incarnation(&self) -> u32 {
        self.slot.incarnation
    }
}

/// The loaded kernel side.
#[derive(Debug)]
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    options: Options,
    descriptors: FxHashMap<[u8; 16], u32>,
    free_slots: Vec<u32>,
    next_slot: u32,
    next_incarnation: u32,
    /// The program of each tracepoint that this kernel took.
    tracepoints: Vec<(Tracepoint, &'static str)>,
    /// Why there are no probes, if there are none.
    no_probes: Option<String>,
    /// Why it is not known where threads are made, if so.
    no_thread_sites: Option<String>,
}

impl Kernel {
    /// Loads the object and its programs; attaches nothing yet. A kernel may refuse what is missed least: see
    /// [`Self::no_probes`], [`Self::no_thread_sites`].
    ///
    /// # Errors
    /// When the kernel refuses the object, for want of a permission or a feature.
    pub fn load(options: Options, tracepoints: TracepointLayout) -> Result<Self, KernelError> {
        if abi_of(OBJECT) != Some(ABI) {
            return Err(KernelError::Mismatch);
        }
        let layout = Plain(tracepoints);
        let mut ebpf = EbpfLoader::new()
            .override_global("TRACEPOINTS", &layout, true)
            .override_global("AYA_LOG_LEVEL", &options.log_level, false)
            .map_max_entries("LIVE", options.live_tasks)
            .map_max_entries("SITES", options.sites)
            .map_max_entries("PROCESSES", options.processes)
            .map_max_entries("SLOTS", options.processes)
            .map_max_entries("COUNTER_ROWS", options.processes)
            .map_max_entries("STACK_BUDGETS", options.processes)
            .map_max_entries("INTERPRETERS", options.processes)
            .map_max_entries("EVENTS", options.ring_bytes)
            .load(OBJECT)
            .map_err(|source| KernelError::Load(Box::new(source)))?;
        let probes = ["task_probe", "task_return", "empty_probe"];
        let no_probes =
            probes.into_iter().try_for_each(|name| refused(name, uprobe(&mut ebpf, name)?.load()));
        let no_probes = no_probes.err().map(|error| error.to_string());
        let (mut tracepoints, mut no_thread_sites) = (Vec::new(), None);
        for point in Tracepoint::ALL {
            let (_, name) = point.names();
            let mut load = |name| refused(name, tracepoint(&mut ebpf, name)?.load()).map(|()| name);
            let loaded = load(name).or_else(|error| {
                let Some(plainer) = point.plainer_program() else { return Err(error) };
                no_thread_sites = Some(error.to_string());
                load(plainer)
            })?;
            tracepoints.push((point, loaded));
        }
        Ok(Self {
            ebpf,
            options,
            descriptors: FxHashMap::default(),
            free_slots: Vec::new(),
            next_slot: 1,
            next_incarnation: 1,
            tracepoints,
            no_probes,
            no_thread_sites,
        })
    }

    /// That this kernel takes no probes, if so: all that counts tasks is their memory then.
    pub fn no_probes(&self) -> Option<KernelError> {
        self.no_probes.clone().map(|why| KernelError::NoProbes { why })
    }

    /// Why nobody can tell on this kernel where threads and child processes are made, if so. They are counted all the same.
    pub fn no_thread_sites(&self) -> Option<&str> {
        self.no_thread_sites.as_deref()
    }

    /// The sizes that it was loaded with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Attaches all tracepoints, for the life of `self`.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn attach_tracepoints(&mut self) -> Result<(), KernelError> {
        for (point, program) in self.tracepoints.clone() {
            let (category, name) = point.names();
            tracepoint(&mut self.ebpf, program)?
                .attach(category, name)
                .map_err(|source| KernelError::Tracepoint { category, name, source: Box::new(source) })?;
        }
        Ok(())
    }

    /// Takes the reading end of the ring buffer; once.
    pub fn take_events(&mut self) -> Result<EventReader, KernelError> {
        let map = self.ebpf.take_map("EVENTS").ok_or(KernelError::Missing { name: "EVENTS" })?;
        let ring = RingBuf::try_from(map)
            .map_err(|source| KernelError::Map { map: "EVENTS", source: Box::new(source) })?;
        Ok(EventReader::new(ring))
    }

    /// Takes the kernel side's own messages; they are sent only at the log level of [`Options`].
    ///
    /// # Errors
    /// When the object has no log to read.
    pub fn take_log(&mut self) -> Result<KernelLog, KernelError> {
        if self.options.log_level == 0 {
            return Ok(KernelLog(None));
        }
        aya_log::EbpfLogger::init(&mut self.ebpf).map(|log| KernelLog(Some(log))).map_err(KernelError::Log)
    }

    /// Begins to watch a process, with this switched on ([`leakwatch_common::process_flags`]).
    pub fn watch(&mut self, pid: u32, flags: u32) -> Result<Watched, KernelError> {
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None if self.next_slot < self.options.processes => {
                self.next_slot += 1;
                self.next_slot - 1
            }
            None => {
                return Err(KernelError::Full {
                    what: "the table of processes",
                    size: self.options.processes,
                    flag: "--max-processes",
                });
            }
        };
        self.clear_counters(slot)?;
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let watched = Watched {
            pid,
            slot: ProcessSlot { slot, incarnation, flags, reserved: 0 },
            links: Vec::new(),
            in_tables: is_in_tables(flags),
        };
        self.write_slot(&watched)?;
        self.processes()?
            .insert(pid, slot, 0)
            .map_err(|source| KernelError::Map { map: "PROCESSES", source: Box::new(source) })?;
        Ok(watched)
    }

    /// Its flags as last set here; an exec of the process clears them in the kernel.
    pub fn flags(watched: &Watched) -> u32 {
        watched.slot.flags
    }

    /// Sets the process's flags ([`leakwatch_common::process_flags`]).
    pub fn set_flags(&mut self, watched: &mut Watched, flags: u32) -> Result<(), KernelError> {
        watched.slot.flags = flags;
        watched.in_tables |= is_in_tables(flags);
        self.write_slot(watched)
    }

    /// Puts the task program on an instruction of the process's file.
    ///
    /// The probe fires in this process only; the link lives as long as `watched`.
    pub fn attach(
        &mut self,
        watched: &mut Watched,
        path: &Path,
        offset: u64,
        descriptor: ProbeDescriptor,
    ) -> Result<(), KernelError> {
        self.attach_task("task_probe", watched, path, offset, descriptor)
    }

    /// Puts the task program on the return of a function that begins at this offset.
    ///
    /// The kernel does that by changing the return address on the stack when the function is entered: never where
    /// stacks move (Go), nor on a function that returns on another stack than it was called on.
    pub fn attach_return(
        &mut self,
        watched: &mut Watched,
        path: &Path,
        offset: u64,
        descriptor: ProbeDescriptor,
    ) -> Result<(), KernelError> {
        self.attach_task("task_return", watched, path, offset, descriptor)
    }

    /// Puts one of the forms of the task program there, with the descriptor's cookie.
    fn attach_task(
        &mut self,
        program: &'static str,
        watched: &mut Watched,
        path: &Path,
        offset: u64,
        descriptor: ProbeDescriptor,
    ) -> Result<(), KernelError> {
        let cookie = pack_cookie(self.descriptor(descriptor)?, watched.slot.slot);
        let link = self.attach_program(program, watched.pid, path, offset, Some(cookie))?;
        watched.links.push(link);
        Ok(())
    }

    /// Puts the empty program there instead: the floor that overhead is compared with.
    pub fn attach_empty(
        &mut self,
        watched: &mut Watched,
        path: &Path,
        offset: u64,
    ) -> Result<(), KernelError> {
        let link = self.attach_program("empty_probe", watched.pid, path, offset, None)?;
        watched.links.push(link);
        Ok(())
    }

    /// Takes the process's probes off; its tables stay readable.
    pub fn detach(&mut self, watched: &mut Watched) {
        take_off(std::mem::take(&mut watched.links));
    }

    /// Stops watching: takes the probes off, removes the process from every table and frees its slot.
    pub fn forget(&mut self, watched: &mut Watched) -> Result<(), KernelError> {
        self.processes()?.remove(&watched.pid).or_else(|source| match source {
            MapError::KeyNotFound => Ok(()),
            MapError::SyscallError(ref error) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            source => Err(KernelError::Map { map: "PROCESSES", source: Box::new(source) }),
        })?;
        take_off(std::mem::take(&mut watched.links));
        if watched.in_tables {
            self.purge(watched.slot.incarnation)?;
        }
        self.free_slots.push(watched.slot.slot);
        Ok(())
    }

    /// Every loaded program, with its size.
    pub fn programs(&self) -> Vec<LoadedProgram> {
        let mut programs: Vec<_> = self
            .ebpf
            .programs()
            .map(|(name, program)| {
                let info = program.info().ok();
                LoadedProgram {
                    name: name.to_owned(),
                    instructions: info.as_ref().and_then(ProgramInfo::size_translated).map(|bytes| bytes / 8),
                    verified: info.as_ref().and_then(ProgramInfo::verified_instruction_count),
                }
            })
            .collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }

    fn attach_program(
        &mut self,
        name: &'static str,
        pid: u32,
        path: &Path,
        offset: u64,
        cookie: Option<u64>,
    ) -> Result<UProbeLink, KernelError> {
        if let Some(error) = self.no_probes() {
            return Err(error);
        }
        let scope = UProbeScope::OneProcess(NonZeroU32::new(pid).ok_or(KernelError::PidZero)?);
        let program = uprobe(&mut self.ebpf, name)?;
        let point = UProbeAttachPoint { location: UProbeAttachLocation::AbsoluteOffset(offset), cookie };
        let attach_error =
            |source| KernelError::Attach { path: path.to_owned(), offset, source: Box::new(source) };
        let id = program.attach(point, path, scope).map_err(attach_error)?;
        program.take_link(id).map_err(attach_error)
    }

    /// The index of a descriptor, written to the map on first use.
    fn descriptor(&mut self, descriptor: ProbeDescriptor) -> Result<u32, KernelError> {
        let bytes: [u8; 16] = zerocopy::transmute!(descriptor);
        if let Some(&index) = self.descriptors.get(&bytes) {
            return Ok(index);
        }
        let index = u32::try_from(self.descriptors.len()).unwrap_or(u32::MAX);
        if index >= limits::DESCRIPTORS {
            return Err(KernelError::Full {
                what: "the table of probe descriptors",
                size: limits::DESCRIPTORS,
                flag: "a build with larger limits",
            });
        }
        let map = self.ebpf.map_mut("DESCRIPTORS").ok_or(KernelError::Missing { name: "DESCRIPTORS" })?;
        let map_error = |source| KernelError::Map { map: "DESCRIPTORS", source: Box::new(source) };
        let mut array = Array::<_, Plain<ProbeDescriptor>>::try_from(map).map_err(map_error)?;
        array.set(index, Plain(descriptor), 0).map_err(map_error)?;
        self.descriptors.insert(bytes, index);
        Ok(index)
    }

    fn write_slot(&mut self, watched: &Watched) -> Result<(), KernelError> {
        let map_error = |source| KernelError::Map { map: "SLOTS", source: Box::new(source) };
        let map = self.ebpf.map_mut("SLOTS").ok_or(KernelError::Missing { name: "SLOTS" })?;
        let mut slots = Array::<_, Plain<ProcessSlot>>::try_from(map).map_err(map_error)?;
        slots.set(watched.slot.slot, Plain(watched.slot), 0).map_err(map_error)
    }

    fn processes(&mut self) -> Result<HashMap<&mut MapData, u32, u32>, KernelError> {
        let map = self.ebpf.map_mut("PROCESSES").ok_or(KernelError::Missing { name: "PROCESSES" })?;
        HashMap::try_from(map)
            .map_err(|source| KernelError::Map { map: "PROCESSES", source: Box::new(source) })
    }

    fn clear_counters(&mut self, slot: u32) -> Result<(), KernelError> {
        let map_error = |source| KernelError::Map { map: "COUNTER_ROWS", source: Box::new(source) };
        let map = self.ebpf.map_mut("COUNTER_ROWS").ok_or(KernelError::Missing { name: "COUNTER_ROWS" })?;
        let mut rows = PerCpuArray::<_, [u64; COUNTERS]>::try_from(map).map_err(map_error)?;
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, source)| KernelError::MapRead { map: "COUNTER_ROWS", source })?;
        let zero = PerCpuValues::try_from(vec![[0; COUNTERS]; cpus])
            .map_err(|source| KernelError::MapRead { map: "COUNTER_ROWS", source })?;
        rows.set(slot, zero, 0).map_err(map_error)
    }
}

/// More than totals is counted with these flags.
const fn is_in_tables(flags: u32) -> bool {
    flags & !process_flags::THREAD_TOTALS != 0
}

/// Which shared types an object was built with; `None`: it does not tell.
fn abi_of(object: &[u8]) -> Option<u64> {
    let file = object::File::parse(object).ok()?;
    let symbol = file.symbol_by_name("LEAKWATCH_ABI")?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let bytes = section.data_range(section.address().checked_add(symbol.address())?, 8).ok()??;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

fn uprobe<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut UProbe, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing { name })?;
    refused(name, program.try_into())
}

fn tracepoint<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut TracePoint, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing { name })?;
    refused(name, program.try_into())
}

/// The raw data of a hash map.
pub(super) fn hash_map<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a MapData, KernelError> {
    match ebpf.map(name) {
        Some(Map::HashMap(data)) => Ok(data),
        _ => Err(KernelError::Missing { name }),
    }
}
