//! Probe sites: the two instructions that every goroutine passes, once at its start and once at its end.
//!
//! Both are calls of `runtime.casgstatus(gp *g, oldval, newval uint32)` (`src/runtime/proc.go`, Go 1.18 - 1.27): the
//! kernel emulates a call, and Go's register ABI (`src/cmd/compile/abi-internal.md`) puts gp into rax or x0 there.
//!
//! * Start: the last one inside `newproc1`, `casgstatus(newg, _Gdead, _Grunnable or _Gwaiting)`: g.gopc and g.startpc
//!   are set. The first one there only initialises a g that was never used.
//! * End: the first one inside `gdestroy`, or inside `goexit0` where Go has no gdestroy (before 1.22):
//!   `casgstatus(gp, _Grunning, _Gdead)`.
//!
//! Must never name an address that is not the start of an instruction.

use super::code::Code;
use super::disasm::{self, Instruction, Operation};
use crate::{Arch, ProbeAction, ProbeSite, Problem};

/// `_Grunning` of `src/runtime/runtime2.go`.
const G_RUNNING: u64 = 2;
/// `_Gdead` of `src/runtime/runtime2.go`.
const G_DEAD: u64 = 6;

/// The sites of a binary.
#[derive(Debug, Default)]
pub(super) struct Sites {
    pub(super) start: Option<ProbeSite>,
    pub(super) end: Option<ProbeSite>,
    pub(super) problems: Vec<Problem>,
}

/// A call of casgstatus.
struct StatusChange {
    call: Instruction,
    from: Option<u64>,
    to: Option<u64>,
}

/// Chooses both sites.
pub(super) fn find(code: &Code<'_>) -> Sites {
    let mut sites = Sites::default();
    match start(code) {
        Ok(site) => sites.start = Some(site),
        Err(problem) => sites.problems.push(problem),
    }
    match end(code) {
        Ok(site) => sites.end = Some(site),
        Err(problem) => sites.problems.push(problem),
    }
    sites
}

fn start(code: &Code<'_>) -> Result<ProbeSite, Problem> {
    let function = "runtime.newproc1";
    let changes = status_changes(code, function)?;
    let Some(last) = changes.last() else {
        return Err(Problem(format!(
            "{function} does not call runtime.casgstatus (inlined or rewritten), so there is no place that sees \
             goroutines start"
        )));
    };
    if last.from.is_some_and(|from| from != G_DEAD) {
        return Err(Problem(format!(
            "the last call of runtime.casgstatus in {function} does not change a goroutine from _Gdead, so this \
             runtime starts goroutines in a way that is not known"
        )));
    }
    let why = "last call of runtime.casgstatus in newproc1: the new g is its first argument, creation site and start \
               function are set";
    site(code, ProbeAction::Start, function, last, last.from == Some(G_DEAD), why)
}

fn end(code: &Code<'_>) -> Result<ProbeSite, Problem> {
    let ends = |change: &StatusChange| {
        change.from.is_none_or(|from| from == G_RUNNING) && change.to.is_none_or(|to| to == G_DEAD)
    };
    let mut problem = None;
    for function in ["runtime.gdestroy", "runtime.goexit0"] {
        if code.function(function).is_none() {
            continue;
        }
        match status_changes(code, function) {
            Ok(changes) => {
                if let Some(first) = changes.first().filter(|first| ends(first)) {
                    let confirmed = first.from.is_some() && first.to.is_some();
                    let why = "first call of runtime.casgstatus there: the ending g is its first argument and still \
                               has its creation site";
                    return site(code, ProbeAction::End, function, first, confirmed, why);
                }
            }
            Err(failed) => problem = Some(failed),
        }
    }
    Err(problem.unwrap_or_else(|| {
        Problem(
            "neither runtime.gdestroy nor runtime.goexit0 calls runtime.casgstatus (inlined or rewritten), so there \
             is no place that sees goroutines end"
                .into(),
        )
    }))
}

/// The calls of casgstatus in a function, by address.
fn status_changes(code: &Code<'_>, name: &str) -> Result<Vec<StatusChange>, Problem> {
    let missing = |name: &str| Problem(format!("the binary has no function {name}"));
    let function = code.function(name).ok_or_else(|| missing(name))?;
    let casgstatus = code.function("runtime.casgstatus").ok_or_else(|| missing("runtime.casgstatus"))?;
    let change = |call: &Instruction| match call.operation {
        Operation::Call { target, arguments: [_, from, to] } if target == casgstatus.entry => {
            Some(StatusChange { call: *call, from, to })
        }
        _ => None,
    };
    Ok(code.instructions(function)?.iter().filter_map(change).collect())
}

fn site(
    code: &Code<'_>,
    action: ProbeAction,
    function: &str,
    change: &StatusChange,
    confirmed: bool,
    why: &str,
) -> Result<ProbeSite, Problem> {
    let (arch, address) = (code.elf.arch, change.call.address);
    let bytes = code.elf.bytes(code.image, address, usize::from(change.call.length));
    let (Some(bytes), Some(file_offset)) = (bytes, code.elf.file_offset(address)) else {
        return Err(Problem(format!("the probe site {address:#x} in {function} is not in the file")));
    };
    let register = match arch {
        Arch::X86_64 => "rax",
        Arch::Aarch64 => "x0",
    };
    let emulated = disasm::kernel_emulates(arch, bytes);
    let cost = if emulated { "the kernel emulates it" } else { "the kernel single-steps it" };
    let check = if confirmed { ", confirmed by the status constants beside it" } else { "" };
    Ok(ProbeSite {
        action,
        function: function.to_owned(),
        address,
        file_offset,
        bytes: bytes.to_vec(),
        text: disasm::text(arch, bytes, address),
        task_register: 0,
        emulated,
        reason: format!("{why} ({register}{check}); {cost}"),
    })
}
