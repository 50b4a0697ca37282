//! The difference of two looks, for a person.

use std::fmt::Write as _;

use crate::report::{
    clean::clean,
    diff::{Change, Difference, Fate, Snapshot},
    units::count,
};

/// Places that are printed of each list.
const PRINTED: usize = 30;
/// Frames that are printed of a stack.
const FRAMES: usize = 8;

/// The difference as text. `names`: what the two files are called.
pub fn diff(difference: &Difference, looks: [&Snapshot; 2], names: [&str; 2]) -> String {
    let mut text = String::new();
    // Writing into memory does not fail.
    let written = write(&mut text, difference, looks, names);
    debug_assert!(written.is_ok());
    text
}

fn write(
    text: &mut String,
    difference: &Difference,
    looks: [&Snapshot; 2],
    names: [&str; 2],
) -> std::fmt::Result {
    for ((name, look), sign) in names.iter().zip(looks).zip(["-", "+"]) {
        writeln!(text, "{sign} {} ({}, {})", clean(name), look.form, count(look.tasks(), "task"))?;
    }
    let growth = difference.after.cast_signed().saturating_sub(difference.before.cast_signed());
    writeln!(text, "{} -> {} tasks ({growth:+})", difference.before, difference.after)?;
    if let Some(survivors) = difference.survivors {
        writeln!(
            text,
            "{} are in both, {} ended, {} started",
            survivors.stayed, survivors.ended, survivors.started
        )?;
    }
    let title = if difference.by_creation { "by creation site" } else { "by what they run" };
    list(text, title, &difference.sites)?;
    list(text, "by stack", &difference.stacks)
}

fn list(text: &mut String, title: &str, changes: &[Change]) -> std::fmt::Result {
    writeln!(text, "\n{title}")?;
    let moved: Vec<&Change> = changes.iter().filter(|change| change.fate != Fate::Stayed).collect();
    for change in moved.iter().take(PRINTED) {
        let survivors = change.survivors.filter(|&survivors| survivors > 0 && change.before > 0);
        let survivors =
            survivors.map(|survivors| format!(", {survivors} of them still there")).unwrap_or_default();
        write!(
            text,
            "  {:>8} {:+} ({} -> {}{survivors})",
            change.fate.name(),
            change.growth(),
            change.before,
            change.after
        )?;
        match change.frames.as_slice() {
            [only] => writeln!(text, "  {}", clean(&only.to_string()))?,
            [] => writeln!(text, "  [stack not known]")?,
            frames => {
                writeln!(text)?;
                for frame in frames.iter().take(FRAMES) {
                    writeln!(text, "             {}", clean(&frame.to_string()))?;
                }
                if frames.len() > FRAMES {
                    writeln!(text, "             ... {} more frames", frames.len() - FRAMES)?;
                }
            }
        }
    }
    if moved.len() > PRINTED {
        writeln!(text, "  ... and {} more that changed", moved.len() - PRINTED)?;
    }
    let stayed: Vec<&Change> = changes.iter().filter(|change| change.fate == Fate::Stayed).collect();
    if !stayed.is_empty() {
        let tasks = stayed.iter().map(|change| change.after).sum();
        writeln!(text, "    stayed {} with {}", count(stayed.len() as u64, "place"), count(tasks, "task"))?;
    }
    Ok(())
}
