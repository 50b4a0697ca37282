//! Every map in one place, with who writes and who reads it.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use leakwatch_common::{
    ABI, COUNTERS, Chain, ChainKey, ChildValue, Interpreter, LiveKey, LiveValue, ManagedFrames, Note,
    ProbeDescriptor, ProcessSlot, SentKey, SiteCounters, SiteKey, TracepointLayout, limits,
};

/// tgid -> slot. Written by the user side; a miss means "not watched".
#[map]
pub(crate) static PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(limits::PROCESSES, 0);

/// Slot -> process. Written by the user side. Slot 0 belongs to nobody.
#[map]
pub(crate) static SLOTS: Array<ProcessSlot> = Array::with_max_entries(limits::PROCESSES, 0);

/// Cookie -> descriptor. Written by the user side before it attaches.
#[map]
pub(crate) static DESCRIPTORS: Array<ProbeDescriptor> = Array::with_max_entries(limits::DESCRIPTORS, 0);

/// Slot -> counters. Written here, read by the user side.
#[map]
pub(crate) static COUNTER_ROWS: PerCpuArray<[u64; COUNTERS]> =
    PerCpuArray::with_max_entries(limits::PROCESSES, 0);

/// Every live task. Written here; the user side adds those that were alive before the attach.
/// Preallocated (about 110 bytes an entry): an allocation in a probe costs more than all the rest of it.
#[map]
pub(crate) static LIVE: HashMap<LiveKey, LiveValue> = HashMap::with_max_entries(limits::LIVE_TASKS, 0);

/// Thread (tgid and thread id) -> what it passed a moment ago. Written and read here. The least recently used goes
/// first: a thread that never reaches the point that asks leaves its note behind.
#[map]
pub(crate) static NOTES: LruHashMap<u64, Note> = LruHashMap::with_max_entries(limits::NOTES, 0);

/// Counters by creation site. Written here, read by the user side, which also removes forgotten processes.
#[map]
pub(crate) static SITES: HashMap<SiteKey, SiteCounters> = HashMap::with_max_entries(limits::SITES, 0);

/// One all-zero value: a new `SITES` entry is copied from it, as it is larger than our stack should carry.
#[map]
pub(crate) static SITE_ZERO: Array<SiteCounters> = Array::with_max_entries(1, 0);

/// The stream of events, for the user side.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// Call chains that lead to a site. Written by the user side.
#[map]
pub(crate) static CHAINS: HashMap<ChainKey, Chain> = HashMap::with_max_entries(limits::CHAINS, 0);

/// Incarnation -> how the frames of its interpreter are read. Written by the user side.
#[map]
pub(crate) static INTERPRETERS: HashMap<u32, Interpreter> = HashMap::with_max_entries(limits::PROCESSES, 0);

/// Frames of the thread that runs: larger than our stack should carry. Written and read here, within one program that
/// is not interrupted by itself.
#[map]
pub(crate) static FRAMES: PerCpuArray<ManagedFrames> = PerCpuArray::with_max_entries(1, 0);

/// Stacks of interpreters that were sent. Written and read here.
#[map]
pub(crate) static SENT: LruHashMap<SentKey, u32> = LruHashMap::with_max_entries(limits::SENT, 0);

/// Slot -> the second in which stacks were sent last, and how many: of threads and children, of tasks. Written here.
#[map]
pub(crate) static STACK_BUDGETS: Array<[[u64; 2]; 2]> = Array::with_max_entries(limits::PROCESSES, 0);

/// tgid -> a child of a watched process. Written here; the user side removes those of forgotten processes.
#[map]
pub(crate) static CHILDREN: HashMap<u32, ChildValue> = HashMap::with_max_entries(limits::CHILDREN, 0);

/// Where the tracepoints' fields are; set by the user side at load.
#[unsafe(no_mangle)]
pub(crate) static TRACEPOINTS: Global<TracepointLayout> = Global::new(TracepointLayout {
    newtask_pid: u32::MAX,
    newtask_clone_flags: u32::MAX,
    exec_old_pid: u32::MAX,
    exit_pid: u32::MAX,
    exit_group_dead: u32::MAX,
});

/// Which types this side was built with: the user side compares it with its own before it loads the object.
#[unsafe(no_mangle)]
#[used]
pub(crate) static LEAKWATCH_ABI: u64 = ABI;
