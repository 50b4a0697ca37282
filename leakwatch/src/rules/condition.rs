//! What a rule waits for: a figure, or what a window says of it, compared with a threshold.

use std::fmt;

use super::figure::{Base, Figure, Per, Unit};

/// Most samples that one window keeps of a figure.
pub const MOST_SAMPLES: u32 = 240;

/// How a figure is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `!=`
    Differs,
}

impl Op {
    /// All, and how they are written.
    pub const ALL: [(&'static str, Self); 6] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        ("!=", Self::Differs),
        (">", Self::Above),
        ("<", Self::Below),
        ("=", Self::Equal),
    ];

    /// Whether it is so.
    #[expect(clippy::float_cmp, reason = "the user wrote `=`")]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::AtLeast => value >= threshold,
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
            Self::Equal => value == threshold,
            Self::Differs => value != threshold,
        }
    }

    /// By how much a value is beyond the threshold, or short of it (negative): what is worse is larger.
    fn beyond(self, value: f64, threshold: f64) -> f64 {
        match self {
            Self::Above | Self::AtLeast => value - threshold,
            Self::Below | Self::AtMost => threshold - value,
            Self::Equal => -(value - threshold).abs(),
            Self::Differs => (value - threshold).abs(),
        }
    }

    /// In a sentence, after "is".
    const fn words(self, holds: bool) -> &'static str {
        match (self, holds) {
            (Self::Above, true) => "above",
            (Self::Above, false) => "not above",
            (Self::AtLeast, true) => "at least",
            (Self::AtLeast, false) => "less than",
            (Self::Below, true) => "below",
            (Self::Below, false) => "not below",
            (Self::AtMost, true) => "at most",
            (Self::AtMost, false) => "more than",
            (Self::Equal, true) | (Self::Differs, false) => "equal to",
            (Self::Equal, false) | (Self::Differs, true) => "other than",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(Self::ALL.iter().find(|(_, op)| op == self).map_or("", |(text, _)| text))
    }
}

/// A stretch of time, and how often the figure is kept in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// How long.
    pub seconds: f64,
    /// A sample every so many seconds.
    pub every_s: f64,
}

/// What a window says of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// The newest value less the oldest.
    Change,
    /// That, per second.
    Rate,
    /// That, in percent of the oldest (of 1, where that is less).
    Growth,
    /// Slope of the straight line with least squares, per second.
    Slope,
    /// Standard deviation (n - 1).
    Deviation,
    /// Mean.
    Mean,
    /// Least.
    Least,
    /// Most.
    Most,
}

impl Statistic {
    /// All, and how they are written.
    pub const ALL: [(&'static str, Self); 8] = [
        ("change", Self::Change),
        ("rate", Self::Rate),
        ("growth", Self::Growth),
        ("slope", Self::Slope),
        ("stddev", Self::Deviation),
        ("mean", Self::Mean),
        ("min", Self::Least),
        ("max", Self::Most),
    ];

    fn unit(self, of: Unit) -> Unit {
        match self {
            Self::Growth => Unit { base: Base::Percent, per: None },
            Self::Rate | Self::Slope => match of.per {
                None => Unit { base: of.base, per: Some(Per::Second) },
                // A change of a rate: its own unit, each second.
                Some(_) => of,
            },
            Self::Change | Self::Deviation | Self::Mean | Self::Least | Self::Most => of,
        }
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Term {
    /// The figure itself.
    Now(Figure),
    /// What a window says of it.
    Over(Statistic, Figure, Window),
    /// By how many percent it is more than at the look before (of 1, where that was less).
    Jump(Figure),
    /// Share of the last looks in which it was so.
    Share {
        /// The figure.
        figure: Figure,
        /// How it is compared.
        op: Op,
        /// With what.
        with: f64,
        /// How many looks, 128 at most.
        looks: u32,
        /// Looks count when they are so many seconds apart.
        every_s: f64,
    },
}

impl Term {
    /// The figure in it.
    pub const fn figure(&self) -> Figure {
        match self {
            Self::Now(figure)
            | Self::Over(_, figure, _)
            | Self::Jump(figure)
            | Self::Share { figure, .. } => *figure,
        }
    }

    /// The unit of its value.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Now(figure) => figure.unit(),
            Self::Over(statistic, figure, _) => statistic.unit(figure.unit()),
            Self::Jump(_) => Unit { base: Base::Percent, per: None },
            Self::Share { .. } => Unit { base: Base::Share, per: None },
        }
    }
}

/// One comparison of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is compared.
    pub term: Term,
    /// How.
    pub op: Op,
    /// With what, in the term's unit.
    pub threshold: f64,
    /// Once the rule fires, this is compared with instead: it is over only beyond it.
    pub until: Option<f64>,
    /// The term as the user wrote it.
    pub written: String,
}

impl Condition {
    /// Whether it holds; `firing`: the rule fires already. `None`: not known.
    pub(super) fn holds(&self, value: Option<f64>, firing: bool) -> Option<bool> {
        value.map(|value| self.op.holds(value, self.limit(firing)))
    }

    /// What the value is compared with.
    fn limit(&self, firing: bool) -> f64 {
        self.until.filter(|_| firing).unwrap_or(self.threshold)
    }

    /// What makes one value worse than another.
    pub(super) fn worse(&self, value: f64) -> f64 {
        self.op.beyond(value, self.threshold)
    }

    /// Half a sentence: `tasks.live is 1,204, above 1,000`.
    pub(super) fn said(&self, value: Option<f64>, firing: bool) -> String {
        let Some(value) = value else { return format!("{} is not known yet", self.written) };
        let unit = self.term.unit();
        let limit = self.limit(firing);
        let holds = self.op.holds(value, limit);
        if unit.base == Base::Verdict && holds && matches!(self.op, Op::AtLeast | Op::Equal) {
            return format!("{} is {}", self.written, unit.text(value));
        }
        // Slow rates are read in minutes.
        let (scale, unit) = match unit.per {
            Some(Per::Second) if value.abs() < 1.0 && limit.abs() < 1.0 => {
                (60.0, Unit { per: Some(Per::Minute), ..unit })
            }
            _ => (1.0, unit),
        };
        let (value, limit) = (unit.text(value * scale), unit.text(limit * scale));
        format!("{} is {value}, {} {limit}", self.written, self.op.words(holds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(figure: &str, op: Op, threshold: f64, until: Option<f64>) -> Condition {
        let figure = Figure::named(figure).expect(figure);
        Condition { term: Term::Now(figure), op, threshold, until, written: figure.name().to_owned() }
    }

    #[test]
    fn until_counts_only_once_it_fires() {
        let live = condition("tasks.live", Op::Above, 1_000.0, Some(800.0));
        assert_eq!(live.holds(Some(900.0), false), Some(false));
        assert_eq!(live.holds(Some(900.0), true), Some(true));
        assert_eq!(live.holds(Some(800.0), true), Some(false));
        assert_eq!(live.holds(None, true), None);
    }

    #[test]
    fn sentences() {
        let live = condition("tasks.live", Op::Above, 1_000.0, Some(800.0));
        assert_eq!(live.said(Some(1_204.0), false), "tasks.live is 1,204, above 1,000");
        assert_eq!(live.said(Some(900.0), false), "tasks.live is 900, not above 1,000");
        assert_eq!(live.said(Some(900.0), true), "tasks.live is 900, above 800");
        assert_eq!(live.said(None, false), "tasks.live is not known yet");
        assert_eq!(condition("verdict", Op::AtLeast, 1.0, None).said(Some(2.0), false), "verdict is leak");
        let slow = condition("tasks.start_rate_per_s", Op::Above, 0.05, None);
        assert_eq!(slow.said(Some(0.1), false), "tasks.start_rate_per_s is 6/min, above 3/min");
    }

    #[test]
    fn what_is_worse_is_larger() {
        assert!(Op::Above.beyond(7.0, 5.0) > Op::Above.beyond(6.0, 5.0));
        assert!(Op::Below.beyond(1.0, 5.0) > Op::Below.beyond(2.0, 5.0));
        assert!(Op::Equal.beyond(5.0, 5.0) > Op::Equal.beyond(4.0, 5.0));
    }
}
