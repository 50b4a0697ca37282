//! A program whose true threads and children are known: `tests/targets/c`, `cpp` and `python`, driven over its pipes.
//!
//! Commands: `leak N` starts threads that wait, `finish N` ends some, `quick N` starts and joins, `fork N [PROGRAM]`
//! forks and collects, `zombies N [PROGRAM]` forks and does not, `collect` does, `child PROGRAM` forks one and gives its
//! pid, `truth` does nothing. Every answer comes when the kernel's list of threads shows that the work is done.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{ChildStdin, Command};
use std::time::Duration;

use serde::Deserialize;

use crate::process::{Guard, Lines};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running target; killed and reaped when dropped.
#[derive(Debug)]
pub struct NativeTarget {
    guard: Guard,
    stdin: ChildStdin,
    stdout: Lines,
}

/// What the target knows.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct NativeTruth {
    /// Threads now, as the kernel lists them, the first one among them.
    pub threads: u64,
    /// By function.
    pub sites: BTreeMap<String, NativeSite>,
}

/// What the target knows of one place that makes threads or children.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct NativeSite {
    /// The line of the call; 0 before the first.
    pub line: u64,
    /// Alive now.
    pub live: u64,
    /// Made since the process began.
    pub started: u64,
    /// Ended since the process began.
    pub ended: u64,
}

impl NativeTarget {
    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut guard = Guard::start(command);
        let child = guard.child();
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = Lines::of(child.stdout.take().expect("it is piped"));
        let mut target = Self { guard, stdin, stdout };
        assert!(target.line().contains("pid"), "it says first who it is");
        target
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// Sends a command; what it knows when that is done.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> NativeTruth {
        let answer = self.answer(line);
        match serde_json::from_str(&answer) {
            Ok(truth) => truth,
            Err(error) => panic!("`{line}` was answered by {answer}: {error}"),
        }
    }

    /// Forks a child that executes a program; its pid.
    #[track_caller]
    pub fn child(&mut self, program: &str) -> u32 {
        let answer: serde_json::Value =
            serde_json::from_str(&self.answer(&format!("child {program}"))).expect("JSON");
        answer["child"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
    }

    /// Sends a command; the line that answers it.
    #[track_caller]
    pub fn answer(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").expect("it reads commands");
        self.line()
    }

    #[track_caller]
    fn line(&mut self) -> String {
        match self.stdout.next(PATIENCE) {
            Ok(line) => line,
            Err(why) => panic!("the target says nothing: {why:?}"),
        }
    }
}
