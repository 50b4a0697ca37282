//! The load bias: what the kernel added to a position-independent program's addresses.

use leakwatch_inspect::{Elf, ElfKind};

use crate::host::maps::{self, Mapping};

/// `e_entry` of the ELF header.
pub(super) fn entry_of(image: &[u8]) -> Option<u64> {
    image.get(24..32)?.try_into().ok().map(u64::from_le_bytes)
}

/// Run-time address less link-time address; `None` when the file is not mapped as its headers say.
///
/// The kernel tells the program its own entry point (`AT_ENTRY`), which needs no device and inode numbers: those in
/// the list of mappings are not `stat`'s on overlays and btrfs. What follows from it is checked against the
/// mappings. Where the two do not meet (the program was started through another loader) the file's first code
/// mapping counts: its address less that of the segment it belongs to.
pub(super) fn find(
    elf: &Elf,
    link_entry: Option<u64>,
    entry: Option<u64>,
    mappings: &[Mapping],
    inode: u64,
) -> Option<u64> {
    if elf.kind == ElfKind::Executable {
        return Some(0);
    }
    let told = link_entry.zip(entry).and_then(|(link, run)| {
        let file = elf.file_offset(link)?;
        (maps::file_offset(mappings, run) == Some(file)).then(|| run.wrapping_sub(link))
    });
    told.or_else(|| by_inode(elf, mappings, inode))
}

fn by_inode(elf: &Elf, mappings: &[Mapping], inode: u64) -> Option<u64> {
    let code = mappings.iter().filter(|mapping| mapping.execute && mapping.inode == inode);
    code.flat_map(|mapping| elf.segments.iter().map(move |segment| (mapping, segment))).find_map(
        |(mapping, segment)| {
            let into = segment.file.start.checked_sub(mapping.offset)?;
            let begins_here = segment.executable && into < mapping.end - mapping.start;
            begins_here
                .then(|| mapping.start.checked_add(into))
                .flatten()
                .map(|run| run.wrapping_sub(segment.address.start))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x7f12_3456_7000;

    /// Our own executable: a PIE whose code begins in the middle of a page of the file.
    fn own() -> Elf {
        let bytes = std::fs::read("/proc/self/exe").expect("our own bytes");
        Elf::parse(&bytes).expect("an ELF file")
    }

    fn mapping(start: u64, segment: &leakwatch_inspect::Segment, inode: u64) -> Mapping {
        let into = segment.file.start % 4096;
        Mapping {
            start: start + segment.address.start - into,
            end: start + segment.address.end.next_multiple_of(4096),
            offset: segment.file.start - into,
            read: true,
            write: false,
            execute: segment.executable,
            shared: false,
            dev: (8, 1),
            inode,
            path: None,
        }
    }

    #[test]
    fn told_by_the_entry_or_found_by_the_inode() {
        let elf = own();
        assert_eq!(elf.kind, ElfKind::PositionIndependent);
        let segment = elf.segments.iter().find(|segment| segment.executable).expect("code");
        let maps = [mapping(BASE, segment, 77)];
        let link = segment.address.start + 64;
        assert_eq!(find(&elf, Some(link), Some(BASE + link), &maps, 0), Some(BASE), "inode numbers differ");
        assert_eq!(find(&elf, Some(link), Some(1), &maps, 77), Some(BASE), "another loader's entry");
        assert_eq!(find(&elf, None, None, &maps, 77), Some(BASE));
        assert_eq!(
            find(&elf, Some(link), Some(BASE + link + 4096), &maps, 0),
            None,
            "they contradict each other"
        );
        assert_eq!(find(&elf, None, None, &[], 77), None);
    }
}
