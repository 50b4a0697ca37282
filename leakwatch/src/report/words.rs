//! What things are called, for people: every output says the same. Names come out harmless ([`super::clean`]).

use std::sync::Arc;

use super::clean::{clean, file_name, shorten};
use super::units::{bytes_signed, count, duration, signed_rate};
use super::{Ages, Forecast, ProcessReport, SiteReport, WaitingReport};

/// Longest name inside a sentence, columns.
pub const LONGEST_NAME: usize = 64;

/// What the tasks of a process are called that has no runtime.
pub const THREAD: &str = "thread";

/// What the tasks of a process are called.
pub fn noun(process: &ProcessReport) -> &'static str {
    let go = |kind: &str| kind == "go";
    if !process.runtimes.is_empty() && process.runtimes.iter().all(|runtime| go(&runtime.kind)) {
        "goroutine"
    } else if process.runtimes.iter().all(|runtime| runtime.kind == THREAD) {
        THREAD
    } else {
        "task"
    }
}

/// The function that starts a site's tasks.
pub fn function(site: &SiteReport) -> String {
    if first(site) {
        return "the main goroutine".to_owned();
    }
    clean(site.function.as_deref().unwrap_or("(unknown)"))
}

/// Is this the goroutine that a Go program begins with? No `go` statement starts it.
pub fn first(site: &SiteReport) -> bool {
    site.runtime == "go" && site.task.as_deref() == Some("runtime.main")
}

/// File and line of a site, without directories.
pub fn place(site: &SiteReport) -> Option<String> {
    if first(site) {
        return None;
    }
    let file = clean(file_name(site.file.as_deref()?));
    let place = site.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"));
    Some(match site.spawns.len() {
        0 | 1 => place,
        places => format!("{place} +{}", places - 1),
    })
}

/// What a task does whose wait reason or status this is. Of tokio's tasks it is a state: what an idle one waits for is not known.
pub fn state(reason: &str) -> String {
    match reason {
        "running" | "runnable" | "preempted" | "idle" | "notified" | "complete" | "cancelled" => {
            reason.to_owned()
        }
        "syscall" => "in a system call".to_owned(),
        "sleep" => "sleeping".to_owned(),
        _ => format!("blocked in {}", shorten(&clean(reason), LONGEST_NAME)),
    }
}

/// What comes if it goes on so.
pub fn outlook(forecast: &Forecast) -> String {
    let bytes = forecast
        .bytes_per_h
        .map_or_else(String::new, |bytes| format!(" with {} of stacks", bytes_signed(bytes)));
    let doubles =
        forecast.doubles_in_s.map_or_else(String::new, |s| format!("; twice as many in {}", duration(s)));
    format!("if it goes on so: {} an hour{bytes}{doubles}", signed_rate(forecast.tasks_per_h))
}

/// A stack without the runtime's own frames at both ends, which are the same wherever a goroutine parks.
pub fn telling(stack: &[Arc<str>]) -> &[Arc<str>] {
    let own = |frame: &Arc<str>| frame.starts_with("runtime.");
    let first = stack.iter().position(|frame| !own(frame)).unwrap_or(0);
    let last = stack.iter().rposition(|frame| !own(frame)).map_or(stack.len(), |last| last + 1);
    stack.get(first..last).unwrap_or(stack)
}

/// Ages: `1m/12m`; with `>` where only a least age is known, of tasks from before attach.
pub fn age(age: &Ages, watched_s: f64) -> String {
    let text = |value: Option<f64>, least: bool| match value {
        Some(seconds) if least => format!(">{}", duration(seconds)),
        Some(seconds) => duration(seconds),
        None => "-".to_owned(),
    };
    if age.p50_s.is_none() && age.max_s.is_none() {
        return "-".to_owned();
    }
    let old_half = age.lower_bound && age.p50_s.is_some_and(|p50| p50 >= watched_s);
    format!("{}/{}", text(age.p50_s, old_half), text(age.max_s, age.lower_bound))
}

/// What the tasks of a site wait on, most frequent first: `chan receive 12m`, or
/// `1,000 chan receive 12m, 24 select`.
pub fn waits(groups: &[WaitingReport]) -> Vec<String> {
    let mut reasons: Vec<(&str, u64, Option<f64>)> = Vec::new();
    for group in groups {
        match reasons.iter_mut().find(|(reason, ..)| *reason == group.reason) {
            Some((_, tasks, longest)) => {
                *tasks = tasks.saturating_add(group.count);
                *longest = longest.iter().copied().chain(group.longest_s).reduce(f64::max);
            }
            None => reasons.push((&group.reason, group.count, group.longest_s)),
        }
    }
    reasons.sort_by_key(|(_, tasks, _)| std::cmp::Reverse(*tasks));
    let several = reasons.len() > 1;
    let texts = reasons.iter().enumerate().map(|(index, (reason, tasks, longest))| {
        let tasks = if several { format!("{} ", count(*tasks, "")) } else { String::new() };
        let longest =
            longest.filter(|_| index == 0).map_or_else(String::new, |s| format!(" {}", duration(s)));
        format!("{tasks}{}{longest}", clean(reason))
    });
    texts.collect()
}
