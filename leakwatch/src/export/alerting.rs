//! What a report says of rules, alerts and actions, read back from JSON.
//!
//! A word that this leakwatch does not know is of a newer one, and an error: an alert whose state is guessed says nothing.

use std::{collections::BTreeMap, fmt::Display};

use serde::Deserialize;

use super::{read::Unreadable, reports::time};
use crate::report::alerting::{
    ActionReport, AlertReport, AlertSite, AlertState, Alerting, Answer, Level, RuleReport, Scope,
};

/// Part of a report; all of it is empty where no rules were given, and in reports from before there were rules.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AlertingJson {
    rules: Vec<RuleJson>,
    alerts: Vec<AlertJson>,
    more_alerts: u64,
    rules_not_asked: u64,
    actions: Vec<ActionJson>,
}

#[derive(Deserialize)]
struct RuleJson {
    name: String,
    level: String,
    per: String,
    state: String,
    asked: u64,
    firing: u64,
    pending: u64,
    not_enough_data: u64,
    value: Option<f64>,
    why: String,
}

#[derive(Deserialize)]
struct AlertJson {
    rule: String,
    level: String,
    state: String,
    pid: u32,
    start_time: Option<String>,
    comm: String,
    site: Option<SiteJson>,
    since: String,
    fired: Option<String>,
    resolved: Option<String>,
    value: Option<f64>,
    why: String,
    about: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct SiteJson {
    runtime: String,
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    task: Option<String>,
}

#[derive(Deserialize)]
struct ActionJson {
    name: String,
    kind: String,
    done: u64,
    failed: u64,
    given_up: u64,
    dropped: u64,
    waiting: u64,
    last_error: Option<String>,
    held: Option<bool>,
}

/// The one of these that has this name.
fn named<T: Copy>(
    all: &[T],
    name: impl Fn(T) -> &'static str,
    word: &str,
    what: impl Display,
) -> Result<T, Unreadable> {
    let found = all.iter().copied().find(|one| name(*one) == word);
    found.ok_or_else(|| {
        Unreadable::new(format!("its JSON has a {what} {word:?} that this leakwatch does not know"))
    })
}

fn level(word: &str) -> Result<Level, Unreadable> {
    named(&Level::ALL, Level::name, word, "level of a rule")
}

impl AlertingJson {
    pub(super) fn alerting(self) -> Result<Alerting, Unreadable> {
        Ok(Alerting {
            rules: self.rules.into_iter().map(RuleJson::rule).collect::<Result<_, _>>()?,
            alerts: self.alerts.into_iter().map(AlertJson::alert).collect::<Result<_, _>>()?,
            more_alerts: self.more_alerts,
            not_looked_at: self.rules_not_asked,
            actions: self.actions.into_iter().map(ActionJson::action).collect::<Result<_, _>>()?,
        })
    }
}

impl RuleJson {
    fn rule(self) -> Result<RuleReport, Unreadable> {
        let Self { name, level, per, state, asked, firing, pending, not_enough_data, value, why } = self;
        Ok(RuleReport {
            name,
            level: self::level(&level)?,
            scope: named(&[Scope::Process, Scope::Site], Scope::name, &per, "scope of a rule")?,
            state: named(
                &[Answer::Ok, Answer::NotEnoughData, Answer::Firing],
                Answer::name,
                &state,
                "state of a rule",
            )?,
            asked,
            firing,
            pending,
            not_enough_data,
            value,
            why,
        })
    }
}

impl AlertJson {
    fn alert(self) -> Result<AlertReport, Unreadable> {
        let states = [AlertState::Pending, AlertState::Firing, AlertState::Resolved];
        let when = |text: Option<String>| text.as_deref().map(time).transpose();
        Ok(AlertReport {
            rule: self.rule,
            level: level(&self.level)?,
            state: named(&states, AlertState::name, &self.state, "state of an alert")?,
            pid: self.pid,
            start_time: when(self.start_time)?,
            comm: self.comm,
            site: self.site.map(|site| {
                let SiteJson { runtime, function, file, line, task } = site;
                AlertSite { runtime, function, file, line, task }
            }),
            since: time(&self.since)?,
            fired: when(self.fired)?,
            resolved: when(self.resolved)?,
            value: self.value,
            why: self.why,
            about: self.about,
            labels: self.labels,
            annotations: self.annotations,
            // Not in the file.
            id: 0,
            exe: None,
            container: None,
            pod: None,
        })
    }
}

impl ActionJson {
    fn action(self) -> Result<ActionReport, Unreadable> {
        let Self { name, kind, done, failed, given_up, dropped, waiting, last_error, held } = self;
        let kind = named(&ActionReport::KINDS, |kind| kind, &kind, "kind of an action")?;
        Ok(ActionReport { name, kind, done, failed, given_up, dropped, waiting, last_error, held })
    }
}
