//! A dump as text: goroutines in the form of the runtime's own `debug=2`, line for line, so that whatever reads such
//! dumps reads this one; and stacks in one line each, for flame graphs.
//!
//! The form is that of `goroutineheader`, `traceback1`, `traceback2` and `printcreatedby` (runtime/traceback.go, Go 1.19
//! and 1.21 to 1.27). Arguments, which the runtime prints as words of the stack, are `...`. Writes as it goes: a dump of
//! a million tasks is some hundred megabytes.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use crate::report::clean::clean;
use crate::report::dump::{Bubble, Dump, Frame, NamedStack, Origin, RuntimeDump, Stack, Task};

/// `tracebackInnerFrames` and `tracebackOuterFrames`, Go 1.21 and later.
const INNER: usize = 50;
const OUTER: usize = 50;
/// `_TracebackMaxFrames` of Go 1.20 and older.
const MOST: usize = 100;
/// The runtime whose own form is known.
pub(super) const GO: &str = "go";
/// Nanoseconds of a minute.
const MINUTE: u64 = 60_000_000_000;

/// Writes a dump in the runtimes' own form.
///
/// # Errors
/// When `out` fails.
pub fn write_dump(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    let mut first = true;
    for runtime in &dump.runtimes {
        let word = word(runtime);
        let texts: Vec<Vec<u8>> = runtime.stacks.iter().map(|stack| traceback(runtime, stack)).collect();
        let created: Vec<(String, String)> = runtime.sites.iter().map(created_by).collect();
        for task in &runtime.tasks {
            if !first {
                out.write_all(b"\n")?;
            }
            first = false;
            header(word, runtime, task, out)?;
            match task.stack {
                Stack::Whole(index) | Stack::Part(index) => {
                    out.write_all(texts.get(index as usize).map_or(&[], Vec::as_slice))?;
                }
                Stack::Running if runtime.kind == GO => {
                    writeln!(out, "\t{word} running on other thread; stack unavailable")?;
                }
                Stack::Unreadable => writeln!(out, "\t{word} stack unreadable")?,
                // What it runs is all that is known.
                Stack::None | Stack::Running => {
                    out.write_all(runtime.origin_of(task).map(what_it_runs).unwrap_or_default().as_bytes())?;
                }
            }
            if let Some((line, place)) = created.get(task.site as usize).filter(|(line, _)| !line.is_empty())
                && task.id != 1
            {
                out.write_all(line.as_bytes())?;
                if let Some(parent) = task.parent.filter(|_| runtime.tells_parents) {
                    write!(out, " in goroutine {parent}")?;
                }
                out.write_all(place.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// What a runtime's tasks are called.
pub(super) fn word(runtime: &RuntimeDump) -> &'static str {
    match runtime.kind.as_str() {
        GO => "goroutine",
        "thread" => "thread",
        _ => "task",
    }
}

/// `goroutine 7 [chan receive, 2 minutes, locked to thread]:`
fn header(word: &str, runtime: &RuntimeDump, task: &Task, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{word} {} [{}", task.id, runtime.state_of(task))?;
    if task.marks.leaked {
        out.write_all(b" (leaked)")?;
    }
    if task.marks.scan {
        out.write_all(b" (scan)")?;
    }
    if task.marks.durable {
        out.write_all(b" (durable)")?;
    }
    match task.waited_ns.map(|ns| ns / MINUTE) {
        Some(minutes) if minutes >= 1 => write!(out, ", {minutes} minutes")?,
        _ => {}
    }
    if task.marks.locked_to_thread {
        out.write_all(b", locked to thread")?;
    }
    match task.marks.bubble {
        Some(Bubble::Group(root)) => write!(out, ", synctest group {root}")?,
        Some(Bubble::Numbered(id)) => write!(out, ", synctest bubble {id}")?,
        None => {}
    }
    out.write_all(b"]")?;
    if let Some(labels) =
        task.labels.filter(|_| runtime.prints_labels).and_then(|at| runtime.labels.get(at as usize))
    {
        let pairs: Vec<String> =
            labels.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
        write!(out, " {{{}}}", pairs.join(", "))?;
    }
    out.write_all(b":\n")
}

/// A key or value of a label, in quotes when it has more than letters, digits, dots, slashes and underscores
/// (`tracebackStringNeedsQuoting`).
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'_');
    if text.bytes().all(plain) { text.to_owned() } else { format!("\"{}\"", text.escape_default()) }
}

/// The frames of a stack that the runtime prints.
fn traceback(runtime: &RuntimeDump, stack: &NamedStack) -> Vec<u8> {
    let mut text = Vec::new();
    let shown = |most: usize| {
        let lines = stack.lines.iter().filter(move |line| line.shown && (line.pc as usize) < most);
        lines.filter_map(|line| runtime.frame(line)).collect::<Vec<_>>()
    };
    if runtime.kind != GO {
        for frame in shown(usize::MAX) {
            push_native_frame(&mut text, frame);
        }
        return text;
    }
    if !runtime.tells_parents {
        // Go 1.20 and older stop at so many frames, hidden ones among them, and say so only when all were printed.
        let lines = shown(MOST);
        for frame in &lines {
            push_frame(&mut text, frame);
        }
        if lines.len() == MOST {
            text.extend_from_slice(b"...additional frames elided...\n");
        }
        return text;
    }
    let lines = shown(usize::MAX);
    let elided = lines.len().saturating_sub(INNER + OUTER);
    for (at, frame) in lines.iter().enumerate() {
        if elided > 0 && at == INNER {
            text.extend_from_slice(format!("...{elided} frames elided...\n").as_bytes());
        }
        if elided == 0 || at < INNER || at >= INNER + elided {
            push_frame(&mut text, frame);
        }
    }
    text
}

fn push_frame(text: &mut Vec<u8>, frame: &Frame) {
    let arguments = if frame.no_arguments && !frame.inlined { "" } else { "..." };
    let mut line = format!("{}({arguments})\n", clean(&frame.function));
    push_place(&mut line, frame.file.as_deref(), frame.line, frame.offset);
    text.extend_from_slice(line.as_bytes());
}

/// Frames of native code have no arguments to leave out, and often no line.
fn push_native_frame(text: &mut Vec<u8>, frame: &Frame) {
    let mut line = format!("{}\n", clean(&frame.function));
    if frame.file.is_some() {
        push_place(&mut line, frame.file.as_deref(), frame.line, frame.offset);
    }
    text.extend_from_slice(line.as_bytes());
}

/// `\t/src/main.go:12 +0x1d`
fn push_place(text: &mut String, file: Option<&str>, line: Option<u32>, offset: Option<u64>) {
    text.push('\t');
    text.push_str(&clean(file.unwrap_or("?")));
    text.push(':');
    text.push_str(&line.unwrap_or(0).to_string());
    if let Some(offset) = offset {
        text.push_str(" +0x");
        let digits = format!("{offset:x}");
        text.push_str(&digits);
    }
    text.push('\n');
}

/// For a task without a stack, in the place of its frames: what it runs, and where that stands.
fn what_it_runs(origin: &Origin) -> String {
    let mut text = format!("{}\n", clean(origin.task.as_deref().unwrap_or("?")));
    if origin.file.is_some() {
        push_place(&mut text, origin.file.as_deref(), origin.line, None);
    }
    text
}

/// `created by main.main`, and what follows on the next line; empty where the runtime prints none.
fn created_by(origin: &Origin) -> (String, String) {
    match &origin.function {
        Some(function) if origin.shown => {
            let mut place = "\n".to_owned();
            push_place(&mut place, origin.file.as_deref(), origin.line, origin.offset);
            (format!("created by {}", clean(function)), place)
        }
        _ => (String::new(), String::new()),
    }
}

/// Writes stacks as flame graph tools read them: frames from the outermost in, separated by semicolons, the state
/// last, then the number of tasks.
///
/// # Errors
/// When `out` fails.
pub fn write_folded(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    for runtime in &dump.runtimes {
        let mut counts: FxHashMap<(Option<u32>, u32, u32), u64> = FxHashMap::default();
        for task in &runtime.tasks {
            let stack = task.stack_index();
            *counts.entry((stack, task.state, if stack.is_some() { 0 } else { task.site })).or_default() += 1;
        }
        let mut lines: FxHashMap<String, u64> = FxHashMap::default();
        for ((stack, state, site), count) in counts.into_iter().collect::<Vec<_>>() {
            let stack = stack.and_then(|index| runtime.stacks.get(index as usize));
            let mut frames: Vec<String> = if let Some(stack) = stack {
                let lines = stack.lines.iter().rev().filter(|line| !line.dull);
                lines.filter_map(|line| runtime.frame(line)).map(|frame| one_word(&frame.function)).collect()
            } else {
                let task = runtime.sites.get(site as usize).and_then(|origin| origin.task.as_deref());
                task.map(one_word).into_iter().collect()
            };
            frames.push(format!(
                "[{}]",
                one_word(runtime.states.get(state as usize).map_or("", String::as_str))
            ));
            *lines.entry(frames.join(";")).or_default() += count;
        }
        let mut lines: Vec<(String, u64)> = lines.into_iter().collect();
        lines.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        for (line, count) in lines {
            writeln!(out, "{line} {count}")?;
        }
    }
    Ok(())
}

/// Without what separates frames and counts.
fn one_word(text: &str) -> String {
    clean(text).replace(';', ":").replace(' ', "_")
}
