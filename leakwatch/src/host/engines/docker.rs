//! Docker: `containers/ID/config.v2.json` in its data folder (container/container.go in moby: `ConfigPath`, `Container`).

use std::path::Path;

use serde::Deserialize;

use super::{Container, Engine, LARGEST, OfKubernetes, image, name, read};
use crate::host::root::Root;

/// Docker's data folder, if nobody moved it (`data-root` in daemon.json).
pub(super) const DATA: &str = "/var/lib/docker";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    name: Option<String>,
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    /// As it was asked for.
    image: Option<String>,
    labels: Option<OfKubernetes>,
}

pub(super) fn container(root: &Root, data: &Path, id: &str) -> Option<Container> {
    let file: File = read(root, &data.join("containers").join(id).join("config.v2.json"), LARGEST)?;
    let config = file.config.unwrap_or(Config { image: None, labels: None });
    let labels = config.labels.unwrap_or_default();
    // Names of docker begin with a slash, and those of a pod's containers are put together of the rest.
    let own = file.name.as_deref().map(|text| text.strip_prefix('/').unwrap_or(text));
    Some(Container {
        engine: Engine::Docker,
        name: labels.container.as_deref().or(own).and_then(name),
        image: config.image.as_deref().and_then(image),
        pod: labels.pod(),
        pod_uid: labels.uid(),
    })
}
