//! The figures that rules are written over, by the names that they have in the JSON report.
//!
//! A figure that is not known reads as `None`, never as 0.

use std::fmt;

use crate::report::alerting::Scope;
use crate::report::stacks::{self, Group};
use crate::report::units::{bytes_signed, duration, figure};
use crate::report::{ProcessReport, SiteReport, Verdict, float};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Tasks, threads, events.
    Number,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share, 0 to 1.
    Share,
    /// A percentage.
    Percent,
    /// A verdict: 0 ok, 1 suspect, 2 leak.
    Verdict,
}

/// Per what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Second.
    Second,
    /// Minute.
    Minute,
    /// Hour.
    Hour,
}

impl Per {
    /// How many seconds it has.
    pub const fn seconds(self) -> f64 {
        match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3_600.0,
        }
    }

    /// How it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "/s",
            Self::Minute => "/min",
            Self::Hour => "/h",
        }
    }
}

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// What.
    pub base: Base,
    /// Per what.
    pub per: Option<Per>,
}

impl Unit {
    const fn of(base: Base) -> Self {
        Self { base, per: None }
    }

    const fn per(base: Base, per: Per) -> Self {
        Self { base, per: Some(per) }
    }

    /// A value in this unit, for people.
    pub fn text(self, value: f64) -> String {
        let per = self.per.map_or("", Per::name);
        match self.base {
            Base::Number => format!("{}{per}", figure(value)),
            Base::Seconds => format!("{}{per}", duration(value)),
            Base::Bytes => format!("{}{per}", bytes_signed(value).trim_start_matches('+')),
            Base::Share => format!("{}%{per}", figure(value * 100.0)),
            Base::Percent => format!("{}%{per}", figure(value)),
            Base::Verdict => verdict_word(value).to_owned(),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = match self.base {
            Base::Number => "number",
            Base::Seconds => "seconds",
            Base::Bytes => "bytes",
            Base::Share => "share",
            Base::Percent => "percent",
            Base::Verdict => "verdict",
        };
        write!(out, "{base}{}", self.per.map_or("", Per::name))
    }
}

/// Verdicts as numbers; that there is none yet is no number.
pub const VERDICTS: [(&str, f64); 3] = [("ok", 0.0), ("suspect", 1.0), ("leak", 2.0)];

fn verdict_word(value: f64) -> &'static str {
    VERDICTS.iter().rev().find(|(_, number)| value >= *number).map_or("ok", |(word, _)| word)
}

fn verdict_number(verdict: Verdict) -> Option<f64> {
    match verdict {
        Verdict::NotYet => None,
        Verdict::Ok => Some(0.0),
        Verdict::Suspect => Some(1.0),
        Verdict::Leak => Some(2.0),
    }
}

/// A figure of a process.
#[derive(Debug)]
pub struct ProcessFigure {
    /// Its path in the JSON report, below a process; or a name of its own where it is computed from others.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// What it is, for those that are computed; else empty: `docs/json.md` says it.
    pub about: &'static str,
    read: fn(&ProcessReport) -> Option<f64>,
}

/// A figure of a site.
#[derive(Debug)]
pub struct SiteFigure {
    /// Its path in the JSON report, below a site; or a name of its own.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// What it is, for those that are computed.
    pub about: &'static str,
    read: fn(&SiteReport) -> Option<f64>,
}

/// A figure.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    /// Of a process.
    OfProcess(&'static ProcessFigure),
    /// Of a site.
    OfSite(&'static SiteFigure),
}

impl Figure {
    /// The figure of this name.
    pub fn named(name: &str) -> Option<Self> {
        figures().find(|figure| figure.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OfProcess(figure) => figure.name,
            Self::OfSite(figure) => figure.name,
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::OfProcess(figure) => figure.unit,
            Self::OfSite(figure) => figure.unit,
        }
    }

    /// What it is, where it is computed from other figures.
    pub const fn about(self) -> &'static str {
        match self {
            Self::OfProcess(figure) => figure.about,
            Self::OfSite(figure) => figure.about,
        }
    }

    /// Whose it is.
    pub const fn scope(self) -> Scope {
        match self {
            Self::OfProcess(_) => Scope::Process,
            Self::OfSite(_) => Scope::Site,
        }
    }

    /// Its value; `None`: it is not known, or it is a site's and there is none.
    pub fn read(self, process: &ProcessReport, site: Option<&SiteReport>) -> Option<f64> {
        let value = match self {
            Self::OfProcess(figure) => (figure.read)(process),
            Self::OfSite(figure) => (figure.read)(site?),
        };
        value.filter(|value| value.is_finite())
    }
}

impl PartialEq for Figure {
    fn eq(&self, other: &Self) -> bool {
        self.scope() == other.scope() && self.name() == other.name()
    }
}

/// All figures, those of processes first.
pub fn figures() -> impl Iterator<Item = Figure> {
    PROCESS.iter().map(Figure::OfProcess).chain(SITE.iter().map(Figure::OfSite))
}

const NUMBER: Unit = Unit::of(Base::Number);
const SECONDS: Unit = Unit::of(Base::Seconds);
const BYTES: Unit = Unit::of(Base::Bytes);
const SHARE: Unit = Unit::of(Base::Share);
const PER_S: Unit = Unit::per(Base::Number, Per::Second);
const PER_MIN: Unit = Unit::per(Base::Number, Per::Minute);
const BYTES_PER_MIN: Unit = Unit::per(Base::Bytes, Per::Minute);

const fn process(
    name: &'static str,
    unit: Unit,
    read: fn(&ProcessReport) -> Option<f64>,
    about: &'static str,
) -> ProcessFigure {
    ProcessFigure { name, unit, about, read }
}

const fn site(
    name: &'static str,
    unit: Unit,
    read: fn(&SiteReport) -> Option<f64>,
    about: &'static str,
) -> SiteFigure {
    SiteFigure { name, unit, about, read }
}

static PROCESS: [ProcessFigure; 34] = [
    process("watched_s", SECONDS, |p| Some(p.watched_s), ""),
    process("tasks.live", NUMBER, |p| Some(float(p.tasks.live)), ""),
    process("tasks.live_at_attach", NUMBER, |p| p.tasks.live_at_attach.map(float), ""),
    process("tasks.started", NUMBER, |p| Some(float(p.tasks.started)), ""),
    process("tasks.ended", NUMBER, |p| Some(float(p.tasks.ended)), ""),
    process("tasks.start_rate_per_s", PER_S, |p| p.tasks.start_rate_per_s, ""),
    process("tasks.end_rate_per_s", PER_S, |p| p.tasks.end_rate_per_s, ""),
    process("tasks.growth_per_min", PER_MIN, |p| p.tasks.growth_per_min, ""),
    process("tasks.lost_events", NUMBER, |p| Some(float(p.tasks.lost_events)), ""),
    process("tasks.drift", NUMBER, |p| p.tasks.drift.map(signed), ""),
    process("tasks.system_live", NUMBER, |p| Some(float(p.tasks.system_live)), ""),
    process("threads.live", NUMBER, |p| p.threads.live.map(float), ""),
    process("threads.started", NUMBER, |p| Some(float(p.threads.started)), ""),
    process("threads.ended", NUMBER, |p| Some(float(p.threads.ended)), ""),
    process("forks.count", NUMBER, |p| Some(float(p.forks.count)), ""),
    process("forks.rate_per_s", PER_S, |p| p.forks.rate_per_s, ""),
    process("forks.ended", NUMBER, |p| Some(float(p.forks.ended)), ""),
    process("forks.live", NUMBER, |p| Some(float(p.forks.live)), ""),
    process("memory.rss_bytes", BYTES, |p| p.memory.rss_bytes.map(float), ""),
    process("memory.rss_growth_per_min", BYTES_PER_MIN, |p| p.memory.rss_growth_per_min, ""),
    process("memory.task_stack_bytes", BYTES, |p| p.memory.task_stack_bytes.map(float), ""),
    process("memory.task_stack_growth_per_min", BYTES_PER_MIN, |p| p.memory.task_stack_growth_per_min, ""),
    process("leaks", NUMBER, |p| Some(number(p.leaks)), ""),
    process("suspects", NUMBER, |p| Some(number(suspects(p))), "sites whose verdict is suspect"),
    process("proof.proven", NUMBER, |p| proven(p).map(float), ""),
    process("proof.refuted", NUMBER, |p| p.proof.as_ref().map(|proof| float(proof.refuted)), ""),
    process("zombies.count", NUMBER, |p| Some(float(zombies(p))), "ended children that were not collected"),
    process(
        "zombies.oldest_s",
        SECONDS,
        |p| p.zombies.iter().filter_map(|zombies| zombies.oldest_s).reduce(f64::max),
        "for how long the oldest of them has not been collected",
    ),
    process(
        "lost",
        NUMBER,
        |p| Some(float(p.losses.iter().map(|loss| loss.count).sum())),
        "all losses of the report together",
    ),
    process(
        "stacks.tasks",
        NUMBER,
        |p| stacks::largest(&p.sites).map(Group::tasks),
        "tasks in the largest group with one stack",
    ),
    process(
        "stacks.seen",
        SHARE,
        |p| stacks::largest(&p.sites).and_then(|group| group.seen),
        "share of the last ten looks in which that group was there",
    ),
    process(
        "stacks.longest_s",
        SECONDS,
        |p| stacks::largest(&p.sites).and_then(|group| group.longest_s),
        "for how long the oldest task of that group has waited",
    ),
    process(
        "clusters.tasks",
        NUMBER,
        |p| stacks::largest_cluster(&p.sites).map(Group::tasks),
        "tasks in the largest group of stacks that are the same or near: equal once the compiler's names are off, or few \
         frames apart",
    ),
    process(
        "clusters.seen",
        SHARE,
        |p| stacks::largest_cluster(&p.sites).and_then(|group| group.seen),
        "share of the last ten looks in which stacks of that group were there",
    ),
];

static SITE: [SiteFigure; 33] = [
    site("live", NUMBER, |s| Some(float(s.live)), ""),
    site("live_at_attach", NUMBER, |s| s.live_at_attach.map(float), ""),
    site("started", NUMBER, |s| Some(float(s.started)), ""),
    site("ended", NUMBER, |s| Some(float(s.ended)), ""),
    site("start_rate_per_s", PER_S, |s| s.start_rate_per_s, ""),
    site("end_rate_per_s", PER_S, |s| s.end_rate_per_s, ""),
    site("growth_per_min", PER_MIN, |s| s.growth_per_min, ""),
    site("age_s.p50", SECONDS, |s| s.age.p50_s, ""),
    site("age_s.p99", SECONDS, |s| s.age.p99_s, ""),
    site("age_s.max", SECONDS, |s| s.age.max_s, ""),
    site("lifetime_s.p50", SECONDS, |s| s.lifetime.p50_s, ""),
    site("lifetime_s.p99", SECONDS, |s| s.lifetime.p99_s, ""),
    site("never_ending_share", SHARE, |s| s.never_ending_share, ""),
    site(
        "never_ending_low",
        SHARE,
        |s| s.never_ending_interval.map(|(low, _)| low),
        "lower end of `never_ending_interval`",
    ),
    site(
        "never_ending_high",
        SHARE,
        |s| s.never_ending_interval.map(|(_, high)| high),
        "upper end of `never_ending_interval`",
    ),
    site("leak_rate_per_min", PER_MIN, |s| s.leak_rate_per_min, ""),
    site("left_behind", NUMBER, |s| s.left_behind.map(float), ""),
    site("proven", NUMBER, |s| s.proven.map(float), ""),
    site("stack_bytes", BYTES, |s| s.stack_bytes.map(float), ""),
    site("verdict", Unit::of(Base::Verdict), |s| verdict_number(s.verdict), ""),
    site("confidence", SHARE, |s| Some(s.confidence), ""),
    site(
        "forecast.tasks_per_h",
        Unit::per(Base::Number, Per::Hour),
        |s| s.forecast.map(|forecast| forecast.tasks_per_h),
        "",
    ),
    site(
        "forecast.bytes_per_h",
        Unit::per(Base::Bytes, Per::Hour),
        |s| s.forecast.and_then(|forecast| forecast.bytes_per_h),
        "",
    ),
    site("forecast.doubles_in_s", SECONDS, |s| s.forecast.and_then(|forecast| forecast.doubles_in_s), ""),
    site("spawns", NUMBER, |s| Some(number(s.spawns.len())), "places that were seen to spawn its tasks"),
    site("stack.tasks", NUMBER, |s| stack(s).map(Group::tasks), "tasks in its largest group with one stack"),
    site(
        "stack.share",
        SHARE,
        |s| stack(s).map(|group| group.share),
        "share of its live tasks that they are",
    ),
    site(
        "stack.seen",
        SHARE,
        |s| stack(s).and_then(|group| group.seen),
        "share of the last ten looks in which that group was there",
    ),
    site(
        "stack.longest_s",
        SECONDS,
        |s| stack(s).and_then(|group| group.longest_s),
        "for how long the oldest task of that group has waited",
    ),
    site(
        "cluster.tasks",
        NUMBER,
        |s| cluster(s).map(Group::tasks),
        "tasks in its largest group of stacks that are the same or near",
    ),
    site(
        "cluster.share",
        SHARE,
        |s| cluster(s).map(|group| group.share),
        "share of its live tasks that they are",
    ),
    site(
        "cluster.seen",
        SHARE,
        |s| cluster(s).and_then(|group| group.seen),
        "share of the last ten looks in which stacks of that group were there",
    ),
    site(
        "cluster.longest_s",
        SECONDS,
        |s| cluster(s).and_then(|group| group.longest_s),
        "for how long the oldest task of that group has waited",
    ),
];

fn stack(site: &SiteReport) -> Option<Group> {
    stacks::largest(std::slice::from_ref(site))
}

fn cluster(site: &SiteReport) -> Option<Group> {
    stacks::largest_cluster(std::slice::from_ref(site))
}

fn suspects(process: &ProcessReport) -> usize {
    process.sites.iter().filter(|site| site.verdict == Verdict::Suspect).count()
}

fn proven(process: &ProcessReport) -> Option<u64> {
    process.proof.as_ref().filter(|proof| proof.proofs > 0).map(|proof| proof.proven)
}

fn zombies(process: &ProcessReport) -> u64 {
    process.zombies.iter().map(|zombies| zombies.count).sum()
}

fn number(count: usize) -> f64 {
    float(count as u64)
}

#[expect(clippy::cast_precision_loss, reason = "a difference of task counts")]
fn signed(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn names_are_one_of_a_kind_within_all_figures() {
        let names: Vec<&str> = figures().map(Figure::name).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(names.iter().skip(at + 1).all(|other| other != name), "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_none() {
        let process = samples::leaking();
        let site = &process.sites[0];
        let read = |name: &str| Figure::named(name).expect(name).read(&process, Some(site));
        assert_eq!(read("tasks.live"), Some(1_038.0));
        assert_eq!(read("live"), Some(1_024.0));
        assert_eq!(read("verdict"), Some(1.0));
        assert_eq!(read("proven"), None, "no proof was tried");
        assert_eq!(read("never_ending_share"), None);
        assert_eq!(read("stack.tasks"), Some(1_000.0));
        assert_eq!(Figure::named("live").expect("live").read(&process, None), None, "no site");
        assert!(Figure::named("alive").is_none());
    }

    #[test]
    fn units_for_people() {
        assert_eq!(Unit::of(Base::Share).text(0.7), "70%");
        assert_eq!(Unit::of(Base::Verdict).text(2.0), "leak");
        assert_eq!(PER_S.text(5.0), "5/s");
        assert_eq!(BYTES.text(1_048_576.0), "1 MiB");
        assert_eq!(BYTES_PER_MIN.to_string(), "bytes/min");
    }
}
