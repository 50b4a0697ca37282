//! The JSON forms, field by field: scripts rely on them.

use std::sync::Arc;

use leakwatch_common::{EventKind, RuntimeKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::observe::{Event, SiteId};
use crate::report::alerting::{
    ActionReport, AlertReport, AlertSite, AlertState, Alerting, Answer, Level, RuleReport, Scope,
};
use crate::report::{FrameName, Names, Report, SiteName, WallClock, samples};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Fields of a process.
const OF_A_PROCESS: [&str; 21] = [
    "pid",
    "start_time",
    "comm",
    "exe",
    "container",
    "pod",
    "runtimes",
    "tasks",
    "threads",
    "forks",
    "zombies",
    "memory",
    "sites",
    "proof",
    "leaks",
    "build_id",
    "course",
    "losses",
    "watched_since",
    "watched_s",
    "exited",
];

fn zombie() -> Value {
    json!({
        "command": "gzip", "count": 1, "oldest_s": 12.5, "verdict": "not_yet", "confidence": 0.0,
        "why": "1 child ended and was not collected, the oldest for at least 12s",
    })
}

#[test]
fn the_schema_has_every_promised_field() {
    let json = parse(&to_json(&samples::report(vec![samples::leaking()])));
    assert_eq!(json["schema"], "leakwatch.report/1");
    assert_eq!(json["started"], "2026-10-09T03:00:00.250Z");
    assert_eq!(
        json["overhead"],
        json!({"probe_hits": 2148, "cpu_percent_of_one_core": 0.0432, "budget_percent": 2.0})
    );
    let process = &json["processes"][0];
    for key in OF_A_PROCESS {
        assert!(keys(process).contains(&key), "{key}");
    }
    assert_eq!(process["start_time"], "2026-10-08T12:34:56.789Z");
    assert_eq!(
        process["runtimes"],
        json!([{"kind": "go", "name": null, "version": "go1.27.2", "mode": "probes", "problems": []}])
    );
    assert_eq!(
        process["tasks"],
        json!({
            "live": 1038, "live_at_attach": 736, "started": 1038, "ended": 736, "start_rate_per_s": 17.3,
            "end_rate_per_s": 12.27, "growth_per_min": 302.2, "lost_events": 0, "drift": 0, "system_live": 6,
        })
    );
    assert_eq!(
        process["threads"],
        json!({"live": 14, "started": 3, "ended": 0, "by_name": [{"name": "nats-*", "live": 14}]})
    );
    let gzip = json!([{"command": "gzip", "live": 0, "forked": 1, "ended": 1}]);
    assert_eq!(
        process["forks"],
        json!({"count": 1, "rate_per_s": 0.0167, "ended": 1, "live": 0, "by_command": gzip})
    );
    assert_eq!(process["zombies"], json!([zombie()]));
    assert_eq!(
        process["memory"],
        json!({"rss_bytes": 129_000_000, "rss_growth_per_min": 1_300_000.0, "task_stack_bytes": 2_500_000, "task_stack_growth_per_min": 614_400.0})
    );
    let site = &process["sites"][0];
    assert_eq!(
        keys(site),
        [
            "age_s",
            "confidence",
            "course",
            "creation_stack",
            "end_rate_per_s",
            "ended",
            "file",
            "forecast",
            "function",
            "growth_per_min",
            "leak_rate_per_min",
            "left_behind",
            "lifetime_s",
            "line",
            "live",
            "live_at_attach",
            "lives",
            "never_ending_interval",
            "never_ending_share",
            "proven",
            "runtime",
            "settles",
            "spawns",
            "stack_bytes",
            "start_rate_per_s",
            "started",
            "system",
            "task",
            "task_file",
            "task_line",
            "verdict",
            "waiting",
            "why",
        ]
    );
    assert_eq!(site["age_s"], json!({"p50": 61.0, "p99": 61.0, "max": 740.0, "lower_bound": true}));
    assert_eq!(site["lifetime_s"], json!({"p50": null, "p99": null}));
    assert_eq!(
        site["waiting"][1],
        json!({"reason": "select", "stack": [], "count": 24, "longest_s": 12.0, "share": 0.023_438, "seen": 1.0})
    );
    assert_eq!((&site["verdict"], &site["proven"]), (&json!("suspect"), &Value::Null));
}

#[test]
fn proofs_of_a_watch_are_in_its_report() {
    let json = |proof| {
        let process = crate::report::ProcessReport { proof, ..samples::leaking() };
        parse(&to_json(&samples::report(vec![process])))["processes"][0]["proof"].clone()
    };
    assert_eq!(json(None), Value::Null, "none was asked for");
    let failed = crate::report::ProofSample {
        failed: 1,
        problems: vec!["no heap".to_owned()],
        ..crate::report::ProofSample::default()
    };
    let none = json(Some(failed));
    assert_eq!((&none["proven"], &none["confidence"]), (&Value::Null, &Value::Null), "unknown, not 0");
    assert_eq!(none["problems"], json!(["no heap"]));
    let proof = crate::report::ProofSample {
        proofs: 3,
        proven: 12,
        passes: 24,
        confidence: 0.999,
        cpu_ns: 1_200_000_000,
        every_ns: 5_000_000_000,
        ..crate::report::ProofSample::default()
    };
    let some = json(Some(proof));
    assert_eq!((&some["proven"], &some["refuted"], &some["passes"]), (&json!(12), &json!(0), &json!(24)));
    assert_eq!((&some["cpu_s"], &some["cpu_percent_of_one_core"]), (&json!(1.2), &json!(2.0)));
    assert_eq!(some["every_s"], 5.0);
}

#[test]
fn unknown_is_null_and_losses_are_an_object() {
    let process = &parse(&to_json(&samples::report(vec![samples::lossy()])))["processes"][0];
    assert_eq!(process["losses"]["ring_full"], 4_201);
    assert_eq!(process["runtimes"][0]["version"], Value::Null);
    let site = &process["sites"][0];
    for key in ["start_rate_per_s", "growth_per_min", "live_at_attach", "never_ending_share"] {
        assert_eq!(site[key], Value::Null, "{key}");
    }
    assert_eq!(site["verdict"], "not_yet");
}

#[test]
fn numbers_that_json_has_not_are_null() {
    let mut process = samples::leaking();
    process.tasks.growth_per_min = Some(f64::NAN);
    process.sites[0].growth_per_min = Some(f64::INFINITY);
    process.sites[0].never_ending_interval = Some((f64::NEG_INFINITY, 0.123_456_78));
    process.sites[1].growth_per_min = Some(-0.000_000_01);
    let json = parse(&to_json(&samples::report(vec![process])));
    let process = &json["processes"][0];
    assert_eq!(process["tasks"]["growth_per_min"], Value::Null);
    assert_eq!(process["sites"][0]["growth_per_min"], Value::Null);
    assert_eq!(process["sites"][0]["never_ending_interval"], json!([null, 0.123_457]));
    assert_eq!(process["sites"][1]["growth_per_min"].to_string(), "0.0");
}

/// All text of a JSON form is safe to show, and none of it is lost.
fn harmless(text: &str) -> bool {
    !text.chars().any(|character| character.is_control() && character != '\n' || character == '\u{202e}')
}

#[test]
fn hostile_names_are_escaped_and_kept() {
    let report = samples::report(vec![samples::hostile()]);
    let text = to_json(&report);
    assert!(harmless(&text));
    let function = report.processes[0].sites[0].function.as_deref();
    assert_eq!(parse(&text)["processes"][0]["sites"][0]["function"].as_str(), function);
}

#[test]
fn a_course_has_its_corners() {
    let mut process = samples::leaking();
    let lives = [5, 5, 5, 5, 7, 7, 5, 5, 5];
    process.sites[0].recent =
        (0u32..).zip(lives).map(|(at, live)| crate::report::Point { at_s: f64::from(at), live }).collect();
    let json = parse(&to_json(&samples::report(vec![process])));
    assert_eq!(
        json["processes"][0]["sites"][0]["course"],
        json!([[0.0, 5], [3.0, 5], [4.0, 7], [5.0, 7], [6.0, 5], [8.0, 5]])
    );
}

/// What is written is read back, but for what JSON rounds or leaves out.
#[test]
fn reports_are_read_back() {
    let mut leaking = samples::leaking();
    leaking.build_id = Some("ab12".to_owned());
    leaking.sites[0].lives = Some(crate::report::Lives {
        ended: vec![crate::report::Bucket { from_s: 0.000_001_024, count: 3 }],
        alive: None,
    });
    let mut report = samples::report(vec![leaking, samples::lossy(), samples::hostile()]);
    report.environment = Some(crate::report::Environment {
        leakwatch: "0.1.0 (abc)".to_owned(),
        command: vec!["leakwatch".to_owned()],
        ..crate::report::Environment::default()
    });
    report.alerting = alerting();
    for text in [to_json(&report), to_json_line(&report)] {
        check_reports(text.as_bytes()).expect("ours");
        let mut reports = Reports::open(text.as_bytes());
        let mut read = reports.next_report().expect("a report").expect("one");
        for (process, before) in read.processes.iter_mut().map(Arc::make_mut).zip(&report.processes) {
            process.losses.sort_by(|a, b| a.name.cmp(&b.name));
            for (site, before) in process.sites.iter_mut().zip(&before.sites) {
                for (group, before) in site.waiting.iter_mut().zip(&before.waiting) {
                    group.share = before.share;
                }
            }
        }
        let mut expected = report.clone();
        for process in expected.processes.iter_mut().map(Arc::make_mut) {
            process.losses.sort_by(|a, b| a.name.cmp(&b.name));
        }
        assert_eq!(read, expected);
        assert_eq!(reports.next_report(), Ok(None));
    }
}

/// One of each that rules can say, as far as it is in JSON.
fn alerting() -> Alerting {
    let time = |text: &str| Some(text.parse().expect("a time"));
    let alert = AlertReport {
        rule: "leak".to_owned(),
        pid: 7,
        comm: "shop".to_owned(),
        start_time: time("2026-11-21T11:00:00Z"),
        site: Some(AlertSite { runtime: "go".to_owned(), line: Some(12), ..AlertSite::default() }),
        value: Some(2.5),
        why: "verdict is leak".to_owned(),
        about: "300 of 300 never ended".to_owned(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
        annotations: [("runbook".to_owned(), "none".to_owned())].into(),
        ..AlertReport::default()
    };
    let over = AlertReport {
        state: AlertState::Resolved,
        level: Level::P0,
        fired: time("2026-11-21T12:00:00Z"),
        resolved: time("2026-11-21T12:01:00Z"),
        site: None,
        ..alert.clone()
    };
    let rule = RuleReport {
        name: "leak".to_owned(),
        scope: Scope::Site,
        state: Answer::Firing,
        asked: 4,
        firing: 3,
        pending: 2,
        not_enough_data: 1,
        value: Some(2.0),
        why: "verdict is leak".to_owned(),
        ..RuleReport::default()
    };
    let of_kind = |kind| ActionReport {
        name: "a".to_owned(),
        kind,
        done: 5,
        failed: 4,
        given_up: 3,
        dropped: 2,
        waiting: 1,
        last_error: Some("no".to_owned()),
        held: Some(true),
    };
    Alerting {
        rules: vec![rule],
        alerts: vec![alert, over],
        more_alerts: 3,
        not_looked_at: 2,
        actions: ActionReport::KINDS.map(of_kind).to_vec(),
    }
}

#[test]
fn reports_of_other_leakwatches_are_read_as_far_as_they_go() {
    let line = to_json_line(&samples::report(vec![samples::leaking()]));
    // A newer one adds fields, an older one had fewer.
    let mut newer = parse(&line);
    newer["new"] = json!({"a": [1]});
    newer["processes"][0]["sites"][0]["newer"] = json!(7);
    newer["processes"][0]["losses"]["newer_loss"] = json!(3);
    for gone in ["environment", "processes.course", "build_id", "zombies", "losses"] {
        newer["processes"][0].as_object_mut().expect("an object").remove(gone);
    }
    newer.as_object_mut().expect("an object").remove("environment");
    let text = format!("{newer}\n{line}{}", &line.get(..200).expect("a part of it"));
    check_reports(text.as_bytes()).expect("ours");
    let mut reports = Reports::open(text.as_bytes());
    let first = reports.next_report().expect("a report").expect("one");
    assert_eq!((first.environment, first.processes[0].sites[0].live), (None, 1_024));
    assert!(reports.next_report().expect("a report").is_some());
    assert_eq!((reports.next_report(), reports.cut()), (Ok(None), true), "the last line was cut");
}

#[test]
fn what_is_no_report_is_one_sentence() {
    let refused = |text: &str, part: &str| {
        let error = check_reports(text.as_bytes())
            .and_then(|()| Reports::open(text.as_bytes()).next_report().map(drop))
            .expect_err("refused")
            .to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    };
    let line = to_json_line(&samples::report(vec![samples::leaking()]));
    refused("", "it is empty");
    refused("hello", "no report as JSON");
    refused(line.get(..100).expect("a part of it"), "cut before its first report ended");
    refused(r#"{"schema": "leakwatch.report/2"}"#, "newer than this leakwatch knows");
    refused(r#"{"schema": "leakwatch.dump/1"}"#, "is not that of a report");
    refused(r#"{"schema": "leakwatch.report/1"}"#, "damaged (missing field `host`");
    refused(&line.replace("\"suspect\"", "\"maybe\""), "damaged (unknown variant `maybe`");
    refused(&line.replace("2026-10-09T03", "2026-13-09T03"), "damaged");
    refused(&"[".repeat(100_000), "no report as JSON");
    let with_rules = to_json_line(&Report { alerting: alerting(), ..samples::report(Vec::new()) });
    let word = |from: &str, to: &str| with_rules.replacen(&format!("\"{from}\""), &format!("\"{to}\""), 1);
    refused(&word("P0", "P9"), "level of a rule \"P9\"");
    refused(&word("webhook", "pigeon"), "kind of an action \"pigeon\"");
    refused(&word("site", "street"), "scope of a rule \"street\"");
}

#[test]
fn a_line_is_one_line_and_the_same_report() {
    let report = samples::report(vec![samples::leaking(), samples::lossy()]);
    let line = to_json_line(&report);
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.ends_with("}\n"));
    // What was before, the lines before tell.
    let mut whole = parse(&to_json(&report));
    for process in whole["processes"].as_array_mut().expect("processes") {
        process["course"] = Value::Null;
        for site in process["sites"].as_array_mut().expect("sites") {
            site["course"] = Value::Null;
        }
    }
    assert_eq!(parse(&line), whole);
    assert!(to_json(&report).lines().count() > 50, "indented");
}

/// Names in which anything may stand.
struct Named(String, usize);

impl Names for Named {
    fn site(&mut self, _: SiteId) -> SiteName {
        self.1 += 1;
        SiteName {
            function: Some(self.0.clone()),
            file: Some("/src/main.go".to_owned()),
            line: Some(12),
            task: None,
            system: false,
        }
    }

    fn frame(&mut self, _: u64) -> Vec<FrameName> {
        Vec::new()
    }
}

fn event(kind: EventKind, extra: u64) -> Event {
    let runtime = matches!(kind, EventKind::TaskStart | EventKind::TaskEnd).then_some(RuntimeKind::Go);
    Event {
        time_ns: 3_500_000_000,
        process: 1,
        kind,
        runtime,
        task: 0xc000_0482,
        site: 0x40,
        entry: 0x50,
        extra,
    }
}

fn encode(event: &Event, names: &mut Named) -> String {
    let clock = WallClock { wall: "2026-10-09T03:00:00Z".parse().unwrap(), monotonic_ns: 1_000_000_000 };
    let mut out = Vec::new();
    EventEncoder::default().encode(event, 4_242, &clock, names, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_task_s_events() {
    let mut names = Named("main.leak".to_owned(), 0);
    let line = encode(&event(EventKind::TaskStart, 0), &mut names);
    assert_eq!(
        line,
        "{\"time\":\"2026-10-09T03:00:02.500000000Z\",\"kind\":\"task_start\",\"task\":\"0xc0000482\",\"tid\":null,\
         \"runtime\":\"go\",\"function\":\"main.leak\",\"file\":\"/src/main.go\",\"line\":12,\"entry\":\"0x50\",\
         \"lifetime_s\":null,\"pid\":4242}\n"
    );
    let ended = parse(&encode(&event(EventKind::TaskEnd, 2_250_000_000), &mut names));
    assert_eq!((&ended["kind"], &ended["lifetime_s"]), (&json!("task_end"), &json!(1.25)));
    let unknown = parse(&encode(&event(EventKind::TaskEnd, 0), &mut names));
    assert_eq!(unknown["lifetime_s"], Value::Null, "its birth was not seen");
}

#[test]
fn thread_and_process_events_have_the_same_keys() {
    let mut names = Named("f".to_owned(), 0);
    let task = parse(&encode(&event(EventKind::TaskStart, 0), &mut names));
    let kinds = [
        (EventKind::ThreadStart, "thread_start"),
        (EventKind::ThreadExit, "thread_exit"),
        (EventKind::Fork, "fork"),
        (EventKind::Exec, "exec"),
        (EventKind::ChildExec, "child_exec"),
        (EventKind::ChildExit, "child_exit"),
    ];
    for (kind, name) in kinds {
        let json = parse(&encode(&event(kind, 7), &mut names));
        assert_eq!(keys(&json), keys(&task));
        assert_eq!(
            (&json["kind"], &json["tid"], &json["task"]),
            (&json!(name), &json!(0xc000_0482u64), &Value::Null)
        );
    }
}

#[test]
fn a_site_is_named_once() {
    let mut names = Named("f".to_owned(), 0);
    let mut encoder = EventEncoder::default();
    let clock = WallClock { wall: "2026-10-09T03:00:00Z".parse().unwrap(), monotonic_ns: 0 };
    let mut out = Vec::new();
    for _ in 0..100 {
        encoder.encode(&event(EventKind::TaskStart, 0), 1, &clock, &mut names, &mut out);
    }
    assert_eq!((names.1, String::from_utf8(out).unwrap().lines().count()), (1, 100));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_name_comes_back_as_it_was(name in prop::collection::vec(any::<char>(), 0..80), times in any::<(u64, u64)>()) {
        let name: String = name.into_iter().collect();
        let event = Event { time_ns: times.0, ..event(EventKind::TaskEnd, times.1) };
        let line = encode(&event, &mut Named(name.clone(), 0));
        prop_assert!(harmless(&line) && line.matches('\n').count() == 1);
        let json = parse(&line);
        prop_assert_eq!(json["function"].as_str(), Some(name.as_str()));

        let mut report: Report = samples::report(vec![samples::hostile()]);
        samples::process_of(&mut report, 0).comm.clone_from(&name);
        let json = parse(&to_json_line(&report));
        prop_assert_eq!(json["processes"][0]["comm"].as_str(), Some(name.as_str()));
    }
}

/// What rules and actions say is in the report by the names that docs/json.md has.
#[test]
fn alerts_are_in_the_report() {
    let mut report: Report = samples::report(vec![samples::leaking()]);
    let none = parse(&to_json(&report));
    assert_eq!((&none["rules"], &none["alerts"], &none["actions"]), (&json!([]), &json!([]), &json!([])));
    report.alerting = Alerting {
        rules: vec![RuleReport { name: "leak".to_owned(), ..RuleReport::default() }],
        alerts: vec![AlertReport { site: Some(AlertSite::default()), ..AlertReport::default() }],
        more_alerts: 3,
        not_looked_at: 2,
        actions: vec![ActionReport { name: "page".to_owned(), kind: "webhook", ..ActionReport::default() }],
    };
    let json = parse(&to_json(&report));
    assert_eq!((&json["more_alerts"], &json["rules_not_asked"]), (&json!(3), &json!(2)));
    assert_eq!(
        json["rules"][0],
        json!({"name": "leak", "level": "P1", "per": "process", "state": "not_enough_data", "asked": 0, "firing": 0,
               "pending": 0, "not_enough_data": 0, "value": null, "why": ""})
    );
    assert_eq!(
        keys(&json["alerts"][0]),
        [
            "about",
            "annotations",
            "comm",
            "fired",
            "labels",
            "level",
            "pid",
            "resolved",
            "rule",
            "since",
            "site",
            "start_time",
            "state",
            "value",
            "why"
        ]
    );
    assert_eq!(keys(&json["alerts"][0]["site"]), ["file", "function", "line", "runtime", "task"]);
    assert_eq!(
        json["actions"][0],
        json!({"name": "page", "kind": "webhook", "done": 0, "failed": 0, "given_up": 0, "dropped": 0, "waiting": 0,
               "last_error": null, "held": null})
    );
}

/// Whoever reads a figure in the report can write a rule over it by the same name.
#[test]
fn figures_of_rules_are_those_of_the_report() {
    use crate::rules::{Base, figures};
    let report: Report = samples::report(vec![samples::leaking()]);
    let process = &report.processes[0];
    let site = &process.sites[0];
    let json = parse(&to_json(&report));
    let mut compared = 0;
    for figure in figures().filter(|figure| figure.about().is_empty() && figure.unit().base != Base::Verdict)
    {
        let of = match figure.scope() {
            Scope::Process => &json["processes"][0],
            Scope::Site => &json["processes"][0]["sites"][0],
        };
        let pointer = format!("/{}", figure.name().replace('.', "/"));
        let value = figure.read(process, Some(site));
        // Where a part of the report is not there at all, so is what is in it.
        let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
        if of.pointer(parent).is_some_and(Value::is_null) {
            assert_eq!(value, None, "{}", figure.name());
            continue;
        }
        let there = of.pointer(&pointer).unwrap_or_else(|| panic!("{} is not in the report", figure.name()));
        let same = match (there.as_f64(), value) {
            (Some(there), Some(value)) => (there - value).abs() < 1e-5 * value.abs().max(1.0),
            (None, None) => true,
            _ => false,
        };
        assert!(same, "{}: {there} and {value:?}", figure.name());
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
}
