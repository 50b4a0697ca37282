//! Programs in real containers, of an image made here, each engine with its own daemon or none: found, named and counted from
//! the machine.

use leakwatch_tests::engine::{self, Contained, Engine, IMAGE, Kind, Pod};
use leakwatch_tests::pod::{self, Node};
use leakwatch_tests::{Agent, HostAgent, Target, agent, chart, gate, matrix, need};
use serde_json::json;

use crate::places::is_counted;

/// What the image of the agent is called.
const AGENT: &str = "localhost/leakwatch:test";

/// Of these alone; probes as soon as something grows.
fn prompt(include: &str) -> String {
    prompt_with(&format!("include = [{{ {include} }}]"))
}

/// The same with these keys of `[discover]`.
fn prompt_with(discover: &str) -> String {
    format!(
        "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\nhold = \"1m\"\n\
         [discover]\n{discover}\nrescan = \"1s\"\n\
         [budget]\nprocess_percent = 100\nhost_percent = 100\n"
    )
}

/// An agent whose machine's root is the engine's.
#[track_caller]
fn watch(engine: &Engine, name: &str, config: &str) -> HostAgent {
    let root = engine.root().display().to_string();
    HostAgent::start_with(name, config, |config| {
        agent::command(["agent", "--host-root", &root, "--config", config.to_str().expect("a text")])
    })
}

/// A program in a container is found, named, counted by the agent, and watched by pid and by control group.
#[track_caller]
fn is_at_home(kind: Kind, engine_is: &str) {
    let engine = Engine::start(kind, &matrix::any_go_target().path);
    let Contained { mut target, pid, id } = engine.run("cart");
    let host = watch(&engine, "containers", &prompt(&format!("image = \"{IMAGE}\"")));
    host.wait_until("the program in the container", |host| host.process(pid).is_some());
    let process = host.process(pid).expect("watched");
    let said =
        ["container", "container_engine", "container_name", "image"].map(|field| process[field].clone());
    // ctr gives its containers no names.
    let name = (kind != Kind::Containerd).then_some("cart");
    assert_eq!(said, [json!(id), json!(engine_is), json!(name), json!(IMAGE)]);
    assert_eq!(process["exe"], "/truth");
    let named = name.map(|name| format!("container_name=\"{name}\",")).unwrap_or_default();
    let info = format!("image=\"{IMAGE}\",{named}container_engine=\"{engine_is}\"");
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

/// The id of a container is what its user likes, and who likes that of a service of the machine is in no container for it.
#[test]
fn a_container_whose_id_its_user_chose_is_known() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path), engine::gate());
    let engine = Engine::start(Kind::Containerd, &matrix::any_go_target().path);
    let outside = Target::start(&matrix::any_go_target().path);
    let Contained { mut target, pid, id } = engine.run_as("cart", "my.cart_1");
    assert_eq!(id, "my.cart_1");
    let chosen = prompt_with("include = [{ exe = \".*/truth\" }]\nexclude = [{ container = \"\" }]");
    let host = watch(&engine, "chosen-id", &chosen);
    host.wait_until("the program in the container", |host| host.process(pid).is_some());
    assert_eq!(host.process(outside.pid()), None, "it is of the machine");
    let process = host.process(pid).expect("watched");
    let said =
        ["container", "container_engine", "container_name", "image"].map(|field| process[field].clone());
    assert_eq!(said, [json!(id), json!("containerd"), json!(null), json!(IMAGE)]);
    target.command("spawn chan 50");
    host.counts_exactly(pid, &mut target, 1000);
    host.reload(&prompt_with("include = [{ container = \"my[.]cart.*\" }]"));
    host.wait_live(pid, target.check().num_goroutine);
    host.reload(&prompt_with("include = [{ exe = \".*/truth\", container = \"\" }]"));
    host.wait_until("the machine's alone", |host| {
        host.process(pid).is_none() && host.process(outside.pid()).is_some()
    });
    assert_eq!(host.terminate().code(), Some(0));
}

/// Pods that a real containerd runs for Kubernetes, before the agent and after it: named, chosen by what the configuration can say of
/// them, and forgotten with their ends.
#[test]
fn pods_of_containerd_are_named_chosen_and_forgotten() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path), engine::gate());
    let engine = Engine::start(Kind::Node, &matrix::any_go_target().path);
    let labels = [("app", "web"), ("app.kubernetes.io/name", "cart"), ("team", "shop")];
    let mut web = engine.run_pod("cart-7c9d-x2x4z", "cart", &labels);
    let cache = engine.run_pod("cache-0", "redis", &[("app", "cache"), ("legacy", "")]);
    let told = "report_labels = [\"app.kubernetes.io/name\", \"team\", \"absent\"]\n";
    let chosen = format!("{told}include = [{{ pod_labels = \"app in (web, api), team!=batch\" }}]");
    let host = watch(&engine, "pods", &prompt_with(&chosen));
    let is_watched = |pod: &Pod| host.process(pod.contained.pid).is_some();

    host.wait_until("the pod of before", |_| is_watched(&web));
    let process = host.process(web.contained.pid).expect("watched");
    let said = ["container", "container_engine", "container_name", "image"].map(|field| &process[field]);
    assert_eq!(said, [&web.contained.id, "containerd", "cart", IMAGE]);
    let pod = json!({
        "name": web.name, "namespace": engine::NAMESPACE, "uid": web.uid,
        "labels": { "app.kubernetes.io/name": "cart", "team": "shop" },
    });
    assert_eq!(process["pod"], pod);
    let report = host.report(web.contained.pid).expect("watched");
    assert_eq!(report.process(web.contained.pid).json()["pod"], pod);
    let metrics = host.get("/metrics", &[]).body;
    let ends = "container_engine=\"containerd\",label_app_kubernetes_io_name=\"cart\",label_team=\"shop\"} 1";
    assert!(
        metrics.lines().any(|line| line.starts_with("leakwatch_process_info{") && line.ends_with(ends)),
        "{metrics}"
    );
    web.contained.target.command("spawn chan 50");
    host.counts_exactly(web.contained.pid, &mut web.contained.target, 1000);

    let api = engine.run_pod("api-0", "api", &[("app", "api")]);
    let batch = engine.run_pod("batch-0", "batch", &[("app", "api"), ("team", "batch")]);
    host.wait_until("the pod of after", |_| is_watched(&api));
    assert!(!is_watched(&cache) && !is_watched(&batch));
    let pid = api.contained.pid;
    engine.end_pod(api);
    host.wait_until("the end of a pod", |host| host.process(pid).is_none());

    // By each thing that a process can be chosen by: of the two this one, then the other one.
    let group = format!(".*/{}", web.contained.id);
    let selectors = [
        ("pod_labels", "app=web"),
        ("pod_labels", "!legacy,app notin (api)"),
        ("pod", "cart-.*"),
        ("container", &web.contained.id),
        ("cgroup", &group),
    ];
    let only = format!("image = \"{IMAGE}\", namespace = \"{}\", pod = \"c.*\"", engine::NAMESPACE);
    for (key, value) in selectors {
        let with = |key: &str| if key == "pod" { only.replace(", pod = \"c.*\"", "") } else { only.clone() };
        host.reload(&prompt_with(&format!("include = [{{ {}, {key} = \"{value}\" }}]", with(key))));
        host.wait_until(&format!("only the one with {key}"), |_| is_watched(&web) && !is_watched(&cache));
        host.reload(&prompt_with(&format!(
            "include = [{{ {only} }}]\nexclude = [{{ {key} = \"{value}\" }}]"
        )));
        host.wait_until(&format!("only the one without {key}"), |_| !is_watched(&web) && is_watched(&cache));
    }
    assert!(!is_watched(&batch));
    assert_eq!(host.terminate().code(), Some(0));
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
