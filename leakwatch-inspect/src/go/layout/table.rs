//! `layouts.toml`: offsets by release, and the texts of wait reasons. Must never answer for a release before its oldest,
//! and says so when it answers for one after its newest.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::LazyLock;

use super::super::Source;
use super::super::version::GoVersion;
use super::GoLayout;
use crate::Problem;

/// `layouts.toml`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The Go releases in the table, oldest first.
    pub release: Vec<Release>,
    /// The fields, by name.
    pub field: Vec<FieldRanges>,
    /// The texts of wait reasons.
    pub wait_reasons: Vec<WaitReasons>,
}

/// A Go release in the table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Such as `1.26`.
    pub go: String,
    /// The toolchain whose DWARF was read; absent when it is inferred.
    pub measured: Option<String>,
    /// Why the offsets are believed although no toolchain was at hand.
    pub inferred: Option<String>,
}

/// A field's offsets in all releases that have it.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldRanges {
    /// As in [`Field::name`](super::Field::name).
    pub name: String,
    /// The file of Go's source that declares the type.
    pub source: String,
    /// Ranges of releases, oldest first.
    pub offsets: Vec<OffsetRange>,
}

/// An offset that holds for a range of releases.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffsetRange {
    /// First release.
    pub since: String,
    /// Last release.
    pub until: String,
    /// The offset, or the size, in bytes.
    pub offset: u32,
}

/// The elements of `waitReasonStrings` for a range of releases.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitReasons {
    /// First release.
    pub since: String,
    /// Last release.
    pub until: String,
    /// The file of Go's source that declares them.
    pub source: String,
    /// By value of `waitReason`.
    pub texts: Vec<String>,
}

/// What the table has for a version.
pub(in crate::go) struct Known {
    /// From [`Source::Table`] or [`Source::NewestKnown`].
    pub(in crate::go) layout: GoLayout,
    /// `waitReasonStrings`.
    pub(in crate::go) wait_reasons: &'static [String],
    /// Set when the version is newer than the table.
    pub(in crate::go) problem: Option<Problem>,
}

static TABLE: LazyLock<Option<Table>> =
    LazyLock::new(|| toml::from_str(include_str!("../layouts.toml")).ok());

impl Table {
    /// The table shipped with leakwatch.
    pub fn shipped() -> Option<&'static Table> {
        TABLE.as_ref()
    }

    /// A field's offset in a release `(major, minor)`; `None` when that release does not have the field.
    pub fn offset(&self, name: &str, release: (u16, u16)) -> Option<u32> {
        let ranges = &self.field.iter().find(|field| field.name == name)?.offsets;
        ranges.iter().find(|range| within(&range.since, &range.until, release)).map(|range| range.offset)
    }

    /// The texts of wait reasons in a release.
    pub fn wait_reasons(&self, release: (u16, u16)) -> Option<&[String]> {
        let lists = &mut self.wait_reasons.iter();
        lists.find(|list| within(&list.since, &list.until, release)).map(|list| list.texts.as_slice())
    }

    /// Oldest and newest release.
    pub fn releases(&self) -> Option<((u16, u16), (u16, u16))> {
        Some((parse_release(&self.release.first()?.go)?, parse_release(&self.release.last()?.go)?))
    }
}

/// `1.26` as numbers.
fn parse_release(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn within(since: &str, until: &str, release: (u16, u16)) -> bool {
    matches!((parse_release(since), parse_release(until)), (Some(since), Some(until)) if (since..=until).contains(&release))
}

/// Looks a version up in the table. No version: the newest entry, to be validated by whoever uses it.
///
/// # Errors
/// When the version is older than the table.
pub(in crate::go) fn known(version: Option<&GoVersion>) -> Result<Known, Problem> {
    let damaged = || Problem("the table of layouts in this leakwatch is damaged".into());
    let table = Table::shipped().ok_or_else(damaged)?;
    let (oldest, newest) = table.releases().ok_or_else(damaged)?;
    let release = version.map(|version| (version.major, version.minor));
    let name = |(major, minor): (u16, u16)| format!("{major}.{minor}");
    let (entry, source, problem) = match release {
        Some(release) if release < oldest => {
            return Err(Problem(format!(
                "this binary was built with Go {}; leakwatch supports Go {} and later",
                name(release),
                name(oldest)
            )));
        }
        Some(release) if release <= newest => (release, Source::Table, None),
        Some(release) => (
            newest,
            Source::NewestKnown,
            Some(format!(
                "Go {} is newer than the newest version that leakwatch knows; its layouts of Go {} are tried",
                name(release),
                name(newest)
            )),
        ),
        None => (
            newest,
            Source::NewestKnown,
            Some(format!("the Go version is not known; the layouts of Go {} are tried", name(newest))),
        ),
    };
    Ok(Known {
        layout: GoLayout::from_offsets(source, |name| table.offset(name, entry))?,
        wait_reasons: table.wait_reasons(entry).unwrap_or_default(),
        problem: problem.map(Problem),
    })
}
