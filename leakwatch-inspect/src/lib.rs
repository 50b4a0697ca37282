//! A binary's bytes in, facts out: runtime, version, build flavour, probe sites, layouts, symbols.
//!
//! # Design constraints
//!
//! * Pure: no I/O, no async, no clock, no `unsafe`. The caller has the bytes (usually a memory map).
//! * Foreign input: never panics, never loops without a bound, never sizes an allocation by a number that
//!   it has not checked against the length of the input.
//! * Best effort: what was found is returned together with the [`Problem`]s; a missing fact is `None`, never 0.
//! * All addresses are link-time virtual addresses of the file; adding a process's load bias is the
//!   caller's business.
#![forbid(unsafe_code)]

pub mod btf;
pub mod elf;
pub mod function;
pub mod go;
pub mod jvm;
mod probe;
pub mod python;
mod reader;
pub mod tokio_rt;

pub use elf::{Arch, Elf, ElfKind, InspectError, Section, Segment, Symbol};
pub use probe::{ProbeAction, ProbeSite};

/// Something that is missing or odd in a binary, in one sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Problem(pub String);

/// What a binary's bytes tell.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
pub struct Inspection {
    /// The file as ELF.
    pub elf: Elf,
    /// Facts of the Go runtime linked in, if any.
    pub go: Option<go::GoFacts>,
    /// Facts of each tokio version linked in.
    pub tokio: Vec<tokio_rt::TokioFacts>,
}

/// Reads all facts out of a binary.
///
/// # Errors
/// When the bytes are not an ELF file that we can read at all. A readable file without a supported runtime
/// is not an error: its `go` is `None`.
pub fn inspect(image: &[u8]) -> Result<Inspection, InspectError> {
    let elf = Elf::parse(image)?;
    let go = go::inspect(&elf, image);
    let tokio = tokio_rt::inspect(&elf, image);
    Ok(Inspection { elf, go, tokio })
}
