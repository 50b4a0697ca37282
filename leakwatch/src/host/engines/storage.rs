//! Podman and CRI-O, which keep containers in the same store (containers/storage): `overlay-containers` in its graph folder
//! has a list of them (containers.go: `Container`) with what the engine says of each as a text of JSON in it, and a folder
//! of each with the configuration of the OCI runtime, whose annotations name the engine and, of CRI-O, image and pod.

use std::path::Path;

use serde::Deserialize;

use super::{Bundle, Container, Engine, Kept, LARGEST, Labels, OfKubernetes, Sandbox, image, name, read};
use crate::host::root::Root;

/// The store of the machine's root, if nobody moved it (`graphroot` in storage.conf).
pub(super) const GRAPH: &str = "/var/lib/containers/storage";

/// Its folder of containers.
const CONTAINERS: &str = "overlay-containers";

/// The largest list that is read: it has about a kilobyte for each container.
const LARGEST_LIST: u64 = 32 << 20;

/// Lists of containers: of those that outlive the machine's restart, and of those that need not (containers.go: `newContainerStore`).
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// Of CRI-O (pkg/annotations/internal.go), and who set them.
#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "io.container.manager")]
    manager: Option<String>,
    #[serde(rename = "io.kubernetes.cri-o.ImageName")]
    image: Option<String>,
    #[serde(rename = "io.kubernetes.cri-o.SandboxID")]
    sandbox: Option<String>,
    /// A text of JSON.
    #[serde(rename = "io.kubernetes.cri-o.Labels")]
    labels: Option<String>,
    #[serde(flatten)]
    of_kubernetes: OfKubernetes,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    metadata: String,
}

/// The same of both engines: `RuntimeContainerMetadata` in libpod/storage.go and in internal/storage/runtime.go.
#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "image-name")]
    image: Option<String>,
}

fn annotations(root: &Root, containers: &Path, id: &str) -> Option<Annotations> {
    let bundle: Bundle<Annotations> = read(root, &containers.join(id).join("userdata/config.json"), LARGEST)?;
    Some(bundle.annotations)
}

/// Labels of a pod's sandbox, which are those of the pod.
pub(super) fn labels(root: &Root, graph: &Path, id: &str) -> Option<Labels> {
    serde_json::from_str(&annotations(root, &graph.join(CONTAINERS), id)?.labels?).ok()
}

pub(super) fn container(root: &Root, graph: &Path, id: &str) -> Option<Container> {
    let containers = graph.join(CONTAINERS);
    let Annotations { manager, image: of, sandbox, of_kubernetes, .. } = annotations(root, &containers, id)?;
    let engine = match manager.as_deref() {
        Some("libpod") => Engine::Podman,
        Some("cri-o") => Engine::CriO,
        _ if of.is_some() => Engine::CriO,
        _ => return None,
    };
    let mut found = Container {
        engine,
        name: of_kubernetes.container.as_deref().and_then(name),
        image: of.as_deref().and_then(image),
        pod: of_kubernetes.pod(),
        pod_uid: of_kubernetes.uid(),
        sandbox: Sandbox::new(sandbox, Kept::Storage(graph.to_owned())),
    };
    if found.name.is_none() || found.image.is_none() {
        let listed = LISTS.iter().find_map(|list| {
            let listed: Vec<Listed> = read(root, &containers.join(list), LARGEST_LIST)?;
            listed.into_iter().find(|listed| listed.id == id)
        });
        if let Some(Listed { names, metadata, .. }) = listed {
            let metadata: Metadata = serde_json::from_str(&metadata).unwrap_or_default();
            found.name = found.name.or_else(|| names.first().and_then(|text| name(text)));
            found.image = found.image.or_else(|| metadata.image.as_deref().and_then(image));
        }
    }
    Some(found)
}
