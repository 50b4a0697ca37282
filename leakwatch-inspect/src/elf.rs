//! The file as ELF: segments, sections, symbols, and addresses <-> file offsets.

use std::ops::Range;

/// Why a file cannot be inspected at all.
#[derive(Debug, thiserror::Error)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// arm64.
    Aarch64,
}

/// How the file is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfKind {
    /// Fixed addresses (`ET_EXEC`).
    Executable,
    /// Position independent (`ET_DYN`): a load bias is to be added.
    PositionIndependent,
}

/// A `PT_LOAD` segment.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Link-time addresses (empty when it is not loaded).
    pub address: Range<u64>,
    /// Where its bytes stand in the file (empty for `.bss`; clipped to the file's end).
    pub file: Range<u64>,
}

/// An ELF file's headers and tables. Does not borrow the image: methods that need bytes take it again.
#[derive(Debug)]
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
}
