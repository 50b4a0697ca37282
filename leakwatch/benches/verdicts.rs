//! What verdicts cost: a process with 10,000 sites, a sample a second, a census every fifth, all sites judged each time.
//!
//!     cargo bench -p leakwatch --bench verdicts
//!
//! Then rules, asked about each of these sites once a second: leakwatch's presets for sites, and one over a window of each.
//!
//! Prints processor time and memory, and fails where they are beyond 5 % of a core and 100 MB in an optimised build.

#![expect(clippy::print_stdout, reason = "a bench's result is its output")]

use std::fs;

use leakwatch::detect::{Detector, Evidence, Verdict};
use leakwatch::model::{Attach, EachItself, Limits, ProcessModel, TasksAre};
use leakwatch::observe::{
    AgeSummary, Census, ChildrenSample, Cohort, Counters, Followed, Histogram, ProcessId, ProcessSample,
    SiteId, SiteSample, Waiting,
};
use leakwatch::report::{
    FrameName, Names, ProcessInfo, ProcessInput, SiteName, Span, Timestamp, assemble_process,
};
use leakwatch::rules::{Engine, Limits as RuleLimits, Moment};
use leakwatch_common::{COUNTERS, RuntimeKind};

const SITES: u64 = 10_000;
const SECOND: u64 = 1_000_000_000;
/// Seconds until every series is full.
const WARM: u64 = 130;
/// Seconds measured.
const MEASURED: u64 = 30;

/// How many of the sites do something: of one in this many, tasks start, end and stay.
#[derive(Clone, Copy)]
struct Busy(u64);

fn sample(at_s: u64, busy: Busy) -> ProcessSample {
    let id = |number: u64| SiteId { runtime: RuntimeKind::Go, site: 0x40_0000 + 16 * number, entry: number };
    let moves = |number: u64| number.is_multiple_of(busy.0);
    let site = |number: u64| {
        let at_s = if moves(number) { at_s } else { 0 };
        let mut lifetimes = Histogram::default();
        lifetimes.count(30, 5 * at_s);
        let ages = Some(AgeSummary { count: at_s, ..AgeSummary::default() });
        SiteSample { id: id(number), live_at_attach: 10, started: 6 * at_s, ended: 5 * at_s, lifetimes, ages }
    };
    let followed = |number: u64| Followed {
        site: id(number),
        since_ns: 0,
        now_ns: at_s * SECOND,
        one_in: 1,
        older: Cohort { born: 10, live: 10, stalled: 0 },
        stretch_ns: 10 * SECOND,
        cohorts: vec![Cohort { born: 60, live: u64::from(moves(number)), stalled: 0 }; 16],
        lifetimes: Histogram::default(),
        older_ended_ns: None,
        runs_seen: true,
        ran: 3,
        longest_rest_ns: SECOND,
        longest_still_ns: 3 * SECOND,
        apart: Some(1),
    };
    let waiting = |number: u64| Waiting {
        site: id(number),
        reason: "chan receive".to_owned(),
        stack: Vec::new(),
        count: 10 + at_s,
        longest_ns: None,
        stack_bytes: 20_480,
    };
    let census = at_s.is_multiple_of(5).then(|| Census {
        waiting: (0..SITES).map(waiting).collect(),
        followed: (0..SITES).map(followed).collect(),
        stack_bytes: Some(SITES * 20_480),
        ..Census::default()
    });
    ProcessSample {
        time_ns: at_s * SECOND,
        counters: Counters([0; COUNTERS]),
        sites: (0..SITES).map(site).collect(),
        threads_live: Some(10),
        rss_bytes: Some(1 << 30),
        census,
        thread_names: None,
        children: ChildrenSample::default(),
        proof: None,
    }
}

/// Processor time of this process so far, seconds: `utime` and `stime` of proc(5), in ticks of 10 ms.
fn processor_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    after.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}

/// Resident set, megabytes.
fn resident_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) / 1_024.0
}

/// Percent of a core, and how many were called a leak at the end.
fn cost(busy: Busy) -> (f64, usize) {
    let process = ProcessId { pid: 1, start_ticks: 1 };
    let attach = Attach { process, time_ns: 0, tasks: TasksAre::default() };
    let mut model = ProcessModel::new(attach, Limits::default());
    let detector = Detector::default();
    let (mut spent_s, mut leaks) = (0.0, 0);
    for at_s in 1..=WARM + MEASURED {
        // Making it up is not what is measured.
        let sample = sample(at_s, busy);
        let before_s = processor_s();
        model.apply(&sample, &mut EachItself);
        let losses = model.losses();
        leaks = 0;
        for site in model.sites() {
            let series = site.series();
            let growth_per_min = leakwatch::model::growth_per_min(&series);
            let evidence = Evidence { site, series: &series, growth_per_min, losses: &losses };
            leaks += usize::from(detector.judge(&evidence).verdict == Verdict::Leak);
        }
        if at_s > WARM {
            spent_s += processor_s() - before_s;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "30")]
    let seconds = MEASURED as f64;
    (100.0 * spent_s / seconds, leaks)
}

/// A function and a file for each site.
struct Named;

impl Names for Named {
    fn site(&mut self, site: SiteId) -> SiteName {
        SiteName {
            function: Some(format!("example.org/shop/internal/orders.(*Service).handle{}", site.entry)),
            file: Some("/build/shop/internal/orders/service.go".to_owned()),
            line: u32::try_from(site.entry).ok(),
            task: Some(format!("example.org/shop/internal/orders.(*Service).handle{}.func1", site.entry)),
            system: false,
        }
    }

    fn frame(&mut self, _: u64) -> Vec<FrameName> {
        Vec::new()
    }
}

/// What rules are asked: presets about sites, and one over a window of every site.
const RULES: &str = r#"
[[rule]]
preset = "leak"
[[rule]]
preset = "suspect"
[[rule]]
preset = "proven-leak"
[[rule]]
preset = "stack-cluster"
[[rule]]
name = "climbs"
when = "slope(live, 60s) > 1/s and stddev(live, 60s) > 30"
"#;

/// Percent of a core that rules take, the megabytes that they keep, and how many alerts there are in the end.
fn cost_of_rules(busy: Busy) -> (f64, f64, u64) {
    let process = ProcessId { pid: 1, start_ticks: 1 };
    let attach = Attach { process, time_ns: 0, tasks: TasksAre::default() };
    let mut model = ProcessModel::new(attach, Limits::default());
    let detector = Detector::default();
    let info = ProcessInfo { pid: 1, comm: "shop".to_owned(), ..ProcessInfo::default() };
    let file = leakwatch::config::rules::parse("bench", RULES).expect("rules");
    let mut engine = Engine::new(file.rules, RuleLimits::default());
    let (mut spent_s, mut kept_mb, mut alerts) = (0.0, 0.0, 0);
    for at_s in 1..=WARM + MEASURED {
        model.apply(&sample(at_s, busy), &mut EachItself);
        let input = ProcessInput { info: &info, model: &model, names: &mut Named };
        let report = [assemble_process(input, &detector, Span::Watch).into()];
        #[expect(clippy::cast_precision_loss, reason = "160")]
        let at = Moment { at_s: at_s as f64, wall: Timestamp::UNIX_EPOCH };
        let (before_s, before_mb) = (processor_s(), resident_mb());
        let found = engine.evaluate(at, &report);
        alerts = found.alerting.rules.iter().map(|rule| rule.firing).sum();
        assert_eq!(found.alerting.not_looked_at, 0);
        kept_mb += resident_mb() - before_mb;
        if at_s > WARM {
            spent_s += processor_s() - before_s;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "30")]
    let seconds = MEASURED as f64;
    (100.0 * spent_s / seconds, kept_mb, alerts)
}

fn main() {
    let before_mb = resident_mb();
    let mut most: f64 = 0.0;
    for (busy, label) in [(Busy(10), "one site in ten moves"), (Busy(1), "all sites move")] {
        let (percent, leaks) = cost(busy);
        println!("{SITES} sites, {label}: {percent:.1} % of a core at intervals of 1 s, {leaks} leaks");
        most = most.max(percent);
    }
    let used_mb = resident_mb() - before_mb;
    println!("{used_mb:.0} MB, one sample and its making among them");
    let (percent, kept_mb, alerts) = cost_of_rules(Busy(10));
    println!(
        "5 rules on {SITES} sites: {percent:.1} % of a core at intervals of 1 s, {kept_mb:.0} MB, {alerts} alerts"
    );
    let kept = cfg!(debug_assertions) || (most + percent < 5.0 && used_mb < 100.0 && kept_mb < 100.0);
    assert!(kept, "more than 5 % of a core or 100 MB");
}
