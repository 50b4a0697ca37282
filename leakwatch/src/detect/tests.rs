//! Verdicts on synthetic courses of a live count.

use leakwatch_common::{COUNTERS, Counter, RuntimeKind};

use super::*;
use crate::model::{Attach, Classify, EachItself, Limits, ProcessModel, SiteClass, TasksAre};
use crate::observe::{
    Awaited, Census, Cohort, Counters, Followed, Histogram, ProcessId, ProcessSample, ProofSample,
    ProvenSite, SiteId, SiteSample, Waiting,
};

const SECOND: u64 = 1_000_000_000;
const SITE: SiteId = SiteId { runtime: RuntimeKind::Go, site: 0x40_1234, entry: 0x40_5678 };

/// What a watch of one site sees.
struct Watch {
    /// Live at attach, then at each interval.
    lives: Vec<u64>,
    interval_ns: u64,
    /// Started and ended tasks of each interval, beside those that `lives` needs.
    churn: u64,
    lost: u64,
    system: bool,
    waiting: Vec<Waiting>,
    followed: Option<Followed>,
}

/// A watch of one second intervals.
fn watch(lives: impl IntoIterator<Item = u64>) -> Watch {
    Watch {
        lives: lives.into_iter().collect(),
        interval_ns: SECOND,
        churn: 0,
        lost: 0,
        system: false,
        waiting: Vec::new(),
        followed: None,
    }
}

impl Watch {
    fn judge(&self) -> Finding {
        self.with_evidence(|evidence| Detector::default().judge(evidence))
    }

    fn with_evidence<T>(&self, ask: impl FnOnce(&Evidence<'_>) -> T) -> T {
        let process = ProcessId { pid: 1, start_ticks: 1 };
        let mut model =
            ProcessModel::new(Attach { process, time_ns: 0, tasks: TasksAre::default() }, Limits::default());
        let mut classify = |site| SiteClass { canonical: site, system: self.system };
        let at_attach = self.lives[0];
        let (mut started, mut ended) = (0, 0);
        for (number, pair) in (1u64..).zip(self.lives.windows(2)) {
            started += self.churn + pair[1].saturating_sub(pair[0]);
            ended += self.churn + pair[0].saturating_sub(pair[1]);
            model.apply(&self.sample(number, at_attach, started, ended), &mut classify);
        }
        let losses = model.losses();
        let site = model.site(SITE).expect("the site");
        let series = site.series();
        ask(&Evidence { site, series: &series, growth_per_min: site.growth_per_min(), losses: &losses })
    }

    fn sample(&self, number: u64, live_at_attach: u64, started: u64, ended: u64) -> ProcessSample {
        let mut counters = Counters([0; COUNTERS]);
        counters.0[Counter::Started as usize] = started;
        counters.0[Counter::Ended as usize] = ended;
        counters.0[Counter::TaskUnreadable as usize] = self.lost;
        let lifetimes = Histogram::default();
        let site = SiteSample { id: SITE, live_at_attach, started, ended, lifetimes, ages: None };
        let followed = self.followed.iter().cloned().collect();
        let census = Census { waiting: self.waiting.clone(), followed, ..Census::default() };
        ProcessSample {
            time_ns: number * self.interval_ns,
            counters,
            sites: vec![site],
            threads_live: None,
            rss_bytes: None,
            census: Some(census),
            thread_names: None,
            children: crate::observe::ChildrenSample::default(),
            proof: None,
        }
    }
}

fn check(lives: impl IntoIterator<Item = u64>, expected: Verdict) {
    let finding = watch(lives).judge();
    assert_eq!(finding.verdict, expected, "{}", finding.why);
    assert!((0.0..=1.0).contains(&finding.confidence));
}

/// Numbers that look random and are the same every time: a linear congruential generator, high bits.
fn noise(seed: u64, below: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    })
}

/// What the rules say of a site of which so many tasks are proven, in a process with so many refutations.
fn with_proof(proven: u64, refuted: u64, system: bool) -> (Finding, Option<u64>) {
    let process = ProcessId { pid: 1, start_ticks: 1 };
    let attach = Attach { process, time_ns: 0, tasks: TasksAre::default() };
    let mut model = ProcessModel::new(attach, Limits::default());
    let mut classify = |site| SiteClass { canonical: site, system };
    let site = ProvenSite { site: SITE, count: proven, awaited: Awaited::default() };
    let proof = ProofSample {
        proofs: 1,
        proven,
        refuted,
        confidence: 0.99,
        sites: if proven > 0 { vec![site] } else { Vec::new() },
        ..ProofSample::default()
    };
    let mut watch = watch([20]);
    watch.system = system;
    // The news of a proof stands until the next one.
    model.apply(&ProcessSample { proof: Some(proof), ..watch.sample(1, 20, 0, 0) }, &mut classify);
    model.apply(&watch.sample(2, 20, 0, 0), &mut classify);
    let (losses, site) = (model.losses(), model.site(SITE).expect("the site"));
    let series = site.series();
    let evidence = Evidence { site, series: &series, growth_per_min: None, losses: &losses };
    (Detector::default().judge(&evidence), site.proven().map(|proven| proven.count))
}

#[test]
fn a_proof_is_a_leak() {
    let (finding, count) = with_proof(12, 0, false);
    assert_eq!((finding.verdict, count), (Verdict::Leak, Some(12)));
    assert!(finding.why.starts_with("12 goroutines can never be woken: "), "{}", finding.why);
    assert!((finding.confidence - 0.99).abs() < 1e-9);
    let (finding, count) = with_proof(0, 0, false);
    assert_eq!(count, Some(0), "a proof was made, and says nothing of it");
    assert_ne!(finding.verdict, Verdict::Leak);
}

#[test]
fn a_proof_that_was_refuted_is_none() {
    let (finding, _) = with_proof(12, 1, false);
    assert_eq!((finding.verdict, finding.confidence), (Verdict::Suspect, 0.0));
    assert!(finding.why.contains("not to be trusted"), "{}", finding.why);
}

#[test]
fn the_runtime_s_own_are_not_the_program_s() {
    assert_eq!(with_proof(1, 0, true).0.verdict, Verdict::Ok);
}

#[test]
fn flat_is_ok() {
    check([100; 61], Verdict::Ok);
    check([0; 61], Verdict::Ok);
}

#[test]
fn noise_is_ok() {
    for seed in 0..200 {
        check(noise(seed, 50).map(|n| 100 + n).take(61), Verdict::Ok);
    }
}

#[test]
fn a_random_walk_is_rarely_suspect() {
    let suspects = (0..200u64).filter(|seed| {
        let walk = noise(*seed, 2).scan(200u64, |live, n| {
            *live = if n == 1 { *live + 1 } else { *live - 1 };
            Some(*live)
        });
        watch(walk.take(61)).judge().verdict == Verdict::Suspect
    });
    // A walk that happens to rise all the time cannot be told from a leak by growth.
    assert!(suspects.count() < 20);
}

#[test]
fn a_ramp_is_suspect() {
    check((0..=60).map(|s| 10 + 5 * s), Verdict::Suspect);
    check((0..=10).map(|s| 5 * s), Verdict::Suspect);
    check((0..=119).map(|s| s / 12), Verdict::Suspect);
}

#[test]
fn a_noisy_ramp_is_suspect() {
    for seed in 0..100 {
        check((0..=60).zip(noise(seed, 40)).map(|(s, n)| 100 + 3 * s + n), Verdict::Suspect);
    }
}

#[test]
fn a_ramp_behind_churn_is_suspect() {
    let finding = Watch { churn: 300, ..watch((0..=60).map(|s| 10 + s)) }.judge();
    assert_eq!(finding.verdict, Verdict::Suspect);
    assert_eq!(
        finding.why,
        "live tasks grew steadily from 10 to 70 in 1m (+60/min) and did not come back; 18,060 started and 18,000 \
         ended"
    );
}

#[test]
fn a_leak_in_bursts_is_suspect() {
    check((0..=119).map(|s| 50 * (s / 20)), Verdict::Suspect);
}

#[test]
fn a_sawtooth_is_ok() {
    check((0..=60).map(|s| 10 * (s % 15)), Verdict::Ok);
    check((0..=119).map(|s| 3 * (s % 40)), Verdict::Ok);
}

#[test]
fn a_burst_is_ok() {
    check((0..=60).map(|s| if (20..30).contains(&s) { 900 } else { 10 }), Verdict::Ok);
    check((0..=60).map(|s| if s > 55 { 900 } else { 10 }), Verdict::Ok);
}

#[test]
fn a_pool_that_is_filled_at_once_is_ok() {
    for at in [10, 20, 29, 31, 40] {
        check((0..=60).map(|s| if s < at { 4 } else { 500 }), Verdict::Ok);
    }
}

#[test]
fn a_warm_up_is_ok() {
    // 500 (1 - exp(-t / 10)).
    let warm = (0..=60).scan(500.0f64, |rest, _| {
        let live = 500.0 - *rest;
        *rest *= (-0.1f64).exp();
        Some(live)
    });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 500")]
    check(warm.map(|live| live as u64), Verdict::Ok);
    // A ramp that stops.
    check((0..=60).map(|s: u64| 10 * s.min(25)), Verdict::Ok);
}

#[test]
fn falling_is_ok() {
    check((0..=60).map(|s| 700 - 10 * s), Verdict::Ok);
}

#[test]
fn a_handful_more_is_ok() {
    check((0..=60).map(|s| 10 + s / 20), Verdict::Ok);
}

#[test]
fn too_short_is_not_yet() {
    check((0..=5).map(|s| 100 * s), Verdict::NotYet);
    let few = Watch { interval_ns: 10 * SECOND, ..watch((0..=5).map(|s| 100 * s)) }.judge();
    assert_eq!(few.verdict, Verdict::NotYet);
    assert_eq!(few.why, "watched for 50s in 6 samples; a verdict needs 10s and 8 samples");
    assert!(few.confidence.abs() < f64::EPSILON);
}

#[test]
fn a_site_that_just_began_is_not_yet() {
    check((0..=60u64).map(|s| 20 * s.saturating_sub(55)), Verdict::NotYet);
    check((0..=60).map(|s| u64::from(s == 58)), Verdict::Ok);
}

#[test]
fn the_runtimes_own_tasks_are_never_suspect() {
    let finding = Watch { system: true, ..watch((0..=60).map(|s| 5 * s)) }.judge();
    assert_eq!(finding.verdict, Verdict::Ok);
}

#[test]
fn loss_and_a_short_watch_lower_confidence() {
    let ramp = || (0..=60).map(|s| 5 * s);
    let sure = watch(ramp()).judge().confidence;
    let lossy = Watch { lost: 60, ..watch(ramp()) }.judge().confidence;
    let lossier = Watch { lost: 600, ..watch(ramp()) }.judge().confidence;
    let short = watch(ramp().take(16)).judge().confidence;
    assert!(sure > lossy && lossy > lossier, "{sure} {lossy} {lossier}");
    assert!(sure > short && sure <= 0.8, "{sure} {short}");
}

/// Tasks that wait.
fn waiting(reason: &str, count: u64, longest_s: u64) -> Vec<Waiting> {
    let longest_ns = Some(longest_s * SECOND);
    vec![Waiting { site: SITE, reason: reason.to_owned(), stack: vec![1], count, longest_ns, stack_bytes: 0 }]
}

#[test]
fn many_old_blocked_tasks_are_suspect() {
    let stuck = Watch { waiting: waiting("chan receive", 500, 900), ..watch([500; 61]) }.judge();
    assert_eq!(stuck.verdict, Verdict::Suspect);
    assert_eq!(
        stuck.why,
        "500 of 500 live tasks are blocked in chan receive at one place, the oldest for at least 13m, and none \
         ended in 1m; an idle pool looks so too"
    );
    assert!(stuck.confidence <= 0.4);
}

#[test]
fn pools_servers_and_small_groups_are_not_stuck() {
    let cases = [
        Watch { waiting: waiting("IO wait", 500, 900), ..watch([500; 61]) },
        Watch { waiting: waiting("sleep", 500, 900), ..watch([500; 61]) },
        Watch { waiting: waiting("chan receive", 500, 5), ..watch([500; 61]) },
        Watch { waiting: waiting("chan receive", 50, 900), ..watch([50; 61]) },
        Watch { waiting: waiting("chan receive", 300, 900), ..watch([500; 61]) },
        Watch { churn: 1, waiting: waiting("chan receive", 500, 900), ..watch([500; 61]) },
    ];
    for case in cases {
        let finding = case.judge();
        assert_eq!(finding.verdict, Verdict::Ok, "{}", finding.why);
        assert!(
            finding.why.starts_with("live tasks went from"),
            "the reason is the informed one: {}",
            finding.why
        );
    }
}

/// A minute of a site whose tasks are followed: born, alive and stalled in each stretch of 5 s.
fn followed(older: (u64, u64, u64), cohorts: &[(u64, u64, u64)]) -> Followed {
    let cohort = |&(born, live, stalled): &(u64, u64, u64)| Cohort { born, live, stalled };
    Followed {
        site: SITE,
        since_ns: 0,
        now_ns: 60 * SECOND,
        one_in: 1,
        older: cohort(&older),
        stretch_ns: 5 * SECOND,
        cohorts: cohorts.iter().map(cohort).collect(),
        lifetimes: Histogram::default(),
        older_ended_ns: None,
        runs_seen: true,
        ran: 0,
        longest_rest_ns: 0,
        longest_still_ns: 0,
        apart: Some(3),
    }
}

/// With so many tasks that lived for so many seconds.
fn ended(mut followed: Followed, lives: &[(f64, u64)]) -> Followed {
    for &(lived_s, count) in lives {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lives of a test")]
        let bucket = leakwatch_common::lifetime_bucket((lived_s * 1e9) as u64);
        followed.lifetimes.count(bucket, count);
    }
    followed
}

/// A minute with a live count that grows.
fn growing(followed: Followed) -> Watch {
    Watch { followed: Some(followed), ..watch((0..=60).map(|s| 10 + 2 * s)) }
}

#[test]
fn survivors_of_one_stretch_after_the_other_are_a_leak() {
    let leak = growing(followed((0, 0, 0), &[(10, 10, 10); 12])).judge();
    assert_eq!(leak.verdict, Verdict::Leak, "{}", leak.why);
    assert_eq!(
        leak.why,
        "all 100 tasks started under watch more than 10s ago are alive, and none has ended, 100 without running again; they \
         come from 10 of 10 stretches of 5s, 120 more a minute"
    );
    let among_many = ended(followed((20, 20, 0), &[(2_500, 5, 5); 12]), &[(0.05, 29_000)]);
    let leak = growing(among_many).judge();
    assert_eq!(leak.verdict, Verdict::Leak, "{}", leak.why);
    let that_run = growing(followed((0, 0, 0), &[(4, 4, 0); 12])).judge();
    assert_eq!(that_run.verdict, Verdict::Leak, "{}", that_run.why);
    assert!(that_run.confidence < leak.confidence);
}

#[test]
fn bursts_far_apart_are_a_leak() {
    let mut cohorts = [(0, 0, 0); 12];
    for place in [0, 4, 8] {
        cohorts[place] = (30, 30, 30);
    }
    let bursts =
        Watch { followed: Some(followed((0, 0, 0), &cohorts)), ..watch((0..=60).map(|s| 30 * (1 + s / 20))) };
    assert_eq!(bursts.judge().verdict, Verdict::Leak);
}

#[test]
fn a_pool_that_fills_up_is_no_leak() {
    let mut ramp = [(0, 0, 0); 12];
    ramp[..5].fill((8, 8, 0));
    let stops =
        Watch { followed: Some(followed((0, 0, 0), &ramp)), ..watch((0..=60).map(|s: u64| 2 * s.min(25))) };
    assert!(stops.judge().verdict < Verdict::Suspect);
    let warm: Vec<_> = [200, 120, 70, 40, 25, 15, 9, 5, 3, 2, 1, 0].map(|n| (n, n, 0)).into();
    let fills = Watch { followed: Some(followed((0, 0, 0), &warm)), ..watch([490; 61]) };
    assert!(fills.judge().verdict < Verdict::Suspect);
}

#[test]
fn more_traffic_is_no_leak() {
    // The rate rises all the time; each lives for up to 3 s.
    let mut cohorts: Vec<_> = (1..=12).map(|n| (50 * n, 0, 0)).collect();
    cohorts[11].1 = 400;
    let rising = growing(ended(followed((10, 0, 0), &cohorts), &[(1.0, 2_000), (3.0, 1_500)])).judge();
    assert_eq!(rising.verdict, Verdict::Ok, "{}", rising.why);
    assert!(rising.why.starts_with("its tasks end: "), "{}", rising.why);
    // So long lives that none can have outlived them yet.
    let long = growing(ended(followed((10, 0, 0), &cohorts), &[(45.0, 20)])).judge();
    assert_eq!(long.verdict, Verdict::NotYet, "{}", long.why);
}

#[test]
fn growth_without_more_traffic_is_suspect_even_where_tasks_end() {
    // A queue that is served too slowly: as many come as ever, and each waits longer than the one before.
    let queue = |births| growing(ended(followed((10, 0, 0), &[(births, 5, 0); 12]), &[(40.0, 300)])).judge();
    let slow = queue(25);
    assert_eq!(slow.verdict, Verdict::Leak, "{}", slow.why);
    assert!(
        slow.why.starts_with("tasks pile up: in the first half of the watch 125 were started and 75 ended"),
        "{}",
        slow.why
    );
    // Nearly as many end as are started.
    let nearly = queue(100);
    assert_eq!(nearly.verdict, Verdict::Suspect, "{}", nearly.why);
    // Ends began late: tasks that live long.
    let mut cohorts = [(25, 25, 0); 12];
    cohorts[..2].fill((25, 0, 0));
    let lives = watch((0..=60).map(|s: u64| 10 + 5 * s.min(50)));
    let long =
        Watch { followed: Some(ended(followed((10, 0, 0), &cohorts), &[(50.0, 50)])), ..lives }.judge();
    assert!(long.verdict < Verdict::Leak, "{}", long.why);
}

#[test]
fn a_leak_that_is_over_is_suspect_and_an_idle_pool_is_told_by_its_start() {
    let waits = || waiting("chan receive", 200, 0);
    let still = |apart| Followed {
        longest_still_ns: 55 * SECOND,
        apart: Some(apart),
        ..followed((200, 200, 200), &[(0, 0, 0); 12])
    };
    let over = Watch { waiting: waits(), followed: Some(still(4)), ..watch([200; 61]) }.judge();
    assert_eq!(over.verdict, Verdict::Suspect, "{}", over.why);
    assert!(over.settles.contains("leakwatch prove"));
    let pool = Watch { waiting: waits(), followed: Some(still(0)), ..watch([200; 61]) }.judge();
    assert_eq!(pool.verdict, Verdict::Ok, "{}", pool.why);
    // One that works.
    let works = Followed { longest_still_ns: 3 * SECOND, ..followed((200, 200, 0), &[(0, 0, 0); 12]) };
    let works = Watch { waiting: waits(), followed: Some(works), ..watch([200; 61]) }.judge();
    assert_eq!(works.verdict, Verdict::Ok, "{}", works.why);
}

#[test]
fn a_leak_is_not_said_on_half_of_the_data() {
    let leak = |lost| Watch { lost, ..growing(followed((0, 0, 0), &[(10, 10, 10); 12])) }.judge();
    assert_eq!(leak(0).verdict, Verdict::Leak);
    assert_eq!(leak(100).verdict, Verdict::Suspect);
}

#[test]
fn what_comes_of_it() {
    let watch = growing(followed((0, 0, 0), &[(10, 10, 10); 12]));
    let forecast = watch.with_evidence(Forecast::of).expect("it goes on");
    assert!((forecast.tasks_per_h - 7_200.0).abs() < 1e-6, "{forecast:?}");
    assert_eq!(forecast.bytes_per_h, None);
    assert_eq!(forecast.reaches_in_s(130, 130), None);
    assert!((forecast.reaches_in_s(130, 330).expect("later") - 100.0).abs() < 1e-6);
}

proptest::proptest! {
    #[test]
    fn more_loss_never_makes_a_verdict_worse_or_surer(
        cohorts in proptest::collection::vec((0u64..40, 0u64..40, 0u64..40), 12),
        older in (0u64..500, 0u64..500),
        lives in proptest::collection::vec((0.001f64..50.0, 0u64..500), 0..4),
        lost in 0u64..2_000,
    ) {
        let cohorts: Vec<_> =
            cohorts.into_iter().map(|(born, live, stalled)| (born, live.min(born), stalled.min(live).min(born))).collect();
        let older = (older.0, older.1.min(older.0), older.1.min(older.0));
        let judge = |lost| Watch { lost, ..growing(ended(followed(older, &cohorts), &lives)) }.judge();
        let (sure, lossy) = (judge(0), judge(lost));
        proptest::prop_assert!(lossy.verdict <= sure.verdict && lossy.confidence <= sure.confidence, "{sure:?} {lossy:?}");
    }

    #[test]
    fn nobody_left_is_never_a_leak(
        born in proptest::collection::vec(0u64..1_000, 12),
        lives in proptest::collection::vec((0.001f64..50.0, 0u64..500), 0..4),
        course in proptest::collection::vec(0u64..1_000, 2..90),
    ) {
        let cohorts: Vec<_> = born.into_iter().map(|born| (born, 0, 0)).collect();
        let gone = Watch { followed: Some(ended(followed((0, 0, 0), &cohorts), &lives)), ..watch(course) };
        proptest::prop_assert!(gone.judge().verdict < Verdict::Leak);
    }
}

#[test]
fn every_rule_says_what_it_looks_for() {
    let summaries: Vec<&str> = Detector::default().rules().map(Rule::summary).collect();
    assert_eq!(summaries.len(), 2);
    assert!(summaries.iter().all(|summary| !summary.is_empty()));
}

#[test]
fn without_rules_there_is_no_verdict() {
    let process = ProcessId { pid: 1, start_ticks: 1 };
    let mut model =
        ProcessModel::new(Attach { process, time_ns: 0, tasks: TasksAre::default() }, Limits::default());
    let each: &mut dyn Classify = &mut EachItself;
    model.apply(&watch([1, 1]).sample(1, 1, 0, 0), each);
    let losses = model.losses();
    let site = model.site(SITE).expect("the site");
    let evidence = Evidence { site, series: &site.series(), growth_per_min: None, losses: &losses };
    assert_eq!(Detector::new(Vec::new()).judge(&evidence).verdict, Verdict::NotYet);
}
