//! Where tasks end: `State::transition_to_complete` of `src/runtime/task/state.rs`, wherever it was inlined to.
//!
//! It is `fetch_xor(RUNNING | COMPLETE)` on the first word of the task's header, whose old value is looked at: a loop of
//! `xor reg, 3` and `lock cmpxchg [header], reg`, and behind it a test of the old value's bit 0 or 1 and a branch. That
//! branch is passed once for each task, when it is complete: the loop may be passed more often. All tasks pass here once:
//! those that return, panic, are aborted, or are shut down without ever running, those of `spawn_blocking`, and those
//! that a closed runtime refuses (`OwnedTasks::bind` shuts them down).
//!
//! Must never accept the loop without the test behind it: other programs may have the former.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use iced_x86::{ConditionCode, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use super::code::{Code, number, written};
use super::names::symbols_at;
use super::site;
use crate::{ProbeAction, ProbeSite, Problem};

/// `RUNNING | COMPLETE` of `state.rs`.
const DELTA: u64 = 3;
/// Most instructions between the loop and the branch that is probed.
const MAX_BEHIND: usize = 8;
/// Most bytes between the `xor` and the `cmpxchg`.
const MAX_BETWEEN: usize = 24;

/// Hardware number of rdi, the first argument.
const RDI: u8 = 7;

/// Finds them all, by address.
pub(super) fn find(code: &Code<'_>) -> (Vec<ProbeSite>, Vec<Problem>) {
    let mut functions = BTreeSet::new();
    for (address, text) in code.text() {
        for at in memchr::memmem::find_iter(text, &[0x0f, 0xb1]) {
            let place = u64::try_from(at).ok().and_then(|at| address.checked_add(at));
            let before = text.get(at.saturating_sub(MAX_BETWEEN)..at).unwrap_or_default();
            if let (true, Some(function)) = (may_be(before), place.and_then(|place| code.function_at(place)))
            {
                functions.insert((function.start, function.end));
            }
        }
    }
    let (mut sites, mut problems) = (Vec::new(), Vec::new());
    for (start, end) in functions {
        in_function(code, &(start..end), &mut sites, &mut problems);
    }
    sites.extend(not_inlined(code));
    (sites, problems)
}

/// Where nothing is inlined: the call of `AtomicUsize::fetch_xor(&self, 3, AcqRel)` in a function that is called
/// `transition_to_complete`.
fn not_inlined(code: &Code<'_>) -> Vec<ProbeSite> {
    /// mov esi, 3; mov edx, 3 (`Ordering::AcqRel`); call
    const CALL: [u8; 11] = [0xbe, 3, 0, 0, 0, 0xba, 3, 0, 0, 0, 0xe8];
    let mut calls = BTreeMap::new();
    for (address, text) in code.text() {
        for at in memchr::memmem::find_iter(text, &CALL) {
            let call = u64::try_from(at).ok().and_then(|at| address.checked_add(at)?.checked_add(10));
            if let Some((call, function)) = call.and_then(|call| Some((call, code.function_at(call)?))) {
                calls.insert(call, function);
            }
        }
    }
    let names = symbols_at(code, &calls.values().map(|function| function.start).collect());
    let named = |function: &Range<u64>| {
        let names = names.get(&function.start).map(Vec::as_slice).unwrap_or_default();
        names
            .iter()
            .any(|name| name.contains("task::state::State") && name.contains("transition_to_complete"))
    };
    let sites = calls.into_iter().filter(|(_, function)| named(function)).filter_map(|(call, function)| {
        let instructions = code.decode(&function)?;
        let instruction = instructions.iter().find(|instruction| instruction.ip() == call)?;
        let why =
            "call of fetch_xor in State::transition_to_complete, passed once for each task that completes";
        site(code, ProbeAction::End, &function, instruction, RDI, why)
    });
    sites.collect()
}

/// Are these the bytes up to the opcode of a completion's `lock cmpxchg`? A filter, cheap and generous.
fn may_be(before: &[u8]) -> bool {
    let locked = matches!(before, [.., 0xf0, 0x48..=0x4f]);
    let flips = |bytes: &[u8]| matches!(bytes, [0x48 | 0x49, 0x83, 0xf0..=0xf7, 3]);
    locked && before.windows(4).any(flips)
}

fn in_function(
    code: &Code<'_>,
    function: &Range<u64>,
    sites: &mut Vec<ProbeSite>,
    problems: &mut Vec<Problem>,
) {
    let Some(instructions) = code.decode(function) else {
        problems.push(Problem(format!(
            "the function at {:#x} may complete tasks and cannot be disassembled",
            function.start
        )));
        return;
    };
    for (at, exchange) in instructions.iter().enumerate() {
        if exchange.mnemonic() != Mnemonic::Cmpxchg || !exchange.has_lock_prefix() {
            continue;
        }
        if let Some(completion) = completion(&instructions, at) {
            match place(&instructions, &completion).and_then(|found| {
                site(code, ProbeAction::End, function, found.instruction, found.register, found.why)
            }) {
                Some(site) => sites.push(site),
                None => problems.push(Problem(format!(
                    "tasks complete at {:#x}, where no register holds the task in a way that can be probed",
                    exchange.ip()
                ))),
            }
        }
    }
}

/// A completion's loop.
struct Completion {
    /// Index of its last instruction, the branch back.
    last: usize,
    /// Register that holds the header.
    header: Option<u8>,
}

/// The completion whose `lock cmpxchg` is at this index.
fn completion(instructions: &[Instruction], at: usize) -> Option<Completion> {
    let exchange = instructions.get(at)?;
    let new = (exchange.op1_kind() == OpKind::Register).then(|| number(exchange.op1_register()))??;
    // The new value is the old one, flipped, in the few instructions before.
    let first = at.saturating_sub(4);
    let flip = instructions.get(first..at)?.iter().rev().find(|instruction| {
        instruction.mnemonic() == Mnemonic::Xor
            && number(instruction.op0_register()) == Some(new)
            && is_immediate(instruction.op1_kind())
    })?;
    (flip.immediate(1) == DELTA).then_some(())?;
    // The branch back into the loop.
    let back = instructions.get(at.checked_add(1)?)?;
    let loops = back.condition_code() == ConditionCode::ne
        && back.op0_kind() == OpKind::NearBranch64
        && back.near_branch_target() <= flip.ip()
        && flip.ip().checked_sub(back.near_branch_target())? < 32;
    loops.then_some(())?;
    // The old value, in rax, is tested for one of the two bits.
    let last = at.checked_add(1)?;
    let behind = instructions.get(last.checked_add(1)?..)?;
    let tested = behind.iter().take(MAX_BEHIND).any(|instruction| {
        let of_old = |register| number(register) == Some(0) || instruction.op0_kind() == OpKind::Register;
        match instruction.mnemonic() {
            Mnemonic::Test => {
                of_old(instruction.op0_register())
                    && is_immediate(instruction.op1_kind())
                    && matches!(instruction.immediate(1), 1..=3)
            }
            // `(old & 3) == 1` and `bt old, 0` say the same.
            Mnemonic::And => {
                is_immediate(instruction.op1_kind()) && matches!(instruction.immediate(1), 1..=3)
            }
            Mnemonic::Bt => is_immediate(instruction.op1_kind()) && instruction.immediate(1) < 2,
            _ => false,
        }
    });
    tested.then_some(())?;
    let plain = exchange.memory_index() == Register::None && exchange.memory_displacement64() == 0;
    Some(Completion { last, header: plain.then(|| number(exchange.memory_base()))? })
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32
            | OpKind::Immediate32to64
    )
}

/// An instruction that was chosen.
struct Place<'a> {
    instruction: &'a Instruction,
    register: u8,
    why: &'static str,
}

/// The first instruction behind the loop that the kernel emulates, else the first one.
fn place<'a>(instructions: &'a [Instruction], completion: &Completion) -> Option<Place<'a>> {
    let register = completion.header?;
    let behind = instructions.get(completion.last.checked_add(1)?..)?;
    let mut info = InstructionInfoFactory::new();
    // Up to there no other way leads in, and the header stays in its register.
    let entered = |address: u64| {
        instructions.iter().any(|instruction| {
            instruction.op0_kind() == OpKind::NearBranch64 && instruction.near_branch_target() == address
        })
    };
    for instruction in behind.iter().take(MAX_BEHIND) {
        if entered(instruction.ip()) {
            break;
        }
        if super::emulated(instruction) {
            let why = "branch on the old state behind the compare-and-swap that completes a task, passed once for each";
            return Some(Place { instruction, register, why });
        }
        if written(instruction, &mut info) >> register & 1 == 1 {
            break;
        }
    }
    let instruction = behind.first().filter(|instruction| !entered(instruction.ip()))?;
    Some(Place {
        instruction,
        register,
        why: "first instruction behind the compare-and-swap that completes a task",
    })
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    /// push rax; mov rax, [rdi]; mov rcx, rax; xor rcx, 3; lock cmpxchg [rdi], rcx; jne -14
    const LOOP: [u8; 18] = [
        0x50, 0x48, 0x8b, 0x07, 0x48, 0x89, 0xc1, 0x48, 0x83, 0xf1, 0x03, 0xf0, 0x48, 0x0f, 0xb1, 0x0f, 0x75,
        0xf2,
    ];

    fn probed(behind: &[u8]) -> Option<(u64, u8)> {
        let code = [&LOOP[..], behind].concat();
        let decoder = Decoder::with_ip(64, &code, 0x1000, DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder.into_iter().collect();
        let at = instructions.iter().position(|instruction| instruction.mnemonic() == Mnemonic::Cmpxchg)?;
        let completion = completion(&instructions, at)?;
        let place = place(&instructions, &completion)?;
        Some((place.instruction.ip(), place.register))
    }

    #[test]
    fn the_branch_behind_the_loop_is_probed_and_not_the_one_in_it() {
        assert!(may_be(&LOOP[..13]));
        // test al, 1; je +0; ret
        assert_eq!(probed(&[0xa8, 1, 0x74, 0, 0xc3]), Some((0x1014, 7)));
        // test al, 1; mov rdi, rbx; je +0: the header is not in its register any more, so the first one has to do.
        assert_eq!(probed(&[0xa8, 1, 0x48, 0x89, 0xdf, 0x74, 0, 0xc3]), Some((0x1012, 7)));
    }

    #[test]
    fn a_loop_that_nobody_asks_for_its_old_value_is_no_completion() {
        assert_eq!(probed(&[0xc3]), None);
        // test al, 0x40; je +0
        assert_eq!(probed(&[0xa8, 0x40, 0x74, 0, 0xc3]), None);
    }
}
