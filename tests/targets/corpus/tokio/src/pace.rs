//! When shapes do what they do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Age of the program in seconds.
pub fn now() -> f64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// A number from 0 to 1 that looks random: splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014).
pub fn random() -> f64 {
    static STATE: AtomicU64 = AtomicU64::new(7);
    let mut z = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// A time from low to high, in seconds.
pub fn between(low: f64, high: f64) -> Duration {
    Duration::from_secs_f64(low + random() * (high - low))
}

/// Waits for a time from low to high, in seconds.
pub async fn pause(low: f64, high: f64) {
    tokio::time::sleep(between(low, high)).await;
}

/// Calls `act` so many times a second, jittered, for ever.
pub async fn forever(rate: f64, act: impl FnMut()) {
    varying(|_| rate, act).await;
}

/// Calls `act` at a rate that depends on the program's age.
pub async fn varying(rate: impl Fn(f64) -> f64, mut act: impl FnMut()) {
    let (mut owed, mut last) = (random(), now());
    loop {
        pause(0.02, 0.06).await;
        let at = now();
        owed += (at - last) * rate(at);
        last = at;
        while owed >= 1.0 {
            owed -= 1.0;
            act();
        }
    }
}

/// A day in so many seconds: from 0 to 1 and back.
pub fn wave(at: f64, day: f64) -> f64 {
    (1.0 - (std::f64::consts::TAU * at / day).cos()) / 2.0
}
