//! The questions in `PromQL`. Prometheus sums up over hosts, so that what comes back is as large as the programs, not as the
//! fleet.

use std::time::Duration;

/// Labels that tell processes of all hosts apart.
const PROCESS: &str = "job, instance, pid, comm, exe, container, namespace, pod";

/// Labels of a site of a version of a program.
const SITE: &str = "exe, build_id, image, runtime, function, file, line, task";

/// What a site is known by from version to version: lines move.
const KNOWN_BY: &str = "exe, build_id, runtime, function, file, task";

/// Looks back into the past that one question takes.
const STEPS: u64 = 300;

/// All questions, with what the user wants of every series.
#[derive(Clone, Debug)]
pub(super) struct Queries {
    /// As between braces: `cluster="eu", job="leakwatch"`; may be empty.
    matching: String,
    since: Duration,
}

impl Queries {
    pub(super) fn new(matching: &str, since: Duration) -> Self {
        Self { matching: matching.trim().trim_matches(',').to_owned(), since }
    }

    /// A metric's series.
    fn series(&self, metric: &str, more: &str) -> String {
        let comma = if more.is_empty() || self.matching.is_empty() { "" } else { ", " };
        format!("{metric}{{{more}{comma}{}}}", self.matching)
    }

    /// Series of sites, with version and image of their process.
    fn of_sites(&self, expression: &str) -> String {
        let info = self.series("leakwatch_process_info", "");
        format!("({expression}) * on ({PROCESS}) group_left (build_id, image) {info}")
    }

    /// The same of a metric; what has no series of its own is no site.
    fn sites(&self, metric: &str) -> String {
        self.of_sites(&self.series(metric, "function!=\"(other)\""))
    }

    /// Over the past, in steps.
    fn past(&self, function: &str, expression: &str) -> String {
        let since = self.since.as_secs().max(1);
        format!("{function}(({expression})[{since}s:{}s])", (since / STEPS).max(1))
    }

    pub(super) fn agents(&self) -> String {
        format!("count({})", self.series("leakwatch_build_info", ""))
    }

    pub(super) fn processes(&self) -> String {
        format!("sum({})", self.series("leakwatch_processes", ""))
    }

    pub(super) fn live(&self) -> String {
        format!("sum by ({SITE}) ({})", self.sites("leakwatch_site_tasks_live"))
    }

    pub(super) fn leak_rate(&self) -> String {
        format!("sum by ({SITE}) ({})", self.sites("leakwatch_site_leak_rate"))
    }

    pub(super) fn verdict(&self) -> String {
        format!("max by ({SITE}) ({})", self.sites("leakwatch_site_verdict"))
    }

    pub(super) fn proven(&self) -> String {
        format!("sum by ({SITE}) ({})", self.sites("leakwatch_site_tasks_proven_leaked"))
    }

    pub(super) fn processes_of_sites(&self) -> String {
        format!("count by ({SITE}) ({})", self.sites("leakwatch_site_tasks_live"))
    }

    pub(super) fn hosts_of_sites(&self) -> String {
        let live = self.sites("leakwatch_site_tasks_live");
        format!("count by ({SITE}) (count by ({SITE}, instance) ({live}))")
    }

    pub(super) fn leaking_processes(&self) -> String {
        let leaks = format!("{} == 2", self.series("leakwatch_site_verdict", ""));
        format!("count by ({SITE}) ({})", self.of_sites(&leaks))
    }

    /// When each version was first seen, seconds since 1970.
    pub(super) fn versions(&self) -> String {
        let info = self.series("leakwatch_process_info", "build_id!=\"\"");
        self.past("min_over_time", &format!("min by (exe, build_id) (timestamp({info}))"))
    }

    /// What was suspect or worse in each version.
    pub(super) fn suspicious(&self) -> String {
        let suspicious = format!("{} >= 1", self.series("leakwatch_site_verdict", ""));
        let by_version = format!("max by ({KNOWN_BY}) ({})", self.of_sites(&suspicious));
        self.past("max_over_time", &by_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_wants_is_in_every_selector() {
        let queries = Queries::new(" cluster=\"eu\", ", Duration::from_hours(1));
        let all = [
            queries.agents(),
            queries.processes(),
            queries.live(),
            queries.leak_rate(),
            queries.verdict(),
            queries.proven(),
            queries.processes_of_sites(),
            queries.hosts_of_sites(),
            queries.leaking_processes(),
            queries.versions(),
            queries.suspicious(),
        ];
        for query in all {
            let selectors = query.matches("leakwatch_").count();
            assert_eq!(query.matches("cluster=\"eu\"}").count(), selectors, "{query}");
            assert_eq!(query.matches('(').count(), query.matches(')').count(), "{query}");
        }
        assert_eq!(Queries::new("", Duration::from_hours(1)).agents(), "count(leakwatch_build_info{})");
    }

    #[test]
    fn steps_are_no_more_than_so_many() {
        let versions = |hours| Queries::new("", Duration::from_hours(hours)).versions();
        assert!(versions(168).ends_with("[604800s:2016s])"), "{}", versions(168));
        assert!(Queries::new("", Duration::from_secs(90)).versions().ends_with("[90s:1s])"));
    }
}
