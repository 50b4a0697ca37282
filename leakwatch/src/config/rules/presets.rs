//! The rules that come with leakwatch: one file, in the form that users write.

use std::sync::LazyLock;

use toml::de::DeValue;

use super::{super::reader::Reader, rule};
use crate::rules::Rule;

const TEXT: &str = include_str!("../../../presets/rules.toml");

/// A rule that comes with leakwatch.
#[derive(Clone, Debug)]
pub struct Preset {
    /// The rule.
    pub rule: Rule,
    /// As it stands in the file, to copy and change.
    pub text: String,
}

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| read().unwrap_or_default());

/// All of them, in the order of the file.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

fn read() -> Result<Vec<Preset>, String> {
    let reader = Reader { file: "presets", text: TEXT };
    let table = reader.table().map_err(|error| error.to_string())?.into_inner();
    let values = reader.tables(&table, "rule").map_err(|error| error.to_string())?;
    let texts = TEXT.split("[[rule]]").skip(1);
    values
        .into_iter()
        .zip(texts)
        .map(|(value, text)| {
            // One that names another preset would wait for itself.
            if matches!(value.get_ref(), DeValue::Table(table) if table.contains_key("preset")) {
                return Err("a preset names a preset".to_owned());
            }
            let rule = rule::rule(&reader, value, &[]).map_err(|error| error.to_string())?;
            // Comments before the next rule are that one's.
            let lines: Vec<&str> = text.trim().lines().take_while(|line| !line.starts_with('#')).collect();
            Ok(Preset { rule, text: format!("[[rule]]\n{}\n", lines.join("\n").trim()) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::alerting::AlertState;
    use crate::report::{
        ProcessReport, SiteReport, Timestamp, Verdict, WaitingReport, ZombieReport, samples,
    };
    use crate::rules::{Engine, Limits, Moment};

    #[test]
    fn the_file_is_right() {
        let presets = read().expect("the file of presets");
        assert!(presets.len() > 10, "{}", presets.len());
        for preset in &presets {
            assert!(preset.rule.about.ends_with('.'), "{}", preset.rule.name);
            let again = super::super::parse("again", &preset.text).expect("a preset can be copied");
            assert_eq!(again.rules[0].when, preset.rule.when, "{}", preset.rule.name);
        }
    }

    /// What a process shows after so many seconds.
    type Course = fn(f64) -> ProcessReport;

    fn shop() -> ProcessReport {
        samples::process(7, "shop")
    }

    fn live(live: f64) -> ProcessReport {
        let mut process = shop();
        process.tasks.live = whole(live);
        process
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
    fn whole(value: f64) -> u64 {
        value.max(0.0).round() as u64
    }

    fn with_site(verdict: Verdict, proven: Option<u64>) -> ProcessReport {
        let site = samples::site("main.serve", "/src/main.go", 12, "main.work");
        ProcessReport { sites: vec![SiteReport { verdict, proven, live: 90, ..site }], ..shop() }
    }

    fn with_stacks(count: u64, near: u64, seen: f64) -> ProcessReport {
        let group = |count, top: &str| WaitingReport {
            reason: "chan receive".to_owned(),
            stack: [top, "b (b.go:1)", "c (c.go:1)", "d (d.go:1)", "e (e.go:1)"].map(Into::into).to_vec(),
            count,
            seen: Some(seen),
            ..WaitingReport::default()
        };
        let mut process = with_site(Verdict::Ok, None);
        process.sites[0].waiting = vec![group(count, "a (a.go:1)"), group(near, "z (z.go:1)")];
        process
    }

    /// Seconds at which a preset fired and was over, looked at each second for so many.
    fn fired(name: &str, seconds: u32, course: Course) -> Vec<(u32, AlertState)> {
        let rules = super::super::chosen(None, &[name.to_owned()]).expect(name).rules;
        let mut engine = Engine::new(rules, Limits::default());
        let mut changes = Vec::new();
        for second in 0..=seconds {
            let at_s = f64::from(second);
            let process = ProcessReport { watched_s: at_s, ..course(at_s) };
            let at = Moment { at_s, wall: Timestamp::UNIX_EPOCH };
            let found = engine.evaluate(at, &[process.into()]);
            changes.extend(found.changes.iter().map(|change| (second, change.state)));
        }
        changes
    }

    /// A saw of so many tasks up and down in 20 s around a level.
    fn saw(at_s: f64, level: f64, height: f64) -> f64 {
        level + height * ((at_s % 20.0) / 10.0 - 1.0).abs()
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn every_preset_fires_where_it_should_and_not_elsewhere() {
        use AlertState::{Firing, Resolved};
        /// A preset, seconds, a course on which it does so, and one on which it stays quiet.
        type Case = (&'static str, u32, Course, &'static [(u32, AlertState)], Course);
        let cases: [Case; 17] = [
            (
                "leak",
                60,
                |t| with_site(if (10.0..20.0).contains(&t) { Verdict::Leak } else { Verdict::Ok }, None),
                &[(10, Firing), (50, Resolved)],
                |_| with_site(Verdict::Suspect, None),
            ),
            (
                "proven-leak",
                20,
                |t| with_site(Verdict::Leak, (t >= 5.0).then_some(3)),
                &[(5, Firing)],
                // Of tokio a single task may be kept for ever on purpose.
                |t| {
                    if t < 10.0 { with_site(Verdict::Leak, Some(0)) } else { with_site(Verdict::Ok, Some(1)) }
                },
            ),
            (
                "suspect",
                200,
                |t| with_site(if t >= 10.0 { Verdict::Suspect } else { Verdict::NotYet }, None),
                &[(130, Firing)],
                |t| with_site(if t % 60.0 < 50.0 { Verdict::Suspect } else { Verdict::Ok }, None),
            ),
            (
                "tasks-over-1000",
                300,
                |t| live(if (10.0..200.0).contains(&t) { 1_001.0 } else { 800.0 }),
                &[(130, Firing), (200, Resolved)],
                |t| live(if t % 100.0 < 90.0 { 2_000.0 } else { 1_000.0 }),
            ),
            (
                "growth-50-percent",
                100,
                |t| live(if t < 80.0 { 1_000.0 } else { 1_501.0 }),
                &[(80, Firing)],
                |t| live(if t < 80.0 { 500.0 } else { 999.0 }),
            ),
            (
                "start-rate",
                200,
                |t| {
                    let mut process = shop();
                    process.tasks.started = whole(6.0 * t);
                    process
                },
                &[(60, Firing)],
                |t| {
                    let mut process = shop();
                    process.tasks.started = whole(4.0 * t);
                    process
                },
            ),
            ("unsteady-climb", 200, |t| live(6.0 * t), &[(120, Firing)], |t| live(saw(t, 500.0, 400.0))),
            ("growth-yellow", 500, |t| live(100.0 + t / 10.0), &[(359, Firing)], |t| live(100.0 + t / 3.0)),
            ("growth-red", 500, |t| live(100.0 + t / 3.0), &[(359, Firing)], |t| live(100.0 + t / 10.0)),
            (
                "stack-candidate",
                20,
                |t| with_stacks(if t < 10.0 { 49 } else { 50 }, 0, 0.7),
                &[(10, Firing)],
                |_| with_stacks(80, 0, 0.6),
            ),
            (
                "stack-cluster",
                20,
                |t| with_stacks(30, if t < 10.0 { 19 } else { 20 }, 0.7),
                &[(10, Firing)],
                |_| with_stacks(49, 0, 1.0),
            ),
            (
                "jump",
                120,
                |t| live(if t < 30.0 { 100.0 } else { 130.0 }),
                &[(30, Firing), (90, Resolved)],
                |t| live(100.0 + 10.0 * t),
            ),
            (
                "threads-growth",
                500,
                |t| {
                    let mut process = shop();
                    process.threads.live = Some(whole(4.0 + t / 6.0));
                    process
                },
                &[(359, Firing)],
                |t| {
                    let mut process = shop();
                    process.threads.live = Some(whole(4.0 + t / 30.0));
                    process
                },
            ),
            (
                "zombies",
                100,
                |t| {
                    let mut process = shop();
                    process.zombies = zombies(t);
                    process
                },
                &[(60, Firing)],
                |t| {
                    let mut process = shop();
                    process.zombies = zombies(t % 50.0);
                    process
                },
            ),
            (
                "fork-storm",
                60,
                |t| {
                    let mut process = shop();
                    process.forks.count = whole(11.0 * t);
                    process
                },
                &[(30, Firing)],
                |t| {
                    let mut process = shop();
                    process.forks.count = whole(9.0 * t);
                    process
                },
            ),
            (
                "memory-growth",
                700,
                |t| {
                    let mut process = shop();
                    process.memory.rss_bytes = Some(whole(1e9 + 200_000.0 * t));
                    process
                },
                &[(599, Firing)],
                |t| {
                    let mut process = shop();
                    process.memory.rss_bytes = Some(whole(1e9 + 100_000.0 * t));
                    process
                },
            ),
            (
                "blind",
                200,
                |t| {
                    let mut process = shop();
                    process.tasks.lost_events = u64::from(t >= 100.0);
                    process
                },
                &[(100, Firing), (160, Resolved)],
                |_| {
                    let mut process = shop();
                    process.tasks.lost_events = 7;
                    process
                },
            ),
        ];
        for preset in presets() {
            assert!(cases.iter().any(|case| case.0 == preset.rule.name), "{} has no case", preset.rule.name);
        }
        for (name, seconds, fires, expected, quiet) in cases {
            let found = fired(name, seconds, fires);
            assert_eq!(found, expected, "{name}");
            assert_eq!(fired(name, seconds, quiet), [], "{name} stays quiet");
        }
    }

    fn zombies(oldest_s: f64) -> Vec<ZombieReport> {
        vec![ZombieReport {
            command: "gzip".to_owned(),
            count: 1,
            oldest_s: Some(oldest_s),
            verdict: Verdict::NotYet,
            why: String::new(),
            confidence: 0.0,
        }]
    }
}
