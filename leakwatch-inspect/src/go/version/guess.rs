//! The version of a binary without build info, by the shape of `runtime.buildVersion`. Must never look longer than
//! one pass over the file's segments and its relocations.
//!
//! Go's linker sets that variable (`cmd/link/internal/ld/data.go`, `addstrdata`): a string header {pointer, length}
//! in a data section, its text in read-only data without a NUL after it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{GoVersion, Stage};
use crate::elf::Elf;
use crate::go::pclntab::PclntabLocation;
use crate::reader::{range_of, u64_at};

/// Texts beginning with `go1.` that are looked at, at most.
const MAX_TEXTS: usize = 16 * 1024;
/// Length of a version's text, from `go1.9` to a development tree's with its commit, date and experiments.
const LENGTHS: std::ops::RangeInclusive<u64> = 5..=200;
const DEVEL: &[u8] = b"devel ";

/// Looks for a Go string in data whose text is a version that agrees with the format of the function table, if there is one:
/// `runtime.buildVersion` is one. A guess, because a program may have such strings of its own. Where they differ,
/// full versions (with a patch number, as toolchains from 1.21 on print them) come before language versions, and
/// newer ones before older.
pub fn guess_version(elf: &Elf, image: &[u8], pclntab: Option<&PclntabLocation>) -> Option<GoVersion> {
    let texts = texts(elf, image);
    let in_place = elf.segments.iter().filter(|s| s.writable).flat_map(|segment| {
        let bytes = range_of(image, &segment.file).unwrap_or_default();
        // Segments may begin at any address, pointers stand at multiples of eight.
        let skip = usize::try_from(segment.address.start.wrapping_neg() & 7).unwrap_or(0);
        let words = bytes.get(skip..).unwrap_or_default().chunks_exact(8);
        let first = segment.address.start.saturating_add(segment.address.start.wrapping_neg() & 7);
        words.zip((first..).step_by(8)).filter_map(|(word, place)| Some((place, u64_at(word, 0)?)))
    });
    let candidates = in_place.chain(elf.relative_relocations(image)).filter_map(|(place, text)| {
        texts.binary_search(&text).ok()?;
        let len = elf.bytes(image, place.checked_add(8)?, 8).and_then(|b| u64_at(b, 0))?;
        let len = usize::try_from(len).ok().filter(|_| LENGTHS.contains(&len))?;
        GoVersion::parse(str::from_utf8(elf.bytes(image, text, len)?).ok()?)
    });
    let agrees = |v: &GoVersion| pclntab.is_none_or(|table| v.has_pclntab_format(table.format));
    candidates.filter(agrees).max_by_key(|v| (v.is_full(), v.clone()))
}

/// Addresses at which a version's text may begin, sorted.
fn texts(elf: &Elf, image: &[u8]) -> Vec<u64> {
    let mut texts = Vec::new();
    for segment in &elf.segments {
        let bytes = range_of(image, &segment.file).unwrap_or_default();
        for at in memchr::memmem::find_iter(bytes, b"go1.") {
            let before = bytes.get(..at).unwrap_or_default();
            let devel = before.ends_with(DEVEL).then(|| at.saturating_sub(DEVEL.len()));
            for at in [Some(at), devel].into_iter().flatten() {
                let address = u64::try_from(at).ok().and_then(|at| segment.address.start.checked_add(at));
                texts.extend(address);
            }
            if texts.len() >= MAX_TEXTS {
                break;
            }
        }
    }
    texts.sort_unstable();
    texts
}

impl GoVersion {
    /// With a patch number or before the release: nothing that a list of language versions has.
    fn is_full(&self) -> bool {
        self.stage != Stage::Release || self.text.matches('.').count() > 1
    }

    /// Does this version write function tables whose format began with Go 1.`first_minor`?
    fn has_pclntab_format(&self, first_minor: u8) -> bool {
        let formats = [16, 18, 20];
        formats.into_iter().rev().find(|first| self.at_least(1, *first)) == Some(u16::from(first_minor))
    }
}
