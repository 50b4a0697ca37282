//! A TOML file walked by hand and not deserialized: each error is to name its line, what is wrong, and what is allowed
//! there.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::SignedDuration;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::error::{ConfigError, line_of, unknown};

/// A text of the file and where it stands.
pub(super) type Text = (String, Range<usize>);

/// A file's text and what messages call it.
pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Reader<'a> {
    /// The whole file.
    pub(super) fn table(&self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let what = error.message().trim().replace('\n', ", ");
            self.error(&error.span().unwrap_or(0..0), &format!("not TOML: {what}"))
        })
    }

    /// An error that stands there.
    pub(super) fn error(&self, span: &Range<usize>, what: &str) -> ConfigError {
        ConfigError::new(line_of(self.file, self.text, span), what)
    }

    /// That a value is of another type than it should be.
    pub(super) fn wrong_type(
        &self,
        span: &Range<usize>,
        key: &str,
        expected: &str,
        found: &DeValue<'_>,
    ) -> ConfigError {
        self.error(span, &format!("`{key}` is {expected}, not of the type {}", found.type_str()))
    }

    /// Refuses keys that are not in the list.
    pub(super) fn known(&self, table: &DeTable<'_>, kind: &str, keys: &[&str]) -> Result<(), ConfigError> {
        let strange = table.keys().find(|key| !keys.contains(&&**key.get_ref()));
        strange.map_or(Ok(()), |key| Err(self.error(&key.span(), &unknown(kind, key.get_ref(), keys))))
    }

    /// A text that is not empty.
    pub(super) fn string(&self, table: &DeTable<'_>, key: &str) -> Result<Option<Text>, ConfigError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        self.text_of(value, key).map(|text| Some((text, value.span())))
    }

    fn text_of(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<String, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) if !text.trim().is_empty() => Ok(text.to_string()),
            DeValue::String(_) => Err(self.error(&value.span(), &format!("`{key}` is empty"))),
            other => Err(self.wrong_type(&value.span(), key, "a text in quotes", other)),
        }
    }

    /// One text, or a list of them.
    pub(super) fn strings(&self, table: &DeTable<'_>, key: &str) -> Result<Option<Vec<Text>>, ConfigError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        let one = |value: &Spanned<DeValue<'_>>| Ok((self.text_of(value, key)?, value.span()));
        match value.get_ref() {
            DeValue::Array(values) => values.iter().map(one).collect::<Result<_, _>>().map(Some),
            DeValue::String(_) => Ok(Some(vec![one(value)?])),
            other => Err(self.wrong_type(&value.span(), key, "a text in quotes or a list of such", other)),
        }
    }

    /// A table of texts.
    pub(super) fn texts(
        &self,
        table: &DeTable<'_>,
        key: &str,
    ) -> Result<BTreeMap<String, Text>, ConfigError> {
        let Some(value) = table.get(key) else { return Ok(BTreeMap::new()) };
        let DeValue::Table(texts) = value.get_ref() else {
            let expected = format!("a table of texts: {key} = {{ team = \"web\" }}");
            return Err(self.wrong_type(&value.span(), key, &expected, value.get_ref()));
        };
        texts
            .iter()
            .map(|(name, value)| {
                let name = name.get_ref().to_string();
                let text = self.text_of(value, &name)?;
                Ok((name, (text, value.span())))
            })
            .collect()
    }

    /// The tables of `[[key]]`, or the one of `[key]`.
    pub(super) fn tables<'t, 'i>(
        &self,
        table: &'t DeTable<'i>,
        key: &str,
    ) -> Result<Vec<&'t Spanned<DeValue<'i>>>, ConfigError> {
        let Some(value) = table.get(key) else { return Ok(Vec::new()) };
        match value.get_ref() {
            DeValue::Table(_) => Ok(vec![value]),
            DeValue::Array(array) => Ok(array.iter().collect()),
            other => Err(self.wrong_type(&value.span(), key, &format!("a table: [[{key}]]"), other)),
        }
    }

    /// A whole number.
    pub(super) fn integer(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<i64, ConfigError> {
        let DeValue::Integer(number) = value.get_ref() else {
            return Err(self.wrong_type(&value.span(), key, "a number", value.get_ref()));
        };
        i64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_large| self.error(&value.span(), &format!("`{key}` is too large a number")))
    }

    /// A whole number within these bounds.
    pub(super) fn within(
        &self,
        table: &DeTable<'_>,
        key: &str,
        bounds: (u32, u32),
    ) -> Result<Option<u32>, ConfigError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        let (least, most) = bounds;
        let number = u32::try_from(self.integer(value, key)?).ok();
        let number = number.filter(|number| (least..=most).contains(number));
        number
            .map(Some)
            .ok_or_else(|| self.error(&value.span(), &format!("`{key}` is a number from {least} to {most}")))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, table: &DeTable<'_>, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        let on = value.get_ref().as_bool();
        on.map(Some).ok_or_else(|| self.wrong_type(&value.span(), key, "true or false", value.get_ref()))
    }

    /// A time such as "30s", in seconds, at least this many.
    pub(super) fn seconds(
        &self,
        table: &DeTable<'_>,
        key: &str,
        least: f64,
    ) -> Result<Option<f64>, ConfigError> {
        let Some((text, span)) = self.string(table, key)? else { return Ok(None) };
        seconds(&text).filter(|seconds| *seconds >= least).map(Some).ok_or_else(|| {
            let least = if least > 0.0 { format!(", at least {least}s") } else { String::new() };
            self.error(&span, &format!("`{key} = \"{text}\"`: write a time such as \"30s\" or \"5m\"{least}"))
        })
    }
}

/// Longest time that may be written: a year.
const LONGEST_S: f64 = 366.0 * 86_400.0;

/// `1m30s` in seconds.
pub(super) fn seconds(text: &str) -> Option<f64> {
    let time = text.trim().parse::<SignedDuration>().ok()?;
    Some(time.as_secs_f64()).filter(|seconds| (0.0..=LONGEST_S).contains(seconds))
}

/// `256MiB` in bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}
