//! Assembly: names, order, merging, and what is said of what is not known.

use leakwatch_common::{COUNTERS, Counter, RuntimeKind};

use super::*;
use crate::detect::Detector;
use crate::model::{Attach, Limits, ProcessModel, TasksAre};
use crate::observe::{Census, Counters, Histogram, ProcessId, ProcessSample, SiteId, SiteSample, Waiting};

const SECOND: u64 = 1_000_000_000;

fn id(site: u64) -> SiteId {
    SiteId { runtime: RuntimeKind::Go, site, entry: site + 0x1000 }
}

/// Names of a small program: sites 1 and 2 are instances of a generic function, 3 is the runtime's, 4 has no name.
#[derive(Default)]
struct Program {
    asked: usize,
}

impl Names for Program {
    fn site(&mut self, site: SiteId) -> SiteName {
        self.asked += 1;
        let name = |function: &str, line| SiteName {
            function: Some(function.to_owned()),
            file: Some("/src/main.go".to_owned()),
            line: Some(line),
            task: Some(format!("{function}.func1")),
            system: false,
        };
        match site.site {
            1 | 2 => name("main.spawn[...]", 12),
            3 => SiteName { system: true, ..name("runtime.gcenable", 1) },
            5 => name("main.leak", 30),
            _ => SiteName::default(),
        }
    }

    fn frame(&mut self, pc: u64) -> Vec<FrameName> {
        let frame = |function: &str, line| FrameName {
            internal: false,
            function: function.to_owned(),
            file: Some("/src/main.go".to_owned()),
            line: Some(line),
        };
        match pc {
            // Two addresses of one line, with an inlined frame.
            0x10 | 0x11 => vec![frame("main.inner", 3), frame("main.outer", 7)],
            0x20 => vec![FrameName { function: "main.noline".to_owned(), ..FrameName::default() }],
            _ => Vec::new(),
        }
    }
}

fn site(number: u64, live_at_attach: u64, started: u64, ended: u64) -> SiteSample {
    SiteSample { id: id(number), live_at_attach, started, ended, lifetimes: Histogram::default(), ages: None }
}

fn sample(time_ns: u64, sites: Vec<SiteSample>) -> ProcessSample {
    let mut counters = Counters([0; COUNTERS]);
    counters.0[Counter::Started as usize] = sites.iter().map(|site| site.started).sum();
    counters.0[Counter::Ended as usize] = sites.iter().map(|site| site.ended).sum();
    ProcessSample {
        time_ns,
        counters,
        sites,
        threads_live: None,
        rss_bytes: None,
        census: None,
        thread_names: None,
        children: crate::observe::ChildrenSample::default(),
        proof: None,
    }
}

fn info() -> ProcessInfo {
    ProcessInfo { pid: 42, comm: "demo".to_owned(), streaming: true, ..ProcessInfo::default() }
}

fn context() -> Context {
    Context {
        host: "h".to_owned(),
        started: Timestamp::UNIX_EPOCH,
        duration_s: 20.0,
        cpu_percent_of_one_core: None,
        budget_percent: None,
        environment: None,
        rates: Span::Watch,
    }
}

/// The report of these samples, and the number of times that names were asked for.
fn report_of(samples: &[ProcessSample], info: &ProcessInfo) -> (ProcessReport, usize) {
    let process = ProcessId { pid: 42, start_ticks: 1 };
    let mut model =
        ProcessModel::new(Attach { process, time_ns: 0, tasks: TasksAre::default() }, Limits::default());
    let (mut names, mut identities) = (Program::default(), Identities::default());
    for sample in samples {
        model.apply(sample, &mut identities.with(&mut names));
    }
    let asked = names.asked;
    let input = ProcessInput { info, model: &model, names: &mut names };
    let mut report = assemble(&context(), [input], &Detector::default());
    assert_eq!(report.processes.len(), 1);
    (Arc::unwrap_or_clone(report.processes.remove(0)), asked)
}

fn functions(process: &ProcessReport) -> Vec<Option<&str>> {
    process.sites.iter().map(|site| site.function.as_deref()).collect()
}

#[test]
fn a_process_in_full() {
    let samples: Vec<ProcessSample> = (1..=20)
        .map(|s| {
            let sites = vec![
                site(3, 5, 0, 0),
                site(1, 1, 2 * s, 2 * s),
                site(4, 9, 0, 0),
                site(2, 2, s, s),
                site(5, 0, s, 0),
            ];
            sample(s * SECOND, sites)
        })
        .collect();
    let (process, asked) = report_of(&samples, &info());
    assert_eq!(asked, 5, "names are asked for once a site");
    let expected = [Some("main.leak"), Some("0x4"), Some("main.spawn[...]"), Some("runtime.gcenable")];
    assert_eq!(functions(&process), expected, "worst first, system last");
    let (leak, generic) = (&process.sites[0], &process.sites[2]);
    assert_eq!(leak.verdict, Verdict::Suspect, "{}", leak.why);
    assert_eq!((leak.line, leak.task.as_deref()), (Some(30), Some("main.leak.func1")));
    assert_eq!((generic.live, generic.live_at_attach, generic.started), (3, Some(3), 60));
    let tasks = &process.tasks;
    assert_eq!((tasks.live, tasks.live_at_attach, tasks.started, tasks.ended), (32, Some(12), 80, 60));
    assert_eq!(tasks.system_live, 5);
    assert_eq!(
        tasks.live,
        process.sites.iter().filter(|site| !site.system).map(|site| site.live).sum::<u64>()
    );
    assert_eq!(process.leaks, 0);
}

#[test]
fn stacks_are_named_and_alike_ones_are_one() {
    let group = |reason: &str, stack: &[u64], count, longest_s: Option<u64>| Waiting {
        site: id(5),
        reason: reason.to_owned(),
        stack: stack.to_vec(),
        count,
        longest_ns: longest_s.map(|s| s * SECOND),
        stack_bytes: 2_048,
    };
    let mut only = sample(SECOND, vec![site(5, 40, 0, 0)]);
    only.census = Some(Census {
        waiting: vec![
            group("chan receive", &[0x10, 0x20, 0x99], 4, None),
            group("chan receive", &[0x11, 0x20, 0x99], 6, Some(7)),
            group("select", &[], 9, Some(1)),
        ],
        ..Census::default()
    });
    let (process, _) = report_of(&[only], &info());
    let waiting = &process.sites[0].waiting;
    assert_eq!(waiting.len(), 2);
    assert_eq!((waiting[0].count, waiting[0].longest_s), (10, Some(7.0)));
    let frames = ["main.inner (/src/main.go:3)", "main.outer (/src/main.go:7)", "main.noline", "0x99"];
    assert_eq!(waiting[0].stack, frames.map(Into::into));
    assert_eq!(waiting[1].reason, "select");
}

#[test]
fn what_is_not_known_is_none() {
    let info = ProcessInfo { blind: vec![RuntimeKind::Go], ..info() };
    let nameless = SiteSample { id: SiteId { site: 0, entry: 0, ..id(0) }, ..site(0, 0, 1, 0) };
    let (process, _) = report_of(&[sample(0, vec![nameless])], &info);
    let site = &process.sites[0];
    assert_eq!((site.function.as_deref(), site.task.as_deref(), site.line), (None, None, None));
    assert_eq!((site.live_at_attach, process.tasks.live_at_attach), (None, None));
    assert_eq!((site.start_rate_per_s, site.growth_per_min, site.age.p50_s), (None, None, None));
    assert_eq!((process.memory.rss_bytes, process.tasks.drift, process.threads.live), (None, None, None));
    assert_eq!(site.verdict, Verdict::NotYet);
}

#[test]
fn losses_are_named_and_lost_events_counted() {
    let mut lossy = sample(SECOND, vec![site(5, 0, 10, 0)]);
    for (counter, count) in
        [(Counter::RingFull, 30), (Counter::TaskUnreadable, 4), (Counter::LiveTableFull, 2)]
    {
        lossy.counters.0[counter as usize] = count;
    }
    let (streamed, _) = report_of(std::slice::from_ref(&lossy), &info());
    assert_eq!(streamed.tasks.lost_events, 34);
    let names: Vec<&str> = streamed.losses.iter().map(|loss| &*loss.name).collect();
    assert_eq!(names, ["task_unreadable", "live_table_full", "ring_full"]);
    let (quiet, _) = report_of(&[lossy], &ProcessInfo { streaming: false, ..info() });
    assert_eq!(quiet.tasks.lost_events, 4, "without a stream nobody misses what the ring had no room for");
}

#[test]
fn equal_sites_come_by_name() {
    let sites = vec![site(4, 1, 0, 0), site(5, 1, 0, 0), site(1, 1, 0, 0)];
    let mut backwards = sites.clone();
    backwards.reverse();
    let (one, _) = report_of(&[sample(SECOND, sites)], &info());
    let (other, _) = report_of(&[sample(SECOND, backwards)], &info());
    assert_eq!(functions(&one), [Some("0x4"), Some("main.leak"), Some("main.spawn[...]")]);
    assert_eq!(one, other);
}

#[test]
fn sites_without_a_name_stay_apart() {
    let (process, _) = report_of(&[sample(SECOND, vec![site(4, 1, 0, 0), site(6, 2, 0, 0)])], &info());
    assert_eq!(functions(&process), [Some("0x6"), Some("0x4")]);
}
