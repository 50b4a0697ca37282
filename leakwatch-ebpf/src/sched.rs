//! Threads and processes: the kernel's own tracepoints.
//!
//! Field offsets come from this kernel's format files (`TRACEPOINTS`), never from here.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel},
    programs::TracePointContext,
};
use leakwatch_common::{Counter, EventKind, EventRecord, ProcessSlot};

use crate::{
    counters::Row,
    maps::TRACEPOINTS,
    processes,
    ring::{self, Urgency},
};

/// `CLONE_THREAD` of include/uapi/linux/sched.h.
const CLONE_THREAD: u64 = 0x0001_0000;

/// A task was made; the current task is its parent.
#[inline(always)]
pub(crate) fn on_newtask(ctx: &TracePointContext) {
    let Some((row, slot)) = processes::current() else { return };
    let layout = TRACEPOINTS.load();
    let flags = field::<u64>(ctx, row, layout.newtask_clone_flags).unwrap_or(0);
    let child = field::<u32>(ctx, row, layout.newtask_pid).unwrap_or(0);
    let (counter, kind) = if flags & CLONE_THREAD != 0 {
        (Counter::ThreadsStarted, EventKind::ThreadStart)
    } else {
        (Counter::Forks, EventKind::Fork)
    };
    row.add(counter);
    send(row, slot, kind, u64::from(child), flags);
}

/// The current process replaced its image.
#[inline(always)]
pub(crate) fn on_exec(ctx: &TracePointContext) {
    let Some((row, slot)) = processes::current() else { return };
    let old_pid = field::<u32>(ctx, row, TRACEPOINTS.load().exec_old_pid).unwrap_or(0);
    row.add(Counter::Execs);
    processes::silence(slot.slot);
    send(row, slot, EventKind::Exec, u64::from(old_pid), 0);
}

/// The current thread ends.
#[inline(always)]
pub(crate) fn on_exit(ctx: &TracePointContext) {
    let Some((row, slot)) = processes::current() else { return };
    let tid = field::<u32>(ctx, row, TRACEPOINTS.load().exit_pid).unwrap_or(0);
    row.add(Counter::ThreadsEnded);
    send(row, slot, EventKind::ThreadExit, u64::from(tid), 0);
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
fn send(row: Row, slot: ProcessSlot, kind: EventKind, task: u64, extra: u64) {
    let record = EventRecord {
        // SAFETY: a plain helper call.
        time_ns: unsafe { bpf_ktime_get_ns() },
        task,
        site: 0,
        entry: 0,
        extra,
        process: slot.incarnation,
        kind: kind as u16,
        runtime: 0,
    };
    ring::send(row, record, Urgency::Now);
}
