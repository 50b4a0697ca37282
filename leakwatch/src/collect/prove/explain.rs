//! What is told of proven goroutines: the objects that they wait on, and who else has those objects.
//!
//! Nothing here changes the verdict. What cannot be read is left out, and a count that was cut short says so.

use leakwatch_common::RuntimeKind;
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::fields::{u32_at, u64_at};
use super::{
    Prover, Suspect,
    marks::Marks,
    waits::{Doing, Goroutine},
};
use crate::{
    host::{Memory, ReadRequest},
    observe::{Proof, ProvenObject, ProvenTask, SiteId, WaitKind},
};

/// Goroutines whose stacks are followed to find out who has what.
const MOST_FOLLOWED: usize = 20_000;
/// Objects that are followed from one goroutine, and from all together.
const MOST_OF_ONE: usize = 2_000;
const MOST_OF_ALL: usize = 500_000;
/// Bytes of a stack, and of an object, that are followed.
const MOST_BYTES: u64 = 64 << 10;
/// Structs read at once.
const BATCH: usize = 1024;

impl Prover {
    /// Fills `proof` with what is known of the suspects, which are proven now.
    pub(super) fn explain(&self, memory: &impl Memory, mut suspects: Vec<Suspect>, proof: &mut Proof) {
        suspects.sort_unstable_by_key(|suspect| suspect.goroutine.id);
        let mut places: FxHashMap<u64, u32> = FxHashMap::default();
        for Suspect { goroutine, objects } in &suspects {
            let Doing::Waits(kind) = goroutine.doing else { continue };
            let mut on = Vec::with_capacity(objects.len());
            for &address in &**objects {
                let next = u32::try_from(proof.objects.len()).unwrap_or(u32::MAX);
                let place = *places.entry(address).or_insert(next);
                if place == next {
                    proof.objects.push(ProvenObject {
                        address,
                        kind,
                        channel: None,
                        waiting: 0,
                        holders: 0,
                        all_holders: true,
                    });
                }
                if !on.contains(&place)
                    && let Some(object) = proof.objects.get_mut(place as usize)
                {
                    object.waiting += 1;
                    on.push(place);
                }
            }
            proof.proven.push(task(goroutine, kind, on));
        }
        self.channels(memory, &mut proof.objects);
        self.holders(memory, &suspects, &mut proof.objects);
    }

    /// Lengths and capacities.
    fn channels(&self, memory: &impl Memory, objects: &mut [ProvenObject]) {
        let layout = &self.heap.layout;
        let fields = [layout.hchan_qcount, layout.hchan_dataqsiz, layout.hchan_closed];
        let width = fields.into_iter().max().unwrap_or(0).saturating_add(8).min(4096) as usize;
        let mut bytes = vec![0; width * BATCH.min(objects.len())];
        for batch in objects.chunks_mut(BATCH) {
            let mut requests: Vec<_> = batch
                .iter()
                .zip(bytes.chunks_exact_mut(width))
                .map(|(object, into)| ReadRequest::new(object.address, into))
                .collect();
            memory.read_many(&mut requests);
            for (object, request) in batch.iter_mut().zip(&requests) {
                if !request.ok
                    || !matches!(object.kind, WaitKind::Receive | WaitKind::Send | WaitKind::Select)
                {
                    continue;
                }
                object.channel = (|| {
                    let length = u64_at(request.into, layout.hchan_qcount)?;
                    let capacity = u64_at(request.into, layout.hchan_dataqsiz)?;
                    let closed = u32_at(request.into, layout.hchan_closed)?;
                    (length <= capacity && closed <= 1).then_some((length, capacity, closed == 1))
                })();
            }
        }
    }

    /// Follows the stacks of proven goroutines through what nothing alive reaches.
    fn holders(&self, memory: &impl Memory, suspects: &[Suspect], objects: &mut [ProvenObject]) {
        let mut wanted: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        for (place, object) in objects.iter().enumerate() {
            if let Some((.., base)) = self.spans.object(object.address) {
                wanted.entry(base).or_default().push(place);
            }
        }
        let mut budget = MOST_OF_ALL;
        let mut whole = suspects.len() <= MOST_FOLLOWED;
        for Suspect { goroutine, .. } in suspects.iter().take(MOST_FOLLOWED) {
            let (from, length) = goroutine.stack();
            let mut stack = vec![0; usize::try_from(length.min(MOST_BYTES) & !7).unwrap_or(0)];
            if memory.read(from, &mut stack).is_err() {
                whole = false;
                continue;
            }
            let (words, _) = stack.as_chunks::<8>();
            let mut open: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
            let mut met = FxHashSet::default();
            let mut cut = length > MOST_BYTES;
            while let Some(word) = open.pop() {
                let Some((number, index, base)) = self.spans.object(word) else { continue };
                if !self.marks.is_unreached(&self.spans, word) || !met.insert(base) {
                    continue;
                }
                if let Some(places) = wanted.get(&base) {
                    for &place in places {
                        if let Some(object) = objects.get_mut(place) {
                            object.holders += 1;
                        }
                    }
                }
                if met.len() > MOST_OF_ONE || budget == 0 {
                    cut = true;
                    break;
                }
                budget -= 1;
                open.extend(Marks::words_of(memory, &self.spans, number, index, MOST_BYTES));
            }
            whole &= !cut;
        }
        if !whole {
            for object in objects.iter_mut() {
                object.all_holders = false;
            }
        }
    }
}

fn task(goroutine: &Goroutine, kind: WaitKind, objects: Vec<u32>) -> ProvenTask {
    ProvenTask {
        address: goroutine.address,
        id: goroutine.id,
        site: SiteId { runtime: RuntimeKind::Go, site: goroutine.site, entry: goroutine.entry },
        kind,
        waiting_since_ns: (goroutine.since != 0).then_some(goroutine.since),
        objects,
        stack_bytes: goroutine.high - goroutine.low,
        turn: goroutine.turn,
    }
}
