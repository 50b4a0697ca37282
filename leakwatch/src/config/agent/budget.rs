//! `[budget]`: what watching may cost. It must never do the sums: those are `agent::daemon::tiers`'.

use super::key::{Default, Key, Section};
use crate::config::values::{duration, percent};

/// `[budget]`.
pub(super) const BUDGET: Section = Section {
    name: "budget",
    about: "What watching may cost. Over it, probes are thinned, then taken off, and the figures say so.",
    keys: &[
        Key {
            name: "host_percent",
            default: Default::Is("1.0"),
            doc: "Percent of the machine: the probes of all processes, and the agent itself.",
            set: |options, value| {
                options.budget.host_percent = percent(value)?;
                Ok(())
            },
        },
        Key {
            name: "process_percent",
            default: Default::Is("2.0"),
            doc: "Percent of one core that probes may add to a process.",
            set: |options, value| {
                options.budget.process_percent = percent(value)?;
                Ok(())
            },
        },
        Key {
            name: "period",
            default: Default::Is("\"1m\""),
            doc: "Over this time. Probes that cost more are on for a part of each such time, so that it is no more over all of it; where\n\
              that would be less than a tenth of the time, they are taken off.",
            set: |options, value| {
                options.budget.period = duration(value)?;
                Ok(())
            },
        },
    ],
};
