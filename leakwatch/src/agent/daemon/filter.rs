//! Which processes are wanted: pure, over what is known of a process before anything of it is read.

use std::collections::BTreeMap;

use regex::Regex;

use super::selector::Selector;

/// What is known of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidate<'a> {
    /// Name of its main thread.
    pub comm: &'a str,
    /// Path of its executable.
    pub exe: &'a str,
    /// Effective user id.
    pub uid: u32,
    /// Path of its control group, empty where there is none.
    pub cgroup: &'a str,
    /// Id of its container, empty on the host.
    pub container: &'a str,
    /// Image of its container, empty without, and where it is not known.
    pub image: &'a str,
    /// Kubernetes namespace and name of its pod, empty without.
    pub namespace: &'a str,
    /// See `namespace`.
    pub pod: &'a str,
    /// Labels of its pod; `None`: it is in none, or they are not known.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// What a process must be: all that is given must hold. Patterns are of the whole text.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    /// Of [`Candidate::comm`].
    pub comm: Option<Regex>,
    /// Of [`Candidate::exe`].
    pub exe: Option<Regex>,
    /// Of [`Candidate::cgroup`].
    pub cgroup: Option<Regex>,
    /// Of [`Candidate::container`].
    pub container: Option<Regex>,
    /// Of [`Candidate::image`].
    pub image: Option<Regex>,
    /// Of [`Candidate::namespace`].
    pub namespace: Option<Regex>,
    /// Of [`Candidate::pod`].
    pub pod: Option<Regex>,
    /// Of [`Candidate::labels`]; who has none is not meant, whatever the selector says.
    pub labels: Option<Selector>,
    /// Its user.
    pub uid: Option<u32>,
}

impl Pattern {
    fn matches(&self, candidate: &Candidate<'_>) -> bool {
        let texts = [
            (&self.comm, candidate.comm),
            (&self.exe, candidate.exe),
            (&self.cgroup, candidate.cgroup),
            (&self.container, candidate.container),
            (&self.image, candidate.image),
            (&self.namespace, candidate.namespace),
            (&self.pod, candidate.pod),
        ];
        texts.into_iter().all(|(pattern, text)| pattern.as_ref().is_none_or(|regex| regex.is_match(text)))
            && self.uid.is_none_or(|uid| uid == candidate.uid)
            && self
                .labels
                .as_ref()
                .is_none_or(|selector| candidate.labels.is_some_and(|labels| selector.matches(labels)))
    }
}

/// Which processes are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these must match; empty: all do.
    pub include: Vec<Pattern>,
    /// None of these may.
    pub exclude: Vec<Pattern>,
}

impl Filter {
    /// Control groups or containers matter: they are read then.
    pub fn asks_of_place(&self) -> bool {
        self.patterns().any(|Pattern { cgroup, container, .. }| cgroup.is_some() || container.is_some())
    }

    /// Names of pods or images, or labels, matter: they are looked up then.
    pub fn asks_of_names(&self) -> bool {
        self.asks_of_labels()
            || self.patterns().any(|Pattern { pod, namespace, image, .. }| {
                pod.is_some() || namespace.is_some() || image.is_some()
            })
    }

    /// Labels of pods matter.
    pub fn asks_of_labels(&self) -> bool {
        self.patterns().any(|pattern| pattern.labels.is_some())
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.include.iter().chain(&self.exclude)
    }

    /// It is wanted.
    pub fn wants(&self, candidate: &Candidate<'_>) -> bool {
        let is = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(candidate));
        (self.include.is_empty() || is(&self.include)) && !is(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(pattern: &str) -> Regex {
        Regex::new(&format!("^(?:{pattern})$")).expect("a pattern")
    }

    #[test]
    fn include_then_exclude() {
        let caddy = Candidate { comm: "caddy", exe: "/usr/bin/caddy", uid: 33, ..Candidate::default() };
        let nats = Candidate { comm: "nats-server", exe: "/opt/nats", uid: 0, container: "abc", ..caddy };
        let check = |include: Vec<Pattern>, exclude: Vec<Pattern>| {
            let filter = Filter { include, exclude };
            (filter.wants(&caddy), filter.wants(&nats))
        };
        assert_eq!(check(vec![], vec![]), (true, true));
        assert_eq!(
            check(vec![Pattern { comm: Some(whole("cad.*")), ..Pattern::default() }], vec![]),
            (true, false)
        );
        assert_eq!(
            check(vec![], vec![Pattern { exe: Some(whole("/opt/.*")), ..Pattern::default() }]),
            (true, false)
        );
        assert_eq!(
            check(vec![], vec![Pattern { container: Some(whole("")), ..Pattern::default() }]),
            (false, true)
        );
        let both = Pattern { comm: Some(whole("caddy")), uid: Some(0), ..Pattern::default() };
        assert_eq!(check(vec![both], vec![]), (false, false), "all of a pattern must hold");
        let either = vec![
            Pattern { uid: Some(33), ..Pattern::default() },
            Pattern { comm: Some(whole("nats-.*")), ..Pattern::default() },
        ];
        assert_eq!(check(either.clone(), vec![]), (true, true), "one of the patterns is enough");
        assert_eq!(check(either, vec![Pattern { uid: Some(33), ..Pattern::default() }]), (false, true));
    }

    #[test]
    fn a_selector_is_of_pods_whose_labels_are_known() {
        let web = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let pattern = |text: &str| Pattern {
            labels: Some(Selector::parse(text).expect("a selector")),
            ..Pattern::default()
        };
        let wants = |include: &[&str], exclude: &[&str], labels| {
            let patterns = |texts: &[&str]| texts.iter().map(|text| pattern(text)).collect();
            let filter = Filter { include: patterns(include), exclude: patterns(exclude) };
            filter.wants(&Candidate { labels, ..Candidate::default() })
        };
        assert!(wants(&["app=web"], &[], Some(&web)));
        assert!(!wants(&["app=web"], &["app"], Some(&web)));
        assert!(wants(&["!legacy"], &[], Some(&web)));
        assert!(!wants(&["!legacy"], &[], None), "it may be in no pod at all");
        assert!(wants(&[], &["!legacy"], None));
    }
}
