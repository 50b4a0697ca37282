//! The process's row of counters on this CPU.
//!
//! Additions are atomic although the row is per CPU: a uprobe program can be preempted by another one on
//! the same CPU in the middle of a plain read-modify-write.

use core::arch::asm;

use leakwatch_common::{COUNTERS, Counter};

use crate::maps::COUNTER_ROWS;

/// A process's counters on this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Row(*mut [u64; COUNTERS]);

impl Row {
    /// The row of a slot; `None` only for a slot past the map's size, which the user side never gives.
    #[inline(always)]
    pub(crate) fn of(slot: u32) -> Option<Self> {
        COUNTER_ROWS.get_ptr_mut(slot).map(Self)
    }

    /// Adds one.
    #[inline(always)]
    pub(crate) fn add(self, counter: Counter) {
        // SAFETY: the pointer is a map value that the kernel keeps for as long as this program runs, and every
        // `Counter` is below COUNTERS.
        let cell = unsafe { &raw mut (*self.0)[counter as usize] };
        increment(cell);
    }
}

/// Adds one to a word in a map value.
#[inline(always)]
pub(crate) fn increment(word: *mut u64) {
    // The BPF target has no compare-and-swap in Rust's eyes, so `AtomicU64` has no `fetch_add` here; the
    // instruction set has the atomic add that we want.
    // SAFETY: callers pass the address of an aligned u64 in a live map value; other CPUs use atomics too.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) 1_u64, options(nostack)) };
}
