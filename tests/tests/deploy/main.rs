//! What `deploy/` installs is what the agent needs, no more, and what its tools take.
#![expect(clippy::tests_outside_test_module, reason = "all of it is a test")]

use std::collections::BTreeSet;
use std::fs;

use leakwatch_tests::{agent, chart, need, rights};
use serde_json::{Value, json};

/// The oldest release of Kubernetes that the chart names, one between, and the newest whose schemas are there.
const RELEASES: [&str; 3] = ["1.30", "1.33", "1.37"];

/// Everything that can be set, set.
fn everything() -> Value {
    json!({
        "image": { "repository": "r/l", "tag": "x", "pullPolicy": "Always", "pullSecrets": [{ "name": "z" }] },
        "fullnameOverride": "lw",
        "config": "[http]\nlisten = \"0.0.0.0:9000\"\ntls_cert = \"/etc/leakwatch/secrets/tls.crt\"\n\
                   tls_key = \"/etc/leakwatch/secrets/tls.key\"\n",
        "port": 9000,
        "tls": true,
        "secretName": "leakwatch-tls",
        "stateHostPath": "",
        "log": "warn",
        "extraArgs": ["--ring-size", "16M"],
        "affinity": { "nodeAffinity": {} },
        "priorityClassName": "system-node-critical",
        "podLabels": { "team": "sre" },
        "podAnnotations": { "note": "x" },
        "appArmor": "",
        "seLinuxType": "",
        "serviceAccount": { "create": false, "name": "given" },
        "scrapeAnnotations": true,
        "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" },
                            "endpoint": { "authorization": { "credentials": { "name": "s", "key": "token" } } } },
    })
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn the_chart_is_taken_with_its_own_values_and_with_all_others() {
    need!(chart::gate());
    let rendered = chart::render(&[json!({}), everything()], &RELEASES);
    for one in &rendered {
        assert_eq!(one.problems, Vec::<String>::new(), "{}", one.text);
    }
    let kinds = |at: usize| -> BTreeSet<String> {
        rendered[at]
            .documents
            .iter()
            .filter_map(|document| Some(document["kind"].as_str()?.to_owned()))
            .collect()
    };
    assert_eq!(kinds(0), ["ConfigMap", "DaemonSet", "ServiceAccount"].map(str::to_owned).into());
    assert_eq!(kinds(1), ["ConfigMap", "DaemonSet", "Service", "ServiceMonitor"].map(str::to_owned).into());
    let pod = &rendered[1].object("DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["readinessProbe"]["httpGet"]["scheme"], "HTTPS");
    assert_eq!(rendered[1].object("ServiceMonitor")["spec"]["endpoints"][0]["scheme"], "https");
}

#[test]
fn values_that_are_wrong_are_refused() {
    need!(chart::gate());
    let wrong = [
        (json!({ "prot": 1 }), "prot"),
        (json!({ "port": 1 }), "`listen`"),
        (json!({ "appArmor": "x" }), "appArmor"),
    ];
    let values: Vec<Value> = wrong.iter().map(|(values, _)| values.clone()).collect();
    for (rendered, (values, said)) in chart::render(&values, &[]).iter().zip(wrong) {
        assert!(
            rendered.problems.iter().any(|problem| problem.contains(said)),
            "{values}: {:?}",
            rendered.problems
        );
    }
}

#[test]
fn the_plain_manifests_are_the_charts() {
    need!(chart::gate());
    let kept = rights::deployed("kubernetes/leakwatch.yaml");
    assert!(kept == chart::plain(), "`cargo xtask manifests` writes deploy/kubernetes/leakwatch.yaml anew");
}

#[test]
fn the_daemonset_has_the_rights_of_the_unit_and_no_more() {
    need!(chart::gate());
    let rendered = chart::render(&[json!({})], &[]).remove(0);
    let pod = &rendered.object("DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["hostPID"], &pod["hostNetwork"], &pod["hostIPC"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    for (key, value) in
        [("privileged", false), ("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)]
    {
        assert_eq!(context[key], value, "{key}");
    }
    let added: BTreeSet<String> = texts(&context["capabilities"]["add"]).into_iter().collect();
    assert_eq!(
        (texts(&context["capabilities"]["drop"]), added),
        (vec!["ALL".to_owned()], rights::of_the_unit())
    );
    // All that it mounts is read-only, but its own folder.
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        assert_eq!(mount["readOnly"] == true, mount["name"] != "state", "{mount}");
    }
    let paths = pod["volumes"].as_array().expect("volumes").iter();
    let paths: BTreeSet<&str> = paths.filter_map(|volume| volume["hostPath"]["path"].as_str()).collect();
    assert_eq!(paths, ["/sys/kernel/tracing", "/var/lib/leakwatch"].into());
}

#[test]
fn the_agent_takes_the_arguments_and_the_configuration_of_the_daemonset() {
    need!(chart::gate(), agent::binary().map(drop));
    let folder = std::env::temp_dir().join(format!("leakwatch-chart-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("agent.toml");
    // What is in the secret that is mounted, for its files are looked at.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.join("tls.crt"), made.cert.pem()).expect("written");
    fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).expect("written");
    let here = folder.to_str().expect("a text");
    for rendered in chart::render(&[json!({}), everything()], &[]) {
        let config = rendered.object("ConfigMap")["data"]["agent.toml"].as_str().expect("a text");
        let config = config.replace("/etc/leakwatch/secrets", here);
        fs::write(&file, config).expect("written");
        let container = rendered.object("DaemonSet")["spec"]["template"]["spec"]["containers"][0].clone();
        let port = container["ports"][0]["containerPort"].to_string();
        let mut arguments = texts(&container["args"]);
        let given = "--config=/etc/leakwatch/agent.toml";
        let config = arguments.iter_mut().find(|argument| *argument == given).expect("its configuration");
        *config = format!("--config={}", file.display());
        arguments.push("--check-config".to_owned());
        let outcome = agent::run(&arguments);
        assert_eq!(outcome.code(), Some(0), "{arguments:?}: {}", outcome.stderr);
        assert!(
            fs::read_to_string(&file).expect("read").contains(&format!(":{port}\"")),
            "its port is another"
        );
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            let get = &container[probe]["httpGet"];
            assert_eq!(
                (&get["path"], &get["port"]),
                (&json!(path), &container["ports"][0]["name"]),
                "{probe}"
            );
        }
    }
    fs::remove_dir_all(&folder).expect("removed");
}

/// The most that `systemd-analyze security` may say, in tenths: root, capabilities and the network are what is left.
const MOST_EXPOSURE: &str = "--threshold=29";

#[test]
fn systemd_takes_the_unit_and_finds_it_closed() {
    need!(chart::systemd_gate());
    let folder = std::env::temp_dir().join(format!("leakwatch-unit-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    // What it starts need not be installed here.
    let unit = rights::deployed("systemd/leakwatch-agent.service").replace("/usr/bin/leakwatch", "/bin/true");
    let unit = unit.replace("Documentation=man:leakwatch(1)\n", "");
    let file = folder.join("leakwatch-agent.service");
    fs::write(&file, unit).expect("written");
    let file = file.to_str().expect("a text");
    let verified = chart::systemd_analyze(&["verify", "--man=no", file]);
    let said = String::from_utf8_lossy(&verified.stderr);
    let about_it = said.lines().find(|line| line.contains("leakwatch-agent"));
    assert!(verified.status.success() && about_it.is_none(), "{said}");
    let judged = chart::systemd_analyze(&["security", "--offline=true", "--no-pager", MOST_EXPOSURE, file]);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    fs::remove_dir_all(&folder).expect("removed");
}
