//! `--mode memory`: what is alive, read from memory alone, without a probe, is what `num_alive_tasks` says.

use leakwatch_tests::tokio::{TASKS, by_type};
use leakwatch_tests::{Agent, TokioTarget, gate, matrix, need};

use super::{runtime, spawn_all};

#[test]
fn counts_without_a_probe() {
    for release in matrix::TOKIO_RELEASES {
        for binary in matrix::tokio_pair(release) {
            need!(gate::live(), gate::file(&binary.path));
            let about = binary.name();
            let mut target = TokioTarget::start(&binary.path);
            spawn_all(&mut target, 10);
            // What is left in memory of tasks that have ended is no task.
            target.command("storm 20000 2");
            target.command("finish kept 7");
            let before = target.truth();
            let agent = Agent::watch(target.pid(), &["--mode", "memory"]);
            target.command("storm 2000");
            target.command("finish notify 4");
            target.command("abort pending 2");
            target.command("spawn method 30");
            let after = target.truth();
            let report = agent.interrupt().report();

            assert_eq!(report.json()["overhead"]["probe_hits"], 0, "{about}");
            let process = report.process(target.pid());
            assert_eq!(runtime(process, &about)["mode"], "memory", "{about}");
            assert_eq!(process.tasks().live, after.live, "{about}: live");
            assert_eq!(process.tasks().live_at_attach, before.live, "{about}: live at attach");
            let types = by_type(process, TASKS);
            let live: u64 = types.values().map(|counts| counts.live).sum();
            assert_eq!(live, after.live, "{about}: by type: {types:#?}");
        }
    }
}
