//! The only reader of time: everywhere else it is an argument.
#![expect(clippy::disallowed_methods, reason = "this is the module that the ban points to")]

use jiff::Timestamp;

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns` and of Go's `nanotime`.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}
