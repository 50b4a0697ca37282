//! Failures of a receiver in a row, and what the log says of them.
//!
//! An outage may last a night: the log has its first failure, the second, the fourth and so on, and its end. It must never decide what is
//! done with what was not taken.

use std::time::Duration;

use crate::http::backoff;

/// A receiver that may fail.
#[derive(Debug)]
pub(super) struct Outage {
    receiver: String,
    failures: u32,
}

impl Outage {
    /// Of this receiver, in the words of the log.
    pub(super) fn of(receiver: String) -> Self {
        Self { receiver, failures: 0 }
    }

    /// It failed once more; how long to wait, if it did not say that itself (`after`).
    pub(super) fn goes_on(&mut self, why: &str, after: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let (receiver, failures) = (&self.receiver, self.failures);
        match failures {
            1 => tracing::warn!("{receiver}: {why}"),
            _ if failures.is_power_of_two() => tracing::warn!(failures, "{receiver}, still: {why}"),
            _ => tracing::debug!(failures, "{receiver}, still: {why}"),
        }
        after.unwrap_or_else(|| backoff(failures))
    }

    /// It answered: yes, or that it does not want this one.
    pub(super) fn is_over(&mut self) {
        let failures = std::mem::take(&mut self.failures);
        if failures > 0 {
            // As loud as the beginning: whoever read that it fails is to read that it does not any more.
            tracing::warn!(failures, "{}: works again", self.receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_in_an_outage_and_begin_anew_after_it() {
        let mut outage = Outage::of("a receiver".to_owned());
        let first = outage.goes_on("no", None);
        let tenth = (0..9).map(|_| outage.goes_on("no", None)).last().expect("some");
        assert!(first < Duration::from_secs(1) && tenth > Duration::from_secs(14), "{first:?} {tenth:?}");
        assert_eq!(outage.goes_on("no", Some(Duration::from_secs(7))), Duration::from_secs(7), "it said so");
        outage.is_over();
        assert!(outage.goes_on("no", None) < Duration::from_secs(1));
    }
}
