//! A dump: every task of a process with what it does, what it waits on and what it costs, with names.
//!
//! What tasks share (frames, stacks, sites, labels, objects) stands once, so that a million tasks fit; tasks refer to it
//! by index. Unknown is `None`, never 0. Names come through [`DumpNames`], so that a dump needs no process.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Timestamp;
pub use crate::images::Origin;
pub use crate::observe::{Bubble, Marks, Object, Side, Stack};
use crate::{
    images::{Image, Modules, Traced, Tracer, frames},
    observe::{DumpedTask, SiteId, TaskDump},
};

/// A process's tasks at one moment.
#[derive(Clone, Debug)]
pub struct Dump {
    /// Host name.
    pub host: String,
    /// When it was taken.
    pub taken: Timestamp,
    /// Of which process.
    pub process: DumpProcess,
    /// By runtime.
    pub runtimes: Vec<RuntimeDump>,
}

/// The process of a dump.
#[derive(Clone, Debug, Default)]
pub struct DumpProcess {
    /// Process id.
    pub pid: u32,
    /// When it was started.
    pub start_time: Option<Timestamp>,
    /// The same in ticks after boot: with the pid, who it is, however often the clock is set. `None`: read from a file.
    pub start_ticks: Option<u64>,
    /// Name of its main thread.
    pub comm: String,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Container id.
    pub container: Option<String>,
    /// Resident set.
    pub rss_bytes: Option<u64>,
    /// Where its code is mapped.
    pub mappings: Vec<DumpMapping>,
}

/// A mapping of code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpMapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    /// The file.
    pub path: String,
    /// GNU build id, in hexadecimal.
    pub build_id: Option<String>,
}

/// The tasks of one runtime.
#[derive(Clone, Debug, Default)]
pub struct RuntimeDump {
    /// `go`, `tokio`, ...
    pub kind: String,
    /// Its version, as it calls itself.
    pub version: Option<String>,
    /// Its tracebacks tell which goroutine created one, and leave out frames in the middle of a long stack (Go 1.21 and
    /// later); older ones leave out its end.
    pub tells_parents: bool,
    /// Its tracebacks have the labels that the program gave its goroutines.
    pub prints_labels: bool,
    /// In the runtime's order, the runtime's own among them.
    pub tasks: Vec<Task>,
    /// States, by [`Task::state`].
    pub states: Vec<String>,
    /// Frames, by [`Line::frame`].
    pub frames: Vec<Frame>,
    /// Stacks, by [`Task::stack`].
    pub stacks: Vec<NamedStack>,
    /// Where tasks come from, by [`Task::site`].
    pub sites: Vec<Origin>,
    /// Sets of labels, by [`Task::labels`].
    pub labels: Vec<Vec<(String, String)>>,
    /// What tasks wait on, by [`TaskWait::object`]; those with most waiters first.
    pub objects: Vec<WaitObject>,
    /// What file descriptors among them are.
    pub files: BTreeMap<u64, String>,
    /// By [`Task::waits`].
    pub waits: Vec<TaskWait>,
    /// Tasks that could not be read or did not hold still.
    pub unreadable: u64,
    /// What is missing, one sentence each.
    pub problems: Vec<String>,
}

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its number in its runtime.
    pub id: u64,
    /// The task that made it.
    pub parent: Option<u64>,
    /// Index of its site.
    pub site: u32,
    /// Index of its state.
    pub state: u32,
    /// What else the runtime says of it.
    pub marks: Marks,
    /// The runtime's own, at this moment.
    pub system: bool,
    /// For how long it has been in this state, ns.
    pub waited_ns: Option<u64>,
    /// In how many ns it wakes by itself.
    pub wakes_in_ns: Option<u64>,
    /// Its stack.
    pub stack: Stack,
    /// Index of its labels.
    pub labels: Option<u32>,
    /// Bytes of memory that it holds.
    pub bytes: Option<u64>,
    /// Range of its waits.
    pub waits: (u32, u32),
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// Bytes from the function's entry.
    pub offset: Option<u64>,
    /// It was inlined into the next frame.
    pub inlined: bool,
    /// It takes no arguments.
    pub no_arguments: bool,
}

/// A stack with names.
#[derive(Clone, Debug, Default)]
pub struct NamedStack {
    /// Its frames, innermost first.
    pub lines: Vec<Line>,
    /// Addresses of its frames; inlined ones share one with the frame they were inlined into.
    pub pcs: Vec<u64>,
}

/// A frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index of the frame.
    pub frame: u32,
    /// Index of its address.
    pub pc: u32,
    /// The runtime's tracebacks have it.
    pub shown: bool,
    /// It means nothing to a reader at all: below every task, or a wrapper.
    pub dull: bool,
}

/// A task waits on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskWait {
    /// Index of the object.
    pub object: u32,
    /// In which way.
    pub side: Side,
}

/// An object that tasks wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitObject {
    /// Its address.
    pub address: u64,
    /// What it is.
    pub object: Object,
    /// Tasks that wait to receive from it.
    pub receivers: u64,
    /// Tasks that wait to send to it.
    pub senders: u64,
    /// Tasks that wait for it in another way.
    pub others: u64,
}

impl WaitObject {
    /// All that wait on it.
    pub fn waiters(&self) -> u64 {
        self.receivers + self.senders + self.others
    }
}

/// Who knows names.
pub trait DumpNames {
    /// Frames at an address of a stack, innermost first.
    fn traced(&mut self, pc: u64, stopped: bool) -> Vec<Traced>;
    /// Where tasks of a site come from.
    fn origin(&mut self, site: SiteId) -> Origin;
}

impl DumpNames for Tracer<'_> {
    fn traced(&mut self, pc: u64, stopped: bool) -> Vec<Traced> {
        Tracer::traced(self, pc, stopped)
    }

    fn origin(&mut self, site: SiteId) -> Origin {
        Tracer::origin(self, site.site, site.entry)
    }
}

/// Gives the goroutines of the process that runs this image their names; `None` when it is no Go program.
pub fn goroutines(dump: TaskDump, image: &Image, modules: &Modules) -> Option<RuntimeDump> {
    let facts = image.inspection().go.as_ref()?;
    let mut runtime = name(dump, &mut image.tracer(modules)?);
    runtime.tells_parents = facts.layout?.parent_goid.is_some();
    runtime.prints_labels = facts.prints_labels();
    Some(runtime)
}

/// Gives the tokio tasks of the process that runs this image their names.
pub fn tokio_tasks(dump: TaskDump, image: &Image) -> RuntimeDump {
    name(dump, &mut TokioNames { image })
}

struct TokioNames<'a> {
    image: &'a Image,
}

impl DumpNames for TokioNames<'_> {
    fn traced(&mut self, _pc: u64, _stopped: bool) -> Vec<Traced> {
        Vec::new()
    }

    fn origin(&mut self, site: SiteId) -> Origin {
        let Some(name) = self.image.task_name(site.entry) else { return Origin::default() };
        Origin {
            // The place of its code, not of what spawned it.
            shown: false,
            function: name.function,
            file: name.file,
            line: name.line,
            offset: None,
            task: Some(name.task),
            system: name.system,
        }
    }
}

/// Gives the threads of a process their names. The entry of a site is a place in `routines`, and one.
pub fn threads(dump: TaskDump, routines: &[String], image: &mut Image, modules: &mut Modules) -> RuntimeDump {
    name(dump, &mut ThreadNames { routines, image, modules })
}

struct ThreadNames<'a> {
    routines: &'a [String],
    image: &'a mut Image,
    modules: &'a mut Modules,
}

impl DumpNames for ThreadNames<'_> {
    fn traced(&mut self, pc: u64, _stopped: bool) -> Vec<Traced> {
        frames(self.image, self.modules, pc).into_iter().map(Traced::from).collect()
    }

    fn origin(&mut self, site: SiteId) -> Origin {
        let place = site.entry.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        Origin { task: place.and_then(|place| self.routines.get(place)).cloned(), ..Origin::default() }
    }
}

/// Gives a dump its names.
pub fn name(dump: TaskDump, names: &mut dyn DumpNames) -> RuntimeDump {
    let mut namer = Namer { names, frames: Frames::default(), known: FxHashMap::default() };
    let stacks = dump.stacks.values().iter().map(|pcs| namer.stack(pcs)).collect();
    let mut sites = Vec::new();
    let mut indices: FxHashMap<SiteId, u32> = FxHashMap::default();
    let mut objects = Objects::of(&dump);
    let states: Vec<String> = dump.states.values().to_vec();
    let tasks = dump
        .tasks
        .iter()
        .map(|task| {
            let site = *indices.entry(task.site).or_insert_with(|| {
                sites.push(namer.names.origin(task.site));
                index(sites.len() - 1)
            });
            objects.count(&dump, task, states.get(task.state as usize).map_or("", String::as_str));
            let origin = sites.get(site as usize);
            Task {
                id: task.id,
                parent: task.parent,
                site,
                state: task.state,
                marks: task.marks,
                system: origin.is_some_and(|origin| is_system_now(origin, &dump, task)),
                waited_ns: task.waited_ns,
                wakes_in_ns: task.wakes_ns.map(|wakes| wakes.saturating_sub(dump.time_ns)),
                stack: task.stack,
                labels: task.labels,
                bytes: task.bytes,
                waits: task.waits,
            }
        })
        .collect();
    let (objects, waits) = objects.finish(&dump);
    RuntimeDump {
        kind: dump.runtime.name().to_owned(),
        version: dump.version,
        tells_parents: false,
        // Of other runtimes labels are all that tells one task from another.
        prints_labels: true,
        tasks,
        states,
        frames: namer.frames.all,
        stacks,
        sites,
        labels: dump.labels.values().to_vec(),
        objects,
        files: dump.files,
        waits,
        unreadable: dump.unreadable,
        problems: dump.problems,
    }
}

/// The finalizer's and the cleaners' goroutines are the program's while they run its code: that is, while they do not
/// wait for work (`isSystemGoroutine`, runtime/traceback.go).
fn is_system_now(origin: &Origin, dump: &TaskDump, task: &DumpedTask) -> bool {
    const IDLE: [&str; 4] = ["finalizer wait", "cleanup wait", "runnable", "running"];
    let of_both = matches!(
        origin.task.as_deref(),
        Some("runtime.runfinq" | "runtime.runFinalizers" | "runtime.runCleanups")
    );
    let state = dump.states.get(task.state).map_or("", String::as_str);
    origin.system && (!of_both || IDLE.contains(&state))
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Frames {
    all: Vec<Frame>,
    indices: FxHashMap<Frame, u32>,
}

impl Frames {
    fn index(&mut self, frame: Frame) -> u32 {
        *self.indices.entry(frame).or_insert_with_key(|frame| {
            self.all.push(frame.clone());
            index(self.all.len() - 1)
        })
    }
}

/// A frame by its index, and what decides whether it is shown.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states")]
struct Known {
    frame: u32,
    hidden: bool,
    wrapper: bool,
    panics: bool,
    gopanic: bool,
    injected: bool,
    outermost: bool,
}

struct Namer<'a> {
    names: &'a mut dyn DumpNames,
    frames: Frames,
    known: FxHashMap<(u64, bool), Vec<Known>>,
}

impl Namer<'_> {
    fn at(&mut self, pc: u64, stopped: bool) -> &[Known] {
        self.known.entry((pc, stopped)).or_insert_with(|| {
            let traced = self.names.traced(pc, stopped);
            traced
                .into_iter()
                .map(|traced| Known {
                    hidden: traced.hidden,
                    wrapper: traced.wrapper,
                    panics: traced.panics,
                    gopanic: traced.gopanic,
                    injected: traced.injected,
                    outermost: traced.outermost,
                    frame: self.frames.index(Frame {
                        function: traced.function,
                        file: traced.file,
                        line: traced.line,
                        offset: traced.offset,
                        inlined: traced.inlined,
                        no_arguments: traced.no_arguments,
                    }),
                })
                .collect()
        })
    }

    /// `traceback2`: what the runtime would print of this stack.
    fn stack(&mut self, pcs: &[u64]) -> NamedStack {
        let mut stack = NamedStack { lines: Vec::with_capacity(pcs.len()), pcs: pcs.to_vec() };
        let (mut none_yet, mut callee_panics, mut callee_injected) = (true, false, false);
        for (&pc, at) in pcs.iter().zip(0..) {
            let mut injected = false;
            for known in self.at(pc, callee_injected) {
                let wrapper = known.wrapper && !callee_panics;
                let left_out = wrapper || known.hidden || (known.gopanic && none_yet);
                let shown = !left_out;
                stack.lines.push(Line {
                    frame: known.frame,
                    pc: at,
                    shown,
                    dull: known.outermost || wrapper,
                });
                none_yet &= !shown;
                callee_panics = known.panics;
                injected = known.injected;
            }
            callee_injected = injected;
        }
        // By default without the runtime's frames; if that leaves nothing, all of them.
        if none_yet {
            stack.lines.iter_mut().for_each(|line| line.shown = true);
        }
        stack
    }
}

/// Objects while they are counted.
struct Objects {
    all: Vec<WaitObject>,
    indices: FxHashMap<u64, u32>,
    sides: Vec<Side>,
}

impl Objects {
    fn of(dump: &TaskDump) -> Self {
        let mut all: Vec<WaitObject> = dump
            .objects
            .iter()
            .map(|(&address, &object)| WaitObject { address, object, receivers: 0, senders: 0, others: 0 })
            .collect();
        all.sort_unstable_by_key(|object| object.address);
        let indices = all.iter().zip(0..).map(|(object, index)| (object.address, index)).collect();
        Self { all, indices, sides: dump.waits.iter().map(|wait| wait.side).collect() }
    }

    /// Counts what a task waits on. Where a channel's queues did not tell the side, its state does.
    fn count(&mut self, dump: &TaskDump, task: &DumpedTask, state: &str) {
        let by_state = match state.split(" (").next() {
            Some("chan receive") => Side::Receive,
            Some("chan send") => Side::Send,
            _ => Side::Unknown,
        };
        let range = task.waits.0 as usize..task.waits.1 as usize;
        let (Some(waits), Some(sides)) = (dump.waits.get(range.clone()), self.sides.get_mut(range)) else {
            return;
        };
        for (wait, side) in waits.iter().zip(sides) {
            if *side == Side::Unknown {
                *side = by_state;
            }
            let object = self.indices.get(&wait.object).and_then(|&index| self.all.get_mut(index as usize));
            if let Some(object) = object {
                *match side {
                    Side::Receive => &mut object.receivers,
                    Side::Send => &mut object.senders,
                    Side::Acquire | Side::Unknown => &mut object.others,
                } += 1;
            }
        }
    }

    /// Sorts the objects, those with most waiters first.
    fn finish(self, dump: &TaskDump) -> (Vec<WaitObject>, Vec<TaskWait>) {
        let mut order: Vec<u32> = (0..index(self.all.len())).collect();
        let waiters = |&at: &u32| self.all.get(at as usize).map_or(0, WaitObject::waiters);
        order.sort_by_key(|at| std::cmp::Reverse(waiters(at)));
        let mut places = vec![0; order.len()];
        for (&at, place) in order.iter().zip(0_u32..) {
            if let Some(slot) = places.get_mut(at as usize) {
                *slot = place;
            }
        }
        let waits = dump
            .waits
            .iter()
            .zip(&self.sides)
            .map(|(wait, &side)| {
                let at = self.indices.get(&wait.object).and_then(|&at| places.get(at as usize));
                TaskWait { object: at.copied().unwrap_or(u32::MAX), side }
            })
            .collect();
        let objects = order.iter().filter_map(|&at| self.all.get(at as usize).copied()).collect();
        (objects, waits)
    }
}

impl Task {
    /// Index of its stack, as far as it was read.
    pub fn stack_index(&self) -> Option<u32> {
        self.stack.index()
    }
}

impl RuntimeDump {
    /// What a task waits on.
    pub fn waits_of(&self, task: &Task) -> &[TaskWait] {
        self.waits.get(task.waits.0 as usize..task.waits.1 as usize).unwrap_or_default()
    }

    /// A task's state.
    pub fn state_of(&self, task: &Task) -> &str {
        self.states.get(task.state as usize).map_or("", String::as_str)
    }

    /// A task's stack, as far as it was read.
    pub fn stack_of(&self, task: &Task) -> Option<&NamedStack> {
        self.stacks.get(task.stack.index()? as usize)
    }

    /// The frame of a line.
    pub fn frame(&self, line: &Line) -> Option<&Frame> {
        self.frames.get(line.frame as usize)
    }

    /// Where a task comes from.
    pub fn origin_of(&self, task: &Task) -> Option<&Origin> {
        self.sites.get(task.site as usize)
    }

    /// Keeps only the program's own tasks.
    #[must_use]
    pub fn without_system(mut self) -> Self {
        self.tasks.retain(|task| !task.system);
        self
    }

    /// Bytes of memory that its tasks hold; `None`: not known for this runtime.
    pub fn bytes(&self) -> Option<u64> {
        self.tasks.iter().map(|task| task.bytes).sum()
    }
}
