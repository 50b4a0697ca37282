//! The page of one site: verdict and why, figures, three charts, and what its tasks wait on. It is a text that can be
//! scrolled; on a wide screen it has two columns.

use std::ops::Range;

use crate::report::{
    Bucket, Lives, ProcessReport, SiteReport,
    clean::{clean, shorten, width},
    float,
    units::{bytes, count, duration, figure},
};
use crate::tui::{
    chart, columns,
    look::{Look, Role},
    paper::{Paper, Pieces, wrap},
    state::{Areas, State},
    words,
};

/// Columns from which stacks stand beside the figures.
const TWO_COLUMNS: usize = 140;
/// Columns of what stands at the left of a chart.
const AXIS: usize = 9;
/// Where the axis of ages begins at the least, seconds.
const SHORTEST_S: f64 = 5e-7;
/// Frames printed of a stack.
const FRAMES: usize = 24;

/// Draws it.
pub(super) fn draw(state: &State, paper: &mut Paper<'_>, rows: Range<usize>, areas: &mut Areas) {
    let (Some(process), Some(site)) = (state.process(), state.site()) else {
        let gone = "this site is not in the last report: none of its tasks is left (esc goes back)";
        paper.put(0, rows.start + 1, paper.width(), Role::Faint, gone);
        return;
    };
    let name = Pieces::of(Role::Strong, words::whole_site(site, process, paper.width()));
    paper.pieces(0, rows.start, paper.width(), &name);
    let rows = rows.start + 1..rows.end;
    let look = state.look;
    let all = paper.width();
    let chart_rows = if rows.len() >= 40 { 8 } else { 5 };
    let (left, right, beside) = if all >= TWO_COLUMNS {
        let half = all / 2 - 1;
        (about(site, process, half, chart_rows, look), tasks(site, all - half - 2, look), Some(half))
    } else {
        let mut lines = about(site, process, all, chart_rows, look);
        lines.extend(tasks(site, all, look));
        (lines, Vec::new(), None)
    };
    let lines = left.len().max(right.len());
    let scroll = state.scroll.min(lines.saturating_sub(rows.len()));
    for (row, y) in rows.clone().enumerate() {
        let room = beside.unwrap_or(all);
        if let Some(line) = left.get(scroll + row) {
            paper.pieces(0, y, room, line);
        }
        if let (Some(half), Some(line)) = (beside, right.get(scroll + row)) {
            paper.pieces(half + 2, y, all - half - 2, line);
        }
    }
    if lines > rows.len() {
        let text = format!(" {} more ", count((lines - rows.len() - scroll) as u64, "line"));
        let below = lines > rows.len() + scroll;
        if below {
            paper.put_right(all, rows.end.saturating_sub(1), width(&text), Role::Key, &text);
        }
    }
    areas.lines = (lines, rows.len());
}

/// Verdict, figures and charts.
fn about(
    site: &SiteReport,
    process: &ProcessReport,
    room: usize,
    chart_rows: usize,
    look: Look,
) -> Vec<Pieces> {
    let mut lines = verdict(site, room, look);
    lines.push(Pieces::default());
    lines.extend(figures(site, process, look));
    lines.push(Pieces::default());
    lines.extend(live_over_time(site, room, chart_rows, look));
    lines.extend(survival(site, room, chart_rows, look));
    lines.extend(lifetimes(site, room, chart_rows, look));
    lines
}

fn verdict(site: &SiteReport, room: usize, look: Look) -> Vec<Pieces> {
    let (role, word) = columns::verdict(site.verdict);
    let mut head = Pieces::of(role, word)
        .and(Role::Faint, format!("{}confidence {}", look.between(), figure(site.confidence)));
    if let Some(proven) = site.proven {
        let text = format!("{}{} proven never to wake", look.between(), count(proven, "task"));
        head = head.and(if proven > 0 { Role::Bad } else { Role::Faint }, text);
    }
    if site.system {
        head = head.and(Role::Faint, format!("{}the runtime's own", look.between()));
    }
    let mut lines = vec![head];
    lines.extend(wrap(&clean(&site.why), room).into_iter().map(|line| Pieces::of(Role::Plain, line)));
    if let Some(forecast) = &site.forecast {
        let text = crate::report::words::outlook(forecast);
        lines.extend(wrap(&text, room).into_iter().map(|line| Pieces::of(Role::Warning, line)));
    }
    if !site.settles.is_empty() {
        let text = format!("open: {}", clean(&site.settles));
        lines.extend(wrap(&text, room).into_iter().map(|line| Pieces::of(Role::Faint, line)));
    }
    lines
}

/// Columns of a figure's name.
const NAME: usize = 18;

fn figures(site: &SiteReport, process: &ProcessReport, look: Look) -> Vec<Pieces> {
    let unknown = || look.unknown().to_owned();
    let rate = |rate: Option<f64>| rate.map_or_else(unknown, |rate| format!("{}/s", figure(rate)));
    let time = |seconds: Option<f64>| seconds.map_or_else(unknown, duration);
    let line =
        |name: &str, text: String| Pieces::of(Role::Head, format!("{name:NAME$}")).and(Role::Plain, text);
    let attach = site.live_at_attach.map_or_else(unknown, |live| count(live, ""));
    let growth = words::growth(site.growth_per_min).unwrap_or_else(unknown);
    let mut lines = vec![
        line("live", format!("{} ({attach} at attach, {growth})", count(site.live, ""))),
        line(
            "since attach",
            format!(
                "{} started ({}), {} ended ({})",
                count(site.started, ""),
                rate(site.start_rate_per_s),
                count(site.ended, ""),
                rate(site.end_rate_per_s)
            ),
        ),
    ];
    let least = if site.age.lower_bound { " (at least: some are from before the attach)" } else { "" };
    lines.push(line(
        "ages of the live",
        format!(
            "half {}, 99% {}, oldest {}{least}",
            time(site.age.p50_s),
            time(site.age.p99_s),
            time(site.age.max_s)
        ),
    ));
    lines.push(line(
        "lifetimes",
        format!("half of the ended {}, 99% {}", time(site.lifetime.p50_s), time(site.lifetime.p99_s)),
    ));
    let interval = site.never_ending_interval.map_or_else(String::new, |(low, high)| {
        format!(" ({} to {})", words::percent(low), words::percent(high))
    });
    let share = site.never_ending_share.map_or_else(unknown, words::percent);
    let leak = site.leak_rate_per_min.map_or_else(unknown, |rate| format!("{}/min", figure(rate)));
    lines.push(line("never end", format!("{share} of the started{interval}, {leak}")));
    let stacks = site.stack_bytes.map_or_else(unknown, |held| {
        let share = process.memory.task_stack_bytes.filter(|all| *all > 0).map_or_else(String::new, |all| {
            format!(", {} of all stacks", words::percent(float(held) / float(all)))
        });
        format!("{}{share}", bytes(held))
    });
    lines.push(line("cost in stacks", stacks));
    if let Some(left) = site.left_behind {
        lines.push(line("left behind", count(left, "task")));
    }
    lines
}

fn heading(text: &str) -> Pieces {
    Pieces::of(Role::Head, text)
}

fn live_over_time(site: &SiteReport, room: usize, rows: usize, look: Look) -> Vec<Pieces> {
    let points: Vec<(f64, f64)> = site.recent.iter().map(|point| (point.at_s, float(point.live))).collect();
    let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else {
        return vec![heading("live over time"), Pieces::of(Role::Faint, "no look yet")];
    };
    let columns = chart::over_time(&points, room.saturating_sub(AXIS));
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let least = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    // A large count that changes little is shown from where it is; the axis says so.
    let low = if least > 0.8 * most { (2.0 * least - most).max(0.0).floor() } else { 0.0 };
    let title = format!("live over the last {}", duration(last - first));
    let ends = ("attach +".to_owned() + &duration(*first), "now".to_owned());
    let scale =
        Scale { low, high: most.max(low + 1.0), name: |value| figure(value.round()), role: Role::Curve };
    plot(&title, &columns, &scale, &ends, rows, look)
}

fn survival(site: &SiteReport, room: usize, rows: usize, look: Look) -> Vec<Pieces> {
    const TITLE: &str = "survival: share of those born since attach that outlives an age";
    let steps = site.lives.as_ref().and_then(Lives::survival).unwrap_or_default();
    let born = site.lives.iter().flat_map(|lives| lives.ended.iter().chain(lives.alive.iter().flatten()));
    let youngest = born.map(|bucket| bucket.from_s).reduce(f64::min);
    let (Some(youngest), Some(last)) = (youngest, steps.last()) else {
        let why = "not known: none was born since attach, or ages are not read (memory mode sees no births)";
        return vec![heading(TITLE), Pieces::of(Role::Faint, why)];
    };
    let across = room.saturating_sub(AXIS);
    // The first half octave begins at nothing, which a logarithmic axis has no place for.
    let (from, to) = (youngest.max(SHORTEST_S), last.age_s.max(2.0 * SHORTEST_S));
    let column = |index: usize| {
        let along = (float(index as u64) + 0.5) / float(across.max(1) as u64);
        let age_s = from * (to / from).powf(along);
        let passed = steps.iter().take_while(|step| step.age_s <= age_s).last();
        Some(passed.map_or(1.0, |step| step.share))
    };
    let columns: Vec<Option<f64>> = (0..across).map(column).collect();
    let scale = Scale { low: 0.0, high: 1.0, name: words::percent, role: Role::Curve };
    plot(TITLE, &columns, &scale, &(duration(from), duration(to)), rows, look)
}

fn lifetimes(site: &SiteReport, room: usize, rows: usize, look: Look) -> Vec<Pieces> {
    let title = "lifetimes of the ended";
    let Some(lives) = &site.lives else {
        return vec![heading(title), Pieces::of(Role::Faint, "not known: no end of a known birth was seen")];
    };
    let alive = lives.alive.as_deref().unwrap_or_default();
    let edges = edges(&lives.ended, alive);
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return Vec::new() };
    let across = room.saturating_sub(AXIS);
    let ends =
        (duration(*first), Bucket { from_s: *last, count: 0 }.to_s().map_or_else(String::new, duration));
    let mut lines = Vec::new();
    let ages = "ages of the live ones born since attach";
    for (title, buckets, role) in [(title, &*lives.ended, Role::Good), (ages, alive, Role::Warning)] {
        let total: u64 = buckets.iter().fold(0, |sum, bucket| sum.saturating_add(bucket.count));
        let title = format!("{title}: {}", count(total, ""));
        if total == 0 {
            let none = if role == Role::Warning && lives.alive.is_none() { "not known" } else { "none" };
            lines.push(heading(&title));
            lines.push(Pieces::of(Role::Faint, none));
            continue;
        }
        let counts: Vec<f64> = edges
            .iter()
            .map(|edge| {
                let same = buckets.iter().filter(|bucket| bucket.from_s.total_cmp(edge).is_eq());
                float(same.fold(0, |sum, bucket| sum.saturating_add(bucket.count)))
            })
            .collect();
        let columns = chart::spread(&counts, across);
        let most = counts.iter().copied().fold(0.0, f64::max);
        let scale = Scale { low: 0.0, high: most, name: |value| columns::compact(whole(value), 8), role };
        lines.extend(plot(&title, &columns, &scale, &ends, rows.div_ceil(2), look));
    }
    lines
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; `as` saturates")]
const fn whole(value: f64) -> u64 {
    value as u64
}

/// Where half octaves begin, from the first that holds something to the last.
fn edges(ended: &[Bucket], alive: &[Bucket]) -> Vec<f64> {
    let all = || ended.iter().chain(alive).map(|bucket| bucket.from_s);
    let (Some(first), Some(last)) = (all().reduce(f64::min), all().reduce(f64::max)) else {
        return Vec::new();
    };
    let next =
        |edge: &f64| Bucket { from_s: *edge, count: 0 }.to_s().filter(|next| next <= &last && next > edge);
    std::iter::successors(Some(first), next).collect()
}

/// The vertical axis of a chart.
struct Scale {
    low: f64,
    high: f64,
    name: fn(f64) -> String,
    role: Role,
}

/// A chart with its title and axes.
fn plot(
    title: &str,
    columns: &[Option<f64>],
    scale: &Scale,
    ends: &(String, String),
    rows: usize,
    look: Look,
) -> Vec<Pieces> {
    let mut lines = vec![heading(title)];
    let bars = chart::bars(columns, rows, scale.low, scale.high, look);
    let last = bars.len().saturating_sub(1);
    for (row, bar) in bars.into_iter().enumerate() {
        let label = match row {
            0 => (scale.name)(scale.high),
            row if row == last => (scale.name)(scale.low),
            _ => String::new(),
        };
        let label = shorten(&label, AXIS - 2);
        let blanks = " ".repeat((AXIS - 2).saturating_sub(width(&label)));
        lines.push(Pieces::of(Role::Faint, format!("{blanks}{label} |")).and(scale.role, bar));
    }
    let (from, to) = ends;
    let between = columns.len().saturating_sub(width(from) + width(to));
    let axis = format!("{}{from}{}{to}", " ".repeat(AXIS), " ".repeat(between));
    lines.push(Pieces::of(Role::Faint, axis));
    lines
}

/// What the tasks do: groups of the same stack, largest first; and where they are spawned.
fn tasks(site: &SiteReport, room: usize, look: Look) -> Vec<Pieces> {
    let mut lines = Vec::new();
    if site.spawns.len() > 1 {
        lines.push(heading("where they are spawned, as far as it was seen"));
        for spawn in &site.spawns {
            let function = clean(spawn.function.as_deref().unwrap_or("(no name)"));
            let file = spawn.file.as_deref().map_or_else(String::new, |file| format!(" {}", clean(file)));
            let line = spawn.line.map_or_else(String::new, |line| format!(":{line}"));
            let text = format!("{} {function}{file}{line}", count(spawn.seen, ""));
            lines.push(Pieces::of(Role::Plain, shorten(&text, room)));
        }
        lines.push(Pieces::default());
    }
    lines.push(heading("what the live ones wait on"));
    if site.waiting.is_empty() {
        let text = if site.live == 0 {
            "none is alive"
        } else {
            "not known (no look at memory yet, or it tells nothing)"
        };
        lines.push(Pieces::of(Role::Faint, text));
    }
    for group in &site.waiting {
        let mut facts = vec![words::percent(group.share)];
        facts.extend(group.longest_s.map(|longest| format!("longest {}", duration(longest))));
        facts.extend(group.seen.map(|seen| format!("in {} of the looks", words::percent(seen))));
        let facts = format!("{}{}", look.between(), facts.join(look.between()));
        let state = format!("{} {}", count(group.count, ""), words::state(&group.reason));
        lines.push(Pieces::of(Role::Strong, shorten(&state, room)).and(Role::Faint, facts));
        let stack = words::telling(&group.stack);
        for frame in stack.iter().take(FRAMES) {
            lines.push(Pieces::of(
                Role::Plain,
                format!("    {}", shorten(&clean(frame), room.saturating_sub(4))),
            ));
        }
        if stack.len() > FRAMES {
            let more = count((stack.len() - FRAMES) as u64, "more frame");
            lines.push(Pieces::of(Role::Faint, format!("    and {more}")));
        }
    }
    if site.waiting.iter().any(|group| group.stack.is_empty()) {
        lines.push(Pieces::of(
            Role::Faint,
            "no stacks here: they are read with --stacks; d dumps all of them now",
        ));
    }
    lines
}
