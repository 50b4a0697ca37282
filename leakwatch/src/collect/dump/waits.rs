//! What goroutines wait on: the channels of their sudogs, and the words that locks and semaphores count with.
//!
//! `g.waiting` leads to one sudog for each case of a receive, send or select (runtime/chan.go, select.go). Who waits on
//! a semaphore is not there but in the runtime's `semtable`: 251 treaps of sudogs (runtime/sema.go). Everything here may
//! change while it is read: a sudog counts when its goroutine is the one that led to it. Must end on any list.

use leakwatch_inspect::go::layout::HeapLayout;
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::fields::u64_at;
use crate::{
    host::{Memory, ReadRequest},
    observe::{Object, Side, TaskDump, Wait},
};

/// Structs read at once.
const BATCH: usize = 1024;
/// Most cases of one select: `selectgo` has them in a u16.
const MOST_CASES: usize = 1 << 16;
/// Roots of `semtable`, and the bytes of one: padded to a line of the cache.
const ROOTS: u64 = 251;
const ROOT_BYTES: u64 = 64;

/// The wait reason of those that wait on a `sync.Cond`.
const COND: &str = "sync.Cond.Wait";

/// What is read of a sudog.
#[derive(Clone, Copy, Debug)]
struct Sudog {
    goroutine: u64,
    next: u64,
    previous: u64,
    element: u64,
    wait_link: u64,
    channel: u64,
}

/// Sudogs of channels, as they were met.
#[derive(Debug, Default)]
pub(super) struct Sudogs {
    /// By address: the next one in its queue, and its place among the waits.
    met: FxHashMap<u64, (u64, u32)>,
}

impl Sudogs {
    /// Takes in what goroutines wait on: for each its index in `dump.tasks` and `g.waiting`.
    pub(super) fn take_in(
        &mut self,
        memory: &impl Memory,
        layout: &HeapLayout,
        waiting: &[(usize, u64)],
        dump: &mut TaskDump,
    ) {
        let mut chains: Vec<Vec<Wait>> = vec![Vec::new(); waiting.len()];
        let mut addresses: Vec<Vec<(u64, u64)>> = vec![Vec::new(); waiting.len()];
        let mut open: Vec<(usize, u64)> =
            waiting.iter().enumerate().map(|(place, &(_, sudog))| (place, sudog)).collect();
        let mut others = Vec::new();
        for _ in 0..MOST_CASES {
            if open.is_empty() {
                break;
            }
            let sudogs = read(memory, layout, &open.iter().map(|&(_, sudog)| sudog).collect::<Vec<_>>());
            let mut next = Vec::new();
            for (&(place, address), sudog) in open.iter().zip(sudogs) {
                let task = waiting.get(place).and_then(|&(task, _)| dump.tasks.get(task));
                let (Some(sudog), Some(task)) = (sudog, task) else { continue };
                if sudog.goroutine != task.address {
                    continue;
                }
                if sudog.channel == 0 {
                    // Go 1.26 and later note what a semaphore or a Cond is (runtime/sema.go).
                    if sudog.element != 0 && place_of_one(&chains, place) {
                        let cond = dump.states.get(task.state).is_some_and(|state| state == COND);
                        let object = if cond { Object::Cond } else { Object::Semaphore };
                        others.push((place, sudog.element, object));
                    }
                    continue;
                }
                if let (Some(chain), Some(met)) = (chains.get_mut(place), addresses.get_mut(place)) {
                    chain.push(Wait { object: sudog.channel, side: Side::Unknown });
                    met.push((address, sudog.next));
                }
                if sudog.wait_link != 0 {
                    next.push((place, sudog.wait_link));
                }
            }
            open = next;
        }
        for (place, object, kind) in others {
            if let Some(chain) = chains.get_mut(place) {
                chain.push(Wait { object, side: Side::Acquire });
                dump.objects.insert(object, kind);
            }
        }
        for ((&(task, _), chain), met) in waiting.iter().zip(chains).zip(addresses) {
            let (Ok(from), Ok(count)) = (u32::try_from(dump.waits.len()), u32::try_from(chain.len())) else {
                return;
            };
            for ((address, next), index) in met.into_iter().zip(from..) {
                self.met.insert(address, (next, index));
            }
            dump.waits.extend(chain);
            if let Some(task) = dump.tasks.get_mut(task) {
                task.waits = (from, from + count);
            }
        }
    }

    /// Reads the channels, and finds by their queues who sends and who receives.
    pub(super) fn look_at_channels(self, memory: &impl Memory, layout: &HeapLayout, dump: &mut TaskDump) {
        // What is known already is no channel.
        let unknown = |object: &u64| !dump.objects.contains_key(object);
        let mut channels: Vec<u64> = dump.waits.iter().map(|wait| wait.object).filter(unknown).collect();
        channels.sort_unstable();
        channels.dedup();
        let end = [
            layout.hchan_qcount,
            layout.hchan_dataqsiz,
            layout.hchan_closed,
            layout.hchan_recvq,
            layout.hchan_sendq,
        ]
        .into_iter()
        .max()
        .unwrap_or(0)
        .saturating_add(8) as usize;
        let mut bytes = vec![0; end * BATCH];
        for batch in channels.chunks(BATCH) {
            let mut requests: Vec<_> = batch
                .iter()
                .zip(bytes.chunks_exact_mut(end))
                .map(|(&channel, into)| ReadRequest::new(channel, into))
                .collect();
            memory.read_many(&mut requests);
            for request in &requests {
                let word = |offset| u64_at(request.into, offset).filter(|_| request.ok);
                let object = (|| {
                    let (length, capacity) = (word(layout.hchan_qcount)?, word(layout.hchan_dataqsiz)?);
                    let closed = word(layout.hchan_closed)? & 0xffff_ffff;
                    (length <= capacity && closed <= 1).then_some(Object::Channel {
                        length,
                        capacity,
                        closed: closed == 1,
                    })
                })();
                dump.objects.insert(request.address, object.unwrap_or(Object::Unknown));
                for (queue, side) in [(layout.hchan_recvq, Side::Receive), (layout.hchan_sendq, Side::Send)] {
                    self.mark(word(queue).unwrap_or(0), request.address, side, &mut dump.waits);
                }
            }
        }
    }

    /// Follows a channel's queue as far as its sudogs were met.
    fn mark(&self, first: u64, channel: u64, side: Side, waits: &mut [Wait]) {
        let mut at = first;
        while let Some(&(next, index)) = self.met.get(&at) {
            let Some(wait) = waits.get_mut(index as usize) else { return };
            // Seen already: a queue that bit its own tail while it was read.
            if wait.object != channel || wait.side != Side::Unknown {
                return;
            }
            wait.side = side;
            at = next;
        }
    }
}

/// Nothing was found for it yet.
fn place_of_one(chains: &[Vec<Wait>], place: usize) -> bool {
    chains.get(place).is_some_and(Vec::is_empty)
}

/// Finds who waits on which semaphore, from the runtime's table at `semtable`.
pub(super) fn semaphores(memory: &impl Memory, layout: &HeapLayout, semtable: u64, dump: &mut TaskDump) {
    let Ok(words) = memory.read_words(semtable, ROOTS * ROOT_BYTES / 8, ROOTS * ROOT_BYTES / 8) else {
        dump.problems
            .push("the table of semaphores could not be read: who waits on locks is not known".to_owned());
        return;
    };
    let treap = (layout.sema_treap / 8) as usize;
    let stride = (ROOT_BYTES / 8) as usize;
    let mut open: Vec<u64> = words
        .chunks_exact(stride)
        .filter_map(|root| root.get(treap).copied())
        .filter(|&node| node != 0)
        .collect();
    if open.is_empty() {
        return;
    }
    let tasks: FxHashMap<u64, usize> = dump
        .tasks
        .iter()
        .enumerate()
        .filter(|(_, task)| task.waits.0 == task.waits.1)
        .map(|(index, task)| (task.address, index))
        .collect();
    let mut seen = FxHashSet::default();
    while !open.is_empty() {
        let mut next = Vec::new();
        open.retain(|&sudog| seen.insert(sudog));
        for sudog in read(memory, layout, &open).into_iter().flatten() {
            // Every waiter is a task, so that a walk astray ends.
            if let Some(task) = tasks.get(&sudog.goroutine).and_then(|&index| dump.tasks.get_mut(index))
                && task.waits.0 == task.waits.1
                && let Ok(from) = u32::try_from(dump.waits.len())
            {
                task.waits = (from, from + 1);
                dump.waits.push(Wait { object: sudog.element, side: Side::Acquire });
                dump.objects.entry(sudog.element).or_insert(Object::Semaphore);
            }
            next.extend([sudog.previous, sudog.next, sudog.wait_link].into_iter().filter(|&link| link != 0));
        }
        if seen.len() > 2 * tasks.len() + BATCH {
            return;
        }
        open = next;
    }
}

/// Reads sudogs; `None` for those that cannot be read.
fn read(memory: &impl Memory, layout: &HeapLayout, addresses: &[u64]) -> Vec<Option<Sudog>> {
    let size = layout.sudog_size as usize;
    let mut bytes = vec![0; size * addresses.len().min(BATCH)];
    let mut sudogs = Vec::with_capacity(addresses.len());
    for batch in addresses.chunks(BATCH) {
        let mut requests: Vec<_> = batch
            .iter()
            .zip(bytes.chunks_exact_mut(size.max(1)))
            .map(|(&address, into)| ReadRequest::new(address, into))
            .collect();
        memory.read_many(&mut requests);
        sudogs.extend(requests.iter().map(|request| {
            let word = |offset| u64_at(request.into, offset).filter(|_| request.ok);
            Some(Sudog {
                goroutine: word(layout.sudog_g)?,
                next: word(layout.sudog_next)?,
                previous: word(layout.sudog_prev)?,
                element: word(layout.sudog_elem)?,
                wait_link: word(layout.sudog_waitlink)?,
                channel: word(layout.sudog_c)?,
            })
        }));
    }
    sudogs
}
