//! tokio that is not the program's own: Python with an extension module that has tokio in it, as `PyPI` distributes it.

use std::process::Command;

use leakwatch_tests::report::Counts;
use leakwatch_tests::{Agent, HostAgent, Target, TokioTarget, gate, matrix, need};

use super::runtime;

/// Calls of the extension that are awaited under watch.
const CALLS: u64 = 1000;

/// Python with the extension module; the gate has looked.
#[track_caller]
fn python() -> Target {
    let module = matrix::third_party("obstore").expect("the gate has looked");
    let packages = module.parent().and_then(|package| package.parent()).expect("it is in a package");
    let script = matrix::repository().join("tests/targets/python/tokio_extension.py");
    let mut python = Command::new("python3");
    python.arg(&script).env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    Target::start_command(&mut python)
}

#[test]
fn an_extension_module_of_python_is_counted_beside_its_threads() {
    need!(gate::live(), gate::third_party("obstore"));
    let mut target = python();
    target.command("heads 10");
    let agent = Agent::watch(target.pid(), &[]);
    target.command(&format!("heads {CALLS}"));
    let report = agent.interrupt().report();
    let process = report.process(target.pid());

    let about = "python with obstore";
    let tokio = runtime(process, about);
    assert_eq!((&tokio["kind"], &tokio["mode"]), (&"tokio".into(), &"probes".into()), "{tokio:#}");
    assert!(tokio["version"].as_str().is_some_and(|version| version.starts_with("1.")), "{tokio:#}");
    // Of a type that is never made nobody can be found who makes it.
    let problems = tokio["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(problems.iter().all(|problem| problem.as_str().is_some_and(|text| text.contains("start"))));

    let all = process.tasks();
    assert_eq!((all.live, process.drift()), (0, 0), "{all:?}");
    assert!(all.started >= CALLS && all.started.is_multiple_of(CALLS), "some for each call: {all:?}");
    assert_eq!(all.ended, all.started, "all of them are over");
    // Each is a site's, and no site's twice.
    let of = |runtime: &str| -> Vec<Counts> {
        let sites =
            process.sites().iter().filter(|site| site["runtime"] == runtime && site["system"] == false);
        sites.map(Counts::of).collect()
    };
    assert_eq!(of("tokio").iter().map(|counts| counts.started).sum::<u64>(), all.started);
    assert!(of("tokio").iter().all(|counts| counts.started == CALLS), "{:#?}", process.sites());
    let threads: u64 = of("thread").iter().map(|counts| counts.started).sum();
    assert_eq!(process.json()["threads"]["started"], threads, "threads are sites beside them, and no tasks");
    let losses = process.json()["losses"].as_object().cloned().unwrap_or_default();
    assert!(losses.is_empty(), "{losses:?}");
}

/// Mapped and never touched: to learn that takes minutes.
const GIGABYTES: u64 = 24 << 10;

#[test]
fn a_process_with_memory_without_end_keeps_nobody_waiting() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::third_party("obstore"), gate::file(&newest));
    let mut vast = python();
    vast.command(&format!("reserve {GIGABYTES}"));
    let mut other = Target::start(&newest);
    other.command("spawn chan 10");
    let config = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\nenabled = false\n\
                  [discover]\ninclude = [{ comm = \"truth|python3.*\" }]\n";
    let host = HostAgent::start("vast", config);
    host.wait_live(other.pid(), other.check().num_goroutine);
    for _ in 0..3 {
        other.command("spawn chan 5");
        host.wait_live(other.pid(), other.check().num_goroutine);
    }
    // Nothing is said of it that is not known.
    assert!(
        host.about()["left_out"]["first_look"].as_u64().is_some_and(|count| count >= 1),
        "{:#}",
        host.about()
    );
    assert!(host.process(vast.pid()).is_none() && host.report(vast.pid()).is_none());
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
}

#[test]
fn a_look_that_takes_several_turns_is_exact() {
    let binary = matrix::any_tokio_target();
    need!(gate::live(), gate::file(&binary.path));
    let mut target = TokioTarget::start(&binary.path);
    // 20 kB each: three times as much as is looked through at once.
    target.command("spawn big 18000");
    target.command("spawn notify 300");
    let before = target.truth();
    let config = "[sampling]\ninterval = \"1s\"\ncpu_percent = 90\n[promote]\nenabled = false\n\
                  [discover]\ninclude = [{ comm = \"truth\" }]\n";
    let host = HostAgent::start("parts", config);
    host.wait_live(target.pid(), before.live);
    target.command("finish notify 100");
    target.command("spawn mutex 10");
    let after = target.truth();
    host.wait_live(target.pid(), after.live);
    let report = host.report(target.pid()).expect("watched");
    let process = report.process(target.pid());
    let all = process.tasks();
    assert_eq!((all.live_at_attach, all.live), (before.live, after.live), "{all:?}");
    assert_eq!(all.live + all.ended, all.live_at_attach + all.started, "{all:?}");
}
