//! containerd as a node of Kubernetes has it: its CRI plugin is asked for pods, over its socket, as the kubelet asks.
//!
//! What is the kubelet's here is done as it does it: uids of pods and their control groups, its own labels beside the user's, folders of logs
//! (`/var/log/pods`). Messages are of `runtime.v1` in the CRI's api.proto (k8s.io/cri-api v0.26), as far as they are needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::{Contained, Engine, IMAGE, Kind, enclosed, inhabitant, output};
use crate::target::Target;

/// What pods' sandboxes are made of.
pub(super) const PAUSE: &str = "localhost/pause:1";

/// The namespace of Kubernetes that pods are in.
pub const NAMESPACE: &str = "shop";

/// The network is the node's, so that nobody has to make one; each container has a pid namespace of its own, as by default.
const NAMESPACES: NamespaceOption = NamespaceOption { network: 2, pid: 1 };

#[derive(Clone, PartialEq, Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxSecurityContext {
    #[prost(message, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, tag = "2")]
    security_context: Option<SandboxSecurityContext>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxConfig {
    #[prost(message, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(btree_map = "string, string", tag = "6")]
    labels: BTreeMap<String, String>,
    #[prost(message, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandbox {
    #[prost(message, tag = "1")]
    config: Option<PodSandboxConfig>,
}

/// A question or an answer that is the id of a pod or a container alone.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

/// A question or an answer of which nothing matters.
#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerSecurityContext {
    #[prost(message, tag = "3")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxContainerConfig {
    #[prost(message, tag = "2")]
    security_context: Option<ContainerSecurityContext>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(btree_map = "string, string", tag = "9")]
    labels: BTreeMap<String, String>,
    #[prost(string, tag = "11")]
    log_path: String,
    #[prost(bool, tag = "12")]
    stdin: bool,
    #[prost(message, tag = "15")]
    linux: Option<LinuxContainerConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

/// A pod of one container, which runs the program.
#[derive(Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its container.
    pub contained: Contained,
    sandbox: String,
}

impl Engine {
    /// Runs a pod with these labels, and the program in a container of it that is called `container`.
    #[track_caller]
    pub fn run_pod(&self, name: &str, container: &str, labels: &[(&str, &str)]) -> Pod {
        assert_eq!(self.kind, Kind::Node, "the others know no pods");
        let number = self.pods.get() + 1;
        self.pods.set(number);
        let uid = format!("7d3c5a4e-1a2b-4c3d-8e4f-{number:012x}");
        let own = [("name", name), ("namespace", NAMESPACE), ("uid", &uid)];
        let own = own.map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value.to_owned()));
        let of_user = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let logs = self.folder.join(format!("var/log/pods/{NAMESPACE}_{name}_{uid}"));
        fs::create_dir_all(logs.join(container)).expect("a folder for logs");
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid.clone(),
                namespace: NAMESPACE.to_owned(),
            }),
            log_directory: logs.display().to_string(),
            labels: of_user.chain(own.clone()).collect(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}/burstable/pod{uid}", self.group()),
                security_context: Some(SandboxSecurityContext { namespace_options: Some(NAMESPACES) }),
            }),
        };
        let sandbox: Id = self.ask("RunPodSandbox", RunPodSandbox { config: Some(config.clone()) });
        let of_container = [("io.kubernetes.container.name".to_owned(), container.to_owned())];
        let id: Id = self.ask(
            "CreateContainer",
            CreateContainer {
                pod_sandbox_id: sandbox.id.clone(),
                config: Some(ContainerConfig {
                    metadata: Some(ContainerMetadata { name: container.to_owned() }),
                    image: Some(ImageSpec { image: IMAGE.to_owned() }),
                    command: vec!["/truth".to_owned()],
                    labels: own.into_iter().chain(of_container).collect(),
                    log_path: format!("{container}/0.log"),
                    stdin: true,
                    linux: Some(LinuxContainerConfig {
                        security_context: Some(ContainerSecurityContext {
                            namespace_options: Some(NAMESPACES),
                        }),
                    }),
                }),
                sandbox_config: Some(config),
            },
        );
        let Nothing {} = self.ask("StartContainer", id.clone());
        let contained = self.attached(id.id, &logs.join(container).join("0.log"));
        Pod { name: name.to_owned(), uid, contained, sandbox: sandbox.id }
    }

    /// Ends a pod as the kubelet does: it and its container are gone then.
    #[track_caller]
    pub fn end_pod(&self, pod: Pod) {
        let Nothing {} = self.ask("StopPodSandbox", Id { id: pod.sandbox.clone() });
        let Nothing {} = self.ask("RemovePodSandbox", Id { id: pod.sandbox });
    }

    /// The program, driven through what its engine gave it for standard input and output: a pipe, and the container's log,
    /// whose lines begin with a time, `stdout` and `F`.
    #[track_caller]
    fn attached(&self, id: String, log: &Path) -> Contained {
        const BRIDGE: &str =
            r#"exec 3<&0; cat <&3 >"$1" & tail -n +1 -f "$2" | sed -u 's/^[^ ]* stdout F //'"#;
        let io = self.folder.join(format!("run/containerd/io.containerd.grpc.v1.cri/containers/{id}/io"));
        let pipe = || -> Option<PathBuf> {
            let inside = fs::read_dir(&io).ok()?.next()?.ok()?.path();
            Some(inside.join(format!("{id}-stdin"))).filter(|pipe| pipe.exists())
        };
        let pipe = pipe().unwrap_or_else(|| panic!("no pipe in {}", io.display()));
        let mut bridge = enclosed("sh", &self.home());
        bridge.args(["-c", BRIDGE, "sh"]).arg(pipe).arg(log);
        let target = Target::start_command(&mut bridge);
        assert_eq!(target.ready().pid, 1, "it has a pid namespace of its own");
        let pid = inhabitant(&id).expect("a process of the container");
        Contained { target, pid, id }
    }

    /// Control groups of pods are below this one.
    pub(super) fn group(&self) -> String {
        format!("kubepods-{}", self.folder.file_name().expect("a name").display())
    }

    /// What its configuration says of pods.
    pub(super) fn of_pods(&self) -> String {
        let cni = self.folder.join("cni");
        fs::create_dir_all(&cni).expect("a folder");
        format!(
            "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{PAUSE}'\nrestrict_oom_score_adj = true\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{0}'\nconf_dir = '{0}'\n",
            cni.display()
        )
    }

    /// Has the plugin's images in its store: that of sandboxes is a program that waits for ever.
    #[track_caller]
    pub(super) fn import_pause(&self) {
        let below = |path: &str| self.folder.join(path);
        fs::create_dir_all(below("pause")).expect("a folder");
        fs::write(below("pause/pause"), pause()).expect("written");
        output(std::process::Command::new("chmod").arg("755").arg(below("pause/pause")));
        let mut tar = std::process::Command::new("tar");
        output(tar.arg("-C").arg(below("pause")).arg("-cf").arg(below("pause.tar")).arg("pause"));
        let mut import = self.podman();
        import.args(["import", "--change", r#"ENTRYPOINT ["/pause"]"#]).arg(below("pause.tar")).arg(PAUSE);
        output(&mut import);
    }

    /// Asks the plugin, and returns its answer.
    #[track_caller]
    fn ask<A: Message + Default + 'static>(&self, method: &str, question: impl Message + 'static) -> A {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let asked = runtime.expect("a runtime").block_on(self.answer(method, question));
        asked.unwrap_or_else(|error| panic!("{method}: {error}: {}", self.log()))
    }

    async fn answer<A: Message + Default + 'static>(
        &self,
        method: &str,
        question: impl Message + 'static,
    ) -> Result<A, String> {
        let socket: Channel = Endpoint::try_from(self.socket())
            .map_err(|error| error.to_string())?
            .connect()
            .await
            .map_err(|error| error.to_string())?;
        let mut client = Grpc::new(socket);
        client.ready().await.map_err(|error| error.to_string())?;
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"));
        let path = path.map_err(|error| error.to_string())?;
        let answer = client.unary(tonic::Request::new(question), path, ProstCodec::default()).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }

    /// The plugin answers, and knows its images.
    pub(super) fn has_pods(&self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answer = runtime.expect("a runtime").block_on(self.answer::<Nothing>("Status", Nothing {}));
        answer.is_ok()
    }
}

/// An executable that calls `pause(2)` again and again, and nothing else.
fn pause() -> Vec<u8> {
    // mov eax, 34; syscall; jmp to the first
    const CODE: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    const HEADERS: u64 = 64 + 56;
    const BASE: u64 = 0x40_0000;
    let size = HEADERS + CODE.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64, of version 1.
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // Its entry, where its one segment is described, no sections, no flags.
    elf.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // The segment: to be loaded, read and executed, all of the file.
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    elf.extend([0, BASE, BASE, size, size, 0x1000].map(u64::to_le_bytes).concat());
    elf.extend(CODE);
    elf
}
