//! Every task of a process with what it does, read without a stop: what `leakwatch dump` prints.
//!
//! A goroutine is taken in only when it held still: its number, status, program counter and stack pointer are the same
//! after its stack was walked as before. One that did not is looked at again, a few times, and is then counted as
//! unreadable. Must never write to the process, never take a size from it unchecked, and never read a clock.

mod labels;
mod parked;
mod tokio;
mod waits;
mod walk;

use leakwatch_common::RuntimeKind;
use leakwatch_inspect::go::layout::{BubbleLayout, GoLayout};
use rustc_hash::FxHashMap;

use super::{
    CollectError,
    fields::{u32_at, u64_at},
    go::{G_SCAN, GoRuntime},
    runtime,
};
use crate::{
    host::{Memory, Process, ProcessMemory, ReadRequest, sockets},
    images::{Image, Modules, Unwinder},
    observe::{Amount, Bubble, DumpedTask, Marks, Object, Side, SiteId, Stack, TaskDump, Wait},
};
use labels::Sets;
use parked::{Parked, ParkedOn};
pub use tokio::tokio_tasks;
use waits::Sudogs;
use walk::{Start, Windows};

/// Goroutines looked at together.
const BATCH: usize = 512;
/// How often one that does not hold still is looked at.
const LOOKS: usize = 6;

/// The goroutines of a process, at about `now_ns`; `amount` is how many of them were looked at.
///
/// # Errors
/// When the process is no Go program, when something that reading needs was not found in it, or when it ends meanwhile.
pub fn goroutines(
    process: &Process,
    image: &Image,
    modules: &Modules,
    now_ns: u64,
    amount: &Amount,
) -> Result<TaskDump, CollectError> {
    let pid = process.pid();
    let exe = || image.path().display().to_string();
    let facts = image.inspection().go.as_ref().ok_or_else(|| CollectError::NoRuntime { pid, exe: exe() })?;
    let incomplete = |why: String| CollectError::Incomplete { pid, exe: exe(), why };
    let runtime = runtime::go_tasks(facts, image.bias()).map_err(incomplete)?;
    let unwinder =
        image.unwinder(modules).ok_or_else(|| incomplete("its function tables were not found".to_owned()))?;
    let memory = ProcessMemory::open(process)?;
    let version = facts.version.as_ref().map(|version| version.text.clone());
    let dump = TaskDump::new(RuntimeKind::Go, version, now_ns);
    let mut reader = Reader::new(&memory, &runtime, unwinder, dump);
    let read = reader.read(amount);
    if let (Ok(()), Some(heap)) = (&read, &runtime.layout.heap) {
        reader.look_at_waits(
            heap,
            facts.globals.semtable.map(|global| global.address.wrapping_add(image.bias())),
        );
    }
    // Whatever the end of the process made fail, the true sentence is that it ended.
    if !process.alive() {
        return Err(crate::host::HostError::Ended { pid }.into());
    }
    read.map_err(|source| CollectError::Memory { pid, source })?;
    let mut dump = reader.into_dump();
    let descriptors = dump.objects.values().filter_map(|object| match object {
        Object::File { descriptor } => Some(*descriptor),
        _ => None,
    });
    dump.files = sockets::names(pid, &descriptors.collect());
    Ok(dump)
}

/// Reads one process.
struct Reader<'a, M> {
    memory: &'a M,
    runtime: &'a GoRuntime,
    unwinder: Unwinder<'a>,
    dump: TaskDump,
    sets: Sets,
    sudogs: Sudogs,
    /// Goroutines that wait for the network or on a Cond.
    parked: Vec<Parked>,
    /// Bubbles of `testing/synctest` by their address; `None`: unreadable.
    bubbles: FxHashMap<u64, Option<Bubble>>,
    /// Bytes of a goroutine struct that hold all that we read.
    span: usize,
    structs: Vec<u8>,
    again: Vec<u8>,
    pcs: Vec<u64>,
}

/// What one look at a goroutine gave.
enum Look {
    /// Not alive.
    Dead,
    /// Alive, as it was all through the look.
    Still(Draft, Stack),
    /// It moved.
    Moved,
    /// It cannot be read, or makes no sense.
    Unreadable,
}

impl<'a, M: Memory> Reader<'a, M> {
    fn new(memory: &'a M, runtime: &'a GoRuntime, unwinder: Unwinder<'a>, dump: TaskDump) -> Self {
        let span = span(&runtime.layout);
        let (structs, again) = (vec![0; span * BATCH], vec![0; span * BATCH]);
        let (sets, sudogs) = (Sets::default(), Sudogs::default());
        Self {
            memory,
            runtime,
            unwinder,
            dump,
            sets,
            sudogs,
            parked: Vec::new(),
            bubbles: FxHashMap::default(),
            span,
            structs,
            again,
            pcs: Vec::new(),
        }
    }

    fn read(&mut self, amount: &Amount) -> Result<(), crate::host::ReadError> {
        let addresses = self.runtime.all_goroutines(self.memory)?;
        amount.begin(addresses.len() as u64);
        for batch in addresses.chunks(BATCH) {
            let mut looks = self.look(batch);
            for _ in 1..LOOKS {
                let moved: Vec<usize> = looks
                    .iter()
                    .enumerate()
                    .filter_map(|(index, look)| matches!(look, Look::Moved).then_some(index))
                    .collect();
                if moved.is_empty() {
                    break;
                }
                let those: Vec<u64> = moved.iter().filter_map(|&index| batch.get(index).copied()).collect();
                for (index, look) in moved.into_iter().zip(self.look(&those)) {
                    if let Some(place) = looks.get_mut(index) {
                        *place = look;
                    }
                }
            }
            self.take_in(looks);
            amount.add(batch.len() as u64);
        }
        Ok(())
    }

    /// Looks once at some goroutines: their structs, their stacks, their structs again.
    fn look(&mut self, addresses: &[u64]) -> Vec<Look> {
        let mut structs = std::mem::take(&mut self.structs);
        let mut again = std::mem::take(&mut self.again);
        let (memory, span) = (self.memory, self.span);
        let read = |bytes: &mut Vec<u8>| -> Vec<bool> {
            let mut requests: Vec<_> = addresses
                .iter()
                .zip(bytes.chunks_exact_mut(span))
                .map(|(&address, into)| ReadRequest::new(address, into))
                .collect();
            memory.read_many(&mut requests);
            requests.iter().map(|request| request.ok).collect()
        };
        let first = read(&mut structs);
        let layout = &self.runtime.layout;
        let drafts: Vec<Result<Draft, NoDraft>> = addresses
            .iter()
            .zip(structs.chunks_exact(self.span))
            .zip(first)
            .map(
                |((&address, bytes), ok)| {
                    if ok { Draft::read(layout, address, bytes) } else { Err(NoDraft::Unreadable) }
                },
            )
            .collect();
        let starts: Vec<Option<Start>> =
            drafts.iter().map(|draft| draft.as_ref().ok().and_then(Draft::start)).collect();
        let windows = Windows::read(self.memory, &starts);
        let stacks: Vec<Stack> = drafts
            .iter()
            .zip(starts)
            .enumerate()
            .map(|(index, (draft, start))| match (draft, start) {
                (Ok(draft), None) if draft.runs() => Stack::Running,
                (_, Some(start)) => self.walk(start, windows.get(index)),
                _ => Stack::Unreadable,
            })
            .collect();
        let second = read(&mut again);
        let looks = drafts
            .into_iter()
            .zip(stacks)
            .zip(again.chunks_exact(self.span).zip(second))
            .map(|((draft, stack), (bytes, ok))| match draft {
                Ok(draft) if ok => draft.confirm(layout, bytes, stack),
                Ok(_) => Look::Unreadable,
                Err(why) => why.into(),
            })
            .collect();
        (self.structs, self.again) = (structs, again);
        looks
    }

    fn walk(&mut self, start: Start, window: Option<&[u8]>) -> Stack {
        let Some(window) = window else { return Stack::Unreadable };
        let whole = walk::walk(self.memory, &mut self.unwinder, start, window, &mut self.pcs);
        if self.pcs.is_empty() {
            return Stack::Unreadable;
        }
        let index = self.dump.stacks.index(self.pcs.as_slice());
        if whole { Stack::Whole(index) } else { Stack::Part(index) }
    }

    fn take_in(&mut self, looks: Vec<Look>) {
        let mut waiting = Vec::new();
        for look in looks {
            match look {
                Look::Dead => {}
                Look::Moved | Look::Unreadable => self.dump.unreadable += 1,
                Look::Still(draft, stack) => {
                    if draft.status == WAITING && draft.waiting != 0 {
                        waiting.push((self.dump.tasks.len(), draft.waiting));
                    }
                    let task = self.task(&draft, stack);
                    self.note_parked(&draft, task.state);
                    self.dump.tasks.push(task);
                    self.note_timer(&draft);
                }
            }
        }
        if let Some(heap) = &self.runtime.layout.heap {
            self.sudogs.take_in(self.memory, heap, &waiting, &mut self.dump);
        }
    }

    fn task(&mut self, draft: &Draft, stack: Stack) -> DumpedTask {
        let waits = matches!(draft.status, WAITING | LEAKED);
        let reason = (waits && draft.wait_reason != 0)
            .then(|| self.runtime.wait_reasons.get(usize::from(draft.wait_reason)))
            .flatten();
        let state = reason.map_or_else(|| status_text(draft.status), String::as_str);
        let state = self.dump.states.index(state);
        let noted = matches!(draft.status, WAITING | SYSCALL) && draft.wait_since != 0;
        // What a timer will do is only looked at where it is what the goroutine waits for.
        let wakes_ns =
            (reason.is_some_and(|reason| reason == "sleep")).then(|| self.wakes_at(draft.timer)).flatten();
        DumpedTask {
            id: draft.id,
            address: draft.address,
            parent: draft.parent.filter(|&parent| parent != 0),
            site: SiteId { runtime: RuntimeKind::Go, site: draft.gopc, entry: draft.startpc },
            state,
            marks: self.marks(draft, reason.map(String::as_str)),
            waited_ns: noted.then(|| self.dump.time_ns.saturating_sub(draft.wait_since)),
            wakes_ns,
            stack,
            labels: self.sets.at(self.memory, &self.runtime.layout, draft.labels, &mut self.dump.labels),
            bytes: Some(draft.high - draft.low),
            waits: (0, 0),
        }
    }

    fn marks(&mut self, draft: &Draft, reason: Option<&str>) -> Marks {
        let bubble = self.bubble(draft);
        let numbered = matches!(bubble, Some(Bubble::Numbered(_)));
        let durable =
            numbered && draft.status == WAITING && reason.is_some_and(|reason| DURABLE.contains(&reason));
        Marks {
            locked_to_thread: draft.locked,
            scan: draft.scan,
            leaked: draft.status == LEAKED,
            durable,
            bubble,
        }
    }

    /// Bubbles are few, and their numbers stay.
    fn bubble(&mut self, draft: &Draft) -> Option<Bubble> {
        let layout = self.runtime.layout.bubble.filter(|_| draft.bubble != 0)?;
        if let Some(&known) = self.bubbles.get(&draft.bubble) {
            return known;
        }
        let word = |at: u64, offset: u32| self.memory.read_u64(at.checked_add(u64::from(offset))?).ok();
        let bubble = match layout {
            BubbleLayout::Bubble { id, .. } => word(draft.bubble, id).map(Bubble::Numbered),
            BubbleLayout::Group { root, .. } => word(draft.bubble, root)
                .and_then(|root| word(root, self.runtime.layout.goid))
                .map(Bubble::Group),
        };
        self.bubbles.insert(draft.bubble, bubble);
        bubble
    }

    /// Of some waits only the stack tells for what.
    fn note_parked(&mut self, draft: &Draft, state: u32) {
        let on = self.dump.states.get(state).and_then(|state| ParkedOn::of(state));
        if let Some(on) = on.filter(|_| draft.status == WAITING) {
            let (task, sp, high) = (self.dump.tasks.len(), draft.sp, draft.high);
            self.parked.push(Parked { task, sp, high, on });
        }
    }

    /// Who sleeps waits on its own timer.
    fn note_timer(&mut self, draft: &Draft) {
        let Ok(from) = u32::try_from(self.dump.waits.len()) else { return };
        if let Some(task) = self.dump.tasks.last_mut().filter(|task| task.wakes_ns.is_some()) {
            task.waits = (from, from + 1);
            self.dump.waits.push(Wait { object: draft.timer, side: Side::Acquire });
            self.dump.objects.insert(draft.timer, Object::Timer);
        }
    }

    fn wakes_at(&self, timer: u64) -> Option<u64> {
        let when = self.runtime.layout.heap.as_ref()?.timer_when?;
        let at = timer.checked_add(u64::from(when)).filter(|_| timer != 0)?;
        self.memory.read_u64(at).ok().filter(|&when| when != 0 && when < i64::MAX.cast_unsigned())
    }

    fn look_at_waits(&mut self, heap: &leakwatch_inspect::go::layout::HeapLayout, semtable: Option<u64>) {
        std::mem::take(&mut self.sudogs).look_at_channels(self.memory, heap, &mut self.dump);
        let (poll, notify_head) = (self.runtime.layout.poll, self.runtime.layout.notify_head);
        parked::look(self.memory, heap, poll, notify_head, &self.parked, &mut self.dump);
        match semtable {
            Some(semtable) => waits::semaphores(self.memory, heap, semtable, &mut self.dump),
            None => self.dump.problems.push(
                "the variable runtime.semtable was not found: who waits on locks is not known".to_owned(),
            ),
        }
    }

    fn into_dump(mut self) -> TaskDump {
        if self.sets.failed > 0 {
            self.dump.problems.push(format!("{} sets of labels could not be read", self.sets.failed));
        }
        self.dump
    }
}

/// Statuses of runtime/runtime2.go.
const RUNNABLE: u32 = 1;
const RUNNING: u32 = 2;
const SYSCALL: u32 = 3;
const WAITING: u32 = 4;
const COPYSTACK: u32 = 8;
const PREEMPTED: u32 = 9;
/// Go 1.26 and later.
const LEAKED: u32 = 10;

/// Waits of which `isIdleInSynctest` is true (runtime/runtime2.go, Go 1.25 to 1.27) and whose text does not say so itself.
const DURABLE: [&str; 8] = [
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "select (no cases)",
    "sleep",
    "sync.Cond.Wait",
    "coroutine",
    "synctest.Run",
    "synctest.Wait",
];

/// `gStatusStrings` of runtime/traceback.go.
fn status_text(status: u32) -> &'static str {
    match status {
        RUNNABLE => "runnable",
        RUNNING => "running",
        SYSCALL => "syscall",
        WAITING => "waiting",
        COPYSTACK => "copystack",
        PREEMPTED => "preempted",
        LEAKED => "leaked",
        _ => "???",
    }
}

/// A goroutine struct, as it was read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Draft {
    address: u64,
    id: u64,
    status: u32,
    scan: bool,
    low: u64,
    high: u64,
    pc: u64,
    sp: u64,
    syscall_pc: u64,
    syscall_sp: u64,
    parent: Option<u64>,
    gopc: u64,
    startpc: u64,
    wait_reason: u8,
    wait_since: u64,
    waiting: u64,
    timer: u64,
    labels: u64,
    locked: bool,
    bubble: u64,
}

/// Why a goroutine struct is not that of a live goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoDraft {
    Dead,
    Unreadable,
}

impl From<NoDraft> for Look {
    fn from(why: NoDraft) -> Self {
        match why {
            NoDraft::Dead => Self::Dead,
            NoDraft::Unreadable => Self::Unreadable,
        }
    }
}

impl Draft {
    fn read(layout: &GoLayout, address: u64, bytes: &[u8]) -> Result<Self, NoDraft> {
        Self::parse(layout, address, bytes).ok_or(NoDraft::Unreadable)?
    }

    fn parse(layout: &GoLayout, address: u64, bytes: &[u8]) -> Option<Result<Self, NoDraft>> {
        let word = |offset| u64_at(bytes, offset);
        let raw = u32_at(bytes, layout.atomicstatus)?;
        let status = raw & !G_SCAN;
        match status {
            // _Gidle, _Gdead, _Gdeadextra
            0 | 6 | 11 => return Some(Err(NoDraft::Dead)),
            RUNNABLE | RUNNING | SYSCALL | WAITING | COPYSTACK | PREEMPTED | LEAKED => {}
            _ => return None,
        }
        let draft = Self {
            address,
            id: word(layout.goid)?,
            status,
            scan: raw & G_SCAN != 0,
            low: word(layout.stack_lo)?,
            high: word(layout.stack_hi)?,
            pc: word(layout.sched_pc)?,
            sp: word(layout.sched_sp)?,
            syscall_pc: word(layout.syscallpc)?,
            syscall_sp: word(layout.syscallsp)?,
            parent: layout.parent_goid.and_then(word),
            gopc: word(layout.gopc)?,
            startpc: word(layout.startpc)?,
            wait_reason: bytes.get(layout.waitreason as usize).copied()?,
            wait_since: word(layout.waitsince)?,
            waiting: word(layout.waiting)?,
            timer: layout.heap.as_ref().map_or(Some(0), |heap| word(heap.g_timer))?,
            labels: word(layout.labels)?,
            locked: word(layout.lockedm)? != 0,
            bubble: layout.bubble.map_or(Some(0), |bubble| word(bubble.of()))?,
        };
        (draft.low < draft.high).then_some(Ok(draft))
    }

    /// It runs Go code at this moment.
    fn runs(&self) -> bool {
        self.status == RUNNING && self.syscall_sp == 0
    }

    /// Where its stack begins, if it stands still: where it made its system call, else where it was stopped.
    fn start(&self) -> Option<Start> {
        if self.runs() || self.status == COPYSTACK {
            return None;
        }
        let in_syscall = self.syscall_sp != 0;
        let (pc, sp) = if in_syscall { (self.syscall_pc, self.syscall_sp) } else { (self.pc, self.sp) };
        (self.low..self.high).contains(&sp).then_some(Start { pc, sp, high: self.high, in_syscall })
    }

    /// The second look.
    fn confirm(self, layout: &GoLayout, bytes: &[u8], stack: Stack) -> Look {
        let now = match Self::read(layout, self.address, bytes) {
            Ok(now) => now,
            Err(why) => return why.into(),
        };
        // The goid of a new one is written a moment after its status (Go 1.22 and older).
        if now.id != self.id || self.id == 0 {
            return Look::Moved;
        }
        // That it ran was true at the first look; nothing is said of its stack.
        if self.runs() {
            return Look::Still(self, Stack::Running);
        }
        let still = (now.status, now.pc, now.sp, now.syscall_pc, now.syscall_sp, now.low, now.high)
            == (self.status, self.pc, self.sp, self.syscall_pc, self.syscall_sp, self.low, self.high);
        if !still {
            return Look::Moved;
        }
        match stack {
            // It held still, and yet its stack leads nowhere.
            Stack::Unreadable | Stack::Running | Stack::None => Look::Unreadable,
            Stack::Whole(_) | Stack::Part(_) => Look::Still(self, stack),
        }
    }
}

/// Bytes from the start of a `g` that hold all fields of a [`Draft`].
fn span(layout: &GoLayout) -> usize {
    let fields = [
        layout.stack_lo,
        layout.stack_hi,
        layout.sched_sp,
        layout.sched_pc,
        layout.syscallsp,
        layout.syscallpc,
        layout.atomicstatus,
        layout.goid,
        layout.waitsince,
        layout.waitreason,
        layout.parent_goid.unwrap_or(0),
        layout.gopc,
        layout.startpc,
        layout.waiting,
        layout.labels,
        layout.lockedm,
        layout.bubble.map_or(0, BubbleLayout::of),
        layout.heap.map_or(0, |heap| heap.g_timer),
    ];
    fields.into_iter().max().unwrap_or(0).saturating_add(8) as usize
}
