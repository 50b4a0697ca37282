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
}
