//! Whether a tokio task's header is in the list of its owner.
//!
//! A live task is in the doubly linked list of its `OwnedTasks` (`src/runtime/task/list.rs`): the one before it points to
//! it, and so does the one behind it; a task alone is the list's first and last. Freed memory that looks like a header has
//! pointers to what is no neighbour. A program that runs changes its lists all the time, so a header is refused only when
//! its pointers hold still and are wrong.
//!
//! It must never take a task for dead because its neighbours came and went.

use rustc_hash::{FxHashMap, FxHashSet};

use super::tokio_rt::TokioRuntime;
use crate::host::Memory;

/// Looks at a task whose neighbours do not know it.
const TRIES: usize = 4;
/// Most pairs of equal words that are kept. A program with more is not asked for lists of one.
const MOST_PAIRS: usize = 1 << 20;
/// No heap begins below: what is smaller is a number.
const LOWEST: u64 = 1 << 16;
/// Words on either side of a list's first and last among which the number of its owner is (`OwnedTasks` of tokio 1.20: a mutex
/// around first, last and whether it is closed, then the number).
const OWNER_WITHIN: usize = 8;
/// What user space addresses are below.
const ADDRESSES: u64 = 1 << 47;

/// What was seen of lists while memory was looked through.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Words that stand twice in a row: first and last of a list of one.
    twice: FxHashSet<u64>,
    /// There were too many of them.
    overflow: bool,
    /// Addresses of which any list's first or last is wanted, and the owner's number that must stand near.
    wanted: FxHashMap<u64, Option<u64>>,
    /// Those of them that were found.
    found: FxHashSet<u64>,
}

impl Lists {
    /// Notes what may be lists in some memory.
    pub(super) fn look_through(&mut self, bytes: &[u8]) {
        let mut before = 0;
        let words = bytes.as_chunks::<8>().0;
        for (place, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let alone = word == before && word != 0 && word < ADDRESSES && word.is_multiple_of(8);
            if alone && !is_in_queue(words, place) {
                if self.twice.len() < MOST_PAIRS {
                    self.twice.insert(word);
                } else {
                    self.overflow = true;
                }
            }
            // A list's first and last stand side by side: both are addresses.
            if !self.wanted.is_empty() {
                for (one, other) in [(word, before), (before, word)] {
                    // A vector's capacity beside its pointer is none.
                    let found = match self.wanted.get(&one) {
                        None => false,
                        Some(None) => is_address(other),
                        Some(Some(owner)) => one == other && is_list_of(*owner, words, place),
                    };
                    if found {
                        self.found.insert(one);
                    }
                }
            }
            before = word;
        }
    }

    /// From here on these addresses are looked for, each beside the number of its owner where that is told.
    pub(super) fn ask_for(&mut self, addresses: impl Iterator<Item = (u64, Option<u64>)>) {
        self.wanted = addresses.collect();
    }

    /// Was this address found since [`Self::ask_for`]?
    pub(super) fn knows(&self, address: u64) -> bool {
        self.overflow || self.found.contains(&address)
    }

    /// Is the task in its list? `None`: it is alone, and no list of one was seen, or what was seen is not enough: a task
    /// without a number (tokio 1.20) may be freed memory that has only zeros for neighbours.
    pub(super) fn own(
        &self,
        types: &TokioRuntime,
        memory: &impl Memory,
        task: u64,
        vtable: u64,
    ) -> Option<bool> {
        let offset = types.owned_offset(vtable)?;
        let mut last = None;
        for _ in 0..TRIES {
            let Some(pointers) = pair(memory, task.wrapping_add(offset)) else { return Some(false) };
            if last.is_some_and(|last| last != pointers) {
                // Its neighbours change: it is in a list.
                return Some(true);
            }
            last = Some(pointers);
            let (before, behind) = pointers;
            if before == 0 && behind == 0 {
                return (types.has_numbers(vtable) && self.twice.contains(&task)).then_some(true);
            }
            let knows = |neighbour: u64, back: fn((u64, u64)) -> u64| {
                neighbour == 0
                    || neighbour_of(types, memory, neighbour).is_some_and(|pointers| back(pointers) == task)
            };
            if knows(before, |(_, behind)| behind) && knows(behind, |(before, _)| before) {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// Whether the two words that end at a place, both a task's address, are first and last of this owner's list: its number is
/// near, and no other addresses are beside them, as there are in a queue of tasks.
fn is_list_of(owner: u64, words: &[[u8; 8]], place: usize) -> bool {
    let near = place.saturating_sub(OWNER_WITHIN)..words.len().min(place.saturating_add(OWNER_WITHIN));
    let beside = [place.checked_sub(2), place.checked_add(1)].into_iter().flatten();
    let queued =
        beside.filter_map(|place| words.get(place)).any(|word| is_address(u64::from_le_bytes(*word)));
    !queued && words.get(near).is_some_and(|near| near.contains(&owner.to_le_bytes()))
}

/// Whether the two equal words that end at a place have addresses on both sides, as in a queue in which one task's memory was
/// queued again and again. Beside a list stands its mutex, or whether it is closed.
fn is_in_queue(words: &[[u8; 8]], place: usize) -> bool {
    let address = |word: Option<&[u8; 8]>| word.is_some_and(|word| is_address(u64::from_le_bytes(*word)));
    let after = place.checked_add(1).and_then(|place| words.get(place));
    address(place.checked_sub(2).and_then(|place| words.get(place))) && address(after)
}

/// Whether a word may be the address of a task.
fn is_address(word: u64) -> bool {
    (LOWEST..ADDRESSES).contains(&word) && word.is_multiple_of(8)
}

/// The pointers of the task at an address.
fn neighbour_of(types: &TokioRuntime, memory: &impl Memory, task: u64) -> Option<(u64, u64)> {
    let offset = types.owned_offset(types.vtable_at(memory, task)?)?;
    pair(memory, task.wrapping_add(offset))
}

fn pair(memory: &impl Memory, address: u64) -> Option<(u64, u64)> {
    let mut bytes = [0; 16];
    memory.read(address, &mut bytes).ok()?;
    let (words, _) = bytes.as_chunks::<8>();
    Some((u64::from_le_bytes(*words.first()?), u64::from_le_bytes(*words.get(1)?)))
}
