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
