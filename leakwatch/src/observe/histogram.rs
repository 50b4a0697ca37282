//! Counts of tasks by how long they lived, or how old they are.
//!
//! Most sites of most processes have none (their tasks are counted by memory, or never ended), and there are many: an empty one takes
//! a word. It must never hold anything but counts.

use std::{fmt, ops::Deref};

use leakwatch_common::LIFETIME_BUCKETS;

/// What one reads where nothing was counted.
static NOTHING: [u64; LIFETIME_BUCKETS] = [0; LIFETIME_BUCKETS];

/// Counts by [`leakwatch_common::lifetime_bucket`]. It is read as the array that it stands for.
#[derive(Clone, Default)]
pub struct Histogram(Option<Box<[u64; LIFETIME_BUCKETS]>>);

impl Histogram {
    /// So many more of one bucket; of one that there is not, none.
    pub fn count(&mut self, bucket: usize, more: u64) {
        if more == 0 || bucket >= LIFETIME_BUCKETS {
            return;
        }
        if let Some(count) = self.counts().get_mut(bucket) {
            *count = count.saturating_add(more);
        }
    }

    /// Those of another one, too.
    pub fn add(&mut self, other: &[u64; LIFETIME_BUCKETS]) {
        if *other == NOTHING {
            return;
        }
        for (sum, more) in self.counts().iter_mut().zip(other) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// Half of each count, rounded down.
    pub fn halve(&mut self) {
        if let Some(counts) = &mut self.0 {
            counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    fn counts(&mut self) -> &mut [u64; LIFETIME_BUCKETS] {
        self.0.get_or_insert_with(|| Box::new(NOTHING))
    }
}

impl Deref for Histogram {
    type Target = [u64; LIFETIME_BUCKETS];

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl From<[u64; LIFETIME_BUCKETS]> for Histogram {
    fn from(counts: [u64; LIFETIME_BUCKETS]) -> Self {
        Self((counts != NOTHING).then(|| Box::new(counts)))
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Histogram {}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().enumerate().filter(|(_, count)| **count > 0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_one_is_all_zeros_and_takes_no_room() {
        let mut counted = Histogram::default();
        counted.count(3, 0);
        counted.count(LIFETIME_BUCKETS, 1);
        counted.add(&NOTHING);
        counted.halve();
        assert!(counted.0.is_none());
        assert_eq!(*counted, NOTHING);
        assert_eq!(counted, Histogram::from(NOTHING));
        assert_eq!(size_of::<Histogram>(), size_of::<usize>());
    }

    #[test]
    fn counts_add_up_and_stay_at_their_most() {
        let mut counted = Histogram::default();
        counted.count(3, 5);
        counted.add(&Histogram::from(std::array::from_fn(|bucket| u64::from(bucket == 3))));
        assert_eq!(format!("{counted:?}"), "{3: 6}");
        counted.count(3, u64::MAX);
        counted.halve();
        assert_eq!(counted[3], u64::MAX / 2);
        counted.halve();
        counted = Histogram::from(std::array::from_fn(|bucket| u64::from(bucket == 3)));
        counted.halve();
        assert_eq!(counted, Histogram::default(), "what was counted, not how it is kept");
    }
}
