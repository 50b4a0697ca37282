//! The recent course of one figure, as long as a rule's window: bounded, and nothing else of the past is kept.

use std::collections::VecDeque;

use super::condition::{Op, Statistic, Term, Window};
use super::figure::Figure;

/// Looks that [`Course::Share`] can remember.
pub(super) const MOST_LOOKS: u32 = 128;

/// Looks come a little early or late; by this share of what they are apart they may.
const EARLY: f64 = 0.1;

/// What is kept of a figure, for all terms that need the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) figure: Figure,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Window(Window),
    Previous,
    Share { op: Op, with: f64, looks: u32, every_s: f64 },
}

impl Column {
    /// What a term needs; `None`: the newest value alone.
    pub(super) fn of(term: &Term) -> Option<Self> {
        let kind = match *term {
            Term::Now(_) => return None,
            Term::Over(_, _, window) => Kind::Window(window),
            Term::Jump(_) => Kind::Previous,
            Term::Share { op, with, looks, every_s, .. } => Kind::Share { op, with, looks, every_s },
        };
        Some(Self { figure: term.figure(), kind })
    }

    /// A course with nothing in it.
    pub(super) fn begin(&self) -> Course {
        match self.kind {
            Kind::Window(_) => Course::Window { samples: VecDeque::new(), newest: None },
            Kind::Previous => Course::Previous { before: None, newest: None },
            Kind::Share { .. } => Course::Share { bits: 0, looks: 0, last_s: f64::NEG_INFINITY },
        }
    }

    /// Takes a look's value in.
    pub(super) fn push(&self, course: &mut Course, at_s: f64, value: Option<f64>) {
        match (self.kind, course) {
            (Kind::Window(window), Course::Window { samples, newest }) => {
                *newest = value.map(|value| (at_s, value));
                let Some(value) = value else { return };
                let due =
                    samples.back().is_none_or(|(last, _)| at_s - last >= window.every_s * (1.0 - EARLY));
                if due && samples.back().is_none_or(|(last, _)| at_s > *last) {
                    samples.push_back((at_s, value));
                }
                // One sample at the window's beginning or before it stays.
                while samples.get(1).is_some_and(|(second, _)| at_s - second >= window.seconds) {
                    samples.pop_front();
                }
            }
            (Kind::Previous, Course::Previous { before, newest }) if value.is_some() => {
                *before = newest.take();
                *newest = value;
            }
            (Kind::Share { op, with, every_s, .. }, Course::Share { bits, looks, last_s }) => {
                let due = at_s - *last_s >= every_s * (1.0 - EARLY);
                if let Some(value) = value.filter(|_| due) {
                    *bits = (*bits << 1) | u128::from(op.holds(value, with));
                    *looks = looks.saturating_add(1).min(MOST_LOOKS);
                    *last_s = at_s;
                }
            }
            // Courses are made by `begin` of the same column.
            _ => {}
        }
    }

    /// The term's value; `None`: the window is not full yet, or the figure is not known.
    pub(super) fn value(&self, course: &Course, term: &Term) -> Option<f64> {
        match (self.kind, course, term) {
            (Kind::Window(window), Course::Window { samples, newest }, Term::Over(statistic, ..)) => {
                let (now, value) = (*newest)?;
                let (first, oldest) = *samples.front()?;
                // Looks are not on time to the millisecond.
                if now - first < window.seconds - window.every_s.min(window.seconds) * EARLY {
                    return None;
                }
                over(*statistic, samples, (first, oldest), (now, value))
            }
            (_, Course::Previous { before, newest }, Term::Jump(_)) => Some(percent((*before)?, (*newest)?)),
            (Kind::Share { looks: wanted, .. }, Course::Share { bits, looks, .. }, Term::Share { .. }) => {
                if *looks < wanted {
                    return None;
                }
                let mask = if wanted >= u128::BITS { u128::MAX } else { (1 << wanted) - 1 };
                Some(f64::from((bits & mask).count_ones()) / f64::from(wanted.max(1)))
            }
            _ => None,
        }
    }
}

/// What is kept.
#[derive(Clone, Debug)]
pub(super) enum Course {
    /// Samples in time, and the newest look, which is not always a sample.
    Window { samples: VecDeque<(f64, f64)>, newest: Option<(f64, f64)> },
    /// The last two known values.
    Previous { before: Option<f64>, newest: Option<f64> },
    /// One bit a look, the newest lowest.
    Share { bits: u128, looks: u32, last_s: f64 },
}

fn over(
    statistic: Statistic,
    samples: &VecDeque<(f64, f64)>,
    first: (f64, f64),
    last: (f64, f64),
) -> Option<f64> {
    let values = || samples.iter().map(|(_, value)| *value);
    #[expect(clippy::cast_precision_loss, reason = "at most a few hundred")]
    let n = samples.len() as f64;
    match statistic {
        Statistic::Change => Some(last.1 - first.1),
        Statistic::Rate => (last.0 > first.0).then(|| (last.1 - first.1) / (last.0 - first.0)),
        Statistic::Growth => Some(percent(first.1, last.1)),
        Statistic::Mean => (n >= 1.0).then(|| values().sum::<f64>() / n),
        Statistic::Least => values().chain([last.1]).reduce(f64::min),
        Statistic::Most => values().chain([last.1]).reduce(f64::max),
        Statistic::Deviation => (n >= 2.0).then(|| {
            let mean = values().sum::<f64>() / n;
            (values().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
        }),
        Statistic::Slope => (n >= 3.0).then(|| {
            // Times from the first on: those since the watch began would cost digits.
            let times = || samples.iter().map(|(time, _)| time - first.0);
            let (mean_t, mean_v) = (times().sum::<f64>() / n, values().sum::<f64>() / n);
            let spread: f64 = times().map(|time| (time - mean_t).powi(2)).sum();
            let joint: f64 =
                times().zip(values()).map(|(time, value)| (time - mean_t) * (value - mean_v)).sum();
            joint / spread
        }),
    }
    .filter(|value| value.is_finite())
}

fn percent(before: f64, now: f64) -> f64 {
    100.0 * (now - before) / before.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(statistic: Statistic, seconds: f64, every_s: f64) -> Term {
        Term::Over(statistic, Figure::named("tasks.live").expect("a figure"), Window { seconds, every_s })
    }

    /// The term's value after each look.
    fn values(term: &Term, looks: impl IntoIterator<Item = (f64, Option<f64>)>) -> Vec<Option<f64>> {
        let column = Column::of(term).expect("it needs the past");
        let mut course = column.begin();
        looks
            .into_iter()
            .map(|(at_s, value)| {
                column.push(&mut course, at_s, value);
                column.value(&course, term)
            })
            .collect()
    }

    fn line(slope: f64, seconds: u32) -> Vec<(f64, Option<f64>)> {
        (0..=seconds).map(|at| (f64::from(at), Some(100.0 + slope * f64::from(at)))).collect()
    }

    #[track_caller]
    fn last_is(term: &Term, looks: Vec<(f64, Option<f64>)>, expect: f64) {
        let got = values(term, looks).pop().flatten().expect("a value");
        assert!((got - expect).abs() < 1e-9 * expect.abs().max(1.0), "{got} is not {expect}");
    }

    #[test]
    fn a_line_has_its_slope_and_rate() {
        last_is(&term(Statistic::Slope, 120.0, 5.0), line(7.0, 300), 7.0);
        last_is(&term(Statistic::Rate, 60.0, 2.0), line(7.0, 300), 7.0);
        last_is(&term(Statistic::Change, 60.0, 1.0), line(7.0, 300), 420.0);
        last_is(&term(Statistic::Growth, 50.0, 1.0), line(2.0, 50), 100.0);
        last_is(&term(Statistic::Mean, 10.0, 1.0), line(1.0, 10), 105.0);
        last_is(&term(Statistic::Least, 10.0, 1.0), line(1.0, 20), 110.0);
        last_is(&term(Statistic::Most, 10.0, 1.0), line(1.0, 20), 120.0);
    }

    #[test]
    fn the_deviation_is_that_of_a_textbook() {
        let looks = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter().zip(0..);
        let looks = looks.map(|(value, at)| (f64::from(at), Some(value))).collect();
        last_is(&term(Statistic::Deviation, 7.0, 1.0), looks, (32.0_f64 / 7.0).sqrt());
    }

    #[test]
    fn a_window_that_is_not_full_says_nothing() {
        let all = values(&term(Statistic::Rate, 10.0, 1.0), line(1.0, 20));
        assert!(all[..10].iter().all(Option::is_none), "{all:?}");
        assert!(all[10..].iter().all(Option::is_some), "{all:?}");
    }

    #[test]
    fn an_unknown_value_is_no_value_and_no_zero() {
        let mut looks = line(1.0, 20);
        looks[20].1 = None;
        let all = values(&term(Statistic::Rate, 10.0, 1.0), looks.clone());
        assert_eq!(all[20], None);
        looks.push((21.0, Some(121.0)));
        assert_eq!(values(&term(Statistic::Rate, 10.0, 1.0), looks).pop().flatten(), Some(1.0));
    }

    #[test]
    fn memory_is_bounded_however_often_one_looks() {
        let term = term(Statistic::Slope, 120.0, 5.0);
        let column = Column::of(&term).expect("a window");
        let mut course = column.begin();
        for look in 0..100_000 {
            column.push(&mut course, f64::from(look) * 0.01, Some(1.0));
        }
        let Course::Window { samples, .. } = course else { panic!("a window") };
        assert!(samples.len() <= 28, "{}", samples.len());
    }

    #[test]
    fn looks_farther_apart_than_the_window() {
        let looks = (0..10).map(|look| (f64::from(look) * 60.0, Some(f64::from(look) * 60.0)));
        assert_eq!(values(&term(Statistic::Rate, 10.0, 1.0), looks).pop().flatten(), Some(1.0));
    }

    #[test]
    fn jumps_are_from_look_to_look() {
        let jump = Term::Jump(Figure::named("tasks.live").expect("a figure"));
        let looks =
            [(0.0, Some(100.0)), (1.0, Some(100.0)), (2.0, Some(130.0)), (3.0, None), (4.0, Some(130.0))];
        assert_eq!(values(&jump, looks), [None, Some(0.0), Some(30.0), Some(30.0), Some(0.0)]);
    }

    #[test]
    fn the_share_of_the_last_looks() {
        let figure = Figure::named("stack.tasks").expect("a figure");
        let share = Term::Share { figure, op: Op::AtLeast, with: 50.0, looks: 10, every_s: 0.0 };
        let looks = (0..12).map(|look| (f64::from(look), Some(if look < 5 { 10.0 } else { 60.0 })));
        let all = values(&share, looks);
        assert_eq!((all[8], all[9], all[11]), (None, Some(0.5), Some(0.7)));
    }
}
