//! containerd: the bundle of a running container, `io.containerd.runtime.v2.task/NAMESPACE/ID/config.json` in its state folder
//! (runtime/v2/bundle.go), a configuration of the OCI runtime with annotations of whoever asked for the container:
//! Kubernetes' (pkg/cri/annotations/annotations.go) or nerdctl's (pkg/labels/labels.go).
//!
//! The image of a container that neither of them asked for is in containerd's own database alone.

use std::path::Path;

use serde::Deserialize;

use super::{Bundle, Container, Engine, LARGEST, image, name, read};
use crate::host::{pods::PodName, root::Root};

/// Where containerd has its state: by itself, in k3s and RKE2, in k0s, as the snap of Canonical.
const STATES: [&str; 4] = [
    "/run/containerd",
    "/run/k3s/containerd",
    "/run/k0s/containerd",
    "/var/snap/microk8s/common/run/containerd",
];

const TASKS: &str = "io.containerd.runtime.v2.task";

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
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    uid: Option<String>,
    #[serde(rename = "nerdctl/name")]
    nerdctl: Option<String>,
}

pub(super) fn container(root: &Root, id: &str) -> Option<Container> {
    STATES.iter().find_map(|state| {
        let tasks = Path::new(state).join(TASKS);
        root.names(&tasks, MOST_NAMESPACES).find_map(|namespace| {
            let bundle: Bundle<Annotations> =
                read(root, &tasks.join(&namespace).join(id).join("config.json"), LARGEST)?;
            let engine = if namespace == OF_DOCKER { Engine::Docker } else { Engine::Containerd };
            Some(bundle.annotations.container(engine))
        })
    })
}

impl Annotations {
    fn container(self, engine: Engine) -> Container {
        let Self { image: of, container, pod, namespace, uid, nerdctl } = self;
        Container {
            engine,
            name: container.or(nerdctl).as_deref().and_then(name),
            image: of.as_deref().and_then(image),
            pod: namespace.zip(pod).and_then(|(namespace, pod)| PodName::of(&namespace, &pod)),
            pod_uid: uid.as_deref().and_then(crate::host::container::uid),
        }
    }
}
