//! From the kernel's monotonic clock to wall-clock time. Reads no clock: the caller has read both at one moment.

use jiff::{SignedDuration, Timestamp};

/// The wall clock and ours may be this far apart: it is made to run faster or slower now and then.
const APART: SignedDuration = SignedDuration::from_secs(2);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Wall-clock time.
    pub wall: Timestamp,
    /// `CLOCK_MONOTONIC` at the same moment, ns.
    pub monotonic_ns: u64,
}

impl WallClock {
    /// Wall-clock time of a moment on `CLOCK_MONOTONIC`; clamped to the years that can be written.
    pub fn at(&self, monotonic_ns: u64) -> Timestamp {
        let nanos = i128::from(monotonic_ns) - i128::from(self.monotonic_ns);
        let fits = i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX });
        let end = if fits < 0 { Timestamp::MIN } else { Timestamp::MAX };
        self.wall.checked_add(SignedDuration::from_nanos(fits)).unwrap_or(end)
    }

    /// Goes along when the wall clock was stepped, and says so: it is `wall` now, and that is what moments are told by from here on.
    pub fn follow(&mut self, wall: Timestamp, monotonic_ns: u64) -> bool {
        let by = wall.duration_since(self.at(monotonic_ns));
        let stepped = by.abs() > APART;
        if stepped {
            *self = Self { wall: self.wall.checked_add(by).unwrap_or(self.wall), ..*self };
        }
        stepped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_and_after() {
        let clock = WallClock { wall: "2026-10-09T03:00:00Z".parse().unwrap(), monotonic_ns: 5_000_000_000 };
        assert_eq!(clock.at(6_500_000_000).to_string(), "2026-10-09T03:00:01.5Z");
        assert_eq!(clock.at(0).to_string(), "2026-10-09T02:59:55Z");
        assert!(clock.at(u64::MAX) > clock.wall, "a hostile time is far in the future, and no panic");
    }

    #[test]
    fn a_step_of_the_wall_clock_is_followed_and_what_is_less_is_not() {
        let begin = WallClock { wall: "2026-10-09T03:00:00Z".parse().unwrap(), monotonic_ns: 5_000_000_000 };
        let after = |wall: &str| {
            let mut clock = begin;
            let stepped = clock.follow(wall.parse().unwrap(), 15_000_000_000);
            assert_eq!(stepped, clock != begin);
            (clock.wall.to_string(), clock.at(15_000_000_000).to_string())
        };
        let is =
            |wall: &str, begin: &str, now: &str| assert_eq!(after(wall), (begin.to_owned(), now.to_owned()));
        is("2026-10-09T03:00:11Z", "2026-10-09T03:00:00Z", "2026-10-09T03:00:10Z");
        is("2026-10-09T04:00:10Z", "2026-10-09T04:00:00Z", "2026-10-09T04:00:10Z");
        is("2026-10-09T02:00:10Z", "2026-10-09T02:00:00Z", "2026-10-09T02:00:10Z");
    }
}
