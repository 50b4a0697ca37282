//! What takes long says so on a terminal, and nowhere else.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use leakwatch_tests::tmux::Tmux;
use leakwatch_tests::{Target, agent, gate, matrix, need};

use crate::folder::Folder;

/// A pipe of this name, for writing; returns when somebody reads it.
fn open_pipe(path: &Path) -> File {
    File::options().write(true).open(path).expect("a pipe")
}

#[test]
fn a_slow_file_is_waited_for_with_a_line_that_goes_away() {
    let binary = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&binary), gate::tmux());
    let folder = Folder::new("progress");
    let recording = folder.path().join("watch");
    let target = Target::start(&binary);
    let (pid, to) = (target.pid().to_string(), recording.display().to_string());
    let outcome =
        agent::run(["record", "--pid", &pid, "--output", &to, "--duration", "300ms", "--interval", "50ms"]);
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    let bytes = fs::read(&recording).expect("a recording");
    let (seen, unseen) = (folder.path().join("seen"), folder.path().join("unseen"));
    let made = Command::new("mkfifo").args([&seen, &unseen]).status();
    assert!(made.expect("coreutils").success());
    let program = agent::binary().expect("the gate has seen it").display().to_string();
    let elsewhere = Tmux::start(100, 24, folder.path());
    elsewhere.command(&format!("{program} replay unseen >out 2>err; echo over"));
    let mut into_unseen = open_pipe(&unseen);
    let terminal = Tmux::start(100, 24, folder.path());
    terminal.command(&format!("clear; {program} replay seen; echo \"ended with $?\""));
    let mut into_seen = open_pipe(&seen);
    // So much that it knows what it reads, and waits for the rest.
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    for file in [&mut into_unseen, &mut into_seen] {
        file.write_all(first).expect("it reads");
    }
    let screen = terminal.wait_for(|screen| screen.contains("leakwatch: reading seen: 2s"));
    assert_eq!(screen.matches("leakwatch: reading").count(), 1, "one line, over and over:\n{screen}");
    for mut file in [into_unseen, into_seen] {
        file.write_all(rest).expect("it reads");
    }
    let screen = terminal.wait_for(|screen| screen.contains("ended with 0"));
    assert!(!screen.contains("leakwatch: reading"), "it stays:\n{screen}");
    let table = fs::read_to_string(folder.path().join("out")).expect("a table");
    assert!(screen.starts_with(table.lines().next().expect("a line").trim_end()), "{screen}");
    elsewhere.wait_for(|screen| screen.lines().any(|line| line == "over"));
    assert_eq!(fs::read_to_string(folder.path().join("err")).expect("written"), "");
    assert!(!table.contains("reading"), "{table}");
    assert!(target.close().success());
}
