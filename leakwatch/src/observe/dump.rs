//! All tasks of one runtime of a process at one moment, with what each does: what a dump is made of.
//!
//! Plain data with addresses as the process has them; names are given by `report`. Whatever many tasks share (stacks,
//! states, labels) is kept once, so that a million tasks fit. Any runtime fits: a goroutine, a tokio task, a thread.

use std::collections::BTreeMap;

use leakwatch_common::RuntimeKind;
use rustc_hash::FxHashMap;

use super::SiteId;

/// The tasks of one runtime.
#[derive(Clone, Debug)]
pub struct TaskDump {
    /// Whose tasks they are.
    pub runtime: RuntimeKind,
    /// Its version, as it calls itself.
    pub version: Option<String>,
    /// `CLOCK_MONOTONIC` ns at the beginning of the reading.
    pub time_ns: u64,
    /// In the runtime's own order.
    pub tasks: Vec<DumpedTask>,
    /// States in the runtime's words (`chan receive`, `running`), by [`DumpedTask::state`].
    pub states: Interned<String>,
    /// Stacks, by [`DumpedTask::stack`].
    pub stacks: Interned<Vec<u64>>,
    /// Sets of labels that the program gave its tasks, by [`DumpedTask::labels`].
    pub labels: Interned<Vec<(String, String)>>,
    /// What tasks wait on, by [`DumpedTask::waits`].
    pub waits: Vec<Wait>,
    /// The objects of these waits, by address.
    pub objects: FxHashMap<u64, Object>,
    /// What the file descriptors among them are: addresses of sockets, names of files.
    pub files: BTreeMap<u64, String>,
    /// Tasks that could not be read or did not hold still; they are not among `tasks`.
    pub unreadable: u64,
    /// What is missing, one sentence each.
    pub problems: Vec<String>,
}

impl TaskDump {
    /// An empty one.
    pub fn new(runtime: RuntimeKind, version: Option<String>, time_ns: u64) -> Self {
        Self {
            runtime,
            version,
            time_ns,
            tasks: Vec::new(),
            states: Interned::default(),
            stacks: Interned::default(),
            labels: Interned::default(),
            waits: Vec::new(),
            objects: FxHashMap::default(),
            files: BTreeMap::new(),
            unreadable: 0,
            problems: Vec::new(),
        }
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedTask {
    /// Its number in its runtime (goid, tokio's task id, thread id).
    pub id: u64,
    /// Its address (Go: the `g`); 0 where it has none.
    pub address: u64,
    /// The task that made it, where the runtime notes it.
    pub parent: Option<u64>,
    /// What made it and what it runs.
    pub site: SiteId,
    /// Index in [`TaskDump::states`].
    pub state: u32,
    /// What else the runtime says of it.
    pub marks: Marks,
    /// For how long it has been in this state, ns, as far as the runtime notes it.
    pub waited_ns: Option<u64>,
    /// When it will wake by itself, `CLOCK_MONOTONIC` ns.
    pub wakes_ns: Option<u64>,
    /// Its stack.
    pub stack: Stack,
    /// Index in [`TaskDump::labels`].
    pub labels: Option<u32>,
    /// Bytes of memory that it holds: its stack, or the task itself; `None`: not known for this runtime.
    pub bytes: Option<u64>,
    /// What it waits on: a range of [`TaskDump::waits`].
    pub waits: (u32, u32),
}

/// A task's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// Read to its end: index in [`TaskDump::stacks`]. Addresses, innermost first: of the next instruction, so all but
    /// perhaps the first are return addresses.
    Whole(u32),
    /// Read as far as it could be followed.
    Part(u32),
    /// It runs, and its stack changes under the look.
    Running,
    /// It could not be read.
    Unreadable,
    /// It has none: an async task between two polls.
    None,
}

impl Stack {
    /// Its index in [`TaskDump::stacks`], as far as it was read.
    pub fn index(self) -> Option<u32> {
        match self {
            Self::Whole(index) | Self::Part(index) => Some(index),
            Self::Running | Self::Unreadable | Self::None => None,
        }
    }
}

/// Marks that the runtime prints beside a state.
#[expect(clippy::struct_excessive_bools, reason = "independent marks, not states")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It may run on one thread only.
    pub locked_to_thread: bool,
    /// The collector looks at its stack.
    pub scan: bool,
    /// The runtime itself found out that nothing will wake it (Go 1.26 and later).
    pub leaked: bool,
    /// Only others of its bubble can wake it.
    pub durable: bool,
    /// The bubble of `testing/synctest` that it is in.
    pub bubble: Option<Bubble>,
}

/// A bubble of `testing/synctest`, as its release of Go calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bubble {
    /// By the goroutine that made it (Go 1.24).
    Group(u64),
    /// By its number (Go 1.25 and later).
    Numbered(u64),
}

/// A task waits on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The object's address.
    pub object: u64,
    /// In which way.
    pub side: Side,
}

/// In which way a task waits on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// To receive from it.
    Receive,
    /// To send to it.
    Send,
    /// To get it (a lock, a semaphore, a signal).
    Acquire,
    /// Not known.
    Unknown,
}

/// What tasks wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A channel.
    Channel {
        /// Values in its buffer.
        length: u64,
        /// Size of its buffer.
        capacity: u64,
        /// It was closed.
        closed: bool,
    },
    /// The word that a lock, a wait group or a semaphore counts with.
    Semaphore,
    /// The list of those that wait on a condition (`sync.Cond`).
    Cond,
    /// A file that the runtime's poller looks at, mostly a socket.
    File {
        /// Its descriptor.
        descriptor: u64,
    },
    /// A timer that wakes who waits.
    Timer,
    /// It could not be read.
    Unknown,
}

/// Values kept once each, known by their index.
#[derive(Clone, Debug)]
pub struct Interned<T> {
    values: Vec<T>,
    indices: FxHashMap<T, u32>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), indices: FxHashMap::default() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Interned<T> {
    /// The index of a value, which is taken in when it is new.
    pub fn index<Q>(&mut self, value: &Q) -> u32
    where
        T: std::borrow::Borrow<Q>,
        Q: Eq + std::hash::Hash + ToOwned<Owned = T> + ?Sized,
    {
        if let Some(&index) = self.indices.get(value) {
            return index;
        }
        // 2^32 different ones do not fit into memory.
        let index = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(value.to_owned());
        self.indices.insert(value.to_owned(), index);
        index
    }

    /// The value with this index.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.values.get(index as usize)
    }

    /// All values, by index.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_kept_once() {
        let mut stacks = Interned::<Vec<u64>>::default();
        assert_eq!([stacks.index([1, 2].as_slice()), stacks.index([3].as_slice())], [0, 1]);
        assert_eq!(stacks.index([1, 2].as_slice()), 0);
        assert_eq!(stacks.values().len(), 2);
        assert_eq!(stacks.get(1), Some(&vec![3]));
        assert_eq!(stacks.get(7), None);
    }
}
