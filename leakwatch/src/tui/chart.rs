//! Curves and histograms as lines of text. Pure: figures in, signs out, for any size.
//!
//! What is not known is a gap, never a zero. Every curve starts at zero unless the caller says, beside it, where it does.

use super::look::Look;

/// The course of a figure in one line: `width` columns, from nothing to its greatest value.
pub(super) fn spark(columns: &[Option<f64>], look: Look) -> String {
    let top = columns.iter().flatten().copied().fold(0.0, f64::max);
    columns.iter().map(|value| eighth(value.map(|value| share(value, 0.0, top)), look)).collect()
}

/// A chart of `height` lines, the top one first: a column for each value, from `low` to `high`.
pub(super) fn bars(columns: &[Option<f64>], height: usize, low: f64, high: f64, look: Look) -> Vec<String> {
    let rows = (0..height).rev();
    rows.map(|row| {
        let column = |value: &Option<f64>| {
            let within = value.map(|value| {
                let filled = share(value, low, high) * float(height) - float(row);
                // What is there at all is seen.
                if row == 0 && value > low { filled.max(0.125) } else { filled }
            });
            eighth(within.map(|filled| filled.clamp(0.0, 1.0)), look)
        };
        columns.iter().map(column).collect()
    })
    .collect()
}

/// How far `value` is on the way from `low` to `high`, 0 to 1.
fn share(value: f64, low: f64, high: f64) -> f64 {
    let share = (value - low) / (high - low);
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

/// The sign for a column filled by this share; a blank where nothing is known.
fn eighth(share: Option<f64>, look: Look) -> char {
    let signs = look.eighths();
    let index = share.map_or(0, |share| index(share * 8.0)).min(8);
    signs.get(index).copied().unwrap_or(' ')
}

/// A course of values over time, `(time, value)` in the order of time, as `width` columns: the greatest value in each
/// column's stretch, or the last one before it. Before the first nothing is known.
pub(super) fn over_time(points: &[(f64, f64)], width: usize) -> Vec<Option<f64>> {
    let (Some(&(first, _)), Some(&(last, _))) = (points.first(), points.last()) else {
        return vec![None; width];
    };
    let span = last - first;
    let mut columns = vec![None::<f64>; width];
    for &(at, value) in points {
        let place = if span > 0.0 { (at - first) / span * float(width) } else { float(width) };
        if let Some(column) = columns.get_mut(index(place).min(width.saturating_sub(1))) {
            *column = Some(column.map_or(value, |most| most.max(value)));
        }
    }
    let mut before = None;
    for column in &mut columns {
        before = column.or(before);
        *column = before;
    }
    columns
}

/// Values of equal weight over `width` columns: each has several, or several share one, which has their greatest.
pub(super) fn spread(values: &[f64], width: usize) -> Vec<Option<f64>> {
    let column = |at: usize| {
        let first = at * values.len() / width.max(1);
        let end = ((at + 1) * values.len() / width.max(1)).max(first + 1);
        values.get(first..end.min(values.len())).and_then(|some| some.iter().copied().reduce(f64::max))
    };
    (0..width).map(column).collect()
}

/// As many of the last values as there are columns; fewer stand at the right.
pub(super) fn latest(values: &[Option<f64>], width: usize) -> Vec<Option<f64>> {
    let taken = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    std::iter::repeat_n(None, width - taken.len()).chain(taken.iter().copied()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "columns of a terminal")]
const fn float(number: usize) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and what is no number becomes 0"
)]
const fn index(value: f64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: Look = Look { colors: super::super::look::Colors::None, ascii: false };

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn a_course_in_one_line() {
        assert_eq!(spark(&some(&[0.0, 1.0, 4.0, 8.0]), UTF8), " ▁▄█");
        assert_eq!(spark(&[None, Some(1.0)], UTF8), " █", "a gap where nothing is known");
        assert_eq!(spark(&some(&[0.0, 0.0]), UTF8), "  ");
        assert_eq!(spark(&some(&[1.0, f64::NAN]), UTF8), "█ ");
    }

    #[test]
    fn a_chart_of_several_lines() {
        let rows = bars(&some(&[0.0, 4.0, 8.0, 16.0, 0.01]), 2, 0.0, 16.0, UTF8);
        assert_eq!(rows, ["   █ ", " ▄██▁"], "what is there at all is seen");
        assert!(bars(&some(&[1.0]), 0, 0.0, 1.0, UTF8).is_empty());
        let zoomed = bars(&some(&[100.0, 104.0]), 1, 100.0, 104.0, UTF8);
        assert_eq!(zoomed, [" █"]);
    }

    #[test]
    fn time_is_stretched_and_thinned() {
        let points = [(0.0, 1.0), (5.0, 9.0), (5.1, 2.0), (10.0, 3.0)];
        assert_eq!(over_time(&points, 4), some(&[1.0, 1.0, 9.0, 3.0]), "peaks are not lost");
        assert_eq!(over_time(&points, 1), some(&[9.0]));
        assert_eq!(over_time(&[(3.0, 7.0)], 3), [None, None, Some(7.0)]);
        assert_eq!(over_time(&[], 2), [None, None]);
        assert_eq!(over_time(&points, 0), []);
        assert_eq!(latest(&some(&[1.0, 2.0, 3.0]), 2), some(&[2.0, 3.0]));
        assert_eq!(latest(&some(&[1.0]), 3), [None, None, Some(1.0)]);
        assert_eq!(spread(&[1.0, 2.0], 4), some(&[1.0, 1.0, 2.0, 2.0]));
        assert_eq!(spread(&[1.0, 5.0, 2.0, 3.0], 2), some(&[5.0, 3.0]));
        assert_eq!(spread(&[], 2), [None, None]);
    }
}
