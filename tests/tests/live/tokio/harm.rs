//! Bad luck and bad input: programs that end, are deleted or replaced, leakwatches that are killed, files that are broken,
//! and Rust programs without tokio.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use leakwatch_tests::process::{Guard, eventually};
use leakwatch_tests::{Agent, TokioTarget, agent, gate, matrix, need, tokio};
use nix::sys::signal::Signal;

use crate::folder::Folder;
use crate::harm::{Held, changed_code, held_while_watching, nothing_is_left};

fn newest(flavour: &'static str) -> matrix::TokioBinary {
    matrix::tokio_target(matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1], flavour)
}

/// Watches a target while tasks of it start and end.
#[track_caller]
fn is_counted(target: &mut TokioTarget, about: &str) {
    target.command("spawn notify 50");
    let before = target.truth();
    let agent = Agent::watch(target.pid(), &[]);
    target.command("storm 1000");
    target.command("spawn mutex 20");
    target.command("finish notify 10");
    let after = target.truth();
    let report = agent.interrupt().report();
    tokio::assert_is(report.process(target.pid()), &before, &after, true, about);
}

#[test]
fn a_deleted_and_a_replaced_executable() {
    let binary = newest("release").path;
    need!(gate::live(), gate::file(&binary));
    let folder = Folder::new("tokio-replaced");
    let copy = folder.copy_of(&binary, "deleted");
    let mut target = TokioTarget::start(&copy);
    fs::remove_file(&copy).expect("it is deleted");
    is_counted(&mut target, "deleted executable");

    let copy = folder.copy_of(&binary, "replaced");
    let mut target = TokioTarget::start(&copy);
    // Probes in the new file would see nothing.
    fs::rename(folder.copy_of(&newest("lto").path, "new"), &copy).expect("it is replaced");
    is_counted(&mut target, "replaced executable");
}

#[test]
fn a_program_that_ends_during_the_attach() {
    let binary = newest("strip").path;
    need!(gate::live(), gate::file(&binary));
    // The further leakwatch is, the more files it has open; what the numbers are does not matter.
    for open_files in [8, 16, 24, 60] {
        let mut target = TokioTarget::start(&binary);
        target.command("spawn notify 20000");
        let pid = target.pid().to_string();
        let agent = Agent::start(["watch", "--format", "json", "--pid", &pid]);
        let opened = PathBuf::from(format!("/proc/{}/fd", agent.pid()));
        let open = || fs::read_dir(&opened).map_or(usize::MAX, Iterator::count);
        eventually(Duration::from_secs(2), || open() >= open_files);
        target.into_inner().kill();
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
                let true_sentence = said.contains("ended") || said.contains("no process has pid");
                assert!(said.contains(&pid) && true_sentence, "{open_files} files: {said}");
            }
            other => panic!("{open_files} files: {other:?}: {}", outcome.stderr),
        }
    }
}

#[test]
fn a_program_that_becomes_another_or_ends() {
    let binary = newest("release").path;
    need!(gate::live(), gate::file(&binary));
    let mut target = TokioTarget::start(&binary);
    target.command("spawn notify 30");
    let before = target.truth();
    let pid = target.pid();
    let mut agent = Agent::watch(pid, &["-v"]);
    target.command("storm 500");
    let last = target.truth();
    target.inner().exec();
    agent.wait_said("which is watched now");
    target.command("spawn mutex 20");
    target.command("storm 3000");
    let now = target.truth();
    target.into_inner().kill();
    let report = agent.wait().report();
    let images = report.images(pid);
    assert_eq!(images.len(), 2, "{:#}", report.json());
    tokio::assert_is(images[0], &before, &last, true, "the first program");
    let tasks = images[1].tasks();
    assert_eq!((tasks.live, tasks.started, tasks.ended), (now.live, now.started, now.ended));
    assert_eq!(images[1].json()["exited"], true);
}

#[test]
fn nothing_is_left_in_program_or_kernel() {
    let binary = newest("strip");
    need!(gate::live(), gate::file(&binary.path));
    let mut target = TokioTarget::start(&binary.path);
    target.command("spawn notify 200");
    let pid = target.pid();
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let about = format!("{}, {signal}", binary.name());
        let agent = Agent::watch(pid, &[]);
        let held: Held = held_while_watching(agent.pid(), pid);
        target.command("storm 20000 2");
        agent.signal(signal);
        agent.wait();
        target.command("storm 2000");
        nothing_is_left(pid, &held, &about);
        target.truth();
    }
    assert_eq!(changed_code(pid), [0_u64; 0]);
}

/// Is watched by its threads, and has no tokio in it.
#[track_caller]
fn has_no_tokio(program: &Path, arguments: &[&str]) {
    let name = program.display();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let program = Guard::start_as_is(&mut command);
    // It is what it is once it has replaced this test's process.
    let exe = format!("/proc/{}/exe", program.pid());
    let expected = fs::canonicalize(command.get_program()).ok();
    eventually(Duration::from_secs(10), || fs::read_link(&exe).ok() == expected);
    let report = agent::watch_for(program.pid(), "300ms", &[]);
    let process = report.process(program.pid());
    let kinds = process.json()["runtimes"].as_array().cloned().unwrap_or_default();
    assert!(kinds.iter().all(|runtime| runtime["kind"] == "thread"), "{name}: {kinds:#?}");
    let of_tokio =
        |site: &&serde_json::Value| site["runtime"].as_str().is_some_and(|of| of.contains("tokio"));
    assert_eq!(process.sites().iter().filter(of_tokio).count(), 0, "{name}");
}

#[test]
fn programs_of_rust_without_tokio_are_no_tokio() {
    need!(gate::live(), gate::third_party("ruff"), gate::third_party("rg"));
    // Each waits for its standard input.
    has_no_tokio(&matrix::third_party("ruff").expect("the gate has looked"), &["server"]);
    has_no_tokio(&matrix::third_party("rg").expect("the gate has looked"), &["x", "-"]);
}

#[test]
fn broken_files_are_errors_of_one_sentence() {
    let binary = newest("strip").path;
    need!(gate::live(), gate::file(&binary));
    let folder = Folder::new("tokio-broken");
    let whole = fs::read(&binary).expect("the target");
    let broken = folder.path().join("broken");
    let mut outcomes = [0; 2];
    for length in [0, 3, 40, 64, 500, 4096, 50_000, whole.len() / 2, whole.len() - 100] {
        fs::write(&broken, &whole[..length]).expect("a part of it");
        inspected(&broken, &mut outcomes, &format!("the first {length} bytes"));
    }
    // Bytes of everywhere, the headers above all.
    for (step, value) in [(97, 0xff_u8), (211, 0), (1009, 0x80), (8, 0x7f)] {
        let mut changed = whole.clone();
        let end = if step == 8 { 2000 } else { changed.len() };
        for byte in changed[16..end].iter_mut().step_by(step) {
            *byte = value;
        }
        fs::write(&broken, &changed).expect("another one");
        inspected(&broken, &mut outcomes, &format!("every {step}th byte is {value:#x}"));
    }
    assert!(outcomes[1] > 0, "some of them cannot be read");
}

/// `inspect` answers or refuses, and never anything else.
#[track_caller]
fn inspected(file: &Path, outcomes: &mut [u32; 2], about: &str) {
    let outcome = agent::run(["inspect", "--format", "json", &file.display().to_string()]);
    match outcome.code() {
        Some(0) => outcomes[0] += 1,
        Some(1) => {
            outcomes[1] += 1;
            assert_eq!(outcome.stderr.lines().count(), 1, "{about}: {}", outcome.stderr);
        }
        other => panic!("{about}: {other:?}: {}", outcome.stderr),
    }
    assert!(!outcome.stderr.contains("panicked"), "{about}: {}", outcome.stderr);
}
