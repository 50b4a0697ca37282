//! Reads leakwatch's JSON report: its schema is checked, its figures are added up by creating function.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::target::{SiteTruth, Truth};

/// One report, `leakwatch.report/1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Report(Value);

/// Counts of one site, function or process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counts {
    /// Alive at the end.
    pub live: u64,
    /// Alive when leakwatch came.
    pub live_at_attach: u64,
    /// Started since.
    pub started: u64,
    /// Ended since.
    pub ended: u64,
}

impl Counts {
    /// Each figure is at least as large as the other's.
    pub fn has_all(&self, other: &Self) -> bool {
        self.live >= other.live
            && self.live_at_attach >= other.live_at_attach
            && self.started >= other.started
            && self.ended >= other.ended
    }

    /// Those of a site, or of all tasks.
    #[track_caller]
    pub fn of(value: &Value) -> Self {
        Self {
            live: number(value, "live"),
            live_at_attach: number(value, "live_at_attach"),
            started: number(value, "started"),
            ended: number(value, "ended"),
        }
    }
}

impl Report {
    /// Reads a report; panics when it is not one.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => panic!("not JSON: {error}: {text:?}"),
        };
        assert_eq!(value["schema"], "leakwatch.report/1", "{text}");
        Self(value)
    }

    /// The whole of it.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// What it says of one process; panics when it says nothing.
    #[track_caller]
    pub fn process(&self, pid: u32) -> ProcessReport<'_> {
        match self.images(pid).first() {
            Some(process) => *process,
            None => panic!("the report has no process {pid}: {:#}", self.0),
        }
    }

    /// What it says of each program that the process was, the first one first.
    pub fn images(&self, pid: u32) -> Vec<ProcessReport<'_>> {
        let processes = self.0["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
        processes.iter().filter(|process| process["pid"] == pid).map(ProcessReport).collect()
    }
}

/// What a report says of one process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessReport<'a>(&'a Value);

impl<'a> ProcessReport<'a> {
    /// The whole of it.
    pub fn json(&self) -> &'a Value {
        self.0
    }

    /// All tasks together.
    #[track_caller]
    pub fn tasks(&self) -> Counts {
        Counts::of(&self.0["tasks"])
    }

    /// By how much the sources differ; 0 at rest.
    #[track_caller]
    pub fn drift(&self) -> i64 {
        match self.0["tasks"]["drift"].as_i64() {
            Some(drift) => drift,
            None => panic!("no drift: {:#}", self.0["tasks"]),
        }
    }

    /// Events that the ring buffer had no room for.
    #[track_caller]
    pub fn lost_events(&self) -> u64 {
        number(&self.0["tasks"], "lost_events")
    }

    /// Its sites as they are.
    pub fn sites(&self) -> &'a [Value] {
        self.0["sites"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The program's own sites, added up by creating function: instances of a generic function share a name.
    ///
    /// Without the main goroutine, which no go statement creates.
    #[track_caller]
    pub fn by_function(&self) -> BTreeMap<String, Counts> {
        self.added_up(false)
    }

    /// The sites of threads or child processes (`thread`, `process`), system ones too, added up by creating function and
    /// line; those that are not known are under the empty name.
    #[track_caller]
    pub fn by_place(&self, runtime: &str) -> BTreeMap<(String, u64), Counts> {
        let mut places = BTreeMap::<(String, u64), Counts>::new();
        for site in self.sites().iter().filter(|site| site["runtime"] == runtime) {
            let function = site["function"].as_str().unwrap_or("").to_owned();
            let sum = places.entry((function, site["line"].as_u64().unwrap_or(0))).or_default();
            let one = Counts::of(site);
            sum.live += one.live;
            sum.live_at_attach += one.live_at_attach;
            sum.started += one.started;
            sum.ended += one.ended;
        }
        places
    }

    /// The runtime's own sites, added up by creating function.
    #[track_caller]
    pub fn system_by_function(&self) -> BTreeMap<String, Counts> {
        self.added_up(true)
    }

    #[track_caller]
    fn added_up(self, system: bool) -> BTreeMap<String, Counts> {
        let mut functions = BTreeMap::<String, Counts>::new();
        // Threads and child processes stand beside what a runtime calls tasks.
        let of_tasks = |site: &&Value| site["runtime"] != "thread" && site["runtime"] != "process";
        for site in self.sites().iter().filter(of_tasks).filter(|site| site["system"] == system) {
            if site["task"] == "runtime.main" {
                continue;
            }
            let function = site["function"].as_str().unwrap_or("").to_owned();
            let sum = functions.entry(function).or_default();
            let one = Counts::of(site);
            sum.live += one.live;
            sum.live_at_attach += one.live_at_attach;
            sum.started += one.started;
            sum.ended += one.ended;
        }
        functions
    }

    /// Panics unless every figure is the truth: alive at attach as `before` says, started and ended since as
    /// `after` says, alive now, in all and for each creating function, with no drift.
    #[track_caller]
    pub fn assert_is(&self, before: &Truth, after: &Truth, about: &str) {
        let mut expected = BTreeMap::new();
        for (function, change) in after.since(before) {
            let live_at_attach = before.sites.get(&function).map_or(0, |site| site.live);
            let SiteTruth { live, started, ended } = change;
            expected.insert(function, Counts { live, live_at_attach, started, ended });
        }
        let mut reported = self.by_function();
        reported.retain(|_, counts| *counts != Counts::default());
        assert_eq!(reported, expected, "{about}: by function; reported is left, true is right");
        let all = Counts {
            live: after.num_goroutine,
            live_at_attach: before.num_goroutine,
            started: after.started - before.started,
            ended: after.ended - before.ended,
        };
        assert_eq!(self.tasks(), all, "{about}: in all; reported is left, true is right");
        // A process that is gone has no memory to compare with.
        if self.0["exited"] != true {
            assert_eq!(self.drift(), 0, "{about}: drift");
        }
    }
}

#[track_caller]
fn number(value: &Value, field: &str) -> u64 {
    match value[field].as_u64() {
        Some(number) => number,
        None => panic!("{field} is no count in {value:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report with these sites: function, task, system, [live, at attach, started, ended].
    fn report(sites: &[(&str, &str, bool, [u64; 4])], tasks: [u64; 4]) -> Report {
        let counts = |[live, live_at_attach, started, ended]: [u64; 4]| {
            serde_json::json!({
                "live": live, "live_at_attach": live_at_attach, "started": started, "ended": ended,
            })
        };
        let sites: Vec<Value> = sites
            .iter()
            .map(|(function, task, system, numbers)| {
                let mut site = counts(*numbers);
                site["function"] = (*function).into();
                site["task"] = (*task).into();
                site["system"] = (*system).into();
                site
            })
            .collect();
        let mut tasks = counts(tasks);
        tasks["drift"] = 0.into();
        let process = serde_json::json!({ "pid": 7, "tasks": tasks, "sites": sites });
        let report = serde_json::json!({ "schema": "leakwatch.report/1", "processes": [process] });
        Report::parse(&report.to_string())
    }

    fn truth(live: u64, started: u64, ended: u64) -> Truth {
        let site = SiteTruth { live, started, ended };
        Truth {
            num_goroutine: live + 1,
            live,
            started,
            ended,
            sites: BTreeMap::from([("main.worker[...]".to_owned(), site)]),
            threads: 4,
            forks: 0,
            busy: false,
        }
    }

    const MAIN: (&str, &str, bool, [u64; 4]) = ("runtime.newproc", "runtime.main", false, [1, 1, 0, 0]);
    const GC: (&str, &str, bool, [u64; 4]) =
        ("runtime.gcBgMarkStartWorkers", "runtime.gcBgMarkWorker", true, [2, 0, 2, 0]);

    #[test]
    fn instances_of_one_function_are_added_up() {
        let report = report(
            &[
                MAIN,
                GC,
                ("main.worker[...]", "main.worker[...].func1", false, [2, 1, 3, 2]),
                ("main.worker[...]", "main.worker[...].func1", false, [3, 2, 1, 0]),
            ],
            [6, 4, 4, 2],
        );
        report.process(7).assert_is(&truth(3, 10, 7), &truth(5, 14, 9), "two instances");
        assert_eq!(report.process(7).system_by_function().len(), 1);
    }

    #[test]
    #[should_panic(expected = "by function")]
    fn a_wrong_count_is_noticed() {
        let report = report(
            &[MAIN, ("main.worker[...]", "main.worker[...].func1", false, [5, 3, 3, 2])],
            [6, 4, 4, 2],
        );
        report.process(7).assert_is(&truth(3, 10, 7), &truth(5, 14, 9), "one start too few");
    }

    #[test]
    #[should_panic(expected = "no process 8")]
    fn a_missing_process_is_noticed() {
        report(&[MAIN], [1, 1, 0, 0]).process(8);
    }
}
