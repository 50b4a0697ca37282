//! Families and alerts as requests of the OpenTelemetry protocol: pure, from plain data to the official messages.
//!
//! A process is a *resource* with the attributes that the semantic conventions name (`process.*`, `container.*`,
//! `k8s.*`, `host.*`), the agent another; what is left of a series' labels are attributes of its points. Metrics keep the
//! names that Prometheus has, so that rules and dashboards are the same on both ways. Nothing here sends; `relay` does.
//!
//! The conventions: <https://opentelemetry.io/docs/specs/semconv/resource/process/>.

mod logs;
mod metrics;
mod resource;

#[cfg(test)]
mod tests;

pub use logs::logs;
pub use metrics::metrics;

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};

/// Which version of the conventions the attributes are of.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// Who sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Host name.
    pub host: String,
    /// Version of leakwatch.
    pub version: String,
}

impl Sender {
    fn scope(&self) -> InstrumentationScope {
        InstrumentationScope {
            name: "leakwatch".to_owned(),
            version: self.version.clone(),
            ..InstrumentationScope::default()
        }
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
