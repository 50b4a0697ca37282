//! Profiler labels of goroutines, as `pprof.Do` sets them: `g.labels` points to a `labelMap` of runtime/pprof.
//!
//! Up to Go 1.23 that is a map, since 1.24 a slice of pairs (runtime/pprof/label.go, internal/runtime/pprof/label). Sets
//! are shared by goroutines, so each is read once. Must never believe a length that it did not check.

use leakwatch_inspect::go::layout::{GoLayout, MapLayout};
use rustc_hash::FxHashMap;

use crate::{host::Memory, observe::Interned};

/// Most labels of one set.
const MOST_LABELS: u64 = 1 << 10;
/// Longest key or value.
const LONGEST: u64 = 1 << 16;
/// Most sets whose address is kept.
const KEPT: usize = 1 << 20;
/// Slots of a bucket (`abi.OldMapBucketCount`), and the smallest `tophash` of one that is filled (`minTopHash`).
const SLOTS: u64 = 8;
const FILLED: u8 = 5;

type Labels = Vec<(String, String)>;

/// What was read so far, by address.
#[derive(Debug, Default)]
pub(super) struct Sets {
    known: FxHashMap<u64, Option<u32>>,
    /// Sets that could not be read.
    pub(super) failed: u64,
}

impl Sets {
    /// The labels at an address, as an index of `all`; `None`: none, or they could not be read.
    pub(super) fn at(
        &mut self,
        memory: &impl Memory,
        layout: &GoLayout,
        address: u64,
        all: &mut Interned<Labels>,
    ) -> Option<u32> {
        if address == 0 {
            return None;
        }
        if let Some(known) = self.known.get(&address) {
            return *known;
        }
        let read = match layout.map {
            Some(map) => of_map(memory, map, address),
            None => of_slice(memory, address),
        };
        self.failed += u64::from(read.is_none());
        let index = read.filter(|labels| !labels.is_empty()).map(|mut labels| {
            labels.sort_unstable();
            all.index(&labels)
        });
        if self.known.len() < KEPT {
            self.known.insert(address, index);
        }
        index
    }
}

/// `struct { list []struct{ key, value string } }`
fn of_slice(memory: &impl Memory, address: u64) -> Option<Labels> {
    let header = memory.read_words(address, 3, 3).ok()?;
    let &[list, length, capacity] = header.as_slice() else { return None };
    if length > capacity || length > MOST_LABELS {
        return None;
    }
    let words = memory.read_words(list, length * 4, MOST_LABELS * 4).ok()?;
    words
        .chunks_exact(4)
        .map(|label| match *label {
            [key, key_length, value, value_length] => {
                Some((text(memory, key, key_length)?, text(memory, value, value_length)?))
            }
            _ => None,
        })
        .collect()
}

/// `map[string]string`: buckets of eight hashes, eight keys, eight values and the next bucket. A set is filled once and
/// never changed, so it is never growing when it is read.
fn of_map(memory: &impl Memory, layout: MapLayout, address: u64) -> Option<Labels> {
    let map = memory.read_u64(address).ok()?;
    if map == 0 {
        return Some(Vec::new());
    }
    let count = memory.read_u64(map.checked_add(u64::from(layout.count))?).ok()?;
    let mut log_buckets = [0];
    memory.read(map.checked_add(u64::from(layout.log_buckets))?, &mut log_buckets).ok()?;
    let first = memory.read_u64(map.checked_add(u64::from(layout.buckets))?).ok()?;
    let [log_buckets] = log_buckets;
    if count > MOST_LABELS || log_buckets > 10 {
        return None;
    }
    let size = SLOTS + 2 * 16 * SLOTS + 8;
    let mut labels = Vec::new();
    let mut visited = 0;
    for index in 0..1_u64 << log_buckets {
        let mut bucket = first.checked_add(index * size)?;
        while bucket != 0 && visited <= 2 * MOST_LABELS {
            visited += 1;
            let words = memory.read_words(bucket, size / 8, size / 8).ok()?;
            let (hashes, rest) = words.split_first()?;
            for (slot, hash) in (0_usize..).zip(hashes.to_le_bytes()) {
                if hash < FILLED {
                    continue;
                }
                let (key, value) = (rest.get(2 * slot..)?, rest.get(16 + 2 * slot..)?);
                labels.push((
                    text(memory, *key.first()?, *key.get(1)?)?,
                    text(memory, *value.first()?, *value.get(1)?)?,
                ));
            }
            bucket = *rest.last()?;
        }
    }
    (labels.len() as u64 == count).then_some(labels)
}

/// A Go string. What is not UTF-8 is replaced: outputs could not hold it.
fn text(memory: &impl Memory, address: u64, length: u64) -> Option<String> {
    if length > LONGEST {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    if !bytes.is_empty() {
        memory.read(address, &mut bytes).ok()?;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
