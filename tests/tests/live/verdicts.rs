//! Verdicts on a small part of the corpus: what leaks is called so, and what only looks so is not. `cargo xtask accuracy`
//! has all of it, and how long it takes; here are shapes of the tuning half whose truth shows well within a minute.

use leakwatch_tests::corpus::{self, Attach, Case, Running, Shape};
use leakwatch_tests::{gate, need};

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
