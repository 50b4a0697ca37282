//! A register of the probed program, by its hardware number.

use core::{arch::asm, mem::offset_of};

use aya_ebpf::{bindings::pt_regs, programs::ProbeContext};
use leakwatch_common::INSTRUCTION_POINTER;

/// Reads a register of the program at the probe. `None`: no such register.
///
/// The verifier allows a context access only at a constant offset from the context itself, and LLVM would fold
/// sixteen loads into one at a computed address. So each load is one instruction of its own. Not inlined: after a
/// trap the instruction cache is cold, and small code is fast code.
#[inline(never)]
pub(crate) fn read(ctx: &ProbeContext, register: u8) -> Option<u64> {
    macro_rules! field {
        ($name:ident) => {{
            let value: u64;
            // SAFETY: ctx.regs is the context the kernel gave us, and the offset is within it.
            unsafe {
                asm!(
                    "{value} = *(u64 *)({regs} + {offset})",
                    value = out(reg) value,
                    regs = in(reg) ctx.regs,
                    offset = const offset_of!(pt_regs, $name),
                    options(nostack, readonly, pure),
                );
            }
            value
        }};
    }
    Some(match register {
        0 => field!(rax),
        1 => field!(rcx),
        2 => field!(rdx),
        3 => field!(rbx),
        4 => field!(rsp),
        5 => field!(rbp),
        6 => field!(rsi),
        7 => field!(rdi),
        8 => field!(r8),
        9 => field!(r9),
        10 => field!(r10),
        11 => field!(r11),
        12 => field!(r12),
        13 => field!(r13),
        14 => field!(r14),
        15 => field!(r15),
        INSTRUCTION_POINTER => field!(rip),
        _ => return None,
    })
}
