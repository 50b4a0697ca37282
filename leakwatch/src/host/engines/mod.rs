//! What container engines keep on the machine of their containers: name, image, pod, and the labels of that.
//!
//! An engine writes down what it runs before it runs it, so that nobody has to be asked: no client, no socket, no network.
//! Each engine has a file of its own, found by the container's id; what a container itself could have written is not read.
//!
//! Foreign input: files are bounded, and a name or image that is none by its alphabet is not believed. What an engine does
//! not say, or what cannot be read, is `None`: it must never be guessed from anything else.

pub mod bolt;
mod containerd;
mod docker;
mod storage;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    pods::{PodName, is_label_key, is_label_value},
    root::Root,
};

/// The largest file of one container that is read: a configuration of the runtime has some tens of kilobytes.
const LARGEST: u64 = 4 << 20;

/// The longest name or image that is believed: a repository has at most 255 characters, a tag 128, a digest 135.
const LONGEST: usize = 520;

/// Who runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Docker, also below Kubernetes.
    Docker,
    /// containerd by itself: Kubernetes, nerdctl, ctr.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman.
    Podman,
    /// Amazon's agent of ECS, of which only cgroups are known.
    Ecs,
}

impl Engine {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Ecs => "ecs",
        }
    }
}

/// What an engine says of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Whose it is.
    pub engine: Engine,
    /// Its name; in a pod that which the pod's specification has.
    pub name: Option<String>,
    /// The image that it was made of, as users write it: `nginx:1.27`, `registry.example/shop/cart@sha256:…`.
    pub image: Option<String>,
    /// Its pod.
    pub pod: Option<PodName>,
    /// Uid of its pod.
    pub pod_uid: Option<String>,
    /// Where the labels of its pod are.
    pub sandbox: Option<Sandbox>,
}

/// Labels of a pod: as they were when the pod was made, which is what engines are told.
pub type Labels = BTreeMap<String, String>;

/// The container that stands for a pod: with it engines keep what they were told of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    id: String,
    kept: Kept,
}

/// Where an engine keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    /// Docker's data folder.
    Docker(PathBuf),
    /// containerd, and the namespace there.
    Containerd(&'static containerd::Home, String),
    /// The store of CRI-O.
    Storage(PathBuf),
}

impl Sandbox {
    fn new(id: Option<String>, kept: Kept) -> Option<Self> {
        id.filter(|id| is_id(id)).map(|id| Self { id, kept })
    }
}

/// The writable layer of a container's root, if it has one that is known: [`upper_layer`].
type Upper<'a> = &'a dyn Fn() -> Option<PathBuf>;

/// What is known of the container with this id; `upper` is asked for the writable layer of its root (see [`upper_layer`])
/// when no engine has it where engines keep things by default.
pub fn container(root: &Root, id: &str, upper: Upper<'_>) -> Option<Container> {
    if !is_id(id) {
        return None;
    }
    let by_default = docker::container(root, Path::new(docker::DATA), id)
        .or_else(|| containerd::container(root, id, upper))
        .or_else(|| storage::container(root, Path::new(storage::GRAPH), id));
    by_default.or_else(|| {
        // DATA/overlay2/LAYER/diff of docker, GRAPH/overlay/LAYER/diff of the others: also of podman without root.
        let upper = upper()?;
        let data = upper.ancestors().nth(3)?;
        docker::container(root, data, id).or_else(|| storage::container(root, data, id))
    })
}

/// Labels of a pod, without those that the kubelet and engines add for themselves; `None`: they cannot be read. `upper` as for
/// [`container`], of any container of the pod.
pub fn labels(root: &Root, sandbox: &Sandbox, upper: Upper<'_>) -> Option<Labels> {
    let Sandbox { id, kept } = sandbox;
    let labels = match kept {
        Kept::Docker(data) => docker::labels(root, data, id),
        Kept::Containerd(home, namespace) => containerd::labels(root, home, namespace, id, upper),
        Kept::Storage(graph) => storage::labels(root, graph, id),
    };
    let of_pod = |key: &str| is_label_key(key) && !key.starts_with("io.kubernetes.");
    Some(labels?.into_iter().filter(|(key, value)| of_pod(key) && is_label_value(value)).collect())
}

/// The longest id of a container, and namespace of containerd (pkg/identifiers there).
const LONGEST_ID: usize = 76;

/// It can be the id of a container, which becomes part of paths: hexadecimal as a rule, what its user liked with `ctr`.
fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= LONGEST_ID
        && text.starts_with(|sign: char| sign.is_ascii_alphanumeric())
        && text.bytes().all(allowed)
}

/// The container that a process with this control group is in, where the group's path does not show that it is one's: the id
/// is its user's choice, and an engine says of it that this is its group.
pub fn of_group(root: &Root, cgroup: &str) -> Option<InNamespace> {
    containerd::of_group(root, cgroup)
}

/// A container whose id its user chose: in another of containerd's namespaces there may be another one with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InNamespace {
    /// Its id.
    pub id: String,
    namespace: String,
}

/// What is known of it; as [`container`].
pub fn container_in_namespace(root: &Root, which: &InNamespace, upper: Upper<'_>) -> Option<Container> {
    containerd::of_namespaces(root, &which.id, &|namespace| namespace == which.namespace, upper)
}

/// The writable layer of a process's root, as the machine's mount namespace names it, out of `/proc/PID/mountinfo`
/// (`proc_pid_mountinfo(5)`); `None`: its root is on no overlay, or on one whose layers nobody told the kernel by whole paths.
pub fn upper_layer(mountinfo: &str) -> Option<PathBuf> {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    let (_, of_filesystem) = line.split_once(" - ")?;
    let mut fields = of_filesystem.split(' ');
    let options = fields.next().filter(|kind| *kind == "overlay").and_then(|_| fields.nth(1))?;
    let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir="))?;
    // Of a path with blanks or commas in it no engine makes its folders.
    (upper.starts_with('/') && !upper.contains('\\')).then(|| PathBuf::from(upper))
}

/// An image as users write it: `docker.io/library/nginx:1.27` is `nginx:1.27` for all of them (`FamiliarString` of
/// distribution/reference); `None`: it is empty or none.
fn image(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    let text = text.strip_prefix("docker.io/").unwrap_or(text);
    let text = text.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(text);
    (!text.is_empty() && text.len() <= LONGEST && text.bytes().all(allowed)).then(|| text.to_owned())
}

/// A container's name; `None`: it is empty or none.
fn name(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (!text.is_empty() && text.len() <= LONGEST && text.bytes().all(allowed)).then(|| text.to_owned())
}

/// A file below the root, as this JSON; `None`: it is not there, or is something else.
fn read<T: DeserializeOwned>(root: &Root, path: &Path, most: u64) -> Option<T> {
    serde_json::from_slice(&root.read(path, most)?).ok()
}

/// The configuration of the OCI runtime, as far as engines say something in it of who asked for the container.
#[derive(Deserialize)]
struct Bundle<A> {
    #[serde(default)]
    annotations: A,
}

/// Who a container is for Kubernetes. CRI-O's annotations and the labels that docker has of the kubelet's shim have these
/// names (pkg/kubelet/types/labels.go in Kubernetes).
#[derive(Debug, Default, Deserialize)]
struct OfKubernetes {
    #[serde(rename = "io.kubernetes.container.name")]
    container: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.pod.uid")]
    uid: Option<String>,
}

impl OfKubernetes {
    fn pod(&self) -> Option<PodName> {
        PodName::of(self.namespace.as_deref()?, self.pod.as_deref()?)
    }

    fn uid(&self) -> Option<String> {
        self.uid.as_deref().and_then(super::container::uid)
    }
}
