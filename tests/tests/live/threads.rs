//! Threads: counts equal to the kernel's list and to the program's own books, sites equal to its lines.

use std::path::Path;
use std::process::Command;

use leakwatch_tests::report::Counts;
use leakwatch_tests::{Agent, NativeTarget, NativeTruth, Target, gate, matrix, need};

use crate::folder::Folder;

/// The function and line of a site as the program knows it.
fn place(truth: &NativeTruth, function: &str) -> (String, u64) {
    (function.to_owned(), truth.sites[function].line)
}

/// What a report must say of a site between two moments.
fn since(before: &NativeTruth, after: &NativeTruth, function: &str) -> Counts {
    let (then, now) = (before.sites[function], after.sites[function]);
    Counts {
        // Nobody knows where threads from before the attach were made.
        live: now.live - then.live.min(now.live),
        live_at_attach: 0,
        started: now.started - then.started,
        ended: now.ended - then.ended,
    }
}

#[track_caller]
fn exact(binary: &Path) {
    let mut target = NativeTarget::start(&mut Command::new(binary));
    let before = target.command("truth");
    let agent = Agent::watch(target.pid(), &["--stacks"]);
    target.command("leak 40");
    let after = target.command("quick 30");
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    let about = format!("{}: {:#}", binary.display(), process.json());
    assert_eq!(process.json()["runtimes"][0]["kind"], "thread", "{about}");
    let expected = Counts { live: after.threads, live_at_attach: before.threads, started: 70, ended: 30 };
    assert_eq!(process.tasks(), expected, "{about}");
    assert_eq!(process.drift(), 0, "{about}");
    let threads = &process.json()["threads"];
    assert_eq!(
        (&threads["live"], &threads["started"], &threads["ended"]),
        (&41.into(), &70.into(), &30.into())
    );
    let places = process.by_place("thread");
    if binary.parent().is_some_and(|flavour| flavour.ends_with("strip")) {
        // Two places without names, told apart by their addresses.
        let mut counts: Vec<Counts> = places.values().copied().collect();
        counts.retain(|counts| counts.started > 0);
        assert_eq!(counts.len(), 2, "{about}");
        assert!(counts.contains(&since(&before, &after, "leak_thread")), "{about}");
        return;
    }
    for function in ["leak_thread", "quick_thread"] {
        let (name, line) = place(&after, function);
        let found =
            places.iter().find(|((other, other_line), _)| other.contains(&name) && *other_line == line);
        let counts = found.map(|(_, counts)| *counts);
        assert_eq!(counts, Some(since(&before, &after, function)), "{function} line {line} of {about}");
    }
}

#[test]
fn c_and_cpp_threads_by_line() {
    for language in ["c", "cpp"] {
        for flavour in matrix::NATIVE_FLAVOURS {
            let binary = matrix::native_target(language, flavour);
            need!(gate::live(), gate::file(&binary));
            exact(&binary);
        }
    }
}

#[test]
fn rust_threads_by_line() {
    need!(gate::live());
    let source = matrix::repository().join("tests/targets/rust/threads.rs");
    let folder = Folder::new("rust");
    // All without frame pointers. Optimised ones inline most of `std::thread` into the caller.
    let flavours: [(&str, &[&str]); 3] = [
        ("debug", &["-g"]),
        ("release", &["-O", "-C", "debuginfo=1"]),
        ("lto", &["-O", "-C", "lto=fat", "-C", "codegen-units=1", "-C", "panic=abort", "-g"]),
    ];
    for (flavour, flags) in flavours {
        let binary = folder.path().join(flavour).join("threads");
        std::fs::create_dir(binary.parent().expect("it has one")).expect("a folder");
        let built = Command::new("rustc")
            .args(["--edition", "2024", "-C", "force-frame-pointers=no"])
            .args(flags)
            .arg("-o")
            .arg(&binary)
            .arg(&source)
            .status();
        assert!(built.expect("rustc runs").success(), "{flavour}");
        exact(&binary);
    }
}

#[test]
fn a_late_attach_knows_every_thread_and_what_it_runs() {
    let binary = matrix::native_target("c", "plain");
    need!(gate::live(), gate::file(&binary));
    let mut target = NativeTarget::start(&mut Command::new(&binary));
    let before = target.command("leak 300");
    let agent = Agent::watch(target.pid(), &["--stacks"]);
    target.command("finish 100");
    let after = target.command("leak 50");
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    let about = format!("{:#}", process.json());
    let expected = Counts { live: after.threads, live_at_attach: before.threads, started: 50, ended: 100 };
    assert_eq!(process.tasks(), expected, "{about}");
    assert_eq!(process.drift(), 0, "{about}");
    let ran = |site: &serde_json::Value| site["task"] == "waits_for_ever";
    let waiting: u64 = process
        .sites()
        .iter()
        .filter(|site| ran(site))
        .flat_map(|site| site["waiting"].as_array().cloned().unwrap_or_default())
        .filter(|group| group["reason"] == "futex")
        .filter(|group| group["stack"].to_string().contains("waits_for_ever"))
        .map(|group| group["count"].as_u64().expect("a count"))
        .sum();
    // A thread that is not blocked at the moment when it is looked at has no stack that can be read.
    assert!((245..=250).contains(&waiting), "{waiting}: {about}");
    let names = process.json()["threads"]["by_name"].to_string();
    assert!(names.contains(r#"{"live":250,"name":"waiter-*"}"#), "{names}");
}

#[test]
fn a_storm_is_counted_exactly_and_its_stacks_are_bounded() {
    let binary = matrix::native_target("c", "plain");
    need!(gate::live(), gate::file(&binary));
    let mut target = NativeTarget::start(&mut Command::new(&binary));
    let agent = Agent::watch(target.pid(), &[]);
    let after = target.command("quick 200000");
    let outcome = agent.interrupt();
    let report = outcome.report();
    let process = report.process(target.pid());
    let about = format!("{:#}", process.json());
    let tasks = process.tasks();
    assert_eq!((tasks.live, tasks.started, tasks.ended), (1, 200_000, 200_000), "{about}");
    let places = process.by_place("thread");
    let named = places[&place(&after, "quick_thread")];
    let unknown = places.get(&(String::new(), 0)).map_or(0, |counts| counts.started);
    assert_eq!(named.started + unknown, 200_000, "{about}");
    // What had no stack is what the loss says, and that is little: the call is recognised once it was seen.
    let skipped = process.json()["losses"]["stacks_skipped"].as_u64().unwrap_or(0);
    assert!(unknown <= skipped, "{unknown} without a site, {skipped} skipped: {about}");
    assert!(named.started > 100_000, "{about}");
}

#[test]
fn a_go_programs_threads_are_its_runtimes_and_counted_once() {
    for flavour in ["plain", "cgo"] {
        let binary = matrix::go_target(matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 1], flavour);
        need!(gate::live(), gate::file(&binary.path));
        let mut target = Target::start(&binary.path);
        let before = target.truth();
        let agent = Agent::watch(target.pid(), &[]);
        target.command("threads 20");
        let after = target.check();
        let report = agent.interrupt().report();
        let process = report.process(target.pid());
        let about = format!("{}: {:#}", binary.name(), process.json());
        process.assert_is(&before, &after, &binary.name());
        let runtimes = process.json()["runtimes"].as_array().expect("runtimes");
        assert_eq!(runtimes.len(), 1, "{about}");
        // The runtime starts a thread of its own whenever it likes, between its answer and the report, too.
        let live = process.json()["threads"]["live"].as_u64().expect("a count");
        assert!(live.abs_diff(after.threads) <= 1, "{} threads: {about}", after.threads);
        let of_threads: u64 = process.by_place("thread").values().map(|counts| counts.live).sum();
        assert_eq!(of_threads, live, "{about}");
        let own = process.sites().iter().filter(|site| site["runtime"] == "thread" && site["system"] != true);
        assert_eq!(own.filter(|site| site["live"] != 0).count(), 0, "{about}");
    }
}
