//! Command lines of the documents, run as they stand there: those that need no root on files made from a real watch, the others
//! on a real program, until they end or have worked for some seconds.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use leakwatch_tests::{Target, agent, gate, matrix, need};

use crate::folder::Folder;

/// Seconds for which a command works that does not end by itself.
const SECONDS: &str = "5";

/// Lines of shell blocks that begin so, each once; without those that ask another host.
fn command_lines(begin: &str) -> Vec<String> {
    let root = matrix::repository();
    let documents = fs::read_dir(root.join("docs")).expect("documents").flatten().map(|entry| entry.path());
    let mut lines = Vec::new();
    for path in documents.chain([root.join("README.md")]) {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a document");
        let blocks = text.split("\n```sh\n").skip(1).filter_map(|block| block.split("\n```").next());
        let shown = blocks.flat_map(str::lines).filter(|line| line.starts_with(begin));
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
    let lines = command_lines("leakwatch ");
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

#[test]
fn command_lines_with_rights_do_what_they_say() {
    // A screen needs a terminal, and these name programs of another kind: live tests of their own have them.
    const ELSEWHERE: [&str; 4] = ["leakwatch top", "--profile", "--start", "--format tui"];
    let binary = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&binary));
    let folder = Folder::new("rights");
    let mut target = Target::start(&binary);
    target.command("spawn chan 3");
    fs::write(folder.path().join("rules.toml"), block("rules.md", "toml")).expect("a file");
    let program = agent::binary().expect("the gate has seen it");
    symlink(program, folder.path().join("leakwatch")).expect("a link");
    symlink("/usr/bin/env", folder.path().join("sudo")).expect("a link");
    symlink("/bin/true", folder.path().join("server")).expect("a link");
    let path = std::env::var("PATH").unwrap_or_default();
    let pid = target.pid().to_string();
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("its name");
    let mut lines = command_lines("sudo leakwatch ");
    lines.retain(|line| !ELSEWHERE.iter().any(|elsewhere| line.contains(elsewhere)));
    assert!(lines.len() > 30, "are they still found? {lines:#?}");
    let start = |line: &String| {
        let words = line.split_whitespace().map(|word| match word {
            "PID" | "4242" | "4298" | "4951" => pid.clone(),
            "/usr/bin/caddy" => binary.display().to_string(),
            "shopd" | "nats-server" => comm.trim().to_owned(),
            other => other.to_owned(),
        });
        let here = words.collect::<Vec<_>>().join(" ");
        // Interrupted as a person does it.
        Command::new("timeout")
            .args(["--preserve-status", "--signal", "INT", SECONDS, "sh", "-c", &format!("exec {here}")])
            .current_dir(folder.path())
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell")
    };
    for some in lines.chunks(8) {
        let running: Vec<_> = some.iter().map(|line| (line, start(line))).collect();
        for (line, running) in running {
            let output = running.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stderr);
            // A leak, or an alert, is what some of them ask for.
            let good = match output.status.code() {
                Some(0) => true,
                Some(3) => line.contains("--fail-on-leak"),
                Some(4) => line.contains("--fail-on-alert"),
                _ => false,
            };
            assert!(good, "{line}: {:?}: {said}", output.status);
            // A run in which nothing leaked is silent.
            let silent = ["--output", "leakwatch run"].iter().any(|silent| line.contains(silent));
            assert!(silent || !(output.stdout.is_empty() && said.is_empty()), "{line} says nothing");
        }
    }
    assert!(target.close().success());
}
