//! Keeps a log readable: what goes wrong a thousand times is said once a minute, with how often.

use std::collections::BTreeMap;

use super::figures::ErrorKind;

/// Between two lines of one kind.
const SPACING_NS: u64 = 60_000_000_000;

/// When each kind was said last, and how often it was kept quiet since.
#[derive(Debug, Default)]
pub(super) struct Quiet(BTreeMap<ErrorKind, (u64, u64)>);

impl Quiet {
    /// Whether to say it now: then how often it was not said since the last time.
    pub(super) fn may_say(&mut self, kind: ErrorKind, now_ns: u64) -> Option<u64> {
        let Some((said_ns, kept)) = self.0.get_mut(&kind) else {
            self.0.insert(kind, (now_ns, 0));
            return Some(0);
        };
        if now_ns.saturating_sub(*said_ns) < SPACING_NS {
            *kept += 1;
            return None;
        }
        *said_ns = now_ns;
        Some(std::mem::take(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_with_how_often() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.may_say(ErrorKind::Attach, 0), Some(0));
        assert_eq!(quiet.may_say(ErrorKind::Kernel, 1), Some(0), "another kind is another line");
        for now in [2, 3, SPACING_NS - 1] {
            assert_eq!(quiet.may_say(ErrorKind::Attach, now), None);
        }
        assert_eq!(quiet.may_say(ErrorKind::Attach, SPACING_NS), Some(3));
        assert_eq!(quiet.may_say(ErrorKind::Attach, 2 * SPACING_NS), Some(0));
    }
}
