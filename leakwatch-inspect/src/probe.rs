//! Where to probe and what is there: the answer that the kernel floor turns into an attach point.

/// What passing the site means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum ProbeAction {
    /// A task begins.
    Start,
    /// A task ends.
    End,
}

/// One instruction to probe, and why this one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct ProbeSite {
    /// What passing it means.
    pub action: ProbeAction,
    /// The function that holds it.
    pub function: String,
    /// Link-time virtual address.
    pub address: u64,
    /// Byte offset in the file: what a uprobe takes.
    pub file_offset: u64,
    /// The instruction's bytes on disk (at most 15), to be compared with what is mapped.
    pub bytes: Vec<u8>,
    /// The instruction as text, such as `call 0x43a2e0`.
    pub text: String,
    /// Hardware number of the register that holds the task there (x86-64: 0 = rax; arm64: 0 = x0).
    pub task_register: u8,
    /// The kernel emulates this instruction (one trap); otherwise it single-steps it (two).
    pub emulated: bool,
    /// Why this instruction, in one sentence.
    pub reason: String,
}
