//! Rules over the figures of reports: thresholds, rates and windows that users write, with levels and hold times.
//!
//! [`Engine::evaluate`] is given the processes of one look and answers each [`Rule`] for each process or site: ok, firing,
//! or not enough data, with the value and why. It keeps what windows and hold times need, bounded by [`Limits`], and tells
//! what began to fire and what is over ([`Evaluation::changes`]). Time is an argument. It never acts: that is the floor `alert`; and it
//! never reads a file: that is `config`.

mod condition;
mod engine;
mod figure;
mod phase;
mod series;
mod standing;

#[cfg(test)]
mod tests;

pub use condition::{Condition, MOST_SAMPLES, Op, Statistic, Term, Window};
pub use engine::{Engine, Evaluation, Limits, Moment};
pub use figure::{Base, Figure, Per, ProcessFigure, SiteFigure, Unit, VERDICTS, figures};

use std::collections::BTreeMap;

use regex::Regex;

use crate::report::alerting::{Level, Scope};

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, one of its kind.
    pub name: String,
    /// What it finds, in one sentence; may be empty.
    pub about: String,
    /// How much it matters.
    pub level: Level,
    /// What it is asked about.
    pub scope: Scope,
    /// All of these must hold.
    pub when: Vec<Condition>,
    /// For so many seconds before it fires.
    pub for_s: f64,
    /// And must not hold for so many seconds before it is over.
    pub clear_for_s: f64,
    /// Once it fires it does so for at least so many seconds.
    pub hold_s: f64,
    /// Which processes and sites.
    pub only: Only,
    /// For whoever routes alerts.
    pub labels: BTreeMap<String, String>,
    /// For whoever reads them.
    pub annotations: BTreeMap<String, String>,
    /// Names of the actions that it triggers; `None`: all.
    pub actions: Option<Vec<String>>,
}

/// Which processes and sites a rule is asked about: those of which every pattern matches.
#[derive(Clone, Debug, Default)]
pub struct Only {
    /// Name of the process.
    pub comm: Option<Regex>,
    /// Path of its executable.
    pub exe: Option<Regex>,
    /// Container id.
    pub container: Option<Regex>,
    /// Image of the container.
    pub image: Option<Regex>,
    /// Runtime of the site.
    pub runtime: Option<Regex>,
    /// Function that starts a site's tasks.
    pub function: Option<Regex>,
    /// File of the site.
    pub file: Option<Regex>,
    /// What the site's tasks run.
    pub task: Option<Regex>,
    /// The runtime's own sites, too.
    pub system: bool,
}

/// Patterns are the same when they are written the same.
impl PartialEq for Only {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Only {
    fn written(&self) -> ([Option<&str>; 8], bool) {
        let Self { comm, exe, container, image, runtime, function, file, task, system } = self;
        let patterns = [comm, exe, container, image, runtime, function, file, task];
        (patterns.map(|pattern| pattern.as_ref().map(Regex::as_str)), *system)
    }
}
