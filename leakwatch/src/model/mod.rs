//! What is known of a watched process, kept up to date by samples and bounded in memory.
//!
//! A [`ProcessModel`] takes one [`crate::observe::ProcessSample`] after the other and answers with counts, rates,
//! growth, lifetimes and ages, for the process and for each site. It never reads a clock, a process or a file,
//! knows no names (see [`Classify`]), judges nothing (that is `detect`), and holds no more than its [`Limits`] allow:
//! what did not fit is counted in [`Overflow`].

pub mod ages;
pub mod lifetimes;
pub mod loss;
mod presence;
pub mod process;
pub mod site;
pub mod survival;
pub mod trend;

#[cfg(test)]
mod tests;

pub use ages::Ages;
pub use loss::{Loss, Losses, SITES_OVER_LIMIT};
pub use process::{Attach, Moment, Overflow, ProcessModel, TaskTotals, TasksAre, ThreadTotals};
pub use site::{Classify, EachItself, Point, SiteClass, SiteProof, SiteView, growth_per_min};
pub use survival::Plateau;

/// How much a [`ProcessModel`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Samples of the process's totals.
    pub moments: usize,
    /// Samples of each site's live count; never more than `moments`.
    pub site_samples: usize,
    /// Sites. Tasks of further sites are counted together, in [`Overflow`].
    pub sites: usize,
    /// Groups of waiting tasks kept for a site, largest first.
    pub waiting_per_site: usize,
    /// Return addresses kept of a waiting group's stack.
    pub stack_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            moments: 600,
            site_samples: 120,
            sites: leakwatch_common::limits::SITES as usize,
            waiting_per_site: 32,
            stack_depth: 128,
        }
    }
}

/// Which stretch of time a rate is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    /// Since attach.
    #[default]
    Watch,
    /// Between the last two samples.
    Interval,
}

/// A count as a floating-point number, for rates and statistics.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 are not met, and a rate needs no last digit"
)]
pub const fn float(count: u64) -> f64 {
    count as f64
}

/// Nanoseconds as seconds.
pub const fn seconds(ns: u64) -> f64 {
    float(ns) / 1e9
}

/// `count` per second over `ns` nanoseconds; `None` when no time passed.
pub fn per_second(count: u64, ns: u64) -> Option<f64> {
    (ns > 0).then(|| float(count) / seconds(ns))
}
