//! Remote write 1.0: `prometheus.WriteRequest`.
//!
//! Fields and numbers are those of <https://github.com/prometheus/prometheus/blob/v2.42.0/prompb/types.proto>.

use prost::Message as _;

use super::{Figure, Point};
use crate::export::metrics::{Histogram, Kind, NativeBuckets};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(super) metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<NativeHistogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MetricMetadata {
    #[prost(int32, tag = "1")]
    pub(super) r#type: i32,
    #[prost(string, tag = "2")]
    pub(super) metric_family_name: String,
    #[prost(string, tag = "4")]
    pub(super) help: String,
    #[prost(string, tag = "5")]
    pub(super) unit: String,
}

/// `Histogram` with whole counts; 1.0 and 2.0 number its fields the same.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NativeHistogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) count: Option<u64>,
    #[prost(double, tag = "3")]
    pub(super) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, tag = "5")]
    pub(super) zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "11")]
    pub(super) positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub(super) positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

/// `MetricType`, in both protocols.
pub(super) const fn metric_type(kind: Kind) -> i32 {
    match kind {
        Kind::Counter => 1,
        Kind::Gauge => 2,
        Kind::Histogram => 3,
        Kind::Info => 6,
    }
}

/// The metric whose series has this name: those of a classic histogram have a suffix each.
pub(super) fn family(series: &str, r#type: i32) -> &str {
    let suffixes =
        if r#type == metric_type(Kind::Histogram) { ["_bucket", "_sum", "_count"].as_slice() } else { &[] };
    suffixes.iter().find_map(|suffix| series.strip_suffix(suffix)).unwrap_or(series)
}

pub(super) fn native(histogram: &Histogram, time_ms: i64) -> NativeHistogram {
    let buckets = histogram.native();
    NativeHistogram {
        count: Some(histogram.count()),
        sum: histogram.sum_s(),
        schema: NativeBuckets::SCHEMA,
        zero_threshold: NativeBuckets::ZERO_THRESHOLD,
        zero_count: Some(buckets.zero),
        positive_spans: buckets
            .spans
            .iter()
            .map(|(offset, length)| BucketSpan { offset: *offset, length: *length })
            .collect(),
        positive_deltas: buckets.deltas(),
        timestamp: time_ms,
    }
}

pub(super) fn encode(points: &[Point<'_>], time_ms: i64) -> Vec<u8> {
    let mut request = WriteRequest::default();
    for point in points {
        let labels = point.name.iter();
        let labels = labels.map(|(name, value)| Label { name: name.to_string(), value: value.to_string() });
        let mut series = TimeSeries { labels: labels.collect(), ..TimeSeries::default() };
        match point.figure {
            Figure::Number(value) => series.samples.push(Sample { value, timestamp: time_ms }),
            Figure::Native(histogram) => series.histograms.push(native(histogram, time_ms)),
        }
        request.timeseries.push(series);
        let definition = point.definition;
        if !request.metadata.iter().any(|known| known.metric_family_name == definition.name) {
            request.metadata.push(MetricMetadata {
                r#type: metric_type(definition.kind),
                metric_family_name: definition.name.to_owned(),
                help: definition.help.to_owned(),
                unit: definition.unit.unwrap_or_default().to_owned(),
            });
        }
    }
    request.encode_to_vec()
}
