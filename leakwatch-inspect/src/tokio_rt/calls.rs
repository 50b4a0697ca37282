//! Addresses that a function's code takes: those that it passes to a call, among them the `Location` that
//! `#[track_caller]` functions such as `tokio::spawn` are given, in stripped programs, too.
//!
//! Must never take an instruction's middle for its start: the function is decoded from its first byte.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

/// Longest function that is decoded.
const MAX_FUNCTION_BYTES: usize = 1 << 20;
/// Most addresses of one function; those of a function with more are not all seen.
const MAX_TAKEN: usize = 1 << 12;

/// What a function's code takes the address of, in the order of the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// All of them.
    pub all: Vec<u64>,
    /// Since the call before, for the call that returns to the place that was asked for.
    pub for_call: Vec<u64>,
}

/// Addresses that the function with these bytes takes, the first of which is at `address`; `return_address` is behind
/// the call that is meant. `fixed`: the program is not relocated, so that a number may be an address. `None`: it does not
/// decode.
pub fn taken(bytes: &[u8], address: u64, return_address: Option<u64>, fixed: bool) -> Option<Taken> {
    (bytes.len() <= MAX_FUNCTION_BYTES).then_some(())?;
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut taken = Taken::default();
    let mut since_call = Vec::new();
    let mut instruction = Instruction::default();
    while decoder.can_decode() && taken.all.len() < MAX_TAKEN {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return None;
        }
        let of_number = matches!(instruction.op1_kind(), OpKind::Immediate32 | OpKind::Immediate32to64);
        match instruction.mnemonic() {
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
                since_call.push(instruction.ip_rel_memory_address());
            }
            Mnemonic::Mov if fixed && instruction.op0_register().is_gpr() && of_number => {
                since_call.push(instruction.immediate(1));
            }
            _ => {}
        }
        let calls = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        if calls {
            if return_address == Some(instruction.next_ip()) {
                taken.for_call.clone_from(&since_call);
            }
            taken.all.append(&mut since_call);
        }
    }
    taken.all.append(&mut since_call);
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_is_given_is_what_was_taken_since_the_call_before() {
        // lea rdi, [rip+0x10]; call +0; lea rsi, [rip+0x20]; lea rdx, [rip+0x30]; call +0; ret
        let code = [
            0x48, 0x8d, 0x3d, 0x10, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x48, 0x8d, 0x35, 0x20, 0, 0, 0, 0x48, 0x8d,
            0x15, 0x30, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc3,
        ];
        let of = |return_address| taken(&code, 0x1000, return_address, false).expect("it decodes");
        assert_eq!(of(Some(0x101f)).for_call, [0x1033, 0x104a]);
        assert_eq!(of(Some(0x100c)).for_call, [0x1017]);
        assert_eq!(of(None), Taken { all: vec![0x1017, 0x1033, 0x104a], for_call: Vec::new() });
        // mov edi, 0x404040; call +0
        let fixed = [0xbf, 0x40, 0x40, 0x40, 0, 0xe8, 0, 0, 0, 0];
        assert_eq!(taken(&fixed, 0x1000, Some(0x100a), true).expect("it decodes").for_call, [0x40_4040]);
        assert_eq!(taken(&fixed, 0x1000, Some(0x100a), false).expect("it decodes").all, [0_u64; 0]);
        assert_eq!(taken(&[0x06], 0x1000, None, false), None, "no instruction of 64-bit code");
    }
}
