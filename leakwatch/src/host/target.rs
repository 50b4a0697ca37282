//! What the tests of this floor look at: children of their own, and copies of programs.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

/// A child that is killed and reaped, whatever the test does.
pub(crate) struct Target(pub(crate) Child);

impl Target {
    /// Starts it with its input and output piped.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the child starts"))
    }

    /// A child that does nothing for long.
    pub(crate) fn sleeping(program: impl AsRef<Path>) -> Self {
        Self::start(Command::new(program.as_ref()).arg("1000"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills and reaps it now.
    pub(crate) fn end(&mut self) {
        self.0.kill().expect("it is killed");
        self.0.wait().expect("it is reaped");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Copies a program by another process: a file that any thread of ours has open for writing while another thread
/// forks cannot be executed for a moment (ETXTBSY).
pub(crate) fn copy(from: &str, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().expect("cp starts").success());
}
