//! `record` and `replay`, and the trace of `events`: what is in a file is what was watched.

use std::collections::BTreeMap;
use std::path::Path;

use leakwatch_tests::{Agent, Target, agent, gate, matrix, need};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::folder::Folder;

/// The last report of a recording.
#[track_caller]
fn replayed(path: &Path) -> (Value, String) {
    let outcome = agent::run(["replay", &path.display().to_string(), "--format", "json"]);
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    (serde_json::from_str(&outcome.stdout).expect("JSON"), outcome.stderr)
}

#[test]
fn a_replay_gives_the_report_of_the_watch() {
    for release in [matrix::GO_RELEASES[0], matrix::GO_RELEASES[7]] {
        let binary = matrix::go_target(release, "stripped");
        need!(gate::live(), gate::file(&binary.path));
        let folder = Folder::new("recording");
        let (recording, report) = (folder.path().join("watch"), folder.path().join("report.json"));
        let mut target = Target::start(&binary.path);
        target.command("spawn chan 40");
        let pid = target.pid().to_string();
        let (to, report_to) = (recording.display().to_string(), report.display().to_string());
        let mut agent = Agent::start([
            "record",
            "--pid",
            &pid,
            "--output",
            &to,
            "--stacks",
            "--interval",
            "20ms",
            "--format",
            "json",
            "--report",
            &report_to,
        ]);
        agent.wait_attached();
        target.command("storm 5000");
        target.command("spawn mutex 7");
        target.command("finish chan 15");
        let truth = target.truth();
        let outcome = agent.interrupt();
        assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
        let live: Value =
            serde_json::from_str(&std::fs::read_to_string(&report).expect("the report")).expect("JSON");
        let (again, said) = replayed(&recording);
        assert_eq!(said, "", "{}", binary.name());
        assert_eq!(again, live, "{}", binary.name());
        assert_eq!(live["processes"][0]["tasks"]["live"], truth.num_goroutine, "{}", binary.name());
        let stacks = again["processes"][0]["sites"]
            .as_array()
            .expect("sites")
            .iter()
            .any(|site| site["waiting"][0]["stack"].as_array().is_some_and(|stack| !stack.is_empty()));
        assert!(stacks, "stacks have names without the process");

        // Each interval's report is there, too; a short watch may have none but the last.
        let outcome = agent::run(["replay", &to, "--format", "jsonl"]);
        let last: Value = serde_json::from_str(outcome.stdout.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["processes"][0]["tasks"]["live"], truth.num_goroutine, "{}", binary.name());
    }
}

#[test]
fn recorded_events_are_those_of_the_stream() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("events");
    let recording = folder.path().join("watch");
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 10");
    let before = target.truth();
    let (pid, to) = (target.pid().to_string(), recording.display().to_string());
    let mut agent =
        Agent::start(["record", "--events", "--pid", &pid, "--output", &to, "--interval", "50ms"]);
    agent.wait_attached();
    target.command("storm 20000");
    target.command("spawn mutex 6");
    target.command("finish chan 4");
    let after = target.truth();
    let (started, ended) = (after.started - before.started, after.ended - before.ended);
    let outcome = agent.interrupt();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    let (report, said) = replayed(&recording);
    assert_eq!(said, "");
    let tasks = &report["processes"][0]["tasks"];
    assert_eq!((&tasks["started"], &tasks["ended"]), (&started.into(), &ended.into()));

    let events = |path: &Path| -> Vec<Value> {
        let outcome = agent::run(["replay", &path.display().to_string(), "--events"]);
        assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let all = events(&recording);
    // The runtime starts some for itself.
    let own = |event: &Value| event["function"].as_str().is_some_and(|name| name.starts_with("main."));
    let of = |kind: &str| all.iter().filter(|event| event["kind"] == kind && own(event)).count() as u64;
    let lost = tasks["lost_events"].as_u64().expect("a count");
    let told = (of("task_start"), of("task_end"), lost);
    assert_eq!(told.0 + told.1 + lost, started + ended, "{told:?} {}", report["processes"][0]["losses"]);
    assert!(lost > 0 || of("task_start") == started, "{lost} lost");
    let mutexes = all.iter().filter(|event| {
        event["kind"] == "task_start" && event["function"] == "main.leakMutex" && event["line"].is_u64()
    });
    assert_eq!(mutexes.count(), 6);
    assert!(all.iter().all(|event| event["pid"] == target.pid()), "of the process that was watched");
    assert!(all.windows(2).all(|pair| pair[0]["time"].as_str() <= pair[1]["time"].as_str()) || lost == 0);

    // A cut file has the events before the cut.
    let whole = std::fs::read(&recording).expect("the recording");
    let cut = folder.path().join("cut");
    std::fs::write(&cut, &whole[..whole.len() * 2 / 3]).expect("write");
    let some = events(&cut);
    assert!(!some.is_empty() && some.len() < all.len() && all.starts_with(&some));

    // One without them says so.
    let plain = folder.path().join("plain").display().to_string();
    let mut agent = Agent::start(["record", "--pid", &pid, "--output", &plain, "--interval", "50ms"]);
    agent.wait_attached();
    agent.interrupt();
    let outcome = agent::run(["replay", &plain, "--events"]);
    assert_eq!((outcome.code(), outcome.stderr.lines().count()), (Some(1), 1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("no events"), "{}", outcome.stderr);
}

#[test]
fn what_kills_the_recorder_costs_the_tail() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("cut");
    let recording = folder.path().join("watch");
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 40");
    let (pid, to) = (target.pid().to_string(), recording.display().to_string());
    let mut agent = Agent::start(["record", "--pid", &pid, "--output", &to, "--interval", "50ms"]);
    agent.wait_attached();
    let begun = leakwatch_tests::process::eventually(std::time::Duration::from_secs(20), || {
        std::fs::metadata(&recording).is_ok_and(|data| data.len() > 8000)
    });
    assert!(begun, "the recording grows while the watch goes on");
    agent.signal(Signal::SIGKILL);
    let outcome = agent.wait();
    assert_eq!(outcome.signal(), Some(9));
    let (report, said) = replayed(&recording);
    assert!(said.contains("has no end"), "{said}");
    assert_eq!(report["processes"][0]["tasks"]["live"], 41);

    let whole = std::fs::read(&recording).expect("the recording");
    let cut = folder.path().join("shorter");
    for length in [whole.len() - 1, whole.len() * 3 / 4, whole.len() / 2] {
        std::fs::write(&cut, &whole[..length]).expect("write");
        let (report, said) = replayed(&cut);
        assert!(said.contains("has no end"), "{said}");
        assert_eq!(report["processes"][0]["tasks"]["live"], 41, "cut at {length} of {}", whole.len());
    }
    for (length, why) in [(0, "cut before"), (8, "cut before"), (5, "no recording")] {
        std::fs::write(&cut, &whole[..length]).expect("write");
        let outcome = agent::run(["replay", &cut.display().to_string()]);
        assert_eq!((outcome.code(), outcome.stderr.lines().count()), (Some(1), 1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
    }
}

#[test]
fn a_trace_has_the_lives_that_the_program_knows() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("trace");
    let path = folder.path().join("trace.json");
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 10");
    let before = target.truth();
    let (pid, to) = (target.pid().to_string(), path.display().to_string());
    let mut agent = Agent::start(["events", "--pid", &pid, "--trace", &to]);
    agent.wait_attached();
    target.command("storm 3000");
    target.command("spawn mutex 6");
    target.command("finish chan 4");
    let truth = target.truth();
    let outcome = agent.interrupt();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");

    let trace: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("the trace")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("traceEvents");
    let (mut started, mut ended) = (0, 0);
    let mut lanes: BTreeMap<(u64, u64), f64> = BTreeMap::new();
    for event in events {
        // What the Trace Event Format asks of an event.
        let phase = event["ph"].as_str().expect("ph");
        assert!(["X", "i", "M"].contains(&phase), "{event}");
        assert!(event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
        if phase == "X" {
            let (ts, dur) = (event["ts"].as_f64().expect("ts"), event["dur"].as_f64().expect("dur"));
            assert!(ts >= 0.0 && dur >= 0.0, "{event}");
            let lane = (event["pid"].as_u64().expect("pid"), event["tid"].as_u64().expect("tid"));
            if event["cat"] == "state" {
                // Of the life that is before it in the lane.
                let end = lanes.get(&lane).expect("a state has a life");
                assert!(ts + dur <= end + 0.001, "a state longer than its life: {event}");
                continue;
            }
            let end = lanes.insert(lane, ts + dur);
            assert!(end.is_none_or(|end| end <= ts + 0.001), "slices of a lane overlap: {event}");
            // The program's own: the runtime starts some of its own, too.
            if event["cat"] == "go"
                && event["args"]["created_by"].as_str().is_some_and(|by| by.starts_with("main."))
            {
                started += u64::from(event["args"]["started_in_window"] == true);
                ended += u64::from(event["args"]["ended_in_window"] == true);
            }
        }
    }
    assert_eq!((started, ended), (truth.started - before.started, truth.ended - before.ended));
    let names = events.iter().filter(|event| event["name"] == "main.leakMutex.func1");
    assert_eq!(names.count(), 6);
    // What is alive at the end was seen at the end, those from before the window, too.
    let waits = events.iter().filter(|event| event["cat"] == "state" && event["name"] == "chan receive");
    assert!(waits.count() >= 6, "those of leakChan that were not finished");
}
