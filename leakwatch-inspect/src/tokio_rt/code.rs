//! Machine code of native programs: where functions begin and end, and their instructions.
//!
//! Function bounds come from the unwind tables (`.eh_frame`), which strip leaves in place: a program without symbols has
//! them, too. Where even they were taken out, `bounds` finds functions by who calls them. Must never name an address that is not the start of an instruction: a function is decoded from its
//! start, and refused when decoding does not land on its end.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection as _};
use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::bounds;
use super::data::Data;
use super::registers::constant;
use crate::reader::range_of;
use crate::{Elf, ElfKind, Problem};

/// Longest function that is decoded. The poll functions of large futures have some hundred KB.
const MAX_FUNCTION_BYTES: u64 = 4 << 20;

/// A binary's code.
pub(super) struct Code<'a> {
    pub(super) elf: &'a Elf,
    pub(super) image: &'a [u8],
    pub(super) data: Data,
    /// Bounds of all functions by address.
    functions: Vec<Range<u64>>,
    /// They are guessed: there are no unwind tables.
    pub(super) guessed: bool,
}

impl<'a> Code<'a> {
    /// Reads the unwind tables.
    ///
    /// # Errors
    /// When there are none, or they name no function.
    pub(super) fn new(elf: &'a Elf, image: &'a [u8], data: Data) -> Result<Code<'a>, Problem> {
        let mut functions = functions(elf, image);
        let guessed = functions.is_empty();
        if guessed {
            functions = bounds::guess(elf, image, &data);
        }
        if functions.is_empty() {
            return Err(Problem("no functions were found in its code".to_owned()));
        }
        Ok(Code { elf, image, data, functions, guessed })
    }

    /// The function that an address is in.
    pub(super) fn function_at(&self, address: u64) -> Option<Range<u64>> {
        let after = self.functions.partition_point(|function| function.start <= address);
        self.functions.get(..after)?.last().filter(|function| function.contains(&address)).cloned()
    }

    /// Does a function begin there?
    pub(super) fn is_function(&self, address: u64) -> bool {
        self.functions.binary_search_by(|function| function.start.cmp(&address)).is_ok()
    }

    /// A function's instructions. `None`: it is not in the file, too long, or does not decode to its end.
    pub(super) fn decode(&self, function: &Range<u64>) -> Option<Vec<Instruction>> {
        let length =
            function.end.checked_sub(function.start).filter(|length| *length <= MAX_FUNCTION_BYTES)?;
        let bytes = self.elf.bytes(self.image, function.start, usize::try_from(length).ok()?)?;
        let mut decoder = Decoder::with_ip(64, bytes, function.start, DecoderOptions::NONE);
        let mut instructions = Vec::with_capacity(bytes.len() / 4);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return None;
            }
            instructions.push(instruction);
        }
        Some(instructions)
    }

    /// Where a call or jump goes: directly, or through a word of data that the dynamic linker fills.
    pub(super) fn target(&self, instruction: &Instruction) -> Option<u64> {
        match instruction.op0_kind() {
            OpKind::NearBranch64 => Some(instruction.near_branch_target()),
            OpKind::Memory if instruction.is_ip_rel_memory_operand() => {
                self.data.word(instruction.ip_rel_memory_address()).filter(|target| *target != 0)
            }
            _ => None,
        }
    }

    /// The address that an instruction puts into a register. At fixed addresses it may be a number instead.
    pub(super) fn address_taken(&self, instruction: &Instruction) -> Option<u64> {
        match instruction.mnemonic() {
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
                Some(instruction.ip_rel_memory_address())
            }
            Mnemonic::Mov if self.elf.kind == ElfKind::Executable && instruction.op0_register().is_gpr() => {
                constant(instruction)
            }
            _ => None,
        }
    }

    /// The executable segments' bytes with their addresses.
    pub(super) fn text(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let image = self.image;
        let segments = self.elf.segments.iter().filter(|segment| segment.executable);
        segments.filter_map(move |segment| Some((segment.address.start, range_of(image, &segment.file)?)))
    }
}

/// Hardware number of the 64-bit register that holds a general purpose register.
pub(super) fn number(register: Register) -> Option<u8> {
    if !register.is_gpr() {
        return None;
    }
    u8::try_from(register.full_register().number()).ok()
}

/// The general purpose registers that an instruction writes, a bit for each hardware number. A call writes those that
/// the System V ABI lets it.
pub(super) fn written(instruction: &Instruction, info: &mut InstructionInfoFactory) -> u16 {
    use iced_x86::FlowControl;
    /// rax, rcx, rdx, rsi, rdi, r8 - r11.
    const CALLER_SAVED: u16 = 0b0000_1111_1100_0111;
    let mut all = match instruction.flow_control() {
        FlowControl::Call | FlowControl::IndirectCall => CALLER_SAVED,
        _ => 0,
    };
    for used in info.info(instruction).used_registers() {
        let writes = !matches!(
            used.access(),
            OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
        );
        if let (true, Some(number)) = (writes, number(used.register())) {
            all |= 1_u16.checked_shl(u32::from(number)).unwrap_or(0);
        }
    }
    all
}

/// Bounds of the functions in `.eh_frame`, by address. Entries that do not parse end the list.
fn functions(elf: &Elf, image: &[u8]) -> Vec<Range<u64>> {
    let Some(section) = elf.section(".eh_frame") else { return Vec::new() };
    let bytes = range_of(image, &section.file).unwrap_or_default();
    let frames = EhFrame::new(bytes, LittleEndian);
    let mut bases = BaseAddresses::default().set_eh_frame(section.address.start);
    if let Some(text) = elf.section(".text") {
        bases = bases.set_text(text.address.start);
    }
    let mut functions = Vec::new();
    let mut entries = frames.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let Ok(entry) = partial.parse(EhFrame::cie_from_offset) else {
            continue;
        };
        let start = entry.initial_address();
        let Some(end) = start.checked_add(entry.len()).filter(|end| *end > start) else { continue };
        if elf.executable_at(start) {
            functions.push(start..end);
        }
    }
    functions.sort_unstable_by_key(|function| (function.start, function.end));
    functions.dedup_by_key(|function| function.start);
    functions
}
