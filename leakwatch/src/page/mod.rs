//! The report as a document: one HTML file to attach to a ticket, or markdown to paste into an issue.
//!
//! The file needs nothing but itself: no script, no request, no style that its own policy does not name. Every name comes
//! from a foreign binary; it is made harmless, then shortened, then escaped, in this order, and never anything else. Nothing
//! here opens files, prints, or reads a clock.

mod alerts;
mod chart;
mod markdown;
mod process;
mod site;

#[cfg(test)]
mod tests;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::clean::{clean, shorten};
use crate::report::course::Course;
use crate::report::units::{count, duration, figure};
use crate::report::{Environment, ProcessReport, Report, SiteReport, Timestamp, Verdict};
pub use markdown::markdown;

/// The only style, and what the policy says of it.
const STYLE: &str = concat!(
    include_str!("light.css"),
    "@media (prefers-color-scheme: dark) {\n",
    include_str!("dark.css"),
    "}\n",
    include_str!("style.css")
);
/// SHA-256 of [`STYLE`], as a policy wants it. A test says what it must be.
const STYLE_HASH: &str = "sha256-6punpjvEizik8Sae42gqeFeKCSNxCrU4li5eL7bvvto=";

/// Longest text that is shown of one name: a symbol of 10 kB helps nobody. Columns.
const LONGEST: usize = 300;
/// Sites that are told of one by one; the others are counted.
const MOST_SITES: usize = 100;

/// What a document is made of.
#[derive(Clone, Copy, Debug)]
pub struct Story<'a> {
    /// The last report.
    pub report: &'a Report,
    /// What came before it.
    pub course: &'a Course,
    /// What is to be known of the file that it was read from, a sentence each.
    pub remarks: &'a [String],
}

/// Words that came from somewhere else, safe to show.
fn foreign(text: &str) -> String {
    shorten(&clean(text), LONGEST)
}

/// The report as a page of its own.
pub fn html(story: &Story<'_>) -> String {
    let report = story.report;
    let policy = format!("default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'");
    let title = title(report);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { bdi { (title) } }
                    p.headline { (headline(report)) }
                    p.soft {
                        "Watched from " (moment(report.started)) " for " (duration(report.duration_s)) " on "
                        bdi { (foreign(&report.host)) } "."
                    }
                    @for remark in story.remarks {
                        p { strong { "Note: " } (foreign(remark)) }
                    }
                    @if report.processes.len() > 1 { (contents(report)) }
                }
                main {
                    (alerts::section(story))
                    @for (index, process) in report.processes.iter().enumerate() {
                        (process::section(story, index, process))
                    }
                    @if report.processes.is_empty() { p { "No process was watched." } }
                    (environment(report))
                    (words())
                }
            }
        }
    };
    page.into_string()
}

/// A time without its fractions.
fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn title(report: &Report) -> String {
    let host = foreign(&report.host);
    match &*report.processes {
        [process] => format!("{} (pid {}) on {host}", foreign(&process.comm), process.pid),
        processes => format!("{} on {host}", count(processes.len() as u64, "process")),
    }
}

/// Sites of the program that were judged so.
fn judged(process: &ProcessReport, verdict: Verdict) -> u64 {
    let sites = process.sites.iter().filter(|site| !site.system && site.verdict == verdict).count();
    (sites + process.zombies.iter().filter(|zombies| zombies.verdict == verdict).count()) as u64
}

/// What it comes to, in a sentence.
fn headline(report: &Report) -> Markup {
    let of = |verdict| report.processes.iter().map(|process| judged(process, verdict)).sum::<u64>();
    let (leaks, suspects, open) = (of(Verdict::Leak), of(Verdict::Suspect), of(Verdict::NotYet));
    html! {
        @if leaks > 0 { strong.leak { (count(leaks, "leak")) } } @else { strong { "No leak" } }
        " found, "
        @if suspects > 0 { strong.suspect { (count(suspects, "suspect")) } } @else { "nothing suspect" }
        @if open > 0 { "; of " (count(open, "site")) " too little was seen to say" }
        "."
    }
}

fn contents(report: &Report) -> Markup {
    html! {
        nav aria-label="Processes" {
            ul {
                @for (index, process) in report.processes.iter().enumerate() {
                    @let (leaks, suspects) = (judged(process, Verdict::Leak), judged(process, Verdict::Suspect));
                    li {
                        a href=(format!("#process-{index}")) { bdi { (foreign(&process.comm)) } " (pid " (process.pid) ")" }
                        @if leaks > 0 { ", " strong.leak { (count(leaks, "leak")) } }
                        @if suspects > 0 { ", " strong.suspect { (count(suspects, "suspect")) } }
                    }
                }
            }
        }
    }
}

/// A verdict's word and class.
const fn badge(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Leak => ("leak", "leak"),
        Verdict::Suspect => ("suspect", "suspect"),
        Verdict::Ok => ("ok", "ok"),
        Verdict::NotYet => ("not yet", "not-yet"),
    }
}

/// A figure with its name; what is not known is said so.
fn entry(name: &str, value: Option<String>) -> Markup {
    html! {
        div {
            dt { (name) }
            dd { @if let Some(value) = value { bdi { (value) } } @else { span.soft { "not known" } } }
        }
    }
}

fn environment(report: &Report) -> Markup {
    let none = Environment::default();
    let environment = report.environment.as_ref().unwrap_or(&none);
    let overhead = &report.overhead;
    html! {
        section aria-labelledby="environment" {
            h2 #environment { "Environment" }
            dl.figures {
                (entry("Host", Some(foreign(&report.host))))
                (entry("Kernel", environment.kernel.as_deref().map(foreign)))
                (entry("Machine", environment.machine.as_deref().map(foreign)))
                (entry("leakwatch", Some(&environment.leakwatch).filter(|version| !version.is_empty()).map(|version| foreign(version))))
                (entry("Began", Some(moment(report.started))))
                (entry("Took", Some(duration(report.duration_s))))
                (entry("Cost of watching", overhead.cpu_percent_of_one_core.map(|percent| format!("{}% of one core", figure(percent)))))
                (entry("Budget", Some(overhead.budget_percent.map_or_else(|| "none".to_owned(), |percent| format!("{}% of one core", figure(percent))))))
                (entry("Probe hits", Some(count(overhead.probe_hits, ""))))
            }
            h3 { "How to make it again" }
            @if environment.command.is_empty() {
                p { "The command line is not known: the report is from a file that does not tell." }
            } @else {
                pre { code { (command_line(&environment.command)) } }
            }
        }
    }
}

/// A command as a shell takes it.
fn command_line(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+…".contains(c);
    let quoted = words.iter().map(|word| {
        let word = foreign(word);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn words() -> Markup {
    html! {
        section aria-labelledby="words" {
            h2 #words { "What the words mean" }
            dl {
                dt { span.leak { "leak" } }
                dd { "Tasks of one start after the other stay for good: they have outlived everything that was seen to end, and more keep coming." }
                dt { span.suspect { "suspect" } }
                dd { "It looks like that, and something is missing: time, or what tells an idle pool from a leak that is over." }
                dt { span."not-yet" { "not yet" } }
                dd { "Too little was seen to say." }
                dt { span.ok { "ok" } }
                dd { "The tasks end, or their number does not grow." }
                dt { "not known" }
                dd { "It was not measured or could not be read. It is never shown as 0." }
            }
        }
    }
}

/// The sites that are told of, worst first, and how many are not.
fn told(process: &ProcessReport) -> (Vec<&SiteReport>, usize) {
    let mut sites: Vec<&SiteReport> =
        process.sites.iter().filter(|site| !site.system && (site.live > 0 || site.started > 0)).collect();
    let rest = sites.len().saturating_sub(MOST_SITES);
    sites.truncate(MOST_SITES);
    (sites, rest)
}
