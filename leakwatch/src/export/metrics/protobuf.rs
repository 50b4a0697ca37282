//! Families in Prometheus's protocol buffers, each message after its length: the only form that carries native
//! histograms.
//!
//! Fields and numbers are those of
//! <https://github.com/prometheus/client_model/blob/v0.6.1/io/prometheus/client/metrics.proto>.

use prost::Message as _;

use super::{Family, Histogram, Kind, Labels, NativeBuckets, Value};
use crate::report::Timestamp;

/// `MetricType`
mod kind {
    pub(super) const COUNTER: i32 = 0;
    pub(super) const GAUGE: i32 = 1;
    pub(super) const HISTOGRAM: i32 = 4;
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub(super) r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    pub(super) unit: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    pub(super) counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<HistogramMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// `Gauge`
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Gauge {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

/// `Counter`
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Counter {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) created_timestamp: Option<Time>,
}

/// `google.protobuf.Timestamp`
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Time {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        let millisecond = time.as_millisecond();
        // Nanoseconds count up from the second, also before 1970.
        let nanos = i32::try_from(millisecond.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
        Self { seconds: millisecond.div_euclid(1_000), nanos }
    }
}

/// `Histogram`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HistogramMessage {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub(super) positive_delta: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    pub(super) created_timestamp: Option<Time>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

/// The messages of all families, each after its length.
pub(super) fn encode(families: &[Family]) -> Vec<u8> {
    families.iter().flat_map(|one| family(one).encode_length_delimited_to_vec()).collect()
}

fn family(family: &Family) -> MetricFamily {
    let definition = family.definition;
    MetricFamily {
        name: Some(definition.name.to_owned()),
        help: Some(definition.help.to_owned()),
        r#type: Some(match definition.kind {
            Kind::Counter => kind::COUNTER,
            Kind::Histogram => kind::HISTOGRAM,
            Kind::Gauge | Kind::Info => kind::GAUGE,
        }),
        metric: family
            .series
            .iter()
            .map(|series| {
                let mut metric = Metric { label: labels(&series.labels), ..Metric::default() };
                let created_timestamp = series.since.map(Time::from);
                match &series.value {
                    Value::Number(value) if definition.kind == Kind::Counter => {
                        metric.counter = Some(Counter { value: Some(*value), created_timestamp });
                    }
                    Value::Number(value) => metric.gauge = Some(Gauge { value: Some(*value) }),
                    Value::Histogram(one) => {
                        metric.histogram = Some(HistogramMessage { created_timestamp, ..histogram(one) });
                    }
                }
                metric
            })
            .collect(),
        unit: definition.unit.map(str::to_owned),
    }
}

fn labels(labels: &Labels) -> Vec<LabelPair> {
    let pairs = labels.iter();
    pairs
        .map(|(name, value)| LabelPair { name: Some(name.to_string()), value: Some(value.to_string()) })
        .collect()
}

/// Both forms in one: a scraper takes the native one, or the classic one where it does not know the other.
fn histogram(histogram: &Histogram) -> HistogramMessage {
    let native = histogram.native();
    HistogramMessage {
        sample_count: Some(histogram.count()),
        sample_sum: Some(histogram.sum_s()),
        bucket: histogram
            .cumulative()
            .into_iter()
            .map(|(bound, count)| Bucket { cumulative_count: Some(count), upper_bound: Some(bound) })
            .collect(),
        schema: Some(NativeBuckets::SCHEMA),
        zero_threshold: Some(NativeBuckets::ZERO_THRESHOLD),
        zero_count: Some(native.zero),
        positive_span: native
            .spans
            .iter()
            .map(|(offset, length)| BucketSpan { offset: Some(*offset), length: Some(*length) })
            .collect(),
        positive_delta: native.deltas(),
        created_timestamp: None,
    }
}
