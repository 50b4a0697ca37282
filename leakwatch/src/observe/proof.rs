//! Tasks that nothing alive can wake: the answer of a proof.
//!
//! Plain data with addresses as the process has them; names are given by `report`.

use super::SiteId;

/// What a goroutine waits for, as far as a proof cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaitKind {
    /// A receive.
    Receive,
    /// A send.
    Send,
    /// A select.
    Select,
    /// A receive from or a send to a nil channel, a select without cases: nothing can ever end it.
    Forever,
    /// `sync.Mutex.Lock`.
    Mutex,
    /// `sync.RWMutex.Lock` and `RLock`.
    RwMutex,
    /// `sync.WaitGroup.Wait`.
    WaitGroup,
    /// `sync.Cond.Wait`.
    Cond,
    /// A semaphore of the runtime: before Go 1.24 (1.20) also `WaitGroup`s (and mutexes).
    Semaphore,
}

/// A goroutine that nothing alive can wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenTask {
    /// Its `g`.
    pub address: u64,
    /// Its number.
    pub id: u64,
    /// What made it and what it runs.
    pub site: SiteId,
    /// What it waits for.
    pub kind: WaitKind,
    /// `CLOCK_MONOTONIC` ns since which it waits; `None`: the runtime has not noted it.
    pub waiting_since_ns: Option<u64>,
    /// What it waits on: places in [`Proof::objects`].
    pub objects: Vec<u32>,
    /// Bytes of its stack.
    pub stack_bytes: u64,
    /// `g.trackingSeq`, by which the judge knows that it ran.
    pub turn: u8,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Proven goroutines, by number.
    pub proven: Vec<ProvenTask>,
    /// What they wait on.
    pub objects: Vec<ProvenObject>,
    /// Goroutines alive at the last pass, the runtime's own among them.
    pub goroutines: u64,
    /// Those of them that waited for something that could have been out of reach.
    pub candidates: u64,
    /// Passes that count.
    pub passes: u32,
    /// Passes that do not count, because something could not be read or did not hold still.
    pub void: u32,
    /// Collections of garbage between passes: each one had the marks begin anew.
    pub collections: u32,
    /// The process used no processor time from before the first to after the last pass: the look was atomic.
    pub still: bool,
    /// How sure: 1 when it stood still, else one less the chance that a pointer which moves at full speed was missed by
    /// all passes. 0 when nothing could be proven.
    pub confidence: f64,
    /// Bytes of the heap's spans.
    pub heap_bytes: u64,
    /// Bytes that a pass read.
    pub read_bytes: u64,
    /// Bytes of tables and marks that the proof took.
    pub own_bytes: u64,
    /// From the beginning to the end, ns.
    pub took_ns: u64,
    /// Why goroutines that would have been proven are not, one sentence each.
    pub problems: Vec<String>,
}

/// A proven goroutine that ran or ended: this must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refutation {
    /// The goroutine, as it was proven.
    pub task: ProvenTask,
    /// What it did.
    pub story: String,
}

/// An object that proven goroutines wait on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenObject {
    /// Its address. Of a Cond before Go 1.26 it is the place in its list, as nothing leads from there to the Cond.
    pub address: u64,
    /// What it is.
    pub kind: WaitKind,
    /// Values in the buffer, size of the buffer, and whether it was closed; `None`: no channel, or not readable.
    pub channel: Option<(u64, u64, bool)>,
    /// Proven goroutines that wait on it.
    pub waiting: u64,
    /// Proven goroutines from whose stacks it can be reached: whoever has it is stuck as well.
    pub holders: u64,
    /// `holders` was counted to its end.
    pub all_holders: bool,
}

/// What goroutines wait on together, in few words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    /// Different objects; 0: nothing at all, which never comes.
    pub objects: u64,
    /// One of them: that on which most wait.
    pub first: Option<ProvenObject>,
    /// All are of one kind.
    pub alike: bool,
    /// Most proven goroutines that have one of them.
    pub most_holders: u64,
    /// The holders of each were counted to their end.
    pub all_holders: bool,
}

impl Awaited {
    /// Of these objects, each of which must be there once.
    pub fn of<'o>(objects: impl IntoIterator<Item = &'o ProvenObject>) -> Self {
        objects.into_iter().fold(Self::default(), |sum, object| {
            sum.and(&Self {
                objects: 1,
                first: Some(object.clone()),
                alike: true,
                most_holders: object.holders.max(object.waiting),
                all_holders: object.all_holders,
            })
        })
    }

    /// Of these objects and others.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let (Some(first), Some(second)) = (&self.first, &other.first) else {
            return if self.first.is_some() { self } else { other.clone() };
        };
        Self {
            objects: self.objects.saturating_add(other.objects),
            alike: self.alike && other.alike && first.kind.noun() == second.kind.noun(),
            most_holders: self.most_holders.max(other.most_holders),
            all_holders: self.all_holders && other.all_holders,
            first: Some(if second.waiting > first.waiting { second } else { first }.clone()),
        }
    }
}

impl WaitKind {
    /// What such a goroutine waits on, for people.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Receive | Self::Send | Self::Select | Self::Forever => "channel",
            Self::Mutex => "sync.Mutex",
            Self::RwMutex => "sync.RWMutex",
            Self::WaitGroup => "sync.WaitGroup",
            Self::Cond => "sync.Cond",
            Self::Semaphore => "semaphore",
        }
    }
}

/// Proven goroutines of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenSite {
    /// Which site.
    pub site: SiteId,
    /// How many.
    pub count: u64,
    /// What they wait on.
    pub awaited: Awaited,
}

/// What proofs have shown since the attach. Who was proven once stays proven, whatever a later look finds: nothing can
/// have changed, and a stale word may hide him.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProofSample {
    /// Proofs that came to their end.
    pub proofs: u64,
    /// Proofs that could not be made.
    pub failed: u64,
    /// Looks at goroutines that were proven before: do they still wait?
    pub judged: u64,
    /// Passes of the last proof that count, and that do not.
    pub passes: u32,
    /// Passes of the last proof that do not count.
    pub void: u32,
    /// The process stood still during the last proof.
    pub still: bool,
    /// How sure the last proof was; 0: it proved nothing.
    pub confidence: f64,
    /// Goroutines alive at the last proof.
    pub goroutines: u64,
    /// Bytes of the heap at the last proof.
    pub heap_bytes: u64,
    /// Bytes that the last proof took.
    pub own_bytes: u64,
    /// Time that the last proof took, ns.
    pub took_ns: u64,
    /// Processor time of all proofs and judgements so far, ns.
    pub cpu_ns: u64,
    /// Time between the beginnings of the last two proofs, or to that of the next one, ns.
    pub every_ns: u64,
    /// Goroutines that are proven.
    pub proven: u64,
    /// Goroutines that were proven, and ended or ran all the same: must be 0.
    pub refuted: u64,
    /// The stories of the latest of them.
    pub refutations: Vec<String>,
    /// What is in the way of a proof, one sentence each.
    pub problems: Vec<String>,
    /// Proven goroutines by site.
    pub sites: Vec<ProvenSite>,
}

/// What a proof knows of one goroutine: that it is proven, or what keeps it from being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Its number.
    pub id: u64,
    /// The answer.
    pub fate: Fate,
    /// How something alive leads to it, from its own wait to what is alive by itself; empty unless it is reached.
    pub chain: Vec<Link>,
}

/// What a proof says of a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// There is no such goroutine.
    Gone,
    /// Nothing alive can wake it.
    Proven,
    /// Not reached, and not proven all the same: the proof's own problems say why.
    Doubtful,
    /// It does not wait, or for something that is never proven: the network, a timer, the runtime.
    Alive,
    /// It waits, and on what could not be made out.
    Unknown,
    /// It ran or was woken while it was looked at.
    Moved,
    /// Something alive has what it waits on.
    Reached,
}

/// A step from a goroutine to what keeps it alive. Addresses are of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The goroutine waits on this; it can be woken by whoever has it.
    Awaits {
        /// The goroutine.
        goroutine: u64,
        /// What it waits on.
        address: u64,
    },
    /// That is in an object of the heap.
    Object {
        /// First address.
        base: u64,
        /// Bytes.
        size: u64,
    },
    /// That is no object of the heap: a variable, which is always in reach.
    Variable {
        /// Its address.
        address: u64,
    },
    /// A word of an object names it.
    Word {
        /// The word's address.
        at: u64,
    },
    /// A word on a stack names it.
    Stack {
        /// The word's address.
        at: u64,
        /// Whose stack; 0: the scheduler's, of a thread.
        goroutine: u64,
        /// How far it is from the stack pointer: what a function left behind stands there, too.
        depth: u64,
        /// The goroutine waits itself, and can be woken: see what follows.
        waits: bool,
    },
    /// A word of a goroutine's struct names it.
    Struct {
        /// The word's address.
        at: u64,
        /// Whose.
        goroutine: u64,
        /// The goroutine waits itself, and can be woken: see what follows.
        waits: bool,
    },
    /// A word in memory outside of the heap names it: a variable, the C heap, memory of the runtime.
    Outside {
        /// The word's address.
        at: u64,
    },
    /// It has a finalizer, a cleanup or a weak pointer, or is pinned.
    Special,
    /// It came to be while it was looked at.
    New,
    /// What led to it was not noted.
    Lost,
}
