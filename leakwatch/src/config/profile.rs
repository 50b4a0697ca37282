//! Profiles: a runtime's functions in a TOML file. `docs/profiles.md` documents every key.
//!
//! The file is walked by hand and not deserialized: each error is to name its line, and what is allowed there.

use std::ops::Range;

use regex::Regex;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, line_of},
    reader::Reader,
    words,
};
use crate::{
    collect::custom::{
        Base, FactAt, FileNames, Invalid, Means, Named, NamedFunction, Requirement, TaskAt, VersionRule,
    },
    images::Wanted,
};

/// Longest pattern, and the largest program that one may become.
const PATTERN_SIZE: usize = 1 << 20;

const PROFILE_KEYS: [&str; 7] = ["name", "description", "version", "start", "end", "note", "require"];
const REQUIRE_KEYS: [&str; 4] = ["symbol", "regex", "library", "why"];
const VERSION_KEYS: [&str; 3] = ["library", "path", "text"];
pub(super) const FUNCTION_KEYS: [&str; 12] = [
    "symbol",
    "regex",
    "address",
    "library",
    "task",
    "site",
    "entry",
    "invalid",
    "bits",
    "return_probe",
    "optional",
    "versions",
];

/// A profile.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) named: Named,
    pub(super) description: String,
}

/// Reads a profile. `file` is what messages call it.
pub(super) fn parse(file: &str, text: &str) -> Result<Profile, ConfigError> {
    let reader = Reader { file, text };
    let table = reader.table()?;
    let whole = table.span();
    let table = table.into_inner();
    reader.known(&table, "key", &PROFILE_KEYS)?;
    let name = reader.string(&table, "name")?.map(|(name, _)| name);
    let name =
        name.ok_or_else(|| reader.error(&whole, "the key `name` is missing: what to call the runtime"))?;
    let description = reader.string(&table, "description")?.map(|(text, _)| text).unwrap_or_default();
    let version = match table.get("version") {
        None => None,
        Some(value) => Some(reader.version(value)?),
    };
    let mut functions = Vec::new();
    for (key, means) in [("note", Means::Note), ("start", Means::Start), ("end", Means::End)] {
        let before = functions.len();
        for value in reader.tables(&table, key)? {
            functions.push(reader.function(value, means)?);
        }
        if functions.len() == before && means != Means::Note {
            return Err(
                reader.error(&whole, &format!("there is no [[{key}]]: a function that {key}s a task"))
            );
        }
    }
    let mut requires = Vec::new();
    for value in reader.tables(&table, "require")? {
        requires.push(reader.requirement(value)?);
    }
    Ok(Profile { named: Named { name, version, functions, requires }, description })
}

impl Reader<'_> {
    fn pattern(&self, text: &str, span: &Range<usize>) -> Result<Regex, ConfigError> {
        pattern(text).map_err(|what| self.error(span, &what))
    }

    fn version(&self, value: &Spanned<DeValue<'_>>) -> Result<VersionRule, ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.wrong_type(&value.span(), "version", "a table: [version]", value.get_ref()));
        };
        self.known(table, "key of [version]", &VERSION_KEYS)?;
        let grouped = |found: Option<(String, Range<usize>)>| match found {
            None => Ok(None),
            Some((text, span)) => {
                let pattern = self.pattern(&text, &span)?;
                if pattern.captures_len() < 2 {
                    return Err(
                        self.error(&span, &format!("`{text}` has no group: put ( ) around the version"))
                    );
                }
                Ok(Some(text))
            }
        };
        let path = grouped(self.string(table, "path")?)?;
        let text = grouped(self.string(table, "text")?)?;
        if path.is_none() && text.is_none() {
            return Err(self.error(
                &value.span(),
                "[version] needs `path` or `text`: a pattern with the version as group",
            ));
        }
        Ok(VersionRule {
            library: self.string(table, "library")?.map(|(names, _)| FileNames(names)),
            // Both compiled a moment ago.
            path: path.and_then(|text| Regex::new(&text).ok()),
            text: text.and_then(|text| regex::bytes::Regex::new(&text).ok()),
        })
    }

    fn function(&self, value: &Spanned<DeValue<'_>>, means: Means) -> Result<NamedFunction, ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            let expected = format!("a table: [[{means}]]");
            return Err(self.wrong_type(&value.span(), &means.to_string(), &expected, value.get_ref()));
        };
        self.known(table, &format!("key of [[{means}]]"), &FUNCTION_KEYS)?;
        let (wanted, written, place) = self.wanted(table, &value.span(), means.word())?;
        let mut function = default_function(means, wanted, written, line_of(self.file, self.text, &place));
        if let Some((text, span)) = self.string(table, "task")? {
            function.task = words::task(&text).map_err(|what| self.error(&span, &what))?;
        }
        for (key, fact) in [("site", &mut function.site), ("entry", &mut function.entry)] {
            if let Some((text, span)) = self.string(table, key)? {
                *fact = words::fact(&text).map_err(|what| self.error(&span, &what))?;
            }
        }
        function.library = self.string(table, "library")?.map(|(names, _)| FileNames(names));
        if let Some((text, span)) = self.string(table, "versions")? {
            function.versions = Some(words::versions(&text).map_err(|what| self.error(&span, &what))?);
        }
        if let Some(value) = table.get("invalid") {
            function.invalid = self.invalid(value)?;
        }
        if let Some(value) = table.get("bits") {
            function.half = words::is_half(self.integer(value, "bits")?)
                .map_err(|what| self.error(&value.span(), &what))?;
        }
        for (key, flag) in
            [("optional", &mut function.optional), ("return_probe", &mut function.return_probe)]
        {
            if let Some(value) = table.get(key) {
                *flag = value
                    .get_ref()
                    .as_bool()
                    .ok_or_else(|| self.wrong_type(&value.span(), key, "true or false", value.get_ref()))?;
            }
        }
        if matches!(function.wanted, Wanted::Address(_)) && function.library.is_none() {
            return Err(
                self.error(&place, "`address` needs `library`: an address means another place in each file")
            );
        }
        Ok(function)
    }

    fn requirement(&self, value: &Spanned<DeValue<'_>>) -> Result<Requirement, ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.wrong_type(&value.span(), "require", "a table: [[require]]", value.get_ref()));
        };
        self.known(table, "key of [[require]]", &REQUIRE_KEYS)?;
        let (wanted, written, place) = self.wanted(table, &value.span(), "require")?;
        let why = self.string(table, "why")?.map(|(why, _)| why);
        Ok(Requirement {
            origin: line_of(self.file, self.text, &place),
            wanted,
            written,
            library: self.string(table, "library")?.map(|(names, _)| FileNames(names)),
            why: why.ok_or_else(|| {
                self.error(&value.span(), "[[require]] needs `why`: what to tell whoever has not got it")
            })?,
        })
    }

    /// Exactly one of `symbol`, `regex` and `address`.
    fn wanted(
        &self,
        table: &DeTable<'_>,
        whole: &Range<usize>,
        means: &str,
    ) -> Result<(Wanted, String, Range<usize>), ConfigError> {
        let symbol = self.string(table, "symbol")?;
        let pattern = self.string(table, "regex")?;
        let address = table.get("address");
        match (symbol, pattern, address) {
            (Some((name, span)), None, None) => Ok((Wanted::Name(name.clone()), name, span)),
            (None, Some((text, span)), None) => {
                Ok((Wanted::Pattern(self.pattern(&text, &span)?), text, span))
            }
            (None, None, Some(value)) => {
                let address = u64::try_from(self.integer(value, "address")?)
                    .map_err(|_negative| self.error(&value.span(), "`address` is negative"))?;
                Ok((Wanted::Address(address), format!("{address:#x}"), value.span()))
            }
            (None, None, None) => Err(self.error(
                whole,
                &format!("[[{means}]] needs one of `symbol`, `regex` and `address`: which function"),
            )),
            _ => Err(self.error(
                whole,
                &format!("[[{means}]] has more than one of `symbol`, `regex` and `address`: leave one"),
            )),
        }
    }

    fn invalid(&self, value: &Spanned<DeValue<'_>>) -> Result<Invalid, ConfigError> {
        let mut invalid = Invalid::default();
        let one = |value: &Spanned<DeValue<'_>>, invalid: &mut Invalid| {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(_) => self.integer(value, "invalid")?.to_string(),
                other => {
                    let expected = "a list of 0, -1 and \"negative\"";
                    return Err(self.wrong_type(&value.span(), "invalid", expected, other));
                }
            };
            words::invalid(&text, invalid).map_err(|what| self.error(&value.span(), &what))
        };
        match value.get_ref() {
            DeValue::Array(values) => {
                for value in values {
                    one(value, &mut invalid)?;
                }
            }
            _ => one(value, &mut invalid)?,
        }
        Ok(invalid)
    }
}

/// A function about which nothing but its name was said. A result of 0 is no task: most functions fail so.
pub(super) fn default_function(
    means: Means,
    wanted: Wanted,
    written: String,
    origin: String,
) -> NamedFunction {
    NamedFunction {
        origin,
        means,
        wanted,
        written,
        library: None,
        task: TaskAt { base: Base::Argument(1), word: false, offset: 0 },
        site: if means == Means::End { FactAt::Nowhere } else { FactAt::Caller },
        entry: FactAt::Nowhere,
        invalid: Invalid { zero: means != Means::Note, ..Invalid::default() },
        half: false,
        return_probe: false,
        optional: false,
        versions: None,
    }
}

/// A pattern over names.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    let built = regex::RegexBuilder::new(text).size_limit(PATTERN_SIZE).build();
    built.map_err(|error| {
        let why = match error {
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            other => {
                other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
        };
        format!("`{text}` is no pattern: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "pool"
description = "handles"

[version]
library = "libpool.so*"
path = 'libpool\.so\.(\d+)'

[[start]]
symbol = "pool_get"
library = "libpool.so*"
task = "ret"
site = "caller"
entry = "arg2"
invalid = [0, -1]
bits = 32
versions = ">=1"

[[end]]
regex = '^pool_put(_all)?$'
optional = true
"#;

    #[test]
    fn every_key() {
        let profile = parse("pool.toml", WHOLE).expect("a profile");
        assert_eq!((profile.named.name.as_str(), profile.description.as_str()), ("pool", "handles"));
        let [start, end] = profile.named.functions.as_slice() else { panic!("{profile:?}") };
        assert_eq!(start.origin, "pool.toml:10");
        assert_eq!(start.task.base, Base::Return);
        assert_eq!(start.entry, FactAt::Argument(2));
        assert_eq!(start.invalid, Invalid { zero: true, minus_one: true, negative: false });
        assert!(start.half && !start.optional && start.versions.is_some());
        assert!(end.optional && matches!(end.wanted, Wanted::Pattern(_)) && end.site == FactAt::Nowhere);
    }

    /// The whole profile with one piece replaced.
    fn error(from: &str, to: &str) -> String {
        assert!(WHOLE.contains(from), "{from}");
        parse("pool.toml", &WHOLE.replacen(from, to, 1)).expect_err(to).to_string()
    }

    #[test]
    fn errors_name_the_line_and_what_is_allowed() {
        assert_eq!(
            error("task = \"ret\"", "taks = \"ret\""),
            "pool.toml:12: unknown key of [[start]] `taks` (did you mean `task`?); there are symbol, regex, address, \
             library, task, site, entry, invalid, bits, return_probe, optional, versions"
        );
        assert!(
            error("\"ret\"", "\"rax\"").starts_with("pool.toml:12: `rax` is no place of a task: it is argN")
        );
        assert!(
            error("\"ret\"", "7")
                .starts_with("pool.toml:12: `task` is a text in quotes, not of the type integer")
        );
        assert!(error("name = \"pool\"", "").starts_with("pool.toml:1: the key `name` is missing"));
        assert!(error("name", "nam").contains("did you mean `name`?"));
        assert!(
            error("[[end]]", "[[ende]]")
                .starts_with("pool.toml:19: unknown key `ende` (did you mean `end`?)")
        );
        assert!(
            error("symbol = \"pool_get\"", "").starts_with("pool.toml:9: [[start]] needs one of `symbol`")
        );
        assert!(error("bits = 32", "bits = 31").contains("pool.toml:16: 31 is no width"));
        assert!(error("[0, -1]", "[3]").contains("pool.toml:15: `3` cannot be told from a task"));
        assert!(
            error("_all)?$", "_all?$")
                .starts_with("pool.toml:20: `^pool_put(_all?$` is no pattern: unclosed group")
        );
        assert!(error("(\\d+)", "\\d+").contains("pool.toml:7: `libpool\\.so\\.\\d+` has no group"));
        assert!(error("true", "1").contains("pool.toml:21: `optional` is true or false"));
        assert!(error("= true", "").starts_with("pool.toml:21: not TOML"));
        let no_end = WHOLE.split("[[end]]").next().expect("the start");
        assert!(parse("f", no_end).expect_err("no end").to_string().contains("there is no [[end]]"));
        assert!(parse("f", "").is_err());
        let address = WHOLE.replace("regex = '^pool_put(_all)?$'", "address = 0x1234");
        assert!(
            parse("f", &address).expect_err("no library").to_string().contains("`address` needs `library`")
        );
    }
}
