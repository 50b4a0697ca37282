//! The wall clock of the machine is stepped under the running agent: what `docs/agent.md` says of it.

use std::collections::BTreeMap;

use leakwatch_tests::receivers::Collector;
use leakwatch_tests::{Machine, Server, Target};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use serde_json::Value;

/// Lets in whom it is for.
pub(super) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// One rule that fires at once, and one that never does in this test.
const RULES: &str = "[[rule]]\nname = \"some\"\nwhen = \"tasks.live > 1\"\n\
                     [[rule]]\nname = \"patient\"\nwhen = \"tasks.live > 1\"\nfor = \"30m\"\n";

/// How far what is told may be from the clock, s: a step of less is not followed.
const APART: f64 = 3.0;

/// What the agent needs for this, besides what it has.
pub(super) fn config(collector: &Collector) -> String {
    // The machine's gateway is this machine's loopback.
    format!(
        "{RULES}[http]\nbearer_token_file = \"/opt/test/token\"\n[export]\ninterval = \"1s\"\n\
         [export.otlp]\nendpoint = \"http://10.0.2.2:{}\"\nprotocol = \"grpc\"\nbearer_token_file = \"/opt/test/token\"\n",
        collector.address().port()
    )
}

/// Seconds since 1970, by the machine's clock.
#[track_caller]
fn now(machine: &Machine) -> f64 {
    machine.have("date +%s.%N").parse().expect("a number")
}

/// Steps the machine's clock, and waits until the agent tells the new time of its own start.
#[track_caller]
fn step(machine: &Machine, seconds: i32) {
    let host = machine.agent();
    let before = started(host);
    machine.have(&format!("date --set '{seconds} seconds'"));
    host.wait_until("the new time", |host| (started(host) - before - f64::from(seconds)).abs() < APART);
}

/// When the agent was started, as it says.
fn started(host: &Server) -> f64 {
    let metrics = host.get("/metrics", &[]).body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("leakwatch_agent_start_time_seconds "));
    line.and_then(|number| number.parse().ok()).expect("a number")
}

/// What stands of each rule.
#[track_caller]
fn states(host: &Server) -> BTreeMap<String, String> {
    let alerts: Value = serde_json::from_str(&host.get("/api/v1/alerts", &[]).body).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let alerts = alerts["alerts"].as_array().expect("a list").iter();
    alerts.map(|alert| (text(&alert["rule"]), text(&alert["state"]))).collect()
}

/// An hour ahead, an hour back, five minutes back.
#[track_caller]
pub(super) fn stepped(machine: &Machine, target: &mut Target, collector: &Collector) {
    let (host, pid) = (machine.agent(), target.ready().pid);
    host.counts_exactly(pid, target, 100);
    let standing = |host: &Server| {
        states(host)
            == [("patient", "pending"), ("some", "firing")]
                .map(|(rule, state)| (rule.to_owned(), state.to_owned()))
                .into()
    };
    host.wait_until("the alerts", standing);
    let tasks = || host.report(pid).expect("watched").process(pid).tasks();
    for seconds in [3600, -3600, -300] {
        let (known, truth) = (tasks(), target.check());
        let sent = collector.metrics().len();
        step(machine, seconds);
        // Its figures go on, and so do its probes.
        target.command("storm 500");
        let starts = target.check().started - truth.started;
        host.wait_until("every start", |_| tasks().started - known.started == starts);
        let process = host.process(pid).expect("watched");
        assert_eq!(process["tier"], "probes", "{process:#}");
        assert!(standing(host), "{:?}", states(host));
        assert_plausible(host, pid);
        assert_is_dumped(host, pid);
        assert_times_of_new(machine, host);
        host.wait_until("rounds", |_| collector.metrics().len() > sent + 3);
    }
    assert_times_sent(collector);
    let logs = collector.logs();
    let records = logs.iter().flat_map(|log| &log.resource_logs).flat_map(|log| &log.scope_logs);
    assert_eq!(records.flat_map(|scope| &scope.log_records).count(), 1, "one alert fires, once: {logs:#?}");
}

/// Nothing in the report of a process is as long as a step, and nothing lies in the future.
#[track_caller]
fn assert_plausible(host: &Server, pid: u32) {
    let report = host.report(pid).expect("watched");
    let process = report.process(pid);
    let rate = process.json()["tasks"]["start_rate_per_s"].as_f64().expect("a number");
    assert!((0.0..1e6).contains(&rate), "{rate} starts a second");
    for site in process.sites() {
        let oldest = site["age_s"]["max"].as_f64().unwrap_or(0.0);
        assert!((0.0..300.0).contains(&oldest), "{site:#}");
    }
}

/// A process that was there before is the one that is dumped.
#[track_caller]
fn assert_is_dumped(host: &Server, pid: u32) {
    let dump = host.raw(&format!(
        "POST /api/v1/dump?pid={pid}&format=summary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: 0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    ));
    assert_eq!(dump.status, 200, "{}", dump.body);
}

/// A process that was started after the step was started now.
#[track_caller]
fn assert_times_of_new(machine: &Machine, host: &Server) {
    let begun = now(machine);
    machine.have("systemd-run --quiet --unit late sh -c 'sleep infinity | /opt/test/target'");
    let mut late = 0;
    machine.wait_until("test $(pidof target | wc --words) = 2");
    for pid in machine.have("pidof target").split(' ') {
        late = late.max(pid.parse().expect("a pid"));
    }
    host.wait_until("the new one", |host| host.process(late).is_some());
    let report = host.report(late).expect("watched");
    let told = report.process(late).json()["start_time"].as_str().expect("a time").to_owned();
    let told: f64 = machine.have(&format!("date --date {told} +%s.%N")).parse().expect("a number");
    machine.have("systemctl stop late");
    assert!((-APART..30.0).contains(&(told - begun)), "{told}, and it was {begun}");
}

/// The times of what was sent go on, but where the clock was stepped by an hour; and nothing ends before it began.
#[track_caller]
fn assert_times_sent(collector: &Collector) {
    let mut times = Vec::new();
    for request in collector.metrics() {
        let metrics = request.resource_metrics.into_iter().flat_map(|one| one.scope_metrics);
        for metric in metrics.flat_map(|scope| scope.metrics) {
            let points = match metric.data {
                Some(Data::Gauge(gauge)) => gauge.data_points,
                Some(Data::Sum(sum)) => sum.data_points,
                _ => continue,
            };
            for point in points {
                assert!(point.start_time_unix_nano < point.time_unix_nano, "{}: {point:?}", metric.name);
                times.push(point.time_unix_nano);
            }
        }
    }
    times.dedup();
    let hour = 3_600_000_000_000;
    let hours = |pair: &[u64]| (pair[1].cast_signed() - pair[0].cast_signed() + hour / 2).div_euclid(hour);
    let steps: Vec<i64> = times.windows(2).map(hours).filter(|step| *step != 0).collect();
    assert_eq!(steps, [1, -1], "{times:?}");
    let back = times.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert_eq!(back, 1, "five minutes back are waited for: {times:?}");
}
