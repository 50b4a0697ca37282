//! Whether a tokio task's header is in the list of its owner.
//!
//! A live task is in the doubly linked list of its owner (`src/runtime/task/list.rs`): the one before it points to it, and so
//! does the one behind it. A task alone is the list's first and last, and the owner's number, which the task has too, is
//! where the list is. Freed memory that looks like a header has pointers to what is no neighbour, or none; its address may
//! still stand in a queue many times, but not beside that number. A program that runs changes its lists all the time, so a
//! header is refused only when its pointers hold still and are wrong.
//!
//! It must never take a task for dead because its neighbours came and went.

use rustc_hash::{FxHashMap, FxHashSet};

use super::tokio_rt::TokioRuntime;
use crate::host::Memory;

/// Looks at a task whose neighbours do not know it.
const TRIES: usize = 4;
/// Most places of either kind that are kept. A program with more is not asked for lists of one.
const MOST_PLACES: usize = 1 << 20;
/// No heap begins below: what is smaller is a number.
const LOWEST: u64 = 1 << 16;
/// What user space addresses are below.
const ADDRESSES: u64 = 1 << 47;
/// Words on either side of a place that are looked at. From tokio 1.35 on, where the lists of `OwnedTasks` are an array, all
/// of these are among them: its address and length, counts, the mask, the number.
const NEAR: u64 = 8;
/// As many words on both sides, and the one between them.
const WORDS: usize = 17;
const _: () = assert!(WORDS as u64 == 2 * NEAR + 1);
/// Lengths of an array of lists (`gen_shared_list_size`): powers of two.
const LENGTHS: std::ops::RangeInclusive<u64> = 4..=1 << 16;
/// Bytes of each list in an array: a lock (of std or of `parking_lot`), first and last.
const LIST: u64 = 24;

/// What was seen of lists while memory was looked through.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Words that stand twice in a row, first and last of a list of one perhaps, and where the second is.
    pairs: Vec<(u64, u64)>,
    /// What may be arrays of lists: where their lengths are.
    arrays: Vec<u64>,
    /// There were too many of either.
    overflow: bool,
    /// Where the last stretch ended, and its last word.
    last: (u64, u64),
}

impl Lists {
    /// Notes what may be lists in some memory.
    pub(super) fn look_through(&mut self, address: u64, bytes: &[u8]) {
        let mut before = if self.last.0 == address { self.last.1 } else { 0 };
        let words = bytes.as_chunks::<8>().0;
        let mut at = address;
        for (place, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            if word == before && is_address(word) && !is_run(words, place) {
                note(&mut self.pairs, (word, at), &mut self.overflow);
            } else if LENGTHS.contains(&word) && word.is_power_of_two() && is_address(before) {
                let mask = (word - 1).to_le_bytes();
                // Where the stretch is cut its neighbours may have it.
                let whole = around(words, place);
                if whole.is_none_or(|near| near.contains(&mask)) {
                    note(&mut self.arrays, at, &mut self.overflow);
                }
            }
            before = word;
            at = at.wrapping_add(8);
        }
        self.last = (at, before);
    }

    /// Which of these tasks, each with its owner's number, are alone in a list of that owner.
    pub(super) fn alone(
        &self,
        types: &TokioRuntime,
        memory: &impl Memory,
        tasks: &FxHashMap<u64, u64>,
    ) -> FxHashSet<u64> {
        if self.overflow || tasks.is_empty() {
            return tasks.keys().copied().collect();
        }
        let owners: FxHashSet<u64> = tasks.values().copied().collect();
        let arrays: Vec<Array> =
            self.arrays.iter().flat_map(|at| Array::read(memory, *at, &owners)).collect();
        let is_list = |(task, at): (u64, u64)| {
            let owner = *tasks.get(&task)?;
            let near = Near::read(memory, at)?;
            let still = near.word(0) == Some(task) && near.word(-1) == Some(task);
            let in_array = || arrays.iter().any(|array| array.owner == owner && array.has(at));
            // In a queue it stands between others, or again and again.
            let is_task =
                |word: u64| word == task || (is_address(word) && types.vtable_at(memory, word).is_some());
            let queued = || [-2, 1].into_iter().filter_map(|place| near.word(place)).any(is_task);
            (still && (in_array() || (near.has_beside_a_list(owner) && !queued()))).then_some(task)
        };
        self.pairs.iter().filter_map(|pair| is_list(*pair)).collect()
    }
}

/// Is the task in its list? `None`: it is alone.
pub(super) fn is_listed(types: &TokioRuntime, memory: &impl Memory, task: u64, vtable: u64) -> Option<bool> {
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
            return None;
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

/// An array of lists, and whose it is.
#[derive(Clone, Copy, Debug)]
struct Array {
    address: u64,
    length: u64,
    owner: u64,
}

impl Array {
    /// What has its length at an address, once for each of these numbers that is near.
    fn read(memory: &impl Memory, at: u64, owners: &FxHashSet<u64>) -> Vec<Self> {
        let Some(near) = Near::read(memory, at) else { return Vec::new() };
        let (Some(address), Some(length)) = (near.word(-1), near.word(0)) else { return Vec::new() };
        let is_one = LENGTHS.contains(&length)
            && length.is_power_of_two()
            && is_address(address)
            && near.has(length - 1);
        let owners = owners.iter().filter(|owner| is_one && near.has(**owner));
        owners.map(|owner| Self { address, length, owner: *owner }).collect()
    }

    /// Whether the last of one of its lists is at an address.
    fn has(&self, at: u64) -> bool {
        let within = at.wrapping_sub(8).wrapping_sub(self.address);
        // Behind the lock, or before it.
        within < self.length * LIST && within % LIST <= 8
    }
}

/// The words around an address.
struct Near {
    words: [Option<u64>; WORDS],
}

impl Near {
    fn read(memory: &impl Memory, at: u64) -> Option<Self> {
        let begin = at.checked_sub(NEAR * 8)?;
        let mut bytes = [0; WORDS * 8];
        let mut words = [None; WORDS];
        if memory.read(begin, &mut bytes).is_ok() {
            let read = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            words.iter_mut().zip(read).for_each(|(word, read)| *word = Some(read));
        } else {
            // Memory begins or ends among them.
            let places = (begin..).step_by(8);
            words.iter_mut().zip(places).for_each(|(word, place)| *word = memory.read_u64(place).ok());
        }
        Some(Self { words })
    }

    /// The word so many behind the address.
    fn word(&self, behind: i64) -> Option<u64> {
        let place = NEAR.checked_add_signed(behind)?;
        self.words.get(usize::try_from(place).ok()?).copied().flatten()
    }

    fn has(&self, word: u64) -> bool {
        self.words.contains(&Some(word))
    }

    /// As [`Self::has`], where the number of a list's owner may be when the last of the list is at the address. In
    /// `LocalOwnedTasks`, and in `OwnedTasks` up to tokio 1.34, that is before the lock and first, or behind two counts and
    /// whether it is closed.
    fn has_beside_a_list(&self, owner: u64) -> bool {
        (-3..=4).any(|behind| self.word(behind) == Some(owner))
    }
}

/// Keeps a place while there is room.
fn note<T>(places: &mut Vec<T>, place: T, overflow: &mut bool) {
    if places.len() < MOST_PLACES {
        places.push(place);
    } else {
        *overflow = true;
    }
}

/// The words near a place; `None`: some of them are elsewhere.
fn around(words: &[[u8; 8]], place: usize) -> Option<&[[u8; 8]]> {
    let near = usize::try_from(NEAR).ok()?;
    words.get(place.checked_sub(near)?..=place.checked_add(near)?)
}

/// Whether the two equal words that end at a place are part of more: no list has three.
fn is_run(words: &[[u8; 8]], place: usize) -> bool {
    let beside = [place.checked_sub(2), place.checked_add(1)].into_iter().flatten();
    beside.filter_map(|beside| words.get(beside)).any(|beside| words.get(place) == Some(beside))
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
