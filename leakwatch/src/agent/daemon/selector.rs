//! Selectors of labels, in the words of Kubernetes: `app=web,tier!=cache,env in (live, test),!legacy`.
//!
//! Equality, sets and existence as `labels.Parse` of apimachinery takes them (pkg/labels/selector.go); `<` and `>`, which it
//! takes for nodes, are refused. Pure: labels are an argument.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::pods::{is_label_key, is_label_value};

/// What labels must be: all requirements hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<String>),
    /// Also of who has no such label.
    NotIn(BTreeSet<String>),
}

impl Selector {
    /// As it is written.
    ///
    /// # Errors
    /// What is allowed, and what is there instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let mut requirements = Vec::new();
        loop {
            let (requirement, after) = requirement(rest)?;
            requirements.push(requirement);
            let after = after.trim_start();
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(Self(requirements)),
                None => return Err(format!("a comma between two requirements, and there is {after:?}")),
            }
        }
    }

    /// These labels are so.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|Requirement { key, test }| match (test, labels.get(key)) {
            (Test::Exists, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
            (Test::In(values), value) => value.is_some_and(|value| values.contains(value)),
            (Test::NotIn(values), value) => value.is_none_or(|value| !values.contains(value)),
        })
    }
}

/// The first requirement, and what is behind it.
fn requirement(text: &str) -> Result<(Requirement, &str), String> {
    let text = text.trim_start();
    if let Some(text) = text.strip_prefix('!') {
        let (key, rest) = key(text)?;
        return Ok((Requirement { key, test: Test::Absent }, rest));
    }
    let (key, rest) = key(text)?;
    let rest = rest.trim_start();
    let one = |rest, test: fn(BTreeSet<String>) -> Test| {
        let (value, rest) = value(rest)?;
        Ok::<_, String>((test(BTreeSet::from([value])), rest))
    };
    let (test, rest) = if let Some(rest) = rest.strip_prefix("!=") {
        one(rest, Test::NotIn)?
    } else if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        one(rest, Test::In)?
    } else {
        match word(rest) {
            ("in", rest) => several(rest, Test::In)?,
            ("notin", rest) => several(rest, Test::NotIn)?,
            ("", rest) => (Test::Exists, rest),
            (other, _) => return Err(format!("=, !=, in or notin behind {key:?}, not {other:?}")),
        }
    };
    Ok((Requirement { key, test }, rest))
}

/// Values in brackets.
fn several(text: &str, test: fn(BTreeSet<String>) -> Test) -> Result<(Test, &str), String> {
    let inside = text.trim_start().strip_prefix('(').and_then(|text| text.split_once(')'));
    let (inside, rest) = inside.ok_or("values in brackets behind in and notin: in (web, shop)")?;
    let values = inside.split(',').map(|one| match value(one)? {
        (value, rest) if rest.trim().is_empty() => Ok(value),
        (_, rest) => Err(format!("a comma between two values, and there is {:?}", rest.trim())),
    });
    Ok((test(values.collect::<Result<_, String>>()?), rest))
}

fn key(text: &str) -> Result<(String, &str), String> {
    let (key, rest) = word(text);
    if is_label_key(key) {
        return Ok((key.to_owned(), rest));
    }
    let found = if key.is_empty() { rest } else { key };
    Err(format!("keys of labels such as app or app.kubernetes.io/name, and there is {found:?}"))
}

fn value(text: &str) -> Result<(String, &str), String> {
    let (value, rest) = word(text);
    if is_label_value(value) {
        return Ok((value.to_owned(), rest));
    }
    Err(format!("values that a label can have, and there is {value:?}"))
}

/// What is written without a blank or a sign of this language, and what is behind it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(|sign: char| sign.is_whitespace() || "=!,()".contains(sign));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn selectors_mean_what_they_mean_to_kubernetes() {
        let web =
            labels(&[("app", "web"), ("tier", "front"), ("app.kubernetes.io/name", "shop"), ("empty", "")]);
        let check = |text: &str, expect: bool| {
            let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(selector.matches(&web), expect, "{text}");
        };
        check("app=web", true);
        check("app==web", true);
        check(" app = web , tier != cache ", true);
        check("app=web,tier!=front", false);
        check("app=shop", false);
        check("other=web", false);
        check("other!=web", true);
        check("app in (web, shop)", true);
        check("app in (shop)", false);
        check("app in(web)", true);
        check("app notin (shop,api)", true);
        check("app notin (web)", false);
        check("other notin (web)", true);
        check("app", true);
        check("!app", false);
        check("! other", true);
        check("other", false);
        check("app.kubernetes.io/name=shop,!other,tier in (front)", true);
        check("empty=", true);
        check("app=", false);
        check("empty in (,a)", true);
        check("in=", false);
        check("in", false);
    }

    #[test]
    fn what_is_none_is_refused_with_what_is_allowed() {
        let check = |text: &str, part: &str| {
            let error = Selector::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        };
        check("", "keys of labels");
        check("app=web,", "keys of labels");
        check("=web", "keys of labels");
        check("a/b/c=d", "keys of labels");
        check("app=-web", "values that a label can have");
        check("app=a/b", "values that a label can have");
        check("app>3", "keys of labels");
        check("app like web", "=, !=, in or notin");
        check("app in web", "values in brackets");
        check("app in (web", "values in brackets");
        check("app in (a b)", "a comma between two values");
        check("app=web tier=front", "a comma between two requirements");
        check("app=web=shop", "a comma between two requirements");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[a-z=!,() ./<é-]{0,40}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert!(!selector.0.is_empty());
                selector.matches(&BTreeMap::new());
            }
        }
    }
}
