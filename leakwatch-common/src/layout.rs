//! Sizes of every shared type, asserted where the compiler sees them: a change on one side alone cannot build.

use core::mem::{align_of, size_of};

use crate::{
    Chain, ChainKey, ChildValue, EventRecord, Interpreter, LiveKey, LiveValue, Note, ProbeDescriptor,
    ProcessSlot, SentKey, SiteCounters, SiteKey, StackRecord, TracepointLayout,
};

const _: () = assert!(size_of::<EventRecord>() == 48 && align_of::<EventRecord>() == 8);
const _: () = assert!(size_of::<LiveKey>() == 16 && align_of::<LiveKey>() == 8);
const _: () = assert!(size_of::<LiveValue>() == 32);
const _: () = assert!(size_of::<SiteKey>() == 24);
const _: () = assert!(size_of::<SiteCounters>() == 88 + 8 * crate::LIFETIME_BUCKETS);
const _: () = assert!(size_of::<ProbeDescriptor>() == 16);
const _: () = assert!(size_of::<Note>() == 24);
const _: () = assert!(size_of::<ProcessSlot>() == 16);
const _: () = assert!(size_of::<TracepointLayout>() == 20);
const _: () =
    assert!(size_of::<StackRecord>() == 48 + 72 + 8 + 8 + 16 * crate::MANAGED_FRAMES + crate::STACK_BYTES);
const _: () = assert!(size_of::<ChainKey>() == 8);
const _: () = assert!(size_of::<Chain>() == 32 + 16 * crate::CHAIN_LINKS);
const _: () = assert!(size_of::<Interpreter>() == 56);
const _: () = assert!(size_of::<SentKey>() == 16);
const _: () = assert!(size_of::<ChildValue>() == 16);
const _: () = assert!(crate::STACK_BYTES.is_multiple_of(crate::STACK_PIECE));
