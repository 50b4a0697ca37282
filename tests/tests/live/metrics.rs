//! The metrics of a watch, against what the program knows and what Prometheus's own checker says of them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use leakwatch_tests::{Agent, Target, gate, matrix, need};

use crate::folder::Folder;

/// Samples of a text exposition: the name with its labels as they are printed, and the value.
pub(crate) fn samples(text: &str) -> Vec<(&str, f64)> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').expect("a value"))
        .map(|(name, value)| (name, value.replace("+Inf", "inf").parse().expect("a number")))
        .collect()
}

/// The sum of a metric's samples that have all these texts among their labels.
pub(crate) fn sum(text: &str, metric: &str, having: &[&str]) -> f64 {
    let of = samples(text).into_iter().filter(|(name, _)| {
        name.strip_prefix(metric).is_some_and(|labels| labels.starts_with('{'))
            && having.iter().all(|part| name.contains(part))
    });
    of.map(|(_, value)| value).sum()
}

/// What `promtool check metrics` complains of; nothing when all is well.
pub(crate) fn complaints(text: &str) -> String {
    let promtool = matrix::third_party("promtool").expect("the gate has looked");
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() || !said.is_empty() { said } else { output.status.to_string() }
}

#[test]
fn metrics_are_what_the_program_knows() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path), gate::third_party("promtool"));
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 500");
    let before = target.check();
    let pid = target.pid().to_string();
    let mut agent = Agent::start(["watch", "--format", "prometheus", "--pid", &pid]);
    agent.wait_attached();
    target.command("storm 10000");
    target.command("finish chan 100");
    target.command("spawn mutex 30");
    let after = target.check();
    let outcome = agent.interrupt();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let text = outcome.stdout + "\n";

    let whole = format!("pid=\"{pid}\"");
    let is = |metric: &str, having: &[&str], truth: u64| {
        let having: Vec<&str> = having.iter().copied().chain([whole.as_str()]).collect();
        let value = sum(&text, metric, &having);
        let truth = f64::from(u32::try_from(truth).expect("a count"));
        assert!((value - truth).abs() < 0.5, "{metric} {having:?}: {value}, not {truth}\n{text}");
    };
    is("leakwatch_tasks_live", &["runtime=\"go\""], after.num_goroutine);
    is("leakwatch_site_tasks_live", &["runtime=\"go\""], after.num_goroutine);
    is("leakwatch_tasks_started_total", &[], after.started - before.started);
    is("leakwatch_tasks_ended_total", &[], after.ended - before.ended);
    // Nobody saw those start that were alive at attach.
    is("leakwatch_task_lifetime_seconds_count", &[], after.ended - before.ended - 100);
    is("leakwatch_threads_live", &[], after.threads);
    let mut by_function: BTreeMap<&str, _> = BTreeMap::new();
    for (function, truth) in &after.sites {
        by_function.insert(function, truth.live);
    }
    for (function, live) in by_function {
        is("leakwatch_site_tasks_live", &[&format!("function=\"{function}\"")], live);
    }
    assert_eq!(complaints(&text), "");
}

#[test]
fn a_file_of_metrics_is_whole_all_the_while() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path), gate::third_party("promtool"));
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 50");
    let folder = Folder::new("metrics");
    let file = folder.path().join("leakwatch.prom");
    let pid = target.pid().to_string();
    let path = file.to_str().expect("a path");
    let agent = Agent::start([
        "watch",
        "--format",
        "prometheus",
        "--interval",
        "50ms",
        "--pid",
        &pid,
        "--output",
        path,
    ]);
    let mut seen = 0;
    let done = leakwatch_tests::process::eventually(std::time::Duration::from_mins(1), || {
        let Ok(text) = std::fs::read_to_string(&file) else { return false };
        assert!(text.ends_with('\n') && text.contains("leakwatch_build_info{"), "cut: {text}");
        seen += 1;
        seen > 20
    });
    assert!(done, "the file was never written");
    let outcome = agent.interrupt();
    assert!(outcome.status.success() && outcome.stdout.is_empty(), "{}", outcome.stderr);
    assert_eq!(complaints(&std::fs::read_to_string(&file).expect("the file")), "");
}
