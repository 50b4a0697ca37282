//! Rules and actions of one watch, or of the host agent: asked at each report, told of each change. What a rule means and how
//! an action works are the floors `rules` and `alert`.

use std::{sync::Arc, time::Duration};

use crate::{
    alert::{Action, AlertError, Dispatcher, Means},
    report::{
        Report,
        alerting::{ActionReport, AlertReport, AlertState, Alerting, Level},
    },
    rules::{Engine, Limits, Moment, Rule},
};

/// How long the actions may take to finish after the watch.
const FINISH: Duration = Duration::from_secs(5);

/// They.
#[derive(Debug)]
pub struct Alarms {
    engine: Engine,
    dispatcher: Dispatcher,
    /// Of the last report, to be told with it.
    changes: Vec<AlertReport>,
    at: Option<Moment>,
    last: Option<Arc<Report>>,
    worst: Option<Level>,
}

impl Alarms {
    /// Begins the work of the actions.
    ///
    /// # Errors
    /// When one of them cannot: an address that is taken, a folder that cannot be used.
    pub fn start(rules: Vec<Rule>, actions: Vec<Action>, means: &Means) -> Result<Self, AlertError> {
        let dispatcher = Dispatcher::start(&rules, actions, means)?;
        let engine = Engine::new(rules, Limits::default());
        Ok(Self { engine, dispatcher, changes: Vec::new(), at: None, last: None, worst: None })
    }

    /// Asks other rules and has other actions done from now on; those that stay as they are go on. What is over by that, which the
    /// actions are told. Where names are told in another way from now on (`renamed`), that is all: an alert is known by the names
    /// that it was told with.
    ///
    /// # Errors
    /// When an action cannot begin its work; nothing has changed then.
    pub fn replace(
        &mut self,
        rules: Vec<Rule>,
        actions: Vec<Action>,
        renamed: bool,
    ) -> Result<Vec<AlertReport>, AlertError> {
        let replacement = self.dispatcher.prepare(actions)?;
        let mut over = Vec::new();
        if let (Some(at), Some(report)) = (self.at, self.last.take_if(|_| renamed)) {
            over = self.engine.rename(at);
            // Whoever was told of an alert by its names is told of its end by them, and of nothing else.
            let bare =
                Report { processes: Vec::new(), alerting: Alerting::default(), ..Report::clone(&report) };
            self.dispatcher.take(at, &over, &Arc::new(bare));
        }
        if let Some(at) = self.at {
            let gone = self.engine.replace(rules, at);
            if let Some(report) = &self.last {
                // By the ways that they came.
                self.dispatcher.take(at, &gone, report);
            }
            over.extend(gone);
        } else {
            self.engine = Engine::new(rules, Limits::default());
        }
        self.dispatcher.replace(replacement, self.engine.rules(), &self.engine.firing());
        Ok(over)
    }

    /// What began to fire or is over since the report before; of the last report that was asked about.
    pub fn changes(&self) -> &[AlertReport] {
        &self.changes
    }

    /// The actions at work.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Asks the rules about a report that was just made, and writes their answers into it.
    pub fn ask(&mut self, report: &mut Report) {
        let at = Moment::of(report);
        let found = self.engine.evaluate(at, &report.processes);
        report.alerting = found.alerting;
        report.alerting.actions = self.dispatcher.figures();
        let fired = found.changes.iter().filter(|change| change.state == AlertState::Firing);
        self.worst = fired.map(|change| change.level).chain(self.worst).max();
        self.changes = found.changes;
        self.at = Some(at);
    }

    /// Has the actions done that the report's changes ask for. It does not wait for them.
    pub fn tell(&mut self, report: &Arc<Report>) {
        if let Some(at) = self.at {
            self.dispatcher.take(at, &self.changes, report);
        }
        self.changes.clear();
        self.last = Some(report.clone());
    }

    /// How much what has fired so far matters at most.
    pub fn worst(&self) -> Option<Level> {
        self.worst
    }

    /// The watch is over: what fires is over, too, and is told to be. Then the actions have a few seconds to finish. What
    /// they did in the end.
    pub fn finish(mut self) -> Vec<ActionReport> {
        if let (Some(at), Some(report)) = (self.at, &self.last) {
            let changes = self.engine.close(at);
            self.dispatcher.take(at, &changes, report);
        }
        self.dispatcher.finish(FINISH)
    }
}
