//! What is to be watched of a process: each runtime in it, as probes to place and tasks to read from memory.
//!
//! A runtime here is a plan made from facts, before anything is touched. It must never attach, never read a clock, and
//! never plan a probe on an instruction that was not compared with the process's memory.

use std::{path::PathBuf, sync::Arc};

use leakwatch_common::{AT_TASK, Action, ProbeDescriptor, RuntimeKind, TaskSource, fact};
use leakwatch_inspect::{
    ProbeAction, ProbeSite,
    go::{
        Global, GoFacts,
        layout::{GoLayout, profile_special},
    },
    tokio_rt::{FactsAt, TokioFacts},
};

use super::{
    error::CollectError,
    go::{GoRuntime, Seen, Stacks},
    prove::GoHeap,
    session::Mode,
    tokio_rt::{self, Kinds, TokioRuntime},
};
use crate::{
    host::{MappedFile, Memory, ReadError},
    images::{Image, Library},
    observe::{Census, CensusTask},
};

/// One runtime of a process.
#[derive(Debug)]
pub struct Runtime {
    /// Which.
    pub kind: RuntimeKind,
    /// What the user called it.
    pub name: Option<String>,
    /// Its version, as it calls itself.
    pub version: Option<String>,
    /// Where its tasks start and end, in the order in which they are to be placed: ends first, because while only a
    /// start is placed nothing could be taken out of the live table again. Empty: it is counted by memory.
    pub probes: Vec<Probe>,
    /// Where its tasks are in memory; `None`: we cannot read them, and what was alive at attach is unknown.
    pub tasks: Option<Tasks>,
    /// What is missing or odd, for the report.
    pub problems: Vec<String>,
    /// Where its probes are and why, for a runtime that a user named.
    pub places: Vec<Place>,
}

/// A file that probes are placed in.
#[derive(Debug)]
pub struct ProbedFile {
    /// The path to attach through.
    pub attach_path: PathBuf,
    /// The path for people.
    pub path: PathBuf,
    /// Keeps the file open that the path leads through, where nothing else does.
    #[expect(dead_code, reason = "held, not read")]
    open: Option<MappedFile>,
}

impl ProbedFile {
    /// The executable of a process. The path to attach through is good while the image lives.
    pub fn of_image(image: &Image) -> Arc<Self> {
        Arc::new(Self { attach_path: image.attach_path(), path: image.path().to_owned(), open: None })
    }

    /// A library with a runtime in it. The path to attach through is good while the image lives that it is of.
    pub fn of_library(library: &Library) -> Arc<Self> {
        let path = library.file.path().to_owned();
        Arc::new(Self { attach_path: library.file.attach_path(), path, open: None })
    }

    /// A file that a process has mapped.
    pub fn of_mapped(file: MappedFile) -> Arc<Self> {
        let (attach_path, path) = (file.attach_path(), file.path().to_owned());
        Arc::new(Self { attach_path, path, open: Some(file) })
    }
}

/// A probe to be placed.
#[derive(Clone, Debug)]
pub struct Probe {
    /// In which file.
    pub file: Arc<ProbedFile>,
    /// Byte offset in the file.
    pub offset: u64,
    /// What passing it means.
    pub descriptor: ProbeDescriptor,
    /// The offset is that of a function's first instruction, and its return is meant.
    pub at_return: bool,
}

/// An instruction that was chosen for a runtime that a user named, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `start`, `end` or `note`.
    pub means: &'static str,
    /// The function.
    pub function: String,
    /// The file.
    pub file: String,
    /// Link-time address.
    pub address: u64,
    /// Byte offset in the file.
    pub file_offset: u64,
    /// The instruction.
    pub instruction: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What holds the task there: a register, or how to get from one to the task.
    pub task: String,
    /// The kernel emulates it: one trap instead of two.
    pub emulated: bool,
    /// Why this one.
    pub reason: String,
}

/// Where a runtime keeps its tasks in memory.
#[derive(Debug)]
pub enum Tasks {
    /// Goroutines.
    Go(Box<GoRuntime>),
    /// tokio tasks, and jobs of `spawn_blocking`.
    Tokio(TokioRuntime),
}

impl Tasks {
    /// Whose they are.
    pub fn kind(&self) -> RuntimeKind {
        match self {
            Self::Go(_) => RuntimeKind::Go,
            Self::Tokio(_) => RuntimeKind::Tokio,
        }
    }

    /// Which kinds its tasks are of, by their entry, where one probe sees several kinds.
    pub fn kinds(&self) -> Option<Kinds> {
        match self {
            Self::Go(_) => None,
            Self::Tokio(tokio) => Some(tokio.kinds()),
        }
    }

    /// A task that a look does not find is not alive: memory is not kept for the next task.
    pub fn absent_is_dead(&self) -> bool {
        matches!(self, Self::Tokio(_))
    }

    /// Calls `each` with every task, and with what once was one.
    ///
    /// # Errors
    /// When the list of tasks itself cannot be read; a single one that cannot is [`Seen::Unreadable`].
    pub fn for_each(
        &self,
        memory: &impl Memory,
        stacks: Stacks,
        each: impl FnMut(Seen),
    ) -> Result<(), ReadError> {
        match self {
            Self::Go(go) => go.for_each(memory, stacks, each),
            Self::Tokio(tokio) => tokio.for_each(memory, each),
        }
    }

    /// What a task does, in its runtime's words.
    pub fn reason(&self, task: &CensusTask) -> String {
        match self {
            Self::Go(go) => go.reason(task),
            Self::Tokio(_) => tokio_rt::reason(task).to_owned(),
        }
    }

    /// Counts and groups every live task, and shows each to `see`.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn census(
        &self,
        memory: &impl Memory,
        stacks: Stacks,
        now_ns: u64,
        see: &mut dyn FnMut(&CensusTask),
    ) -> Result<Census, ReadError> {
        match self {
            Self::Go(go) => go.census(memory, stacks, now_ns, see),
            Self::Tokio(tokio) => tokio.census(memory, see),
        }
    }
}

/// The runtimes that are recognised in a process's executable.
///
/// # Errors
/// When one lacks what watching in this mode needs, or when an instruction that may be probed in this mode is not in
/// memory what it is in the file.
pub(super) fn recognise(
    pid: u32,
    image: &Image,
    memory: &impl Memory,
    mode: Mode,
) -> Result<Vec<Runtime>, CollectError> {
    let incomplete = |why| CollectError::Incomplete { pid, exe: image.path().display().to_string(), why };
    let inspection = image.inspection();
    if mode != Mode::Memory
        && let Some(problem) = image.check_sites(memory).into_iter().next()
    {
        return Err(incomplete(problem.0));
    }
    // A process without one has threads, which are its tasks then.
    let go = inspection.go.iter().map(|facts| go(image, facts, mode));
    let mut runtimes = go.collect::<Result<Vec<_>, _>>().map_err(&incomplete)?;
    runtimes.extend(tokio(image, mode).map_err(&incomplete)?);
    Ok(runtimes)
}

/// The plans for each tokio version in a program and its libraries. All their tasks are looked for together, with the first.
fn tokio(image: &Image, mode: Mode) -> Result<Vec<Runtime>, String> {
    if image.inspection().tokio.is_empty() && image.libraries().is_empty() {
        return Ok(Vec::new());
    }
    let mut parts = vec![(&image.inspection().tokio[..], image.bias())];
    let mut files = vec![ProbedFile::of_image(image)];
    for library in image.libraries() {
        parts.push((&library.inspection.tokio[..], library.bias));
        files.push(ProbedFile::of_library(library));
    }
    let mut runtimes = Vec::new();
    let all =
        parts.iter().zip(&files).flat_map(|((facts, _), file)| facts.iter().map(move |one| (one, file)));
    for (index, (facts, file)) in all.enumerate() {
        let problems: Vec<String> = facts.problems.iter().map(|problem| problem.0.clone()).collect();
        let complete = !facts.starts.is_empty() && !facts.ends.is_empty();
        let probes = match mode {
            Mode::Auto | Mode::Probes if complete => tokio_probes(file, facts)?,
            Mode::Probes => return Err(problems.join("; ")),
            Mode::Auto | Mode::Memory => Vec::new(),
        };
        let of_all = if index == 0 { &parts[..] } else { &[] };
        runtimes.push(Runtime {
            kind: RuntimeKind::Tokio,
            name: None,
            version: facts.version.map(|version| version.to_string()),
            probes,
            tasks: Some(Tasks::Tokio(TokioRuntime::new(of_all))),
            problems,
            places: Vec::new(),
        });
    }
    Ok(runtimes)
}

/// Ends first, see [`Runtime::probes`].
fn tokio_probes(file: &Arc<ProbedFile>, facts: &TokioFacts) -> Result<Vec<Probe>, String> {
    let at_task = FactsAt::Task(facts.form.vtable_offset().cast_signed());
    let ends = facts.ends.iter().map(|site| (site, at_task));
    let starts = facts.starts.iter().map(|start| (&start.site, start.facts));
    let probe = |(site, facts): (&ProbeSite, FactsAt)| {
        let (facts_register, offset) = match facts {
            FactsAt::Task(offset) => (AT_TASK, offset),
            FactsAt::Register { register, offset } => (register, offset),
        };
        let facts_offset = i32::try_from(offset)
            .map_err(|_too_large| format!("the frame of {} is too large", site.function))?;
        let descriptor = ProbeDescriptor {
            action: match site.action {
                ProbeAction::Start => Action::StartTraced as u8,
                ProbeAction::End => Action::EndFreed as u8,
            },
            task_register: site.task_register,
            task_source: TaskSource::Register as u8,
            facts_register,
            site: fact::NONE,
            entry: 0,
            runtime: RuntimeKind::Tokio as u16,
            task_offset: 0,
            facts_offset,
        };
        Ok(Probe { file: Arc::clone(file), offset: site.file_offset, descriptor, at_return: false })
    };
    ends.chain(starts).map(probe).collect()
}

/// The plan for a Go runtime, or what keeps it from being watched.
fn go(image: &Image, facts: &GoFacts, mode: Mode) -> Result<Runtime, String> {
    let problems: Vec<String> = facts.problems.iter().map(|problem| problem.0.clone()).collect();
    let tasks = go_tasks(facts, image.bias())?;
    let probes = match (mode, &facts.start, &facts.end) {
        (Mode::Auto | Mode::Probes, Some(start), Some(end)) => {
            let file = ProbedFile::of_image(image);
            let probe = |site: &ProbeSite| {
                let descriptor = go_descriptor(site, &tasks.layout)
                    .ok_or("the layout of its goroutine struct makes no sense")?;
                Ok::<_, String>(Probe {
                    file: Arc::clone(&file),
                    offset: site.file_offset,
                    descriptor,
                    at_return: false,
                })
            };
            vec![probe(end)?, probe(start)?]
        }
        (Mode::Probes, _, _) => return Err(problems.join("; ")),
        (Mode::Auto | Mode::Memory, _, _) => Vec::new(),
    };
    Ok(Runtime {
        kind: RuntimeKind::Go,
        name: None,
        version: facts.version.as_ref().map(|version| version.text.clone()),
        probes,
        tasks: Some(Tasks::Go(Box::new(tasks))),
        problems,
        places: Vec::new(),
    })
}

/// The descriptor of one of a Go program's two probes.
fn go_descriptor(site: &ProbeSite, layout: &GoLayout) -> Option<ProbeDescriptor> {
    // One read of three words covers both: startpc is two words after gopc in every version since 1.18
    // (`layouts.toml`), and if it ever is not, the entry is left unknown rather than read wrong.
    let entry = match layout.startpc.checked_sub(layout.gopc)? {
        8 => 1,
        16 => 2,
        _ => fact::NONE,
    };
    Some(ProbeDescriptor {
        action: match site.action {
            ProbeAction::Start => Action::Start as u8,
            ProbeAction::End => Action::End as u8,
        },
        task_register: site.task_register,
        task_source: TaskSource::Register as u8,
        facts_register: AT_TASK,
        site: 0,
        entry,
        runtime: RuntimeKind::Go as u16,
        task_offset: 0,
        facts_offset: i32::try_from(layout.gopc).ok()?,
    })
}

/// Run-time addresses of what a proof needs besides.
pub(super) fn go_heap(facts: &GoFacts, bias: u64) -> Result<GoHeap, String> {
    let runtime = go_tasks(facts, bias)?;
    let release =
        facts.version.as_ref().map_or_else(|| "this version".to_owned(), |version| version.text.clone());
    let layout = runtime.layout.heap.ok_or_else(|| {
        format!("how the heap of {release} is laid out is neither in leakwatch's table nor told by the binary (no DWARF)")
    })?;
    let address = |global: Option<Global>, name: &str| {
        global
            .map(|global| global.address.wrapping_add(bias))
            .ok_or_else(|| format!("the variable runtime.{name} was not found"))
    };
    let (mheap, allp) = (address(facts.globals.mheap, "mheap_")?, address(facts.globals.allp, "allp")?);
    let version = facts.version.as_ref();
    let profile_special = version.and_then(|version| profile_special(version.major, version.minor));
    Ok(GoHeap { runtime, layout, mheap, allp, profile_special })
}

/// Run-time addresses of the Go runtime's globals.
pub(super) fn go_tasks(facts: &GoFacts, bias: u64) -> Result<GoRuntime, String> {
    let problems = || facts.problems.iter().map(|problem| problem.0.as_str()).collect::<Vec<_>>().join("; ");
    let layout = facts.layout.ok_or_else(problems)?;
    let address = |global: Option<Global>, name: &str| {
        global
            .map(|global| global.address.wrapping_add(bias))
            .ok_or_else(|| format!("the variable runtime.{name} was not found"))
    };
    Ok(GoRuntime {
        layout,
        allglen: address(facts.globals.allglen, "allglen")?,
        allgptr: address(facts.globals.allgptr, "allgptr")?,
        sched: facts.globals.sched.map(|global| global.address.wrapping_add(bias)),
        wait_reasons: Arc::clone(&facts.wait_reasons),
    })
}
