//! tokio: programs with known tasks, watched in every way, and programs that nobody here wrote.

use leakwatch_tests::report::ProcessReport;
use leakwatch_tests::{TokioTarget, tokio};

mod ends;
mod harm;
mod late;
mod matrix;
mod memory;
mod mixed;
mod spawns;
mod storm;
mod third_party;
mod two;

/// Kinds of `spawn` that nothing but an abort ends.
const ENDLESS: [&str; 2] = ["pending", "sleeplong"];

/// Spawns tasks of every kind, of each another number, so that types without names can be told apart.
#[track_caller]
fn spawn_all(target: &mut TokioTarget, least: u64) {
    for (n, kind) in (least..).zip(target.kinds()) {
        target.command(&format!("spawn {kind} {n}"));
    }
}

/// Everything that starts and ends tasks.
#[track_caller]
fn churn(target: &mut TokioTarget) {
    for command in ["storm 5000", "storm 10000 3", "localstorm 1500", "nested 300", "yields 101"] {
        target.command(command);
    }
    for command in ["aborts 200", "blockstorm 130", "runtimes 6", "localsets 7", "toolate 50"] {
        target.command(command);
    }
    // Not every build can do these.
    let ready = target.ready().clone();
    if ready.panics {
        target.command("panics 110");
    }
    if ready.joinset {
        target.command("sets 12");
    }
    if ready.runtime == "multi_thread" {
        target.command("inplace 9");
    }
}

/// Lets some of those end that were there at attach, in all ways, and starts more.
#[track_caller]
fn move_on(target: &mut TokioTarget) {
    for kind in target.kinds() {
        if !ENDLESS.contains(&kind.as_str()) {
            target.command(&format!("finish {kind} 1"));
        }
        // A job that runs cannot be aborted; the others have no handle of their own.
        if !["blocking", "joinset", "detached"].contains(&kind.as_str()) {
            target.command(&format!("abort {kind} 1"));
        }
        target.command(&format!("spawn {kind} 2"));
    }
}

/// Nothing was lost, and all of tokio was found.
#[track_caller]
fn nothing_is_lost(process: ProcessReport<'_>, about: &str) {
    assert_eq!(process.lost_events(), 0, "{about}: lost events");
    let losses = process.json()["losses"].as_object().cloned().unwrap_or_default();
    assert!(losses.is_empty(), "{about}: losses: {losses:?}");
    let runtime = runtime(process, about);
    assert_eq!(runtime["mode"], "probes", "{about}: {runtime:#}");
    assert_eq!(runtime["problems"], serde_json::json!([]), "{about}");
}

/// The entry of tokio among the runtimes.
#[track_caller]
fn runtime<'a>(process: ProcessReport<'a>, about: &str) -> &'a serde_json::Value {
    let runtimes = process.json()["runtimes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut tokios = runtimes.iter().filter(|runtime| runtime["kind"] == tokio::TASKS);
    let found = tokios.next();
    assert!(tokios.next().is_none(), "{about}: one tokio is there once: {runtimes:#?}");
    found.unwrap_or_else(|| panic!("{about}: no tokio among {runtimes:#?}"))
}
