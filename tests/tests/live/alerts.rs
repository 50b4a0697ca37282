//! Rules and actions on a program that leaks and then does not: each kind of action, a real Alertmanager, receivers that are
//! dead, hang or fail; and the same from the host agent.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use leakwatch_tests::process::eventually;
use leakwatch_tests::prometheus::{Alertmanager, PATIENCE, free_port, get};
use leakwatch_tests::report::Report;
use leakwatch_tests::{Agent, HostAgent, Target, gate, matrix, need};
use serde_json::Value;

use crate::folder::Folder;

/// A watch of a target by a file of rules.
fn watch(folder: &Folder, target: &Target, rules: &str, more: &[&str]) -> Agent {
    let file = folder.path().join("rules.toml");
    fs::write(&file, rules).expect("rules");
    let pid = target.pid().to_string();
    let mut arguments = vec!["watch", "--pid", &pid, "--interval", "200ms", "--rules"];
    arguments.push(file.to_str().expect("a path"));
    arguments.extend(more);
    Agent::start(arguments)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn every_action_is_done_and_undone() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("actions");
    let here = folder.path().display();
    let mut target = Target::start(&binary.path);
    target.command("spawn mutex 3");
    let rules = format!(
        r#"
        [[rule]]
        name = "many"
        when = "live > 50 until 20"
        only = {{ function = 'main\.leakChan' }}
        [[action]]
        kind = "log"
        [[action]]
        kind = "command"
        command = ["sh", "-c", "cat > {here}/$LEAKWATCH_STATE.json; echo $LEAKWATCH_STATE $LEAKWATCH_PID >> {here}/told"]
        [[action]]
        kind = "dump"
        dir = "{here}/dumps"
        [[action]]
        kind = "hold"
        file = "{here}/hold"
        listen = "127.0.0.1:0"
        "#
    );
    let mut agent = watch(&folder, &target, &rules, &["--format", "json"]);
    let said = agent.wait_said("action hold: http://127.0.0.1:");
    let port = said.rsplit("127.0.0.1:").next().and_then(|rest| rest.split('/').next()?.parse().ok());
    let port: u16 = port.expect("a port");
    agent.wait_attached();
    let held = || get(port, "/api/v1/hold").map(|(status, _)| status);
    assert_eq!((held(), folder.path().join("hold").exists()), (Some(200), false));

    target.command("spawn chan 60");
    agent.wait_said("alert firing: many [P1]");
    assert!(eventually(PATIENCE, || held() == Some(503) && folder.path().join("hold").exists()), "it holds");
    // Until they are whole they have other names.
    let dumped = || names(&folder.path().join("dumps")).iter().all(|name| !name.contains(".tmp"));
    assert!(
        eventually(PATIENCE, || dumped() && names(&folder.path().join("dumps")).len() == 2),
        "it is dumped"
    );
    let [profile, text] = &names(&folder.path().join("dumps"))[..] else { panic!("two files") };
    let dump = read(&folder.path().join("dumps").join(text));
    // Also those of another site: a dump is of the process.
    let blocked = |function: &str| dump.matches(&format!("created by {function}")).count();
    assert_eq!((blocked("main.leakChan"), blocked("main.leakMutex")), (60, 3), "{dump}");
    assert!(profile.ends_with(".pb.gz"), "{profile}");
    assert!(
        eventually(PATIENCE, || read(&folder.path().join("told")).lines().count() == 1),
        "the command ran"
    );

    target.command("finish chan 55");
    agent.wait_said("alert resolved: many [P1]");
    assert!(
        eventually(PATIENCE, || held() == Some(200) && !folder.path().join("hold").exists()),
        "it lets go"
    );
    let pid = target.pid();
    let both = format!("firing {pid}\nresolved {pid}\n");
    assert!(eventually(PATIENCE, || read(&folder.path().join("told")) == both), "the command ran again");
    let given: Value = serde_json::from_str(&read(&folder.path().join("firing.json"))).expect("a report");
    let alert = &given["alerts"][0];
    assert_eq!((&given["schema"], &alert["rule"]), (&"leakwatch.report/1".into(), &"many".into()));
    assert_eq!((&alert["value"], &alert["state"]), (&60.0.into(), &"firing".into()), "{alert:#}");

    let report = agent.interrupt().report();
    let json = report.json();
    assert_eq!(json["alerts"][0]["state"], "resolved");
    for action in json["actions"].as_array().expect("actions") {
        let times = if action["kind"] == "dump" { 1 } else { 2 };
        assert_eq!((&action["done"], &action["failed"]), (&times.into(), &0.into()), "{action:#}");
    }
    drop(target);
}

#[test]
fn what_ends_resolves_and_the_exit_code_tells() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("exit");
    let told = folder.path().join("told");
    let rules = format!(
        r#"
        [[rule]]
        name = "any"
        when = "tasks.live >= 1"
        level = "yellow"
        [[action]]
        kind = "command"
        command = ["sh", "-c", "echo $LEAKWATCH_STATE $LEAKWATCH_WHY >> {}"]
        "#,
        told.display()
    );
    for (least, code) in [("--fail-on-alert", 4), ("--fail-on-alert=yellow", 4), ("--fail-on-alert=P1", 0)] {
        let target = Target::start(&binary.path);
        let mut agent = watch(&folder, &target, &rules, &["--format", "json", least]);
        agent.wait_attached();
        assert!(eventually(PATIENCE, || read(&told).contains("firing")), "it fires");
        target.exit(0);
        let outcome = agent.wait();
        assert_eq!(outcome.code(), Some(code), "{least}: {}", outcome.stderr);
        let text = read(&told);
        assert!(text.ends_with("resolved the process ended, or is not watched any more\n"), "{text}");
        let report = Report::parse(&outcome.stdout);
        assert_eq!(report.json()["alerts"][0]["state"], "resolved", "{:#}", report.json()["alerts"]);
        fs::remove_file(&told).expect("removed");
    }
}

/// A receiver that takes connections and never answers, and one that fails.
fn failing() -> (TcpListener, u16) {
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");
    let broken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = broken.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in broken.incoming().flatten() {
            let mut stream = stream;
            let mut piece = vec![0; 65_536];
            // What it is told does not matter; who asked may have gone.
            drop(stream.read(&mut piece));
            drop(
                stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"),
            );
        }
    });
    (hanging, port)
}

#[test]
fn receivers_that_are_dead_hang_or_fail_are_counted() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let folder = Folder::new("dead");
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 60");
    let (hanging, broken) = failing();
    let hanging = hanging.local_addr().map(|address| (address.port(), hanging)).expect("an address");
    let action = |name: &str, port: u16| {
        format!(
            "[[action]]\nkind = \"webhook\"\nname = \"{name}\"\nurl = \"http://127.0.0.1:{port}\"\nattempts = 1\ntimeout = \"300ms\"\n"
        )
    };
    let rules = format!(
        "[[rule]]\nname = \"many\"\nwhen = \"tasks.live > 50\"\n{}{}{}",
        action("dead", free_port()),
        action("hanging", hanging.0),
        action("broken", broken)
    );
    let mut agent = watch(&folder, &target, &rules, &["--format", "jsonl"]);
    agent.wait_attached();
    // Reports go on coming, and have the failures in them.
    let mut lines = 0;
    let mut failed = [0; 3];
    while failed.contains(&0) {
        let line: Value = serde_json::from_str(&agent.next_line()).expect("a report");
        let actions = line["actions"].as_array().expect("actions");
        for (count, action) in failed.iter_mut().zip(actions) {
            *count = action["failed"].as_u64().expect("a count");
            assert_eq!(action["done"], 0, "{action:#}");
        }
        lines += 1;
        assert!(lines < 600, "after {lines} reports: {line:#}");
    }
    let outcome = agent.interrupt();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    for name in ["dead", "hanging", "broken"] {
        assert!(outcome.stderr.contains(&format!("action {name}: ")), "{}", outcome.stderr);
    }
    drop((target, hanging));
}

/// A route to nobody: what is asked is whether it has the alerts.
const NOBODY: &str = "route:\n  receiver: nobody\n  group_by: [alertname]\nreceivers:\n  - name: nobody\n";

#[test]
fn a_real_alertmanager_has_the_alert_and_then_has_it_no_more() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path), gate::third_party("prometheus-alertmanager"));
    let folder = Folder::new("alertmanager");
    let alertmanager = Alertmanager::start("alerts", NOBODY);
    let mut target = Target::start(&binary.path);
    let rules = format!(
        r#"
        [[rule]]
        name = "many"
        about = "More than fifty of them."
        when = "live > 50 until 20"
        level = "P0"
        only = {{ function = 'main\.leakChan' }}
        labels = {{ team = "web" }}
        annotations = {{ runbook = "https://example.org/many" }}
        [[action]]
        kind = "webhook"
        url = "http://127.0.0.1:{}"
        generator_url = "http://127.0.0.1:1/leaks"
        "#,
        alertmanager.port()
    );
    let mut agent = watch(&folder, &target, &rules, &["--format", "json"]);
    agent.wait_attached();
    target.command("spawn chan 60");
    assert!(eventually(PATIENCE, || alertmanager.active().len() == 1), "it has one alert");
    let alert = alertmanager.active().remove(0);
    let labels = &alert["labels"];
    for (label, value) in [
        ("alertname", "many"),
        ("level", "P0"),
        ("severity", "critical"),
        ("source", "leakwatch"),
        ("team", "web"),
        ("runtime", "go"),
        ("function", "main.leakChan"),
        ("pid", &target.pid().to_string()),
    ] {
        assert_eq!(labels[label], value, "{labels:#}");
    }
    assert_eq!(alert["annotations"]["runbook"], "https://example.org/many");
    assert!(
        alert["annotations"]["summary"].as_str().is_some_and(|text| text.contains("live is 60, above 50")),
        "{alert:#}"
    );
    assert_eq!(alert["generatorURL"], "http://127.0.0.1:1/leaks");
    assert_eq!(alert["status"]["state"], "active");
    target.command("finish chan 55");
    assert!(eventually(PATIENCE, || alertmanager.active().is_empty()), "it is over");
    // What still fires when the watch ends does not stay for ever.
    target.command("spawn chan 60");
    assert!(eventually(PATIENCE, || alertmanager.active().len() == 1), "it has it again");
    let outcome = agent.interrupt();
    assert!(eventually(PATIENCE, || alertmanager.active().is_empty()), "nobody watches any more");
    let report = outcome.report();
    let action = &report.json()["actions"][0];
    assert_eq!((&action["failed"], &action["dropped"]), (&0.into(), &0.into()), "{action:#}");
    drop(target);
}

#[test]
fn the_host_agent_tells_holds_and_dumps_until_the_process_ends() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path), gate::third_party("prometheus-alertmanager"));
    let folder = Folder::new("host-alerts");
    let here = folder.path().display();
    let alertmanager = Alertmanager::start("host", NOBODY);
    // A program that no other test on this machine runs.
    let program = folder.path().join("shop");
    fs::copy(&binary.path, &program).expect("copied");
    let config = format!(
        r#"
        [sampling]
        interval = "1s"
        cpu_percent = 50
        [promote]
        enabled = false
        [discover]
        include = [{{ exe = "{here}/shop" }}]
        [[rule]]
        name = "many"
        when = "live > 50 until 20"
        level = "P0"
        only = {{ function = 'main\.leakChan' }}
        [[action]]
        kind = "webhook"
        url = "http://127.0.0.1:{}"
        [[action]]
        kind = "command"
        command = ["sh", "-c", "echo $LEAKWATCH_STATE $LEAKWATCH_PID >> {here}/told"]
        [[action]]
        kind = "dump"
        dir = "{here}/dumps"
        most_files = 2
        [[action]]
        kind = "hold"
        "#,
        alertmanager.port()
    );
    let (mut target, other) = (Target::start(&program), Target::start(&program));
    let host = HostAgent::start("alerts", &config);
    let held = |query: &str| host.get(&format!("/api/v1/hold{query}"), &[]).status;
    let of = |target: &Target| format!("?pid={}", target.pid());
    let features = host.about()["features"].clone();
    let confined = features.as_array().into_iter().flatten().find(|feature| feature["name"] == "confined");
    assert_eq!(confined.expect("a feature")["on"], true, "{features:#}");
    assert_eq!((held(""), held("?pid=x"), alertmanager.active().len()), (200, 400, 0));

    target.command("spawn chan 60");
    host.wait_until("the hold", |_| held("") == 503);
    assert_eq!((held(&of(&target)), held(&of(&other))), (503, 200));
    let body: Value = serde_json::from_str(&host.get("/api/v1/hold", &[]).body).expect("JSON");
    assert_eq!((&body["schema"], &body["by"][0]["rule"]), (&"leakwatch.hold/1".into(), &"many".into()));
    assert!(eventually(PATIENCE, || alertmanager.active().len() == 1), "it has one alert");
    let labels = alertmanager.active()[0]["labels"].clone();
    for (label, value) in [
        ("alertname", "many"),
        ("severity", "critical"),
        ("function", "main.leakChan"),
        ("pid", &target.pid().to_string()),
    ] {
        assert_eq!(labels[label], value, "{labels:#}");
    }
    let alerts = || -> Value { serde_json::from_str(&host.get("/api/v1/alerts", &[]).body).expect("JSON") };
    let listed = alerts();
    assert_eq!(
        (&listed["schema"], &listed["alerts"][0]["value"]),
        (&"leakwatch.alerts/1".into(), &60.0.into())
    );
    let dumped = || {
        let names = names(&folder.path().join("dumps"));
        (names.len() == 2 && names.iter().all(|name| !name.contains(".tmp"))).then_some(names)
    };
    assert!(eventually(PATIENCE, || dumped().is_some()), "it is dumped");
    let first = dumped().expect("two files");
    let dump = read(&folder.path().join("dumps").join(&first[1]));
    assert_eq!(dump.matches("created by main.leakChan").count(), 60, "{dump}");

    // Read again: a rule that stays goes on, with its alert, and a hold with a file besides holds at once.
    host.reload(&format!("{config}\n[[rule]]\npreset = \"leak\"\n"));
    host.wait_until("the other rule", |_| alerts()["rules"].as_array().map(Vec::len) == Some(2));
    host.reload(&format!("{config}\nfile = \"{here}/hold\"\n"));
    assert!(eventually(PATIENCE, || folder.path().join("hold").exists()), "it holds");
    assert_eq!(
        (held(""), alerts()["alerts"][0]["fired"].clone()),
        (503, listed["alerts"][0]["fired"].clone())
    );

    // It is over and begins again: the new dump takes the old one's place.
    target.command("finish chan 55");
    host.wait_until("the end of the hold", |_| held("") == 200);
    target.command("spawn chan 60");
    host.wait_until("the hold", |_| held("") == 503);
    assert!(eventually(PATIENCE, || dumped().is_some_and(|names| names != first)), "it is dumped again");

    let pid = target.pid();
    drop(target);
    host.wait_until("the end of the hold", |_| held("") == 200);
    assert!(eventually(PATIENCE, || alertmanager.active().is_empty()), "it is over");
    let twice = format!("firing {pid}\nresolved {pid}\n").repeat(2);
    assert!(eventually(PATIENCE, || read(&folder.path().join("told")) == twice), "the command ran each time");
    for action in alerts()["actions"].as_array().expect("actions") {
        assert_eq!((&action["failed"], &action["dropped"]), (&0.into(), &0.into()), "{action:#}");
    }
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    drop(other);
}
