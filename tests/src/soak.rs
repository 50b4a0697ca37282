//! Servers that nobody here wrote, under mixed load, while leakwatch proves: nobody who was proven may ever run again.
//!
//! Each server has a thread that loads it: requests over connections that are kept, dropped in the middle of a request and
//! before the answer, streams that are opened and left, and every few seconds its configuration is changed and loaded anew.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::agent::{Agent, Outcome};
use crate::matrix;
use crate::process::{Guard, eventually};

/// The servers.
pub const SERVERS: [&str; 5] = ["caddy", "nats-server", "prometheus", "etcd", "traefik"];

/// How long a server may take to listen, and an answer to come.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two steps of a load.
const STEP: Duration = Duration::from_millis(50);
/// Steps from one change of the configuration to the next.
const RELOAD: u64 = 100;
/// Idle connections that are held open.
const HELD: usize = 8;

/// What came of one server.
#[derive(Clone, Debug)]
pub struct Soaked {
    /// Which.
    pub name: &'static str,
    /// Steps of its load, of which some are several requests, and changes of its configuration.
    pub steps: u64,
    /// Changes of its configuration.
    pub reloads: u64,
    /// Its part of leakwatch's report: `proof` of the process.
    pub proof: Value,
}

/// Loads all servers for a time, with a proof of each every so often. `more`: further arguments of the watch.
///
/// # Panics
/// When a server or leakwatch does not do what it should.
#[track_caller]
pub fn soak(length: Duration, servers: &[&'static str], more: &[&str]) -> Vec<Soaked> {
    let mut loaded: Vec<Loaded> = servers.iter().map(|name| Loaded::start(name, Pattern::Mixed)).collect();
    let mut arguments = vec!["watch".to_owned(), "--format".to_owned(), "jsonl".to_owned()];
    for server in &loaded {
        arguments.extend(["--pid".to_owned(), server.guard.pid().to_string()]);
    }
    arguments.extend(["--duration".to_owned(), format!("{}s", length.as_secs())]);
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    let outcome = Agent::start(&arguments).wait();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    let steps: Vec<(u64, u64)> = loaded.iter_mut().map(Loaded::finish).collect();
    let last = last_report(&outcome);
    let processes = last["processes"].as_array().expect("processes");
    assert_eq!(processes.len(), loaded.len(), "one for each server");
    loaded
        .iter()
        .zip(processes)
        .zip(steps)
        .map(|((server, process), (steps, reloads))| {
            assert_eq!(process["exited"], false, "{} runs on", server.name);
            Soaked { name: server.name, steps, reloads, proof: process["proof"].clone() }
        })
        .collect()
}

/// Watches servers whose load rises all the time, for so many seconds, into a recording.
///
/// # Panics
/// When a server or leakwatch does not do what it should.
#[track_caller]
pub fn record_rising(servers: &[&'static str], seconds: u64, mode: &str, recording: &Path) {
    let mut loaded: Vec<Loaded> = servers.iter().map(|name| Loaded::start(name, Pattern::Rising)).collect();
    let mut arguments = vec!["record".to_owned()];
    for server in &loaded {
        arguments.extend(["--pid".to_owned(), server.guard.pid().to_string()]);
    }
    let (length, path) = (format!("{seconds}s"), recording.display().to_string());
    let rest = ["--duration", &length, "--mode", mode, "--output", &path];
    arguments.extend(rest.map(str::to_owned));
    let outcome = Agent::start(&arguments).wait();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    for server in &mut loaded {
        server.finish();
    }
}

fn last_report(outcome: &Outcome) -> Value {
    let line = outcome.stdout.lines().next_back().unwrap_or_default();
    serde_json::from_str(line).expect("a report")
}

/// How a server is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    /// As the module says.
    Mixed,
    /// More and more requests and streams, each of which is over after two seconds.
    Rising,
}

/// A server and its load.
struct Loaded {
    name: &'static str,
    guard: Guard,
    /// Dropped: the load ends.
    stop: Option<Sender<()>>,
    load: Option<JoinHandle<(u64, u64)>>,
    folder: PathBuf,
}

impl Loaded {
    #[track_caller]
    fn start(name: &'static str, pattern: Pattern) -> Self {
        let folder = std::env::temp_dir().join(format!("leakwatch-soak-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (port, other) = (free_port(), free_port());
        let server = Server { name, port, other, folder: folder.clone() };
        server.configure(0);
        let executable = matrix::third_party(name).unwrap_or_else(|why| panic!("{why}"));
        let mut command = Command::new(executable);
        command.args(server.arguments()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env(variable, &folder);
        }
        let mut guard = Guard::start_as_is(command.current_dir(&folder));
        let listens = eventually(PATIENCE, || {
            assert!(guard.is_running(), "{name} ends instead of listening");
            connect(port).is_ok()
        });
        assert!(listens, "{name} does not listen on {port}");
        let pid = guard.pid();
        let (stop, stopped) = channel();
        let load = std::thread::spawn(move || match pattern {
            Pattern::Mixed => server.load(pid, &stopped),
            Pattern::Rising => server.rise(&stopped),
        });
        Self { name, guard, stop: Some(stop), load: Some(load), folder }
    }

    /// Ends the load: how many steps it made, and how often the configuration was changed.
    fn finish(&mut self) -> (u64, u64) {
        self.stop = None;
        let load = self.load.take().map(JoinHandle::join);
        assert!(self.guard.is_running(), "{} runs on unharmed", self.name);
        load.and_then(Result::ok).unwrap_or_else(|| panic!("the load of {} broke down", self.name))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.stop = None;
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// What is known of a server to load it.
struct Server {
    name: &'static str,
    port: u16,
    /// Another port: of its administration, of its peers.
    other: u16,
    folder: PathBuf,
}

impl Server {
    fn arguments(&self) -> Vec<String> {
        let Self { port, other, .. } = self;
        let file = |name: &str| self.folder.join(name).display().to_string();
        match self.name {
            "caddy" => vec!["run".to_owned(), "--config".to_owned(), file("caddy.json")],
            "nats-server" => vec!["--config".to_owned(), file("nats.conf")],
            "prometheus" => vec![
                format!("--config.file={}", file("prometheus.yml")),
                format!("--storage.tsdb.path={}", file("data")),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--web.enable-lifecycle".to_owned(),
            ],
            "etcd" => {
                let (client, peer) =
                    (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{other}"));
                let pairs = [
                    ("--data-dir", file("data")),
                    ("--listen-client-urls", client.clone()),
                    ("--advertise-client-urls", client),
                    ("--listen-peer-urls", peer.clone()),
                    ("--initial-advertise-peer-urls", peer.clone()),
                    ("--initial-cluster", format!("default={peer}")),
                ];
                pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
            }
            // It would take a traefik.yml for its own options.
            "traefik" => vec![
                format!("--entrypoints.web.address=127.0.0.1:{port}"),
                format!("--entrypoints.traefik.address=127.0.0.1:{other}"),
                "--api.insecure=true".to_owned(),
                "--ping=true".to_owned(),
                format!("--providers.file.filename={}", file("routes.yml")),
                "--providers.file.watch=true".to_owned(),
                "--global.checknewversion=false".to_owned(),
                "--global.sendanonymoususage=false".to_owned(),
            ],
            other => panic!("{other} is no server of the soak"),
        }
    }

    /// Writes its configuration, the `turn`th one, which differs from that before.
    fn configure(&self, turn: u64) {
        let Self { port, other, .. } = self;
        let (name, text) = match self.name {
            "caddy" => ("caddy.json", self.caddy(turn)),
            "nats-server" => {
                ("nats.conf", format!("listen: 127.0.0.1:{port}\nmax_payload: {}\n", 100_000 + turn))
            }
            "prometheus" => (
                "prometheus.yml",
                format!(
                    "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: own{}\n    static_configs:\n      - \
                     targets: ['127.0.0.1:{port}']\n",
                    turn % 3
                ),
            ),
            "traefik" => (
                "routes.yml",
                format!(
                    "http:\n  routers:\n    r{turn}:\n      rule: PathPrefix(`/`)\n      service: s{turn}\n  services:\n    \
                     s{turn}:\n      loadBalancer:\n        servers:\n          - url: http://127.0.0.1:{other}/\n"
                ),
            ),
            _ => return,
        };
        write(&self.folder.join(name), &text);
    }

    fn caddy(&self, turn: u64) -> String {
        let Self { port, other, .. } = self;
        format!(
            r#"{{"admin":{{"listen":"127.0.0.1:{other}"}},"apps":{{"http":{{"servers":{{"s":{{"listen":["127.0.0.1:{port}"],"routes":[{{"handle":[{{"handler":"static_response","body":"hello {turn}"}}]}}]}}}}}}}}}}"#
        )
    }

    /// Changes its configuration and has it take that; etcd, which has none, compacts its file.
    fn reload(&self, turn: u64, pid: u32) -> std::io::Result<()> {
        self.configure(turn);
        match self.name {
            "caddy" => post(self.other, "/load", &self.caddy(turn)),
            "nats-server" => {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(0));
                nix::sys::signal::kill(pid, Signal::SIGHUP).map_err(std::io::Error::from)
            }
            "prometheus" => post(self.port, "/-/reload", ""),
            "etcd" => post(self.port, "/v3/maintenance/defragment", "{}"),
            // It watches its file.
            _ => Ok(()),
        }
    }

    /// Loads it until told to stop: steps, and changes of the configuration.
    fn load(&self, pid: u32, stopped: &Receiver<()>) -> (u64, u64) {
        let mut held = VecDeque::new();
        let (mut steps, mut reloads) = (0, 0);
        while stopped.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
            steps += 1;
            // A server that loads its configuration may turn a connection away.
            let made = match steps % 8 {
                0 => self.leave_in_the_middle(),
                1 => self.leave_before_the_answer(),
                2 => self.hold(&mut held),
                3 => self.stream(&mut held),
                _ => self.ask(5),
            };
            drop(made);
            if held.len() > HELD {
                held.pop_front();
            }
            if steps % RELOAD == 0 && self.reload(steps / RELOAD, pid).is_ok() {
                reloads += 1;
            }
        }
        (steps, reloads)
    }

    /// Loads it more and more until told to stop: how many steps it made.
    fn rise(&self, stopped: &Receiver<()>) -> (u64, u64) {
        /// Steps after which there is one more in each.
        const RISE: u64 = 200;
        /// Steps for which a stream is kept.
        const KEPT: u64 = 40;
        let mut held: VecDeque<(u64, VecDeque<TcpStream>)> = VecDeque::new();
        let mut steps = 0;
        while stopped.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
            steps += 1;
            let mut streams = VecDeque::new();
            for _ in 0..=steps / RISE {
                drop(self.ask(2));
                drop(self.stream(&mut streams));
            }
            held.push_back((steps, streams));
            while held.front().is_some_and(|(step, _)| step + KEPT < steps) {
                held.pop_front();
            }
        }
        (steps, 0)
    }

    /// What it is asked, whole.
    fn request(&self) -> String {
        let page = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        match self.name {
            "nats-server" => {
                "CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nUNSUB 1\r\nPING\r\n".to_owned()
            }
            "prometheus" => page("/api/v1/query?query=up"),
            "etcd" => posted(self.port, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
            _ => page("/"),
        }
    }

    /// Requests over one connection.
    fn ask(&self, times: usize) -> std::io::Result<()> {
        let mut stream = connect(self.port)?;
        let mut answer = [0; 4096];
        for _ in 0..times {
            stream.write_all(self.request().as_bytes())?;
            if stream.read(&mut answer)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn leave_in_the_middle(&self) -> std::io::Result<()> {
        let request = self.request();
        let (half, _) = request.as_bytes().split_at(request.len() / 2);
        connect(self.port)?.write_all(half)
    }

    fn leave_before_the_answer(&self) -> std::io::Result<()> {
        connect(self.port)?.write_all(self.request().as_bytes())
    }

    /// A connection that does nothing.
    fn hold(&self, held: &mut VecDeque<TcpStream>) -> std::io::Result<()> {
        held.push_back(connect(self.port)?);
        Ok(())
    }

    /// A stream that is opened and, some time later, left: a subscription, a watch, a lease that nobody keeps.
    fn stream(&self, held: &mut VecDeque<TcpStream>) -> std::io::Result<()> {
        let mut stream = connect(self.port)?;
        let begin = match self.name {
            "nats-server" => "CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n".to_owned(),
            "etcd" => posted(self.port, "/v3/watch", r#"{"create_request":{"key":"Zm9v"}}"#),
            _ => self.request(),
        };
        stream.write_all(begin.as_bytes())?;
        held.push_back(stream);
        Ok(())
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file of the soak's own folder");
}

/// A request with a body. (The administration of caddy wants its port in the name of the host.)
fn posted(port: u16, path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends something, and has it answered with success.
fn post(port: u16, path: &str, body: &str) -> std::io::Result<()> {
    let mut stream = connect(port)?;
    stream.write_all(posted(port, path, body).as_bytes())?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer)?;
    let status = String::from_utf8_lossy(answer.get(..read).unwrap_or_default());
    if status.contains(" 200 ") { Ok(()) } else { Err(std::io::Error::other(status.into_owned())) }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("its number").port()
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
