//! Every version of tokio in every flavour, watched while it does everything that starts and ends tasks: what leakwatch
//! reports is what the program knows, type by type, and what `num_alive_tasks` says.
//!
//! One test for each version, so that a failure names it; what it says names the flavour. Taking probes off takes the
//! kernel some tenths of a second each, so each flavour is watched once: late or early, and with one of the runtimes.

use leakwatch_tests::matrix::{TokioBinary, tokio_flavours};
use leakwatch_tests::{Agent, TokioTarget, gate, matrix, need, tokio};

use super::{churn, move_on, nothing_is_lost, runtime, spawn_all};

/// Attached when tasks of all kinds are there.
#[track_caller]
fn attached_late(binary: &TokioBinary, mut target: TokioTarget) {
    let about = format!("{} {}, late", binary.name(), target.ready().runtime);
    spawn_all(&mut target, 3);
    target.command("finish kept 1");
    let before = target.truth();
    let agent = Agent::watch(target.pid(), &[]);
    churn(&mut target);
    move_on(&mut target);
    let after = target.truth();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    tokio::assert_is(process, &before, &after, binary.is_named(), &about);
    nothing_is_lost(process, &about);
    let version = runtime(process, &about)["version"].as_str().unwrap_or_default();
    assert_eq!(version, binary.release, "{about}");
}

/// Attached before the first task: all of them are seen from their start to their end.
#[track_caller]
fn attached_early(binary: &TokioBinary, mut target: TokioTarget) {
    let about = format!("{} {}, early", binary.name(), target.ready().runtime);
    let before = target.truth();
    let agent = Agent::watch(target.pid(), &[]);
    spawn_all(&mut target, 3);
    churn(&mut target);
    move_on(&mut target);
    for end in ["shutdown", "endlocal", "dropkept", "spawn second 4", "spawn local 3", "shutdown background"]
    {
        target.command(end);
    }
    let after = target.truth();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    tokio::assert_is(process, &before, &after, binary.is_named(), &about);
    nothing_is_lost(process, &about);
}

/// Each flavour once; late or early, and with which runtime, changes from flavour to flavour.
fn release(version: &'static str) {
    for (n, binary) in tokio_flavours(version).iter().enumerate() {
        need!(gate::live(), gate::file(&binary.path));
        match n % 4 {
            0 => attached_late(binary, TokioTarget::start(&binary.path)),
            1 => attached_early(binary, TokioTarget::start_current_thread(&binary.path)),
            2 => attached_early(binary, TokioTarget::start(&binary.path)),
            _ => attached_late(binary, TokioTarget::start_current_thread(&binary.path)),
        }
    }
}

#[test]
fn tokio_1_20() {
    release("1.20.6");
}

#[test]
fn tokio_1_28() {
    release("1.28.2");
}

#[test]
fn tokio_1_36() {
    release("1.36.0");
}

#[test]
fn tokio_1_43() {
    release("1.43.4");
}

#[test]
fn tokio_1_54() {
    release("1.54.1");
}

#[test]
fn every_version_has_a_test() {
    let source = include_str!("matrix.rs");
    for version in matrix::TOKIO_RELEASES {
        assert!(source.contains(&format!("release({version:?});")), "{version} has no test");
    }
}
