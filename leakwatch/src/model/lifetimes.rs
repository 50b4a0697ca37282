//! Percentiles of ended tasks' lifetimes, from the kernel's logarithmic histogram.

use leakwatch_common::{LIFETIME_BUCKETS, bucket_floor_ns};

use super::{float, seconds};

/// The `q`-quantile (0 to 1) in seconds, interpolated inside its bucket: geometrically, as the buckets are,
/// linearly in the first, which begins at 0. The last bucket has no upper end and answers with its lower one.
///
/// `None` when nothing ended. Buckets are half octaves, so the true value is within a factor of 1.5.
pub fn quantile_s(lifetimes: &[u64; LIFETIME_BUCKETS], q: f64) -> Option<f64> {
    let total: u64 = lifetimes.iter().fold(0, |sum, count| sum.saturating_add(*count));
    if total == 0 {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * float(total);
    let mut below = 0.0;
    let mut last = 0;
    for (bucket, &count) in lifetimes.iter().enumerate().filter(|(_, count)| **count > 0) {
        last = bucket;
        let count = float(count);
        if rank <= below + count {
            return Some(inside(bucket, ((rank - below) / count).clamp(0.0, 1.0)));
        }
        below += count;
    }
    Some(inside(last, 1.0))
}

/// The lifetime at `share` (0 to 1) of the way through a bucket, in seconds.
fn inside(bucket: usize, share: f64) -> f64 {
    let floor = seconds(bucket_floor_ns(bucket));
    if bucket + 1 >= LIFETIME_BUCKETS {
        return floor;
    }
    let ceiling = seconds(bucket_floor_ns(bucket + 1));
    if bucket == 0 { ceiling * share } else { floor * (ceiling / floor).powf(share) }
}

#[cfg(test)]
mod tests {
    use leakwatch_common::lifetime_bucket;

    use super::*;

    #[test]
    fn nothing_ended_is_unknown() {
        assert_eq!(quantile_s(&[0; LIFETIME_BUCKETS], 0.5), None);
    }

    #[test]
    fn stays_inside_the_bucket() {
        let mut lifetimes = [0; LIFETIME_BUCKETS];
        lifetimes[lifetime_bucket(5_000_000)] = 99;
        lifetimes[lifetime_bucket(2_000_000_000)] = 1;
        let p50 = quantile_s(&lifetimes, 0.5).unwrap();
        let p995 = quantile_s(&lifetimes, 0.995).unwrap();
        assert!((0.0041..0.0063).contains(&p50), "{p50}");
        assert!((1.6..2.2).contains(&p995), "{p995}");
    }

    #[test]
    fn open_bucket_answers_its_floor() {
        let mut lifetimes = [0; LIFETIME_BUCKETS];
        lifetimes[LIFETIME_BUCKETS - 1] = 1;
        let floor = seconds(bucket_floor_ns(LIFETIME_BUCKETS - 1));
        assert_eq!(quantile_s(&lifetimes, 0.99), Some(floor));
    }
}
