//! Who a figure is about, by the names of the semantic conventions.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::{Sender, attribute, text};
use crate::report::alerting::AlertReport;
use crate::report::{Container, Pod, ProcessReport, Timestamp};

/// The architecture by the conventions' names; others go by their own.
const ARCH: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};

/// The machine, which all that is told is of.
fn host(sender: &Sender) -> [KeyValue; 2] {
    [text("host.name", sender.host.as_str()), text("host.arch", ARCH)]
}

/// The agent.
pub(super) fn agent(sender: &Sender) -> Resource {
    let mut attributes = vec![
        text("service.name", "leakwatch"),
        text("service.version", sender.version.as_str()),
        text("service.instance.id", sender.host.as_str()),
    ];
    attributes.extend(host(sender));
    of(attributes)
}

/// Processes that have no series of their own.
pub(super) fn others(sender: &Sender) -> Resource {
    let mut attributes = vec![
        text("service.name", crate::export::metrics::OTHER),
        text("service.instance.id", sender.host.as_str()),
    ];
    attributes.extend(host(sender));
    of(attributes)
}

/// A watched process.
pub(super) fn process(sender: &Sender, process: &ProcessReport) -> Resource {
    let mut attributes =
        named(sender, process.pid, process.start_time, &process.comm, process.exe.as_deref());
    if let [runtime] = process.runtimes.as_slice() {
        known(&mut attributes, "process.runtime.name", Some(&runtime.kind));
        known(&mut attributes, "process.runtime.version", runtime.version.as_deref());
    }
    placed(&mut attributes, process.container.as_ref(), process.pod.as_ref());
    of(attributes)
}

/// A process that is gone, as an alert remembers it.
pub(super) fn gone(sender: &Sender, alert: &AlertReport) -> Resource {
    let mut attributes = named(sender, alert.pid, alert.start_time, &alert.comm, alert.exe.as_deref());
    placed(&mut attributes, alert.container.as_ref(), alert.pod.as_ref());
    of(attributes)
}

/// What tells a process from all others. Its instance is the host, the pid and when it was started: a pid alone is used
/// again.
fn named(
    sender: &Sender,
    pid: u32,
    started: Option<Timestamp>,
    comm: &str,
    exe: Option<&str>,
) -> Vec<KeyValue> {
    let instance = started.map_or(0, Timestamp::as_millisecond);
    let name = exe.and_then(|exe| exe.rsplit('/').next()).unwrap_or(comm);
    let mut attributes = vec![
        text("service.name", comm),
        text("service.instance.id", format!("{}/{pid}/{instance}", sender.host)),
        attribute("process.pid", Value::IntValue(i64::from(pid))),
        text("process.executable.name", name),
    ];
    attributes.extend(host(sender));
    known(&mut attributes, "process.executable.path", exe);
    known(&mut attributes, "process.creation.time", started.map(|time| time.to_string()).as_deref());
    attributes
}

fn placed(attributes: &mut Vec<KeyValue>, container: Option<&Container>, pod: Option<&Pod>) {
    if let Some(Container { id, engine, name, image }) = container {
        known(attributes, "container.id", Some(id));
        known(attributes, "container.name", name.as_deref());
        known(attributes, "container.runtime.name", engine.as_deref());
        known(attributes, "k8s.container.name", name.as_deref().filter(|_| pod.is_some()));
        let image = image.as_deref().map(Image::of);
        known(attributes, "container.image.name", image.map(|image| image.name));
        several(attributes, "container.image.tags", image.and_then(|image| image.tag).map(str::to_owned));
        let digest = image.and_then(|image| Some(format!("{}@{}", image.name, image.digest?)));
        several(attributes, "container.image.repo_digests", digest);
    }
    if let Some(pod) = pod {
        known(attributes, "service.namespace", pod.namespace.as_deref());
        known(attributes, "k8s.namespace.name", pod.namespace.as_deref());
        known(attributes, "k8s.pod.name", pod.name.as_deref());
        known(attributes, "k8s.pod.uid", pod.uid.as_deref());
        for (key, value) in pod.labels.iter().flatten() {
            known(attributes, &format!("k8s.pod.label.{key}"), Some(value));
        }
    }
}

/// The parts of an image's name, `NAME[:TAG][@DIGEST]` (distribution/reference): the name may begin with a host and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    fn of(text: &'a str) -> Self {
        let (named, digest) =
            text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (named, None),
        };
        Self { name, tag, digest }
    }
}

/// An attribute that is a list by the conventions, with the one value that we know.
fn several(attributes: &mut Vec<KeyValue>, key: &str, value: Option<String>) {
    attributes.extend(value.map(|value| {
        let value = AnyValue { value: Some(Value::StringValue(value)) };
        attribute(key, Value::ArrayValue(ArrayValue { values: vec![value] }))
    }));
}

fn known(attributes: &mut Vec<KeyValue>, key: &str, value: Option<&str>) {
    attributes.extend(value.filter(|value| !value.is_empty()).map(|value| text(key, value)));
}

fn of(attributes: Vec<KeyValue>) -> Resource {
    Resource { attributes, ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_image() {
        let check = |text: &str, name: &str, tag: Option<&str>, digest: Option<&str>| {
            assert_eq!(Image::of(text), Image { name, tag, digest }, "{text}");
        };
        check("nginx", "nginx", None, None);
        check("nginx:1.27", "nginx", Some("1.27"), None);
        check("localhost:5000/nginx", "localhost:5000/nginx", None, None);
        check("localhost:5000/a/nginx:1", "localhost:5000/a/nginx", Some("1"), None);
        check("r.example/nginx@sha256:01", "r.example/nginx", None, Some("sha256:01"));
        check("nginx:1.27@sha256:01", "nginx", Some("1.27"), Some("sha256:01"));
    }
}
