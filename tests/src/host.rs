//! Runs `leakwatch agent` with a configuration, and asks its server.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::agent::{self, Agent, Outcome};
use crate::process::eventually;
use crate::report::Report;
use crate::target::Target;

/// How long something may take to show: a debug build on a busy machine has to read programs first.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// What the line says that has the server's address.
const ANSWERS_ON: &str = "the agent answers on http://";

/// A host agent in the background; killed and reaped when dropped, its configuration removed.
#[derive(Debug)]
pub struct HostAgent {
    agent: Agent,
    server: Server,
    config: ConfigFile,
}

/// The server of a host agent, whoever runs that.
#[derive(Debug)]
pub struct Server {
    address: String,
}

/// Its configuration; removed when dropped.
#[derive(Debug)]
struct ConfigFile(PathBuf);

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // Where it is gone already there is nothing to remove.
        drop(std::fs::remove_file(&self.0));
    }
}

/// An answer of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers as they came.
    pub headers: String,
    /// The body as a text.
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl HostAgent {
    /// Starts an agent on a free port, with this in its configuration besides, and waits until it has looked at all
    /// processes. `name` tells configurations of several agents apart.
    #[track_caller]
    pub fn start(name: &str, config: &str) -> Self {
        Self::start_with(name, config, |path| {
            agent::command([OsStr::new("agent"), OsStr::new("--config"), path.as_os_str()])
        })
    }

    /// The same by a command of the caller's, which is told where the configuration is and becomes the agent.
    #[track_caller]
    pub fn start_with(name: &str, config: &str, command: impl FnOnce(&Path) -> Command) -> Self {
        let path = std::env::temp_dir().join(format!("leakwatch-{}-{name}.toml", std::process::id()));
        let file = ConfigFile(path);
        write(&file.0, config);
        let mut agent = Agent::start_command(&mut command(&file.0));
        let line = agent.wait_said(ANSWERS_ON);
        let address = line.split("http://").nth(1).unwrap_or_default().trim_end_matches('/').to_owned();
        let host = Self { agent, server: Server::at(address), config: file };
        let ready = eventually(PATIENCE, || host.get("/readyz", &[]).status == 200);
        assert!(ready, "the agent is not ready: {}", host.get("/readyz", &[]).body);
        host
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.agent.pid()
    }

    /// Waits for a line on standard error that has this in it, and returns it.
    #[track_caller]
    pub fn wait_said(&mut self, part: &str) -> String {
        self.agent.wait_said(part)
    }

    /// Writes another configuration and has it read.
    #[track_caller]
    pub fn reload(&self, config: &str) {
        write(&self.config.0, config);
        self.agent.signal(Signal::SIGHUP);
    }

    /// Ends it as a service manager does.
    #[track_caller]
    pub fn terminate(self) -> Outcome {
        self.agent.signal(Signal::SIGTERM);
        self.agent.wait()
    }
}

impl Deref for HostAgent {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Server {
    /// The server at this address and port.
    pub fn at(address: String) -> Self {
        Self { address }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks for something, with these headers besides.
    #[track_caller]
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let more: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = &self.address;
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{}\r\n",
            more.concat()
        ))
    }

    /// Sends bytes and reads what comes until the connection is closed.
    #[track_caller]
    pub fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("the server takes connections");
        stream.set_read_timeout(Some(ANSWER)).expect("set");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer that ends");
        let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(bytes.len());
        let headers = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let bytes = bytes.get(end + 4..).unwrap_or_default().to_vec();
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, headers, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }

    /// What it says of itself and its processes.
    #[track_caller]
    pub fn about(&self) -> Value {
        let answer = self.get("/api/v1/processes", &[]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// A process as the list has it; `None`: it is not watched.
    #[track_caller]
    pub fn process(&self, pid: u32) -> Option<Value> {
        let about = self.about();
        let all = about["processes"].as_array().expect("a list").clone();
        all.into_iter().find(|process| process["pid"] == pid)
    }

    /// The report of one process; `None`: it is not watched.
    #[track_caller]
    pub fn report(&self, pid: u32) -> Option<Report> {
        let answer = self.get(&format!("/api/v1/report?pid={pid}"), &[]);
        (answer.status == 200).then(|| Report::parse(&answer.body))
    }

    /// Waits until something is true of what it says.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        assert!(eventually(PATIENCE, || is(self)), "{what} does not come true: {:#}", self.about());
    }

    /// Waits until a process has so many live tasks by its newest report.
    #[track_caller]
    pub fn wait_live(&self, pid: u32, live: u64) {
        self.wait_until(&format!("{live} live tasks of pid {pid}"), |host| {
            host.process(pid).is_some_and(|process| process["tasks_live"] == live)
        });
    }

    /// Of a process that gets probes as soon as something grows: each goroutine that is alive is known and, once there are
    /// probes, each of so many starts.
    #[track_caller]
    pub fn counts_exactly(&self, pid: u32, target: &mut Target, starts: u32) {
        self.wait_live(pid, target.check().num_goroutine);
        self.wait_until("probes", |host| {
            target.command("spawn chan 5");
            host.process(pid).expect("watched")["tier"] == "probes"
        });
        let started = || self.report(pid).expect("watched").process(pid).tasks().started;
        self.wait_live(pid, target.check().num_goroutine);
        let (before, known) = (target.check(), started());
        target.command(&format!("storm {starts}"));
        let after = target.check();
        self.wait_until("every start", |_| started() - known == after.started - before.started);
    }
}

/// The configuration, on a port that is free.
fn write(path: &Path, config: &str) {
    let http = "[http]\nlisten = \"127.0.0.1:0\"\n";
    let text = match config.split_once("[http]\n") {
        Some((before, after)) => format!("{before}{http}{after}"),
        None => format!("{http}{config}"),
    };
    std::fs::write(path, text).expect("the configuration is written");
}
