//! 200,000 tasks as fast as the program can, and a leakwatch that comes and goes meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use leakwatch_tests::{Agent, TokioTarget, gate, matrix, need, tokio};

use super::nothing_is_lost;
use crate::storm::Raise;

#[test]
fn of_200_000_tasks() {
    for (n, release) in matrix::TOKIO_RELEASES.into_iter().enumerate() {
        let [named, stripped] = matrix::tokio_pair(release);
        let (binary, start): (_, fn(&Path) -> TokioTarget) = match n % 2 {
            0 => (named, TokioTarget::start),
            _ => (stripped, TokioTarget::start_current_thread),
        };
        need!(gate::live(), gate::file(&binary.path));
        let mut target = start(&binary.path);
        let about = format!("{} {}", binary.name(), target.ready().runtime);
        target.command("spawn pending 500");
        let before = target.truth();
        let agent = Agent::watch(target.pid(), &[]);
        target.command("storm 200000 4");
        target.command("spawn oneshot 7");
        let after = target.truth();
        let report = agent.interrupt().report();
        let process = report.process(target.pid());
        tokio::assert_is(process, &before, &after, binary.is_named(), &about);
        nothing_is_lost(process, &about);
    }
}

/// How often an attach amid a storm is tried.
const TIMES: usize = 3;

#[test]
fn amid_which_leakwatch_attaches() {
    let binary = matrix::tokio_target(matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1], "tiny-strip");
    need!(gate::live(), gate::file(&binary.path));
    let mut target = TokioTarget::start(&binary.path);
    target.command("spawn pending 300");
    target.command("spawn local 40");
    for time in 0..TIMES {
        let about = format!("{}, attach {time}", binary.name());
        let before = target.truth();
        let pid = target.pid();
        let attached = AtomicBool::new(false);
        let agent = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                while !attached.load(Ordering::Relaxed) {
                    target.command("storm 30000 2");
                    target.command("localstorm 500");
                    target.command("aborts 20");
                }
            });
            let _end = Raise(&attached);
            let agent = Agent::watch(pid, &[]);
            attached.store(true, Ordering::Relaxed);
            load.join().expect("the load");
            agent
        });
        target.command("storm 2000");
        let after = target.truth();
        let report = agent.interrupt().report();
        super::late::live_is_exact(report.process(pid), &before, &after, &about);
    }
}
