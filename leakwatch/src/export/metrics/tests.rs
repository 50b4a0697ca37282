//! Families of made-up reports, in every form, against what the reports say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;

use super::{protobuf::MetricFamily, *};
use crate::report::{
    Container, Loss, Pod, ProcessReport, SiteReport, Verdict, agent::ProofTotals, float, samples,
};

/// A sample as a reader of the text sees it: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads what a scraper would read; panics at what it would refuse.
fn read(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    while let Some(after) = rest.strip_prefix(['{', ',']) {
        let (label, after) = after.split_once("=\"").expect("a label");
        let mut value = String::new();
        let mut characters = after.char_indices();
        rest = loop {
            match characters.next().expect("the end of a value") {
                (_, '\\') => match characters.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break after.get(at + 1..).expect("a boundary"),
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none(), "{label} twice: {line}");
        rest = rest.strip_prefix('}').unwrap_or(rest);
    }
    let value = rest.trim().replace("+Inf", "inf").parse().expect("a number");
    (name.to_owned(), labels, value)
}

fn agent() -> AgentFigures {
    AgentFigures { version: "0.1.0", revision: "abc", cpu_s: Some(1.5), ..AgentFigures::default() }
}

fn text(processes: &[Arc<ProcessReport>], limits: &Limits) -> String {
    let families = families(processes, &agent(), limits);
    String::from_utf8(encode(&families, Exposition::Text)).expect("text")
}

#[test]
fn names_say_what_they_are() {
    let mut names = BTreeSet::new();
    for (place, definition) in TABLE.iter().enumerate() {
        let Definition { metric, name, kind, unit, help, .. } = *definition;
        assert_eq!(metric as usize, place);
        assert!(names.insert(name) && name.starts_with("leakwatch_"), "{name}");
        assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(kind == Kind::Info, name.ends_with("_info"), "{name}");
        let unit = unit.map_or(String::new(), |unit| format!("_{unit}"));
        assert!(name.trim_end_matches("_total").ends_with(&unit), "{name}");
        assert!(!help.ends_with('.') && !help.is_empty(), "{name}");
        let labels: Vec<_> = definition.label_names().collect();
        assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len(), "{name}");
    }
}

#[test]
fn a_leak_is_told_as_it_is() {
    let text = text(&[samples::leaking().into()], &Limits::default());
    let samples = read(&text);
    let of = |name: &str| samples.iter().filter(|(other, ..)| other == name).collect::<Vec<_>>();
    let [(_, labels, live)] = of("leakwatch_tasks_live")[..] else { panic!("{text}") };
    assert!((live - 1_038.0).abs() < 0.5);
    let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        labels,
        [("comm", "nats-server"), ("exe", "/usr/bin/nats-server"), ("pid", "4242"), ("runtime", "go")]
    );
    let (_, worst, _) =
        of("leakwatch_site_tasks_live").into_iter().max_by(|a, b| a.2.total_cmp(&b.2)).expect("sites");
    assert_eq!(worst["function"], "github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine");
    assert_eq!(worst["line"], "3912");
    let verdicts = of("leakwatch_site_verdict");
    assert!(verdicts.iter().any(|(_, labels, verdict)| labels == worst && (*verdict - 1.0).abs() < 1e-9));
    assert_eq!(of("leakwatch_site_tasks_proven_leaked").len(), 0, "no proof was tried");
    assert!(!text.contains("forcegchelper"), "the runtime's own tasks have no series");
}

#[test]
fn labels_of_pods_are_told_of_the_process_alone() {
    let of_pod = [("app.kubernetes.io/name", "bus \"a\""), ("team", "shop")];
    let of_pod = of_pod.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let pod = Pod { labels: Some(of_pod.into()), ..Pod::default() };
    let report = Arc::new(ProcessReport { pod: Some(pod), ..samples::leaking() });
    for (name, labels, _) in read(&text(&[report], &Limits::default())) {
        let told = ["label_app_kubernetes_io_name", "label_team"].map(|name| labels.get(name).cloned());
        let expect =
            ["bus \"a\"", "shop"].map(|value| (name == "leakwatch_process_info").then(|| value.to_owned()));
        assert_eq!(told, expect, "{name}");
    }
}

#[test]
fn unknown_is_absent() {
    let text = text(&[samples::lossy().into()], &Limits::default());
    assert!(!text.contains("leakwatch_site_verdict{"), "{text}");
    assert!(!text.contains("leakwatch_threads_live{"), "{text}");
    assert!(!text.contains("NaN") && !text.contains("leakwatch_process_resident_memory_bytes{"), "{text}");
}

#[test]
fn open_metrics_differs_where_it_must() {
    let families = families(&[samples::leaking().into()], &agent(), &Limits::default());
    let text = String::from_utf8(encode(&families, Exposition::OpenMetrics)).expect("text");
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# TYPE leakwatch_tasks_started counter\n"), "{text}");
    assert!(text.contains("\nleakwatch_tasks_started_total{"), "{text}");
    assert!(text.contains("# TYPE leakwatch_build info\n"), "{text}");
    assert!(text.contains("# UNIT leakwatch_task_lifetime_seconds seconds\n"), "{text}");
}

#[test]
fn processes_without_room_are_summed_up() {
    let mut processes: Vec<ProcessReport> = (1..=5).map(|pid| samples::process(pid, "small")).collect();
    for (process, live) in processes.iter_mut().zip([10, 50, 30, 20, 40]) {
        process.tasks.live = live;
    }
    let limits = Limits { processes: 2, ..Limits::default() };
    let processes: Vec<_> = processes.into_iter().map(Arc::new).collect();
    let samples = read(&text(&processes, &limits));
    let live = samples.iter().filter(|(name, ..)| name == "leakwatch_tasks_live");
    let live: Vec<(Option<&str>, &str, f64)> = live
        .map(|(_, labels, live)| (labels.get("pid").map(String::as_str), labels["comm"].as_str(), *live))
        .collect();
    assert_eq!(live, [(Some("2"), "small", 50.0), (Some("5"), "small", 40.0), (None, "(other)", 60.0)]);
    let left_out = samples
        .iter()
        .find(|(name, labels, _)| name == "leakwatch_series_left_out" && labels["what"] == "processes");
    assert_eq!(left_out.map(|(.., count)| *count), Some(3.0));
}

#[test]
fn the_binary_form_says_the_same() {
    let families =
        families(&[samples::leaking().into(), samples::hostile().into()], &agent(), &Limits::default());
    let bytes = encode(&families, Exposition::Protobuf);
    let mut rest = bytes.as_slice();
    let mut read = Vec::new();
    while !rest.is_empty() {
        read.push(MetricFamily::decode_length_delimited(&mut rest).expect("a family"));
    }
    assert_eq!(read.len(), families.len());
    for (family, read) in families.iter().zip(&read) {
        assert_eq!(read.name.as_deref(), Some(family.definition.name));
        assert_eq!(read.metric.len(), family.series.len());
        for (series, metric) in family.series.iter().zip(&read.metric) {
            let labels = metric.label.iter().map(|pair| pair.value.as_deref().unwrap_or_default());
            assert!(labels.eq(series.labels.iter().map(|(_, value)| &**value)));
            let number = metric.counter.and_then(|counter| counter.value);
            let number = number.or_else(|| metric.gauge.and_then(|gauge| gauge.value));
            match &series.value {
                Value::Number(value) => assert_eq!(number, Some(*value)),
                Value::Histogram(histogram) => {
                    let read = metric.histogram.as_ref().expect("a histogram");
                    assert_eq!(read.sample_count, Some(histogram.count()));
                }
            }
        }
    }
}

fn site() -> impl Strategy<Value = SiteReport> {
    // Few names, so that some come twice, and such as no label may have.
    let name = prop_oneof![
        Just("main.run".to_owned()),
        Just("a\"b\\c\nd\u{1b}[2J".to_owned()),
        Just("x".repeat(400)),
        Just("x".repeat(401)),
        ".{0,12}",
    ];
    (name, 0u64..1_000, 0..3usize, 0..4usize, any::<bool>()).prop_map(
        |(name, live, kind, verdict, system)| SiteReport {
            live,
            started: live,
            system,
            runtime: ["go", "tokio", "thread"][kind].to_owned(),
            verdict: [Verdict::Ok, Verdict::Suspect, Verdict::Leak, Verdict::NotYet][verdict],
            ..samples::site(&name, "/src/main.go", 7, &name)
        },
    )
}

proptest! {
    #[test]
    fn series_are_unique_bounded_and_add_up(
        sites in proptest::collection::vec(site(), 0..40),
        sites_of_a_process in 0usize..10,
        most in 0usize..10,
        beyond in 0u64..3,
    ) {
        let mut process = samples::process(7, "any\nname");
        process.tasks.live = sites.iter().filter(|site| !site.system && site.runtime != "thread").map(|site| site.live).sum();
        // Of sites that the report has no place for.
        process.tasks.live += 100 * beyond;
        process.losses = vec![Loss { name: "sites_over_limit".into(), count: beyond }];
        let all = sites.iter().filter(|site| !site.system).count() as u64 + beyond;
        process.sites = sites;
        let limits = Limits { sites_of_a_process, sites: most, label: 64, ..Limits::default() };
        let text = text(&[process.clone().into()], &limits);
        let samples = read(&text);
        let mut seen = BTreeSet::new();
        for (name, labels, _) in &samples {
            prop_assert!(seen.insert((name, labels)), "twice: {name} {labels:?}");
            prop_assert!(labels.values().all(|value| value.chars().count() <= 64 && !value.is_empty()));
        }
        let of = |wanted: &str, tasks: bool| {
            let of = samples.iter().filter(|(name, labels, _)| {
                name == wanted && (!tasks || labels.get("runtime").is_some_and(|kind| kind != "thread"))
            });
            of.map(|(.., value)| *value).sum::<f64>()
        };
        prop_assert!((of("leakwatch_site_tasks_live", true) - of("leakwatch_tasks_live", false)).abs() < 0.5, "{text}");
        prop_assert!((of("leakwatch_tasks_live", false) - float(process.tasks.live)).abs() < 0.5);
        let shown = samples.iter().filter(|(name, labels, _)| {
            name == "leakwatch_site_tasks_live" && labels.get("function").is_none_or(|name| name != OTHER)
        });
        prop_assert!(shown.count() <= most.min(sites_of_a_process));
        let named = process.sites.iter().filter(|site| !site.system).count().min(most.min(sites_of_a_process));
        let left_out = samples.iter().find(|(name, labels, _)| name == "leakwatch_series_left_out" && labels["what"] == "sites");
        prop_assert_eq!(left_out.map(|(.., count)| *count), Some(float(all - named as u64)));
    }
}

/// The table as the document has it.
fn table() -> String {
    let mut text = String::from("| name | kind | labels | what it says |\n| --- | --- | --- | --- |\n");
    for definition in &TABLE {
        let own = definition.labels.iter().map(|name| format!("`{name}`"));
        let of = match definition.of {
            Of::Agent => None,
            Of::Process => Some("process"),
            Of::Tasks => Some("process, `runtime`"),
            Of::Site => Some("process, `runtime`, site"),
        };
        let labels: Vec<String> = of.map(str::to_owned).into_iter().chain(own).collect();
        let row = format!(
            "| `{}` | {} | {} | {} |",
            definition.name,
            definition.kind.name(),
            labels.join(", "),
            definition.help,
        );
        text.push_str(&row.replace("|  |", "| |"));
        text.push('\n');
    }
    text
}

/// `LEAKWATCH_UPDATE_GOLDEN=1` writes it anew.
#[test]
fn the_document_has_the_table() {
    const BEGIN: &str = "<!-- metrics: written from leakwatch/src/export/metrics/table.rs -->\n";
    const END: &str = "<!-- end of metrics -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let document = std::fs::read_to_string(&path).expect("docs/metrics.md");
    let (before, rest) = document.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where the table ends");
    let wanted = [before, BEGIN, &table(), END, after].concat();
    if std::env::var_os("LEAKWATCH_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &wanted).expect("docs/metrics.md can be written");
    } else {
        assert!(
            document == wanted,
            "docs/metrics.md is not what the table says: LEAKWATCH_UPDATE_GOLDEN=1 writes it"
        );
    }
}

/// A report and an agent of which everything is known.
fn whole() -> (ProcessReport, AgentFigures) {
    let mut process = samples::leaking();
    process.build_id = Some("5f3a".to_owned());
    process.container = Some(Container {
        id: "4f2a".to_owned(),
        engine: Some("containerd".to_owned()),
        name: Some("server".to_owned()),
        image: Some("nats:2.11".to_owned()),
    });
    process.probe_hits = 2_148;
    process.losses = vec![Loss { name: "ring_full".into(), count: 3 }];
    process.leaks = 1;
    let site = &mut process.sites[0];
    (site.verdict, site.proven, site.leak_rate_per_min) = (Verdict::Leak, Some(300), Some(300.0));
    site.lives = crate::report::Lives::of(&[3; leakwatch_common::LIFETIME_BUCKETS].into(), None);
    let mut totals = Totals::default();
    totals.add(&[process.clone().into()]);
    let figures = AgentFigures {
        turned_away: 1,
        version: "0.1.0",
        revision: "abc",
        started: process.start_time,
        cpu_s: Some(1.5),
        rss_bytes: Some(60_000_000),
        open_fds: Some(120),
        look_s: Some(0.004),
        tiers: vec![("memory", 12), ("probes", 1)],
        overhead: vec![(4_242, 0.000_4)],
        errors: vec![("attach", 2), ("reload", 0)],
        features: vec![("probes", true), ("memory", false)],
        binaries: Some([40, 42]),
        tier_changes: vec![("memory", 1), ("thinned", 1), ("probes", 2)],
        proofs: Some(ProofTotals { made: 7, failed: 1, refuted: 0, cpu_s: 0.25 }),
        totals,
        exports: vec![ExportFigures { to: "remote_write", sent: 4, failed: 1, dropped: 0, queued_bytes: 0 }],
    };
    (process, figures)
}

/// Every metric there is, as a scraper gets it: what the queries of `deploy/` are tried on. `LEAKWATCH_UPDATE_GOLDEN=1`
/// writes it anew.
#[test]
fn every_metric_can_be_filled() {
    let (process, figures) = whole();
    let families = families(&[process.into()], &figures, &Limits::default());
    let filled: Vec<&str> = families.iter().map(|family| family.definition.name).collect();
    assert_eq!(filled, TABLE.iter().map(|definition| definition.name).collect::<Vec<_>>());
    let text = encode(&families, Exposition::Text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/export/metrics/golden/whole.prom");
    if std::env::var_os("LEAKWATCH_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(&path, &text).expect("the file can be written");
    }
    let golden = std::fs::read(&path).expect("the file");
    assert!(golden == text, "{} is old: LEAKWATCH_UPDATE_GOLDEN=1 writes it", path.display());
}

/// What nobody looks at is not worth its price in every store.
#[test]
fn every_metric_is_used_by_a_rule_or_a_dashboard() {
    fn texts(folder: &Path, all: &mut String) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                texts(&entry, all);
            } else if let Ok(text) = std::fs::read_to_string(&entry) {
                all.push_str(&text);
            }
        }
    }
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut all = String::new();
    texts(&deploy, &mut all);
    for definition in &TABLE {
        assert!(all.contains(definition.name), "nothing in deploy/ uses {}", definition.name);
    }
}
