//! Pages are read by a parser, as a browser reads them: what names can do, what somebody who cannot see them is told, and
//! how large they are.

use std::collections::{BTreeMap, BTreeSet};

use html5ever::{parse_document, tendril::TendrilSink as _};
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use proptest::prelude::*;
use sha2::Digest as _;

use super::*;
use crate::report::alerting::{
    ActionReport, AlertReport, AlertSite, AlertState, Alerting, Answer, Level, RuleReport,
};
use crate::report::{
    Bucket, CommandReport, Lives, Loss, Moment, Overhead, Point, SpawnReport, WaitingReport, samples,
};

/// An element: its name, its attributes, and all text in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    text: String,
}

impl Element {
    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// All elements of a page in their order. A page that a parser must repair fails the test.
#[track_caller]
fn elements(page: &str) -> Vec<Element> {
    fn text(node: &Handle, into: &mut String) {
        if let NodeData::Text { contents } = &node.data {
            into.push_str(&contents.borrow());
        }
        node.children.borrow().iter().for_each(|child| text(child, into));
    }
    fn collect(node: &Handle, into: &mut Vec<Element>) {
        if let NodeData::Element { name, attrs, .. } = &node.data {
            let mut all = String::new();
            text(node, &mut all);
            let attributes = attrs.borrow();
            let attributes = attributes.iter().map(|one| (one.name.local.to_string(), one.value.to_string()));
            into.push(Element { name: name.local.to_string(), attributes: attributes.collect(), text: all });
        }
        node.children.borrow().iter().for_each(|child| collect(child, into));
    }
    let dom = parse_document(RcDom::default(), html5ever::ParseOpts::default()).one(page);
    assert_eq!(*dom.errors.borrow(), Vec::<std::borrow::Cow<'_, str>>::new());
    let mut all = Vec::new();
    collect(&dom.document, &mut all);
    all
}

fn course_of(report: &Report) -> Course {
    let mut course = Course::default();
    course.take(report);
    course
}

fn page(report: &Report) -> String {
    html(&Story { report, course: &course_of(report), remarks: &[] })
}

fn marked(report: &Report) -> String {
    markdown(&Story { report, course: &course_of(report), remarks: &[] })
}

/// Rules that say something: one fires, one is over, one waits, and an action failed.
fn alerting(name: &str) -> Alerting {
    let time = |text: &str| text.parse::<Timestamp>().expect("a time");
    let alert = |level, state, fired: Option<&str>, over: Option<&str>| AlertReport {
        rule: name.to_owned(),
        level,
        state,
        pid: 4_242,
        comm: name.to_owned(),
        site: Some(AlertSite {
            runtime: name.to_owned(),
            function: Some(name.to_owned()),
            file: Some(name.to_owned()),
            line: Some(12),
            task: Some(name.to_owned()),
        }),
        since: time("2026-11-21T12:00:00Z"),
        fired: fired.map(time),
        resolved: over.map(time),
        why: format!("{name} is 1,200, above 1,000"),
        about: name.to_owned(),
        ..AlertReport::default()
    };
    Alerting {
        rules: vec![RuleReport { name: name.to_owned(), state: Answer::Firing, ..RuleReport::default() }],
        alerts: vec![
            alert(Level::P0, AlertState::Firing, Some("2026-11-21T12:02:00Z"), None),
            alert(Level::P2, AlertState::Pending, None, None),
            alert(
                Level::P1,
                AlertState::Resolved,
                Some("2026-11-21T12:01:00Z"),
                Some("2026-11-21T12:04:05Z"),
            ),
        ],
        more_alerts: 3,
        not_looked_at: 2,
        actions: vec![ActionReport {
            name: name.to_owned(),
            failed: 2,
            last_error: Some(name.to_owned()),
            ..ActionReport::default()
        }],
    }
}

#[test]
fn alerts_are_told_with_when_and_why() {
    let mut report = full();
    let mut course = Course::default();
    assert!(page(&report).contains("Alerts") && !page(&samples::report(Vec::new())).contains("Alerts"));
    report.alerting = alerting("main.f");
    course.take(&report);
    // Later one of them is over, and no report says so: it lists the latest that are.
    report.alerting.alerts.truncate(2);
    report.alerting.more_alerts = 0;
    course.take(&report);
    let story = Story { report: &report, course: &course, remarks: &[] };
    let text = html(&story);
    let rows: Vec<String> = elements(&text)
        .into_iter()
        .filter(|one| one.name == "tr" && one.text.contains("above 1,000"))
        .map(|one| one.text)
        .collect();
    let about = "main.f (pid 4242): main.f (main.f:12): main.f is 1,200, above 1,000main.f";
    let expected = [
        format!("main.f P0firingfires since 2026-11-21 12:02:00 UTC{about}"),
        format!("main.f P1resolvedfired 2026-11-21 12:01:00 UTC for 3m5s{about}"),
        format!("main.f P2pendingcondition holds since 2026-11-21 12:00:00 UTC{about}"),
    ];
    assert_eq!(rows, expected);
    assert!(text.contains("action main.f: 2 failed attempts: main.f"), "{text}");
    let text = markdown(&story);
    let line = "- **P0** `main.f` firing: `main.f (pid 4242): main.f (main.f:12)`: main.f is 1,200, above 1,000, \
                fires since 2026-11-21 12:02:00 UTC (main.f)\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("By 1 rule; firing: main.f."), "{text}");
}

/// Everything that a report can have: curves, lives, stacks, zombies, losses, proofs, an environment, alerts.
fn full() -> Report {
    let mut leaking = samples::leaking();
    for (index, site) in leaking.sites.iter_mut().enumerate() {
        site.recent = (0..120u32)
            .map(|at| Point { at_s: f64::from(at), live: u64::from(at) * 8 + index as u64 })
            .collect();
        let bucket = |from_s, count| Bucket { from_s, count };
        site.lives = Some(Lives {
            ended: vec![bucket(0.001_048_576, 700), bucket(0.002_097_152, 38)],
            alive: Some(vec![bucket(8.589_934_592, 12), bucket(34.359_738_368, 300)]),
        });
        site.never_ending_share = Some(0.3);
        site.never_ending_interval = Some((0.27, 0.33));
        site.spawns = vec![
            SpawnReport {
                function: Some("main.a".to_owned()),
                file: Some("/a.go".to_owned()),
                line: Some(3),
                seen: 4,
            },
            SpawnReport::default(),
        ];
    }
    leaking.sites[0].verdict = Verdict::Leak;
    leaking.leaks = 1;
    leaking.recent = (0..120u32)
        .map(|at| Moment {
            at_s: f64::from(at),
            live: 700 + u64::from(at),
            started: u64::from(at) * 17,
            ended: u64::from(at) * 16,
            threads_live: Some(14),
            rss_bytes: Some(100_000_000 + u64::from(at) * 10_000),
        })
        .collect();
    leaking.proof = Some(crate::report::ProofSample {
        proofs: 3,
        proven: 12,
        confidence: 0.999,
        problems: vec!["no heap".to_owned()],
        ..crate::report::ProofSample::default()
    });
    let mut report = samples::report(vec![leaking, samples::lossy(), samples::hostile()]);
    report.environment = Some(Environment {
        leakwatch: "0.1.0 (abc)".to_owned(),
        kernel: Some("6.18.0".to_owned()),
        machine: Some("x86_64".to_owned()),
        command: ["leakwatch", "watch", "--comm", "a b"].map(str::to_owned).into(),
    });
    report.alerting = alerting("leak");
    report
}

#[test]
fn a_page_is_well_formed_and_asks_nobody_for_anything() {
    for report in [full(), samples::report(Vec::new()), samples::report(vec![samples::lossy()])] {
        let text = page(&report);
        let elements = elements(&text);
        for element in &elements {
            assert!(
                !["script", "link", "iframe", "object", "embed", "img", "form", "base"]
                    .contains(&&*element.name),
                "{element:?}"
            );
            for (name, value) in &element.attributes {
                assert!(!name.starts_with("on") && name != "style" && name != "src", "{element:?}");
                assert!(name != "href" || value.starts_with('#'), "{element:?}");
            }
        }
        assert!(!text.contains("url(") && !text.contains("@import"));
        let policies: Vec<&Element> = elements
            .iter()
            .filter(|element| element.attribute("http-equiv") == "Content-Security-Policy")
            .collect();
        let [policy] = &*policies else { panic!("{policies:?}") };
        let policy = policy.attribute("content");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    }
}

#[test]
fn the_policy_names_the_style_that_is_there() {
    let digest = data_encoding::BASE64.encode(&sha2::Sha256::digest(STYLE.as_bytes()));
    assert_eq!(STYLE_HASH, format!("sha256-{digest}"), "style.css was changed: this is its new hash");
    let text = page(&full());
    let styles: Vec<Element> =
        elements(&text).into_iter().filter(|element| element.name == "style").collect();
    assert_eq!(styles.len(), 1);
    assert_eq!(styles[0].text, STYLE, "the parser reads the style as it was written");
}

#[test]
fn a_page_is_told_to_who_cannot_see_it() {
    let all = elements(&page(&full()));
    let named = |name: &str| all.iter().filter(|element| element.name == name).collect::<Vec<_>>();
    assert_eq!(named("html")[0].attribute("lang"), "en");
    assert_eq!((named("h1").len(), named("main").len(), named("header").len()), (1, 1, 1));
    let mut before = 1;
    for element in &all {
        let level = element.name.strip_prefix('h').and_then(|level| level.parse::<u32>().ok());
        if let Some(level) = level {
            assert!(level <= before + 1, "{element:?} after a heading of level {before}");
            before = level;
        }
    }
    for table in named("table") {
        assert!(!table.text.is_empty());
    }
    assert_eq!(named("table").len(), named("caption").len());
    assert!(named("th").iter().all(|head| ["col", "row"].contains(&head.attribute("scope"))));
    let pictures = named("svg");
    assert!(pictures.len() > 4, "{}", pictures.len());
    for picture in pictures {
        assert!(
            picture.attribute("role") == "img" && picture.attribute("aria-label").len() > 30,
            "{picture:?}"
        );
    }
    let ids: Vec<&str> =
        all.iter().map(|element| element.attribute("id")).filter(|id| !id.is_empty()).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
    for element in &all {
        let target = element.attribute("href").trim_start_matches('#');
        let label = element.attribute("aria-labelledby");
        assert!(target.is_empty() || unique.contains(target), "{element:?}");
        assert!(label.is_empty() || unique.contains(label), "{element:?}");
    }
}

#[test]
fn verdicts_come_first_with_their_evidence() {
    let mut report = full();
    report.processes.truncate(1);
    let text = page(&report);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what:?} is not in the page"));
    assert!(at("1 leak") < at(">Verdicts<") && at(">Verdicts<") < at("live tasks grew steadily"));
    assert!(at("live tasks grew steadily") < at(">Over time<") && at(">Over time<") < at(">Sites<"));
    let entry = |name: &str, value: &str| {
        let entry = format!("<dt>{name}</dt><dd><bdi>{value}</bdi></dd>");
        assert!(text.contains(&entry), "{entry}");
    };
    entry("Alive", "1,024");
    entry("Started", "1,038 (17.3/s)");
    entry("Never end (95 % interval)", "30% (27% to 33%)");
    entry("Kernel", "6.18.0");
    entry("Drift (probes less memory)", "+0");
    assert!(text.contains("<dt>Build id</dt><dd><span class=\"soft\">not known</span></dd>"));
    assert!(text.contains("leakwatch watch --comm 'a b'"), "the command line, as a shell takes it");
    assert!(text.contains("server.(*client).writeLoop (/build/server/client.go:1322)"), "the stack");
    assert!(!text.contains("runtime.gopark"), "frames that every stack has");
}

#[test]
fn what_is_lost_is_told() {
    let text = page(&samples::report(vec![samples::lossy()]));
    for part in ["the ring buffer had no room for 4,201 events", "something_new", "newer than all we know"] {
        assert!(text.contains(part), "{part}");
    }
    assert!(page(&samples::report(vec![samples::process(1, "a")])).contains("Nothing was lost."));
}

#[test]
fn hostile_names_are_text() {
    let mut report = samples::report(vec![samples::hostile()]);
    let tag = "</style><script>alert(1)</script><img src=x onerror=alert(1)>";
    report.host = tag.to_owned();
    samples::process_of(&mut report, 0).comm = format!("{tag}\u{202e}\u{0}\u{1b}[2J");
    let text = page(&report);
    let elements = elements(&text);
    assert!(elements.iter().all(|element| element.name != "script" && element.name != "img"));
    let heading = elements.iter().find(|element| element.name == "h1").expect("a heading");
    assert_eq!(heading.text, format!(r"{tag}\u{{202e}}\x00\x1b[2J (pid 666) on {tag}"));
    let odd = |c: char| {
        c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert_eq!(text.matches(odd).count(), 0, "controls and changes of direction");
    assert!(text.len() < 100_000, "a symbol of 10 kB is not shown whole: {}", text.len());
    let text = marked(&report);
    assert_eq!(text.matches(odd).count(), 0);
    assert!(!parts(&text).contains(&"html".to_owned()), "{text}");
}

/// A report all of whose foreign words are this one.
fn all_named(word: &str) -> Report {
    let name = || word.to_owned();
    let mut report = full();
    report.processes.truncate(1);
    report.host = name();
    report.environment = Some(Environment {
        leakwatch: name(),
        kernel: Some(name()),
        machine: Some(name()),
        command: vec![name(), name()],
    });
    report.overhead = Overhead::default();
    report.alerting = alerting(word);
    let process = samples::process_of(&mut report, 0);
    process.comm = name();
    process.exe = Some(name());
    process.build_id = Some(name());
    process.container = Some(crate::report::Container {
        id: name(),
        engine: Some(name()),
        name: Some(name()),
        image: Some(name()),
    });
    process.losses = vec![Loss { name: name().into(), count: 3 }];
    process.threads.by_name = vec![(name(), 3)];
    process.forks.by_command = vec![CommandReport { command: name(), ..CommandReport::default() }];
    for runtime in &mut process.runtimes {
        (runtime.kind, runtime.name, runtime.version) = (name(), Some(name()), Some(name()));
        runtime.problems = vec![name()];
    }
    for zombies in &mut process.zombies {
        (zombies.command, zombies.why) = (name(), name());
    }
    for site in &mut process.sites {
        (site.runtime, site.function, site.file) = (name(), Some(name()), Some(name()));
        (site.task, site.task_file, site.task_line) = (Some(name()), Some(name()), Some(7));
        (site.why, site.settles) = (name(), name());
        site.line = Some(7);
        site.creation_stack = vec![name().into()];
        site.waiting = vec![WaitingReport {
            reason: name(),
            stack: vec![name().into(), name().into()],
            count: 3,
            ..WaitingReport::default()
        }];
        for spawn in &mut site.spawns {
            (spawn.function, spawn.file, spawn.line) = (Some(name()), Some(name()), Some(8));
        }
    }
    report
}

fn skeleton(page: &str) -> Vec<(String, Vec<String>)> {
    elements(page).into_iter().map(|one| (one.name, one.attributes.into_keys().collect())).collect()
}

/// What a markdown page is made of, without its words.
fn parts(page: &str) -> Vec<String> {
    use pulldown_cmark::{Event, Options, Parser};
    let events =
        Parser::new_ext(page, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_GFM);
    events
        .filter_map(|event| match event {
            Event::Start(tag) => Some(format!("{:?}", tag.to_end())),
            Event::End(tag) => Some(format!("/{tag:?}")),
            Event::Code(_) => Some("code".to_owned()),
            Event::Html(_) | Event::InlineHtml(_) => Some("html".to_owned()),
            Event::Rule => Some("rule".to_owned()),
            _ => None,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever names say, the page is made of the same elements with the same attributes, and every `<` is one of them.
    #[test]
    fn names_never_become_markup(word in r#"[ -~\n\t\u{1b}\u{202e}é漢<>&"'/=!-]{1,40}"#) {
        let (plain, odd) = (page(&all_named("main.f")), page(&all_named(&word)));
        prop_assert_eq!(skeleton(&odd), skeleton(&plain));
        prop_assert_eq!(odd.matches('<').count(), plain.matches('<').count());
    }

    #[test]
    fn names_never_become_markdown(word in r#"[a-z][ -~\n\t\u{1b}\u{202e}é漢<>&"'`|*_#@\[\]()!~\\]{0,40}"#) {
        prop_assert_eq!(parts(&marked(&all_named(&word))), parts(&marked(&all_named("main.f"))));
    }
}

#[test]
fn a_hundred_sites_are_below_a_megabyte() {
    let mut report = full();
    let process = samples::process_of(&mut report, 0);
    let mut site = process.sites[0].clone();
    let frame = "github.com/nats-io/nats-server/v2/server.(*client).writeLoop (/build/server/client.go:1322)";
    site.waiting = (0..8)
        .map(|count| WaitingReport {
            reason: "chan receive".to_owned(),
            stack: vec![frame.into(); 12],
            count,
            ..WaitingReport::default()
        })
        .collect();
    process.sites = vec![site; 100];
    let text = page(&report);
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
    assert_eq!(elements(&text).iter().filter(|element| element.name == "article").count() - 1, 100 + 2);
    let process = samples::process_of(&mut report, 0);
    process.sites = vec![process.sites[0].clone(); 1_000];
    let text = page(&report);
    assert!(text.len() < 1_000_000 && text.contains("and 900 more sites"), "{} bytes", text.len());
    let text = marked(&report);
    assert!(text.contains("and 980 more sites"));
}

/// Text on its background: 4.5 to 1, as WCAG 2.2 asks for (1.4.3), in every palette.
#[test]
fn every_palette_can_be_read() {
    let palettes: Vec<BTreeMap<&str, [f64; 3]>> = STYLE
        .split(":root {")
        .skip(1)
        .map(|palette| {
            let palette = palette.split_once('}').expect("its end").0;
            let colors =
                palette.split(';').filter_map(|one| one.trim().strip_prefix("--")?.split_once(": #"));
            let part = |hex: &str, at: usize| {
                let digits = hex.get(at..at + 2).expect("six digits");
                f64::from(u8::from_str_radix(digits, 16).expect("hexadecimal"))
            };
            colors.map(|(name, hex)| (name, [part(hex, 0), part(hex, 2), part(hex, 4)])).collect()
        })
        .collect();
    assert_eq!(palettes.len(), 3, "light, dark, print");
    let luminance = |color: &[f64; 3]| {
        let linear = color.map(|part| {
            let part = part / 255.0;
            if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    };
    for palette in palettes {
        for ground in ["page", "card"] {
            for text in ["text", "soft", "leak", "suspect", "ok", "not-yet", "curve", "second"] {
                let (a, b) = (luminance(&palette[text]), luminance(&palette[ground]));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
            }
        }
    }
}
