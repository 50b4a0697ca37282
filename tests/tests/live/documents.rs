//! Command lines of the documents, run as they stand there: all that need no root, on files made from a real watch.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use leakwatch_tests::{Target, agent, gate, matrix, need};

use crate::folder::Folder;

/// Lines of shell blocks that begin with `leakwatch`, not with `sudo`, each once; without those that ask another host.
fn command_lines() -> Vec<String> {
    let root = matrix::repository();
    let documents = fs::read_dir(root.join("docs")).expect("documents").flatten().map(|entry| entry.path());
    let mut lines = Vec::new();
    for path in documents.chain([root.join("README.md")]) {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a document");
        let blocks = text.split("\n```sh\n").skip(1).filter_map(|block| block.split("\n```").next());
        let shown = blocks.flat_map(str::lines).filter(|line| line.starts_with("leakwatch "));
        lines.extend(shown.filter(|line| !line.contains("://")).map(str::to_owned));
    }
    lines.sort();
    lines.dedup();
    lines
}

/// The first block of this language in a document.
fn block(document: &str, language: &str) -> String {
    let text = fs::read_to_string(matrix::repository().join("docs").join(document)).expect("a document");
    let (_, rest) = text.split_once(&format!("\n```{language}\n")).expect("a block");
    rest.split("\n```").next().unwrap_or_default().to_owned()
}

/// The files that the documents speak of.
fn make_files(folder: &Path, target: &mut Target) {
    let pid = target.pid().to_string();
    let make = |command: &str, output: &str, more: &[&str]| {
        let path = folder.join(output).display().to_string();
        let arguments = [command, "--pid", &pid, "--output", &path];
        let outcome = agent::run(arguments.iter().chain(more));
        assert_eq!(outcome.code(), Some(0), "{command}: {}", outcome.stderr);
    };
    make("dump", "before.json", &["--format", "json"]);
    target.command("spawn chan 30");
    make("dump", "after.json", &["--format", "json"]);
    make("watch", "report.json", &["--format", "json", "--duration", "1s"]);
    let mut recorder = agent::Agent::start([
        "record",
        "--pid",
        &pid,
        "--events",
        "--stacks",
        "--output",
        &folder.join("watch.lkw").display().to_string(),
    ]);
    recorder.wait_attached();
    target.command("storm 100");
    assert_eq!(recorder.interrupt().code(), Some(0));
    fs::write(folder.join("rules.toml"), block("rules.md", "toml")).expect("a file");
}

#[test]
fn command_lines_of_the_documents_do_what_they_say() {
    let binary = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&binary));
    let folder = Folder::new("documents");
    let mut target = Target::start(&binary);
    make_files(folder.path(), &mut target);
    let program = agent::binary().expect("the gate has seen it");
    symlink(program, folder.path().join("leakwatch")).expect("a link");
    let path = std::env::var("PATH").unwrap_or_default();
    let lines = command_lines();
    assert!(lines.len() > 20, "are they still found? {lines:#?}");
    for line in lines {
        let here = line
            .replace("/usr/bin/caddy", &binary.display().to_string())
            .replace("4242", &target.pid().to_string());
        let output = Command::new("sh")
            .args(["-c", &here])
            .current_dir(folder.path())
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
        assert!(!output.stdout.is_empty() || line.contains("--output"), "{line} says nothing: {said}");
    }
    let page = fs::read_to_string(folder.path().join("report.html")).expect("a page");
    assert!(page.ends_with("</html>"));
    assert!(target.close().success());
}
