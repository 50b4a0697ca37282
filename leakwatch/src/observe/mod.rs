//! What collection tells the model: identities, samples, census results, events.
//!
//! Plain data. Nothing here reads a clock, a process or a file, and nothing here knows names: addresses are as
//! the process has them, names are the business of `images` and `report`.

pub mod amount;
pub mod dump;
pub mod event;
pub mod followed;
pub mod histogram;
pub mod ids;
pub mod proof;
pub mod sample;

pub use amount::Amount;
pub use dump::{Bubble, DumpedTask, Interned, Marks, Object, Side, Stack, TaskDump, Wait};
pub use event::{Event, Observed, StackCopy};
pub use followed::{Cohort, Followed, STRETCHES};
pub use histogram::Histogram;
pub use ids::{ProcessId, SiteId};
pub use proof::{
    Awaited, Fate, Link, Proof, ProofSample, ProvenObject, ProvenSite, ProvenTask, Refutation, WaitKind, Why,
};
pub use sample::{
    AgeSummary, Census, CensusTask, ChildrenSample, CommandSample, Counters, LiveByState, NO_WAKER,
    ProcessSample, SiteSample, TaskStatus, ThreadNames, Waiting, ZombieSample,
};
