//! What rules said during the watch: each alert that fired, when, and by which figures; then how all rules stand.

use maud::{Markup, html};

use super::{Story, foreign, moment};
use crate::report::alerting::{ActionReport, AlertReport, AlertState, Level};
use crate::report::units::{count, duration};

/// Alerts that are told of one by one.
pub(super) const MOST: usize = 100;

/// Those that fired, the first one first, and those whose condition holds at the end but not for long enough yet.
pub(super) fn told<'a>(story: &'a Story<'_>) -> Vec<&'a AlertReport> {
    let (fired, _) = story.course.alerts();
    let alerting = &story.report.alerting;
    let pending = alerting.alerts.iter().filter(|alert| alert.state == AlertState::Pending);
    fired.iter().chain(pending).collect()
}

/// How many alerts are not among those told; `None`: none are, or so many that nobody counted them.
pub(super) fn rest(story: &Story<'_>, told: usize) -> Option<String> {
    let beyond = told.saturating_sub(MOST) as u64 + story.report.alerting.more_alerts;
    match (beyond, story.course.alerts().1) {
        (0, false) => None,
        (0, true) => Some("more alerts than are listed here fired".to_owned()),
        (more, false) => Some(format!("{} not listed", count(more, "more alert"))),
        (more, true) => Some(format!("{} and more not listed", count(more, "more alert"))),
    }
}

/// How long it fired, or since when: `fired 12:00:05 to 12:03:10 (3m5s)`.
pub(super) fn when(alert: &AlertReport) -> String {
    match (alert.fired, alert.resolved, alert.state) {
        (None, ..) => format!("condition holds since {}", moment(alert.since)),
        (Some(fired), Some(over), _) => {
            let lasted = over.duration_since(fired).as_secs_f64();
            format!("fired {} for {}", moment(fired), duration(lasted))
        }
        (Some(fired), None, AlertState::Resolved) => format!("fired {}, over by the end", moment(fired)),
        (Some(fired), None, _) => format!("fires since {}", moment(fired)),
    }
}

/// The class of its colour.
fn class(alert: &AlertReport) -> &'static str {
    match (alert.state, alert.level) {
        (AlertState::Firing, Level::P1 | Level::Red | Level::P0) => "leak",
        (AlertState::Firing, _) => "suspect",
        (AlertState::Pending | AlertState::Resolved, _) => "not-yet",
    }
}

/// The section; nothing where no rules were given.
pub(super) fn section(story: &Story<'_>) -> Markup {
    let alerting = &story.report.alerting;
    if alerting.is_empty() {
        return html! {};
    }
    let alerts = told(story);
    html! {
        section aria-labelledby="alerts" {
            h2 #alerts { "Alerts" }
            p { "By " (foreign(&alerting.in_short())) "." }
            @if alerts.is_empty() { p { "None fired." } } @else { (table(&alerts)) }
            @if let Some(rest) = rest(story, alerts.len()) { p.soft { (rest) } }
            @for trouble in alerting.actions.iter().filter_map(ActionReport::trouble) {
                p { strong { "Note: " } (foreign(&trouble)) }
            }
            @if alerting.not_looked_at > 0 {
                p { strong { "Note: " } "rules did not look at " (count(alerting.not_looked_at, "process or site")) ": there are too many." }
            }
        }
    }
}

fn table(alerts: &[&AlertReport]) -> Markup {
    html! {
        div.scroll role="region" aria-label="Alerts" tabindex="0" {
            table {
                caption { "What fired, the first one first" }
                thead {
                    tr { th scope="col" { "Rule" } th scope="col" { "State" } th scope="col" { "When" } th scope="col" { "What, and by which figures" } }
                }
                tbody {
                    @for alert in alerts.iter().take(MOST) {
                        tr {
                            th scope="row" { bdi { (foreign(&alert.rule)) } " " span.soft { (alert.level.name()) } }
                            td { span class=(format!("badge {}", class(alert))) { (alert.state.name()) } }
                            td { (when(alert)) }
                            td {
                                bdi { (foreign(&alert.subject())) } ": " (foreign(&alert.why))
                                @if !alert.about.is_empty() { p.soft { (foreign(&alert.about)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
