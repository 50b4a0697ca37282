//! Finds the pclntab, `runtime.text` and `go:func.*` in a binary, stripped or not. Must believe no address before
//! function entries were seen to fall into executable memory.
//!
//! moduledata's words, counted in 8 bytes from its start (`runtime/symtab.go`, `moduledata`):
//!
//! | word | Go 1.18, 1.19 | 1.20 - 1.26 | 1.27 |
//! | --- | --- | --- | --- |
//! | 0 | pcHeader | | |
//! | 1, 4, 7, 10, 13 | funcnametab, cutab, filetab, pctab, pclntable | | |
//! | 16, 17 | ftab, its length (functions + 1) | | |
//! | 20, 21 | minpc, maxpc | | |
//! | 22, 23 | text, etext | | |
//! | gofunc | 38 | 40 | 43 |
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::header::{Format, Header, Read, candidates};
use super::{Pclntab, PclntabLocation};
use crate::elf::Elf;
use crate::reader::range_of;
use crate::{Arch, Problem};

/// Where Go's linker puts the table, the second in position-independent files.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Words of moduledata that are read: up to the newest version's gofunc and some more.
const MODULEDATA_WORDS: usize = 56;
const TEXT: usize = 22;
const ETEXT: usize = 23;
/// Where gofunc stands in the versions that we know, newest first, then where later versions may have moved it.
const GOFUNC_WORDS: [usize; 12] = [43, 40, 38, 44, 42, 45, 41, 46, 39, 47, 48, 49];
/// Functions that are tried when an address is validated.
const SAMPLES: usize = 64;
/// Places that begin like a header and are looked at, at most.
const MAX_CANDIDATES: usize = 1024;
/// Headers with tables that fit and are tried, at most: each costs a pass over data, relocations and symbols.
const MAX_HEADERS: usize = 8;
/// Pointers to a header that may be moduledata's, at most: each costs a pass over the relocations.
const MAX_MODULES: usize = 8;

/// See [`Pclntab::locate`].
pub(super) fn locate(elf: &Elf, image: &[u8]) -> Result<PclntabLocation, Problem> {
    let mut too_old = false;
    let mut headers: usize = 0;
    // A header that no moduledata points to may belong to a Go program embedded as data: second choice.
    let mut loose = None;
    for (address, file) in places(elf, image) {
        let Some(bytes) = range_of(image, &file) else { continue };
        match Header::read(bytes, elf.arch) {
            Read::Nothing => {}
            Read::TooOld => too_old = true,
            Read::Header(header) => {
                headers = headers.saturating_add(1);
                match complete(elf, image, &header, address, file) {
                    Some(location) if location.moduledata.is_some() => return Ok(location),
                    Some(location) => loose = loose.or(Some(location)),
                    None => {}
                }
            }
        }
        if headers >= MAX_HEADERS {
            break;
        }
    }
    loose.ok_or_else(|| {
        Problem(if too_old {
            "the function table (gopclntab) is that of Go 1.15 or older; leakwatch reads Go 1.18 and later"
                .into()
        } else {
            "no usable Go function table (gopclntab) was found".into()
        })
    })
}

/// Where a header may stand: the sections made for it, then whatever looks like one in the segments.
fn places<'a>(elf: &'a Elf, image: &'a [u8]) -> impl Iterator<Item = (u64, Range<u64>)> + 'a {
    let sections = SECTIONS.into_iter().filter_map(|name| elf.section(name)).filter_map(|section| {
        let address = section.address.start;
        elf.file_offset(address).is_some().then(|| (address, section.file.clone()))
    });
    let scanned = elf.segments.iter().flat_map(|segment| {
        let bytes = range_of(image, &segment.file).unwrap_or_default();
        candidates(bytes).filter_map(|at| {
            let at = u64::try_from(at).ok()?;
            let start = segment.file.start.checked_add(at)?;
            Some((segment.address.start.checked_add(at)?, start..segment.file.end))
        })
    });
    sections.chain(scanned.take(MAX_CANDIDATES))
}

/// Fills in what the header does not tell; `None` unless function entries are executable.
fn complete(
    elf: &Elf,
    image: &[u8],
    header: &Header,
    address: u64,
    file: Range<u64>,
) -> Option<PclntabLocation> {
    let module = moduledata(elf, image, header, address);
    let word = |at: usize| module.as_ref().and_then(|(_, words)| words.get(at).copied());
    let in_header = elf.pointers(image, address.checked_add(24)?, 1).and_then(|w| w.first().copied());
    let symbol = || elf.symbols(image, ["runtime.text"])[0].map(|s| s.address);
    let mut location = PclntabLocation {
        address,
        file,
        text_start: 0,
        text_end: 0,
        format: header.format.first_minor(),
        functions: u32::try_from(header.functions).ok()?,
        gofunc: None,
        gofunc_file: 0..0,
        moduledata: module.as_ref().map(|(at, _)| *at),
        arch: elf.arch,
    };
    if header.format == Format::Go116 {
        valid(elf, image, &location).then_some(())?;
    } else {
        // moduledata's word is what the runtime itself uses; the header's was its copy until 1.25.
        let starts = [word(TEXT), in_header.filter(|w| *w != 0)].into_iter().flatten();
        let found = starts.chain(std::iter::once_with(symbol).flatten()).find(|start| {
            location.text_start = *start;
            valid(elf, image, &location)
        });
        location.text_start = found?;
    }
    location.text_end = last_entry(image, &location)?;
    if let Some(end) =
        word(ETEXT).filter(|end| *end >= location.text_end && elf.executable_at(end.saturating_sub(1)))
    {
        location.text_end = end;
    }
    for at in GOFUNC_WORDS {
        if let Some(gofunc) = word(at).filter(|_| header.format != Format::Go116)
            && let Some(range) = to_segment_end(elf, gofunc)
        {
            let with = PclntabLocation { gofunc: Some(gofunc), gofunc_file: range, ..location.clone() };
            if Pclntab::new(image, &with).is_some_and(|table| table.inline_trees_are_plausible()) {
                return Some(with);
            }
        }
    }
    Some(location)
}

/// moduledata: the words that begin with a pointer to the header and go on with those to its tables.
fn moduledata(elf: &Elf, image: &[u8], header: &Header, address: u64) -> Option<(u64, Vec<u64>)> {
    let table = |offset: usize| u64::try_from(offset).ok().and_then(|offset| address.checked_add(offset));
    let expected = [
        (0, Some(address)),
        (1, table(header.names)),
        (4, table(header.units)),
        (7, table(header.files)),
        (10, table(header.pcs)),
        (13, table(header.ftab)),
        (16, table(header.ftab)),
        (17, u64::try_from(header.functions).ok().and_then(|n| n.checked_add(1))),
    ];
    elf.places_of(image, address).into_iter().take(MAX_MODULES).find_map(|place| {
        let words = elf.pointers(image, place, MODULEDATA_WORDS)?;
        expected.iter().all(|(at, value)| words.get(*at).copied() == *value).then_some((place, words))
    })
}

/// Do the entries of sampled functions, the first and the last among them, fall into executable memory in order?
fn valid(elf: &Elf, image: &[u8], location: &PclntabLocation) -> bool {
    let Some(table) = Pclntab::new(image, location) else { return false };
    let count = table.len();
    let step = count.div_ceil(SAMPLES).max(1);
    let mut before = 0;
    let indices = (0..count).step_by(step).chain(std::iter::once(count.saturating_sub(1)));
    for index in indices {
        let Some(function) = table.function(index) else { return false };
        let ordered = function.entry >= before && function.end >= function.entry;
        if !ordered
            || !elf.executable_at(function.entry)
            || !elf.executable_at(function.end.saturating_sub(1))
        {
            return false;
        }
        before = function.entry;
    }
    count > 0
}

fn last_entry(image: &[u8], location: &PclntabLocation) -> Option<u64> {
    let table = Pclntab::new(image, location)?;
    table.function(table.len().checked_sub(1)?).map(|f| f.end)
}

/// The file range from an address to the end of its segment.
fn to_segment_end(elf: &Elf, address: u64) -> Option<Range<u64>> {
    let start = elf.file_offset(address)?;
    Some(start..elf.segment_at(address)?.file.end)
}

/// Bytes by which pcs advance in pc-value tables (`MinLC`).
pub(super) fn quantum(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 1,
        Arch::Aarch64 => 4,
    }
}
