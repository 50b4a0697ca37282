//! The only reader of time: everywhere else it is an argument.
#![expect(clippy::disallowed_methods, reason = "this is the module that the ban points to")]

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, Interval, interval_at};

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns` and of Go's `nanotime`.
pub fn monotonic_ns() -> u64 {
    read_ns(ClockId::Monotonic)
}

/// Time since the machine was booted, also while it slept: what processes' start times are counted in.
pub fn since_boot() -> Duration {
    Duration::from_nanos(read_ns(ClockId::Boottime))
}

/// Processor time that this process has used, ns.
pub fn own_cpu_ns() -> u64 {
    read_ns(ClockId::ProcessCPUTime)
}

/// Processor time that the calling thread has used, ns.
pub fn own_thread_cpu_ns() -> u64 {
    read_ns(ClockId::ThreadCPUTime)
}

fn read_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Ticks once a `period`, for the first time after one.
pub fn ticks(period: Duration) -> Interval {
    interval_at(Instant::now() + period, period)
}
