//! `--mode memory`: what is alive, read from memory alone, without a probe.

use leakwatch_tests::{Agent, Target, gate, matrix, need};

#[test]
fn counts_without_a_probe() {
    for version in [matrix::GO_RELEASES[0], matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 1]] {
        let binary = matrix::go_target(version, "strip");
        need!(gate::live(), gate::file(&binary.path));
        let about = binary.name();
        let mut target = Target::start(&binary.path);
        target.command("spawn chan 100");
        target.command("spawn iowait 5");
        let before = target.check();
        let agent = Agent::watch(target.pid(), &["--mode", "memory"]);
        target.command("storm 2000");
        target.command("finish chan 40");
        target.command("spawn method 30");
        let after = target.check();
        let report = agent.interrupt().report();

        assert_eq!(report.json()["overhead"]["probe_hits"], 0, "{about}");
        let process = report.process(target.pid());
        assert_eq!(process.json()["runtimes"][0]["mode"], "memory", "{about}");
        assert_eq!(process.tasks().live, after.num_goroutine, "{about}: live");
        assert_eq!(process.tasks().live_at_attach, before.num_goroutine, "{about}: live at attach");
        assert!(process.json()["tasks"]["drift"].is_null(), "{about}: there is nothing to compare with");
        let functions = process.by_function();
        for (function, truth) in &after.sites {
            let live = functions.get(function).map_or(0, |counts| counts.live);
            assert_eq!(live, truth.live, "{about}: {function}");
        }
        let sum: u64 = functions.values().map(|counts| counts.live).sum();
        assert_eq!(sum, after.live, "{about}: nothing else");
    }
}
