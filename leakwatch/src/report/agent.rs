//! What the host agent says of itself: what it watches and how, what it leaves out and why, what it costs, what is off.

use super::Timestamp;

/// The agent at one moment. Counts are since its start; unknown is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentReport {
    /// When it started.
    pub started: Timestamp,
    /// Its processor time, seconds.
    pub cpu_s: f64,
    /// Its resident memory, bytes.
    pub rss_bytes: Option<u64>,
    /// Its open file descriptors.
    pub open_fds: Option<u64>,
    /// Its threads.
    pub threads: Option<u64>,
    /// What watching takes, percent of the machine: probes in all processes, and the agent.
    pub host_percent: Option<f64>,
    /// What a probe hit costs the process, ns.
    pub hit_ns: Option<f64>,
    /// How long the last turn of looks took, seconds.
    pub turn_s: f64,
    /// The watched processes, in the order of the report.
    pub watched: Vec<WatchedReport>,
    /// Processes that were ever watched.
    pub attached: u64,
    /// Processes that are not, by reason.
    pub left_out: Vec<Named>,
    /// Probes that are placed.
    pub probes: u64,
    /// Processes that got probes.
    pub promoted: u64,
    /// Times that the probes of a process were thinned.
    pub thinned: u64,
    /// Processes whose probes were taken off while they lived.
    pub demoted: u64,
    /// Proofs of which goroutines nothing alive can wake.
    pub proofs: ProofTotals,
    /// Binaries that are known, that were read, and that were known when they were asked for.
    pub binaries: [u64; 3],
    /// News of new programs that was lost; a look through all processes followed each time.
    pub lost_execs: u64,
    /// What was lost of all processes, by name.
    pub losses: Vec<Named>,
    /// What failed, by kind.
    pub errors: Vec<Named>,
    /// What the machine lets it do.
    pub features: Vec<FeatureReport>,
}

/// How a process is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedReport {
    /// Its pid.
    pub pid: u32,
    /// `memory`: by looks at its memory; `probes`: by probes, for a while.
    pub tier: &'static str,
    /// Executions of its probes.
    pub probe_hits: u64,
    /// What they add to it, percent of one core; `None`: it has none, or their price is not known.
    pub added_percent: Option<f64>,
    /// Looks taken at it.
    pub looks: u64,
}

/// What became of proofs, over all processes since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProofTotals {
    /// Proofs that came to their end.
    pub made: u64,
    /// Proofs that could not be made.
    pub failed: u64,
    /// Goroutines that were proven and ended or ran all the same: must be 0.
    pub refuted: u64,
    /// Processor time that it took, seconds.
    pub cpu_s: f64,
}

/// A count with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Of what.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// Something that the agent can do where the machine lets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureReport {
    /// What.
    pub name: &'static str,
    /// It can.
    pub on: bool,
    /// How it is done, or why not and what to do.
    pub why: String,
}
