//! What lies over a page: the keys, and all notes.

use std::ops::Range;

use crate::report::{clean::clean, notes, units::duration};
use crate::tui::{
    look::Role,
    paper::{Paper, Pieces, wrap},
    state::{Areas, Page, State},
};

/// Keys and what they do, most wanted first, for the line at the bottom.
pub(super) fn hints(state: &State) -> &'static [(&'static str, &'static str)] {
    if state.overlay.is_some() {
        return &[("esc", "back"), ("up/down", "scroll"), ("q", "quit")];
    }
    match state.page {
        Page::Site => &[
            ("esc", "back"),
            ("up/down", "scroll"),
            ("space", "pause"),
            ("s", "save"),
            ("d", "dump"),
            ("n", "notes"),
            ("?", "help"),
            ("q", "quit"),
        ],
        Page::Processes | Page::Sites => &[
            ("enter", "open"),
            ("/", "filter"),
            ("<>", "sort"),
            ("space", "pause"),
            ("?", "help"),
            ("q", "quit"),
            ("r", "reverse"),
            ("s", "save"),
            ("d", "dump"),
            ("n", "notes"),
            ("t", "runtime's own"),
            ("tab", "next process"),
        ],
    }
}

/// All keys.
const KEYS: &[(&str, &str)] = &[
    ("up down pgup pgdn home end", "move; also k j g G, and the wheel"),
    ("enter, a click on the row", "open what the cursor is on"),
    ("esc, backspace", "back; drops the filter first"),
    ("/", "show only rows with these words: function, file, task, wait, verdict, name, pid"),
    ("< >, a click on a head", "sort by another column"),
    ("r, a second click", "sort the other way round"),
    ("space", "pause and go on; watching goes on meanwhile"),
    ("tab, shift-tab", "next process, process before"),
    ("t", "show and hide the runtime's own tasks"),
    ("n", "all notes: what was lost, what is missing or doubtful"),
    ("s", "save the report that is on the screen as JSON"),
    ("d", "write a dump of all tasks of the process with their stacks"),
    ("ctrl-z", "suspend; fg brings it back"),
    ("ctrl-l", "draw again"),
    ("q, ctrl-c", "end the watch; its last table is printed"),
];

/// What columns and signs mean.
const LEGEND: &[(&str, &str)] = &[
    ("LEAK, suspect", "tasks of this site stay for ever; it looks as if they did"),
    ("ok, not yet", "nothing wrong; not enough seen to say"),
    ("START/S, END/S", "of a site: on average since attach; in the head: now"),
    ("OLDEST >5m", "at least: alive before the attach"),
    ("drift", "live by probes less live by memory; 0 at rest"),
];

/// Draws the keys.
pub(super) fn help(state: &State, paper: &mut Paper<'_>, rows: Range<usize>, areas: &mut Areas) {
    let mut lines = vec![Pieces::of(Role::Head, "keys")];
    let key = if paper.width() >= 100 { 30 } else { 22 };
    let table = |lines: &mut Vec<Pieces>, rows: &[(&str, &str)], role: Role| {
        for (name, meaning) in rows {
            let room = paper.width().saturating_sub(key + 2);
            // A long name has a line of its own.
            let mut name = Some(format!("{name:key$}"));
            if name.as_ref().is_some_and(|name| name.len() > key) {
                lines.extend(name.take().map(|name| Pieces::of(role, name)));
            }
            for line in wrap(meaning, room) {
                let name = name.take().unwrap_or_else(|| " ".repeat(key));
                lines.push(Pieces::of(role, name).and(Role::Plain, format!("  {line}")));
            }
        }
    };
    table(&mut lines, KEYS, Role::Key);
    lines.push(Pieces::default());
    lines.push(Pieces::of(Role::Head, "signs"));
    table(&mut lines, LEGEND, Role::Strong);
    let unknown = format!("{:key$}", state.look.unknown());
    lines.push(
        Pieces::of(Role::Strong, unknown).and(Role::Plain, "  not known; 0 is a zero that was counted"),
    );
    page(state, paper, &rows, areas, &lines);
}

/// Draws the notes of the process, or of all.
pub(super) fn notes(state: &State, paper: &mut Paper<'_>, rows: Range<usize>, areas: &mut Areas) {
    let mut lines = vec![Pieces::of(Role::Head, "what the figures do not show")];
    let Some(report) = state.report() else { return };
    let chosen = if state.page == Page::Processes { None } else { state.process() };
    let processes = report
        .processes
        .iter()
        .filter(|process| chosen.is_none_or(|one| std::ptr::eq(one, &raw const ***process)));
    for process in processes {
        let name = format!("{} (pid {})", clean(&process.comm), process.pid);
        let watched = format!(", watched for {}", duration(process.watched_s));
        lines.push(Pieces::of(Role::Strong, name).and(Role::Faint, watched));
        let notes = notes::notes(process);
        if notes.is_empty() {
            lines.push(Pieces::of(Role::Good, "  nothing: every start and end was counted"));
        }
        for note in notes {
            let room = paper.width().saturating_sub(4);
            for (row, line) in wrap(&note, room).into_iter().enumerate() {
                let mark = if row == 0 { "  - " } else { "    " };
                lines.push(Pieces::of(Role::Warning, mark).and(Role::Plain, line));
            }
        }
    }
    page(state, paper, &rows, areas, &lines);
}

fn page(state: &State, paper: &mut Paper<'_>, rows: &Range<usize>, areas: &mut Areas, lines: &[Pieces]) {
    let scroll = state.scroll.min(lines.len().saturating_sub(rows.len()));
    for (y, line) in rows.clone().zip(lines.iter().skip(scroll)) {
        paper.pieces(0, y, paper.width(), line);
    }
    areas.lines = (lines.len(), rows.len());
}
