//! The same package on the kernels of other releases of Debian: an older one has no probes and says so, a newer one has everything.

use std::fs;
use std::path::PathBuf;

use leakwatch_tests::machine::{self, Linux};
use leakwatch_tests::{Machine, NativeTarget, Report, Server, Target, gate, matrix, need};
use serde_json::Value;

use super::{CODE, PROMPT, STATE, certificates, configure, counted, of_the_service, stopped};
use crate::folder::Folder;

/// The programs of known truth: one with goroutines, one with threads and children.
struct Programs {
    tasks: Target,
    threads: NativeTarget,
    /// Its process id in the machine.
    threads_pid: u32,
}

/// Where these are; `Err`: they are not built.
fn programs() -> Result<[PathBuf; 2], String> {
    let programs = [matrix::any_go_target().path, matrix::native_target("c", "debug")];
    programs.iter().try_for_each(|program| gate::file(program))?;
    Ok(programs)
}

/// Boots the machine, starts the programs, installs the package, and starts the agent.
#[track_caller]
fn boot(linux: Linux, folder: &Folder) -> (Machine, Programs) {
    let [tasks, threads] = programs().expect("the gate has looked");
    let package = machine::package().expect("the gate has looked");
    fs::copy(package, folder.below("root/opt/test").join("leakwatch.deb")).expect("copied");
    let machine = Machine::boot(linux, folder.path(), &[("target", &tasks), ("threads", &threads)]);
    machine.have("dpkg --install /opt/test/leakwatch.deb && systemctl start target threads");
    let programs = Programs {
        tasks: Target::start_command(&mut machine.target("target")),
        threads: NativeTarget::start(&mut machine.target("threads")),
        threads_pid: machine.have("pidof threads").parse().expect("a pid"),
    };
    configure(&machine, &config());
    machine.have("systemctl enable --now leakwatch-agent");
    assert_eq!(of_the_service(&machine, STATE), ["active", "success", "0", "0"]);
    (machine, programs)
}

/// Both programs, once a second.
fn config() -> String {
    PROMPT.replace(
        "include = [{ comm = \"target\" }]",
        "include = [{ comm = \"target\" }, { comm = \"threads\" }]\nruntimes = [\"go\", \"thread\"]",
    )
}

/// The features that are off, each with its reason.
#[track_caller]
fn off(host: &Server) -> Vec<(String, String)> {
    let about = host.about();
    let features = about["features"].as_array().expect("features").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let off = features.filter(|feature| feature["on"] == false);
    off.map(|feature| (text(&feature["name"]), text(&feature["why"]))).collect()
}

/// Threads and children of both programs are counted as these know them.
#[track_caller]
fn threads_are_counted(host: &Server, programs: &mut Programs) -> Report {
    let pid = programs.threads_pid;
    let figure = |host: &Server, pid: u32, [what, which]: [&str; 2]| {
        host.report(pid).expect("watched").process(pid).json()[what][which].as_u64().unwrap_or(0)
    };
    host.wait_until("the program with threads", |host| host.process(pid).is_some());
    let figures = [["threads", "started"], ["threads", "ended"], ["forks", "count"], ["forks", "ended"]];
    let before = figures.map(|which| figure(host, pid, which));
    programs.threads.command("leak 40");
    programs.threads.command("finish 10");
    programs.threads.command("quick 30");
    let truth = programs.threads.command("fork 25 true");
    let expected = [70, 40, 25, 25];
    host.wait_until("threads and children", |host| {
        figures
            .map(|which| figure(host, pid, which))
            .iter()
            .zip(before)
            .map(|(now, then)| now - then)
            .eq(expected)
    });
    assert_eq!(figure(host, pid, ["threads", "live"]), truth.threads);
    // The same of a program with tasks, of which there are totals alone.
    let pid = programs.tasks.ready().pid;
    let before = figure(host, pid, ["forks", "count"]);
    programs.tasks.command("forks 12");
    host.wait_until("its children", |host| figure(host, pid, ["forks", "count"]) - before == 12);
    host.report(programs.threads_pid).expect("watched")
}

/// Threads by the function that makes them, as a report has them.
fn by_function(report: &Report, programs: &Programs) -> Vec<(String, u64)> {
    let places = report.process(programs.threads_pid).by_place("thread");
    let started = places.into_iter().filter(|(_, counts)| counts.started > 0);
    started.map(|((function, _), counts)| (function, counts.started)).collect()
}

#[test]
fn a_newer_kernel_has_everything() {
    need!(gate::root(), programs().map(drop), machine::gate(), machine::package().map(drop));
    let folder = Folder::new("newer");
    let (machine, mut programs) = boot(Linux::New, &folder);
    let host = machine.agent();
    machine.have("leakwatch doctor");
    assert_eq!(off(host), []);
    let code = machine.have(CODE);
    counted(&machine, &mut programs.tasks);
    assert_ne!(machine.have(CODE), code, "there are probes in it");
    configure(&machine, &config());
    machine.have("systemctl reload leakwatch-agent");
    let report = threads_are_counted(host, &mut programs);
    let by_function = by_function(&report, &programs);
    for (function, started) in [("leak_thread", 40), ("quick_thread", 30)] {
        assert!(by_function.contains(&(function.to_owned(), started)), "{by_function:?}");
    }
    stopped(&machine, &mut programs.tasks);
    assert_eq!(machine.have(CODE), code, "nothing is left in it");
    certificates::crossed(&machine, &config());
}

/// Memory, and the tracepoints, tell of everything but what probes alone know.
#[test]
fn an_older_kernel_counts_without_probes_and_says_so() {
    need!(gate::root(), programs().map(drop), machine::gate(), machine::package().map(drop));
    let folder = Folder::new("older");
    let (machine, mut programs) = boot(Linux::Old, &folder);
    let host = machine.agent();
    let code = machine.have(CODE);

    let why = "is too old for probes; use Linux 5.15 or newer: attach cookies for uprobes came with it";
    let (status, said) = machine.run("leakwatch doctor");
    assert!(status != 0 && said.contains("is too old for probes"), "{status}: {said}");
    let features = off(host);
    let names: Vec<&str> = features.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["thread_sites", "probes"], "{features:?}");
    assert!(features[1].1.starts_with("Linux 5.10.") && features[1].1.contains(why), "{features:?}");
    for (_, why) in &features {
        assert!(why.len() < 500, "{why}");
        assert!(machine.journal().contains(&format!("off: {why}")), "{}", machine.journal());
    }

    // What lives is what lives, and each start has its number.
    let pid = programs.tasks.ready().pid;
    programs.tasks.command("spawn chan 60");
    host.wait_live(pid, programs.tasks.check().num_goroutine);
    programs.tasks.command("finish chan 25");
    host.wait_live(pid, programs.tasks.check().num_goroutine);
    let process = host.process(pid).expect("watched");
    assert_eq!(process["tier"], "memory", "{process:#}");
    let report = threads_are_counted(host, &mut programs);
    let by_function = by_function(&report, &programs);
    assert!(by_function.iter().all(|(function, _)| !function.contains("thread")), "{by_function:?}");
    // It is known from its exec on, without a look through /proc.
    machine.have("systemd-run --quiet --unit late sh -c 'sleep infinity | /opt/test/target'");
    host.wait_until("the new one", |host| host.about()["processes"].as_array().expect("a list").len() == 3);
    machine.have("systemctl stop late");

    // A watch does with what there is, and says what it is; where probes are asked for, it says why there are none.
    let watch = machine.have(&format!("leakwatch watch --pid {pid} --duration 2s --format json 2>/dev/null"));
    let report = Report::parse(&watch);
    let truth = programs.tasks.check();
    let process = report.process(pid);
    assert_eq!(process.tasks().live, truth.num_goroutine, "{:#}", process.json());
    let problems = process.json()["runtimes"][0]["problems"].to_string();
    assert!(problems.contains("there are no probes"), "{problems}");
    let (status, said) = machine.run(&format!("leakwatch watch --mode probes --pid {pid} --duration 2s"));
    assert!(status != 0 && said.contains(why), "{status}: {said}");

    assert_eq!(machine.have(CODE), code, "it is as it was");
    stopped(&machine, &mut programs.tasks);
}
