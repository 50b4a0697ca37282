//! Where one rule stands with one process or site: quiet, about to fire, firing. Hold times and hysteresis are here.

/// The times of a rule.
#[expect(clippy::struct_field_names, reason = "the unit, as everywhere")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// It must hold for so long before it fires.
    pub(super) for_s: f64,
    /// It must not hold for so long before it is over.
    pub(super) clear_for_s: f64,
    /// It fires for at least so long.
    pub(super) hold_s: f64,
}

/// Where it stands. Times are seconds of the engine's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Phase {
    /// The condition does not hold, or it is not known whether it does.
    #[default]
    Quiet,
    /// It holds since then.
    Pending {
        /// Since when.
        since_s: f64,
    },
    /// It fires.
    Firing {
        /// When the condition began to hold.
        since_s: f64,
        /// When it began to fire.
        fired_s: f64,
        /// Since when the condition holds no more.
        clear_s: Option<f64>,
    },
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing that anybody is told of.
    Stayed,
    /// It began to fire.
    Fired,
    /// It is over.
    Resolved,
}

impl Phase {
    /// It fires.
    pub(super) const fn is_firing(self) -> bool {
        matches!(self, Self::Firing { .. })
    }

    /// Takes in whether the condition holds at a moment; `None`: it is not known. What is not known neither begins an alert
    /// nor ends one.
    pub(super) fn step(&mut self, holds: Option<bool>, at_s: f64, times: Times) -> Step {
        match (*self, holds) {
            (Self::Quiet, Some(true)) => self.begin(at_s, at_s, times),
            (Self::Pending { since_s }, Some(true)) => self.begin(since_s, at_s, times),
            (Self::Quiet | Self::Pending { .. }, _) => {
                *self = Self::Quiet;
                Step::Stayed
            }
            (Self::Firing { .. }, None) => Step::Stayed,
            (Self::Firing { since_s, fired_s, .. }, Some(true)) => {
                *self = Self::Firing { since_s, fired_s, clear_s: None };
                Step::Stayed
            }
            (Self::Firing { since_s, fired_s, clear_s }, Some(false)) => {
                let clear_since = clear_s.unwrap_or(at_s);
                if at_s - clear_since >= times.clear_for_s && at_s - fired_s >= times.hold_s {
                    *self = Self::Quiet;
                    return Step::Resolved;
                }
                *self = Self::Firing { since_s, fired_s, clear_s: Some(clear_since) };
                Step::Stayed
            }
        }
    }

    fn begin(&mut self, since_s: f64, at_s: f64, times: Times) -> Step {
        if at_s - since_s >= times.for_s {
            *self = Self::Firing { since_s, fired_s: at_s, clear_s: None };
            return Step::Fired;
        }
        *self = Self::Pending { since_s };
        Step::Stayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { for_s: 3.0, clear_for_s: 2.0, hold_s: 10.0 };

    /// Moments at which it fired and was over; one character a second: `x` holds, `.` does not, `?` is not known.
    fn course(times: Times, text: &str) -> Vec<(usize, Step)> {
        let mut phase = Phase::default();
        let steps = text.chars().enumerate().map(|(at, character)| {
            let holds = match character {
                'x' => Some(true),
                '.' => Some(false),
                _ => None,
            };
            #[expect(clippy::cast_precision_loss, reason = "a short text")]
            (at, phase.step(holds, at as f64, times))
        });
        steps.filter(|(_, step)| *step != Step::Stayed).collect()
    }

    #[test]
    fn it_must_hold_without_a_break() {
        assert_eq!(course(TIMES, "xxx.xxx"), []);
        assert_eq!(course(TIMES, "xxx?xxx"), [], "what is not known is no evidence");
        assert_eq!(course(TIMES, ".xxxx"), [(4, Step::Fired)]);
        assert_eq!(course(Times { for_s: 0.0, ..TIMES }, ".x"), [(1, Step::Fired)]);
    }

    #[test]
    fn it_is_over_when_it_was_clear_for_long_enough() {
        let times = Times { hold_s: 0.0, ..TIMES };
        assert_eq!(course(times, "xxxx..x...x"), [(3, Step::Fired), (9, Step::Resolved)]);
        assert_eq!(course(times, "xxxx.?.?..x"), [(3, Step::Fired), (6, Step::Resolved)]);
        assert_eq!(course(times, "xxxx????????"), [(3, Step::Fired)], "what is not known ends nothing");
    }

    #[test]
    fn it_fires_for_at_least_its_hold_time() {
        assert_eq!(course(TIMES, "xxxx............"), [(3, Step::Fired), (13, Step::Resolved)]);
    }
}
