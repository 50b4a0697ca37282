//! Who gets probes, and for how long: pure decisions over what a process's last report says.
//!
//! Every process is looked at through its memory. One that looks as if it leaked gets probes for a while: births and ends
//! are then seen one by one, and a verdict stands on more. What a hit costs is the trap, which nothing makes cheaper; so
//! probes that cost more than the budget are thinned in time: on for as much of each [`Budget::period`] as the budget
//! allows, and taken off where that would be next to nothing. It must never keep probes on for good, and never place them
//! again right after they were taken off for good.

use super::options::{Budget, Promote};
use crate::{
    agent::process::nanoseconds,
    report::{ProcessReport, SiteReport, Verdict},
};

/// How a process is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// By looks at its memory.
    Memory,
    /// By probes for a part of the time, by looks for the rest.
    Thinned,
    /// By probes.
    Probes,
}

impl Tier {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Thinned, Self::Probes];

    /// The word used in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Thinned => "thinned",
            Self::Probes => "probes",
        }
    }
}

/// Measurements over the budget in a row after which probes are thinned or taken off.
const OVER_IN_A_ROW: u32 = 3;

/// Probes that would be on for less of the time than this are taken off.
const LEAST_SHARE: f64 = 0.1;

/// Thinned probes are to take this much of the budget, so that they need not be thinned again at once.
const OF_THE_BUDGET: f64 = 0.8;

/// What is to be done with a process.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// It deserves probes, for this reason.
    Promote(String),
    /// Its probes are to be on for less of the time, for this reason; for now they are to be taken off.
    Thin(String),
    /// Thinned probes are to be taken off for a while, for this reason.
    Pause(String),
    /// And to be placed again.
    Resume,
    /// Its probes are to be taken off, for this reason.
    Demote(String),
}

/// Probes that are on for a part of the time.
#[derive(Clone, Copy, Debug)]
struct Thinned {
    /// The part.
    share: f64,
    /// They are on now.
    on: bool,
    /// That changes then.
    until_ns: u64,
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
    /// Measurements in a row over its budget.
    over: u32,
    /// Its probes are on for a part of the time; `None`: for all of it.
    thinned: Option<Thinned>,
}

impl Course {
    /// How it is counted.
    pub fn tier(&self) -> Tier {
        match (self.probed_since_ns, self.thinned) {
            (None, _) => Tier::Memory,
            (Some(_), Some(_)) => Tier::Thinned,
            (Some(_), None) => Tier::Probes,
        }
    }

    /// Its probes are on now.
    pub fn is_probed(&self) -> bool {
        self.probed_since_ns.is_some() && self.thinned.is_none_or(|thinned| thinned.on)
    }

    /// Probes were placed, for the first time or again.
    pub fn placed(&mut self, now_ns: u64) {
        self.probed_since_ns.get_or_insert(now_ns);
        self.over = 0;
    }

    /// They were taken off, or could not be placed.
    pub fn demoted(&mut self, now_ns: u64, options: &Promote) {
        self.probed_since_ns = None;
        self.thinned = None;
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

    /// Probes that are on added this much to the process, percent of one core.
    pub fn measured(&mut self, added_percent: f64, now_ns: u64, budget: &Budget) -> Step {
        // Over a period they add less where they are on for a part of it.
        let over = added_percent * self.share() > budget.process_percent;
        self.over = if over { self.over.saturating_add(1) } else { 0 };
        if self.over < OVER_IN_A_ROW {
            return Step::Stay;
        }
        let why = format!(
            "the probes added {added_percent:.1} % of a core to the process, over the budget of {} %",
            budget.process_percent
        );
        self.thin(budget.process_percent / added_percent * OF_THE_BUDGET, &why, now_ns, budget)
    }

    /// These probes were the most expensive ones while all of them took too much, for this reason.
    pub fn dearest(&mut self, why: &str, now_ns: u64, budget: &Budget) -> Step {
        self.thin(self.share() / 2.0, why, now_ns, budget)
    }

    fn share(&self) -> f64 {
        self.thinned.map_or(1.0, |thinned| thinned.share)
    }

    fn thin(&mut self, share: f64, why: &str, now_ns: u64, budget: &Budget) -> Step {
        self.over = 0;
        if share < LEAST_SHARE {
            return Step::Demote(why.to_owned());
        }
        self.thinned = Some(Thinned { share, on: false, until_ns: ends_ns(1.0 - share, now_ns, budget) });
        Step::Thin(format!("{why}, so they are on for {:.0} % of the time", share * 100.0))
    }

    /// Time has passed: thinned probes go off, or on again.
    pub fn turn(&mut self, now_ns: u64, budget: &Budget) -> Step {
        let Some(thinned) = self.thinned.as_mut().filter(|thinned| now_ns >= thinned.until_ns) else {
            return Step::Stay;
        };
        thinned.on = !thinned.on;
        if thinned.on {
            thinned.until_ns = ends_ns(thinned.share, now_ns, budget);
            return Step::Resume;
        }
        thinned.until_ns = ends_ns(1.0 - thinned.share, now_ns, budget);
        let percent = thinned.share * 100.0;
        Step::Pause(format!("the budget allows for probes {percent:.0} % of the time"))
    }
}

/// When a part of a period that begins now ends.
fn ends_ns(part: f64, now_ns: u64, budget: &Budget) -> u64 {
    now_ns.saturating_add(nanoseconds(budget.period.mul_f64(part)))
}

/// Why a process is suspicious; `None`: it is not. A site with a proof is settled: probes could add nothing to it.
fn suspicion(report: &ProcessReport, options: &Promote) -> Option<String> {
    let is_open = |site: &&SiteReport| match site.verdict {
        Verdict::Suspect => true,
        Verdict::Leak => site.proven.is_none_or(|proven| proven == 0),
        Verdict::NotYet | Verdict::Ok => false,
    };
    let worst = report.sites.iter().find(is_open);
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
        course.placed(SECOND);
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
        course.placed(0);
        assert_eq!(course.judge(&leaking(), 299 * SECOND, &options), Step::Stay);
        assert!(matches!(course.judge(&leaking(), 300 * SECOND, &options), Step::Demote(_)));
    }

    #[test]
    fn what_is_proven_needs_no_probes() {
        let (options, mut course, mut report) = (options(), Course::default(), leaking());
        report.sites.first_mut().expect("a site").proven = Some(0);
        assert!(matches!(course.judge(&report, 0, &options), Step::Promote(_)), "a proof was tried");
        report.sites.first_mut().expect("a site").proven = Some(3);
        assert_eq!(course.judge(&report, 0, &options), Step::Stay);
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

    fn budget() -> Budget {
        Budget { process_percent: 2.0, host_percent: 1.0, period: Duration::from_mins(1) }
    }

    #[test]
    fn what_costs_twice_the_budget_is_on_for_less_than_half_of_the_time() {
        let (options, budget, mut course) = (options(), budget(), Course::default());
        course.placed(0);
        for added in [4.0, 4.0, 1.0, 4.0, 4.0] {
            assert_eq!(course.measured(added, 0, &budget), Step::Stay, "not three times in a row");
        }
        let Step::Thin(why) = course.measured(4.0, 0, &budget) else { panic!("thinned") };
        assert_eq!(
            why,
            "the probes added 4.0 % of a core to the process, over the budget of 2 %, so they are on for 40 % of the time"
        );
        assert_eq!((course.tier(), course.is_probed()), (Tier::Thinned, false));
        // 36 s off, 24 s on, and so on.
        assert_eq!(course.turn(35 * SECOND, &budget), Step::Stay);
        assert_eq!(course.turn(36 * SECOND, &budget), Step::Resume);
        course.placed(36 * SECOND);
        assert!(course.is_probed() && course.probed_since_ns == Some(0));
        for _ in 0..10 {
            assert_eq!(course.measured(4.9, 40 * SECOND, &budget), Step::Stay, "over a minute it is 1.96 %");
        }
        assert!(matches!(course.turn(60 * SECOND, &budget), Step::Pause(_)));
        assert_eq!(course.turn(96 * SECOND, &budget), Step::Resume);
        // It becomes dearer: less of the time, and then not at all.
        assert_eq!(course.measured(16.0, 97 * SECOND, &budget), Step::Stay);
        assert_eq!(course.measured(16.0, 98 * SECOND, &budget), Step::Stay);
        assert!(
            matches!(course.measured(16.0, 99 * SECOND, &budget), Step::Thin(why) if why.ends_with("on for 10 % of the time"))
        );
        assert_eq!(course.turn(153 * SECOND, &budget), Step::Resume);
        for _ in 0..2 {
            assert_eq!(course.measured(40.0, 154 * SECOND, &budget), Step::Stay);
        }
        assert!(matches!(course.measured(40.0, 155 * SECOND, &budget), Step::Demote(_)));
        course.demoted(156 * SECOND, &options);
        assert_eq!((course.tier(), course.turn(999 * SECOND, &budget)), (Tier::Memory, Step::Stay));
    }

    #[test]
    fn what_costs_many_times_the_budget_is_taken_off_at_once() {
        let (budget, mut course) = (budget(), Course::default());
        course.placed(0);
        for _ in 0..2 {
            assert_eq!(course.measured(30.0, 0, &budget), Step::Stay);
        }
        assert!(matches!(course.measured(30.0, 0, &budget), Step::Demote(_)));
    }

    #[test]
    fn for_the_host_the_dearest_is_halved_until_nothing_is_left_of_it() {
        let (budget, mut course) = (budget(), Course::default());
        course.placed(0);
        let steps: Vec<Step> = (0..4).map(|_| course.dearest("too much", 0, &budget)).collect();
        let shares = ["50", "25", "12"]
            .map(|share| Step::Thin(format!("too much, so they are on for {share} % of the time")));
        assert_eq!(steps[..3], shares);
        assert_eq!(steps[3], Step::Demote("too much".to_owned()));
    }

    #[test]
    fn thinned_probes_do_not_stay_longer_than_others() {
        let (options, budget, mut course) = (options(), budget(), Course::default());
        course.placed(0);
        course.dearest("too much", SECOND, &budget);
        assert_eq!(course.judge(&leaking(), 299 * SECOND, &options), Step::Stay);
        assert!(matches!(course.judge(&leaking(), 300 * SECOND, &options), Step::Demote(_)));
    }
}
