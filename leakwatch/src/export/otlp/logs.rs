//! Alerts as `ExportLogsServiceRequest`: one record each time that one begins to fire or ends.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};

use super::{SCHEMA_URL, Sender, attribute, metrics::nanoseconds, resource, text};
use crate::report::alerting::{AlertReport, AlertState};
use crate::report::{ProcessReport, Timestamp};

/// What the records' event is called.
const EVENT: &str = "leakwatch.alert";

/// The request for alerts whose state changed. A process that is not among the reports any more is named as far as the
/// alert itself knows it.
pub fn logs(
    alerts: &[AlertReport],
    processes: &[Arc<ProcessReport>],
    sender: &Sender,
    now: Timestamp,
) -> ExportLogsServiceRequest {
    let resource_logs = alerts.iter().map(|alert| {
        let same = |process: &&Arc<ProcessReport>| {
            process.pid == alert.pid && process.start_time == alert.start_time
        };
        let resource = match processes.iter().find(same) {
            Some(process) => resource::process(sender, process),
            None => resource::gone(sender, alert),
        };
        ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs {
                scope: Some(sender.scope()),
                log_records: vec![record(alert, now)],
                schema_url: SCHEMA_URL.to_owned(),
            }],
            schema_url: SCHEMA_URL.to_owned(),
        }
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
}

fn record(alert: &AlertReport, now: Timestamp) -> LogRecord {
    let at = match alert.state {
        AlertState::Pending => alert.since,
        AlertState::Firing => alert.fired.unwrap_or(alert.since),
        AlertState::Resolved => alert.resolved.unwrap_or(now),
    };
    let severity = match (alert.state, alert.level.severity()) {
        (AlertState::Resolved, _) | (_, "info") => SeverityNumber::Info,
        (_, "critical") => SeverityNumber::Error,
        _ => SeverityNumber::Warn,
    };
    let severity_text = match severity {
        SeverityNumber::Info => "INFO",
        SeverityNumber::Error => "ERROR",
        _ => "WARN",
    };
    let mut attributes = vec![
        text("leakwatch.alert.name", alert.rule.as_str()),
        text("leakwatch.alert.state", alert.state.name()),
        text("leakwatch.alert.level", alert.level.name()),
    ];
    if let Some(value) = alert.value.filter(|value| value.is_finite()) {
        attributes.push(attribute("leakwatch.alert.value", Value::DoubleValue(value)));
    }
    if let Some(site) = &alert.site {
        attributes.push(text("leakwatch.runtime", site.runtime.as_str()));
        let names = [
            ("code.function.name", &site.function),
            ("code.file.path", &site.file),
            ("leakwatch.task", &site.task),
        ];
        for (key, value) in names {
            attributes.extend(value.as_ref().map(|value| text(key, value.as_str())));
        }
        let line = site.line.map(|line| attribute("code.line.number", Value::IntValue(i64::from(line))));
        attributes.extend(line);
    }
    for (prefix, texts) in
        [("leakwatch.alert.label", &alert.labels), ("leakwatch.alert.annotation", &alert.annotations)]
    {
        attributes
            .extend(texts.iter().map(|(name, value)| text(&format!("{prefix}.{name}"), value.as_str())));
    }
    let body = format!("{} {}: {}: {}", alert.rule, alert.state.name(), alert.subject(), alert.why);
    LogRecord {
        time_unix_nano: nanoseconds(at),
        observed_time_unix_nano: nanoseconds(now),
        severity_number: severity as i32,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes,
        event_name: EVENT.to_owned(),
        ..LogRecord::default()
    }
}
