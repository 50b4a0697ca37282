//! Answers put together: pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::export::VectorSample;
use crate::report::{
    Timestamp, Verdict,
    fleet::{FleetReport, FleetSite},
};

/// Labels of an answer.
type Labels = BTreeMap<String, String>;

/// The answers to all questions.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) agents: Vec<VectorSample>,
    pub(super) processes: Vec<VectorSample>,
    pub(super) live: Vec<VectorSample>,
    pub(super) leak_rate: Vec<VectorSample>,
    pub(super) verdict: Vec<VectorSample>,
    pub(super) proven: Vec<VectorSample>,
    pub(super) processes_of_sites: Vec<VectorSample>,
    pub(super) hosts_of_sites: Vec<VectorSample>,
    pub(super) leaking_processes: Vec<VectorSample>,
    pub(super) versions: Vec<VectorSample>,
    pub(super) suspicious: Vec<VectorSample>,
}

/// What is known of the past.
struct Past {
    /// By executable, when each of its versions was first seen, the oldest first.
    versions: BTreeMap<String, Vec<(f64, String)>>,
    /// What was suspect or worse, in which version.
    suspicious: BTreeSet<Labels>,
}

/// The report, with `most` sites at most.
pub(super) fn report(answers: &Answers, prometheus: &str, since_s: f64, most: usize) -> FleetReport {
    let past = Past::of(answers);
    let mut sites: BTreeMap<&Labels, FleetSite> =
        answers.live.iter().map(|sample| (&sample.labels, begin(sample))).collect();
    let mut fill = |samples: &[VectorSample], set: fn(&mut FleetSite, f64)| {
        for sample in samples {
            // One that came between two questions is told of the next time.
            if let Some(site) = sites.get_mut(&sample.labels) {
                set(site, sample.value);
            }
        }
    };
    fill(&answers.leak_rate, |site, rate| {
        site.leak_rate_per_min = Some(rate * 60.0).filter(|rate| rate.is_finite());
    });
    fill(&answers.verdict, |site, value| site.verdict = verdict(value));
    fill(&answers.proven, |site, value| site.proven = Some(whole(value)));
    fill(&answers.processes_of_sites, |site, value| site.processes = whole(value));
    fill(&answers.hosts_of_sites, |site, value| site.hosts = whole(value));
    fill(&answers.leaking_processes, |site, value| site.leaking_processes = whole(value));
    let mut sites: Vec<(&Labels, FleetSite)> = sites.into_iter().collect();
    sites.sort_by(|(_, a), (_, b)| {
        let rate = |site: &FleetSite| site.leak_rate_per_min.unwrap_or(0.0);
        let by_rate = || rate(b).total_cmp(&rate(a));
        b.verdict.cmp(&a.verdict).then_with(by_rate).then_with(|| b.live.cmp(&a.live))
    });
    let more_sites = sites.len().saturating_sub(most) as u64;
    sites.truncate(most);
    let sites = sites.into_iter().map(|(labels, site)| past.tell(labels, site)).collect();
    let sum = |samples: &[VectorSample]| whole(samples.iter().map(|sample| sample.value).sum());
    FleetReport {
        prometheus: prometheus.to_owned(),
        taken: answers.agents.first().and_then(|sample| time(sample.at_s)).unwrap_or_default(),
        since_s,
        hosts: sum(&answers.agents),
        processes: sum(&answers.processes),
        sites,
        more_sites,
    }
}

/// A site of which only its labels and live tasks are known.
fn begin(sample: &VectorSample) -> FleetSite {
    let text = |name: &str| sample.labels.get(name).cloned();
    FleetSite {
        exe: text("exe"),
        build_id: text("build_id"),
        image: text("image"),
        runtime: text("runtime"),
        function: text("function"),
        file: text("file"),
        line: text("line").and_then(|line| line.parse().ok()),
        task: text("task"),
        verdict: Verdict::NotYet,
        live: whole(sample.value),
        leak_rate_per_min: None,
        proven: None,
        hosts: 0,
        processes: 0,
        leaking_processes: 0,
        first_seen: None,
        version_before: None,
        is_new: None,
    }
}

/// As `leakwatch_site_verdict` has it.
fn verdict(value: f64) -> Verdict {
    match whole(value) {
        0 => Verdict::Ok,
        1 => Verdict::Suspect,
        _ => Verdict::Leak,
    }
}

/// A count. What is none, as NaN, is 0: Prometheus has no series for what is not known.
fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts; a float that is too large for the integer becomes its largest value"
    )]
    let whole = value.round() as u64;
    whole
}

fn time(at_s: f64) -> Option<Timestamp> {
    let since = jiff::SignedDuration::try_from_secs_f64(at_s).ok()?;
    Timestamp::from_duration(since).ok()
}

impl Past {
    fn of(answers: &Answers) -> Self {
        let mut versions: BTreeMap<String, Vec<(f64, String)>> = BTreeMap::new();
        for sample in &answers.versions {
            let text = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
            versions.entry(text("exe")).or_default().push((sample.value, text("build_id")));
        }
        for all in versions.values_mut() {
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let suspicious = answers.suspicious.iter().map(|sample| sample.labels.clone()).collect();
        Self { versions, suspicious }
    }

    /// What the past says of a site.
    fn tell(&self, labels: &Labels, mut site: FleetSite) -> FleetSite {
        let versions = site.exe.as_ref().and_then(|exe| self.versions.get(exe));
        let Some((versions, build_id)) = versions.zip(site.build_id.as_ref()) else { return site };
        let Some(own) = versions.iter().find(|(_, version)| version == build_id) else { return site };
        site.first_seen = time(own.0);
        let before: Vec<&String> =
            versions.iter().filter(|(at_s, _)| *at_s < own.0).map(|(_, version)| version).collect();
        site.version_before = before.last().map(|version| (*version).clone());
        if site.verdict >= Verdict::Suspect && !before.is_empty() {
            site.is_new = Some(!before.iter().any(|version| self.was_suspicious(labels, version)));
        }
        site
    }

    /// It was suspect or worse in another version.
    fn was_suspicious(&self, labels: &Labels, version: &str) -> bool {
        let mut known = labels.clone();
        // Images and lines change from version to version without another site.
        known.retain(|name, _| !matches!(name.as_str(), "image" | "line"));
        known.insert("build_id".to_owned(), version.to_owned());
        self.suspicious.contains(&known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(labels: &[(&str, &str)], value: f64) -> VectorSample {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        VectorSample { labels, at_s: 1_000_000.0, value }
    }

    fn site<'a>(build_id: &'a str, function: &'a str, line: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("exe", "/bin/shop"),
            ("build_id", build_id),
            ("runtime", "go"),
            ("function", function),
            ("line", line),
        ]
    }

    fn known<'a>(build_id: &'a str, function: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![("exe", "/bin/shop"), ("build_id", build_id), ("runtime", "go"), ("function", function)]
    }

    fn two_versions() -> Answers {
        let version = |build_id: &str, at_s| sample(&[("exe", "/bin/shop"), ("build_id", build_id)], at_s);
        let every = [
            ("a", "old", "7"),
            ("b", "old", "9"),
            ("b", "young", "3"),
            ("b", "fine", "1"),
            ("a", "late", "4"),
        ];
        Answers {
            agents: vec![sample(&[], 2.0)],
            processes: vec![sample(&[], 3.0)],
            live: every
                .iter()
                .zip(1u8..)
                .map(|(&(b, f, l), live)| sample(&site(b, f, l), live.into()))
                .collect(),
            leak_rate: vec![sample(&site("b", "old", "9"), 0.5), sample(&site("b", "young", "3"), 2.0)],
            verdict: vec![
                sample(&site("a", "old", "7"), 2.0),
                sample(&site("b", "old", "9"), 2.0),
                sample(&site("b", "young", "3"), 2.0),
                sample(&site("b", "fine", "1"), 0.0),
                sample(&site("a", "late", "4"), 1.0),
            ],
            hosts_of_sites: vec![sample(&site("b", "old", "9"), 2.0)],
            versions: vec![version("b", 900.0), version("a", 100.0)],
            suspicious: vec![
                sample(&known("a", "old"), 2.0),
                sample(&known("b", "old"), 2.0),
                sample(&known("b", "young"), 2.0),
                sample(&known("a", "late"), 1.0),
            ],
            ..Answers::default()
        }
    }

    #[test]
    fn the_worst_comes_first_and_what_is_new_is_told() {
        let fleet = report(&two_versions(), "p:9090/", 3600.0, 10);
        assert_eq!((fleet.hosts, fleet.processes, fleet.more_sites), (2, 3, 0));
        assert_eq!(fleet.taken, "1970-01-12T13:46:40Z".parse().expect("a time"));
        let told: Vec<_> = fleet
            .sites
            .iter()
            .map(|site| {
                let function = site.function.as_deref().unwrap_or_default();
                (site.build_id.as_deref().unwrap_or_default(), function, site.verdict, site.is_new)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("b", "young", Verdict::Leak, Some(true)),
                ("b", "old", Verdict::Leak, Some(false)),
                ("a", "old", Verdict::Leak, None),
                ("a", "late", Verdict::Suspect, None),
                ("b", "fine", Verdict::Ok, None),
            ],
            "of the oldest version nobody knows what was before it, and what is fine is not new"
        );
        let worst = &fleet.sites[0];
        assert_eq!((worst.line, worst.leak_rate_per_min, worst.live), (Some(3), Some(120.0), 3));
        assert_eq!((worst.version_before.as_deref(), worst.first_seen), (Some("a"), time(900.0)));
        assert_eq!((fleet.sites[1].hosts, worst.proven), (2, None));
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        let fleet = report(&two_versions(), "p", 60.0, 2);
        assert_eq!((fleet.sites.len(), fleet.more_sites), (2, 3));
    }

    #[test]
    fn strange_answers_are_no_figures() {
        let answers = Answers { live: vec![sample(&[("line", "x")], f64::NAN)], ..Answers::default() };
        let fleet = report(&answers, "p", 60.0, 2);
        let site = &fleet.sites[0];
        assert_eq!((site.line, site.live, site.verdict, site.is_new), (None, 0, Verdict::NotYet, None));
    }
}
