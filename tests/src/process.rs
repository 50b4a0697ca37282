//! Child processes that cannot outlive or hang a test: killed and reaped when dropped, waited for with an end.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a condition that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// So often in any case.
const LEAST_LOOKS: u32 = 10;

/// A child process that is killed and reaped when this is dropped.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    line: String,
}

impl Guard {
    /// Starts `command` with its standard input, output and error piped.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::start_as_is(command)
    }

    /// Starts `command` with the pipes that it asks for itself.
    #[track_caller]
    pub fn start_as_is(command: &mut Command) -> Self {
        let line = format!("{command:?}");
        match command.spawn() {
            Ok(child) => Self { child, line },
            Err(error) => panic!("{line} does not start: {error}"),
        }
    }

    /// Its process id; while this value lives it is nobody else's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid is an i32");
        if let Err(error) = kill(Pid::from_raw(pid), signal) {
            panic!("{} cannot be sent {signal}: {error}", self.line);
        }
    }

    /// Whether it has not ended.
    #[track_caller]
    pub fn is_running(&mut self) -> bool {
        match self.child.try_wait() {
            Ok(status) => status.is_none(),
            Err(error) => panic!("{} cannot be waited for: {error}", self.line),
        }
    }

    /// Waits for its end; panics when that does not come in time.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let ended = eventually(limit, || !self.is_running());
        assert!(ended, "{} has not ended within {limit:?}", self.line);
        match self.child.wait() {
            Ok(status) => status,
            Err(error) => panic!("{} cannot be waited for: {error}", self.line),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill, and waiting returns at once.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Looks until `done` or until the time is over; tells which. It looks some times at least: when the machine stood still meanwhile, or a
/// look took all of the time, that is nobody's failure.
#[expect(clippy::disallowed_methods, reason = "patience is a time, however long a look takes")]
pub fn eventually(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    let mut looks = 0;
    while looks < LEAST_LOOKS || begun.elapsed() < limit {
        if done() {
            return true;
        }
        looks += 1;
        std::thread::sleep(LOOK);
    }
    false
}

/// The lines of a pipe, read by a thread of their own so that one can stop waiting for the next.
#[derive(Debug)]
pub struct Lines(Receiver<String>);

impl Lines {
    /// Takes over a pipe.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        Self::ending_in(b'\n', pipe)
    }

    /// Takes over a pipe of messages that end in this byte.
    pub fn ending_in(end: u8, pipe: impl Read + Send + 'static) -> Self {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines.read_until(end, &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(char::from(end)).to_owned();
                if send.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self(receive)
    }

    /// The next line, or why there is none.
    pub fn next(&self, limit: Duration) -> Result<String, NoLine> {
        self.0.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoLine::NotInTime,
            RecvTimeoutError::Disconnected => NoLine::Closed,
        })
    }

    /// What is left until the pipe is closed, each line waited for up to `limit`.
    pub fn rest(&self, limit: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.next(limit) {
            lines.push(line);
        }
        lines
    }
}

/// Why there is no next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLine {
    /// The time is over.
    NotInTime,
    /// The other side has closed the pipe.
    Closed,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_dropped_child_is_gone() {
        let guard = Guard::start(Command::new("sleep").arg("1000"));
        let folder = format!("/proc/{}", guard.pid());
        assert!(Path::new(&folder).exists());
        drop(guard);
        assert!(!Path::new(&folder).exists(), "not killed, or not reaped");
    }

    #[test]
    fn what_is_awaited_is_looked_at_often_enough_and_not_for_longer() {
        let mut looks = 0;
        let third = || {
            looks += 1;
            looks == 3
        };
        assert!(eventually(Duration::ZERO, third), "the time is over before it begins");
        let mut looks = 0;
        let never = || {
            looks += 1;
            std::thread::sleep(10 * LOOK);
            false
        };
        // It is the time that counts, not how often there was a pause.
        assert!(!eventually(100 * LOOK, never) && (10..50).contains(&looks), "{looks} looks");
    }

    #[test]
    fn lines_end_in_time() {
        let mut guard = Guard::start(Command::new("sh").args(["-c", "echo one; echo two; exec sleep 1000"]));
        let lines = Lines::of(guard.child().stdout.take().expect("it is piped"));
        assert_eq!(lines.next(Duration::from_secs(10)), Ok("one".to_owned()));
        assert_eq!(lines.next(Duration::from_secs(10)), Ok("two".to_owned()));
        assert_eq!(lines.next(Duration::from_millis(20)), Err(NoLine::NotInTime));
        guard.signal(Signal::SIGKILL);
        assert!(!guard.wait(Duration::from_secs(10)).success());
        assert_eq!(lines.next(Duration::from_secs(10)), Err(NoLine::Closed));
    }
}
