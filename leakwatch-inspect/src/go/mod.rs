//! Facts of a Go binary: version, build flavour, functions and lines, probe sites, layouts, globals.
//!
//! Knowledge that differs between Go versions lives in `layouts.toml` (data) and in `pclntab.rs` (header
//! formats); nothing else may compare versions.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod arm64;
mod code;
pub(crate) mod disasm;
pub mod dwarf;
pub mod globals;
pub mod layout;
pub mod pclntab;
mod probes;
pub mod version;

use std::sync::Arc;

use crate::{Elf, ElfKind, ProbeSite, Problem};
use code::Code;
use layout::GoLayout;
use pclntab::{Pclntab, PclntabLocation};
use version::{BuildInfo, GoVersion};

/// Most wait reasons that are read; 1.27 has 45.
const MAX_WAIT_REASONS: usize = 64;

/// Where a fact was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Global {
    /// Link-time virtual address.
    pub address: u64,
    /// How it was found.
    pub source: Source,
}

/// The runtime's globals that readers of a process's memory need. `None`: not found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
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
    /// `runtime.mheap_`, the `mheap`.
    pub mheap: Option<Global>,
    /// `runtime.semtable`, 251 semaphore roots.
    pub semtable: Option<Global>,
    /// `runtime.allp`, a slice header {ptr, len, cap} of `*p`.
    pub allp: Option<Global>,
}

/// What the Go toolchain and its flags made of the binary.
#[expect(clippy::struct_excessive_bools, reason = "independent findings, not states")]
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
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
#[derive(Debug, serde::Deserialize, serde::Serialize)]
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
    /// Wait reasons by `g.waitreason`: the binary's own texts, else the table's for this version.
    pub wait_reasons: Arc<[String]>,
    /// What is missing or odd.
    pub problems: Vec<Problem>,
}

impl GoFacts {
    /// Whether its tracebacks have the labels of goroutines: `GODEBUG=tracebacklabels` is on by default from Go 1.27,
    /// unless the program's module asks for an older behaviour (`DefaultGODEBUG` in its build info).
    pub fn prints_labels(&self) -> bool {
        let old = |(name, value): &(String, String)| {
            name == "DefaultGODEBUG" && value.split(',').any(|setting| setting == "tracebacklabels=0")
        };
        self.version.as_ref().is_some_and(|version| version.at_least(1, 27)) && !self.settings.iter().any(old)
    }
}

/// Looks for a Go runtime; `None` when there is none.
pub(crate) fn inspect(elf: &Elf, image: &[u8]) -> Option<GoFacts> {
    let build_info = version::find_build_info(elf, image);
    let mut problems = Vec::new();
    let location = match Pclntab::locate(elf, image) {
        Ok(location) => Some(location),
        Err(_) if build_info.is_none() => return None,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    let code =
        location.as_ref().and_then(|location| Some(Code::new(elf, image, &Pclntab::new(image, location)?)));

    let mut sites = code.as_ref().map(probes::find).unwrap_or_default();
    problems.append(&mut sites.problems);

    let from_code = match (&code, &location) {
        (Some(code), Some(location)) => globals::find(code, location),
        _ => GoGlobals::default(),
    };
    let (globals, mut missing) = globals::combine(globals::from_symbols(elf, image), from_code);
    problems.append(&mut missing);

    let (version, version_source) = version_of(elf, image, build_info.as_ref(), location.as_ref());
    // A program that has such a table or such build information among its data, as one that inspects Go programs has, is
    // none: no version but one that is guessed from texts, and nothing of a runtime.
    let nothing = sites.start.is_none() && sites.end.is_none() && globals == GoGlobals::default();
    let told = version_source == Some(Source::BuildInfo);
    if nothing && (location.is_none() && !told || build_info.is_none() && version.is_none()) {
        return None;
    }
    let mut layout = layout::find(elf, image, version.as_ref(), code.as_ref());
    problems.append(&mut layout.problems);
    let in_binary = globals.wait_reason_strings.map_or_else(Vec::new, |strings| {
        globals::read_wait_reasons(elf, image, strings.address, MAX_WAIT_REASONS)
    });
    let build_info = build_info.unwrap_or_default();
    Some(GoFacts {
        version,
        version_source,
        flavour: flavour(elf, code.as_ref(), &build_info.settings),
        main_path: build_info.main_path,
        settings: build_info.settings,
        pclntab: location,
        start: sites.start,
        end: sites.end,
        layout: layout.layout,
        globals,
        wait_reasons: wait_reasons(in_binary, layout.wait_reasons).into(),
        problems,
    })
}

/// Wait reasons as they stand in the binary. The table tells where they end, as more texts may follow in memory.
fn wait_reasons(mut binary: Vec<String>, table: &[String]) -> Vec<String> {
    if binary.is_empty() {
        return table.to_vec();
    }
    if binary.starts_with(table) {
        binary.truncate(table.len());
    }
    binary
}

/// The version that the build info tells, else what the data looks like.
fn version_of(
    elf: &Elf,
    image: &[u8],
    build_info: Option<&BuildInfo>,
    location: Option<&PclntabLocation>,
) -> (Option<GoVersion>, Option<Source>) {
    if let Some(version) = build_info.and_then(|info| GoVersion::parse(&info.version)) {
        return (Some(version), Some(Source::BuildInfo));
    }
    match version::guess_version(elf, image, location) {
        Some(version) => (Some(version), Some(Source::Guess)),
        None => (None, None),
    }
}

/// What the sections, functions and build settings tell of the way it was built.
fn flavour(elf: &Elf, code: Option<&Code<'_>>, settings: &[(String, String)]) -> BuildFlavour {
    let has_section = |name| (!elf.sections.is_empty()).then(|| elf.section(name).is_some());
    let setting = |key: &str| settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    BuildFlavour {
        pie: elf.kind == ElfKind::PositionIndependent,
        // Assembly of package runtime/cgo that is linked in whenever the package is.
        cgo: code.is_some_and(|code| code.function("crosscall2").is_some()),
        // Comes with crti.o, which only the C compiler's driver links in.
        external_link: has_section(".init"),
        stripped: !elf.symtab,
        no_dwarf: !elf.dwarf,
        trimpath: (!settings.is_empty()).then(|| setting("-trimpath") == Some("true")),
    }
}
