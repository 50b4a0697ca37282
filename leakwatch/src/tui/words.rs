//! What the screen says in few columns. Words that all outputs share are `report::words`.

use crate::report::{
    Ages, Mode, ProcessReport, SiteReport,
    clean::{clean, short_function, shorten, width},
    units::{bytes_signed, duration, figure, signed_rate},
    words,
};

pub(super) use words::{THREAD, function, noun, place, state, telling, waits};

/// The age of the oldest task; with `>` where only a least age is known.
pub(super) fn oldest(age: &Ages) -> Option<String> {
    let least = if age.lower_bound { ">" } else { "" };
    age.max_s.map(|seconds| format!("{least}{}", duration(seconds)))
}

/// As many reasons as fit, at least the first.
pub(super) fn enough(reasons: &[String], room: usize) -> String {
    let fits = |text: &String| width(text) <= room;
    let all = reasons.join(", ");
    if fits(&all) {
        return all;
    }
    let some = (1..reasons.len()).rev().filter_map(|number| reasons.get(..number));
    let text = some.map(|some| format!("{}, …", some.join(", "))).find(fits);
    text.unwrap_or_else(|| reasons.first().map(|first| cut(first, room)).unwrap_or_default())
}

/// The beginning of a text, where its end says less.
fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for sign in text.chars() {
        short.push(sign);
        if width(&short) >= room {
            short.pop();
            break;
        }
    }
    if room > 0 {
        short.push('…');
    }
    short
}

/// Where a site's tasks are started, and what they run where there is room for it.
pub(super) fn site_in(site: &SiteReport, process: &ProcessReport, room: usize) -> String {
    let kind = if process.runtimes.iter().any(|runtime| runtime.kind == site.runtime) {
        String::new()
    } else {
        format!("[{}] ", clean(&site.runtime))
    };
    let line = place(site).map_or_else(String::new, |place| format!(" {place}"));
    let function = function(site);
    let start = format!("{kind}{}", short_function(&function));
    let task = task(site).map(|task| format!("{start}{line} > {}", short_function(&task)));
    fitting([task, Some(format!("{start}{line}"))], room).unwrap_or_else(|| {
        // File and line are what is looked up: the function gives way.
        let left = room.saturating_sub(width(&line));
        if left < LEAST_NAME {
            return shorten(&format!("{start}{line}"), room);
        }
        format!("{}{line}", shorten(&start, left))
    })
}

/// Columns below which a name says nothing any more.
const LEAST_NAME: usize = 8;

/// The first that fits.
fn fitting<const N: usize>(texts: [Option<String>; N], room: usize) -> Option<String> {
    texts.into_iter().flatten().find(|text| width(text) <= room)
}

/// What the tasks run, where that says more than where they are started.
pub(super) fn task(site: &SiteReport) -> Option<String> {
    let function = function(site);
    let task = clean(site.task.as_deref().filter(|_| !words::first(site))?);
    let closure = task.strip_prefix(&function).is_some_and(|rest| rest.starts_with('.'));
    (!closure).then_some(task)
}

/// A site with as much as fits on one line: paths of packages and folders go first, then the task, then the middle.
pub(super) fn whole_site(site: &SiteReport, process: &ProcessReport, room: usize) -> String {
    let file = site.file.as_deref().filter(|_| !words::first(site)).map(clean);
    let line = site.line.map_or_else(String::new, |line| format!(":{line}"));
    let file = file.map_or_else(String::new, |file| format!("  {file}{line}"));
    let function = function(site);
    let task = task(site);
    let whole = task
        .as_ref()
        .map_or_else(|| format!("{function}{file}"), |task| format!("{function}{file}  > {task}"));
    let short = task.map(|task| format!("{}{file}  > {}", short_function(&function), short_function(&task)));
    fitting([Some(whole), short], room).unwrap_or_else(|| site_in(site, process, room))
}

/// Runtimes with their versions; nothing is left out.
pub(super) fn runtimes(process: &ProcessReport) -> String {
    let texts = process.runtimes.iter().map(|runtime| {
        clean(&match (&runtime.name, &runtime.version) {
            (Some(name), Some(version)) => format!("{name} {version}"),
            (Some(name), None) => name.clone(),
            // Go's version begins with its name.
            (None, Some(version)) if version.starts_with(&runtime.kind) => version.clone(),
            (None, Some(version)) => format!("{} {version}", runtime.kind),
            (None, None) => runtime.kind.clone(),
        })
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// How tasks are counted: `probes`, `memory (sampled)`.
pub(super) fn modes(process: &ProcessReport) -> String {
    let mut modes: Vec<&str> = process
        .runtimes
        .iter()
        .map(|runtime| match runtime.mode {
            Mode::Probes => "by probes",
            Mode::Memory => "sampled from memory",
            Mode::Mixed => "partly sampled",
        })
        .collect();
    modes.dedup();
    modes.join(", ")
}

/// A rate of growth in words, `None` where it is not known: `+302/min`, `steady`.
pub(super) fn growth(per_min: Option<f64>) -> Option<String> {
    let rate = signed_rate(per_min?);
    Some(if rate == "0" { "steady".to_owned() } else { format!("{rate}/min") })
}

/// The same of bytes.
pub(super) fn bytes_growth(per_min: Option<f64>) -> Option<String> {
    let per_min = per_min?;
    Some(if per_min.abs() < 1024.0 { "steady".to_owned() } else { format!("{}/min", bytes_signed(per_min)) })
}

/// A share as percent.
pub(super) fn percent(share: f64) -> String {
    format!("{}%", figure(share * 100.0))
}
