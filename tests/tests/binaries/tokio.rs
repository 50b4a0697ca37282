//! tokio in every version and way to build, and in programs that nobody here wrote: every type of task is made and completed
//! at known places, at a cost of one trap each. And none in programs without tokio.

use leakwatch_inspect::tokio_rt::{TaskKind, TokioFacts};
use leakwatch_inspect::{Inspection, inspect};
use leakwatch_tests::{gate, matrix, need};
use std::path::Path;

fn facts(path: &Path) -> Vec<TokioFacts> {
    let image = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let Inspection { elf, tokio, .. } = inspect(&image).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for facts in &tokio {
        for site in facts.starts.iter().map(|start| &start.site).chain(&facts.ends) {
            assert_eq!(elf.bytes(&image, site.address, site.bytes.len()), Some(site.bytes.as_slice()));
            assert!(site.emulated, "{}: {site:?}", path.display());
        }
    }
    tokio
}

/// Nothing is left out.
fn assert_whole(facts: &TokioFacts, name: &str) {
    assert!(!facts.types.is_empty() && !facts.starts.is_empty() && !facts.ends.is_empty(), "{name}");
    for task in &facts.types {
        assert!(!task.makers.is_empty(), "{name}: nothing makes {task:?}");
        let started = facts.starts.iter().any(|start| start.vtables.contains(&task.vtable));
        assert!(started, "{name}: no site sees {task:?} start");
    }
    assert!(
        !facts.problems.iter().any(|problem| problem.0.contains("not counted")),
        "{name}: {:?}",
        facts.problems
    );
    assert!(
        !facts.problems.iter().any(|problem| problem.0.contains("not known")),
        "{name}: {:?}",
        facts.problems
    );
}

#[test]
fn every_type_of_task_is_seen_in_every_version_and_flavour() {
    for release in matrix::TOKIO_RELEASES {
        for binary in matrix::tokio_flavours(release) {
            need!(gate::file(&binary.path));
            let name = binary.name();
            let all = facts(&binary.path);
            assert_eq!(all.len(), 1, "{name}: {all:?}");
            let [facts] = &all[..] else { continue };
            assert_whole(facts, &name);
            if binary.is_named() {
                assert!(facts.types.iter().all(|task| task.name.is_some()), "{name}");
                assert!(facts.types.iter().any(|task| task.kind == Some(TaskKind::Blocking)), "{name}");
            }
        }
    }
}

#[test]
fn two_versions_are_two_entries() {
    need!(gate::file(&matrix::two_tokios()));
    let all = facts(&matrix::two_tokios());
    assert_eq!(all.len(), 2, "{all:?}");
    for facts in &all {
        assert_whole(facts, "two versions");
    }
    let vtables: Vec<u64> = all.iter().flat_map(|facts| facts.types.iter().map(|task| task.vtable)).collect();
    let mut once = vtables.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), vtables.len(), "a type belongs to one version");
}

#[test]
fn real_programs_have_no_type_that_is_not_seen() {
    for name in matrix::WITH_TOKIO {
        let path = matrix::third_party(name);
        need!(path.as_ref().map(drop).map_err(Clone::clone));
        let all = facts(&path.unwrap());
        assert!(!all.is_empty(), "{name}");
        for facts in &all {
            assert_whole(facts, name);
        }
    }
}

#[test]
fn programs_without_tokio_have_none() {
    for name in matrix::WITHOUT_TOKIO.iter().chain(&["caddy", "esbuild"]) {
        let path = matrix::third_party(name);
        need!(path.as_ref().map(drop).map_err(Clone::clone));
        assert!(facts(&path.unwrap()).is_empty(), "{name}");
    }
}
