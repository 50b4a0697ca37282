//! Every release of Go in every flavour, watched while it does everything that starts and ends goroutines: what
//! leakwatch reports is what the program knows, and what its runtime prints.
//!
//! One test for each release, so that a failure names it; what it says names the flavour.

use leakwatch_tests::report::ProcessReport;
use leakwatch_tests::{Agent, Target, Truth, gate, matrix, need};

use crate::dump::Dump;

/// Goroutines of these sites are always about to do something else: their state is not compared.
const RESTLESS: [&str; 2] = ["sleep", "spin"];

/// Sites whose goroutines cannot be let go.
const ENDLESS: [&str; 3] = ["selectnone", "sleeplong", "nilchan"];

/// The sites of `spawn`, from the target itself, with the functions that it says they are of.
fn spawn_all(target: &mut Target, count: impl Fn(&str) -> u32) -> Vec<(String, String)> {
    let names = target.command("sites");
    let names: Vec<String> = serde_json::from_value(names).expect("a list of names");
    assert!(names.len() >= 20, "there are many sites: {names:?}");
    names
        .into_iter()
        .map(|name| {
            let n = count(&name);
            let spawned = target.command(&format!("spawn {name} {n}"));
            let function = spawned["function"].as_str().expect("a name").to_owned();
            (name, function)
        })
        .collect()
}

/// Everything that starts and ends goroutines, while leakwatch counts.
fn churn(target: &mut Target) {
    for command in ["storm 5000", "storm 10000 3", "stacks 60", "gcstorm 1500", "panics 300", "goexit 300"] {
        target.command(command);
    }
    for command in ["lockosthread 12", "nested 300"] {
        target.command(command);
    }
    if target.ready().coroutines {
        target.command("coroutines 300");
        target.command("coroutines-leave 7");
    }
    if target.ready().cgo {
        target.command("cgocall 100");
        target.command("cgocallback 10");
    }
}

/// Lets some of those end that were there at attach, and starts more.
fn move_on(target: &mut Target, sites: &[(String, String)]) {
    for (name, _) in sites {
        if !ENDLESS.contains(&name.as_str()) {
            target.command(&format!("finish {name} 1"));
        }
        if name != "spin" {
            target.command(&format!("spawn {name} 2"));
        }
    }
}

fn release(version: &str) {
    for binary in matrix::go_matrix().into_iter().filter(|binary| binary.release == version) {
        need!(gate::live(), gate::file(&binary.path));
        let about = binary.name();
        let mut target = Target::start(&binary.path);
        let sites = spawn_all(&mut target, |name| if name == "spin" { 1 } else { 5 });
        let before = target.check();

        let mut arguments = vec!["--stacks"];
        if binary.flavour == "plain" {
            arguments.push("-v");
        }
        let agent = Agent::watch(target.pid(), &arguments);
        churn(&mut target);
        move_on(&mut target, &sites);
        let after = target.check();
        let dump = Dump::of(&mut target);
        let report = agent.interrupt().report();

        let process = report.process(target.pid());
        process.assert_is(&before, &after, &about);
        nothing_is_lost(process, &about);
        as_the_runtime_prints(process, &dump, &sites, &about);
        system_apart(process, &about);
        threads_too(process, &after, &about);
        let runtime = &process.json()["runtimes"][0];
        assert_eq!(runtime["version"], target.ready().version, "{about}");
        assert_eq!(runtime["mode"], "probes", "{about}");
    }
}

#[track_caller]
fn nothing_is_lost(process: ProcessReport<'_>, about: &str) {
    assert_eq!(process.lost_events(), 0, "{about}: lost events");
    assert_eq!(process.json()["losses"], serde_json::json!({}), "{about}: losses");
    assert_eq!(process.json()["runtimes"][0]["problems"], serde_json::json!([]), "{about}: problems");
}

/// Where goroutines were started and what they wait for, against the runtime's own traceback.
#[track_caller]
fn as_the_runtime_prints(process: ProcessReport<'_>, dump: &Dump, sites: &[(String, String)], about: &str) {
    let mut reported = Dump::of_report(process);
    let mut expected = dump.clone();
    for (name, function) in sites {
        if RESTLESS.contains(&name.as_str()) {
            reported.forget_states_of(function);
            expected.forget_states_of(function);
        }
    }
    assert_eq!(reported.states, expected.states, "{about}: states; reported is left, the dump is right");
    assert_eq!(reported.lines, expected.lines, "{about}: lines; reported is left, the dump is right");
}

/// The runtime's own goroutines are in sites of their own, and nothing else is.
#[track_caller]
fn system_apart(process: ProcessReport<'_>, about: &str) {
    let system: Vec<_> =
        process.sites().iter().filter(|site| site["runtime"] == "go" && site["system"] == true).collect();
    for site in &system {
        let task = site["task"].as_str().unwrap_or_default();
        assert!(task.starts_with("runtime."), "{about}: not the runtime's own: {site:#}");
    }
    // As there have been collections: workers for them, the sweeper, the scavenger, the one that forces collections.
    let live: u64 = system.iter().filter_map(|site| site["live"].as_u64()).sum();
    assert!(live >= 4, "{about}: the runtime's own goroutines are not there: {system:#?}");
    let main = process.sites().iter().filter(|site| site["task"] == "runtime.main" && site["live"] == 1);
    assert_eq!(main.count(), 1, "{about}: main");
}

#[track_caller]
fn threads_too(process: ProcessReport<'_>, after: &Truth, about: &str) {
    let threads = &process.json()["threads"];
    // The runtime makes threads when it likes, so only those of lockosthread are certain.
    let ended = threads["ended"].as_u64().unwrap_or_default();
    let started = threads["started"].as_u64().unwrap_or_default();
    assert!(started >= 11 && ended >= 11, "{about}: {threads} with {} threads now", after.threads);
}

#[test]
fn go_1_19() {
    release("1.19");
}

#[test]
fn go_1_21() {
    release("1.21.13");
}

#[test]
fn go_1_22() {
    release("1.22.10");
}

#[test]
fn go_1_23() {
    release("1.23.9");
}

#[test]
fn go_1_24() {
    release("1.24.11");
}

#[test]
fn go_1_25() {
    release("1.25.5");
}

#[test]
fn go_1_26() {
    release("1.26.6");
}

#[test]
fn go_1_27() {
    release("1.27.3");
}

#[test]
fn every_release_has_a_test() {
    let source = include_str!("matrix.rs");
    for version in matrix::GO_RELEASES {
        assert!(source.contains(&format!("release({version:?});")), "{version} has no test");
    }
}
