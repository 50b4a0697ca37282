//! arm64 instructions, as far as probe sites and globals need them.
//!
//! Encodings from the Arm Architecture Reference Manual (DDI 0487), chapter C4; which of them the kernel simulates
//! under a uprobe from its `arch/arm64/kernel/probes/decode-insn.c` and `simulate-insn.c`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::disasm::{Access, DecodeError, Instruction, KnownRegisters, Operation};

/// Hardware number that means SP or the zero register: never a known value.
const SP_OR_ZERO: usize = 31;

/// Decodes a function, padding (`udf #0`) included.
pub(super) fn decode(code: &[u8], entry: u64) -> Result<Vec<Instruction>, DecodeError> {
    let (words, rest) = code.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(DecodeError::PassesEnd { end: entry.wrapping_add(code.len() as u64) });
    }
    let mut known = KnownRegisters::default();
    let mut address = entry;
    let mut instructions = Vec::with_capacity(words.len());
    for word in words {
        let word = Word(u32::from_le_bytes(*word));
        if word.is_unallocated() {
            return Err(DecodeError::Invalid { address });
        }
        let operation = operation(word, address, &mut known);
        let writes = if matches!(operation, Operation::Call { .. }) { u32::MAX } else { written(word) };
        instructions.push(Instruction { address, length: 4, operation, writes });
        address = address.wrapping_add(4);
    }
    Ok(instructions)
}

/// Branches and calls by name, anything else as its encoding.
pub(super) fn text(bytes: &[u8], address: u64) -> String {
    let Some(word) = bytes.first_chunk::<4>().map(|bytes| Word(u32::from_le_bytes(*bytes))) else {
        return String::new();
    };
    match word.branch_target(address) {
        Some(target) if word.is(0x8000_0000, 0x8000_0000) => format!("bl {target:#x}"),
        Some(target) => format!("b {target:#x}"),
        None => format!(".inst {:#010x}", word.0),
    }
}

/// `arm_probe_decode_insn`: b, bl, b.cond, cbz, cbnz, tbz, tbnz, adr, adrp, br, blr, ret are simulated. Literal loads
/// are left out: kernels either single-step, simulate or (since 6.12) refuse them.
pub(super) fn kernel_simulates(bytes: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 4]>::try_from(bytes) else { return false };
    let word = Word(u32::from_le_bytes(bytes));
    word.is(0x7c00_0000, 0x1400_0000) // b, bl
        || word.is(0xff00_0010, 0x5400_0000) // b.cond
        || word.is(0x7e00_0000, 0x3400_0000) // cbz, cbnz
        || word.is(0x7e00_0000, 0x3600_0000) // tbz, tbnz
        || word.is(0x1f00_0000, 0x1000_0000) // adr, adrp
        || word.is(0xffff_fc1f, 0xd61f_0000) // br
        || word.is(0xffff_fc1f, 0xd63f_0000) // blr
        || word.is(0xffff_fc1f, 0xd65f_0000) // ret
}

/// One instruction word.
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    fn is(self, mask: u32, value: u32) -> bool {
        self.0 & mask == value
    }

    /// Bits `low..low + count`.
    fn bits(self, low: u32, count: u32) -> u32 {
        (self.0 >> low) & (1_u32 << count).wrapping_sub(1)
    }

    /// Bits `low..low + count` as a signed number.
    fn signed(self, low: u32, count: u32) -> i64 {
        let unused = 64_u32.saturating_sub(count);
        (i64::from(self.bits(low, count)) << unused) >> unused
    }

    /// Register field at `low`.
    fn register(self, low: u32) -> usize {
        self.bits(low, 5) as usize
    }

    /// Encodings that no processor has; `udf` is allowed, as Go pads functions with it.
    fn is_unallocated(self) -> bool {
        match self.bits(25, 4) {
            0b0000 => self.0 >> 16 != 0,
            0b0001 | 0b0011 => true,
            _ => false,
        }
    }

    /// Target of `b.cond`, `cbz`, `cbnz`, `tbz` and `tbnz`.
    fn conditional_target(self, address: u64) -> Option<u64> {
        let distance = if self.is(0xff00_0010, 0x5400_0000) || self.is(0x7e00_0000, 0x3400_0000) {
            self.signed(5, 19)
        } else if self.is(0x7e00_0000, 0x3600_0000) {
            self.signed(5, 14)
        } else {
            return None;
        };
        Some(address.wrapping_add_signed(distance << 2))
    }

    /// Target of `b` and `bl`.
    fn branch_target(self, address: u64) -> Option<u64> {
        self.is(0x7c00_0000, 0x1400_0000).then(|| address.wrapping_add_signed(self.signed(0, 26) << 2))
    }
}

/// The general purpose registers that an instruction may write: rather too many than too few.
fn written(word: Word) -> u32 {
    let bit = |low: u32| 1_u32.checked_shl(word.bits(low, 5)).unwrap_or(0);
    if word.is(0xffff_fc1f, 0xd63f_0000) {
        return u32::MAX; // blr
    }
    if word.is(0x7c00_0000, 0x1400_0000) || word.conditional_target(0).is_some() {
        return 0;
    }
    let memory = word.is(0x0a00_0000, 0x0800_0000);
    // Destination; for loads and stores also base (write-back), second register and status.
    if memory { bit(0) | bit(5) | bit(10) | bit(16) } else { bit(0) }
}

/// Reduces one instruction and keeps `known` up to date.
fn operation(word: Word, address: u64, known: &mut KnownRegisters) -> Operation {
    if let Some(target) = word.branch_target(address) {
        let arguments = [known.get(0), known.get(1), known.get(2)];
        known.clear();
        let is_call = word.is(0x8000_0000, 0x8000_0000);
        return if is_call {
            Operation::Call { target, arguments }
        } else {
            Operation::Jump { target: Some(target) }
        };
    }
    if word.is(0xfe00_0000, 0xd600_0000) {
        known.clear(); // br, blr, ret
        let is_call = word.is(0xffff_fc1f, 0xd63f_0000);
        return if is_call { Operation::Other } else { Operation::Jump { target: None } };
    }
    if word.is(0x1c00_0000, 0x1400_0000) {
        if let Some(target) = word.conditional_target(address) {
            return Operation::Branch { target };
        }
        if word.register(0) != SP_OR_ZERO {
            known.set(word.register(0), None); // mrs
        }
        return Operation::Other;
    }
    if word.is(0x0a00_0000, 0x0800_0000) {
        return memory(word, address, known);
    }
    let value = computed(word, address, known);
    let destination = word.register(0);
    if destination != SP_OR_ZERO {
        known.set(destination, value);
    }
    // An address, not a small constant.
    match value {
        Some(address) if !word.is(0x9f00_0000, 0x9000_0000) && !is_constant(word) => {
            Operation::Reference { address, access: Access::Take, size: 0 }
        }
        _ => Operation::Other,
    }
}

/// movz, or orr with the zero register: a constant, not an address.
fn is_constant(word: Word) -> bool {
    word.is(0x7f80_0000, 0x5280_0000) || word.is(0x7f80_03e0, 0x3200_03e0)
}

/// Value that adr, adrp, add immediate, movz or mov (bitmask) puts into its destination.
fn computed(word: Word, address: u64, known: &KnownRegisters) -> Option<u64> {
    if word.is(0x1f00_0000, 0x1000_0000) {
        let immediate = (word.signed(5, 19) << 2) | i64::from(word.bits(29, 2));
        return Some(if word.is(0x8000_0000, 0x8000_0000) {
            (address & !0xfff).wrapping_add_signed(immediate << 12)
        } else {
            address.wrapping_add_signed(immediate)
        });
    }
    if word.is(0xff80_0000, 0x9100_0000) {
        let immediate =
            u64::from(word.bits(10, 12)) << if word.is(0x0040_0000, 0x0040_0000) { 12 } else { 0 };
        let source = word.register(5);
        return if source == SP_OR_ZERO { None } else { Some(known.get(source)?.wrapping_add(immediate)) };
    }
    if word.is(0x7f80_0000, 0x5280_0000) {
        return Some(u64::from(word.bits(5, 16)) << (word.bits(21, 2) << 4));
    }
    if word.is(0x7f80_03e0, 0x3200_03e0) {
        return bitmask(word);
    }
    None
}

/// A bitmask immediate without repetition within the register (all small constants are such).
fn bitmask(word: Word) -> Option<u64> {
    let width = if word.is(0x8000_0000, 0x8000_0000) { 64 } else { 32 };
    let (whole, rotate, ones) = (word.bits(22, 1), word.bits(16, 6), word.bits(10, 6).wrapping_add(1));
    if (width == 64) != (whole == 1) || ones >= width || rotate >= width {
        return None;
    }
    let pattern = (1_u64 << ones).wrapping_sub(1);
    Some(match (width, rotate) {
        (_, 0) => pattern,
        (64, rotate) => pattern.rotate_right(rotate),
        (_, rotate) => (pattern >> rotate) | ((pattern << 32_u32.wrapping_sub(rotate)) & 0xffff_ffff),
    })
}

/// Loads and stores.
fn memory(word: Word, address: u64, known: &mut KnownRegisters) -> Operation {
    let forget = |known: &mut KnownRegisters, register: usize| {
        if register != SP_OR_ZERO {
            known.set(register, None);
        }
    };
    let (target, base) = (word.register(0), word.register(5));
    let scale = word.bits(30, 2);
    let base_value = if base == SP_OR_ZERO { None } else { known.get(base) };
    let (offset, access, size, loads) = if word.is(0x3f00_0000, 0x0800_0000) {
        // ldxr, stxr, ldar, stlr, cas and pairs of them
        forget(known, word.register(16));
        (Some(0), Access::Atomic, 1 << scale, true)
    } else if word.is(0x3b20_0c00, 0x3820_0000) {
        // ldadd, swp and the like
        (Some(0), Access::Atomic, 1 << scale, true)
    } else if word.is(0x3b00_0000, 0x1800_0000) {
        // ldr (literal)
        forget(known, target);
        let address = address.wrapping_add_signed(word.signed(5, 19) << 2);
        return Operation::Reference { address, access: Access::Read, size: if scale == 0 { 4 } else { 8 } };
    } else if word.is(0x3a00_0000, 0x2800_0000) {
        // ldp, stp
        let (element, pair) = if word.is(0x8000_0000, 0x8000_0000) { (8, 16) } else { (4, 8) };
        let loads = word.is(0x0040_0000, 0x0040_0000);
        if loads {
            forget(known, word.register(10));
        }
        let writes_back = word.is(0x0080_0000, 0x0080_0000);
        if writes_back {
            forget(known, base);
        }
        let offset = (!writes_back).then(|| word.signed(15, 7).wrapping_mul(element));
        (offset, if loads { Access::Read } else { Access::Write }, pair, loads)
    } else {
        // ldr, str: unsigned offset; unscaled; pre- and post-indexed; by register
        let loads = word.bits(22, 2) != 0;
        let offset = if word.is(0x0100_0000, 0x0100_0000) {
            Some(i64::from(word.bits(10, 12)) << scale)
        } else if word.is(0x0020_0c00, 0) {
            Some(word.signed(12, 9))
        } else {
            if word.is(0x0020_0400, 0x0000_0400) {
                forget(known, base);
            }
            None
        };
        (offset, if loads { Access::Read } else { Access::Write }, 1 << scale, loads)
    };
    if loads {
        forget(known, target);
    }
    match (base_value, offset) {
        (Some(base), Some(offset)) => {
            Operation::Reference { address: base.wrapping_add_signed(offset), access, size }
        }
        _ => Operation::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[u32], expected: &[Operation]) {
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let decoded = decode(&code, 0x1_0000).expect("decodes");
        let operations: Vec<_> = decoded.iter().map(|instruction| instruction.operation).collect();
        assert_eq!(operations, expected);
    }

    #[test]
    fn calls() {
        check(
            &[
                0xb27f_07e1, // orr x1, xzr, #6
                0xd280_0022, // movz x2, #1
                0x9400_0002, // bl .+8
                0x97ff_ffff, // bl .-4
            ],
            &[
                Operation::Other,
                Operation::Other,
                Operation::Call { target: 0x1_0010, arguments: [None, Some(6), Some(1)] },
                Operation::Call { target: 0x1_0008, arguments: [None; 3] },
            ],
        );
    }

    #[test]
    fn references_through_a_page_address() {
        check(
            &[
                0xb000_0001, // adrp x1, 0x11000
                0x9101_0022, // add x2, x1, #0x40
                0xf940_0843, // ldr x3, [x2, #16]
                0xa941_1424, // ldp x4, x5, [x1, #16]
                0xf900_0043, // str x3, [x2]
                0xc89f_fc43, // stlr x3, [x2]
                0xf8e3_0044, // ldaddal x3, x4, [x2]
                0xf940_0022, // ldr x2, [x1]
                0xf940_0043, // ldr x3, [x2]
            ],
            &[
                Operation::Other,
                Operation::Reference { address: 0x1_1040, access: Access::Take, size: 0 },
                Operation::Reference { address: 0x1_1050, access: Access::Read, size: 8 },
                Operation::Reference { address: 0x1_1010, access: Access::Read, size: 16 },
                Operation::Reference { address: 0x1_1040, access: Access::Write, size: 8 },
                Operation::Reference { address: 0x1_1040, access: Access::Atomic, size: 8 },
                Operation::Reference { address: 0x1_1040, access: Access::Atomic, size: 8 },
                Operation::Reference { address: 0x1_1000, access: Access::Read, size: 8 },
                Operation::Other,
            ],
        );
    }

    #[test]
    fn padding_and_garbage() {
        check(&[0], &[Operation::Other]);
        assert!(decode(&[1, 2, 3], 0).is_err());
        assert_eq!(decode(&0x0001_0000_u32.to_le_bytes(), 0x40), Err(DecodeError::Invalid { address: 0x40 }));
    }

    #[test]
    fn what_the_kernel_simulates() {
        // bl, b, b.eq, cbz, tbz, adrp, br, blr, ret
        for word in [
            0x9400_0001,
            0x1400_0001,
            0x5400_0040,
            0xb400_0040,
            0x3600_0040,
            0xb000_0001,
            0xd61f_0000,
            0xd63f_0000,
            0xd65f_03c0_u32,
        ] {
            assert!(kernel_simulates(&word.to_le_bytes()), "{word:#x}");
        }
        // nop, ldr (literal), str x30, [sp, #-16]!, mov
        for word in [0xd503_201f, 0x5800_0040, 0xf81f_0ffe, 0xaa01_03e0_u32] {
            assert!(!kernel_simulates(&word.to_le_bytes()), "{word:#x}");
        }
        assert!(!kernel_simulates(&[]));
    }

    #[test]
    fn text_of_branches() {
        assert_eq!(text(&0x9400_0002_u32.to_le_bytes(), 0x1000), "bl 0x1008");
        assert_eq!(text(&0x1400_0002_u32.to_le_bytes(), 0x1000), "b 0x1008");
        assert_eq!(text(&0xd503_201f_u32.to_le_bytes(), 0x1000), ".inst 0xd503201f");
        assert_eq!(text(&[], 0), "");
    }
}
