//! Taking probes off. Must never leave one on.

use aya::programs::uprobe::UProbeLink;

/// Takes probes off. The kernel waits for a grace period with each one: many at once wait together.
pub(super) fn take_off(links: &mut Vec<UProbeLink>) {
    /// Threads that wait.
    const AT_ONCE: usize = 16;
    let mut links = std::mem::take(links);
    let share = links.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        while links.len() > share {
            let part = links.split_off(links.len() - share);
            scope.spawn(move || drop(part));
        }
        drop(links);
    });
}
