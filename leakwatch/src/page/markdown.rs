//! The report as markdown, to paste into an issue: what is bad in full, the rest as a table.
//!
//! Names stand in code spans and stacks in fences that are longer than any run of backticks in them; other foreign words have
//! what markdown and HTML could take for a command written as entities.

use std::fmt::{Display, Write as _};

use super::{Story, alerts, command_line, foreign, judged, moment, title, told};
use crate::report::alerting::ActionReport;
use crate::report::notes::notes;
use crate::report::units::{bytes, bytes_signed, count, duration, figure, signed_rate};
use crate::report::words::{age, first, function, noun, outlook, place, state, telling, waits};
use crate::report::{ProcessReport, Report, SiteReport, Verdict};

/// Stacks of a site, frames of a stack, and rows of the table of sites.
const MOST_GROUPS: usize = 3;
const MOST_FRAMES: usize = 16;
const MOST_ROWS: usize = 20;

/// The report as GitHub-flavoured markdown.
pub fn markdown(story: &Story<'_>) -> String {
    let report = story.report;
    let mut page = Page(String::new());
    page.line(format_args!("## leakwatch: {}", plain(&title(report))));
    page.line(format_args!(""));
    page.line(format_args!("{}", headline(report)));
    for remark in story.remarks {
        page.line(format_args!("\n> Note: {}", plain(&foreign(remark))));
    }
    alerts(&mut page, story);
    for process in &report.processes {
        self::process(&mut page, process);
    }
    environment(&mut page, report);
    page.0
}

/// What is written so far.
struct Page(String);

impl Page {
    fn line(&mut self, line: impl Display) {
        // Writing to memory does not fail.
        if writeln!(self.0, "{line}").is_err() {
            self.0.clear();
        }
    }
}

fn headline(report: &Report) -> String {
    let of = |verdict| report.processes.iter().map(|process| judged(process, verdict)).sum::<u64>();
    let leaks = match of(Verdict::Leak) {
        0 => "No leak".to_owned(),
        leaks => format!("**{}**", count(leaks, "leak")),
    };
    let suspects = match of(Verdict::Suspect) {
        0 => "nothing suspect".to_owned(),
        suspects => format!("**{}**", count(suspects, "suspect")),
    };
    format!(
        "{leaks} found, {suspects}; watched from {} for {}.",
        moment(report.started),
        duration(report.duration_s)
    )
}

fn alerts(page: &mut Page, story: &Story<'_>) {
    let alerting = &story.report.alerting;
    if alerting.is_empty() {
        return;
    }
    let told = alerts::told(story);
    page.line(format_args!("\n### Alerts\n\nBy {}.", plain(&foreign(&alerting.in_short()))));
    for alert in told.iter().take(alerts::MOST) {
        let about = if alert.about.is_empty() {
            String::new()
        } else {
            format!(" ({})", plain(&foreign(&alert.about)))
        };
        page.line(format_args!(
            "- **{}** {} {}: {}: {}, {}{about}",
            alert.level.name(),
            code(&alert.rule),
            alert.state.name(),
            code(&alert.subject()),
            plain(&foreign(&alert.why)),
            alerts::when(alert),
        ));
    }
    let rest = alerts::rest(story, told.len()).into_iter();
    for note in rest.chain(alerting.actions.iter().filter_map(ActionReport::trouble)) {
        page.line(format_args!("- {}", plain(&foreign(&note))));
    }
}

fn process(page: &mut Page, process: &ProcessReport) {
    let tasks = &process.tasks;
    let growth = process
        .tasks
        .growth_per_min
        .map_or_else(String::new, |growth| format!(", {}/min", signed_rate(growth)));
    page.line(format_args!("\n### {}, pid {}\n", code(&process.comm), process.pid));
    let stacks = process.memory.task_stack_bytes.map_or_else(String::new, |held| {
        let growth = process.memory.task_stack_growth_per_min;
        let growth = growth.map_or_else(String::new, |growth| format!(" ({}/min)", bytes_signed(growth)));
        format!(", stacks {}{growth}", bytes(held))
    });
    page.line(format_args!(
        "{} alive{growth}; {} started, {} ended{stacks}; drift {}, lost events {}.",
        count(tasks.live, noun(process)),
        count(tasks.started, ""),
        count(tasks.ended, ""),
        tasks.drift.map_or_else(|| "not known".to_owned(), |drift| drift.to_string()),
        count(tasks.lost_events, ""),
    ));
    for note in notes(process) {
        page.line(format_args!("- note: {}", plain(&foreign(&note))));
    }
    let (sites, rest) = told(process);
    for site in sites.iter().filter(|site| site.verdict >= Verdict::Suspect) {
        self::site(page, site);
    }
    table(page, process, &sites, rest);
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Leak => "**leak**",
        Verdict::Suspect => "suspect",
        Verdict::Ok => "ok",
        Verdict::NotYet => "not yet",
    }
}

fn name(site: &SiteReport) -> String {
    let place = place(site).map_or_else(String::new, |place| format!(" {}", code(&place)));
    format!("{}{place}", code(&function(site)))
}

fn site(page: &mut Page, site: &SiteReport) {
    page.line(format_args!("\n#### {}: {}\n", word(site.verdict), name(site)));
    page.line(format_args!("{}.", plain(&foreign(&site.why))));
    if let Some(forecast) = &site.forecast {
        page.line(format_args!("- {}", plain(&outlook(forecast))));
    }
    if !site.settles.is_empty() {
        page.line(format_args!("- open: {}", plain(&foreign(&site.settles))));
    }
    if let (Some(file), Some(line), false) = (&site.file, site.line, first(site)) {
        page.line(format_args!("- started at {}", code(&format!("{file}:{line}"))));
    }
    if let Some(task) = site.task.as_deref().filter(|_| !first(site)) {
        page.line(format_args!("- runs {}", code(task)));
    }
    for group in site.waiting.iter().take(MOST_GROUPS) {
        let longest =
            group.longest_s.map_or_else(String::new, |longest| format!(", up to {}", duration(longest)));
        page.line(format_args!("- {} {}{longest}", count(group.count, ""), plain(&state(&group.reason))));
        let frames: Vec<String> =
            telling(&group.stack).iter().take(MOST_FRAMES).map(|frame| foreign(frame)).collect();
        if !frames.is_empty() {
            let fence =
                "`".repeat(frames.iter().map(|frame| longest_run(frame)).max().unwrap_or(0).max(2) + 1);
            page.line(format_args!("\n  {fence}text"));
            for frame in &frames {
                page.line(format_args!("  {frame}"));
            }
            page.line(format_args!("  {fence}\n"));
        }
    }
}

fn table(page: &mut Page, process: &ProcessReport, sites: &[&SiteReport], rest: usize) {
    if sites.is_empty() {
        return;
    }
    let rate = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), figure);
    page.line(format_args!(
        "\n| verdict | started by | alive | +/min | starts/s | ends/s | age p50/max | waits on |"
    ));
    page.line(format_args!("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"));
    for site in sites.iter().take(MOST_ROWS) {
        // A cell ends at a bar, even inside a code span.
        let cell = |text: String| text.replace('|', r"\|");
        page.line(format_args!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            word(site.verdict),
            cell(name(site)),
            count(site.live, ""),
            site.growth_per_min.map_or_else(|| "?".to_owned(), signed_rate),
            rate(site.start_rate_per_s),
            rate(site.end_rate_per_s),
            plain(&age(&site.age, process.watched_s)),
            cell(plain(&foreign(&waits(&site.waiting).join(", ")))),
        ));
    }
    let rest = rest + sites.len().saturating_sub(MOST_ROWS);
    if rest > 0 {
        page.line(format_args!("\nand {}", count(rest as u64, "more site")));
    }
}

fn environment(page: &mut Page, report: &Report) {
    page.line(format_args!("\n### Environment\n"));
    page.line(format_args!("- host {}", code(&report.host)));
    if let Some(environment) = &report.environment {
        let unknown = || "not known".to_owned();
        let kernel = environment.kernel.as_deref().map_or_else(unknown, code);
        let machine = environment.machine.as_deref().map_or_else(unknown, code);
        page.line(format_args!("- leakwatch {}, kernel {kernel} on {machine}", code(&environment.leakwatch)));
        if !environment.command.is_empty() {
            page.line(format_args!("- made by {}", code(&command_line(&environment.command))));
        }
    }
    for process in &report.processes {
        let exe = process.exe.as_deref().map_or_else(|| "not known".to_owned(), code);
        let build = process.build_id.as_deref().map_or_else(|| "not known".to_owned(), code);
        page.line(format_args!("- pid {}: executable {exe}, build id {build}", process.pid));
    }
    let overhead = report.overhead.cpu_percent_of_one_core;
    let overhead = overhead
        .map_or_else(|| "not known".to_owned(), |percent| format!("{}% of one core", figure(percent)));
    page.line(format_args!("- cost of watching: {overhead}"));
}

/// Length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// A name as a code span.
fn code(text: &str) -> String {
    let text = foreign(text);
    if text.trim().is_empty() {
        return "(no name)".to_owned();
    }
    let ticks = "`".repeat(longest_run(&text) + 1);
    // A blank at each side is taken off again; it keeps backticks of the name apart from those around it.
    let blank = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{ticks}{blank}{text}{blank}{ticks}")
}

/// Words outside of code: nothing in them is a command of markdown or a tag, and nobody is mentioned.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '@' => safe.push_str("&#64;"),
            '#' => safe.push_str("&#35;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '|' | '!' | '$' => safe.extend(['\\', character]),
            // Nothing that a browser would make a link of.
            ':' if safe.ends_with("http") || safe.ends_with("https") => safe.push_str("&#58;"),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_longer_than_what_is_in_them() {
        assert_eq!(code("main.f"), "`main.f`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code(""), "(no name)");
        assert_eq!(
            plain("<b>*x*_y_ @all #1 https://x"),
            r"&lt;b&gt;\*x\*\_y\_ &#64;all &#35;1 https&#58;//x"
        );
    }
}
