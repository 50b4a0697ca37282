//! The course of a watch over all its reports, for pictures: a recording or a file of one report a line may have a hundred
//! thousand of them.
//!
//! Bounded whatever the length: a series that becomes too long gives up half of its points, of each two the lower one, so
//! that peaks stay. Processes and sites beyond a limit have no course. It judges nothing and is no source of figures: those
//! are in the last report.

use rustc_hash::FxHashMap;

use super::{
    Moment, Point, ProcessReport, Report, SiteReport, Timestamp,
    alerting::{AlertReport, AlertState},
};

/// Most points of a series.
pub const MOST_POINTS: usize = 400;
/// Most processes with a course.
const MOST_PROCESSES: usize = 512;
/// Most sites of a process with a course: those that were among so many worst ones.
const MOST_SITES: usize = 256;
/// Most alerts that are remembered.
const MOST_ALERTS: usize = 500;

/// The course of every process and site.
#[derive(Clone, Debug, Default)]
pub struct Course {
    processes: FxHashMap<ProcessKey, ProcessCourse>,
    /// Every alert that fired, in the order in which they did.
    alerts: Vec<AlertReport>,
    /// There were more.
    more_alerts: bool,
}

type ProcessKey = (u32, Option<Timestamp>, Option<String>);
type SiteKey = (String, Option<String>, Option<String>, Option<u32>, Option<String>);

#[derive(Clone, Debug, Default)]
struct ProcessCourse {
    moments: Series<Moment>,
    sites: FxHashMap<SiteKey, Series<Point>>,
}

/// What a series is made of.
trait At: Copy {
    fn at_s(&self) -> f64;
    fn live(&self) -> u64;
}

impl At for Moment {
    fn at_s(&self) -> f64 {
        self.at_s
    }

    fn live(&self) -> u64 {
        self.live
    }
}

impl At for Point {
    fn at_s(&self) -> f64 {
        self.at_s
    }

    fn live(&self) -> u64 {
        self.live
    }
}

#[derive(Clone, Debug)]
struct Series<T> {
    points: Vec<T>,
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self { points: Vec::new() }
    }
}

impl<T: At> Series<T> {
    /// Takes points that are in order; those that are not later than the last one are known already.
    fn extend(&mut self, points: impl IntoIterator<Item = T>) {
        for point in points {
            let later = self.points.last().is_none_or(|last| point.at_s() > last.at_s());
            if later && point.at_s().is_finite() {
                self.points.push(point);
                if self.points.len() > MOST_POINTS {
                    self.halve();
                }
            }
        }
    }

    /// Of each two points the higher one; the last quarter, which may still be a burst, is left alone.
    fn halve(&mut self) {
        let recent = self.points.split_off(self.points.len() / 4 * 3);
        let older = std::mem::take(&mut self.points);
        self.points = older
            .chunks(2)
            .filter_map(|pair| pair.iter().copied().max_by_key(At::live))
            .chain(recent)
            .collect();
    }
}

fn process_key(process: &ProcessReport) -> ProcessKey {
    (process.pid, process.start_time, process.exe.clone())
}

fn site_key(site: &SiteReport) -> SiteKey {
    (site.runtime.clone(), site.function.clone(), site.file.clone(), site.line, site.task.clone())
}

impl Course {
    /// Takes the next report of the same watch.
    pub fn take(&mut self, report: &Report) {
        self.take_alerts(report);
        for process in &report.processes {
            let key = process_key(process);
            if self.processes.len() >= MOST_PROCESSES && !self.processes.contains_key(&key) {
                continue;
            }
            let course = self.processes.entry(key).or_default();
            course.moments.extend(process.recent.iter().copied().chain([now(process)]));
            for site in process.sites.iter().take(MOST_SITES) {
                let key = site_key(site);
                if course.sites.len() >= MOST_SITES && !course.sites.contains_key(&key) {
                    continue;
                }
                let now = Point { at_s: process.watched_s, live: site.live };
                course.sites.entry(key).or_default().extend(site.recent.iter().copied().chain([now]));
            }
        }
    }

    fn take_alerts(&mut self, report: &Report) {
        let same = |one: &AlertReport, other: &AlertReport| {
            (&one.rule, one.pid, one.start_time, one.fired, &one.site)
                == (&other.rule, other.pid, other.start_time, other.fired, &other.site)
        };
        let now = || report.alerting.alerts.iter().filter(|alert| alert.fired.is_some());
        if report.alerting.more_alerts == 0 {
            // A report lists the latest that are over: one of which nothing is said any more is over as well.
            for alert in self.alerts.iter_mut().filter(|alert| !now().any(|other| same(alert, other))) {
                alert.state = AlertState::Resolved;
            }
        }
        for alert in now() {
            let room = self.alerts.len() < MOST_ALERTS;
            match self.alerts.iter_mut().find(|known| same(known, alert)) {
                Some(known) => known.clone_from(alert),
                None if room => self.alerts.push(alert.clone()),
                None => self.more_alerts = true,
            }
        }
    }

    /// Alerts that fired at any time of the watch, the first one first; some are not listed where the second says so.
    pub fn alerts(&self) -> (&[AlertReport], bool) {
        (&self.alerts, self.more_alerts)
    }

    /// The course of a process, oldest first.
    pub fn of_process(&self, process: &ProcessReport) -> &[Moment] {
        self.processes.get(&process_key(process)).map_or(&[], |course| &course.moments.points)
    }

    /// The live count of a site of it, oldest first.
    pub fn of_site(&self, process: &ProcessReport, site: &SiteReport) -> &[Point] {
        let course = self.processes.get(&process_key(process));
        course.and_then(|course| course.sites.get(&site_key(site))).map_or(&[], |series| &series.points)
    }
}

/// What a report itself says of its moment.
fn now(process: &ProcessReport) -> Moment {
    Moment {
        at_s: process.watched_s,
        live: process.tasks.live,
        started: process.tasks.started,
        ended: process.tasks.ended,
        threads_live: process.threads.live,
        rss_bytes: process.memory.rss_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn at(second: u32, live: u64) -> Report {
        let mut process = samples::leaking();
        process.watched_s = f64::from(second);
        process.tasks.live = live;
        process.sites[0].live = live;
        samples::report(vec![process])
    }

    #[test]
    fn a_day_of_reports_is_bounded_and_keeps_its_peaks() {
        let mut course = Course::default();
        for second in 0..86_400 {
            let live = if second == 4_321 { 9_999 } else { u64::from(second) / 1_000 };
            course.take(&at(second, live));
        }
        let last = at(86_399, 86);
        let process = &last.processes[0];
        let moments = course.of_process(process);
        assert!(moments.len() <= MOST_POINTS && moments.len() > MOST_POINTS / 4, "{}", moments.len());
        assert!(moments.iter().any(|moment| moment.live == 9_999), "the peak is gone");
        assert!(moments.is_sorted_by(|a, b| a.at_s < b.at_s));
        let end = moments.last().expect("moments");
        assert!(end.live == 86 && end.at_s >= 86_399.0, "{end:?}");
        let site = course.of_site(process, &process.sites[0]);
        assert_eq!(site.last().map(|point| point.live), Some(86));
        assert!(site.iter().any(|point| point.live == 9_999));
    }

    #[test]
    fn what_a_report_has_of_the_past_is_taken_once() {
        let mut course = Course::default();
        let mut report = at(3, 30);
        let past = |second: u32| Point { at_s: f64::from(second), live: u64::from(second) * 10 };
        samples::process_of(&mut report, 0).sites[0].recent = (0..=3).map(past).collect();
        course.take(&report);
        course.take(&report);
        let process = &report.processes[0];
        let lives: Vec<u64> =
            course.of_site(process, &process.sites[0]).iter().map(|point| point.live).collect();
        assert_eq!(lives, [0, 10, 20, 30]);
        assert!(course.of_process(&samples::lossy()).is_empty(), "of another process nothing is known");
    }
}
