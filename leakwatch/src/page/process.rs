//! One process of the report: verdicts first, then its course, its sites, and what is not known.

use maud::{Markup, html};

use super::{
    Story, badge,
    chart::{Line, Unit, course},
    entry, foreign, judged, site, told,
};
use crate::report::notes::notes;
use crate::report::units::{bytes, bytes_signed, count, duration, figure, signed_rate};
use crate::report::words::{age, noun, waits};
use crate::report::{Mode, Moment, ProcessReport, ProofSample, SiteReport, Verdict, float};

/// Names that a list of the most frequent has at most.
const MOST_NAMES: usize = 30;

/// The section of a process.
pub(super) fn section(story: &Story<'_>, index: usize, process: &ProcessReport) -> Markup {
    let (sites, rest) = told(process);
    let bad = |site: &SiteReport| site.verdict >= Verdict::Suspect;
    let id = format!("process-{index}");
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { bdi { (foreign(&process.comm)) } ", pid " (process.pid) @if process.exited { ", exited" } }
            p { (summary(process)) }
            h3 { "Verdicts" }
            @if judged(process, Verdict::Leak) + judged(process, Verdict::Suspect) == 0 {
                p { "No site leaks, and none is suspect." }
            }
            @for (number, site) in sites.iter().enumerate().filter(|(_, site)| bad(site)) {
                (site::article(story, process, (number, site), &anchor(index, number)))
            }
            (zombies(process))
            h3 { "Over time" }
            (courses(story.course.of_process(process), noun(process)))
            h3 { "Totals" }
            (totals(process))
            (doubts(process))
            @if let Some(proof) = &process.proof { (proofs(proof)) }
            h3 { "Sites" }
            (table(index, process, &sites, rest))
            @for (number, site) in sites.iter().enumerate().filter(|(_, site)| !bad(site) && site::is_worth_a_page(site)) {
                details {
                    summary { (site::name(site)) }
                    (site::article(story, process, (number, site), &anchor(index, number)))
                }
            }
            (children(process))
        }
    }
}

fn anchor(process: usize, site: usize) -> String {
    format!("site-{process}-{site}")
}

fn summary(process: &ProcessReport) -> Markup {
    let runtimes: Vec<String> = process
        .runtimes
        .iter()
        .map(|runtime| {
            let name = runtime.name.as_deref().unwrap_or(&runtime.kind);
            let version = runtime.version.as_deref().filter(|version| !version.starts_with(name));
            let version = version.map_or_else(String::new, |version| format!(" {version}"));
            let mode = match runtime.mode {
                Mode::Probes => "counted by probes",
                Mode::Memory => "sampled from memory",
                Mode::Mixed => "counted by probes, partly sampled from memory",
            };
            foreign(&format!("{name}{version}, {mode}"))
        })
        .collect();
    let growth = process.tasks.growth_per_min.map(signed_rate);
    html! {
        strong { (count(process.tasks.live, noun(process))) " alive" }
        @match growth.as_deref() {
            Some("0") => ", steady",
            Some(growth) => { ", " (growth) " a minute" },
            None => {},
        }
        ", watched for " (duration(process.watched_s)) ". "
        bdi { (runtimes.join("; ")) } "."
    }
}

fn courses(moments: &[Moment], noun: &str) -> Markup {
    let of = |value: fn(&Moment) -> Option<u64>| -> Vec<(f64, f64)> {
        let known = moments.iter().filter_map(|moment| Some((moment.at_s, float(value(moment)?))));
        known.collect()
    };
    let line = |name, value| Line { name, points: of(value) };
    let rates = |name, value: fn(&Moment) -> u64| Line { name, points: per_second(moments, value) };
    html! {
        @if moments.len() > 1 {
            div.charts {
                (course(&format!("Live {noun}s"), Unit::Count, &[line("alive", |moment| Some(moment.live))]))
                (course("Starts and ends", Unit::Rate, &[
                    rates("started", |moment| moment.started),
                    rates("ended", |moment| moment.ended),
                ]))
                (course("Resident memory", Unit::Bytes, &[line("resident", |moment| moment.rss_bytes)]))
                (course("Threads", Unit::Count, &[line("threads", |moment| moment.threads_live)]))
            }
        } @else {
            p { "The file has one moment of it: there is no course to draw. " code { "leakwatch record" } " keeps one." }
        }
    }
}

/// How fast a total grows between its moments.
fn per_second(moments: &[Moment], value: fn(&Moment) -> u64) -> Vec<(f64, f64)> {
    let pairs = moments.iter().zip(moments.iter().skip(1));
    let rate = |(before, after): (&Moment, &Moment)| {
        let seconds = after.at_s - before.at_s;
        let more = float(value(after).saturating_sub(value(before)));
        (seconds > 0.0).then(|| (after.at_s, more / seconds))
    };
    pairs.filter_map(rate).collect()
}

fn totals(process: &ProcessReport) -> Markup {
    let tasks = &process.tasks;
    let with_rate = |total: u64, rate: Option<f64>| {
        let rate = rate.map_or_else(String::new, |rate| format!(" ({}/s)", figure(rate)));
        format!("{}{rate}", count(total, ""))
    };
    let grown = |now: Option<u64>, growth: Option<f64>| {
        let growth = growth.map_or_else(String::new, |growth| format!(" ({}/min)", bytes_signed(growth)));
        now.map(|now| format!("{}{growth}", bytes(now)))
    };
    let threads = process
        .threads
        .live
        .map(|live| format!("{} (+{} -{})", count(live, ""), process.threads.started, process.threads.ended));
    let container = process.container.as_ref();
    html! {
        dl.figures {
            (entry("Alive", Some(count(tasks.live, ""))))
            (entry("Alive at attach", tasks.live_at_attach.map(|live| count(live, ""))))
            (entry("Started", Some(with_rate(tasks.started, tasks.start_rate_per_s))))
            (entry("Ended", Some(with_rate(tasks.ended, tasks.end_rate_per_s))))
            (entry("The runtime's own", Some(count(tasks.system_live, ""))))
            (entry("Drift (probes less memory)", tasks.drift.map(|drift| format!("{drift:+}"))))
            (entry("Lost events", Some(count(tasks.lost_events, ""))))
            (entry("Threads", threads))
            (entry("Forks", Some(with_rate(process.forks.count, process.forks.rate_per_s))))
            (entry("Resident memory", grown(process.memory.rss_bytes, process.memory.rss_growth_per_min)))
            (entry("Task stacks", grown(process.memory.task_stack_bytes, process.memory.task_stack_growth_per_min)))
            (entry("Process started", process.start_time.map(super::moment)))
            (entry("Executable", process.exe.as_deref().map(foreign)))
            (entry("Build id", process.build_id.as_deref().map(foreign)))
            (entry("Container", Some(container.map_or_else(|| "none".to_owned(), |container| foreign(&container.id)))))
            (entry("Container's name", container.and_then(|container| container.name.as_deref()).map(foreign)))
            (entry("Image", container.and_then(|container| container.image.as_deref()).map(foreign)))
        }
    }
}

/// Losses, problems and doubts; that there are none is worth a sentence.
fn doubts(process: &ProcessReport) -> Markup {
    let notes = notes(process);
    html! {
        h3 { "What is lost or not known" }
        @if notes.is_empty() {
            p { "Nothing was lost." }
        } @else {
            ul { @for note in &notes { li { (foreign(note)) } } }
        }
    }
}

fn proofs(proof: &ProofSample) -> Markup {
    html! {
        h3 { "Proofs" }
        p {
            (count(proof.proofs, "proof")) " came to an end, " (count(proof.failed, "")) " could not be made. "
            @if proof.proofs > 0 {
                strong { (count(proof.proven, "goroutine")) " can never be woken by anything alive" }
                ", " (count(proof.refuted, "")) " were refuted; confidence of the last proof " (figure(proof.confidence)) "."
            }
        }
    }
}

fn zombies(process: &ProcessReport) -> Markup {
    html! {
        @for zombies in &process.zombies {
            @let (word, class) = badge(zombies.verdict);
            article class=(class) {
                h4 { span class=(format!("badge {class}")) { (word) } " " (count(zombies.count, "zombie")) " of " bdi { (foreign(&zombies.command)) } }
                p { (foreign(&zombies.why)) }
            }
        }
    }
}

fn table(index: usize, process: &ProcessReport, sites: &[&SiteReport], rest: usize) -> Markup {
    let rate = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), figure);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Sites" {
            table {
                caption { "Where " (noun(process)) "s are started, worst first" }
                thead {
                    tr {
                        th scope="col" { "Verdict" }
                        th scope="col" { "Started by" }
                        th.figure scope="col" { "Alive" }
                        th.figure scope="col" { "+/min" }
                        th.figure scope="col" { "Starts/s" }
                        th.figure scope="col" { "Ends/s" }
                        th.figure scope="col" { "Age p50/max" }
                        th scope="col" { "Waits on" }
                    }
                }
                tbody {
                    @for (number, site) in sites.iter().enumerate() {
                        @let (word, class) = badge(site.verdict);
                        @let has_page = site.verdict >= Verdict::Suspect || site::is_worth_a_page(site);
                        tr {
                            td { strong class=(class) { (word) } }
                            th scope="row" {
                                @if has_page {
                                    a href=(format!("#{}", anchor(index, number))) { (site::name(site)) }
                                } @else {
                                    (site::name(site))
                                }
                            }
                            td.figure { (count(site.live, "")) }
                            td.figure { (site.growth_per_min.map_or_else(|| "?".to_owned(), signed_rate)) }
                            td.figure { (rate(site.start_rate_per_s)) }
                            td.figure { (rate(site.end_rate_per_s)) }
                            td.figure { (age(&site.age, process.watched_s)) }
                            td { bdi { (foreign(&waits(&site.waiting).join(", "))) } }
                        }
                    }
                }
            }
        }
        @if rest > 0 { p.soft { "and " (count(rest as u64, "more site")) ", which are only in the totals" } }
    }
}

fn children(process: &ProcessReport) -> Markup {
    let (threads, commands) = (&process.threads.by_name, &process.forks.by_command);
    html! {
        @if !threads.is_empty() {
            table {
                caption { "Live threads by name" }
                thead { tr { th scope="col" { "Name" } th.figure scope="col" { "Alive" } } }
                tbody {
                    @for (name, live) in threads.iter().take(MOST_NAMES) {
                        tr { th scope="row" { bdi { (foreign(name)) } } td.figure { (count(*live, "")) } }
                    }
                }
            }
            @if threads.len() > MOST_NAMES { p.soft { "and " (count((threads.len() - MOST_NAMES) as u64, "more name")) } }
        }
        @if !commands.is_empty() {
            table {
                caption { "Child processes by what they executed" }
                thead {
                    tr {
                        th scope="col" { "Command" }
                        th.figure scope="col" { "Alive" }
                        th.figure scope="col" { "Forked" }
                        th.figure scope="col" { "Ended" }
                    }
                }
                tbody {
                    @for command in commands.iter().take(MOST_NAMES) {
                        tr {
                            th scope="row" { bdi { (foreign(&command.command)) } }
                            td.figure { (count(command.live, "")) }
                            td.figure { (count(command.forked, "")) }
                            td.figure { (count(command.ended, "")) }
                        }
                    }
                }
            }
            @if commands.len() > MOST_NAMES { p.soft { "and " (count((commands.len() - MOST_NAMES) as u64, "more command")) } }
        }
    }
}
