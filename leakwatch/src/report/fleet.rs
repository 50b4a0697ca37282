//! The sites of all hosts together, as a Prometheus knows them: what `leakwatch fleet` prints.

use super::{Timestamp, Verdict};

/// What a fleet looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetReport {
    /// Where the figures are from: host, port and path.
    pub prometheus: String,
    /// Of when they are, by Prometheus's clock.
    pub taken: Timestamp,
    /// Versions and verdicts of so many seconds before that are known.
    pub since_s: f64,
    /// Agents that are scraped.
    pub hosts: u64,
    /// Processes that they watch.
    pub processes: u64,
    /// Sites by version and image, worst first.
    pub sites: Vec<FleetSite>,
    /// Sites that are not listed.
    pub more_sites: u64,
}

/// One site of one version of a program in one image, over all hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSite {
    /// Path of the executable.
    pub exe: Option<String>,
    /// Build id of the executable: its version.
    pub build_id: Option<String>,
    /// Image of the container; `None`: none, or not known.
    pub image: Option<String>,
    /// Kind of runtime.
    pub runtime: Option<String>,
    /// Function that starts the tasks.
    pub function: Option<String>,
    /// Its file.
    pub file: Option<String>,
    /// And line.
    pub line: Option<u32>,
    /// What the tasks run.
    pub task: Option<String>,
    /// The worst that is said of it on any host.
    pub verdict: Verdict,
    /// Tasks alive.
    pub live: u64,
    /// Tasks started per minute that will never end; `None`: not known.
    pub leak_rate_per_min: Option<f64>,
    /// Tasks that are proven to wait for ever; `None`: no proof was tried.
    pub proven: Option<u64>,
    /// Hosts that have it.
    pub hosts: u64,
    /// Processes that have it.
    pub processes: u64,
    /// Processes in which it is a leak.
    pub leaking_processes: u64,
    /// When this version was first seen; the beginning of what is known, or later; `None`: it has no build id.
    pub first_seen: Option<Timestamp>,
    /// Build id of the version that was first seen before this one; `None`: none is known.
    pub version_before: Option<String>,
    /// It is suspect or leaks, and never was in any version that was there before; `None`: it is neither, or no version
    /// before this one is known.
    pub is_new: Option<bool>,
}
