//! What leakwatch says to processes and files that it cannot use: one clear sentence, the right exit code, nothing else.
#![expect(clippy::tests_outside_test_module, reason = "all of it is a test")]

mod files;
mod machine;
mod processes;
mod reports;

use std::{
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output, Stdio},
};

/// leakwatch with these arguments.
fn leakwatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leakwatch"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it, and has it fail with exit code 1 and this one line on standard error.
#[track_caller]
fn refuses(mut command: Command, sentence: &str) {
    let output = command.output().expect("leakwatch starts");
    let (stdout, stderr) = texts(&output);
    assert_eq!(stderr.lines().collect::<Vec<_>>(), [format!("leakwatch: {sentence}")], "{command:?}");
    assert_eq!(stdout, "", "{command:?}");
    assert_eq!(output.status.code(), Some(1), "{command:?}");
}

fn texts(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A child that is killed and reaped, whatever the test does.
struct Target(Child);

impl Target {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the target starts"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits for what nobody announces; it comes within moments or the test fails.
#[track_caller]
fn eventually(mut done: impl FnMut() -> bool) {
    for _ in 0..5000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("it has not come to pass");
}

/// Whether this test can run as root; a skip is announced, and a failure where none is allowed.
#[expect(clippy::print_stdout, reason = "`cargo xtask test` counts these lines")]
fn as_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(!std::env::var("LEAKWATCH_LIVE").is_ok_and(|mode| mode == "require"), "{test} needs root");
    println!("SKIP {test}: needs root");
    false
}

/// leakwatch as the user nobody. The path of the program may be closed to that user, the open file is not.
fn as_nobody(arguments: &[&str]) -> (Command, std::fs::File) {
    use std::os::fd::AsRawFd as _;
    const NOBODY: u32 = 65534;
    let program = std::fs::File::open(env!("CARGO_BIN_EXE_leakwatch")).expect("leakwatch is there");
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(arguments).stdin(Stdio::null()).current_dir("/").uid(NOBODY).gid(NOBODY);
    (command, program)
}
