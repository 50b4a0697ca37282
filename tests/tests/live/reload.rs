//! What an agent takes from its configuration when it reads that again: other actions, names that are not told any more, who may ask.

use leakwatch_tests::process::eventually;
use leakwatch_tests::prometheus::PATIENCE;
use leakwatch_tests::receivers::Sink;
use leakwatch_tests::{HostAgent, Target, gate, matrix, need};
use serde_json::Value;

use crate::folder::Folder;
use crate::outage::{self, WriteRequest};

const TOKENS: [&str; 2] = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"];

/// What is said when a configuration is in force.
const TAKEN: &str = "the configuration was read again";

/// Watches one program, and alerts on each of its sites with more than one task.
fn watching(folder: &Folder, http: &str) -> String {
    format!(
        "[http]\nbearer_token_file = \"{0}/token\"\n{http}[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n\
         [promote]\nenabled = false\n[discover]\ninclude = [{{ exe = \"{0}/served\" }}]\n\
         [[rule]]\nname = \"each\"\nper = \"site\"\nwhen = \"live > 1\"\n",
        folder.path().display()
    )
}

fn webhook(sink: &Sink) -> String {
    format!("[[action]]\nkind = \"webhook\"\nurl = \"http://{}\"\nresend = \"1s\"\n", sink.address())
}

/// What fires: the function of its site, and since when.
fn firing(host: &HostAgent) -> Vec<(String, Value)> {
    let alerts: Value = serde_json::from_str(&host.get("/api/v1/alerts", &[]).body).expect("JSON");
    let firing = alerts["alerts"].as_array().into_iter().flatten().filter(|alert| alert["state"] == "firing");
    let of = |alert: &Value| {
        let function = alert["site"]["function"].as_str().unwrap_or_default().to_owned();
        (function, alert["fired"].clone())
    };
    firing.map(of).collect()
}

/// Annotations of the alerts that Alertmanager was told of, of functions with this in their names.
fn told(sink: &Sink, function: &str) -> Vec<String> {
    let posted = sink.posted("/api/v2/alerts").into_iter().flat_map(|posted| {
        let alerts: Value = serde_json::from_slice(&posted.body).expect("JSON");
        alerts.as_array().cloned().unwrap_or_default()
    });
    let of_it =
        |alert: &Value| alert["labels"]["function"].as_str().is_some_and(|name| name.contains(function));
    posted.filter(of_it).map(|alert| alert["annotations"].to_string()).collect()
}

/// Everything that is answered to who may ask, in one text.
fn answers(host: &HostAgent) -> String {
    let paths = ["/metrics", "/api/v1/report", "/api/v1/processes", "/api/v1/alerts", "/api/v1/hold"];
    paths.iter().map(|path| host.get(path, &[]).body).collect()
}

fn dump(host: &HostAgent, pid: u32, token: &str) -> u16 {
    let answer = host.raw(&format!(
        "POST /api/v1/dump?pid={pid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    answer.status
}

#[test]
fn other_actions_take_over_what_fires() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("reload-actions");
    let mut target = Target::start(&folder.copy("served"));
    let function = target.command("spawn chan 20")["function"].as_str().expect("a name").to_owned();
    folder.secret("token", TOKENS[0]);
    let (first, second) = (Sink::start(), Sink::start());
    let rules = watching(&folder, "");
    let hold = "[[action]]\nkind = \"hold\"\n";
    let mut host = HostAgent::start("reload-actions", &format!("{rules}{}{hold}", webhook(&first)));
    assert!(eventually(PATIENCE, || !told(&first, &function).is_empty()), "nobody is told");
    let (fired, held) = (firing(&host), folder.path().join("held"));
    assert_eq!((fired.len(), host.get("/api/v1/hold", &[]).status), (1, 503), "{fired:?}");

    // Somebody else is told of what fires, a file holds, too, and nothing of it is new.
    let file = format!("[[action]]\nkind = \"hold\"\nname = \"file\"\nfile = \"{}\"\n", held.display());
    host.reload(&format!("{rules}{}{hold}{file}", webhook(&second)));
    host.wait_said(TAKEN);
    assert_eq!((firing(&host), host.get("/api/v1/hold", &[]).status), (fired.clone(), 503));
    assert!(eventually(PATIENCE, || held.exists() && !told(&second, &function).is_empty()), "it is not told");
    // For the first one nothing is over, and it gets no more than what was on its way.
    assert!(told(&first, &function).iter().all(|said| !said.contains("taken away")));
    let then = told(&second, &function).len();
    let before = told(&first, &function).len();
    assert!(eventually(PATIENCE, || told(&second, &function).len() >= then + 3), "it is not told again");
    assert_eq!(told(&first, &function).len(), before);

    // Without the holds nobody is held; the alert goes on.
    host.reload(&format!("{rules}{}", webhook(&second)));
    host.wait_said(TAKEN);
    assert_eq!((firing(&host), host.get("/api/v1/hold", &[]).status), (fired, 200));
    assert!(eventually(PATIENCE, || !held.exists()), "the file stays");
    target.command("finish chan 20");
    assert!(eventually(PATIENCE, || firing(&host).is_empty()), "it does not end");
    assert_eq!(host.terminate().code(), Some(0));
}

#[test]
fn what_is_redacted_from_now_on_is_in_no_answer() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("reload-redact");
    let mut target = Target::start(&folder.copy("served"));
    let function = target.command("spawn chan 20")["function"].as_str().expect("a name").to_owned();
    target.command("spawn method 9");
    folder.secret("token", TOKENS[0]);
    let sink = Sink::start();
    let open = format!("{}{}", watching(&folder, ""), webhook(&sink));
    let mut host = HostAgent::start("reload-redact", &open);
    host.wait_live(target.pid(), target.check().num_goroutine);
    assert!(eventually(PATIENCE, || !told(&sink, &function).is_empty()), "nobody is told");
    let parts = [function.as_str(), "main.(*server)", ".go:", ".go\""];
    let before = answers(&host);
    for part in parts {
        assert!(before.contains(part), "{part} is not told even before: {before}");
    }
    assert_eq!(dump(&host, target.pid(), TOKENS[0]), 200);

    let stacks = |host: &HostAgent| {
        let report = host.report(target.pid()).expect("watched");
        let waiting = report.process(target.pid()).sites().to_vec().into_iter().flat_map(|site| {
            let waiting = site["waiting"].as_array().cloned().unwrap_or_default();
            waiting.into_iter().chain([serde_json::json!({ "stack": site["creation_stack"] })])
        });
        waiting.filter(|group| group["stack"].as_array().is_some_and(|stack| !stack.is_empty())).count()
    };
    assert!(stacks(&host) > 0);
    let counts = |host: &HostAgent| {
        let functions = host.report(target.pid()).expect("watched").process(target.pid()).by_function();
        let mut live: Vec<u64> = functions.values().map(|counts| counts.live).collect();
        live.sort_unstable();
        live
    };
    // The main goroutine is left out by its name, which is not known then.
    let known = [vec![1], counts(&host)].concat();
    let hidden = format!("{open}[redact]\nsymbols = true\nstacks = true\n");
    host.reload(&hidden);
    host.wait_said(TAKEN);
    // From now on, not from the next look on.
    let after = answers(&host);
    for part in parts {
        assert!(!after.contains(part), "{part} is told: {after}");
    }
    assert!(after.contains("hidden-"), "{after}");
    assert_eq!(stacks(&host), 0);
    assert_eq!((counts(&host), dump(&host, target.pid(), TOKENS[0])), (known, 404));
    // The alert ends by the name that it was told by, and goes on by the other one.
    let ended = || told(&sink, &function).iter().any(|said| said.contains("another way"));
    assert!(eventually(PATIENCE, || ended() && !told(&sink, "hidden-").is_empty()), "{:?}", told(&sink, ""));
    assert!(firing(&host).iter().all(|(function, _)| function.starts_with("hidden-")));

    // And back, with another token, asked for more strictly.
    folder.secret("token", TOKENS[1]);
    host.reload(&format!("{}{}", watching(&folder, "metrics = \"auth\"\n"), webhook(&sink)));
    host.wait_said(TAKEN);
    assert!(answers(&host).contains(&function));
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        (host.get("/metrics", &[("Authorization", &bearer)]).status, dump(&host, target.pid(), token))
    };
    assert_eq!((status(TOKENS[0]), status(TOKENS[1])), ((401, 401), (200, 200)));
    assert_eq!(host.terminate().code(), Some(0));
}

const WRITE: &str = "/api/v1/write";

/// What a receiver of remote write has, as it came.
fn written_to(sink: &Sink) -> Vec<WriteRequest> {
    sink.posted(WRITE).iter().map(|posted| WriteRequest::of(&posted.body)).collect()
}

/// A figure of what is sent; `None`: there is none.
fn figure(host: &HostAgent, name: &str, to: &str) -> Option<f64> {
    let start = format!("leakwatch_export_{name}{{to=\"{to}\"}} ");
    host.get("/metrics", &[]).body.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

#[test]
fn exports_are_changed_taken_away_and_added_and_nothing_is_lost_or_sent_twice() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("reload-export");
    let mut target = Target::start(&folder.copy("served"));
    target.command("spawn chan 20");
    folder.secret("token", TOKENS[0]);
    let (first, second, collector) = (Sink::start(), Sink::start(), Sink::start());
    let queue = folder.path().join("queue");
    let otlp = format!("[export.otlp]\nendpoint = \"http://{}\"\n", collector.address());
    let remote_write = |sink: &Sink| {
        format!(
            "[export.remote_write]\nurl = \"http://{}{WRITE}\"\nqueue_dir = \"{}\"\n",
            sink.address(),
            queue.display()
        )
    };
    let rest = format!("{}[export]\ninterval = \"1s\"\n{otlp}", watching(&folder, ""));
    let mut host = HostAgent::start("reload-export", &format!("{rest}{}", remote_write(&first)));
    let has =
        |sink: &Sink, path: &str, count: usize| eventually(PATIENCE, || sink.posted(path).len() >= count);
    assert!(has(&first, WRITE, 3) && has(&collector, "/v1/metrics", 3), "nothing is sent");

    // Another one gets what was not sent yet, and what comes.
    host.reload(&format!("{rest}{}", remote_write(&second)));
    host.wait_said(TAKEN);
    let sent = figure(&host, "requests_sent_total", "remote_write").expect("it goes on");
    assert!(sent >= 3.0, "counted anew: {sent}");
    assert!(has(&second, WRITE, 3), "the second one gets nothing");
    let to_first = first.posted(WRITE).len();

    // All that was ever measured, as the queue has it, is at one of the two, once.
    let known = outage::requests(&queue);
    let all = || [written_to(&first), written_to(&second)].concat();
    assert!(eventually(PATIENCE, || all().len() >= known.len()), "{} requests in the queue", known.len());
    assert_eq!(outage::samples_of(&all()[..known.len()]), outage::samples_of(&known));
    assert_eq!(first.posted(WRITE).len(), to_first, "the first one is sent to again");

    // Taken away: its series end, and it has no figures. What it left in the queue is there.
    host.reload(&rest);
    host.wait_said(TAKEN);
    assert_eq!(figure(&host, "requests_sent_total", "remote_write"), None);
    assert!(
        eventually(PATIENCE, || written_to(&second).last().is_some_and(WriteRequest::is_an_end)),
        "no series ends"
    );
    let to_second = second.posted(WRITE).len();
    let told = collector.posted("/v1/metrics").len();
    assert!(has(&collector, "/v1/metrics", told + 3), "the other receiver gets nothing more");
    assert_eq!(second.posted(WRITE).len(), to_second);

    // And added again, by the same queue.
    host.reload(&format!("{rest}{}", remote_write(&second)));
    host.wait_said(TAKEN);
    assert!(has(&second, WRITE, to_second + 2), "it is not sent to again");
    // Who was not touched has been sent to by one connection all the while.
    let from: std::collections::BTreeSet<u16> =
        collector.posted("/v1/metrics").iter().map(|posted| posted.from).collect();
    assert_eq!(from.len(), 1, "{from:?}");
    let dropped = ["remote_write", "otlp"].map(|to| figure(&host, "samples_dropped_total", to));
    assert_eq!(dropped, [Some(0.0), Some(0.0)]);
    assert_eq!(host.terminate().code(), Some(0));
}
