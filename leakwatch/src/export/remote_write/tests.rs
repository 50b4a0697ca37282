//! Requests against the families that they were made from.

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::export::metrics::{AgentFigures, Limits, families};
use crate::report::samples;

type Series = (BTreeMap<String, String>, f64, bool);

fn read(batch: &Batch, version: Version) -> Vec<Series> {
    let body = snap::raw::Decoder::new().decompress_vec(&batch.body).expect("snappy");
    match version {
        Version::V1 => {
            let request = v1::WriteRequest::decode(body.as_slice()).expect("a request");
            let series = request.timeseries.into_iter().map(|series| {
                let names: Vec<_> = series.labels.iter().map(|label| label.name.clone()).collect();
                assert!(names.is_sorted(), "{names:?}");
                let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
                let value = series.samples.first().map_or(f64::NAN, |sample| sample.value);
                (labels, value, !series.histograms.is_empty())
            });
            series.collect()
        }
        Version::V2 => {
            let request = v2::Request::decode(body.as_slice()).expect("a request");
            assert_eq!(request.symbols.first().map(String::as_str), Some(""));
            let text = |place: u32| request.symbols[place as usize].clone();
            let series = request.timeseries.iter().map(|series| {
                let pairs = series.labels_refs.chunks(2).map(|pair| (text(pair[0]), text(pair[1])));
                let labels: BTreeMap<_, _> = pairs.collect();
                let metadata = series.metadata.expect("metadata");
                assert!(!text(metadata.help_ref).is_empty());
                let value = series.samples.first().map_or(f64::NAN, |sample| sample.value);
                (labels, value, !series.histograms.is_empty())
            });
            series.collect()
        }
    }
}

#[test]
fn both_protocols_say_the_same_and_series_end() {
    let labels = vec![("job".to_owned(), "leakwatch".to_owned()), ("pid".to_owned(), "hidden".to_owned())];
    let all = families(
        &[samples::leaking().into(), samples::hostile().into()],
        &AgentFigures { version: "1", revision: "2", ..AgentFigures::default() },
        &Limits::default(),
    );
    let fewer = families(&[samples::hostile().into()], &AgentFigures::default(), &Limits::default());
    let mut rounds = Vec::new();
    for version in [Version::V1, Version::V2] {
        let options = Options { version, native_histograms: true, labels: labels.clone() };
        let mut encoder = Encoder::new(options);
        let first: Vec<Series> =
            encoder.encode(&all, 1_000).iter().flat_map(|batch| read(batch, version)).collect();
        let second: Vec<Series> =
            encoder.encode(&fewer, 2_000).iter().flat_map(|batch| read(batch, version)).collect();
        let stale = |series: &Series| series.1.to_bits() == STALE;
        assert!(!first.iter().any(stale));
        for series in &first {
            assert_eq!(series.0["job"], "leakwatch");
            let own_pid = series.0.contains_key("comm");
            assert!(!own_pid || series.0["pid"] != "hidden", "own labels are not replaced");
            let still = second.iter().filter(|other| other.0 == series.0);
            let [one] = still.collect::<Vec<_>>()[..] else { panic!("{:?} once", series.0) };
            assert_eq!(
                stale(one),
                series.0.get("pid").is_some_and(|pid| pid == "4242")
                    || one.0["__name__"] == "leakwatch_build_info",
                "{one:?}"
            );
        }
        let live = first
            .iter()
            .find(|series| series.0["__name__"] == "leakwatch_tasks_live" && series.0["pid"] == "4242");
        assert!((live.expect("it").1 - 1_038.0).abs() < 0.5);
        assert!(first.iter().any(|series| series.2), "native histograms");
        if version == Version::V2 {
            let again = Encoder::new(encoder.options.clone()).encode(&all, 1_000);
            let again = again
                .into_iter()
                .map(|batch| Batch { body: as_v1(&batch.body).expect("a request"), ..batch });
            let again: Vec<Series> = again.flat_map(|batch| read(&batch, Version::V1)).collect();
            assert!(format!("{again:?}") == format!("{first:?}"), "as one of 1.0 it says the same");
        }
        let ended: Vec<Series> = encoder.end(3_000).iter().flat_map(|batch| read(batch, version)).collect();
        assert!(ended.iter().all(stale) && !ended.is_empty());
        assert!(encoder.end(4_000).is_empty());
        rounds.push(format!("{first:?} {second:?}"));
    }
    assert_eq!(rounds[0], rounds[1]);
}

#[test]
fn large_rounds_are_several_requests() {
    let processes: Vec<_> = (1..=300).map(|pid| samples::process(pid, "x").into()).collect();
    let families = families(&processes, &AgentFigures::default(), &Limits::default());
    let batches = Encoder::new(Options::default()).encode(&families, 1);
    let series: usize = batches.iter().map(|batch| read(batch, Version::V1).len()).sum();
    assert!(batches.len() > 1 && batches.iter().all(|batch| batch.samples <= SERIES as u64));
    assert_eq!(series as u64, batches.iter().map(|batch| batch.samples).sum::<u64>());
}

#[test]
fn counters_tell_since_when_they_count() {
    let started = "2026-10-09T02:00:00Z".parse::<Timestamp>().expect("a time");
    let agent = AgentFigures { started: Some(started), cpu_s: Some(1.0), ..AgentFigures::default() };
    let process = samples::leaking();
    let since = process.watched_since.expect("it is known");
    let families = families(&[process.into()], &agent, &Limits::default());
    let options = Options { version: Version::V2, native_histograms: true, ..Options::default() };
    let created = |time: Timestamp| {
        let [batch] = &Encoder::new(options.clone()).encode(&families, time.as_millisecond())[..] else {
            panic!("one request")
        };
        let body = snap::raw::Decoder::new().decompress_vec(&batch.body).expect("snappy");
        let request = v2::Request::decode(body.as_slice()).expect("a request");
        let mut created = BTreeMap::new();
        for series in &request.timeseries {
            let text = |place: u32| request.symbols[place as usize].as_str();
            let name =
                series.labels_refs.chunks(2).find(|pair| text(pair[0]) == "__name__").expect("its name");
            created.insert(text(name[1]).to_owned(), series.created_timestamp);
        }
        created
    };
    let later = created("2026-10-09T03:00:00Z".parse().expect("a time"));
    for (name, expect) in [
        ("leakwatch_tasks_started_total", since.as_millisecond()),
        ("leakwatch_task_lifetime_seconds_bucket", since.as_millisecond()),
        ("leakwatch_task_lifetime_seconds", since.as_millisecond()),
        ("leakwatch_agent_cpu_seconds_total", started.as_millisecond()),
        ("leakwatch_tasks_live", 0),
        ("leakwatch_build_info", 0),
    ] {
        assert_eq!(later.get(name), Some(&expect), "{name}");
    }
    // A clock that was set back: what begins later than now is not believed.
    let earlier = created("2026-10-09T02:30:00Z".parse().expect("a time"));
    assert_eq!(earlier["leakwatch_tasks_started_total"], 0);
    assert_eq!(earlier["leakwatch_agent_cpu_seconds_total"], started.as_millisecond());
}

#[test]
fn what_is_no_request_is_not_read_as_one() {
    assert_eq!(as_v1(b"nothing"), None);
    let request = |series| v2::Request { symbols: vec![String::new()], timeseries: vec![series] };
    for labels_refs in [vec![0], vec![0, 7], vec![u32::MAX, 0]] {
        let body = request(v2::TimeSeries { labels_refs, ..v2::TimeSeries::default() }).encode_to_vec();
        assert_eq!(as_v1(&compress(&body)), None);
    }
}
