//! Go versions: parsing, ordering, and finding the one a binary was built with.
//!
//! Must never take a string for the version that only looks like one without saying that it is a guess.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod build_info;
mod guess;

pub use build_info::{BuildInfo, find_build_info};
pub use guess::guess_version;

use std::cmp::Ordering;
use std::fmt;

/// A Go release, such as 1.26.3 or 1.23rc1.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct GoVersion {
    /// As the toolchain prints it, such as `go1.26.3` or `go1.23rc1 X:nocoverageredesign`.
    pub text: String,
    /// 1 in 1.26.3.
    pub major: u16,
    /// 26 in 1.26.3.
    pub minor: u16,
    /// 3 in 1.26.3; 0 where none is written.
    pub patch: u16,
    /// Release, or something before it.
    pub stage: Stage,
}

/// How far a version has come; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
pub enum Stage {
    /// A development tree before the release, such as `devel go1.27-abc`.
    Devel,
    /// `go1.23beta1`.
    Beta(u16),
    /// `go1.23rc1`.
    Candidate(u16),
    /// A release.
    Release,
}

impl GoVersion {
    /// Reads what `runtime.Version()` prints: `go1.26.3 X:foo`, `go1.23rc1`, `go1.24`, `devel go1.27-abc Mon ...`,
    /// `go1.25.5-custom`. `None` for everything else, such as `devel +abc` of toolchains before 1.17.
    pub fn parse(text: &str) -> Option<GoVersion> {
        let (devel, rest) = match text.strip_prefix("devel ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let rest = rest.strip_prefix("go")?;
        let (major, rest) = number(rest)?;
        let (minor, mut rest) = number(rest.strip_prefix('.')?)?;
        let mut patch = 0;
        let mut stage = if devel { Stage::Devel } else { Stage::Release };
        if let Some((found, after)) = rest.strip_prefix('.').and_then(number) {
            (patch, rest) = (found, after);
        } else if let Some((found, after)) = rest.strip_prefix("rc").and_then(number) {
            (stage, rest) = (Stage::Candidate(found), after);
        } else if let Some((found, after)) = rest.strip_prefix("beta").and_then(number) {
            (stage, rest) = (Stage::Beta(found), after);
        }
        // What follows is a suffix of its own: "-custom", " X:experiment", "+auto".
        let ends = rest.chars().next().is_none_or(|c| matches!(c, ' ' | '-' | '+' | '_' | ':' | '\t'));
        ends.then(|| GoVersion { text: text.to_owned(), major, minor, patch, stage })
    }

    /// Is it at least `major.minor`, its betas, candidates and development tree included? They have that version's
    /// structures.
    pub fn at_least(&self, major: u16, minor: u16) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

/// A number and what follows it.
fn number(text: &str) -> Option<(u16, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialOrd for GoVersion {
    fn partial_cmp(&self, other: &GoVersion) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By version, before all else; texts of the same version by their letters, so that the order is total.
impl Ord for GoVersion {
    fn cmp(&self, other: &GoVersion) -> Ordering {
        let key = |v: &GoVersion| (v.major, v.minor, v.patch, v.stage);
        key(self).cmp(&key(other)).then_with(|| self.text.cmp(&other.text))
    }
}

#[cfg(test)]
mod tests {
    use super::{GoVersion, Stage};

    fn check(text: &str, expect: Option<(u16, u16, u16, Stage)>) {
        let found = GoVersion::parse(text).map(|v| (v.major, v.minor, v.patch, v.stage));
        assert_eq!(found, expect, "{text:?}");
    }

    #[test]
    fn texts_that_toolchains_print() {
        check("go1.26.3", Some((1, 26, 3, Stage::Release)));
        check("go1.26.3 X:nocoverageredesign", Some((1, 26, 3, Stage::Release)));
        check("go1.24", Some((1, 24, 0, Stage::Release)));
        check("go1.23rc1", Some((1, 23, 0, Stage::Candidate(1))));
        check("go1.21beta2", Some((1, 21, 0, Stage::Beta(2))));
        check("devel go1.27-abcdef012 Mon Jan 5 10:00:00 2026 +0000", Some((1, 27, 0, Stage::Devel)));
        check("go1.25.5-custom", Some((1, 25, 5, Stage::Release)));
        check("go1.22.3+auto", Some((1, 22, 3, Stage::Release)));
        check("go2.0", Some((2, 0, 0, Stage::Release)));
    }

    #[test]
    fn texts_that_are_no_versions() {
        for text in ["", "go", "go1", "go1.", "1.26", "go1.2x", "devel +abc", "go1.99999999", "go1.26\u{661}"]
        {
            check(text, None);
        }
    }

    #[test]
    fn order() {
        let sorted = [
            "go1.9.7",
            "go1.18",
            "devel go1.23-abc",
            "go1.23beta1",
            "go1.23rc1",
            "go1.23rc2",
            "go1.23",
            "go1.23.1",
            "go1.23.10",
            "go1.24rc1",
            "go1.24",
            "go2.0",
        ];
        let parsed = sorted.map(|text| GoVersion::parse(text).unwrap());
        assert!(parsed.is_sorted_by(|a, b| a < b));
        assert!(parsed[4].at_least(1, 23) && !parsed[0].at_least(1, 18));
    }
}
