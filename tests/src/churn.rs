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
    let mut running: VecDeque<Guard> = VecDeque::new();
    let mut next = binaries.iter().cycle();
    let mut start = |running: &mut VecDeque<Guard>| {
        let binary = next.next().expect("there are binaries");
        let mut command = Command::new(binary);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        running.push_back(Guard::start_as_is(&mut command));
        churned.started += 1;
    };
    for _ in 0..processes {
        start(&mut running);
    }
    wait_for_all(host, &running);
    churned.full = Figures::of(host);
    let begun = Instant::now();
    let pause = Duration::from_secs(1) / per_second.max(1);
    let mut replaced = 0;
    while begun.elapsed() < length {
        drop(running.pop_front());
        start(&mut running);
        replaced += 1;
        // What makes the pace of a load is no wait for anything.
        std::thread::sleep((pause * replaced).saturating_sub(begun.elapsed()));
    }
    wait_for_all(host, &running);
    churned.full_again = Figures::of(host);
    drop(running);
    host.wait_until("the end of all", |host| Figures::of(host).watched == churned.before.watched);
    churned.after = Figures::of(host);
    churned
}

/// Waits until exactly those of ours that run are watched.
#[track_caller]
fn wait_for_all(host: &HostAgent, running: &VecDeque<Guard>) {
    let ours: BTreeSet<u64> = running.iter().map(|guard| u64::from(guard.pid())).collect();
    host.wait_until("all of them are watched", |host| {
        let about = host.about();
        let all = about["processes"].as_array().cloned().unwrap_or_default();
        let watched: BTreeSet<u64> = all.iter().filter_map(|process| process["pid"].as_u64()).collect();
        ours.is_subset(&watched)
    });
}
