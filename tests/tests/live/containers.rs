//! Programs in real containers, of an image made here, each engine with its own daemon or none: found, named and counted from
//! the machine.

use leakwatch_tests::engine::{self, Contained, Engine, IMAGE, Kind};
use leakwatch_tests::pod::{self, Node};
use leakwatch_tests::{Agent, HostAgent, Target, agent, chart, gate, matrix, need};
use serde_json::json;

use crate::places::is_counted;

/// What the image of the agent is called.
const AGENT: &str = "localhost/leakwatch:test";

/// Of these alone; probes as soon as something grows.
fn prompt(include: &str) -> String {
    format!(
        "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\nhold = \"1m\"\n\
         [discover]\ninclude = [{{ {include} }}]\nrescan = \"1s\"\n\
         [budget]\nprocess_percent = 100\nhost_percent = 100\n"
    )
}

/// A program in a container is found, named, counted by the agent, and watched by pid and by control group.
#[track_caller]
fn is_at_home(kind: Kind, engine_is: &str) {
    let engine = Engine::start(kind, &matrix::any_go_target().path);
    let Contained { mut target, pid, id } = engine.run("cart");
    let root = engine.root().display().to_string();
    let host = HostAgent::start_with("containers", &prompt(&format!("image = \"{IMAGE}\"")), |config| {
        agent::command(["agent", "--host-root", &root, "--config", config.to_str().expect("a text")])
    });
    host.wait_until("the program in the container", |host| host.process(pid).is_some());
    let process = host.process(pid).expect("watched");
    let said =
        ["container", "container_engine", "container_name", "image"].map(|field| process[field].clone());
    assert_eq!(said, [id.as_str(), engine_is, "cart", IMAGE]);
    assert_eq!(process["exe"], "/truth");
    if kind == Kind::Containerd {
        assert_eq!(
            (&process["pod"]["name"], &process["pod"]["namespace"]),
            (&"cart-7c9d-x2x4z".into(), &"shop".into())
        );
    }
    let info = format!("image=\"{IMAGE}\",container_name=\"cart\",container_engine=\"{engine_is}\"");
    let metrics = host.get("/metrics", &[]).body;
    assert!(
        metrics.lines().any(|line| line.starts_with("leakwatch_process_info{") && line.contains(&info)),
        "{metrics}"
    );

    target.command("spawn chan 50");
    host.counts_exactly(pid, &mut target, 1000);
    assert_eq!(host.terminate().code(), Some(0));

    is_counted(&mut target, pid, "process in a container");
    let group = group_of(pid);
    let before = target.check();
    let mut agent = Agent::start(["watch", "--format", "json", "--cgroup", &group]);
    agent.wait_attached();
    target.command("storm 1000");
    let after = target.check();
    agent.interrupt().report().process(pid).assert_is(&before, &after, &group);
}

/// The control group of a process, as the first hierarchy has it.
fn group_of(pid: u32) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its control groups");
    let first = groups.lines().next().expect("one");
    first.splitn(3, ':').nth(2).expect("a path").to_owned()
}

#[test]
fn a_program_in_a_container_of_podman() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path), engine::gate());
    is_at_home(Kind::Podman, "podman");
}

#[test]
fn a_program_in_a_container_of_docker() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path), engine::gate());
    is_at_home(Kind::Docker, "docker");
}

#[test]
fn a_program_in_a_container_of_containerd() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path), engine::gate());
    is_at_home(Kind::Containerd, "containerd");
}

/// The chart's pod, from the image that `deploy/` has the recipe of: on this machine as on a node.
#[test]
fn the_daemonset_watches_the_machine_and_its_containers() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path), engine::gate(), chart::gate());
    let truth = matrix::any_go_target().path;
    // One for the agent, one for what it watches: podman takes each `/run` for a machine that was started anew.
    let (node, engine) = (Engine::start(Kind::Podman, &truth), Engine::start(Kind::Podman, &truth));
    let executable = agent::binary().expect("built");
    node.build(&executable, AGENT);
    // Not even this test may look at the root of process 1 here, where the agent looks for the machine's files.
    let root = format!("--host-root=/proc/{}/root{}", std::process::id(), engine.root().display());
    let rendered = chart::render(&[json!({ "extraArgs": [root] })], &[]).remove(0);
    let state = node.root().join("state");
    std::fs::create_dir(&state).expect("a folder");
    let mut outside = Target::start(&truth);
    let Contained { target: mut inside, pid, .. } = engine.run("cart");
    let host = HostAgent::start_with("daemonset", &prompt("exe = \".*/truth\""), |config| {
        let mut command = node.run_on_machine("agent");
        engine::with_libraries_of(&mut command, &executable);
        let stands_for = Node { name: "node-1", image: AGENT, config, state: &state };
        pod::run(&mut command, &rendered, stands_for);
        command
    });
    let about = host.about();
    assert_eq!(about["host"], "node-1");
    for feature in about["features"].as_array().expect("features") {
        assert!(feature["on"] == true || feature["name"] == "memory", "{feature}");
    }
    for (pid, target) in [(outside.pid(), &mut outside), (pid, &mut inside)] {
        target.command("spawn chan 50");
        host.counts_exactly(pid, target, 1000);
    }
    let info = |pid: u32| {
        let metrics = host.get("/metrics", &[]).body;
        let mut lines = metrics.lines().filter(|line| line.starts_with("leakwatch_process_info{"));
        lines.find(|line| line.contains(&format!("{{pid=\"{pid}\""))).expect("scraped").to_owned()
    };
    assert!(info(pid).contains(&format!("image=\"{IMAGE}\",container_name=\"cart\"")), "{}", info(pid));
    assert!(!info(outside.pid()).contains("image="), "{}", info(outside.pid()));
    assert_eq!(host.terminate().code(), Some(0));
}
