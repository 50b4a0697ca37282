//! Does the live count grow steadily and not come back?

use super::units::{count, duration, signed_rate};
use super::{Evidence, span_s};
use crate::model::{Point, float, trend};

/// Parts into which the series is cut.
const PARTS: usize = 4;

/// Finds a live count with a rising trend that all of the observation shows.
///
/// All of these must hold:
/// * Mann-Kendall ([`trend::mann_kendall`]) finds a rise at [`Growth::p_most`], and the Theil-Sen slope is positive;
/// * the lowest count of the last quarter is above the highest of the first: what comes back is a burst or a
///   sawtooth;
/// * the median of the last quarter is above that of the first by [`Growth::rise_least`];
/// * the medians of the quarters never fall, and no single step between them makes more than
///   [`Growth::step_most`] of the rise: what rises at once and stays is a pool;
/// * the second half of the time brings at least [`Growth::late_least`] of the rise: what flattens is a warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Least observation, seconds.
    pub span_least_s: f64,
    /// Least number of samples.
    pub samples_least: usize,
    /// Least rise, tasks.
    pub rise_least: u64,
    /// Highest chance at which a series without trend would show such a rise.
    pub p_most: f64,
    /// Highest share of the rise that one step between quarters may make.
    pub step_most: f64,
    /// Least share of the rise that falls into the second half.
    pub late_least: f64,
}

impl Default for Growth {
    fn default() -> Self {
        // A watch of 10 s may see its last sample some ms early.
        Self {
            span_least_s: 9.5,
            samples_least: 8,
            rise_least: 5,
            p_most: 0.01,
            step_most: 0.7,
            late_least: 0.3,
        }
    }
}

/// What a live count does.
#[derive(Clone, Debug, PartialEq)]
pub enum Course {
    /// Too little was seen to say.
    NotYet {
        /// In words.
        why: String,
    },
    /// It grows.
    Grows {
        /// In words.
        why: String,
        /// Chance at which a series without trend would show such a rise.
        chance: f64,
    },
    /// It does not.
    Holds {
        /// In words.
        why: String,
    },
}

/// Course of a live count, by quarters of the samples.
struct Quarters {
    first_most: u64,
    last_least: u64,
    medians: [f64; PARTS],
}

impl Quarters {
    fn of(series: &[Point]) -> Option<Self> {
        let quarter =
            |part: usize| series.get(series.len() * part / PARTS..series.len() * (part + 1) / PARTS);
        let mut medians = [0.0; PARTS];
        for (part, median) in medians.iter_mut().enumerate() {
            let mut lives: Vec<f64> = quarter(part)?.iter().map(|point| float(point.live)).collect();
            *median = trend::median(&mut lives)?;
        }
        let first_most = quarter(0)?.iter().map(|point| point.live).max()?;
        let last_least = quarter(PARTS - 1)?.iter().map(|point| point.live).min()?;
        Some(Self { first_most, last_least, medians })
    }

    fn rise(&self) -> f64 {
        self.medians[PARTS - 1] - self.medians[0]
    }

    /// Lowest and highest of the steps between quarters.
    fn steps(&self) -> (f64, f64) {
        let steps = self.medians.windows(2).map(|pair| pair[1] - pair[0]);
        steps.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), step| (low.min(step), high.max(step)))
    }

    /// Share of the rise that comes after the middle.
    fn late_share(&self) -> f64 {
        let middle = f64::midpoint(self.medians[1], self.medians[2]);
        (self.medians[PARTS - 1] - middle) / self.rise()
    }
}

impl Growth {
    /// Looks at a site's live count.
    pub fn course(&self, evidence: &Evidence<'_>) -> Course {
        if !self.enough(evidence.series) {
            return self.not_yet(evidence.series);
        }
        let mut seen = since_first_task(evidence.series);
        let peak = seen.iter().map(|point| point.live).max().unwrap_or(0);
        if !self.enough(seen) {
            if peak >= self.rise_least {
                return self.not_yet(seen);
            }
            seen = evidence.series;
        }
        let kept = trend::thin(seen.len(), trend::MOST_POINTS);
        let series: Vec<Point> = kept.into_iter().filter_map(|index| seen.get(index).copied()).collect();
        let lives: Vec<u64> = series.iter().map(|point| point.live).collect();
        let (Some(course), Some(growth)) = (Quarters::of(&series), evidence.growth_per_min) else {
            return self.not_yet(seen);
        };
        let (low, high) = course.steps();
        let stays = course.last_least > course.first_most && course.rise() >= float(self.rise_least);
        let steady =
            low >= 0.0 && high <= self.step_most * course.rise() && course.late_share() >= self.late_least;
        if growth > 0.0 && stays && steady {
            let trend = trend::mann_kendall(&lives);
            if trend.p_rising <= self.p_most {
                return Course::Grows { why: grows(evidence, seen, growth), chance: trend.p_rising };
            }
        }
        Course::Holds { why: holds(evidence, seen, growth) }
    }

    fn enough(&self, series: &[Point]) -> bool {
        span_s(series) >= self.span_least_s && series.len() >= self.samples_least
    }

    fn not_yet(&self, series: &[Point]) -> Course {
        let why = format!(
            "watched for {} in {}; a verdict needs {} and {}",
            duration(span_s(series)),
            count(series.len() as u64, "sample"),
            duration(self.span_least_s.ceil()),
            count(self.samples_least as u64, "sample"),
        );
        Course::NotYet { why }
    }
}

/// The series from the last point before the site's first task; all of it when there never was one.
fn since_first_task(series: &[Point]) -> &[Point] {
    let first = series.iter().position(|point| point.live > 0).unwrap_or(0);
    series.get(first.saturating_sub(1)..).unwrap_or(series)
}

/// From, to, and what happened since attach.
fn figures(evidence: &Evidence<'_>, seen: &[Point]) -> (String, String) {
    let live = |point: Option<&Point>| point.map_or(0, |point| point.live);
    let (from, to) = (live(seen.first()), live(seen.last()));
    let course = format!("from {} to {} in {}", count(from, ""), count(to, ""), duration(span_s(seen)));
    let site = &evidence.site;
    let births = format!("{} started and {} ended", count(site.started(), ""), count(site.ended(), ""));
    (course, births)
}

fn grows(evidence: &Evidence<'_>, seen: &[Point], growth: f64) -> String {
    let (course, births) = figures(evidence, seen);
    format!("live tasks grew steadily {course} ({}/min) and did not come back; {births}", signed_rate(growth))
}

fn holds(evidence: &Evidence<'_>, seen: &[Point], growth: f64) -> String {
    let (course, births) = figures(evidence, seen);
    if growth.abs() < 0.05 {
        return format!("live tasks went {course} without growth; {births}");
    }
    format!("live tasks went {course} ({}/min) without steady growth; {births}", signed_rate(growth))
}
