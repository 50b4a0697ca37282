//! What parked goroutines wait on that no table of the runtime tells: the network poller's descriptors, and `sync.Cond`s
//! before Go 1.26.
//!
//! Both are on the goroutine's own stack, because the functions that wait use them again when they are woken:
//! `netpollblock` the word of the poll descriptor in which the goroutine's address stands (runtime/netpoll.go), and
//! `(*Cond).Wait` the Cond (sync/cond.go), whose list of waiters has the goroutine's sudog. So a word of the stack is
//! believed only when what it leads to names this very goroutine. Must end on any stack and any list.

use leakwatch_inspect::go::layout::{HeapLayout, PollLayout};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    host::{Memory, ReadRequest},
    observe::{Object, Side, TaskDump, Wait},
};

/// Bytes of a stack, from its pointer up, that hold the frames of the functions that wait.
const TOP_OF_STACK: usize = 1024;
/// Stacks read at once.
const BATCH: usize = 512;
/// Goroutines of which every word is tried; the others have it where one of these had it.
const MOST_SEARCHED: usize = 4096;
/// Places in the frame that are remembered.
const MOST_PLACES: usize = 8;
/// Offset of `Cond.notify`: behind an empty struct and an interface (sync/cond.go, Go 1.18 to 1.27).
const COND_NOTIFY: u64 = 16;
/// Descriptors are small.
const MOST_DESCRIPTORS: u64 = 1 << 30;

/// A goroutine that waits for something of which only its stack tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parked {
    /// Its place among the dump's tasks.
    pub(super) task: usize,
    /// The part of its stack that is in use.
    pub(super) sp: u64,
    pub(super) high: u64,
    pub(super) on: ParkedOn,
}

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParkedOn {
    Network,
    Cond,
}

impl ParkedOn {
    /// By the wait reason, in the runtime's words.
    pub(super) fn of(reason: &str) -> Option<Self> {
        match reason {
            "IO wait" => Some(Self::Network),
            "sync.Cond.Wait" => Some(Self::Cond),
            _ => None,
        }
    }
}

/// Where in the words of a stack the wanted one was found, most recent first.
#[derive(Debug, Default)]
struct Places {
    known: Vec<usize>,
    searched: usize,
}

impl Places {
    /// The first word that passes `test`: those at known places first, then all of them, for so many stacks.
    fn find<T>(&mut self, words: &[u64], mut test: impl FnMut(u64) -> Option<T>) -> Option<T> {
        for &place in &self.known {
            if let Some(found) = words.get(place).and_then(|&word| test(word)) {
                return Some(found);
            }
        }
        if self.searched == MOST_SEARCHED {
            return None;
        }
        self.searched += 1;
        let (place, found) =
            words.iter().enumerate().find_map(|(place, &word)| Some((place, test(word)?)))?;
        self.known.insert(0, place);
        self.known.truncate(MOST_PLACES);
        Some(found)
    }
}

/// Finds out what goroutines wait on, and adds it to the dump.
pub(super) fn look(
    memory: &impl Memory,
    heap: &HeapLayout,
    poll: Option<PollLayout>,
    notify_head: Option<u32>,
    parked: &[Parked],
    dump: &mut TaskDump,
) {
    let mut network = Places::default();
    let mut conds =
        Conds { places: Places::default(), waiters: FxHashMap::default(), steps: dump.tasks.len() };
    let mut bytes = vec![0; TOP_OF_STACK * BATCH.min(parked.len())];
    for batch in parked.chunks(BATCH) {
        let mut requests: Vec<_> = batch
            .iter()
            .zip(bytes.chunks_exact_mut(TOP_OF_STACK))
            .map(|(parked, into)| {
                let length = usize::try_from(parked.high.saturating_sub(parked.sp)).unwrap_or(TOP_OF_STACK);
                ReadRequest::new(parked.sp, into.split_at_mut(length.min(TOP_OF_STACK) & !7).0)
            })
            .collect();
        memory.read_many(&mut requests);
        for (parked, request) in batch.iter().zip(&requests).filter(|(_, request)| request.ok) {
            let Some(goroutine) = dump.tasks.get(parked.task).map(|task| task.address) else { continue };
            let on_stack = parked.sp..parked.high;
            let words: Vec<u64> = request
                .into
                .as_chunks::<8>()
                .0
                .iter()
                .map(|word| u64::from_le_bytes(*word))
                // What is on the stack itself is neither.
                .map(|word| if on_stack.contains(&word) || !word.is_multiple_of(8) { 0 } else { word })
                .collect();
            let found = match parked.on {
                ParkedOn::Network => {
                    poll.and_then(|poll| descriptor(memory, poll, goroutine, &words, &mut network))
                }
                ParkedOn::Cond => {
                    notify_head.and_then(|head| conds.find(memory, heap, head, goroutine, &words))
                }
            };
            if let Some((wait, object)) = found {
                add(dump, parked.task, wait, object);
            }
        }
    }
}

fn add(dump: &mut TaskDump, task: usize, wait: Wait, object: Object) {
    let Ok(from) = u32::try_from(dump.waits.len()) else { return };
    let Some(task) = dump.tasks.get_mut(task).filter(|task| task.waits.0 == task.waits.1) else { return };
    task.waits = (from, from + 1);
    dump.waits.push(wait);
    dump.objects.insert(wait.object, object);
}

/// The poll descriptor one of whose words is the goroutine's address.
fn descriptor(
    memory: &impl Memory,
    layout: PollLayout,
    goroutine: u64,
    words: &[u64],
    places: &mut Places,
) -> Option<(Wait, Object)> {
    let names_it = |word: u64| (word != 0 && memory.read_u64(word).ok()? == goroutine).then_some(word);
    let word = places.find(words, names_it)?;
    // `poll_runtime_pollWait` still needs the descriptor: it tells which of its two words it is.
    let of = |offset: u32, side: Side| {
        let descriptor = word.checked_sub(u64::from(offset)).filter(|at| words.contains(at))?;
        Some((descriptor, side))
    };
    let (descriptor, side) = of(layout.reader, Side::Receive).or_else(|| of(layout.writer, Side::Send))?;
    let number = memory.read_u64(descriptor.checked_add(u64::from(layout.fd))?).ok()?;
    (number < MOST_DESCRIPTORS).then_some(())?;
    Some((Wait { object: descriptor, side }, Object::File { descriptor: number }))
}

/// Conds that were met.
struct Conds {
    places: Places,
    /// Who waits on them, by address of the Cond.
    waiters: FxHashMap<u64, FxHashSet<u64>>,
    /// Steps in lists that are left: each is a goroutine.
    steps: usize,
}

impl Conds {
    fn find(
        &mut self,
        memory: &impl Memory,
        heap: &HeapLayout,
        head: u32,
        goroutine: u64,
        words: &[u64],
    ) -> Option<(Wait, Object)> {
        let Self { places, waiters, steps } = self;
        let cond = places.find(words, |word| {
            if word == 0 {
                return None;
            }
            let known = waiters.entry(word).or_insert_with(|| {
                let list = word.wrapping_add(COND_NOTIFY).wrapping_add(u64::from(head));
                goroutines_of(memory, heap, list, steps)
            });
            known.contains(&goroutine).then_some(word)
        })?;
        // The address of the list itself is what the runtime notes from Go 1.26 on.
        Some((Wait { object: cond.wrapping_add(COND_NOTIFY), side: Side::Acquire }, Object::Cond))
    }
}

/// The goroutines of a list of sudogs whose first is at `first`; none when it is no such list.
fn goroutines_of(memory: &impl Memory, heap: &HeapLayout, first: u64, steps: &mut usize) -> FxHashSet<u64> {
    let mut found = FxHashSet::default();
    let mut sudogs = FxHashSet::default();
    let Ok(mut sudog) = memory.read_u64(first) else { return found };
    while sudog != 0 && sudog.is_multiple_of(8) && *steps > 0 && sudogs.insert(sudog) {
        let word = |offset: u32| memory.read_u64(sudog.wrapping_add(u64::from(offset))).ok();
        let (Some(goroutine), Some(next)) = (word(heap.sudog_g), word(heap.sudog_next)) else { break };
        *steps -= 1;
        found.insert(goroutine);
        sudog = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_found_once_is_tried_first() {
        let mut places = Places::default();
        let mut tried = Vec::new();
        let found = places.find(&[1, 2, 3], |word| {
            tried.push(word);
            (word == 3).then_some(word)
        });
        assert_eq!((found, tried.as_slice()), (Some(3), [1, 2, 3].as_slice()));
        tried.clear();
        let found = places.find(&[3, 3, 3], |word| {
            tried.push(word);
            (word == 3).then_some(word)
        });
        assert_eq!((found, tried.as_slice()), (Some(3), [3].as_slice()));
    }

    #[test]
    fn searches_are_bounded() {
        let mut places = Places::default();
        for _ in 0..MOST_SEARCHED {
            assert_eq!(places.find(&[1], |_| None::<u64>), None);
        }
        let mut tries = 0;
        assert_eq!(
            places.find(&[1], |_| {
                tries += 1;
                None::<u64>
            }),
            None
        );
        assert_eq!(tries, 0);
    }
}
