//! Verdicts: is this site leaking? Small pure rules over what the model knows of one site.
//!
//! A rule answers `ok`, `suspect`, `leak`, or `not_yet` when it has not seen enough; the worst answer of all rules
//! is the site's verdict. Rules read no clock, keep no state, and never change what they look at. Loss and short
//! observation lower confidence and never raise it.
//!
//! [`survival::Survival`] weighs births, ends, survivors and growth together, as each of them alone misleads. A proof
//! by reachability ([`proof::Proven`]) stands beside it.

pub mod confidence;
pub mod facts;
pub mod forecast;
pub mod groups;
pub mod growth;
pub mod proof;
pub mod survival;
pub mod units;
pub mod zombies;

#[cfg(test)]
mod tests;

pub use forecast::Forecast;

use crate::model::{Losses, Point, SiteView};

/// What a rule thinks of a site, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing wrong.
    Ok,
    /// Not enough seen to say.
    NotYet,
    /// Looks like a leak.
    Suspect,
    /// Is a leak.
    Leak,
}

impl Verdict {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotYet => "not_yet",
            Self::Suspect => "suspect",
            Self::Leak => "leak",
        }
    }
}

/// A rule's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The answer.
    pub verdict: Verdict,
    /// One sentence with its figures.
    pub why: String,
    /// How sure, 0 to 1; 0 for [`Verdict::NotYet`].
    pub confidence: f64,
    /// What would settle it or change it; empty where nothing is open.
    pub settles: String,
}

impl Finding {
    /// An answer.
    pub const fn new(verdict: Verdict, why: String, confidence: f64, settles: String) -> Self {
        Self { verdict, why, confidence, settles }
    }
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The site.
    pub site: SiteView<'a>,
    /// Its live count, oldest first ([`SiteView::series`]).
    pub series: &'a [Point],
    /// Theil-Sen slope of `series`, tasks per minute ([`SiteView::growth_per_min`]).
    pub growth_per_min: Option<f64>,
    /// What was lost in the process.
    pub losses: &'a Losses,
}

/// Seconds from the first to the last point.
fn span_s(series: &[Point]) -> f64 {
    match (series.first(), series.last()) {
        (Some(first), Some(last)) => last.at_s - first.at_s,
        _ => 0.0,
    }
}

/// One way to find a leak.
pub trait Rule: std::fmt::Debug + Send + Sync {
    /// What the rule looks for, for a list of rules.
    fn summary(&self) -> &'static str;
    /// Looks at a site.
    fn check(&self, evidence: &Evidence<'_>) -> Finding;
}

/// All rules.
#[derive(Debug)]
pub struct Detector {
    rules: Vec<Box<dyn Rule>>,
}

impl Default for Detector {
    fn default() -> Self {
        Self::new(vec![Box::new(proof::Proven), Box::new(survival::Survival::default())])
    }
}

impl Detector {
    /// A detector with these rules.
    pub fn new(rules: Vec<Box<dyn Rule>>) -> Self {
        Self { rules }
    }

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> impl Iterator<Item = &dyn Rule> {
        self.rules.iter().map(AsRef::as_ref)
    }

    /// The worst answer of all rules; of equally bad ones the most confident, then the first.
    pub fn judge(&self, evidence: &Evidence<'_>) -> Finding {
        if evidence.site.system() {
            let why = "the runtime's own tasks are not the program's to leak".to_owned();
            return Finding::new(Verdict::Ok, why, 1.0, String::new());
        }
        let mut worst: Option<Finding> = None;
        for finding in self.rules.iter().map(|rule| rule.check(evidence)) {
            let worse = worst.as_ref().is_none_or(|worst| {
                let order = finding.verdict.cmp(&worst.verdict);
                order.then(finding.confidence.total_cmp(&worst.confidence)).is_gt()
            });
            if worse {
                worst = Some(finding);
            }
        }
        let none = || Finding::new(Verdict::NotYet, "no rule is set".to_owned(), 0.0, String::new());
        worst.unwrap_or_else(none)
    }
}
