//! Processes that become another program, fork, end and crash while they are watched, and watches that end.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use leakwatch_tests::process::{Guard, eventually};
use leakwatch_tests::{Agent, Target, agent, gate, matrix, need};
use nix::sys::signal::Signal;

use crate::folder::Folder;

fn binary() -> PathBuf {
    matrix::any_go_target().path
}

/// How long leakwatch may take to end.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn a_process_that_becomes_another_program() {
    need!(gate::live(), gate::file(&binary()));
    let mut target = Target::start(&binary());
    target.command("spawn chan 40");
    let before = target.check();
    let mut agent = Agent::watch(target.pid(), &["-v"]);
    target.command("spawn mutex 30");
    target.command("finish chan 10");
    let last = target.check();
    let mut news = Vec::new();
    for _ in 0..2 {
        target.exec();
        agent.wait_said("which is watched now");
        target.command("spawn select 20");
        let first = target.check();
        target.command("storm 3000");
        target.command("finish select 5");
        news.push((first, target.check()));
    }
    let report = agent.interrupt().report();
    let images = report.images(target.pid());
    assert_eq!(images.len(), 3, "{:#}", report.json());
    images[0].assert_is(&before, &last, "the first program");
    assert_eq!(images[0].json()["exited"], true);
    for (image, (first, now)) in images[1..].iter().zip(&news) {
        // Watched from somewhere before `first`, when only main was there.
        let tasks = image.tasks();
        assert_eq!(tasks.live, now.num_goroutine, "{:#}", image.json()["tasks"]);
        assert_eq!((tasks.live_at_attach, tasks.started, tasks.ended), (1, now.started, now.ended));
        assert_eq!(image.by_function().values().map(|counts| counts.live).sum::<u64>(), now.live);
        assert_eq!(first.started, 20);
    }
    assert_eq!(images[2].drift(), 0);
    assert_eq!(images[2].json()["exited"], false);
}

#[test]
fn children_are_counted_and_add_nothing() {
    need!(gate::live(), gate::file(&binary()));
    let mut target = Target::start(&binary());
    target.command("spawn chan 20");
    let before = target.check();
    let agent = Agent::watch(target.pid(), &[]);
    target.command("forks 25");
    // The same binary, so the same probed instructions; another process.
    let mut neighbour = Target::start(&binary());
    neighbour.command("spawn chan 500");
    neighbour.command("storm 5000");
    target.command("spawn chan 5");
    let after = target.check();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    process.assert_is(&before, &after, "forks, and a neighbour");
    assert_eq!(process.json()["forks"]["count"], after.forks - before.forks);
    assert_eq!(report.json()["processes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_process_that_ends() {
    need!(gate::live(), gate::file(&binary()));
    for way in ["exit", "crash", "kill", "close"] {
        let mut target = Target::start(&binary());
        target.command("spawn chan 30");
        let before = target.check();
        let pid = target.pid();
        let agent = Agent::watch(pid, &[]);
        target.command("storm 2000");
        target.command("spawn cond 7");
        let after = target.check();
        match way {
            "exit" => assert_eq!(target.exit(3).code(), Some(3)),
            "crash" => assert_eq!(target.crash().code(), Some(2)),
            "kill" => assert!(!target.kill().success()),
            _ => assert!(target.close().success()),
        }
        // Nothing is left to watch, so it ends by itself.
        let outcome = agent.wait();
        assert_eq!(outcome.code(), Some(0), "{way}: {}", outcome.stderr);
        let report = outcome.report();
        let process = report.process(pid);
        assert_eq!(process.json()["exited"], true, "{way}");
        process.assert_is(&before, &after, way);
    }
}

#[test]
fn a_watch_that_is_told_to_end() {
    need!(gate::live(), gate::file(&binary()));
    let mut target = Target::start(&binary());
    target.command("spawn chan 30");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let before = target.check();
        let agent = Agent::watch(target.pid(), &[]);
        target.command("storm 1000");
        let after = target.check();
        agent.signal(signal);
        let outcome = agent.wait();
        assert_eq!(outcome.code(), Some(0), "{signal}: {}", outcome.stderr);
        outcome.report().process(target.pid()).assert_is(&before, &after, signal.as_str());
    }
    let truth = target.check();
    let report = agent::watch_for(target.pid(), "500ms", &[]);
    report.process(target.pid()).assert_is(&truth, &truth, "--duration");
}

#[test]
fn several_processes() {
    need!(gate::live(), gate::file(&binary()));
    let folder = Folder::new("several");
    // A name that nobody else's processes have.
    let name = format!("lw{}", std::process::id());
    let copy = folder.copy(&name);
    let mut targets = [Target::start(&copy), Target::start(&copy), Target::start(&copy)];
    let pids: Vec<String> = targets.iter().map(|target| target.pid().to_string()).collect();
    let path = copy.display().to_string();
    let ways: [&[&str]; 3] =
        [&["--pid", &pids[0], "--pid", &pids[1], "--pid", &pids[2]], &["--comm", &name], &["--exe", &path]];
    for way in ways {
        let about = way.join(" ");
        let befores = targets.each_mut().map(Target::check);
        let mut agent = Agent::start([&["watch", "--format", "json"], way].concat());
        agent.wait_attached();
        for (target, n) in targets.iter_mut().zip(1..) {
            target.command(&format!("spawn chan {}", 10 * n));
            target.command(&format!("storm {}", 1000 * n));
        }
        let afters = targets.each_mut().map(Target::check);
        let report = agent.interrupt().report();
        assert_eq!(report.json()["processes"].as_array().map(Vec::len), Some(3), "{about}");
        for (target, (before, after)) in targets.iter().zip(befores.iter().zip(&afters)) {
            report.process(target.pid()).assert_is(before, after, &about);
        }
    }
    // One that ends takes nothing from the others.
    let [first, mut second, third] = targets;
    let before = second.check();
    let mut agent = Agent::start(["watch", "--format", "json", "--comm", &name]);
    agent.wait_attached();
    first.kill();
    second.command("storm 3000");
    third.exit(0);
    second.command("spawn chan 3");
    let after = second.check();
    let report = agent.interrupt().report();
    report.process(second.pid()).assert_is(&before, &after, "two of three ended");
}

#[test]
fn two_leakwatch_on_one_process() {
    need!(gate::live(), gate::file(&binary()));
    let mut target = Target::start(&binary());
    target.command("spawn chan 30");
    let before = target.check();
    let first = Agent::watch(target.pid(), &[]);
    target.command("storm 2000");
    let between = target.check();
    let second = Agent::watch(target.pid(), &["--stream"]);
    target.command("spawn mutex 20");
    let after = target.check();
    first.interrupt().report().process(target.pid()).assert_is(&before, &after, "the first");
    // The other one's probes stay.
    target.command("storm 2000");
    let last = target.check();
    second.interrupt().report().process(target.pid()).assert_is(&between, &last, "the second");
}

#[test]
fn standard_output_that_is_closed() {
    need!(gate::live(), gate::file(&binary()));
    let mut target = Target::start(&binary());
    let pid = target.pid().to_string();
    let endless: [&[&str]; 3] = [
        &["watch", "--pid", &pid, "--format", "jsonl", "--interval", "50ms"],
        &["watch", "--pid", &pid, "--interval", "50ms"],
        &["events", "--pid", &pid],
    ];
    target.command("busy 60 2000");
    for arguments in endless {
        let about = arguments.join(" ");
        let mut command = agent::command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut leakwatch = Guard::start_as_is(&mut command);
        let mut stdout = BufReader::new(leakwatch.child().stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "{about}");
        // As `| head -1` does it.
        drop(stdout);
        let status = leakwatch.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{about}: {status}");
        let stderr = leakwatch.child().stderr.take().expect("it is piped");
        let said: Vec<String> = BufReader::new(stderr).lines().map_while(Result::ok).collect();
        assert!(said.iter().all(|line| line.contains("watching pid")), "{about}: {said:?}");
    }
    target.command("idle");
    target.check();
}

#[test]
fn a_process_that_ends_during_the_attach() {
    need!(gate::live(), gate::file(&binary()));
    // The further leakwatch is, the more files it has open; what the numbers are does not matter.
    for open_files in [4, 8, 12, 16, 20, 24, 28, 32, 36, 40] {
        let mut target = Target::start(&binary());
        target.command("spawn chan 20000");
        let pid = target.pid().to_string();
        let agent = Agent::start(["watch", "--format", "json", "--pid", &pid]);
        let folder = PathBuf::from(format!("/proc/{}/fd", agent.pid()));
        let open = || std::fs::read_dir(&folder).map_or(usize::MAX, Iterator::count);
        // If it never has so many, then it is attached, and this is one more program that ends.
        eventually(Duration::from_secs(2), || open() >= open_files);
        target.kill();
        let outcome = agent.wait();
        match outcome.code() {
            Some(0) => {
                let report = outcome.report();
                let process = report.process(pid.parse().expect("a pid"));
                assert_eq!(process.json()["exited"], true, "{open_files} files");
            }
            Some(1) => {
                let said = &outcome.stderr;
                assert_eq!(said.lines().count(), 1, "{open_files} files: {said}");
                // It may be gone before leakwatch has looked for it.
                let true_sentence = said.contains("ended") || said.contains("no process has pid");
                assert!(said.contains(&pid) && true_sentence, "{open_files} files: {said}");
            }
            other => panic!("{open_files} files: {other:?}: {}", outcome.stderr),
        }
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
