//! Many tasks of one site stand at the same place for a long time, and none of the site's tasks ends.

use super::confidence::{of_losses, of_span, rounded};
use super::units::{count, duration};
use super::{Evidence, Finding, Rule, Verdict};
use crate::model::{float, seconds};

/// Go's wait reasons that only another goroutine can end. Waits for the network, a timer or the runtime are not
/// among them. Texts of `waitReasonStrings` in Go's `src/runtime/runtime2.go`.
const BLOCKED: [&str; 11] = [
    "chan receive",
    "chan send",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "select",
    "select (no cases)",
    "semacquire",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.WaitGroup.Wait",
];

/// Suspects a site most of whose tasks are old, blocked and identical, though it does not grow (any more).
///
/// An idle pool looks the same, which is why confidence is low. What the tasks wait for, and since when, is read
/// from the program's memory, so this finds leaks from before attach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stuck {
    /// Fewest tasks in one group.
    pub tasks_least: u64,
    /// Least time that the oldest of the group waits, seconds.
    pub wait_least_s: f64,
    /// Least time of watching in which none of the site's tasks ended, seconds.
    pub watch_least_s: f64,
    /// Least share of the site's live tasks that the group makes.
    pub share_least: f64,
}

impl Default for Stuck {
    fn default() -> Self {
        Self { tasks_least: 100, wait_least_s: 60.0, watch_least_s: 10.0, share_least: 0.9 }
    }
}

impl Rule for Stuck {
    fn summary(&self) -> &'static str {
        "many tasks are old, blocked and identical, and none of their kind ends"
    }

    fn check(&self, evidence: &Evidence<'_>) -> Finding {
        let ok = |why: &str| Finding { verdict: Verdict::Ok, why: why.to_owned(), confidence: 0.0 };
        let site = &evidence.site;
        let blocked = site.waiting().iter().find(|group| BLOCKED.contains(&group.reason.as_str()));
        let Some(group) = blocked else { return ok("no task is known to be blocked") };
        let waits_s = group.certain_ns().map_or(0.0, seconds);
        let share = float(group.count) / float(site.live().max(group.count).max(1));
        let many = group.count >= self.tasks_least && share >= self.share_least;
        if !many || waits_s < self.wait_least_s || site.elapsed_s() < self.watch_least_s || site.ended() > 0 {
            return ok("no large group of tasks is blocked for long while none ends");
        }
        let why = format!(
            "{} of {} are blocked in {} at one place, the oldest for at least {}, and none ended in {}; an idle pool looks so too",
            count(group.count, ""),
            count(site.live(), "live task"),
            group.reason,
            duration(waits_s),
            duration(site.elapsed_s()),
        );
        let confidence = rounded(0.4 * of_span(waits_s) * of_losses(evidence.losses));
        Finding { verdict: Verdict::Suspect, why, confidence }
    }
}
