//! Remote write into a real Prometheus that is away for a minute, and an agent that is killed meanwhile: every sample that was ever
//! written down is in Prometheus once, with its time and its value, and nothing else is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use leakwatch_tests::process::eventually;
use leakwatch_tests::prometheus::{PATIENCE, Prometheus};
use leakwatch_tests::{HostAgent, Target, gate, matrix, need};
use prost::Message;

use crate::folder::Folder;

/// Rounds, one each second, that the receiver is away.
const AWAY: usize = 60;

/// Bytes before a request in a segment of the queue: its length, what it counts for, its checksum, and which protocol.
const HEADER: usize = 17;

// `prometheus.WriteRequest` of <https://github.com/prometheus/prometheus/blob/v2.42.0/prompb/types.proto>, what is looked at here.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

impl WriteRequest {
    /// The one in a body.
    #[track_caller]
    pub(crate) fn of(body: &[u8]) -> Self {
        let body = snap::raw::Decoder::new().decompress_vec(body).expect("snappy");
        Self::decode(body.as_slice()).expect("a request")
    }

    /// All that it says is that series are over.
    pub(crate) fn is_an_end(&self) -> bool {
        let mut samples = self.timeseries.iter().flat_map(|series| &series.samples);
        !self.timeseries.is_empty() && samples.all(|sample| sample.value.is_nan())
    }
}

/// Samples by their series: times in ms, and the bits of the values.
pub(crate) type Samples = BTreeMap<BTreeMap<String, String>, Vec<(i64, u64)>>;

/// Requests in the segments of a queue, oldest first. The last one may be in the making.
pub(crate) fn requests(queue: &Path) -> Vec<WriteRequest> {
    let entries = fs::read_dir(queue).into_iter().flatten().flatten();
    let mut segments: Vec<_> = entries.map(|entry| entry.path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    let mut requests = Vec::new();
    for bytes in segments.iter().map(|path| fs::read(path).unwrap_or_default()) {
        let mut rest = bytes.as_slice();
        while let Some((length, _)) = rest.split_first_chunk::<4>() {
            // The protocol's byte is a part of the length.
            let end = HEADER - 1 + usize::try_from(u32::from_le_bytes(*length)).expect("small");
            let Some(body) = rest.get(HEADER..end) else { break };
            requests.push(WriteRequest::of(body));
            rest = &rest[end..];
        }
    }
    requests
}

/// What they have, but for the marks of series that end.
pub(crate) fn samples_of(requests: &[WriteRequest]) -> Samples {
    let mut all = Samples::new();
    for series in requests.iter().flat_map(|request| &request.timeseries) {
        let labels = series.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
        let values = series.samples.iter().filter(|sample| !sample.value.is_nan());
        let samples: &mut Vec<_> = all.entry(labels).or_default();
        samples.extend(values.map(|sample| (sample.timestamp, sample.value.to_bits())));
    }
    all.retain(|_, samples| !samples.is_empty());
    all
}

#[test]
fn a_minute_without_its_receiver_and_a_kill_in_it_cost_no_sample() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path), gate::third_party("prometheus"));
    let folder = Folder::new("outage");
    let program = folder.copy("served");
    let mut target = Target::start(&program);
    target.command("spawn chan 41");
    let mut prometheus = Prometheus::start("outage", "{}", &[], &["--web.enable-remote-write-receiver"]);
    let queue = folder.path().join("queue");
    let config = format!(
        "[discover]\ninclude = [{{ exe = \"{}\" }}]\n[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[export]\ninterval = \"1s\"\n\
         [export.remote_write]\nurl = \"http://127.0.0.1:{}/api/v1/write\"\nqueue_dir = \"{}\"\n",
        program.display(),
        prometheus.port(),
        queue.display()
    );
    let mut agent = HostAgent::start("outage-1", &config);
    let first = "count_over_time(leakwatch_build_info{job=\"leakwatch\"}[1h]) >= 3";
    let comes = eventually(PATIENCE, || !prometheus.query(first).is_empty());
    assert!(comes, "nothing comes: {}", agent.get("/metrics", &[]).body);

    prometheus.stop();
    let gone = requests(&queue).len();
    let made = |count: usize| eventually(2 * PATIENCE, || requests(&queue).len() >= gone + count);
    // Something new is to be told in each half; the agent between them has no time for a last word.
    assert!(made(AWAY / 2), "only {} rounds", requests(&queue).len());
    target.command("spawn method 7");
    drop(agent);
    agent = HostAgent::start("outage-2", &config);
    target.command("finish chan 11");
    assert!(made(AWAY), "only {} rounds", requests(&queue).len());
    // The queue's first segment is not full yet: all that was ever measured.
    let written = samples_of(&requests(&queue));
    let last = written.values().flatten().map(|(time, _)| *time).max().expect("some");
    let since = written.values().flatten().map(|(time, _)| *time).min().expect("some");
    assert!(last - since >= 1_000 * i64::try_from(AWAY).expect("small"), "{since} to {last}");

    prometheus.start_again();
    // They come in order: behind one that is later, none is missing.
    let later = format!("timestamp(leakwatch_build_info{{job=\"leakwatch\"}}) > {}", last / 1_000 + 1);
    assert!(eventually(PATIENCE, || !prometheus.query(&later).is_empty()), "the queue is not sent");
    let mut there = Samples::new();
    for (labels, samples) in prometheus.samples("{job=\"leakwatch\"}", "1h") {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds as they were written")]
        let samples = samples.into_iter().map(|(time, value)| ((time * 1e3).round() as i64, value.to_bits()));
        // What came after the outage was not looked at.
        let samples: Vec<_> = samples.filter(|(time, _)| *time <= last).collect();
        if !samples.is_empty() {
            there.insert(labels, samples);
        }
    }
    let names = |samples: &Samples| samples.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&there), names(&written));
    for (labels, samples) in &written {
        assert_eq!(there.get(labels), Some(samples), "{labels:?}");
    }
    assert_eq!(agent.terminate().code(), Some(0));
}
