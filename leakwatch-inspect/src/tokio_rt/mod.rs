//! Facts of tokio in a binary: versions, types of tasks, where tasks start and end.
//!
//! Everything is found in code and data, so that stripped programs are no exception; symbols only add names. What is
//! found is cross-checked: a type of task counts as covered when code that makes it and code that completes it are both
//! known. Must never report a site that is not part of tokio: see `vtables` and `ends` for what is asked of each.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod bounds;
mod calls;
mod code;
mod data;
mod ends;
mod locations;
mod maker;
mod names;
mod own;
mod registers;
mod starts;
mod types;
mod version;
mod vtables;

use std::ops::Range;

use iced_x86::Instruction;

pub use calls::{Taken, taken};
pub use locations::SourceLocation;
pub use version::{TokioVersion, may_be_in};

use crate::go::disasm;
use crate::{Arch, Elf, ProbeAction, ProbeSite, Problem};
use code::Code;
use data::Data;

/// Which form the task vtables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
pub enum VtableForm {
    /// tokio 1.20 and before: eight pointers.
    Plain,
    /// tokio 1.21 - 1.22: eight pointers and the trailer's offset.
    Trailer,
    /// tokio 1.23 and later: seven pointers and the offsets of trailer, scheduler and id.
    Offsets,
}

impl VtableForm {
    /// The form that a version has.
    const fn of(version: TokioVersion) -> Self {
        match (version.major, version.minor) {
            (0, _) | (1, 0..TRAILER_SINCE) => Self::Plain,
            (1, TRAILER_SINCE..OFFSETS_SINCE) => Self::Trailer,
            _ => Self::Offsets,
        }
    }

    /// Number of pointers to functions.
    const fn functions(self) -> usize {
        match self {
            Self::Plain | Self::Trailer => 8,
            Self::Offsets => 7,
        }
    }

    /// Offset of the vtable's address in a task's header: before 1.21 the two pointers of the owner's list stand before it.
    pub const fn vtable_offset(self) -> u64 {
        match self {
            Self::Plain => 32,
            Self::Trailer | Self::Offsets => 16,
        }
    }

    /// Offset of the owner's id in a task's header.
    pub const fn owner_offset(self) -> u64 {
        self.vtable_offset().saturating_add(8)
    }
}

/// What kind of task a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum TaskKind {
    /// A future: `spawn`, `spawn_local`.
    Async,
    /// A closure: `spawn_blocking`.
    Blocking,
}

/// Where the word is that holds the task's vtable, when a start is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum FactsAt {
    /// In the task, at this offset.
    Task(i64),
    /// At a register (its hardware number) plus an offset: the cell is still being put together on the stack.
    Register {
        /// Hardware number.
        register: u8,
        /// Added to its value.
        offset: i64,
    },
}

/// Where tasks start.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct StartSite {
    /// What to probe.
    pub site: ProbeSite,
    /// Where the task's vtable is then.
    pub facts: FactsAt,
    /// The vtables of the types that start there.
    pub vtables: Vec<u64>,
}

/// A type of task: what was spawned, with the scheduler that it was spawned on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct TaskType {
    /// Link-time address of its vtable: what a task's header holds, less the load bias.
    pub vtable: u64,
    /// The vtable's functions (`poll` is the first).
    pub functions: Vec<u64>,
    /// Offset of the trailer in a task of this type.
    pub trailer_offset: Option<u64>,
    /// Offset of the scheduler.
    pub scheduler_offset: Option<u64>,
    /// Offset of the task's id.
    pub id_offset: Option<u64>,
    /// Offset of a pointer to the `Location` that spawned it; with `tokio_unstable` only.
    pub spawn_location_offset: Option<u64>,
    /// Future or closure; `None`: not known.
    pub kind: Option<TaskKind>,
    /// The functions that make such tasks, by address.
    pub makers: Vec<u64>,
    /// The future's type as its name was mangled: `my::accept::{closure#0}`, or `{{closure}}` with legacy mangling. Of a
    /// job of `spawn_blocking` the closure's, without tokio's wrapper.
    pub name: Option<String>,
    /// The scheduler's type.
    pub scheduler: Option<String>,
    /// Where the async blocks stand whose code `poll` has, the outermost first where that is known.
    pub locations: Vec<SourceLocation>,
    /// It is the loop of one of tokio's own worker threads, which tokio runs as a blocking job.
    pub worker_loop: bool,
    /// No other type has this name. Equal code of several types may have been merged under one's name.
    pub name_is_certain: bool,
}

/// The first minor version of tokio whose vtables have the trailer's offset.
const TRAILER_SINCE: u16 = 21;
/// The first one whose vtables have all offsets.
const OFFSETS_SINCE: u16 = 23;

/// All that was found out about tokio in a binary.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
pub struct TokioFacts {
    /// Its version; `None`: no file name tells it.
    pub version: Option<TokioVersion>,
    /// Form of the vtables.
    pub form: VtableForm,
    /// The types of tasks, by address of their vtable.
    pub types: Vec<TaskType>,
    /// Where tasks start.
    pub starts: Vec<StartSite>,
    /// Where tasks end.
    pub ends: Vec<ProbeSite>,
    /// What is missing or odd.
    pub problems: Vec<Problem>,
}

/// Looks for tokio: one entry for each version linked in.
pub(crate) fn inspect(elf: &Elf, image: &[u8]) -> Vec<TokioFacts> {
    if elf.arch != Arch::X86_64 {
        return Vec::new();
    }
    let Ok(code) = Code::new(elf, image, Data::read(elf, image)) else { return Vec::new() };
    let versions = version::find(image);
    let named = |minor: Range<u16>| {
        versions.iter().any(|version| version.major == 1 && minor.contains(&version.minor))
    };
    // The older forms have less to be recognised by: they are looked for only where such a version is named, or where
    // tokio is there and no name tells its version.
    let unnamed = version::is_unnamed(image, &versions);
    let forms = [
        (VtableForm::Offsets, true),
        (VtableForm::Trailer, named(TRAILER_SINCE..OFFSETS_SINCE)),
        (VtableForm::Plain, named(0..TRAILER_SINCE)),
    ];
    let mut all = Vec::new();
    for (form, look) in forms {
        if !(look || unnamed) {
            continue;
        }
        let found = vtables::find(&code, form);
        if !found.is_empty() {
            all.extend(types::of_form(&code, form, found, !versions.is_empty() || unnamed));
        }
    }
    if all.iter().all(|made| made.types.is_empty()) {
        return Vec::new();
    }
    let (ends, problems) = ends::find(&code);
    let mut facts = types::by_version(&code, &versions, all, ends, problems);
    name_functions(&code, &mut facts);
    facts
}

/// Gives the sites' functions their names, where symbols tell them.
fn name_functions(code: &Code<'_>, facts: &mut [TokioFacts]) {
    let function = |site: &ProbeSite| code.function_at(site.address).map(|function| function.start);
    let sites =
        facts.iter().flat_map(|facts| facts.starts.iter().map(|start| &start.site).chain(&facts.ends));
    let names = names::symbols_at(code, &sites.filter_map(function).collect());
    for facts in facts {
        for site in facts.starts.iter_mut().map(|start| &mut start.site).chain(&mut facts.ends) {
            if let Some(name) = function(site).and_then(|at| names.get(&at)?.first()) {
                site.function.clone_from(name);
            }
        }
    }
}

/// Does the kernel emulate this instruction?
fn emulated(instruction: &Instruction) -> bool {
    use iced_x86::{Mnemonic, OpKind};
    match instruction.mnemonic() {
        Mnemonic::Nop => instruction.len() == 1,
        Mnemonic::Push => instruction.op0_kind() == OpKind::Register && instruction.len() <= 2,
        Mnemonic::Call | Mnemonic::Jmp => {
            instruction.op0_kind() == OpKind::NearBranch64 && matches!(instruction.len(), 2 | 5)
        }
        _ => instruction.is_jcc_short_or_near(),
    }
}

/// A probe site at an instruction.
fn site(
    code: &Code<'_>,
    action: ProbeAction,
    function: &Range<u64>,
    instruction: &Instruction,
    register: u8,
    why: &str,
) -> Option<ProbeSite> {
    let arch = code.elf.arch;
    let bytes = code.elf.bytes(code.image, instruction.ip(), instruction.len())?;
    let emulated = disasm::kernel_emulates(arch, bytes);
    let cost = if emulated { "the kernel emulates it" } else { "the kernel has to single-step it" };
    Some(ProbeSite {
        action,
        function: format!("{:#x}", function.start),
        address: instruction.ip(),
        file_offset: code.elf.file_offset(instruction.ip())?,
        bytes: bytes.to_vec(),
        text: disasm::text(arch, bytes, instruction.ip()),
        task_register: register,
        emulated,
        reason: format!("{why} ({}); {cost}", disasm::register_name(arch, register)),
    })
}
