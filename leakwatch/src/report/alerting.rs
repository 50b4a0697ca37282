//! What rules say of the figures of a report, and what came of it. Plain data: the floor `rules` fills it in, outputs
//! print it.

use std::collections::BTreeMap;

use super::{Container, Pod, Timestamp, clean::clean, units::count};

/// All of it; empty where no rules were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerting {
    /// Every rule and its answer, in the order of the file.
    pub rules: Vec<RuleReport>,
    /// What fires and what is about to, worst first; then what was over lately, the latest first.
    pub alerts: Vec<AlertReport>,
    /// Alerts beyond those listed.
    pub more_alerts: u64,
    /// Processes and sites that no rule looked at: there are more than the limits allow.
    pub not_looked_at: u64,
    /// What was done, and how often it failed.
    pub actions: Vec<ActionReport>,
}

impl Alerting {
    /// No rules were given.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How all rules stand, for people: `3 rules; firing: leak; not enough data yet: growth-red; 1 ok`.
    pub fn in_short(&self) -> String {
        let named = |state: Answer| -> Vec<String> {
            self.rules.iter().filter(|rule| rule.state == state).map(|rule| clean(&rule.name)).collect()
        };
        let mut parts = vec![count(self.rules.len() as u64, "rule")];
        for (state, words) in [(Answer::Firing, "firing"), (Answer::NotEnoughData, "not enough data yet")] {
            let names = named(state);
            if !names.is_empty() {
                parts.push(format!("{words}: {}", names.join(", ")));
            }
        }
        let fine = named(Answer::Ok).len();
        if fine > 0 {
            parts.push(format!("{} ok", count(fine as u64, "")));
        }
        parts.join("; ")
    }
}

/// How much an alert matters, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// To be noted; nothing is wrong.
    Green,
    /// For office hours.
    P2,
    /// To be looked at.
    Yellow,
    /// To be looked at today.
    #[default]
    P1,
    /// To be acted on.
    Red,
    /// Wakes somebody.
    P0,
}

impl Level {
    /// All, least first.
    pub const ALL: [Self; 6] = [Self::Green, Self::P2, Self::Yellow, Self::P1, Self::Red, Self::P0];

    /// The word in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::P2 => "P2",
            Self::Yellow => "yellow",
            Self::P1 => "P1",
            Self::Red => "red",
            Self::P0 => "P0",
        }
    }

    /// The word that Alertmanager's users route by.
    pub const fn severity(self) -> &'static str {
        match self {
            Self::Green | Self::P2 => "info",
            Self::Yellow | Self::P1 => "warning",
            Self::Red | Self::P0 => "critical",
        }
    }
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Each process.
    #[default]
    Process,
    /// Each creation site.
    Site,
}

impl Scope {
    /// The word in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Site => "site",
        }
    }
}

/// A rule's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// It does not fire.
    Ok,
    /// Too little was seen to say.
    #[default]
    NotEnoughData,
    /// It fires.
    Firing,
}

impl Answer {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotEnoughData => "not_enough_data",
            Self::Firing => "firing",
        }
    }
}

/// A rule and its answer over all processes or sites.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleReport {
    /// Its name.
    pub name: String,
    /// How much it matters.
    pub level: Level,
    /// What it is asked about.
    pub scope: Scope,
    /// Firing when it fires anywhere; not enough data when it can be answered nowhere.
    pub state: Answer,
    /// How many processes or sites it was asked about.
    pub asked: u64,
    /// For how many of them it fires.
    pub firing: u64,
    /// For how many its condition holds, but not for long enough yet.
    pub pending: u64,
    /// For how many it cannot be answered.
    pub not_enough_data: u64,
    /// Its first condition's figure where that is worst.
    pub value: Option<f64>,
    /// Why, in one sentence, of where it is worst.
    pub why: String,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// The condition holds, but not for long enough yet.
    #[default]
    Pending,
    /// It fires.
    Firing,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// The creation site that an alert is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AlertSite {
    /// Runtime that owns the tasks.
    pub runtime: String,
    /// Function that starts them.
    pub function: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
    /// What they run.
    pub task: Option<String>,
}

/// A rule that fires, or is about to, or did, for one process or site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertReport {
    /// Tells alerts of one run of leakwatch apart.
    pub id: u64,
    /// Name of the rule.
    pub rule: String,
    /// How much it matters.
    pub level: Level,
    /// Where it stands.
    pub state: AlertState,
    /// The process.
    pub pid: u32,
    /// When that was started.
    pub start_time: Option<Timestamp>,
    /// Name of its main thread.
    pub comm: String,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Its container.
    pub container: Option<Container>,
    /// Kubernetes pod.
    pub pod: Option<Pod>,
    /// The site; `None`: the rule is asked about processes.
    pub site: Option<AlertSite>,
    /// Since when the condition holds.
    pub since: Timestamp,
    /// Since when it fires.
    pub fired: Option<Timestamp>,
    /// Since when it is over.
    pub resolved: Option<Timestamp>,
    /// The first condition's figure.
    pub value: Option<f64>,
    /// The condition and its figures, in one sentence.
    pub why: String,
    /// What the rule says besides; of sites the verdict's own sentence.
    pub about: String,
    /// The rule's labels.
    pub labels: BTreeMap<String, String>,
    /// The rule's annotations.
    pub annotations: BTreeMap<String, String>,
}

impl AlertReport {
    /// Who it is about: `nats-server (pid 4242)`, `nats-server (pid 4242): main.serve (main.go:12)`.
    pub fn subject(&self) -> String {
        let process = format!("{} (pid {})", self.comm, self.pid);
        let Some(site) = &self.site else { return process };
        let function = site.function.as_deref().or(site.task.as_deref()).unwrap_or("an unknown site");
        let file = site.file.as_deref().map(|file| file.rsplit('/').next().unwrap_or(file));
        match (file, site.line) {
            (Some(file), Some(line)) => format!("{process}: {function} ({file}:{line})"),
            _ => format!("{process}: {function}"),
        }
    }
}

/// What an action did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActionReport {
    /// Its name.
    pub name: String,
    /// `webhook`, `command`, `dump`, `log`, `hold`.
    pub kind: &'static str,
    /// Times that it was done.
    pub done: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Times that it was given up, after its last attempt.
    pub given_up: u64,
    /// Times that it was not even tried: too many at once, or more than its limit a minute.
    pub dropped: u64,
    /// What waits for its turn or is on its way.
    pub waiting: u64,
    /// What the last failed attempt said.
    pub last_error: Option<String>,
    /// Something holds; `None`: it is no `hold`.
    pub held: Option<bool>,
}

impl ActionReport {
    /// All kinds.
    pub const KINDS: [&'static str; 5] = ["webhook", "command", "dump", "log", "hold"];

    /// What did not work, for people; `None`: all did.
    pub fn trouble(&self) -> Option<String> {
        if self.failed == 0 && self.dropped == 0 {
            return None;
        }
        let error =
            self.last_error.as_deref().map_or_else(String::new, |error| format!(": {}", clean(error)));
        let failed = count(self.failed, "failed attempt");
        let dropped =
            if self.dropped > 0 { format!(", {} dropped", count(self.dropped, "")) } else { String::new() };
        Some(format!("action {}: {failed}{dropped}{error}", clean(&self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_by_what_they_ask_for() {
        assert!(Level::P0 > Level::P1 && Level::P1 > Level::P2 && Level::Red > Level::Yellow);
        let severities: Vec<&str> = Level::ALL.iter().map(|level| level.severity()).collect();
        assert_eq!(severities, ["info", "info", "warning", "warning", "critical", "critical"]);
        assert!(Level::ALL.is_sorted() && Answer::Firing > Answer::NotEnoughData);
    }

    #[test]
    fn a_subject_is_short() {
        let mut alert = AlertReport { pid: 7, comm: "shop".to_owned(), ..AlertReport::default() };
        assert_eq!(alert.subject(), "shop (pid 7)");
        alert.site = Some(AlertSite {
            function: Some("main.serve".to_owned()),
            file: Some("/src/main.go".to_owned()),
            line: Some(12),
            ..AlertSite::default()
        });
        assert_eq!(alert.subject(), "shop (pid 7): main.serve (main.go:12)");
    }
}
