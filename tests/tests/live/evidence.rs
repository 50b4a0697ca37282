//! `leakwatch dump`: taken from outside, it is what the program itself prints, goroutine by goroutine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use leakwatch_tests::{Agent, Target, agent, gate, matrix, need, process};
use serde_json::Value;

use crate::folder::Folder;

/// Every way to block that ends in the same state on every run, and one that goes on in a C library's thread.
const SITES: [&str; 19] = [
    "chan",
    "send",
    "select",
    "selectnone",
    "mutex",
    "rwmutex",
    "waitgroup",
    "cond",
    "sleeplong",
    "nilchan",
    "closure",
    "method",
    "generic",
    "genericstring",
    "inlined",
    "deep",
    "context",
    "iowait",
    "afterfunc",
];

/// A dump in the runtime's form: traces by goroutine in their order, without the words of arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    pub(crate) order: Vec<u64>,
    pub(crate) by_id: BTreeMap<u64, String>,
}

impl Traces {
    /// Reads a dump; panics at a line that the form does not have.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut traces = Self { order: Vec::new(), by_id: BTreeMap::new() };
        for trace in text.trim_end_matches('\n').split("\n\n") {
            let mut lines = trace.lines();
            let header = lines.next().expect("a header");
            let id =
                header.strip_prefix("goroutine ").and_then(|rest| rest.split_once(' ')).map(|(id, _)| id);
            let id: u64 = id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{header:?}"));
            assert!(header.ends_with("]:") || header.ends_with("}:"), "{header:?}");
            let body: Vec<String> = lines.map(without_arguments).collect();
            traces.order.push(id);
            let twice = traces.by_id.insert(id, format!("{header}\n{}", body.join("\n")));
            assert!(twice.is_none(), "goroutine {id} is there twice");
        }
        traces
    }

    /// Without the goroutine that wrote the dump: its own is of another moment.
    fn without(mut self, id: u64) -> Self {
        self.order.retain(|other| *other != id);
        self.by_id.remove(&id);
        self
    }
}

/// `main.f(0xc000012345, 0x2)` and `main.f(...)` are the same, `main.f()` is another.
#[track_caller]
fn without_arguments(line: &str) -> String {
    let is_frame = !line.starts_with(['\t', '.']) && !line.starts_with("created by ");
    if !is_frame {
        let known = line.starts_with('\t') || line.ends_with("elided...") || line.starts_with("created by ");
        assert!(known, "{line:?}");
        return line.to_owned();
    }
    let (function, arguments) = line.rsplit_once('(').unwrap_or_else(|| panic!("no call: {line:?}"));
    format!("{function}({})", if arguments == ")" { "" } else { "..." })
}

/// What `leakwatch dump` prints of a process.
#[track_caller]
pub(crate) fn dump(pid: u32, more: &[&str]) -> String {
    let pid = pid.to_string();
    let outcome = agent::run(["dump", "--pid", &pid].iter().chain(more));
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "", "nothing was unreadable and nothing is missing");
    outcome.stdout
}

/// What the target itself prints.
#[track_caller]
fn own_dump(target: &mut Target) -> String {
    let folder = Folder::new("evidence");
    let file = folder.path().join("stacks");
    target.command(&format!("dump {}", file.display()));
    std::fs::read_to_string(file).expect("the dump")
}

#[track_caller]
fn identical(path: &Path, about: &str) {
    let mut target = Target::start(path);
    for site in SITES {
        target.command(&format!("spawn {site} 3"));
    }
    target.command("threads 2");
    let own = Traces::parse(&own_dump(&mut target)).without(1);
    let outside = Traces::parse(&dump(target.pid(), &[])).without(1);
    for (id, trace) in &own.by_id {
        assert_eq!(outside.by_id.get(id), Some(trace), "{about}: goroutine {id}");
    }
    assert_eq!(outside.order, own.order, "{about}: the same goroutines in the same order");
}

#[test]
fn a_dump_is_what_the_runtime_prints() {
    for binary in matrix::go_matrix() {
        need!(gate::live(), gate::file(&binary.path));
        identical(&binary.path, &binary.name());
    }
}

#[test]
fn a_parser_of_such_dumps_that_we_did_not_write_reads_them() {
    let name = "panicparse";
    need!(gate::live(), gate::third_party(name));
    let parser = matrix::third_party(name).expect("it was found");
    for binary in matrix::go_matrix() {
        need!(gate::file(&binary.path));
        let mut target = Target::start(&binary.path);
        for command in ["spawn chan 30", "spawn mutex 4", "spawn select 5", "spawn iowait 2"] {
            target.command(command);
        }
        let folder = Folder::new("parser");
        let file = folder.path().join("dump");
        dump(target.pid(), &["--output", &file.display().to_string()]);
        let text = std::fs::read_to_string(&file).expect("the dump");
        let ours = text.lines().filter(|line| line.starts_with("goroutine ")).count();
        let parsed =
            Command::new(&parser).args(["-no-color", "-rebase=false", "-parse=false"]).arg(&file).output();
        let parsed = parsed.expect("it runs");
        let printed = String::from_utf8_lossy(&parsed.stdout).into_owned();
        assert!(parsed.status.success(), "{}: {printed}", binary.name());
        // `30: chan receive [Created by main.leakChan …]`
        let groups: Vec<(usize, &str)> = printed
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(count, state)| Some((count.parse().ok()?, state)))
            .collect();
        let all: usize = groups.iter().map(|(count, _)| count).sum();
        assert_eq!(all, ours, "{}: {printed}", binary.name());
        let of = |function: &str| {
            groups.iter().find(|(_, state)| state.contains(function)).map(|(count, _)| *count)
        };
        assert_eq!(of("main.leakChan"), Some(30), "{}: {printed}", binary.name());
        assert_eq!(of("main.leakSelect"), Some(5), "{}: {printed}", binary.name());
        // What it does not understand it passes on as it is.
        assert!(!printed.lines().any(|line| line.starts_with("goroutine ")), "{}: {printed}", binary.name());
    }
}

#[test]
fn gos_own_tool_reads_the_profile() {
    let release = matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 1];
    let binary = matrix::go_target(release, "stripped");
    let go = matrix::go_toolchain(release).join("bin").join("go");
    need!(gate::live(), gate::file(&binary.path), gate::file(&go));
    let folder = Folder::new("profile");
    let file = folder.path().join("goroutines.pb.gz");
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 30");
    target.command("spawn mutex 4");
    let all = dump(target.pid(), &[]).lines().filter(|line| line.starts_with("goroutine ")).count();
    dump(target.pid(), &["--format", "pprof", "--output", &file.display().to_string()]);
    let report = |form: &str| -> String {
        let run = Command::new(&go)
            .args(["tool", "pprof", form])
            .arg(&file)
            .env("GOCACHE", matrix::go_cache())
            .env("GOTOOLCHAIN", "local")
            .env_remove("GOROOT")
            .output()
            .expect("it runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    let top = report("-top");
    assert!(top.contains(&format!("accounting for {all}, 100% of {all} total")), "{top}");
    assert!(top.contains("main.leakMutex.func1"), "{top}");
    let tree = report("-tree");
    let calls = tree.lines().any(|line| line.contains("main.leakChan.func1") && line.contains("30"));
    assert!(calls, "{tree}");
    let traces = report("-traces");
    assert!(traces.contains("state:  chan receive"), "{traces}");
    assert!(traces.lines().any(|line| line.trim_start().starts_with("30 ")), "{traces}");
    let lines = report("-list=leakChan");
    assert!(lines.contains("leaks.go"), "{lines}");
}

#[test]
fn every_goroutine_of_a_busy_program_is_validated() {
    for release in [matrix::GO_RELEASES[0], matrix::GO_RELEASES[4], matrix::GO_RELEASES[7]] {
        let binary = matrix::go_target(release, "stripped");
        need!(gate::live(), gate::file(&binary.path));
        let mut target = Target::start(&binary.path);
        target.command("spawn chan 2000");
        target.command("busy 60 20000");
        for _ in 0..10 {
            let pid = target.pid().to_string();
            let outcome = agent::run(["dump", "--pid", &pid]);
            assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
            let traces = Traces::parse(&outcome.stdout);
            // What cannot move is there, each with its whole stack and nothing else.
            let parked: Vec<&String> = traces
                .by_id
                .values()
                .filter(|trace| {
                    trace.contains("created by main.leakChan ")
                        || trace.contains("created by main.leakChan\n")
                })
                .collect();
            assert_eq!(parked.len(), 2000, "{}", binary.name());
            for trace in parked {
                assert!(trace.contains("[chan receive]:\nmain.leakChan.func1()\n"), "{trace}");
            }
        }
        target.command("idle");
        target.check();
    }
}

#[test]
fn a_process_that_ends_meanwhile_is_said_to() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("ended");
    let file = folder.path().join("dump");
    let target = Target::start(&binary.path);
    let pid = target.pid().to_string();
    drop(target);
    let path = file.display().to_string();
    let outcome = agent::run(["dump", "--pid", &pid, "--output", &path]);
    assert_eq!(outcome.code(), Some(1), "{}", outcome.stdout);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert!(left.is_empty(), "nothing half-written: {left:?}");
}

/// The one runtime of a dump as JSON.
#[track_caller]
fn json(pid: u32) -> Value {
    let dump: Value = serde_json::from_str(&dump(pid, &["--format", "json"])).expect("JSON");
    assert_eq!(dump["schema"], "leakwatch.dump/1");
    assert!(
        dump["memory"]["rss_bytes"].as_u64() > dump["memory"]["task_bytes"].as_u64(),
        "{}",
        dump["memory"]
    );
    dump["runtimes"][0].clone()
}

#[test]
fn labels_of_the_program_are_read() {
    for release in matrix::GO_RELEASES {
        let binary = matrix::go_target(release, "stripped");
        need!(gate::live(), gate::file(&binary.path));
        let mut target = Target::start(&binary.path);
        target.command("spawn chan 5");
        target.command("spawn labels 4");
        let runtime = json(target.pid());
        let tasks = runtime["tasks"].as_array().expect("tasks");
        let labelled: Vec<&Value> = tasks.iter().filter(|task| !task["labels"].is_null()).collect();
        assert_eq!(labelled.len(), 4, "{}", binary.name());
        assert_eq!(runtime["labels"].as_array().map(Vec::len), Some(1), "{}: one set", binary.name());
        let labels = runtime["labels"][0].as_object().expect("labels");
        assert_eq!(labels.len(), 10, "{}: {labels:?}", binary.name());
        assert_eq!(
            (&labels["route"], &labels["tenant"], &labels["empty"]),
            (&"/api/v1".into(), &"a b".into(), &"".into())
        );
    }
}

#[test]
fn what_goroutines_wait_on_is_told() {
    for release in matrix::GO_RELEASES {
        let binary = matrix::go_target(release, "strip");
        need!(gate::live(), gate::file(&binary.path));
        let about = binary.name();
        let mut target = Target::start(&binary.path);
        target.command("spawn onechan 30");
        target.command("spawn oneselect 7");
        target.command("spawn onemutex 9");
        target.command("spawn chan 3");
        let runtime = json(target.pid());
        let objects = runtime["objects"].as_array().expect("objects");
        let of = |kind: &str, waiters: u64| {
            let found = objects.iter().find(|object| object["kind"] == kind && object["waiters"] == waiters);
            found.unwrap_or_else(|| panic!("{about}: no {kind} with {waiters} waiters in {objects:#?}"))
        };
        let full = of("channel", 37);
        assert_eq!((&full["length"], &full["capacity"]), (&2.into(), &2.into()), "{about}");
        assert_eq!((&full["senders"], &full["receivers"]), (&37.into(), &0.into()), "{about}");
        let other = of("channel", 7);
        assert_eq!((&other["senders"], &other["receivers"]), (&0.into(), &7.into()), "{about}");
        assert_eq!(other["capacity"], 0, "{about}");
        of("semaphore", 9);
        let alone = objects.iter().filter(|object| object["kind"] == "channel" && object["receivers"] == 1);
        assert!(alone.count() >= 3, "{about}: each of the three has a channel of its own");
        let summary = dump(target.pid(), &["--format", "summary"]);
        assert!(summary.contains("37 wait on channel 0x"), "{about}: {summary}");
        assert!(summary.contains("(2 of 2 buffered): 37 to send"), "{about}: {summary}");
        target.command("finish oneselect 7");
        target.command("finish onechan 30");
        // The holder of the mutex cannot unlock it once for each that waits: they lock it one after the other.
    }
}

#[test]
fn files_conditions_and_timers_are_known_by_what_waits_on_them() {
    for binary in matrix::go_matrix() {
        need!(gate::live(), gate::file(&binary.path));
        let about = binary.name();
        let mut target = Target::start(&binary.path);
        for command in ["spawn cond 4", "spawn iowait 5", "spawn sleeplong 3"] {
            target.command(command);
        }
        let runtime = json(target.pid());
        let objects = runtime["objects"].as_array().expect("objects");
        let tasks = runtime["tasks"].as_array().expect("tasks");
        let waits_of = |state: &str| -> Vec<(&Value, &Value)> {
            let waiting = tasks.iter().filter(|task| task["state"] == state && task["id"] != 1);
            waiting
                .map(|task| {
                    let wait = &task["waits_on"][0];
                    let index = wait["object"].as_u64().unwrap_or_else(|| panic!("{about}: {task}"));
                    (task, &objects[usize::try_from(index).expect("an index")])
                })
                .collect()
        };
        let conds = waits_of("sync.Cond.Wait");
        assert!(conds.iter().all(|(_, object)| object["kind"] == "cond"), "{about}: {conds:#?}");
        assert_eq!(conds.len(), 4, "{about}");
        let files = waits_of("IO wait");
        let mut descriptors = BTreeSet::new();
        for (task, object) in &files {
            assert_eq!(object["kind"], "file", "{about}: {object}");
            assert_eq!(task["waits_on"][0]["side"], "receive", "{about}: {object}");
            let link = std::fs::read_link(format!("/proc/{}/fd/{}", target.pid(), object["descriptor"]));
            let link = link.expect("it is open").to_string_lossy().into_owned();
            assert!(link.starts_with("pipe:") && object["file"] == link.as_str(), "{about}: {object}");
            descriptors.insert(object["descriptor"].as_u64());
        }
        assert_eq!((files.len(), descriptors.len()), (5, 5), "{about}: each has a pipe of its own");
        let timers = waits_of("sleep");
        assert!(timers.len() >= 3, "{about}: {timers:?}");
        let woken =
            |(task, object): &(&Value, &Value)| object["kind"] == "timer" && task["wakes_in_s"].is_number();
        assert!(timers.iter().all(woken), "{about}: {timers:#?}");
    }
}

#[test]
fn a_difference_tells_what_grew_and_who_survived() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("diff");
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 50");
    target.command("spawn select 3");
    let take = |target: &Target, name: &str| {
        for (format, ending) in [("text", "txt"), ("json", "json"), ("pprof", "pb.gz")] {
            let path = folder.path().join(format!("{name}.{ending}"));
            dump(target.pid(), &["--format", format, "--output", &path.display().to_string()]);
        }
    };
    take(&target, "a");
    target.command("finish chan 20");
    target.command("finish select 3");
    target.command("spawn send 4");
    take(&target, "b");
    let compare = |one: &str, other: &str| -> Value {
        let path = |name: &str| folder.path().join(name).display().to_string();
        let outcome = agent::run(["diff", &path(one), &path(other), "--format", "json"]);
        assert_eq!(outcome.code(), Some(0), "{one} {other}: {}", outcome.stderr);
        serde_json::from_str(&outcome.stdout).expect("JSON")
    };
    let fates = |difference: &Value, of: &str| -> BTreeMap<String, (String, u64, u64)> {
        let list = difference[of].as_array().expect("changes");
        let change = |change: &Value| {
            let name = change["frames"].as_array()?.last()?["function"].as_str()?.to_owned();
            Some((
                name,
                (change["fate"].as_str()?.to_owned(), change["before"].as_u64()?, change["after"].as_u64()?),
            ))
        };
        list.iter().filter_map(change).collect()
    };
    for (one, other) in [("a.txt", "b.txt"), ("a.json", "b.json"), ("a.txt", "b.json")] {
        let difference = compare(one, other);
        assert_eq!(
            difference["survivors"],
            serde_json::json!({ "stayed": 31, "ended": 23, "started": 4 }),
            "{one} {other}"
        );
        let sites = fates(&difference, "sites");
        assert_eq!(sites["main.leakChan"], ("shrank".to_owned(), 50, 30), "{one} {other}");
        assert_eq!(sites["main.leakSelect"], ("went".to_owned(), 3, 0), "{one} {other}");
        assert_eq!(sites["main.leakSend"], ("appeared".to_owned(), 0, 4), "{one} {other}");
    }
    for (one, other) in [("a.pb.gz", "b.pb.gz"), ("a.txt", "b.pb.gz"), ("a.pb.gz", "b.json")] {
        let difference = compare(one, other);
        let stacks = fates(&difference, "stacks");
        assert_eq!(stacks["main.leakChan.func1"], ("shrank".to_owned(), 50, 30), "{one} {other}");
        assert_eq!(stacks["main.leakSend.func1"], ("appeared".to_owned(), 0, 4), "{one} {other}");
    }
}

#[test]
fn a_program_that_ends_while_it_is_dumped_leaves_one_sentence_and_no_file() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("ended");
    let file = folder.path().join("dump");
    let mut cut_short = 0;
    for kilobytes in [40_000, 60_000, 80_000, 100_000] {
        let mut target = Target::start(&binary.path);
        target.command("spawn chan 150000");
        let (pid, to) = (target.pid().to_string(), file.display().to_string());
        let agent = Agent::start(["dump", "--pid", &pid, "--output", &to]);
        // Its memory grows with what it has read.
        let reads = || resident_kilobytes(agent.pid()).is_none_or(|resident| resident > kilobytes);
        process::eventually(Duration::from_mins(1), reads);
        target.kill();
        let outcome = agent.wait();
        if outcome.code() == Some(0) {
            // It had read everything.
            std::fs::remove_file(&file).expect("the file");
            continue;
        }
        cut_short += 1;
        assert_eq!(outcome.code(), Some(1), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("ended"), "{}", outcome.stderr);
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(cut_short > 0, "none ended while it was read");
}

/// `VmRSS` of a process; `None` when it is gone.
fn resident_kilobytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Headers of the goroutines in a bubble, without the addresses that the runtime prints at a `SIGQUIT`.
fn bubbles(dump: &str) -> BTreeSet<String> {
    let headers = dump.lines().filter(|line| line.starts_with("goroutine ") && line.contains("synctest"));
    let address = |word: &&str| !word.starts_with("gp=") && !word.starts_with("m=");
    headers.map(|line| line.split(' ').filter(address).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn bubbles_of_synctest_are_printed_as_the_runtime_prints_them() {
    for release in ["1.25.5", "1.26.6", "1.27.3"] {
        let binary = matrix::go_target(release, "plain").path.with_file_name("prove");
        need!(gate::live(), gate::file(&binary));
        let mut guard = process::Guard::start(&mut Command::new(&binary));
        let child = guard.child();
        let mut stdin = child.stdin.take().expect("it is piped");
        let stdout = process::Lines::of(child.stdout.take().expect("it is piped"));
        let stderr = process::Lines::of(child.stderr.take().expect("it is piped"));
        stdout.next(Duration::from_mins(1)).expect("it is ready");
        std::io::Write::write_all(&mut stdin, b"make 1\n").expect("it reads commands");
        stdout.next(Duration::from_mins(1)).expect("it answers");
        let ours = bubbles(&dump(guard.pid(), &[]));
        // The runtime prints all goroutines, and ends.
        guard.signal(nix::sys::signal::Signal::SIGQUIT);
        let mut own = String::new();
        while let Ok(line) = stderr.next(Duration::from_mins(1)) {
            own.push_str(&line);
            own.push('\n');
        }
        assert!(!ours.is_empty(), "{release}: {own}");
        assert_eq!(ours, bubbles(&own), "{release}");
    }
}
