//! One pass over the process: everything alive is followed, and the goroutines that are left were not reached.
//!
//! Order matters where pointers move while we read. Passes go over stacks and memory in turns in both orders, and after
//! each the table of spans and the goroutines are read once more: what is new or has moved on is alive.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    ProveError, Prover, Surroundings, Suspect,
    roots::{self, Running},
    waits::{Candidate, Doing, Goroutine, Goroutines, Waits},
    why::Way,
};
use crate::{host::Memory, observe::WaitKind};

/// Times that the table of spans is read again while spans in it are half made.
const TRIES: usize = 5;
/// Times that goroutines and spans are looked at again at the end of a pass.
const ROUNDS: usize = 2;
/// Nothing proves that `main` leaks when it waits for ever: a server's main goroutine does so on purpose. The runtime's
/// own profile leaves it out, too (`findGoroutineLeaks`, runtime/mgc.go).
const MAIN: u64 = 1;

/// What a pass found.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Of the first pass: goroutines that were not reached, by address.
    pub(super) unreached: Vec<Suspect>,
    /// Of a later one: which of those before were not reached again.
    pub(super) confirmed: Vec<bool>,
    pub(super) running: FxHashMap<u64, Running>,
    pub(super) goroutines: u64,
    pub(super) candidates: u64,
    pub(super) read_bytes: u64,
    pub(super) own_bytes: u64,
    /// Why this pass does not count.
    pub(super) void: Option<String>,
}

impl Prover {
    /// One pass.
    pub(super) fn look(
        &mut self,
        memory: &impl Memory,
        around: &impl Surroundings,
    ) -> Result<Look, ProveError> {
        let mut look = Look::default();
        self.settle(memory, &mut look)?;
        self.marks.begin(&mut self.spans);
        if std::mem::take(&mut self.broken) {
            self.marks.read_anew(&mut self.spans);
        }

        let addresses = self.heap.runtime.all_goroutines(memory)?;
        let Goroutines { live, senseless } = Self::reader(&self.heap).read(memory, &addresses);
        if senseless > 0 {
            look.void = Some(format!("{senseless} goroutines made no sense"));
        }
        let waits = Waits::read(memory, &self.heap.layout, &self.spans, &live)?;
        (look.goroutines, look.candidates) = (live.len() as u64, waits.of.len() as u64);
        look.own_bytes = (live.capacity() * size_of::<Goroutine>()
            + waits.of.capacity() * size_of::<Candidate>()
            + (waits.objects.capacity() + waits.sudogs.capacity() + addresses.capacity()) * 8)
            as u64;
        for &address in addresses.iter().chain(&waits.sudogs) {
            self.marks.exclude(&self.spans, address);
        }
        let mut is_candidate = vec![false; live.len()];
        for (number, candidate) in (0_u32..).zip(&waits.of) {
            if let Some(is) = is_candidate.get_mut(candidate.goroutine as usize) {
                *is = true;
            }
            for &object in waits.objects_of(candidate) {
                self.marks.wait_for(&mut self.spans, object, number);
            }
        }
        let mut pass = Pass { live, waits, woken: Vec::new(), unread: Vec::new() };
        pass.woken.resize(pass.waits.of.len(), false);

        drop(roots::gathered(memory, &self.heap, &mut self.spans)?);
        // One way round and the other, in turns.
        let stacks_first = self.proof.passes.is_multiple_of(2);
        if !stacks_first {
            look.void = look.void.or(roots::outside(memory, around, &mut self.spans, &mut self.marks)?);
        }
        let alive =
            pass.live.iter().zip(&is_candidate).filter(|(_, is)| !**is).map(|(goroutine, _)| goroutine);
        let unread = roots::goroutines(memory, &self.heap, alive, &mut self.spans, &mut self.marks);
        pass.unread.extend(unread);
        look.running = roots::threads(memory, &self.heap, &mut self.spans, &mut self.marks)?;
        roots::specials(memory, &self.heap, &mut self.spans, &mut self.marks);
        if stacks_first {
            look.void = look.void.or(roots::outside(memory, around, &mut self.spans, &mut self.marks)?);
        }
        self.follow(memory, &mut pass);
        let given_back = roots::gathered(memory, &self.heap, &mut self.spans)?;
        roots::given_back(memory, &given_back, &mut self.spans, &mut self.marks);
        self.follow(memory, &mut pass);
        for _ in 0..ROUNDS {
            if !self.look_again(memory, &mut pass, &mut look)? {
                break;
            }
        }
        if !pass.unread.is_empty() {
            look.void = Some("the stack of a goroutine could not be read".to_owned());
        }
        if self.marks.failed > 0 {
            look.void = Some(format!("{} reads of the heap failed", self.marks.failed));
        }
        self.broken = look.void.is_some();
        look.read_bytes = self.marks.read_bytes;
        match &self.suspects {
            None => look.unreached = pass.suspects(),
            Some(suspects) => look.confirmed = pass.confirms(suspects),
        }
        self.last = self.marks.trace.is_some().then_some(pass);
        Ok(look)
    }

    /// Brings the table of spans up to date, and forgets the marks when there was a collection since the last pass.
    fn settle(&mut self, memory: &impl Memory, look: &mut Look) -> Result<(), ProveError> {
        let sweep = self.heap.mheap.wrapping_add(u64::from(self.heap.layout.mheap_sweepgen));
        let sweep = memory.read_u32(sweep)?;
        let collected = self.sweep.is_some_and(|last| last != sweep);
        self.sweep = Some(sweep);
        self.proof.collections += u32::from(collected);
        if collected {
            self.marks.clear(&mut self.spans);
        }
        let mut known = self.proof.passes + self.proof.void > 0;
        if self.spans.wasteful() {
            let budget = self.spans.budget();
            self.spans = super::Spans::new(budget);
            self.marks.clear(&mut self.spans);
            known = false;
        }
        for _ in 0..TRIES {
            let refreshed = self.spans.refresh(memory, &self.heap.layout, self.heap.mheap)?;
            self.marks.grow(&self.spans);
            // What led to them may have been read before they were known, and nobody waits for what is in them since the
            // first pass.
            for &number in refreshed.new.iter().filter(|_| known) {
                self.marks.mark_all(&mut self.spans, number);
            }
            if refreshed.unsettled == 0 {
                return Ok(());
            }
        }
        look.void = Some("the table of the heap's spans did not hold still".to_owned());
        Ok(())
    }

    /// Follows all that is marked, and the goroutines that it wakes, until there is nothing new.
    fn follow(&mut self, memory: &impl Memory, pass: &mut Pass) {
        loop {
            self.marks.drain(memory, &mut self.spans);
            let mut woken = self.marks.take_woken();
            woken.retain(|&candidate| pass.wake(candidate));
            if woken.is_empty() {
                return;
            }
            let candidates: Vec<Candidate> =
                woken.iter().filter_map(|&number| pass.waits.of.get(number as usize).copied()).collect();
            let alive = candidates.iter().filter_map(|candidate| pass.live.get(candidate.goroutine as usize));
            let unread = roots::goroutines(memory, &self.heap, alive, &mut self.spans, &mut self.marks);
            pass.unread.extend(unread);
            for candidate in &candidates {
                let by = pass.live.get(candidate.goroutine as usize).map_or(0, |one| one.address);
                let (objects, sudogs) = (pass.waits.objects_of(candidate), pass.waits.sudogs_of(candidate));
                for &address in objects.iter().chain(sudogs) {
                    self.marks.mark_by(&mut self.spans, address, Way::Woken(by));
                }
            }
        }
    }

    /// Looks at spans and goroutines once more; whether anything was new.
    fn look_again(
        &mut self,
        memory: &impl Memory,
        pass: &mut Pass,
        look: &mut Look,
    ) -> Result<bool, ProveError> {
        let addresses = self.heap.runtime.all_goroutines(memory)?;
        let now = Self::reader(&self.heap).read(memory, &addresses);
        let mut refreshed = self.spans.refresh(memory, &self.heap.layout, self.heap.mheap)?;
        for _ in 0..TRIES {
            if refreshed.unsettled == 0 {
                break;
            }
            let more = self.spans.refresh(memory, &self.heap.layout, self.heap.mheap)?;
            refreshed.new.extend(more.new);
            refreshed.unsettled = more.unsettled;
        }
        if refreshed.unsettled > 0 {
            look.void = Some("the table of the heap's spans did not hold still".to_owned());
        }
        self.marks.grow(&self.spans);
        for &address in addresses.iter().chain(&pass.waits.sudogs) {
            self.marks.exclude(&self.spans, address);
        }
        for &number in &refreshed.new {
            self.marks.mark_all(&mut self.spans, number);
        }
        if now.senseless > 0 {
            look.void = Some(format!("{} goroutines made no sense", now.senseless));
        }
        let before: FxHashMap<u64, &Goroutine> =
            pass.live.iter().map(|goroutine| (goroutine.address, goroutine)).collect();
        let moved: Vec<Goroutine> = now
            .live
            .iter()
            .filter(|goroutine| {
                let same = before.get(&goroutine.address).is_some_and(|before| {
                    goroutine.is_still(before) && (goroutine.low, goroutine.high) == (before.low, before.high)
                });
                matches!(goroutine.doing, Doing::Runs | Doing::Calls) || !same
            })
            .copied()
            .collect();
        drop(before);
        // What could not be read is read again if it moved on, and may not be missing if it did not.
        let again: FxHashSet<u64> = moved.iter().map(|goroutine| goroutine.address).collect();
        let missing = pass.unread.iter().any(|address| !again.contains(address));
        let all: FxHashMap<u64, &Goroutine> = now.live.iter().map(|one| (one.address, one)).collect();
        pass.wake_unless(|goroutine| all.get(&goroutine.address).is_some_and(|now| now.is_still(goroutine)));
        let quiet = moved.is_empty() && refreshed.new.is_empty();
        self.marks.be_late();
        pass.unread = roots::goroutines(memory, &self.heap, moved.iter(), &mut self.spans, &mut self.marks);
        self.follow(memory, pass);
        if missing {
            look.void = Some("the stack of a goroutine could not be read".to_owned());
        }
        Ok(!quiet)
    }
}

/// A pass in the making.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) live: Vec<Goroutine>,
    pub(super) waits: Waits,
    /// For each of `waits.of`: it is reached.
    woken: Vec<bool>,
    /// Goroutines whose stacks or structs could not be read.
    unread: Vec<u64>,
}

impl Pass {
    /// Which candidate the goroutine at a place is.
    pub(super) fn number_of(&self, place: usize) -> Option<usize> {
        self.waits.of.iter().position(|candidate| candidate.goroutine as usize == place)
    }

    /// The goroutine at an address is a candidate.
    pub(super) fn is_candidate(&self, address: u64) -> bool {
        let place = self.live.iter().position(|one| one.address == address);
        place.is_some_and(|place| self.number_of(place).is_some())
    }

    /// A candidate is reached; whether that is new.
    fn wake(&mut self, candidate: u32) -> bool {
        self.woken.get_mut(candidate as usize).is_some_and(|woken| !std::mem::replace(woken, true))
    }

    /// Candidates that did not stay where they were are none. (Their stacks are looked at as those of others.)
    fn wake_unless(&mut self, still: impl Fn(&Goroutine) -> bool) {
        for (candidate, woken) in self.waits.of.iter().zip(&mut self.woken) {
            if !*woken && !self.live.get(candidate.goroutine as usize).is_some_and(&still) {
                *woken = true;
            }
        }
    }

    /// Who was not reached, and for what he waits.
    pub(super) fn unreached(&self) -> impl Iterator<Item = (&Goroutine, &[u64])> {
        let left = self.waits.of.iter().zip(&self.woken).filter(|(_, woken)| !**woken);
        left.filter_map(|(candidate, _)| {
            let goroutine = self.live.get(candidate.goroutine as usize)?;
            let waits_for_ever = goroutine.doing == Doing::Waits(WaitKind::Forever);
            let meant = goroutine.id == MAIN && waits_for_ever;
            (!meant).then(|| (goroutine, self.waits.objects_of(candidate)))
        })
    }

    /// The same to keep, by address.
    fn suspects(&self) -> Vec<Suspect> {
        let suspect = |(goroutine, objects): (&Goroutine, &[u64])| Suspect {
            goroutine: *goroutine,
            objects: objects.into(),
        };
        let mut suspects: Vec<Suspect> = self.unreached().map(suspect).collect();
        suspects.shrink_to_fit();
        suspects.sort_unstable_by_key(|suspect| suspect.goroutine.address);
        suspects
    }

    /// For each of those of passes before, by address: it was not reached again, and waits as it did.
    fn confirms(&self, suspects: &[Suspect]) -> Vec<bool> {
        let mut confirmed = vec![false; suspects.len()];
        for (now, objects) in self.unreached() {
            let place = suspects.binary_search_by_key(&now.address, |suspect| suspect.goroutine.address);
            if let Ok(place) = place
                && let (Some(confirmed), Some(then)) = (confirmed.get_mut(place), suspects.get(place))
            {
                *confirmed = now.is_still(&then.goroutine) && *objects == *then.objects;
            }
        }
        confirmed
    }
}
