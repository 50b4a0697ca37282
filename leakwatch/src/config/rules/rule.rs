//! `[[rule]]`: one rule, read and checked.

use std::collections::BTreeMap;
use std::ops::Range;

use regex::Regex;
use toml::{Spanned, de::DeValue};

use super::{
    super::{
        ConfigError,
        error::unknown,
        profile::pattern,
        reader::{Reader, Text},
    },
    expression, presets,
};
use crate::alert::OWN_LABELS;
use crate::report::alerting::{Level, Scope};
use crate::rules::{Condition, Only, Rule};

const KEYS: [&str; 13] = [
    "name",
    "preset",
    "when",
    "per",
    "for",
    "clear_for",
    "hold",
    "level",
    "about",
    "only",
    "labels",
    "annotations",
    "actions",
];
const ONLY_KEYS: [&str; 9] =
    ["comm", "exe", "container", "image", "runtime", "function", "file", "task", "system"];
/// Longest name of a rule.
const LONGEST: usize = 100;

/// Reads one; `actions` are the names that it may use.
pub(super) fn rule(
    reader: &Reader<'_>,
    value: &Spanned<DeValue<'_>>,
    actions: &[&str],
) -> Result<Rule, ConfigError> {
    let DeValue::Table(table) = value.get_ref() else {
        return Err(reader.wrong_type(&value.span(), "rule", "a table: [[rule]]", value.get_ref()));
    };
    reader.known(table, "key of [[rule]]", &KEYS)?;
    let mut rule = match reader.string(table, "preset")? {
        Some((name, span)) => preset(&name).map_err(|what| reader.error(&span, &what))?,
        None => empty(),
    };
    if let Some((name, span)) = reader.string(table, "name")? {
        if name.chars().count() > LONGEST || name.chars().any(char::is_control) {
            let what = format!("a name has at most {LONGEST} characters, and no control characters");
            return Err(reader.error(&span, &what));
        }
        rule.name = name;
    }
    if let Some(texts) = reader.strings(table, "when")? {
        rule.when.clear();
        for (text, span) in texts {
            rule.when.extend(expression::conditions(&text).map_err(|what| reader.error(&span, &what))?);
            if rule.when.len() > expression::MOST_CONDITIONS {
                let what = format!("more than {} conditions in one rule", expression::MOST_CONDITIONS);
                return Err(reader.error(&span, &what));
            }
        }
        rule.scope = scope_of(&rule.when);
    }
    if rule.when.is_empty() {
        let what = "[[rule]] needs `when` or `preset`: such as when = \"tasks.live > 1000\"";
        return Err(reader.error(&value.span(), what));
    }
    if rule.name.is_empty() {
        return Err(reader.error(&value.span(), "[[rule]] needs a `name`: alerts are called by it"));
    }
    if let Some((word, span)) = reader.string(table, "per")? {
        per(&word, &mut rule).map_err(|what| reader.error(&span, &what))?;
    }
    let times = [("for", &mut rule.for_s), ("clear_for", &mut rule.clear_for_s), ("hold", &mut rule.hold_s)];
    for (key, time) in times {
        if let Some(seconds) = reader.seconds(table, key, 0.0)? {
            *time = seconds;
        }
    }
    if let Some((word, span)) = reader.string(table, "level")? {
        rule.level = level(&word).map_err(|what| reader.error(&span, &what))?;
    }
    if let Some((about, _)) = reader.string(table, "about")? {
        rule.about = about;
    }
    if let Some(value) = table.get("only") {
        rule.only = only(reader, value)?;
    }
    rule.labels
        .extend(labels(reader.texts(table, "labels")?).map_err(|(span, what)| reader.error(&span, &what))?);
    let annotations = reader.texts(table, "annotations")?;
    rule.annotations.extend(annotations.into_iter().map(|(name, (text, _))| (name, text)));
    if let Some(names) = reader.strings(table, "actions")? {
        if let Some((name, span)) = names.iter().find(|(name, _)| !actions.contains(&name.as_str())) {
            let what = if actions.is_empty() {
                format!("the action `{name}` is not there: the file has no [[action]]")
            } else {
                unknown("action", name, actions)
            };
            return Err(reader.error(span, &what));
        }
        rule.actions = Some(names.into_iter().map(|(name, _)| name).collect());
    }
    Ok(rule)
}

fn empty() -> Rule {
    Rule {
        name: String::new(),
        about: String::new(),
        level: Level::default(),
        scope: Scope::default(),
        when: Vec::new(),
        for_s: 0.0,
        clear_for_s: 0.0,
        hold_s: 0.0,
        only: Only::default(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        actions: None,
    }
}

fn preset(name: &str) -> Result<Rule, String> {
    let found = presets().iter().find(|preset| preset.rule.name == name);
    found.map(|preset| preset.rule.clone()).ok_or_else(|| {
        let names: Vec<&str> = presets().iter().map(|preset| preset.rule.name.as_str()).collect();
        unknown("preset", name, &names)
    })
}

/// A rule that names a figure of a site is asked about sites.
fn scope_of(when: &[Condition]) -> Scope {
    when.iter().map(|condition| condition.term.figure().scope()).max().unwrap_or_default()
}

/// `per` says what the figures say already, and is checked for that.
fn per(word: &str, rule: &mut Rule) -> Result<(), String> {
    let wanted = match word {
        "process" => Scope::Process,
        "site" => Scope::Site,
        _ => return Err(unknown("value of `per`", word, &["process", "site"])),
    };
    if wanted != rule.scope {
        let figures: Vec<&str> = rule
            .when
            .iter()
            .map(|condition| condition.term.figure())
            .filter(|f| f.scope() == rule.scope)
            .map(crate::rules::Figure::name)
            .collect();
        return Err(format!(
            "`per` is \"{word}\", but {} {} of a {}",
            figures.join(" and "),
            if figures.len() == 1 { "is" } else { "are" },
            rule.scope.name()
        ));
    }
    Ok(())
}

pub(super) fn level(word: &str) -> Result<Level, String> {
    Level::ALL.into_iter().find(|level| level.name() == word).ok_or_else(|| {
        let names: Vec<&str> = Level::ALL.iter().map(|level| level.name()).collect();
        unknown("level", word, &names)
    })
}

fn only(reader: &Reader<'_>, value: &Spanned<DeValue<'_>>) -> Result<Only, ConfigError> {
    let DeValue::Table(table) = value.get_ref() else {
        let expected = "a table of patterns: only = { comm = '^shop' }";
        return Err(reader.wrong_type(&value.span(), "only", expected, value.get_ref()));
    };
    reader.known(table, "key of `only`", &ONLY_KEYS)?;
    let text = |key: &str| -> Result<Option<Regex>, ConfigError> {
        let Some((text, span)) = reader.string(table, key)? else { return Ok(None) };
        pattern(&text).map(Some).map_err(|what| reader.error(&span, &what))
    };
    Ok(Only {
        comm: text("comm")?,
        exe: text("exe")?,
        container: text("container")?,
        image: text("image")?,
        runtime: text("runtime")?,
        function: text("function")?,
        file: text("file")?,
        task: text("task")?,
        system: reader.boolean(table, "system")?.unwrap_or(false),
    })
}

/// Labels as Alertmanager and Prometheus take them.
fn labels(texts: BTreeMap<String, Text>) -> Result<BTreeMap<String, String>, (Range<usize>, String)> {
    let fits = |name: &str| {
        let mut characters = name.chars();
        characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    let mut labels = BTreeMap::new();
    for (name, (text, span)) in texts {
        if !fits(&name) {
            return Err((span, format!("`{name}` is no name of a label: letters, digits and _ only")));
        }
        if OWN_LABELS.contains(&name.as_str()) {
            let what = format!("the label `{name}` is set by leakwatch; call yours differently");
            return Err((span, what));
        }
        labels.insert(name, text);
    }
    Ok(labels)
}
