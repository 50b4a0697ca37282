//! `leakwatch fleet`: two hosts, each with its agent and its programs, and one Prometheus that scrapes both; what it says is
//! what the programs know, and what came with the last deploy is told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use leakwatch_tests::agent::{binary, run};
use leakwatch_tests::namespace::NetHost;
use leakwatch_tests::process::eventually;
use leakwatch_tests::prometheus::{PATIENCE, Prometheus, free_port};
use leakwatch_tests::{Agent, Target, gate, matrix, need};
use serde_json::Value;

use crate::folder::Folder;

/// Where each agent listens.
const PORT: u16 = 9464;

/// A host with an agent that watches the programs of this name. Both hosts have one process table.
fn agent(folder: &Folder, host: &NetHost, comm: &str) -> Agent {
    let config = folder.path().join(format!("{comm}.toml"));
    let text = format!(
        "[http]\nlisten = \"{}:{PORT}\"\n[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\nenabled = false\n\
         [discover]\ninclude = [{{ comm = \"{comm}\" }}]\n",
        host.address()
    );
    fs::write(&config, text).expect("written");
    let mut command = host.command(binary().expect("the gate has looked"));
    let mut agent = Agent::start_command(command.args(["agent", "--config"]).arg(config));
    agent.wait_said("the agent answers on http://");
    agent
}

fn ask(prometheus: &Prometheus) -> Value {
    let address = format!("http://127.0.0.1:{}", prometheus.port());
    let outcome = run(["fleet", "--prometheus", &address, "--since", "10m", "--format", "json"]);
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// The site of this function in this version.
fn site<'a>(fleet: &'a Value, function: &str, build_id: &str) -> Option<&'a Value> {
    let sites = fleet["sites"].as_array().expect("sites");
    sites.iter().find(|site| site["function"] == function && site["build_id"] == build_id)
}

/// The build id of a binary, as leakwatch's own look at the file has it.
fn build_id(path: &Path) -> String {
    let outcome = run([Path::new("inspect"), path, Path::new("--format"), Path::new("json")]);
    let json: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    json["build_id"].as_str().expect("a build id").to_owned()
}

#[test]
fn the_worst_sites_of_two_hosts_and_what_is_new_since_the_deploy() {
    let old = matrix::go_target(matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 2], "plain").path;
    let new = matrix::any_go_target().path;
    need!(gate::live(), gate::network(), gate::file(&old), gate::file(&new), gate::third_party("prometheus"));
    let folder = Folder::new("fleet");
    let program = folder.copy_of(&old, "shop");
    let [east, west] = ["east", "west"].map(|name| {
        let link = folder.path().join(name);
        symlink(&program, &link).expect("linked");
        link
    });
    let hosts = [NetHost::new(0), NetHost::new(1)];
    let agents = [agent(&folder, &hosts[0], "east"), agent(&folder, &hosts[1], "west")];
    let targets = hosts.each_ref().map(|host| format!("'{}:{PORT}'", host.address())).join(", ");
    let config = format!(
        "global: {{ scrape_interval: 1s }}\n\
         scrape_configs: [{{ job_name: leakwatch, static_configs: [{{ targets: [{targets}] }}] }}]\n"
    );
    let prometheus = Prometheus::start("fleet", &config, &[], &[]);
    let old_id = build_id(&old);

    // Both hosts run the old version, and leak.
    let mut here = Target::start(&east);
    let mut there = Target::start(&west);
    let method = there.command("spawn method 7")["function"].as_str().expect("a name").to_owned();
    let scraped = eventually(PATIENCE, || prometheus.query("leakwatch_build_info").len() == 2);
    assert!(scraped, "Prometheus does not reach both");
    let mut fleet = Value::Null;
    let leaks = eventually(PATIENCE, || {
        here.command("spawn chan 4");
        there.command("spawn chan 3");
        fleet = ask(&prometheus);
        site(&fleet, "main.leakChan", &old_id).is_some_and(|site| site["leaking_processes"] == 2)
    });
    assert!(leaks, "{fleet:#}");
    let truth = [here.check(), there.check()];
    let live = |function: &str| -> u64 {
        truth.iter().filter_map(|truth| truth.sites.get(function)).map(|site| site.live).sum()
    };
    let counted = eventually(PATIENCE, || {
        fleet = ask(&prometheus);
        let of = |function: &str| site(&fleet, function, &old_id).map(|site| site["live"].clone());
        ["main.leakChan", &method].into_iter().all(|function| of(function) == Some(live(function).into()))
    });
    assert!(counted, "{truth:#?} {fleet:#}");
    assert_eq!((&fleet["hosts"], &fleet["processes"]), (&2.into(), &2.into()), "{fleet:#}");
    let leak = site(&fleet, "main.leakChan", &old_id).expect("found");
    assert_eq!(
        (&leak["hosts"], &leak["processes"], &leak["verdict"]),
        (&2.into(), &2.into(), &"leak".into())
    );
    assert_eq!((&leak["exe"], &leak["new"]), (&program.to_str().into(), &Value::Null), "{leak:#}");
    assert_eq!(fleet["sites"][0]["function"], "main.leakChan", "the worst is first");

    // One host gets the new version, which leaks at one more place; the other keeps the old one.
    drop(here);
    fs::remove_file(&program).expect("removed");
    folder.copy_of(&new, "shop");
    let new_id = build_id(&new);
    let mut here = Target::start(&east);
    let leaks = eventually(PATIENCE, || {
        here.command("spawn chan 3");
        here.command("spawn mutex 3");
        fleet = ask(&prometheus);
        let is =
            |function: &str| site(&fleet, function, &new_id).is_some_and(|site| site["verdict"] == "leak");
        is("main.leakChan") && is("main.leakMutex")
    });
    assert!(leaks, "{fleet:#}");
    let told = |function: &str| {
        let site = site(&fleet, function, &new_id).expect("found");
        (site["new"].clone(), site["version_before"].clone(), site["hosts"].clone())
    };
    assert_eq!(told("main.leakMutex"), (true.into(), old_id.as_str().into(), 1.into()));
    assert_eq!(told("main.leakChan"), (false.into(), old_id.as_str().into(), 1.into()));
    let kept = site(&fleet, "main.leakChan", &old_id).expect("the other host has it still");
    assert_eq!((&kept["hosts"], &kept["new"]), (&1.into(), &Value::Null), "{kept:#}");

    // As people read it, and what they read when something is wrong.
    let address = format!("http://127.0.0.1:{}", prometheus.port());
    let text = run(["fleet", "--prometheus", &address, "--since", "10m", "--sites", "3"]).stdout;
    let row = text.lines().find(|line| line.contains("main.leakMutex")).unwrap_or_else(|| panic!("{text}"));
    assert!(row.starts_with("leak, new"), "{text}");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for (arguments, wanted) in [
        (vec!["--prometheus", &nobody], "does not answer what agents there are: "),
        (vec!["--prometheus", "prometheus:9090"], "--prometheus \"prometheus:9090\": expected one like"),
        (
            vec!["--prometheus", &address, "--match", "job=\"x\""],
            "knows no agent of leakwatch with job=\"x\"",
        ),
        (vec!["--prometheus", &address, "--match", "job="], "it refuses the question: "),
    ] {
        let outcome = run([vec!["fleet"], arguments].concat());
        assert_eq!(outcome.code(), Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(wanted) && outcome.stderr.lines().count() == 1, "{}", outcome.stderr);
    }
    drop((agents, here, there));
}
