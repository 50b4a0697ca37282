//! Which binaries there are to watch: every Go release in every flavour, and programs that nobody here wrote.
//!
//! `cargo xtask targets` builds the former, `cargo xtask tools` fetches the latter; nothing here does.

use std::path::{Path, PathBuf};

/// Every Go release that is tested, oldest first; `xtask/src/tools/go.rs` installs them.
pub const GO_RELEASES: [&str; 8] =
    ["1.19", "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3"];

/// Every flavour that runs here; `xtask/src/targets/go.rs` says how each is built.
pub const FLAVOURS: [&str; 5] = ["plain", "stripped", "pie", "cgo", "strip"];

/// The flavour that is only for inspection on this machine.
pub const FOREIGN_FLAVOUR: &str = "arm64";

/// The flavour of what a program loads.
pub const PLUGIN_FLAVOUR: &str = "plugin";

/// Every version of tokio that is tested, oldest first; `xtask/src/targets/tokio.rs` says how each is built.
pub const TOKIO_RELEASES: [&str; 5] = ["1.20.6", "1.28.2", "1.36.0", "1.43.4", "1.54.1"];

/// The flavours of each version of tokio, in the order of `TOKIO_RELEASES`.
pub const TOKIO_FLAVOURS: [&[&str]; 5] = [
    &["release", "strip", "lto", "lto-strip", "rustc-1.63", "rustc-1.63-strip"],
    &["lto", "lto-strip"],
    &["release", "strip"],
    &["lto", "lto-strip", "rustc-1.85", "rustc-1.85-strip"],
    &[
        "release",
        "debug",
        "debuginfo",
        "lto",
        "small",
        "tiny",
        "v0",
        "unstable",
        "static",
        "strip",
        "lto-strip",
        "small-strip",
        "tiny-strip",
        "v0-strip",
        "static-strip",
    ],
];

/// Programs that nobody here wrote: of Go, of tokio and what loads them, and of Rust without tokio.
pub const THIRD_PARTY: [&str; 23] = [
    "caddy",
    "traefik",
    "nats-server",
    "rclone",
    "esbuild",
    "prometheus",
    "etcd",
    "syncthing",
    "uv",
    "sccache",
    "lychee",
    "deno",
    "turbo",
    "mini-redis-server",
    "miniserve",
    "redis-benchmark",
    "obstore",
    "ruff",
    "rg",
    "panicparse",
    "promtool",
    "prometheus-alertmanager",
    "prometheus-3",
];

/// Those of `THIRD_PARTY` that have tokio in them.
pub const WITH_TOKIO: [&str; 7] =
    ["uv", "sccache", "lychee", "deno", "turbo", "mini-redis-server", "miniserve"];

/// Those of `THIRD_PARTY` that are of Rust, and have no tokio.
pub const WITHOUT_TOKIO: [&str; 2] = ["ruff", "rg"];

/// The machine's own Python, and every other that is installed beside it.
pub fn pythons() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/usr/bin/python3")];
    let root = std::process::Command::new("pyenv").arg("root").output().ok();
    let root = root.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let versions = std::fs::read_dir(Path::new(root.trim()).join("versions")).ok();
    let others =
        versions.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path().join("bin/python3")));
    let mut others: Vec<PathBuf> = others.filter(|path| path.exists()).collect();
    others.sort();
    found.extend(others);
    found
}

/// Flavours of the programs of threads; `xtask/src/targets/c.rs` says how each is built.
pub const NATIVE_FLAVOURS: [&str; 5] = ["plain", "pointers", "debug", "strip", "static"];

/// A program of threads in a language, `c` or `cpp`, whether or not it is there.
pub fn native_target(language: &str, flavour: &str) -> PathBuf {
    targets_root().join(language).join("threads").join(flavour).join("threads")
}

/// One binary of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoTarget {
    /// The release it is built with, such as `1.27.3`.
    pub release: &'static str,
    /// How it is built, such as `stripped`.
    pub flavour: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl GoTarget {
    /// `go 1.27.3 stripped`, for messages.
    pub fn name(&self) -> String {
        format!("go {} {}", self.release, self.flavour)
    }
}

/// One binary of tokio's matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokioBinary {
    /// The version of tokio, such as `1.54.1`.
    pub release: &'static str,
    /// How it is built, such as `lto-strip`.
    pub flavour: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl TokioBinary {
    /// `tokio 1.54.1 lto-strip`, for messages.
    pub fn name(&self) -> String {
        format!("tokio {} {}", self.release, self.flavour)
    }

    /// It has symbols, and so its types have names.
    pub fn is_named(&self) -> bool {
        !self.flavour.ends_with("strip")
    }
}

/// All binaries with one version of tokio.
pub fn tokio_flavours(release: &'static str) -> Vec<TokioBinary> {
    let rows = TOKIO_RELEASES.iter().zip(TOKIO_FLAVOURS);
    let of = rows.filter(|(known, _)| **known == release).flat_map(|(_, flavours)| flavours);
    of.map(|flavour| tokio_target(release, flavour)).collect()
}

/// The binary of one version of tokio and one flavour, whether or not it is there.
pub fn tokio_target(release: &'static str, flavour: &'static str) -> TokioBinary {
    let path = targets_root().join("tokio").join(release).join(flavour).join("truth");
    TokioBinary { release, flavour, path }
}

/// The first flavour with names and the first without of a version of tokio.
pub fn tokio_pair(release: &'static str) -> [TokioBinary; 2] {
    let flavours = tokio_flavours(release);
    let first = |named| flavours.iter().find(|binary| binary.is_named() == named).cloned();
    [true, false].map(|named| first(named).unwrap_or_else(|| panic!("tokio {release} is not in the matrix")))
}

/// The newest tokio in a plain release build: for tests to which neither matters.
pub fn any_tokio_target() -> TokioBinary {
    tokio_target(TOKIO_RELEASES[TOKIO_RELEASES.len() - 1], "release")
}

/// The program with two versions of tokio in it.
pub fn two_tokios() -> PathBuf {
    targets_root().join("tokio").join("two").join("release").join("two")
}

/// The whole matrix that runs here: the release changes slowest. Every binary is expected to be there.
pub fn go_matrix() -> Vec<GoTarget> {
    let flavours = |release| FLAVOURS.iter().map(move |flavour| go_target(release, flavour));
    GO_RELEASES.iter().copied().flat_map(flavours).collect()
}

/// The binary of one release and flavour, whether or not it is there.
pub fn go_target(release: &'static str, flavour: &'static str) -> GoTarget {
    let path = targets_root().join("go").join(release).join(flavour).join("truth");
    GoTarget { release, flavour, path }
}

/// The newest release in its plain flavour: for tests to which neither matters.
pub fn any_go_target() -> GoTarget {
    go_target(GO_RELEASES[GO_RELEASES.len() - 1], "plain")
}

/// The program with known truth and 5,000 places more that start goroutines.
pub fn go_many() -> PathBuf {
    any_go_target().path.with_file_name("many")
}

/// The executable of a program that nobody here wrote, or why there is none.
pub fn third_party(name: &str) -> Result<PathBuf, String> {
    let path = work_dir().join("tools").join("third-party").join(name);
    match path.canonicalize() {
        Ok(executable) => Ok(executable),
        Err(error) => Err(format!("{}: {error}; `cargo xtask tools third-party` fetches it", path.display())),
    }
}

/// Where the Go toolchain of a release is.
pub fn go_toolchain(release: &str) -> PathBuf {
    work_dir().join("tools").join("go").join(release)
}

/// What Go's builds keep.
pub fn go_cache() -> PathBuf {
    work_dir().join("gocache")
}

/// The repository's root.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map_or_else(|| tests.to_owned(), Path::to_owned)
}

/// Where `cargo xtask` keeps what it builds and fetches.
pub(crate) fn work_dir() -> PathBuf {
    repository().join("target").join("leakwatch")
}

/// Where the targets are: `LEAKWATCH_TARGETS`, or where xtask puts them.
pub fn targets_root() -> PathBuf {
    std::env::var_os("LEAKWATCH_TARGETS")
        .map_or_else(|| work_dir().join("targets"), |dir| repository().join(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of a source file from `from` to the next line that ends with `];`.
    fn list<'a>(source: &'a str, from: &str) -> &'a str {
        let (_, rest) = source.split_once(from).expect("the list is there");
        rest.split_once("];").expect("the list ends").0
    }

    fn quoted(text: &str) -> Vec<&str> {
        text.split('"').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_matrix_is_what_xtask_builds() {
        let installed = include_str!("../../xtask/src/tools/go.rs");
        assert_eq!(quoted(list(installed, "const RELEASES")), GO_RELEASES);

        let built = list(include_str!("../../xtask/src/targets/go.rs"), "const FLAVOURS");
        let mut built: Vec<&str> =
            built.split("name: ").skip(1).filter_map(|text| quoted(text).first().copied()).collect();
        let mut expected: Vec<&str> = FLAVOURS.into_iter().chain([FOREIGN_FLAVOUR, PLUGIN_FLAVOUR]).collect();
        built.sort_unstable();
        expected.sort_unstable();
        assert_eq!(built, expected);
    }

    #[test]
    fn the_tokio_matrix_is_what_xtask_builds() {
        let source = include_str!("../../xtask/src/targets/tokio.rs");
        let mut built = Vec::new();
        for part in list(source, "const RELEASES").split("Release {").skip(1) {
            let words = quoted(part);
            let (_, flavours) = part.split_once("flavours:").expect("it has flavours");
            built.push((words[0], quoted(flavours)));
        }
        let expected: Vec<_> = TOKIO_RELEASES.into_iter().zip(TOKIO_FLAVOURS.map(<[&str]>::to_vec)).collect();
        assert_eq!(built, expected);
    }

    #[test]
    fn the_programs_are_those_that_xtask_fetches() {
        let fetched = list(include_str!("../../xtask/src/tools/third_party.rs"), "const PROGRAMS");
        let fetched: Vec<&str> =
            fetched.split("name: ").skip(1).filter_map(|text| quoted(text).first().copied()).collect();
        assert_eq!(fetched, THIRD_PARTY);
    }
}
