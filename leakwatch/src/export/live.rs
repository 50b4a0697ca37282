//! What has changed since somebody was told last, schema `leakwatch.events/1`: what `/api/v1/events` sends.
//!
//! The first turn has everything, the later ones only the rows of processes that were looked at since, the pids that are gone, and
//! the alerts where something is new: with hundreds of processes that are looked at every few seconds, a turn is small.
//! Nothing here knows who listens.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    agent::{Row, about},
    alerts::AlertingJson,
    json::number,
    safe,
};
use crate::report::{
    Moment, ProcessReport, Report, Timestamp,
    agent::{AgentReport, WatchedReport},
};

/// Name of the schema.
pub const EVENTS_SCHEMA: &str = "leakwatch.events/1";

/// Points of the curve that a process comes with: what a picture of a row can show.
const POINTS: usize = 60;

/// What somebody has been told.
#[derive(Debug, Default)]
pub struct Told {
    /// By pid.
    processes: BTreeMap<u32, Known>,
    alerting: Value,
}

/// What was told of a process.
#[derive(Debug, PartialEq)]
struct Known {
    start_time: Option<Timestamp>,
    watched_s: f64,
    /// Its figures are others after another look, and when its tier or its probes' hits are others: nothing else changes them.
    watched: WatchedReport,
}

impl Told {
    /// What is new, as JSON on one line.
    pub fn news(&mut self, report: &Report, agent: &AgentReport) -> String {
        let mut changed = Vec::new();
        for (process, watched) in report.processes.iter().zip(&agent.watched) {
            let (start_time, watched_s) = (process.start_time, process.watched_s);
            let now = Known { start_time, watched_s, watched: watched.clone() };
            let before = self.processes.get(&process.pid);
            if before == Some(&now) {
                continue;
            }
            let mut row = Row::of(process, watched);
            // A pid is used again, or its program became another: the curve begins anew.
            let is_another = |before: &Known| before.start_time != start_time || watched_s < before.watched_s;
            row.curve = before.is_none_or(is_another).then(|| curve(process));
            changed.push(row);
            self.processes.insert(process.pid, now);
        }
        let here: BTreeSet<u32> = report.processes.iter().map(|process| process.pid).collect();
        let gone: Vec<u32> = self.processes.keys().copied().filter(|pid| !here.contains(pid)).collect();
        self.processes.retain(|pid, _| here.contains(pid));
        let alerting = json!(AlertingJson::from(&report.alerting));
        let is_new = alerting != self.alerting;
        if is_new {
            self.alerting = alerting;
        }
        safe::line(&News {
            schema: EVENTS_SCHEMA,
            at_s: number(report.duration_s),
            agent: about(report, agent),
            processes: changed,
            gone,
            alerting: is_new.then_some(&self.alerting),
        })
    }
}

/// What is new.
#[derive(Serialize)]
struct News<'a> {
    schema: &'static str,
    at_s: Option<f64>,
    agent: Value,
    processes: Vec<Row<'a>>,
    gone: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alerting: Option<&'a Value>,
}

/// Seconds since attach, and tasks alive then.
fn curve(process: &ProcessReport) -> Vec<(Option<f64>, u64)> {
    let step = process.recent.len().div_ceil(POINTS).max(1);
    // From the newest back, so that it is among them.
    let mut points: Vec<&Moment> = process.recent.iter().rev().step_by(step).collect();
    points.reverse();
    points.iter().map(|moment| (number(moment.at_s), moment.live)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::report::{
        agent::ProofTotals,
        alerting::{AlertReport, AlertState},
        samples,
    };

    fn agent(report: &Report) -> AgentReport {
        let watched = |process: &Arc<ProcessReport>| WatchedReport {
            pid: process.pid,
            tier: "memory",
            probe_hits: 0,
            added_percent: None,
            looks: process.tasks.live,
        };
        AgentReport {
            started: report.started,
            cpu_s: 1.0,
            rss_bytes: None,
            open_fds: None,
            threads: None,
            host_percent: None,
            hit_ns: None,
            turn_s: 0.0,
            watched: report.processes.iter().map(watched).collect(),
            attached: 0,
            left_out: Vec::new(),
            probes: 0,
            thinned: 0,
            promoted: 0,
            demoted: 0,
            proofs: ProofTotals::default(),
            binaries: [0; 3],
            lost_execs: 0,
            losses: Vec::new(),
            errors: Vec::new(),
            features: Vec::new(),
        }
    }

    fn told(told: &mut Told, report: &Report) -> Value {
        let text = told.news(report, &agent(report));
        assert!(!text.contains(['\n', '\r']), "an event is one line: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    fn moment(at_s: f64, live: u64) -> Moment {
        Moment { at_s, live, started: live, ended: 0, threads_live: None, rss_bytes: None }
    }

    #[test]
    fn all_of_it_at_first_then_what_is_new() {
        let mut two = samples::report(vec![samples::process(7, "a"), samples::process(8, "b")]);
        samples::process_of(&mut two, 0).recent =
            (0..181u32).map(|at| moment(f64::from(at), at.into())).collect();
        let mut listener = Told::default();
        let first = told(&mut listener, &two);
        assert_eq!(first["schema"], EVENTS_SCHEMA);
        assert_eq!(first["processes"].as_array().expect("a list").len(), 2);
        let curve = first["processes"][0]["curve"].as_array().expect("a curve").clone();
        assert!(curve.len() <= POINTS, "{}", curve.len());
        assert_eq!(curve.last(), Some(&json!([180.0, 180])), "the newest is among them");
        assert_eq!(first["alerting"]["alerts"], json!([]));

        let second = told(&mut listener, &two);
        assert_eq!((&second["processes"], &second["gone"]), (&json!([]), &json!([])));
        assert_eq!(second.get("alerting"), None, "nothing is new");

        samples::process_of(&mut two, 1).tasks.live = 5;
        let third = told(&mut listener, &two);
        assert_eq!(third["processes"][0]["tasks_live"], 5);
        assert_eq!(third["processes"][0].get("curve"), None, "it is known already");

        two.processes.remove(0);
        two.alerting.alerts.push(AlertReport { state: AlertState::Firing, ..AlertReport::default() });
        let fourth = told(&mut listener, &two);
        assert_eq!((&fourth["processes"], &fourth["gone"]), (&json!([]), &json!([7])));
        assert_eq!(fourth["alerting"]["alerts"][0]["state"], "firing");
        assert_eq!(told(&mut listener, &two)["gone"], json!([]), "it is told once");
    }

    #[test]
    fn a_pid_s_next_user_has_a_curve_of_its_own() {
        let mut one = samples::report(vec![samples::process(7, "a")]);
        let mut listener = Told::default();
        drop(told(&mut listener, &one));
        samples::process_of(&mut one, 0).start_time = None;
        assert!(told(&mut listener, &one)["processes"][0]["curve"].is_array());
        // A process that execs keeps its start.
        samples::process_of(&mut one, 0).watched_s = 1.0;
        assert!(told(&mut listener, &one)["processes"][0]["curve"].is_array());
    }

    #[test]
    fn hostile_names_stay_inside_their_line() {
        let hostile = samples::report(vec![samples::process(7, "a\r\n\ndata: x\u{2028}\u{1b}[2J</script>")]);
        let row = &told(&mut Told::default(), &hostile)["processes"][0];
        assert_eq!(row["comm"], "a\r\n\ndata: x\u{2028}\u{1b}[2J</script>");
    }
}
