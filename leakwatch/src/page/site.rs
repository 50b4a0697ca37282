//! One creation site: its verdict with the evidence, its pictures, the stacks of its tasks.

use std::sync::Arc;

use maud::{Markup, html};

use super::{
    Story, badge,
    chart::{Bars, Line, Unit, course, lifetimes, survival},
    entry, foreign,
};
use crate::report::units::{bytes, count, duration, figure, signed_rate};
use crate::report::words::{age, first, function, noun, outlook, place, state, telling};
use crate::report::{Bucket, Point, ProcessReport, SiteReport, Verdict, WaitingReport, float};

/// Groups of stacks that are shown of a site, and frames of each: more of the worst sites, so that a page of many stays small.
const MOST_GROUPS: [usize; 2] = [6, 2];
const MOST_FRAMES: [usize; 2] = [20, 12];
/// Sites that count as worst.
const WORST: usize = 20;
/// Places that spawn tokio tasks of one type.
const MOST_SPAWNS: usize = 10;

/// Function and line, with what the tasks run where that says more.
pub(super) fn name(site: &SiteReport) -> Markup {
    html! {
        bdi.place { (foreign(&function(site))) }
        @if let Some(place) = place(site) { " " bdi.place.soft { (foreign(&place)) } }
    }
}

/// There is more to tell of it than its row of the table has.
pub(super) fn is_worth_a_page(site: &SiteReport) -> bool {
    site.live > 0 && (site.verdict != Verdict::Ok || site.waiting.iter().any(|group| !group.stack.is_empty()))
}

/// All that is known of a site.
pub(super) fn article(
    story: &Story<'_>,
    process: &ProcessReport,
    (number, site): (usize, &SiteReport),
    id: &str,
) -> Markup {
    let (word, class) = badge(site.verdict);
    html! {
        article class=(class) id=(id) aria-labelledby=(format!("{id}-name")) {
            h4 id=(format!("{id}-name")) { span class=(format!("badge {class}")) { (word) } " " (name(site)) }
            p { (foreign(&site.why)) "." }
            @if let Some(forecast) = &site.forecast {
                p { strong { (capital(&outlook(forecast))) "." } }
            }
            @if !site.settles.is_empty() { p.soft { "Open: " (foreign(&site.settles)) "." } }
            (figures(process, site))
            div.charts { (pictures(story, process, site)) }
            (places(site))
            (creation(site))
            (stacks(site, usize::from(number >= WORST)))
        }
    }
}

/// A sentence with its first letter large.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn figures(process: &ProcessReport, site: &SiteReport) -> Markup {
    let percent = |share: f64| format!("{}%", figure(share * 100.0));
    let never = site.never_ending_share.map(|share| {
        let interval = site.never_ending_interval;
        let interval = interval
            .map_or_else(String::new, |(low, high)| format!(" ({} to {})", percent(low), percent(high)));
        format!("{}{interval}", percent(share))
    });
    let lifetime = site.lifetime.p50_s.map(|p50| {
        let p99 = site.lifetime.p99_s.map_or_else(|| "?".to_owned(), duration);
        format!("{} / {p99}", duration(p50))
    });
    let at_attach = site.live_at_attach.map(|live| count(live, ""));
    let each = site.stack_bytes.filter(|_| site.live > 0).map(|held| bytes(held / site.live));
    let stacks = site.stack_bytes.map(|held| match each {
        Some(each) => format!("{} ({each} each)", bytes(held)),
        None => bytes(held),
    });
    html! {
        dl.figures {
            (entry("Alive", Some(count(site.live, ""))))
            (entry("Alive at attach", at_attach))
            (entry("Started", Some(count(site.started, ""))))
            (entry("Ended", Some(count(site.ended, ""))))
            (entry("Growth a minute", site.growth_per_min.map(signed_rate)))
            (entry("Confidence", (site.verdict != Verdict::NotYet).then(|| figure(site.confidence))))
            (entry("Age p50 / max", (site.age.max_s.is_some()).then(|| age(&site.age, process.watched_s))))
            (entry("Lifetime p50 / p99", lifetime))
            (entry("Never end (95 % interval)", never))
            @if let Some(rate) = site.leak_rate_per_min { (entry("Leak rate", Some(format!("{} a minute", figure(rate))))) }
            @if let Some(proven) = site.proven { (entry("Proven to wait for ever", Some(count(proven, "")))) }
            @if let Some(left) = site.left_behind { (entry("Left behind", Some(count(left, "")))) }
            (entry("Memory of stacks", stacks))
        }
    }
}

fn pictures(story: &Story<'_>, process: &ProcessReport, site: &SiteReport) -> Markup {
    let points = story.course.of_site(process, site);
    let points: Vec<(f64, f64)> = points.iter().map(|&Point { at_s, live }| (at_s, float(live))).collect();
    let plateau = site.never_ending_share.map(|share| (share, site.never_ending_interval));
    html! {
        (course("Alive over time", Unit::Count, &[Line { name: "alive", points }]))
        @if let Some(lives) = &site.lives {
            @if let Some(steps) = lives.survival() {
                (survival(&steps.iter().map(|step| (step.age_s, step.share)).collect::<Vec<_>>(), plateau))
            }
            (lifetimes(noun(process), &bars(&lives.ended), &bars(lives.alive.as_deref().unwrap_or(&[]))))
        }
    }
}

/// The last bucket is open; it is drawn as wide as the others.
fn bars(buckets: &[Bucket]) -> Bars {
    let end = |bucket: &Bucket| bucket.to_s().unwrap_or(bucket.from_s * 1.5);
    buckets.iter().map(|bucket| (bucket.from_s, end(bucket), bucket.count)).collect()
}

/// Where tasks of a type are spawned and what they run, where that is another place than the name's.
fn places(site: &SiteReport) -> Markup {
    let task = site.task.as_deref().filter(|_| !first(site));
    html! {
        @if let Some(task) = task {
            p { "Runs " bdi.place { (foreign(task)) } @if let (Some(file), Some(line)) = (&site.task_file, site.task_line) { " " bdi.place.soft { (foreign(file)) ":" (line) } } }
        }
        @if let (Some(file), Some(line), false) = (&site.file, site.line, first(site)) {
            p { "Started at " bdi.place { (foreign(file)) ":" (line) } }
        }
        @if site.spawns.len() > 1 {
            p { "Spawned at several places, the most frequent first:" }
            ul {
                @for spawn in site.spawns.iter().take(MOST_SPAWNS) {
                    li {
                        bdi.place { (foreign(spawn.function.as_deref().unwrap_or("(unknown)"))) }
                        @if let (Some(file), Some(line)) = (&spawn.file, spawn.line) { " " bdi.place.soft { (foreign(file)) ":" (line) } }
                        ", seen " (count(spawn.seen, "time"))
                    }
                }
            }
        }
    }
}

/// The stack on which the first of them was made, of threads and processes.
fn creation(site: &SiteReport) -> Markup {
    let most = MOST_FRAMES.first().copied().unwrap_or_default();
    html! {
        @if !site.creation_stack.is_empty() {
            details {
                summary { "The first was made at" }
                (frames(&site.creation_stack, most))
            }
        }
    }
}

fn stacks(site: &SiteReport, rank: usize) -> Markup {
    let most = MOST_GROUPS.get(rank).copied().unwrap_or_default();
    let frames = MOST_FRAMES.get(rank).copied().unwrap_or_default();
    html! {
        @if !site.waiting.is_empty() { p { strong { "What they wait on" } } }
        @for group in site.waiting.iter().take(most) { (stack(group, frames)) }
        @if site.waiting.len() > most {
            p.soft { "and " (count((site.waiting.len() - most) as u64, "more group")) }
        }
    }
}

fn stack(group: &WaitingReport, most: usize) -> Markup {
    html! {
        p {
            strong { (count(group.count, "")) } " " bdi { (foreign(&state(&group.reason))) }
            @if let Some(longest) = group.longest_s { ", up to " (duration(longest)) }
            " (" (figure(group.share * 100.0)) "% of them)"
        }
        (frames(telling(&group.stack), most))
    }
}

fn frames(stack: &[Arc<str>], most: usize) -> Markup {
    html! {
        @if !stack.is_empty() {
            ol.stack {
                @for frame in stack.iter().take(most) { li { bdi { (foreign(frame)) } } }
                @if stack.len() > most { li.soft { "and " (count((stack.len() - most) as u64, "more frame")) } }
            }
        }
    }
}
