//! How steadily a group of waiting tasks was there at the last looks: what stands at one place look after look is stuck
//! there, or made for it; what comes and goes works.
//!
//! Bounded by the groups that a site keeps. A group is known by a hash of its reason and stack.

use std::hash::{Hash as _, Hasher as _};

use rustc_hash::FxHasher;

use super::float;
use crate::observe::Waiting;

/// Looks that are remembered.
const LOOKS: u32 = 10;

/// The groups of a site at its last looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    /// Hash of a group, and a bit for each look in which it was there, the last one lowest.
    groups: Vec<(u64, u16)>,
    /// Looks so far, up to [`LOOKS`].
    looks: u32,
}

impl Presence {
    /// A look showed these groups.
    pub(super) fn take(&mut self, waiting: &[Waiting]) {
        self.looks = (self.looks + 1).min(LOOKS);
        for (_, seen) in &mut self.groups {
            *seen = *seen << 1 & ((1 << LOOKS) - 1);
        }
        for group in waiting {
            let hash = hash(group);
            match self.groups.iter_mut().find(|(known, _)| *known == hash) {
                Some((_, seen)) => *seen |= 1,
                None => self.groups.push((hash, 1)),
            }
        }
        self.groups.retain(|(_, seen)| *seen != 0);
    }

    /// The share of the last looks that showed it, 0 to 1; `None` before the first look.
    pub(super) fn share(&self, group: &Waiting) -> Option<f64> {
        let hash = hash(group);
        let seen = self.groups.iter().find(|(known, _)| *known == hash).map_or(0, |(_, seen)| *seen);
        (self.looks > 0).then(|| float(u64::from(seen.count_ones())) / float(u64::from(self.looks)))
    }
}

fn hash(group: &Waiting) -> u64 {
    let mut hasher = FxHasher::default();
    (&group.reason, &group.stack).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use leakwatch_common::RuntimeKind;

    use super::*;
    use crate::observe::SiteId;

    #[test]
    fn what_comes_and_goes_is_not_steady() {
        let group = |reason: &str| Waiting {
            site: SiteId { runtime: RuntimeKind::Go, site: 1, entry: 2 },
            reason: reason.to_owned(),
            stack: vec![7],
            count: 3,
            longest_ns: None,
            stack_bytes: 0,
        };
        let (stays, comes) = (group("chan receive"), group("select"));
        let mut presence = Presence::default();
        assert_eq!(presence.share(&stays), None);
        for look in 0..25 {
            let mut groups = vec![stays.clone()];
            groups.extend((look % 2 == 0).then(|| comes.clone()));
            presence.take(&groups);
        }
        assert_eq!((presence.share(&stays), presence.share(&comes)), (Some(1.0), Some(0.5)));
        (0..10).for_each(|_| presence.take(&[]));
        assert!(presence.groups.is_empty());
    }
}
