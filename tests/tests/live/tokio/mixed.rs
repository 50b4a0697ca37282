//! tokio that is not the program's own: Python with an extension module that has tokio in it, as `PyPI` distributes it.

use std::process::Command;

use leakwatch_tests::report::Counts;
use leakwatch_tests::{Agent, Target, gate, matrix, need};

use super::runtime;

/// Calls of the extension that are awaited under watch.
const CALLS: u64 = 1000;

#[test]
fn an_extension_module_of_python_is_counted_beside_its_threads() {
    need!(gate::live(), gate::third_party("obstore"));
    let module = matrix::third_party("obstore").expect("the gate has looked");
    let packages = module.parent().and_then(|package| package.parent()).expect("it is in a package");
    let script = matrix::repository().join("tests/targets/python/tokio_extension.py");
    let mut python = Command::new("python3");
    python.arg(&script).env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut target = Target::start_command(&mut python);
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
