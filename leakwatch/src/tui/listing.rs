//! A list that is sorted, filtered and moved in. It knows neither rows nor screens.
//!
//! The cursor follows what it was put on, wherever that goes; until it is moved for the first time it stays at the top,
//! where the worst is.

use std::cmp::Ordering;

/// Rows in an order, and the place in them.
#[derive(Clone, Debug)]
pub(super) struct Listing<K> {
    /// Places of the shown rows in what they are rows of, in the order in which they are shown.
    order: Vec<usize>,
    /// The row of the cursor, in `order`.
    cursor: usize,
    /// What the cursor was put on.
    held: Option<K>,
    /// First row that is on the screen.
    top: usize,
}

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self { order: Vec::new(), cursor: 0, held: None, top: 0 }
    }
}

impl<K: PartialEq> Listing<K> {
    /// Takes a new order; `key` is what stands at a place.
    pub(super) fn arrange(&mut self, order: Vec<usize>, key: impl Fn(usize) -> K) {
        self.order = order;
        let held = self.held.as_ref();
        let found = held.and_then(|held| self.order.iter().position(|&place| key(place) == *held));
        self.cursor = match (found, held) {
            (Some(row), _) => row,
            (None, Some(_)) => self.cursor.min(self.order.len().saturating_sub(1)),
            (None, None) => 0,
        };
    }

    /// Puts the cursor on a row.
    pub(super) fn go(&mut self, row: usize, key: impl Fn(usize) -> K) {
        self.cursor = row.min(self.order.len().saturating_sub(1));
        self.held = self.place().map(key);
    }

    /// Forgets what the cursor was put on, and goes to the top.
    pub(super) fn release(&mut self) {
        (self.cursor, self.held, self.top) = (0, None, 0);
    }

    /// What the cursor was put on; `None` before it was moved.
    pub(super) fn held(&self) -> Option<&K> {
        self.held.as_ref()
    }

    /// The place of what the cursor is on.
    pub(super) fn place(&self) -> Option<usize> {
        self.order.get(self.cursor).copied()
    }

    /// The cursor's row.
    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// There is none.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// First row on a screen of this many rows, such that the cursor is on it and no row is wasted.
    pub(super) fn top(&self, height: usize) -> usize {
        let lowest = self.order.len().saturating_sub(height);
        let least = (self.cursor + 1).saturating_sub(height);
        self.top.clamp(least, self.cursor.max(least)).min(lowest.max(least))
    }

    /// It was drawn with this row first.
    pub(super) fn drawn(&mut self, top: usize) {
        self.top = top;
    }

    /// Places of the rows from `top` on, with their rows.
    pub(super) fn rows(&self, top: usize, height: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.order.iter().copied().enumerate().skip(top).take(height)
    }
}

/// By what rows are sorted, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort<C> {
    /// The column.
    pub(super) by: C,
    /// The other way round than the column's usual one.
    pub(super) reversed: bool,
}

/// Compares two figures, the greater one first unless `ascending`. What is not known comes last either way.
pub(super) fn known_first(a: Option<f64>, b: Option<f64>, ascending: bool) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if ascending => a.total_cmp(&b),
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_follows_what_it_was_put_on() {
        let names = ["a", "b", "c", "d"];
        let key = |place: usize| names[place];
        let mut listing = Listing::default();
        listing.arrange(vec![0, 1, 2, 3], key);
        assert_eq!(listing.place(), Some(0));
        listing.arrange(vec![3, 2, 1, 0], key);
        assert_eq!(listing.place(), Some(3), "nobody moved it: it stays at the top");
        listing.go(1, key);
        listing.arrange(vec![0, 1, 2, 3], key);
        assert_eq!((listing.cursor(), listing.place()), (2, Some(2)));
        listing.arrange(vec![0, 1], key);
        assert_eq!(listing.place(), Some(1), "what it was on went away");
        listing.arrange(Vec::new(), key);
        assert_eq!(listing.place(), None);
        listing.release();
        assert_eq!(listing.held(), None);
    }

    #[test]
    fn the_cursor_is_always_on_the_screen() {
        let mut listing = Listing::default();
        listing.arrange((0..100).collect(), |place| place);
        for (row, height) in [(0, 10), (50, 10), (99, 10), (0, 1), (99, 200), (5, 0)] {
            listing.go(row, |place| place);
            let top = listing.top(height);
            assert!(height == 0 || (top..top + height).contains(&row), "{row} {height}: {top}");
            assert!(height == 0 || top + height <= 100 || top == 0, "no row is wasted");
            listing.drawn(top);
        }
    }

    #[test]
    fn what_is_not_known_comes_last() {
        let sorted = |ascending| {
            let mut figures = [None, Some(1.0), Some(3.0), None, Some(2.0)];
            figures.sort_by(|a, b| known_first(*a, *b, ascending));
            figures
        };
        assert_eq!(sorted(false), [Some(3.0), Some(2.0), Some(1.0), None, None]);
        assert_eq!(sorted(true), [Some(1.0), Some(2.0), Some(3.0), None, None]);
    }
}
