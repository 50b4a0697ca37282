//! Who a figure is about, by the names of the semantic conventions.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::{Sender, attribute, text};
use crate::report::alerting::AlertReport;
use crate::report::{Pod, ProcessReport, Timestamp};

/// The agent.
pub(super) fn agent(sender: &Sender) -> Resource {
    of(vec![
        text("service.name", "leakwatch"),
        text("service.version", sender.version.as_str()),
        text("service.instance.id", sender.host.as_str()),
        text("host.name", sender.host.as_str()),
    ])
}

/// Processes that have no series of their own.
pub(super) fn others(sender: &Sender) -> Resource {
    of(vec![
        text("service.name", crate::export::metrics::OTHER),
        text("service.instance.id", sender.host.as_str()),
        text("host.name", sender.host.as_str()),
    ])
}

/// A watched process.
pub(super) fn process(sender: &Sender, process: &ProcessReport) -> Resource {
    let mut attributes =
        named(sender, process.pid, process.start_time, &process.comm, process.exe.as_deref());
    if let [runtime] = process.runtimes.as_slice() {
        known(&mut attributes, "process.runtime.name", Some(&runtime.kind));
        known(&mut attributes, "process.runtime.version", runtime.version.as_deref());
    }
    placed(&mut attributes, process.container.as_deref(), process.pod.as_ref());
    of(attributes)
}

/// A process that is gone, as an alert remembers it.
pub(super) fn gone(sender: &Sender, alert: &AlertReport) -> Resource {
    let mut attributes = named(sender, alert.pid, alert.start_time, &alert.comm, alert.exe.as_deref());
    placed(&mut attributes, alert.container.as_deref(), alert.pod.as_ref());
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
        text("host.name", sender.host.as_str()),
        attribute("process.pid", Value::IntValue(i64::from(pid))),
        text("process.executable.name", name),
    ];
    known(&mut attributes, "process.executable.path", exe);
    known(&mut attributes, "process.creation.time", started.map(|time| time.to_string()).as_deref());
    attributes
}

fn placed(attributes: &mut Vec<KeyValue>, container: Option<&str>, pod: Option<&Pod>) {
    known(attributes, "container.id", container);
    if let Some(pod) = pod {
        known(attributes, "service.namespace", pod.namespace.as_deref());
        known(attributes, "k8s.namespace.name", pod.namespace.as_deref());
        known(attributes, "k8s.pod.name", pod.name.as_deref());
        known(attributes, "k8s.pod.uid", pod.uid.as_deref());
    }
}

fn known(attributes: &mut Vec<KeyValue>, key: &str, value: Option<&str>) {
    attributes.extend(value.filter(|value| !value.is_empty()).map(|value| text(key, value)));
}

fn of(attributes: Vec<KeyValue>) -> Resource {
    Resource { attributes, ..Resource::default() }
}
