//! Lifetimes as the histograms that scrapers know.
//!
//! The kernel side counts lifetimes in half octaves of nanoseconds ([`leakwatch_common::lifetime_bucket`]). A classic
//! histogram gets some of those bounds, so its counts are exact. A native one has bounds at powers of the root of 2 in
//! seconds, which are no bounds of ours: each of ours goes as a whole to the one that holds its middle. Both kinds come
//! two an octave, so no two of ours meet in one, and a bound is off by a tenth at most.

use leakwatch_common::{LIFETIME_BUCKETS, bucket_floor_ns, lifetime_bucket};

use crate::report::{float, seconds};

/// Counts of lifetimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; LIFETIME_BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; LIFETIME_BUCKETS] }
    }
}

/// A native histogram of schema 1: the bound of bucket `i` is 2^(i/2) seconds, and it ends with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeBuckets {
    /// What is below [`NativeBuckets::ZERO_THRESHOLD`].
    pub zero: u64,
    /// Stretches of buckets: how many empty ones lie before it (of the first: its index), and how many it has.
    pub spans: Vec<(i32, u32)>,
    /// Counts of the buckets of all stretches.
    pub counts: Vec<u64>,
}

impl NativeBuckets {
    /// The schema's number: buckets grow by 2^(2^-1).
    pub const SCHEMA: i32 = 1;
    /// 2^-20 seconds: just below the microsecond that our first bucket ends with.
    pub const ZERO_THRESHOLD: f64 = 1.0 / 1_048_576.0;

    /// Each count less the one before it, as the protocols want them.
    pub fn deltas(&self) -> Vec<i64> {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut before = 0;
        let mut delta = |count: &u64| {
            let delta = signed(*count) - before;
            before = signed(*count);
            delta
        };
        self.counts.iter().map(&mut delta).collect()
    }
}

/// Bounds of the classic form, as places in the kernel's buckets: a factor of 4 apart, from a microsecond to 18 minutes.
const CLASSIC: [usize; 16] = [1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61];

impl Histogram {
    /// Adds tasks that lived for about so long.
    pub fn add(&mut self, lifetime_ns: u64, tasks: u64) {
        if let Some(count) = self.counts.get_mut(lifetime_bucket(lifetime_ns)) {
            *count = count.saturating_add(tasks);
        }
    }

    /// How many in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// An estimate of the sum of lifetimes in seconds: each is taken for the middle of its bucket, so it is within a
    /// fifth, but for lifetimes above an hour, which count as their bucket's beginning.
    pub fn sum_s(&self) -> f64 {
        self.counts.iter().enumerate().map(|(bucket, &count)| middle_s(bucket) * float(count)).sum()
    }

    /// Upper bounds in seconds and how many lived shorter; the last one, infinity, has all.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut sum = 0u64;
        let mut next = 0;
        let mut buckets = Vec::with_capacity(CLASSIC.len() + 1);
        for bound in CLASSIC {
            for count in self.counts.get(next..bound).unwrap_or_default() {
                sum = sum.saturating_add(*count);
            }
            next = bound;
            buckets.push((seconds(bucket_floor_ns(bound)), sum));
        }
        buckets.push((f64::INFINITY, self.count()));
        buckets
    }

    /// The native form.
    pub fn native(&self) -> NativeBuckets {
        let mut native =
            NativeBuckets { zero: self.counts.first().copied().unwrap_or(0), ..Default::default() };
        let mut end: Option<i32> = None;
        let filled = self.counts.iter().enumerate().skip(1).filter(|(_, count)| **count > 0);
        for (bucket, &count) in filled {
            let index = native_index(bucket);
            match (end, native.spans.last_mut()) {
                (Some(next), Some((_, length))) if index == next => *length += 1,
                (Some(next), Some(_)) => native.spans.push((index - next, 1)),
                _ => native.spans.push((index, 1)),
            }
            native.counts.push(count);
            end = Some(index + 1);
        }
        native
    }
}

/// The native bucket that holds the middle of one of ours.
#[expect(clippy::cast_possible_truncation, reason = "between -41 and 24")]
fn native_index(bucket: usize) -> i32 {
    (middle_s(bucket).log2() * 2.0).ceil() as i32
}

/// The middle of a bucket on a logarithmic scale; of the first, which begins at 0, half its end, and of the last, which
/// has no end, its beginning.
fn middle_s(bucket: usize) -> f64 {
    let floor = seconds(bucket_floor_ns(bucket));
    match bucket {
        0 => seconds(bucket_floor_ns(1)) / 2.0,
        last if last + 1 >= LIFETIME_BUCKETS => floor,
        _ => (floor * seconds(bucket_floor_ns(bucket + 1))).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_two_of_our_buckets_meet_in_a_native_one() {
        let indices: Vec<i32> = (1..LIFETIME_BUCKETS - 1).map(native_index).collect();
        assert!(indices.windows(2).all(|pair| pair[1] == pair[0] + 1), "{indices:?}");
    }

    proptest! {
        #[test]
        fn both_forms_have_every_task(lives in proptest::collection::vec((any::<u64>(), 1..1_000u64), 0..50)) {
            let mut histogram = Histogram::default();
            for (lifetime_ns, tasks) in &lives {
                histogram.add(*lifetime_ns, *tasks);
            }
            let all: u64 = lives.iter().map(|(_, tasks)| tasks).sum();
            let classic = histogram.cumulative();
            prop_assert_eq!(classic.last().expect("infinity").1, all);
            prop_assert!(classic.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].0 < pair[1].0));
            for (bound, count) in &classic {
                let below = lives.iter().filter(|(ns, _)| seconds(*ns) < *bound);
                prop_assert_eq!(*count, below.map(|(_, tasks)| tasks).sum::<u64>());
            }
            let native = histogram.native();
            prop_assert_eq!(native.zero + native.counts.iter().sum::<u64>(), all);
            let lengths: u32 = native.spans.iter().map(|(_, length)| length).sum();
            prop_assert_eq!(lengths as usize, native.counts.len());
            prop_assert!(native.spans.iter().skip(1).all(|(gap, _)| *gap > 0));
        }
    }
}
