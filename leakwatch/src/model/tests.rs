//! The model as a whole: known histories, and properties that hold for any.

use leakwatch_common::{COUNTERS, Counter, LIFETIME_BUCKETS, RuntimeKind, lifetime_bucket};
use proptest::prelude::*;

use super::*;
use crate::observe::{
    AgeSummary, Census, Counters, Histogram, ProcessId, ProcessSample, SiteId, SiteSample, Waiting,
};

const SECOND: u64 = 1_000_000_000;
const ATTACHED: u64 = 1_000 * SECOND;

fn id(number: u64) -> SiteId {
    SiteId { runtime: RuntimeKind::Go, site: 0x40_0000 + number, entry: 0x50_0000 + number }
}

fn site(number: u64, live_at_attach: u64, started: u64, ended: u64) -> SiteSample {
    SiteSample {
        id: id(number),
        live_at_attach,
        started,
        ended,
        lifetimes: Histogram::default(),
        ages: Some(AgeSummary::default()),
    }
}

/// A sample whose counters agree with its sites.
fn sample(time_ns: u64, sites: Vec<SiteSample>) -> ProcessSample {
    let mut counters = Counters([0; COUNTERS]);
    counters.0[Counter::Started as usize] = sites.iter().map(|site| site.started).sum();
    counters.0[Counter::Ended as usize] = sites.iter().map(|site| site.ended).sum();
    ProcessSample {
        time_ns,
        counters,
        sites,
        threads_live: Some(5),
        rss_bytes: Some(1 << 20),
        census: None,
        thread_names: None,
        children: crate::observe::ChildrenSample::default(),
        proof: None,
    }
}

fn model(limits: Limits) -> ProcessModel {
    let process = ProcessId { pid: 42, start_ticks: 7 };
    ProcessModel::new(Attach { process, time_ns: ATTACHED, tasks: TasksAre::default() }, limits)
}

/// The model after these samples.
fn after(samples: &[ProcessSample]) -> ProcessModel {
    let mut model = model(Limits::default());
    for sample in samples {
        model.apply(sample, &mut EachItself);
    }
    model
}

#[test]
fn a_ramp_has_its_rates_and_growth() {
    let samples: Vec<ProcessSample> =
        (1..=30).map(|s| sample(ATTACHED + s * SECOND, vec![site(1, 10, 5 * s, 2 * s)])).collect();
    let model = after(&samples);
    let ramp = model.site(id(1)).unwrap();
    assert_eq!((ramp.live(), ramp.live_at_attach(), ramp.started(), ramp.ended()), (100, 10, 150, 60));
    for span in [Span::Watch, Span::Interval] {
        assert!((ramp.start_rate_per_s(span).unwrap() - 5.0).abs() < 1e-9);
        assert!((model.end_rate_per_s(span).unwrap() - 2.0).abs() < 1e-9);
    }
    assert!((ramp.growth_per_min().unwrap() - 180.0).abs() < 1e-6);
    assert!((model.growth_per_min().unwrap() - 180.0).abs() < 1e-6);
    assert_eq!(ramp.series().first(), Some(&Point { at_s: 0.0, live: 10 }), "the attach is a point");
    assert_eq!(model.tasks().live, 100);
}

#[test]
fn a_site_met_late_was_zero_before() {
    let mut samples: Vec<ProcessSample> =
        (1..=4).map(|s| sample(ATTACHED + s * SECOND, vec![site(1, 3, 0, 0)])).collect();
    samples.push(sample(ATTACHED + 5 * SECOND, vec![site(1, 3, 0, 0), site(2, 0, 500, 0)]));
    let model = after(&samples);
    let lives: Vec<u64> = model.site(id(2)).unwrap().series().iter().map(|point| point.live).collect();
    assert_eq!(lives, [0, 0, 0, 0, 0, 500]);
    assert_eq!(model.site(id(2)).unwrap().start_rate_per_s(Span::Interval), Some(500.0));
}

#[test]
fn system_tasks_are_apart_and_same_names_are_one() {
    let mut model = model(Limits::default());
    let mut asked = 0;
    let mut classify = |site: SiteId| {
        asked += 1;
        let canonical = if site == id(3) { id(2) } else { site };
        SiteClass { canonical, system: site == id(1) }
    };
    for s in 1..=3 {
        let sites = vec![site(1, 4, s, 0), site(2, 10, 2 * s, 0), site(3, 1, s, s)];
        model.apply(&sample(ATTACHED + s * SECOND, sites), &mut classify);
    }
    assert_eq!(asked, 3, "every site is asked for once");
    let tasks = model.tasks();
    assert_eq!((tasks.live, tasks.live_at_attach, tasks.started, tasks.ended), (17, 11, 9, 3));
    assert_eq!(tasks.system_live, 7);
    assert_eq!(model.sites().len(), 2);
    assert_eq!(model.site(id(3)).unwrap().live(), 17);
}

#[test]
fn only_what_a_runtime_calls_a_task_is_in_the_totals() {
    let of = |runtime: RuntimeKind, live_at_attach: u64, started: u64, ended: u64| SiteSample {
        id: SiteId { runtime, ..id(runtime as u64) },
        ..site(0, live_at_attach, started, ended)
    };
    let sites = vec![
        of(RuntimeKind::Tokio, 10, 5, 2),
        // Seen at its end alone.
        of(RuntimeKind::TokioBlocking, 0, 0, 7),
        of(RuntimeKind::Thread, 4, 3, 1),
        of(RuntimeKind::Process, 0, 6, 0),
    ];
    let mut sample = sample(ATTACHED + SECOND, sites);
    sample.counters.set(Counter::Started, 5);
    sample.counters.set(Counter::Ended, 2 + 7);
    sample.counters.set(Counter::ThreadsStarted, 3);
    sample.counters.set(Counter::ThreadsEnded, 1);
    let totals = |tasks: TasksAre| {
        let process = ProcessId { pid: 42, start_ticks: 7 };
        let mut model = ProcessModel::new(Attach { process, time_ns: ATTACHED, tasks }, Limits::default());
        model.apply(&sample, &mut EachItself);
        let TaskTotals { live, live_at_attach, started, ended, system_live, .. } = model.tasks();
        assert_eq!(model.moments().next().map(|moment| moment.live), Some(live_at_attach));
        (live, live_at_attach, started, ended, system_live)
    };
    assert_eq!(totals(TasksAre::OfRuntimes), (13, 10, 5, 2, 0));
    assert_eq!(totals(TasksAre::Threads), (6, 4, 3, 1, 0));
}

#[test]
fn sites_beyond_the_limit_stay_in_the_totals() {
    let mut model = model(Limits { sites: 3, ..Limits::default() });
    let sites = (0..10).map(|number| site(number, 1, 2, 1)).collect();
    model.apply(&sample(ATTACHED + SECOND, sites), &mut EachItself);
    assert_eq!(model.sites().len(), 3);
    assert_eq!(model.overflow(), Overflow { sites: 7, live: 14, live_at_attach: 7, started: 14, ended: 7 });
    assert_eq!(model.tasks().live, 20);
    assert_eq!(model.losses().count(SITES_OVER_LIMIT), 7);
}

#[test]
fn memory_is_bounded() {
    let limits = Limits { moments: 20, site_samples: 10, ..Limits::default() };
    let mut model = model(limits);
    for s in 1..100 {
        model.apply(&sample(ATTACHED + s * SECOND, vec![site(1, 0, s, 0)]), &mut EachItself);
    }
    assert_eq!(model.moments().len(), 20);
    assert_eq!(model.site(id(1)).unwrap().series().len(), 10);
}

#[test]
fn no_time_gives_no_rate() {
    let model = after(&[sample(ATTACHED, vec![site(1, 5, 3, 0)])]);
    let only = model.site(id(1)).unwrap();
    assert_eq!(model.start_rate_per_s(Span::Watch), None);
    assert_eq!(only.start_rate_per_s(Span::Interval), None);
    assert_eq!(only.growth_per_min(), None);
    assert_eq!(only.live(), 8);
}

#[test]
fn a_sample_of_the_same_moment_replaces_the_last() {
    let at = ATTACHED + 2 * SECOND;
    let first = sample(ATTACHED + SECOND, vec![site(1, 0, 10, 0)]);
    let model = after(&[first, sample(at, vec![site(1, 0, 20, 0)]), sample(at, vec![site(1, 0, 25, 0)])]);
    let only = model.site(id(1)).unwrap();
    assert_eq!(only.series().iter().map(|point| point.live).collect::<Vec<_>>(), [0, 10, 25]);
    assert_eq!(only.start_rate_per_s(Span::Interval), Some(15.0));
    assert_eq!(model.moments().len(), 3);
}

#[test]
fn an_empty_sample_keeps_what_was_known() {
    let full = sample(ATTACHED + SECOND, vec![site(1, 5, 3, 0)]);
    let mut empty = sample(ATTACHED + 2 * SECOND, Vec::new());
    empty.counters = full.counters;
    empty.threads_live = None;
    let model = after(&[full, empty]);
    assert_eq!(model.site(id(1)).unwrap().live(), 8);
    assert_eq!(model.tasks().live, 8);
    assert_eq!(model.threads().live, None);
}

#[test]
fn counters_that_go_back_give_a_rate_of_zero() {
    let times = [(1, 100), (2, 10)];
    let samples = times.map(|(s, started)| sample(ATTACHED + s * SECOND, vec![site(1, 0, started, 0)]));
    let model = after(&samples);
    assert_eq!(model.start_rate_per_s(Span::Interval), Some(0.0));
    assert_eq!(model.site(id(1)).unwrap().start_rate_per_s(Span::Interval), Some(0.0));
}

#[test]
fn ages_of_tasks_whose_birth_nobody_sees() {
    let by_memory = |started| SiteSample { ages: None, ..site(1, 60, started, 10) };
    let model = after(&[1, 2, 40].map(|s| sample(ATTACHED + s * SECOND, vec![by_memory(4 * s)])));
    let ages = model.site(id(1)).unwrap().ages();
    assert_eq!((ages.p50_s, ages.p99_s, ages.max_s, ages.lower_bound), (None, Some(40.0), Some(40.0), true));
}

#[test]
fn ages_stand_for_a_while_where_they_are_not_read() {
    let read = SiteSample {
        ages: Some(AgeSummary {
            count: 8,
            p50_ns: SECOND,
            p99_ns: SECOND,
            max_ns: SECOND,
            ..AgeSummary::default()
        }),
        ..site(1, 0, 8, 0)
    };
    let unread = SiteSample { ages: None, ..read.clone() };
    let samples = [(2, read), (20, unread.clone()), (60, unread)];
    let samples = samples.map(|(s, site)| sample(ATTACHED + s * SECOND, vec![site]));
    assert_eq!(after(&samples[..2]).site(id(1)).unwrap().ages().p50_s, Some(1.0));
    assert_eq!(after(&samples).site(id(1)).unwrap().ages().p50_s, None);
}

#[test]
fn a_site_without_births_has_ages_where_others_were_read() {
    let old = SiteSample { ages: None, ..site(2, 5, 3, 3) };
    let model = after(&[sample(ATTACHED + 9 * SECOND, vec![site(1, 0, 0, 0), old])]);
    assert_eq!(model.site(id(2)).unwrap().ages().p50_s, Some(9.0));
}

#[test]
fn a_census_brings_waits_drift_and_stacks() {
    let limits = Limits { waiting_per_site: 2, stack_depth: 3, ..Limits::default() };
    let mut model = model(limits);
    let group = |count| Waiting {
        site: id(1),
        reason: "select".to_owned(),
        stack: vec![1; 9],
        count,
        // Of which 90 s are certain.
        longest_ns: Some(210 * SECOND),
        stack_bytes: 2_048,
    };
    let mut with_census = sample(ATTACHED + SECOND, vec![site(1, 30, 0, 0)]);
    with_census.census = Some(Census {
        live: 31,
        waiting: vec![group(5), group(20), group(6)],
        unreadable: 4,
        stack_bytes: Some(8_192),
        drift: Some(-1),
        ..Census::default()
    });
    model.apply(&with_census, &mut EachItself);
    model.apply(&sample(ATTACHED + 2 * SECOND, vec![site(1, 30, 0, 0)]), &mut EachItself);
    let only = model.site(id(1)).unwrap();
    assert_eq!(only.waiting().iter().map(|group| group.count).collect::<Vec<_>>(), [20, 6]);
    assert_eq!(only.waiting()[0].stack.len(), 3);
    assert_eq!((model.tasks().drift, model.stack_bytes()), (Some(-1), Some(8_192)));
    assert_eq!(model.losses().count(loss::CENSUS_UNREADABLE), 4);
    let ages = only.ages();
    assert_eq!((ages.p50_s, ages.max_s, ages.lower_bound), (Some(2.0), Some(90.0), true));
}

/// One step of a history: time passed, and for each site how many tasks start and which share of the live ends.
type Step = (u64, Vec<(u64, u8)>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let site = (0u64..1_000, any::<u8>());
    prop::collection::vec((0u64..5 * SECOND, prop::collection::vec(site, 1..6)), 1..40)
}

/// The samples of a history without loss, and what is truly alive at its end.
fn history(at_attach: u64, steps: &[Step]) -> (Vec<ProcessSample>, u64) {
    let mut sites: Vec<SiteSample> = (0..6).map(|number| site(number, at_attach, 0, 0)).collect();
    let mut time_ns = ATTACHED;
    let mut samples = Vec::new();
    for (passed, changes) in steps {
        time_ns += passed;
        for (site, (starts, share)) in sites.iter_mut().zip(changes) {
            site.started += starts;
            let ends = site.live() * u64::from(*share) / 256;
            site.ended += ends;
            site.lifetimes.count(lifetime_bucket(starts * 1_000_000), ends);
            let live = site.live();
            site.ages = Some(AgeSummary {
                count: live,
                p50_ns: passed / 2,
                p99_ns: *passed,
                max_ns: passed + 9,
                ..AgeSummary::default()
            });
        }
        samples.push(sample(time_ns, sites.clone()));
    }
    let live = sites.iter().map(SiteSample::live).sum();
    (samples, live)
}

/// All that a report takes from a site, in text.
fn figures(site: &SiteView<'_>) -> String {
    let rates =
        [Span::Watch, Span::Interval].map(|span| (site.start_rate_per_s(span), site.end_rate_per_s(span)));
    let counts = (site.id(), site.live(), site.live_at_attach(), site.started(), site.ended());
    let ages = (site.ages(), site.lifetime_s(0.5), site.lifetime_s(0.99));
    format!("{counts:?} {rates:?} {:?} {ages:?} {:?}", site.growth_per_min(), site.series())
}

fn finite(value: Option<f64>) -> bool {
    value.is_none_or(f64::is_finite)
}

proptest! {
    #[test]
    fn without_loss_nothing_is_lost(at_attach in 0u64..500, steps in steps()) {
        let (samples, truth) = history(at_attach, &steps);
        let model = after(&samples);
        let tasks = model.tasks();
        prop_assert_eq!(tasks.live, truth);
        prop_assert_eq!(tasks.live, tasks.live_at_attach + tasks.started - tasks.ended);
        prop_assert!(model.losses().named.is_empty());
        for site in model.sites() {
            prop_assert_eq!(site.live(), site.live_at_attach() + site.started() - site.ended());
            prop_assert_eq!(site.series().last().map(|point| point.live), Some(site.live()));
        }
    }

    #[test]
    fn every_figure_is_finite_and_percentiles_rise(at_attach in 0u64..500, steps in steps()) {
        let (samples, _) = history(at_attach, &steps);
        let model = after(&samples);
        prop_assert!(finite(model.growth_per_min()) && finite(model.rss_growth_per_min()));
        for span in [Span::Watch, Span::Interval] {
            prop_assert!(finite(model.start_rate_per_s(span)) && finite(model.fork_rate_per_s(span)));
        }
        for site in model.sites() {
            prop_assert!(finite(site.growth_per_min()) && finite(site.end_rate_per_s(Span::Interval)));
            let ages = site.ages();
            prop_assert!(ages.p50_s <= ages.p99_s && ages.p99_s <= ages.max_s, "{:?}", ages);
            let lifetimes: Vec<_> = (0..=20u32).map(|step| site.lifetime_s(f64::from(step) / 20.0)).collect();
            prop_assert!(lifetimes.is_sorted(), "{:?}", lifetimes);
        }
    }

    #[test]
    fn the_order_of_sites_does_not_matter(at_attach in 0u64..50, steps in steps(), shuffles in any::<u64>()) {
        let (samples, _) = history(at_attach, &steps);
        let mut shuffled = samples.clone();
        for (number, sample) in (0u32..).zip(&mut shuffled) {
            sample.sites.rotate_left((shuffles.rotate_left(number) % 6) as usize);
            if shuffles.rotate_right(number) & 1 == 1 {
                sample.sites.reverse();
            }
        }
        let (one, other) = (after(&samples), after(&shuffled));
        prop_assert_eq!(one.tasks(), other.tasks());
        let texts = |model: &ProcessModel| {
            let mut texts: Vec<String> = model.sites().map(|site| figures(&site)).collect();
            texts.sort();
            texts
        };
        prop_assert_eq!(texts(&one), texts(&other));
    }

    #[test]
    fn nothing_makes_it_panic(
        samples in prop::collection::vec(
            (any::<u64>(), prop::collection::vec((0u64..4, any::<u64>(), any::<u64>(), any::<u64>()), 0..6),
             any::<[u64; COUNTERS]>(), any::<Option<u64>>()),
            0..12,
        ),
    ) {
        let mut model = model(Limits { moments: 0, site_samples: 0, sites: 3, waiting_per_site: 0, stack_depth: 0 });
        for (time_ns, sites, counters, rss_bytes) in samples {
            // A site may come twice; counts may be as wild as corrupt maps make them.
            let sites = sites
                .into_iter()
                .map(|(number, at_attach, started, ended)| SiteSample {
                    lifetimes: [started; LIFETIME_BUCKETS].into(),
                    ages: Some(AgeSummary { count: at_attach, p50_ns: started, p99_ns: ended, max_ns: time_ns, ..AgeSummary::default() }),
                    ..site(number, at_attach, started, ended)
                })
                .collect();
            let counters = Counters(counters);
            model.apply(
                &ProcessSample { time_ns, counters, sites, threads_live: rss_bytes, rss_bytes, census: None, thread_names: None, children: crate::observe::ChildrenSample::default(), proof: None },
                &mut EachItself,
            );
        }
        prop_assert!(finite(model.growth_per_min()));
        for site in model.sites() {
            prop_assert!(finite(site.growth_per_min()) && finite(site.lifetime_s(0.5)));
            prop_assert!(finite(site.ages().max_s));
        }
    }
}
