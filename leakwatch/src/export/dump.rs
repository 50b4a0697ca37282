//! A dump as JSON, schema `leakwatch.dump/1`. Fields are only ever added.
//!
//! Written as it goes, one task a line: a dump of a million tasks is never a text in memory.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::{json::rfc3339, safe};
use crate::report::digest::TaskCluster;
use crate::report::dump::{Bubble, Dump, Frame, Object, Origin, RuntimeDump, Side, Stack, Task, WaitObject};

/// Name of the schema.
pub const SCHEMA: &str = "leakwatch.dump/1";

/// Writes a dump as JSON.
///
/// # Errors
/// When `out` fails.
pub fn write_dump_json(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    let process = &dump.process;
    write!(out, "{{\n  \"schema\": {},\n  \"host\": ", json!(SCHEMA))?;
    value(out, &dump.host)?;
    write!(out, ",\n  \"taken\": ")?;
    value(out, &rfc3339(dump.taken, 3))?;
    write!(out, ",\n  \"process\": ")?;
    value(
        out,
        &json!({
            "pid": process.pid,
            "start_time": process.start_time.map(|time| rfc3339(time, 3)),
            "comm": process.comm,
            "exe": process.exe,
            "container": process.container,
        }),
    )?;
    let task_bytes: Option<u64> = dump.runtimes.iter().map(RuntimeDump::bytes).sum();
    write!(out, ",\n  \"memory\": ")?;
    value(out, &json!({ "rss_bytes": process.rss_bytes, "task_bytes": task_bytes }))?;
    write!(out, ",\n  \"runtimes\": [")?;
    for (at, runtime) in dump.runtimes.iter().enumerate() {
        write!(out, "{}\n    {{", if at > 0 { "," } else { "" })?;
        self::runtime(runtime, out)?;
        write!(out, "\n    }}")?;
    }
    out.write_all(b"\n  ]\n}\n")
}

fn runtime(runtime: &RuntimeDump, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "\n      \"kind\": ")?;
    value(out, &runtime.kind)?;
    write!(out, ",\n      \"version\": ")?;
    value(out, &runtime.version)?;
    write!(out, ",\n      \"live\": {},\n      \"unreadable\": {}", runtime.tasks.len(), runtime.unreadable)?;
    write!(out, ",\n      \"bytes\": ")?;
    value(out, &runtime.bytes())?;
    write!(out, ",\n      \"problems\": ")?;
    value(out, &runtime.problems)?;
    list(out, "sites", &sites(runtime), Value::clone)?;
    list(out, "frames", &runtime.frames, frame)?;
    list(out, "stacks", &runtime.stacks, |stack| {
        let shown: Vec<u32> = stack.lines.iter().filter(|line| line.shown).map(|line| line.frame).collect();
        let all: Vec<u32> = stack.lines.iter().map(|line| line.frame).collect();
        json!({ "frames": all, "shown": shown })
    })?;
    list(out, "labels", &runtime.labels, |labels| {
        labels
            .iter()
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    })?;
    list(out, "objects", &runtime.objects, |one| object(runtime, one))?;
    list(out, "clusters", &runtime.digest().clusters, |one| cluster(runtime, one))?;
    list(out, "tasks", &runtime.tasks, |one| task(runtime, one))
}

/// A list with one element a line.
fn list<T>(out: &mut dyn Write, name: &str, items: &[T], form: impl Fn(&T) -> Value) -> io::Result<()> {
    write!(out, ",\n      \"{name}\": [")?;
    for (at, item) in items.iter().enumerate() {
        write!(out, "{}\n        ", if at > 0 { "," } else { "" })?;
        value(out, &form(item))?;
    }
    write!(out, "{}]", if items.is_empty() { "" } else { "\n      " })
}

fn value<T: Serialize + ?Sized>(out: &mut dyn Write, value: &T) -> io::Result<()> {
    safe::write(out, &value, false)
}

fn frame(frame: &Frame) -> Value {
    json!({ "function": frame.function, "file": frame.file, "line": frame.line, "inlined": frame.inlined })
}

fn sites(runtime: &RuntimeDump) -> Vec<Value> {
    let mut sums = vec![(0_u64, Some(0_u64)); runtime.sites.len()];
    for task in &runtime.tasks {
        if let Some((count, bytes)) = sums.get_mut(task.site as usize) {
            *count += 1;
            *bytes = bytes.zip(task.bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
        }
    }
    let site = |(origin, (count, bytes)): (&Origin, (u64, Option<u64>))| {
        json!({
            "function": origin.function,
            "file": origin.file,
            "line": origin.line,
            "task": origin.task,
            "system": origin.system,
            "live": count,
            "bytes": bytes,
        })
    };
    runtime.sites.iter().zip(sums).map(site).collect()
}

fn object(runtime: &RuntimeDump, object: &WaitObject) -> Value {
    let (kind, channel) = match object.object {
        Object::Channel { length, capacity, closed } => ("channel", Some((length, capacity, closed))),
        Object::Semaphore => ("semaphore", None),
        Object::Cond => ("cond", None),
        Object::File { .. } => ("file", None),
        Object::Timer => ("timer", None),
        Object::Unknown => ("unknown", None),
    };
    let descriptor = match object.object {
        Object::File { descriptor } => Some(descriptor),
        _ => None,
    };
    json!({
        "address": hex(object.address),
        "kind": kind,
        "length": channel.map(|(length, _, _)| length),
        "capacity": channel.map(|(_, capacity, _)| capacity),
        "closed": channel.map(|(_, _, closed)| closed),
        "descriptor": descriptor,
        "file": descriptor.and_then(|descriptor| runtime.files.get(&descriptor)),
        "waiters": object.waiters(),
        "receivers": object.receivers,
        "senders": object.senders,
    })
}

fn cluster(runtime: &RuntimeDump, cluster: &TaskCluster) -> Value {
    let states: serde_json::Map<String, Value> = cluster
        .states
        .iter()
        .filter_map(|&(state, count)| Some((runtime.states.get(state as usize)?.clone(), json!(count))))
        .collect();
    json!({
        "stack": cluster.stack,
        "site": cluster.site,
        "count": cluster.count,
        "share": (cluster.share * 1e6).round() / 1e6,
        "variants": cluster.variants,
        "near": cluster.near,
        "states": states,
        "bytes": cluster.bytes,
        "longest_s": cluster.longest_ns.map(seconds),
    })
}

fn task(runtime: &RuntimeDump, task: &Task) -> Value {
    let (stack, stack_is) = match task.stack {
        Stack::Whole(index) => (Some(index), "whole"),
        Stack::Part(index) => (Some(index), "part"),
        Stack::Running => (None, "running"),
        Stack::Unreadable => (None, "unreadable"),
        Stack::None => (None, "none"),
    };
    let waits: Vec<Value> = runtime
        .waits_of(task)
        .iter()
        .map(|wait| {
            let side = match wait.side {
                Side::Receive => Some("receive"),
                Side::Send => Some("send"),
                Side::Acquire => Some("acquire"),
                Side::Unknown => None,
            };
            json!({ "object": wait.object, "side": side })
        })
        .collect();
    json!({
        "id": task.id,
        "parent": task.parent,
        "site": task.site,
        "state": runtime.state_of(task),
        "waited_s": task.waited_ns.map(seconds),
        "wakes_in_s": task.wakes_in_ns.map(seconds),
        "locked_to_thread": task.marks.locked_to_thread,
        "bubble": task.marks.bubble.map(|bubble| match bubble {
            Bubble::Group(number) | Bubble::Numbered(number) => number,
        }),
        "system": task.system,
        "stack": stack,
        "stack_is": stack_is,
        "labels": task.labels,
        "bytes": task.bytes,
        "waits_on": waits,
    })
}

/// Seconds with three decimals.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of a program's life fit")]
fn seconds(ns: u64) -> f64 {
    (ns / 1_000_000) as f64 / 1e3
}

/// JSON numbers lose the low bits of addresses.
fn hex(address: u64) -> String {
    format!("{address:#x}")
}
