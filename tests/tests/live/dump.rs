//! What a Go program prints of its own goroutines (`debug=2`), in the form in which reports are compared with it.

use std::collections::{BTreeMap, BTreeSet};

use leakwatch_tests::Target;
use leakwatch_tests::report::ProcessReport;

use crate::folder::Folder;

/// Goroutines by creating function, without main and the runtime's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dump {
    /// By function and state, how many.
    pub(crate) states: BTreeMap<(String, String), u64>,
    /// By function, the lines (`file:line`) of its go statements that have live goroutines.
    pub(crate) lines: BTreeMap<String, BTreeSet<String>>,
}

/// A goroutine that is not waiting is one or the other from one moment to the next.
const ACTIVE: &str = "running or runnable";

impl Dump {
    /// Asks the target for it.
    #[track_caller]
    pub(crate) fn of(target: &mut Target) -> Self {
        let folder = Folder::new("dump");
        let file = folder.path().join("stacks");
        target.command(&format!("dump {}", file.display()));
        Self::parse(&std::fs::read_to_string(file).expect("the dump"))
    }

    /// Reads what `runtime.Stack` prints, or what pprof serves as `debug=2`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut dump = Self::default();
        for trace in text.split("\n\n").filter(|trace| trace.starts_with("goroutine ")) {
            let Some((function, line)) = creation(trace) else { continue };
            let state =
                trace.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(s, _)| s);
            // `chan receive, 2 minutes, locked to thread`, `runnable (scan)`.
            let state = state.split(',').next().unwrap_or_default().trim_end_matches(" (scan)");
            dump.add(function, state, 1);
            dump.lines.entry(function.to_owned()).or_default().insert(line.to_owned());
        }
        dump
    }

    /// The same of a report.
    pub(crate) fn of_report(process: ProcessReport<'_>) -> Self {
        let mut dump = Self::default();
        // The runtime tells nothing of threads.
        for site in process.sites().iter().filter(|site| site["runtime"] == "go") {
            if site["system"] == true || site["task"] == "runtime.main" || site["live"] == 0 {
                continue;
            }
            let function = site["function"].as_str().unwrap_or_default();
            for group in site["waiting"].as_array().into_iter().flatten() {
                let count = group["count"].as_u64().unwrap_or_default();
                dump.add(function, group["reason"].as_str().unwrap_or_default(), count);
            }
            let line = format!("{}:{}", site["file"].as_str().unwrap_or_default(), site["line"]);
            dump.lines.entry(function.to_owned()).or_default().insert(line);
        }
        dump
    }

    /// Goroutines of this function are only counted.
    pub(crate) fn forget_states_of(&mut self, function: &str) {
        let states = std::mem::take(&mut self.states);
        for ((of, state), count) in states {
            let state = if of == function { "any".to_owned() } else { state };
            *self.states.entry((of, state)).or_default() += count;
        }
    }

    fn add(&mut self, function: &str, state: &str, count: u64) {
        let active = ["running", "runnable", "preempted"].contains(&state);
        let state = if active { ACTIVE } else { state };
        *self.states.entry((function.to_owned(), state.to_owned())).or_default() += count;
    }
}

/// The creating function and the line, from the last two lines of a trace.
fn creation(trace: &str) -> Option<(&str, &str)> {
    let (_, created) = trace.rsplit_once("created by ")?;
    let (function, rest) = created.split_once('\n')?;
    let function = function.split_once(" in goroutine ").map_or(function, |(function, _)| function);
    let place = rest.lines().next()?.trim();
    Some((function, place.rsplit_once(" +0x").map_or(place, |(place, _)| place)))
}

#[test]
fn a_traceback_is_read() {
    let text = "goroutine 1 [running]:\nmain.main()\n\t/src/main.go:3 +0x1\n\n\
        goroutine 7 [chan receive, 2 minutes, locked to thread]:\nmain.f.func1()\n\t/src/main.go:9 +0x1d\n\
        created by main.f in goroutine 1\n\t/src/main.go:8 +0x5c\n\n\
        goroutine 8 [runnable (scan)]:\nmain.f.func1()\ncreated by main.f\n\t/src/main.go:8\n";
    let dump = Dump::parse(text);
    let key = |state: &str| ("main.f".to_owned(), state.to_owned());
    assert_eq!(dump.states, BTreeMap::from([(key("chan receive"), 1), (key(ACTIVE), 1)]));
    assert_eq!(dump.lines["main.f"], BTreeSet::from(["/src/main.go:8".to_owned()]));
}
