//! A register of the probed program, by its hardware number.

use aya_ebpf::programs::ProbeContext;

/// Reads a register of the program at the probe. `None`: no such register.
///
/// Each arm is a volatile read at a constant offset: the verifier refuses a context access at a computed one.
#[inline(always)]
pub(crate) fn read(ctx: &ProbeContext, register: u8) -> Option<u64> {
    macro_rules! field {
        ($name:ident) => {
            // SAFETY: ctx.regs is the context the kernel gave us; constant field offsets are what the verifier
            // allows.
            unsafe { core::ptr::read_volatile(&raw const (*ctx.regs).$name) }
        };
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
        _ => return None,
    })
}
