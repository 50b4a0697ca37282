//! Why a goroutine is not proven: the way from what is alive to what it waits on, word by word.
//!
//! Only a proof that was asked to notes which word marked which object, as that takes memory. Nothing here changes a verdict.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Prover,
    look::Pass,
    waits::{Doing, Goroutine},
};
use crate::observe::{Fate, Link, Why};

/// Most objects of which it is noted what marked them.
const MOST_NOTED: usize = 1 << 23;
/// Longest way that is told.
const MOST_LINKS: usize = 10_000;

/// What marked an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The word at this address.
    Word(u64),
    /// A special.
    Special,
    /// Its span is new.
    New,
    /// A goroutine, by address, that waits on it and can be woken.
    Woken(u64),
}

/// What marked each object, by its first address.
#[derive(Debug, Default)]
pub(super) struct Trace(FxHashMap<u64, Way>);

impl Trace {
    /// Notes what marked an object first.
    pub(super) fn note(&mut self, object: u64, way: Way) {
        if self.0.len() < MOST_NOTED {
            self.0.entry(object).or_insert(way);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn get(&self, object: u64) -> Option<Way> {
        self.0.get(&object).copied()
    }
}

impl Prover {
    /// Notes from now on why goroutines are reached, for [`Prover::why`].
    pub fn trace(&mut self) {
        self.marks.trace = Some(Trace::default());
    }

    /// What the passes since [`Prover::trace`] say of a goroutine: [`Fate::Doubtful`] where the last did not reach it, which is
    /// [`Fate::Proven`] when the proof names it. `None`: nothing was noted, or no pass was made.
    pub fn why(&self, id: u64) -> Option<Why> {
        let (trace, pass) = (self.marks.trace.as_ref()?, self.last.as_ref()?);
        let why = |fate, chain| Some(Why { id, fate, chain });
        let Some((place, goroutine)) = pass.live.iter().enumerate().find(|(_, one)| one.id == id) else {
            return why(Fate::Gone, Vec::new());
        };
        if !matches!(goroutine.doing, Doing::Waits(_)) {
            return why(Fate::Alive, Vec::new());
        }
        if pass.number_of(place).is_none() {
            return why(Fate::Unknown, Vec::new());
        }
        if pass.unreached().any(|(one, _)| one.address == goroutine.address) {
            return why(Fate::Doubtful, Vec::new());
        }
        let chain = self.chain(trace, pass, goroutine);
        why(if chain.is_empty() { Fate::Moved } else { Fate::Reached }, chain)
    }

    /// The way from a goroutine that can be woken to what is alive by itself.
    fn chain(&self, trace: &Trace, pass: &Pass, goroutine: &Goroutine) -> Vec<Link> {
        let mut chain = Vec::new();
        let mut met = FxHashSet::default();
        let mut open = Some(*goroutine);
        while let Some(goroutine) = open.take() {
            let Some((address, mut object)) = self.reached_object(pass, &goroutine) else { break };
            chain.push(Link::Awaits { goroutine: goroutine.id, address });
            let Some((.., first)) = object else {
                chain.push(Link::Variable { address });
                break;
            };
            let mut base = first;
            while let Some((number, ..)) = object.take() {
                let size = self.spans.get(number).map_or(0, |span| span.size);
                chain.push(Link::Object { base, size });
                if !met.insert(base) || chain.len() > MOST_LINKS {
                    chain.push(Link::Lost);
                    break;
                }
                let Some(way) = trace.get(base) else {
                    chain.push(Link::Lost);
                    break;
                };
                let at = match way {
                    Way::Word(at) => at,
                    Way::Special => {
                        chain.push(Link::Special);
                        break;
                    }
                    Way::New => {
                        chain.push(Link::New);
                        break;
                    }
                    Way::Woken(by) => {
                        open = pass.live.iter().find(|one| one.address == by).copied();
                        break;
                    }
                };
                let on_stack = pass.live.iter().find(|one| (one.low..one.high).contains(&at));
                let size_of_g = u64::from(self.heap.runtime.layout.g_size);
                let in_struct = || {
                    let inside = |one: &&Goroutine| (one.address..one.address + size_of_g).contains(&at);
                    pass.live.iter().find(inside)
                };
                let waits = |one: &Goroutine| pass.is_candidate(one.address);
                if let Some(one) = on_stack {
                    let depth = at.saturating_sub(one.stack().0);
                    chain.push(Link::Stack { at, goroutine: one.id, depth, waits: waits(one) });
                    open = Some(*one).filter(waits);
                } else if let Some(one) = in_struct() {
                    chain.push(Link::Struct { at, goroutine: one.id, waits: waits(one) });
                    open = Some(*one).filter(waits);
                } else if let Some((number, _, holder)) = self.spans.object(at) {
                    chain.push(Link::Word { at });
                    (object, base) = (Some((number, 0, holder)), holder);
                } else if self.spans.in_arena(at) {
                    chain.push(Link::Stack { at, goroutine: 0, depth: 0, waits: false });
                } else {
                    chain.push(Link::Outside { at });
                }
            }
        }
        chain
    }

    /// The first of the objects that a goroutine waits on which is reached, and where it is in the heap.
    #[expect(clippy::type_complexity, reason = "an address, and what the table of spans says of it")]
    fn reached_object(&self, pass: &Pass, goroutine: &Goroutine) -> Option<(u64, Option<(u32, u64, u64)>)> {
        let place = pass.live.iter().position(|one| one.address == goroutine.address)?;
        let candidate = pass.waits.of.get(pass.number_of(place)?)?;
        pass.waits.objects_of(candidate).iter().find_map(|&address| match self.spans.object(address) {
            None => Some((address, None)),
            Some(found) => self.marks.is_marked(&self.spans, address).then_some((address, Some(found))),
        })
    }
}
