//! Programs in real containers, of an image made here, each engine with its own daemon or none: found, named and counted from
//! the machine.

use leakwatch_tests::engine::{self, Contained, Engine, IMAGE, Kind};
use leakwatch_tests::{Agent, HostAgent, agent, gate, matrix, need};

use crate::places::is_counted;

/// Of containers of the image alone; probes as soon as something grows.
fn prompt() -> String {
    format!(
        "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\nhold = \"1m\"\n\
         [discover]\ninclude = [{{ image = \"{IMAGE}\" }}]\nrescan = \"1s\"\n\
         [budget]\nprocess_percent = 100\nhost_percent = 100\n"
    )
}

/// A program in a container is found, named, counted by the agent, and watched by pid and by control group.
#[track_caller]
fn is_at_home(kind: Kind, engine_is: &str) {
    let engine = Engine::start(kind, &matrix::any_go_target().path);
    let Contained { mut target, pid, id } = engine.run("cart");
    let root = engine.root().display().to_string();
    let host = HostAgent::start_with("containers", &prompt(), |config| {
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
    host.wait_live(pid, target.check().num_goroutine);
    host.wait_until("probes", |host| {
        target.command("spawn chan 5");
        host.process(pid).expect("watched")["tier"] == "probes"
    });
    let started = |host: &HostAgent| host.report(pid).expect("watched").process(pid).tasks().started;
    host.wait_live(pid, target.check().num_goroutine);
    let (before, known) = (target.check(), started(&host));
    target.command("storm 1000");
    let after = target.check();
    host.wait_until("every start", |host| started(host) - known == after.started - before.started);
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
