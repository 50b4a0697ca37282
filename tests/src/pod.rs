//! The chart's pod, run by podman as a node would run it: what the manifest says becomes flags, and what is not known here
//! fails, so that it is the manifest that is tried.
//!
//! Other than on a node: it has the machine's network, because the test asks its server; the folder that it may write to is one
//! of the test's; `AppArmor` and `SELinux` are whatever the machine has.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::chart::Rendered;

/// What stands for the node.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The image in its store that stands for the chart's.
    pub image: &'a str,
    /// What stands for the `ConfigMap`'s file.
    pub config: &'a Path,
    /// What stands for `/var/lib/leakwatch`.
    pub state: &'a Path,
}

/// Gives the flags of `podman run`, the image and its arguments, after `run`, to a command.
#[track_caller]
pub fn run(podman: &mut Command, rendered: &Rendered, node: Node<'_>) {
    let pod = &rendered.object("DaemonSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["hostPID"], true, "without it podman would give it a pid namespace");
    podman.args(["--pid=host", "--network=host"]);
    assert_eq!(pod["securityContext"]["seccompProfile"], json!({ "type": "RuntimeDefault" }));
    privileges(podman, &container["securityContext"]);
    for variable in list(&container["env"]) {
        let value = match &variable["value"] {
            Value::String(value) => value,
            _ if variable["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName" => node.name,
            _ => panic!("{variable}"),
        };
        podman.arg("--env").arg(format!("{}={value}", text(&variable["name"])));
    }
    let memory = text(&container["resources"]["limits"]["memory"]);
    podman.arg("--memory").arg(memory.strip_suffix("Mi").expect("a size in MiB").to_owned() + "m");
    for mount in list(&container["volumeMounts"]) {
        let volume = list(&pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
        let volume = volume.expect("the volume of a mount");
        let host = match &volume["hostPath"]["path"] {
            Value::String(path) if path == "/var/lib/leakwatch" => node.state,
            Value::String(path) => Path::new(path),
            _ if mount["subPath"] == "agent.toml" && volume["configMap"].is_object() => node.config,
            _ => panic!("{volume}"),
        };
        let writable = if mount["readOnly"] == true { "ro" } else { "rw" };
        let (host, inside) = (host.display(), text(&mount["mountPath"]));
        podman.arg("--volume").arg(format!("{host}:{inside}:{writable}"));
    }
    podman.arg(node.image);
    for argument in list(&container["args"]) {
        podman.arg(text(argument).replace("$(NODE_NAME)", node.name));
    }
}

/// A container's security context: all of it, or none.
#[track_caller]
fn privileges(podman: &mut Command, context: &Value) {
    for (key, value) in context.as_object().expect("a security context") {
        match key.as_str() {
            "privileged" => assert_eq!(*value, false),
            "runAsUser" => drop(podman.arg("--user").arg(format!("{value}:{}", context["runAsGroup"]))),
            "runAsGroup" => assert!(value.is_u64(), "{value}"),
            "allowPrivilegeEscalation" => {
                assert_eq!(*value, false);
                podman.arg("--security-opt=no-new-privileges");
            }
            "readOnlyRootFilesystem" => {
                assert_eq!(*value, true);
                podman.args(["--read-only", "--read-only-tmpfs=false"]);
            }
            "capabilities" => {
                for (flag, which) in [("--cap-drop", "drop"), ("--cap-add", "add")] {
                    for capability in list(&value[which]) {
                        podman.arg(flag).arg(text(capability));
                    }
                }
            }
            "appArmorProfile" => assert_eq!(*value, json!({ "type": "Unconfined" })),
            other => panic!("nobody here knows {other}: {value}"),
        }
    }
}

#[track_caller]
fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
