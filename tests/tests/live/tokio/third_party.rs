//! tokio programs that nobody here wrote, as they are distributed, nearly all of them stripped: inspected, and watched
//! under real load. Where a connection is a task, the tasks are counted against the connections.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use leakwatch_tests::process::{Guard, eventually};
use leakwatch_tests::report::{Counts, ProcessReport, Report};
use leakwatch_tests::{Agent, agent, gate, matrix, need};
use serde_json::Value;

use super::runtime;
use crate::folder::Folder;
use crate::third_party::client::{Http, free_port, listens};
use crate::third_party::pages::Pages;

/// How long a program may take to start, or to do what it was asked to.
const PATIENCE: Duration = Duration::from_mins(1);

fn executable(name: &str) -> PathBuf {
    matrix::third_party(name).expect("the gate has looked")
}

/// A command of a program with nothing of the user's.
fn command(name: &str, folder: &Folder) -> Command {
    let mut command = Command::new(executable(name));
    for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env(variable, folder.path());
    }
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Starts a server and waits until it listens.
#[track_caller]
fn server(command: &mut Command, port: u16) -> Guard {
    let name = command.get_program().display().to_string();
    let mut guard = Guard::start_as_is(command);
    let ready = eventually(PATIENCE, || {
        assert!(guard.is_running(), "{name} ends instead of listening");
        listens(port)
    });
    assert!(ready, "{name} does not listen on {port}");
    guard
}

/// tokio is found, with its version, in the file and in the process, and can be probed.
#[track_caller]
fn inspected(name: &str, pid: u32) {
    let (path, pid) = (executable(name).display().to_string(), pid.to_string());
    for what in
        [["inspect", "--format", "json", &path].as_slice(), &["inspect", "--format", "json", "--pid", &pid]]
    {
        let outcome = agent::run(what);
        assert_eq!(outcome.code(), Some(0), "{name}: {}", outcome.stderr);
        let binary: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        let runtimes = binary["runtimes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let tokio = runtimes.iter().find(|runtime| runtime["kind"] == "tokio");
        let tokio = tokio.unwrap_or_else(|| panic!("{name}: no tokio in {binary:#}"));
        assert!(
            tokio["version"].as_str().is_some_and(|version| version.starts_with("1.")),
            "{name}: {tokio:#}"
        );
        assert_eq!(tokio["watch"], "probes", "{name}: {tokio:#}");
        for action in ["start", "end"] {
            let probes = tokio["probes"].as_array().map(Vec::as_slice).unwrap_or_default();
            assert!(probes.iter().any(|probe| probe["action"] == action), "{name}: no {action}: {tokio:#}");
        }
    }
}

/// The figures agree with each other, and nothing was lost.
#[track_caller]
fn add_up(process: ProcessReport<'_>, name: &str) -> Counts {
    let tasks = process.tasks();
    assert_eq!(tasks.live + tasks.ended, tasks.live_at_attach + tasks.started, "{name}: {tasks:?}");
    assert_eq!(process.lost_events(), 0, "{name}");
    let mut losses = process.json()["losses"].as_object().cloned().unwrap_or_default();
    // A task that does not hold still while it is looked at is no loss of a count.
    losses.remove("census_unreadable");
    // Nor is a thread whose stack was not in memory when it was made: its site is not known, and it is counted.
    losses.remove("stack_unreadable");
    assert!(losses.is_empty(), "{name}: {losses:?}");
    assert_eq!(runtime(process, name)["mode"], "probes", "{name}");
    tasks
}

/// What is alive at rest, read from memory without a probe: before leakwatch is attached with probes.
fn at_rest(pid: u32, name: &str) -> u64 {
    let mut live = None;
    let rest = eventually(Duration::from_secs(20), || {
        let report = agent::watch_for(pid, "300ms", &["--mode", "memory"]);
        let tasks = report.process(pid).tasks();
        let still = tasks.started == 0 && tasks.ended == 0;
        let same = still && live == Some(tasks.live);
        live = still.then_some(tasks.live);
        same
    });
    assert!(rest, "{name} does not come to rest");
    live.expect("it rests")
}

/// A leakwatch that reports twice a second. Probes are placed once: to take some hundred off takes the kernel seconds.
struct Watch {
    agent: Agent,
    pid: u32,
    name: &'static str,
}

impl Watch {
    #[track_caller]
    fn start(name: &'static str, pid: u32) -> Self {
        let number = pid.to_string();
        let mut agent = Agent::start(["watch", "--format", "jsonl", "--interval", "500ms", "--pid", &number]);
        agent.wait_attached();
        Self { agent, pid, name }
    }

    /// The next report's figures.
    #[track_caller]
    fn next(&mut self) -> Counts {
        let report = Report::parse(&self.agent.next_line());
        add_up(report.process(self.pid), self.name)
    }

    /// Reads reports until the program does nothing any more, and this many are alive.
    #[track_caller]
    fn until(&mut self, live: u64, what: &str) {
        let mut last = None;
        let mut rests = || {
            let now = self.next();
            let rests = last == Some(now) && now.live == live;
            last = Some(now);
            rests
        };
        // A server is not at rest at once after a load.
        let came = (0..60).any(|_| rests());
        assert!(came, "{}: {what}: {live} are alive; reported is {last:?}", self.name);
    }

    /// The last report: at rest probes and memory agree.
    #[track_caller]
    fn end(self) -> Report {
        let outcome = self.agent.interrupt();
        let last = outcome.stdout.lines().last().unwrap_or_default();
        let report = Report::parse(last);
        add_up(report.process(self.pid), self.name);
        assert_eq!(report.process(self.pid).drift(), 0, "{}: drift at rest", self.name);
        report
    }
}

/// Watches under load, and counts connections that stay: each is `each` tasks.
#[track_caller]
fn watch_server(name: &'static str, mut guard: Guard, port: u16, each: u64, load: impl Fn()) {
    let pid = guard.pid();
    inspected(name, pid);
    load();
    let before = at_rest(pid, name);
    let mut watch = Watch::start(name, pid);
    load();
    watch.until(before, "after a load");
    // They stay until they are dropped; what serves them is a task until then.
    let connections: Vec<Http> = (0..20).map(|_| Http::connect(port)).collect();
    watch.until(before + 20 * each, "while 20 connections are open");
    drop(connections);
    watch.until(before, "nothing is left of the load");
    let report = watch.end();
    let tasks = report.process(pid).tasks();
    assert_eq!(tasks.live_at_attach, before, "{name}: at attach as in memory before");
    assert!(tasks.started > 20 && tasks.started == tasks.ended, "{name}: {tasks:?}");
    named_by_place(report.process(pid), name);
    assert!(guard.is_running(), "{name} runs on unharmed");
}

/// A stripped program's types of tasks have places all the same: most of what started has a file and a line.
#[track_caller]
fn named_by_place(process: ProcessReport<'_>, name: &str) {
    let tasks = process.sites().iter().filter(|site| site["runtime"] == "tokio");
    let (mut all, mut placed) = (0, 0);
    for site in tasks {
        let started = site["started"].as_u64().unwrap_or(0);
        all += started;
        placed += if site["file"].is_string() && site["line"].is_u64() { started } else { 0 };
    }
    assert!(placed * 2 >= all, "{name}: of {all} starts {placed} have a place: {:#?}", process.sites());
}

#[test]
fn mini_redis() {
    need!(gate::live(), gate::third_party("mini-redis-server"), gate::third_party("redis-benchmark"));
    let (port, folder) = (free_port(), Folder::new("mini-redis"));
    let mut redis = command("mini-redis-server", &folder);
    let guard = server(redis.args(["--port", &port.to_string()]), port);
    watch_server("mini-redis-server", guard, port, 1, || {
        let benchmark = executable("redis-benchmark");
        let libraries = benchmark.parent().map(|bin| bin.join("../lib/x86_64-linux-gnu"));
        let mut benchmark = Command::new(&benchmark);
        benchmark.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-t",
            "set,get",
            "-n",
            "10000",
            "-c",
            "50",
        ]);
        benchmark.env("LD_LIBRARY_PATH", libraries.expect("it is in a folder"));
        benchmark.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let ended = Guard::start_as_is(&mut benchmark).wait(PATIENCE);
        assert!(ended.success(), "redis-benchmark: {ended}");
    });
}

/// Actix: workers of one thread each, whose tasks are spawned on a `LocalSet`.
#[test]
fn miniserve() {
    need!(gate::live(), gate::third_party("miniserve"));
    let (port, folder) = (free_port(), Folder::new("miniserve"));
    fs::write(folder.path().join("page.html"), "<p>a page</p>".repeat(100)).expect("a file");
    let mut miniserve = command("miniserve", &folder);
    miniserve.args(["--interfaces", "127.0.0.1", "--port", &port.to_string()]).arg(folder.path());
    let guard = server(&mut miniserve, port);
    watch_server("miniserve", guard, port, 1, || {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || {
                    for _ in 0..10 {
                        let mut client = Http::connect(port);
                        for path in ["/page.html", "/", "/missing"] {
                            let (status, _) = client.get(path).expect("an answer");
                            assert!(matches!(status, 200 | 404), "{path}: {status}");
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("a client");
        }
    });
}

#[test]
fn sccache() {
    need!(gate::live(), gate::third_party("sccache"));
    let (port, folder) = (free_port(), Folder::new("sccache"));
    let with_port = |command: &mut Command| {
        command.env("SCCACHE_SERVER_PORT", port.to_string()).env("SCCACHE_DIR", folder.below("cache"));
    };
    let mut sccache = command("sccache", &folder);
    with_port(&mut sccache);
    sccache.env("SCCACHE_START_SERVER", "1").env("SCCACHE_NO_DAEMON", "1");
    let mut guard = server(&mut sccache, port);
    let pid = guard.pid();
    inspected("sccache", pid);
    let compile = |from: u32| {
        for n in from..from + 6 {
            let source = folder.path().join(format!("{n}.c"));
            fs::write(&source, format!("int f{n}(int x) {{ return x * {n}; }}\n")).expect("a file");
            // Twice: compiled, and found in the cache.
            for _ in 0..2 {
                let mut client = command("sccache", &folder);
                with_port(&mut client);
                let output = folder.path().join(format!("{n}.o"));
                client.args(["cc", "-c"]).arg(&source).arg("-o").arg(&output);
                assert!(Guard::start_as_is(&mut client).wait(PATIENCE).success(), "sccache compiles");
            }
        }
    };
    compile(0);
    let before = at_rest(pid, "sccache");
    let mut watch = Watch::start("sccache", pid);
    compile(100);
    watch.until(before, "nothing is left of the load");
    let report = watch.end();
    let process = report.process(pid);
    let tasks = process.tasks();
    assert_eq!(tasks.live_at_attach, before, "sccache: at attach as in memory before");
    // Each of the clients is a connection, and each compilation waits for a process.
    assert!(tasks.started >= 12 && tasks.ended >= 12, "sccache: {tasks:?}");
    let jobs = process.sites().iter().filter(|site| site["runtime"] == "tokio_blocking");
    let jobs: u64 = jobs.filter_map(|site| site["started"].as_u64()).sum();
    assert!(jobs > 0, "sccache hashes and unpacks on the blocking pool");
    named_by_place(process, "sccache");
    assert!(guard.is_running());
}

/// Watches a program that fetches from pages which are held back until leakwatch is there, to its own end.
#[track_caller]
fn watch_fetching(name: &'static str, command: &mut Command, pages: &Pages, least: u64) {
    let mut guard = Guard::start_as_is(command);
    let pid = guard.pid();
    let asks = eventually(PATIENCE, || {
        assert!(guard.is_running(), "{name} ends instead of asking");
        pages.asked() > 0
    });
    assert!(asks, "{name} does not ask");
    inspected(name, pid);
    let agent = Agent::watch(pid, &[]);
    pages.let_go();
    let status = guard.wait(PATIENCE);
    let report = agent.wait().report();
    let tasks = add_up(report.process(pid), name);
    assert!(status.success(), "{name}: {status}, after {} requests", pages.asked());
    assert!(tasks.live_at_attach > 0, "{name}: it waits in tasks: {tasks:?}");
    assert!(tasks.started >= least, "{name}: {tasks:?} for {} requests", pages.asked());
}

/// How many packages uv is to resolve, and pages lychee is to look at.
const PAGES: usize = 120;

#[test]
fn uv() {
    need!(gate::live(), gate::third_party("uv"));
    let pages = Pages::start(|path| {
        let name = path.trim_start_matches("/simple/").trim_end_matches('/');
        if let Some(file) = path.strip_prefix("/files/") {
            let name = file.split('-').next().unwrap_or_default();
            return (200, "text/plain", format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"));
        }
        let wheel = format!("/files/{name}-1.0-py3-none-any.whl");
        let link =
            format!("<a href=\"{wheel}\" data-dist-info-metadata=\"true\">{name}-1.0-py3-none-any.whl</a>");
        (200, "text/html", format!("<!DOCTYPE html><html><body>{link}</body></html>"))
    });
    let folder = Folder::new("uv");
    let requirements = (0..PAGES).map(|n| format!("pkg{n}")).collect::<Vec<_>>().join("\n");
    fs::write(folder.path().join("all.in"), requirements).expect("a file");
    let index = format!("http://127.0.0.1:{}/simple", pages.port());
    let mut uv = command("uv", &folder);
    uv.args(["pip", "compile", "--quiet", "--no-cache", "--no-config", "--python-version", "3.11"]);
    uv.env("UV_HTTP_TIMEOUT", "300").args(["--index-url", &index, "--output-file", "all.txt", "all.in"]);
    watch_fetching("uv", &mut uv, &pages, 1);
    let resolved = fs::read_to_string(folder.path().join("all.txt")).expect("its result");
    assert_eq!(resolved.lines().filter(|line| line.ends_with("==1.0")).count(), PAGES, "{resolved}");
}

#[test]
fn lychee() {
    need!(gate::live(), gate::third_party("lychee"));
    let pages = Pages::start(|path| (200, "text/html", format!("<html><body>{path}</body></html>")));
    let folder = Folder::new("lychee");
    let port = pages.port();
    let link = |n| format!("<a href=\"http://127.0.0.1:{port}/{n}\">x</a>");
    let links = (0..PAGES).map(link).collect::<Vec<_>>().join("\n");
    fs::write(folder.path().join("index.html"), format!("<html><body>{links}</body></html>"))
        .expect("a file");
    let mut lychee = command("lychee", &folder);
    // What is held back until leakwatch is there must not be given up meanwhile.
    lychee.args(["--no-progress", "--timeout", "300", "--max-concurrency", "40", "index.html"]);
    watch_fetching("lychee", &mut lychee, &pages, 1);
    // One that was held back for too long is asked for again.
    assert!(pages.asked() >= PAGES as u64, "lychee looks at each: {} requests", pages.asked());
}

#[test]
fn turbo() {
    need!(gate::live(), gate::third_party("turbo"));
    let folder = Folder::new("turbo");
    let write = |path: &Path, text: &str| fs::write(folder.path().join(path), text).expect("a file");
    write(
        Path::new("package.json"),
        r#"{"name":"t","packageManager":"npm@10.0.0","workspaces":["packages/*"]}"#,
    );
    write(Path::new("package-lock.json"), r#"{"name":"t","lockfileVersion":3,"packages":{}}"#);
    write(Path::new("turbo.json"), r#"{"tasks":{"build":{"cache":false}}}"#);
    for n in 0..30 {
        folder.below(&format!("packages/p{n}"));
        // Held back until leakwatch is there.
        let script = "touch ../../running; while [ ! -e ../../go ]; do sleep 0.05; done";
        let text = format!(r#"{{"name":"p{n}","scripts":{{"build":"{script}"}}}}"#);
        write(Path::new(&format!("packages/p{n}/package.json")), &text);
    }
    let mut turbo = command("turbo", &folder);
    turbo.args(["run", "build"]).env("TURBO_TELEMETRY_DISABLED", "1").env("DO_NOT_TRACK", "1");
    let mut guard = Guard::start_as_is(&mut turbo);
    let running = folder.path().join("running");
    assert!(eventually(PATIENCE, || running.exists()), "turbo runs nothing");
    let pid = guard.pid();
    inspected("turbo", pid);
    let agent = Agent::watch(pid, &[]);
    write(Path::new("go"), "");
    let status = guard.wait(PATIENCE);
    let report = agent.wait().report();
    let tasks = add_up(report.process(pid), "turbo");
    assert!(status.success(), "turbo: {status}");
    assert!(tasks.live_at_attach > 0 && tasks.started >= 20, "turbo: {tasks:?}");
}
