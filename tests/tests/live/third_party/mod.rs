//! Programs that nobody here wrote, as they are distributed: inspected, and watched under load. Where they serve their
//! goroutines (`/debug/pprof`), the report says the same, by creating function.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use leakwatch_tests::process::{Guard, eventually};
use leakwatch_tests::report::ProcessReport;
use leakwatch_tests::{Agent, agent, gate, matrix, need};
use serde_json::Value;

use crate::dump::Dump;
use crate::evidence::Traces;
use crate::folder::Folder;
use client::{Http, free_port, listens, load_http, load_nats};

pub(crate) mod client;
pub(crate) mod pages;

/// How long a program may take to start; traefik has 176 MB to read.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often a program that is never quite at rest is asked for a moment of it.
const TRIES: usize = 8;

/// A program that runs; killed and reaped when dropped.
struct Server {
    name: &'static str,
    guard: Guard,
    /// Where it serves its goroutines.
    pprof: Option<u16>,
    /// Its configuration and data.
    _folder: Folder,
}

impl Server {
    /// Starts it and waits until it listens on all of these ports.
    #[track_caller]
    fn start(name: &'static str, folder: Folder, arguments: &[&str], ports: &[u16]) -> Self {
        let mut command = Command::new(executable(name));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Nothing of the user's is read or written.
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env(variable, folder.path());
        }
        if let (true, Some(port)) = (name == "syncthing", ports.last()) {
            // Not the process that starts it anew when it has crashed, but itself.
            command.env("STMONITORED", "yes").env("STPROFILER", format!("127.0.0.1:{port}"));
        }
        let mut guard = Guard::start_as_is(command.current_dir(folder.path()));
        let ready = eventually(PATIENCE, || {
            assert!(guard.is_running(), "{name} ends instead of listening");
            ports.iter().all(|&port| listens(port))
        });
        assert!(ready, "{name} does not listen on {ports:?}");
        Self { name, guard, pprof: None, _folder: folder }
    }

    fn with_pprof(mut self, port: u16) -> Self {
        self.pprof = Some(port);
        self
    }

    /// Inspects and watches it, at rest and under load.
    #[track_caller]
    fn watch_under(mut self, load: impl Fn() + Sync) {
        let name = self.name;
        let pid = self.guard.pid();
        inspected(name, pid);
        load();

        let agent = Agent::watch(pid, &["--stacks"]);
        load();
        let outcome = agent.interrupt();
        let report = outcome.report();
        let process = report.process(pid);
        add_up(process, name);
        let tasks = process.tasks();
        assert!(tasks.started > 0 && tasks.ended > 0, "{name}: the load starts goroutines: {tasks:?}");
        named(process, name);

        let mut why = Vec::new();
        let exact = (0..TRIES).any(|_| match self.moment(&load) {
            Ok(()) => true,
            Err(reason) => {
                why.push(reason);
                false
            }
        });
        assert!(exact, "{name} was not once counted exactly: {why:#?}");
        if let Some(port) = self.pprof {
            let at_rest = (0..TRIES).any(|_| self.dumped(port).1 == 0);
            assert!(
                at_rest,
                "{name}: not one dump of {TRIES} was what the program itself printed before and after it"
            );
            let (same, other) = std::thread::scope(|scope| {
                let loading = scope.spawn(&load);
                let compared = self.dumped(port);
                loading.join().expect("the load");
                compared
            });
            // What wakes and sleeps again between the program's two dumps may be seen awake by ours.
            assert!(other <= 2 + same / 10, "{name} under load: {same} goroutines alike, {other} not");
        }
        assert!(self.guard.is_running(), "{name} runs on unharmed");
    }

    /// A dump between two of the program's own: of the goroutines that are the same in both of these, how many are the
    /// same in ours, and how many are not.
    #[track_caller]
    fn dumped(&self, port: u16) -> (usize, usize) {
        let mut pprof = Http::connect(port);
        let mut own = || {
            let (status, text) = pprof.get("/debug/pprof/goroutine?debug=2").expect("its goroutines");
            assert_eq!(status, 200, "{text}");
            Traces::parse(&text)
        };
        let before = own();
        let outcome = agent::run(["dump", "--pid", &self.guard.pid().to_string()]);
        assert_eq!(outcome.code(), Some(0), "{}: {}", self.name, outcome.stderr);
        let ours = Traces::parse(&outcome.stdout);
        let after = own();
        let (mut same, mut other) = (0, 0);
        for (id, trace) in &before.by_id {
            let moved = after.by_id.get(id).is_none_or(|later| untimed(later) != untimed(trace));
            // The one that prints the dump.
            if moved || trace.contains("runtime/pprof.") {
                continue;
            }
            match ours.by_id.get(id) {
                Some(our) if untimed(our) == untimed(trace) => same += 1,
                _ => other += 1,
            }
        }
        assert!(same > 3, "{}: {same} goroutines stand still", self.name);
        (same, other)
    }

    /// Attaches anew, and compares leakwatch's figures with memory, and with what the program itself says.
    fn moment(&self, load: &impl Fn()) -> Result<(), String> {
        let pid = self.guard.pid();
        let agent = Agent::watch(pid, &[]);
        load();
        // The connection stays, and with it the goroutine that serves it.
        let mut pprof = self.pprof.map(Http::connect);
        let mut dump = || pprof.as_mut().map(own_goroutines);
        let before = dump();
        let report = agent.interrupt().report();
        let after = dump();
        let process = report.process(pid);
        add_up(process, self.name);
        if process.drift() != 0 {
            return Err(format!("drift {}", process.drift()));
        }
        let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
        if before != after {
            return Err("it is not at rest".to_owned());
        }
        let mut reported: BTreeMap<String, u64> =
            process.by_function().into_iter().map(|(function, counts)| (function, counts.live)).collect();
        reported.retain(|function, live| *live > 0 && function != WHILE_ASKED);
        if reported == after {
            let own: u64 = process.by_function().values().map(|counts| counts.live).sum();
            assert_eq!(process.tasks().live, own + 1, "{}: all sites and main", self.name);
            return Ok(());
        }
        let differences: Vec<String> = reported
            .keys()
            .chain(after.keys())
            .filter(|function| reported.get(*function) != after.get(*function))
            .map(|function| {
                format!("{function}: reported {:?}, own {:?}", reported.get(function), after.get(function))
            })
            .collect();
        Err(differences.join("; "))
    }
}

/// A trace without the minutes in its header, which go on.
fn untimed(trace: &str) -> String {
    let (header, body) = trace.split_once('\n').unwrap_or((trace, ""));
    let parts: Vec<&str> = header.split(", ").filter(|part| !part.contains(" minutes")).collect();
    format!("{}\n{body}", parts.join(", ").trim_end_matches("]:"))
}

/// This one's goroutine is there only while a request is being answered.
const WHILE_ASKED: &str = "net/http.(*connReader).startBackgroundRead";

/// What the program says of its own goroutines, by creating function.
#[track_caller]
fn own_goroutines(pprof: &mut Http) -> BTreeMap<String, u64> {
    let (status, text) = pprof.get("/debug/pprof/goroutine?debug=2").expect("its goroutines");
    assert_eq!(status, 200, "{text}");
    let mut live = BTreeMap::new();
    for ((function, _), count) in Dump::parse(&text).states {
        *live.entry(function).or_default() += count;
    }
    live.remove(WHILE_ASKED);
    assert!(!live.is_empty(), "{text}");
    live
}

fn executable(name: &str) -> PathBuf {
    matrix::third_party(name).expect("the gate has looked")
}

/// Both probe sites are found, in the file and in the process.
#[track_caller]
fn inspected(name: &str, pid: u32) {
    let path = executable(name).display().to_string();
    let pid = pid.to_string();
    for what in
        [["inspect", "--format", "json", &path].as_slice(), &["inspect", "--format", "json", "--pid", &pid]]
    {
        let outcome = agent::run(what);
        assert_eq!(outcome.code(), Some(0), "{name}: {}", outcome.stderr);
        let binary: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        assert_eq!(binary["problems"], serde_json::json!([]), "{name}");
        let runtime = &binary["runtimes"][0];
        assert_eq!(runtime["problems"], serde_json::json!([]), "{name}");
        assert_eq!(runtime["watch"], "probes", "{name}");
        let actions: Vec<&str> = runtime["probes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|probe| probe["action"].as_str())
            .collect();
        assert_eq!(actions, ["start", "end"], "{name}");
        for probe in runtime["probes"].as_array().into_iter().flatten() {
            assert_eq!(probe["emulated"], true, "{name}: one trap each: {probe:#}");
        }
    }
}

/// The figures agree with each other, and nothing was lost.
#[track_caller]
fn add_up(process: ProcessReport<'_>, name: &str) {
    let tasks = process.tasks();
    assert_eq!(tasks.live + tasks.ended, tasks.live_at_attach + tasks.started, "{name}: {tasks:?}");
    assert_eq!(process.lost_events(), 0, "{name}");
    let mut losses = process.json()["losses"].as_object().cloned().unwrap_or_default();
    // A goroutine that does not hold still while it is looked at is no loss of a count.
    losses.remove("census_unreadable");
    // Nor is a thread whose stack was not in memory when it was made: its site is not known, and it is counted.
    losses.remove("stack_unreadable");
    assert!(losses.is_empty(), "{name}: {losses:?}");
    let runtime = &process.json()["runtimes"][0];
    assert_eq!((&runtime["mode"], &runtime["kind"]), (&"probes".into(), &"go".into()), "{name}");
}

/// Every site has a function, a task, a file and a line, although none of these programs has DWARF.
#[track_caller]
fn named(process: ProcessReport<'_>, name: &str) {
    // No go statement made main.
    let of_go = process.sites().iter().filter(|site| site["runtime"] == "go");
    for site in of_go.filter(|site| site["task"] != "runtime.main") {
        for field in ["function", "task"] {
            let text = site[field].as_str().unwrap_or("0x");
            assert!(!text.starts_with("0x"), "{name}: {site:#}");
        }
        assert!(site["line"].as_u64().is_some_and(|line| line > 0), "{name}: {site:#}");
    }
}

/// Writes a file into the folder and returns its path.
fn write(folder: &Folder, file: &str, text: &str) -> String {
    let path = folder.path().join(file);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

#[test]
fn caddy() {
    need!(gate::live(), gate::third_party("caddy"));
    let (admin, web, folder) = (free_port(), free_port(), Folder::new("caddy"));
    let text = format!(
        r#"{{"admin": {{"listen": "127.0.0.1:{admin}"}}, "apps": {{"http": {{"servers": {{"test": {{
        "listen": ["127.0.0.1:{web}"], "automatic_https": {{"disable": true}},
        "routes": [{{"handle": [{{"handler": "static_response", "body": "hello"}}]}}]}}}}}}}}}}"#
    );
    let file = write(&folder, "caddy.json", &text);
    let server = Server::start("caddy", folder, &["run", "--config", &file], &[admin, web]);
    server.with_pprof(admin).watch_under(|| load_http(web, &["/", "/other"]));
}

#[test]
fn nats_server() {
    need!(gate::live(), gate::third_party("nats-server"));
    let (port, profile) = (free_port(), free_port());
    let arguments = ["-a", "127.0.0.1", "-p", &port.to_string(), "--profile", &profile.to_string()];
    let server = Server::start("nats-server", Folder::new("nats"), &arguments, &[port, profile]);
    server.with_pprof(profile).watch_under(|| load_nats(port));
}

#[test]
fn traefik() {
    need!(gate::live(), gate::third_party("traefik"));
    let (web, api) = (free_port(), free_port());
    let arguments = [
        &format!("--entrypoints.web.address=127.0.0.1:{web}"),
        &format!("--entrypoints.traefik.address=127.0.0.1:{api}"),
        "--api.insecure=true",
        "--api.debug=true",
        "--ping=true",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ];
    let server = Server::start("traefik", Folder::new("traefik"), &arguments, &[web, api]);
    server.with_pprof(api).watch_under(|| {
        load_http(web, &["/"]);
        load_http(api, &["/ping", "/api/overview"]);
    });
}

#[test]
fn rclone() {
    need!(gate::live(), gate::third_party("rclone"));
    let (port, folder) = (free_port(), Folder::new("rclone"));
    let config = write(&folder, "rclone.conf", "");
    let address = format!("127.0.0.1:{port}");
    let arguments = ["rcd", "--rc-no-auth", "--rc-addr", &address, "--config", &config];
    let server = Server::start("rclone", folder, &arguments, &[port]);
    server.with_pprof(port).watch_under(|| load_http(port, &["/", "/rc/noop"]));
}

#[test]
fn esbuild() {
    need!(gate::live(), gate::third_party("esbuild"));
    let (port, folder) = (free_port(), Folder::new("esbuild"));
    let entry = write(&folder, "app.js", "import {b} from './b.js'; console.log(b)\n");
    write(&folder, "b.js", "export const b = 7\n");
    let (serve, from) =
        (format!("--serve=127.0.0.1:{port}"), format!("--servedir={}", folder.path().display()));
    let out = format!("--outdir={}", folder.below("out").display());
    let server = Server::start("esbuild", folder, &[&entry, "--bundle", &out, &serve, &from], &[port]);
    // Each request of the bundle builds it anew.
    server.watch_under(|| load_http(port, &["/", "/out/app.js"]));
}

#[test]
fn prometheus() {
    need!(gate::live(), gate::third_party("prometheus"));
    let (port, folder) = (free_port(), Folder::new("prometheus"));
    let text = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: own\n    static_configs:\n      - targets: ['127.0.0.1:{port}']\n"
    );
    let config = format!("--config.file={}", write(&folder, "prometheus.yml", &text));
    let data = format!("--storage.tsdb.path={}", folder.below("data").display());
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let server = Server::start("prometheus", folder, &[&config, &data, &listen], &[port]);
    server
        .with_pprof(port)
        .watch_under(|| load_http(port, &["/-/healthy", "/metrics", "/api/v1/query?query=up"]));
}

#[test]
fn etcd() {
    need!(gate::live(), gate::third_party("etcd"));
    let (client, peer, folder) = (free_port(), free_port(), Folder::new("etcd"));
    let data = folder.below("data").display().to_string();
    let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let cluster = format!("default={peer_url}");
    let arguments = [
        ["--data-dir", &data],
        ["--listen-client-urls", &client_url],
        ["--advertise-client-urls", &client_url],
        ["--listen-peer-urls", &peer_url],
        ["--initial-advertise-peer-urls", &peer_url],
        ["--initial-cluster", &cluster],
    ]
    .concat();
    let arguments = [arguments.as_slice(), &["--enable-pprof"]].concat();
    let server = Server::start("etcd", folder, &arguments, &[client, peer]);
    server.with_pprof(client).watch_under(|| load_http(client, &["/version", "/health", "/metrics"]));
}

#[test]
fn syncthing() {
    need!(gate::live(), gate::third_party("syncthing"));
    let (gui, listen, profiler) = (free_port(), free_port(), free_port());
    let folder = Folder::new("syncthing");
    let text = format!(
        "<configuration version=\"35\"><gui enabled=\"true\" tls=\"false\"><address>127.0.0.1:{gui}</address>\
         <apikey>test</apikey></gui><options><listenAddress>tcp://127.0.0.1:{listen}</listenAddress>\
         <globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>\
         <relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><urAccepted>-1</urAccepted>\
         <startBrowser>false</startBrowser><autoUpgradeIntervalH>0</autoUpgradeIntervalH>\
         <crashReportingEnabled>false</crashReportingEnabled></options></configuration>\n"
    );
    write(&folder, "config.xml", &text);
    let home = format!("--home={}", folder.path().display());
    let arguments = ["serve", &home, "--no-browser", "--no-restart", "--no-default-folder", "--no-upgrade"];
    let server = Server::start("syncthing", folder, &arguments, &[gui, listen, profiler]);
    server.with_pprof(profiler).watch_under(|| load_http(gui, &["/rest/noauth/health", "/"]));
}
