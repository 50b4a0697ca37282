//! The largest group of waiting tasks of some sites: with one stack, or with stacks that are the same or near.

use crate::detect::groups::{Stacked, cluster};
use crate::model::float;

use super::{SiteReport, WaitingReport};

/// Tasks that wait alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// Share of the live tasks of their sites, 0 to 1.
    pub share: f64,
    /// Share of the last ten looks in which there were such; of a cluster the largest of its stacks' shares.
    pub seen: Option<f64>,
    /// For how long the oldest has waited, seconds.
    pub longest_s: Option<f64>,
}

impl Group {
    /// How many.
    pub fn tasks(self) -> f64 {
        float(self.count)
    }

    fn of(groups: &[&WaitingReport], live: u64) -> Self {
        let count = groups.iter().map(|group| group.count).sum();
        Self {
            count,
            share: (float(count) / float(live.max(count).max(1))).min(1.0),
            seen: groups.iter().filter_map(|group| group.seen).reduce(f64::max),
            longest_s: groups.iter().filter_map(|group| group.longest_s).reduce(f64::max),
        }
    }
}

/// The largest group of tasks with one stack and one reason to wait, the runtime's own apart; `None`: no stacks were read,
/// or nothing is alive.
pub fn largest(sites: &[SiteReport]) -> Option<Group> {
    let live = live(sites);
    waiting(sites).max_by_key(|group| group.count).map(|group| Group::of(&[group], live))
}

/// The largest group of tasks whose stacks are equal once the compiler's names are off, or few frames apart.
pub fn largest_cluster(sites: &[SiteReport]) -> Option<Group> {
    let groups: Vec<&WaitingReport> = waiting(sites).collect();
    if let [one] = groups.as_slice() {
        return Some(Group::of(&[one], live(sites)));
    }
    let stacks: Vec<Stacked> = groups
        .iter()
        .map(|group| Stacked {
            functions: group.stack.iter().map(|frame| function(frame).to_owned()).collect(),
            count: group.count,
        })
        .collect();
    let clusters = cluster(&stacks);
    let largest = clusters.first()?;
    let members: Vec<&WaitingReport> =
        largest.members.iter().filter_map(|&member| groups.get(member).copied()).collect();
    Some(Group::of(&members, live(sites)))
}

fn live(sites: &[SiteReport]) -> u64 {
    sites.iter().filter(|site| !site.system).map(|site| site.live).sum()
}

/// Groups of which a stack was read.
fn waiting(sites: &[SiteReport]) -> impl Iterator<Item = &WaitingReport> {
    sites
        .iter()
        .filter(|site| !site.system)
        .flat_map(|site| &site.waiting)
        .filter(|group| !group.stack.is_empty() && group.count > 0)
}

/// `main.f (main.go:12)` is `main.f`.
fn function(frame: &str) -> &str {
    frame.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")).map_or(frame, |(function, _)| function)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn waits(count: u64, stack: &[&str]) -> WaitingReport {
        WaitingReport {
            reason: "chan receive".to_owned(),
            stack: stack.iter().map(|frame| (*frame).into()).collect(),
            count,
            seen: Some(0.8),
            longest_s: Some(float(count)),
            ..WaitingReport::default()
        }
    }

    #[test]
    fn near_stacks_count_together() {
        let mut site = samples::site("main.serve", "main.go", 1, "main.f");
        site.live = 100;
        let with = |top: &'static str| {
            [top, "b (x.go:2)", "c (x.go:3)", "d (x.go:4)", "main.f.func1 (x.go:5)", "e (x.go:6)"]
        };
        site.waiting =
            vec![waits(30, &with("a (x.go:1)")), waits(25, &with("q (x.go:1)")), waits(20, &["z"])];
        let sites = [site];
        assert_eq!(largest(&sites).map(|group| (group.count, group.share)), Some((30, 0.3)));
        let near = largest_cluster(&sites).expect("two stacks");
        assert_eq!((near.count, near.seen, near.longest_s), (55, Some(0.8), Some(30.0)));
        assert_eq!(largest(&[samples::site("f", "f", 1, "g")]), None, "no stacks were read");
        assert_eq!(largest_cluster(&[]), None);
    }

    #[test]
    fn names_of_frames() {
        assert_eq!(function("main.(*T).run (main.go:12)"), "main.(*T).run");
        assert_eq!(function("0x1234"), "0x1234");
    }
}
