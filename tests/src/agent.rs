//! Runs leakwatch: to its end, or in the background until it is told to stop.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::matrix::repository;
use crate::process::{Guard, Lines, NoLine};
use crate::report::Report;

/// How long leakwatch may take to attach, and to end once it is told to.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a line on standard error has in it when leakwatch's probes are in place.
const ATTACHED: &str = "watching pid ";

/// The leakwatch to test: `LEAKWATCH_BIN`, or what cargo built last for release, else for debugging.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(binary) = std::env::var_os("LEAKWATCH_BIN") {
        let binary = repository().join(binary);
        return if binary.is_file() {
            Ok(binary)
        } else {
            Err(format!("LEAKWATCH_BIN names {}, which is not there", binary.display()))
        };
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = repository().join(target);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("leakwatch"));
    built
        .into_iter()
        .find(|binary| binary.is_file())
        .ok_or_else(|| format!("needs a leakwatch in {}; `cargo build --release` makes it", target.display()))
}

/// A command that runs leakwatch with these arguments, for the caller to alter.
#[track_caller]
pub fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    match binary() {
        Ok(binary) => {
            let mut command = Command::new(binary);
            command.args(arguments);
            command
        }
        Err(reason) => panic!("{reason}"),
    }
}

/// Runs leakwatch to its end.
#[track_caller]
pub fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
    Agent::start(arguments).wait()
}

/// Watches a process for a time, such as `5s`, and returns the report.
#[track_caller]
pub fn watch_for(pid: u32, duration: &str, more: &[&str]) -> Report {
    let mut arguments = vec!["watch", "--format", "json", "--duration", duration];
    let pid = pid.to_string();
    arguments.extend(["--pid", &pid]);
    arguments.extend(more);
    run(&arguments).report()
}

/// A leakwatch that runs in the background; killed and reaped when dropped.
#[derive(Debug)]
pub struct Agent {
    guard: Guard,
    stdout: Lines,
    stderr: Lines,
    said: Vec<String>,
}

/// How a leakwatch ended, and all it printed.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Agent {
    /// Starts leakwatch.
    #[track_caller]
    pub fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::start_command(&mut command(arguments))
    }

    /// Starts watching a process and waits until the probes are in place: what happens to the process after
    /// this is counted. `more` are further arguments of `watch`.
    #[track_caller]
    pub fn watch(pid: u32, more: &[&str]) -> Self {
        let pid = pid.to_string();
        let mut arguments = vec!["watch", "--format", "json", "--pid", &pid];
        arguments.extend(more);
        let mut agent = Self::start(&arguments);
        agent.wait_attached();
        agent
    }

    /// Starts a command of the caller's that becomes leakwatch.
    #[track_caller]
    pub fn start_command(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guard = Guard::start_as_is(command);
        let stdout = Lines::of(guard.child().stdout.take().expect("it is piped"));
        let stderr = Lines::of(guard.child().stderr.take().expect("it is piped"));
        Self { guard, stdout, stderr, said: Vec::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// Waits until it says that its probes are in place.
    #[track_caller]
    pub fn wait_attached(&mut self) {
        self.wait_said(ATTACHED);
    }

    /// Waits for a line on standard error that has this in it, and returns it.
    #[track_caller]
    pub fn wait_said(&mut self, part: &str) -> String {
        loop {
            match self.stderr.next(PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(NoLine::NotInTime) => {
                    panic!("leakwatch does not say {part:?}; it said {:#?}", self.said)
                }
                Err(NoLine::Closed) => {
                    panic!("leakwatch ended instead of saying {part:?}: {:#?}", self.said)
                }
            }
        }
    }

    /// The next line of its standard output, as `events` and `--format jsonl` print them.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        match self.stdout.next(PATIENCE) {
            Ok(line) => line,
            Err(why) => panic!("no line from leakwatch: {why:?}; it said {:#?}", self.said),
        }
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.guard.signal(signal);
    }

    /// Ctrl-C: it ends with its report.
    #[track_caller]
    pub fn interrupt(self) -> Outcome {
        self.signal(Signal::SIGINT);
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        // Pipes are closed by the end, so reading them out is waiting for it; `Guard::wait` sees to the time.
        let mut stdout = Vec::new();
        let mut idle = 0;
        loop {
            match self.stdout.next(Duration::from_secs(1)) {
                Ok(line) => {
                    stdout.push(line);
                    idle = 0;
                }
                Err(NoLine::Closed) => break,
                Err(NoLine::NotInTime) => {
                    idle += 1;
                    assert!(idle < 300, "leakwatch does not end; it said {:#?}", self.rest_said());
                }
            }
        }
        let status = self.guard.wait(PATIENCE);
        let stderr = self.rest_said().join("\n");
        Outcome { status, stdout: stdout.join("\n"), stderr }
    }

    fn rest_said(&mut self) -> Vec<String> {
        let mut said = std::mem::take(&mut self.said);
        said.extend(self.stderr.rest(Duration::from_millis(500)));
        said
    }
}

impl Outcome {
    /// Its exit code; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The JSON report on its standard output; panics when it did not end well.
    #[track_caller]
    pub fn report(&self) -> Report {
        assert!(self.status.success(), "leakwatch failed: {}\n{}", self.status, self.stderr);
        Report::parse(&self.stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that behaves as leakwatch does, as far as this module knows.
    fn stand_in(script: &str) -> Agent {
        Agent::start_command(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn an_interrupted_agent_ends_with_its_report() {
        let mut agent = stand_in(
            r#"trap 'echo "{\"schema\": \"leakwatch.report/1\"}"; kill $!; exit 0' INT
            echo 'leakwatch: a first line' >&2; sleep 1000 >&- 2>&- &
            echo "leakwatch: watching pid 7" >&2; wait"#,
        );
        agent.wait_attached();
        let outcome = agent.interrupt();
        assert_eq!(outcome.code(), Some(0));
        assert_eq!(outcome.stderr, "leakwatch: a first line\nleakwatch: watching pid 7");
        assert_eq!(outcome.report().json()["schema"], "leakwatch.report/1");
    }

    #[test]
    fn an_agent_that_cannot_attach_is_not_waited_for() {
        let agent = std::panic::catch_unwind(|| stand_in("echo 'leakwatch: no' >&2; exit 1").wait_attached());
        let said = agent.expect_err("it panics");
        assert!(said.downcast_ref::<String>().expect("a text").contains("leakwatch: no"));
    }
}
