//! Answers in gzip: a real Prometheus gets them, whoever does not ask for them does not, and both read the same.

use std::io::Read as _;

use flate2::read::GzDecoder;
use leakwatch_tests::host::Answer;
use leakwatch_tests::process::eventually;
use leakwatch_tests::prometheus::{PATIENCE, Prometheus};
use leakwatch_tests::receivers::Wiretap;
use leakwatch_tests::{HostAgent, Target, gate, matrix, need};

use crate::folder::Folder;

/// What gzip has in it.
#[track_caller]
fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).expect("gzip of a text");
    text
}

/// A header of an answer.
fn header(headers: &str, name: &str) -> Option<String> {
    let lines = headers.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
}

fn watching(folder: &Folder) -> String {
    format!(
        "[discover]\ninclude = [{{ exe = \"{}/served\" }}]\n[sampling]\ninterval = \"1s\"\n[promote]\nenabled = false\n",
        folder.path().display()
    )
}

#[test]
fn who_asks_for_gzip_gets_the_same_text_in_it() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("compressed");
    let mut target = Target::start(&folder.copy("served"));
    target.command("spawn chan 41");
    let host = HostAgent::start("compressed", &watching(&folder));
    host.wait_live(target.pid(), target.check().num_goroutine);
    let get = |path: &str, coding: &str| host.get(path, &[("Accept-Encoding", coding)]);
    let coding = |answer: &Answer| header(&answer.headers, "content-encoding");

    for path in ["/metrics", "/api/v1/processes", "/api/v1/report", "/", "/page/uplot.js"] {
        // Of one turn: a new one may be published between two requests.
        let mut told = None;
        let same = eventually(PATIENCE, || {
            let (plain, gzip) = (get(path, "identity"), get(path, "gzip, deflate"));
            assert_eq!((plain.status, coding(&plain)), (200, None), "{path}");
            assert_eq!((gzip.status, coding(&gzip).as_deref()), (200, Some("gzip")), "{path}");
            let length = header(&gzip.headers, "content-length").and_then(|length| length.parse().ok());
            assert_eq!(length, Some(gzip.bytes.len()), "{path}");
            assert!(gzip.bytes.len() * 2 < plain.bytes.len(), "{path}: {} bytes", gzip.bytes.len());
            assert!([&plain, &gzip].iter().all(|answer| answer.headers.contains("vary: accept-encoding")));
            let is = unpacked(&gzip.bytes) == plain.body;
            told = Some(gzip);
            is
        });
        assert!(same, "{path} is never the same: {told:?}");
        // Nobody asks for it, or says that he does not want it.
        assert_eq!(coding(&host.get(path, &[])), None, "{path}");
        assert_eq!(coding(&get(path, "gzip;q=0")), None, "{path}");
    }
    // The answer without its body: the length is that of the body that there would be.
    let head = |coding: &str| {
        host.raw(&format!(
            "HEAD /page/uplot.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: {coding}\r\n\r\n"
        ))
    };
    for (asked, whole) in
        [("gzip", get("/page/uplot.js", "gzip")), ("identity", get("/page/uplot.js", "identity"))]
    {
        let head = head(asked);
        assert_eq!((head.status, head.bytes.len(), coding(&head)), (200, 0, coding(&whole)));
        assert_eq!(header(&head.headers, "content-length"), Some(whole.bytes.len().to_string()));
    }
    // Too small to be worth it, and an error.
    for path in ["/healthz", "/api/v1/report?pid=1"] {
        assert_eq!(coding(&get(path, "gzip")), None, "{path}");
    }
    assert_eq!(get("/metrics", "identity;q=0").status, 406);
    assert_eq!(host.terminate().code(), Some(0));
}

#[test]
fn prometheus_scrapes_it_compressed() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path), gate::third_party("prometheus"));
    let folder = Folder::new("scraped");
    let mut target = Target::start(&folder.copy("served"));
    target.command("spawn chan 41");
    let host = HostAgent::start("scraped", &watching(&folder));
    let live = target.check().num_goroutine;
    host.wait_live(target.pid(), live);
    let tap = Wiretap::start(host.address());
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: leakwatch\n  static_configs:\n  - targets: [\"{}\"]\n",
        tap.address()
    );
    let prometheus = Prometheus::start("scraped", &config, &[], &[]);
    let query = format!("leakwatch_tasks_live{{pid=\"{}\"}} == {live}", target.pid());
    assert!(eventually(PATIENCE, || !prometheus.query(&query).is_empty()), "nothing is scraped");

    let asked = String::from_utf8_lossy(&tap.asked()).into_owned();
    assert_eq!(header(&asked, "accept-encoding").as_deref(), Some("gzip"));
    let answered = tap.answered();
    let end = answered.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let (head, rest) = answered.split_at(end);
    let head = String::from_utf8_lossy(head).into_owned();
    let length: usize =
        header(&head, "content-length").and_then(|length| length.parse().ok()).expect("it is said");
    assert_eq!(header(&head, "content-encoding").as_deref(), Some("gzip"), "{head}");
    let scraped = unpacked(&rest[..length]);
    assert!(scraped.contains("leakwatch_build_info{"), "{scraped}");
    // By its own measure Prometheus read all of it.
    let said = prometheus.query("scrape_samples_scraped{job=\"leakwatch\"}");
    assert!(said.iter().all(|(_, samples)| *samples > 50.0) && !said.is_empty(), "{said:?}");
    assert!(length * 3 < scraped.len(), "{length} of {} bytes", scraped.len());
    assert_eq!(host.terminate().code(), Some(0));
}
