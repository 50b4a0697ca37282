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
//! Profile-guided builds inline casgstatus into both when the profile has many goroutines. Then other instructions are
//! taken that every goroutine passes exactly once:
//!
//! * Start: the jump into the loop of the inlined `gp.atomicstatus.CompareAndSwap(_Gdead, ...)`, else that
//!   compare-and-swap itself, which nothing contends for in a g that is not running yet.
//! * End: the first push, else the stack check's branch, of the function that ends a goroutine: g is still its argument,
//!   and it runs on g0, whose stack does not grow, so that the function is not entered twice.
//!
//! Must never name an address that is not the start of an instruction.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::code::Code;
use super::disasm::{self, Instruction, Operation};
use crate::{ProbeAction, ProbeSite, Problem};

/// `_Grunning` of `src/runtime/runtime2.go`.
const G_RUNNING: u64 = 2;
/// `_Gdead` of `src/runtime/runtime2.go`.
const G_DEAD: u64 = 6;
/// Hardware number of the first argument's register in Go's register ABI: rax, x0.
const ARGUMENT: u8 = 0;
/// Most instructions between the jump into a compare-and-swap loop and the compare-and-swap.
const MAX_LOOP_ENTRY: usize = 64;
/// Most instructions of a function's prologue.
const MAX_PROLOGUE: usize = 16;

/// The sites of a binary.
#[derive(Debug, Default)]
pub(super) struct Sites {
    pub(super) start: Option<ProbeSite>,
    pub(super) end: Option<ProbeSite>,
    pub(super) problems: Vec<Problem>,
}

/// An instruction that was chosen.
struct Choice {
    instruction: Instruction,
    register: u8,
    why: String,
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
    let name = "runtime.newproc1";
    // The function that runs newproc1 on g0 for every go statement. Were newproc1 inlined there, it would see coroutines
    // only.
    let caller = "runtime.newproc.func1";
    if code.function(caller).is_some() && !calls(code, caller, name)? {
        return Err(Problem(format!(
            "{name} is inlined into {caller}, where leakwatch cannot see goroutines start"
        )));
    }
    let instructions = instructions(code, name)?;
    let choice = last_status_change(code, &instructions).or_else(|| inlined_status_change(&instructions));
    let choice = choice.ok_or_else(|| {
        Problem(format!(
            "{name} changes no goroutine from _Gdead in a way that is known (it does not call runtime.casgstatus for \
             it), so there is no place that sees goroutines start"
        ))
    })?;
    site(code, ProbeAction::Start, name, &choice)
}

/// The last call of casgstatus, if it is from `_Gdead`.
fn last_status_change(code: &Code<'_>, instructions: &[Instruction]) -> Option<Choice> {
    let (instruction, from, _) = status_changes(code, instructions).pop()?;
    let confirmed = match from {
        Some(G_DEAD) => ", as the status constants beside it confirm",
        Some(_) => return None,
        None => "",
    };
    let why = format!(
        "last call of runtime.casgstatus in newproc1: its first argument is the new g{confirmed}, whose creation site and \
         start function are set"
    );
    Some(Choice { instruction, register: ARGUMENT, why })
}

/// Where casgstatus is inlined: the jump into its compare-and-swap loop, else the compare-and-swap.
fn inlined_status_change(instructions: &[Instruction]) -> Option<Choice> {
    let (swap, base) =
        instructions.iter().enumerate().rev().find_map(|(at, instruction)| match instruction.operation {
            Operation::CompareExchange { base, expected: Some(G_DEAD) } => Some((at, base)),
            _ => None,
        })?;
    if let Some(instruction) = loop_entry(instructions, swap, base) {
        let why = "runtime.casgstatus is inlined (profile-guided build): jump into its compare-and-swap loop, passed once \
                   with the new g in the register that the loop swaps through";
        return Some(Choice { instruction, register: base, why: why.into() });
    }
    let why = "runtime.casgstatus is inlined (profile-guided build): its compare-and-swap on the new g";
    Some(Choice { instruction: *instructions.get(swap)?, register: base, why: why.into() })
}

/// The jump by which a loop around the instruction at `swap` is entered, if `register` is the same from there on and if
/// every other way to `swap` comes from behind it.
fn loop_entry(instructions: &[Instruction], swap: usize, register: u8) -> Option<Instruction> {
    let swap_address = instructions.get(swap)?.address;
    let (entry, jump, target) = (swap.saturating_sub(MAX_LOOP_ENTRY)..swap).rev().find_map(|at| {
        let jump = instructions.get(at)?;
        match jump.operation {
            Operation::Jump { target: Some(target) } if (jump.address..=swap_address).contains(&target) => {
                Some((at, jump, target))
            }
            _ => None,
        }
    })?;
    let inside = |address: u64| address > jump.address && address <= swap_address;
    let first = instructions.get(entry..swap)?.iter().position(|i| i.address == target)?;
    let straight = instructions.get(entry.checked_add(first)?..swap)?.iter().all(|instruction| {
        instruction.keeps(register)
            && !matches!(
                instruction.operation,
                Operation::Call { .. } | Operation::Jump { .. } | Operation::Branch { .. }
            )
    });
    let only_back = instructions.iter().enumerate().filter(|(at, _)| *at != entry && *at <= swap).all(
        |(_, instruction)| match instruction.operation {
            Operation::Branch { target } | Operation::Jump { target: Some(target) } => !inside(target),
            _ => true,
        },
    );
    (straight && only_back).then_some(*jump)
}

fn end(code: &Code<'_>) -> Result<ProbeSite, Problem> {
    let (inner, outer) = ("runtime.gdestroy", "runtime.goexit0");
    let name = match (code.function(inner).is_some(), code.function(outer).is_some()) {
        (false, true) => outer,
        (true, true) if !calls(code, outer, inner)? => {
            return Err(Problem(format!(
                "{inner} is inlined into {outer}; goroutines end in two places then, which leakwatch does not support"
            )));
        }
        _ => inner,
    };
    let instructions = instructions(code, name)?;
    let choice = first_status_change(code, &instructions).or_else(|| prologue(&instructions));
    let choice = choice.ok_or_else(|| {
        Problem(format!(
            "{name} changes no goroutine from _Grunning to _Gdead in a way that is known, so there is no place that \
             sees goroutines end"
        ))
    })?;
    site(code, ProbeAction::End, name, &choice)
}

/// The first call of casgstatus, if it is from `_Grunning` to `_Gdead`.
fn first_status_change(code: &Code<'_>, instructions: &[Instruction]) -> Option<Choice> {
    let (instruction, from, to) = status_changes(code, instructions).into_iter().next()?;
    let confirmed = match (from, to) {
        (Some(G_RUNNING), Some(G_DEAD)) => ", as the status constants beside it confirm",
        (Some(G_RUNNING) | None, Some(G_DEAD) | None) => "",
        _ => return None,
    };
    let why = format!(
        "first call of runtime.casgstatus there: its first argument is the g that ends{confirmed}, and still has its \
         creation site"
    );
    Some(Choice { instruction, register: ARGUMENT, why })
}

/// An instruction before the function's argument is moved that is passed once and costs little.
fn prologue(instructions: &[Instruction]) -> Option<Choice> {
    let untouched: Vec<_> = instructions
        .iter()
        .take(MAX_PROLOGUE)
        .take_while(|i| {
            i.keeps(ARGUMENT) && !matches!(i.operation, Operation::Call { .. } | Operation::Jump { .. })
        })
        .collect();
    let push = untouched.iter().find(|i| i.operation == Operation::Push);
    let branch = untouched.iter().find(|i| matches!(i.operation, Operation::Branch { .. }));
    let (instruction, what) = match (push, branch) {
        (Some(push), _) => (push, "push"),
        (None, Some(branch)) => (branch, "stack check"),
        (None, None) => return None,
    };
    let why = format!(
        "runtime.casgstatus is inlined (profile-guided build): the {what} of the prologue, where the g that ends is still \
         the first argument"
    );
    Some(Choice { instruction: **instruction, register: ARGUMENT, why })
}

/// A function's instructions.
fn instructions(code: &Code<'_>, name: &str) -> Result<Vec<Instruction>, Problem> {
    let function =
        code.function(name).ok_or_else(|| Problem(format!("the binary has no function {name}")))?;
    code.instructions(function)
}

/// Does `caller` call `callee`?
fn calls(code: &Code<'_>, caller: &str, callee: &str) -> Result<bool, Problem> {
    let Some(callee) = code.function(callee) else { return Ok(false) };
    let calls =
        |i: &Instruction| matches!(i.operation, Operation::Call { target, .. } if target == callee.entry);
    Ok(instructions(code, caller)?.iter().any(calls))
}

/// The calls of casgstatus by address, with the old and the new status as far as they are constants.
fn status_changes(
    code: &Code<'_>,
    instructions: &[Instruction],
) -> Vec<(Instruction, Option<u64>, Option<u64>)> {
    let Some(casgstatus) = code.function("runtime.casgstatus") else { return Vec::new() };
    let change = |call: &Instruction| match call.operation {
        Operation::Call { target, arguments: [_, from, to] } if target == casgstatus.entry => {
            Some((*call, from, to))
        }
        _ => None,
    };
    instructions.iter().filter_map(change).collect()
}

fn site(code: &Code<'_>, action: ProbeAction, function: &str, choice: &Choice) -> Result<ProbeSite, Problem> {
    let (arch, address) = (code.elf.arch, choice.instruction.address);
    let bytes = code.elf.bytes(code.image, address, usize::from(choice.instruction.length));
    let (Some(bytes), Some(file_offset)) = (bytes, code.elf.file_offset(address)) else {
        return Err(Problem(format!("the probe site {address:#x} in {function} is not in the file")));
    };
    let emulated = disasm::kernel_emulates(arch, bytes);
    let cost = if emulated { "the kernel emulates it" } else { "the kernel has to single-step it" };
    Ok(ProbeSite {
        action,
        function: function.to_owned(),
        address,
        file_offset,
        bytes: bytes.to_vec(),
        text: disasm::text(arch, bytes, address),
        task_register: choice.register,
        emulated,
        reason: format!("{} ({}); {cost}", choice.why, disasm::register_name(arch, choice.register)),
    })
}
