//! `[sampling]`: how often processes are looked at. It must never know how long a look takes.

use super::key::{Default, Key, Section};
use crate::config::values::{duration, flag, percent};

/// `[sampling]`.
pub(super) const SAMPLING: Section = Section {
    name: "sampling",
    about: "How often processes are looked at.",
    keys: &[
        Key {
            name: "interval",
            default: Default::Is("\"10s\""),
            doc: "Least time between two looks at a process.",
            set: |options, value| {
                options.sampling.interval = duration(value)?;
                Ok(())
            },
        },
        Key {
            name: "stacks",
            default: Default::Is("true"),
            doc: "Read where tasks wait, too.",
            set: |options, value| {
                options.sampling.stacks = flag(value)?;
                Ok(())
            },
        },
        Key {
            name: "cpu_percent",
            default: Default::Is("1.0"),
            doc: "Percent of one core that all looks together may take; where it would be more, they become rarer.",
            set: |options, value| {
                options.sampling.cpu_percent = percent(value)?;
                Ok(())
            },
        },
    ],
};
