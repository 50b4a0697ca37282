//! Pictures of figures as SVG: courses over time, survival curves, histograms.
//!
//! Each says in words what it shows, for who cannot see it. Styles come from classes alone, so that the page's policy can
//! forbid every other style. Nothing here knows names.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::report::float;
use crate::report::units::{bytes, count, duration, figure};

/// Size of a picture, and of the part of it that figures are drawn in, in its own units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;

/// What a figure is, for its axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Whole things.
    Count,
    /// Things per second.
    Rate,
    /// Bytes.
    Bytes,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::Count => count(whole(value), ""),
            Self::Rate => format!("{}/s", figure(value)),
            Self::Bytes => bytes(whole(value)),
        }
    }

    /// The end of an axis that holds `most`: a round figure, two of whose halves are round, too.
    fn end_of_axis(self, most: f64) -> f64 {
        let most = if most.is_finite() { most.max(0.0) } else { 0.0 };
        if self == Self::Bytes {
            let mut unit = 1.0;
            while most / unit >= 1024.0 {
                unit *= 1024.0;
            }
            return round_up(most / unit).max(2.0) * unit;
        }
        let least = if self == Self::Count { 2.0 } else { 0.1 };
        round_up(most).max(least)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, not negative; `as` saturates"
)]
const fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

/// The next of 1, 2, 4, 6, 10, 20, …
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let size = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 10.0];
    steps.iter().map(|step| step * size).find(|round| *round >= value * 0.999_999).unwrap_or(size * 10.0)
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// What it is; for the legend where there are two.
    pub(super) name: &'static str,
    /// Seconds since attach, and the figure; oldest first.
    pub(super) points: Vec<(f64, f64)>,
}

/// Figures over time, one or two lines; nothing where there are not two moments of one.
pub(super) fn course(title: &str, unit: Unit, lines: &[Line]) -> Markup {
    let finite = |line: &Line| {
        let points = line.points.iter().copied().filter(|at| at.0.is_finite() && at.1.is_finite());
        Line { name: line.name, points: points.collect() }
    };
    let lines: Vec<Line> = lines.iter().map(finite).filter(|line| line.points.len() > 1).collect();
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (Some(from), Some(to)) =
        (all().map(|at| at.0).reduce(f64::min), all().map(|at| at.0).reduce(f64::max))
    else {
        return html! {};
    };
    let top = unit.end_of_axis(all().map(|at| at.1).fold(0.0, f64::max));
    let x = |at: f64| LEFT + (at - from) / (to - from).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| y_of(value / top);
    let said: Vec<String> = lines.iter().map(|line| in_words(line, unit)).collect();
    html! {
        figure {
            figcaption {
                (title)
                @if let [first, second, ..] = &*lines {
                    " " span { (first.name) " (line), " (second.name) " (dashed)" }
                }
            }
            svg viewBox=(view_box()) role="img" aria-label=(format!("{title}: {}", said.join("; "))) {
                (grid(&[(0.0, unit.text(0.0)), (0.5, unit.text(top / 2.0)), (1.0, unit.text(top))]))
                @for (share, class) in [(0.0, ""), (0.5, "middle"), (1.0, "end")] {
                    text class=(class) x=(short(LEFT + share * (WIDTH - LEFT - RIGHT))) y=(short(HEIGHT - 6.0)) {
                        (duration(from + share * (to - from)))
                    }
                }
                @for (index, line) in lines.iter().enumerate() {
                    @let path = polyline(line.points.iter().map(|at| (x(at.0), y(at.1))));
                    @if let (0, Some(first), Some(last)) = (index, line.points.first(), line.points.last()) {
                        path class="area" d=(area(&path, x(first.0), x(last.0))) {}
                    }
                    path class=(if index == 0 { "curve" } else { "second" }) d=(path) {}
                }
            }
        }
    }
}

fn in_words(line: &Line, unit: Unit) -> String {
    let (Some(first), Some(last)) = (line.points.first(), line.points.last()) else { return String::new() };
    let most = line.points.iter().map(|at| at.1).fold(0.0, f64::max);
    format!(
        "{} from {} after {} to {} after {}, at most {}",
        line.name,
        unit.text(first.1),
        duration(first.0),
        unit.text(last.1),
        duration(last.0),
        unit.text(most)
    )
}

/// Counts by age or lifetime: the ends of a bucket in seconds, and how many.
pub(super) type Bars = Vec<(f64, f64, u64)>;

/// Ages from the least to the greatest on a logarithmic axis.
struct Ages {
    from: f64,
    to: f64,
}

impl Ages {
    fn of(ends: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let known = ends.filter(|end| *end > 0.0 && end.is_finite());
        let (from, to) = (known.clone().reduce(f64::min)?, known.reduce(f64::max)?);
        Some(if to / from < 4.0 { Self { from: from / 2.0, to: to * 2.0 } } else { Self { from, to } })
    }

    fn x(&self, age: f64) -> f64 {
        let share = (age.max(self.from) / self.from).ln() / (self.to / self.from).ln();
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Ages at places of the axis.
    fn ticks(&self) -> Vec<(f64, &'static str, String)> {
        let at = |share: f64| (self.to / self.from).powf(share) * self.from;
        let place = |share: f64, class| (self.x(at(share)), class, duration(at(share)));
        vec![place(0.0, ""), place(0.5, "middle"), place(1.0, "end")]
    }
}

/// How long ended tasks lived (bars) and how old the living are (outlined bars).
pub(super) fn lifetimes(noun: &str, ended: &Bars, alive: &Bars) -> Markup {
    let bars = ended.iter().chain(alive).filter(|bar| bar.2 > 0);
    let Some(ages) = Ages::of(bars.clone().flat_map(|bar| [bar.0, bar.1])) else { return html! {} };
    let most = bars.map(|bar| bar.2).max().unwrap_or(0);
    let top = Unit::Count.end_of_axis(float(most));
    let draw = |bars: &Bars| {
        let mut path = String::new();
        for &(from, to, number) in bars.iter().filter(|bar| bar.2 > 0) {
            let (x, y) = (ages.x(from), y_of(float(number) / top).min(HEIGHT - BOTTOM - 1.0));
            let (right, bottom) = ((ages.x(to) - 0.8).max(x + 0.8), HEIGHT - BOTTOM);
            push(&mut path, format_args!("M{x:.1} {bottom:.1}V{y:.1}H{right:.1}V{bottom:.1}Z"));
        }
        path
    };
    let sum = |bars: &Bars| bars.iter().fold(0u64, |sum, bar| sum.saturating_add(bar.2));
    let said = format!(
        "{} ended after {}; {} alive, aged {}",
        count(sum(ended), noun),
        range(ended),
        count(sum(alive), noun),
        range(alive)
    );
    html! {
        figure {
            figcaption { "Lifetimes " span { "ended (bars) and ages of the living (outlined), logarithmic" } }
            svg viewBox=(view_box()) role="img" aria-label=(format!("Lifetimes: {said}")) {
                (grid(&[(0.0, "0".to_owned()), (0.5, Unit::Count.text(top / 2.0)), (1.0, Unit::Count.text(top))]))
                (age_axis(&ages))
                path class="bars" d=(draw(ended)) {}
                path class="bars-second" d=(draw(alive)) {}
            }
        }
    }
}

/// `3ms to 2s`, or `no time that is known`.
fn range(bars: &Bars) -> String {
    let some = || bars.iter().filter(|bar| bar.2 > 0);
    match (some().map(|bar| bar.0).reduce(f64::min), some().map(|bar| bar.1).reduce(f64::max)) {
        (Some(from), Some(to)) => format!("{} to {}", duration(from), duration(to)),
        _ => "nothing".to_owned(),
    }
}

/// Which share of the tasks outlives an age, with the share that never ends where it is known.
pub(super) fn survival(steps: &[(f64, f64)], plateau: Option<(f64, Option<(f64, f64)>)>) -> Markup {
    let Some(ages) = Ages::of(steps.iter().map(|step| step.0)) else { return html! {} };
    let mut path = String::new();
    let mut share_before = 1.0;
    push(&mut path, format_args!("M{:.1} {:.1}", ages.x(ages.from), y_of(1.0)));
    for &(age, share) in steps {
        push(&mut path, format_args!("H{:.1}V{:.1}", ages.x(age), y_of(share)));
        share_before = share;
    }
    push(&mut path, format_args!("H{:.1}", WIDTH - RIGHT));
    let percent = |share: f64| format!("{}%", figure(share * 100.0));
    let last = steps.last().map_or(0.0, |step| step.0);
    let mut said = format!("{} of the tasks live longer than {}", percent(share_before), duration(last));
    if let Some((share, interval)) = plateau {
        push(&mut said, format_args!("; {} never end", percent(share)));
        if let Some((low, high)) = interval {
            push(&mut said, format_args!(" (95 % interval {} to {})", percent(low), percent(high)));
        }
    }
    let (left, width) = (LEFT, WIDTH - LEFT - RIGHT);
    html! {
        figure {
            figcaption { "Survival " span { "share that is alive at an age; dashed: the share that never ends" } }
            svg viewBox=(view_box()) role="img" aria-label=(format!("Survival: {said}")) {
                @if let Some((_, Some((low, high)))) = plateau {
                    rect class="band" x=(short(left)) y=(short(y_of(high))) width=(short(width))
                        height=(short((y_of(low) - y_of(high)).max(1.0))) {}
                }
                (grid(&[(0.0, "0%".to_owned()), (0.5, "50%".to_owned()), (1.0, "100%".to_owned())]))
                (age_axis(&ages))
                @if let Some((share, _)) = plateau {
                    path class="second" d=(format!("M{left:.1} {:.1}h{width:.1}", y_of(share))) {}
                }
                path class="curve" d=(path) {}
            }
        }
    }
}

fn age_axis(ages: &Ages) -> Markup {
    html! {
        @for (x, class, text) in ages.ticks() {
            text class=(class) x=(short(x)) y=(short(HEIGHT - 6.0)) { (text) }
        }
    }
}

/// Lines at shares of the height, with what they stand for.
fn grid(lines: &[(f64, String)]) -> Markup {
    html! {
        @for (share, text) in lines {
            path class="grid" d=(format!("M{LEFT} {}H{}", short(y_of(*share)), WIDTH - RIGHT)) {}
            text class="end" x=(short(LEFT - 6.0)) y=(short(y_of(*share) + 4.0)) { (text) }
        }
    }
}

fn y_of(share: f64) -> f64 {
    TOP + (1.0 - share.clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM)
}

/// Lines from point to point, in whole units and from each to the next, as that is short: pages have hundreds of them.
fn polyline(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    let mut at = None;
    for (x, y) in points {
        let (x, y) = (rounded(x), rounded(y));
        match at {
            None => push(&mut path, format_args!("M{x} {y}l")),
            Some((before_x, before_y)) => push(&mut path, format_args!("{} {} ", x - before_x, y - before_y)),
        }
        at = Some((x, y));
    }
    path
}

#[expect(clippy::cast_possible_truncation, reason = "inside the picture; `as` saturates")]
const fn rounded(value: f64) -> i32 {
    value.round() as i32
}

fn area(path: &str, left: f64, right: f64) -> String {
    let bottom = HEIGHT - BOTTOM;
    format!("{path}L{right:.0} {bottom:.0}H{left:.0}Z")
}

fn view_box() -> String {
    format!("0 0 {WIDTH} {HEIGHT}")
}

fn short(value: f64) -> String {
    rounded(value).to_string()
}

/// Appends; writing to memory does not fail.
fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    if text.write_fmt(more).is_err() {
        text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_figures() {
        for (most, end) in [(0.0, 2.0), (1.0, 2.0), (3.0, 4.0), (266.0, 400.0), (1_000.0, 1_000.0)] {
            assert!((Unit::Count.end_of_axis(most) - end).abs() < 1e-9, "{most}");
        }
        assert!((Unit::Bytes.end_of_axis(11.3 * 1_048_576.0) - 20.0 * 1_048_576.0).abs() < 1.0);
        assert!(Unit::Rate.end_of_axis(f64::NAN) > 0.0);
    }

    #[test]
    fn pictures_say_in_words_what_they_show() {
        let line = Line { name: "alive", points: vec![(0.0, 24.0), (30.0, 300.0), (60.0, 266.0)] };
        let drawn = course("Alive", Unit::Count, &[line]).into_string();
        assert!(drawn.contains("alive from 24 after 0s to 266 after 1m, at most 300"), "{drawn}");
        let drawn = survival(&[(0.01, 0.5), (30.0, 0.1)], Some((0.1, Some((0.05, 0.2))))).into_string();
        assert!(drawn.contains("10% never end (95 % interval 5% to 20%)"), "{drawn}");
        let drawn = lifetimes("task", &vec![(0.001, 0.002, 90)], &vec![(8.0, 16.0, 10)]).into_string();
        assert!(drawn.contains("90 tasks ended after 1ms to 2ms; 10 tasks alive, aged 8s to 16s"), "{drawn}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let one = Line { name: "alive", points: vec![(0.0, 24.0)] };
        assert_eq!(course("Alive", Unit::Count, &[one]).into_string(), "");
        assert_eq!(lifetimes("task", &Vec::new(), &Vec::new()).into_string(), "");
        assert_eq!(survival(&[], None).into_string(), "");
    }

    #[test]
    fn odd_figures_stay_inside_the_picture() {
        let odd = vec![(0.0, f64::NAN), (0.0, f64::INFINITY), (0.0, -5.0), (0.0, 1e300), (f64::NAN, 1.0)];
        let drawn = course("Alive", Unit::Count, &[Line { name: "alive", points: odd }]).into_string();
        assert!(drawn.contains("<path") && !drawn.contains("inf\"") && !drawn.contains("NaN"), "{drawn}");
    }
}
