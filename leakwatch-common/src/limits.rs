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
/// Most stacks sent of one process's starts of tasks in one second. They are samples: what is not sent is not lost.
pub const TASK_STACKS_PER_SECOND: u64 = 16;
/// The same while the site has started no more than [`FIRST_TASKS`].
pub const FIRST_TASK_STACKS_PER_SECOND: u64 = 128;
/// How many of a site's starts are its first ones.
pub const FIRST_TASKS: u64 = 4;
/// Of a site's starts every so many is a sample, besides the first, second, fourth, eighth; a power of two.
pub const TASK_STACK_EVERY: u64 = 64;
/// Most call chains that one process's creations are compared with.
pub const CHAINS_PER_PROCESS: u32 = 32;
/// Most call chains over all processes.
pub const CHAINS: u32 = 1 << 12;
/// Most stacks of interpreters that are remembered as sent; the least recently used goes first, and is sent again.
pub const SENT: u32 = 1 << 12;
/// Most children of watched processes that are followed to their end.
pub const CHILDREN: u32 = 1 << 15;
