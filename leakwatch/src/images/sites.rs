//! Whether the instruction in memory is the one that was chosen in the file.

use leakwatch_inspect::{Arch, ProbeSite, Problem};

use crate::host::{Memory, ReadError};

/// `int3`, what a uprobe or a debugger writes.
const INT3: u8 = 0xcc;
/// `call rel32`: since Linux 6.18 a uprobe on a five-byte nop becomes a call into the kernel's trampoline
/// (arch/x86/kernel/uprobes.c, `int3_update`).
const CALL: u8 = 0xe8;
/// The five-byte nop.
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// `brk #5`, an arm64 uprobe (`UPROBES_BRK_IMM`, arch/arm64/include/asm/brk-imm.h), little-endian.
const BRK5: [u8; 4] = [0xa0, 0x00, 0x20, 0xd4];

/// What keeps a probe from being placed there; `None`: nothing.
pub(super) fn check(arch: Arch, site: &ProbeSite, bias: u64, memory: &impl Memory) -> Option<Problem> {
    check_bytes(arch, &site.function, &site.bytes, site.address.wrapping_add(bias), memory)
}

/// The same for an instruction of a function at a run-time address, with its bytes in the file.
pub fn check_bytes(
    arch: Arch,
    function: &str,
    bytes: &[u8],
    address: u64,
    memory: &impl Memory,
) -> Option<Problem> {
    let mut found = vec![0; bytes.len()];
    let place = format!("the instruction at {address:#x} in {function}");
    match memory.read(address, &mut found) {
        Ok(()) if found == bytes || is_probed(arch, bytes, &found) => None,
        Ok(()) => Some(Problem(format!(
            "{place} is {} in memory but {} in the file, so a probe there could corrupt the program (was it patched, or \
             its file rewritten, after it started?)",
            hex(&found),
            hex(bytes),
        ))),
        Err(ReadError::Ended) => Some(Problem("the process ended".to_owned())),
        Err(error) => Some(Problem(format!("{place} could not be compared with the file: {error}"))),
    }
}

/// The instruction with somebody's breakpoint in it: another leakwatch, bpftrace, a debugger.
fn is_probed(arch: Arch, file: &[u8], memory: &[u8]) -> bool {
    match arch {
        Arch::X86_64 => match (file.split_first(), memory.split_first()) {
            (Some((_, file_rest)), Some((&INT3, rest))) => rest == file_rest,
            (Some(_), Some((&CALL, _))) => file == NOP5,
            _ => false,
        },
        Arch::Aarch64 => memory == BRK5,
    }
}

/// Bytes of code, as disassemblers print them.
pub fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

#[cfg(test)]
mod tests {
    use leakwatch_inspect::ProbeAction;

    use super::*;
    use crate::host::memory::Fake;

    fn site(bytes: &[u8]) -> ProbeSite {
        ProbeSite {
            action: ProbeAction::Start,
            function: "runtime.newproc1".to_owned(),
            address: 0x1000,
            file_offset: 0,
            bytes: bytes.to_vec(),
            text: String::new(),
            task_register: 0,
            emulated: true,
            reason: String::new(),
        }
    }

    fn problem(arch: Arch, file: &[u8], memory: &[u8]) -> Option<String> {
        let memory = Fake::new().with(0x7000_1000, memory);
        check(arch, &site(file), 0x7000_0000, &memory).map(|problem| problem.0)
    }

    #[test]
    fn equal_or_probed_by_others() {
        let call = [0xe8, 1, 2, 3, 4];
        assert_eq!(problem(Arch::X86_64, &call, &call), None);
        assert_eq!(problem(Arch::X86_64, &call, &[0xcc, 1, 2, 3, 4]), None);
        assert_eq!(problem(Arch::X86_64, &NOP5, &[0xe8, 9, 9, 9, 9]), None);
        assert_eq!(problem(Arch::Aarch64, &[1, 2, 3, 4], &BRK5), None);
    }

    #[test]
    fn different_or_unreadable() {
        let call = [0xe8, 1, 2, 3, 4];
        let text = problem(Arch::X86_64, &call, &[0xcc, 1, 2, 3, 5]).expect("a difference");
        assert!(
            text.starts_with(
                "the instruction at 0x70001000 in runtime.newproc1 is cc 01 02 03 05 in memory but e8 01 02 03 04 in the \
                 file"
            ),
            "{text}"
        );
        assert!(
            problem(Arch::X86_64, &[0x55], &[0xe8]).is_some(),
            "a call is no probe on another instruction"
        );
        assert!(problem(Arch::X86_64, &call, &[0xe8, 1]).expect("unreadable").contains("not mapped"));
    }
}
