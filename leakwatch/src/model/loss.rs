//! What was lost or could not be read, by name, and how much of the picture that is.

use std::borrow::Cow;

use leakwatch_common::Counter;

use super::float;
use crate::observe::Counters;

/// One kind of loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Name, `snake_case`: that of the kernel's counter, or one of the constants of this module. A report that was read from
    /// a file may have names that a newer leakwatch gave.
    pub name: Cow<'static, str>,
    /// How often, since attach.
    pub count: u64,
}

/// Name of the figure: tasks that the last census could not read.
pub const CENSUS_UNREADABLE: &str = "census_unreadable";
/// Name of the figure: sites beyond [`super::Limits::sites`], counted together.
pub const SITES_OVER_LIMIT: &str = "sites_over_limit";

/// The kernel counters that are losses, with whether they make counts wrong (not only details unknown).
const KERNEL: [(Counter, bool); 14] = [
    (Counter::TaskUnreadable, true),
    (Counter::StartWithoutEnd, true),
    (Counter::EndWithoutStart, false),
    (Counter::FactsUnreadable, true),
    (Counter::SiteTableFull, true),
    (Counter::LiveTableFull, false),
    (Counter::RingFull, false),
    (Counter::DescriptorMissing, true),
    (Counter::TracepointUnreadable, false),
    (Counter::StacksSkipped, false),
    (Counter::StackUnreadable, false),
    (Counter::ChildTableFull, false),
    (Counter::ThreadEndWithoutStart, false),
    (Counter::FramesUnreadable, false),
];

/// All losses of a process since attach.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// Those that happened, in a fixed order.
    pub named: Vec<Loss>,
    /// Share of the starts and ends, 0 to 1, whose loss makes a site's counts wrong.
    pub miscounted_share: f64,
}

impl Losses {
    /// How often this one happened.
    pub fn count(&self, name: &str) -> u64 {
        self.named.iter().find(|loss| loss.name == name).map_or(0, |loss| loss.count)
    }

    /// Gathers losses from the kernel's counters and the model's own.
    pub(super) fn gather(counters: &Counters, own: [Loss; 2]) -> Self {
        let kernel = KERNEL
            .iter()
            .map(|(counter, _)| Loss { name: counter.name().into(), count: counters.get(*counter) });
        let named = kernel.chain(own).filter(|loss| loss.count > 0).collect();
        let wrong = KERNEL
            .iter()
            .filter(|(_, wrong)| *wrong)
            .fold(0u64, |sum, (counter, _)| sum.saturating_add(counters.get(*counter)));
        let seen = counters.get(Counter::Started).saturating_add(counters.get(Counter::Ended));
        let share = if wrong == 0 { 0.0 } else { (float(wrong) / float(seen.max(wrong))).clamp(0.0, 1.0) };
        Self { named, miscounted_share: share }
    }
}

#[cfg(test)]
mod tests {
    use leakwatch_common::COUNTERS;

    use super::*;

    #[test]
    fn only_what_happened_is_named() {
        let mut counters = Counters([0; COUNTERS]);
        counters.0[Counter::Started as usize] = 90;
        counters.0[Counter::Ended as usize] = 10;
        counters.0[Counter::RingFull as usize] = 7;
        counters.0[Counter::TaskUnreadable as usize] = 5;
        let own = [
            Loss { name: CENSUS_UNREADABLE.into(), count: 0 },
            Loss { name: SITES_OVER_LIMIT.into(), count: 2 },
        ];
        let losses = Losses::gather(&counters, own);
        assert_eq!(losses.named.len(), 3);
        assert_eq!(losses.count("ring_full"), 7);
        assert!((losses.miscounted_share - 0.05).abs() < 1e-12, "a full ring makes no count wrong");
    }
}
