//! Where functions begin in a binary without symbols and unwind tables: where calls and pointers lead to.
//!
//! Compilers align functions to 16 bytes and fill the gap. An aligned address that is called, or any address that a pointer
//! in data has, before which stands a filler or the end of a function, is taken for a function's begin; it ends where the
//! next one begins. Must never be asked where there is a better source: bytes that look like a call may be none, so that
//! a function may be cut in two. What is cut does not decode to its end, or lacks its half, and is refused by whoever
//! looks at it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::data::Data;
use crate::Elf;
use crate::reader::range_of;

const ALIGNMENT: u64 = 16;
/// As many pointers into code in a row are a table of functions: a task's vtable has at least that many.
const TABLE: usize = 7;

/// Bounds of the functions of all executable segments, by address.
pub(super) fn guess(elf: &Elf, image: &[u8], data: &Data) -> Vec<Range<u64>> {
    let mut functions = Vec::new();
    for segment in elf.segments.iter().filter(|segment| segment.executable) {
        let text = range_of(image, &segment.file).unwrap_or_default();
        functions.extend(in_text(segment.address.start, text, data));
    }
    functions.sort_unstable_by_key(|function: &Range<u64>| function.start);
    functions
}

fn in_text(address: u64, text: &[u8], data: &Data) -> Vec<Range<u64>> {
    let slot = |target: u64| {
        let offset = usize::try_from(target.checked_sub(address)?).ok()?;
        let begins = target.is_multiple_of(ALIGNMENT) && offset < text.len() && ends_before(text, offset);
        begins.then_some(offset >> 4)
    };
    let mut begins = vec![false; (text.len() >> 4).saturating_add(1)];
    let mut mark = |target: u64| {
        if let Some(begin) = slot(target).and_then(|slot| begins.get_mut(slot)) {
            *begin = true;
        }
    };
    for at in memchr::memchr_iter(0xe8, text) {
        if let Some([_, a, b, c, d]) = text.get(at..).and_then(|bytes| bytes.first_chunk::<5>()) {
            let displacement = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
            let next = u64::try_from(at).ok().and_then(|at| address.checked_add(at)?.checked_add(5));
            if let Some(next) = next {
                mark(next.wrapping_add_signed(displacement));
            }
        }
    }
    let end =
        u64::try_from(text.len()).ok().and_then(|length| address.checked_add(length)).unwrap_or(address);
    let base = address & !(ALIGNMENT.wrapping_sub(1));
    let mut starts: Vec<u64> = (0_u64..)
        .zip(&begins)
        .filter(|(_, begins)| **begins)
        .filter_map(|(slot, _)| base.checked_add(slot.checked_mul(ALIGNMENT)?))
        .collect();
    // A pointer in data is more than bytes that look like a call: code that is built for size is not aligned. A table of
    // pointers into code is one of functions.
    let offset = |word: u64| {
        let offset = usize::try_from(word.checked_sub(address)?).ok()?;
        (offset < text.len()).then_some(offset)
    };
    for segment in data.segments() {
        for run in segment.words.chunk_by(|one, next| offset(*one).is_some() == offset(*next).is_some()) {
            let table = run.len() >= TABLE;
            let begins =
                |word: &&u64| offset(**word).is_some_and(|offset| table || ends_before(text, offset));
            starts.extend(run.iter().filter(begins));
        }
    }
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([end]);
    starts.iter().zip(ends).map(|(start, end)| *start..end).collect()
}

/// Does a filler or the end of a function stand before this offset?
fn ends_before(text: &[u8], offset: usize) -> bool {
    let before = text.get(offset.saturating_sub(5)..offset).unwrap_or_default();
    // int3, nop, ret; the longer nops end in zeros; ud2; jmp rel32, jmp rel8.
    matches!(
        before,
        [] | [.., 0xcc | 0x90 | 0xc3] | [.., 0, 0] | [.., 0x0f, 0x0b] | [0xe9, ..] | [.., 0xeb, _]
    )
}
