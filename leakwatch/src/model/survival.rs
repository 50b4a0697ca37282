//! Which share of a site's tasks never ends: survival of its tasks, with those still alive as right-censored.
//!
//! Kaplan and Meier, "Nonparametric estimation from incomplete observations", JASA 53 (1958), on the half-octave buckets
//! of the kernel's histogram: the life table of Cutler and Ederer, "Maximum utilization of the life table method in
//! analyzing survival", Journal of Chronic Diseases 8 (1958), where a task censored inside a bucket counts as half at
//! risk there. Variance by Greenwood's formula; interval by Wilson's score with the effective sample size that this
//! variance stands for, so that it stays within 0 and 1 and says something when nothing ended.
//!
//! Pure arithmetic. It judges nothing: a plateau on a short scale may end on a longer one.

use leakwatch_common::{LIFETIME_BUCKETS, bucket_floor_ns};

use super::{float, seconds};
use crate::observe::Histogram;

/// The scale of lives is the age by which this share of the ended tasks had ended.
const SCALE_QUANTILE: f64 = 0.99;

/// A task that is this many scales old belongs to the plateau, not to the body of the distribution.
const BEYOND: f64 = 3.0;

/// Fewest ends from which a scale is known.
const ENDS_LEAST: u64 = 5;

/// Two-sided 95 %.
const Z: f64 = 1.959_964;

/// What is known of the share of tasks that never ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plateau {
    /// The share, 0 to 1.
    pub share: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
    /// The scale on which the others end, seconds; `None`: too few ended to know one.
    pub scale_s: Option<f64>,
    /// Live tasks that are older than three scales; without a scale, all whose birth was seen.
    pub survivors: u64,
    /// Tasks that ended after three scales: what passes for a plateau still falls.
    pub late_ends: u64,
}

/// A step of the survival curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Age, seconds: the end of a bucket.
    pub age_s: f64,
    /// Share of the tasks that live longer.
    pub share: f64,
}

/// The plateau of tasks of which `ended` ended and `alive` are alive, by lifetime and by age. `None` when nothing was
/// born or when nobody could have grown old enough yet.
pub fn plateau(ended: &Histogram, alive: &Histogram) -> Option<Plateau> {
    let deaths = sum(ended);
    let survivors = sum(alive);
    if deaths + survivors == 0 {
        return None;
    }
    let Some(scale) = scale_bucket(ended).filter(|_| deaths >= ENDS_LEAST) else {
        // Too few ends for a scale. Then all that can be said is which share has ended so far.
        let share = float(survivors) / float(deaths + survivors);
        let interval = wilson(share, float(deaths + survivors));
        return (survivors > 0).then_some(Plateau {
            share,
            interval,
            scale_s: None,
            survivors,
            late_ends: 0,
        });
    };
    let scale_s = ceiling_s(scale);
    let first_beyond = (0..LIFETIME_BUCKETS).find(|&bucket| floor_s(bucket) >= BEYOND * scale_s)?;
    let table = life_table(ended, alive);
    let at_risk = table.get(first_beyond).map_or(0.0, |row| row.at_risk);
    let before = table.get(first_beyond.checked_sub(1)?)?;
    if at_risk <= 0.0 && before.share > 0.0 {
        return None;
    }
    let last = table.iter().rev().find(|row| row.at_risk > 0.0)?;
    let effective = if last.share <= 0.0 || last.share >= 1.0 || last.variance <= 0.0 {
        float(deaths + survivors)
    } else {
        (last.share * (1.0 - last.share) / last.variance).max(1.0)
    };
    let beyond =
        |histogram: &Histogram| histogram.iter().skip(first_beyond).fold(0u64, |a, b| a.saturating_add(*b));
    Some(Plateau {
        share: last.share,
        interval: wilson(last.share, effective),
        scale_s: Some(scale_s),
        survivors: beyond(alive),
        late_ends: beyond(ended),
    })
}

/// The survival curve, from the first bucket in which something ended or is alive to the last.
pub fn curve(ended: &Histogram, alive: &Histogram) -> Vec<Step> {
    let table = life_table(ended, alive);
    let known = table.iter().enumerate().filter(|(_, row)| row.at_risk > 0.0);
    known
        .filter(|(bucket, row)| row.ended + row.alive > 0.0 || *bucket == 0)
        .map(|(bucket, row)| Step { age_s: ceiling_s(bucket), share: row.share })
        .collect()
}

/// A row of the life table: one bucket.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    ended: f64,
    alive: f64,
    /// Tasks that reached this age, those censored inside the bucket counted as half.
    at_risk: f64,
    /// Share that outlives the bucket.
    share: f64,
    /// Greenwood's variance of that share.
    variance: f64,
}

fn life_table(ended: &Histogram, alive: &Histogram) -> Vec<Row> {
    let mut reached = float(sum(ended).saturating_add(sum(alive)));
    let (mut share, mut spread) = (1.0, 0.0);
    let mut rows = Vec::with_capacity(LIFETIME_BUCKETS);
    for (&ended, &alive) in ended.iter().zip(alive.iter()) {
        let (ended, alive) = (float(ended), float(alive));
        let at_risk = (reached - alive / 2.0).max(0.0);
        if at_risk > 0.0 {
            share *= (1.0 - ended / at_risk).clamp(0.0, 1.0);
            if ended < at_risk {
                spread += ended / (at_risk * (at_risk - ended));
            }
        }
        rows.push(Row { ended, alive, at_risk, share, variance: share * share * spread });
        reached = (reached - ended - alive).max(0.0);
    }
    rows
}

/// The bucket in which the scale of lives lies.
fn scale_bucket(ended: &Histogram) -> Option<usize> {
    let total = sum(ended);
    let mut so_far = 0u64;
    for (bucket, &count) in ended.iter().enumerate() {
        so_far = so_far.saturating_add(count);
        if count > 0 && float(so_far) >= SCALE_QUANTILE * float(total) {
            return Some(bucket);
        }
    }
    None
}

/// Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
fn wilson(share: f64, n: f64) -> (f64, f64) {
    let z2 = Z * Z;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
    ((middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0))
}

fn sum(histogram: &Histogram) -> u64 {
    histogram.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

fn floor_s(bucket: usize) -> f64 {
    seconds(bucket_floor_ns(bucket))
}

fn ceiling_s(bucket: usize) -> f64 {
    if bucket + 1 < LIFETIME_BUCKETS { floor_s(bucket + 1) } else { floor_s(bucket) }
}

#[cfg(test)]
mod tests {
    use leakwatch_common::lifetime_bucket;
    use proptest::prelude::*;

    use super::*;

    fn of(counts: &[(f64, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for &(age_s, count) in counts {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ages of a test")]
            let bucket = lifetime_bucket((age_s * 1e9) as u64);
            histogram.count(bucket, count);
        }
        histogram
    }

    #[test]
    fn one_in_five_hundred_is_seen() {
        // 50,000 requests of some ms, 100 of which never end, spread over a minute.
        let ended = of(&[(0.004, 40_000), (0.02, 9_900)]);
        let alive = of(&[(1.0, 20), (10.0, 30), (45.0, 50)]);
        let plateau = plateau(&ended, &alive).expect("a plateau");
        assert!((plateau.share - 0.002).abs() < 2e-4, "{plateau:?}");
        assert!(plateau.interval.0 > 0.001 && plateau.interval.1 < 0.003, "{plateau:?}");
        assert_eq!((plateau.survivors, plateau.late_ends), (100, 0));
        assert!(plateau.scale_s.is_some_and(|scale| scale < 0.05), "{plateau:?}");
    }

    #[test]
    fn those_that_are_only_young_are_no_plateau() {
        // Tasks of about a second; the live ones are younger than that.
        let plateau = plateau(&of(&[(0.9, 1_000), (1.2, 500)]), &of(&[(0.1, 40), (0.5, 40)]));
        assert!(
            plateau.is_none_or(|plateau| plateau.interval.0 < 0.001 && plateau.survivors == 0),
            "{plateau:?}"
        );
    }

    #[test]
    fn nothing_ended_is_told_without_a_scale() {
        let plateau = plateau(&of(&[]), &of(&[(3.0, 50), (20.0, 450)])).expect("a plateau");
        assert_eq!((plateau.scale_s, plateau.survivors), (None, 500));
        assert!((plateau.share - 1.0).abs() < 1e-9 && plateau.interval.0 > 0.99, "{plateau:?}");
        assert_eq!(super::plateau(&of(&[]), &of(&[])), None);
    }

    #[test]
    fn all_ended_is_a_share_of_nothing() {
        let plateau = plateau(&of(&[(0.01, 10_000)]), &of(&[])).expect("known: none is left");
        assert!(plateau.share.abs() < 1e-9 && plateau.interval.1 < 0.001, "{plateau:?}");
    }

    #[test]
    fn the_curve_falls_to_the_plateau() {
        let curve = curve(&of(&[(0.01, 90)]), &of(&[(30.0, 10)]));
        let shares: Vec<f64> = curve.iter().map(|step| step.share).collect();
        assert!(shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
        assert!((shares.last().unwrap() - 0.1).abs() < 1e-9, "{shares:?}");
    }

    #[test]
    fn the_life_table_agrees_with_a_worked_example() {
        // No censoring: the share is the plain one and Greenwood's variance that of a binomial.
        let table = life_table(&of(&[(1.0, 60), (100.0, 40)]), &of(&[]));
        let row = table[lifetime_bucket(1_000_000_000)];
        assert!(
            (row.share - 0.4).abs() < 1e-12 && (row.variance - 0.4 * 0.6 / 100.0).abs() < 1e-12,
            "{row:?}"
        );
    }

    proptest! {
        #[test]
        fn shares_and_intervals_are_shares(
            ended in proptest::collection::vec((0usize..LIFETIME_BUCKETS, 0u64..1_000_000), 0..12),
            alive in proptest::collection::vec((0usize..LIFETIME_BUCKETS, 0u64..1_000_000), 0..12),
        ) {
            let fill = |counts: &[(usize, u64)]| {
                let mut histogram = Histogram::default();
                for &(bucket, count) in counts {
                    histogram.count(bucket, count);
                }
                histogram
            };
            let (ended, alive) = (fill(&ended), fill(&alive));
            if let Some(plateau) = plateau(&ended, &alive) {
                let (low, high) = plateau.interval;
                prop_assert!((0.0..=1.0).contains(&low) && low <= plateau.share && plateau.share <= high && high <= 1.0);
            }
            prop_assert!(curve(&ended, &alive).iter().all(|step| (0.0..=1.0).contains(&step.share)));
        }
    }
}
