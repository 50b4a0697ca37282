//! What a dump comes down to, for a person: what tasks do, what they wait on, what they cost.

use std::io::{self, Write};

use super::dump::{GO, word};
use crate::report::{
    clean::clean,
    digest::{Contended, SiteCost, TaskCluster},
    dump::{Dump, Object, Origin, RuntimeDump},
    seconds,
    units::{bytes, count, duration},
};

/// Clusters, objects and sites that are printed; the rest is counted.
const PRINTED: usize = 20;
/// Frames that are printed of a stack.
const FRAMES: usize = 8;

/// Writes it.
///
/// # Errors
/// When `out` fails.
pub fn write_digest(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    let process = &dump.process;
    writeln!(out, "{} (pid {}), {}", clean(&process.comm), process.pid, dump.taken)?;
    let empty = |runtime: &&RuntimeDump| runtime.tasks.is_empty() && dump.runtimes.len() > 1;
    for runtime in dump.runtimes.iter().filter(|runtime| !empty(runtime)) {
        self::runtime(runtime, process.rss_bytes, out)?;
    }
    Ok(())
}

fn runtime(runtime: &RuntimeDump, rss_bytes: Option<u64>, out: &mut dyn Write) -> io::Result<()> {
    let digest = runtime.digest();
    let of = if runtime.kind == GO { "of stacks" } else { "of memory" };
    let held = runtime.bytes().map(|held| format!(", {} {of}", bytes(held))).unwrap_or_default();
    let rss = rss_bytes.map(|rss| format!(", resident set {}", bytes(rss))).unwrap_or_default();
    let version = runtime.version.as_deref().unwrap_or(&runtime.kind);
    writeln!(out, "{} ({}){held}{rss}", count(runtime.tasks.len() as u64, word(runtime)), clean(version))?;
    if runtime.unreadable > 0 {
        writeln!(out, "{} could not be read", count(runtime.unreadable, word(runtime)))?;
    }
    writeln!(out, "\nwhat they do")?;
    for cluster in digest.clusters.iter().take(PRINTED) {
        self::cluster(runtime, cluster, out)?;
    }
    rest(digest.clusters.len(), out)?;
    if !digest.contended.is_empty() {
        writeln!(out, "\nwhat several wait on")?;
        for one in digest.contended.iter().take(PRINTED) {
            contended(runtime, one, out)?;
        }
        rest(digest.contended.len(), out)?;
    }
    writeln!(out, "\nwhat they cost")?;
    for cost in digest.sites.iter().take(PRINTED) {
        site(runtime, cost, out)?;
    }
    rest(digest.sites.len(), out)
}

fn rest(all: usize, out: &mut dyn Write) -> io::Result<()> {
    match all.saturating_sub(PRINTED) {
        0 => Ok(()),
        more => writeln!(out, "  ... and {more} more"),
    }
}

fn cluster(runtime: &RuntimeDump, cluster: &TaskCluster, out: &mut dyn Write) -> io::Result<()> {
    let states = states(runtime, &cluster.states);
    let longest =
        cluster.longest_ns.map(|ns| format!(", {} at most", duration(seconds(ns)))).unwrap_or_default();
    let held = cluster.bytes.map(|held| format!(", {}", bytes(held))).unwrap_or_default();
    let mut alike = String::new();
    if cluster.variants + cluster.near > 1 {
        alike = format!(" ({} stacks, {} of them only alike)", cluster.variants + cluster.near, cluster.near);
    }
    writeln!(out, "  {} ({:.1} %) {states}{longest}{held}{alike}", cluster.count, cluster.share * 100.0)?;
    let stack = cluster.stack.and_then(|stack| runtime.stacks.get(stack as usize));
    let lines = stack.map_or(&[][..], |stack| &stack.lines);
    let shown: Vec<_> =
        lines.iter().filter(|line| line.shown).filter_map(|line| runtime.frame(line)).collect();
    for frame in shown.iter().take(FRAMES) {
        writeln!(out, "      {}{}", clean(&frame.function), place(frame.file.as_deref(), frame.line))?;
    }
    if cluster.stack.is_none()
        && let Some(origin) = runtime.sites.get(cluster.site as usize)
    {
        let task = origin.task.as_deref().unwrap_or("?");
        writeln!(out, "      {}{}", clean(task), place(origin.file.as_deref(), origin.line))?;
    }
    if shown.len() > FRAMES {
        writeln!(out, "      ... {} more frames", shown.len() - FRAMES)?;
    }
    match runtime.sites.get(cluster.site as usize) {
        Some(origin) if origin.function.is_some() && origin.shown => {
            writeln!(out, "      created by {}", created(runtime, origin))
        }
        _ => Ok(()),
    }
}

fn contended(runtime: &RuntimeDump, contended: &Contended, out: &mut dyn Write) -> io::Result<()> {
    let object = &contended.object;
    let what = match object.object {
        Object::Channel { length, capacity, closed } => {
            let closed = if closed { ", closed" } else { "" };
            format!("channel {:#x} ({length} of {capacity} buffered{closed})", object.address)
        }
        Object::Semaphore => format!("lock or semaphore {:#x}", object.address),
        Object::Cond => format!("condition {:#x}", object.address),
        Object::File { descriptor } => match runtime.files.get(&descriptor) {
            Some(file) => format!("file {descriptor} ({})", clean(file)),
            None => format!("file {descriptor}"),
        },
        Object::Timer => format!("timer {:#x}", object.address),
        Object::Unknown => format!("{:#x}", object.address),
    };
    let sides = [(object.receivers, "to receive"), (object.senders, "to send"), (object.others, "to get it")];
    let sides: Vec<String> =
        sides.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}")).collect();
    writeln!(out, "  {} wait on {what}: {}", object.waiters(), sides.join(", "))?;
    writeln!(out, "      {}", states(runtime, &contended.states))?;
    for (site, count) in contended.sites.iter().take(3) {
        if let Some(origin) = runtime.sites.get(*site as usize) {
            writeln!(out, "      {count} created by {}", created(runtime, origin))?;
        }
    }
    Ok(())
}

fn site(runtime: &RuntimeDump, cost: &SiteCost, out: &mut dyn Write) -> io::Result<()> {
    let held = cost.bytes.map_or_else(|| "?".to_owned(), bytes);
    let name =
        runtime.sites.get(cost.site as usize).map(|origin| created(runtime, origin)).unwrap_or_default();
    writeln!(out, "  {held} in {}: {name}", count(cost.count, "task"))
}

/// `3 chan receive, 1 select`; one state without its number.
fn states(runtime: &RuntimeDump, states: &[(u32, u64)]) -> String {
    let name = |state: u32| clean(runtime.states.get(state as usize).map_or("?", String::as_str));
    match states {
        [(only, _)] => name(*only),
        several => {
            let parts: Vec<String> =
                several.iter().map(|(state, count)| format!("{count} {}", name(*state))).collect();
            parts.join(", ")
        }
    }
}

/// The statement that starts tasks; for those that no statement starts, what they run.
fn created(runtime: &RuntimeDump, origin: &Origin) -> String {
    match (&origin.function, &origin.task) {
        (Some(function), _) if origin.shown => {
            format!("{}{}", clean(function), place(origin.file.as_deref(), origin.line))
        }
        (_, Some(task)) if runtime.kind == GO => clean(task),
        (_, Some(task)) => format!("{}{}", clean(task), place(origin.file.as_deref(), origin.line)),
        _ => "?".to_owned(),
    }
}

fn place(file: Option<&str>, line: Option<u32>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!(" ({}:{line})", clean(file)),
        _ => String::new(),
    }
}
