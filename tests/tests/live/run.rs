//! `leakwatch run`: counted from the first instruction, and what is left at the end is what the program left.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use leakwatch_tests::report::Report;
use leakwatch_tests::tokio::TokioTarget;
use leakwatch_tests::{Target, agent, gate, matrix, need};
use nix::sys::signal::Signal;

use crate::folder::Folder;

/// `leakwatch run`, with its report in a file, around a program.
fn around(report: &Path, more: &[&str], program: &Path) -> Command {
    let mut command = agent::command(["run", "--format", "json", "--output"]);
    command.arg(report).args(more).arg("--").arg(program);
    command
}

fn read(report: &Path) -> Report {
    let text = std::fs::read_to_string(report).expect("the report");
    Report::parse(&text)
}

/// Tasks left behind by the sites of a function.
fn left_by(report: &Report, function: &str) -> u64 {
    let processes = report.json()["processes"].as_array().expect("processes");
    let sites = processes.iter().flat_map(|process| process["sites"].as_array().into_iter().flatten());
    let of = sites.filter(|site| site["function"].as_str().is_some_and(|name| name.contains(function)));
    of.filter_map(|site| site["left_behind"].as_u64()).sum()
}

#[test]
fn goroutines_from_the_first_to_the_last() {
    for release in matrix::GO_RELEASES {
        let binary = matrix::go_target(release, "stripped");
        need!(gate::live(), gate::file(&binary.path));
        let about = binary.name();
        let folder = Folder::new("run");
        let file = folder.path().join("report.json");
        let mut target =
            Target::start_command(&mut around(&file, &["--fail-on-leak", "--grace", "0ms"], &binary.path));
        for command in ["spawn chan 12", "spawn mutex 3", "storm 20000", "finish chan 5"] {
            target.command(command);
        }
        let truth = target.truth();
        let status = target.exit(0);
        assert_eq!(status.code(), Some(3), "{about}: tasks were left behind");
        let report = read(&file);
        let tasks = &report.json()["processes"][0]["tasks"];
        // The main goroutine is started by the runtime's own, and was not there before.
        let main = 1;
        assert_eq!(tasks["live_at_attach"], 0, "{about}: {tasks:#}");
        assert_eq!(
            (tasks["started"].as_u64(), tasks["ended"].as_u64()),
            (Some(truth.started + main), Some(truth.ended)),
            "{about}: {tasks:#}"
        );
        assert_eq!(
            (left_by(&report, "main.leakChan"), left_by(&report, "main.leakMutex")),
            (7, 3),
            "{about}"
        );
        assert_eq!(left_by(&report, ""), truth.live, "{about}: the main goroutine is not among them");
    }
}

#[test]
fn the_programs_own_end_comes_first() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("code");
    let file = folder.path().join("report.json");
    let run =
        || Target::start_command(&mut around(&file, &["--fail-on-leak", "--grace", "0ms"], &binary.path));
    let mut target = run();
    target.command("spawn chan 3");
    assert_eq!(target.exit(9).code(), Some(9), "its failure is told, not the leak");
    let mut target = run();
    target.command("spawn chan 3");
    assert_eq!(target.crash().code(), Some(2), "a panic");
    assert_eq!(left_by(&read(&file), "main.leakChan"), 3);
    assert_eq!(run().exit(0).code(), Some(0), "nothing was left");

    // A pattern takes what is known out.
    let ignoring = ["--fail-on-leak", "--grace", "0ms", "--ignore", "^main\\.leakChan$"];
    let mut target = Target::start_command(&mut around(&file, &ignoring, &binary.path));
    target.command("spawn chan 3");
    assert_eq!(target.exit(0).code(), Some(0));

    // A signal goes to the program, and its end is as a shell tells it.
    let sleep = Path::new("/bin/sleep");
    let mut guard = leakwatch_tests::process::Guard::start(around(&file, &[], sleep).arg("1000"));
    let started = leakwatch_tests::process::eventually(std::time::Duration::from_mins(1), || {
        child_of(guard.pid()).is_some_and(|child| {
            std::fs::read_to_string(format!("/proc/{child}/status"))
                .is_ok_and(|status| status.contains("State:\tS") && status.contains("TracerPid:\t0"))
        })
    });
    assert!(started, "it runs, and nobody traces it");
    guard.signal(Signal::SIGTERM);
    let status = guard.wait(std::time::Duration::from_mins(1));
    assert_eq!((status.code(), status.signal()), (Some(128 + 15), None));
}

/// The child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

#[test]
fn what_cannot_be_run_is_one_sentence() {
    need!(gate::live());
    let fails = |arguments: &[&str], code: i32, part: &str| {
        let outcome = agent::run(arguments);
        assert_eq!(outcome.code(), Some(code), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
        assert!(outcome.stderr.lines().count() <= 2, "{}", outcome.stderr);
    };
    fails(&["run", "--", "/no/such/program"], 1, "/no/such/program");
    fails(&["run", "--", "/etc/passwd"], 1, "/etc/passwd");
    fails(&["run", "--ignore", "(", "--", "true"], 2, "--ignore");
    fails(&["run", "--output", "/no/such/folder/file", "--", "true"], 1, "/no/such/folder/file");
}

#[test]
fn a_child_that_is_left_behind_is_named() {
    need!(gate::live());
    // What it leaves must not hold our pipes open.
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let run = agent::command(["run", "--fail-on-leak", "--grace", "50ms", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let child: i32 = String::from_utf8_lossy(&run.stdout).trim().parse().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL).expect("it still runs");
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert!(said.contains(&format!("sleep (pid {child}) still runs")), "{said}");
}

#[test]
fn tokio_tasks_at_an_exit_without_a_shutdown() {
    let binary = matrix::any_tokio_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("tokio");
    let file = folder.path().join("report.json");
    let mut target = TokioTarget::start_command(&mut around(&file, &["--grace", "0ms"], &binary.path));
    target.command("spawn notify 11");
    target.command("storm 5000 2");
    target.command("finish notify 4");
    let truth = target.truth();
    target.into_inner().exit(0);
    let report = read(&file);
    let tasks = &report.json()["processes"][0]["tasks"];
    assert_eq!(
        (tasks["started"].as_u64(), tasks["ended"].as_u64(), tasks["live_at_attach"].as_u64()),
        (Some(truth.started), Some(truth.ended), Some(0)),
        "{tasks:#}"
    );
    let sites = report.json()["processes"][0]["sites"].as_array().expect("sites");
    let left: u64 = sites.iter().filter_map(|site| site["left_behind"].as_u64()).sum();
    assert_eq!(left, truth.live, "{:#}", report.json());
}

#[test]
fn build_servers_are_told() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("forms");
    let told = |format: &str| {
        let file = folder.path().join(format);
        let mut command =
            agent::command(["run", "--fail-on-leak", "--grace", "0ms", "--format", format, "--output"]);
        let mut target = Target::start_command(command.arg(&file).arg("--").arg(&binary.path));
        target.command("spawn chan 4");
        // Long enough for a look at what they wait on.
        target.command("measure 3000");
        target.exit(0);
        std::fs::read_to_string(&file).expect("it is written")
    };
    let github = told("github");
    assert_eq!(github.lines().count(), 1, "{github}");
    assert!(github.starts_with("::error file="), "{github}");
    assert!(
        github.contains("leaks.go,line=") && github.contains("::4 tasks created by main.leakChan"),
        "{github}"
    );
    let junit = told("junit");
    assert!(junit.contains(r#"tests="1" failures="1""#), "{junit}");
    assert!(junit.contains(r#"<testcase name="main.leakChan""#), "{junit}");
    assert!(junit.contains("main.leakChan.func1 ("), "the stack is in it: {junit}");
}
