//! What an action did and how often it failed, counted where it happens and read for the report; how often it may be
//! done.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Longest text of an error that is kept.
const LONGEST: usize = 300;

/// Counters of one action.
#[derive(Debug, Default)]
pub(super) struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) given_up: u64,
    pub(super) dropped: u64,
    pub(super) waiting: u64,
    pub(super) last_error: Option<String>,
}

impl Tally {
    pub(super) fn done(&self) {
        self.done.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, error: &str) {
        self.failed.fetch_add(1, Relaxed);
        let short: String = error.chars().take(LONGEST).collect();
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(short);
    }

    pub(super) fn given_up(&self) {
        self.given_up.fetch_add(1, Relaxed);
    }

    pub(super) fn dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// One more waits for its turn.
    pub(super) fn queued(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    /// One fewer.
    pub(super) fn left(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    pub(super) fn wait(&self, number: usize) {
        self.waiting.store(number as u64, Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            done: self.done.load(Relaxed),
            failed: self.failed.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// So many a minute, all of them at once if need be. Time is an argument.
#[derive(Debug)]
pub(super) struct Allowance {
    per_minute: f64,
    left: f64,
    at_s: f64,
}

impl Allowance {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute: f64::from(per_minute), left: f64::from(per_minute), at_s: 0.0 }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, at_s: f64) -> bool {
        let more = (at_s - self.at_s).max(0.0) * self.per_minute / 60.0;
        self.at_s = self.at_s.max(at_s);
        self.left = (self.left + more).min(self.per_minute);
        let is = self.left >= 1.0;
        if is {
            self.left -= 1.0;
        }
        is
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_comes_back_with_time() {
        let mut allowance = Allowance::new(2);
        assert!(allowance.take(100.0) && allowance.take(100.0) && !allowance.take(100.0));
        assert!(!allowance.take(129.0) && allowance.take(131.0) && !allowance.take(131.0));
        assert!(!allowance.take(0.0), "time does not run backwards");
        assert!(
            allowance.take(1_000.0) && allowance.take(1_000.0) && !allowance.take(1_000.0),
            "it does not pile up"
        );
    }
}
