//! Families as `ExportMetricsServiceRequest`.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets,
    metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::{SCHEMA_URL, Sender, resource, text};
use crate::export::metrics::{Definition, Family, Histogram, Kind, NativeBuckets, Series, Subject, Value};
use crate::report::{ProcessReport, Timestamp};

/// Labels that a resource has under the conventions' names.
const OF_RESOURCE: [&str; 6] = ["pid", "comm", "exe", "container", "namespace", "pod"];

/// The request for families that were made from these reports.
pub fn metrics(
    families: &[Family],
    processes: &[Arc<ProcessReport>],
    sender: &Sender,
    now: Timestamp,
) -> ExportMetricsServiceRequest {
    let mut resources: BTreeMap<Option<usize>, Vec<Metric>> = BTreeMap::new();
    let mut others: Vec<Metric> = Vec::new();
    for family in families {
        let mut by_subject: BTreeMap<Option<usize>, Vec<&Series>> = BTreeMap::new();
        let mut of_others = Vec::new();
        for series in &family.series {
            match series.subject {
                Subject::Agent => by_subject.entry(None).or_default().push(series),
                Subject::Process(place) => by_subject.entry(Some(place)).or_default().push(series),
                Subject::Others => of_others.push(series),
            }
        }
        for (subject, series) in by_subject {
            resources.entry(subject).or_default().push(metric(family.definition, &series, now));
        }
        if !of_others.is_empty() {
            others.push(metric(family.definition, &of_others, now));
        }
    }
    let of = |resource: Resource, metrics: Vec<Metric>| ResourceMetrics {
        resource: Some(resource),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(sender.scope()),
            metrics,
            schema_url: SCHEMA_URL.to_owned(),
        }],
        schema_url: SCHEMA_URL.to_owned(),
    };
    let mut resource_metrics = Vec::with_capacity(resources.len() + 1);
    for (subject, metrics) in resources {
        let resource = match subject {
            None => resource::agent(sender),
            Some(place) => match processes.get(place) {
                Some(process) => resource::process(sender, process),
                None => continue,
            },
        };
        resource_metrics.push(of(resource, metrics));
    }
    if !others.is_empty() {
        resource_metrics.push(of(resource::others(sender), others));
    }
    ExportMetricsServiceRequest { resource_metrics }
}

fn metric(definition: &Definition, series: &[&Series], now: Timestamp) -> Metric {
    let cumulative = AggregationTemporality::Cumulative as i32;
    let numbers = || {
        let numbers = series.iter().filter_map(|series| match series.value {
            Value::Number(value) => Some(number(series, value, now)),
            Value::Histogram(_) => None,
        });
        numbers.collect()
    };
    let data = match definition.kind {
        Kind::Gauge | Kind::Info => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Counter => {
            Data::Sum(Sum { data_points: numbers(), aggregation_temporality: cumulative, is_monotonic: true })
        }
        Kind::Histogram => {
            let points = series.iter().filter_map(|series| match &series.value {
                Value::Histogram(one) => Some(histogram(series, one, now)),
                Value::Number(_) => None,
            });
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: points.collect(),
                aggregation_temporality: cumulative,
            })
        }
    };
    Metric {
        name: definition.name.to_owned(),
        description: definition.help.to_owned(),
        unit: unit(definition.unit).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// Units as UCUM writes them.
fn unit(unit: Option<&str>) -> &'static str {
    match unit {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("ratio") => "1",
        _ => "",
    }
}

fn attributes(series: &Series) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
    let agent = series.subject == Subject::Agent;
    let own = series.labels.iter().filter(|(name, _)| agent || !OF_RESOURCE.contains(&&**name));
    own.map(|(name, value)| text(name, &**value)).collect()
}

/// When what only grows began; 0: not known. The clock may have been set back since.
fn start(series: &Series, now: Timestamp) -> u64 {
    series.since.map_or(0, |since| nanoseconds(since.min(now)))
}

fn number(series: &Series, value: f64, now: Timestamp) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: start(series, now),
        time_unix_nano: nanoseconds(now),
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// The native histogram has the same buckets; its bucket `i` ends with 2^(i/2), the protocol's begins there.
fn histogram(series: &Series, histogram: &Histogram, now: Timestamp) -> ExponentialHistogramDataPoint {
    let native = histogram.native();
    let offset = native.spans.first().map_or(0, |(index, _)| index - 1);
    let mut counts = native.counts.iter().copied();
    let mut bucket_counts = Vec::new();
    for (place, (gap, length)) in native.spans.iter().enumerate() {
        if place > 0 {
            bucket_counts.extend((0..*gap).map(|_| 0));
        }
        bucket_counts.extend(counts.by_ref().take(usize::try_from(*length).unwrap_or(0)));
    }
    ExponentialHistogramDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: start(series, now),
        time_unix_nano: nanoseconds(now),
        count: histogram.count(),
        sum: Some(histogram.sum_s()),
        scale: NativeBuckets::SCHEMA,
        zero_count: native.zero,
        zero_threshold: NativeBuckets::ZERO_THRESHOLD,
        positive: (!bucket_counts.is_empty()).then_some(Buckets { offset, bucket_counts }),
        ..ExponentialHistogramDataPoint::default()
    }
}

/// Nanoseconds since 1970; 0, which means unknown, before.
pub(super) fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
