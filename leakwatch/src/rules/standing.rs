//! One look's questions: every rule, put to one process or site after the other.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use super::{
    Only, Rule,
    engine::{Columns, Evaluation, Moment, courses, resolved},
    phase::{Phase, Step, Times},
    series::{Column, Course},
};
use crate::report::alerting::{AlertReport, AlertSite, AlertState, Alerting, Answer, RuleReport, Scope};
use crate::report::{ProcessReport, SiteReport};

/// Most conditions of one rule.
pub(super) const MOST_CONDITIONS: usize = 8;

/// Where the past of a rule's conditions is kept.
#[derive(Debug)]
pub(super) struct Plan {
    /// By condition; `None`: it needs no past.
    pub(super) columns: Vec<Option<(Scope, usize)>>,
}

/// The past of a process or site, by column.
pub(super) type Courses = Vec<Course>;

type Values = [Option<f64>; MOST_CONDITIONS];

/// A process.
#[derive(Debug)]
pub(super) struct Watched {
    /// For how long it was watched at the last look.
    pub(super) for_s: f64,
    /// Number of the last look that had it.
    pub(super) look: u64,
    courses: Courses,
    standings: Vec<Standing>,
    /// By a hash of what they are known by.
    pub(super) sites: FxHashMap<u64, WatchedSite>,
}

/// A site.
#[derive(Debug)]
pub(super) struct WatchedSite {
    site: AlertSite,
    look: u64,
    courses: Courses,
    standings: Vec<Standing>,
}

/// Where a rule stands with a process or site; by rule.
#[derive(Debug, Default)]
struct Standing {
    /// The rule is of this scope and its patterns match; `None`: nobody has looked yet.
    asked: Option<bool>,
    phase: Phase,
    /// While it fires.
    alert: Option<Box<AlertReport>>,
}

/// Why alerts are over whose condition may well hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    ProcessGone,
    Executed,
    SiteGone,
    RuleGone,
    WatchOver,
    Renamed,
}

impl Ended {
    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::ProcessGone => "the process ended, or is not watched any more",
            Self::Executed => "the process executed another program",
            Self::SiteGone => "the site has no tasks any more",
            Self::RuleGone => "the rule was changed or taken away",
            Self::WatchOver => "leakwatch stopped watching",
            Self::Renamed => "names are told in another way from now on",
        }
    }
}

impl Watched {
    pub(super) fn begin(process: &ProcessReport, rules: &[Rule], columns: &Columns) -> Self {
        Self {
            for_s: 0.0,
            look: 0,
            courses: courses(&columns.process),
            standings: standings(rules, Scope::Process, |only| only.takes(process, None)),
            sites: FxHashMap::default(),
        }
    }

    /// Brings what stays of it to where other rules have it; what fires by rules that do not stay, in no order.
    pub(super) fn carry(&mut self, carry: &Carry, columns: &Columns) -> Vec<AlertReport> {
        let mut gone = carry.standings(&mut self.standings);
        carry.process.carry(&mut self.courses, courses(&columns.process));
        gone.extend(self.sites.values_mut().flat_map(|site| {
            carry.site.carry(&mut site.courses, courses(&columns.site));
            carry.standings(&mut site.standings)
        }));
        gone
    }

    /// All that fires in it.
    pub(super) fn alerts(&self) -> impl Iterator<Item = &AlertReport> {
        let of_sites = self.sites.values().flat_map(|site| &site.standings);
        self.standings.iter().chain(of_sites).filter_map(|standing| standing.alert.as_deref())
    }

    /// The same, for good.
    pub(super) fn into_alerts(self) -> impl Iterator<Item = AlertReport> {
        let of_sites = self.sites.into_values().flat_map(|site| site.standings);
        self.standings.into_iter().chain(of_sites).filter_map(|standing| standing.alert).map(|alert| *alert)
    }
}

/// Where what is kept by rule and by column was before the rules were replaced; `None`: it was not there.
#[derive(Debug)]
pub(super) struct Carry {
    rules: Places,
    process: Places,
    site: Places,
}

/// Old places, by new ones.
#[derive(Debug)]
struct Places(Vec<Option<usize>>);

impl Carry {
    /// From these rules to those.
    pub(super) fn new(from: (&[Rule], &Columns), to: (&[Rule], &Columns)) -> Self {
        Self {
            rules: Places::of(from.0, to.0),
            process: Places::of(&from.1.process, &to.1.process),
            site: Places::of(&from.1.site, &to.1.site),
        }
    }

    /// What fired by rules that are not there any more.
    fn standings(&self, standings: &mut Vec<Standing>) -> Vec<AlertReport> {
        let fresh = self.rules.0.iter().map(|_| Standing::default()).collect();
        let left = self.rules.carry(standings, fresh);
        left.into_iter().filter_map(|standing| standing.alert).map(|alert| *alert).collect()
    }
}

impl Places {
    fn of<T: PartialEq>(from: &[T], to: &[T]) -> Self {
        Self(to.iter().map(|new| from.iter().position(|old| old == new)).collect())
    }

    /// Moves what has a new place there, among what is fresh; what has none is left.
    fn carry<T>(&self, kept: &mut Vec<T>, fresh: Vec<T>) -> Vec<T> {
        let before = std::mem::replace(kept, fresh);
        let mut before: Vec<Option<T>> = before.into_iter().map(Some).collect();
        for (new, old) in kept.iter_mut().zip(&self.0) {
            if let Some(old) = old.and_then(|old| before.get_mut(old)?.take()) {
                *new = old;
            }
        }
        before.into_iter().flatten().collect()
    }
}

fn standings(rules: &[Rule], scope: Scope, takes: impl Fn(&Only) -> bool) -> Vec<Standing> {
    let standing = |rule: &Rule| Standing {
        asked: Some(rule.scope == scope && takes(&rule.only)),
        ..Standing::default()
    };
    rules.iter().map(standing).collect()
}

impl Only {
    fn takes(&self, process: &ProcessReport, site: Option<&SiteReport>) -> bool {
        let text = |pattern: &Option<regex::Regex>, text: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| pattern.is_match(text)))
        };
        let container = process.container.as_ref();
        text(&self.comm, Some(&process.comm))
            && text(&self.exe, process.exe.as_deref())
            && text(&self.container, container.map(|container| container.id.as_str()))
            && text(&self.image, container.and_then(|container| container.image.as_deref()))
            && site.is_none_or(|site| {
                (self.system || !site.system)
                    && text(&self.runtime, Some(&site.runtime))
                    && text(&self.function, site.function.as_deref())
                    && text(&self.file, site.file.as_deref())
                    && text(&self.task, site.task.as_deref())
            })
    }
}

fn is_of(known: &AlertSite, site: &SiteReport) -> bool {
    known.runtime == site.runtime
        && known.line == site.line
        && known.function == site.function
        && known.task == site.task
        && known.file == site.file
}

fn known(site: &SiteReport) -> AlertSite {
    AlertSite {
        runtime: site.runtime.clone(),
        function: site.function.clone(),
        file: site.file.clone(),
        line: site.line,
        task: site.task.clone(),
    }
}

/// The key of a site: that of its names, and the next ones where two have the same or were met in this look already.
fn key(sites: &FxHashMap<u64, WatchedSite>, site: &SiteReport, look: u64) -> u64 {
    let mut hasher = FxHasher::default();
    (&site.runtime, &site.function, &site.file, site.line, &site.task).hash(&mut hasher);
    let mut key = hasher.finish();
    while sites.get(&key).is_some_and(|other| other.look == look || !is_of(&other.site, site)) {
        key = key.wrapping_add(1);
    }
    key
}

/// A rule's answers of one look.
#[derive(Debug, Default)]
pub(super) struct Tally {
    asked: u64,
    firing: u64,
    pending: u64,
    unknown: u64,
    worst: Option<Worst>,
}

/// Where a rule is worst.
#[derive(Debug)]
struct Worst {
    /// Firing, about to, not, not known; then by how much.
    rank: u8,
    by: f64,
    values: Values,
    firing: bool,
    process: usize,
    site: Option<usize>,
}

/// Where a question is asked.
#[derive(Clone, Copy)]
struct Place<'a> {
    process: &'a ProcessReport,
    number: usize,
    site: Option<(usize, &'a SiteReport)>,
}

impl Place<'_> {
    /// The rule is of its scope, and its patterns match.
    fn is_for(self, rule: &Rule) -> bool {
        let scope = if self.site.is_some() { Scope::Site } else { Scope::Process };
        rule.scope == scope && rule.only.takes(self.process, self.site.map(|(_, site)| site))
    }
}

/// The questions of one look and their answers so far.
pub(super) struct Asked<'a> {
    pub(super) rules: &'a [Rule],
    pub(super) plans: &'a [Plan],
    pub(super) columns: &'a Columns,
    pub(super) at: Moment,
    /// Alerts of each rule that the report lists at most.
    pub(super) listed: usize,
    pub(super) last_id: &'a mut u64,
    pub(super) tallies: Vec<Tally>,
    pub(super) changes: Vec<AlertReport>,
    pub(super) alerts: Vec<AlertReport>,
}

impl Asked<'_> {
    /// Asks about a process and its sites; how many of these there was no room for.
    pub(super) fn process(
        &mut self,
        watched: &mut Watched,
        process: &ProcessReport,
        number: usize,
        look: u64,
        room: usize,
    ) -> u64 {
        self.push(&self.columns.process, &mut watched.courses, process, None);
        let place = Place { process, number, site: None };
        self.ask(place, &mut watched.standings, &watched.courses, &[]);
        if self.rules.iter().all(|rule| rule.scope != Scope::Site) {
            return 0;
        }
        let most = watched.sites.len().saturating_add(room);
        let mut left_out = 0;
        for (at, site) in process.sites.iter().enumerate() {
            let key = key(&watched.sites, site, look);
            if !watched.sites.contains_key(&key) {
                let standings = standings(self.rules, Scope::Site, |only| only.takes(process, Some(site)));
                if standings.iter().all(|standing| standing.asked == Some(false)) {
                    continue;
                }
                if watched.sites.len() >= most {
                    left_out += 1;
                    continue;
                }
                let courses = courses(&self.columns.site);
                watched.sites.insert(key, WatchedSite { site: known(site), look, courses, standings });
            }
            let Some(of_site) = watched.sites.get_mut(&key) else { continue };
            of_site.look = look;
            self.push(&self.columns.site, &mut of_site.courses, process, Some(site));
            let place = Place { site: Some((at, site)), ..place };
            self.ask(place, &mut of_site.standings, &watched.courses, &of_site.courses);
        }
        let mut gone = Vec::new();
        watched.sites.retain(|_, site| {
            let stays = site.look == look;
            if !stays {
                gone.extend(site.standings.iter_mut().filter_map(|standing| standing.alert.take()));
            }
            stays
        });
        // A table's order is nobody's.
        gone.sort_by_key(|alert| alert.id);
        self.changes.extend(gone.into_iter().map(|alert| resolved(*alert, self.at, Ended::SiteGone.why())));
        left_out
    }

    /// Everything that fires there is over.
    pub(super) fn end(&mut self, watched: Watched, ended: Ended) {
        let mut gone: Vec<AlertReport> = watched.into_alerts().collect();
        gone.sort_by_key(|alert| alert.id);
        self.changes.extend(gone.into_iter().map(|alert| resolved(alert, self.at, ended.why())));
    }

    fn push(
        &self,
        columns: &[Column],
        courses: &mut [Course],
        process: &ProcessReport,
        site: Option<&SiteReport>,
    ) {
        for (column, course) in columns.iter().zip(courses) {
            column.push(course, self.at.at_s, column.figure.read(process, site));
        }
    }

    /// Puts all rules to one process or site.
    fn ask(
        &mut self,
        place: Place<'_>,
        standings: &mut [Standing],
        of_process: &[Course],
        of_site: &[Course],
    ) {
        let rules = self.rules.iter().zip(self.plans).enumerate();
        for ((number, (rule, plan)), standing) in rules.zip(standings) {
            if !*standing.asked.get_or_insert_with(|| place.is_for(rule)) {
                continue;
            }
            let mut values: Values = [None; MOST_CONDITIONS];
            for ((condition, column), value) in rule.when.iter().zip(&plan.columns).zip(&mut values) {
                *value = match *column {
                    None => condition.term.figure().read(place.process, place.site.map(|(_, site)| site)),
                    Some((scope, at)) => {
                        let (columns, courses) = match scope {
                            Scope::Process => (&self.columns.process, of_process),
                            Scope::Site => (&self.columns.site, of_site),
                        };
                        let kept = columns.get(at).zip(courses.get(at));
                        kept.and_then(|(column, course)| column.value(course, &condition.term))
                    }
                };
            }
            self.answer(number, rule, place, standing, values);
        }
    }

    fn answer(
        &mut self,
        number: usize,
        rule: &Rule,
        place: Place<'_>,
        standing: &mut Standing,
        values: Values,
    ) {
        let holds = holds(rule, &values, standing.phase.is_firing());
        let times = Times { for_s: rule.for_s, clear_for_s: rule.clear_for_s, hold_s: rule.hold_s };
        let at = self.at;
        match standing.phase.step(holds, at.at_s, times) {
            Step::Fired => {
                *self.last_id += 1;
                let alert = AlertReport {
                    id: *self.last_id,
                    state: AlertState::Firing,
                    fired: Some(at.wall),
                    ..self.alert(rule, place, &values, standing.phase)
                };
                self.changes.push(alert.clone());
                standing.alert = Some(Box::new(alert));
            }
            Step::Resolved => {
                if let Some(alert) = standing.alert.take() {
                    let why = said(rule, &values, true);
                    self.changes.push(AlertReport { value: values[0], ..resolved(*alert, at, &why) });
                }
            }
            Step::Stayed => {}
        }
        let rank = match (standing.phase, holds) {
            (Phase::Firing { .. }, _) => 3,
            (Phase::Pending { .. }, _) => 2,
            (Phase::Quiet, Some(_)) => 1,
            (Phase::Quiet, None) => 0,
        };
        let listed = self.listed;
        let Some(tally) = self.tallies.get_mut(number) else { return };
        tally.asked += 1;
        let counted = match rank {
            3 => Some(&mut tally.firing),
            2 => Some(&mut tally.pending),
            0 => Some(&mut tally.unknown),
            _ => None,
        };
        let many = counted.is_some_and(|count| {
            *count += 1;
            usize::try_from(*count).unwrap_or(usize::MAX) > listed
        });
        let by = worse(rule, &values);
        let firing = rank == 3;
        if tally.worst.as_ref().is_none_or(|worst| (rank, by) > (worst.rank, worst.by)) {
            let site = place.site.map(|(at, _)| at);
            tally.worst = Some(Worst { rank, by, values, firing, process: place.number, site });
        }
        if many {
            return;
        }
        match standing.alert.as_mut() {
            Some(alert) => {
                if values[0].is_some() {
                    alert.value = values[0];
                    alert.why = said(rule, &values, true);
                }
                self.alerts.push((**alert).clone());
            }
            None if rank == 2 => {
                let alert = self.alert(rule, place, &values, standing.phase);
                self.alerts.push(alert);
            }
            None => {}
        }
    }

    fn alert(&self, rule: &Rule, place: Place<'_>, values: &Values, phase: Phase) -> AlertReport {
        let process = place.process;
        let since_s = match phase {
            Phase::Pending { since_s } | Phase::Firing { since_s, .. } => since_s,
            Phase::Quiet => self.at.at_s,
        };
        let site_why = place.site.map(|(_, site)| site.why.as_str()).filter(|why| !why.is_empty());
        AlertReport {
            id: 0,
            rule: rule.name.clone(),
            level: rule.level,
            state: AlertState::Pending,
            pid: process.pid,
            start_time: process.start_time,
            comm: process.comm.clone(),
            exe: process.exe.clone(),
            container: process.container.clone(),
            pod: process.pod.clone(),
            site: place.site.map(|(_, site)| known(site)),
            since: self.at.before(since_s),
            fired: None,
            resolved: None,
            value: values[0],
            why: said(rule, values, false),
            about: site_why.unwrap_or(&rule.about).to_owned(),
            labels: rule.labels.clone(),
            annotations: rule.annotations.clone(),
        }
    }

    /// The answers for the report.
    pub(super) fn finish(self, processes: &[Arc<ProcessReport>], not_looked_at: u64) -> Evaluation {
        let reports = self.rules.iter().zip(&self.tallies);
        let rules = reports.map(|(rule, tally)| self.rule(rule, tally, processes)).collect();
        let found: u64 = self.tallies.iter().map(|tally| tally.firing + tally.pending).sum();
        let mut alerts = self.alerts;
        alerts.sort_by(|a, b| {
            (b.level, b.state, a.since, a.id, a.pid).cmp(&(a.level, a.state, b.since, b.id, b.pid))
        });
        alerts.truncate(self.listed);
        let more_alerts = found.saturating_sub(alerts.len() as u64);
        let alerting = Alerting { rules, alerts, more_alerts, not_looked_at, actions: Vec::new() };
        Evaluation { alerting, changes: self.changes }
    }

    fn rule(&self, rule: &Rule, tally: &Tally, processes: &[Arc<ProcessReport>]) -> RuleReport {
        let state = if tally.firing > 0 {
            Answer::Firing
        } else if tally.asked > tally.unknown {
            Answer::Ok
        } else {
            Answer::NotEnoughData
        };
        let place = tally.worst.as_ref().and_then(|worst| {
            let process = processes.get(worst.process)?;
            let site = worst.site.and_then(|at| Some((at, process.sites.get(at)?)));
            Some((worst, Place { process, number: worst.process, site }))
        });
        let why = match place {
            Some((worst, place)) => {
                let subject = self.alert(rule, place, &worst.values, Phase::Quiet).subject();
                format!("{subject}: {}", said(rule, &worst.values, worst.firing))
            }
            None => format!("no {} matches it", rule.scope.name()),
        };
        RuleReport {
            name: rule.name.clone(),
            level: rule.level,
            scope: rule.scope,
            state,
            asked: tally.asked,
            firing: tally.firing,
            pending: tally.pending,
            not_enough_data: tally.unknown,
            value: tally.worst.as_ref().and_then(|worst| worst.values[0]),
            why,
        }
    }
}

/// All of a rule's conditions: one that does not hold settles it, one that is not known leaves it open.
fn holds(rule: &Rule, values: &Values, firing: bool) -> Option<bool> {
    let mut all = Some(true);
    for (condition, value) in rule.when.iter().zip(values) {
        match condition.holds(*value, firing) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

/// By how much a rule's first condition is beyond its threshold.
fn worse(rule: &Rule, values: &Values) -> f64 {
    let first = rule.when.first().zip(values[0]);
    first.map_or(f64::NEG_INFINITY, |(condition, value)| condition.worse(value))
}

/// The conditions and their figures, those that settle the answer.
fn said(rule: &Rule, values: &Values, firing: bool) -> String {
    let answer = holds(rule, values, firing);
    let both = rule.when.iter().zip(values);
    let telling = both.filter(|(condition, value)| condition.holds(**value, firing) == answer);
    telling.map(|(condition, value)| condition.said(*value, firing)).collect::<Vec<_>>().join(" and ")
}
