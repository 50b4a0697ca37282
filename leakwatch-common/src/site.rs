//! Per-site counters: how many tasks a creation site started and ended, and how long they lived.

/// Key of the site table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct SiteKey {
    /// Creation site, 0 unknown.
    pub site: u64,
    /// Entry function, 0 unknown.
    pub entry: u64,
    /// [`crate::ProcessSlot::incarnation`].
    pub process: u32,
    /// [`crate::RuntimeKind`] id.
    pub runtime: u32,
}

/// Number of lifetime buckets: two an octave, from below 1.02 us to 73 min and above.
pub const LIFETIME_BUCKETS: usize = 64;

/// The first bucket boundary is 2^`FIRST_EXPONENT` ns.
const FIRST_EXPONENT: u32 = 10;

/// Value of the site table. All fields only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
#[repr(C)]
pub struct SiteCounters {
    /// Tasks started.
    pub started: u64,
    /// Keeps starts and ends in different cache lines: they happen on different CPUs, and a line that two CPUs write
    /// costs more than all the rest of a probe.
    pub apart: [u64; 7],
    /// Tasks ended.
    pub ended: u64,
    /// Of `ended`: counted by [`crate::Counter::EndedBeforeSeen`].
    pub ended_before_seen: u64,
    /// Tasks that the census took for alive although their end, not counted yet, was under way: their address was
    /// started anew while the census ran. They were not alive at attach.
    pub seen_in_vain: u64,
    /// Lifetimes of ended tasks whose birth was seen, by [`lifetime_bucket`].
    pub lifetimes: [u64; LIFETIME_BUCKETS],
}

impl Default for SiteCounters {
    fn default() -> Self {
        Self {
            started: 0,
            apart: [0; 7],
            ended: 0,
            ended_before_seen: 0,
            seen_in_vain: 0,
            lifetimes: [0; LIFETIME_BUCKETS],
        }
    }
}

/// Bucket of a lifetime: 0 is below 1024 ns, then two buckets an octave (a half octave ends at 1.5 x the
/// power of two), the last one is open.
#[inline]
pub const fn lifetime_bucket(lifetime_ns: u64) -> usize {
    if lifetime_ns < 1 << FIRST_EXPONENT {
        return 0;
    }
    let exponent = lifetime_ns.ilog2();
    let half = (lifetime_ns >> (exponent - 1)) & 1;
    let bucket = ((exponent - FIRST_EXPONENT) as usize) * 2 + half as usize + 1;
    if bucket < LIFETIME_BUCKETS { bucket } else { LIFETIME_BUCKETS - 1 }
}

/// Smallest lifetime, in ns, that falls into this bucket.
pub const fn bucket_floor_ns(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let step = bucket - 1;
    let exponent = FIRST_EXPONENT as usize + step / 2;
    if step.is_multiple_of(2) { 1 << exponent } else { 3 << (exponent - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_without_gap() {
        for bucket in 1..LIFETIME_BUCKETS {
            let floor = bucket_floor_ns(bucket);
            assert_eq!(lifetime_bucket(floor), bucket, "floor {floor}");
            assert_eq!(lifetime_bucket(floor - 1), bucket - 1, "below {floor}");
        }
        assert_eq!(lifetime_bucket(u64::MAX), LIFETIME_BUCKETS - 1);
    }
}
