//! Words of data as they are once the program runs: the file's, corrected by relative relocations. Must never hold more
//! words than the file has.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::reader::{range_of, u64_at};
use crate::{Elf, ElfKind};

/// The words of the segments that may hold pointers: the writable ones, and all data of a file at fixed addresses.
pub(super) struct Data {
    segments: Vec<Words>,
}

/// Consecutive words.
pub(super) struct Words {
    /// Link-time address of the first; a multiple of 8.
    pub(super) address: u64,
    /// Their values before the load bias is added.
    pub(super) words: Vec<u64>,
}

impl Data {
    /// Reads them. Compact relocations (`DT_RELR`) need no look: there the file has the value already.
    pub(super) fn read(elf: &Elf, image: &[u8]) -> Data {
        let fixed = elf.kind == ElfKind::Executable;
        let mut segments = Vec::new();
        for segment in elf.segments.iter().filter(|s| s.writable || (fixed && !s.executable)) {
            let bytes = range_of(image, &segment.file).unwrap_or_default();
            let address = segment.address.start.next_multiple_of(8);
            let skip = usize::try_from(address.saturating_sub(segment.address.start)).unwrap_or(usize::MAX);
            let bytes = bytes.get(skip..).unwrap_or_default();
            let words = bytes.chunks_exact(8).filter_map(|word| u64_at(word, 0)).collect();
            segments.push(Words { address, words });
        }
        let mut data = Data { segments };
        for (place, value) in elf.relative_relocations(image) {
            if let Some(word) = data.word_mut(place) {
                *word = value;
            }
        }
        data
    }

    /// The segments.
    pub(super) fn segments(&self) -> &[Words] {
        &self.segments
    }

    /// The word at an address.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| segment.words.get(segment.index(address)?).copied())
    }

    fn word_mut(&mut self, address: u64) -> Option<&mut u64> {
        self.segments.iter_mut().find_map(|segment| {
            let index = segment.index(address)?;
            segment.words.get_mut(index)
        })
    }
}

impl Words {
    fn index(&self, address: u64) -> Option<usize> {
        let offset = address.checked_sub(self.address).filter(|offset| offset.is_multiple_of(8))?;
        usize::try_from(offset >> 3).ok()
    }
}
