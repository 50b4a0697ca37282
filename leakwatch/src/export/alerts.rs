//! Alerts in the forms that others read: Alertmanager's API v2, a list of them all, and what holds.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use serde_json::json;

use super::{
    json::{number, rfc3339},
    metrics, safe,
};
use crate::report::alerting::{ActionReport, AlertReport, AlertSite, AlertState, Alerting, RuleReport};
use crate::report::{Report, Timestamp};

/// Name of the schema of what holds.
pub const HOLD_SCHEMA: &str = "leakwatch.hold/1";

/// Labels of an alert; those that are empty are none.
fn labels<'a>(alert: &'a AlertReport, host: &'a str) -> BTreeMap<Cow<'a, str>, String> {
    let site = alert.site.as_ref();
    let (container, pod) = (alert.container.as_ref(), alert.pod.as_ref());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let of_site =
        |part: fn(&AlertSite) -> &Option<String>| site.map(|site| text(part(site))).unwrap_or_default();
    let own = [
        ("alertname", alert.rule.clone()),
        ("level", alert.level.name().to_owned()),
        ("severity", alert.level.severity().to_owned()),
        ("source", "leakwatch".to_owned()),
        ("host", host.to_owned()),
        ("pid", alert.pid.to_string()),
        ("comm", alert.comm.clone()),
        ("exe", text(&alert.exe)),
        ("container", container.map(|container| container.id.clone()).unwrap_or_default()),
        ("image", container.map(|container| text(&container.image)).unwrap_or_default()),
        ("namespace", pod.map(|pod| text(&pod.namespace)).unwrap_or_default()),
        ("pod", pod.map(|pod| text(&pod.name)).unwrap_or_default()),
        ("runtime", site.map(|site| site.runtime.clone()).unwrap_or_default()),
        ("function", of_site(|site| &site.function)),
        ("file", of_site(|site| &site.file)),
        ("line", site.and_then(|site| site.line).map(|line| line.to_string()).unwrap_or_default()),
        ("task", of_site(|site| &site.task)),
    ];
    let own = own.map(|(name, value)| (Cow::from(name), value));
    let rule = alert.labels.iter().map(|(name, value)| (name.as_str().into(), value.clone()));
    let of_pod = pod.into_iter().flat_map(|pod| pod.labels.iter().flatten());
    let of_pod = of_pod.map(|(key, value)| (metrics::of_pod(key).into(), value.clone()));
    of_pod.chain(rule).chain(own).filter(|(_, value)| !value.is_empty()).collect()
}

fn annotations(alert: &AlertReport) -> BTreeMap<&str, String> {
    let own = [
        ("summary", format!("{}: {}", alert.subject(), alert.why)),
        ("description", alert.about.clone()),
        ("value", alert.value.and_then(number).map(|value| value.to_string()).unwrap_or_default()),
    ];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    // What a user wrote wins.
    own.chain(alert.annotations.iter().map(|(name, value)| (name.as_str(), value.clone()))).collect()
}

/// Alerts as `POST /api/v2/alerts` takes them. What fires ends at `ends` unless it is sent again before.
pub fn to_alertmanager<'a>(
    alerts: impl Iterator<Item = &'a AlertReport>,
    host: &str,
    ends: Timestamp,
    generator_url: Option<&str>,
) -> String {
    let alerts: Vec<serde_json::Value> = alerts
        .map(|alert| {
            let ends = alert.resolved.filter(|_| alert.state == AlertState::Resolved).unwrap_or(ends);
            let mut form = json!({
                "labels": labels(alert, host),
                "annotations": annotations(alert),
                "startsAt": rfc3339(alert.fired.unwrap_or(alert.since), 3),
                "endsAt": rfc3339(ends, 3),
            });
            if let (Some(url), Some(form)) = (generator_url, form.as_object_mut()) {
                form.insert("generatorURL".to_owned(), json!(url));
            }
            form
        })
        .collect();
    safe::page(&alerts)
}

/// What a report has of rules, alerts and actions, and nothing else, schema `leakwatch.alerts/1`.
pub fn alerts_to_json(report: &Report) -> String {
    #[derive(Serialize)]
    struct Alerts<'a> {
        schema: &'static str,
        host: &'a str,
        #[serde(flatten)]
        alerting: AlertingJson<'a>,
    }
    let alerting = AlertingJson::from(&report.alerting);
    safe::page(&Alerts { schema: "leakwatch.alerts/1", host: &report.host, alerting })
}

/// Rules, alerts and actions in a report.
#[derive(Serialize)]
pub(super) struct AlertingJson<'a> {
    rules: Vec<RuleJson<'a>>,
    alerts: Vec<AlertJson<'a>>,
    more_alerts: u64,
    rules_not_asked: u64,
    actions: Vec<ActionJson<'a>>,
}

impl<'a> From<&'a Alerting> for AlertingJson<'a> {
    fn from(alerting: &'a Alerting) -> Self {
        Self {
            rules: alerting.rules.iter().map(RuleJson::from).collect(),
            alerts: alerting.alerts.iter().map(AlertJson::from).collect(),
            more_alerts: alerting.more_alerts,
            rules_not_asked: alerting.not_looked_at,
            actions: alerting.actions.iter().map(ActionJson::from).collect(),
        }
    }
}

/// What holds, as an answer by HTTP and in a file.
pub fn hold_to_json(alerts: &[&AlertReport]) -> String {
    /// Alerts that are named; who asks whether to hold does not read a thousand.
    const NAMED: usize = 20;
    #[derive(Serialize)]
    struct Hold<'a> {
        // First: by this a file is known to be ours.
        schema: &'static str,
        held: bool,
        alerts: usize,
        by: Vec<AlertJson<'a>>,
    }
    safe::page(&Hold {
        schema: HOLD_SCHEMA,
        held: !alerts.is_empty(),
        alerts: alerts.len(),
        by: alerts.iter().take(NAMED).map(|alert| AlertJson::from(*alert)).collect(),
    })
}

/// A rule in a report.
#[derive(Serialize)]
struct RuleJson<'a> {
    name: &'a str,
    level: &'static str,
    per: &'static str,
    state: &'static str,
    asked: u64,
    firing: u64,
    pending: u64,
    not_enough_data: u64,
    value: Option<f64>,
    why: &'a str,
}

impl<'a> From<&'a RuleReport> for RuleJson<'a> {
    fn from(rule: &'a RuleReport) -> Self {
        Self {
            name: &rule.name,
            level: rule.level.name(),
            per: rule.scope.name(),
            state: rule.state.name(),
            asked: rule.asked,
            firing: rule.firing,
            pending: rule.pending,
            not_enough_data: rule.not_enough_data,
            value: rule.value.and_then(number),
            why: &rule.why,
        }
    }
}

/// An alert in a report.
#[derive(Serialize)]
struct AlertJson<'a> {
    rule: &'a str,
    level: &'static str,
    state: &'static str,
    pid: u32,
    start_time: Option<String>,
    comm: &'a str,
    site: Option<AlertSiteJson<'a>>,
    since: String,
    fired: Option<String>,
    resolved: Option<String>,
    value: Option<f64>,
    why: &'a str,
    about: &'a str,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct AlertSiteJson<'a> {
    runtime: &'a str,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    task: Option<&'a str>,
}

impl<'a> From<&'a AlertReport> for AlertJson<'a> {
    fn from(alert: &'a AlertReport) -> Self {
        Self {
            rule: &alert.rule,
            level: alert.level.name(),
            state: alert.state.name(),
            pid: alert.pid,
            start_time: alert.start_time.map(|time| rfc3339(time, 3)),
            comm: &alert.comm,
            site: alert.site.as_ref().map(|site| AlertSiteJson {
                runtime: &site.runtime,
                function: site.function.as_deref(),
                file: site.file.as_deref(),
                line: site.line,
                task: site.task.as_deref(),
            }),
            since: rfc3339(alert.since, 3),
            fired: alert.fired.map(|time| rfc3339(time, 3)),
            resolved: alert.resolved.map(|time| rfc3339(time, 3)),
            value: alert.value.and_then(number),
            why: &alert.why,
            about: &alert.about,
            labels: &alert.labels,
            annotations: &alert.annotations,
        }
    }
}

/// An action in a report.
#[derive(Serialize)]
struct ActionJson<'a> {
    name: &'a str,
    kind: &'static str,
    done: u64,
    failed: u64,
    given_up: u64,
    dropped: u64,
    waiting: u64,
    last_error: Option<&'a str>,
    held: Option<bool>,
}

impl<'a> From<&'a ActionReport> for ActionJson<'a> {
    fn from(action: &'a ActionReport) -> Self {
        let ActionReport { name, kind, done, failed, given_up, dropped, waiting, last_error, held } = action;
        Self {
            name,
            kind,
            done: *done,
            failed: *failed,
            given_up: *given_up,
            dropped: *dropped,
            waiting: *waiting,
            last_error: last_error.as_deref(),
            held: *held,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::alerting::Level;

    fn alert() -> AlertReport {
        AlertReport {
            id: 1,
            rule: "leak".to_owned(),
            level: Level::P0,
            state: AlertState::Firing,
            pid: 4_242,
            comm: "shop".to_owned(),
            site: Some(AlertSite {
                runtime: "go".to_owned(),
                function: Some("main.serve".to_owned()),
                file: Some("/src/main.go".to_owned()),
                line: Some(12),
                task: None,
            }),
            since: "2026-11-21T12:00:00Z".parse().expect("a time"),
            fired: Some("2026-11-21T12:02:00Z".parse().expect("a time")),
            value: Some(2.0),
            why: "verdict is leak".to_owned(),
            about: "300 of 300 never ended".to_owned(),
            labels: [("team".to_owned(), "web".to_owned())].into(),
            annotations: [("runbook".to_owned(), "https://example.org".to_owned())].into(),
            ..AlertReport::default()
        }
    }

    #[test]
    fn alertmanager_s_form() {
        let ends = "2026-11-21T12:05:00Z".parse().expect("a time");
        let over = AlertReport {
            state: AlertState::Resolved,
            resolved: Some("2026-11-21T12:03:00Z".parse().expect("a time")),
            ..alert()
        };
        let text = to_alertmanager([&alert(), &over].into_iter(), "web-3", ends, Some("http://h/p"));
        let json: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            json[0],
            json!({
                "labels": {
                    "alertname": "leak", "level": "P0", "severity": "critical", "source": "leakwatch", "host": "web-3",
                    "pid": "4242", "comm": "shop", "runtime": "go", "function": "main.serve", "file": "/src/main.go",
                    "line": "12", "team": "web",
                },
                "annotations": {
                    "summary": "shop (pid 4242): main.serve (main.go:12): verdict is leak",
                    "description": "300 of 300 never ended", "value": "2", "runbook": "https://example.org",
                },
                "startsAt": "2026-11-21T12:02:00.000Z", "endsAt": "2026-11-21T12:05:00.000Z",
                "generatorURL": "http://h/p",
            })
        );
        assert_eq!(json[1]["endsAt"], "2026-11-21T12:03:00.000Z");
        assert_eq!(json[1]["labels"], json[0]["labels"], "by these it is known to be the same");
    }

    #[test]
    fn labels_of_pods_lead_alerts_to_their_team_unless_a_rule_says_otherwise() {
        let of_pod = [("app.kubernetes.io/name", "cart"), ("team", "shop")];
        let of_pod = of_pod.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let pod = crate::report::Pod { labels: Some(of_pod.into()), ..crate::report::Pod::default() };
        let routed = AlertReport {
            pod: Some(pod),
            labels: [("label_team".to_owned(), "web".to_owned())].into(),
            ..alert()
        };
        let labels = labels(&routed, "h");
        assert_eq!((&*labels["label_app_kubernetes_io_name"], &*labels["label_team"]), ("cart", "web"));
    }

    #[test]
    fn every_label_of_ours_is_refused_to_rules() {
        let full = AlertReport {
            exe: Some("/bin/shop".to_owned()),
            container: Some(crate::report::Container {
                id: "c".to_owned(),
                image: Some("i".to_owned()),
                ..crate::report::Container::default()
            }),
            pod: Some(crate::report::Pod {
                name: Some("p".to_owned()),
                namespace: Some("n".to_owned()),
                ..crate::report::Pod::default()
            }),
            labels: BTreeMap::new(),
            site: Some(AlertSite { task: Some("main.f".to_owned()), ..alert().site.expect("a site") }),
            ..alert()
        };
        let mut ours: Vec<&str> = crate::alert::OWN_LABELS.to_vec();
        ours.sort_unstable();
        assert_eq!(labels(&full, "h").into_keys().collect::<Vec<_>>(), ours);
    }

    #[test]
    fn what_holds() {
        let json: Value = serde_json::from_str(&hold_to_json(&[&alert()])).expect("JSON");
        assert_eq!(
            (&json["held"], &json["alerts"], &json["by"][0]["rule"]),
            (&json!(true), &json!(1), &json!("leak"))
        );
        let none: Value = serde_json::from_str(&hold_to_json(&[])).expect("JSON");
        assert_eq!((&none["held"], &none["by"]), (&json!(false), &json!([])));
    }
}
