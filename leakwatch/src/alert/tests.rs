//! The actions against servers, commands and folders that are made up. Nothing here looks at how long something took: what
//! counts is what is counted.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::*;
use crate::report::alerting::{ActionReport, AlertReport, AlertState};
use crate::report::dump::Dump as TaskDump;
use crate::report::{Report, Timestamp, samples};
use crate::rules::{Moment, Rule};

/// Long enough on any machine; nobody waits for so long where all goes well.
const LONG: Duration = Duration::from_mins(1);

pub(super) fn means() -> Means {
    let dumper: Dumper = Arc::new(|pid| {
        Ok(TaskDump {
            host: "web-3".to_owned(),
            taken: Timestamp::UNIX_EPOCH,
            process: crate::report::dump::DumpProcess { pid, ..Default::default() },
            runtimes: Vec::new(),
        })
    });
    Means { dumper, clock: || Timestamp::UNIX_EPOCH, host: "web-3".to_owned() }
}

fn alert(id: u64, state: AlertState) -> AlertReport {
    let resolved = (state == AlertState::Resolved).then_some(Timestamp::UNIX_EPOCH);
    let (rule, comm, why) = ("leak".to_owned(), "shop".to_owned(), "verdict is leak".to_owned());
    AlertReport { id, rule, state, pid: 7, comm, why, resolved, ..AlertReport::default() }
}

fn report() -> Arc<Report> {
    Arc::new(samples::report(vec![samples::leaking()]))
}

/// A rule that goes to all actions.
fn rules() -> Vec<Rule> {
    let file = crate::config::rules::chosen(None, &["leak".to_owned()]).expect("a preset");
    file.rules
}

/// Fires once, resolves once, and ends; what the only action did.
fn fire_and_resolve(action: Action) -> ActionReport {
    let mut dispatcher = Dispatcher::start(&rules(), vec![action], &means()).expect("it starts");
    let at = |at_s| Moment { at_s, wall: Timestamp::UNIX_EPOCH };
    dispatcher.take(at(1.0), &[alert(1, AlertState::Firing)], &report());
    dispatcher.take(at(2.0), &[alert(1, AlertState::Resolved)], &report());
    dispatcher.finish(LONG).remove(0)
}

/// Answers each request with this, and keeps what was asked.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = asked.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let request = read_request(&mut stream);
                if request.starts_with("GET /end") {
                    return;
                }
                kept.lock().expect("nobody panicked").push(request);
                // Who asked may have gone.
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { address, asked, thread: Some(thread) }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.write_all(b"GET /end HTTP/1.1\r\n\r\n").expect("it reads");
        self.thread.take().expect("once").join().expect("no panic");
    }
}

/// A request with its body.
fn read_request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let read = stream.read(&mut piece).expect("a request");
        text.extend_from_slice(&piece[..read]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok())
        });
        if read == 0 || body.len() >= length.unwrap_or(0) {
            return so_far;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops";
const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\nConnection: close\r\n\r\nwhy";

pub(super) fn webhook(address: SocketAddr) -> Action {
    let webhook = Webhook {
        url: format!("http://{address}"),
        resend: Duration::from_mins(10),
        bearer_token_file: None,
        generator_url: None,
    };
    Action { attempts: 2, timeout: Duration::from_millis(300), ..Action::of(Kind::Webhook(webhook)) }
}

#[test]
fn a_webhook_is_told_that_it_fires_and_that_it_is_over() {
    let server = Server::answering(OK);
    let token = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&token, "secret\n").expect("written");
    let mut action = webhook(server.address);
    if let Kind::Webhook(webhook) = &mut action.kind {
        webhook.bearer_token_file = Some(token.path().to_owned());
    }
    let mut dispatcher = Dispatcher::start(&rules(), vec![action], &means()).expect("it starts");
    let at = Moment { at_s: 1.0, wall: Timestamp::UNIX_EPOCH };
    dispatcher.take(at, &[alert(1, AlertState::Firing)], &report());
    while server.asked().is_empty() {
        thread::yield_now();
    }
    dispatcher.take(at, &[alert(1, AlertState::Resolved)], &report());
    let did = dispatcher.finish(LONG).remove(0);
    let asked = server.asked();
    assert_eq!((did.done, did.failed, did.waiting, asked.len()), (2, 0, 0, 2), "{did:?}");
    assert!(asked[0].starts_with("POST /api/v2/alerts HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].to_ascii_lowercase().contains("authorization: bearer secret\r\n"), "{}", asked[0]);
    let body = |request: &str| -> serde_json::Value {
        serde_json::from_str(request.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
    };
    let (fires, over) = (body(&asked[0]), body(&asked[1]));
    assert_eq!(fires[0]["labels"], over[0]["labels"]);
    assert_eq!(fires[0]["endsAt"], "1970-01-01T00:30:00.000Z", "three resends later, should we be killed");
    assert_eq!(over[0]["endsAt"], "1970-01-01T00:00:00.000Z");
}

#[test]
fn a_server_that_fails_is_asked_again_and_counted() {
    let server = Server::answering(BROKEN);
    let did = fire_and_resolve(webhook(server.address));
    assert!(did.failed >= 1 && did.done == 0, "{did:?}");
    assert!(did.last_error.expect("an error").contains("500"), "what it said");
}

#[test]
fn a_server_that_refuses_is_not_asked_again() {
    let server = Server::answering(REFUSED);
    let action = Action { attempts: 20, ..webhook(server.address) };
    let mut dispatcher = Dispatcher::start(&rules(), vec![action], &means()).expect("it starts");
    let at = Moment { at_s: 1.0, wall: Timestamp::UNIX_EPOCH };
    dispatcher.take(at, &[alert(1, AlertState::Firing)], &report());
    while dispatcher.figures()[0].given_up == 0 {
        thread::yield_now();
    }
    let did = dispatcher.figures().remove(0);
    assert_eq!((did.failed, did.given_up), (1, 1), "{did:?}");
    assert!(did.last_error.expect("an error").ends_with("why"), "what it said");
    drop(dispatcher.finish(LONG));
}

#[test]
fn dead_and_hanging_servers_cost_a_counter() {
    // A port that nobody listens on, and one whose listener never accepts.
    let dead = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let did = fire_and_resolve(webhook(dead));
    assert!(did.failed >= 1 && did.done == 0 && did.last_error.is_some(), "{did:?}");
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");
    let did = fire_and_resolve(webhook(hanging.local_addr().expect("an address")));
    assert!(did.failed >= 1 && did.done == 0, "{did:?}");
}

#[test]
fn a_command_gets_the_report_and_the_alert() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = format!(
        "cat > {0}/$LEAKWATCH_STATE.json; echo $LEAKWATCH_RULE $LEAKWATCH_PID >> {0}/log",
        dir.path().display()
    );
    let command = Command { command: ["sh", "-c", &script].map(str::to_owned).to_vec() };
    let did = fire_and_resolve(Action::of(Kind::Command(command)));
    assert_eq!((did.done, did.failed, did.waiting), (2, 0, 0), "{did:?}");
    assert_eq!(fs::read_to_string(dir.path().join("log")).expect("a log"), "leak 7\nleak 7\n");
    let report = fs::read_to_string(dir.path().join("firing.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["schema"], "leakwatch.report/1");
    assert!(dir.path().join("resolved.json").exists());
}

#[test]
fn commands_that_fail_hang_or_talk_too_much() {
    let command = |script: &str| {
        let command = Command { command: ["sh", "-c", script].map(str::to_owned).to_vec() };
        let kind = Kind::Command(command);
        Action { attempts: 1, timeout: Duration::from_secs(20), ..Action::of(kind) }
    };
    let did = fire_and_resolve(command("echo no such page >&2; exit 3"));
    assert_eq!((did.done, did.failed, did.given_up), (0, 2, 2), "{did:?}");
    assert_eq!(did.last_error.as_deref(), Some("sh: exit status: 3: no such page"));
    // It does not read its input, and writes more than a pipe holds.
    let did = fire_and_resolve(command("exec <&-; head -c 3000000 /dev/zero"));
    assert_eq!((did.done, did.failed), (2, 0), "{did:?}");
    let hangs = Action { timeout: Duration::from_millis(100), ..command("sleep 1000 & wait") };
    let did = fire_and_resolve(hangs);
    assert_eq!((did.done, did.failed), (0, 2), "{did:?}");
    assert!(did.last_error.expect("an error").contains("was ended"));
    let did = fire_and_resolve(Action {
        attempts: 1,
        ..Action::of(Kind::Command(Command { command: vec!["/no/such/program".to_owned()] }))
    });
    assert!(did.last_error.expect("an error").starts_with("cannot start /no/such/program"));
}

#[test]
fn a_dump_is_text_and_profile() {
    let dir = tempfile::tempdir().expect("a folder");
    let dumps = dir.path().join("dumps");
    let did = fire_and_resolve(Action::of(Kind::Dump(Dump { dir: dumps.clone(), ..Dump::default() })));
    assert_eq!((did.done, did.failed), (1, 0), "not when it is over: {did:?}");
    let mut names: Vec<String> = fs::read_dir(dumps)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["leakwatch-leak-7-0-1.pb.gz", "leakwatch-leak-7-0-1.txt"]);
}

#[test]
fn too_many_at_once_are_counted() {
    let command = Command { command: vec!["true".to_owned()] };
    let action = Action { per_minute: 3, ..Action::of(Kind::Command(command)) };
    let mut dispatcher = Dispatcher::start(&rules(), vec![action], &means()).expect("it starts");
    let changes: Vec<AlertReport> = (0..10).map(|id| alert(id, AlertState::Firing)).collect();
    dispatcher.take(Moment { at_s: 1.0, wall: Timestamp::UNIX_EPOCH }, &changes, &report());
    let did = dispatcher.finish(LONG).remove(0);
    assert_eq!((did.done, did.dropped), (3, 7), "{did:?}");
}

#[test]
fn levels_and_names_route() {
    let command = |name: &str, least| {
        let command = Command { command: vec!["true".to_owned()] };
        Action { name: name.to_owned(), least, ..Action::of(Kind::Command(command)) }
    };
    let mut rules = rules();
    rules[0].actions = Some(vec!["a".to_owned(), "c".to_owned()]);
    let actions = vec![command("a", Level::P2), command("b", Level::P2), command("c", Level::P0)];
    let mut dispatcher = Dispatcher::start(&rules, actions, &means()).expect("it starts");
    let at = Moment { at_s: 1.0, wall: Timestamp::UNIX_EPOCH };
    dispatcher.take(at, &[alert(1, AlertState::Firing)], &report());
    let done: Vec<u64> = dispatcher.finish(LONG).iter().map(|did| did.done).collect();
    assert_eq!(done, [1, 0, 0]);
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_hold_is_a_file_and_an_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("hold");
    let hold = Hold { file: Some(file.clone()), listen: Some("127.0.0.1:0".parse().expect("an address")) };
    let mut dispatcher =
        Dispatcher::start(&rules(), vec![Action::of(Kind::Hold(hold))], &means()).expect("it starts");
    let address = dispatcher.listening().next().expect("it listens").1;
    let at = Moment { at_s: 1.0, wall: Timestamp::UNIX_EPOCH };
    let done = |dispatcher: &Dispatcher, wanted: u64| {
        while dispatcher.figures()[0].done < wanted {
            thread::yield_now();
        }
    };
    assert!(get(address, "/").starts_with("HTTP/1.1 200 OK\r\n") && !file.exists());
    dispatcher.take(at, &[alert(1, AlertState::Firing)], &report());
    done(&dispatcher, 1);
    let held = get(address, "/api/v1/hold");
    assert!(
        held.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && held.contains("\"rule\": \"leak\""),
        "{held}"
    );
    assert!(get(address, "/api/v1/hold?pid=8").starts_with("HTTP/1.1 200"), "another process");
    assert!(get(address, "/?pid=7").starts_with("HTTP/1.1 503"));
    assert!(get(address, "/?pid=x").starts_with("HTTP/1.1 400"));
    assert!(fs::read_to_string(&file).expect("the file").contains("\"held\": true"));
    assert!(dispatcher.holds().answer(None).held && dispatcher.figures()[0].held == Some(true));
    dispatcher.take(at, &[alert(1, AlertState::Resolved)], &report());
    done(&dispatcher, 2);
    assert!(get(address, "/").starts_with("HTTP/1.1 200") && !file.exists());
    // When leakwatch ends it lets go.
    dispatcher.take(at, &[alert(2, AlertState::Firing)], &report());
    done(&dispatcher, 3);
    assert!(file.exists());
    drop(dispatcher.finish(LONG));
    assert!(!file.exists());
}

/// Waits for what another thread does.
fn until(is: impl Fn() -> bool) {
    while !is() {
        thread::yield_now();
    }
}

#[test]
fn others_take_over_from_actions_that_finish_what_they_have() {
    let dir = tempfile::tempdir().expect("a folder");
    let (told, gate, held) = (dir.path().join("told"), dir.path().join("gate"), dir.path().join("held"));
    // It waits for a file, so that something waits for it.
    let script = format!("until test -e {}; do :; done; echo x >> {}", gate.display(), told.display());
    let command = Kind::Command(Command { command: vec!["sh".to_owned(), "-c".to_owned(), script] });
    let hold = |file| Action::of(Kind::Hold(Hold { file, listen: None }));
    let begin = vec![Action::of(command), hold(Some(held.clone())), hold(None)];
    let mut dispatcher = Dispatcher::start(&rules(), begin, &means()).expect("it starts");
    let at = Moment { at_s: 1.0, wall: Timestamp::UNIX_EPOCH };
    let firing = [1, 2, 3].map(|id| alert(id, AlertState::Firing));
    dispatcher.take(at, &firing, &report());
    until(|| held.exists());
    assert!(dispatcher.holds().answer(Some(7)).held);

    // A file that another one still has is refused, and nothing is changed by that.
    let error = dispatcher.prepare(vec![
        Action::of(Kind::Log),
        hold(None),
        Action {
            kind: Kind::Hold(Hold { file: Some(held.clone()), listen: Some(([127, 0, 0, 1], 0).into()) }),
            ..hold(None)
        },
    ]);
    assert!(error.expect_err("it is taken").to_string().contains("another hold has it"));
    assert!(held.exists() && dispatcher.figures().len() == 3);

    // The one without a file goes on for graver alerts, which these are not; a new one has what fires.
    let other = dir.path().join("other");
    let grave = Action { least: Level::P0, ..hold(None) };
    let next = dispatcher.prepare(vec![Action::of(Kind::Log), grave, hold(Some(other.clone()))]);
    dispatcher.replace(next.expect("it can be had"), &rules(), &firing);
    until(|| other.exists() && !held.exists());
    let figures = dispatcher.figures();
    let holding: Vec<_> = figures.iter().map(|did| (did.kind, did.held)).collect();
    assert_eq!(holding, [("log", None), ("hold", Some(false)), ("hold", Some(true))]);
    assert_eq!(figures[0].done + figures[0].waiting, 0, "what fires already is no news for it");

    // Whoever went does what was asked of him, also when all comes to its end.
    fs::write(&gate, "").expect("written");
    drop(dispatcher.finish(LONG));
    assert_eq!(fs::read_to_string(&told).expect("told"), "x\nx\nx\n");
    assert!(!other.exists());
}

#[test]
fn what_cannot_be_had_is_said_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let hold = Hold { file: None, listen: Some(address) };
    let error = Dispatcher::start(&[], vec![Action::of(Kind::Hold(hold))], &means()).expect_err("taken");
    assert!(error.to_string().contains("choose another `listen`"), "{error}");
    let dump = Dump { dir: "/proc/no/such".into(), ..Dump::default() };
    let error = Dispatcher::start(&[], vec![Action::of(Kind::Dump(dump))], &means()).expect_err("no folder");
    assert!(error.to_string().contains("choose another `dir`"), "{error}");
}
