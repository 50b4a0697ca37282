//! What lowers confidence: short observation and loss. Nothing here can raise it.

use crate::model::Losses;

/// Seconds of observation beyond which a longer one adds nothing.
const FULL_SPAN_S: f64 = 60.0;

/// Factor of loss, 0 to 1: 1 without loss, about a half when a tenth of the events was miscounted.
pub fn of_losses(losses: &Losses) -> f64 {
    1.0 / 10.0f64.mul_add(losses.miscounted_share.clamp(0.0, 1.0), 1.0)
}

/// Factor of the time observed, 0 to 1: the square root of its share of a minute.
pub fn of_span(span_s: f64) -> f64 {
    (span_s / FULL_SPAN_S).clamp(0.0, 1.0).sqrt()
}

/// A confidence as it is reported: within 0 and 1, in hundredths.
pub fn rounded(confidence: f64) -> f64 {
    if confidence.is_finite() { (confidence.clamp(0.0, 1.0) * 100.0).round() / 100.0 } else { 0.0 }
}
