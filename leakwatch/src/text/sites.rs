//! The sites, worst first: one line each where the terminal is wide, two where it is not.

use super::Options;
use super::canvas::{Canvas, Style};
use super::clean::{clean, file_name, short_function, shorten, width};
use super::headline::{noun, place, state};
use crate::report::units::{count, duration, figure, signed_rate};
use crate::report::{Ages, ProcessReport, SiteReport, Verdict, WaitingReport};

/// Columns from which a site fits on one line.
const WIDE: usize = 130;
/// Widest column of wait reasons where a site has one line.
const WAITS_MOST: usize = 30;
/// Frames printed of a stack.
const FRAMES: usize = 16;
/// Heads of the columns of figures.
const HEADS: [&str; 5] = ["LIVE", "+/MIN", "START/S", "END/S", "AGE p50/max"];

/// A site's texts.
struct Row<'a> {
    site: &'a SiteReport,
    figures: [String; 5],
    verdict: (Style, &'static str),
    waits: String,
}

/// Prints the sites of a process.
pub(super) fn write(canvas: &mut Canvas, process: &ProcessReport, options: &Options) {
    let shown = |site: &&SiteReport| (site.live > 0 || site.started > 0) && (options.system || !site.system);
    let all: Vec<&SiteReport> = process.sites.iter().filter(shown).collect();
    let rows: Vec<Row<'_>> = all.iter().take(options.sites).map(|site| Row::of(site)).collect();
    if !rows.is_empty() {
        let widths = widths(&rows);
        let wide = canvas.width() >= WIDE;
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
        let more =
            format!("and {} more with {}", count(rest.len() as u64, "site"), count(live, noun(process)));
        canvas.line(Style::Faint, &more);
    }
    if !options.system && process.tasks.system_live > 0 {
        let own = count(process.tasks.system_live, noun(process));
        canvas.line(Style::Faint, &format!("not shown: {own} of the runtime itself"));
    }
}

/// Widths of the columns: figures, verdict, waits.
struct Widths {
    figures: [usize; 5],
    verdict: usize,
    waits: usize,
}

impl Widths {
    /// What is left for the place where each site has one line.
    fn place(&self, total: usize) -> usize {
        let columns = self.figures.iter().sum::<usize>() + self.verdict + self.waits;
        // Two blanks between columns, of which there are eight.
        total.saturating_sub(columns + 14)
    }
}

fn widths(rows: &[Row<'_>]) -> Widths {
    let mut figures = HEADS.map(str::len);
    let mut verdict = "VERDICT".len();
    let mut waits = "WAITS ON".len();
    for row in rows {
        for (most, text) in figures.iter_mut().zip(&row.figures) {
            *most = width(text).max(*most);
        }
        verdict = verdict.max(row.verdict.1.len());
        waits = waits.max(width(&row.waits));
    }
    Widths { figures, verdict, waits: waits.min(WAITS_MOST) }
}

fn head(canvas: &mut Canvas, widths: &Widths, wide: bool) {
    let figures = HEADS.map(ToOwned::to_owned);
    let figures = right_aligned(&figures, widths);
    let others = if wide {
        let (place, waits) = (widths.place(canvas.width()), widths.waits);
        format!("{:place$}  {:waits$}  VERDICT", "WHERE IT IS STARTED", "WAITS ON")
    } else {
        format!("{:verdict$}  WAITS ON", "VERDICT", verdict = widths.verdict)
    };
    canvas.line(Style::Strong, &format!("{figures}  {others}"));
    if !wide {
        canvas.line(Style::Strong, "  WHERE IT IS STARTED");
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

impl<'a> Row<'a> {
    fn of(site: &'a SiteReport) -> Self {
        let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
        let growth = site.growth_per_min.map_or_else(|| "-".to_owned(), signed_rate);
        let figures = [
            count(site.live, ""),
            growth,
            rate(site.start_rate_per_s),
            rate(site.end_rate_per_s),
            age(&site.age),
        ];
        let verdict = match site.verdict {
            Verdict::Leak => (Style::Bad, "LEAK"),
            Verdict::Suspect => (Style::Warning, "suspect"),
            Verdict::Ok => (Style::Good, "ok"),
            Verdict::NotYet => (Style::Faint, "not yet"),
        };
        Self { site, figures, verdict, waits: waits(&site.waiting) }
    }

    fn write(&self, canvas: &mut Canvas, widths: &Widths, wide: bool) {
        let (style, word) = self.verdict;
        canvas.piece(Style::Plain, &format!("{}  ", right_aligned(&self.figures, widths)));
        if wide {
            let room = widths.place(canvas.width());
            let waits = padded(&shorten(&self.waits, widths.waits), widths.waits, true);
            let place = padded(&self.place(room), room, true);
            canvas.piece(Style::Plain, &format!("{place}  {waits}  "));
            canvas.piece(style, word);
            canvas.end();
            return;
        }
        canvas.piece(style, &padded(word, widths.verdict, true));
        let used = widths.figures.iter().sum::<usize>() + widths.verdict + 12;
        canvas
            .piece(Style::Plain, &format!("  {}", shorten(&self.waits, canvas.width().saturating_sub(used))));
        canvas.end();
        let place = self.place(canvas.width() - 2);
        canvas.piece(Style::Strong, &format!("  {place}"));
        canvas.end();
    }

    /// Function, line and task of the site, as much as fits.
    fn place(&self, room: usize) -> String {
        let site = self.site;
        let function = clean(site.function.as_deref().unwrap_or("(unknown)"));
        let line = place(site).map_or_else(String::new, |place| format!(" {place}"));
        let task = site.task.as_deref().map(clean).filter(|task| !inside(task, &function));
        let arrow = |task: &str| format!(" -> {task}");
        let long = format!("{function}{line}{}", task.as_deref().map_or_else(String::new, arrow));
        if width(&long) <= room {
            return long;
        }
        let (function, task) = (short_function(&function), task.as_deref().map(short_function));
        let task = task.map_or_else(String::new, arrow);
        let short = format!("{function}{line}{task}");
        if width(&short) <= room || task.is_empty() {
            return shorten(&short, room);
        }
        // Half for each, and what one does not need is the other's.
        let start = format!("{function}{line}");
        let half = room / 2;
        let task_room = half.max(room.saturating_sub(width(&start)));
        let task = shorten(&task, task_room);
        format!("{}{task}", shorten(&start, room.saturating_sub(width(&task))))
    }

    /// Why, where the site is not well; and its stacks, where asked.
    fn write_details(&self, canvas: &mut Canvas, stacks: usize) {
        if self.site.verdict >= Verdict::Suspect {
            canvas.wrapped(Style::Faint, "    ", 4, &clean(&self.site.why));
        }
        for group in self.site.waiting.iter().take(stacks) {
            let longest = group.longest_s.map_or_else(String::new, |s| format!(" up to {}", duration(s)));
            canvas.line(
                Style::Plain,
                &format!("    {} {}{longest}", count(group.count, ""), state(&group.reason)),
            );
            for frame in group.stack.iter().take(FRAMES) {
                let frame = shorten(&frame_text(&clean(frame)), canvas.width() - 6);
                canvas.line(Style::Faint, &format!("      {frame}"));
            }
            let more = group.stack.len().saturating_sub(FRAMES);
            if more > 0 {
                canvas.line(Style::Faint, &format!("      and {}", count(more as u64, "more frame")));
            }
        }
        let more = self.site.waiting.len().saturating_sub(stacks);
        if stacks > 0 && more > 0 {
            canvas.line(Style::Faint, &format!("    and {}", count(more as u64, "more stack")));
        }
    }
}

/// Is the task a closure of the function? Then its name says nothing new.
fn inside(task: &str, function: &str) -> bool {
    task.strip_prefix(function).is_some_and(|rest| rest.starts_with('.'))
}

/// A frame with its file's name only: `func (file:line)`.
fn frame_text(frame: &str) -> String {
    match frame.rsplit_once(" (") {
        Some((function, file)) if file.ends_with(')') => format!("{function} ({}", file_name(file)),
        _ => frame.to_owned(),
    }
}

/// Ages: `1m/12m`; with `>` where tasks are from before attach.
fn age(age: &Ages) -> String {
    let more = if age.lower_bound { ">" } else { "" };
    match (age.p50_s, age.max_s) {
        (None, None) => "-".to_owned(),
        (None, Some(max)) => format!("-/{more}{}", duration(max)),
        (Some(p50), None) => format!("{}/-", duration(p50)),
        (Some(p50), Some(max)) => format!("{}/{more}{}", duration(p50), duration(max)),
    }
}

/// What the tasks of a site wait on, most frequent first: `chan receive 12m`, or
/// `1,000 chan receive 12m, 24 select`.
fn waits(groups: &[WaitingReport]) -> String {
    let mut reasons: Vec<(&str, u64, Option<f64>)> = Vec::new();
    for group in groups {
        match reasons.iter_mut().find(|(reason, ..)| *reason == group.reason) {
            Some((_, tasks, longest)) => {
                *tasks = tasks.saturating_add(group.count);
                *longest = longest.iter().copied().chain(group.longest_s).reduce(f64::max);
            }
            None => reasons.push((&group.reason, group.count, group.longest_s)),
        }
    }
    reasons.sort_by_key(|(_, tasks, _)| std::cmp::Reverse(*tasks));
    let several = reasons.len() > 1;
    let texts = reasons.iter().enumerate().map(|(index, (reason, tasks, longest))| {
        let tasks = if several { format!("{} ", count(*tasks, "")) } else { String::new() };
        let longest =
            longest.filter(|_| index == 0).map_or_else(String::new, |s| format!(" {}", duration(s)));
        format!("{tasks}{}{longest}", clean(reason))
    });
    texts.collect::<Vec<_>>().join(", ")
}
