//! Default sizes of the kernel's maps. The user side may choose others at load.

/// Most tasks that the live table holds.
pub const LIVE_TASKS: u32 = 1 << 19;
/// Most (process, site, entry) triples.
pub const SITES: u32 = 1 << 14;
/// Most processes at once; also rows of the counter array (row 0 is nobody's).
pub const PROCESSES: u32 = 1 << 10;
/// Most probe descriptors.
pub const DESCRIPTORS: u32 = 1 << 12;
/// Bytes of the ring buffer; a power of two and a multiple of the page size.
pub const RING_BYTES: u32 = 1 << 23;
/// Most threads that are between a note and the point that asks for it; the oldest notes go first.
pub const NOTES: u32 = 1 << 14;
/// Most creation stacks sent for one process in one second.
pub const STACKS_PER_SECOND: u64 = 128;
/// Most call chains that one process's creations are compared with.
pub const CHAINS_PER_PROCESS: u32 = 32;
/// Most call chains over all processes.
pub const CHAINS: u32 = 1 << 12;
/// Most children of watched processes that are followed to their end.
pub const CHILDREN: u32 = 1 << 15;
