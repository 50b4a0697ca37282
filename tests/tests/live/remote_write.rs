//! Remote write 2.0 into real Prometheuses: one that knows it, of which every figure is asked, and one that knows 1.0 alone.

use std::path::Path;

use leakwatch_tests::process::eventually;
use leakwatch_tests::prometheus::{PATIENCE, Prometheus, post};
use leakwatch_tests::{HostAgent, Server, Target, gate, matrix, need};
use prost::Message as _;
use serde_json::Value;

use crate::folder::Folder;
use crate::metrics::samples;
use crate::outage::{Label, Sample, TimeSeries, WriteRequest};

/// What the agent is called.
const HOST: &str = "node-7";

fn agent(folder: &Folder, program: &Path, prometheus: &Prometheus) -> HostAgent {
    let config = format!(
        "[discover]\ninclude = [{{ exe = \"{}\" }}]\n[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n\
         [promote]\ngrowth_per_min = 30\nhold = \"1h\"\nlongest = \"1h\"\n[budget]\nprocess_percent = 100\nhost_percent = 100\n\
         [export]\ninterval = \"1s\"\n[export.remote_write]\nurl = \"http://127.0.0.1:{}/api/v1/write\"\n\
         protocol = \"2.0\"\nnative_histograms = true\nqueue_dir = \"{}\"\n",
        program.display(),
        prometheus.port(),
        folder.path().join("queue").display()
    );
    HostAgent::start_with("remote-write", &config, |config| {
        let mut command = leakwatch_tests::agent::command(["agent", "--host-name", HOST, "--config"]);
        command.arg(config);
        command
    })
}

/// The one value of an expression.
fn value(prometheus: &Prometheus, expression: &str) -> Option<f64> {
    match &prometheus.query(expression)[..] {
        [(_, value)] => Some(*value),
        _ => None,
    }
}

fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("a count"))
}

/// A figure of the agent about what it sends.
fn figure(host: &Server, name: &str) -> f64 {
    let metrics = host.get("/metrics", &[]).body;
    let wanted = format!("leakwatch_export_{name}{{to=\"remote_write\"}}");
    samples(&metrics).into_iter().find(|(name, _)| *name == wanted).expect("it is told").1
}

#[test]
fn a_receiver_of_2_0_has_all_figures_and_since_when_they_count() {
    let truth = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&truth), gate::third_party("prometheus-3"));
    let folder = Folder::new("write-2");
    let program = folder.copy("served");
    let mut target = Target::start(&program);
    target.command("spawn chan 20");
    let features = "--enable-feature=native-histograms,created-timestamp-zero-ingestion";
    let more = ["--web.enable-remote-write-receiver", features];
    let prometheus = Prometheus::start_version("prometheus-3", "write-2", "{}", &[], &more);

    // Of one series it has a sample that is later than all that the agent will send: these are refused, and they alone. Ten minutes
    // ahead is the most that it takes.
    let series = [("__name__", "leakwatch_agent_open_fds"), ("instance", HOST), ("job", "leakwatch")];
    let labels = series.map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() });
    #[expect(clippy::cast_possible_truncation, reason = "a time in milliseconds")]
    let later = (value(&prometheus, "time()").expect("its clock") * 1e3) as i64 + 8 * 60_000;
    let request = WriteRequest {
        timeseries: vec![TimeSeries {
            labels: labels.into(),
            samples: vec![Sample { value: 1.0, timestamp: later }],
        }],
    };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("snappy");
    let headers = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ];
    assert_eq!(post(prometheus.port(), "/api/v1/write", &headers, &body), Some(204));

    let host = agent(&folder, &program, &prometheus);
    let pid = target.pid();
    host.wait_until("probes", |host| {
        target.command("spawn chan 5");
        host.process(pid).is_some_and(|process| process["tier"] == "probes")
    });
    target.command("storm 2000");
    let truth = target.check();
    let of = format!("{{pid=\"{pid}\",job=\"leakwatch\",instance=\"{HOST}\"}}");
    let live = format!("leakwatch_tasks_live{of}");
    let came = eventually(PATIENCE, || value(&prometheus, &live) == Some(count(truth.num_goroutine)));
    assert!(came, "{:?}, not {}", prometheus.query(&live), truth.num_goroutine);
    // Each number of the process is what /metrics has of it at rest, and the native histogram what the classic one has.
    let metrics = host.get("/metrics", &[]).body;
    let mut compared = 0;
    for (name, here) in samples(&metrics) {
        let rest = ["resident_memory", "oldest_task", "stack_bytes", "leak_rate", "verdict"];
        if !name.contains(&format!("pid=\"{pid}\"")) || rest.iter().any(|name_of| name.contains(name_of)) {
            continue;
        }
        let there = eventually(PATIENCE, || {
            value(&prometheus, name).is_some_and(|there| (there - here).abs() < 1e-9)
        });
        assert!(there, "{name}: {here}, and {:?}", prometheus.query(name));
        compared += 1;
    }
    assert!(compared >= 30, "only {compared} series");
    let ended = value(&prometheus, &format!("histogram_count(leakwatch_task_lifetime_seconds{of})"));
    assert_eq!(ended, value(&prometheus, &format!("leakwatch_task_lifetime_seconds_count{of}")));
    assert!(ended.is_some_and(|ended| ended >= 2_000.0), "{ended:?}");

    // A 0 when the watching began.
    let report = host.report(pid).expect("watched");
    let since: jiff::Timestamp = match &report.process(pid).json()["watched_since"] {
        Value::String(since) => since.parse().expect("a time"),
        other => panic!("{other}"),
    };
    let started = prometheus.samples(&format!("leakwatch_tasks_started_total{of}"), "1h");
    let first = started[0].1.first().copied().expect("samples");
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds as they were sent")]
    let first = ((first.0 * 1e3).round() as i64, first.1);
    assert_eq!(first, (since.as_millisecond(), 0.0));

    // Of each round one sample was refused, and it is counted; what is not refused is not given up.
    let (dropped, sent) = (figure(&host, "samples_dropped_total"), figure(&host, "requests_sent_total"));
    assert!(dropped >= 2.0 && sent < 0.5, "{dropped} and {sent}");
    let rounds =
        value(&prometheus, "count_over_time(leakwatch_processes{job=\"leakwatch\"}[1h])").expect("rounds");
    assert!((dropped - rounds).abs() <= 2.0, "{dropped} samples given up in {rounds} rounds");
    assert_eq!(host.terminate().code(), Some(0));
}

#[test]
fn a_receiver_that_knows_1_0_alone_gets_that() {
    let truth = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&truth), gate::third_party("prometheus"));
    let folder = Folder::new("write-1");
    let program = folder.copy("served");
    let mut target = Target::start(&program);
    target.command("spawn chan 20");
    let prometheus = Prometheus::start("write-1", "{}", &[], &["--web.enable-remote-write-receiver"]);
    let host = agent(&folder, &program, &prometheus);
    let truth = target.check();
    let live = format!("leakwatch_tasks_live{{pid=\"{}\"}}", target.pid());
    let came = eventually(PATIENCE, || value(&prometheus, &live) == Some(count(truth.num_goroutine)));
    assert!(came, "{:?}, not {}", prometheus.query(&live), truth.num_goroutine);
    host.wait_until("what was sent", |host| figure(host, "requests_sent_total") > 0.5);
    assert!(figure(&host, "samples_dropped_total") < 0.5);
    assert_eq!(host.terminate().code(), Some(0));
}
