//! Docker: `containers/ID/config.v2.json` in its data folder (container/container.go in moby: `ConfigPath`, `Container`).

use std::path::Path;

use serde::{Deserialize, de::DeserializeOwned};

use super::{Container, Engine, Kept, LARGEST, Labels, OfKubernetes, Sandbox, image, name, read};
use crate::host::root::Root;

/// Docker's data folder, if nobody moved it (`data-root` in daemon.json).
pub(super) const DATA: &str = "/var/lib/docker";

/// What cri-dockerd puts before the names of a pod's annotations, which it keeps with the labels (core/helpers.go: `makeLabels`).
const ANNOTATION: &str = "annotation.";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File<L> {
    name: Option<String>,
    config: Option<Config<L>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config<L> {
    /// As it was asked for.
    image: Option<String>,
    labels: Option<L>,
}

#[derive(Default, Deserialize)]
struct OfContainer {
    #[serde(flatten)]
    of_kubernetes: OfKubernetes,
    #[serde(rename = "io.kubernetes.sandbox.id")]
    sandbox: Option<String>,
}

fn file<L: DeserializeOwned>(root: &Root, data: &Path, id: &str) -> Option<File<L>> {
    read(root, &data.join("containers").join(id).join("config.v2.json"), LARGEST)
}

/// Labels of a pod's sandbox: those of the pod, and those that the sandbox's image has.
pub(super) fn labels(root: &Root, data: &Path, id: &str) -> Option<Labels> {
    let mut labels: Labels = file(root, data, id)?.config?.labels?;
    labels.retain(|key, _| !key.starts_with(ANNOTATION));
    Some(labels)
}

pub(super) fn container(root: &Root, data: &Path, id: &str) -> Option<Container> {
    let file: File<OfContainer> = file(root, data, id)?;
    let config = file.config.unwrap_or(Config { image: None, labels: None });
    let OfContainer { of_kubernetes: labels, sandbox } = config.labels.unwrap_or_default();
    // Names of docker begin with a slash, and those of a pod's containers are put together of the rest.
    let own = file.name.as_deref().map(|text| text.strip_prefix('/').unwrap_or(text));
    Some(Container {
        engine: Engine::Docker,
        name: labels.container.as_deref().or(own).and_then(name),
        image: config.image.as_deref().and_then(image),
        pod: labels.pod(),
        pod_uid: labels.uid(),
        sandbox: Sandbox::new(sandbox, Kept::Docker(data.to_owned())),
    })
}
