//! Who called whom, on a stack of native code: by the unwind tables of the files that a process has mapped, and by frame
//! pointers where a file has none for a place.
//!
//! It works on registers and words of memory that the caller gives, so it does the same on a copy of a stack and on a
//! thread that is blocked. It must never give a return address that no call instruction stands before when no table
//! vouches for it: then the stack ends there, and says so.

mod cfi;

use std::{ops::Range, rc::Rc};

use gimli::{UnwindContext, X86_64};
use leakwatch_common::UserRegisters;
use leakwatch_inspect::Elf;
use rustc_hash::FxHashMap;

use super::modules::{Module, Modules};
use cfi::{Cfi, Row, Step};

/// Registers that are followed: the general ones in DWARF's order, and the return address (System V ABI, AMD64
/// supplement, figure 3.36).
const REGISTERS: u16 = 17;

/// Most frames of one stack.
const MOST_FRAMES: usize = 256;

/// Longest distance between two frame pointers that is believed.
const LONGEST_FRAME: u64 = 8 << 20;

/// `syscall`: the kernel is entered here, and blocked threads stand behind it.
const SYSCALL_LENGTH: u64 = 2;

/// Registers of one frame; those that are not known are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers([Option<u64>; REGISTERS as usize]);

impl Registers {
    /// Those that tell where a thread stands, when nothing else is known of it.
    pub fn at(pc: u64, sp: u64) -> Self {
        let mut registers = Self::default();
        registers.set(X86_64::RA.0, Some(pc));
        registers.set(X86_64::RSP.0, Some(sp));
        registers
    }

    /// Where the frame stands, if that is known.
    pub fn pc(&self) -> Option<u64> {
        self.get(X86_64::RA.0)
    }

    /// Its stack pointer.
    pub fn sp(&self) -> Option<u64> {
        self.get(X86_64::RSP.0)
    }

    /// Its frame pointer's register, whatever the frame keeps there.
    pub fn fp(&self) -> Option<u64> {
        self.get(X86_64::RBP.0)
    }

    fn get(&self, number: u16) -> Option<u64> {
        self.0.get(usize::from(number)).copied().flatten()
    }

    fn set(&mut self, number: u16, value: Option<u64>) {
        if let Some(register) = self.0.get_mut(usize::from(number)) {
            *register = value;
        }
    }
}

impl From<&UserRegisters> for Registers {
    fn from(user: &UserRegisters) -> Self {
        let mut registers = Self::at(user.rip, user.rsp);
        let others = [
            (X86_64::RBP, user.rbp),
            (X86_64::RBX, user.rbx),
            (X86_64::R12, user.r12),
            (X86_64::R13, user.r13),
            (X86_64::R14, user.r14),
            (X86_64::R15, user.r15),
            (X86_64::RDI, user.rdi),
        ];
        for (register, value) in others {
            registers.set(register.0, Some(value));
        }
        registers
    }
}

/// One frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeFrame {
    /// Where it stands: of the innermost the next instruction, of the others the return address.
    pub pc: u64,
    /// Where on the stack that return address is; `None`: in no place on it (the innermost, and what `vfork` was called
    /// by).
    pub at: Option<u64>,
}

/// A stack, innermost frame first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeStack {
    /// Its frames.
    pub frames: Vec<NativeFrame>,
    /// It goes to where the thread began; else it is cut where nothing tells who called.
    pub whole: bool,
}

/// The caller of a frame of code that a runtime made: what no table of a file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeStep {
    /// The return address.
    pub pc: u64,
    /// Where on the stack it is.
    pub at: u64,
    /// The caller's stack pointer.
    pub sp: u64,
    /// The caller's frame pointer's register.
    pub fp: Option<u64>,
}

/// A word of a process's memory or of a copy of it.
type Read<'a> = &'a mut dyn FnMut(u64) -> Option<u64>;

/// Tells the caller of a frame of code that a runtime made.
type RuntimeSteps<'a> = &'a dyn Fn(&Registers, Read<'_>) -> Option<RuntimeStep>;

/// Device and inode of a file.
type FileKey = ((u32, u32), u64);

/// Unwinds stacks; keeps the tables of the files that it met.
#[derive(Debug, Default)]
pub struct NativeUnwinder {
    /// By device and inode, as the mappings name them.
    tables: FxHashMap<FileKey, Option<Rc<Cfi>>>,
    context: Option<Box<UnwindContext<usize>>>,
}

/// How the caller of a frame was found.
enum Found {
    Caller(Box<Step>),
    Start,
    Unknown,
}

impl NativeUnwinder {
    /// The frames of a stack. `read` gives a word of the process's memory.
    pub fn unwind(
        &mut self,
        modules: &mut Modules,
        registers: Registers,
        read: impl FnMut(u64) -> Option<u64>,
    ) -> NativeStack {
        self.unwind_with(modules, registers, read, &|_, _| None)
    }

    /// The same; `runtime` knows the frames of code that no file backs.
    pub fn unwind_with(
        &mut self,
        modules: &mut Modules,
        mut registers: Registers,
        mut read: impl FnMut(u64) -> Option<u64>,
        runtime: RuntimeSteps<'_>,
    ) -> NativeStack {
        let mut stack = NativeStack::default();
        let Some(pc) = registers.get(X86_64::RA.0) else { return stack };
        stack.frames.push(NativeFrame { pc, at: None });
        while stack.frames.len() < MOST_FRAMES {
            let innermost = stack.frames.len() == 1;
            let step = match self.step(modules, &registers, innermost, &mut read, runtime) {
                Found::Caller(step) => step,
                Found::Start => {
                    stack.whole = true;
                    break;
                }
                Found::Unknown => break,
            };
            let (before, after) = (registers.get(X86_64::RSP.0), step.registers.get(X86_64::RSP.0));
            let Some(pc) = step.registers.get(X86_64::RA.0) else { break };
            // A null return address is where a thread begins, by the ABI's advice.
            if pc == 0 {
                stack.whole = true;
                break;
            }
            // A caller's frame is above its callee's; a leaf may have none of its own.
            if after < before || (after == before && !innermost) {
                break;
            }
            stack.frames.push(NativeFrame { pc, at: step.at });
            registers = step.registers;
            // A callee need not preserve it.
            registers.set(X86_64::RDI.0, None);
        }
        stack
    }

    /// The function that a frame stands in, as the tables bound it, at link time; `None`: no table covers it.
    pub fn function_at(&mut self, modules: &Modules, pc: u64, innermost: bool) -> Option<Range<u64>> {
        let (module, link) = modules.at(pc)?;
        let tables = self.tables_of(module, modules)?;
        let link = link?;
        tables.function(if innermost { link } else { link.saturating_sub(1) })
    }

    fn step(
        &mut self,
        modules: &mut Modules,
        registers: &Registers,
        innermost: bool,
        read: Read<'_>,
        runtime: RuntimeSteps<'_>,
    ) -> Found {
        let Some(pc) = registers.get(X86_64::RA.0) else { return Found::Unknown };
        modules.look_again_for(pc);
        let row = self.row(modules, pc, registers, innermost, read);
        match row {
            Row::Caller(step) => Found::Caller(step),
            Row::Start => Found::Start,
            Row::Missing { register, offset, function } if register == X86_64::RBP.0 => {
                match frame_pointer_by_prologue(modules, pc, function, registers, offset, read) {
                    Some(rbp) => {
                        let mut known = *registers;
                        known.set(X86_64::RBP.0, Some(rbp));
                        match self.row(modules, pc, &known, innermost, read) {
                            Row::Caller(step) => Found::Caller(step),
                            _ => Found::Unknown,
                        }
                    }
                    None => Found::Unknown,
                }
            }
            Row::Missing { .. } => Found::Unknown,
            Row::None if modules.is_anonymous(pc) => match runtime(registers, &mut *read) {
                Some(step) => {
                    let mut caller = Registers::at(step.pc, step.sp);
                    caller.set(X86_64::RBP.0, step.fp);
                    Found::Caller(Box::new(Step { registers: caller, at: Some(step.at) }))
                }
                None => by_convention(modules, registers, innermost, read),
            },
            Row::None => by_convention(modules, registers, innermost, read),
        }
    }

    fn row(
        &mut self,
        modules: &Modules,
        pc: u64,
        registers: &Registers,
        innermost: bool,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Row {
        let Some((module, Some(link))) = modules.at(pc) else { return Row::None };
        let Some(tables) = self.tables_of(module, modules) else { return Row::None };
        let context = self.context.get_or_insert_with(|| Box::new(UnwindContext::new()));
        // A return address may be the next function's first when a call never returns.
        let place = if innermost { link } else { link.saturating_sub(1) };
        let row = tables.row(place, registers, context, read);
        if let (Row::None, true) = (&row, innermost) {
            // glibc ends a clone wrapper's entry before its `syscall`, because behind it are two threads; the stack is
            // still as before it (sysdeps/unix/sysv/linux/x86_64/clone3.S).
            return tables.row(link.saturating_sub(SYSCALL_LENGTH + 1), registers, context, read);
        }
        row
    }

    fn tables_of(&mut self, module: &Module, modules: &Modules) -> Option<Rc<Cfi>> {
        let tables = self.tables.entry(module.identity()).or_insert_with(|| {
            let bytes = module.open(modules.dir()).ok()?.read().ok()?;
            Cfi::read(&Elf::parse(&bytes).ok()?, &bytes).map(Rc::new)
        });
        tables.clone()
    }
}

/// Where no table covers a place: a leaf that has pushed nothing has its return address on top of the stack, and code
/// with frame pointers has it above the saved one.
fn by_convention(
    modules: &Modules,
    registers: &Registers,
    innermost: bool,
    read: &mut dyn FnMut(u64) -> Option<u64>,
) -> Found {
    let Some(sp) = registers.get(X86_64::RSP.0) else { return Found::Unknown };
    if innermost
        && let Some(address) = read(sp)
        && is_after_call(modules, address, read)
    {
        let mut caller = *registers;
        caller.set(X86_64::RA.0, Some(address));
        caller.set(X86_64::RSP.0, Some(sp.wrapping_add(8)));
        return Found::Caller(Box::new(Step { registers: caller, at: Some(sp) }));
    }
    let Some(bp) = registers.get(X86_64::RBP.0) else { return Found::Unknown };
    if bp == 0 {
        return Found::Start;
    }
    if bp < sp || bp - sp > LONGEST_FRAME || !bp.is_multiple_of(8) {
        return Found::Unknown;
    }
    let at = bp.wrapping_add(8);
    let (Some(saved), Some(address)) = (read(bp), read(at)) else { return Found::Unknown };
    if address != 0 && !is_after_call(modules, address, read) {
        return Found::Unknown;
    }
    let mut caller = Registers::at(address, bp.wrapping_add(16));
    caller.set(X86_64::RBP.0, Some(saved));
    Found::Caller(Box::new(Step { registers: caller, at: Some(at) }))
}

/// Whether a word is a return address: code of the process, with a call instruction before it.
fn is_after_call(modules: &Modules, address: u64, read: &mut dyn FnMut(u64) -> Option<u64>) -> bool {
    if !modules.is_code(address) {
        return false;
    }
    let Some(before) = address.checked_sub(8).and_then(&mut *read) else { return false };
    ends_with_call(before.to_le_bytes())
}

/// `call rel32`, or `call` of a register or a word in memory: `FF /2`, with the bytes that
/// say where the word is.
fn ends_with_call(bytes: [u8; 8]) -> bool {
    let indirect = |opcode: u8, modrm: u8| opcode == 0xff && (modrm >> 3) & 7 == 2;
    let [_, b1, b2, b3, b4, b5, b6, b7] = bytes;
    b3 == 0xe8 || [(b6, b7), (b5, b6), (b4, b5), (b2, b3), (b1, b2)].into_iter().any(|(a, b)| indirect(a, b))
}

/// The frame pointer of a function that was compiled with one, from its stack pointer at a call: the function's first
/// instructions tell how far the two are apart. A blocked thread's own registers are not to be had from outside.
fn frame_pointer_by_prologue(
    modules: &Modules,
    pc: u64,
    function: u64,
    registers: &Registers,
    offset: i64,
    read: &mut dyn FnMut(u64) -> Option<u64>,
) -> Option<u64> {
    let (_, link) = modules.at(pc)?;
    let start = pc.wrapping_sub(link?.wrapping_sub(function));
    let mut code = Vec::with_capacity(64);
    for at in 0..8 {
        code.extend_from_slice(&read(start.wrapping_add(at * 8))?.to_le_bytes());
    }
    let rbp = registers.get(X86_64::RSP.0)?.checked_add(frame_size(&code)?)?;
    let address = read(rbp.wrapping_add_signed(offset).wrapping_sub(8))?;
    is_after_call(modules, address, read).then_some(rbp)
}

/// Bytes between the frame pointer and the stack pointer of a function that begins so.
fn frame_size(code: &[u8]) -> Option<u64> {
    const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    const SET_FRAME_POINTER: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
    let code = code.strip_prefix(&ENDBR64).unwrap_or(code);
    let mut code = code.strip_prefix(&SET_FRAME_POINTER)?;
    let mut size = 0;
    loop {
        code = match code {
            [0x41, 0x50..=0x57, rest @ ..] | [0x50..=0x57, rest @ ..] => {
                size += 8;
                rest
            }
            [0x48, 0x83, 0xec, bytes, ..] => return Some(size + u64::from(*bytes)),
            [0x48, 0x83, 0xc4, 0x80, ..] => return Some(size + 128),
            [0x48, 0x81, 0xec, a, b, c, d, ..] => {
                return Some(size + u64::from(u32::from_le_bytes([*a, *b, *c, *d])));
            }
            _ => return Some(size),
        };
    }
}

#[cfg(test)]
mod tests;
