//! Children that ended and that nobody collects: each is a leak of its own, of an entry in the kernel's table of processes.

use super::confidence::rounded;
use super::units::{count, duration};
use super::{Finding, Verdict};
use crate::model::float;

/// Fewer may wait for the next time that their parent looks.
const LEAST: u64 = 6;
/// A parent that collects at all has looked by then, seconds.
const OLD_S: f64 = 20.0;

/// Judges `number` children of one command that ended and were not collected, the oldest `oldest_s` ago.
pub fn judge(number: u64, oldest_s: f64) -> Finding {
    let why = format!(
        "{} ended and {} not collected, the oldest for at least {}",
        count(number, "child").replace("childs", "children"),
        if number == 1 { "was" } else { "were" },
        duration(oldest_s),
    );
    if oldest_s < OLD_S {
        let settles = format!("whether they are collected within {}", duration(OLD_S));
        return Finding::new(Verdict::NotYet, why, 0.0, settles);
    }
    let verdict = if number >= LEAST { Verdict::Leak } else { Verdict::Suspect };
    let confidence = rounded(0.99 - 0.5 / float(number.max(1)));
    Finding::new(verdict, why, confidence, "a wait for them would take it back".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_many_are_a_leak() {
        let check = |number, oldest_s, verdict| assert_eq!(judge(number, oldest_s).verdict, verdict);
        check(1, 0.5, Verdict::NotYet);
        check(100, 0.5, Verdict::NotYet);
        check(1, 60.0, Verdict::Suspect);
        check(6, 60.0, Verdict::Leak);
        assert_eq!(
            judge(30, 61.0).why,
            "30 children ended and were not collected, the oldest for at least 1m1s"
        );
        assert!(judge(1, 60.0).confidence < judge(30, 60.0).confidence);
    }
}
