//! tokio: programs with known tasks, watched in every way, and programs that nobody here wrote.

use leakwatch_tests::report::ProcessReport;
use leakwatch_tests::{TokioTarget, tokio};

mod ends;
mod harm;
mod memory;
mod two;

/// Spawns tasks of every kind, of each another number, so that types without names can be told apart.
#[track_caller]
fn spawn_all(target: &mut TokioTarget, least: u64) {
    for (n, kind) in (least..).zip(target.kinds()) {
        target.command(&format!("spawn {kind} {n}"));
    }
}

/// Nothing was lost, and all of tokio was found.
#[track_caller]
fn nothing_is_lost(process: ProcessReport<'_>, about: &str) {
    assert_eq!(process.lost_events(), 0, "{about}: lost events");
    let mut losses = process.json()["losses"].as_object().cloned().unwrap_or_default();
    // A thread from before the attach that exits is counted under this name, too.
    losses.remove("end_without_start");
    assert!(losses.is_empty(), "{about}: losses: {losses:?}");
    let runtime = runtime(process, about);
    assert_eq!(runtime["mode"], "probes", "{about}: {runtime:#}");
    // tokio 1.20 has types, none of which is counted wrongly here, of which the end is not known: it says so.
    let known = "have no known place where they end";
    let problems = runtime["problems"].as_array().into_iter().flatten();
    let problems: Vec<_> =
        problems.filter(|problem| !problem.as_str().is_some_and(|text| text.contains(known))).collect();
    assert!(problems.is_empty(), "{about}: problems: {problems:#?}");
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
