//! The thread and its senders against receivers on loopback that answer as they are told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use prost::Message as _;

use super::*;
use crate::export::metrics::{self, AgentFigures};
use crate::export::remote_write::Version;
use crate::report::samples;

/// No test waits longer for what must come.
const LIMIT: Duration = Duration::from_mins(1);

/// A request as a receiver saw it.
#[derive(Debug)]
struct Seen {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// A receiver that answers the first requests with these lines, and all others with `204`. It ends with the test.
struct Receiver {
    port: u16,
    seen: mpsc::Receiver<Seen>,
}

impl Receiver {
    fn start(answers: Vec<&'static str>) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).expect("a port"), answers)
    }

    fn on(listener: TcpListener, answers: Vec<&'static str>) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let (tell, seen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut answers = answers.into_iter();
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if serve(stream, &mut answers, &tell).is_none() {
                    return;
                }
            }
        });
        Self { port, seen }
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(LIMIT).expect("a request")
    }
}

/// Serves one connection; `None`: nobody listens any more.
fn serve(
    stream: TcpStream,
    answers: &mut impl Iterator<Item = &'static str>,
    tell: &mpsc::Sender<Seen>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return Some(());
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let headers: Vec<(String, String)> = lines
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().expect("a length"))];
        stream.read_exact(&mut body).expect("a body");
        let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
        let answer = answers.next().unwrap_or("204 No Content");
        let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
        tell.send(Seen { path, headers, body }).ok()?;
    }
}

fn now(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

/// Hands over the round of a second in which the process has this many tasks.
fn take<T>(relay: &Relay<T>, second: i64) {
    let mut process = samples::process(7, "server");
    process.tasks.live = u64::try_from(second).expect("a count");
    let report = Arc::new(samples::report(vec![process]));
    let families =
        metrics::families(&report.processes, &AgentFigures::default(), &metrics::Limits::default());
    let round = Round { report, families: families.into(), alerts: Arc::default(), now: now(second) };
    while !relay.take(round.clone()) {
        std::thread::yield_now();
    }
}

/// Live tasks by second in a request of remote write 1.0.
fn live(seen: &Seen) -> Vec<(i64, f64)> {
    assert_eq!(seen.header("content-encoding"), Some("snappy"));
    assert_eq!(seen.header("x-prometheus-remote-write-version"), Some("0.1.0"));
    let body = snap::raw::Decoder::new().decompress_vec(&seen.body).expect("snappy");
    encoding::samples_of(&body, "leakwatch_tasks_live")
        .into_iter()
        .map(|(time, value)| (time / 1_000 - 1_800_000_000, value))
        .collect()
}

fn options(port: u16, queue: &std::path::Path) -> RemoteWrite {
    RemoteWrite {
        url: format!("http://127.0.0.1:{port}/api/v1/write"),
        authorization: Authorization::None,
        queue: queue.to_owned(),
        limits: Limits::default(),
        encoding: encoding::Options { version: Version::V1, ..encoding::Options::default() },
    }
}

fn start(options: &RemoteWrite) -> Relay<remote_write::Terms> {
    let relay = Relay::to_remote_write(options, || now(0)).expect("a relay");
    relay.begin();
    relay
}

#[test]
fn what_a_receiver_does_not_take_now_it_gets_later_once_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(vec![
        "204 No Content",
        "503 Service Unavailable",
        "429 Too Many Requests\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT",
        "401 Unauthorized",
        "204 No Content",
        "400 Bad Request",
    ]);
    let relay = start(&options(receiver.port, folder.path()));
    for second in 1..=5 {
        take(&relay, second);
    }
    let mut seconds = Vec::new();
    while seconds.last() != Some(&5) {
        let seen = receiver.next();
        assert_eq!(seen.path, "/api/v1/write");
        seconds.extend(live(&seen).iter().map(|(second, _)| *second));
    }
    // Three times it was told to come again with the second one; the third was refused for good.
    assert_eq!(seconds, [1, 2, 2, 2, 2, 3, 4, 5]);
    relay.end(LIMIT).join();
    let last = receiver.next();
    let body = snap::raw::Decoder::new().decompress_vec(&last.body).expect("snappy");
    let ended = encoding::samples_of(&body, "leakwatch_tasks_live");
    assert!(ended.iter().all(|(_, value)| value.to_bits() == crate::export::remote_write::STALE));
    assert_eq!(ended.len(), 1);
}

/// The protocol that a request says to be of, and the seconds that it has samples of, if it is of 1.0.
fn spoken(seen: &Seen) -> (String, Vec<i64>) {
    let version = seen.header("x-prometheus-remote-write-version").expect("a version").to_owned();
    let seconds = match version.as_str() {
        "0.1.0" => live(seen).iter().map(|(second, _)| *second).collect(),
        _ => Vec::new(),
    };
    (version, seconds)
}

#[test]
fn who_knows_no_2_0_gets_1_0_until_it_was_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(vec![
        // One of 1.0 that looks at the type, and takes the same as 1.0.
        "415 Unsupported Media Type",
        "204 No Content",
        // Known by now.
        "204 No Content",
        "503 Service Unavailable",
        // One of 1.0 that does not look: it found nothing, and says yes.
        "200 OK",
        "200 OK",
        // Not even as 1.0: it was not that, and nobody takes this one.
        "503 Service Unavailable",
        "400 Bad Request",
        "400 Bad Request",
        "204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: 1000",
    ]);
    let mut options = options(receiver.port, folder.path());
    options.encoding.version = Version::V2;
    let relay = start(&options);
    for second in 1..=5 {
        take(&relay, second);
    }
    let seen: Vec<(String, Vec<i64>)> = (0..10).map(|_| spoken(&receiver.next())).collect();
    let (v1, v2) = (|second| ("0.1.0".to_owned(), vec![second]), ("2.0.0".to_owned(), Vec::new()));
    assert_eq!(
        seen,
        [v2.clone(), v1(1), v1(2), v1(3), v2.clone(), v1(3), v1(4), v2.clone(), v1(4), v2],
        "{seen:?}"
    );
    relay.end(LIMIT).join();
}

#[test]
fn what_is_written_in_part_is_given_up_in_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(vec![
        "204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: 10000",
        "400 Bad Request\r\nX-Prometheus-Remote-Write-Samples-Written: 1\r\n\
         X-Prometheus-Remote-Write-Histograms-Written: 1",
    ]);
    let mut options = options(receiver.port, folder.path());
    options.encoding.version = Version::V2;
    let relay = start(&options);
    take(&relay, 1);
    take(&relay, 2);
    let in_a_round = |seen: Seen| {
        let body = crate::export::remote_write::as_v1(&seen.body).expect("a request of 2.0");
        let body = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
        encoding::samples_in(&body) as u64
    };
    let (_, second) = (receiver.next(), receiver.next());
    let all = in_a_round(second);
    let row = || relay.figures()[0].clone();
    while row().queued_bytes > 0 || row().dropped == 0 {
        std::thread::yield_now();
    }
    assert_eq!((row().sent, row().dropped), (1, all - 2));
    relay.end(LIMIT).join();
}

#[test]
fn an_outage_and_a_restart_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // Bound, and nobody accepts: the port stays ours.
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let relay = start(&options(port, folder.path()));
    for second in 1..=3 {
        take(&relay, second);
    }
    // The receiver is away for all of its patience.
    relay.end(Duration::from_millis(200)).join();
    let relay = start(&options(port, folder.path()));
    assert!(relay.figures()[0].queued_bytes > 0);
    take(&relay, 10);
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let receiver = Receiver::on(listener, Vec::new());
    let mut seconds = Vec::new();
    while seconds.last() != Some(&10) {
        let new = live(&receiver.next());
        // The markers of the first run's end are among them, at the time of its last round.
        seconds.extend(new.iter().filter(|(_, value)| !value.is_nan()).map(|(second, _)| *second));
    }
    assert_eq!(seconds, [1, 2, 3, 10]);
    relay.end(LIMIT).join();
}

#[test]
fn the_protocol_by_http_has_metrics_and_alerts() {
    let receiver = Receiver::start(vec!["200 OK", "502 Bad Gateway"]);
    let options = Otlp {
        endpoint: format!("http://127.0.0.1:{}/", receiver.port),
        protocol: Protocol::Http,
        authorization: Authorization::None,
        memory: 1 << 24,
    };
    let sender = Sender { host: "h".to_owned(), version: "1".to_owned() };
    let relay = Relay::to_otlp(&options, sender, || now(0)).expect("a relay");
    relay.begin();
    let report = Arc::new(samples::report(vec![samples::leaking()]));
    let families =
        metrics::families(&report.processes, &AgentFigures::default(), &metrics::Limits::default());
    let alert = AlertReport { rule: "leak".to_owned(), pid: 4_242, ..AlertReport::default() };
    let (families, alerts) = (families.into(), Arc::from([alert]));
    assert!(relay.take(Round { report, families, alerts, now: now(1) }));
    let first = receiver.next();
    assert_eq!(
        (first.path.as_str(), first.header("content-type")),
        ("/v1/metrics", Some("application/x-protobuf"))
    );
    let request =
        opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest::decode(&*first.body);
    assert_eq!(request.expect("a request").resource_metrics.len(), 2);
    for path in ["/v1/logs", "/v1/logs"] {
        let seen = receiver.next();
        assert_eq!(seen.path, path);
        let request =
            opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest::decode(&*seen.body);
        assert_eq!(request.expect("a request").resource_logs.len(), 1);
    }
    relay.end(LIMIT).join();
}

#[tokio::test]
async fn a_receiver_says_when_it_wants_to_be_asked_again() {
    // A minute after the time that it shows; half a minute after ours; for good, whatever it says besides.
    let receiver = Receiver::start(vec![
        "503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:00 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:50:00 GMT",
        "429 Too Many Requests\r\nRetry-After: Fri, 15 Jan 2027 08:00:30 GMT",
        "400 Bad Request\r\nRetry-After: 9",
    ]);
    let client = answer::client("a test").expect("a client");
    let mut waits = Vec::new();
    for _ in 0..3 {
        let request = client.post(format!("http://127.0.0.1:{}/", receiver.port));
        let reply = answer::ask(request, &Authorization::None).await;
        waits.push(match answer::judge(reply, now(0)) {
            answer::Answer::Later(_, wait) => Some(wait),
            answer::Answer::Taken(_) | answer::Answer::Refused(_) => None,
        });
    }
    let seconds = |count| Some(Some(Duration::from_secs(count)));
    assert_eq!(waits, [seconds(60), seconds(30), None]);
}

#[test]
fn useless_settings_are_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bad = options(1, folder.path());
    bad.url = "ftp://x".to_owned();
    let refused = Relay::to_remote_write(&bad, || now(0)).map(drop);
    assert!(matches!(refused, Err(RelayError::Unusable { what: "export.remote_write.url", .. })));
}

#[test]
fn other_terms_take_over_what_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Receiver::start(vec![
        "204 No Content",
        // It would be asked again after five minutes.
        "503 Service Unavailable\r\nRetry-After: 300",
    ]);
    let written = "204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: 100000";
    let second = Receiver::start(vec![written; 4]);
    let relay = start(&options(first.port, folder.path()));
    for second in 1..=3 {
        take(&relay, second);
    }
    let asked: Vec<i64> = (0..2).flat_map(|_| live(&first.next())).map(|(second, _)| second).collect();
    assert_eq!(asked, [1, 2]);
    let mut other = options(second.port, folder.path());
    other.encoding.version = Version::V2;
    relay.change(remote_write::Terms::of(&other).expect("of use"));
    take(&relay, 4);
    // What was made by the old terms is sent as it is; what is new is of 2.0.
    let seen: Vec<Seen> = (0..3).map(|_| second.next()).collect();
    let waited: Vec<i64> = seen[..2].iter().flat_map(live).map(|(second, _)| second).collect();
    assert_eq!((waited.as_slice(), spoken(&seen[2]).0.as_str()), ([2, 3].as_slice(), "2.0.0"));
    while relay.figures()[0].queued_bytes > 0 {
        std::thread::yield_now();
    }
    let figures = relay.figures()[0].clone();
    assert_eq!((figures.sent, figures.failed, figures.dropped), (4, 1, 0), "the counts go on");
    relay.end(LIMIT).join();
    assert!(first.seen.try_recv().is_err(), "the first one is asked again");
}

#[test]
fn nothing_is_sent_before_it_is_to_be_and_who_is_hurried_frees_the_queue() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(vec!["503 Service Unavailable\r\nRetry-After: 300"]);
    let relay = start(&options(receiver.port, folder.path()));
    take(&relay, 1);
    receiver.next();
    // It would go on for a minute.
    let ending = relay.end(LIMIT);
    assert!(!ending.is_over());
    ending.hurry();
    let nobody = Receiver::start(Vec::new());
    let waiting = Relay::to_remote_write(&options(nobody.port, folder.path()), || now(0)).expect("free");
    assert!(waiting.figures()[0].queued_bytes > 0);
    let ending = waiting.ending;
    drop((waiting.rounds, waiting.terms));
    drop(ending.course);
    ending.thread.expect("one").join().expect("it ends");
    assert!(nobody.seen.try_recv().is_err(), "it was not told to begin");
    let relay = start(&options(nobody.port, folder.path()));
    assert_eq!(live(&nobody.next()).len(), 1);
    relay.end(LIMIT).join();
}
