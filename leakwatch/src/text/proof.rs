//! A proof for a person: what is proven, why, and how sure that is.

use super::{
    Options,
    canvas::{Canvas, Style},
};
use crate::report::{
    clean::clean,
    dump::Frame,
    proof::{Group, ProofReport, describe},
    units::{bytes, count, duration},
};

/// Frames of each stack, and objects of each group, that are printed.
const FRAMES: usize = 12;
const OBJECTS: usize = 3;

/// Prints a proof. Ends with a newline.
pub fn proof(report: &ProofReport, options: &Options) -> String {
    let mut canvas = Canvas::new(options.width, options.color);
    let (proof, process) = (&report.proof, &report.dump.process);
    let who = format!("{} (pid {})", clean(&process.comm), process.pid);
    let proven: usize = report.groups.iter().map(|group| group.ids.len()).sum();
    if proven == 0 {
        canvas.wrapped(
            Style::Good,
            "",
            0,
            &format!(
                "{who}: no goroutine is proven to leak; {} looked at",
                count(proof.goroutines, "goroutine")
            ),
        );
    } else {
        canvas.wrapped(
            Style::Bad,
            "",
            0,
            &format!(
                "{who}: {} of {} can never be woken",
                count(proven as u64, "goroutine"),
                count(proof.goroutines, "goroutine")
            ),
        );
    }
    canvas.wrapped(Style::Faint, "", 0, &how(report));
    for problem in &proof.problems {
        canvas.wrapped(Style::Warning, "not proven: ", 12, &clean(problem));
    }
    for why in &report.whys {
        canvas.blank();
        canvas.wrapped(Style::Strong, "", 0, &format!("goroutine {}: {}", why.id, why.fate));
        for link in &why.chain {
            canvas.wrapped(Style::Plain, "    ", 6, &clean(link));
        }
    }
    // Who asks for one wants to read that one.
    let groups = if report.whys.is_empty() { report.groups.as_slice() } else { &[] };
    for group in groups {
        canvas.blank();
        write(&mut canvas, report, group);
    }
    canvas.finish()
}

/// How it was proven.
fn how(report: &ProofReport) -> String {
    let proof = &report.proof;
    let passes = count(u64::from(proof.passes), "pass");
    let sure = if proof.still {
        format!("{passes} while the process stood still: one exact look")
    } else if report.groups.is_empty() {
        passes
    } else {
        format!("{passes}, chance that one goes astray in all of them {:.0e}", 1.0 - proof.confidence)
    };
    let void = if proof.void > 0 { format!(", {} more do not count", proof.void) } else { String::new() };
    format!(
        "{sure}{void}; heap {}, {} in {}",
        bytes(proof.heap_bytes),
        "looked through",
        duration(std::time::Duration::from_nanos(proof.took_ns).as_secs_f64())
    )
}

fn write(canvas: &mut Canvas, report: &ProofReport, group: &Group) {
    let waits = group.longest_ns.map_or_else(String::new, |ns| {
        format!(", {}", duration(std::time::Duration::from_nanos(ns).as_secs_f64()))
    });
    let who = match group.ids.as_slice() {
        [id] => format!("goroutine {id}"),
        ids => count(ids.len() as u64, "goroutine"),
    };
    canvas.wrapped(
        Style::Strong,
        "",
        0,
        &format!("{who} [{} (leaked){waits}], {} of stack", clean(&group.state), bytes(group.bytes)),
    );
    canvas.wrapped(Style::Plain, "  why: ", 7, &clean(&group.why));
    if group.objects.len() > 1 {
        for &object in group.objects.iter().take(OBJECTS) {
            if let Some(object) = report.proof.objects.get(object as usize) {
                canvas.wrapped(Style::Faint, "    ", 6, &describe(object));
            }
        }
        if group.objects.len() > OBJECTS {
            canvas.wrapped(Style::Faint, "    ", 6, &format!("and {} more", group.objects.len() - OBJECTS));
        }
    }
    for frame in group.stack.iter().take(FRAMES) {
        canvas.wrapped(Style::Plain, "    ", 6, &place(frame));
    }
    if group.stack.len() > FRAMES {
        canvas.wrapped(Style::Faint, "    ", 6, &format!("and {} more frames", group.stack.len() - FRAMES));
    }
    if let Some(origin) = &group.origin
        && let Some(function) = &origin.function
    {
        let at = match (&origin.file, origin.line) {
            (Some(file), Some(line)) => format!(" ({}:{line})", clean(file)),
            _ => String::new(),
        };
        canvas.wrapped(Style::Plain, "    ", 6, &format!("created by {}{at}", clean(function)));
    }
}

fn place(frame: &Frame) -> String {
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{} ({}:{line})", clean(&frame.function), clean(file)),
        _ => clean(&frame.function),
    }
}
