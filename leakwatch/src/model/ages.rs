//! Ages of a site's live tasks: those whose birth was seen, and those from before attach together.

use super::{float, seconds};
use crate::observe::AgeSummary;

/// Ages in seconds; `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ages {
    /// Median.
    pub p50_s: Option<f64>,
    /// 99th percentile.
    pub p99_s: Option<f64>,
    /// Oldest.
    pub max_s: Option<f64>,
    /// Tasks from before attach are among them, of which only a least age is known: the time since attach, or how
    /// long they wait already. The figures are then lower bounds.
    pub lower_bound: bool,
}

/// Puts ages together.
///
/// `older` live tasks are from before attach. Each of them is older than any task born since, so a percentile
/// falls either among the born ones, whose summary is known, or among the older ones, which have at least
/// `elapsed_ns`. `longest_wait_ns` is a lower bound of the oldest task's age, where a census knows it.
pub fn combine(born: &AgeSummary, older: u64, elapsed_ns: u64, longest_wait_ns: Option<u64>) -> Ages {
    let total = born.count.saturating_add(older);
    if total == 0 {
        return Ages::default();
    }
    let at = |q: f64| {
        let rank = q * float(total);
        let count = float(born.count);
        if older > 0 && rank > count { seconds(elapsed_ns) } else { young(born, rank / count, elapsed_ns) }
    };
    let oldest = if older > 0 { elapsed_ns.max(longest_wait_ns.unwrap_or(0)) } else { born.max_ns };
    let max_s = seconds(oldest);
    let p99_s = at(0.99).min(max_s);
    Ages { p50_s: Some(at(0.5).min(p99_s)), p99_s: Some(p99_s), max_s: Some(max_s), lower_bound: older > 0 }
}

/// What is known where births are not seen: `older` of the `live` tasks at least are from before attach.
pub fn least(live: u64, older: u64, elapsed_ns: u64, longest_wait_ns: Option<u64>) -> Ages {
    let at = |q: f64| (float(older) > (1.0 - q) * float(live)).then(|| seconds(elapsed_ns));
    let attached = (older > 0).then_some(elapsed_ns);
    Ages {
        p50_s: at(0.5),
        p99_s: at(0.99),
        max_s: attached.into_iter().chain(longest_wait_ns).max().map(seconds),
        lower_bound: true,
    }
}

/// The `q`-quantile of tasks born since attach, in seconds, by straight lines between the known ones.
fn young(born: &AgeSummary, q: f64, elapsed_ns: u64) -> f64 {
    let (p50, p99, max) = (float(born.p50_ns), float(born.p99_ns), float(born.max_ns));
    let ns = if q <= 0.5 {
        p50 * q / 0.5
    } else if q <= 0.99 {
        p50 + (p99 - p50) * (q - 0.5) / 0.49
    } else {
        p99 + (max - p99) * (q.min(1.0) - 0.99) / 0.01
    };
    (ns / 1e9).min(seconds(elapsed_ns).max(seconds(born.max_ns)))
}

/// Two sites' summaries as one. Counts and the oldest are exact, the percentiles are averages weighted by count.
pub fn merge(a: Option<AgeSummary>, b: Option<&AgeSummary>) -> Option<AgeSummary> {
    let Some(mut a) = a else { return b.cloned() };
    let Some(b) = b else { return Some(a) };
    let count = a.count.saturating_add(b.count);
    let mean = |x: u64, y: u64| {
        let products = (u128::from(x) * u128::from(a.count), u128::from(y) * u128::from(b.count));
        let sum = products.0.saturating_add(products.1);
        u64::try_from(sum / u128::from(count.max(1))).unwrap_or(u64::MAX)
    };
    (a.p50_ns, a.p99_ns) = (mean(a.p50_ns, b.p50_ns), mean(a.p99_ns, b.p99_ns));
    (a.count, a.max_ns) = (count, a.max_ns.max(b.max_ns));
    a.by_bucket.add(&b.by_bucket);
    Some(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn born(count: u64) -> AgeSummary {
        AgeSummary { count, p50_ns: SECOND, p99_ns: 9 * SECOND, max_ns: 10 * SECOND, ..AgeSummary::default() }
    }

    #[test]
    fn without_older_tasks_the_summary_stands() {
        let ages = combine(&born(100), 0, 60 * SECOND, None);
        assert_eq!(ages, Ages { p50_s: Some(1.0), p99_s: Some(9.0), max_s: Some(10.0), lower_bound: false });
    }

    #[test]
    fn older_tasks_are_at_least_as_old_as_the_watch() {
        let ages = combine(&born(10), 90, 60 * SECOND, Some(700 * SECOND));
        assert_eq!(
            ages,
            Ages { p50_s: Some(60.0), p99_s: Some(60.0), max_s: Some(700.0), lower_bound: true }
        );
        let few = combine(&born(990), 10, 60 * SECOND, None);
        assert!(few.p50_s.unwrap() < 1.2 && few.max_s == Some(60.0), "{few:?}");
    }

    #[test]
    fn nothing_alive_and_nothing_read() {
        assert_eq!(combine(&AgeSummary::default(), 0, SECOND, None), Ages::default());
    }

    #[test]
    fn without_births_only_survivors_have_an_age() {
        assert_eq!(least(10, 0, SECOND, Some(2 * SECOND)).max_s, Some(2.0));
        let mostly_old = least(10, 8, 60 * SECOND, None);
        assert_eq!((mostly_old.p50_s, mostly_old.max_s), (Some(60.0), Some(60.0)));
        let mostly_young = least(100, 5, 60 * SECOND, None);
        assert_eq!((mostly_young.p50_s, mostly_young.p99_s), (None, Some(60.0)));
    }
}
