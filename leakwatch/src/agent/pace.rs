//! How often to take a look that costs in proportion to what is looked at.
//!
//! The next one waits for the time that the last one took, times a factor: so looking takes a fixed share of our time
//! at most, whatever the size of the program.

/// While tasks start and end: one percent of a core.
const SPACING: u64 = 100;

/// While nothing starts and nothing ends: a twentieth of a percent.
const QUIET_SPACING: u64 = 2000;

/// When to look again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    shortest_ns: u64,
    /// When the last look ended and how long it took; `None` before the first.
    last: Option<(u64, u64)>,
    /// What had moved by then.
    then: u64,
    quiet: bool,
}

impl Pace {
    /// Looks are never closer than `shortest_ns`.
    pub(super) fn new(shortest_ns: u64) -> Self {
        Self { shortest_ns, last: None, then: 0, quiet: false }
    }

    /// It is time.
    pub(super) fn due(&self, now_ns: u64) -> bool {
        let Some((ended_ns, took_ns)) = self.last else { return true };
        let spacing = if self.quiet { QUIET_SPACING } else { SPACING };
        now_ns >= ended_ns.saturating_add(took_ns.saturating_mul(spacing).max(self.shortest_ns))
    }

    /// An interval passed. `moved` changes whenever a task started or ended; `looked` is from when to when the look
    /// was taken, if it was.
    pub(super) fn passed(&mut self, moved: u64, looked: Option<(u64, u64)>) {
        self.quiet = moved == self.then;
        if let Some((begun_ns, ended_ns)) = looked {
            self.last = Some((ended_ns, ended_ns.saturating_sub(begun_ns)));
            self.then = moved;
            self.quiet = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_a_multiple_of_what_the_last_look_took() {
        let mut pace = Pace::new(5);
        assert!(pace.due(0), "the first look is taken at once");
        pace.passed(10, Some((0, 1)));
        assert!(!pace.due(101) && pace.due(2001), "nothing moved since");
        pace.passed(11, None);
        assert!(pace.due(101), "something moved");
        pace.passed(11, Some((101, 101)));
        assert!(!pace.due(105) && pace.due(106), "never closer than the shortest");
    }
}
