//! How far something is that takes long. Who does it counts, who shows it looks, from another thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many of so many: tasks, bytes. Nothing depends on it.
#[derive(Debug, Default)]
pub struct Amount {
    done: AtomicU64,
    all: AtomicU64,
}

impl Amount {
    /// Begins anew; 0: nobody knows how many there are.
    pub fn begin(&self, all: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.all.store(all, Ordering::Relaxed);
    }

    /// So many more are done.
    pub fn add(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    /// Percent that are done; `None`: nobody knows of how many.
    pub fn percent(&self) -> Option<u64> {
        let (done, all) = (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
        (done.min(all).saturating_mul(100)).checked_div(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_something() {
        let amount = Amount::default();
        assert_eq!(amount.percent(), None);
        amount.begin(3);
        amount.add(1);
        assert_eq!(amount.percent(), Some(33));
        // More than was announced: a file that grew.
        amount.add(7);
        assert_eq!(amount.percent(), Some(100));
        amount.begin(0);
        assert_eq!(amount.percent(), None);
    }
}
