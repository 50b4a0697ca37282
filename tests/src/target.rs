//! A program whose true task counts are known: `tests/targets/go/truth`, driven over its pipes.
//!
//! Its README has the protocol; other targets speak it, too. Every answer comes when the work is done and the counts are settled.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::process::{Guard, Lines, NoLine};

/// How long an answer may take; far more than any needs, also under probes and on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running target; killed and reaped when dropped.
#[derive(Debug)]
pub struct Target {
    guard: Guard,
    /// Empty once it has been closed.
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
    ready: Ready,
}

/// What a target says of itself when it starts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the protocol")]
pub struct Ready {
    /// Its process id, in its own pid namespace.
    pub pid: u32,
    /// What the runtime calls itself, such as `go1.27.3`.
    pub version: String,
    /// GOMAXPROCS; 0 where it is not Go.
    #[serde(default)]
    pub gomaxprocs: u32,
    /// The commands cgocall and cgocallback are there.
    #[serde(default)]
    pub cgo: bool,
    /// The coroutine commands are there.
    #[serde(default)]
    pub coroutines: bool,
    /// tokio: `multi_thread` or `current_thread`.
    #[serde(default)]
    pub runtime: String,
    /// tokio: a panic does not end the program.
    #[serde(default)]
    pub panics: bool,
    /// tokio: this version has a `JoinSet`.
    #[serde(default)]
    pub joinset: bool,
}

/// What the target knows of its goroutines.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Truth {
    /// `runtime.NumGoroutine`: all that are alive, and main.
    pub num_goroutine: u64,
    /// Alive now, without main.
    pub live: u64,
    /// Started since the process began.
    pub started: u64,
    /// Ended since the process began.
    pub ended: u64,
    /// By creating function, as the runtime prints it.
    pub sites: BTreeMap<String, SiteTruth>,
    /// Threads now, as the kernel lists them.
    pub threads: u64,
    /// Child processes started since the process began.
    pub forks: u64,
    /// Goroutines start and end in the background, so this is stale by now.
    pub busy: bool,
}

/// What the target knows of the goroutines that one function creates.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct SiteTruth {
    /// Alive now.
    pub live: u64,
    /// Started since the process began.
    pub started: u64,
    /// Ended since the process began.
    pub ended: u64,
}

impl Truth {
    /// What was started and has ended since `earlier`, and what is alive now, by creating function; functions
    /// of which nothing is alive and nothing happened are left out.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> BTreeMap<String, SiteTruth> {
        let mut sites = BTreeMap::new();
        for (function, now) in &self.sites {
            let before = earlier.sites.get(function).copied().unwrap_or_default();
            let change = SiteTruth {
                live: now.live,
                started: now.started - before.started,
                ended: now.ended - before.ended,
            };
            if change != SiteTruth::default() {
                sites.insert(function.clone(), change);
            }
        }
        sites
    }
}

impl Target {
    /// Starts a target and waits until it is ready.
    #[track_caller]
    pub fn start(binary: &Path) -> Self {
        Self::start_command(&mut Command::new(binary))
    }

    /// Starts a target with this GOMAXPROCS.
    #[track_caller]
    pub fn start_with_procs(binary: &Path, procs: u32) -> Self {
        Self::start_command(Command::new(binary).env("TRUTH_GOMAXPROCS", procs.to_string()))
    }

    /// Starts a target by a command of the caller's: other environment, namespace, wrapper that execs it.
    #[track_caller]
    pub fn start_command(command: &mut Command) -> Self {
        let mut guard = Guard::start(command);
        let child = guard.child();
        let stdin = child.stdin.take();
        let stdout = Lines::of(child.stdout.take().expect("it is piped"));
        let stderr = Lines::of(child.stderr.take().expect("it is piped"));
        // What it is ready with is filled in when it says so.
        let mut target = Self { guard, stdin, stdout, stderr, ready: Ready::default() };
        target.ready = target.read_ready();
        target
    }

    /// Its process id, as this test's process sees it.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// What it said of itself.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Sends a command and returns what its answer carries; panics when the answer is an error.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> Value {
        self.command_within(line, PATIENCE)
    }

    /// As `command`, with a limit of the caller's.
    #[track_caller]
    pub fn command_within(&mut self, line: &str, limit: Duration) -> Value {
        match self.ask(line, limit) {
            Ok(value) => value,
            Err(error) => panic!("target: `{line}`: {error}"),
        }
    }

    /// Sends a command that may be refused; the error is the target's.
    #[track_caller]
    pub fn try_command(&mut self, line: &str) -> Result<Value, String> {
        self.ask(line, PATIENCE)
    }

    /// What it knows of its goroutines, settled.
    #[track_caller]
    pub fn truth(&mut self) -> Truth {
        self.account("truth")
    }

    /// As `truth`, after the target has compared it with its runtime's own dump, site by site.
    #[track_caller]
    pub fn check(&mut self) -> Truth {
        self.account("check")
    }

    /// Lets it replace itself by itself and waits until the new one is ready.
    #[track_caller]
    pub fn exec(&mut self) {
        self.send("exec");
        self.ready = self.read_ready();
    }

    /// Lets it end with this code.
    #[track_caller]
    pub fn exit(mut self, code: u8) -> ExitStatus {
        self.command(&format!("exit {code}"));
        self.guard.wait(PATIENCE)
    }

    /// Lets it crash by an unrecovered panic.
    #[track_caller]
    pub fn crash(mut self) -> ExitStatus {
        self.command("crash");
        self.guard.wait(PATIENCE)
    }

    /// Closes its standard input, at which it ends by itself.
    #[track_caller]
    pub fn close(mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.guard.wait(PATIENCE)
    }

    /// Kills it with SIGKILL and reaps it.
    #[track_caller]
    pub fn kill(mut self) -> ExitStatus {
        self.guard.signal(Signal::SIGKILL);
        self.guard.wait(PATIENCE)
    }

    /// Whether it has not ended.
    #[track_caller]
    pub fn is_running(&mut self) -> bool {
        self.guard.is_running()
    }

    #[track_caller]
    fn account(&mut self, command: &str) -> Truth {
        let answer = self.command(command);
        match serde_json::from_value(answer.clone()) {
            Ok(truth) => truth,
            Err(error) => panic!("target: `{command}` answers {answer}: {error}"),
        }
    }

    #[track_caller]
    fn read_ready(&mut self) -> Ready {
        let line = self.read(PATIENCE);
        let ready = line.strip_prefix("ready ").and_then(|text| serde_json::from_str(text).ok());
        ready.unwrap_or_else(|| panic!("target: instead of being ready it says {line:?}"))
    }

    #[track_caller]
    fn ask(&mut self, line: &str, limit: Duration) -> Result<Value, String> {
        self.send(line);
        let answer = self.read(limit);
        if let Some(error) = answer.strip_prefix("err ") {
            return Err(error.to_owned());
        }
        let value = answer.strip_prefix("ok ").and_then(|text| serde_json::from_str(text).ok());
        Ok(value.unwrap_or_else(|| panic!("target: `{line}` is answered by {answer:?}")))
    }

    #[track_caller]
    fn send(&mut self, line: &str) {
        assert!(!line.contains('\n'), "one command is one line");
        let pipe = self.stdin.as_mut().expect("closing it consumes the target");
        if let Err(error) = pipe.write_all(format!("{line}\n").as_bytes()) {
            panic!("target: `{line}` cannot be sent: {error}; it said {:?}", self.last_words());
        }
    }

    #[track_caller]
    fn read(&mut self, limit: Duration) -> String {
        match self.stdout.next(limit) {
            Ok(line) => line,
            Err(NoLine::NotInTime) => panic!("target: no answer within {limit:?}"),
            Err(NoLine::Closed) => panic!("target: it ended; it said {:?}", self.last_words()),
        }
    }

    /// The end of what it wrote to its standard error.
    fn last_words(&self) -> String {
        self.stderr.rest(Duration::from_millis(200)).into_iter().take(20).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gate, matrix, need};

    /// A program that says what it is told to.
    fn stand_in(script: &str) -> Target {
        let ready =
            r#"echo 'ready {"pid":1,"version":"go0","gomaxprocs":1,"cgo":false,"coroutines":false}'; "#;
        Target::start_command(Command::new("sh").args(["-c", &format!("{ready}{script}")]))
    }

    fn panics(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let said = std::panic::catch_unwind(f).expect_err("it panics");
        said.downcast_ref::<String>().expect("a text").clone()
    }

    #[test]
    fn a_hung_target_fails_the_test() {
        let said = panics(|| {
            stand_in("exec sleep 1000").command_within("truth", Duration::from_millis(20));
        });
        assert_eq!(said, "target: no answer within 20ms");
    }

    #[test]
    fn a_target_that_ends_is_named_with_its_last_words() {
        let said = panics(|| {
            stand_in("read line; echo out of luck >&2").command("truth");
        });
        assert!(said.ends_with("it ended; it said \"out of luck\""), "{said}");
    }

    #[test]
    fn the_book_is_kept() {
        let binary = matrix::any_go_target().path;
        need!(gate::file(&binary));
        let mut target = Target::start(&binary);
        assert_eq!(target.ready().pid, target.pid());
        let before = target.check();
        let spawned = target.command("spawn chan 5");
        assert_eq!((&spawned["function"], &spawned["live"]), (&"main.leakChan".into(), &5.into()));
        target.command("finish chan 2");
        assert_eq!(target.command("storm 1000 3")["started"], 1003);

        let after = target.check();
        let change = after.since(&before);
        assert_eq!(change["main.leakChan"], SiteTruth { live: 3, started: 5, ended: 2 });
        assert_eq!(change["main.startStormTask"], SiteTruth { live: 0, started: 1000, ended: 1000 });
        assert_eq!((after.num_goroutine, after.live, after.started, after.ended), (4, 3, 1008, 1005));
        assert_eq!(target.truth().since(&after)["main.leakChan"].started, 0);

        let refused = target.try_command("finish nilchan 1").expect_err("there are none");
        assert!(refused.contains("0 goroutines of this site can end"), "{refused}");
        target.exec();
        assert_eq!(target.truth().started, 0);
        assert!(target.is_running());
        assert_eq!(target.exit(7).code(), Some(7));
    }

    #[test]
    fn a_target_ends_as_it_is_told() {
        let binary = matrix::any_go_target().path;
        need!(gate::file(&binary));
        assert!(Target::start(&binary).close().success());
        assert_eq!(Target::start_with_procs(&binary, 1).crash().code(), Some(2));
        assert!(!Target::start(&binary).kill().success());
    }
}
