//! Families as requests of Prometheus's remote write, 1.0 and 2.0: pure, from families and a time to compressed bytes.
//!
//! What a scrape does by itself is done here: a series that is no longer there ends with a stale marker, so that it is
//! gone at once and not after five minutes. Nothing here sends or stores; `relay` does.
//!
//! The protocols: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>.

mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;

use super::metrics::{Definition, Family, Histogram, Value};
use crate::report::{Timestamp, float};

/// A not-a-number of these bits says that the series ended
/// (<https://github.com/prometheus/prometheus/blob/v2.42.0/model/value/value.go>).
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Series in one request at most.
const SERIES: usize = 2_000;

/// Bytes of a request that is read again, at most: [`SERIES`] of the longest names have less.
const LARGEST: usize = 64 << 20;

/// Which protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 1.0, which every receiver takes.
    #[default]
    V1,
    /// 2.0: strings once, metadata with each series.
    V2,
}

impl Version {
    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf",
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The value of `X-Prometheus-Remote-Write-Version`.
    pub const fn number(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// What to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which protocol.
    pub version: Version,
    /// Histograms as native ones, too.
    pub native_histograms: bool,
    /// Labels of every series, which a scrape would add: `job`, `instance`.
    pub labels: Vec<(String, String)>,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Samples in it.
    pub samples: u64,
    /// Its body, compressed by snappy's block format.
    pub body: Vec<u8>,
}

/// Labels in the order of their names, the metric's own first.
type Name = Vec<(Cow<'static, str>, Arc<str>)>;

/// A series with one point.
struct Point<'a> {
    name: Name,
    definition: &'static Definition,
    figure: Figure<'a>,
    /// When it began at 0, milliseconds since 1970; 0: not known, or it goes up and down.
    since_ms: i64,
}

/// What a point says.
#[derive(Clone, Copy)]
enum Figure<'a> {
    Number(f64),
    Native(&'a Histogram),
}

/// Makes requests, and remembers which series the last ones had.
#[derive(Debug)]
pub struct Encoder {
    options: Options,
    /// The series of the last round, with their metrics.
    last: BTreeSet<Known>,
}

/// A series that was sent. A native histogram ends with a marker of its own kind in Prometheus's storage; a number that is
/// stale ends it as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    name: Name,
    metric: usize,
}

impl Encoder {
    /// Knows of no series yet: those that a run of leakwatch before this one sent end by themselves, after five minutes.
    pub fn new(options: Options) -> Self {
        Self { options, last: BTreeSet::new() }
    }

    /// From the next round on it makes others; series that go on are the same.
    pub fn change(&mut self, options: &Options) {
        self.options.clone_from(options);
    }

    /// The requests for these families at this time, in milliseconds since 1970.
    pub fn encode(&mut self, families: &[Family], time_ms: i64) -> Vec<Batch> {
        let mut points = self.points(families, time_ms);
        let now: BTreeSet<Known> = points
            .iter()
            .map(|point| Known { name: point.name.clone(), metric: point.definition.metric as usize })
            .collect();
        for gone in self.last.difference(&now) {
            if let Some(definition) = super::metrics::TABLE.get(gone.metric) {
                let figure = Figure::Number(f64::from_bits(STALE));
                points.push(Point { name: gone.name.clone(), definition, figure, since_ms: 0 });
            }
        }
        self.last = now;
        points
            .chunks(SERIES)
            .map(|points| {
                let body = match self.options.version {
                    Version::V1 => v1::encode(points, time_ms),
                    Version::V2 => v2::encode(points, time_ms),
                };
                Batch { samples: points.len() as u64, body: compress(&body) }
            })
            .collect()
    }

    /// As [`Self::encode`], of nothing: every series ends.
    pub fn end(&mut self, time_ms: i64) -> Vec<Batch> {
        self.encode(&[], time_ms)
    }

    fn points<'a>(&self, families: &'a [Family], time_ms: i64) -> Vec<Point<'a>> {
        let mut points = Vec::new();
        for family in families {
            let definition = family.definition;
            for series in &family.series {
                // The clock may have been set back since.
                let since_ms = series.since.map(Timestamp::as_millisecond);
                let since_ms = since_ms.filter(|since_ms| *since_ms < time_ms).unwrap_or(0);
                let name = |suffix: &str, bound: Option<f64>| {
                    let mut labels: Name = series.labels.clone();
                    labels.push(("__name__".into(), format!("{}{suffix}", definition.name).into()));
                    if let Some(bound) = bound {
                        let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
                        labels.push(("le".into(), bound.into()));
                    }
                    for (name, value) in &self.options.labels {
                        if !labels.iter().any(|(own, _)| own == name) && !value.is_empty() {
                            labels.push((name.clone().into(), value.as_str().into()));
                        }
                    }
                    labels.sort_unstable();
                    labels
                };
                let mut number = |suffix: &str, bound, value| {
                    points.push(Point {
                        name: name(suffix, bound),
                        definition,
                        figure: Figure::Number(value),
                        since_ms,
                    });
                };
                match &series.value {
                    Value::Number(value) => number("", None, *value),
                    Value::Histogram(histogram) => {
                        for (bound, count) in histogram.cumulative() {
                            number("_bucket", Some(bound), float(count));
                        }
                        number("_sum", None, histogram.sum_s());
                        number("_count", None, float(histogram.count()));
                        if self.options.native_histograms {
                            let figure = Figure::Native(histogram);
                            points.push(Point { name: name("", None), definition, figure, since_ms });
                        }
                    }
                }
            }
        }
        points
    }
}

/// A request of 2.0 as one of 1.0 with the same samples, for receivers that know no other. `None`: it is none.
///
/// When counters began is not in it: 1.0 has no place for that.
pub fn as_v1(body: &[u8]) -> Option<Vec<u8>> {
    let size = snap::raw::decompress_len(body).ok().filter(|size| *size <= LARGEST)?;
    let mut plain = vec![0; size];
    snap::raw::Decoder::new().decompress(body, &mut plain).ok()?;
    Some(compress(&v2::decode(&plain)?.encode_to_vec()))
}

/// Snappy's block format. It fails for bodies above 4 GB alone, which requests of so many series never are.
fn compress(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap_or_default()
}

/// Samples in an unpacked request of 1.0, for tests of whoever sends it.
#[cfg(test)]
pub(crate) fn samples_in(body: &[u8]) -> usize {
    let request = v1::WriteRequest::decode(body).expect("a request");
    request.timeseries.iter().map(|series| series.samples.len() + series.histograms.len()).sum()
}

/// Times in milliseconds and values of a metric in an unpacked request of 1.0, for tests of whoever sends it.
#[cfg(test)]
pub(crate) fn samples_of(body: &[u8], metric: &str) -> Vec<(i64, f64)> {
    let request = v1::WriteRequest::decode(body).expect("a request");
    let of = request
        .timeseries
        .iter()
        .filter(|series| series.labels.iter().any(|label| label.name == "__name__" && label.value == metric));
    of.flat_map(|series| series.samples.iter().map(|sample| (sample.timestamp, sample.value))).collect()
}
