//! Verdicts on a small part of the corpus: what leaks is called so, and what only looks so is not. `cargo xtask accuracy`
//! has all of it, and how long it takes; here are shapes of the tuning half whose truth shows well within a minute.

use leakwatch_tests::corpus::{self, Attach, Case, Running, Shape};
use leakwatch_tests::{agent, gate, need};
use serde_json::Value;

use crate::folder::Folder;

/// Runtime, leaks, look-alikes.
const SHAPES: [(&str, &[&str], &[&str]); 3] = [
    (
        "go",
        &[
            "send with no receiver",
            "one in 500",
            "heartbeat of a dead connection",
            "generic function",
            "double lock",
        ],
        &[
            "requests that rise for minutes",
            "fixed tickers",
            "batch jobs",
            "queue under pressure",
            "connection pool filling up",
        ],
    ),
    (
        "tokio",
        &["sender kept alive", "interval without exit", "on errors only"],
        &["idle pool", "long polls", "requests that rise"],
    ),
    (
        "threads",
        &["mutex never unlocked", "poller for ever"],
        &["day curve", "idle pool", "thread per request"],
    ),
];

#[test]
fn leaks_are_called_so_and_look_alikes_are_not() {
    let programs = SHAPES.map(|(runtime, ..)| gate::file(&corpus::program(runtime)));
    let [go, tokio, threads] = programs;
    need!(gate::live(), go, tokio, threads);
    let running: Vec<Running> = SHAPES
        .iter()
        .map(|(runtime, leaks, fine)| {
            let wanted = |shape: &Shape| leaks.contains(&&*shape.name) || fine.contains(&&*shape.name);
            let mut shapes = corpus::shapes(runtime);
            shapes.retain(wanted);
            assert_eq!(shapes.len(), leaks.len() + fine.len(), "{runtime}");
            assert!(shapes.iter().all(|shape| shape.leaks == leaks.contains(&&*shape.name)), "{runtime}");
            Running::start(runtime, shapes)
        })
        .collect();
    let folder = Folder::new("verdicts");
    let recordings = corpus::record(&running, Attach::Early, folder.path());
    let mut recordings = recordings.iter();
    let mut wrong: Vec<Case> = Vec::new();
    for program in &running {
        for mode in program.modes() {
            let reports = corpus::replay(recordings.next().expect("one of each"));
            let cases = program.score(&reports, Attach::Early, mode);
            wrong.extend(cases.into_iter().filter(|case| case.leaks != case.said_leak()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// tokio tasks whose wakers are gone are a leak at the first look, and those of programs that only wait are none.
#[test]
fn tasks_without_a_waker_are_proven_to_wait_for_ever() {
    const WITHOUT: [&str; 3] = ["pending for ever", "stopped growing", "loser of select! kept"];
    need!(gate::live(), gate::file(&corpus::program("tokio")));
    let mut shapes = corpus::shapes("tokio");
    shapes.retain(|shape| !shape.leaks || WITHOUT.contains(&&*shape.name));
    let (stuck, fine): (Vec<_>, Vec<_>) = shapes.clone().into_iter().partition(|shape| shape.leaks);
    assert_eq!((stuck.len(), fine.len() > 10), (WITHOUT.len(), true));
    let program = Running::start("tokio", shapes);
    for mode in ["memory", "probes"] {
        // The first second of a watch has no growth to go by.
        let report = agent::watch_for(program.pid(), "6s", &["--mode", mode]);
        let process = report.process(program.pid());
        let sites = process.json()["sites"].as_array().expect("sites");
        let of = |shape: &Shape| sites.iter().filter(|site| shape.owns(site)).collect::<Vec<&Value>>();
        for shape in &stuck {
            let sites = of(shape);
            let sum = |figure: &str| -> u64 { sites.iter().filter_map(|site| site[figure].as_u64()).sum() };
            let (live, proven) = (sum("live"), sum("proven"));
            // The newest may not have come to their wait.
            assert!(live > 2 && proven <= live && proven + 2 >= live, "{mode}: {}: {sites:#?}", shape.name);
            let leak = sites.iter().find(|site| site["verdict"] == "leak");
            let why = leak.map(|site| site["why"].as_str().expect("a reason"));
            assert!(why.is_some_and(|why| why.contains("no waker")), "{mode}: {}: {sites:#?}", shape.name);
        }
        for site in fine.iter().flat_map(of) {
            assert_eq!((&site["proven"], site["verdict"] == "leak"), (&0.into(), false), "{mode}: {site:#}");
        }
    }
}
