//! What the agent publishes: the report of all processes, and what is to be said of the agent itself.

use std::{collections::BTreeMap, sync::Arc};

use super::{discovery::Reason, tiers::Tier};
use crate::{
    export::metrics::{AgentFigures, ExportFigures, Totals},
    host::own::Own,
    images::BinaryFigures,
    observe::ProcessId,
    report::{
        Report, Timestamp,
        agent::{AgentReport, FeatureReport, Named, ProofTotals, WatchedReport},
    },
};

/// All that is published at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The processes that are watched; one that has ended is not among them.
    pub report: Arc<Report>,
    /// The agent.
    pub figures: Figures,
}

impl Snapshot {
    /// The same for `/metrics`.
    pub fn metrics(&self) -> AgentFigures {
        let figures = &self.figures;
        let of_tier = |tier| figures.watched.iter().filter(|one| one.tier == tier).count() as u64;
        let added =
            figures.watched.iter().filter_map(|one| Some((one.process.pid, one.added_percent? / 100.0)));
        AgentFigures {
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("LEAKWATCH_REVISION"),
            started: Some(figures.started),
            cpu_s: Some(figures.cpu_s),
            rss_bytes: figures.own.rss_bytes,
            open_fds: figures.own.open_fds,
            look_s: Some(figures.turn_s),
            turned_away: figures.left_out.get(&Reason::NoRoom).copied().unwrap_or(0),
            tiers: Tier::ALL.into_iter().map(|tier| (tier.name(), of_tier(tier))).collect(),
            overhead: added.collect(),
            errors: ErrorKind::ALL.map(|kind| (kind.name(), figures.errors.get(kind))).to_vec(),
            features: figures.features.iter().map(|feature| (feature.name, feature.on)).collect(),
            binaries: Some([figures.binaries.known, figures.binaries.inspected]),
            proofs: Some(figures.proofs),
            tier_changes: vec![
                (Tier::Memory.name(), figures.demoted),
                (Tier::Thinned.name(), figures.thinned),
                (Tier::Probes.name(), figures.promoted),
            ],
            totals: figures.totals.clone(),
            exports: figures.exports.clone(),
        }
    }

    /// What is to be said of the agent, for outputs.
    pub fn about(&self) -> AgentReport {
        let figures = &self.figures;
        let named = |name: &str, count: u64| Named { name: name.to_owned(), count };
        let watched = |one: &WatchedFigures| WatchedReport {
            pid: one.process.pid,
            tier: one.tier.name(),
            probe_hits: one.probe_hits,
            added_percent: one.added_percent,
            looks: one.looks,
        };
        let feature = |feature: &Feature| FeatureReport {
            name: feature.name,
            on: feature.on,
            why: feature.why.clone(),
        };
        let errors = ErrorKind::ALL.into_iter().map(|kind| named(kind.name(), figures.errors.get(kind)));
        AgentReport {
            started: figures.started,
            cpu_s: figures.cpu_s,
            rss_bytes: figures.own.rss_bytes,
            open_fds: figures.own.open_fds,
            threads: figures.own.threads,
            host_percent: figures.host_percent,
            hit_ns: figures.hit_ns,
            turn_s: figures.turn_s,
            watched: figures.watched.iter().map(watched).collect(),
            attached: figures.attached,
            left_out: figures.left_out.iter().map(|(reason, &count)| named(reason.name(), count)).collect(),
            probes: figures.probes,
            promoted: figures.promoted,
            thinned: figures.thinned,
            demoted: figures.demoted,
            proofs: figures.proofs,
            binaries: [figures.binaries.known, figures.binaries.inspected, figures.binaries.reused],
            lost_execs: figures.lost_execs,
            losses: figures.totals.lost().map(|(name, count)| named(name, count)).collect(),
            errors: errors.collect(),
            features: figures.features.iter().map(feature).collect(),
        }
    }
}

/// Something that the agent can do where the machine lets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What.
    pub name: &'static str,
    /// It can.
    pub on: bool,
    /// Why not, and what to do; or how it is done.
    pub why: String,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// A process that is wanted could not be watched.
    Attach,
    /// Probes could not be placed or taken off.
    Probes,
    /// The kernel's tables could not be read or written.
    Kernel,
    /// The configuration could not be read again.
    Reload,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Attach, Self::Probes, Self::Kernel, Self::Reload];

    /// The word used in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Probes => "probes",
            Self::Kernel => "kernel",
            Self::Reload => "reload",
        }
    }
}

/// What failed since the start, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors([u64; ErrorKind::ALL.len()]);

impl Errors {
    /// Once more.
    pub fn add(&mut self, kind: ErrorKind) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// How often.
    pub fn get(&self, kind: ErrorKind) -> u64 {
        self.0.get(kind as usize).copied().unwrap_or(0)
    }
}

/// A watched process, beside its report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WatchedFigures {
    /// Who it is.
    pub process: ProcessId,
    /// How it is counted.
    pub tier: Tier,
    /// Executions of its probes.
    pub probe_hits: u64,
    /// What they add to it, percent of one core; `None`: it has none, or their price is not known.
    pub added_percent: Option<f64>,
    /// Looks taken at it.
    pub looks: u64,
}

/// What is to be said of the agent. Counts are since its start.
#[derive(Clone, Debug)]
pub struct Figures {
    /// When it started.
    pub started: Timestamp,
    /// Its processor time, seconds.
    pub cpu_s: f64,
    /// What it has of the machine.
    pub own: Own,
    /// The watched processes, in the order of the report.
    pub watched: Vec<WatchedFigures>,
    /// Processes that were ever watched.
    pub attached: u64,
    /// Processes that are not watched, by reason, at the last look through all.
    pub left_out: BTreeMap<Reason, u64>,
    /// Probes that are placed.
    pub probes: u64,
    /// Binaries that are known.
    pub binaries: BinaryFigures,
    /// What only grows, over processes that are gone, too.
    pub totals: Totals,
    /// News of execs that was lost; each loss was followed by a look through all processes.
    pub lost_execs: u64,
    /// What failed.
    pub errors: Errors,
    /// What the machine lets it do.
    pub features: Vec<Feature>,
    /// Price of a probe hit, ns.
    pub hit_ns: Option<f64>,
    /// What watching took since the snapshot before, percent of the machine: probes in all processes, and the agent.
    pub host_percent: Option<f64>,
    /// Processes that got probes.
    pub promoted: u64,
    /// Times that the probes of a process were thinned.
    pub thinned: u64,
    /// Processes whose probes were taken off while they lived.
    pub demoted: u64,
    /// What became of proofs.
    pub proofs: ProofTotals,
    /// How long the last turn of looks took, seconds.
    pub turn_s: f64,
    /// What became of what was sent to others.
    pub exports: Vec<ExportFigures>,
}
