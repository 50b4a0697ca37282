//! Machine code, one function at a time: calls, references to static data, and what the kernel emulates.
//!
//! Both machines are reduced to the same few [`Operation`]s, so that the choice of probe sites and the search
//! for globals are written once. Decoding is linear, from a function's entry to its end, and is refused when it
//! does not land on the end: an address that is not an instruction boundary must never be probed.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter, InstructionInfoFactory, IntelFormatter, Mnemonic,
    OpAccess, OpKind, Register,
};

use super::arm64;
use crate::Arch;

/// Longest function that is decoded. The longest of Go's runtime has some 10 KB.
const MAX_FUNCTION_BYTES: usize = 256 << 10;

/// Why a function could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The bytes are no instruction.
    #[error("no valid instruction at {address:#x}")]
    Invalid {
        /// Where.
        address: u64,
    },
    /// The last instruction goes past the function's end.
    #[error("decoding passes the function's end {end:#x}")]
    PassesEnd {
        /// The end according to the function table.
        end: u64,
    },
    /// Longer than any function of a runtime.
    #[error("{length} bytes are too many for one function")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
}

/// What an instruction does with a static address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Computes it (`lea`, `adrp` + `add`).
    Take,
    /// Reads from it.
    Read,
    /// Writes to it, or reads and writes.
    Write,
    /// Compares what is there with something.
    Compare,
    /// Reads or writes it atomically (`lock`, `xchg`, `ldadd`, `stlr`, ...).
    Atomic,
}

/// What matters of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A direct call.
    Call {
        /// Where it goes.
        target: u64,
        /// Values of the first three argument registers of Go's `ABIInternal` (rax, rbx, rcx; x0, x1, x2), as far as
        /// they are constants.
        arguments: [Option<u64>; 3],
    },
    /// A use of a static address.
    Reference {
        /// The address.
        address: u64,
        /// What is done with it.
        access: Access,
        /// Bytes read or written; 0 when the address is only computed.
        size: u8,
    },
    /// A jump that is always taken; no target: an indirect one, a return, a trap.
    Jump {
        /// Where it goes.
        target: Option<u64>,
    },
    /// A jump that is taken or not.
    Branch {
        /// Where it goes when it is taken.
        target: u64,
    },
    /// `lock cmpxchg [base + displacement], ...` (x86-64 only).
    CompareExchange {
        /// Hardware number of the base register.
        base: u8,
        /// What must be there for the exchange to happen, if it is a constant.
        expected: Option<u64>,
    },
    /// A register is pushed (x86-64 only).
    Push,
    /// Anything else.
    Other,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Link-time address.
    pub(crate) address: u64,
    /// Length in bytes.
    pub(crate) length: u8,
    /// What it does.
    pub(crate) operation: Operation,
    /// General purpose registers that it writes, a bit for each hardware number. Calls write all.
    pub(crate) writes: u32,
}

impl Instruction {
    /// Leaves this general purpose register as it is.
    pub(crate) fn keeps(&self, register: u8) -> bool {
        self.writes & 1_u32.checked_shl(u32::from(register)).unwrap_or(0) == 0
    }
}

/// Decodes a function of which `code` holds all bytes from `entry` to its end, padding included.
pub(crate) fn decode(arch: Arch, code: &[u8], entry: u64) -> Result<Vec<Instruction>, DecodeError> {
    if code.len() > MAX_FUNCTION_BYTES {
        return Err(DecodeError::TooLong { length: code.len() });
    }
    match arch {
        Arch::X86_64 => decode_x86_64(code, entry),
        Arch::Aarch64 => arm64::decode(code, entry),
    }
}

/// One instruction as text, such as `call 0x43a2e0`.
pub(crate) fn text(arch: Arch, bytes: &[u8], address: u64) -> String {
    match arch {
        Arch::X86_64 => {
            let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
            let mut formatter = IntelFormatter::new();
            let options = formatter.options_mut();
            options.set_hex_prefix("0x");
            options.set_hex_suffix("");
            options.set_uppercase_hex(false);
            options.set_show_branch_size(false);
            options.set_branch_leading_zeros(false);
            options.set_space_after_operand_separator(true);
            let mut text = String::new();
            formatter.format(&decoder.decode(), &mut text);
            text
        }
        Arch::Aarch64 => arm64::text(bytes, address),
    }
}

/// A general purpose register's name by its hardware number.
pub(crate) fn register_name(arch: Arch, number: u8) -> String {
    const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];
    match arch {
        Arch::X86_64 => NAMES.get(usize::from(number)).copied().unwrap_or("?").to_owned(),
        Arch::Aarch64 => format!("x{number}"),
    }
}

/// Whether every kernel from 5.15 on emulates this instruction under a uprobe, so that a hit costs one trap; all
/// other instructions are single-stepped out of line, at two traps.
pub(crate) fn kernel_emulates(arch: Arch, bytes: &[u8]) -> bool {
    match arch {
        Arch::X86_64 => x86_64_kernel_emulates(bytes),
        Arch::Aarch64 => arm64::kernel_simulates(bytes),
    }
}

/// `branch_setup_xol_ops` and `push_setup_xol_ops` of the kernel's `arch/x86/kernel/uprobes.c` (v5.15).
///
/// Multi-byte nops are emulated from 6.18 on only and are therefore not counted, and `66`-prefixed branches are
/// refused by the kernel altogether.
fn x86_64_kernel_emulates(bytes: &[u8]) -> bool {
    match bytes {
        // nop, push rax..rdi; call and jmp rel32; jmp and jcc rel8; push r8..r15; jcc rel32
        [0x90 | 0x50..=0x57]
        | [0xe8 | 0xe9, _, _, _, _]
        | [0xeb | 0x70..=0x7f, _]
        | [0x41, 0x50..=0x57]
        | [0x0f, 0x80..=0x8f, _, _, _, _] => true,
        _ => false,
    }
}

/// Values that registers are known to hold, along straight-line code.
#[derive(Default)]
pub(super) struct KnownRegisters([Option<u64>; 32]);

impl KnownRegisters {
    /// The value, if it is known.
    pub(super) fn get(&self, register: usize) -> Option<u64> {
        self.0.get(register).copied().flatten()
    }

    /// From here on the register holds this value, or something unknown.
    pub(super) fn set(&mut self, register: usize, value: Option<u64>) {
        if let Some(slot) = self.0.get_mut(register) {
            *slot = value;
        }
    }

    /// Nothing is known any more (after calls and at the end of straight-line code).
    pub(super) fn clear(&mut self) {
        self.0 = [None; 32];
    }
}

/// Hardware numbers of rax, rbx and rcx: the first three arguments in Go's register ABI
/// (`src/cmd/compile/abi-internal.md`, "amd64 architecture").
const ARGUMENTS: [usize; 3] = [0, 3, 1];

fn decode_x86_64(code: &[u8], entry: u64) -> Result<Vec<Instruction>, DecodeError> {
    let end = entry.wrapping_add(code.len() as u64);
    let mut decoder = Decoder::with_ip(64, code, entry, DecoderOptions::NONE);
    let mut known = KnownRegisters::default();
    let mut info = InstructionInfoFactory::new();
    let mut instructions = Vec::new();
    while decoder.can_decode() {
        let decoded = decoder.decode();
        if decoded.is_invalid() {
            // iced reports an instruction that is cut off by the end of its input as invalid, too.
            let at = decoded.ip();
            return Err(if decoder.last_error() == iced_x86::DecoderError::NoMoreBytes {
                DecodeError::PassesEnd { end }
            } else {
                DecodeError::Invalid { address: at }
            });
        }
        let writes = written(&decoded, &mut info);
        instructions.push(Instruction {
            address: decoded.ip(),
            length: u8::try_from(decoded.len()).unwrap_or(0),
            operation: operation(&decoded, &mut known, writes),
            writes,
        });
    }
    Ok(instructions)
}

/// Reduces one instruction and keeps `known` up to date.
fn operation(decoded: &iced_x86::Instruction, known: &mut KnownRegisters, writes: u32) -> Operation {
    let target = matches!(decoded.op0_kind(), OpKind::NearBranch64).then(|| decoded.near_branch_target());
    match (decoded.flow_control(), target) {
        (FlowControl::Next, _) => {}
        (FlowControl::ConditionalBranch, Some(target)) => return Operation::Branch { target },
        (FlowControl::Call, Some(target)) => {
            let arguments = ARGUMENTS.map(|register| known.get(register));
            known.clear();
            return Operation::Call { target, arguments };
        }
        (FlowControl::IndirectCall | FlowControl::Interrupt, _) => {
            known.clear();
            return Operation::Other;
        }
        (_, target) => {
            known.clear();
            return Operation::Jump { target };
        }
    }
    let address = memory_address(decoded, known);
    let operation = match (address, decoded.mnemonic()) {
        (Some(address), _) => {
            let access = access(decoded);
            let size = if access == Access::Take { 0 } else { decoded.memory_size().size() };
            Operation::Reference { address, access, size: u8::try_from(size).unwrap_or(u8::MAX) }
        }
        (None, Mnemonic::Cmpxchg)
            if decoded.has_lock_prefix() && decoded.memory_index() == Register::None =>
        {
            match general_register(decoded.memory_base()).and_then(|base| u8::try_from(base).ok()) {
                Some(base) => Operation::CompareExchange { base, expected: known.get(0) },
                None => Operation::Other,
            }
        }
        (None, Mnemonic::Push) if decoded.op0_kind() == OpKind::Register => Operation::Push,
        _ => Operation::Other,
    };
    forget_written(decoded, known, writes, address);
    operation
}

/// The general purpose registers that an instruction writes.
fn written(decoded: &iced_x86::Instruction, info: &mut InstructionInfoFactory) -> u32 {
    if matches!(
        decoded.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall | FlowControl::Interrupt
    ) {
        return u32::MAX;
    }
    let written = info.info(decoded).used_registers().iter().filter(|used| {
        !matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    });
    let number = |register| u32::try_from(general_register(register)?).ok();
    written.filter_map(|used| 1_u32.checked_shl(number(used.register())?)).fold(0, |all, one| all | one)
}

/// Static address of the memory operand, when its base is rip or a register that is known.
fn memory_address(decoded: &iced_x86::Instruction, known: &KnownRegisters) -> Option<u64> {
    if decoded.is_ip_rel_memory_operand() {
        return Some(decoded.ip_rel_memory_address());
    }
    let has_memory = (0..decoded.op_count()).any(|operand| decoded.op_kind(operand) == OpKind::Memory);
    if !has_memory || decoded.memory_index() != Register::None || decoded.segment_prefix() != Register::None {
        return None;
    }
    let base = known.get(general_register(decoded.memory_base())?)?;
    Some(base.wrapping_add(decoded.memory_displacement64()))
}

fn access(decoded: &iced_x86::Instruction) -> Access {
    match decoded.mnemonic() {
        Mnemonic::Lea => Access::Take,
        Mnemonic::Cmp | Mnemonic::Test => Access::Compare,
        Mnemonic::Xchg => Access::Atomic,
        _ if decoded.has_lock_prefix() => Access::Atomic,
        _ if decoded.op0_kind() == OpKind::Memory => Access::Write,
        _ => Access::Read,
    }
}

/// Updates what is known of the registers that an instruction writes.
fn forget_written(
    decoded: &iced_x86::Instruction,
    known: &mut KnownRegisters,
    writes: u32,
    address: Option<u64>,
) {
    for register in (0..16_usize).filter(|register| writes >> register & 1 == 1) {
        known.set(register, None);
    }
    let zeroes = decoded.op0_kind() == OpKind::Register
        && decoded.op1_kind() == OpKind::Register
        && decoded.op0_register() == decoded.op1_register()
        && decoded.op0_register().size() >= 4;
    let value = match (decoded.mnemonic(), decoded.op1_kind()) {
        (Mnemonic::Lea, _) => address,
        (Mnemonic::Mov, OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64) => {
            Some(decoded.immediate(1))
        }
        (Mnemonic::Xor, _) if zeroes => Some(0),
        _ => return,
    };
    if let Some(register) = general_register(decoded.op0_register()) {
        known.set(register, value);
    }
}

/// Hardware number of the 64-bit register that contains a general purpose register.
fn general_register(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &[u8], expected: &[Operation]) {
        let decoded = decode(Arch::X86_64, code, 0x40_1000).expect("decodes");
        let operations: Vec<_> = decoded.iter().map(|instruction| instruction.operation).collect();
        assert_eq!(operations, expected);
    }

    #[test]
    fn calls_carry_constant_arguments() {
        // mov ebx, 6; lea rax, [rip + 0x10]; xor ecx, ecx; call +0
        check(
            &[
                0xbb, 6, 0, 0, 0, 0x48, 0x8d, 0x05, 0x10, 0, 0, 0, 0x31, 0xc9, 0xe8, 0, 0, 0, 0, //
                0xe8, 0, 0, 0, 0,
            ],
            &[
                Operation::Other,
                Operation::Reference { address: 0x40_101c, access: Access::Take, size: 0 },
                Operation::Other,
                Operation::Call { target: 0x40_1013, arguments: [Some(0x40_101c), Some(6), Some(0)] },
                Operation::Call { target: 0x40_1018, arguments: [None; 3] },
            ],
        );
    }

    #[test]
    fn atomics_are_seen_through_the_register_that_holds_the_address() {
        // lea rdx, [rip + 0x1000]; lock xadd [rdx], rcx; lock xadd [rdx + 8], ecx; xor edx, edx; xchg [rdx], rcx
        check(
            &[
                0x48, 0x8d, 0x15, 0, 0x10, 0, 0, 0xf0, 0x48, 0x0f, 0xc1, 0x0a, 0xf0, 0x0f, 0xc1, 0x4a,
                8, //
                0x48, 0x89, 0xca, 0x48, 0x87, 0x0a,
            ],
            &[
                Operation::Reference { address: 0x40_2007, access: Access::Take, size: 0 },
                Operation::Reference { address: 0x40_2007, access: Access::Atomic, size: 8 },
                Operation::Reference { address: 0x40_200f, access: Access::Atomic, size: 4 },
                Operation::Other,
                Operation::Other,
            ],
        );
    }

    #[test]
    fn data_accesses() {
        // mov rax, [rip]; mov [rip], rax; cmp dword [rip], 0
        check(
            &[
                0x48, 0x8b, 0x05, 0, 0, 0, 0, 0x48, 0x89, 0x05, 0, 0, 0, 0, 0x83, 0x3d, 0, 0, 0, 0, 0, //
            ],
            &[
                Operation::Reference { address: 0x40_1007, access: Access::Read, size: 8 },
                Operation::Reference { address: 0x40_100e, access: Access::Write, size: 8 },
                Operation::Reference { address: 0x40_1015, access: Access::Compare, size: 4 },
            ],
        );
    }

    #[test]
    fn a_function_must_end_where_an_instruction_ends() {
        assert_eq!(
            decode(Arch::X86_64, &[0x90, 0xe8, 0, 0], 0x1000),
            Err(DecodeError::PassesEnd { end: 0x1004 })
        );
        assert_eq!(
            decode(Arch::X86_64, &[0x90, 0x06, 0x90], 0x1000),
            Err(DecodeError::Invalid { address: 0x1001 })
        );
        assert_eq!(decode(Arch::X86_64, &[0xc3, 0xcc, 0xcc], 0x1000).map(|code| code.len()), Ok(3));
        assert!(decode(Arch::X86_64, &vec![0x90; MAX_FUNCTION_BYTES + 1], 0).is_err());
    }

    #[test]
    fn what_the_kernel_emulates() {
        let emulated: [&[u8]; 9] = [
            &[0x90],
            &[0xe8, 1, 2, 3, 4],
            &[0xe9, 1, 2, 3, 4],
            &[0xeb, 5],
            &[0x74, 5],
            &[0x0f, 0x84, 1, 2, 3, 4],
            &[0x55],
            &[0x41, 0x57],
            &[0x50],
        ];
        for bytes in emulated {
            assert!(kernel_emulates(Arch::X86_64, bytes), "{bytes:02x?}");
        }
        let stepped: [&[u8]; 10] = [
            &[0x49, 0x3b, 0x66, 0x10],       // cmp rsp, [r14 + 0x10]
            &[0x48, 0x83, 0xec, 0x18],       // sub rsp, 0x18
            &[0x48, 0x89, 0xc3],             // mov rbx, rax
            &[0xc3],                         // ret
            &[0xff, 0xd0],                   // call rax
            &[0x66, 0x90],                   // 2-byte nop
            &[0x0f, 0x1f, 0x44, 0, 0],       // 5-byte nop: 6.18 and later only
            &[0x66, 0xe8, 1, 2],             // callw
            &[0x41, 0x90],                   // xchg rax, r8
            &[0xff, 0x35, 0x10, 0x20, 0, 0], // push [rip + 0x2010]
        ];
        for bytes in stepped {
            assert!(!kernel_emulates(Arch::X86_64, bytes), "{bytes:02x?}");
        }
        assert!(!kernel_emulates(Arch::X86_64, &[]));
    }

    #[test]
    fn text_is_what_people_write() {
        assert_eq!(text(Arch::X86_64, &[0xe8, 0xdb, 0x92, 0, 0], 0x43_1000), "call 0x43a2e0");
        assert_eq!(text(Arch::X86_64, &[0x55], 0x43_1000), "push rbp");
        assert_eq!(text(Arch::X86_64, &[0x49, 0x3b, 0x66, 0x10], 0), "cmp rsp, [r14+0x10]");
    }
}
