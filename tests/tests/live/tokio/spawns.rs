//! Where tasks are spawned: the function and line that the program's source has, in builds with and without names.

use leakwatch_tests::{Agent, TokioTarget, gate, matrix, need};
use serde_json::Value;

/// The line of the target's source that has this text, the first behind a line with that one.
#[track_caller]
fn line_of(file: &str, behind: &str, text: &str) -> usize {
    let path = matrix::repository().join("tests/targets/tokio/truth/src").join(file);
    let source = std::fs::read_to_string(&path).expect("the target's source");
    let mut lines = source.lines().zip(1..).skip_while(|(line, _)| !line.contains(behind));
    lines.find(|(line, _)| line.contains(text)).map(|(_, number)| number).expect("it is there")
}

/// The places of the type whose async block stands there.
#[track_caller]
fn places(sites: &[Value], file: &str, line: usize, about: &str) -> Vec<Value> {
    let defined = |site: &&Value| {
        site["task_file"].as_str().is_some_and(|path| path.ends_with(file)) && site["task_line"] == line
    };
    let site = sites.iter().find(defined).unwrap_or_else(|| panic!("{about}: {file}:{line}: {sites:#?}"));
    let places = site["spawns"].as_array().cloned().unwrap_or_default();
    if let Some(most) = places.first() {
        for key in ["function", "file", "line"] {
            assert_eq!(site[key], most[key], "{about}: the most frequent place is the site's");
        }
    }
    places
}

#[test]
fn are_functions_and_lines_of_the_source() {
    let newest = matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1];
    for flavour in ["debuginfo", "strip", "unstable"] {
        let binary = matrix::tokio_target(newest, flavour);
        need!(gate::live(), gate::file(&binary.path));
        let about = binary.name();
        let mut target = TokioTarget::start(&binary.path);
        target.command("spawn notify 4");
        let agent = Agent::watch(target.pid(), &[]);
        target.command("storm 2000 2");
        let report = agent.interrupt().report();
        let sites = report.process(target.pid()).sites();

        // Spawned by `tokio::spawn`, to which callers pass their Location.
        let defined = line_of("churn.rs", "async fn short(", "async fn short(");
        let spawned = line_of("churn.rs", "async fn drives_storm(", "tokio::spawn(task)");
        let storm = places(sites, "churn.rs", defined, &about);
        let [place] = &storm[..] else { panic!("{about}: one place: {storm:#?}") };
        assert!(place["file"].as_str().is_some_and(|file| file.ends_with("churn.rs")), "{about}: {place:#}");
        assert_eq!(place["line"], spawned, "{about}: {place:#}");
        assert!(place["seen"].as_u64().is_some_and(|seen| (1..=2000).contains(&seen)), "{about}: {place:#}");
        let function = place["function"].as_str();
        let named = function.is_some_and(|function| function.starts_with("truth::churn::drives_storm"));
        assert_eq!(named, binary.is_named(), "{about}: {place:#}");

        // From before the attach: known where the program keeps it, and not made up elsewhere.
        let defined = line_of("kinds.rs", "async fn waits_for_notify(", "async fn waits_for_notify(");
        let notify = places(sites, "kinds.rs", defined, &about);
        if flavour == "unstable" {
            let spawned = line_of("kinds.rs", "fn spawn_notify(", "on_main!");
            assert_eq!(
                (notify.len(), &notify[0]["line"], &notify[0]["seen"]),
                (1, &spawned.into(), &4.into())
            );
        } else {
            assert_eq!(notify, [Value::Null; 0], "{about}");
        }
    }
}
