//! The sentence that says how a process is, and its totals.

use super::canvas::{Canvas, Style};
use crate::report::clean::{clean, short_function, shorten};
use crate::report::units::{bytes, bytes_signed, count, duration, figure, signed_rate};
use crate::report::words::{LONGEST_NAME, THREAD, function, noun, place, state};
use crate::report::{Overhead, ProcessReport, SiteReport, Verdict};

/// Prints headline and totals. `overhead` is given where the report is of this process alone.
pub(super) fn write(canvas: &mut Canvas, process: &ProcessReport, overhead: Option<&Overhead>) {
    let worst = worst(process);
    let style = match worst.map(|site| site.verdict) {
        Some(Verdict::Leak) => Style::Bad,
        Some(Verdict::Suspect) => Style::Warning,
        _ => Style::Strong,
    };
    let sentence = match worst {
        Some(site) => format!("{}; {}", subject(process), about(site)),
        None => subject(process),
    };
    canvas.wrapped(style, "", 2, &sentence);
    canvas.joined(Style::Plain, &totals(process, overhead));
}

/// Names that a list of the most frequent has at most.
const MOST_NAMES: usize = 4;

/// `: worker-* 22, main 1`, or nothing where there is one name only.
fn most_of(names: &[(&str, u64)]) -> String {
    if names.len() < 2 {
        return String::new();
    }
    let texts = names.iter().take(MOST_NAMES);
    let mut texts: Vec<String> =
        texts.map(|(name, number)| format!("{} {}", clean(name), count(*number, ""))).collect();
    if names.len() > MOST_NAMES {
        texts.push("…".to_owned());
    }
    format!(": {}", texts.join(", "))
}

/// Who, how many, and whether it grows.
fn subject(process: &ProcessReport) -> String {
    let mut facts = vec![format!("pid {}", process.pid)];
    for runtime in &process.runtimes {
        let version = runtime.version.as_deref();
        facts.push(clean(&match (&runtime.name, version) {
            (Some(name), Some(version)) => format!("{name} {version}"),
            (Some(name), None) => name.clone(),
            (None, version) => version.unwrap_or(&runtime.kind).to_owned(),
        }));
    }
    if process.exited {
        facts.push("exited".to_owned());
    }
    let name = shorten(&clean(&process.comm), LONGEST_NAME);
    let live = count(process.tasks.live, noun(process));
    let growth = match process.tasks.growth_per_min.map(signed_rate) {
        Some(rate) if rate != "0" => format!(", {rate}/min"),
        Some(_) => ", steady".to_owned(),
        None => String::new(),
    };
    format!("{name} ({}): {live}{growth}", facts.join(", "))
}

/// The site to name: the worst, where one is bad or grows; else the one with most tasks.
fn worst(process: &ProcessReport) -> Option<&SiteReport> {
    let mut sites = process.sites.iter().filter(|site| !site.system && site.live > 0);
    let first = sites.clone().next()?;
    if first.verdict >= Verdict::Suspect || grows(first) {
        return Some(first);
    }
    let most = sites.clone().map(|site| site.live).max()?;
    sites.find(|site| site.live == most)
}

fn grows(site: &SiteReport) -> bool {
    site.growth_per_min.is_some_and(|growth| growth >= 0.05)
}

/// A site in half a sentence.
fn about(site: &SiteReport) -> String {
    let role = match site.verdict {
        Verdict::Leak => "leaks",
        Verdict::Suspect => "worst",
        _ if grows(site) => "fastest growing",
        _ => "most",
    };
    let name = function(site);
    let mut parts = vec![format!("{role}: {}", shorten(short_function(&name), LONGEST_NAME))];
    parts.extend(place(site).map(|place| format!(" ({})", shorten(&place, LONGEST_NAME))));
    parts.push(format!(" {} live", count(site.live, "")));
    parts.extend(
        site.growth_per_min.filter(|_| grows(site)).map(|growth| format!(", growing {}/min", figure(growth))),
    );
    if let Some(group) = site.waiting.first() {
        parts.push(format!(", {}", state(&group.reason)));
        parts.extend(group.longest_s.map(|longest| format!(" up to {}", duration(longest))));
    }
    parts.concat()
}

/// The totals, without those that say nothing.
fn totals(process: &ProcessReport, overhead: Option<&Overhead>) -> Vec<String> {
    let tasks = &process.tasks;
    let mut parts = Vec::new();
    parts.push(match tasks.live_at_attach {
        Some(attach) => format!("live {} ({} at attach)", count(tasks.live, ""), count(attach, "")),
        None => format!("live {} (started since attach)", count(tasks.live, "")),
    });
    for (word, total, rate) in
        [("started", tasks.started, tasks.start_rate_per_s), ("ended", tasks.ended, tasks.end_rate_per_s)]
    {
        let rate = rate.map_or_else(String::new, |rate| format!(" ({}/s)", figure(rate)));
        parts.push(format!("{word} {}{rate}", count(total, "")));
    }
    if let Some(threads) = process.threads.live {
        let change = match (process.threads.started, process.threads.ended) {
            (0, 0) => String::new(),
            (started, ended) => format!(" (+{} -{})", count(started, ""), count(ended, "")),
        };
        let names: Vec<(&str, u64)> =
            process.threads.by_name.iter().map(|(name, live)| (name.as_str(), *live)).collect();
        let names = if noun(process) == THREAD { most_of(&names) } else { String::new() };
        parts.push(format!("{}{change}{names}", count(threads, "thread")));
    }
    if process.forks.count > 0 {
        let by_command = process.forks.by_command.iter().filter(|command| command.forked > 0);
        let commands: Vec<(&str, u64)> =
            by_command.map(|command| (command.command.as_str(), command.forked)).collect();
        parts.push(format!("{}{}", count(process.forks.count, "fork"), most_of(&commands)));
    }
    if let Some(rss) = process.memory.rss_bytes {
        let growth = process.memory.rss_growth_per_min.filter(|growth| growth.abs() >= 1_024.0);
        let growth = growth.map_or_else(String::new, |growth| format!(" ({}/min)", bytes_signed(growth)));
        parts.push(format!("RSS {}{growth}", bytes(rss)));
    }
    if let Some(stacks) = process.memory.task_stack_bytes.filter(|bytes| *bytes > 0) {
        let growth = process.memory.task_stack_growth_per_min.filter(|growth| growth.abs() >= 1_024.0);
        let growth = growth.map_or_else(String::new, |growth| format!(" ({}/min)", bytes_signed(growth)));
        parts.push(format!("{} stacks {}{growth}", noun(process), bytes(stacks)));
    }
    parts.push(format!("watched {}", duration(process.watched_s)));
    parts.extend(overhead.and_then(super::overhead));
    parts
}
