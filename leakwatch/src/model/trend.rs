//! Trends in a short series: robust slope and a test for monotone growth. Pure arithmetic.
//!
//! Theil-Sen: H. Theil, "A rank-invariant method of linear and polynomial regression analysis" (1950);
//! P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
//! Mann-Kendall: H. B. Mann, "Nonparametric tests against trend", Econometrica 13 (1945); M. G. Kendall,
//! "Rank Correlation Methods" (1975); variance with ties as in R. O. Gilbert, "Statistical Methods for
//! Environmental Pollution Monitoring" (1987), formula 16.2.

use super::float;

/// Most points that enter a trend: pairs grow with the square, and 24 points give 276 of them.
pub const MOST_POINTS: usize = 24;

/// Result of the Mann-Kendall test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannKendall {
    /// Rising pairs minus falling pairs.
    pub s: i64,
    /// `s` in standard deviations, with continuity correction; 0 when nothing varies.
    pub z: f64,
    /// Chance of a rise at least this strong in a series without trend (one-sided), 0 to 1.
    pub p_rising: f64,
}

/// Indices of at most `most` of `len` points, evenly spread, first and last among them.
pub fn thin(len: usize, most: usize) -> Vec<usize> {
    if len <= most || most < 2 {
        return (0..len).collect();
    }
    (0..most).map(|index| index * (len - 1) / (most - 1)).collect()
}

/// The median of all pairwise slopes of `(x, y)` points, in y per x. Pairs with equal x say nothing.
///
/// `None` without a single pair. Costs the square of the number of points: [`thin`] long series first.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (index, &(x0, y0)) in points.iter().enumerate() {
        for &(x1, y1) in points.iter().skip(index + 1) {
            let slope = (y1 - y0) / (x1 - x0);
            if slope.is_finite() {
                slopes.push(slope);
            }
        }
    }
    median(&mut slopes)
}

/// The median; `None` of nothing. Reorders its argument.
pub fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let odd = !values.len().is_multiple_of(2);
    if values.is_empty() {
        return None;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return Some(upper);
    }
    let lower = below.iter().copied().max_by(f64::total_cmp)?;
    Some(f64::midpoint(lower, upper))
}

/// Tests a series, in time order, for a rising trend.
pub fn mann_kendall(values: &[u64]) -> MannKendall {
    let mut s: i64 = 0;
    for (index, earlier) in values.iter().enumerate() {
        for later in values.iter().skip(index + 1) {
            s += match later.cmp(earlier) {
                std::cmp::Ordering::Greater => 1,
                std::cmp::Ordering::Equal => 0,
                std::cmp::Ordering::Less => -1,
            };
        }
    }
    let variance = variance_of_s(values);
    let steps = float(s.unsigned_abs().saturating_sub(1)) * if s < 0 { -1.0 } else { 1.0 };
    let z = if variance > 0.0 { steps / variance.sqrt() } else { 0.0 };
    MannKendall { s, z, p_rising: upper_tail(z) }
}

/// Variance of S under "no trend", with the correction for tied groups.
fn variance_of_s(values: &[u64]) -> f64 {
    let term = |n: f64| n * (n - 1.0) * 2.0f64.mul_add(n, 5.0);
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let ties: f64 = sorted.chunk_by(|a, b| a == b).map(|group| term(float(group.len() as u64))).sum();
    (term(float(values.len() as u64)) - ties) / 18.0
}

/// P(Z >= z) of the standard normal distribution: Abramowitz and Stegun, "Handbook of Mathematical Functions"
/// (1964), formula 26.2.17; absolute error below 7.5e-8.
pub fn upper_tail(z: f64) -> f64 {
    const B: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let x = z.abs();
    let t = 1.0 / 0.231_641_9f64.mul_add(x, 1.0);
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = (density * t * B.iter().rev().fold(0.0, |sum: f64, b| sum.mul_add(t, *b))).clamp(0.0, 0.5);
    if z >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theil_sen_ignores_outliers() {
        let mut points: Vec<(f64, f64)> =
            (0..20u32).map(|x| (f64::from(x), 3.0 * f64::from(x) + 7.0)).collect();
        points[5].1 = 10_000.0;
        assert!((theil_sen(&points).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(theil_sen(&[(1.0, 2.0)]), None);
        assert_eq!(theil_sen(&[(1.0, 2.0), (1.0, 3.0)]), None, "no time passed");
    }

    #[test]
    fn mann_kendall_agrees_with_published_values() {
        // Gilbert (1987): n = 10 without ties has VAR(S) = 125; a strictly rising series has S = 45.
        let rising = mann_kendall(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(rising.s, 45);
        assert!((rising.z - 44.0 / 125.0f64.sqrt()).abs() < 1e-12);
        assert!(rising.p_rising < 1e-4);
        let falling = mann_kendall(&[3, 2, 1, 0]);
        assert_eq!(falling.s, -6);
        assert!(falling.p_rising > 0.9);
        let flat = mann_kendall(&[4; 12]);
        assert!(flat.s == 0 && flat.z.abs() < f64::EPSILON && (flat.p_rising - 0.5).abs() < 1e-6);
    }

    #[test]
    fn normal_tail_agrees_with_tables() {
        for (z, tail) in
            [(0.0, 0.5), (1.0, 0.158_655_25), (1.96, 0.024_997_9), (-1.0, 0.841_344_75), (40.0, 0.0)]
        {
            assert!((upper_tail(z) - tail).abs() < 1e-6, "z {z}");
        }
    }

    #[test]
    fn median_of_even_and_odd() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn thinning_keeps_both_ends() {
        assert_eq!(thin(3, 10), [0, 1, 2]);
        let kept = thin(100, 10);
        assert_eq!((kept.len(), kept[0], kept[9]), (10, 0, 99));
    }
}
