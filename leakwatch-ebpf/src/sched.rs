//! Threads and processes: the kernel's own tracepoints.
//!
//! Field offsets come from this kernel's format files (`TRACEPOINTS`), never from here.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_ANY,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel},
    programs::TracePointContext,
};
use leakwatch_common::{
    ChildValue, Counter, EventKind, EventRecord, LiveState, LiveValue, ProcessSlot, RuntimeKind,
    UserRegisters, process_flags, thread_site, words_of_name,
};

use crate::{
    counters::Row,
    creation::{self, Made},
    maps::{CHILDREN, TRACEPOINTS},
    processes,
    ring::{self, Urgency},
    task::{self, Facts, Hit},
};

/// `CLONE_THREAD` of include/uapi/linux/sched.h.
const CLONE_THREAD: u64 = 0x0001_0000;

/// The slot that belongs to nobody.
const NOBODY: u32 = 0;

/// A task was made; the current task is its parent, and `registers` gives its own.
#[inline(always)]
pub(crate) fn on_newtask(ctx: &TracePointContext, registers: impl FnOnce() -> Option<UserRegisters>) {
    let Some((row, slot)) = processes::current() else { return };
    if slot.flags & (process_flags::THREADS | process_flags::THREAD_TOTALS) == 0 {
        return;
    }
    let layout = TRACEPOINTS.load();
    let flags = field::<u64>(ctx, row, layout.newtask_clone_flags).unwrap_or(0);
    if slot.flags & process_flags::THREADS == 0 {
        row.add(if flags & CLONE_THREAD != 0 { Counter::ThreadsStarted } else { Counter::Forks });
        return;
    }
    let made = field::<u32>(ctx, row, layout.newtask_pid).unwrap_or(0);
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    let registers = registers();
    if registers.is_none() {
        row.add(Counter::StackUnreadable);
    }
    let Made { site, send } = match &registers {
        Some(registers) => creation::site(row, slot, registers, now, made),
        None => Made { site: thread_site::UNKNOWN, send: false },
    };
    let kind = if flags & CLONE_THREAD != 0 {
        thread_started(row, slot, now, made, site);
        EventKind::ThreadStart
    } else {
        forked(row, slot, now, made);
        EventKind::Fork
    };
    let record = record(slot, kind, now, u64::from(made), site, 0, flags);
    // A thread that began or ended can wait to be told of; where it was made is told at once, below.
    ring::send(row, record, if kind == EventKind::Fork { Urgency::Now } else { Urgency::Lazy });
    if send
        && let Some(registers) = &registers
        && !creation::send(row, &record, registers, true)
    {
        row.add(Counter::StacksSkipped);
    }
}

/// The current process replaced its image.
#[inline(always)]
pub(crate) fn on_exec(ctx: &TracePointContext) {
    announce_exec();
    child_executed();
    let Some((row, slot)) = processes::current() else { return };
    let old_pid = field::<u32>(ctx, row, TRACEPOINTS.load().exec_old_pid).unwrap_or(0);
    row.add(Counter::Execs);
    processes::silence(slot.slot);
    let record = record(slot, EventKind::Exec, now(), u64::from(old_pid), 0, 0, 0);
    ring::send(row, record, Urgency::Now);
}

/// Tells of an exec of whoever runs, where somebody looks for new processes. What does not fit into the ring is counted in
/// nobody's row.
#[inline(always)]
fn announce_exec() {
    let Some((row, nobody)) = processes::of_slot(NOBODY) else { return };
    if nobody.flags & process_flags::ANNOUNCE == 0 {
        return;
    }
    let pid = bpf_get_current_pid_tgid() >> 32;
    let gathers = nobody.flags & process_flags::GATHER != 0;
    let urgency = if gathers { Urgency::Lazy } else { Urgency::Now };
    ring::send(row, record(nobody, EventKind::HostExec, now(), pid, 0, 0, 0), urgency);
}

/// The current thread ends.
#[inline(always)]
pub(crate) fn on_exit(ctx: &TracePointContext) {
    child_ended(ctx);
    let Some((row, slot)) = processes::current() else { return };
    if slot.flags & process_flags::THREADS == 0 {
        if slot.flags & process_flags::THREAD_TOTALS != 0 {
            row.add(Counter::ThreadsEnded);
        }
        return;
    }
    let tid = field::<u32>(ctx, row, TRACEPOINTS.load().exit_pid).unwrap_or(0);
    let now = now();
    let site = thread_ended(row, slot, now, tid);
    let record = record(slot, EventKind::ThreadExit, now, u64::from(tid), site, 0, 0);
    ring::send(row, record, Urgency::Lazy);
}

/// A thread as the functions of `task` know tasks: its census is one of its own.
#[inline(always)]
fn hit(row: Row, slot: ProcessSlot, now: u64, tid: u32) -> Hit {
    let census = slot.flags & process_flags::THREAD_CENSUS != 0;
    let flags = if census { process_flags::CENSUS } else { 0 };
    let slot = ProcessSlot { flags, ..slot };
    Hit { row, slot, runtime: RuntimeKind::Thread as u16, now, task: u64::from(tid) }
}

#[inline(always)]
fn thread_started(row: Row, slot: ProcessSlot, now: u64, tid: u32, site: u64) {
    row.add(Counter::ThreadsStarted);
    let hit = hit(row, slot, now, tid);
    let _number = task::count_start(&hit, Facts { site, entry: 0 });
    let value = LiveValue { born_ns: now, site, entry: 0, state: LiveState::Started as u64 };
    task::put_live(&hit, &value);
}

/// Takes the thread out of the live table; its site.
#[inline(always)]
fn thread_ended(row: Row, slot: ProcessSlot, now: u64, tid: u32) -> u64 {
    row.add(Counter::ThreadsEnded);
    let hit = hit(row, slot, now, tid);
    let life = task::bury(&hit, true);
    let census = slot.flags & process_flags::THREAD_CENSUS != 0;
    if life.is_none() && !census {
        row.add(Counter::ThreadEndWithoutStart);
    }
    let (born_ns, facts) = life.unwrap_or((0, Facts { site: thread_site::UNKNOWN, entry: 0 }));
    task::count_end(&hit, facts, born_ns, life.is_none() && census);
    facts.site
}

/// A child was made: it is known from now on, to its end.
#[inline(always)]
fn forked(row: Row, slot: ProcessSlot, now: u64, child: u32) {
    row.add(Counter::Forks);
    let value = ChildValue { born_ns: now, process: slot.incarnation, slot: slot.slot };
    if CHILDREN.insert(&child, &value, u64::from(BPF_ANY)).is_err() {
        row.add(Counter::ChildTableFull);
    }
}

/// The current process, where it is a child of a watched one.
#[inline(always)]
fn child() -> Option<(Row, ProcessSlot, u32, ChildValue)> {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: copied out at once; only the end of this process removes it.
    let value = unsafe { CHILDREN.get(&pid) }.copied()?;
    let (row, parent) = processes::of_slot(value.slot)?;
    // The slot may be another process's by now; its entry is nobody's then.
    (parent.incarnation == value.process && parent.flags & process_flags::THREADS != 0)
        .then_some((row, parent, pid, value))
}

#[inline(always)]
fn child_executed() {
    let Some((row, parent, pid, value)) = child() else { return };
    let (low, high) = words_of_name(bpf_get_current_comm().unwrap_or([0; 16]));
    let record = record(parent, EventKind::ChildExec, now(), u64::from(pid), low, high, value.born_ns);
    ring::send(row, record, Urgency::Now);
}

#[inline(always)]
fn child_ended(ctx: &TracePointContext) {
    let Some((row, parent, pid, value)) = child() else { return };
    let offset = TRACEPOINTS.load().exit_group_dead;
    // Older kernels do not tell whether other threads are left; the end of the first one stands for that of all.
    let last = if offset == u32::MAX {
        bpf_get_current_pid_tgid() as u32 == pid
    } else {
        field::<u8>(ctx, row, offset).is_none_or(|dead| dead != 0)
    };
    if !last {
        return;
    }
    // Gone already is as good as removed.
    let _gone = CHILDREN.remove(&pid);
    row.add(Counter::ChildrenEnded);
    let (low, high) = words_of_name(bpf_get_current_comm().unwrap_or([0; 16]));
    let record = record(parent, EventKind::ChildExit, now(), u64::from(pid), low, high, value.born_ns);
    ring::send(row, record, Urgency::Now);
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a plain helper call.
    unsafe { bpf_ktime_get_ns() }
}

/// A field of the tracepoint's record; `None` is counted.
#[inline(always)]
fn field<T>(ctx: &TracePointContext, row: Row, offset: u32) -> Option<T> {
    if offset != u32::MAX {
        let address = ctx.as_ptr().wrapping_byte_add(offset as usize);
        // SAFETY: the helper checks the address and fails instead of faulting.
        if let Ok(value) = unsafe { bpf_probe_read_kernel(address.cast::<T>()) } {
            return Some(value);
        }
    }
    row.add(Counter::TracepointUnreadable);
    None
}

#[inline(always)]
fn record(
    slot: ProcessSlot,
    kind: EventKind,
    time_ns: u64,
    task: u64,
    site: u64,
    entry: u64,
    extra: u64,
) -> EventRecord {
    EventRecord {
        time_ns,
        task,
        site,
        entry,
        extra,
        process: slot.incarnation,
        kind: kind as u16,
        runtime: 0,
    }
}
