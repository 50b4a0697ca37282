//! `leakwatch dump` of what is no Go program: tokio tasks against the program's own book, threads against `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use leakwatch_tests::tokio::{TokioTarget, common_form};
use leakwatch_tests::{NativeTarget, Target, agent, gate, matrix, need};
use serde_json::Value;

use crate::evidence::dump;

/// The tasks of a runtime in a dump.
fn runtime<'a>(dump: &'a Value, kind: &str) -> Option<&'a Value> {
    dump["runtimes"].as_array()?.iter().find(|runtime| runtime["kind"] == kind)
}

fn json_of(pid: u32, more: &[&str]) -> Value {
    let outcome = agent::run(["dump", "--pid", &pid.to_string(), "--format", "json"].iter().chain(more));
    // On stderr may stand what is missing where a binary has no names.
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).expect("a dump in JSON")
}

/// How many tasks of a type are in which state.
fn states(runtime: &Value) -> BTreeMap<(String, String), u64> {
    let mut states = BTreeMap::new();
    for task in runtime["tasks"].as_array().into_iter().flatten() {
        let site = &runtime["sites"][usize::try_from(task["site"].as_u64().expect("a site")).expect("small")];
        let of = common_form(site["task"].as_str().unwrap_or_default());
        let state = task["state"].as_str().unwrap_or_default().to_owned();
        *states.entry((of, state)).or_default() += 1;
    }
    states
}

#[test]
fn tokio_tasks_with_their_states() {
    for release in [matrix::TOKIO_RELEASES[0], matrix::TOKIO_RELEASES[2], matrix::TOKIO_RELEASES[4]] {
        for binary in matrix::tokio_pair(release) {
            need!(gate::live(), gate::file(&binary.path));
            let mut target = TokioTarget::start(&binary.path);
            for command in ["spawn notify 30", "spawn oneshot 20", "spawn kept 12", "spawn detached 7"] {
                target.command(command);
            }
            target.command("finish kept 5");
            target.command("spawn blocking 3");
            let truth = target.truth();
            let dump = json_of(target.pid(), &[]);
            let about = format!("{}: {dump:#}", binary.name());
            let tasks = runtime(&dump, "tokio").unwrap_or_else(|| panic!("no tokio in {about}"));
            let found = states(tasks);
            let in_state = |state: &str| -> u64 {
                found.iter().filter(|((_, of), _)| of == state).map(|(_, count)| count).sum()
            };
            assert_eq!((in_state("idle"), in_state("complete")), (truth.live, 5), "{about}");
            // Equal types may be one in an optimised build: names are compared where none is.
            let told_apart = binary.flavour == "debug";
            for (name, site) in truth.sites.iter().filter(|(_, site)| told_apart && site.kind == "task") {
                let of = (common_form(name), "idle".to_owned());
                assert_eq!(found.get(&of).copied().unwrap_or(0), site.live, "{name} in {about}");
            }
            if binary.is_named() {
                let jobs = runtime(&dump, "tokio_blocking").unwrap_or_else(|| panic!("no jobs in {about}"));
                assert_eq!(jobs["live"], 3, "{about}");
            }
            let handles = |held: &str| {
                let all = tasks["tasks"].as_array().expect("tasks");
                let of = |task: &&Value| {
                    let labels = usize::try_from(task["labels"].as_u64().expect("labels")).expect("small");
                    tasks["labels"][labels]["join_handle"] == held
                };
                all.iter().filter(of).count()
            };
            assert_eq!(handles("dropped"), 7, "those that are detached: {about}");
        }
    }
}

#[test]
fn threads_with_their_names_and_stacks() {
    for (language, body) in [("c", "waits_for_ever"), ("cpp", "app::Waiter::operator()")] {
        let binary = matrix::native_target(language, "plain");
        need!(gate::live(), gate::file(&binary));
        let mut target = NativeTarget::start(&mut Command::new(&binary));
        target.command("leak 25");
        let dump = json_of(target.pid(), &[]);
        let about = format!("{language}: {dump:#}");
        let threads = runtime(&dump, "thread").unwrap_or_else(|| panic!("no threads in {about}"));
        let mut listed: Vec<(u64, String)> = threads["tasks"]
            .as_array()
            .expect("tasks")
            .iter()
            .map(|task| {
                let labels = usize::try_from(task["labels"].as_u64().expect("labels")).expect("small");
                let name = threads["labels"][labels]["name"].as_str().expect("a name");
                (task["id"].as_u64().expect("an id"), name.to_owned())
            })
            .collect();
        listed.sort();
        assert_eq!(listed, of_proc(target.pid()), "{about}");
        let waits = |stack: &Value| {
            let frames = stack["frames"].as_array().expect("frames");
            frames.iter().any(|frame| {
                let frame = usize::try_from(frame.as_u64().expect("an index")).expect("small");
                threads["frames"][frame]["function"].as_str().is_some_and(|name| name.contains(body))
            })
        };
        let waiting = threads["tasks"].as_array().expect("tasks").iter().filter(|task| {
            let Some(stack) = task["stack"].as_u64() else { return false };
            task["state"] == "futex"
                && task["stack_is"] == "whole"
                && waits(&threads["stacks"][usize::try_from(stack).expect("small")])
        });
        assert_eq!(waiting.count(), 25, "{about}");
    }
}

/// Ids and names of the threads that a process has.
fn of_proc(pid: u32) -> Vec<(u64, String)> {
    let mut threads: Vec<(u64, String)> = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("its threads")
        .map(|entry| {
            let entry = entry.expect("a thread");
            let name = fs::read_to_string(entry.path().join("comm")).expect("its name");
            let id = entry.file_name().to_str().expect("a number").parse().expect("a number");
            (id, name.trim_end().to_owned())
        })
        .collect();
    threads.sort();
    threads
}

#[test]
fn the_threads_of_a_go_program_when_asked() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 3");
    assert!(!dump(target.pid(), &[]).contains("\nthread "), "only when asked");
    let text = dump(target.pid(), &["--threads"]);
    let threads = text.lines().filter(|line| line.starts_with("thread ")).count();
    assert_eq!(threads, of_proc(target.pid()).len(), "{text}");
    assert!(text.starts_with("goroutine "), "{text}");
}
