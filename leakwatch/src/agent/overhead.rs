//! What watching costs: the calibrated price of a probe hit times the hits, and our own processor time.

use super::clock;

/// Measures both.
#[derive(Debug)]
pub(super) struct Meter {
    /// `CLOCK_MONOTONIC`, ns.
    started: u64,
    /// Our own processor time then, ns.
    own_at_start: u64,
    /// What one probe hit costs the watched program on this machine, ns; `None`: it could not be measured.
    price: Option<f64>,
}

impl Meter {
    pub(super) fn new(hit_ns: Option<f64>) -> Self {
        Self { started: clock::monotonic_ns(), own_at_start: clock::own_cpu_ns(), price: hit_ns }
    }

    /// Percent of one core since the start: `hits` probes in watched programs, and ourselves.
    pub(super) fn percent_of_one_core(&self, hits: u64) -> Option<f64> {
        let elapsed = clock::monotonic_ns().saturating_sub(self.started);
        let own = clock::own_cpu_ns().saturating_sub(self.own_at_start);
        if elapsed == 0 {
            return None;
        }
        Some(
            (crate::model::float(hits) * self.price? + crate::model::float(own)) * 100.0
                / crate::model::float(elapsed),
        )
    }

    /// Percent of one core that `hits` probes in `interval_ns` add to the watched program.
    pub(super) fn added_percent(&self, hits: u64, interval_ns: u64) -> Option<f64> {
        (interval_ns > 0).then_some(())?;
        Some(crate::model::float(hits) * self.price? * 100.0 / crate::model::float(interval_ns))
    }
}
