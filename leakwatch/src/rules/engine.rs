//! Asks every rule about every process and site of a look, and remembers where each stands.
//!
//! A process is its pid and start time, a site its runtime, function, file, line and task. What is gone from the report, or
//! has exited, is over: its alerts resolve and its past is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    Rule,
    series::Column,
    standing::{Asked, Carry, Courses, Ended, MOST_CONDITIONS, Plan, Tally, Watched},
};
use crate::report::alerting::{AlertReport, AlertState, Alerting, Scope};
use crate::report::{ProcessReport, Report};

/// When a look was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Seconds since anything, never less than at the look before.
    pub at_s: f64,
    /// Wall-clock time.
    pub wall: Timestamp,
}

impl Moment {
    /// When a report was made: it says so itself.
    pub fn of(report: &Report) -> Self {
        let at_s = report.duration_s;
        let wall = SignedDuration::try_from_secs_f64(at_s).ok();
        let wall = wall.and_then(|since| report.started.checked_add(since).ok());
        Self { at_s, wall: wall.unwrap_or(report.started) }
    }

    /// The wall-clock time of an earlier moment.
    pub(super) fn before(self, at_s: f64) -> Timestamp {
        let back = SignedDuration::try_from_secs_f64((self.at_s - at_s).max(0.0)).ok();
        back.and_then(|back| self.wall.checked_sub(back).ok()).unwrap_or(self.wall)
    }
}

/// How much an engine remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes.
    pub processes: usize,
    /// Sites of all processes together.
    pub sites: usize,
    /// Alerts listed in a report; all of them are told as changes.
    pub alerts: usize,
    /// Of these, such as are over.
    pub resolved: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { processes: 4_096, sites: 20_000, alerts: 200, resolved: 20 }
    }
}

/// The answers of one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// For the report, the latest that are over among it; of actions it knows nothing.
    pub alerting: Alerting,
    /// What began to fire, and what is over, since the look before.
    pub changes: Vec<AlertReport>,
}

/// Rules, and where each of them stands with each process and site.
#[derive(Debug)]
pub struct Engine {
    rules: Vec<Rule>,
    plans: Vec<Plan>,
    columns: Columns,
    limits: Limits,
    watched: BTreeMap<(u32, Option<Timestamp>), Watched>,
    /// Number of the look.
    look: u64,
    /// Number of the last alert.
    last_id: u64,
    /// Sites of all processes.
    sites: usize,
    /// What is over, the latest last.
    resolved: VecDeque<AlertReport>,
}

/// What is kept of the figures of processes and of sites.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) process: Vec<Column>,
    pub(super) site: Vec<Column>,
}

impl Columns {
    /// Where a column is; it is added if it is not there.
    fn find(&mut self, column: Column) -> (Scope, usize) {
        let scope = column.figure.scope();
        let columns = match scope {
            Scope::Process => &mut self.process,
            Scope::Site => &mut self.site,
        };
        let at = columns.iter().position(|other| *other == column).unwrap_or_else(|| {
            columns.push(column);
            columns.len() - 1
        });
        (scope, at)
    }
}

/// Where the past of each rule's conditions is kept.
fn plans(rules: &[Rule]) -> (Vec<Plan>, Columns) {
    let mut columns = Columns::default();
    let plans = rules
        .iter()
        .map(|rule| Plan {
            columns: rule
                .when
                .iter()
                .take(MOST_CONDITIONS)
                .map(|condition| Column::of(&condition.term).map(|column| columns.find(column)))
                .collect(),
        })
        .collect();
    (plans, columns)
}

impl Engine {
    /// Of these rules. Conditions beyond the first `MOST_CONDITIONS` of a rule are not looked at; `config` refuses such.
    pub fn new(rules: Vec<Rule>, limits: Limits) -> Self {
        let (plans, columns) = plans(&rules);
        Self {
            rules,
            plans,
            columns,
            limits,
            watched: BTreeMap::new(),
            look: 0,
            last_id: 0,
            sites: 0,
            resolved: VecDeque::new(),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Asks other rules from now on. Those that stay as they are go on, with their past and their alerts; what fires by the
    /// others is over, and returned.
    pub fn replace(&mut self, rules: Vec<Rule>, at: Moment) -> Vec<AlertReport> {
        let (plans, columns) = plans(&rules);
        let carry = Carry::new((&self.rules, &self.columns), (&rules, &columns));
        let mut gone = Vec::new();
        for watched in self.watched.values_mut() {
            gone.extend(watched.carry(&carry, &columns));
        }
        (self.rules, self.plans, self.columns) = (rules, plans, columns);
        self.over(gone, at, Ended::RuleGone)
    }

    /// These are over.
    fn over(&mut self, mut alerts: Vec<AlertReport>, at: Moment, ended: Ended) -> Vec<AlertReport> {
        alerts.sort_by_key(|alert| alert.id);
        let changes: Vec<_> = alerts.into_iter().map(|alert| resolved(alert, at, ended.why())).collect();
        self.remember(&changes);
        changes
    }

    /// Keeps what is over, the latest of it.
    fn remember(&mut self, changes: &[AlertReport]) {
        let over = changes.iter().filter(|change| change.state == AlertState::Resolved);
        self.resolved.extend(over.cloned());
        while self.resolved.len() > self.limits.resolved {
            self.resolved.pop_front();
        }
    }

    /// Asks all rules about these processes: all that are watched, since one that is not among them is taken to be gone.
    pub fn evaluate(&mut self, at: Moment, processes: &[Arc<ProcessReport>]) -> Evaluation {
        self.look += 1;
        let mut asked = Asked {
            rules: &self.rules,
            plans: &self.plans,
            columns: &self.columns,
            at,
            listed: self.limits.alerts,
            last_id: &mut self.last_id,
            tallies: self.rules.iter().map(|_| Tally::default()).collect(),
            changes: Vec::new(),
            alerts: Vec::new(),
        };
        let mut not_looked_at = 0;
        // First what is gone: it makes room.
        let here: BTreeSet<_> = processes
            .iter()
            .filter(|process| !process.exited)
            .map(|process| (process.pid, process.start_time))
            .collect();
        let gone: Vec<_> = self.watched.keys().filter(|key| !here.contains(key)).copied().collect();
        for watched in gone.into_iter().filter_map(|key| self.watched.remove(&key)) {
            self.sites -= watched.sites.len();
            asked.end(watched, Ended::ProcessGone);
        }
        for (number, process) in processes.iter().enumerate().filter(|(_, process)| !process.exited) {
            let key = (process.pid, process.start_time);
            // A pid whose watching began anew: the process executed another program.
            let is_new = self.watched.get(&key).is_some_and(|watched| process.watched_s < watched.for_s);
            if is_new && let Some(before) = self.watched.remove(&key) {
                self.sites -= before.sites.len();
                asked.end(before, Ended::Executed);
            }
            if !self.watched.contains_key(&key) && self.watched.len() >= self.limits.processes {
                not_looked_at += 1;
                continue;
            }
            let watched = self
                .watched
                .entry(key)
                .or_insert_with(|| Watched::begin(process, &self.rules, &self.columns));
            // Two of one key in one look: the first is meant.
            if watched.look == self.look {
                continue;
            }
            watched.look = self.look;
            watched.for_s = process.watched_s;
            let before = watched.sites.len();
            let room = self.limits.sites.saturating_sub(self.sites);
            not_looked_at += asked.process(watched, process, number, self.look, room);
            self.sites = self.sites + watched.sites.len() - before;
        }
        let mut found = asked.finish(processes, not_looked_at);
        self.remember(&found.changes);
        found.alerting.alerts.extend(self.resolved.iter().rev().cloned());
        found
    }

    /// What fires.
    pub fn firing(&self) -> Vec<AlertReport> {
        let mut firing: Vec<_> = self.watched.values().flat_map(Watched::alerts).cloned().collect();
        firing.sort_by_key(|alert| alert.id);
        firing
    }

    /// Names are told in another way from now on: what fires is over, which is returned, and no name that was told is
    /// remembered.
    pub fn rename(&mut self, at: Moment) -> Vec<AlertReport> {
        let fired = std::mem::take(&mut self.watched).into_values().flat_map(Watched::into_alerts).collect();
        self.sites = 0;
        let over = self.over(fired, at, Ended::Renamed);
        self.resolved.clear();
        over
    }

    /// The watch is over: everything that fires resolves, because nobody looks any more.
    pub fn close(&mut self, at: Moment) -> Vec<AlertReport> {
        let fired = std::mem::take(&mut self.watched).into_values().flat_map(Watched::into_alerts).collect();
        self.sites = 0;
        self.over(fired, at, Ended::WatchOver)
    }
}

/// An alert that is over.
pub(super) fn resolved(alert: AlertReport, at: Moment, why: &str) -> AlertReport {
    AlertReport { state: AlertState::Resolved, resolved: Some(at.wall), why: why.to_owned(), ..alert }
}

/// What a process or site has of the past.
pub(super) fn courses(columns: &[Column]) -> Courses {
    columns.iter().map(Column::begin).collect()
}
