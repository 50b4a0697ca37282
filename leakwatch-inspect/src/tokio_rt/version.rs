//! Which tokio versions are linked in, from the file names in panic Locations. Must never guess: no name, no version.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// A release of tokio, `major.minor.patch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
pub struct TokioVersion {
    /// 1.
    pub major: u16,
    /// Minor.
    pub minor: u16,
    /// Patch.
    pub patch: u16,
}

impl std::fmt::Display for TokioVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// More versions of one crate than a program has.
const MAX_VERSIONS: usize = 16;

/// The versions in file names such as `.../tokio-1.54.1/src/runtime/task/state.rs`, ascending, each once.
pub(super) fn find(image: &[u8]) -> Vec<TokioVersion> {
    let prefix = b"/tokio-";
    let mut versions = Vec::new();
    for at in memchr::memmem::find_iter(image, prefix) {
        let rest = at.checked_add(prefix.len()).and_then(|at| image.get(at..)).unwrap_or_default();
        if let Some(version) = parse(rest.get(..32).unwrap_or(rest))
            && !versions.contains(&version)
            && versions.len() < MAX_VERSIONS
        {
            versions.push(version);
        }
    }
    versions.sort_unstable();
    versions
}

/// Is a tokio there whose version no name tells? A vendored crate's files have none; a program may be without file names
/// altogether, but not without what tokio says to its users.
pub(super) fn is_unnamed(image: &[u8], versions: &[TokioVersion]) -> bool {
    let has = |mark: &[u8]| memchr::memmem::find(image, mark).is_some();
    has(b"/tokio/src/runtime/")
        || (versions.is_empty()
            && (has(b"there is no reactor running, must be called from the context of")
                || has(b"`spawn_local` called from outside of a `task::LocalSet`")))
}

/// Is there any sign of tokio? Cheap, and generous: most libraries have none.
pub fn may_be_in(image: &[u8]) -> bool {
    memchr::memmem::find(image, b"/tokio-1.").is_some() || is_unnamed(image, &[])
}

/// `1.54.1/src/...` as a version.
pub(super) fn parse(text: &[u8]) -> Option<TokioVersion> {
    let end = memchr::memchr(b'/', text)?;
    text.get(end..)?.starts_with(b"/src/").then_some(())?;
    let text = std::str::from_utf8(text.get(..end)?).ok()?;
    let mut numbers = text.split('.').map(str::parse::<u16>);
    let (major, minor, patch) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    numbers.next().is_none().then_some(TokioVersion { major, minor, patch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_versions_and_other_crates_do_not() {
        let image = b"..registry/tokio-1.54.1/src/task/spawn.rs\0/tokio-util-0.7.1/src/x.rs\0/x/tokio-1.20.6/src/a.rs\0\
                      /tokio-1.54.1/src/b.rs/tokio-1.2/src/c.rs/tokio-9";
        let versions: Vec<String> = find(image).iter().map(ToString::to_string).collect();
        assert_eq!(versions, ["1.20.6", "1.54.1"]);
    }
}
