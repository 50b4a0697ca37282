//! Threads and children of Python programs: counts equal to the program's own, sites equal to its lines, in every
//! version of CPython that is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use leakwatch_tests::report::{Counts, ProcessReport};
use leakwatch_tests::{Agent, NativeTarget, NativeTruth, gate, matrix, need};

fn script() -> PathBuf {
    matrix::repository().join("tests/targets/python/threads.py")
}

/// Minor versions of CPython 3 whose frames are read.
const READ: std::ops::RangeInclusive<u32> = 7..=13;

/// The minor version of a CPython 3; `None`: it is another.
fn minor(python: &Path) -> Option<u32> {
    let program = "import sys; print(sys.version_info[0], sys.version_info[1])";
    let output = Command::new(python).args(["-c", program]).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let (major, minor) = text.trim().split_once(' ').expect("two");
    (major == "3").then(|| minor.parse().expect("a number"))
}

#[track_caller]
fn site<'a>(process: ProcessReport<'a>, runtime: &str, function: &str, line: u64) -> &'a serde_json::Value {
    let found = process.sites().iter().find(|site| {
        site["runtime"] == runtime
            && site["line"] == line
            && site["function"].as_str().is_some_and(|name| name.rsplit('.').next() == Some(function))
    });
    found.unwrap_or_else(|| panic!("no {function} at line {line}: {:#}", process.json()))
}

#[track_caller]
fn assert_site(
    process: ProcessReport<'_>,
    runtime: &str,
    name: &str,
    task: Option<&str>,
    after: &NativeTruth,
) {
    let truth = after.sites[name];
    let site = site(process, runtime, name, truth.line);
    let counts = (&site["started"], &site["ended"], &site["live"]);
    assert_eq!(counts, (&truth.started.into(), &truth.ended.into(), &truth.live.into()), "{site:#}");
    let file = site["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("tests/targets/python/threads.py"), "{site:#}");
    if let Some(task) = task {
        assert_eq!(site["task"], task, "{site:#}");
    }
}

#[test]
fn threads_and_children_by_the_line_of_python() {
    need!(gate::live(), gate::file(Path::new("/usr/bin/python3")), gate::file(&script()));
    for python in matrix::pythons() {
        let Some(minor) = minor(&python).filter(|minor| READ.contains(minor)) else { continue };
        let mut target = NativeTarget::start(Command::new(&python).arg(script()));
        let agent = Agent::watch(target.pid(), &["--stacks"]);
        target.command("leak 20");
        target.command("raw 7");
        target.command("pool 9");
        target.command("fork 4");
        target.command("quick 15");
        let after = target.command("finish 5");
        let report = agent.interrupt().report();
        let process = report.process(target.pid());
        let about = format!("3.{minor}: {:#}", process.json());
        assert_eq!(process.drift(), 0, "{about}");
        assert_eq!(process.tasks().started, 51, "{about}");
        assert_eq!(process.json()["losses"], serde_json::json!({}), "{about}");
        for (name, task) in [
            ("leak_thread", Some("waiter")),
            ("raw_thread", Some("parker")),
            ("pool_thread", Some("_worker")),
            ("quick_thread", None),
        ] {
            assert_site(process, "thread", name, task, &after);
        }
        assert_site(process, "process", "fork_child", Some("true"), &after);
    }
}

#[test]
fn what_threads_of_python_run_and_wait_in() {
    need!(gate::live(), gate::file(Path::new("/usr/bin/python3")), gate::file(&script()));
    for python in matrix::pythons() {
        let Some(minor) = minor(&python).filter(|minor| READ.contains(minor)) else { continue };
        let mut target = NativeTarget::start(Command::new(&python).arg(script()));
        target.command("leak 10");
        let agent = Agent::watch(target.pid(), &["--stacks"]);
        target.command("leak 20");
        target.command("raw 3");
        let after = target.command("pool 4");
        let report = agent.interrupt().report();
        let process = report.process(target.pid());
        let about = format!("3.{minor}: {:#}", process.json());
        let expected = Counts { live: after.threads, live_at_attach: 11, started: 27, ended: 0 };
        assert_eq!(process.tasks(), expected, "{about}");
        for (name, task, live) in
            [("leak_thread", "waiter", 20), ("raw_thread", "parker", 3), ("pool_thread", "_worker", 4)]
        {
            let site = site(process, "thread", name, after.sites[name].line);
            assert_eq!((&site["task"], &site["live"]), (&task.into(), &live.into()), "{name} of {about}");
            let stack = site["waiting"][0]["stack"].to_string();
            assert!(stack.contains("er (") && stack.contains("threads.py:"), "{stack}");
        }
        // Those from before the attach are known by what they run.
        let before =
            process.sites().iter().find(|site| site["function"].is_null() && site["task"] == "waiter");
        assert_eq!(before.map(|site| &site["live"]), Some(&10.into()), "{about}");
    }
}

#[test]
fn a_storm_of_python_threads_is_counted_to_its_line() {
    let python = Path::new("/usr/bin/python3");
    need!(gate::live(), gate::file(python), gate::file(&script()));
    let mut target = NativeTarget::start(Command::new(python).arg(script()));
    let agent = Agent::watch(target.pid(), &[]);
    let after = target.command("quick 20000");
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    assert_site(process, "thread", "quick_thread", None, &after);
}
