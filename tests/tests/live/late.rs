//! Attaching to programs that start and end goroutines all the while: from the first moment on
//! `live = live_at_attach + started - ended`, exactly.

use std::sync::atomic::{AtomicBool, Ordering};

use leakwatch_tests::matrix::GO_RELEASES;
use leakwatch_tests::report::ProcessReport;
use leakwatch_tests::{Agent, Target, Truth, gate, matrix, need};

use crate::storm::Raise;

/// How often each of these tests attaches.
const TIMES: usize = 5;

/// Panics unless what is alive is the truth, in all and by function, although nobody can know what was alive at the
/// moment of the attach.
#[track_caller]
fn live_is_exact(process: ProcessReport<'_>, before: &Truth, after: &Truth, about: &str) {
    let tasks = process.tasks();
    assert_eq!(tasks.live, after.num_goroutine, "{about}: live");
    assert_eq!(tasks.live + tasks.ended, tasks.live_at_attach + tasks.started, "{about}: {tasks:?}");
    assert_eq!(process.drift(), 0, "{about}: drift");
    assert!(tasks.started <= after.started - before.started, "{about}: {tasks:?}, {before:?}, {after:?}");
    for (function, counts) in process.by_function() {
        let truth = after.sites.get(&function).copied().unwrap_or_default();
        assert_eq!(counts.live, truth.live, "{about}: {function}");
        assert_eq!(
            counts.live + counts.ended,
            counts.live_at_attach + counts.started,
            "{about}: {function}: {counts:?}"
        );
        let earlier = before.sites.get(&function).copied().unwrap_or_default();
        assert!(counts.started <= truth.started - earlier.started, "{about}: {function}: {counts:?}");
        assert!(counts.ended <= truth.ended - earlier.ended, "{about}: {function}: {counts:?}");
    }
    for (function, truth) in after.sites.iter().filter(|(_, truth)| truth.live > 0) {
        assert!(process.by_function().contains_key(function), "{about}: {function} is missing: {truth:?}");
    }
    assert_eq!(process.json()["losses"], serde_json::json!({}), "{about}: losses");
}

fn while_busy(version: &'static str) {
    for flavour in ["plain", "strip"] {
        let binary = matrix::go_target(version, flavour);
        need!(gate::live(), gate::file(&binary.path));
        let mut target = Target::start(&binary.path);
        let held = target.command("spawn chan 300")["function"].as_str().expect("a name").to_owned();
        for time in 0..TIMES {
            let about = format!("{}, attach {time}", binary.name());
            let before = target.check();
            target.command("busy 60 25000");
            let agent = Agent::watch(target.pid(), &[]);
            target.command("spawn mutex 10");
            target.command("finish mutex 4");
            // Busy again between the commands; its answer is exact for its moment only.
            assert!(target.truth().busy, "{about}: it is busy all the while");
            target.command("idle");
            let after = target.check();
            let report = agent.interrupt().report();
            let process = report.process(target.pid());
            live_is_exact(process, &before, &after, &about);
            assert_eq!(process.by_function()[&held].live_at_attach, 300, "{about}");
        }
    }
}

fn while_collecting(version: &'static str) {
    let binary = matrix::go_target(version, "plain");
    need!(gate::live(), gate::file(&binary.path));
    let mut target = Target::start(&binary.path);
    target.command("spawn select 200");
    for time in 0..TIMES {
        let about = format!("{}, attach {time}", binary.name());
        let before = target.check();
        let pid = target.pid();
        let attached = AtomicBool::new(false);
        let agent = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                while !attached.load(Ordering::Relaxed) {
                    target.command("gcstorm 1000");
                    target.command("stacks 20");
                }
            });
            let _end = Raise(&attached);
            let agent = Agent::watch(pid, &[]);
            attached.store(true, Ordering::Relaxed);
            load.join().expect("the load");
            agent
        });
        target.command("gcstorm 500");
        let after = target.check();
        let report = agent.interrupt().report();
        live_is_exact(report.process(pid), &before, &after, &about);
    }
}

fn with_100_000_alive(version: &'static str) {
    let binary = matrix::go_target(version, "stripped");
    need!(gate::live(), gate::file(&binary.path));
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 100000");
    target.command("spawn mutex 50");
    let before = target.truth();
    let agent = Agent::watch(target.pid(), &[]);
    target.command("finish chan 30000");
    target.command("storm 20000");
    target.command("spawn chan 10");
    let after = target.truth();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    process.assert_is(&before, &after, &binary.name());
    assert_eq!(process.json()["losses"], serde_json::json!({}), "{}", binary.name());
}

#[test]
fn while_goroutines_come_and_go_on_the_oldest() {
    while_busy(GO_RELEASES[0]);
}

#[test]
fn while_goroutines_come_and_go_on_the_newest() {
    while_busy(GO_RELEASES[GO_RELEASES.len() - 1]);
}

#[test]
fn while_the_collector_runs_on_the_oldest() {
    while_collecting(GO_RELEASES[0]);
}

#[test]
fn while_the_collector_runs_on_the_newest() {
    while_collecting(GO_RELEASES[GO_RELEASES.len() - 1]);
}

#[test]
fn with_100_000_goroutines_on_the_oldest() {
    with_100_000_alive(GO_RELEASES[0]);
}

#[test]
fn with_100_000_goroutines_on_the_newest() {
    with_100_000_alive(GO_RELEASES[GO_RELEASES.len() - 1]);
}
