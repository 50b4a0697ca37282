//! Attaching to programs that start and end tasks all the while: from the first moment on
//! `live = live_at_attach + started - ended`, exactly.

use leakwatch_tests::report::ProcessReport;
use leakwatch_tests::tokio::{TASKS, by_type, common_form};
use leakwatch_tests::{Agent, TokioTarget, TokioTruth, gate, matrix, need, tokio};

/// How often each of these tests attaches.
const TIMES: usize = 3;

/// Panics unless what is alive is the truth, although nobody can know what was alive at the moment of the attach.
#[track_caller]
pub(super) fn live_is_exact(
    process: ProcessReport<'_>,
    before: &TokioTruth,
    after: &TokioTruth,
    about: &str,
) {
    let tasks = process.tasks();
    assert_eq!(tasks.live, after.live, "{about}: live");
    assert_eq!(tasks.live + tasks.ended, tasks.live_at_attach + tasks.started, "{about}: {tasks:?}");
    assert_eq!(process.drift(), 0, "{about}: drift");
    assert!(tasks.started <= after.started - before.started, "{about}: {tasks:?}, {before:?}, {after:?}");
    assert!(tasks.ended <= after.ended - before.ended, "{about}: {tasks:?}, {before:?}, {after:?}");
    for (name, counts) in by_type(process, TASKS) {
        assert_eq!(
            counts.live + counts.ended,
            counts.live_at_attach + counts.started,
            "{about}: {name}: {counts:?}"
        );
    }
    super::nothing_is_lost(process, about);
}

fn while_busy(release: &'static str, flavour: &'static str) {
    let binary = matrix::tokio_target(release, flavour);
    need!(gate::live(), gate::file(&binary.path));
    let mut target = TokioTarget::start(&binary.path);
    let held = target.command("spawn notify 300")["task"].as_str().expect("a name").to_owned();
    for time in 0..TIMES {
        let about = format!("{}, attach {time}", binary.name());
        let before = target.truth();
        target.command("busy 60 25000");
        let agent = Agent::watch(target.pid(), &[]);
        target.command("spawn mutex 10");
        target.command("finish mutex 4");
        // Busy again between the commands; its answer is exact for its moment only.
        assert!(target.truth().busy, "{about}: it is busy all the while");
        target.command("idle");
        let after = target.truth();
        let report = agent.interrupt().report();
        let process = report.process(target.pid());
        live_is_exact(process, &before, &after, &about);
        if binary.is_named() {
            assert_eq!(by_type(process, TASKS)[&common_form(&held)].live_at_attach, 300, "{about}");
        }
    }
}

#[test]
fn while_tasks_come_and_go_on_the_oldest() {
    while_busy(matrix::TOKIO_RELEASES[0], "release");
}

#[test]
fn while_tasks_come_and_go_on_the_newest() {
    while_busy(matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1], "lto-strip");
}

#[test]
fn with_100_000_tasks() {
    let binary = matrix::tokio_target(matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1], "strip");
    need!(gate::live(), gate::file(&binary.path));
    let mut target = TokioTarget::start(&binary.path);
    target.command("spawn notify 100000");
    target.command("spawn mutex 50");
    // Their memory is free again, or kept for the next ones.
    target.command("finish notify 20000");
    let before = target.truth();
    let agent = Agent::watch(target.pid(), &[]);
    target.command("finish notify 30000");
    target.command("storm 20000");
    target.command("spawn notify 10");
    let after = target.truth();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    tokio::assert_is(process, &before, &after, binary.is_named(), &binary.name());
    super::nothing_is_lost(process, &binary.name());
}
