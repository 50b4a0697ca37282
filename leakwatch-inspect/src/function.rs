//! Where in a function of the System V calling convention to probe: at its beginning while its arguments are in their
//! registers, or at its exits while its result is.
//!
//! Decoding is linear, from the function's first byte to its last, as compilers lay functions out; a function that
//! does not decode to its end gets no probe but at its very first byte. Must never give an address that is not the
//! start of an instruction, and never say that all exits are known when one could have been missed.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

use crate::{Arch, Elf, go::disasm};

/// Registers of the first six integer arguments, by hardware number: rdi, rsi, rdx, rcx, r8, r9 (System V ABI, AMD64
/// supplement, 3.2.3).
pub const ARGUMENTS: [u8; 6] = [7, 6, 2, 1, 8, 9];

/// Hardware number of the register that holds the result: rax.
pub const RESULT: u8 = 0;

/// Longest function that is decoded.
const MAX_BYTES: u64 = 1 << 20;

/// Most instructions that a probe is moved past to reach an emulated one.
const MOST_PASSED: usize = 16;

/// Bytes of a function of unknown size that are decoded: its first instruction is in them.
const UNKNOWN_SIZE: u64 = 15;

/// A function of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, for people.
    pub name: String,
    /// Link-time address.
    pub address: u64,
    /// Bytes; 0: unknown.
    pub size: u64,
}

/// One instruction to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Link-time address.
    pub address: u64,
    /// Byte offset in the file: what a uprobe takes.
    pub file_offset: u64,
    /// The instruction's bytes on disk, to be compared with what is mapped.
    pub bytes: Vec<u8>,
    /// The instruction as text.
    pub text: String,
    /// The kernel emulates it (one trap); otherwise it single-steps it (two).
    pub emulated: bool,
    /// The return address is at the stack pointer plus this.
    pub return_address: i32,
    /// Why this instruction.
    pub reason: String,
}

/// A decoded function.
struct Code {
    range: Range<u64>,
    instructions: Vec<Instruction>,
}

/// Where to probe a function's beginning so that these registers (hardware numbers) still hold what the caller put
/// there: the first instruction, or a later one that the kernel emulates and that every call passes exactly once.
///
/// # Errors
/// Why it cannot be probed.
pub fn at_entry(elf: &Elf, image: &[u8], function: &Function, keep: &[u8]) -> Result<Point, String> {
    let first = first_instruction(elf, image, function)?;
    let at_first = |reason: &str| point(elf, image, &first, 0, reason);
    let emulated = |instruction: &Instruction| {
        elf.bytes(image, instruction.ip(), instruction.len())
            .is_some_and(|bytes| disasm::kernel_emulates(elf.arch, bytes))
    };
    if emulated(&first) {
        return at_first("the first instruction, which the kernel emulates");
    }
    let stepped =
        "the first instruction, which the kernel must single-step (two traps): no later one will do";
    let Ok(code) = decode(elf, image, function) else { return at_first(stepped) };
    let mut info = InstructionInfoFactory::new();
    let mut depth = 0_i32;
    for (passed, instruction) in code.instructions.iter().enumerate().take(MOST_PASSED) {
        // A jump to it from further on would pass it again.
        if passed > 0 && code.is_target(instruction.ip()) {
            break;
        }
        if emulated(instruction) {
            let reason = format!(
                "{passed} instructions past the first one, because the kernel emulates this one (one trap instead of \
                 two) and the registers that are wanted are still as the caller left them"
            );
            return point(elf, image, instruction, depth, &reason);
        }
        let Some(change) = stack_change(instruction).filter(|_| !writes_any(instruction, keep, &mut info))
        else {
            break;
        };
        let Some(deeper) = depth.checked_add(change) else { break };
        depth = deeper;
    }
    at_first(stepped)
}

/// Every instruction by which a function returns, its result in rax: its own `ret`s, and those of its parts that the
/// compiler put elsewhere (`name.cold`).
///
/// # Errors
/// Why the exits cannot be enumerated: it does not decode, leaves by a jump (a tail call), or jumps to an address that
/// it computes.
pub fn at_exits(
    elf: &Elf,
    image: &[u8],
    function: &Function,
    parts: &[Function],
) -> Result<Vec<Point>, String> {
    let mut codes = vec![decode(elf, image, function)?];
    for part in parts {
        codes.push(decode(elf, image, part)?);
    }
    let within = |target: u64| codes.iter().any(|code| code.range.contains(&target));
    let mut exits = Vec::new();
    for instruction in codes.iter().flat_map(|code| &code.instructions) {
        let at = instruction.ip();
        match instruction.flow_control() {
            FlowControl::Return => {
                let reason =
                    "the function returns here, its result in rax; the kernel must single-step a return";
                exits.push(point(elf, image, instruction, 0, reason)?);
            }
            FlowControl::IndirectBranch => {
                return Err(format!("it jumps to an address that it computes at {at:#x}"));
            }
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
                if !within(instruction.near_branch_target()) =>
            {
                return Err(format!("it leaves by a jump at {at:#x} (a tail call)"));
            }
            _ => {}
        }
    }
    if exits.is_empty() { Err("it has no return instruction".to_owned()) } else { Ok(exits) }
}

/// Why a return probe would not be safe on a function: it may return on another stack than it was called on, or more
/// than once.
pub fn no_return_probe(elf: &Elf, image: &[u8], function: &Function) -> Option<String> {
    const TWICE: [&str; 8] =
        ["setjmp", "_setjmp", "sigsetjmp", "__sigsetjmp", "vfork", "getcontext", "swapcontext", "setcontext"];
    if TWICE.contains(&function.name.as_str()) {
        return Some("it returns more than once, or on another stack".to_owned());
    }
    let Ok(code) = decode(elf, image, function) else {
        return Some("its instructions cannot be decoded, so that it may switch stacks".to_owned());
    };
    let mut info = InstructionInfoFactory::new();
    let switch = code.instructions.iter().find(|instruction| {
        const RSP: u8 = 4;
        let usual = matches!(
            instruction.mnemonic(),
            Mnemonic::Push | Mnemonic::Pop | Mnemonic::Call | Mnemonic::Ret | Mnemonic::Leave | Mnemonic::Enter
        ) || stack_change(instruction).is_some()
            || matches!(instruction.mnemonic(), Mnemonic::Add | Mnemonic::Sub | Mnemonic::And)
            // The frame pointer is on the same stack.
            || (matches!(instruction.mnemonic(), Mnemonic::Lea) && instruction.memory_base() == Register::RBP)
            || (matches!(instruction.mnemonic(), Mnemonic::Mov) && instruction.op1_register() == Register::RBP);
        !usual && writes_any(instruction, &[RSP], &mut info)
    });
    switch.map(|instruction| format!("it switches stacks at {:#x}", instruction.ip()))
}

/// How much deeper the stack is after an instruction; `None`: unknown, or control goes elsewhere.
fn stack_change(instruction: &Instruction) -> Option<i32> {
    if instruction.flow_control() != FlowControl::Next {
        return None;
    }
    if !matches!(instruction.op0_kind(), OpKind::Register) || instruction.op0_register() != Register::RSP {
        return instruction.stack_pointer_increment().checked_neg();
    }
    match (instruction.mnemonic(), instruction.op1_kind()) {
        (Mnemonic::Sub, OpKind::Immediate8to64 | OpKind::Immediate32to64) => {
            i32::try_from(instruction.immediate(1)).ok()
        }
        (Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push, _) => {
            instruction.stack_pointer_increment().checked_neg()
        }
        _ => None,
    }
}

fn writes_any(instruction: &Instruction, registers: &[u8], info: &mut InstructionInfoFactory) -> bool {
    info.info(instruction).used_registers().iter().any(|used| {
        let register = used.register();
        let writes = !matches!(
            used.access(),
            OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
        );
        let number = u8::try_from(register.full_register().number()).unwrap_or(u8::MAX);
        writes && register.is_gpr() && registers.contains(&number)
    })
}

impl Code {
    /// An instruction of the function jumps here.
    fn is_target(&self, address: u64) -> bool {
        self.instructions.iter().any(|instruction| {
            matches!(
                instruction.flow_control(),
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
            ) && instruction.near_branch_target() == address
        })
    }
}

fn first_instruction(elf: &Elf, image: &[u8], function: &Function) -> Result<Instruction, String> {
    let (name, address) = (&function.name, function.address);
    if elf.arch != Arch::X86_64 {
        return Err(format!("{name}: functions are probed on x86-64 only in this version"));
    }
    if !elf.executable_at(address) {
        return Err(format!("{name} at {address:#x} is no code"));
    }
    let bytes = elf.bytes_to_segment_end(image, address).unwrap_or_default();
    let length = usize::try_from(UNKNOWN_SIZE).unwrap_or(0).min(bytes.len());
    let mut decoder =
        Decoder::with_ip(64, bytes.get(..length).unwrap_or_default(), address, DecoderOptions::NONE);
    let first = decoder.decode();
    if first.is_invalid() {
        return Err(format!("{name} does not begin with an instruction at {address:#x}"));
    }
    Ok(first)
}

/// All instructions of a function.
fn decode(elf: &Elf, image: &[u8], function: &Function) -> Result<Code, String> {
    let (address, size) = (function.address, function.size);
    if elf.arch != Arch::X86_64 {
        return Err("functions are decoded on x86-64 only in this version".to_owned());
    }
    if size == 0 {
        return Err("its size is unknown".to_owned());
    }
    if size > MAX_BYTES {
        return Err(format!("it is {size} bytes long"));
    }
    let end = address.checked_add(size).ok_or("its size makes no sense")?;
    let length = usize::try_from(size).map_err(|_large| "its size makes no sense")?;
    let bytes = elf.bytes(image, address, length).ok_or("its bytes are not in the file")?;
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut instructions = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return Err(format!("there is no valid instruction at {:#x}", instruction.ip()));
        }
        instructions.push(instruction);
    }
    Ok(Code { range: address..end, instructions })
}

fn point(
    elf: &Elf,
    image: &[u8],
    instruction: &Instruction,
    return_address: i32,
    reason: &str,
) -> Result<Point, String> {
    let address = instruction.ip();
    let bytes = elf.bytes(image, address, instruction.len()).ok_or("its bytes are not in the file")?;
    let file_offset = elf.file_offset(address).ok_or("its bytes are not in the file")?;
    Ok(Point {
        address,
        file_offset,
        bytes: bytes.to_vec(),
        text: disasm::text(elf.arch, bytes, address),
        emulated: disasm::kernel_emulates(elf.arch, bytes),
        return_address,
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test's own numbers")]
mod tests {
    use super::*;

    /// Our own executable with its code replaced: an ELF file that is certainly well formed.
    fn with_code(code: &[u8]) -> (Elf, Vec<u8>, Function) {
        let mut image = std::fs::read("/proc/self/exe").expect("our own bytes");
        let elf = Elf::parse(&image).expect("an ELF file");
        let segment = elf.segments.iter().find(|segment| segment.executable).expect("code");
        let (address, at) = (segment.address.start, usize::try_from(segment.file.start).expect("small"));
        image[at..at + code.len()].copy_from_slice(code);
        let function = Function { name: "f".to_owned(), address, size: code.len() as u64 };
        (elf, image, function)
    }

    fn entry(code: &[u8], keep: &[u8]) -> (u64, bool, i32) {
        let (elf, image, function) = with_code(code);
        let found = at_entry(&elf, &image, &function, keep).expect("a place");
        (found.address - function.address, found.emulated, found.return_address)
    }

    #[test]
    fn a_push_is_taken_as_it_is() {
        assert_eq!(entry(&[0x55, 0xc3], &[7]), (0, true, 0));
    }

    #[test]
    fn an_emulated_instruction_is_looked_for() {
        // endbr64; push rbp
        assert_eq!(entry(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0xc3], &[7]), (4, true, 0));
        // sub rsp, 0x18; mov rax, rdi; call +0
        let code = [0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0xf8, 0xe8, 0, 0, 0, 0, 0xc3];
        assert_eq!(entry(&code, &[7]), (7, true, 0x18));
        assert_eq!(entry(&code, &[0]), (0, false, 0), "rax is overwritten before");
        // test rdi, rdi; je +0; ret
        assert_eq!(entry(&[0x48, 0x85, 0xff, 0x74, 0, 0xc3], &[7]), (3, true, 0));
        // mov rdi, rsi; push rbp: the argument is gone
        assert_eq!(entry(&[0x48, 0x89, 0xf7, 0x55, 0xc3], &[7]), (0, false, 0));
        assert_eq!(entry(&[0x48, 0x89, 0xf7, 0x55, 0xc3], &[6]), (3, true, 0));
    }

    #[test]
    fn what_a_loop_comes_back_to_is_not_taken() {
        // mov eax, [rdi]; (loop:) push rax; pop rax; jmp loop
        assert_eq!(entry(&[0x8b, 0x07, 0x50, 0x58, 0xeb, 0xfc], &[7]), (0, false, 0));
        // ret: control leaves
        assert_eq!(entry(&[0xc3, 0x55], &[7]), (0, false, 0));
    }

    #[test]
    fn what_does_not_decode_is_probed_at_its_first_byte_or_not_at_all() {
        // sub rsp, 8; (no instruction)
        assert_eq!(entry(&[0x48, 0x83, 0xec, 0x08, 0x06, 0x55], &[7]), (0, false, 0));
        let (elf, image, function) = with_code(&[0x06, 0x06]);
        assert!(at_entry(&elf, &image, &function, &[]).is_err());
        let far = Function { address: u64::MAX - 3, ..function.clone() };
        assert!(at_entry(&elf, &image, &far, &[]).is_err());
        assert!(at_exits(&elf, &image, &Function { size: u64::MAX, ..function.clone() }, &[]).is_err());
        assert!(at_exits(&elf, &image, &Function { size: 0, ..function }, &[]).is_err());
    }

    fn exits(code: &[u8]) -> Result<Vec<u64>, String> {
        let (elf, image, function) = with_code(code);
        let found = at_exits(&elf, &image, &function, &[])?;
        Ok(found.iter().map(|exit| exit.address - function.address).collect())
    }

    #[test]
    fn every_return_is_an_exit() {
        // test rdi, rdi; je +3; xor eax, eax; ret; mov eax, edi; ret
        assert_eq!(
            exits(&[0x48, 0x85, 0xff, 0x74, 0x03, 0x31, 0xc0, 0xc3, 0x89, 0xf8, 0xc3]),
            Ok(vec![7, 10])
        );
        assert!(exits(&[0xe9, 0, 1, 0, 0]).expect_err("a tail call").contains("tail call"));
        assert!(exits(&[0x74, 0x50, 0xc3]).expect_err("a conditional one").contains("tail call"));
        assert!(exits(&[0xff, 0xe0]).expect_err("a jump table, perhaps").contains("computes"));
        assert!(exits(&[0x0f, 0x0b]).expect_err("it traps").contains("no return"));
    }

    #[test]
    fn parts_that_were_put_elsewhere_have_exits_too() {
        // je +1 (into the part); ret; (part:) ret
        let (elf, image, mut function) = with_code(&[0x74, 0x01, 0xc3, 0xc3]);
        function.size = 3;
        let part = Function { name: "f.cold".to_owned(), address: function.address + 3, size: 1 };
        assert!(at_exits(&elf, &image, &function, &[]).is_err());
        assert_eq!(at_exits(&elf, &image, &function, &[part]).map(|exits| exits.len()), Ok(2));
    }

    #[test]
    fn stacks_that_are_switched() {
        let (elf, image, function) = with_code(&[0x48, 0x89, 0xfc, 0xc3]); // mov rsp, rdi; ret
        assert!(no_return_probe(&elf, &image, &function).is_some_and(|why| why.contains("switches")));
        // push rbp; mov rbp, rsp; sub rsp, 16; leave; ret
        let (elf, image, function) = with_code(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0xc9, 0xc3]);
        assert_eq!(no_return_probe(&elf, &image, &function), None);
        let twice = Function { name: "vfork".to_owned(), ..function };
        assert!(no_return_probe(&elf, &image, &twice).is_some());
    }
}
