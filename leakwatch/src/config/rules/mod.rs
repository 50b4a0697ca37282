//! Rules and actions in a TOML file, and the presets that come with leakwatch. `docs/rules.md` documents every key.

mod actions;
mod expression;
mod presets;
mod rule;

use std::{fs::File, io::Read as _};

use toml::de::DeTable;

use super::{ConfigError, error::nearest, reader::Reader};
use crate::alert::{Action, Kind};
use crate::rules::Rule;
pub use presets::{Preset, presets};

/// Most bytes of a file of rules.
const MOST_BYTES: u64 = 1 << 20;
/// Most rules of a file.
const MOST_RULES: usize = 256;
/// Most actions of a file.
const MOST_ACTIONS: usize = 64;

/// What a file of rules says.
#[derive(Clone, Debug, Default)]
pub struct RuleFile {
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Its actions; none where the file has none: then alerts are logged.
    pub actions: Vec<Action>,
}

impl RuleFile {
    /// Has alerts logged where nothing else is said.
    #[must_use]
    pub fn or_logged(mut self) -> Self {
        if self.actions.is_empty() {
            self.actions.push(Action::of(Kind::Log));
        }
        self
    }
}

/// Who reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// A command that ends by itself.
    Command,
    /// The host agent: it answers `/api/v1/hold` itself.
    Agent,
}

/// Reads a file of rules. `file` is what messages call it.
///
/// # Errors
/// The line, what is wrong there, and what is allowed.
pub fn parse(file: &str, text: &str) -> Result<RuleFile, ConfigError> {
    let reader = Reader { file, text };
    let table = reader.table()?.into_inner();
    reader.known(&table, "key", &["rule", "action"])?;
    read(&reader, &table, Reads::Command)
}

/// The `[[rule]]` and `[[action]]` of a file that may have other tables, too.
pub(super) fn read(reader: &Reader<'_>, table: &DeTable<'_>, who: Reads) -> Result<RuleFile, ConfigError> {
    let mut found = RuleFile::default();
    for value in reader.tables(table, "action")? {
        let action = actions::action(reader, value, who)?;
        if found.actions.iter().any(|other| other.name == action.name) {
            let what = format!("there are two actions called `{}`: give one another `name`", action.name);
            return Err(reader.error(&value.span(), &what));
        }
        if found.actions.len() == MOST_ACTIONS {
            return Err(reader.error(&value.span(), &format!("more than {MOST_ACTIONS} actions")));
        }
        found.actions.push(action);
    }
    let names: Vec<&str> = found.actions.iter().map(|action| action.name.as_str()).collect();
    for value in reader.tables(table, "rule")? {
        let rule = rule::rule(reader, value, &names)?;
        if found.rules.iter().any(|other| other.name == rule.name) {
            let what = format!("there are two rules called `{}`: give one another `name`", rule.name);
            return Err(reader.error(&value.span(), &what));
        }
        if found.rules.len() == MOST_RULES {
            return Err(reader.error(&value.span(), &format!("more than {MOST_RULES} rules")));
        }
        found.rules.push(rule);
    }
    Ok(found)
}

/// The rules that flags name: those of a file, and presets.
///
/// # Errors
/// The flag or the line, what is wrong there, and what is allowed.
pub fn chosen(file: Option<&str>, names: &[String]) -> Result<RuleFile, ConfigError> {
    let mut found = match file {
        Some(path) => parse(path, &content(path)?)?,
        None => RuleFile::default(),
    };
    for name in names {
        let Some(preset) = presets().iter().find(|preset| preset.rule.name == *name) else {
            let known: Vec<&str> = presets().iter().map(|preset| preset.rule.name.as_str()).collect();
            let meant =
                nearest(name, &known).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
            let what = format!("there is no such preset{meant}; `leakwatch rules` lists them");
            return Err(ConfigError::new(format!("--rule {name}"), what));
        };
        if found.rules.iter().any(|rule| rule.name == *name) {
            let what = "the file of --rules has a rule of this name already".to_owned();
            return Err(ConfigError::new(format!("--rule {name}"), what));
        }
        found.rules.push(preset.rule.clone());
    }
    Ok(found)
}

fn content(path: &str) -> Result<String, ConfigError> {
    let place = format!("--rules {path}");
    let failed = |error: std::io::Error| {
        ConfigError::new(place.clone(), format!("cannot read it: {error}; for a preset write --rule NAME"))
    };
    let mut content = String::new();
    // One byte more than is taken: then it is too long.
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut content))
        .map_err(failed)?;
    if content.len() > usize::try_from(MOST_BYTES).unwrap_or(usize::MAX) {
        return Err(ConfigError::new(place, format!("it has more than {MOST_BYTES} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::alerting::{Level, Scope};

    const WHOLE: &str = r#"
[[rule]]
name = "many"
when = "tasks.live > 1000 until 800"
for = "2m"
clear_for = "10s"
hold = "1m"
level = "P0"
labels = { team = "web" }
annotations = { runbook = "https://example.org/many" }
actions = ["page"]

[[rule]]
preset = "leak"
only = { comm = '^shop', function = 'main\.' }

[[action]]
name = "page"
kind = "webhook"
url = "http://127.0.0.1:9093"

[[action]]
kind = "log"
"#;

    #[test]
    fn every_part() {
        let file = parse("rules.toml", WHOLE).expect("a file");
        let [many, leak] = file.rules.as_slice() else { panic!("two rules") };
        assert_eq!((many.level, many.scope, many.for_s), (Level::P0, Scope::Process, 120.0));
        assert_eq!((many.clear_for_s, many.hold_s), (10.0, 60.0));
        assert_eq!(many.labels.get("team").map(String::as_str), Some("web"));
        assert_eq!(many.actions.as_deref(), Some(&["page".to_owned()][..]));
        assert_eq!((leak.name.as_str(), leak.scope, &leak.actions), ("leak", Scope::Site, &None));
        assert!(leak.only.comm.is_some() && leak.only.function.is_some());
        assert_eq!(file.actions.len(), 2);
        assert_eq!(file.actions[1].name, "log");
    }

    /// The whole file with one piece replaced.
    #[track_caller]
    fn fails(from: &str, to: &str, wanted: &str) {
        assert!(WHOLE.contains(from), "{from}");
        let error = parse("rules.toml", &WHOLE.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.starts_with(wanted), "{error}");
    }

    #[test]
    fn errors_name_the_line_and_what_is_allowed() {
        fails(
            "when",
            "wen",
            "rules.toml:4: unknown key of [[rule]] `wen` (did you mean `when`?); there are name",
        );
        fails(
            "tasks.live",
            "task.live",
            "rules.toml:4: unknown figure `task.live` (did you mean `tasks.live`?)",
        );
        fails("\"2m\"", "\"soon\"", "rules.toml:5: `for = \"soon\"`: write a time such as");
        fails("\"2m\"", "7", "rules.toml:5: `for` is a text in quotes, not of the type integer");
        fails(
            "\"P0\"",
            "\"P9\"",
            "rules.toml:8: unknown level `P9` (did you mean `P0`?); there are green, P2",
        );
        fails("[\"page\"]", "[\"pag\"]", "rules.toml:11: unknown action `pag` (did you mean `page`?)");
        fails("\"leak\"", "\"leek\"", "rules.toml:14: unknown preset `leek` (did you mean `leak`?)");
        fails("'^shop'", "'('", "rules.toml:15: `(` is no pattern: unclosed group");
        fails("team", "\"te am\"", "rules.toml:9: `te am` is no name of a label");
        fails("team", "alertname", "rules.toml:9: the label `alertname` is set by leakwatch");
        fails("preset = \"leak\"", "", "rules.toml:13: [[rule]] needs `when` or `preset`");
        fails("name = \"many\"", "", "rules.toml:2: [[rule]] needs a `name`");
        fails(
            "preset = \"leak\"",
            "preset = \"leak\"\nname = \"many\"",
            "rules.toml:13: there are two rules",
        );
        fails(
            "\"webhook\"",
            "\"webhok\"",
            "rules.toml:19: unknown kind of action `webhok` (did you mean `webhook`?)",
        );
        fails("\"http://127.0.0.1:9093\"", "\"ftp://x\"", "rules.toml:20: `ftp://x` is no address");
        fails("\"log\"", "\"log\"\nurl = \"http://x\"", "rules.toml:24: unknown key of a log action `url`");
        fails("[[rule]]", "[[rul]]", "rules.toml:2: unknown key `rul` (did you mean `rule`?)");
        fails("= \"2m\"", "=", "rules.toml:5: not TOML");
        fails("\"leak\"", "\"leak\"\nper = \"process\"", "rules.toml:15: `per` is \"process\"");
    }

    #[test]
    fn flags() {
        let two = ["leak".to_owned(), "tasks-over-1000".to_owned()];
        assert_eq!(chosen(None, &two).expect("presets").rules.len(), 2);
        let error = chosen(None, &["leek".to_owned()]).expect_err("a typo").to_string();
        assert!(error.starts_with("--rule leek: there is no such preset (did you mean `leak`?)"), "{error}");
        let error = chosen(Some("/no/such.toml"), &[]).expect_err("no file").to_string();
        assert!(error.starts_with("--rules /no/such.toml: cannot read it"), "{error}");
    }
}
