//! Sending records through the ring buffer.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use leakwatch_common::{Counter, EventRecord};

use crate::{
    counters::Row,
    maps::{EVENTS, WAKE_BYTES},
};

/// `BPF_RB_AVAIL_DATA` of include/uapi/linux/bpf.h: bytes that the reader has not consumed.
const AVAIL_DATA: u64 = 0;

/// The wake-up is sent by the records that carry the level over the mark, not by each one above it.
const WAKE_WINDOW: u64 = 1024;

/// When the reader learns of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// At its next poll, or when much has gathered.
    Stream,
    /// Now.
    Now,
}

/// Sends a record, or counts that it did not fit.
#[inline(always)]
pub(crate) fn send(row: Row, record: EventRecord, urgency: Urgency) {
    let Some(mut entry) = EVENTS.reserve::<EventRecord>(0) else {
        row.add(Counter::RingFull);
        return;
    };
    entry.write(record);
    let wake = match urgency {
        Urgency::Now => u64::from(BPF_RB_FORCE_WAKEUP),
        Urgency::Stream => {
            let over = EVENTS.query(AVAIL_DATA).wrapping_sub(WAKE_BYTES.load());
            if over < WAKE_WINDOW { u64::from(BPF_RB_FORCE_WAKEUP) } else { u64::from(BPF_RB_NO_WAKEUP) }
        }
    };
    entry.submit(wake);
}
