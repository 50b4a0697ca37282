//! What registers and words of the frame hold, as far as straight code tells: constants, vtables' addresses, and the
//! address of a task's cell. Must never keep a value that an instruction may have changed.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use super::code::{number, written};

/// Hardware numbers of the registers that a frame is addressed by.
pub(super) const RSP: u8 = 4;
const RBP: u8 = 5;
/// Most instructions of a prologue before the frame pointer is set up.
const MAX_PROLOGUE: usize = 8;

/// What is known of a register's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number.
    Constant(u64),
    /// The address of a task vtable, by its index.
    Vtable(usize),
    /// An address in the frame: rsp or rbp plus a number.
    Frame(u8, i64),
}

/// What is known of all sixteen.
pub(super) type Registers = [Option<Value>; 16];

/// Where a cell's address is held.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Registers, a bit for each.
    pub(super) holders: u16,
    /// Registers that hold an address inside of the cell.
    pub(super) inner: u16,
    /// Words of the frame.
    pub(super) slots: Vec<(u8, i64)>,
    /// Registers that the frame is addressed by.
    pub(super) frame: u16,
}

impl Cell {
    /// In this register, so far.
    pub(super) fn in_register(register: u8, frame: u16) -> Cell {
        Cell { holders: bit(register), inner: 0, slots: Vec::new(), frame }
    }

    /// A register that holds it.
    pub(super) fn holder(&self) -> Option<u8> {
        (0..16_u8).find(|register| self.holders >> register & 1 == 1)
    }

    /// Nothing holds it any more.
    pub(super) fn is_lost(&self) -> bool {
        self.holders == 0 && self.slots.is_empty()
    }

    /// What an instruction makes of it.
    pub(super) fn pass(&mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) {
        let holds = |mask: u16, register| number(register).is_some_and(|from| mask >> from & 1 == 1);
        let copies = instruction.mnemonic() == Mnemonic::Mov;
        let (from, into) = match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Mov, OpKind::Register) => (
                holds(self.holders, instruction.op1_register()),
                holds(self.inner, instruction.op1_register()),
            ),
            (Mnemonic::Mov, OpKind::Memory) => {
                (in_frame(instruction, self.frame).is_some_and(|slot| self.slots.contains(&slot)), false)
            }
            (Mnemonic::Lea, _) => (false, holds(self.holders | self.inner, instruction.memory_base())),
            (Mnemonic::Add, kind) if kind != OpKind::Register && kind != OpKind::Memory => {
                (false, holds(self.holders | self.inner, instruction.op0_register()))
            }
            _ => (false, false),
        };
        let changed = written(instruction, info);
        self.holders &= !changed;
        self.inner &= !changed;
        match instruction.op0_kind() {
            OpKind::Register => {
                let target = number(instruction.op0_register()).map_or(0, bit);
                self.holders |= if from { target } else { 0 };
                self.inner |= if into { target } else { 0 };
            }
            OpKind::Memory => {
                if let Some(slot) = in_frame(instruction, self.frame) {
                    self.slots.retain(|known| *known != slot);
                    self.slots.extend((from && copies).then_some(slot));
                }
            }
            _ => {}
        }
    }
}

/// Which vector registers hold a vtable's address, in their lower and upper half.
#[derive(Default)]
pub(super) struct Vectors([(Option<usize>, Option<usize>); 32]);

impl Vectors {
    /// What a register's halves hold.
    pub(super) fn get(&self, register: usize) -> (Option<usize>, Option<usize>) {
        self.0.get(register).copied().unwrap_or_default()
    }

    /// What an instruction makes of them.
    pub(super) fn pass(&mut self, instruction: &Instruction, registers: &Registers) {
        let Some(target) = vector(instruction.op0_register()) else { return };
        let low =
            |operand| vector(instruction.op_register(operand)).and_then(|register| self.get(register).0);
        let general = |operand| {
            number(instruction.op_register(operand)).and_then(|register| vtable_in(registers, register))
        };
        let last = instruction.op_count().saturating_sub(1);
        let new = match instruction.mnemonic() {
            Mnemonic::Movq | Mnemonic::Vmovq => (general(1), None),
            Mnemonic::Punpcklqdq | Mnemonic::Unpcklpd | Mnemonic::Movlhps => (self.get(target).0, low(1)),
            Mnemonic::Vpunpcklqdq | Mnemonic::Vunpcklpd => (low(1), low(2)),
            Mnemonic::Pinsrq => (self.get(target).0, general(1)),
            Mnemonic::Vpinsrq => (low(1), general(2)),
            Mnemonic::Pshufd | Mnemonic::Vpbroadcastq | Mnemonic::Movddup => (low(1), low(1)),
            mnemonic if is_vector_move(mnemonic) => {
                vector(instruction.op_register(last)).map_or((None, None), |register| self.get(register))
            }
            _ => (None, None),
        };
        if let Some(slot) = self.0.get_mut(target) {
            *slot = new;
        }
    }
}

/// A whole register is moved.
pub(super) fn is_vector_move(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Movups
            | Mnemonic::Movaps
            | Mnemonic::Movdqu
            | Mnemonic::Movdqa
            | Mnemonic::Movq
            | Mnemonic::Movlps
            | Mnemonic::Vmovups
            | Mnemonic::Vmovaps
            | Mnemonic::Vmovdqu
            | Mnemonic::Vmovdqa
            | Mnemonic::Vmovq
    )
}

pub(super) fn known(registers: &Registers, register: u8) -> Option<Value> {
    registers.get(usize::from(register)).copied().flatten()
}

pub(super) fn vtable_in(registers: &Registers, register: u8) -> Option<usize> {
    match known(registers, register) {
        Some(Value::Vtable(vtable)) => Some(vtable),
        _ => None,
    }
}

/// A number that a `mov` moves.
pub(super) fn constant(instruction: &Instruction) -> Option<u64> {
    matches!(instruction.op1_kind(), OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64)
        .then(|| instruction.immediate(1))
}

/// The registers that a function's frame is addressed by: rsp, and rbp where the prologue sets it up for that.
pub(super) fn frame(instructions: &[Instruction]) -> u16 {
    let sets_up = |instruction: &Instruction| {
        instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_register() == Register::RBP
            && instruction.op1_register() == Register::RSP
    };
    let framed = instructions.iter().take(MAX_PROLOGUE).any(sets_up);
    bit(RSP) | if framed { bit(RBP) } else { 0 }
}

/// The word of the frame that is an instruction's memory operand.
pub(super) fn in_frame(instruction: &Instruction, frame: u16) -> Option<(u8, i64)> {
    let base = number(instruction.memory_base()).filter(|base| frame >> base & 1 == 1)?;
    let plain =
        instruction.memory_index() == Register::None && instruction.segment_prefix() == Register::None;
    plain.then(|| (base, instruction.memory_displacement64().cast_signed()))
}

/// Number of a vector register.
pub(super) fn vector(register: Register) -> Option<usize> {
    register.is_vector_register().then(|| register.number()).filter(|number| *number < 32)
}

/// A register's bit.
pub(super) fn bit(register: u8) -> u16 {
    1_u16.checked_shl(u32::from(register)).unwrap_or(0)
}
