//! `[promote]`: when a process gets probes, and what no key says alone. It must never know what probes cost: that is `[budget]`.

use super::key::{Default, Key, Section};
use crate::{
    agent::daemon::options::Promote,
    config::values::{count, duration, flag, number},
};

/// `[promote]`.
pub(super) const PROMOTE: Section = Section {
    name: "promote",
    about: "Which processes get probes for a while: those that look as if they leaked.",
    keys: &[
        Key {
            name: "enabled",
            default: Default::Is("true"),
            doc: "Place probes at all.",
            set: |options, value| {
                options.promote.enabled = flag(value)?;
                Ok(())
            },
        },
        Key {
            name: "at_once",
            default: Default::Is("4"),
            doc: "Processes with probes at once.",
            set: |options, value| {
                options.promote.at_once = count(value, 0, 1000)?;
                Ok(())
            },
        },
        Key {
            name: "growth_per_min",
            default: Default::Is("60.0"),
            doc: "A process whose live tasks grow by this many a minute gets probes, as one with a site that is suspect does.",
            set: |options, value| {
                options.promote.growth_per_min = number(value)?;
                Ok(())
            },
        },
        Key {
            name: "hold",
            default: Default::Is("\"5m\""),
            doc: "Probes stay for this long after nothing is suspicious any more.",
            set: |options, value| {
                options.promote.hold = duration(value)?;
                Ok(())
            },
        },
        Key {
            name: "longest",
            default: Default::Is("\"15m\""),
            doc: "And never longer than this.",
            set: |options, value| {
                options.promote.longest = duration(value)?;
                Ok(())
            },
        },
        Key {
            name: "rest",
            default: Default::Is("\"30m\""),
            doc: "A process gets none for this long after they were taken off.",
            set: |options, value| {
                options.promote.rest = duration(value)?;
                Ok(())
            },
        },
    ],
};

/// What no key says alone.
pub(super) fn check(promote: &Promote) -> Result<(), String> {
    if promote.longest < promote.hold {
        return Err("[promote] longest is shorter than hold".to_owned());
    }
    Ok(())
}
