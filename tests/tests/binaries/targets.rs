//! The truth program as `cargo xtask targets` built it, by Go version and flavour.

use std::path::{Path, PathBuf};

/// Minor versions of Go that the tests want.
pub(crate) const MINORS: [u32; 8] = [19, 21, 22, 23, 24, 25, 26, 27];

/// A binary of the matrix.
pub(crate) struct Target {
    /// Such as `1.26.6/pie`.
    pub(crate) name: String,
    /// 26 in that.
    pub(crate) minor: u32,
    /// The whole file.
    pub(crate) image: Vec<u8>,
}

fn root() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/leakwatch/targets");
    std::env::var_os("LEAKWATCH_TARGETS").map_or_else(built, PathBuf::from)
}

/// The folder of a version, whatever its patch number.
fn version_folder(minor: u32) -> Option<(String, PathBuf)> {
    let mut entries = std::fs::read_dir(root().join("go")).ok()?.filter_map(Result::ok).filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let mut parts = name.trim_start_matches("go").split('.');
        let is_it = parts.next() == Some("1") && parts.next() == Some(minor.to_string().as_str());
        is_it.then(|| (name, entry.path()))
    });
    entries.next()
}

/// The binary of a version and flavour. A missing one is a line on stdout, and a failure where
/// `LEAKWATCH_LIVE=require` says that none may be missing.
pub(crate) fn target(minor: u32, flavour: &str) -> Option<Target> {
    let folder = version_folder(minor);
    let file = folder.as_ref().map(|(_, path)| path.join(flavour).join("truth"));
    if let Some(image) = file.as_ref().and_then(|file| std::fs::read(file).ok()) {
        let version = folder.map(|(name, _)| name).unwrap_or_default();
        return Some(Target { name: format!("{version}/{flavour}"), minor, image });
    }
    let what =
        format!("{flavour} of Go 1.{minor}: no binary in {}; run `cargo xtask targets`", root().display());
    let required = std::env::var("LEAKWATCH_LIVE").is_ok_and(|v| v == "require");
    assert!(!required, "{what}");
    skip(&what);
    None
}

#[expect(clippy::print_stdout, reason = "a skipped test says so where tests are read")]
fn skip(what: &str) {
    println!("SKIP {what}");
}

/// A flavour in all versions that were built.
pub(crate) fn every_version(flavour: &'static str) -> impl Iterator<Item = Target> {
    MINORS.into_iter().filter_map(move |minor| target(minor, flavour))
}
