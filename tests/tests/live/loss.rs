//! Tables and rings that are far too small: what they had no room for is counted by name, and totals are exact.

use std::fs;

use leakwatch_tests::report::ProcessReport;
use leakwatch_tests::{Agent, Target, agent, gate, matrix, need};
use serde_json::Value;

use crate::folder::Folder;

/// How often the report says that this was lost.
fn lost(process: ProcessReport<'_>, name: &str) -> u64 {
    process.json()["losses"][name].as_u64().unwrap_or(0)
}

/// The names of what was lost.
fn losses(process: ProcessReport<'_>) -> Vec<&str> {
    process.json()["losses"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_ring_that_is_too_small() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let mut target = Target::start(&matrix::any_go_target().path);
    target.command("spawn chan 100");
    let before = target.check();
    let agent = Agent::watch(target.pid(), &["--stream", "--ring-size", "4k"]);
    target.command("storm 100000 2");
    target.command("finish chan 30");
    let after = target.check();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    process.assert_is(&before, &after, "tiny ring");
    assert!(lost(process, "ring_full") > 0, "{:#}", process.json()["losses"]);
    assert_eq!(losses(process), ["ring_full"]);
    assert_eq!(process.lost_events(), lost(process, "ring_full"));
}

#[test]
fn every_event_is_delivered_or_counted_as_lost() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    for (ring, may_lose) in [("4k", true), ("64M", false)] {
        let mut target = Target::start(&matrix::any_go_target().path);
        // What the runtime starts once is started, and no thread is new from here on.
        target.command("storm 20000 2");
        target.command("gc");
        target.command("spawn chan 50");

        let folder = Folder::new("events");
        let file = folder.path().join("events.jsonl");
        let pid = target.pid().to_string();
        let output = file.display().to_string();
        // Another one says what happened in all, the runtime's own goroutines and threads among it.
        let watch = Agent::watch(target.pid(), &[]);
        let mut events = Agent::start(["events", "--pid", &pid, "--ring-size", ring, "--output", &output]);
        events.wait_attached();
        let before = target.check();
        target.command("storm 60000 2");
        target.command("finish chan 20");
        let after = target.check();
        let ended = events.interrupt();
        let report = watch.interrupt().report();
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);

        let summary = ended.stderr.lines().last().unwrap_or_default();
        let figures: Vec<u64> = summary.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[delivered, lost, started, finished] = figures.as_slice() else { panic!("{summary}") };
        let (all_started, all_ended) = (after.started - before.started, after.ended - before.ended);
        assert_eq!((started, finished), (all_started, all_ended), "{summary}");

        let lines = fs::read_to_string(&file).expect("the events");
        assert_eq!(lines.lines().count() as u64, delivered, "{summary}");
        let mut tasks = 0;
        for line in lines.lines() {
            let event: Value = serde_json::from_str(line).expect("an event");
            assert_eq!(event["pid"], target.pid(), "{line}");
            tasks += u64::from(event["kind"] == "task_start" || event["kind"] == "task_end");
        }
        let process = report.process(target.pid());
        let system: u64 =
            process.system_by_function().values().map(|counts| counts.started + counts.ended).sum();
        let sum = |value: &Value| {
            value["started"].as_u64().unwrap_or_default() + value["ended"].as_u64().unwrap_or_default()
        };
        let threads = sum(&process.json()["threads"]);
        assert_eq!(
            delivered + lost,
            started + finished + system + threads,
            "{summary}; {system} events of the runtime's own goroutines, {threads} of threads"
        );
        assert_eq!(lost > 0, may_lose, "{summary}");
        if !may_lose {
            assert_eq!(tasks, started + finished + system, "{summary}");
        }
    }
}

#[test]
fn a_live_table_that_is_too_small() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let mut target = Target::start(&matrix::any_go_target().path);
    target.command("spawn chan 10");
    let before = target.check();
    let agent = Agent::watch(target.pid(), &["--max-tasks", "64"]);
    target.command("spawn mutex 300");
    target.command("storm 20000 2");
    target.command("finish chan 5");
    target.command("finish mutex 100");
    let after = target.check();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    process.assert_is(&before, &after, "64 tasks at most");
    assert!(lost(process, "live_table_full") > 0, "{:#}", process.json()["losses"]);
}

#[test]
fn a_live_table_that_is_too_small_for_what_is_alive_already() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let mut target = Target::start(&matrix::any_go_target().path);
    target.command("spawn chan 500");
    // They cannot be joined with the events then, so it says what to do instead of guessing.
    let pid = target.pid().to_string();
    let refused = agent::run(["watch", "--pid", &pid, "--max-tasks", "64", "--format", "json"]);
    assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("raise it with --max-tasks"), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    target.command("storm 1000");
    target.check();
}

#[test]
fn a_site_table_that_is_too_small() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let mut target = Target::start(&matrix::any_go_target().path);
    target.command("spawn chan 50");
    // Its first collection starts tasks of the runtime's own, which only their site tells from others.
    target.command("gc");
    let before = target.check();
    let agent = Agent::watch(target.pid(), &["--max-sites", "2"]);
    for command in ["spawn mutex 30", "spawn method 20", "spawn select 10", "nested 200", "finish chan 10"] {
        target.command(command);
    }
    let after = target.check();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    assert!(lost(process, "site_table_full") > 0, "{:#}", process.json());
    let tasks = process.tasks();
    assert_eq!(tasks.started, after.started - before.started, "{:#}", process.json()["tasks"]);
    assert_eq!(tasks.ended, after.ended - before.ended);
    assert_eq!((tasks.live, tasks.live_at_attach), (after.num_goroutine, before.num_goroutine));
    for site in process.sites() {
        let figure = |name: &str| site[name].as_u64().expect("a count");
        assert!(figure("ended") <= figure("started") + figure("live_at_attach"), "{site:#}");
        assert_ne!(site["verdict"], "leak", "nobody can know: {site:#}");
    }
}
