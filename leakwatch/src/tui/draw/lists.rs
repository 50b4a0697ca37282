//! The list of processes and the list of sites: heads, the rows that are on the screen, and two lines about the row
//! under the cursor.

use std::ops::Range;

use crate::report::{
    Container, ProcessReport, Report,
    clean::{clean, shorten, width},
    units::count,
};
use crate::tui::{
    columns::{self, Column},
    listing::{Listing, Sort},
    look::Role,
    paper::{Paper, wrap},
    state::{Areas, State},
    words,
};

/// Rows from which the row under the cursor is told about.
const ENOUGH_FOR_DETAILS: usize = 9;
/// Rows of that.
const DETAILS: usize = 3;

/// Draws the list of processes.
pub(super) fn processes(
    state: &State,
    report: &Report,
    paper: &mut Paper<'_>,
    rows: Range<usize>,
    areas: &mut Areas,
) {
    let (list, details) = split(&rows);
    let table = Table {
        columns: &columns::process_columns(paper.width()),
        sort: state.process_sort,
        listing: &state.processes,
    };
    table.draw(paper, &list, areas, |place, column, room| {
        let process = report.processes.get(place)?;
        Some(columns::process_cell(column, process, room, state.look))
    });
    if table.listing.is_empty() {
        let text = if state.filter.is_empty() { "no process" } else { "no process matches the filter" };
        paper.put(1, list.start + 1, paper.width(), Role::Faint, text);
    }
    if let Some(process) = table.listing.place().and_then(|place| report.processes.get(place)) {
        let worst = columns::worst(process);
        let site = worst.map(|site| words::whole_site(site, process, paper.width())).unwrap_or_default();
        let why = worst.map(|site| clean(&site.why)).unwrap_or_default();
        draw_details(paper, &details, &[process_line(process), site, why]);
    }
}

fn process_line(process: &ProcessReport) -> String {
    let exe = process.exe.as_deref().map_or_else(|| clean(&process.comm), clean);
    let mut parts = vec![exe];
    let pod = process.pod.as_ref().and_then(|pod| pod.name.as_deref());
    parts.extend(pod.map(|name| format!("pod {}", clean(name))));
    if let Some(Container { id, name, image, .. }) = &process.container {
        let name = name.clone().unwrap_or_else(|| id.chars().take(12).collect());
        parts.push(format!("container {}", clean(&name)));
        parts.extend(image.as_deref().map(|image| format!("image {}", clean(image))));
    }
    parts.push(words::modes(process));
    parts.extend(process.runtimes.iter().flat_map(|runtime| &runtime.problems).map(|text| clean(text)));
    parts.join(", ")
}

/// Draws the list of sites.
pub(super) fn sites(state: &State, paper: &mut Paper<'_>, rows: Range<usize>, areas: &mut Areas) {
    let Some(process) = state.process() else { return };
    let (list, details) = split(&rows);
    let table = Table {
        columns: &columns::site_columns(paper.width()),
        sort: state.site_sort,
        listing: &state.sites,
    };
    table.draw(paper, &list, areas, |place, column, room| {
        let site = process.sites.get(place)?;
        Some(columns::site_cell(column, site, process, room, state.look))
    });
    let shown = table.listing.len();
    if table.listing.is_empty() {
        let noun = words::noun(process);
        let text = if state.filter.is_empty() {
            format!("no {noun} has been seen")
        } else {
            "no site matches the filter".to_owned()
        };
        paper.put(1, list.start + 1, paper.width(), Role::Faint, &text);
    } else if shown + 1 < list.len() && !state.system && process.tasks.system_live > 0 {
        let own = count(process.tasks.system_live, words::noun(process));
        let text = format!("not shown: {own} of the runtime itself (t shows them)");
        paper.put(1, list.start + 1 + shown, paper.width(), Role::Faint, &text);
    }
    if let Some(site) = table.listing.place().and_then(|place| process.sites.get(place)) {
        draw_details(paper, &details, &[words::whole_site(site, process, paper.width()), clean(&site.why)]);
    }
}

/// A list as it is drawn: a line of heads, and the rows for which there is room.
struct Table<'a, C, K> {
    columns: &'a [(C, usize)],
    sort: Sort<C>,
    listing: &'a Listing<K>,
}

impl<C: Column, K: PartialEq> Table<'_, C, K> {
    /// Draws it; `cell` is what stands in a column of what stands at a place.
    fn draw(
        &self,
        paper: &mut Paper<'_>,
        rows: &Range<usize>,
        areas: &mut Areas,
        cell: impl Fn(usize, C, usize) -> Option<(Role, String)>,
    ) {
        let height = rows.len().saturating_sub(1);
        let top = self.listing.top(height);
        heads(paper, rows.start, self.columns, self.sort, areas);
        position(paper, rows.start, top, height, self.listing.len());
        for (row, place) in self.listing.rows(top, height) {
            let y = rows.start + 1 + row - top;
            let cursor = row == self.listing.cursor();
            draw_row(paper, y, self.columns, cursor, |column, room| cell(place, column, room));
        }
        (areas.top, areas.rows) = (top, (paper.row(rows.start + 1), cells(height)));
    }
}

/// Rows of the list with its head, and those of what is told about the row under the cursor.
fn split(rows: &Range<usize>) -> (Range<usize>, Range<usize>) {
    let details = if rows.len() >= ENOUGH_FOR_DETAILS { DETAILS } else { 0 };
    let end = rows.end.saturating_sub(details).max(rows.start);
    (rows.start..end, end..rows.end)
}

fn heads<C: Column>(
    paper: &mut Paper<'_>,
    y: usize,
    columns: &[(C, usize)],
    sort: Sort<C>,
    areas: &mut Areas,
) {
    areas.heads_y = Some(paper.row(y));
    let mut x = 1;
    for &(column, room) in columns {
        let mut head = shorten(column.head(), room);
        if sort.by == column {
            let arrow = paper.look().arrow(column.ascending() == sort.reversed);
            head = format!("{}{arrow}", shorten(column.head(), room.saturating_sub(1)));
        }
        if column.right() {
            paper.put_right(x + room, y, room, Role::Head, &head);
        } else {
            paper.put(x, y, room, Role::Head, &head);
        }
        let number = C::ALL.iter().position(|other| *other == column);
        areas.heads.extend(number.map(|number| (paper.column(x), paper.column(x + room), number)));
        x += room + 1;
    }
}

/// `12-34 of 10,000`, at the right of the heads.
fn position(paper: &mut Paper<'_>, y: usize, top: usize, height: usize, all: usize) {
    if all <= height || height == 0 {
        return;
    }
    let of = |number: usize| count(number as u64, "");
    let text = format!(" {}-{} of {}", of(top + 1), of((top + height).min(all)), of(all));
    paper.put_right(paper.width(), y, width(&text), Role::Faint, &text);
}

fn draw_row<C: Column>(
    paper: &mut Paper<'_>,
    y: usize,
    columns: &[(C, usize)],
    cursor: bool,
    cell: impl Fn(C, usize) -> Option<(Role, String)>,
) {
    if cursor {
        paper.put(0, y, 1, Role::Strong, ">");
    }
    let mut x = 1;
    for &(column, room) in columns {
        let Some((role, text)) = cell(column, room) else { return };
        if column.right() {
            paper.put_right(x + room, y, room, role, &text);
        } else {
            paper.put(x, y, room, role, &text);
        }
        x += room + 1;
    }
    if cursor {
        paper.mark(0, y, paper.width(), Role::Cursor);
    }
}

/// Under the list: names in full, and why.
fn draw_details(paper: &mut Paper<'_>, rows: &Range<usize>, texts: &[String]) {
    let width = paper.width();
    let mut y = rows.start;
    let texts: Vec<&String> = texts.iter().filter(|text| !text.is_empty()).collect();
    let count = texts.len();
    for (number, text) in texts.into_iter().enumerate() {
        let role = if number == 0 { Role::Strong } else { Role::Plain };
        // The first lines are names, of which one line is enough; the last one takes what is left.
        let last = number + 1 == count;
        let lines = if last { wrap(text, width) } else { vec![shorten(text, width)] };
        for line in lines.iter().take(rows.end.saturating_sub(y)) {
            paper.put(0, y, width, role, line);
            y += 1;
        }
    }
}

fn cells(rows: usize) -> u16 {
    u16::try_from(rows).unwrap_or(u16::MAX)
}
