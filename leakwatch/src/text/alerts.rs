//! What rules say, below the processes: a line for each alert, one for all rules, and what actions could not do.

use super::canvas::{Canvas, Style};
use crate::report::alerting::{ActionReport, AlertReport, AlertState, Alerting, Level};
use crate::report::clean::clean;
use crate::report::units::count;

/// Alerts that are printed.
const PRINTED: usize = 10;

/// Prints them; nothing where no rules were given.
pub(super) fn write(canvas: &mut Canvas, alerting: &Alerting) {
    if alerting.is_empty() {
        return;
    }
    canvas.blank();
    for alert in alerting.alerts.iter().take(PRINTED) {
        let style = match (alert.state, alert.level) {
            (AlertState::Firing, Level::P1 | Level::Red | Level::P0) => Style::Bad,
            (AlertState::Firing, _) => Style::Warning,
            (AlertState::Pending | AlertState::Resolved, _) => Style::Plain,
        };
        let label = format!("{} {} {}: ", alert.level.name(), clean(&alert.rule), alert.state.name());
        canvas.wrapped(style, &label, 2, &sentence(alert));
    }
    let more = alerting.more_alerts + alerting.alerts.len().saturating_sub(PRINTED) as u64;
    if more > 0 {
        canvas.wrapped(Style::Plain, "", 2, &format!("{} not listed", count(more, "more alert")));
    }
    canvas.wrapped(Style::Plain, "rules: ", 7, &alerting.in_short());
    for note in alerting.actions.iter().filter_map(ActionReport::trouble) {
        canvas.wrapped(Style::Warning, "note: ", 6, &note);
    }
    if alerting.not_looked_at > 0 {
        let left = count(alerting.not_looked_at, "process or site");
        canvas.wrapped(
            Style::Warning,
            "note: ",
            6,
            &format!("rules did not look at {left}: there are too many"),
        );
    }
}

fn sentence(alert: &AlertReport) -> String {
    let about = if alert.about.is_empty() || alert.state == AlertState::Resolved {
        String::new()
    } else {
        format!("; {}", alert.about)
    };
    let since = alert.resolved.or(alert.fired).unwrap_or(alert.since);
    let time = since.strftime("%H:%M:%SZ");
    clean(&format!("{}, since {time}: {}{about}", alert.subject(), alert.why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::alerting::{Answer, RuleReport};

    #[test]
    fn who_fires_and_what_failed() {
        let alert = AlertReport {
            rule: "leak".to_owned(),
            state: AlertState::Firing,
            comm: "shop\u{1b}[2J".to_owned(),
            pid: 7,
            why: "verdict is leak".to_owned(),
            ..AlertReport::default()
        };
        let rule = |name: &str, state| RuleReport { name: name.to_owned(), state, ..RuleReport::default() };
        let alerting = Alerting {
            rules: vec![
                rule("leak", Answer::Firing),
                rule("jump", Answer::NotEnoughData),
                rule("x", Answer::Ok),
            ],
            alerts: vec![alert],
            actions: vec![ActionReport {
                name: "page".to_owned(),
                failed: 2,
                last_error: Some("connection refused".to_owned()),
                ..ActionReport::default()
            }],
            ..Alerting::default()
        };
        let mut canvas = Canvas::new(120, false);
        write(&mut canvas, &alerting);
        assert_eq!(
            canvas.finish().trim_start(),
            "P1 leak firing: shop\\x1b[2J (pid 7), since 00:00:00Z: verdict is leak\n\
             rules: 3 rules; firing: leak; not enough data yet: jump; 1 ok\n\
             note: action page: 2 failed attempts: connection refused\n"
        );
    }
}
