//! Child processes: forks and ends equal to the program's own books, by line and command; zombies; children followed.

use std::process::Command;
use std::time::Duration;

use leakwatch_tests::process::eventually;
use leakwatch_tests::{Agent, NativeTarget, gate, matrix, need};

#[test]
fn forks_by_line_and_command() {
    let binary = matrix::native_target("c", "plain");
    need!(gate::live(), gate::file(&binary));
    let mut target = NativeTarget::start(&mut Command::new(&binary));
    let agent = Agent::watch(target.pid(), &[]);
    target.command("fork 30 true");
    target.command("fork 20");
    let after = target.command("truth");
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    let about = format!("{:#}", process.json());
    let forks = &process.json()["forks"];
    assert_eq!(
        (&forks["count"], &forks["ended"], &forks["live"]),
        (&50.into(), &50.into(), &0.into()),
        "{about}"
    );
    let commands = forks["by_command"].to_string();
    assert!(commands.contains(r#"{"command":"true","ended":30,"forked":30,"live":0}"#), "{commands}");
    assert!(commands.contains(r#"{"command":"threads","ended":20,"forked":20,"live":0}"#), "{commands}");
    let places = process.by_place("process");
    let place = ("fork_child".to_owned(), after.sites["fork_child"].line);
    assert_eq!(places.get(&place).map(|counts| (counts.started, counts.ended)), Some((50, 50)), "{about}");
    assert_eq!(process.json()["zombies"], serde_json::json!([]), "{about}");
}

#[test]
fn zombies_are_told_until_they_are_collected() {
    let binary = matrix::native_target("c", "plain");
    need!(gate::live(), gate::file(&binary));
    let mut target = NativeTarget::start(&mut Command::new(&binary));
    target.command("zombies 3 true");
    let agent = Agent::watch(target.pid(), &[]);
    target.command("zombies 12 false");
    let report = agent.interrupt().report();
    let zombies = &report.process(target.pid()).json()["zombies"];
    assert_eq!(zombies[0]["command"], "false", "{zombies:#}");
    assert_eq!(zombies[0]["count"], 12, "{zombies:#}");
    assert!(zombies[0]["oldest_s"].is_number(), "{zombies:#}");
    assert_eq!((&zombies[1]["count"], &zombies[1]["oldest_s"]), (&3.into(), &serde_json::Value::Null));
    let agent = Agent::watch(target.pid(), &[]);
    target.command("collect");
    let report = agent.interrupt().report();
    assert_eq!(report.process(target.pid()).json()["zombies"], serde_json::json!([]));
}

#[test]
fn a_storm_of_forks() {
    let binary = matrix::native_target("c", "plain");
    need!(gate::live(), gate::file(&binary));
    let mut target = NativeTarget::start(&mut Command::new(&binary));
    let agent = Agent::watch(target.pid(), &[]);
    target.command("fork 5000");
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    let forks = &process.json()["forks"];
    assert_eq!((&forks["count"], &forks["ended"]), (&5000.into(), &5000.into()), "{:#}", process.json());
    let by_site: u64 = process.by_place("process").values().map(|counts| counts.started).sum();
    assert_eq!(by_site, 5000, "{:#}", process.json());
}

#[test]
fn children_are_followed() {
    need!(gate::live());
    // Two that stay, one of them forked by a child; and some that end at once.
    let script = "read go; (sleep 1000 & wait) & sleep 1001 & true; true; /bin/true; echo ready; wait";
    let mut shell = leakwatch_tests::process::Guard::start(Command::new("sh").args(["-c", script]));
    let pid = shell.pid().to_string();
    let mut agent =
        Agent::start(["watch", "--pid", &pid, "--follow", "--format", "jsonl", "--interval", "200ms"]);
    agent.wait_attached();
    std::io::Write::write_all(shell.child().stdin.as_mut().expect("piped"), b"go\n").expect("it reads");
    let followed = |line: &str| {
        let report: serde_json::Value = serde_json::from_str(line).expect("a report");
        let processes = report["processes"].as_array().cloned().unwrap_or_default();
        let sleeps =
            processes.iter().filter(|process| process["comm"] == "sleep" && process["exited"] == false);
        sleeps.filter_map(|process| i32::try_from(process["pid"].as_i64()?).ok()).collect::<Vec<i32>>()
    };
    let mut sleeps = Vec::new();
    let found = eventually(Duration::from_mins(1), || {
        sleeps = followed(&agent.next_line());
        sleeps.len() == 2
    });
    // They are the shell's children, not ours: they end by their pids, which leakwatch told.
    for pid in &sleeps {
        let killed =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        assert!(killed.is_ok(), "{pid}: {killed:?}");
    }
    assert!(found, "both sleeps are watched");
    drop((shell, agent));
}

#[test]
fn a_target_that_ends_while_it_is_attached_leaves_nothing() {
    let binary = matrix::native_target("c", "plain");
    need!(gate::live(), gate::file(&binary));
    for _ in 0..5 {
        let target = NativeTarget::start(&mut Command::new(&binary));
        let pid = target.pid().to_string();
        let agent = Agent::start(["watch", "--format", "json", "--duration", "1s", "--pid", &pid]);
        drop(target);
        let outcome = agent.wait();
        assert!(
            outcome.status.success()
                || outcome.stderr.contains("ended")
                || outcome.stderr.contains("no process"),
            "{}",
            outcome.stderr
        );
    }
}
