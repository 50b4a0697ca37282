//! Each way for a task to end, by itself: what ends how is counted once, and what has ended is not alive.

use leakwatch_tests::{Agent, TokioTarget, gate, matrix, need, tokio};

use super::nothing_is_lost;

/// Watches while the commands run, each by itself, on the oldest tokio with names and on the newest without.
fn each(preparation: &[&str], commands: &[&str]) {
    let [oldest, newest] =
        [matrix::TOKIO_RELEASES[0], matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1]];
    for binary in [matrix::tokio_target(oldest, "release"), matrix::tokio_target(newest, "strip")] {
        need!(gate::live(), gate::file(&binary.path));
        let mut target = TokioTarget::start(&binary.path);
        for command in preparation {
            target.command(command);
        }
        for command in commands {
            let about = format!("{}: {command}", binary.name());
            let before = target.truth();
            let agent = Agent::watch(target.pid(), &[]);
            match target.try_command(command) {
                Ok(_) => {}
                // Not every version has everything.
                Err(error) => assert!(error.contains("this version"), "{about}: {error}"),
            }
            let after = target.truth();
            let report = agent.interrupt().report();
            let process = report.process(target.pid());
            tokio::assert_is(process, &before, &after, binary.is_named(), &about);
            nothing_is_lost(process, &about);
        }
    }
}

#[test]
fn but_their_handles_are_kept() {
    each(&["spawn kept 60"], &["finish kept 20", "storm 500", "dropkept", "finish kept 5", "abort kept 5"]);
}
