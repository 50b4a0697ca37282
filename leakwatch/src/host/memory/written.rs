//! Which of a process's memory holds data that it wrote: private writable mappings, without the pages that it never
//! touched. A look at an untouched page would make the kernel build page tables for it, so they are left out.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use super::ReadError;
use crate::host::maps::{self, Mapping};

/// A stretch of memory that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its addresses.
    pub range: Range<u64>,
    /// It looks like a thread's stack: the kernel's `[stack]`, or right above a small guard that nothing may touch.
    pub stack: bool,
}

/// Size of a page, and of an entry of `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst).
const PAGE: usize = 4096;
const ENTRY: usize = 8;
/// Bits 62 and 63 of an entry: swapped, present.
const SWAPPED_OR_PRESENT: u64 = 3 << 62;
/// Entries read at once.
const BATCH: usize = 1 << 16;
/// Largest guard that threads have (musl, glibc, Rust: 4 to 64 KiB).
const MAX_GUARD: u64 = 64 << 10;

/// The private writable mappings of a process.
pub(super) fn mappings(pid: i32) -> Result<Vec<Written>, ReadError> {
    let failed = |error: &io::Error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => ReadError::Ended,
        Some(libc::EACCES | libc::EPERM) => ReadError::NotPermitted,
        other => ReadError::Other { address: 0, length: 0, errno: other.unwrap_or(0) },
    };
    let text = std::fs::read(format!("/proc/{pid}/maps")).map_err(|error| failed(&error))?;
    let mappings = maps::parse(&text);
    if mappings.is_empty() {
        return Err(ReadError::Ended);
    }
    let mut writable = Vec::new();
    let mut before: Option<&Mapping> = None;
    for mapping in &mappings {
        let stack = is_stack(mapping, before);
        before = Some(mapping);
        if mapping.read && mapping.write && !mapping.shared {
            writable.push(Written { range: mapping.start..mapping.end, stack });
        }
    }
    Ok(writable)
}

/// The touched pages among some addresses, joined. Without that knowledge all of them count as touched.
pub(super) fn touched(pid: i32, addresses: Range<u64>) -> Vec<Range<u64>> {
    let pages = File::open(format!("/proc/{pid}/pagemap"));
    pages.and_then(|pages| touched_pages(&pages, &addresses)).unwrap_or_else(|_unknown| vec![addresses])
}

fn is_stack(mapping: &Mapping, before: Option<&Mapping>) -> bool {
    let named = mapping.path.as_ref().is_some_and(|path| path.as_os_str() == "[stack]");
    let guarded = before.is_some_and(|guard| {
        guard.end == mapping.start
            && !(guard.read || guard.write || guard.execute)
            && guard.end - guard.start <= MAX_GUARD
    });
    named || guarded
}

fn touched_pages(pages: &File, mapping: &Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let most = usize::try_from((mapping.end - mapping.start) / PAGE as u64).unwrap_or(BATCH);
    let mut entries = vec![0; most.clamp(1, BATCH) * ENTRY];
    let mut at = mapping.start;
    while at < mapping.end {
        let page = PAGE as u64;
        let count = usize::try_from((mapping.end - at) / page).unwrap_or(BATCH).clamp(1, BATCH);
        let into = entries.get_mut(..count * ENTRY).unwrap_or_default();
        pages.read_exact_at(into, at / page * ENTRY as u64)?;
        for (entry, address) in into.as_chunks::<ENTRY>().0.iter().zip((at..).step_by(PAGE)) {
            if u64::from_le_bytes(*entry) & SWAPPED_OR_PRESENT == 0 {
                continue;
            }
            let end = address.saturating_add(page).min(mapping.end);
            match ranges.last_mut().filter(|range| range.end == address) {
                Some(range) => range.end = end,
                None => ranges.push(address..end),
            }
        }
        at = at.saturating_add(count as u64 * page);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, letters: &str) -> Mapping {
        let line = format!("{start:x}-{end:x} {letters} 00000000 00:00 0");
        maps::parse(line.as_bytes()).remove(0)
    }

    #[test]
    fn a_stack_has_a_small_guard_below() {
        let (guard, stack) = (mapping(0x1000, 0x2000, "---p"), mapping(0x2000, 0x4000, "rw-p"));
        assert!(is_stack(&stack, Some(&guard)));
        assert!(!is_stack(&stack, Some(&mapping(0x1000, 0x2000, "rw-p"))));
        assert!(!is_stack(&mapping(0x3000, 0x4000, "rw-p"), Some(&guard)), "not next to it");
        assert!(!is_stack(&mapping(0x10_0000, 0x20_0000, "rw-p"), Some(&mapping(0x1000, 0x10_0000, "---p"))));
    }

    #[test]
    fn only_what_was_written_is_there() {
        let ourselves = i32::try_from(std::process::id()).expect("a pid");
        let mut bytes = vec![0_u8; 64 << 12];
        let pages = bytes.as_ptr().addr() as u64;
        let in_ours = |written: &[Written]| {
            let ours = pages..pages + (64 << 12);
            let inside = |range: &Range<u64>| range.start.max(ours.start)..range.end.min(ours.end);
            written
                .iter()
                .map(|w| inside(&w.range))
                .filter(|r| r.start < r.end)
                .map(|r| r.end - r.start)
                .sum::<u64>()
        };
        let of_process = || {
            let mappings = mappings(ourselves).expect("ourselves");
            let touched = |one: &Written| touched(ourselves, one.range.clone());
            let written = mappings
                .iter()
                .flat_map(|one| touched(one).into_iter().map(|range| Written { range, ..*one }));
            written.collect::<Vec<_>>()
        };
        let before = in_ours(&of_process());
        bytes.fill(1);
        let after = in_ours(&of_process());
        assert!(before <= after && after >= 64 << 12, "{before} {after}");
        drop(bytes);
    }
}
