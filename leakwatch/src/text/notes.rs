//! What the figures do not show: losses, problems, doubts. One line each.

use super::canvas::{Canvas, Style};
use crate::report::{ProcessReport, notes::notes};

/// Prints the notes of a process; nothing where there are none.
pub(super) fn write(canvas: &mut Canvas, process: &ProcessReport) {
    for note in notes(process) {
        canvas.wrapped(Style::Warning, "note: ", 6, &note);
    }
}
