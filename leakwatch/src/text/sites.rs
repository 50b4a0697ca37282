//! The sites, worst first: one line each where the terminal is wide, two where it is not.

use std::sync::Arc;

use super::Options;
use super::canvas::{Canvas, Style};
use crate::report::clean::{clean, file_name, short_function, shorten, width};
use crate::report::units::{count, duration, figure, signed_rate};
use crate::report::words::{age, first, function, noun, outlook, place, state, telling, waits};
use crate::report::{ProcessReport, SiteReport, Verdict};

/// Widest column of wait reasons where a site has one line.
const WAITS_MOST: usize = 32;
/// Columns for the place from which a site has one line even where the place must be shortened.
const PLACE_ENOUGH: usize = 80;
/// Frames printed of a stack.
const FRAMES: usize = 16;
/// Heads of the columns of figures.
const HEADS: [&str; 5] = ["LIVE", "+/MIN", "START/S", "END/S", "AGE p50/max"];

/// Head of the column of places.
const PLACE_HEAD: &str = "WHERE IT IS STARTED";

/// A site's texts.
struct Row<'a> {
    site: &'a SiteReport,
    place: Place,
    figures: [String; 5],
    verdict: (Style, &'static str),
    /// One text for each reason, most frequent first.
    waits: Vec<String>,
}

/// Prints the sites of a process.
pub(super) fn write(canvas: &mut Canvas, process: &ProcessReport, options: &Options) {
    let shown = |site: &&SiteReport| (site.live > 0 || site.started > 0) && (options.system || !site.system);
    let all: Vec<&SiteReport> = process.sites.iter().filter(shown).collect();
    let rows: Vec<Row<'_>> = all.iter().take(options.sites).map(|site| Row::of(site, process)).collect();
    if !rows.is_empty() {
        let mut widths = widths(&rows);
        let room = canvas.width().saturating_sub(widths.beside_place());
        widths.place = widths.place.min(room);
        let wide = room >= PLACE_ENOUGH || rows.iter().all(|row| width(&row.place.short()) <= room);
        canvas.blank();
        head(canvas, &widths, wide);
        for row in &rows {
            row.write(canvas, &widths, wide);
            row.write_details(canvas, options.stacks);
        }
    }
    let rest = all.get(rows.len()..).unwrap_or_default();
    if !rest.is_empty() {
        let live = rest.iter().fold(0u64, |sum, site| sum.saturating_add(site.live));
        let sites = count(rest.len() as u64, "more site");
        let more = format!("and {sites} with {}", count(live, noun(process)));
        canvas.line(Style::Faint, &more);
    }
    if !options.system && process.tasks.system_live > 0 {
        let own = count(process.tasks.system_live, noun(process));
        canvas.line(Style::Faint, &format!("not shown: {own} of the runtime itself"));
    }
}

/// Widths of the columns.
struct Widths {
    figures: [usize; 5],
    /// Of the places in full.
    place: usize,
    waits: usize,
    verdict: usize,
}

impl Widths {
    /// Columns taken by all but the place where each site has one line. What tasks wait on changes from look to
    /// look; its widest width is counted, so that the layout does not change with it.
    fn beside_place(&self) -> usize {
        // Two blanks between columns, of which there are eight.
        self.figures.iter().sum::<usize>() + WAITS_MOST + self.verdict + 14
    }
}

fn widths(rows: &[Row<'_>]) -> Widths {
    let mut figures = HEADS.map(str::len);
    let mut verdict = "VERDICT".len();
    let mut waits = "WAITS ON".len();
    let mut place = PLACE_HEAD.len();
    for row in rows {
        for (most, text) in figures.iter_mut().zip(&row.figures) {
            *most = width(text).max(*most);
        }
        verdict = verdict.max(row.verdict.1.len());
        waits = waits.max(width(&row.waits.join(", ")));
        place = place.max(width(&row.place.long()));
    }
    Widths { figures, place, waits: waits.min(WAITS_MOST), verdict }
}

fn head(canvas: &mut Canvas, widths: &Widths, wide: bool) {
    let figures = HEADS.map(ToOwned::to_owned);
    let figures = right_aligned(&figures, widths);
    let others = if wide {
        let (place, waits) = (widths.place, widths.waits);
        format!("{PLACE_HEAD:place$}  {:waits$}  VERDICT", "WAITS ON")
    } else {
        format!("{:verdict$}  WAITS ON", "VERDICT", verdict = widths.verdict)
    };
    canvas.line(Style::Strong, &format!("{figures}  {others}"));
    if !wide {
        canvas.line(Style::Strong, &format!("  {PLACE_HEAD}"));
    }
}

fn right_aligned(figures: &[String; 5], widths: &Widths) -> String {
    let cells = figures.iter().zip(widths.figures).map(|(text, most)| padded(text, most, false));
    cells.collect::<Vec<_>>().join("  ")
}

/// A text with blanks up to a width, which `format!` would count in characters.
fn padded(text: &str, most: usize, left: bool) -> String {
    let blanks = " ".repeat(most.saturating_sub(width(text)));
    if left { format!("{text}{blanks}") } else { format!("{blanks}{text}") }
}

/// Where a site's tasks are started: function, file and line, and what they run where that says more.
struct Place {
    /// What it is a site of, where that is not the process's tasks: `[thread] `.
    kind: String,
    function: String,
    line: String,
    task: String,
}

impl Place {
    fn of(site: &SiteReport, kind: String) -> Self {
        let function = function(site);
        let task = site.task.as_deref().filter(|_| !first(site)).map(clean);
        let task = task.filter(|task| !inside(task, &function));
        Self {
            kind,
            line: place(site).map_or_else(String::new, |place| format!(" {place}")),
            task: task.unwrap_or_default(),
            function,
        }
    }

    fn long(&self) -> String {
        format!("{}{}{}{}", self.kind, self.function, self.line, arrow(&self.task))
    }

    /// Without the paths of packages.
    fn short(&self) -> String {
        let (function, task) = (short_function(&self.function), arrow(short_function(&self.task)));
        format!("{}{function}{}{task}", self.kind, self.line)
    }

    /// As much as fits.
    fn fit(&self, room: usize) -> String {
        let (long, short) = (self.long(), self.short());
        if width(&long) <= room {
            return long;
        }
        if width(&short) <= room || self.task.is_empty() {
            return shorten(&short, room);
        }
        // Half for each, and what one does not need is the other's.
        let start = format!("{}{}{}", self.kind, short_function(&self.function), self.line);
        let task_room = (room / 2).max(room.saturating_sub(width(&start)));
        let task = shorten(&arrow(short_function(&self.task)), task_room);
        format!("{}{task}", shorten(&start, room.saturating_sub(width(&task))))
    }
}

fn arrow(task: &str) -> String {
    if task.is_empty() { String::new() } else { format!(" -> {task}") }
}

impl<'a> Row<'a> {
    fn of(site: &'a SiteReport, process: &ProcessReport) -> Self {
        // Sites of what is not the process's tasks say what they are of.
        let task = process.runtimes.iter().any(|runtime| runtime.kind == site.runtime);
        let kind = if task { String::new() } else { format!("[{}] ", clean(&site.runtime)) };
        let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
        let growth = site.growth_per_min.map_or_else(|| "-".to_owned(), signed_rate);
        let figures = [
            count(site.live, ""),
            growth,
            rate(site.start_rate_per_s),
            rate(site.end_rate_per_s),
            age(&site.age, process.watched_s),
        ];
        let verdict = match site.verdict {
            Verdict::Leak => (Style::Bad, "LEAK"),
            Verdict::Suspect => (Style::Warning, "suspect"),
            Verdict::Ok => (Style::Good, "ok"),
            Verdict::NotYet => (Style::Faint, "not yet"),
        };
        Self { site, place: Place::of(site, kind), figures, verdict, waits: waits(&site.waiting) }
    }

    fn write(&self, canvas: &mut Canvas, widths: &Widths, wide: bool) {
        let (style, word) = self.verdict;
        canvas.piece(Style::Plain, &format!("{}  ", right_aligned(&self.figures, widths)));
        if wide {
            let waits = padded(&enough(&self.waits, widths.waits), widths.waits, true);
            let place = padded(&self.place.fit(widths.place), widths.place, true);
            canvas.piece(Style::Plain, &format!("{place}  {waits}  "));
            canvas.piece(style, word);
            canvas.end();
            return;
        }
        canvas.piece(style, &padded(word, widths.verdict, true));
        let used = widths.figures.iter().sum::<usize>() + widths.verdict + 12;
        canvas
            .piece(Style::Plain, &format!("  {}", enough(&self.waits, canvas.width().saturating_sub(used))));
        canvas.end();
        let place = self.place.fit(canvas.width() - 2);
        canvas.piece(Style::Strong, &format!("  {place}"));
        canvas.end();
    }

    /// Why, where the site is not well; and its stacks, where asked.
    fn write_details(&self, canvas: &mut Canvas, stacks: usize) {
        if self.site.verdict >= Verdict::Suspect {
            canvas.wrapped(Style::Faint, "    ", 4, &clean(&self.site.why));
            if let Some(forecast) = self.site.forecast {
                canvas.wrapped(Style::Faint, "    ", 4, &outlook(&forecast));
            }
            if !self.site.settles.is_empty() {
                canvas.wrapped(Style::Faint, "    ", 4, &clean(&format!("open: {}", self.site.settles)));
            }
        }
        for group in self.site.waiting.iter().take(stacks) {
            let longest = group.longest_s.map_or_else(String::new, |s| format!(" up to {}", duration(s)));
            canvas.line(
                Style::Plain,
                &format!("    {} {}{longest}", count(group.count, ""), state(&group.reason)),
            );
            write_stack(canvas, telling(&group.stack));
        }
        let more = self.site.waiting.len().saturating_sub(stacks);
        if stacks > 0 && more > 0 {
            canvas.line(Style::Faint, &format!("    and {}", count(more as u64, "more stack")));
        }
        if stacks > 0 && !self.site.creation_stack.is_empty() {
            canvas.line(Style::Plain, "    the first was made at");
            write_stack(canvas, &self.site.creation_stack);
        }
    }
}

/// The innermost frames of a stack.
fn write_stack(canvas: &mut Canvas, stack: &[Arc<str>]) {
    for frame in stack.iter().take(FRAMES) {
        let frame = frame_text(&clean(frame), canvas.width() - 6);
        canvas.line(Style::Faint, &format!("      {frame}"));
    }
    let more = stack.len().saturating_sub(FRAMES);
    if more > 0 {
        canvas.line(Style::Faint, &format!("      and {}", count(more as u64, "more frame")));
    }
}

/// Is the task a closure of the function? Then its name says nothing new.
fn inside(task: &str, function: &str) -> bool {
    task.strip_prefix(function).is_some_and(|rest| rest.starts_with('.'))
}

/// A frame with its file's name only, `func (file:line)`, and without the package's path where it must be.
fn frame_text(frame: &str, room: usize) -> String {
    let (function, file) = match frame.rsplit_once(" (") {
        Some((function, file)) if file.ends_with(')') => (function, format!(" ({}", file_name(file))),
        _ => (frame, String::new()),
    };
    let long = format!("{function}{file}");
    if width(&long) <= room { long } else { shorten(&format!("{}{file}", short_function(function)), room) }
}

/// As many reasons as fit, at least the first.
fn enough(reasons: &[String], room: usize) -> String {
    let all = reasons.join(", ");
    if width(&all) <= room {
        return all;
    }
    let some = (1..reasons.len()).rev().filter_map(|number| reasons.get(..number));
    let mut texts = some.map(|some| format!("{}, …", some.join(", ")));
    texts.find(|text| width(text) <= room).unwrap_or_else(|| shorten(&all, room))
}
