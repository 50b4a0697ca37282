//! Requests, read back as any receiver reads them, against the reports that they were made from.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric::Data, number_data_point};
use prost::Message as _;

use super::*;
use crate::export::metrics::{AgentFigures, Limits, families};
use crate::report::alerting::{AlertReport, AlertSite, AlertState, Level};
use crate::report::{Container, Pod, ProcessReport, Timestamp, samples};

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(ArrayValue { values })) => match values.as_slice() {
            [AnyValue { value: Some(Value::StringValue(text)) }] => format!("[{text}]"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.as_str(), text(attribute))).collect()
}

fn process() -> ProcessReport {
    ProcessReport {
        container: Some(Container {
            id: "4f2a".to_owned(),
            engine: Some("containerd".to_owned()),
            name: Some("server".to_owned()),
            image: Some("registry.example:5000/bus/nats:2.11@sha256:0123".to_owned()),
        }),
        pod: Some(Pod {
            name: Some("nats-0".to_owned()),
            namespace: Some("bus".to_owned()),
            uid: Some("u-1".to_owned()),
            labels: Some(BTreeMap::from([("team".to_owned(), "bus".to_owned())])),
        }),
        ..samples::leaking()
    }
}

fn sender() -> Sender {
    Sender { host: "host-1".to_owned(), version: "0.1.0".to_owned() }
}

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

#[test]
fn a_process_is_a_resource_by_the_conventions() {
    let processes = [process().into(), samples::process(7, "other").into()];
    let figures = AgentFigures { version: "0.1.0", revision: "r", ..AgentFigures::default() };
    let families = families(&processes, &figures, &Limits::default());
    let bytes = metrics(&families, &processes, &sender(), now()).encode_to_vec();
    let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).expect("a request");
    assert_eq!(request.resource_metrics.len(), 3);
    let of = |service: &str| {
        let found = request.resource_metrics.iter().find(|one| {
            texts(&one.resource.as_ref().expect("a resource").attributes)["service.name"] == service
        });
        found.expect("the resource")
    };
    let nats = of("nats-server");
    assert_eq!(
        texts(&nats.resource.as_ref().expect("a resource").attributes),
        BTreeMap::from([
            ("service.name", "nats-server".to_owned()),
            ("service.namespace", "bus".to_owned()),
            ("service.instance.id", "host-1/4242/1791462896789".to_owned()),
            ("host.name", "host-1".to_owned()),
            ("host.arch", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }.to_owned()),
            ("process.pid", "4242".to_owned()),
            ("process.executable.name", "nats-server".to_owned()),
            ("process.executable.path", "/usr/bin/nats-server".to_owned()),
            ("process.creation.time", "2026-10-08T12:34:56.789Z".to_owned()),
            ("process.runtime.name", "go".to_owned()),
            ("process.runtime.version", "go1.27.2".to_owned()),
            ("container.id", "4f2a".to_owned()),
            ("container.name", "server".to_owned()),
            ("container.runtime.name", "containerd".to_owned()),
            ("container.image.name", "registry.example:5000/bus/nats".to_owned()),
            ("container.image.tags", "[2.11]".to_owned()),
            ("container.image.repo_digests", "[registry.example:5000/bus/nats@sha256:0123]".to_owned()),
            ("k8s.container.name", "server".to_owned()),
            ("k8s.namespace.name", "bus".to_owned()),
            ("k8s.pod.name", "nats-0".to_owned()),
            ("k8s.pod.uid", "u-1".to_owned()),
            ("k8s.pod.label.team", "bus".to_owned()),
        ])
    );
    let metric = |name: &str| {
        let found = nats.scope_metrics[0].metrics.iter().find(|metric| metric.name == name);
        found.and_then(|metric| metric.data.clone()).expect("the metric")
    };
    let Data::Gauge(live) = metric("leakwatch_tasks_live") else { panic!("a gauge") };
    let [point] = &live.data_points[..] else { panic!("one point") };
    assert_eq!(texts(&point.attributes), BTreeMap::from([("runtime", "go".to_owned())]));
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(1_038.0)));
    let Data::Sum(started) = metric("leakwatch_tasks_started_total") else { panic!("a sum") };
    assert!(started.is_monotonic);
    assert_eq!(started.aggregation_temporality, AggregationTemporality::Cumulative as i32);
    assert_eq!(started.data_points[0].time_unix_nano, NOW as u64 * 1_000_000_000);
    // Whenever it was looked at last, its counters began with its watching: another beginning would be another counter.
    let began = process().watched_since.expect("it is known").as_nanosecond();
    assert_eq!(i128::from(started.data_points[0].start_time_unix_nano), began);
    let Data::Gauge(sites) = metric("leakwatch_site_tasks_live") else { panic!("a gauge") };
    let worst = sites
        .data_points
        .iter()
        .find(|point| texts(&point.attributes)["function"].ends_with("startGoRoutine"));
    let worst = worst.expect("the site");
    assert_eq!(worst.value, Some(number_data_point::Value::AsDouble(1_024.0)));
    assert_eq!(texts(&worst.attributes)["line"], "3912");
    let agent = texts(&of("leakwatch").resource.as_ref().expect("a resource").attributes);
    assert_eq!(agent["service.version"], "0.1.0");
}

#[test]
fn lifetimes_are_exponential_histograms_whose_buckets_hold_them() {
    let mut process = process();
    let lives = leakwatch_lives(&[1_000_000, 1_000_000, 40_000_000_000]);
    for site in &mut process.sites {
        site.lives = None;
    }
    process.sites[0].lives = Some(lives);
    let processes = [process.into()];
    let families = families(&processes, &AgentFigures::default(), &Limits::default());
    let request = metrics(&families, &processes, &sender(), now());
    let all = request.resource_metrics.iter().flat_map(|one| &one.scope_metrics[0].metrics);
    let found = all.into_iter().find(|metric| metric.name == "leakwatch_task_lifetime_seconds").expect("it");
    assert_eq!(found.unit, "s");
    let Some(Data::ExponentialHistogram(histogram)) = &found.data else { panic!("{found:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.scale, point.zero_count), (3, 1, 0));
    let buckets = point.positive.as_ref().expect("buckets");
    assert_eq!(buckets.bucket_counts.iter().sum::<u64>(), 3);
    let mut found = Vec::new();
    for (place, count) in buckets.bucket_counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let index = buckets.offset + i32::try_from(place).expect("few buckets");
        let (low, high) = (2f64.powf(f64::from(index) / 2.0), 2f64.powf(f64::from(index + 1) / 2.0));
        found.push((low, high, *count));
    }
    let [(low, high, 2), (long_low, long_high, 1)] = found[..] else { panic!("{found:?}") };
    // The kernel's buckets and the protocol's differ by a tenth at most, and each is half an octave wide.
    assert!(low / 1.5 < 0.001 && 0.001 < high * 1.5, "{found:?}");
    assert!(long_low / 1.5 < 40.0 && 40.0 < long_high * 1.5, "{found:?}");
}

fn leakwatch_lives(lifetimes_ns: &[u64]) -> crate::report::Lives {
    let mut counts = [0u64; leakwatch_common::LIFETIME_BUCKETS];
    for &lifetime in lifetimes_ns {
        counts[leakwatch_common::lifetime_bucket(lifetime)] += 1;
    }
    crate::report::Lives::of(&counts.into(), None).expect("some ended")
}

#[test]
fn an_alert_is_a_record_with_its_site() {
    let process = process();
    let alert = AlertReport {
        rule: "goroutine leak".to_owned(),
        level: Level::P0,
        state: AlertState::Firing,
        pid: process.pid,
        start_time: process.start_time,
        comm: process.comm.clone(),
        site: Some(AlertSite {
            runtime: "go".to_owned(),
            function: Some("main.serve".to_owned()),
            file: Some("/src/main.go".to_owned()),
            line: Some(12),
            task: None,
        }),
        since: Timestamp::from_second(NOW - 20).expect("a time"),
        fired: Some(Timestamp::from_second(NOW - 10).expect("a time")),
        value: Some(1_024.0),
        why: "it grows".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "bus".to_owned())]),
        ..AlertReport::default()
    };
    let over = AlertReport { state: AlertState::Resolved, resolved: Some(now()), ..alert.clone() };
    let request = logs(&[alert, over], &[process.into()], &sender(), now());
    let [firing, resolved] = &request.resource_logs[..] else { panic!("{request:?}") };
    let resource = texts(&firing.resource.as_ref().expect("a resource").attributes);
    assert_eq!((resource["process.pid"].as_str(), resource["k8s.pod.name"].as_str()), ("4242", "nats-0"));
    let record = &firing.scope_logs[0].log_records[0];
    assert_eq!(record.severity_text, "ERROR");
    assert_eq!(record.time_unix_nano, (NOW as u64 - 10) * 1_000_000_000);
    let attributes = texts(&record.attributes);
    assert_eq!(attributes["leakwatch.alert.name"], "goroutine leak");
    assert_eq!(attributes["leakwatch.alert.state"], "firing");
    assert_eq!(attributes["leakwatch.alert.value"], "1024");
    assert_eq!(attributes["leakwatch.alert.label.team"], "bus");
    assert_eq!(
        (attributes["code.function.name"].as_str(), attributes["code.line.number"].as_str()),
        ("main.serve", "12")
    );
    let record = &resolved.scope_logs[0].log_records[0];
    assert_eq!((record.severity_text.as_str(), record.time_unix_nano), ("INFO", NOW as u64 * 1_000_000_000));
}
