//! `leakwatch agent` proves: what nothing alive can wake, among much that looks the same, in time, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use leakwatch_tests::corpus::{self, Running};
use leakwatch_tests::process::eventually;
use leakwatch_tests::{HostAgent, Server, Target, gate, matrix, need};
use serde_json::Value;

/// A shape that leaks so that it is suspected and, without a proof, stays so; and healthy ones that wait like it.
const LEAKS: &str = "stopped growing";
const LOOK_ALIKE: [&str; 4] = ["idle pool", "fixed pool", "contended lock", "lazy pool"];

const CORPUS: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\nenabled = false\n\
                      [discover]\ninclude = [{ comm = \"corpus\" }]\n[[rule]]\npreset = \"proven-leak\"\n";

fn running() -> Running {
    let mut shapes = corpus::shapes("go");
    shapes.retain(|shape| shape.name == LEAKS || LOOK_ALIKE.contains(&shape.name.as_str()));
    assert_eq!(shapes.len(), 1 + LOOK_ALIKE.len(), "shapes of the corpus have other names");
    Running::start("go", shapes)
}

/// What fires, by the function of its site.
fn firing(host: &Server) -> Vec<String> {
    let alerts: Value = serde_json::from_str(&host.get("/api/v1/alerts", &[]).body).expect("JSON");
    let firing = alerts["alerts"].as_array().into_iter().flatten().filter(|alert| alert["state"] == "firing");
    firing.map(|alert| alert["site"]["function"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A process's proof and its sites by function.
fn seen(host: &Server, pid: u32) -> (Value, Vec<Value>) {
    let report = host.report(pid).expect("it is watched");
    let process = report.process(pid);
    (process.json()["proof"].clone(), process.sites().to_vec())
}

fn of<'s>(sites: &'s [Value], function: &str) -> &'s Value {
    let named = |site: &&Value| site["function"].as_str().is_some_and(|name| name.contains(function));
    sites.iter().find(named).unwrap_or_else(|| panic!("no site of {function}"))
}

#[test]
fn one_leak_among_look_alikes_is_proven_and_nothing_else() {
    need!(gate::live(), gate::file(&corpus::program("go")));
    let running = running();
    let pid = running.pid();
    let proving = HostAgent::start("proves", CORPUS);
    let quiet = HostAgent::start("proves-not", &format!("{CORPUS}[prove]\nenabled = false\n"));
    proving.wait_until("the alert", |host| !firing(host).is_empty());
    let fired = firing(&proving);
    assert!(fired.len() == 1 && fired[0].contains("stoppedGrowing"), "{fired:?}");
    let (proof, sites) = seen(&proving, pid);
    assert_eq!((&proof["refuted"], &proof["failed"]), (&0.into(), &0.into()), "{proof}");
    let leak = of(&sites, "stoppedGrowing");
    assert_eq!(leak["verdict"], "leak", "{leak}");
    assert!(leak["why"].as_str().is_some_and(|why| why.contains("can never be woken")), "{leak}");
    let proven = leak["proven"].as_u64().expect("a proof was made");
    assert!(proven > 0 && proven <= leak["live"].as_u64().unwrap_or(0), "{leak}");
    for site in &sites {
        assert!(site["function"] == leak["function"] || site["proven"] == 0, "{site}");
    }
    assert_eq!(proof["proven"], proven);
    // Nobody placed a probe, and the figures say what it took.
    assert_eq!(proving.process(pid).expect("watched")["tier"], "memory");
    let about = proving.about();
    assert!(about["proofs"]["made"].as_u64() >= Some(1), "{about:#}");
    assert!(about["proofs"]["cpu_s"].as_f64() > Some(0.0) && about["proofs"]["refuted"] == 0, "{about:#}");
    let metrics = proving.get("/metrics", &[]).body;
    let series = metrics.lines().filter(|line| line.starts_with("leakwatch_site_tasks_proven_leaked{"));
    let some: Vec<&str> = series.filter(|line| !line.ends_with(" 0")).collect();
    assert!(
        some.len() == 1 && some[0].contains("stoppedGrowing") && some[0].ends_with(&format!(" {proven}")),
        "{some:?}"
    );

    // What is proven stays so when no more is proven.
    proving.reload(&format!("{CORPUS}[prove]\nenabled = false\n"));
    let looks = |host: &Server| host.process(pid).expect("watched")["looks"].as_u64().unwrap_or(0);
    let then = looks(&proving);
    proving.wait_until("three looks", |host| looks(host) >= then + 3);
    assert_eq!(firing(&proving), fired);

    // The other one suspects and has no proof, until it is told to make some: of small processes, and then of this one.
    quiet.wait_until("the suspicion", |host| {
        let (_, sites) = seen(host, pid);
        let verdict = &of(&sites, "stoppedGrowing")["verdict"];
        *verdict == "suspect" || *verdict == "leak"
    });
    let (proof, sites) = seen(&quiet, pid);
    assert_eq!((&proof, &of(&sites, "stoppedGrowing")["proven"]), (&Value::Null, &Value::Null));
    assert_eq!((quiet.about()["proofs"]["made"].as_u64(), firing(&quiet)), (Some(0), Vec::new()));
    quiet.reload(&format!("{CORPUS}[prove]\nevery = \"1s\"\nlargest = \"1MiB\"\n"));
    let problem = |host: &Server| seen(host, pid).0["problems"][0].as_str().unwrap_or_default().to_owned();
    quiet.wait_until("the reason", |host| problem(host).contains("[prove] largest allows"));
    assert_eq!(seen(&quiet, pid).0["proven"], Value::Null);
    quiet.reload(&format!("{CORPUS}[prove]\nevery = \"1s\"\n"));
    quiet.wait_until("the alert", |host| firing(host) == fired);
}

/// Processor time of the thread that proves, ns; `None`: there is none.
fn prover_ns(agent: u32) -> Option<u64> {
    let mut tasks = std::fs::read_dir(format!("/proc/{agent}/task")).ok()?.flatten().map(|task| task.path());
    let task = tasks
        .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == "prover"))?;
    std::fs::read_to_string(task.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

/// The target of `leakwatch prove` alone; it gets probes as soon as it grows, and a proof then, again and again.
const PROVE: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[budget]\nhost_percent = 100\nprocess_percent = 100\n\
                     [promote]\ngrowth_per_min = 1\n[prove]\nevery = \"1s\"\ncpu_percent = 100\n\
                     [discover]\ninclude = [{ comm = \"prove\" }]\n";

fn prove_target() -> PathBuf {
    matrix::go_target("1.27.3", "plain").path.with_file_name("prove")
}

/// A process that dies while it is read is forgotten, and that is all; the next one is proven.
#[test]
fn one_that_dies_during_its_proof_is_no_error() {
    need!(gate::live(), gate::file(&prove_target()));
    let mut large = Target::start(&prove_target());
    large.command("heap 256");
    large.command("spawn 50");
    let host = HostAgent::start("dies", PROVE);
    let pid = large.pid();
    // It grows, so it gets probes, so it is proven.
    let grown = eventually(Duration::from_mins(1), || {
        if prover_ns(host.pid()).is_some() {
            return true;
        }
        large.command("spawn 5");
        false
    });
    assert!(grown, "no proof begins: {:#}", host.about());
    assert!(
        eventually(Duration::from_secs(20), || prover_ns(host.pid()) > Some(20_000_000)),
        "the proof is being made"
    );
    large.kill();
    host.wait_until("its end", |host| host.process(pid).is_none());
    let mut small = Target::start(&prove_target());
    host.wait_until("another proof", |host| {
        small.command("spawn 5");
        host.about()["proofs"]["made"].as_u64() >= Some(1)
    });
    let about = host.about();
    assert_eq!(about["proofs"]["failed"], 0, "{about:#}");
    let errors = about["errors"].as_object().expect("by kind");
    assert!(errors.values().all(|count| *count == 0), "{about:#}");
    host.wait_until("what is proven", |host| {
        host.report(small.pid())
            .is_some_and(|report| report.process(small.pid()).json()["proof"]["proven"].as_u64() > Some(0))
    });
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
}

/// Who was proven and runs all the same, by a trick that Go forbids, is counted, and the proofs of that process are believed no more.
#[test]
fn a_proof_that_was_wrong_is_told() {
    need!(gate::live(), gate::file(&prove_target()));
    let mut target = Target::start(&prove_target());
    target.command("disguise 5");
    let host = HostAgent::start("wrong", PROVE);
    let pid = target.pid();
    // As many as no stale word leads to.
    let disguised = |host: &Server| {
        let report = host.report(pid)?;
        let sites = report.process(pid).sites().iter();
        let some =
            sites.filter(|site| site["function"].as_str().is_some_and(|name| name.contains("disguise")));
        some.filter_map(|site| site["proven"].as_u64()).max().filter(|proven| *proven > 0)
    };
    host.wait_until("a proof", |host| {
        target.command("spawn 1");
        disguised(host).is_some()
    });
    let proven = disguised(&host);
    assert_eq!(host.about()["proofs"]["refuted"], 0);
    target.command("betray");
    host.wait_until("the refutation", |host| host.about()["proofs"]["refuted"].as_u64() >= proven);
    host.wait_until("no leak by proof", |host| {
        let (proof, sites) = seen(host, pid);
        let by_proof =
            |site: &Value| site["why"].as_str().is_some_and(|why| why.contains("can never be woken"));
        proof["refuted"].as_u64() >= proven
            && !sites.iter().any(|site| site["verdict"] == "leak" && by_proof(site))
    });
    assert!(!host.get("/metrics", &[]).body.contains("leakwatch_proofs_refuted_total 0"));
    let outcome = host.terminate();
    assert!(outcome.stderr.contains("a proof was wrong"), "{}", outcome.stderr);
}

/// tokio's proof is a single word of a task, which each look sees: it needs no probe, and no proof of the agent's.
#[test]
fn tokio_tasks_without_a_waker_are_seen_by_looking() {
    const STUCK: &str = "pending for ever";
    need!(gate::live(), gate::file(&corpus::program("tokio")));
    let mut shapes = corpus::shapes("tokio");
    shapes.retain(|shape| shape.name == STUCK || !shape.leaks);
    let (stuck, fine): (Vec<_>, Vec<_>) = shapes.clone().into_iter().partition(|shape| shape.leaks);
    assert_eq!((stuck.len(), fine.len() > 10), (1, true));
    let running = Running::start("tokio", shapes);
    let pid = running.pid();
    let host = HostAgent::start("without-waker", CORPUS);
    host.wait_until("the alert", |host| !firing(host).is_empty());
    let (proof, sites) = seen(&host, pid);
    assert_eq!((&proof, &host.about()["proofs"]["made"]), (&Value::Null, &0.into()), "no proof was made");
    // Each of the others keeps at most one task for ever, for what it holds: that is no alert.
    let of_stuck =
        |function: &String| sites.iter().any(|site| site["function"] == *function && stuck[0].owns(site));
    assert!(firing(&host).iter().all(of_stuck), "{:?}", firing(&host));
    let mut leaks = sites.iter().filter(|site| stuck[0].owns(site) && site["verdict"] == "leak");
    assert!(leaks.any(|site| site["why"].as_str().is_some_and(|why| why.contains("no waker"))), "{sites:#?}");
    assert_eq!(host.process(pid).expect("watched")["tier"], "memory");
}
