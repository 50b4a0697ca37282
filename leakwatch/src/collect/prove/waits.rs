//! Goroutines as a proof sees them: what each does, and the objects without which it can never be woken.
//!
//! A receive, send or select has its channels in the sudogs of `g.waiting` (runtime/chan.go, select.go). Who waits for a
//! semaphore (`Mutex`, `RWMutex`, `WaitGroup`, `Cond`) is in `g.waiting` since Go 1.26; before, the sudog is a local variable of
//! `semacquire1` or `notifyListWait` (runtime/sema.go) that lives across the wait, and so is on the goroutine's stack: Go
//! saves no registers for its callers. A goroutine of which any of this cannot be read is not a candidate.

use leakwatch_inspect::go::layout::HeapLayout;
use rustc_hash::FxHashMap;

use super::super::fields::{u8_at, u32_at, u64_at};
use super::super::go::G_SCAN;
use super::{GoHeap, ProveError, spans::Spans};
use crate::{
    host::{Memory, ReadRequest},
    observe::WaitKind,
};

/// Structs read at once.
const BATCH: usize = 1024;
/// Bytes of a waiting goroutine's stack that hold the frames of `gopark`, `goparkunlock` and `semacquire1`.
const TOP_OF_STACK: u64 = 1024;
/// The same as a length.
const TOP_OF_STACK_LENGTH: usize = 1024;
/// Cases of selects, all together, that we follow for each goroutine on average: bounds time where lists are rings.
const CASES_PER_GOROUTINE: usize = 16;
const MOST_CASES: usize = 1 << 16;
/// The largest stack that a Go program on 64 bits can have (`maxstacksize`, runtime/proc.go), and some.
pub(super) const MOST_STACK: u64 = 2 << 30;

impl WaitKind {
    /// The kind behind a wait reason in the runtime's words; `None`: one that is never proven.
    fn of(reason: &str, named_semaphores: bool) -> Option<Self> {
        Some(match reason {
            "chan receive" => Self::Receive,
            "chan send" => Self::Send,
            "select" => Self::Select,
            "chan receive (nil chan)" | "chan send (nil chan)" | "select (no cases)" => Self::Forever,
            "sync.Mutex.Lock" => Self::Mutex,
            "sync.RWMutex.Lock" | "sync.RWMutex.RLock" => Self::RwMutex,
            "sync.WaitGroup.Wait" => Self::WaitGroup,
            "sync.Cond.Wait" => Self::Cond,
            // Where everything of package sync has a name of its own, what is left is the runtime's and the network
            // poller's; the runtime's own proof leaves that alone, too.
            "semacquire" if !named_semaphores => Self::Semaphore,
            _ => return None,
        })
    }

    fn is_channel(self) -> bool {
        matches!(self, Self::Receive | Self::Send | Self::Select)
    }
}

/// What a goroutine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It waits for something that may be out of everybody's reach.
    Waits(WaitKind),
    /// It is parked for something else, or is to run next: its stack is used from its stack pointer on.
    Parked,
    /// It is in a system call or in C: its stack is used from where it left Go on, as the collector sees it, too
    /// (`scanstack`, runtime/mgcmark.go).
    Calls,
    /// It runs: any part of its stack may be used.
    Runs,
}

/// A live goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goroutine {
    pub(super) address: u64,
    pub(super) id: u64,
    pub(super) doing: Doing,
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) pointer: u64,
    /// `g.trackingSeq`.
    pub(super) turn: u8,
    pub(super) since: u64,
    pub(super) site: u64,
    pub(super) entry: u64,
    /// `g.waiting`.
    waiting: u64,
}

impl Goroutine {
    /// The part of its stack that is in use: first address and length.
    pub(super) fn stack(&self) -> (u64, u64) {
        let from = match self.doing {
            Doing::Waits(_) | Doing::Parked | Doing::Calls
                if (self.low..self.high).contains(&self.pointer) =>
            {
                self.pointer & !7
            }
            _ => self.low,
        };
        (from, self.high - from)
    }

    /// It did not run since the other look at it.
    pub(super) fn is_still(&self, other: &Self) -> bool {
        self.id == other.id
            && self.doing == other.doing
            && self.turn == other.turn
            // Stacks of parked goroutines are moved when they shrink; their depth stays.
            && self.high - self.pointer == other.high - other.pointer
            // The collector notes it, once for a wait.
            && (other.since == 0 || self.since == 0 || self.since == other.since)
            && self.waiting == other.waiting
    }
}

/// All goroutines of a moment.
#[derive(Debug, Default)]
pub(super) struct Goroutines {
    /// Those that are alive.
    pub(super) live: Vec<Goroutine>,
    /// Those whose struct made no sense although it was read three times.
    pub(super) senseless: u64,
}

/// How wait reasons and offsets are read.
pub(super) struct Reader<'a> {
    heap: &'a GoHeap,
    kinds: Vec<Option<WaitKind>>,
    width: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(heap: &'a GoHeap) -> Self {
        let named = heap.runtime.wait_reasons.iter().any(|reason| reason == "sync.WaitGroup.Wait");
        let kinds = heap.runtime.wait_reasons.iter().map(|reason| WaitKind::of(reason, named)).collect();
        let layout = &heap.runtime.layout;
        let last = [
            layout.stack_lo,
            layout.stack_hi,
            layout.sched_sp,
            layout.syscallsp,
            layout.atomicstatus,
            layout.goid,
            layout.waitsince,
            layout.waitreason,
            layout.gopc,
            layout.startpc,
            layout.waiting,
            heap.layout.g_tracking_seq,
        ];
        let width = last.into_iter().max().unwrap_or(0).saturating_add(8).min(4096) as usize;
        Self { heap, kinds, width }
    }

    /// Reads the goroutines at these addresses.
    pub(super) fn read(&self, memory: &impl Memory, addresses: &[u64]) -> Goroutines {
        const TRIES: usize = 3;
        let mut goroutines = Goroutines::default();
        let mut open = addresses.to_vec();
        let mut bytes = vec![0; self.width * BATCH];
        for _ in 0..TRIES {
            let mut again = Vec::new();
            for batch in open.chunks(BATCH) {
                let mut requests: Vec<_> = batch
                    .iter()
                    .zip(bytes.chunks_exact_mut(self.width))
                    .map(|(&address, into)| ReadRequest::new(address, into))
                    .collect();
                memory.read_many(&mut requests);
                for request in &requests {
                    match self.parse(request.address, request.into).filter(|_| request.ok) {
                        Some(Struct::Live(goroutine)) => goroutines.live.push(goroutine),
                        Some(Struct::Free) => {}
                        None => again.push(request.address),
                    }
                }
            }
            open = again;
            if open.is_empty() {
                break;
            }
        }
        goroutines.senseless = open.len() as u64;
        goroutines
    }

    /// `None`: it makes no sense at this moment.
    fn parse(&self, address: u64, bytes: &[u8]) -> Option<Struct> {
        let layout = &self.heap.runtime.layout;
        let status = u32_at(bytes, layout.atomicstatus)?;
        let reason = usize::from(u8_at(bytes, layout.waitreason)?);
        let doing = match status & !G_SCAN {
            0 | 6 | 11 => return Some(Struct::Free),
            1 | 9 => Doing::Parked,
            2 | 8 => Doing::Runs,
            3 => Doing::Calls,
            4 | 10 => self.kinds.get(reason).copied().flatten().map_or(Doing::Parked, Doing::Waits),
            _ => return None,
        };
        let (low, high) = (u64_at(bytes, layout.stack_lo)?, u64_at(bytes, layout.stack_hi)?);
        if low >= high || high - low > MOST_STACK || !low.is_multiple_of(8) {
            return None;
        }
        let inside = |pointer: &u64| (low..high).contains(pointer);
        let pointer = match doing {
            Doing::Waits(_) | Doing::Parked => Some(u64_at(bytes, layout.sched_sp)?).filter(inside)?,
            Doing::Calls => Some(u64_at(bytes, layout.syscallsp)?).filter(inside).unwrap_or(low),
            Doing::Runs => low,
        };
        Some(Struct::Live(Goroutine {
            address,
            id: u64_at(bytes, layout.goid)?,
            doing,
            low,
            high,
            pointer,
            turn: u8_at(bytes, self.heap.layout.g_tracking_seq)?,
            since: u64_at(bytes, layout.waitsince)?,
            site: u64_at(bytes, layout.gopc)?,
            entry: u64_at(bytes, layout.startpc)?,
            waiting: u64_at(bytes, layout.waiting)?,
        }))
    }
}

/// A goroutine struct that was read.
enum Struct {
    /// In use.
    Live(Goroutine),
    /// Free.
    Free,
}

/// What candidates wait for.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// For each candidate its place among the goroutines and its ranges of `objects` and `sudogs`.
    pub(super) of: Vec<Candidate>,
    /// Addresses of channels, of semaphores' words, of sudogs of Conds.
    pub(super) objects: Vec<u64>,
    /// Sudogs that are not to be walked through.
    pub(super) sudogs: Vec<u64>,
}

/// A goroutine that waits for known objects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its place among the goroutines.
    pub(super) goroutine: u32,
    pub(super) objects: (u32, u32),
    pub(super) sudogs: (u32, u32),
}

#[derive(Clone, Copy, Debug)]
struct Sudog {
    address: u64,
    goroutine: u64,
    element: u64,
    link: u64,
    channel: u64,
}

impl Waits {
    /// What a candidate waits for.
    pub(super) fn objects_of(&self, candidate: &Candidate) -> &[u64] {
        self.objects.get(candidate.objects.0 as usize..candidate.objects.1 as usize).unwrap_or_default()
    }

    /// Its sudogs.
    pub(super) fn sudogs_of(&self, candidate: &Candidate) -> &[u64] {
        self.sudogs.get(candidate.sudogs.0 as usize..candidate.sudogs.1 as usize).unwrap_or_default()
    }

    /// Finds out what goroutines wait for. Those of which it is not known are not in the answer.
    pub(super) fn read(
        memory: &impl Memory,
        layout: &HeapLayout,
        spans: &Spans,
        goroutines: &[Goroutine],
    ) -> Result<Self, ProveError> {
        let mut found: FxHashMap<u32, Vec<Sudog>> = FxHashMap::default();
        let mut chains = Vec::new();
        let mut stacks = Vec::new();
        for (place, goroutine) in (0_u32..).zip(goroutines) {
            let Doing::Waits(kind) = goroutine.doing else { continue };
            match (kind, goroutine.waiting) {
                // A select whose cases all have nil channels waits on nothing, too.
                (WaitKind::Forever, _) | (WaitKind::Select, 0) => drop(found.insert(place, Vec::new())),
                (_, 0) if kind.is_channel() => {}
                (_, 0) => stacks.push(place),
                (_, first) => chains.push((place, first)),
            }
        }
        follow(memory, layout, goroutines, chains, &mut found);
        look_on_stacks(memory, layout, spans, goroutines, &stacks, &mut found);

        let mut waits = Self::default();
        let count = |list: &Vec<u64>| u32::try_from(list.len()).map_err(|_too_many| ProveError::TooMany);
        for (place, goroutine) in (0_u32..).zip(goroutines) {
            let (Doing::Waits(kind), Some(sudogs)) = (goroutine.doing, found.get(&place)) else { continue };
            let from = (count(&waits.objects)?, count(&waits.sudogs)?);
            for sudog in sudogs {
                match (kind, sudog.channel, sudog.element) {
                    (WaitKind::Cond, _, 0) => waits.objects.push(sudog.address),
                    (kind, 0, element) if !kind.is_channel() => {
                        waits.objects.push(element);
                        waits.sudogs.push(sudog.address);
                    }
                    (_, channel, _) => {
                        waits.objects.push(channel);
                        waits.sudogs.push(sudog.address);
                    }
                }
            }
            let objects = (from.0, count(&waits.objects)?);
            if objects.0 == objects.1 && !matches!(kind, WaitKind::Forever | WaitKind::Select) {
                continue;
            }
            waits.of.push(Candidate { goroutine: place, objects, sudogs: (from.1, count(&waits.sudogs)?) });
        }
        Ok(waits)
    }
}

/// Follows `g.waiting`: all cases of a select, the one sudog of anything else. (A semaphore's `waitlink` leads to others.)
fn follow(
    memory: &impl Memory,
    layout: &HeapLayout,
    goroutines: &[Goroutine],
    mut open: Vec<(u32, u64)>,
    found: &mut FxHashMap<u32, Vec<Sudog>>,
) {
    let mut budget = MOST_CASES + open.len() * CASES_PER_GOROUTINE;
    let mut broken = Vec::new();
    while !open.is_empty() {
        let exhausted = budget < open.len();
        budget = budget.saturating_sub(open.len());
        let sudogs = read_sudogs(memory, layout, open.iter().map(|&(_, address)| address));
        let mut next = Vec::new();
        for (&(place, _), sudog) in open.iter().zip(sudogs) {
            let Some(goroutine) = goroutines.get(place as usize) else { continue };
            let Doing::Waits(kind) = goroutine.doing else { continue };
            let valid = sudog.filter(|sudog| {
                sudog.goroutine == goroutine.address
                    && if kind.is_channel() { sudog.channel != 0 } else { sudog.element != 0 }
            });
            match valid {
                Some(sudog) if !exhausted => {
                    found.entry(place).or_default().push(sudog);
                    if kind.is_channel() && sudog.link != 0 {
                        next.push((place, sudog.link));
                    }
                }
                _ => broken.push(place),
            }
        }
        open = next;
    }
    for place in broken {
        found.remove(&place);
    }
}

/// Finds sudogs on stacks: words that are the address of an object of a sudog's size which names the goroutine.
fn look_on_stacks(
    memory: &impl Memory,
    layout: &HeapLayout,
    spans: &Spans,
    goroutines: &[Goroutine],
    places: &[u32],
    found: &mut FxHashMap<u32, Vec<Sudog>>,
) {
    let size = u64::from(layout.sudog_size);
    let mut bytes = vec![0; TOP_OF_STACK_LENGTH * BATCH.min(places.len())];
    for batch in places.chunks(BATCH) {
        let stacks: Vec<(u32, &Goroutine)> =
            batch.iter().filter_map(|&place| Some((place, goroutines.get(place as usize)?))).collect();
        let mut requests: Vec<_> = stacks
            .iter()
            .zip(bytes.chunks_exact_mut(TOP_OF_STACK_LENGTH))
            .map(|((_, goroutine), into)| {
                let (from, length) = goroutine.stack();
                let length = usize::try_from(length.min(TOP_OF_STACK) & !7).unwrap_or(0);
                ReadRequest::new(from, into.split_at_mut(length).0)
            })
            .collect();
        memory.read_many(&mut requests);
        let mut possible: Vec<(u32, u64)> = Vec::new();
        for ((place, _), request) in stacks.iter().zip(&requests) {
            let (words, _) = request.into.as_chunks::<8>();
            for word in words.iter().filter(|_| request.ok) {
                let word = u64::from_le_bytes(*word);
                let is_sudog = spans.object(word).is_some_and(|(number, _, object)| {
                    let fits = spans.get(number).is_some_and(|span| (size..=size + 32).contains(&span.size));
                    object == word && fits
                });
                if is_sudog && !possible.contains(&(*place, word)) {
                    possible.push((*place, word));
                }
            }
        }
        drop(requests);
        let sudogs = read_sudogs(memory, layout, possible.iter().map(|&(_, address)| address));
        for (&(place, _), sudog) in possible.iter().zip(sudogs) {
            let Some(goroutine) = goroutines.get(place as usize) else { continue };
            let Some(sudog) = sudog.filter(|sudog| sudog.goroutine == goroutine.address) else { continue };
            // One that was given back has neither; the sudog of a Cond had no element before Go 1.26.
            if goroutine.doing == Doing::Waits(WaitKind::Cond) || sudog.element != 0 {
                found.entry(place).or_default().push(sudog);
            }
        }
    }
}

fn read_sudogs(
    memory: &impl Memory,
    layout: &HeapLayout,
    addresses: impl Iterator<Item = u64>,
) -> Vec<Option<Sudog>> {
    let size = (layout.sudog_size as usize).clamp(8, 4096);
    let addresses: Vec<u64> = addresses.collect();
    let mut bytes = vec![0; size * addresses.len().min(BATCH)];
    let mut sudogs = Vec::with_capacity(addresses.len());
    for batch in addresses.chunks(BATCH) {
        let mut requests: Vec<_> = batch
            .iter()
            .zip(bytes.chunks_exact_mut(size))
            .map(|(&address, into)| ReadRequest::new(address, into))
            .collect();
        memory.read_many(&mut requests);
        sudogs.extend(requests.iter().map(|request| {
            let word = |offset| u64_at(request.into, offset).filter(|_| request.ok);
            Some(Sudog {
                address: request.address,
                goroutine: word(layout.sudog_g)?,
                element: word(layout.sudog_elem)?,
                link: word(layout.sudog_waitlink)?,
                channel: word(layout.sudog_c)?,
            })
        }));
    }
    sudogs
}
