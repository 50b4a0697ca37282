//! Every way for a task to end: what ends how is counted once, and what has ended is not alive.

use leakwatch_tests::{Agent, TokioTarget, gate, matrix, need, tokio};

use super::nothing_is_lost;

/// One watch over all of them, on the oldest tokio with names and on the newest without: each type is compared, so that
/// a failure says what ended wrongly.
#[track_caller]
fn each(preparation: &[&str], commands: &[&str]) {
    let [oldest, newest] =
        [matrix::TOKIO_RELEASES[0], matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1]];
    for binary in [matrix::tokio_target(oldest, "release"), matrix::tokio_target(newest, "strip")] {
        need!(gate::live(), gate::file(&binary.path));
        let mut target = TokioTarget::start(&binary.path);
        for command in preparation {
            target.command(command);
        }
        let about = format!("{}: {commands:?}", binary.name());
        let before = target.truth();
        let agent = Agent::watch(target.pid(), &[]);
        for command in commands {
            match target.try_command(command) {
                Ok(_) => {}
                // Not every version has everything.
                Err(error) => assert!(error.contains("this version"), "{about}: {command}: {error}"),
            }
        }
        let after = target.truth();
        let report = agent.interrupt().report();
        let process = report.process(target.pid());
        tokio::assert_is(process, &before, &after, binary.is_named(), &about);
        nothing_is_lost(process, &about);
    }
}

#[test]
fn by_themselves_by_aborts_and_by_panics() {
    each(
        &["spawn notify 40", "spawn mutex 7", "spawn sleeplong 3", "spawn pending 40", "spawn big 10"],
        &[
            "finish notify 15",
            "finish mutex 7",
            "storm 3000 2",
            "nested 100",
            "localstorm 500",
            "abort pending 15",
            "abort big 10",
            "aborts 300",
            "sets 20 9",
            "panics 200",
        ],
    );
}

#[test]
fn by_shutdowns() {
    each(
        &["spawn pending 6", "spawn second 50", "spawn local 20"],
        &[
            "shutdown",
            "spawn second 9",
            "shutdown background",
            "endlocal",
            "runtimes 9 30",
            "localsets 5",
            "toolate 70",
        ],
    );
}

#[test]
fn but_their_handles_are_kept() {
    each(&["spawn kept 60"], &["finish kept 20", "storm 500", "dropkept", "finish kept 5", "abort kept 5"]);
}

#[test]
fn of_blocking_jobs() {
    each(
        &["spawn blocking 12", "spawn pending 3"],
        &["finish blocking 5", "blockstorm 400", "inplace 30", "spawn blocking 4"],
    );
}
