//! The file as ELF: segments, sections, symbols, and addresses <-> file offsets.
//!
//! Must never panic, and never allocate by a size that the file only claims.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod parse;
mod relocations;
mod sections;
mod symbols;

pub use symbols::Symbol;

use std::ops::Range;

use crate::Problem;
use crate::reader::range_of;

/// Why a file cannot be inspected at all.
#[derive(Clone, Debug, thiserror::Error, serde::Deserialize, serde::Serialize)]
#[non_exhaustive]
pub enum InspectError {
    /// Not an ELF file.
    #[error("this is not an ELF file (it starts with {magic:02x?})")]
    NotElf {
        /// The first bytes, at most four.
        magic: Vec<u8>,
    },
    /// ELF of a class or machine that leakwatch does not know.
    #[error("this is a {found} ELF file; leakwatch reads 64-bit little-endian x86-64 and arm64 only")]
    Unsupported {
        /// What it is, such as "32-bit" or "big-endian" or "machine 243 (RISC-V)".
        found: String,
    },
    /// The headers point outside of the file or contradict each other.
    #[error("the ELF file is truncated or corrupt: {what}")]
    Corrupt {
        /// What is wrong.
        what: String,
    },
}

/// Machine of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// arm64.
    Aarch64,
}

/// How the file is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum ElfKind {
    /// Fixed addresses (`ET_EXEC`).
    Executable,
    /// Position independent (`ET_DYN`): a load bias is to be added.
    PositionIndependent,
}

/// A `PT_LOAD` segment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Segment {
    /// Link-time addresses, as long as in memory.
    pub address: Range<u64>,
    /// Where its bytes stand in the file (clipped to the file's end).
    pub file: Range<u64>,
    /// Mapped executable.
    pub executable: bool,
    /// Mapped writable.
    pub writable: bool,
}

/// A section with a name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Link-time addresses (empty when it is not loaded).
    pub address: Range<u64>,
    /// Where its bytes stand in the file (empty for `.bss`; clipped to the file's end).
    pub file: Range<u64>,
    /// Its size as the header says, also where the file is shorter.
    pub size: u64,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// `sh_link`: the section that belongs to it, such as a symbol table's strings.
    pub link: u32,
}

/// An ELF file's headers and tables. Does not borrow the image: methods that need bytes take it again.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
pub struct Elf {
    /// Machine.
    pub arch: Arch,
    /// Fixed or position independent.
    pub kind: ElfKind,
    /// GNU build id, if there is one.
    pub build_id: Option<Vec<u8>>,
    /// Has `PT_INTERP`: starts through the dynamic linker.
    pub dynamic: bool,
    /// Has a symbol table (`.symtab`).
    pub symtab: bool,
    /// Has DWARF (`.debug_info` or `.zdebug_info`).
    pub dwarf: bool,
    /// `PT_LOAD` segments by address.
    pub segments: Vec<Segment>,
    /// Named sections in file order; empty when the section headers were stripped.
    pub sections: Vec<Section>,
    /// What is odd in the headers, such as a file that is shorter than they say.
    pub problems: Vec<Problem>,
    /// `PT_DYNAMIC`'s bytes in the file.
    dynamic_table: Range<u64>,
}

impl Elf {
    /// Reads the headers of a 64-bit little-endian x86-64 or arm64 ELF file.
    ///
    /// # Errors
    /// When it is none, or its program headers cannot be read. Damage elsewhere becomes a [`Problem`] in
    /// [`Elf::problems`].
    pub fn parse(image: &[u8]) -> Result<Elf, InspectError> {
        parse::parse(image)
    }

    /// The GNU build id as `file` prints it.
    pub fn build_id(&self) -> Option<String> {
        let bytes = self.build_id.as_deref()?;
        let digit = |half: u8| char::from_digit(u32::from(half), 16);
        let mut text = String::with_capacity(bytes.len().saturating_mul(2));
        for byte in bytes {
            text.push(digit(byte >> 4)?);
            text.push(digit(byte & 15)?);
        }
        Some(text)
    }

    /// The segment that holds an address.
    pub fn segment_at(&self, address: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.address.start <= address);
        self.segments.get(..after)?.iter().rev().find(|s| s.address.contains(&address))
    }

    /// Where the byte at an address stands in the file; `None` for `.bss` and for what is not loaded.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let segment = self.segment_at(address)?;
        let offset = segment.file.start.checked_add(address.checked_sub(segment.address.start)?)?;
        segment.file.contains(&offset).then_some(offset)
    }

    /// At which address the byte at a file offset is loaded.
    pub fn address_of(&self, file_offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| s.file.contains(&file_offset))?;
        segment.address.start.checked_add(file_offset.checked_sub(segment.file.start)?)
    }

    /// `len` bytes at an address, if all of them are in the file.
    pub fn bytes<'a>(&self, image: &'a [u8], address: u64, len: usize) -> Option<&'a [u8]> {
        self.bytes_to_segment_end(image, address)?.get(..len)
    }

    /// The bytes from an address to the end of what its segment has in the file.
    pub fn bytes_to_segment_end<'a>(&self, image: &'a [u8], address: u64) -> Option<&'a [u8]> {
        let segment = self.segment_at(address)?;
        let start = segment.file.start.checked_add(address.checked_sub(segment.address.start)?)?;
        range_of(image, &(start..segment.file.end)).filter(|b| !b.is_empty())
    }

    /// Is the byte at this address mapped executable?
    pub fn executable_at(&self, address: u64) -> bool {
        self.segment_at(address).is_some_and(|s| s.executable)
    }

    /// Is the byte at this address mapped writable? (Also true for what the dynamic linker protects later.)
    pub fn writable_at(&self, address: u64) -> bool {
        self.segment_at(address).is_some_and(|s| s.writable)
    }

    /// The first section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }
}
