//! Struct layouts from the binary's own DWARF.
//!
//! Go's linker puts the types of package runtime into the compile unit named `runtime` (`src/cmd/link/internal/ld/dwarf.go`).
//! Units are read one after the other as they come out of the decompressor, and only that one is parsed: a binary with a
//! hundred megabytes of DWARF costs the size of its largest unit. Must never hold more than 64 MB of it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::io::Read;

use gimli::{AttributeValue, DebugAbbrev, DebugInfo, EndianSlice, LittleEndian};

use super::layout::FIELDS;
use crate::{Elf, Problem};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Largest compile unit that is read. The runtime's has about 200 KB.
const MAX_UNIT: u64 = 64 << 20;
/// Most bytes of `.debug_info` that are gone through in search of the runtime's unit.
const MAX_INFO: u64 = 1 << 30;
/// Largest `.debug_abbrev`; Go's has some hundred bytes, those of external linkers some hundred KB.
const MAX_ABBREV: usize = 16 << 20;
/// The types that are kept. The unit has those of the whole program.
const PREFIX: &[u8] = b"runtime.";
/// Members of all these types together; the runtime of 1.27 has 2,000.
const MAX_MEMBERS: usize = 1 << 16;

/// Offsets and sizes by field name, as [`FIELDS`] names them; fields that this runtime does not have are absent.
pub type Offsets = BTreeMap<&'static str, u32>;

/// Reads the offsets of all [`FIELDS`]. `Ok(None)`: there is no DWARF.
///
/// # Errors
/// When there is DWARF but nothing can be learned from it.
pub fn offsets(elf: &Elf, image: &[u8]) -> Result<Option<Offsets>, Problem> {
    let Some(mut info) = elf.section_reader(image, ".debug_info")? else { return Ok(None) };
    let Some(abbrev) = elf.section_bytes(image, ".debug_abbrev", MAX_ABBREV)? else { return Ok(None) };
    let abbrev = DebugAbbrev::new(&abbrev, LittleEndian);
    let mut unit = Vec::new();
    let mut start = 0_u64;
    while start < MAX_INFO && next_unit(&mut info, &mut unit)? {
        if let Some(structs) = Structs::of_runtime(&unit, start, &abbrev) {
            return Ok(Some(structs.offsets()));
        }
        start = start.saturating_add(unit.len() as u64);
    }
    Err(Problem("the DWARF has no types of package runtime".into()))
}

/// Reads the next unit with its length field into `unit`; false at the end.
fn next_unit(info: &mut impl Read, unit: &mut Vec<u8>) -> Result<bool, Problem> {
    let damaged = |error: std::io::Error| Problem(format!("section .debug_info: {error}"));
    unit.clear();
    if info.take(4).read_to_end(unit).map_err(damaged)? < 4 {
        return Ok(false);
    }
    let mut length = unit.first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    if length == 0xffff_ffff {
        info.take(8).read_to_end(unit).map_err(damaged)?;
        length = unit.last_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    }
    if length > MAX_UNIT {
        return Err(Problem(format!(
            "section .debug_info: a unit of {length} bytes is more than leakwatch reads"
        )));
    }
    let read = info.take(length).read_to_end(unit).map_err(damaged)?;
    if read as u64 == length {
        Ok(true)
    } else {
        Err(Problem("section .debug_info ends inside a unit".into()))
    }
}

/// The structs of a unit.
struct Structs<'a> {
    /// By name; the offset of the type's entry in the section.
    names: BTreeMap<&'a [u8], u64>,
    /// By the offset of the type's entry.
    types: BTreeMap<u64, Type<'a>>,
}

enum Type<'a> {
    Struct {
        size: Option<u64>,
        members: Vec<Member<'a>>,
    },
    /// Another name of the type at this offset.
    Alias(u64),
}

struct Member<'a> {
    name: &'a [u8],
    offset: u64,
    ty: Option<u64>,
}

impl<'a> Structs<'a> {
    /// Parses a unit that starts at `start` of the section if it is the one of package runtime and has type g.
    fn of_runtime(unit: &'a [u8], start: u64, abbrev: &DebugAbbrev<Slice<'_>>) -> Option<Structs<'a>> {
        let header = DebugInfo::new(unit, LittleEndian).units().next().ok()??;
        let abbreviations = header.abbreviations(abbrev).ok()?;
        let mut entries = header.entries_raw(&abbreviations, None).ok()?;
        let root = entries.read_abbreviation().ok()??;
        let mut is_runtime = false;
        for spec in root.attributes() {
            let attribute = entries.read_attribute(*spec).ok()?;
            is_runtime |=
                attribute.name() == gimli::DW_AT_name && string(&attribute.value()) == Some(b"runtime");
        }
        let mut structs = Structs { names: BTreeMap::new(), types: BTreeMap::new() };
        if !is_runtime {
            return None;
        }
        structs.read(&mut entries, start)?;
        structs.names.contains_key(b"runtime.g".as_slice()).then_some(structs)
    }

    fn read(&mut self, entries: &mut gimli::EntriesRaw<'_, Slice<'a>>, start: u64) -> Option<()> {
        let mut current = None;
        let mut members = 0_usize;
        while !entries.is_empty() {
            let here = start.saturating_add(entries.next_offset().0 as u64);
            let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
            let (mut name, mut size, mut offset, mut ty) = (None, None, None, None);
            for spec in abbreviation.attributes() {
                let attribute = entries.read_attribute(*spec).ok()?;
                match attribute.name() {
                    gimli::DW_AT_name => name = string(&attribute.value()),
                    gimli::DW_AT_byte_size => size = attribute.udata_value(),
                    gimli::DW_AT_data_member_location => offset = attribute.udata_value(),
                    gimli::DW_AT_type => ty = reference(&attribute.value(), start),
                    _ => {}
                }
            }
            match (abbreviation.tag(), name) {
                (gimli::DW_TAG_structure_type, name) => {
                    current = None;
                    if let Some(name) = name.filter(|name| name.starts_with(PREFIX)) {
                        self.names.entry(name).or_insert(here);
                        self.types.insert(here, Type::Struct { size, members: Vec::new() });
                        current = Some(here);
                    }
                }
                (gimli::DW_TAG_typedef, Some(name)) if name.starts_with(PREFIX) => {
                    if let Some(ty) = ty {
                        self.types.insert(here, Type::Alias(ty));
                    }
                }
                (gimli::DW_TAG_member, Some(name)) => {
                    let parent = current.and_then(|current| self.types.get_mut(&current));
                    if let (Some(Type::Struct { members: list, .. }), Some(offset)) = (parent, offset) {
                        members = members.checked_add(1).filter(|count| *count <= MAX_MEMBERS)?;
                        list.push(Member { name, offset, ty });
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn offsets(&self) -> Offsets {
        let known = |field: &super::layout::Field| Some((field.name, self.offset(field.name)?));
        FIELDS.iter().filter_map(known).collect()
    }

    /// The offset of `type.field.field`, or the size of `type`.
    fn offset(&self, path: &str) -> Option<u32> {
        let mut parts = path.split('.');
        let root = format!("runtime.{}", parts.next()?);
        let mut ty = Some(*self.names.get(root.as_bytes())?);
        let mut total = 0_u64;
        let mut fields = parts.peekable();
        if fields.peek().is_none() {
            let (size, _) = self.structure(ty?)?;
            return u32::try_from(size?).ok();
        }
        for field in fields {
            let (_, members) = self.structure(ty?)?;
            let member = members.iter().find(|member| member.name == field.as_bytes())?;
            total = total.checked_add(member.offset)?;
            ty = member.ty;
        }
        u32::try_from(total).ok()
    }

    /// The struct at an offset, through at most a few other names.
    fn structure(&self, mut ty: u64) -> Option<(Option<u64>, &[Member<'a>])> {
        for _ in 0..8 {
            match self.types.get(&ty)? {
                Type::Struct { size, members } => return Some((*size, members)),
                Type::Alias(other) => ty = *other,
            }
        }
        None
    }
}

/// A string that stands in the entry itself, as Go writes them.
fn string<'a>(value: &AttributeValue<Slice<'a>>) -> Option<&'a [u8]> {
    match value {
        AttributeValue::String(text) => Some(text.slice()),
        _ => None,
    }
}

/// The section offset of a type that an attribute refers to.
fn reference(value: &AttributeValue<Slice<'_>>, start: u64) -> Option<u64> {
    match value {
        AttributeValue::UnitRef(offset) => Some(start.saturating_add(offset.0 as u64)),
        AttributeValue::DebugInfoRef(offset) => Some(offset.0 as u64),
        _ => None,
    }
}
