//! The corpus: programs full of tasks that leak and of tasks that only look so, with the truth beside each
//! (`tests/targets/corpus`), watched by leakwatch, and what it said of each.
//!
//! A corpus is cut in two by a hash of its names, once and for all: one half is for tuning, the other is looked at only
//! to be reported.

mod score;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

pub use score::{Case, Score, Today};

use crate::agent::{Agent, run};
use crate::matrix;
use crate::process::{Guard, Lines};

/// Whose tasks.
pub const RUNTIMES: [&str; 3] = ["go", "tokio", "threads"];

/// How long each is watched, seconds: the verdicts are those of the end.
pub const WATCH_S: u64 = 60;

/// How long a program may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which half of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Thresholds were chosen by what it shows.
    Tuning,
    /// Nobody looked at it while they were chosen.
    HeldOut,
}

impl Half {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tuning, Self::HeldOut];

    /// That of a shape, for ever: the high word of the FNV-1a hash of `RUNTIME NAME` is even or odd
    /// (G. Fowler, L. Noll, P. Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>).
    pub fn of(runtime: &str, name: &str) -> Self {
        let hash = format!("{runtime} {name}").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        if (hash >> 32).is_multiple_of(2) { Self::Tuning } else { Self::HeldOut }
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tuning => "tuning",
            Self::HeldOut => "held out",
        }
    }
}

/// When leakwatch attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// As soon as the program is ready.
    Early,
    /// A minute later.
    Late,
}

impl Attach {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Late => "late",
        }
    }
}

/// One way to start tasks, and the truth of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// Some of its tasks stay for ever.
    pub leaks: bool,
    /// What starts its tasks, or is what they run, begins with one of these.
    pub functions: Vec<String>,
}

impl Shape {
    /// A site is one of its.
    pub fn owns(&self, site: &Value) -> bool {
        let names = [&site["function"], &site["task"]].into_iter().filter_map(Value::as_str);
        names.into_iter().any(|name| self.functions.iter().any(|function| is_of(name, function)))
    }
}

/// A name is that of the function, of something inside of it (`f.func1`, `f::{{closure}}`), or of its threads (`f_body`).
/// Names of tokio's tasks have more before it.
fn is_of(name: &str, function: &str) -> bool {
    let whole = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
    let path = function.contains("::");
    name.match_indices(function)
        .any(|(at, found)| (at == 0 || path) && name.get(at + found.len()..).is_none_or(whole))
}

/// The program of a runtime.
pub fn program(runtime: &str) -> PathBuf {
    matrix::targets_root().join("corpus").join(runtime).join("corpus")
}

/// All shapes of a runtime.
///
/// # Panics
/// When the program is not there or does not tell.
#[track_caller]
pub fn shapes(runtime: &str) -> Vec<Shape> {
    let output = Command::new(program(runtime)).arg("list").output().expect("the corpus is built");
    serde_json::from_slice(&output.stdout).expect("a list of shapes")
}

/// Shapes that run.
#[derive(Debug)]
pub struct Running {
    runtime: &'static str,
    shapes: Vec<Shape>,
    guard: Guard,
}

impl Running {
    /// Starts these shapes in one process.
    ///
    /// # Panics
    /// When it does not start, or when two shapes share a site: nobody could tell whose verdict it is.
    #[track_caller]
    pub fn start(runtime: &'static str, shapes: Vec<Shape>) -> Self {
        let all: Vec<&String> = shapes.iter().flat_map(|shape| &shape.functions).collect();
        for (place, function) in all.iter().enumerate() {
            assert!(!all.iter().skip(place + 1).any(|other| other == function), "two shapes have {function}");
        }
        let mut command = Command::new(program(runtime));
        command.arg("run").args(shapes.iter().map(|shape| &shape.name));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guard = Guard::start_as_is(&mut command);
        let lines = Lines::of(guard.child().stdout.take().expect("it is piped"));
        let ready = lines.next(PATIENCE).unwrap_or_else(|why| panic!("the corpus of {runtime}: {why:?}"));
        assert!(ready.starts_with("ready"), "{ready}");
        Self { runtime, shapes, guard }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// How its tasks are counted.
    pub fn modes(&self) -> &'static [&'static str] {
        modes(self.runtime)
    }

    /// What a watch of it says of each shape.
    #[track_caller]
    pub fn score(&self, reports: &[Value], attach: Attach, mode: &'static str) -> Vec<Case> {
        self.shapes.iter().map(|shape| Case::of(self.runtime, shape, attach, mode, reports)).collect()
    }
}

/// How a runtime's tasks are counted: threads are by the kernel in any mode.
pub fn modes(runtime: &str) -> &'static [&'static str] {
    if runtime == "threads" { &["probes"] } else { &["probes", "memory"] }
}

/// Where the recordings of these programs are, in the order of programs and modes.
pub fn recordings(running: &[Running], attach: Attach, folder: &Path) -> Vec<PathBuf> {
    let of_program = |(number, program): (usize, &Running)| {
        let path = move |mode: &&str| {
            folder.join(format!("{}-{number}-{}-{mode}.lwrec", program.runtime, attach.name()))
        };
        modes(program.runtime).iter().map(path).collect::<Vec<_>>()
    };
    running.iter().enumerate().flat_map(of_program).collect()
}

/// Watches programs in every mode, all at once, from now on, into [`recordings`].
///
/// # Panics
/// When leakwatch fails.
#[track_caller]
pub fn record(running: &[Running], attach: Attach, folder: &Path) -> Vec<PathBuf> {
    fs::create_dir_all(folder).expect("a folder for the recordings");
    let paths = recordings(running, attach, folder);
    let watched =
        running.iter().flat_map(|program| modes(program.runtime).iter().map(|mode| (program.pid(), *mode)));
    let watches: Vec<Agent> = watched
        .zip(&paths)
        .map(|((pid, mode), path)| {
            let (pid, path, length) = (pid.to_string(), path.display().to_string(), format!("{WATCH_S}s"));
            Agent::start(["record", "--pid", &pid, "--duration", &length, "--mode", mode, "--output", &path])
        })
        .collect();
    for agent in watches {
        let outcome = agent.wait();
        assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    }
    paths
}

/// The reports of a recording, one for each interval.
///
/// # Panics
/// When it cannot be replayed.
#[track_caller]
pub fn replay(recording: &Path) -> Vec<Value> {
    let path = recording.display().to_string();
    let outcome = run(["replay", &path, "--format", "jsonl"]);
    assert_eq!(outcome.code(), Some(0), "{path}: {}", outcome.stderr);
    outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("a report")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_belong_to_a_shape_or_to_its_parts() {
        for name in ["main.f", "main.f.func1", "main.f.func1.2", "main.f[...].func1", "main.f.gowrap1"] {
            assert!(is_of(name, "main.f"), "{name}");
        }
        assert!(!is_of("main.ff", "main.f") && !is_of("x.main.f", "main.f"));
        assert!(is_of("corpus::leaks::bursts::{{closure}}::{{closure}}", "corpus::leaks::bursts"));
        assert!(is_of("Cell<corpus::leaks::bursts::{closure#0}>", "corpus::leaks::bursts"));
        assert!(!is_of("corpus::leaks::bursts2::{{closure}}", "corpus::leaks::bursts"));
        assert!(is_of("bursts_body", "bursts"));
    }

    #[test]
    fn the_halves_do_not_change() {
        assert_eq!(Half::of("go", "body never closed"), Half::HeldOut);
        assert_eq!(Half::of("go", "send with no receiver"), Half::Tuning);
        assert_eq!(Half::of("tokio", "accept loop"), Half::Tuning);
    }
}
