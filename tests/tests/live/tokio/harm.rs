//! tokio programs whose executable is deleted or replaced while they run.

use std::fs;

use leakwatch_tests::{Agent, TokioTarget, gate, matrix, need, tokio};

use crate::folder::Folder;

fn newest(flavour: &'static str) -> matrix::TokioBinary {
    matrix::tokio_target(matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1], flavour)
}

/// Watches a target while tasks of it start and end.
#[track_caller]
fn is_counted(target: &mut TokioTarget, about: &str) {
    target.command("spawn notify 50");
    let before = target.truth();
    let agent = Agent::watch(target.pid(), &[]);
    target.command("storm 1000");
    target.command("spawn mutex 20");
    target.command("finish notify 10");
    let after = target.truth();
    let report = agent.interrupt().report();
    tokio::assert_is(report.process(target.pid()), &before, &after, true, about);
}

#[test]
fn a_deleted_and_a_replaced_executable() {
    let binary = newest("release").path;
    need!(gate::live(), gate::file(&binary));
    let folder = Folder::new("tokio-replaced");
    let copy = folder.copy_of(&binary, "deleted");
    let mut target = TokioTarget::start(&copy);
    fs::remove_file(&copy).expect("it is deleted");
    is_counted(&mut target, "deleted executable");

    let copy = folder.copy_of(&binary, "replaced");
    let mut target = TokioTarget::start(&copy);
    // Probes in the new file would see nothing.
    fs::rename(folder.copy_of(&newest("lto").path, "new"), &copy).expect("it is replaced");
    is_counted(&mut target, "replaced executable");
}
