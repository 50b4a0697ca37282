//! One number that tells whether two builds share the same types.

use core::mem::size_of;

use crate::{
    COUNTERS, Chain, ChainKey, ChildValue, EventRecord, Interpreter, LiveKey, LiveValue, Note,
    ProbeDescriptor, ProcessSlot, SentKey, SiteCounters, SiteKey, StackRecord, TracepointLayout,
};

/// Raised by hand when a field changes its meaning but not the size of its type.
const REVISION: u64 = 3;

/// Both sides compute it from their own types; a kernel object of another layout is refused at load, not misread.
pub const ABI: u64 = {
    let sizes = [
        size_of::<EventRecord>(),
        size_of::<LiveKey>(),
        size_of::<LiveValue>(),
        size_of::<Note>(),
        size_of::<ProbeDescriptor>(),
        size_of::<ProcessSlot>(),
        size_of::<SiteCounters>(),
        size_of::<SiteKey>(),
        size_of::<TracepointLayout>(),
        COUNTERS,
        size_of::<StackRecord>(),
        size_of::<ChainKey>(),
        size_of::<Chain>(),
        size_of::<ChildValue>(),
        size_of::<Interpreter>(),
        size_of::<SentKey>(),
    ];
    let mut hash = REVISION;
    let mut index = 0;
    while index < sizes.len() {
        hash = hash.wrapping_mul(1_000_003).wrapping_add(sizes[index] as u64);
        index += 1;
    }
    hash
};
