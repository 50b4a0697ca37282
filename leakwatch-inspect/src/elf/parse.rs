//! Reads an ELF file's headers. Must never trust a size or an offset of the file: ranges are clipped to the
//! image, counts are capped, and what the headers claim beyond the file is reported as a problem.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::{Arch, Elf, ElfKind, InspectError, Section, Segment};
use crate::Problem;
use crate::reader::{c_string, range_of, slice_at, u16_at, u32_at, u64_at};

/// More loadable segments than any linker makes (a usual file has two to five).
const MAX_SEGMENTS: usize = 1024;
/// More sections than any file we care for.
const MAX_SECTIONS: u64 = 65_536;
/// Longest section name that is kept.
const MAX_SECTION_NAME: usize = 256;
/// Size of an ELF64 header.
const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: u64 = 56;
const SECTION_HEADER_SIZE: u64 = 64;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC: u64 = 2;
const NT_GNU_BUILD_ID: u32 = 3;

pub(super) fn parse(image: &[u8]) -> Result<Elf, InspectError> {
    let (arch, kind) = identify(image)?;
    let mut elf = Elf {
        arch,
        kind,
        build_id: None,
        dynamic: false,
        symtab: false,
        dwarf: false,
        segments: Vec::new(),
        sections: Vec::new(),
        problems: Vec::new(),
        dynamic_table: 0..0,
    };
    let counts = Counts::read(image)?;
    program_headers(&mut elf, image, &counts)?;
    section_headers(&mut elf, image, &counts);
    let has = |name: &str| elf.section(name).is_some_and(|s| !s.file.is_empty());
    elf.dwarf = has(".debug_info") || has(".zdebug_info");
    elf.symtab = elf.sections.iter().any(|s| s.kind == SHT_SYMTAB && !s.file.is_empty());
    if elf.build_id.is_none() {
        let note = elf.section(".note.gnu.build-id").and_then(|s| range_of(image, &s.file));
        elf.build_id = note.and_then(gnu_build_id);
    }
    Ok(elf)
}

fn corrupt(what: impl Into<String>) -> InspectError {
    InspectError::Corrupt { what: what.into() }
}

fn unsupported(found: impl Into<String>) -> InspectError {
    InspectError::Unsupported { found: found.into() }
}

/// Class, byte order, type and machine.
fn identify(image: &[u8]) -> Result<(Arch, ElfKind), InspectError> {
    if !image.starts_with(b"\x7fELF") {
        return Err(InspectError::NotElf { magic: image.iter().take(4).copied().collect() });
    }
    match image.get(4) {
        Some(2) => {}
        Some(1) => return Err(unsupported("32-bit")),
        Some(other) => return Err(corrupt(format!("unknown ELF class {other}"))),
        None => return Err(corrupt("the file ends inside the ELF header")),
    }
    match image.get(5) {
        Some(1) => {}
        Some(2) => return Err(unsupported("big-endian")),
        Some(other) => return Err(corrupt(format!("unknown byte order {other}"))),
        None => return Err(corrupt("the file ends inside the ELF header")),
    }
    if image.len() < HEADER_SIZE {
        return Err(corrupt("the file ends inside the ELF header"));
    }
    let arch = match u16_at(image, 18) {
        Some(62) => Arch::X86_64,
        Some(183) => Arch::Aarch64,
        Some(243) => return Err(unsupported("machine 243 (RISC-V)")),
        Some(21) => return Err(unsupported("machine 21 (PowerPC 64)")),
        Some(22) => return Err(unsupported("machine 22 (S/390)")),
        Some(other) => return Err(unsupported(format!("machine {other}"))),
        None => return Err(corrupt("the file ends inside the ELF header")),
    };
    let kind = match u16_at(image, 16) {
        Some(2) => ElfKind::Executable,
        Some(3) => ElfKind::PositionIndependent,
        Some(1) => return Err(unsupported("relocatable object")),
        Some(4) => return Err(unsupported("core dump")),
        Some(other) => return Err(unsupported(format!("type {other}"))),
        None => return Err(corrupt("the file ends inside the ELF header")),
    };
    Ok((arch, kind))
}

/// Where the two header tables stand and how long they are, with the escape for more than 65,279 entries.
struct Counts {
    program_offset: u64,
    programs: u64,
    section_offset: u64,
    sections: u64,
    names: u64,
}

impl Counts {
    fn read(image: &[u8]) -> Result<Counts, InspectError> {
        let short = || corrupt("the file ends inside the ELF header");
        let program_offset = u64_at(image, 32).ok_or_else(short)?;
        let section_offset = u64_at(image, 40).ok_or_else(short)?;
        let program_size = u16_at(image, 54).ok_or_else(short)?;
        let mut programs = u64::from(u16_at(image, 56).ok_or_else(short)?);
        let section_size = u16_at(image, 58).ok_or_else(short)?;
        let mut sections = u64::from(u16_at(image, 60).ok_or_else(short)?);
        let mut names = u64::from(u16_at(image, 62).ok_or_else(short)?);
        if programs != 0 && u64::from(program_size) != PROGRAM_HEADER_SIZE {
            return Err(corrupt(format!(
                "program headers of {program_size} bytes, not {PROGRAM_HEADER_SIZE}"
            )));
        }
        let table = section_offset != 0 && u64::from(section_size) == SECTION_HEADER_SIZE;
        if let Some(first) = table.then(|| slice_at(image, section_offset, SECTION_HEADER_SIZE)).flatten() {
            // System V ABI, chapter 4: counts that do not fit stand in section header 0.
            if sections == 0 {
                sections = u64_at(first, 32).unwrap_or(0);
            }
            if names == 0xffff {
                names = u32_at(first, 40).map_or(0, u64::from);
            }
            if programs == 0xffff {
                programs = u32_at(first, 44).map_or(0, u64::from);
            }
        }
        if !table {
            sections = 0;
        }
        Ok(Counts { program_offset, programs, section_offset, sections, names })
    }
}

fn program_headers(elf: &mut Elf, image: &[u8], counts: &Counts) -> Result<(), InspectError> {
    let bytes = counts
        .programs
        .checked_mul(PROGRAM_HEADER_SIZE)
        .and_then(|size| slice_at(image, counts.program_offset, size))
        .ok_or_else(|| corrupt("the program headers lie outside of the file"))?;
    let mut missing = 0;
    for header in bytes.chunks_exact(usize::try_from(PROGRAM_HEADER_SIZE).unwrap_or(usize::MAX)) {
        let field = |at| u64_at(header, at).unwrap_or(0);
        let (kind, flags) = (u32_at(header, 0).unwrap_or(0), u32_at(header, 4).unwrap_or(0));
        let (offset, address, file_size, memory_size) = (field(8), field(16), field(32), field(40));
        let file = clip(image, offset, file_size.min(memory_size.max(file_size)));
        match kind {
            PT_LOAD => {
                let end = address.checked_add(memory_size.max(file_size)).ok_or_else(|| {
                    corrupt(format!("the segment at {address:#x} is {memory_size:#x} bytes long"))
                })?;
                if elf.segments.len() >= MAX_SEGMENTS {
                    return Err(corrupt(format!("more than {MAX_SEGMENTS} loadable segments")));
                }
                missing = missing.max(file_size.saturating_sub(length(&file)));
                elf.segments.push(Segment {
                    address: address..end,
                    file,
                    executable: flags & PF_X != 0,
                    writable: flags & PF_W != 0,
                });
            }
            PT_DYNAMIC => elf.dynamic_table = file,
            PT_INTERP => elf.dynamic = true,
            PT_NOTE if elf.build_id.is_none() => {
                elf.build_id = range_of(image, &file).and_then(gnu_build_id);
            }
            _ => {}
        }
    }
    if elf.segments.is_empty() {
        return Err(corrupt("it has no loadable segment"));
    }
    if missing > 0 {
        elf.problems
            .push(Problem(format!("the file is truncated: a loadable segment lacks {missing} bytes")));
    }
    elf.segments.sort_by_key(|s| s.address.start);
    Ok(())
}

fn section_headers(elf: &mut Elf, image: &[u8], counts: &Counts) {
    if counts.sections == 0 {
        return;
    }
    if counts.sections > MAX_SECTIONS {
        elf.problems.push(Problem(format!("{} sections: only {MAX_SECTIONS} were read", counts.sections)));
    }
    let size = counts.sections.min(MAX_SECTIONS).saturating_mul(SECTION_HEADER_SIZE);
    let Some(bytes) = slice_at(image, counts.section_offset, size) else {
        elf.problems.push(Problem("the section headers lie outside of the file: is it truncated?".into()));
        return;
    };
    let headers = || bytes.chunks_exact(usize::try_from(SECTION_HEADER_SIZE).unwrap_or(usize::MAX));
    let names = usize::try_from(counts.names).ok().and_then(|at| headers().nth(at)).and_then(|header| {
        range_of(image, &clip(image, u64_at(header, 24).unwrap_or(0), u64_at(header, 32).unwrap_or(0)))
    });
    if names.is_none() {
        elf.problems.push(Problem("the section names lie outside of the file".into()));
    }
    for header in headers() {
        let word = |at| u32_at(header, at).unwrap_or(0);
        let field = |at| u64_at(header, at).unwrap_or(0);
        let (kind, flags, address, size) = (word(4), field(8), field(16), field(32));
        let name = names.and_then(|n| c_string(n, usize::try_from(word(0)).ok()?, MAX_SECTION_NAME));
        elf.sections.push(Section {
            name: name.map(|n| String::from_utf8_lossy(n).into_owned()).unwrap_or_default(),
            address: if flags & SHF_ALLOC == 0 { 0..0 } else { address..address.saturating_add(size) },
            file: if kind == SHT_NOBITS { 0..0 } else { clip(image, field(24), size) },
            size,
            kind,
            flags,
            link: word(40),
        });
    }
}

/// The part of `offset..offset + size` that is in the file.
fn clip(image: &[u8], offset: u64, size: u64) -> Range<u64> {
    let len = u64::try_from(image.len()).unwrap_or(u64::MAX);
    let start = offset.min(len);
    start..start.saturating_add(size).min(len)
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// The descriptor of the first GNU build id among notes.
fn gnu_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    // Each note takes at least 12 bytes, so this ends.
    loop {
        let name_size = usize::try_from(u32_at(notes, 0)?).ok()?;
        let size = usize::try_from(u32_at(notes, 4)?).ok()?;
        let kind = u32_at(notes, 8)?;
        let name_end = name_size.checked_add(12)?;
        let start = name_end.checked_next_multiple_of(4)?;
        let end = start.checked_add(size)?;
        let (name, descriptor) = (notes.get(12..name_end)?, notes.get(start..end)?);
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && (1..=64).contains(&size) {
            return Some(descriptor.to_vec());
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}
