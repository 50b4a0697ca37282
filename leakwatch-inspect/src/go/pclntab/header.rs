//! The pclntab's header in its formats. Must accept nothing whose tables do not lie inside of the bytes.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::elf::Arch;
use crate::reader::{array_at, u32_at, u64_at};

/// Magic numbers, from `internal/abi/symtab.go` (`PCLnTabMagic`) of Go 1.27.
const MAGICS: [(u32, Format); 4] = [
    (0xffff_fff1, Format::Go120),
    (0xffff_fff0, Format::Go118),
    (0xffff_fffa, Format::Go116),
    (0xffff_fffb, Format::Go12),
];

/// Bytes 1 to 6 of every header that we read, without the machine's instruction quantum (byte 6).
const MAGIC_TAIL: [u8; 5] = [0xff, 0xff, 0xff, 0, 0];

/// Which Go versions lay out the tables in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Go 1.2 to 1.15: recognised, not read.
    Go12,
    /// Go 1.16 and 1.17: entries are addresses.
    Go116,
    /// Go 1.18 and 1.19: entries are offsets from the header's textStart.
    Go118,
    /// Go 1.20 and later: functions have a start line. Since 1.26 textStart is 0.
    Go120,
}

impl Format {
    pub(super) fn first_minor(self) -> u8 {
        match self {
            Format::Go12 => 2,
            Format::Go116 => 16,
            Format::Go118 => 18,
            Format::Go120 => 20,
        }
    }

    pub(super) fn of_first_minor(minor: u8) -> Option<Format> {
        [Format::Go116, Format::Go118, Format::Go120].into_iter().find(|f| f.first_minor() == minor)
    }

    /// Bytes of one ftab entry: (entry, function offset) as two u32 since 1.18, as two words before.
    pub(super) fn ftab_entry(self) -> usize {
        if matches!(self, Format::Go12 | Format::Go116) { 16 } else { 8 }
    }

    /// Bytes of `_func` before its pcdata offsets (`runtime/runtime2.go`).
    pub(super) fn func_size(self) -> usize {
        match self {
            Format::Go12 | Format::Go118 => 40,
            Format::Go116 | Format::Go120 => 44,
        }
    }

    /// Bytes by which `_func.nameoff` and all after it stand later than in 1.18: the entry was a word before.
    pub(super) fn func_shift(self) -> usize {
        if self == Format::Go116 { 4 } else { 0 }
    }
}

/// Offsets of the header's tables from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) format: Format,
    pub(super) functions: usize,
    /// As in the file; not there before 1.18, 0 in position-independent files and since 1.26.
    pub(super) text_start: u64,
    pub(super) names: usize,
    pub(super) units: usize,
    pub(super) files: usize,
    pub(super) pcs: usize,
    pub(super) ftab: usize,
}

/// What stands at a place that begins like a header.
pub(super) enum Read {
    /// No header, or one whose tables do not fit.
    Nothing,
    /// A header of Go 1.2 to 1.15.
    TooOld,
    /// A header.
    Header(Header),
}

impl Header {
    /// Reads and validates the header that `bytes` begin with.
    pub(super) fn read(bytes: &[u8], arch: Arch) -> Read {
        let quantum = match arch {
            Arch::X86_64 => 1,
            Arch::Aarch64 => 4,
        };
        let Some(magic) = u32_at(bytes, 0) else { return Read::Nothing };
        let Some((_, format)) = MAGICS.into_iter().find(|(m, _)| *m == magic) else { return Read::Nothing };
        if array_at(bytes, 4) != Some([0, 0, quantum, 8]) {
            return Read::Nothing;
        }
        if format == Format::Go12 {
            return Read::TooOld;
        }
        Header::tables(bytes, format).map_or(Read::Nothing, Read::Header)
    }

    fn tables(bytes: &[u8], format: Format) -> Option<Header> {
        // After magic and quanta: nfunc, nfiles, (textStart since 1.18,) then five offsets.
        let word = |at: usize| u64_at(bytes, at.checked_mul(8)?);
        let offset = |at: usize| word(at).and_then(|w| usize::try_from(w).ok());
        let first: usize = if format == Format::Go116 { 3 } else { 4 };
        let at = |n: usize| offset(first.checked_add(n)?);
        let header = Header {
            format,
            functions: offset(1)?,
            text_start: if format == Format::Go116 { 0 } else { word(3)? },
            names: at(0)?,
            units: at(1)?,
            files: at(2)?,
            pcs: at(3)?,
            ftab: at(4)?,
        };
        let ordered = [header.names, header.units, header.files, header.pcs, header.ftab].is_sorted();
        let header_size = first.checked_add(5)?.checked_mul(8)?;
        (ordered && header.names >= header_size && header.functions > 0).then_some(())?;
        // The ftab has one entry more than functions, of which only the first half is meant.
        let ftab_end =
            header.functions.checked_add(1)?.checked_mul(format.ftab_entry())?.checked_add(header.ftab)?;
        (ftab_end <= bytes.len()).then_some(header)
    }
}

/// Offsets in `bytes` at which a header may begin: aligned, with the right magic and quanta.
pub(super) fn candidates(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    memchr::memmem::find_iter(bytes, &MAGIC_TAIL)
        .filter_map(|at| at.checked_sub(1))
        .filter(|at| at.is_multiple_of(8))
}
