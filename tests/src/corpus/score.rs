//! What leakwatch said of a shape, beside the rules that people use today, and how often each is right.

use serde_json::Value;

use super::{Attach, Half, Shape};

/// What the rules that people use today say of the same tasks, at the best site for them: by site, not by process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Today {
    /// More than 1,000 are alive at some time.
    pub count: bool,
    /// Half as many again are alive as at the attach, and at least 10 more.
    pub growth: bool,
    /// The least-squares slope of the number alive is above 5 a second.
    pub slope: bool,
}

impl Today {
    fn of(lives: &[(f64, u64)]) -> Self {
        let (Some(first), Some(last)) = (lives.first(), lives.last()) else { return Self::default() };
        Self {
            count: lives.iter().any(|(_, live)| *live > 1_000),
            growth: last.1 >= first.1 + 10 && 2 * last.1 > 3 * first.1,
            slope: slope(lives) > 5.0,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test")]
fn slope(lives: &[(f64, u64)]) -> f64 {
    let points = lives.len() as f64;
    let mean = |value: &dyn Fn(&(f64, u64)) -> f64| lives.iter().map(value).sum::<f64>() / points;
    let (at, live) = (mean(&|point| point.0), mean(&|point| point.1 as f64));
    let both = lives.iter().map(|point| (point.0 - at) * (point.1 as f64 - live)).sum::<f64>();
    let square = lives.iter().map(|point| (point.0 - at).powi(2)).sum::<f64>();
    if square > 0.0 { both / square } else { 0.0 }
}

/// What was said of one shape in one watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Whose tasks.
    pub runtime: &'static str,
    /// The shape.
    pub name: String,
    /// The truth.
    pub leaks: bool,
    /// Its half.
    pub half: Half,
    /// When leakwatch attached.
    pub attach: Attach,
    /// How it counted.
    pub mode: &'static str,
    /// The worst verdict of its sites at the end; `not_seen`: it had no site.
    pub verdict: String,
    /// Why.
    pub why: String,
    /// Seconds after the attach when `leak` was said first.
    pub leak_s: Option<f64>,
    /// The same of `leak` or `suspect`.
    pub found_s: Option<f64>,
    /// The rules of today.
    pub today: Today,
}

impl Case {
    /// Of the reports of one watch.
    pub(super) fn of(
        runtime: &'static str,
        shape: &Shape,
        attach: Attach,
        mode: &'static str,
        reports: &[Value],
    ) -> Self {
        let mut case = Self {
            runtime,
            name: shape.name.clone(),
            leaks: shape.leaks,
            half: Half::of(runtime, &shape.name),
            attach,
            mode,
            verdict: "not_seen".to_owned(),
            why: String::new(),
            leak_s: None,
            found_s: None,
            today: Today::default(),
        };
        let mut lives = Vec::new();
        for report in reports {
            let Some(process) = report["processes"].get(0) else { continue };
            let at_s = process["watched_s"].as_f64().unwrap_or(0.0);
            let sites: Vec<&Value> =
                process["sites"].as_array().into_iter().flatten().filter(|site| shape.owns(site)).collect();
            // Children that ended and were not collected are no site.
            let zombies = process["zombies"].as_array().into_iter().flatten();
            let zombies = zombies.filter(|_| shape.functions.iter().any(|function| function == "zombies"));
            let worst = sites.iter().copied().chain(zombies).max_by_key(|site| rank(&site["verdict"]));
            let Some(worst) = worst else { continue };
            lives.push((at_s, sites.iter().filter_map(|site| site["live"].as_u64()).sum()));
            worst["verdict"].as_str().unwrap_or_default().clone_into(&mut case.verdict);
            worst["why"].as_str().unwrap_or_default().clone_into(&mut case.why);
            if case.said_leak() {
                case.leak_s.get_or_insert(at_s);
            }
            if case.found() {
                case.found_s.get_or_insert(at_s);
            }
        }
        case.today = Today::of(&lives);
        case
    }

    /// `leak` was said.
    pub fn said_leak(&self) -> bool {
        self.verdict == "leak"
    }

    /// `leak` or `suspect` was said.
    pub fn found(&self) -> bool {
        matches!(self.verdict.as_str(), "leak" | "suspect")
    }
}

fn rank(verdict: &Value) -> usize {
    let order = ["ok", "not_yet", "suspect", "leak"];
    order.iter().position(|word| verdict == word).unwrap_or(0)
}

/// How often something was right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Leaks that were called so.
    pub found: usize,
    /// Leaks.
    pub leaks: usize,
    /// What is none and was called so.
    pub accused: usize,
    /// What is none.
    pub fine: usize,
}

impl Score {
    /// Of a rule.
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a Case>, says: impl Fn(&Case) -> bool) -> Self {
        cases.into_iter().fold(Self::default(), |score, case| {
            let said = usize::from(says(case));
            if case.leaks {
                Self { found: score.found + said, leaks: score.leaks + 1, ..score }
            } else {
                Self { accused: score.accused + said, fine: score.fine + 1, ..score }
            }
        })
    }

    /// Share of the leaks that were found; `None` of none.
    pub fn recall(self) -> Option<f64> {
        share(self.found, self.leaks)
    }

    /// Share of what was called a leak that is one; `None` when nothing was.
    pub fn precision(self) -> Option<f64> {
        share(self.found, self.found + self.accused)
    }
}

#[expect(clippy::cast_precision_loss, reason = "some hundred cases")]
fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reports(verdicts: &[(&str, u64)]) -> Vec<Value> {
        let report = |(second, (verdict, live)): (usize, &(&str, u64))| {
            json!({"processes": [{"watched_s": second, "sites": [
                {"function": "main.f", "task": "main.f.func1", "live": live, "verdict": verdict, "why": "w"},
                {"function": "main.g", "task": "main.g.func1", "live": 5, "verdict": "leak", "why": "w"},
            ]}]})
        };
        verdicts.iter().enumerate().map(report).collect()
    }

    #[test]
    fn a_case_is_the_last_word_and_the_first_accusation() {
        let shape = Shape { name: "f".to_owned(), leaks: true, functions: vec!["main.f".to_owned()] };
        let course = reports(&[("not_yet", 0), ("suspect", 20), ("leak", 40), ("leak", 60), ("ok", 1_100)]);
        let case = Case::of("go", &shape, Attach::Early, "probes", &course);
        assert_eq!((case.verdict.as_str(), case.leak_s, case.found_s), ("ok", Some(2.0), Some(1.0)));
        assert_eq!(case.today, Today { count: true, growth: true, slope: true });
        let score = Score::of([&case], Case::said_leak);
        assert_eq!((score.recall(), score.precision()), (Some(0.0), None));
    }
}
