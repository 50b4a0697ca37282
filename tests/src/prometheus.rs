//! Real engines that take metrics and alerts, started on loopback, and pages for them to scrape.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::matrix;
use crate::process::{Guard, eventually};

/// How long an engine may take to start, or a figure to come.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A port that nobody listens on.
#[track_caller]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("its number").port()
}

/// Asks for a page on loopback: its status and body; `None` where nobody answers.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    // 1.0: the answer ends with the connection, and comes in one piece.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Posts a body to loopback: the status.
pub fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// One series of an answer: its labels and its value.
pub type Series = (BTreeMap<String, String>, f64);

/// One series: its labels, and its samples, times in seconds and values.
pub type Samples = (BTreeMap<String, String>, Vec<(f64, f64)>);

/// A Prometheus of its own; killed and its data removed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    guard: Guard,
    port: u16,
    folder: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Prometheus {
    /// Starts one with this configuration and waits until it is ready. Files that the configuration names lie beside it:
    /// `files` are names and contents.
    #[track_caller]
    pub fn start(name: &str, config: &str, files: &[(&str, &str)], more: &[&str]) -> Self {
        Self::start_version("prometheus", name, config, files, more)
    }

    /// The same of a version that the machine's Debian does not have: `prometheus-3`.
    #[track_caller]
    pub fn start_version(
        version: &str,
        name: &str,
        config: &str,
        files: &[(&str, &str)],
        more: &[&str],
    ) -> Self {
        let program = matrix::third_party(version).expect("the gate has looked");
        let folder = std::env::temp_dir().join(format!("leakwatch-prometheus-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        for (name, content) in files.iter().chain([&("prometheus.yml", config)]) {
            fs::write(folder.join(name), content).expect("a file");
        }
        let port = free_port();
        let mut arguments = vec![
            format!("--config.file={}", folder.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut prometheus = Self { guard: launch(&program, &arguments), port, folder, program, arguments };
        prometheus.wait_ready();
        prometheus
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let port = self.port;
        let guard = &mut self.guard;
        let ready = eventually(PATIENCE, || {
            assert!(guard.is_running(), "Prometheus does not start");
            get(port, "/-/ready").is_some_and(|(status, _)| status == 200)
        });
        assert!(ready, "Prometheus is not ready");
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it, as an outage does; its data stays.
    pub fn stop(&mut self) {
        self.guard.signal(nix::sys::signal::Signal::SIGTERM);
        self.guard.wait(PATIENCE);
    }

    /// Starts it again on its data.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.guard = launch(&self.program, &self.arguments);
        self.wait_ready();
    }

    /// What a query answers; panics when it is wrong.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<Series> {
        let answer = self.api(&format!("/api/v1/query?query={}", encoded(expression)));
        let answer = answer.unwrap_or_else(|why| panic!("{expression}: {why}"));
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        if answer["resultType"] == "scalar" {
            return vec![(BTreeMap::new(), number(&answer["result"][1]))];
        }
        let series = answer["result"].as_array().into_iter().flatten();
        series.map(|one| (labels(&one["metric"]), number(&one["value"][1]))).collect()
    }

    /// Every sample of the series that a selector names.
    #[track_caller]
    pub fn samples(&self, selector: &str, range: &str) -> Vec<Samples> {
        let answer = self.api(&format!("/api/v1/query?query={}", encoded(&format!("{selector}[{range}]"))));
        let answer = answer.unwrap_or_else(|why| panic!("{selector}: {why}"));
        let series = answer["result"].as_array().into_iter().flatten();
        let sample = |sample: &Value| {
            let value = sample[1].as_str().and_then(|text| text.parse().ok());
            (sample[0].as_f64().unwrap_or(f64::NAN), value.unwrap_or(f64::NAN))
        };
        let samples = series.map(|one| {
            (labels(&one["metric"]), one["values"].as_array().into_iter().flatten().map(sample).collect())
        });
        samples.collect()
    }

    /// Alerts by name and state, with their labels and annotations as Prometheus lists them.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Value> {
        let answer = self.api("/api/v1/alerts").expect("alerts");
        answer["alerts"].as_array().cloned().unwrap_or_default()
    }

    fn api(&self, path: &str) -> Result<Value, String> {
        let (_, body) = get(self.port, path).ok_or("Prometheus does not answer")?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(body) }
    }
}

#[track_caller]
fn launch(program: &Path, arguments: &[String]) -> Guard {
    let mut command = Command::new(program);
    Guard::start(command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The guard kills it; what it writes until then is not to be removed under it.
        self.guard.signal(nix::sys::signal::Signal::SIGKILL);
        self.guard.wait(PATIENCE);
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// An Alertmanager of its own; killed and its data removed when dropped.
#[derive(Debug)]
pub struct Alertmanager {
    guard: Guard,
    port: u16,
    folder: PathBuf,
}

impl Alertmanager {
    /// Starts one with this configuration and waits until it is ready.
    #[track_caller]
    pub fn start(name: &str, config: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("leakwatch-alertmanager-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("alertmanager.yml"), config).expect("a file");
        let port = free_port();
        let program = matrix::third_party("prometheus-alertmanager").expect("the gate has looked");
        let program = fs::canonicalize(program).expect("a program");
        let share = program.parent().and_then(Path::parent).expect("the package's usr").join("share");
        // Debian's reads a template below /usr/share, where it is unpacked for nobody: it gets a /usr/share of its own.
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount -t overlay overlay -o lowerdir=\"$0\":/usr/share /usr/share && exec \"$@\"")
            .arg(share)
            .arg(program)
            .arg(format!("--config.file={}", folder.join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut guard = Guard::start(&mut command);
        let ready = eventually(PATIENCE, || {
            assert!(guard.is_running(), "Alertmanager does not start");
            get(port, "/-/ready").is_some_and(|(status, _)| status == 200)
        });
        assert!(ready, "Alertmanager is not ready");
        Self { guard, port, folder }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The alerts that are active, as its second API has them.
    #[track_caller]
    pub fn active(&self) -> Vec<Value> {
        let (_, body) = get(self.port, "/api/v2/alerts?active=true").expect("Alertmanager answers");
        let alerts: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        alerts.as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        self.guard.signal(nix::sys::signal::Signal::SIGKILL);
        self.guard.wait(PATIENCE);
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let labels = value.as_object().into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// A text as a part of a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Serves one text under every path, until the test ends.
#[derive(Debug)]
pub struct Page {
    port: u16,
}

impl Page {
    /// Serves it.
    #[track_caller]
    pub fn serve(text: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its number").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who asks for something else, or goes away, is of no interest.
                drop(answer(stream, &text));
            }
        });
        Self { port }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn answer(stream: TcpStream, text: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.get_mut().write_all(head.as_bytes())?;
    stream.get_mut().write_all(text.as_bytes())
}

/// Runs promtool in a folder.
#[track_caller]
pub fn promtool(folder: &Path, arguments: &[&str]) -> Output {
    let program = matrix::third_party("promtool").expect("the gate has looked");
    Command::new(program).args(arguments).current_dir(folder).output().expect("promtool runs")
}
