//! The table of runtime layouts is in order: every entry cites its source, ranges of releases neither overlap
//! nor run backwards, and each release says how it is known.
//!
//! Whether the offsets are right is `cargo xtask layouts --check`'s business, which needs every toolchain.

use super::Finding;

/// The tables.
pub(super) const NAME: &str = "layouts.toml";

/// Checks one table.
pub(super) fn check(file: &str, content: &str) -> Vec<Finding> {
    let table: toml::Table = match content.parse() {
        Ok(table) => table,
        Err(error) => return vec![Finding::new(file, 0, format!("does not parse: {error}"))],
    };
    let mut texts = Vec::new();
    let mut known = Vec::new();
    for entry in entries(&table, "release") {
        let release = text(entry, "go");
        if text(entry, "measured").is_empty() == text(entry, "inferred").is_empty() {
            texts.push(format!("release {release} must be either `measured` or `inferred`"));
        }
        known.push(release);
    }
    if !known.is_sorted_by_key(|release| number(release)) {
        texts.push("the releases are not in order".to_owned());
    }
    let mut names: Vec<&str> = Vec::new();
    for field in entries(&table, "field") {
        let name = text(field, "name");
        if names.contains(&name) {
            texts.push(format!("{name} stands there twice"));
        }
        names.push(name);
        if text(field, "source").is_empty() {
            texts.push(format!("{name} cites no source"));
        }
        let ranges = field.get("offsets").and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
        texts.extend(check_ranges(name, ranges, &known));
    }
    let reasons: Vec<toml::Value> = entries(&table, "wait_reasons").cloned().collect();
    texts.extend(check_ranges("wait_reasons", &reasons, &known));
    texts.into_iter().map(|text| Finding::new(file, 0, text)).collect()
}

fn check_ranges(name: &str, ranges: &[toml::Value], known: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut last = None;
    for range in ranges {
        let (since, until) = (text(range, "since"), text(range, "until"));
        if !known.contains(&since) || !known.contains(&until) {
            texts.push(format!("{name}: {since} to {until} is not between releases of the table"));
        }
        if number(since) > number(until) || last.is_some_and(|last| number(since) <= last) {
            texts.push(format!("{name}: {since} to {until} overlaps, or runs backwards"));
        }
        last = Some(number(until));
    }
    texts
}

fn entries<'a>(table: &'a toml::Table, key: &str) -> impl Iterator<Item = &'a toml::Value> {
    table.get(key).and_then(toml::Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a toml::Value, key: &str) -> &'a str {
    value.get(key).and_then(toml::Value::as_str).unwrap_or_default()
}

/// `1.9` comes before `1.10`.
fn number(release: &str) -> Vec<u32> {
    release.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
        [[release]]
        go = \"1.9\"
        measured = \"go1.9.1\"
        [[release]]
        go = \"1.10\"
        inferred = \"like 1.9\"
        [[field]]
        name = \"g.m\"
        source = \"runtime2.go\"
        offsets = [{ since = \"1.9\", until = \"1.9\", offset = 8 }, { since = \"1.10\", until = \"1.10\", offset = 16 }]
    ";

    fn findings(content: &str) -> Vec<String> {
        check(NAME, content).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_table_in_order_passes() {
        assert!(findings(GOOD).is_empty(), "{:?}", findings(GOOD));
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(findings(&GOOD.replace("runtime2.go", "")), ["g.m cites no source"]);
        assert_eq!(
            findings(&GOOD.replace("until = \"1.9\"", "until = \"1.10\"")),
            ["g.m: 1.10 to 1.10 overlaps, or runs backwards"]
        );
        assert_eq!(
            findings(&GOOD.replace("since = \"1.9\"", "since = \"1.8\"")),
            ["g.m: 1.8 to 1.9 is not between releases of the table"]
        );
        assert_eq!(
            findings(&GOOD.replace("measured = \"go1.9.1\"", "")),
            ["release 1.9 must be either `measured` or `inferred`"]
        );
    }
}
