//! Two versions of tokio in one process: each is a runtime of its own, and nothing is counted twice.

use leakwatch_tests::report::Counts;
use leakwatch_tests::tokio::{TASKS, by_type};
use leakwatch_tests::{Agent, Target, gate, matrix, need};
use serde_json::Value;

/// Live, started and ended of one of the two.
fn of(truth: &Value, side: &str) -> [u64; 3] {
    ["live", "started", "ended"].map(|figure| truth[side][figure].as_u64().expect("a count"))
}

#[test]
fn are_counted_each() {
    need!(gate::live(), gate::file(&matrix::two_tokios()));
    let mut target = Target::start(&matrix::two_tokios());
    target.command("spawn newer 30");
    let before = target.command("spawn older 11");
    let agent = Agent::watch(target.pid(), &[]);
    for command in
        ["storm newer 300", "storm older 200", "finish newer 12", "finish older 3", "spawn newer 5"]
    {
        target.command(command);
    }
    let after = target.command("truth");
    let report = agent.interrupt().report();
    let process = report.process(target.pid());

    let runtimes = process.json()["runtimes"].as_array().cloned().unwrap_or_default();
    let mut versions: Vec<_> = runtimes
        .iter()
        .filter(|runtime| runtime["kind"] == TASKS)
        .map(|runtime| runtime["version"].clone())
        .collect();
    versions.sort_by_key(Value::to_string);
    let ends = [matrix::TOKIO_RELEASES[0], matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1]];
    assert_eq!(versions, ends, "{runtimes:#?}");

    let types = by_type(process, TASKS);
    let mut all = Counts::default();
    for (side, module) in [("newer", "two::newer::"), ("older", "two::older_side::")] {
        let mut sum = Counts::default();
        for counts in types.iter().filter(|(name, _)| name.starts_with(module)).map(|(_, counts)| counts) {
            sum.live += counts.live;
            sum.live_at_attach += counts.live_at_attach;
            sum.started += counts.started;
            sum.ended += counts.ended;
        }
        let ([live_at_attach, started_before, ended_before], [live, started, ended]) =
            (of(&before, side), of(&after, side));
        let expected =
            Counts { live, live_at_attach, started: started - started_before, ended: ended - ended_before };
        assert_eq!(sum, expected, "{side}: {types:#?}");
        all.live += live;
        all.live_at_attach += live_at_attach;
        all.started += expected.started;
        all.ended += expected.ended;
    }
    assert_eq!(process.tasks(), all, "in all");
    assert_eq!(process.drift(), 0);
}
