//! What comes of a site's survivors if it goes on so.

use super::Evidence;
use super::facts::Survivors;
use crate::model::float;

/// If it goes on so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Tasks that stay, per hour.
    pub tasks_per_h: f64,
    /// Bytes of their stacks, per hour; `None`: not known for this runtime.
    pub bytes_per_h: Option<f64>,
    /// Seconds until twice as many tasks are alive as now.
    pub doubles_in_s: Option<f64>,
}

impl Forecast {
    /// Of a site whose tasks stay; `None`: none of them does, or it is not known.
    pub fn of(evidence: &Evidence<'_>) -> Option<Self> {
        let site = &evidence.site;
        let by_looks = Survivors::of(evidence).map(|survivors| survivors.per_s());
        let by_probes = || Some(site.plateau()?.share * float(site.started()) / site.elapsed_s().max(1.0));
        let per_s = by_looks.or_else(by_probes).filter(|per_s| *per_s > 0.0)?;
        let each =
            site.stack_bytes().filter(|_| site.live() > 0).map(|bytes| float(bytes) / float(site.live()));
        Some(Self {
            tasks_per_h: 3600.0 * per_s,
            bytes_per_h: each.map(|each| 3600.0 * per_s * each),
            doubles_in_s: (site.live() > 0).then(|| float(site.live()) / per_s),
        })
    }

    /// Seconds until so many tasks of the site are alive; `None`: there are as many by now.
    pub fn reaches_in_s(&self, live: u64, limit: u64) -> Option<f64> {
        let left = limit.checked_sub(live).filter(|left| *left > 0)?;
        (self.tasks_per_h > 0.0).then(|| float(left) * 3600.0 / self.tasks_per_h)
    }
}
