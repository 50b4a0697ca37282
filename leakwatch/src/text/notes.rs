//! What the figures do not show: losses, problems, doubts. One line each.

use super::canvas::{Canvas, Style};
use super::clean::clean;
use super::headline::noun;
use crate::report::units::count;
use crate::report::{Loss, Mode, ProcessReport};

/// Prints the notes of a process; nothing where there are none.
pub(super) fn write(canvas: &mut Canvas, process: &ProcessReport) {
    for note in notes(process) {
        canvas.wrapped(Style::Warning, "note: ", 6, &note);
    }
}

fn notes(process: &ProcessReport) -> Vec<String> {
    let mut notes = Vec::new();
    for runtime in &process.runtimes {
        match runtime.mode {
            Mode::Probes => {}
            Mode::Memory => {
                notes.push(format!("{} is read from memory only: rates are sampled", runtime.kind))
            }
            Mode::Mixed => {
                notes.push(format!(
                    "{} was read from memory part of the time: rates are partly sampled",
                    runtime.kind
                ));
            }
        }
        notes.extend(runtime.problems.iter().map(|problem| clean(problem)));
    }
    if process.tasks.live_at_attach.is_none() {
        let noun = noun(process);
        notes.push(format!(
            "what was alive at attach is not known: only {noun}s started since then are counted"
        ));
    }
    if let Some(drift) = process.tasks.drift.filter(|drift| *drift != 0) {
        notes.push(format!("probes count {drift:+} live tasks compared with the program's memory"));
    }
    notes.extend(process.losses.iter().map(sentence));
    notes
}

/// A loss as a sentence that says what it does to the figures.
fn sentence(loss: &Loss) -> String {
    let n = |noun: &str| count(loss.count, noun);
    match loss.name {
        "ring_full" => format!("{} did not fit into the ring buffer; totals are exact", n("event")),
        "live_table_full" => {
            format!("{} did not fit into the live table; totals are exact, ages are not known", n("task"))
        }
        "site_table_full" => {
            format!("{} did not fit into the site table; totals are exact", n("start or end"))
        }
        "facts_unreadable" => format!("the site of {} could not be read", n("task")),
        "task_unreadable" => format!("{} could not be read and are in no figure", n("start or end")),
        "end_without_start" => format!("{} ended whose start was not seen", n("task")),
        "start_without_end" => format!("the end of {} was not seen: live counts are too high", n("task")),
        "descriptor_missing" => format!("{} had no descriptor: a bug of leakwatch", n("probe hit")),
        "tracepoint_unreadable" => format!("{} could not be read in full", n("thread or process event")),
        "census_unreadable" => format!("{} could not be read from memory", n("task")),
        "sites_over_limit" => {
            format!("{} did not fit into the model: their tasks are only in the totals", n("site"))
        }
        name => format!("lost: {} {}", count(loss.count, ""), clean(name)),
    }
}
