//! The columns of both lists: which there are at a width, what stands in them, and the order of rows by them.

use std::cmp::{Ordering, Reverse};

use super::{
    chart,
    listing::{Sort, known_first},
    look::{Look, Role},
    words,
};
use crate::report::{
    Moment, Point, ProcessReport, Report, SiteReport, Verdict,
    clean::{clean, shorten, width},
    float,
    units::{bytes, count, figure, signed_rate},
};

/// A column of a list: its head, how its text stands, and whether rows can be sorted by it.
pub(super) trait Column: Copy + PartialEq + 'static {
    /// All of them, as they stand from left to right.
    const ALL: &'static [Self];
    /// Its head.
    fn head(self) -> &'static str;
    /// Figures stand at the right.
    fn right(self) -> bool;
    /// Rows can be sorted by it.
    fn sortable(self) -> bool;
    /// Usually the small and the first of the alphabet come first.
    fn ascending(self) -> bool;
}

/// Columns of the list of sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SiteColumn {
    /// The verdict; sorts as the report does, worst first.
    Verdict,
    /// Tasks alive.
    Live,
    /// Growth a minute.
    Growth,
    /// Starts a second.
    Starts,
    /// Ends a second.
    Ends,
    /// The recent course of the live count.
    Trend,
    /// Age of the oldest.
    Age,
    /// What they wait on; sorts by the longest wait.
    Waits,
    /// Where they are started.
    Where,
}

impl Column for SiteColumn {
    const ALL: &'static [Self] = &[
        Self::Verdict,
        Self::Live,
        Self::Growth,
        Self::Starts,
        Self::Ends,
        Self::Trend,
        Self::Age,
        Self::Waits,
        Self::Where,
    ];

    fn head(self) -> &'static str {
        match self {
            Self::Verdict => "VERDICT",
            Self::Live => "LIVE",
            Self::Growth => "+/MIN",
            Self::Starts => "START/S",
            Self::Ends => "END/S",
            Self::Trend => "TREND",
            Self::Age => "OLDEST",
            Self::Waits => "WAITS ON",
            Self::Where => "WHERE IT IS STARTED",
        }
    }

    fn right(self) -> bool {
        matches!(self, Self::Live | Self::Growth | Self::Starts | Self::Ends | Self::Age)
    }

    fn sortable(self) -> bool {
        self != Self::Trend
    }

    fn ascending(self) -> bool {
        self == Self::Where
    }
}

/// Columns of the list of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessColumn {
    /// Its worst site's verdict.
    Verdict,
    /// Process id.
    Pid,
    /// Name.
    Name,
    /// Runtime and version.
    Runtime,
    /// Tasks alive.
    Live,
    /// Growth a minute.
    Growth,
    /// Starts a second.
    Starts,
    /// Ends a second.
    Ends,
    /// Threads alive.
    Threads,
    /// Resident set.
    Rss,
    /// The recent course of the live count.
    Trend,
    /// Its worst site, where one is bad.
    Worst,
}

impl Column for ProcessColumn {
    const ALL: &'static [Self] = &[
        Self::Verdict,
        Self::Pid,
        Self::Name,
        Self::Runtime,
        Self::Live,
        Self::Growth,
        Self::Starts,
        Self::Ends,
        Self::Threads,
        Self::Rss,
        Self::Trend,
        Self::Worst,
    ];

    fn head(self) -> &'static str {
        match self {
            Self::Verdict => "VERDICT",
            Self::Pid => "PID",
            Self::Name => "NAME",
            Self::Runtime => "RUNTIME",
            Self::Live => "LIVE",
            Self::Growth => "+/MIN",
            Self::Starts => "START/S",
            Self::Ends => "END/S",
            Self::Threads => "THREADS",
            Self::Rss => "RSS",
            Self::Trend => "TREND",
            Self::Worst => "WORST SITE",
        }
    }

    fn right(self) -> bool {
        !matches!(self, Self::Verdict | Self::Name | Self::Runtime | Self::Trend | Self::Worst)
    }

    fn sortable(self) -> bool {
        !matches!(self, Self::Trend | Self::Worst)
    }

    fn ascending(self) -> bool {
        matches!(self, Self::Pid | Self::Name | Self::Runtime)
    }
}

/// Columns of sites at a width of the screen, with their own widths. The last one takes what is left.
pub(super) fn site_columns(screen: usize) -> Vec<(SiteColumn, usize)> {
    use SiteColumn as C;
    let wide = |steps: &[(usize, usize)]| {
        steps.iter().rev().find(|(from, _)| screen >= *from).map_or(0, |(_, width)| *width)
    };
    let widths = [
        (C::Verdict, 8),
        (C::Live, wide(&[(0, 7), (100, 9)])),
        (C::Growth, wide(&[(60, 7), (100, 8)])),
        (C::Starts, wide(&[(100, 8)])),
        (C::Ends, wide(&[(100, 8)])),
        (C::Trend, wide(&[(72, 6), (100, 8), (120, 12), (160, 20), (200, 30)])),
        (C::Age, wide(&[(66, 7)])),
        (C::Waits, wide(&[(78, 11), (100, 14), (120, 18), (160, 28), (200, 36)])),
    ];
    fitted(&widths, C::Where, screen)
}

/// Columns of processes at a width of the screen, with their own widths.
pub(super) fn process_columns(screen: usize) -> Vec<(ProcessColumn, usize)> {
    use ProcessColumn as C;
    let from = |least: usize, width: usize| if screen >= least { width } else { 0 };
    let widths = [
        (C::Verdict, 8),
        (C::Pid, 7),
        (C::Name, if screen >= 120 { 20 } else { 15 }),
        (C::Runtime, from(72, if screen >= 120 { 14 } else { 9 })),
        (C::Live, 8),
        (C::Growth, from(60, 8)),
        (C::Starts, from(150, 8)),
        (C::Ends, from(150, 8)),
        (C::Threads, from(130, 8)),
        (C::Rss, from(90, 9)),
        (C::Trend, if screen >= 160 { 24 } else { from(78, 8) }),
    ];
    fitted(&widths, C::Worst, screen)
}

/// Those that have a width, and the rest of the screen for the last one. A column stands for the marker of the cursor and
/// one between each two.
fn fitted<C: Copy>(widths: &[(C, usize)], last: C, screen: usize) -> Vec<(C, usize)> {
    let mut left = screen.saturating_sub(1);
    let mut columns = Vec::with_capacity(widths.len() + 1);
    for &(column, width) in widths.iter().filter(|(_, width)| *width > 0) {
        if width > left {
            return columns;
        }
        columns.push((column, width));
        left = left.saturating_sub(width + 1);
    }
    if left > 0 {
        columns.push((last, left));
    }
    columns
}

/// What stands in a site's column.
pub(super) fn site_cell(
    column: SiteColumn,
    site: &SiteReport,
    process: &ProcessReport,
    room: usize,
    look: Look,
) -> (Role, String) {
    let known = |text| known(text, look);
    match column {
        SiteColumn::Verdict => verdict(site.verdict),
        SiteColumn::Live => plain(compact(site.live, room)),
        SiteColumn::Growth => known(site.growth_per_min.map(signed_rate)),
        SiteColumn::Starts => known(site.start_rate_per_s.map(figure)),
        SiteColumn::Ends => known(site.end_rate_per_s.map(figure)),
        SiteColumn::Trend => {
            trend(site.recent.iter().map(|point: &Point| (point.at_s, point.live)), room, look)
        }
        SiteColumn::Age => known(words::oldest(&site.age)),
        SiteColumn::Waits => {
            let text = words::enough(&words::waits(&site.waiting), room);
            known((!text.is_empty()).then_some(text))
        }
        SiteColumn::Where => (Role::Strong, words::site_in(site, process, room)),
    }
}

/// What stands in a process's column.
pub(super) fn process_cell(
    column: ProcessColumn,
    process: &ProcessReport,
    room: usize,
    look: Look,
) -> (Role, String) {
    let known = |text| known(text, look);
    match column {
        ProcessColumn::Verdict if process.exited => (Role::Faint, "exited".to_owned()),
        ProcessColumn::Verdict => worst(process).map_or_else(|| known(None), |site| verdict(site.verdict)),
        ProcessColumn::Pid => plain(process.pid.to_string()),
        ProcessColumn::Name => (Role::Strong, shorten(&clean(&process.comm), room)),
        ProcessColumn::Runtime => plain(shorten(&words::runtimes(process), room)),
        ProcessColumn::Live => plain(compact(process.tasks.live, room)),
        ProcessColumn::Growth => known(process.tasks.growth_per_min.map(signed_rate)),
        ProcessColumn::Starts => known(process.tasks.start_rate_per_s.map(figure)),
        ProcessColumn::Ends => known(process.tasks.end_rate_per_s.map(figure)),
        ProcessColumn::Threads => known(process.threads.live.map(|live| compact(live, room))),
        ProcessColumn::Rss => known(process.memory.rss_bytes.map(bytes)),
        ProcessColumn::Trend => {
            trend(process.recent.iter().map(|moment: &Moment| (moment.at_s, moment.live)), room, look)
        }
        ProcessColumn::Worst => match worst(process) {
            Some(site) if site.verdict >= Verdict::Suspect => {
                (Role::Plain, words::site_in(site, process, room))
            }
            _ => (Role::Plain, String::new()),
        },
    }
}

fn plain(text: String) -> (Role, String) {
    (Role::Plain, text)
}

fn known(text: Option<String>, look: Look) -> (Role, String) {
    text.map_or_else(|| (Role::Faint, look.unknown().to_owned()), plain)
}

/// A verdict as a word with its colour.
pub(super) fn verdict(verdict: Verdict) -> (Role, String) {
    let (role, word) = match verdict {
        Verdict::Leak => (Role::Bad, "LEAK"),
        Verdict::Suspect => (Role::Warning, "suspect"),
        Verdict::NotYet => (Role::Faint, "not yet"),
        Verdict::Ok => (Role::Good, "ok"),
    };
    (role, word.to_owned())
}

/// The course of a live count, from seconds and counts.
fn trend(recent: impl Iterator<Item = (f64, u64)>, room: usize, look: Look) -> (Role, String) {
    let points: Vec<(f64, f64)> = recent.map(|(at_s, live)| (at_s, float(live))).collect();
    (Role::Curve, chart::spark(&chart::over_time(&points, room), look))
}

/// A count in so many columns: in full, or as `12.3k`, `1.2M`.
pub(super) fn compact(number: u64, room: usize) -> String {
    let full = count(number, "");
    if width(&full) <= room {
        return full;
    }
    let mut size = float(number);
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if size < 999.5 {
            break;
        }
        size /= 1000.0;
        unit = next;
    }
    if size < 99.95 { format!("{size:.1}{unit}") } else { format!("{size:.0}{unit}") }
}

/// The program's worst site; `None`: it has none.
pub(super) fn worst(process: &ProcessReport) -> Option<&SiteReport> {
    // The report has the worst first.
    process.sites.iter().find(|site| !site.system)
}

/// Places of the sites that pass, in the order wanted. Those that are alike stay in the report's order.
pub(super) fn order_sites(
    process: &ProcessReport,
    filter: &str,
    sort: Sort<SiteColumn>,
    system: bool,
) -> Vec<usize> {
    let wanted = lower_words(filter);
    let passes = |site: &SiteReport| {
        (site.live > 0 || site.started > 0)
            && (system || !site.system)
            && (wanted.is_empty() || has_all(&site_text(site), &wanted))
    };
    let sites = &process.sites;
    let mut order: Vec<usize> =
        sites.iter().enumerate().filter(|(_, site)| passes(site)).map(|(place, _)| place).collect();
    let ascending = sort.by.ascending() != sort.reversed;
    let by = |key: &dyn Fn(&SiteReport) -> Option<f64>, order: &mut Vec<usize>| {
        let keys: Vec<Option<f64>> = sites.iter().map(key).collect();
        let key = |place: usize| keys.get(place).copied().flatten();
        order.sort_by(|a, b| known_first(key(*a), key(*b), ascending));
    };
    match sort.by {
        // The report's own order.
        SiteColumn::Verdict | SiteColumn::Trend => {
            if sort.reversed {
                order.reverse();
            }
        }
        SiteColumn::Live => by(&|site| Some(float(site.live)), &mut order),
        SiteColumn::Growth => by(&|site| site.growth_per_min, &mut order),
        SiteColumn::Starts => by(&|site| site.start_rate_per_s, &mut order),
        SiteColumn::Ends => by(&|site| site.end_rate_per_s, &mut order),
        SiteColumn::Age => by(&|site| site.age.max_s, &mut order),
        SiteColumn::Waits => {
            by(&|site| site.waiting.iter().filter_map(|group| group.longest_s).reduce(f64::max), &mut order);
        }
        SiteColumn::Where => {
            let name = |place: &usize| {
                sites.get(*place).map(|site| (&site.function, &site.file, site.line, &site.task))
            };
            order.sort_by(|a, b| directed(name(a).cmp(&name(b)), ascending));
        }
    }
    order
}

/// Places of the processes that pass, in the order wanted.
pub(super) fn order_processes(report: &Report, filter: &str, sort: Sort<ProcessColumn>) -> Vec<usize> {
    let wanted = lower_words(filter);
    let passes = |process: &ProcessReport| wanted.is_empty() || has_all(&process_text(process), &wanted);
    let processes = &report.processes;
    let mut order: Vec<usize> =
        processes.iter().enumerate().filter(|(_, process)| passes(process)).map(|(place, _)| place).collect();
    let ascending = sort.by.ascending() != sort.reversed;
    let of = |place: &usize| processes.get(*place).map(AsRef::as_ref);
    let figure = |place: &usize| -> Option<f64> {
        let process = of(place)?;
        match sort.by {
            ProcessColumn::Live => Some(float(process.tasks.live)),
            ProcessColumn::Growth => process.tasks.growth_per_min,
            ProcessColumn::Starts => process.tasks.start_rate_per_s,
            ProcessColumn::Ends => process.tasks.end_rate_per_s,
            ProcessColumn::Threads => process.threads.live.map(float),
            ProcessColumn::Rss => process.memory.rss_bytes.map(float),
            ProcessColumn::Pid => Some(f64::from(process.pid)),
            _ => None,
        }
    };
    match sort.by {
        ProcessColumn::Verdict | ProcessColumn::Trend | ProcessColumn::Worst => {
            order.sort_by(|a, b| {
                let badness = |place: &usize| {
                    let process = of(place);
                    // Who has exited leaks no more.
                    let verdict = process.and_then(worst).map(|site| site.verdict);
                    (Reverse(process.is_some_and(|process| process.exited)), verdict)
                };
                let growth = |place: &usize| of(place).and_then(|process| process.tasks.growth_per_min);
                let live = |place: &usize| of(place).map(|process| process.tasks.live);
                let worst_first = badness(b)
                    .cmp(&badness(a))
                    .then_with(|| known_first(growth(a), growth(b), false))
                    .then_with(|| live(b).cmp(&live(a)));
                directed(worst_first, !sort.reversed)
            });
        }
        ProcessColumn::Name => {
            order.sort_by(|a, b| directed(of(a).map(|p| &p.comm).cmp(&of(b).map(|p| &p.comm)), ascending));
        }
        ProcessColumn::Runtime => order.sort_by_cached_key(|place| {
            let text = of(place).map(words::runtimes).unwrap_or_default();
            (text, *place)
        }),
        _ => order.sort_by(|a, b| known_first(figure(a), figure(b), ascending)),
    }
    if sort.by == ProcessColumn::Runtime && !ascending {
        order.reverse();
    }
    order
}

fn directed(order: Ordering, ascending: bool) -> Ordering {
    if ascending { order } else { order.reverse() }
}

fn lower_words(filter: &str) -> Vec<String> {
    filter.split_whitespace().map(str::to_lowercase).collect()
}

fn has_all(text: &str, words: &[String]) -> bool {
    let text = text.to_lowercase();
    words.iter().all(|word| text.contains(word))
}

/// What a filter looks at, as it stands on the screen and in full.
fn site_text(site: &SiteReport) -> String {
    let mut text = String::new();
    let parts = [&site.function, &site.file, &site.task, &site.task_file];
    for part in parts.into_iter().flatten() {
        text.push_str(part);
        text.push('\n');
    }
    for group in &site.waiting {
        text.push_str(&group.reason);
        text.push('\n');
    }
    let line = site.line.map_or_else(String::new, |line| format!(":{line}"));
    format!("{text}{line} {} {} {}", site.runtime, site.verdict.name(), verdict(site.verdict).1)
}

fn process_text(process: &ProcessReport) -> String {
    let worst = worst(process).map_or("", |site| site.verdict.name());
    let exe = process.exe.as_deref().unwrap_or_default();
    let container = process.container.as_ref().map_or_else(String::new, |container| {
        let known = [Some(&container.id), container.name.as_ref(), container.image.as_ref()];
        known.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    });
    format!("{} {} {} {exe} {container} {worst}", process.pid, process.comm, words::runtimes(process))
}
