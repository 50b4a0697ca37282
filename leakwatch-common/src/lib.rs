//! The types that the kernel side (`leakwatch-ebpf`) and the user side (`leakwatch`) share.
//!
//! Everything here is `no_std`, plain old data, little-endian by construction (both sides run on one
//! machine), without implicit padding, and its size is asserted at compile time (`layout.rs`).
//! This crate must never allocate, never depend on either side, and never change the meaning of a number
//! once given out: counter and event ids are recorded in files.
#![no_std]
#![forbid(unsafe_code)]

mod abi;
mod counter;
mod event;
mod interpreter;
mod layout;
pub mod limits;
mod live;
mod probe;
mod process;
mod site;
mod stack;

pub use abi::ABI;
pub use counter::{COUNTERS, Counter};
pub use event::{EventKind, EventRecord, name_of_words, words_of_name};
pub use interpreter::{Interpreter, MANAGED_FRAMES, ManagedFrame, ManagedFrames, NOT_INDIRECT, SentKey};
pub use live::{LiveKey, LiveState, LiveValue};
pub use probe::{
    AT_TASK, Action, INSTRUCTION_POINTER, Note, ProbeDescriptor, Register, RuntimeKind, TaskSource, fact,
    pack_cookie, task_source, unpack_cookie,
};
pub use process::{ProcessSlot, TracepointLayout, process_flags};
pub use site::{LIFETIME_BUCKETS, SiteCounters, SiteKey, bucket_floor_ns, lifetime_bucket};
pub use stack::{
    CHAIN_LINKS, Chain, ChainKey, ChainLink, ChildValue, STACK_BYTES, STACK_PIECE, StackRecord,
    UserRegisters, thread_site,
};
