//! Which watched process a program runs in.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use leakwatch_common::ProcessSlot;

use crate::{
    counters::Row,
    maps::{PROCESSES, SLOTS},
};

/// The process that runs now; `None`: nobody asked for it.
#[inline(always)]
pub(crate) fn current() -> Option<(Row, ProcessSlot)> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: one aligned word, copied out at once.
    let slot = unsafe { PROCESSES.get(&tgid) }.copied()?;
    of_slot(slot)
}

/// The process in a slot; `None` only for a slot past the array, which the user side never gives.
#[inline(always)]
pub(crate) fn of_slot(slot: u32) -> Option<(Row, ProcessSlot)> {
    Some((Row::of(slot)?, *SLOTS.get(slot)?))
}

/// Stops counting for the process in a slot, until the user side says otherwise.
///
/// A probe that is attached to a process outlives its `execve`: if the new program is of the same file, the kernel
/// places the probe in it before its first instruction. Its tasks are not those of the program that was watched.
#[inline(always)]
pub(crate) fn silence(slot: u32) {
    if let Some(process) = SLOTS.get_ptr_mut(slot) {
        // SAFETY: a live map value; the user side replaces whole values only.
        unsafe { (*process).flags = 0 };
    }
}
