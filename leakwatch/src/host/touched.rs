//! Which memory of a process was ever written to: what is mapped, and which of its pages are there.
//!
//! `/proc/PID/pagemap` tells of each page whether it is present or swapped, and whether it is the process's own or a
//! file's (Documentation/admin-guide/mm/pagemap.rst). Looking there makes no page present.

use std::{fs::File, ops::Range, os::unix::fs::FileExt as _, path::PathBuf};

use super::{HostError, Process, maps, process::of_proc};

/// Bits of an entry: present, swapped, a page of a file or of shared memory.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// Entries read at once.
const BATCH: u64 = 1 << 15;
/// Most addresses that are looked through. The race detector's and the sanitizers' shadow memory is larger.
const MOST_BYTES: u64 = 2 << 40;

/// The written memory of a process.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// What can be read, by address; ranges do not touch.
    pub ranges: Vec<Range<u64>>,
    /// Bytes that are there and cannot be read: mapped without permission to.
    pub hidden_bytes: u64,
}

impl Touched {
    /// Looks at all of a process's mappings.
    ///
    /// # Errors
    /// [`HostError::Ended`], [`HostError::NotPermitted`], or that more is mapped than can be looked through.
    pub fn of(process: &Process) -> Result<Self, HostError> {
        let pid = process.pid();
        let path = PathBuf::from(format!("/proc/{pid}/pagemap"));
        let pagemap = File::open(&path).map_err(|error| of_proc(pid, "read the page map", &path, error))?;
        let page = rustix::param::page_size() as u64;
        let mut written = Self::default();
        let mut hidden = Self::default();
        let mut total = 0_u64;
        for mapping in maps::of_process(process)? {
            let name = mapping.path.as_deref().and_then(std::path::Path::to_str).unwrap_or_default();
            // The kernel's own pages: nothing in them is the program's, and their page map is empty.
            if name.starts_with("[vvar") || name == "[vsyscall]" || name == "[vdso]" {
                continue;
            }
            total = total.saturating_add(mapping.end.saturating_sub(mapping.start));
            if total > MOST_BYTES {
                let error =
                    std::io::Error::other("more than 2 TiB are mapped (a build with the race detector?)");
                return Err(HostError::File { action: "look through", path, error });
            }
            let shared = mapping.shared && mapping.write;
            let mut at = mapping.start;
            while at < mapping.end {
                let pages = BATCH.min((mapping.end - at) / page);
                if pages == 0 {
                    break;
                }
                let mut bytes = vec![0; usize::try_from(pages * 8).unwrap_or(0)];
                let read = pagemap.read_exact_at(&mut bytes, at / page * 8);
                read.map_err(|error| of_proc(pid, "read the page map", &path, error))?;
                let (entries, _) = bytes.as_chunks::<8>();
                for (address, entry) in (at..).step_by(usize::try_from(page).unwrap_or(4096)).zip(entries) {
                    let entry = u64::from_le_bytes(*entry);
                    let there = entry & (PRESENT | SWAPPED) != 0;
                    if !there || (entry & OF_FILE != 0 && !shared) {
                        continue;
                    }
                    let pages = if mapping.read { &mut written } else { &mut hidden };
                    pages.add(address..address + page);
                }
                at += pages * page;
            }
        }
        written.tell_apart(hidden.ranges, &maps::of_process(process)?);
        Ok(written)
    }

    /// Pages that are there although their mapping could not be read: it is another one by now (a heap that grows maps what it
    /// had reserved), or they are hidden.
    fn tell_apart(&mut self, hidden: Vec<Range<u64>>, now: &[maps::Mapping]) {
        if hidden.is_empty() {
            return;
        }
        for range in hidden {
            let mut seen = 0;
            for mapping in now.iter().filter(|mapping| mapping.read) {
                let (start, end) = (mapping.start.max(range.start), mapping.end.min(range.end));
                if start < end {
                    seen += end - start;
                    self.ranges.push(start..end);
                }
            }
            // What is not mapped any more is not there any more.
            let unmapped = gap(&range, now);
            self.hidden_bytes += (range.end - range.start).saturating_sub(seen + unmapped);
        }
        let mut ranges = std::mem::take(&mut self.ranges);
        ranges.sort_unstable_by_key(|range| range.start);
        for range in ranges {
            self.add(range);
        }
    }

    fn add(&mut self, range: Range<u64>) {
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }
}

/// Bytes of a range that nothing is mapped at.
fn gap(range: &Range<u64>, now: &[maps::Mapping]) -> u64 {
    let mapped =
        |mapping: &maps::Mapping| mapping.end.min(range.end).saturating_sub(mapping.start.max(range.start));
    (range.end - range.start).saturating_sub(now.iter().map(mapped).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reserved_a_moment_ago_is_read_now() {
        let mapping = |start, end, read| maps::Mapping {
            start,
            end,
            offset: 0,
            read,
            write: read,
            execute: false,
            shared: false,
            dev: (0, 0),
            inode: 0,
            path: None,
        };
        let now = [mapping(0x1000, 0x3000, true), mapping(0x3000, 0x8000, false)];
        let mut touched = Touched::default();
        touched.add(0x8000..0x9000);
        touched.tell_apart(vec![0x1000..0x2000, 0x2000..0x4000, 0x9000..0xa000], &now);
        assert_eq!(touched.ranges, [0x1000..0x3000, 0x8000..0x9000]);
        assert_eq!(
            touched.hidden_bytes, 0x1000,
            "0x3000 is mapped and cannot be read; 0x9000 is not there any more"
        );
    }

    #[test]
    fn only_what_was_written_is_there() {
        let page = rustix::param::page_size();
        let mut map = memmap2::MmapMut::map_anon(page * 8).expect("map");
        map[page * 3] = 1;
        let start = map.as_ptr() as u64;
        let process = Process::open(std::process::id()).expect("ourselves");
        let touched = Touched::of(&process).expect("our page map");
        let has = |offset: usize| {
            let address = start + offset as u64;
            touched.ranges.iter().any(|range| range.contains(&address))
        };
        assert!(has(page * 3), "written to");
        assert!(touched.ranges.is_sorted_by_key(|range| range.start));
        // The kernel may have made the whole a huge page; else the others are not there.
        if !has(page * 4) {
            assert!(!has(0) && !has(page * 7));
        }
        let own = Box::new(7_u64);
        let address = std::ptr::from_ref(own.as_ref()) as u64;
        assert!(touched.ranges.iter().any(|range| range.contains(&address)) || page == 0, "the C heap");
    }
}
