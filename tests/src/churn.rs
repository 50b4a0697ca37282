//! Many processes of many binaries that come and go while a host agent watches: what it has of the machine must not grow.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::HostAgent;
use crate::process::Guard;

/// What an agent has of the machine, and what it watches, as it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Processes watched.
    pub watched: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Open file descriptors: those of maps, links and processes among them.
    pub open_fds: u64,
    /// Its threads.
    pub threads: u64,
    /// Its processor time, seconds.
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
        let about = host.about();
        let own = &about["own"];
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let metrics = host.get("/metrics", &[]).body;
        Self {
            watched: about["processes"].as_array().map_or(0, |all| all.len() as u64),
            rss_bytes: number(&own["rss_bytes"]),
            open_fds: number(&own["open_fds"]),
            threads: number(&own["threads"]),
            cpu_s: own["cpu_s"].as_f64().unwrap_or_default(),
            series: metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count() as u64,
        }
    }
}

/// A process of this age that is not in the agent's list is missed: it has to be found within a second, and the list is a second old
/// at most.
pub const MISSED: Duration = Duration::from_secs(2);

/// Between two looks for those that are missed.
const LOOK: Duration = Duration::from_secs(3);

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
    let mut running: VecDeque<(Guard, Instant)> = VecDeque::new();
    let mut next = binaries.iter().cycle();
    let mut started = 0;
    let mut start = |running: &mut VecDeque<(Guard, Instant)>| {
        let binary = next.next().expect("there are binaries");
        let mut command = Command::new(binary);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        running.push_back((Guard::start_as_is(&mut command), Instant::now()));
        started += 1;
    };
    for _ in 0..processes {
        start(&mut running);
    }
    wait_for_all(host, &running);
    churned.full = Figures::of(host);
    let begun = Instant::now();
    let pause = Duration::from_secs(1) / per_second.max(1);
    let mut looked = Instant::now();
    let mut replaced = 0;
    while begun.elapsed() < length {
        drop(running.pop_front());
        start(&mut running);
        replaced += 1;
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            let old = running.iter().take_while(|(_, since)| since.elapsed() >= MISSED);
            let old: BTreeSet<u64> = old.map(|(guard, _)| u64::from(guard.pid())).collect();
            churned.looked_for += old.len() as u64;
            churned.missed += old.difference(&watched(host)).count() as u64;
        }
        // What makes the pace of a load is no wait for anything.
        std::thread::sleep((pause * replaced).saturating_sub(begun.elapsed()));
    }
    let busy_s = Figures::of(host).cpu_s - churned.full.cpu_s;
    churned.cpu_percent = busy_s * 100.0 / begun.elapsed().as_secs_f64();
    wait_for_all(host, &running);
    churned.full_again = Figures::of(host);
    let ours = pids(&running);
    drop(running);
    // Others of the machine come and go as they like.
    host.wait_until("the end of all", |host| ours.is_disjoint(&watched(host)));
    churned.after = Figures::of(host);
    churned.started = started;
    churned
}

fn pids(running: &VecDeque<(Guard, Instant)>) -> BTreeSet<u64> {
    running.iter().map(|(guard, _)| u64::from(guard.pid())).collect()
}

/// Pids that the agent watches.
#[track_caller]
fn watched(host: &HostAgent) -> BTreeSet<u64> {
    let about = host.about();
    let all = about["processes"].as_array().into_iter().flatten();
    all.filter_map(|process| process["pid"].as_u64()).collect()
}

/// Waits until exactly those of ours that run are watched.
#[track_caller]
fn wait_for_all(host: &HostAgent, running: &VecDeque<(Guard, Instant)>) {
    let ours = pids(running);
    host.wait_until("all of them are watched", |host| ours.is_subset(&watched(host)));
}
