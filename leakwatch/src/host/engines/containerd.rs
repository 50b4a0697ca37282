//! containerd: what it keeps of a container in two places.
//!
//! The bundle of a running container, `io.containerd.runtime.v2.task/NAMESPACE/ID/config.json` in its state folder
//! (runtime/v2/bundle.go), is a configuration of the OCI runtime with annotations of whoever asked for the container:
//! Kubernetes' (pkg/cri/annotations/annotations.go) or nerdctl's (pkg/labels/labels.go).
//!
//! Its own database, `io.containerd.metadata.v1.bolt/meta.db` in its data folder, has every container, whoever asked for it
//! (metadata/buckets.go): the image, and of a sandbox of Kubernetes what the kubelet said of the pod, labels among it, as a text of
//! JSON in a message (pkg/cri/store/sandbox/metadata.go). The same could be asked for over the CRI's socket; but who may write
//! to that is root on the node, and it may hang. A file is only read.

use std::{os::unix::fs::FileExt as _, path::Path};

use prost::Message as _;
use serde::Deserialize;

use super::{
    Bundle, Container, Engine, InNamespace, Kept, LARGEST, Labels, Sandbox, Upper, bolt, image, is_id, name,
    read,
};
use crate::host::{pods::PodName, root::Root};

/// A containerd, if nobody moved it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// Its state (`state` in its configuration).
    state: &'static str,
    /// Its data (`root` there); the first that is there counts.
    data: &'static [&'static str],
}

/// containerd by itself, in k3s and RKE2, in k0s, as the snap of Canonical.
pub(super) static HOMES: [Home; 4] = [
    Home { state: "/run/containerd", data: &["/var/lib/containerd"] },
    Home {
        state: "/run/k3s/containerd",
        data: &["/var/lib/rancher/k3s/agent/containerd", "/var/lib/rancher/rke2/agent/containerd"],
    },
    Home { state: "/run/k0s/containerd", data: &["/var/lib/k0s/containerd"] },
    Home {
        state: "/var/snap/microk8s/common/run/containerd",
        data: &["/var/snap/microk8s/common/var/lib/containerd"],
    },
];

const TASKS: &str = "io.containerd.runtime.v2.task";

const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";

/// Version of the database's schema; another one would be another form.
const SCHEMA: &str = "v1";

/// With which a sandbox keeps what is known of its pod.
const OF_SANDBOX: &str = "io.cri-containerd.sandbox.metadata";

/// Namespaces of containerd that are looked at.
const MOST_NAMESPACES: usize = 64;

/// The namespace in which docker has its containers.
const OF_DOCKER: &str = "moby";

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.image-name")]
    image: Option<String>,
    #[serde(rename = "io.kubernetes.cri.container-name")]
    container: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-id")]
    sandbox: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    uid: Option<String>,
    #[serde(rename = "nerdctl/name")]
    nerdctl: Option<String>,
}

/// A message of any type (google/protobuf/any.proto): its type and its bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfPod {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    config: Config,
}

/// As the CRI calls it (`PodSandboxConfig` in its api.proto).
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    labels: Labels,
}

pub(super) fn container(root: &Root, id: &str, upper: Upper<'_>) -> Option<Container> {
    of_namespaces(root, id, &|_| true, upper)
}

/// The one in a namespace that may be.
pub(super) fn of_namespaces(
    root: &Root,
    id: &str,
    may_be: &dyn Fn(&str) -> bool,
    upper: Upper<'_>,
) -> Option<Container> {
    HOMES.iter().find_map(|home| {
        let tasks = Path::new(home.state).join(TASKS);
        let namespaces = root.names(&tasks, MOST_NAMESPACES).filter_map(|name| name.into_string().ok());
        namespaces.filter(|namespace| may_be(namespace)).find_map(|namespace| {
            let bundle: Bundle<Annotations> =
                read(root, &tasks.join(&namespace).join(id).join("config.json"), LARGEST)?;
            let Annotations { image: of, container, sandbox, pod, namespace: pods, uid, nerdctl } =
                bundle.annotations;
            let of = of.or_else(|| {
                let kept = kept(root, home, upper, &[SCHEMA, &namespace, "containers", id, "image"])?;
                String::from_utf8(kept).ok()
            });
            Some(Container {
                engine: if namespace == OF_DOCKER { Engine::Docker } else { Engine::Containerd },
                name: container.or(nerdctl).as_deref().and_then(name),
                image: of.as_deref().and_then(image),
                pod: pods.zip(pod).and_then(|(namespace, pod)| PodName::of(&namespace, &pod)),
                pod_uid: uid.as_deref().and_then(crate::host::container::uid),
                sandbox: Sandbox::new(sandbox, Kept::Containerd(home, namespace)),
            })
        })
    })
}

/// The runtime's configuration, as far as it says where the container's control group is.
#[derive(Deserialize)]
struct Grouped {
    linux: Linux,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    cgroups_path: String,
}

/// Control groups of containers are `/NAMESPACE/ID` where nobody wants others (`populateDefaultUnixSpec` in oci/spec.go). What looks so is one
/// when the bundle says so, too: these files are root's.
pub(super) fn of_group(root: &Root, cgroup: &str) -> Option<InNamespace> {
    // Seen from below the machine's groups, a path begins with where those are.
    let path = cgroup.trim_start_matches("/..");
    let mut segments = path.split('/').skip(1);
    let (namespace, id) = (segments.next()?, segments.next()?);
    let of_systemd = |name: &str| [".slice", ".service", ".scope"].iter().any(|end| name.ends_with(end));
    if !is_id(namespace) || !is_id(id) || of_systemd(namespace) || of_systemd(id) {
        return None;
    }
    let is_its = HOMES.iter().any(|home| {
        let bundle = Path::new(home.state).join(TASKS).join(namespace).join(id).join("config.json");
        let group = read::<Grouped>(root, &bundle, LARGEST).map(|bundle| bundle.linux.cgroups_path);
        group.is_some_and(|group| group == format!("/{namespace}/{id}"))
    });
    is_its.then(|| InNamespace { id: id.to_owned(), namespace: namespace.to_owned() })
}

/// Labels of the pod that this sandbox stands for.
pub(super) fn labels(
    root: &Root,
    home: &Home,
    namespace: &str,
    id: &str,
    upper: Upper<'_>,
) -> Option<Labels> {
    let kept = kept(root, home, upper, &[SCHEMA, namespace, "containers", id, "extensions", OF_SANDBOX])?;
    let of_pod: OfPod = serde_json::from_slice(&Any::decode(kept.as_slice()).ok()?.value).ok()?;
    Some(of_pod.metadata.config.labels)
}

/// What the database has there; where data was moved to, the writable layer tells.
fn kept(root: &Root, home: &Home, upper: Upper<'_>, path: &[&str]) -> Option<Vec<u8>> {
    let by_default = home.data.iter().find_map(|data| look_up(root, Path::new(data), path));
    by_default.or_else(|| {
        // DATA/io.containerd.snapshotter.v1.overlayfs/snapshots/NUMBER/fs
        look_up(root, upper()?.ancestors().nth(4)?, path)
    })
}

fn look_up(root: &Root, data: &Path, path: &[&str]) -> Option<Vec<u8>> {
    let file = root.file(&data.join(DATABASE))?;
    bolt::get(|bytes, at| file.read_exact_at(bytes, at), path).ok().flatten()
}
