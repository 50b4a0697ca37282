//! `leakwatch report`: the page says what the reports of a real leak say. And the demo keeps what it promises.

use leakwatch_tests::{Agent, Target, agent, gate, matrix, need};
use serde_json::Value;

use crate::folder::Folder;

/// Reports that are awaited until the leak is called one: one a second.
const PATIENCE: usize = 120;
/// And reports after that.
const LATER: u32 = 5;

/// A figure of the page, as it stands there.
#[track_caller]
fn assert_says(page: &str, name: &str, value: &str) {
    let entry = format!("<dt>{name}</dt><dd><bdi>{value}</bdi></dd>");
    assert!(page.contains(&entry), "{entry} is not in the page");
}

#[test]
fn a_page_of_a_leak_has_the_figures_of_its_reports() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("page");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let mut target = Target::start(&binary.path);
    target.command("spawn mutex 7");
    let pid = target.pid().to_string();
    // What waits for the mutex is stuck as well, and a proof would say so, sooner or later.
    let mut watch = Agent::start([
        "watch",
        "--pid",
        &pid,
        "--format",
        "jsonl",
        "--stacks",
        "--no-prove",
        "--rule",
        "leak",
    ]);
    watch.wait_attached();
    let mut recorder =
        Agent::start(["record", "--pid", &pid, "--stacks", "--no-prove", "--output", &file("watch.lkw")]);
    recorder.wait_attached();
    let mut lines = String::new();
    let leaks = |line: &str| {
        let report: Value = serde_json::from_str(line).expect("JSON");
        report["processes"][0]["leaks"] == 1
    };
    // Each line of the watch is a second of it. The recording began later, and says so later.
    let mut called = 0;
    for _ in 0..PATIENCE {
        let line = watch.next_line();
        lines.push_str(&line);
        lines.push('\n');
        called += u32::from(leaks(&line));
        if called > LATER {
            break;
        }
        target.command("spawn chan 3");
        target.command("storm 40");
    }
    let truth = target.truth();
    assert_eq!(recorder.interrupt().code(), Some(0));
    let outcome = watch.interrupt();
    lines.push_str(&outcome.stdout);
    let last: Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    let tasks = &last["processes"][0]["tasks"];
    assert_eq!((&tasks["live"], &last["processes"][0]["leaks"]), (&truth.num_goroutine.into(), &1.into()));

    std::fs::write(file("lines.jsonl"), &lines).expect("a file");
    // The lines have what the rule said; the recording is asked anew.
    for (input, output, rule) in
        [("lines.jsonl", "lines.html", &[][..]), ("watch.lkw", "watch.html", &["--rule", "leak"])]
    {
        let (input_file, output_file) = (file(input), file(output));
        let arguments = ["report", &input_file, "--output", &output_file];
        let outcome = agent::run(arguments.iter().chain(rule));
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (Some(0), ""), "{input}");
        let page = std::fs::read_to_string(file(output)).expect("the page");
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>") && page.len() < 200_000);
        assert!(page.contains("<strong class=\"leak\">1 leak</strong> found"), "{input}");
        assert!(page.contains("By 1 rule; firing: leak."), "{input}: the rule");
        assert!(page.contains("<bdi>leak</bdi> <span class=\"soft\">P1</span>"), "{input}: the alert");
        // Of the process and of the site: the truth.
        assert_says(&page, "Alive", &truth.num_goroutine.to_string());
        assert_says(&page, "Alive", &truth.sites["main.leakChan"].live.to_string());
        assert_says(&page, "Lost events", "0");
        assert!(page.contains("main.leakChan") && page.contains("blocked in chan receive"), "{input}");
        assert!(page.contains("aria-label=\"Alive over time: alive from"), "{input}: the course");
        assert!(page.contains("aria-label=\"Survival:"), "{input}: the survival");
        assert!(page.contains(&format!("--pid {pid}")), "{input}: how to make it again");
    }
    // A recording that was cut, a file that is none: nothing is half written.
    let whole = std::fs::read(file("watch.lkw")).expect("the recording");
    std::fs::write(file("cut.lkw"), &whole[..whole.len() - 9]).expect("a file");
    let outcome = agent::run(["report", &file("cut.lkw"), "--format", "markdown"]);
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("> Note: the recording has no end"), "{}", outcome.stdout);
    std::fs::write(file("none"), "goroutine 1 [running]:").expect("a file");
    let outcome = agent::run(["report", &file("none"), "--output", &file("none.html")]);
    assert_eq!((outcome.code(), outcome.stderr.lines().count()), (Some(1), 1), "{}", outcome.stderr);
    assert!(!folder.path().join("none.html").exists());
}

/// Each scenario as long as it says that it takes: the verdicts are those that were promised before.
#[test]
fn the_demo_keeps_its_promises() {
    need!(gate::live());
    let scenarios = ["shop", "slow-leak", "burst", "one-channel", "healthy"];
    let running = scenarios.map(|scenario| (scenario, Agent::start(["demo", scenario])));
    for (scenario, demo) in running {
        let outcome = demo.wait();
        assert_eq!(outcome.code(), Some(0), "{scenario}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("You should see:"), "{scenario}: {}", outcome.stderr);
        let (kept, broken) = ("(as promised)", "(not as promised)");
        assert!(
            outcome.stdout.contains(kept) && !outcome.stdout.contains(broken),
            "{scenario}: {}",
            outcome.stdout
        );
    }
    let listed = agent::run(["demo", "--list"]).stdout;
    for scenario in scenarios {
        assert!(listed.contains(&format!("{scenario} (")), "{listed}");
    }
}
