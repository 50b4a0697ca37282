//! `[prove]`: when it is proven which goroutines nothing alive can wake. It must never know what a process holds.

use super::key::{Default, Key, Section};
use crate::config::values::{duration, flag, percent, size};

/// `[prove]`.
pub(super) const PROVE: Section = Section {
    name: "prove",
    about: "Of Go processes that look as if they leaked it is proven which goroutines nothing alive can ever wake (docs/proof.md): \
            one proof at a time on the whole machine, and never while a dump is taken.",
    keys: &[
        Key {
            name: "enabled",
            default: Default::Is("true"),
            doc: "Prove at all. A proof reads all memory of the process, without a stop; it takes up to 2 s of one core and 40 MB \
                  for 1 GiB.",
            set: |options, value| {
                options.prove.enabled = flag(value)?;
                Ok(())
            },
        },
        Key {
            name: "every",
            default: Default::Is("\"1m\""),
            doc: "Least time between two proofs of one process. While they show no new site it doubles, up to sixteen times this.",
            set: |options, value| {
                options.prove.every = duration(value)?;
                Ok(())
            },
        },
        Key {
            name: "largest",
            default: Default::Is("\"1GiB\""),
            doc: "Of a process with more resident memory nothing is proven, and its report says so.",
            set: |options, value| {
                options.prove.largest = size(value)?;
                Ok(())
            },
        },
        Key {
            name: "cpu_percent",
            default: Default::Is("1.0"),
            doc: "Percent of one core that all proofs together may take, and never more than half of [budget] host_percent: after \
                  one, the next waits for as long as that takes.",
            set: |options, value| {
                options.prove.cpu_percent = percent(value)?;
                Ok(())
            },
        },
    ],
};
