//! Many processes of many binaries that start, fork and end while a host agent watches: what it has of the machine must not grow.
//!
//! What it takes is what the kernel says of its process; what it watches is what it says itself, for that is the question.

use std::collections::{BTreeSet, VecDeque};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::{HostAgent, Server};
use crate::process::Guard;

/// What an agent has of the machine, and what it watches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Processes watched.
    pub watched: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Open file descriptors: those of eBPF and of processes among them.
    pub open_fds: u64,
    /// Those of eBPF: maps, programs, links.
    pub bpf: u64,
    /// Its threads.
    pub threads: u64,
    /// Its processor time, seconds, to the kernel's tick of 10 ms.
    pub cpu_s: f64,
    /// Series in `/metrics`.
    pub series: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Churned {
    /// Before anything was started.
    pub before: Figures,
    /// When as many ran as ever, and had been found.
    pub full: Figures,
    /// After coming and going, with as many running again.
    pub full_again: Figures,
    /// When all had ended.
    pub after: Figures,
    /// Processes that were started.
    pub started: u64,
    /// Forks of those that ran at the end, and how many of them the agent counted.
    pub forks: [u64; 2],
    /// Times that one older than [`MISSED`] was not watched, of all times that all were looked for.
    pub missed: u64,
    /// All those times.
    pub looked_for: u64,
    /// The agent's processor time while they came and went, percent of one core.
    pub cpu_percent: f64,
    /// How long they came and went.
    pub length: Duration,
}

impl Figures {
    /// Of an agent.
    #[track_caller]
    pub fn of(host: &HostAgent) -> Self {
        let metrics = host.get("/metrics", &[]).body;
        let series = metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
        let watched = host.about()["processes"].as_array().map_or(0, Vec::len);
        let folder = PathBuf::from(format!("/proc/{}", host.pid()));
        let status = std::fs::read_to_string(folder.join("status")).expect("its state");
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or_else(|| panic!("{key} of {status}"))
        };
        let fds = std::fs::read_dir(folder.join("fd")).expect("its descriptors").flatten();
        let fds: Vec<PathBuf> = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
        Self {
            watched: watched as u64,
            rss_bytes: number("VmRSS:") * 1024,
            open_fds: fds.len() as u64,
            bpf: fds.iter().filter(|fd| fd.to_string_lossy().starts_with("anon_inode:bpf")).count() as u64,
            threads: number("Threads:"),
            cpu_s: cpu_s(host),
            series: series as u64,
        }
    }
}

/// Processor time of an agent so far.
#[track_caller]
fn cpu_s(host: &HostAgent) -> f64 {
    /// Of a second; `USER_HZ` of include/asm-generic/param.h.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.pid())).expect("its state");
    // After the name, which may hold anything, the first is field 3 of proc_pid_stat(5).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks: f64 = fields.skip(14 - 3).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS
}

/// A process that was started so long ago and is not in the list that the agent gives out is missed.
pub const MISSED: Duration = Duration::from_secs(1);

/// Between two looks for those that are missed.
const LOOK: Duration = Duration::from_secs(3);

/// Each so many-th process forks, in the middle of its life, and how often.
const FORKING: u64 = 5;
const FORKS: u64 = 2;

/// One that was started.
struct Running {
    guard: Guard,
    number: u64,
    since: Instant,
    /// Children that it was told to fork.
    forks: u64,
}

impl Running {
    #[track_caller]
    fn fork(&mut self) {
        let input = self.guard.child().stdin.as_mut().expect("its standard input is a pipe");
        writeln!(input, "forks {FORKS}").expect("it reads commands");
        self.forks += FORKS;
    }
}

/// Has this many processes of these binaries run, and replaces them one after the other for a while, `per_second` of them
/// where the machine can.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a load has a pace and a length")]
pub fn churn(
    host: &HostAgent,
    binaries: &[PathBuf],
    processes: usize,
    per_second: u32,
    length: Duration,
) -> Churned {
    let mut churned = Churned { before: Figures::of(host), length, ..Churned::default() };
    let mut running: VecDeque<Running> = VecDeque::new();
    let mut next = binaries.iter().cycle();
    let mut started = 0;
    let mut start = |running: &mut VecDeque<Running>| {
        let binary = next.next().expect("there are binaries");
        let mut command = Command::new(binary);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = Guard::start_as_is(&mut command);
        running.push_back(Running { guard, number: started, since: Instant::now(), forks: 0 });
        started += 1;
    };
    for _ in 0..processes {
        start(&mut running);
    }
    wait_for_all(host, &running);
    churned.full = Figures::of(host);
    let (begun, cpu_before_s) = (Instant::now(), cpu_s(host));
    let pause = Duration::from_secs(1) / per_second.max(1);
    let mut looked = Instant::now();
    let mut replaced = 0;
    while begun.elapsed() < length {
        drop(running.pop_front());
        start(&mut running);
        replaced += 1;
        let middle = running.len() / 2;
        if let Some(one) = running.get_mut(middle).filter(|one| one.number.is_multiple_of(FORKING)) {
            one.fork();
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            let old = pids(running.iter().take_while(|one| one.since.elapsed() >= MISSED));
            churned.looked_for += old.len() as u64;
            churned.missed += old.difference(&watched(host)).count() as u64;
        }
        // What makes the pace of a load is no wait for anything.
        std::thread::sleep((pause * replaced).saturating_sub(begun.elapsed()));
    }
    churned.cpu_percent = (cpu_s(host) - cpu_before_s) * 100.0 / begun.elapsed().as_secs_f64();
    wait_for_all(host, &running);
    let forked = running.iter().map(|one| one.forks).sum();
    host.wait_until("all forks are counted", |host| forks_counted(host, &running) >= forked);
    churned.forks = [forked, forks_counted(host, &running)];
    churned.full_again = Figures::of(host);
    let ours = pids(&running);
    drop(running);
    // Others of the machine come and go as they like.
    host.wait_until("the end of all", |host| ours.is_disjoint(&watched(host)));
    churned.after = Figures::of(host);
    churned.started = started;
    churned
}

fn pids<'a>(running: impl IntoIterator<Item = &'a Running>) -> BTreeSet<u64> {
    running.into_iter().map(|one| u64::from(one.guard.pid())).collect()
}

/// Forks of these processes by their reports.
#[track_caller]
fn forks_counted(host: &Server, running: &VecDeque<Running>) -> u64 {
    let answer = host.get("/api/v1/report", &[]);
    let report: Value = serde_json::from_str(&answer.body).expect("JSON");
    let ours = pids(running);
    let all = report["processes"].as_array().into_iter().flatten();
    let ours = all.filter(|process| process["pid"].as_u64().is_some_and(|pid| ours.contains(&pid)));
    ours.filter_map(|process| process["forks"]["count"].as_u64()).sum()
}

/// Pids that the agent watches.
#[track_caller]
fn watched(host: &Server) -> BTreeSet<u64> {
    let about = host.about();
    let all = about["processes"].as_array().into_iter().flatten();
    all.filter_map(|process| process["pid"].as_u64()).collect()
}

/// Waits until exactly those of ours that run are watched.
#[track_caller]
fn wait_for_all(host: &HostAgent, running: &VecDeque<Running>) {
    let ours = pids(running);
    host.wait_until("all of them are watched", |host| ours.is_subset(&watched(host)));
}
