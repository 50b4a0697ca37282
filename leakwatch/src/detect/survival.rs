//! The verdict from births, ends and survivors: who outlives everything that ends, and does it go on?
//!
//! A rising line is not enough, and a big number is not either. What makes a leak is that tasks of one start after the
//! other stay for good, long after their like have ended, and that it goes on. What explains a rising line is that tasks
//! do end, and that there are more of them only because more are started (Little's law: live is start rate times
//! lifetime). `docs/verdicts.md` tells this for people.

use leakwatch_common::RuntimeKind;

use super::confidence::{of_losses, of_span, rounded};
use super::facts::{Lives, Survivors};
use super::growth::{Course, Growth};
use super::units::{count, duration, figure};
use super::{Evidence, Finding, Rule, Verdict};
use crate::model::{Point, float, seconds};

/// Waits that only somebody else's doing ends: Go's (`waitReasonStrings` in `src/runtime/runtime2.go`; those for the
/// network, a timer or the runtime are not among them), tokio's, and a thread's system call.
const BLOCKED: [&str; 14] = [
    "chan receive",
    "chan send",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "select",
    "select (no cases)",
    "semacquire",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "sync.WaitGroup.Wait",
    "idle",
    "futex",
];

/// See the module. All thresholds in one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Survival {
    /// Growth of the live count, where nothing else is known.
    pub growth: Growth,
    /// Fewest survivors of a leak.
    pub survivors_least: u64,
    /// Fewest stretches that they come from.
    pub stretches_least: usize,
    /// Where nothing ended: how old the oldest survivors must be when most of them have not run since, seconds.
    pub stalled_least_s: f64,
    /// And when they run, seconds.
    pub running_least_s: f64,
    /// Fewest old, blocked and identical tasks that are worth a word although their number does not grow.
    pub stuck_least: u64,
    /// For how long they must have stood still under watch, seconds.
    pub stuck_least_s: f64,
    /// For how long they must have waited by the runtime's own account, seconds.
    pub waited_least_s: f64,
    /// Least confidence with which `leak` is said.
    pub leak_least: f64,
}

impl Default for Survival {
    fn default() -> Self {
        Self {
            growth: Growth::default(),
            survivors_least: 6,
            stretches_least: 3,
            stalled_least_s: 20.0,
            running_least_s: 30.0,
            stuck_least: 20,
            stuck_least_s: 30.0,
            waited_least_s: 60.0,
            leak_least: 0.5,
        }
    }
}

impl Rule for Survival {
    fn summary(&self) -> &'static str {
        "tasks outlive everything that ends, and more and more of them do"
    }

    fn check(&self, evidence: &Evidence<'_>) -> Finding {
        let course = || self.growth.course(evidence);
        let Some(survivors) = Survivors::of(evidence) else {
            return self.waits(evidence).unwrap_or_else(|| self.of_plateau(evidence, &course()));
        };
        let sure = of_span(survivors.followed_s) * of_losses(evidence.losses);
        // The course of the live count is dear, and most leaks need none.
        self.outlive(&survivors, sure)
            .unwrap_or_else(|| self.of_survivors(evidence, &survivors, &course(), sure))
    }
}

impl Survival {
    fn of_survivors(
        &self,
        evidence: &Evidence<'_>,
        survivors: &Survivors,
        course: &Course,
        sure: f64,
    ) -> Finding {
        // Two steps are no course.
        let steps = rises(evidence.series, survivors.stretch_s);
        let by_ages = (steps >= self.stretches_least).then(|| self.by_ages(evidence, course, sure)).flatten();
        let said = by_ages
            .or_else(|| self.pile_up(evidence, survivors, course, sure))
            .or_else(|| self.stuck(evidence, survivors, sure))
            .or_else(|| self.steps(survivors, sure));
        if let Some(finding) = said {
            return finding;
        }
        let Some(lives) = survivors.lives else { return of_course(course, sure) };
        let none_left = survivors.all().live == 0;
        let early = survivors.cohorts.is_empty();
        match course {
            Course::Grows { why, .. } if early && survivors.steady_births() => {
                let why = format!(
                    "{why}; no more are started than before, and those that ended lived for up to {}: lives become \
                     longer, as in a queue that is served too slowly, or some never end",
                    duration(lives.longest_s),
                );
                grows(&why, 0.6 * sure)
            }
            Course::Grows { why, .. } if early => {
                let left_s = survivors.counted_s + survivors.stretch_s - survivors.followed_s;
                let why = format!("{why}; tasks that ended lived for up to {}", duration(lives.longest_s));
                not_yet(why, format!("whether some never end shows in {}", duration(left_s.max(1.0))))
            }
            Course::Grows { .. } | Course::Holds { .. } if none_left && !early => {
                ok(ends(evidence, survivors, lives), 0.95 * sure)
            }
            Course::Grows { why, .. } => grows(why, 0.6 * sure),
            other => of_course(other, sure),
        }
    }

    /// As many are started as ever, fewer end, and so it was from the beginning of the watch on: what they wait for cannot
    /// keep up, and each waits longer than the one before. Tasks that merely live long end later, not fewer.
    fn pile_up(
        &self,
        evidence: &Evidence<'_>,
        survivors: &Survivors,
        course: &Course,
        sure: f64,
    ) -> Option<Finding> {
        let Course::Grows { why, chance } = course else { return None };
        // Where nobody is old enough to count, the lives of those that end are as long as the watch.
        if survivors.lives.is_none() || !survivors.cohorts.is_empty() || !survivors.steady_births() {
            return None;
        }
        let halves = survivors.ends_by_half(evidence.series)?;
        let [early, late] = halves;
        let from_the_beginning = early.ended >= self.survivors_least && 2 * early.ended >= late.ended;
        let too_few = 5 * late.ended < 4 * late.born && 5 * early.ended < 4 * early.born;
        let long = survivors.followed_s >= 1.5 * self.running_least_s;
        let confidence = rounded(0.85 * sure * (1.0 - chance));
        if !(from_the_beginning && too_few && long && confidence >= self.leak_least) {
            return None;
        }
        let why = format!(
            "tasks pile up: in the first half of the watch {} were started and {} ended, in the second {} and {}; {why}",
            count(early.born, ""),
            count(early.ended, ""),
            count(late.born, ""),
            count(late.ended, ""),
        );
        let settles = "as many ends as starts would take it back".to_owned();
        Some(Finding::new(Verdict::Leak, why, confidence, settles))
    }

    /// Tasks outlive all that ended, of one stretch after the other.
    fn outlive(&self, survivors: &Survivors, sure: f64) -> Option<Finding> {
        let all = survivors.all();
        let stalled = float(all.stalled) >= 0.5 * float(all.live.max(1));
        let old_least_s = if stalled { self.stalled_least_s } else { self.running_least_s };
        let old = survivors.oldest_s().is_some_and(|age_s| survivors.lives.is_some() || age_s >= old_least_s);
        // Those from before the attach that stand still count as one stretch more.
        let before = usize::from(stalled && survivors.older.stalled > 0);
        let stretches = survivors.stretches();
        let many =
            all.live >= self.survivors_least && stretches >= 2 && stretches + before >= self.stretches_least;
        if !(many && old && survivors.goes_on()) {
            return None;
        }
        let confidence = rounded(sure * if stalled { 0.97 } else { 0.87 });
        let why = outlived(survivors);
        Some(if confidence >= self.leak_least {
            Finding::new(Verdict::Leak, why, confidence, TAKEN_BACK.to_owned())
        } else {
            Finding::new(Verdict::Suspect, why, confidence, LONGER.to_owned())
        })
    }

    /// Twice some were added that stay and stand still: once more, and it is a leak. A pool grows when its members are busy.
    fn steps(&self, survivors: &Survivors, sure: f64) -> Option<Finding> {
        let all = survivors.all();
        let still = all.live >= self.survivors_least && all.stalled == all.live;
        (still && survivors.stretches() >= 2 && survivors.goes_on()).then(|| {
            Finding::new(Verdict::Suspect, outlived(survivors), rounded(0.6 * sure), LONGER.to_owned())
        })
    }

    /// Without a look at its tasks: by the ages and lifetimes that the probes know, and by growth.
    fn of_plateau(&self, evidence: &Evidence<'_>, course: &Course) -> Finding {
        let site = &evidence.site;
        let sure = of_span(site.elapsed_s()) * of_losses(evidence.losses);
        if let Some(finding) = self.by_ages(evidence, course, sure) {
            return finding;
        }
        match (course, site.plateau()) {
            (Course::Grows { why, .. }, Some(plateau)) if plateau.survivors == 0 => {
                ok(format!("{why}; but none outlives those that end"), 0.9 * sure)
            }
            (_, None) => self.none_ended(evidence, course, sure).unwrap_or_else(|| of_course(course, sure)),
            _ => of_course(course, sure),
        }
    }

    /// A leak by the ages and lifetimes that the probes know, with growth: exact, and as fresh as the tables, where looks at
    /// memory are far apart or not to be had.
    fn by_ages(&self, evidence: &Evidence<'_>, course: &Course, sure: f64) -> Option<Finding> {
        let (site, Course::Grows { why, chance }) = (&evidence.site, course) else { return None };
        let plateau = site.plateau()?;
        let old_s = plateau.scale_s.map_or(self.running_least_s, |scale| 3.0 * scale);
        let many = plateau.survivors >= 2 * self.survivors_least && plateau.late_ends == 0;
        let long = site.elapsed_s() >= 1.5 * old_s.max(self.running_least_s);
        // What was there before the attach and ended under it lived longer than the probes can tell.
        let by_birth = site.lifetimes().iter().fold(0u64, |a, b| a.saturating_add(*b));
        let known = by_birth >= site.ended();
        let confidence = rounded(0.9 * sure * (1.0 - chance));
        if !(many && long && known && confidence >= self.leak_least) {
            return None;
        }
        let why = format!(
            "{} % (at least {} %) of the tasks started since attach have not ended, {} are older than those that do; {why}",
            figure(100.0 * plateau.share),
            figure(100.0 * plateau.interval.0),
            count(plateau.survivors, ""),
        );
        Some(Finding::new(Verdict::Leak, why, confidence, TAKEN_BACK.to_owned()))
    }

    /// Of children nothing is known but their number: they grow in number all the time, and none has ended.
    fn none_ended(&self, evidence: &Evidence<'_>, course: &Course, sure: f64) -> Option<Finding> {
        let (site, Course::Grows { why, chance }) = (&evidence.site, course) else { return None };
        let children = site.id().runtime == RuntimeKind::Process;
        let many = children && site.started() >= 2 * self.survivors_least && site.ended() == 0;
        let confidence = rounded(0.8 * sure * (1.0 - chance));
        (many && site.elapsed_s() >= 1.5 * self.running_least_s && confidence >= self.leak_least)
            .then(|| Finding::new(Verdict::Leak, why.clone(), confidence, TAKEN_BACK.to_owned()))
    }

    /// Many tasks stand still at one place since before the attach, and none is added: a leak that is over, or a pool
    /// without work.
    fn stuck(&self, evidence: &Evidence<'_>, survivors: &Survivors, sure: f64) -> Option<Finding> {
        let site = &evidence.site;
        let followed = site.followed()?;
        if !followed.runs_seen {
            return self.waits(evidence);
        }
        let group = site.waiting().iter().find(|group| BLOCKED.contains(&group.reason.as_str()))?;
        let still_s = seconds(followed.longest_still_ns);
        let young = survivors.all();
        let stalled = survivors.older.stalled.saturating_add(young.stalled);
        if stalled < self.stuck_least || still_s < self.stuck_least_s {
            return None;
        }
        // Started in one go, and it never was more or fewer: a pool. A leak's tasks are started one by one, and the
        // program starts others in between.
        if survivors.lives.is_none() && young.live == 0 && followed.apart == Some(0) {
            let why = format!(
                "{} were started in one go and wait in {}, and none was added or ended: a pool without work",
                count(survivors.older.live, "task"),
                group.reason,
            );
            return Some(Finding::new(Verdict::Ok, why, rounded(0.5 * sure), WORK.to_owned()));
        }
        let why = format!(
            "{} of {} have not run for up to {}, most in {}, {}: a leak that is over, or a pool without work",
            count(stalled, ""),
            count(site.live(), "live task"),
            duration(still_s),
            group.reason,
            match survivors.births.iter().sum::<u64>() {
                0 => "and none was added".to_owned(),
                added => format!("and {} were added under watch", count(added, "")),
            },
        );
        let apart = followed.apart.map_or(1.0, |apart| if apart > 0 { 1.2 } else { 1.0 });
        Some(Finding::new(Verdict::Suspect, why, rounded(0.5 * apart * sure), settles_stuck(evidence)))
    }

    /// The same where it is not seen who runs, by what the runtime says of its waits: that holds from the first look on.
    fn waits(&self, evidence: &Evidence<'_>) -> Option<Finding> {
        let site = &evidence.site;
        let group = site.waiting().iter().find(|group| BLOCKED.contains(&group.reason.as_str()))?;
        let waits_s = group.certain_ns().map_or(0.0, seconds);
        let share = float(group.count) / float(site.live().max(group.count).max(1));
        let many = group.count >= 5 * self.stuck_least && share >= 0.9;
        let watched = site.elapsed_s() >= self.growth.span_least_s;
        if !many || !watched || waits_s < self.waited_least_s || site.ended() > 0 {
            return None;
        }
        let why = format!(
            "{} of {} are blocked in {} at one place, the oldest for at least {}, and none ended in {}; an idle pool \
             looks so too",
            count(group.count, ""),
            count(site.live(), "live task"),
            group.reason,
            duration(waits_s),
            duration(site.elapsed_s()),
        );
        let confidence = rounded(0.4 * of_span(waits_s) * of_losses(evidence.losses));
        Some(Finding::new(Verdict::Suspect, why, confidence, settles_stuck(evidence)))
    }
}

/// What would change a leak.
const TAKEN_BACK: &str = "the end of one of them would take it back";
/// What tells an idle pool from a leak that is over.
const WORK: &str = "work: a pool's tasks run again, leaked ones never do";
/// What tells more.
const LONGER: &str = "a longer watch settles it";

fn settles_stuck(evidence: &Evidence<'_>) -> String {
    match evidence.site.id().runtime {
        RuntimeKind::Go => {
            "`leakwatch prove` settles it: nothing alive can wake a leaked goroutine".to_owned()
        }
        _ => WORK.to_owned(),
    }
}

/// Stretches of so many seconds in which the live count rose.
fn rises(series: &[Point], stretch_s: f64) -> usize {
    let mut from: Option<Point> = None;
    let mut rises = 0;
    for point in series {
        let begin = *from.get_or_insert(*point);
        if point.at_s - begin.at_s >= stretch_s {
            rises += usize::from(point.live > begin.live);
            from = Some(*point);
        }
    }
    rises
}

/// By growth alone.
fn of_course(course: &Course, sure: f64) -> Finding {
    match course {
        Course::NotYet { why } => not_yet(why.clone(), LONGER.to_owned()),
        Course::Grows { why, chance } => grows(why, 0.8 * sure * (1.0 - chance)),
        Course::Holds { why } => ok(why.clone(), 0.9 * sure),
    }
}

fn ok(why: String, confidence: f64) -> Finding {
    Finding::new(Verdict::Ok, why, rounded(confidence), String::new())
}

fn not_yet(why: String, settles: String) -> Finding {
    Finding::new(Verdict::NotYet, why, 0.0, settles)
}

fn grows(why: &str, confidence: f64) -> Finding {
    let settles = "whether they end: a longer watch settles it".to_owned();
    Finding::new(Verdict::Suspect, why.to_owned(), rounded(confidence), settles)
}

fn outlived(survivors: &Survivors) -> String {
    let all = survivors.all();
    let old = duration(survivors.counted_s);
    let who = match survivors.lives {
        Some(lives) => format!(
            "{} of {} started under watch more than {old} ago are alive, longer than any of the {} that ended lived ({})",
            count(all.live, ""),
            count(all.born, "task"),
            count(lives.ended.saturating_add(lives.older_ended), ""),
            duration(lives.longest_s),
        ),
        None => format!(
            "all {} started under watch more than {old} ago are alive, and none has ended",
            count(all.live, "task")
        ),
    };
    let ran = match all.stalled {
        0 => String::new(),
        stalled => format!(", {} without running again", count(stalled, "")),
    };
    format!(
        "{who}{ran}; they come from {} of {} stretches of {}, {} more a minute",
        survivors.stretches(),
        survivors.cohorts.len(),
        duration(survivors.stretch_s),
        figure(60.0 * survivors.per_s()),
    )
}

fn ends(evidence: &Evidence<'_>, survivors: &Survivors, lives: Lives) -> String {
    let site = &evidence.site;
    format!(
        "its tasks end: {} started and {} ended, the longest lived for {}, and none of those from more than {} ago is left",
        count(site.started(), ""),
        count(site.ended(), ""),
        duration(lives.longest_s),
        duration(survivors.counted_s),
    )
}
