//! Pointers in data as the dynamic linker will leave them. Must never look at more than the dynamic table names.
//!
//! In a position-independent file a pointer's word in the file may be 0: its value is then the addend of a
//! relative relocation (`DT_RELA`). The compact form (`DT_RELR`) has no addends: there the word in the file is the
//! link-time value already, so it needs no reading here.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Arch, Elf};
use crate::reader::{range_of, u64_at};

const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const RELA_SIZE: usize = 24;
const R_X86_64_RELATIVE: u64 = 8;
const R_AARCH64_RELATIVE: u64 = 1027;
/// Entries of the dynamic table that are looked at; real ones have about thirty.
const MAX_DYNAMIC: usize = 4096;
/// Matches that [`Elf::places_of`] returns at most.
const MAX_PLACES: usize = 64;

impl Elf {
    /// The relative relocations with addends: (address of the word, link-time value of the word).
    pub fn relative_relocations<'a>(&self, image: &'a [u8]) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let relative = match self.arch {
            Arch::X86_64 => R_X86_64_RELATIVE,
            Arch::Aarch64 => R_AARCH64_RELATIVE,
        };
        self.rela_table(image).unwrap_or_default().chunks_exact(RELA_SIZE).filter_map(move |entry| {
            // r_info of a relative relocation has no symbol, so that it equals the type.
            (u64_at(entry, 8)? == relative).then_some(())?;
            Some((u64_at(entry, 0)?, u64_at(entry, 16)?))
        })
    }

    /// `count` words at an address as they are in memory before the load bias is added: from the file, corrected by
    /// relative relocations. One pass over the relocations. `None` unless all words are in the file.
    pub fn pointers(&self, image: &[u8], address: u64, count: usize) -> Option<Vec<u64>> {
        let bytes = self.bytes(image, address, count.checked_mul(8)?)?;
        let mut words: Vec<u64> = bytes.chunks_exact(8).filter_map(|word| u64_at(word, 0)).collect();
        let end = address.checked_add(u64::try_from(bytes.len()).ok()?)?;
        for (place, value) in self.relative_relocations(image) {
            if (address..end).contains(&place) {
                let offset = place.saturating_sub(address);
                let index = usize::try_from(offset >> 3).ok().filter(|_| offset.is_multiple_of(8));
                if let Some(word) = index.and_then(|at| words.get_mut(at)) {
                    *word = value;
                }
            }
        }
        Some(words)
    }

    /// Addresses of aligned words in writable segments (which hold all pointers of position-independent files) that
    /// have this value, in the file or through a relative relocation; at most 64.
    pub fn places_of(&self, image: &[u8], value: u64) -> Vec<u64> {
        let mut places = Vec::new();
        let needle = memchr::memmem::Finder::new(&value.to_le_bytes()).into_owned();
        for segment in self.segments.iter().filter(|s| s.writable) {
            let bytes = range_of(image, &segment.file).unwrap_or_default();
            for at in needle.find_iter(bytes) {
                let place = u64::try_from(at).ok().and_then(|at| segment.address.start.checked_add(at));
                places.extend(place.filter(|p| p.is_multiple_of(8)));
                if places.len() >= MAX_PLACES {
                    return places;
                }
            }
        }
        for (place, _) in self.relative_relocations(image).filter(|(_, target)| *target == value) {
            if places.len() >= MAX_PLACES {
                break;
            }
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The bytes of `DT_RELA`.
    fn rela_table<'a>(&self, image: &'a [u8]) -> Option<&'a [u8]> {
        let table = range_of(image, &self.dynamic_table)?;
        let entry = |wanted: u64| {
            let mut entries = table.chunks_exact(16).take(MAX_DYNAMIC);
            entries.find(|e| u64_at(e, 0) == Some(wanted)).and_then(|e| u64_at(e, 8))
        };
        let (address, size) = (entry(DT_RELA)?, usize::try_from(entry(DT_RELASZ)?).ok()?);
        let bytes = self.bytes_to_segment_end(image, address)?;
        Some(bytes.get(..size).unwrap_or(bytes))
    }
}
