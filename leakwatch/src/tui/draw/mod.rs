//! The state as a screen: title, page, what lies over it, and one line of hints. Pure: the same state and size give the
//! same cells.
//!
//! A list draws the rows that are on the screen and no others, so that ten thousand sites cost what twenty do.

mod header;
mod lists;
mod overlay;
mod site;

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    look::Role,
    paper::{Paper, Pieces},
    state::{Areas, Overlay, Page, State},
    words,
};
use crate::report::{
    Report,
    clean::{clean, shorten},
    units::{count, duration, figure},
};

/// Longest name of a process in a title, columns.
const LONGEST_NAME: usize = 32;

/// Rows from which there is room for more than a list.
const ROOMY: usize = 16;

/// Draws a state, and tells where things are.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) -> Areas {
    let mut paper = Paper::new(buffer, area, state.look);
    let mut areas = Areas::default();
    if paper.width() == 0 || paper.height() == 0 {
        return areas;
    }
    let bottom = paper.height() - 1;
    let Some(report) = state.report() else {
        paper.put(0, 0, paper.width(), Role::Strong, "leakwatch");
        // Every binary of the host is read before the list is whole.
        let text = if state.many { "looking for programs" } else { "waiting for the first look" };
        paper.put(0, 2.min(bottom), paper.width(), Role::Faint, text);
        footer(state, &mut paper, bottom);
        return areas;
    };
    title(state, report, &mut paper);
    match (state.overlay, state.page) {
        (Some(Overlay::Help), _) => overlay::help(state, &mut paper, 1..bottom, &mut areas),
        (Some(Overlay::Notes), _) => overlay::notes(state, &mut paper, 1..bottom, &mut areas),
        (None, Page::Processes) => lists::processes(state, report, &mut paper, 1..bottom, &mut areas),
        (None, Page::Sites) => {
            let y = header::draw(state, &mut paper, 1, bottom);
            lists::sites(state, &mut paper, y..bottom, &mut areas);
        }
        (None, Page::Site) => site::draw(state, &mut paper, 1..bottom, &mut areas),
    }
    footer(state, &mut paper, bottom);
    areas
}

/// What is looked at; at the right, what must be known to read it.
fn title(state: &State, report: &Report, paper: &mut Paper<'_>) {
    let between = state.look.between();
    let width = paper.width();
    let mut left = Pieces::of(Role::Strong, "leakwatch");
    match (state.page, state.process()) {
        (Page::Processes, _) => {
            let watched = report.processes.iter().filter(|process| !process.exited).count();
            let facts = format!(
                "{between}{}{between}{}",
                shorten(&clean(&report.host), LONGEST_NAME),
                count(watched as u64, "process")
            );
            left = left.and(Role::Plain, facts);
        }
        (_, Some(process)) => {
            let name = shorten(&clean(&process.comm), LONGEST_NAME);
            left = left.and(Role::Plain, between).and(Role::Strong, name);
            let facts = format!(" (pid {}, {})", process.pid, words::runtimes(process));
            left = left.and(Role::Plain, facts);
            if process.exited {
                left = left.and(Role::Plain, between).and(Role::Warning, "exited");
            }
        }
        (_, None) => left = left.and(Role::Plain, between).and(Role::Warning, "this process is gone"),
    }
    if let Some(hint) = &state.hint {
        left = left.and(Role::Faint, format!("{between}{hint}"));
    }
    let mut right = Pieces::default();
    if let Some(seconds) = state.silent_s {
        right = right.and(Role::Warning, format!("no look for {}{between}", duration(seconds)));
    }
    if state.paused {
        right = right.and(Role::Warning, "PAUSED").and(Role::Plain, between);
    }
    let overhead = match report.overhead.cpu_percent_of_one_core {
        Some(percent) => format!("overhead {}%", figure(percent)),
        None => format!("overhead {}", state.look.unknown()),
    };
    right =
        right.and(Role::Faint, format!("{overhead}{between}")).and(Role::Plain, duration(report.duration_s));
    let start = width.saturating_sub(right.width());
    paper.pieces(0, 0, start.saturating_sub(1).max(width.min(9)), &left);
    if start > "leakwatch".len() {
        paper.pieces(start, 0, width - start, &right);
    }
}

/// The last line: what is typed, what happened, or which keys there are.
fn footer(state: &State, paper: &mut Paper<'_>, y: usize) {
    let width = paper.width();
    if state.typing {
        let line = Pieces::of(Role::Key, "/").and(Role::Plain, clean(&state.filter)).and(Role::Cursor, " ");
        let used = paper.pieces(0, y, width, &line);
        let hint = "  enter keeps it, esc drops it";
        paper.put(used, y, width.saturating_sub(used), Role::Faint, hint);
        return;
    }
    if let Some(notice) = &state.notice {
        let role = if notice.bad { Role::Bad } else { Role::Good };
        paper.put(0, y, width, role, &shorten(&clean(&notice.text), width));
        return;
    }
    let mut used = 0;
    if !state.filter.is_empty() && state.page != Page::Site {
        let filter = shorten(&format!("filter: {}", clean(&state.filter)), width / 2);
        used += paper.put(0, y, width, Role::Warning, &filter) + 2;
    }
    for (key, meaning) in overlay::hints(state) {
        let line = Pieces::of(Role::Key, *key).and(Role::Faint, format!(" {meaning}"));
        if used + line.width() > width {
            break;
        }
        used += paper.pieces(used, y, width - used, &line) + 2;
    }
}
