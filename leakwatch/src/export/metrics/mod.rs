//! Metrics: reports and the agent's own figures as families of series, and those as bytes for a scraper.
//!
//! [`families()`] fills the one table of names ([`table::TABLE`]); the encoders print what they are given and know no
//! report. Nothing here opens a socket or a file, reads a clock, or keeps state, but for [`Totals`], which its owner
//! holds. How many series there are is bounded ([`Limits`]); what did not fit is summed up under `(other)` and counted.

mod fill;
pub(crate) mod histogram;
mod labels;
mod negotiate;
mod protobuf;
pub mod table;
mod text;
mod totals;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use crate::report::{Report, Timestamp, agent::ProofTotals};

pub use fill::families;
pub use histogram::{Histogram, NativeBuckets};
pub use labels::{OTHER, of_pod};
pub use negotiate::{Exposition, negotiate};
pub use table::{Definition, Kind, Metric, Of, TABLE};
pub use totals::Totals;

/// Families as the bytes of an answer.
pub fn encode(families: &[Family], form: Exposition) -> Vec<u8> {
    match form {
        Exposition::Text => text::prometheus(families).into_bytes(),
        Exposition::OpenMetrics => text::open_metrics(families).into_bytes(),
        Exposition::Protobuf => protobuf::encode(families),
    }
}

/// A report as Prometheus's text, for whoever has no agent to scrape.
pub fn report_to_text(report: &Report, version: &'static str, revision: &'static str) -> String {
    let mut totals = Totals::default();
    totals.add(&report.processes);
    let figures = AgentFigures { version, revision, totals, ..AgentFigures::default() };
    text::prometheus(&families(&report.processes, &figures, &Limits::default()))
}

/// How many series there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes that have series of their own: those with most leaks, then with most tasks.
    pub processes: usize,
    /// Sites of a process: its worst.
    pub sites_of_a_process: usize,
    /// Sites over all processes: the worst of those.
    pub sites: usize,
    /// Characters of a label's value; longer ones lose their middle.
    pub label: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { processes: 1_000, sites_of_a_process: 20, sites: 2_000, label: 256 }
    }
}

/// What the agent says of itself. Unknown is `None` or an absent row, never 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentFigures {
    /// Version of leakwatch.
    pub version: &'static str,
    /// Revision of its sources.
    pub revision: &'static str,
    /// When it started.
    pub started: Option<Timestamp>,
    /// Its own processor time, seconds.
    pub cpu_s: Option<f64>,
    /// Its resident set, bytes.
    pub rss_bytes: Option<u64>,
    /// Its open file descriptors.
    pub open_fds: Option<u64>,
    /// How long its last look at all processes took, seconds.
    pub look_s: Option<f64>,
    /// Processes that are wanted and not watched, for want of room.
    pub turned_away: u64,
    /// Processes by how they are looked at.
    pub tiers: Vec<(&'static str, u64)>,
    /// Processor time that probes add to a process, as a share of one core, by pid.
    pub overhead: Vec<(u32, f64)>,
    /// What was lost and how often our probes ran, over all processes since the start, those that are gone among them.
    pub totals: Totals,
    /// What failed, by kind.
    pub errors: Vec<(&'static str, u64)>,
    /// What it can do where the machine lets it, and whether that does.
    pub features: Vec<(&'static str, bool)>,
    /// Binaries that are known, and those that were read.
    pub binaries: Option<[u64; 2]>,
    /// Times that processes came to a tier.
    pub tier_changes: Vec<(&'static str, u64)>,
    /// What became of proofs.
    pub proofs: Option<ProofTotals>,
    /// Where figures and alerts are sent to.
    pub exports: Vec<ExportFigures>,
}

/// What became of what was sent to one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportFigures {
    /// Which: `otlp`, `remote_write`, …
    pub to: &'static str,
    /// Requests that the receiver took.
    pub sent: u64,
    /// Requests that failed and are tried again.
    pub failed: u64,
    /// Samples given up: the queue was full, or the receiver refused them for good.
    pub dropped: u64,
    /// Bytes that wait.
    pub queued_bytes: u64,
}

/// All series of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, kind and meaning.
    pub definition: &'static Definition,
    /// Its series, each with labels of its own.
    pub series: Vec<Series>,
}

/// Whom a series is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The agent itself.
    Agent,
    /// The process at this place of the reports that the families were made from.
    Process(usize),
    /// Processes that have no series of their own.
    Others,
}

/// Names and values of labels; none is empty. Names are the table's, but for those of pods' labels.
pub type Labels = Vec<(Cow<'static, str>, Arc<str>)>;

/// One series with its value now.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Whom it is about.
    pub subject: Subject,
    /// Its labels, in the table's order.
    pub labels: Labels,
    /// Its value.
    pub value: Value,
    /// Of what only grows: when it began at 0; `None`: not known, or it goes up and down.
    pub since: Option<Timestamp>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a gauge, a counter or an info (1).
    Number(f64),
    /// Of a histogram.
    Histogram(Box<Histogram>),
}
