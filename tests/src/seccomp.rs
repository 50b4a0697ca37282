//! What the kernel refuses a process: its filters of system calls, as the kernel has them, run here against numbers.

use std::process::Command;

use crate::matrix;

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` of linux/audit.h.
pub const X86_64: u32 = 0xc000_003e;
/// See [`X86_64`].
pub const I386: u32 = 0x4000_0003;
/// What is set in numbers of the x32 calls of an x86-64 kernel (`__X32_SYSCALL_BIT`).
pub const X32: u32 = 0x4000_0000;

/// What a filter says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Allowed,
    /// It fails with this error number.
    Refused(u32),
    /// The process ends.
    Killed,
}

/// The filters of a process; a call is judged by all of them.
#[derive(Clone, Debug)]
pub struct Filters(Vec<Vec<(u16, u8, u8, u32)>>);

impl Filters {
    /// Those of a process, which stands still for a moment. `Err`: this kernel does not tell, or not us.
    ///
    /// # Errors
    /// What Python said.
    pub fn of(pid: u32) -> Result<Self, String> {
        let output = Command::new("python3")
            .arg(matrix::repository().join("tests/seccomp.py"))
            .arg(pid.to_string())
            .output()
            .map_err(|error| format!("python3: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map(Self).map_err(|error| error.to_string())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What becomes of a call with this number.
    #[track_caller]
    pub fn verdict(&self, arch: u32, number: u32) -> Verdict {
        let one = |filter: &Vec<(u16, u8, u8, u32)>| match run(filter, arch, number) {
            // SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS of linux/seccomp.h
            0x7fff_0000 => Verdict::Allowed,
            action @ 0x0005_0000..=0x0005_ffff => Verdict::Refused(action & 0xffff),
            0x8000_0000 => Verdict::Killed,
            other => panic!("action {other:#x}"),
        };
        let verdicts = self.0.iter().map(one);
        verdicts.min_by_key(|verdict| *verdict == Verdict::Allowed).unwrap_or(Verdict::Allowed)
    }
}

/// Runs a program of classic BPF over the data of a call (`linux/filter.h`, `linux/bpf_common.h`): what it returns.
#[track_caller]
fn run(program: &[(u16, u8, u8, u32)], arch: u32, number: u32) -> u32 {
    let (mut at, mut accumulator) = (0_usize, 0);
    loop {
        let (code, yes, no, k) = program[at];
        at += 1;
        match code {
            // BPF_LD | BPF_W | BPF_ABS, of seccomp_data: the number, the architecture
            0x20 => accumulator = [number, arch][usize::try_from(k).expect("small") / 4],
            // BPF_JMP | BPF_JA
            0x05 => at += usize::try_from(k).expect("small"),
            // BPF_JMP | BPF_JEQ | BPF_K
            0x15 => at += usize::from(if accumulator == k { yes } else { no }),
            // BPF_RET | BPF_K
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}
