//! Facts of a Go binary: version, build flavour, functions and lines, probe sites, layouts, globals.
//!
//! Knowledge that differs between Go versions lives in `layouts.toml` (data) and in `pclntab.rs` (header
//! formats); nothing else may compare versions.

pub mod layout;
pub mod pclntab;
pub mod version;

use crate::{Elf, Problem, ProbeSite};
use layout::GoLayout;
use pclntab::PclntabLocation;
use version::GoVersion;

/// Where a fact was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The binary's build info (`.go.buildinfo`).
    BuildInfo,
    /// The binary's own DWARF.
    Dwarf,
    /// The binary's symbol table.
    Symtab,
    /// The code that uses it, disassembled.
    Code,
    /// The table shipped with leakwatch, version inside its ranges.
    Table,
    /// The newest entry of the table: the binary is newer than all we know.
    NewestKnown,
    /// Strings and the shape of the binary.
    Guess,
}

/// A global variable of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Global {
    /// Link-time virtual address.
    pub address: u64,
    /// How it was found.
    pub source: Source,
}

/// The runtime's globals that readers of a process's memory need. `None`: not found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoGlobals {
    /// `runtime.allgs`, a slice header {ptr, len, cap} of `*g`.
    pub allgs: Option<Global>,
    /// `runtime.allglen`, updated after `allgs`.
    pub allglen: Option<Global>,
    /// `runtime.allgptr`, updated before `allglen`.
    pub allgptr: Option<Global>,
    /// `runtime.sched`, a `schedt` (goidgen is its first word).
    pub sched: Option<Global>,
    /// `runtime.waitReasonStrings`, an array of string headers.
    pub wait_reason_strings: Option<Global>,
    /// `runtime.firstmoduledata`.
    pub firstmoduledata: Option<Global>,
}

/// What the Go toolchain and its flags made of the binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildFlavour {
    /// `-buildmode=pie` or an externally linked PIE.
    pub pie: bool,
    /// Linked with cgo code (runtime/cgo is in the binary).
    pub cgo: bool,
    /// Linked by an external linker (`runtime.text` may differ from `.text`).
    pub external_link: Option<bool>,
    /// No `.symtab`.
    pub stripped: bool,
    /// No DWARF.
    pub no_dwarf: bool,
    /// File names are trimmed (`-trimpath`).
    pub trimpath: Option<bool>,
}

/// All that was found out about the Go runtime in a binary.
#[derive(Debug)]
pub struct GoFacts {
    /// Version; `None` when nothing in the binary tells it.
    pub version: Option<GoVersion>,
    /// Where the version stands.
    pub version_source: Option<Source>,
    /// Main package path from the build info, such as `github.com/caddyserver/caddy/v2/cmd/caddy`.
    pub main_path: Option<String>,
    /// Build settings of the build info in their order (`-trimpath`, `CGO_ENABLED`, `vcs.revision` ...).
    pub settings: Vec<(String, String)>,
    /// Flags seen.
    pub flavour: BuildFlavour,
    /// The function and line tables. `None`: the binary cannot be watched by name at all.
    pub pclntab: Option<PclntabLocation>,
    /// Where tasks begin; `None` with a problem that says why.
    pub start: Option<ProbeSite>,
    /// Where tasks end; `None` with a problem that says why.
    pub end: Option<ProbeSite>,
    /// Offsets in `g` and others.
    pub layout: Option<GoLayout>,
    /// Addresses of globals.
    pub globals: GoGlobals,
    /// Wait reasons by `g.waitreason`, from the table for this version. The process's own strings win.
    pub wait_reasons: Vec<String>,
    /// What is missing or odd.
    pub problems: Vec<Problem>,
}

/// Looks for a Go runtime; `None` when there is none.
pub(crate) fn inspect(_elf: &Elf, _image: &[u8]) -> Option<GoFacts> {
    None
}
