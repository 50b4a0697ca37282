//! Who gets probes, and for how long: pure decisions over what a process's last report says.
//!
//! Every process is looked at through its memory. One that looks as if it leaked gets probes for a while: births and ends
//! are then seen one by one, and a verdict stands on more. It must never keep probes on for good, and never place them
//! again right after they were taken off.

use super::options::{Budget, Promote};
use crate::{
    agent::process::nanoseconds,
    report::{ProcessReport, Verdict},
};

/// How a process is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// By looks at its memory.
    Memory,
    /// By probes.
    Probes,
}

impl Tier {
    /// The word used in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Probes => "probes",
        }
    }
}

/// Looks over the budget in a row after which probes are taken off.
const OVER_IN_A_ROW: u32 = 3;

/// What is to be done with a process.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// It deserves probes, for this reason.
    Promote(String),
    /// Its probes are to be taken off, for this reason.
    Demote(String),
}

/// The course of one process through the tiers. Times are `CLOCK_MONOTONIC`, ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Course {
    /// Since when it has probes; `None`: it has none.
    pub probed_since_ns: Option<u64>,
    /// When it was suspicious last.
    suspicious_ns: Option<u64>,
    /// Until when it is left alone.
    rests_until_ns: u64,
    /// Looks in a row over its budget.
    over: u32,
}

impl Course {
    /// How it is counted.
    pub fn tier(&self) -> Tier {
        if self.probed_since_ns.is_some() { Tier::Probes } else { Tier::Memory }
    }

    /// Probes were placed.
    pub fn promoted(&mut self, now_ns: u64) {
        self.probed_since_ns = Some(now_ns);
        self.over = 0;
    }

    /// They were taken off, or could not be placed.
    pub fn demoted(&mut self, now_ns: u64, options: &Promote) {
        self.probed_since_ns = None;
        self.rests_until_ns = now_ns.saturating_add(nanoseconds(options.rest));
    }

    /// What its newest report asks for.
    pub fn judge(&mut self, report: &ProcessReport, now_ns: u64, options: &Promote) -> Step {
        let reason = suspicion(report, options);
        if reason.is_some() {
            self.suspicious_ns = Some(now_ns);
        }
        let Some(since) = self.probed_since_ns else {
            return match reason {
                Some(reason) if options.enabled && now_ns >= self.rests_until_ns => Step::Promote(reason),
                _ => Step::Stay,
            };
        };
        if now_ns.saturating_sub(since) >= nanoseconds(options.longest) {
            return Step::Demote("it had them for as long as [promote] longest allows".to_owned());
        }
        let quiet_ns = now_ns.saturating_sub(self.suspicious_ns.unwrap_or(since).max(since));
        if reason.is_none() && quiet_ns >= nanoseconds(options.hold) {
            return Step::Demote("nothing about it is suspicious any more".to_owned());
        }
        Step::Stay
    }

    /// Probes added this much to the process, percent of one core.
    pub fn measured(&mut self, added_percent: f64, budget: &Budget) -> Step {
        self.over = if added_percent > budget.process_percent { self.over.saturating_add(1) } else { 0 };
        if self.over >= OVER_IN_A_ROW {
            self.over = 0;
            return Step::Demote(format!(
                "the probes added {added_percent:.1} % of a core to the process, over the budget of {} %",
                budget.process_percent
            ));
        }
        Step::Stay
    }
}

/// Why a process is suspicious; `None`: it is not.
fn suspicion(report: &ProcessReport, options: &Promote) -> Option<String> {
    let worst = report.sites.iter().find(|site| matches!(site.verdict, Verdict::Suspect | Verdict::Leak));
    if let Some(site) = worst {
        let name = site.function.as_deref().or(site.task.as_deref()).unwrap_or("a site without a name");
        return Some(format!("{name}: {}", site.verdict.name()));
    }
    let growth = report.tasks.growth_per_min?;
    (growth >= options.growth_per_min && growth > 0.0)
        .then(|| format!("its tasks grow by {growth:.0} a minute"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::samples;

    const SECOND: u64 = 1_000_000_000;

    fn options() -> Promote {
        Promote {
            hold: Duration::from_mins(1),
            longest: Duration::from_mins(5),
            rest: Duration::from_mins(10),
            ..Promote::default()
        }
    }

    fn quiet() -> ProcessReport {
        let mut report = samples::leaking();
        for site in &mut report.sites {
            site.verdict = Verdict::Ok;
        }
        report.tasks.growth_per_min = Some(0.0);
        report
    }

    fn leaking() -> ProcessReport {
        let mut report = quiet();
        let site = report.sites.first_mut().expect("a site");
        site.verdict = Verdict::Leak;
        report
    }

    #[test]
    fn a_leak_brings_probes_and_quiet_takes_them_off() {
        let (options, mut course) = (options(), Course::default());
        assert_eq!(course.judge(&quiet(), 0, &options), Step::Stay);
        assert!(matches!(course.judge(&leaking(), SECOND, &options), Step::Promote(_)));
        course.promoted(SECOND);
        assert_eq!(course.tier(), Tier::Probes);
        assert_eq!(course.judge(&quiet(), 40 * SECOND, &options), Step::Stay, "not quiet for long enough");
        assert_eq!(course.judge(&leaking(), 50 * SECOND, &options), Step::Stay);
        assert_eq!(course.judge(&quiet(), 100 * SECOND, &options), Step::Stay);
        assert!(matches!(course.judge(&quiet(), 110 * SECOND, &options), Step::Demote(_)));
        course.demoted(110 * SECOND, &options);
        assert_eq!(course.judge(&leaking(), 200 * SECOND, &options), Step::Stay, "it rests");
        assert!(matches!(course.judge(&leaking(), 710 * SECOND, &options), Step::Promote(_)));
    }

    #[test]
    fn no_probes_for_good() {
        let (options, mut course) = (options(), Course::default());
        course.promoted(0);
        assert_eq!(course.judge(&leaking(), 299 * SECOND, &options), Step::Stay);
        assert!(matches!(course.judge(&leaking(), 300 * SECOND, &options), Step::Demote(_)));
    }

    #[test]
    fn growth_alone_is_suspicious() {
        let (options, mut course) = (options(), Course::default());
        let mut report = quiet();
        report.tasks.growth_per_min = Some(59.0);
        assert_eq!(course.judge(&report, 0, &options), Step::Stay);
        report.tasks.growth_per_min = Some(61.0);
        assert!(matches!(course.judge(&report, 0, &options), Step::Promote(_)));
        let never = Promote { enabled: false, ..options };
        assert_eq!(course.judge(&report, 0, &never), Step::Stay);
    }

    #[test]
    fn over_the_budget_three_times_in_a_row() {
        let budget = Budget { process_percent: 2.0, host_percent: 1.0 };
        let mut course = Course::default();
        for added in [3.0, 3.0, 1.0, 3.0, 3.0] {
            assert_eq!(course.measured(added, &budget), Step::Stay);
        }
        assert!(matches!(course.measured(3.0, &budget), Step::Demote(_)));
    }
}
