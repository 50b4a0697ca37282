//! The configuration of `leakwatch agent`: TOML to [`Options`]. `docs/agent.md` is for its users.
//!
//! Each section is a room: a table of its keys with what they mean, their defaults and how they are read. Here the file is walked,
//! by hand, so that each error names its line, and what the sections must agree on is checked. It must never know a key by name.

mod budget;
mod discover;
mod export;
mod http;
mod key;
mod promote;
mod prove;
mod redact;
mod sampling;
#[cfg(test)]
mod tests;

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use self::key::{Default, Section};
use super::{
    error::{ConfigError, unknown},
    reader::Reader,
    rules::{self, Reads, RuleFile},
};
use crate::{
    agent::daemon::options::{Access, Options},
    alert::Kind,
};

/// Sections, in the order in which they are printed.
static SECTIONS: [Section; 10] = [
    http::HTTP,
    budget::BUDGET,
    discover::DISCOVER,
    sampling::SAMPLING,
    promote::PROMOTE,
    prove::PROVE,
    redact::REDACT,
    export::EXPORT,
    export::REMOTE_WRITE,
    export::OTLP,
];

/// What a configuration says.
#[derive(Clone, Debug, std::default::Default)]
pub struct AgentFile {
    /// How the agent runs.
    pub options: Options,
    /// What to alert about, and what is done then.
    pub alarms: RuleFile,
}

/// Reads a configuration. `file` is what messages call it.
///
/// # Errors
/// Where it is wrong, and what is allowed there.
pub fn agent(file: &str, text: &str) -> Result<AgentFile, ConfigError> {
    let reader = Reader { file, text };
    let at = |span: &Range<usize>, what: &str| reader.error(span, what);
    let table = reader.table()?.into_inner();
    let mut options = Options::default();
    let alarms = rules::read(&reader, &table, Reads::Agent)?;
    for (name, keys) in table {
        if matches!(&**name.get_ref(), "rule" | "action") {
            continue;
        }
        let Some(section) = section(name.get_ref()).filter(|_| !name.get_ref().contains('.')) else {
            let top = SECTIONS.iter().map(|section| section.name).filter(|name| !name.contains('.'));
            let names: Vec<&str> = top.chain(["rule", "action"]).collect();
            return Err(at(&name.span(), &unknown("section", name.get_ref(), &names)));
        };
        let DeValue::Table(keys) = keys.get_ref() else {
            return Err(at(&keys.span(), &format!("`{}` is a section: [{0}]", section.name)));
        };
        read_section(&reader, section, keys, &mut options)?;
    }
    let whole = |what: &str| ConfigError::new(file, what);
    check(&options, &alarms).map_err(|what| whole(&what))?;
    Ok(AgentFile { options, alarms })
}

fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The keys of a section, and of the sections in it.
fn read_section(
    reader: &Reader<'_>,
    section: &Section,
    keys: &DeTable<'_>,
    options: &mut Options,
) -> Result<(), ConfigError> {
    for (key, value) in keys {
        if let DeValue::Table(keys) = value.get_ref()
            && let Some(inner) = self::section(&format!("{}.{}", section.name, key.get_ref()))
        {
            read_section(reader, inner, keys, options)?;
            continue;
        }
        let Some(known) = section.keys.iter().find(|known| *known.name == **key.get_ref()) else {
            let names: Vec<&str> = section.keys.iter().map(|known| known.name).collect();
            let kind = format!("key of [{}]", section.name);
            return Err(reader.error(&key.span(), &unknown(&kind, key.get_ref(), &names)));
        };
        (known.set)(options, value.get_ref())
            .map_err(|allowed| reader.error(&value.span(), &format!("`{}` is {allowed}", known.name)))?;
    }
    Ok(())
}

/// What no key says alone, and no section.
fn check(options: &Options, alarms: &RuleFile) -> Result<(), String> {
    http::check(&options.http)?;
    promote::check(&options.promote)?;
    if options.redact.any() && alarms.actions.iter().any(|action| matches!(action.kind, Kind::Dump(_))) {
        return Err(
            "an action makes dumps, which have what [redact] leaves out: remove one of them".to_owned()
        );
    }
    let unheard = alarms.actions.iter().find(
        |action| matches!(&action.kind, Kind::Hold(hold) if hold.file.is_none() && hold.listen.is_none()),
    );
    if let Some(action) = unheard
        && (options.http.listen.is_none() || options.http.hold == Access::Off)
    {
        return Err(format!(
            "nobody can ask the action `{}`: [http] does not answer /api/v1/hold; give it `file` or `listen`",
            action.name
        ));
    }
    Ok(())
}

/// All keys with what they mean, their defaults commented out.
pub fn agent_defaults() -> String {
    let mut lines = vec![
        "# Configuration of `leakwatch agent`. Every key is here, with its default behind a `#`.".to_owned(),
        "# SIGHUP has it read again; `leakwatch agent --check-config` says what is wrong with it.".to_owned(),
    ];
    for section in &SECTIONS {
        lines.extend([String::new(), format!("# {}", section.about), format!("[{}]", section.name)]);
        for key in section.keys {
            lines.extend(key.doc.lines().map(|line| format!("# {}", line.trim())));
            let value = match key.default {
                Default::Is(value) => value,
                Default::Unset(value) => {
                    lines.push("# Without a default; for example:".to_owned());
                    value
                }
            };
            lines.push(format!("#{} = {value}", key.name));
        }
    }
    lines.extend([
        String::new(),
        "# What to alert about, one [[rule]] each, and what is done then, one [[action]] each; without any, alerts are"
            .to_owned(),
        "# logged. docs/rules.md has their keys; `leakwatch rules` lists what comes with leakwatch. For example:"
            .to_owned(),
        "#[[rule]]".to_owned(),
        "#preset = \"leak\"".to_owned(),
        "#[[rule]]".to_owned(),
        "#name = \"many-tasks\"".to_owned(),
        "#when = \"tasks.live > 1000 until 900\"".to_owned(),
        "#[[action]]".to_owned(),
        "#kind = \"webhook\"".to_owned(),
        "#url = \"http://localhost:9093\"".to_owned(),
        String::new(),
    ]);
    lines.join("\n")
}
