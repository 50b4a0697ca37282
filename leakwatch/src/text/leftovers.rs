//! What a program left behind, for people and for GitHub's annotations.

use std::fmt::Write as _;

use crate::report::{
    SiteReport,
    clean::clean,
    leftovers::{Leftover, Leftovers},
    units::{count, duration},
};

/// Groups of stacks shown of a site.
const GROUPS: usize = 3;
/// Frames shown of a stack.
const FRAMES: usize = 8;

/// For people; empty when nothing was left behind.
pub fn leftovers(left: &Leftovers<'_>) -> String {
    let mut text = String::new();
    if left.is_empty() {
        return text;
    }
    let leaks = left.sites.iter().filter(|left| left.leaks()).count();
    let mut parts = Vec::new();
    if left.tasks() > 0 {
        parts.push(format!("{} left behind", count(left.tasks(), "task")));
    }
    if leaks > 0 {
        parts.push(format!("{} that leak", count(leaks as u64, "site")));
    }
    if !left.processes.is_empty() {
        parts.push(format!("{} still running", count(left.processes.len() as u64, "process")));
    }
    line(&mut text, &format!("leakwatch: {}", parts.join(", ")));
    for one in &left.sites {
        site(&mut text, one);
    }
    for process in &left.processes {
        let live = count(process.tasks.live, "task");
        line(&mut text, &format!("  {} (pid {}) still runs, with {live}", clean(&process.comm), process.pid));
    }
    text
}

fn site(text: &mut String, left: &Leftover<'_>) {
    let age =
        left.site.age.max_s.map(|age| format!(", the oldest for {}", duration(age))).unwrap_or_default();
    let process = &left.process;
    let of = format!("{} (pid {})", clean(&process.comm), process.pid);
    line(text, &format!("\n  {} left by {of}{age}", left.tasks));
    line(text, &format!("    created by {}", place(left.site)));
    if let Some(task) = &left.site.task {
        line(text, &format!("    running {}", clean(task)));
    }
    if left.leaks() {
        line(text, &format!("    leak: {}", clean(&left.site.why)));
    }
    for group in left.site.waiting.iter().take(GROUPS) {
        line(text, &format!("    {} {}", group.count, clean(&group.reason)));
        for frame in group.stack.iter().take(FRAMES) {
            line(text, &format!("        {}", clean(frame)));
        }
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// `main.serve (/src/main.go:12)`
fn place(site: &SiteReport) -> String {
    let function = clean(site.function.as_deref().unwrap_or("?"));
    match (&site.file, site.line) {
        (Some(file), Some(line)) => format!("{function} ({}:{line})", clean(file)),
        _ => function,
    }
}

/// In one sentence.
pub fn leftover_sentence(left: &Leftover<'_>) -> String {
    let mut sentence = format!(
        "{} created by {} left behind by {} (pid {})",
        count(left.tasks, "task"),
        place(left.site),
        clean(&left.process.comm),
        left.process.pid
    );
    if let Some(group) = left.site.waiting.first() {
        // Writing to a text cannot fail.
        let _always = write!(sentence, ", most in {}", clean(&group.reason));
    }
    if left.leaks() {
        let _always = write!(sentence, "; leak: {}", clean(&left.site.why));
    }
    sentence
}

/// Workflow commands of GitHub, a line each: <https://docs.github.com/actions/reference/workflow-commands>.
pub fn github(left: &Leftovers<'_>, error: bool) -> String {
    let level = if error { "error" } else { "warning" };
    let mut text = String::new();
    for one in &left.sites {
        let mut properties = vec!["title=leakwatch".to_owned()];
        if let (Some(file), Some(at)) = (&one.site.file, one.site.line) {
            properties.insert(0, format!("file={},line={at}", property(file)));
        }
        let message = data(&leftover_sentence(one));
        line(&mut text, &format!("::{level} {}::{message}", properties.join(",")));
    }
    for process in &left.processes {
        let message = data(&format!("{} (pid {}) still runs", clean(&process.comm), process.pid));
        line(&mut text, &format!("::{level} title=leakwatch::{message}"));
    }
    text
}

/// What ends a message.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// What ends a property, too.
fn property(text: &str) -> String {
    data(&clean(text)).replace(':', "%3A").replace(',', "%2C")
}
