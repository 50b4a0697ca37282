//! Remote write 2.0: `io.prometheus.write.v2.Request`, where every string stands once.
//!
//! Fields and numbers are those of
//! <https://github.com/prometheus/prometheus/blob/v3.0.0/prompb/io/prometheus/write/v2/types.proto>.

use prost::Message as _;
use rustc_hash::FxHashMap;

use super::v1::{self, NativeHistogram, Sample, metric_type, native};
use super::{Figure, Point};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(string, repeated, tag = "4")]
    pub(super) symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) histograms: Vec<NativeHistogram>,
    #[prost(message, optional, tag = "5")]
    pub(super) metadata: Option<Metadata>,
    #[prost(int64, tag = "6")]
    pub(super) created_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Metadata {
    #[prost(int32, tag = "1")]
    pub(super) r#type: i32,
    #[prost(uint32, tag = "3")]
    pub(super) help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub(super) unit_ref: u32,
}

/// Every string once; the first is the empty one.
struct Symbols<'a> {
    list: Vec<String>,
    places: FxHashMap<&'a str, u32>,
}

impl<'a> Symbols<'a> {
    fn place(&mut self, text: &'a str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        // A request has a few thousand series: their strings do not fill 32 bits.
        let next = u32::try_from(self.list.len()).unwrap_or(0);
        let place = *self.places.entry(text).or_insert(next);
        if place == next {
            self.list.push(text.to_owned());
        }
        place
    }
}

pub(super) fn encode(points: &[Point<'_>], time_ms: i64) -> Vec<u8> {
    let mut symbols = Symbols { list: vec![String::new()], places: FxHashMap::default() };
    let mut timeseries = Vec::with_capacity(points.len());
    for point in points {
        let mut series = TimeSeries::default();
        for (name, value) in &point.name {
            series.labels_refs.push(symbols.place(name));
            series.labels_refs.push(symbols.place(value));
        }
        match point.figure {
            Figure::Number(value) => series.samples.push(Sample { value, timestamp: time_ms }),
            Figure::Native(histogram) => series.histograms.push(native(histogram, time_ms)),
        }
        series.metadata = Some(Metadata {
            r#type: metric_type(point.definition.kind),
            help_ref: symbols.place(point.definition.help),
            unit_ref: symbols.place(point.definition.unit.unwrap_or_default()),
        });
        series.created_timestamp = point.since_ms;
        timeseries.push(series);
    }
    Request { symbols: symbols.list, timeseries }.encode_to_vec()
}

/// A request as the one of 1.0 with the same samples; `None`: it is none.
pub(super) fn decode(body: &[u8]) -> Option<v1::WriteRequest> {
    let Request { symbols, timeseries } = Request::decode(body).ok()?;
    let text = |place: u32| symbols.get(usize::try_from(place).ok()?);
    let mut request = v1::WriteRequest::default();
    for series in timeseries {
        let mut labels = Vec::with_capacity(series.labels_refs.len() / 2);
        for pair in series.labels_refs.chunks(2) {
            let [name, value] = *pair else { return None };
            labels.push(v1::Label { name: text(name)?.clone(), value: text(value)?.clone() });
        }
        if let Some(metadata) = series.metadata {
            let name = labels.iter().find(|label| label.name == "__name__")?.value.as_str();
            let family = v1::family(name, metadata.r#type);
            if !request.metadata.iter().any(|known| known.metric_family_name == family) {
                request.metadata.push(v1::MetricMetadata {
                    r#type: metadata.r#type,
                    metric_family_name: family.to_owned(),
                    help: text(metadata.help_ref)?.clone(),
                    unit: text(metadata.unit_ref)?.clone(),
                });
            }
        }
        request.timeseries.push(v1::TimeSeries {
            labels,
            samples: series.samples,
            histograms: series.histograms,
        });
    }
    Some(request)
}
