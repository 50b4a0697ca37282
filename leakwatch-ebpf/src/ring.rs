//! Sending records through the ring buffer.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE};
use leakwatch_common::{Counter, EventRecord};

use crate::{counters::Row, maps::EVENTS};

/// When the reader learns of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// At its next poll: waking it costs more than the record.
    Stream,
    /// Now.
    Now,
    /// At its next poll, unless the ring has filled to an eighth: for what comes in storms and can wait.
    Lazy,
}

/// Sends a record, or counts that it did not fit.
#[inline(always)]
pub(crate) fn send(row: Row, record: EventRecord, urgency: Urgency) {
    let Some(mut entry) = EVENTS.reserve::<EventRecord>(0) else {
        row.add(Counter::RingFull);
        return;
    };
    entry.write(record);
    let waits = || EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let size = || EVENTS.query(u64::from(BPF_RB_RING_SIZE));
    entry.submit(u64::from(match urgency {
        Urgency::Now => BPF_RB_FORCE_WAKEUP,
        Urgency::Lazy if waits() > size() / 8 => BPF_RB_FORCE_WAKEUP,
        Urgency::Stream | Urgency::Lazy => BPF_RB_NO_WAKEUP,
    }));
}
