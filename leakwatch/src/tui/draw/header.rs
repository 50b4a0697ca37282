//! The head of a process's page: six figures with their recent course, how they were come by, and what they lack.

use crate::report::{
    Moment, ProcessReport, Verdict,
    clean::shorten,
    float, notes,
    units::{bytes, count, figure},
};
use crate::tui::{
    chart,
    look::{Look, Role},
    paper::{Paper, Pieces},
    state::State,
    words,
};

/// A figure of the head.
struct Gauge {
    name: &'static str,
    value: Option<String>,
    /// Its recent values, oldest first.
    course: Vec<Option<f64>>,
    /// How it changes, or what else there is to say.
    more: Option<String>,
}

/// Draws it from row `y` on; returns the first row that is free.
pub(super) fn draw(state: &State, paper: &mut Paper<'_>, y: usize, bottom: usize) -> usize {
    let Some(process) = state.process() else { return y };
    let height = bottom.saturating_sub(y);
    let across = match paper.width() {
        0..60 => 1,
        60..126 => 2,
        _ => 3,
    };
    let gauges = gauges(process);
    let rows = match height {
        0..10 => 0,
        10..super::ROOMY => 1,
        _ => gauges.len() / across,
    };
    let place = paper.width() / across;
    for (row, line) in gauges.chunks(across).take(rows.min(3)).enumerate() {
        for (column, one) in line.iter().enumerate() {
            gauge(paper, column * place, y + row, place.saturating_sub(2), one);
        }
    }
    let y = y + rows.min(3);
    if height < 6 {
        return y;
    }
    let status = status(process, state.look);
    paper.pieces(0, y, paper.width(), &status);
    remarks(process, paper, y + 1, height)
}

fn gauges(process: &ProcessReport) -> [Gauge; 6] {
    let recent = &process.recent;
    let starts = rates(recent, |moment| moment.started);
    let ends = rates(recent, |moment| moment.ended);
    let now = |course: &[Option<f64>]| course.last().copied().flatten().map(figure);
    let total = |number: u64| Some(format!("{} in all", count(number, "")));
    let moved = match (process.threads.started, process.threads.ended) {
        (0, 0) => None,
        (started, ended) => Some(format!("+{} -{}", count(started, ""), count(ended, ""))),
    };
    let tasks = &process.tasks;
    // Of threads the kernel does not tell what their stacks take; a program without a runtime is seen by its children, too.
    let last = if words::noun(process) == words::THREAD {
        let rate = process.forks.rate_per_s.filter(|rate| *rate > 0.0);
        Gauge {
            name: "forks",
            value: Some(count(process.forks.count, "")),
            course: Vec::new(),
            more: rate.map(|rate| format!("{}/s", figure(rate))),
        }
    } else {
        Gauge {
            name: "stacks",
            value: process.memory.task_stack_bytes.map(bytes),
            course: Vec::new(),
            more: words::bytes_growth(process.memory.task_stack_growth_per_min),
        }
    };
    [
        Gauge {
            name: "live",
            value: Some(count(tasks.live, "")),
            course: recent.iter().map(|moment| Some(float(moment.live))).collect(),
            more: words::growth(tasks.growth_per_min),
        },
        Gauge {
            name: "threads",
            value: process.threads.live.map(|live| count(live, "")),
            course: recent.iter().map(|moment| moment.threads_live.map(float)).collect(),
            more: moved,
        },
        Gauge { name: "starts/s", value: now(&starts), course: starts, more: total(tasks.started) },
        Gauge {
            name: "RSS",
            value: process.memory.rss_bytes.map(bytes),
            course: recent.iter().map(|moment| moment.rss_bytes.map(float)).collect(),
            more: words::bytes_growth(process.memory.rss_growth_per_min),
        },
        Gauge { name: "ends/s", value: now(&ends), course: ends, more: total(tasks.ended) },
        last,
    ]
}

/// How fast a count rose from each moment to the next.
fn rates(moments: &[Moment], count: impl Fn(&Moment) -> u64) -> Vec<Option<f64>> {
    let pairs = moments.iter().zip(moments.iter().skip(1));
    let rate = |(before, after): (&Moment, &Moment)| {
        let seconds = after.at_s - before.at_s;
        (seconds > 0.0).then(|| float(count(after).saturating_sub(count(before))) / seconds)
    };
    pairs.map(rate).collect()
}

/// Columns of a gauge's name and of its value.
const NAME: usize = 9;
const VALUE: usize = 9;

fn gauge(paper: &mut Paper<'_>, x: usize, y: usize, room: usize, gauge: &Gauge) {
    let look = paper.look();
    paper.put(x, y, NAME.min(room), Role::Head, gauge.name);
    let (role, value) = match &gauge.value {
        Some(value) => (Role::Strong, value.as_str()),
        None => (Role::Faint, look.unknown()),
    };
    let end = NAME + VALUE;
    if room < end {
        return;
    }
    paper.put_right(x + end, y, VALUE, role, value);
    let more = gauge.more.as_deref().unwrap_or_default();
    let left = room - end;
    let for_more = more.len().min(left.saturating_sub(2));
    let curve = left.saturating_sub(for_more + 3);
    if curve >= 4 {
        let text = chart::spark(&chart::latest(&gauge.course, curve), look);
        paper.put(x + end + 1, y, curve, Role::Curve, &text);
    }
    paper.put_right(x + room, y, for_more, Role::Faint, &shorten(more, for_more));
}

/// How the figures were come by: mode, attach, drift, losses, verdicts.
fn status(process: &ProcessReport, look: Look) -> Pieces {
    let between = look.between();
    let mut line = Pieces::of(Role::Faint, words::modes(process));
    line = line.and(Role::Faint, between);
    line = match process.tasks.live_at_attach {
        Some(live) => line.and(Role::Faint, format!("{} at attach", count(live, ""))),
        None => line.and(Role::Warning, "alive at attach: not known"),
    };
    line = line.and(Role::Faint, between);
    line = match process.tasks.drift {
        Some(0) => line.and(Role::Faint, "drift 0"),
        Some(drift) if notes::is_far(drift, process.tasks.live) => {
            line.and(Role::Warning, format!("drift {drift:+}"))
        }
        Some(drift) => line.and(Role::Faint, format!("drift {drift:+}")),
        None => line.and(Role::Faint, format!("drift {}", look.unknown())),
    };
    line = line.and(Role::Faint, between);
    let lost = process.losses.iter().fold(0u64, |sum, loss| sum.saturating_add(loss.count));
    line = if process.losses.is_empty() {
        line.and(Role::Faint, "nothing lost")
    } else {
        line.and(Role::Warning, format!("lost or unread: {}", count(lost, "")))
    };
    let having = |verdict: Verdict| {
        let sites = process.sites.iter().filter(|site| !site.system && (site.live > 0 || site.started > 0));
        sites.filter(|site| site.verdict == verdict).count() as u64
    };
    for (verdict, role, word) in
        [(Verdict::Leak, Role::Bad, "LEAK"), (Verdict::Suspect, Role::Warning, "suspect")]
    {
        let number = having(verdict);
        if number > 0 {
            line = line.and(Role::Faint, between).and(role, count(number, word));
        }
    }
    line
}

/// What the figures do not show, as far as there is room; the rest by `n`.
fn remarks(process: &ProcessReport, paper: &mut Paper<'_>, y: usize, height: usize) -> usize {
    let room = match height {
        0..super::ROOMY => 0,
        super::ROOMY..28 => 1,
        28..50 => 3,
        _ => 6,
    };
    let notes = notes::notes(process);
    let all = notes.len();
    // The last line tells how many there are besides.
    let shown = if all <= room { all } else { room };
    for (row, note) in notes.iter().take(shown).enumerate() {
        let more = all - shown;
        let rest = if row + 1 == shown && more > 0 { format!("  (n: {more} more)") } else { String::new() };
        let width = paper.width().saturating_sub(rest.len());
        let used = paper.put(0, y + row, width, Role::Warning, &shorten(&format!("note: {note}"), width));
        paper.put(used, y + row, rest.len(), Role::Key, &rest);
    }
    y + shown
}
