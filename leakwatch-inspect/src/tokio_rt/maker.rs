//! One function that makes tasks: where the vtable's address is written, where cells are allocated and copied, and the
//! first instruction at which a finished task's address is in a register.
//!
//! The function's instructions are followed as they lie, with what is known of registers; nothing is executed. Must never
//! name a site that is reached by another way than that of a task that is made.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use super::code::{Code, number, written};
use super::registers::{
    Cell, RSP, Registers, Value, Vectors, constant, frame, in_frame, is_vector_move, known, vector, vtable_in,
};
use super::vtables::Found;
use super::{FactsAt, VtableForm, emulated};

/// What stands behind the trailer's offset in a cell: the trailer, at most 64 bytes, and the padding to 128.
const MAX_BEHIND_TRAILER: u64 = 64 + 128;
/// The trailer has at least a waker.
const MIN_BEHIND_TRAILER: u64 = 16;
/// Smallest cell.
const MIN_CELL: u64 = 64;
/// Longest way to a site, in instructions.
const MAX_WAY: usize = 400;
/// Instructions behind a call in which its result is looked at.
const MAX_LOOK: usize = 3;
/// Most instructions of a function that only returns a vtable's address (`raw::vtable` where nothing is inlined).
const MAX_GETTER: usize = 8;

const RAX: u8 = 0;
/// The argument registers of the System V ABI: rdi, rsi, rdx, rcx.
const ARGUMENTS: [u8; 4] = [7, 6, 2, 1];
const RDI: u8 = 7;

/// A vtable's address that is stored, or about to be stored by a call (`new_header(out, state, vtable)` where it is not
/// inlined).
#[derive(Clone, Copy, Debug)]
struct Store {
    at: usize,
    vtable: usize,
    base: u8,
    displacement: i64,
}

/// A call, with what is known of its first four arguments.
#[derive(Clone, Copy, Debug)]
struct Call {
    at: usize,
    arguments: [Option<Value>; 4],
}

/// An instruction that was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) instruction: Instruction,
    /// Register that holds the task.
    pub(super) register: u8,
    /// Where its vtable is.
    pub(super) facts: FactsAt,
    pub(super) why: &'static str,
}

/// A function that has a vtable's address in its code.
pub(super) struct Maker<'a> {
    form: VtableForm,
    vtables: &'a [Found],
    instructions: &'a [Instruction],
    /// Registers that the frame is addressed by, a bit for each.
    frame: u16,
    /// Where its jumps go.
    targets: BTreeMap<u64, usize>,
    calls: Vec<Call>,
    stores: Vec<Store>,
    /// The vtables whose address it has, by index.
    pub(super) vtables_used: BTreeSet<usize>,
    /// The vtable whose address is all that it returns.
    pub(super) getter: Option<usize>,
}

impl<'a> Maker<'a> {
    /// Reads a function. `by_address` has the vtables' indices.
    pub(super) fn read(
        form: VtableForm,
        vtables: &'a [Found],
        by_address: &BTreeMap<u64, usize>,
        instructions: &'a [Instruction],
    ) -> Maker<'a> {
        let mut maker = Maker {
            form,
            vtables,
            instructions,
            frame: frame(instructions),
            targets: targets(instructions),
            calls: Vec::new(),
            stores: Vec::new(),
            vtables_used: BTreeSet::new(),
            getter: None,
        };
        maker.pass(by_address);
        maker
    }

    /// Does the function store this vtable's address anywhere?
    pub(super) fn stores(&self, vtable: usize) -> bool {
        self.stores.iter().any(|store| store.vtable == vtable)
    }

    /// The sites for a vtable.
    pub(super) fn places(&self, vtable: usize) -> Vec<Place> {
        self.stores
            .iter()
            .filter(|store| store.vtable == vtable)
            .filter_map(|store| self.place(store))
            .collect()
    }

    /// One pass over the instructions.
    fn pass(&mut self, by_address: &BTreeMap<u64, usize>) {
        let mut registers: Registers = [None; 16];
        let mut vectors = Vectors::default();
        let mut info = InstructionInfoFactory::new();
        // What is known where forward jumps arrive.
        let mut arriving: BTreeMap<u64, Registers> = BTreeMap::new();
        for (at, instruction) in self.instructions.iter().enumerate() {
            if let Some(known) = arriving.remove(&instruction.ip()) {
                let falls_through = at
                    .checked_sub(1)
                    .and_then(|before| self.instructions.get(before))
                    .is_some_and(falls_through);
                registers = if falls_through { both(&registers, &known) } else { known };
            }
            let taken = address_taken(by_address, instruction);
            self.vtables_used.extend(taken);
            if instruction.op0_kind() == OpKind::Memory {
                self.stored(at, instruction, by_address, &registers, &vectors);
            }
            if is_call(instruction) {
                let arguments = ARGUMENTS.map(|register| known(&registers, register));
                self.calls.push(Call { at, arguments });
                let [out, rest @ ..] = arguments;
                let vtable = rest.into_iter().flatten().find_map(|argument| match argument {
                    Value::Vtable(vtable) => Some(vtable),
                    _ => None,
                });
                if let (Some(Value::Frame(base, offset)), Some(vtable)) = (out, vtable) {
                    let displacement = offset.wrapping_add(self.vtable_offset());
                    self.stores.push(Store { at, vtable, base, displacement });
                }
            }
            vectors.pass(instruction, &registers);
            let value = self.value(instruction, &registers, taken);
            let changed = written(instruction, &mut info);
            for (register, slot) in registers.iter_mut().enumerate() {
                if changed >> register & 1 == 1 {
                    *slot = None;
                }
            }
            if let (Some(value), Some(register)) = (value, number(instruction.op0_register()))
                && let Some(slot) = registers.get_mut(usize::from(register))
            {
                *slot = Some(value);
            }
            if let Some(target) = jump_target(instruction).filter(|target| *target > instruction.ip()) {
                let known = arriving.get(&target).map_or(registers, |known| both(known, &registers));
                arriving.insert(target, known);
            }
            let returns = instruction.flow_control() == FlowControl::Return;
            if let (true, true, Some(Value::Vtable(vtable))) =
                (returns, self.instructions.len() <= MAX_GETTER, known(&registers, RAX))
            {
                self.getter = Some(vtable);
            }
        }
    }

    /// What an instruction puts into its first operand, a register.
    fn value(&self, instruction: &Instruction, registers: &Registers, taken: Option<usize>) -> Option<Value> {
        (instruction.op0_kind() == OpKind::Register).then_some(())?;
        if let Some(vtable) = taken {
            return Some(Value::Vtable(vtable));
        }
        match instruction.mnemonic() {
            Mnemonic::Mov if instruction.op1_kind() == OpKind::Register => {
                if instruction.op1_register() == Register::RSP {
                    return Some(Value::Frame(RSP, 0));
                }
                known(registers, number(instruction.op1_register())?)
            }
            Mnemonic::Mov => constant(instruction).map(Value::Constant),
            Mnemonic::Lea => {
                in_frame(instruction, self.frame).map(|(base, offset)| Value::Frame(base, offset))
            }
            _ => None,
        }
    }

    /// Notes a store of a vtable's address.
    fn stored(
        &mut self,
        at: usize,
        instruction: &Instruction,
        by_address: &BTreeMap<u64, usize>,
        registers: &Registers,
        vectors: &Vectors,
    ) {
        let Some(base) = number(instruction.memory_base()) else { return };
        if instruction.memory_index() != Register::None {
            return;
        }
        let displacement = instruction.memory_displacement64().cast_signed();
        let source = instruction.op1_register();
        let (low, high) = match (instruction.mnemonic(), vector(source)) {
            (Mnemonic::Mov, _) if instruction.op1_kind() == OpKind::Register => {
                (number(source).and_then(|source| vtable_in(registers, source)), None)
            }
            (Mnemonic::Mov, _) => {
                (constant(instruction).and_then(|value| by_address.get(&value).copied()), None)
            }
            (mnemonic, Some(source)) if is_vector_move(mnemonic) => vectors.get(source),
            _ => (None, None),
        };
        for (vtable, more) in [(low, 0), (high, 8)] {
            // Through a register that holds an address in the frame it is a store to the frame.
            let (base, displacement) = match known(registers, base) {
                Some(Value::Frame(frame, offset)) => (frame, displacement.wrapping_add(offset)),
                _ => (base, displacement),
            };
            self.stores.extend(vtable.map(|vtable| Store {
                at,
                vtable,
                base,
                displacement: displacement.wrapping_add(more),
            }));
        }
    }

    fn vtable_offset(&self) -> i64 {
        self.form.vtable_offset().cast_signed()
    }

    /// May a cell of this vtable have this size?
    fn fits(&self, vtable: usize, argument: Option<Value>) -> bool {
        let Some(Value::Constant(size)) = argument else { return false };
        match self.vtables.get(vtable).and_then(|table| table.trailer_offset) {
            Some(trailer) => size
                .checked_sub(trailer)
                .is_some_and(|behind| (MIN_BEHIND_TRAILER..=MAX_BEHIND_TRAILER).contains(&behind)),
            None => size >= MIN_CELL && size.is_multiple_of(8),
        }
    }

    /// The site that belongs to a store of a vtable's address: where the cell is in a register for the first time.
    fn place(&self, store: &Store) -> Option<Place> {
        if self.frame >> store.base & 1 == 0 {
            // The cell was allocated before, and is filled where it is.
            (store.displacement == self.vtable_offset()).then_some(())?;
            let cell = Cell::in_register(store.base, self.frame);
            return self.follow(cell, store.at, FactsAt::Task(store.displacement));
        }
        // It is put together in the frame, and allocated before or behind that, and copied.
        let facts = FactsAt::Register { register: store.base, offset: store.displacement };
        let template = Value::Frame(store.base, store.displacement.wrapping_sub(self.vtable_offset()));
        let behind = self.calls.iter().filter(|call| call.at > store.at);
        behind.take_while(|call| self.frame_stays(store.at, call.at)).find_map(|call| {
            let [first, second, third, _] = call.arguments;
            let fits = |argument| self.fits(store.vtable, argument);
            let cell = match (first, second) {
                // memcpy(cell, template, size): it was allocated before.
                (_, Some(from)) if from == template && fits(third) => {
                    return self.follow(Cell::in_register(RDI, self.frame), call.at.checked_sub(1)?, facts);
                }
                // posix_memalign(out, align, size).
                (Some(Value::Frame(base, offset)), Some(Value::Constant(align)))
                    if align.is_power_of_two() && fits(third) =>
                {
                    Cell { holders: 0, inner: 0, slots: vec![(base, offset)], frame: self.frame }
                }
                // Any other allocator has the size among its arguments, and returns the address.
                (Some(Value::Frame(..)), _) => return None,
                _ if self.returns_number(call.at) => return None,
                _ if fits(first) || fits(second) => Cell::in_register(RAX, self.frame),
                _ => return None,
            };
            self.follow(cell, call.at, facts)
        })
    }

    /// Follows a cell's address from behind an instruction on: the first instruction that the kernel emulates with it in
    /// a register, else the first one with it in a register.
    fn follow(&self, cell: Cell, from: usize, facts: FactsAt) -> Option<Place> {
        self.follow_from(cell, from.checked_add(1)?, facts, 2)
    }

    fn follow_from(&self, mut cell: Cell, first: usize, facts: FactsAt, detours: u8) -> Option<Place> {
        let mut info = InstructionInfoFactory::new();
        let mut fallback: Option<Place> = None;
        for at in first..first.saturating_add(MAX_WAY) {
            let instruction = self.instructions.get(at)?;
            // Where a jump leads in, there is another way.
            if at != first && self.targets.contains_key(&instruction.ip()) {
                break;
            }
            let place = |register, why| Place { instruction: *instruction, register, facts, why };
            if let Some(register) = cell.holder() {
                if emulated(instruction) {
                    let why = "first emulated instruction with the new task in a register, passed once for each task";
                    return Some(place(register, why));
                }
                let why = "first instruction with the new task in a register, passed once for each task";
                fallback = fallback.or(Some(place(register, why)));
            }
            match instruction.flow_control() {
                FlowControl::Next => {}
                // Did the allocation fail? The address is loaded behind that.
                FlowControl::ConditionalBranch if cell.holders == 0 => {
                    let onward = detours.checked_sub(1)?;
                    let straight = self.follow_from(cell.clone(), at.checked_add(1)?, facts, onward);
                    if instruction.condition_code() == ConditionCode::e && straight.is_none() {
                        let target = self.index_of(instruction.near_branch_target())?;
                        return self.follow_from(cell, target, facts, onward);
                    }
                    return straight;
                }
                // Part of the cell is copied into it, or all of it.
                FlowControl::Call | FlowControl::IndirectCall if self.copies(&cell, at) => {}
                _ => break,
            }
            cell.pass(instruction, &mut info);
            if cell.is_lost() {
                break;
            }
        }
        fallback
    }

    /// Is a 32-bit number looked at behind this call? It returns no address then.
    fn returns_number(&self, call: usize) -> bool {
        let behind = self.instructions.iter().skip(call.saturating_add(1)).take(MAX_LOOK);
        behind.take_while(|instruction| !is_call(instruction)).any(|instruction| {
            instruction.mnemonic() == Mnemonic::Test && instruction.op0_register() == Register::EAX
        })
    }

    /// Is this call a copy into the cell? Whatever else is called may let the task run.
    fn copies(&self, cell: &Cell, at: usize) -> bool {
        let call = self.calls.iter().find(|call| call.at == at);
        let [_, from, size, _] = call.map_or([None; 4], |call| call.arguments);
        let into = (cell.inner | cell.holders) >> RDI & 1 == 1;
        let all = matches!((from, size), (Some(Value::Frame(..)), Some(Value::Constant(_))));
        into && (cell.inner >> RDI & 1 == 1 || all)
    }

    /// Is the stack pointer the same at both instructions, as far as the code between them tells?
    fn frame_stays(&self, from: usize, to: usize) -> bool {
        let between = self.instructions.get(from..to).unwrap_or_default();
        !between.iter().any(|instruction| {
            let moves = instruction.op0_kind() == OpKind::Register
                && instruction.op0_register() == Register::RSP
                && !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test);
            moves && !matches!(instruction.flow_control(), FlowControl::Return)
        })
    }

    fn index_of(&self, address: u64) -> Option<usize> {
        self.instructions.binary_search_by(|instruction| instruction.ip().cmp(&address)).ok()
    }
}

/// Where nothing is inlined: the first emulated instruction behind a call that returns a new task, else the first one.
pub(super) fn behind_call(form: VtableForm, instructions: &[Instruction], call: usize) -> Option<Place> {
    let facts = FactsAt::Task(form.vtable_offset().cast_signed());
    let behind = instructions.get(call.checked_add(1)?..)?;
    let mut info = InstructionInfoFactory::new();
    let first = behind.first()?;
    for instruction in behind.iter().take(MAX_GETTER) {
        if emulated(instruction) {
            let why =
                "first emulated instruction behind the call that makes the task, passed once for each task";
            return Some(Place { instruction: *instruction, register: RAX, facts, why });
        }
        if instruction.flow_control() != FlowControl::Next || written(instruction, &mut info) & 1 == 1 {
            break;
        }
    }
    let why = "first instruction behind the call that makes the task, passed once for each task";
    Some(Place { instruction: *first, register: RAX, facts, why })
}

/// The calls of a function among these instructions: direct, through a word of data, or through a register that was
/// loaded from one.
pub(super) fn calls_of(code: &Code<'_>, instructions: &[Instruction], callee: u64) -> Vec<usize> {
    let mut loaded: [Option<u64>; 16] = [None; 16];
    let mut info = InstructionInfoFactory::new();
    let mut calls = Vec::new();
    for (at, instruction) in instructions.iter().enumerate() {
        if is_call(instruction) {
            let through =
                number(instruction.op0_register()).filter(|_| instruction.op0_kind() == OpKind::Register);
            let through = through.and_then(|register| loaded.get(usize::from(register)).copied().flatten());
            if code.target(instruction).or(through) == Some(callee) {
                calls.push(at);
            }
        }
        let changed = written(instruction, &mut info);
        for (register, slot) in loaded.iter_mut().enumerate() {
            if changed >> register & 1 == 1 {
                *slot = None;
            }
        }
        if instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && instruction.is_ip_rel_memory_operand()
            && let Some(register) = number(instruction.op0_register())
            && let Some(slot) = loaded.get_mut(usize::from(register))
        {
            *slot = code.data.word(instruction.ip_rel_memory_address());
        }
    }
    calls
}

/// What is known on both ways.
fn both(one: &Registers, other: &Registers) -> Registers {
    let mut known = *one;
    for (slot, other) in known.iter_mut().zip(other) {
        if slot != other {
            *slot = None;
        }
    }
    known
}

fn falls_through(instruction: &Instruction) -> bool {
    !matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Return
            | FlowControl::Exception
            | FlowControl::Interrupt
    )
}

/// Where a jump goes.
fn jump_target(instruction: &Instruction) -> Option<u64> {
    let jumps = matches!(
        instruction.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    );
    (jumps && instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target())
}

fn is_call(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
}

/// The vtable whose address an instruction puts into a register or, at fixed addresses, into memory.
fn address_taken(by_address: &BTreeMap<u64, usize>, instruction: &Instruction) -> Option<usize> {
    let address = match instruction.mnemonic() {
        Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => instruction.ip_rel_memory_address(),
        Mnemonic::Mov => constant(instruction)?,
        _ => return None,
    };
    by_address.get(&address).copied()
}

/// Where a function's jumps go, and how many go there.
fn targets(instructions: &[Instruction]) -> BTreeMap<u64, usize> {
    let mut targets = BTreeMap::new();
    for target in instructions.iter().filter_map(jump_target) {
        let count = targets.entry(target).or_insert(0_usize);
        *count = count.saturating_add(1);
    }
    targets
}
