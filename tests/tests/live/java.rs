//! Threads of Java programs: counts equal to the program's own, sites equal to its lines, whatever ran them: the
//! interpreter, and code of both compilers.

use std::path::Path;
use std::process::Command;

use leakwatch_tests::report::ProcessReport;
use leakwatch_tests::{Agent, NativeTarget, NativeTruth, gate, matrix, need};

/// Starts the target, which the JVM compiles from its source.
fn start(flags: &[&str]) -> NativeTarget {
    let source = matrix::repository().join("tests/targets/java/Threads.java");
    NativeTarget::start(Command::new("java").args(flags).arg(source))
}

#[track_caller]
fn assert_site(process: ProcessReport<'_>, function: &str, before: &NativeTruth, after: &NativeTruth) {
    let (before, truth) = (before.sites[function], after.sites[function]);
    let name = format!("Threads.{function}");
    let is_it = |site: &&serde_json::Value| {
        site["function"] == name.as_str() && site["line"] == truth.line && site["file"] == "Threads.java"
    };
    let Some(site) = process.sites().iter().find(is_it) else {
        panic!("no {name} at line {}: {:#}", truth.line, process.json())
    };
    let (started, ended) = (truth.started - before.started, truth.ended - before.ended);
    let counts = (&site["started"], &site["ended"], &site["live"]);
    assert_eq!(counts, (&started.into(), &ended.into(), &(started - ended).into()), "{site:#}");
}

#[test]
fn threads_by_the_line_of_java() {
    need!(gate::live(), gate::file(Path::new("/usr/bin/java")));
    // Interpreted and then compiled, as it comes; all interpreted; all compiled by the second compiler, methods inlined.
    for flags in [&[][..], &["-Xint"], &["-Xcomp", "-XX:-TieredCompilation"]] {
        let mut target = start(flags);
        let before = target.command("leak 5");
        let agent = Agent::watch(target.pid(), &["--stacks"]);
        target.command("leak 40");
        let after = target.command("quick 300");
        let report = agent.interrupt().report();
        let process = report.process(target.pid());
        for function in ["leakThread", "quickThread"] {
            assert_site(process, function, &before, &after);
        }
        let leak = process.sites().iter().find(|site| site["function"] == "Threads.leakThread");
        let leak = leak.expect("it was found");
        assert_eq!(leak["task"], "Threads.parked", "{flags:?}: {leak:#}");
        let stack = leak["waiting"][0]["stack"].to_string();
        assert!(stack.contains("Threads.parked (Threads.java:"), "{flags:?}: {stack}");
        // Those from before the attach are known by what they run.
        let known =
            |site: &&serde_json::Value| site["function"].is_null() && site["task"] == "Threads.parked";
        let known = process.sites().iter().find(known).map(|site| &site["live"]);
        assert_eq!(known, Some(&5.into()), "{flags:?}: {:#}", process.json());
    }
}

#[test]
fn a_storm_of_java_threads_is_counted_to_its_line() {
    need!(gate::live(), gate::file(Path::new("/usr/bin/java")));
    let mut target = start(&[]);
    let before = target.command("truth");
    let agent = Agent::watch(target.pid(), &[]);
    let after = target.command("quick 20000");
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    let place = ("Threads.quickThread".to_owned(), after.sites["quickThread"].line);
    let counted = process.by_place("thread").get(&place).map_or(0, |counts| counts.started);
    let started = after.sites["quickThread"].started - before.sites["quickThread"].started;
    // What had no stack is what the loss says; the calls are recognised once they were seen.
    let skipped = process.json()["losses"]["stacks_skipped"].as_u64().unwrap_or(0);
    assert!(
        counted + skipped >= started && counted > started / 2,
        "{counted} of {started}, {skipped} skipped"
    );
}
