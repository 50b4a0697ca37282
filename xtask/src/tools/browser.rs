//! What looks at the agent's page: Chromium, and packages of npm in the very bytes that somebody looked at.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{apt, dir, fetch};
use crate::shell;

/// A package of npm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// SHA-256 of the packed package.
    pub(crate) sha256: &'static str,
}

/// Finds barriers in a page. Mozilla's licence; it is used by tests and is no part of anything that is shipped.
const AXE: Package = Package {
    name: "axe-core",
    version: "4.14.1",
    sha256: "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
};

/// Chromium and axe-core.
pub(super) fn install() -> Result<()> {
    apt::install(&["chromium"], "live tests open the agent's page in it")?;
    println!("axe-core      {}", npm(&AXE)?.display());
    Ok(())
}

/// The folder with what is in a package, fetched if it is not there; `target/leakwatch/tools/npm/NAME/package`.
pub(crate) fn npm(package: &Package) -> Result<PathBuf> {
    let Package { name, version, sha256 } = *package;
    let home = dir().join("npm").join(name);
    // Another version than the one that is there now is fetched anew.
    let is_there = std::fs::read_to_string(home.join("sha256")).is_ok_and(|there| there == sha256);
    if !is_there {
        let npm = shell::find_program("npm", &[])
            .with_context(|| format!("there is no npm to fetch {name} with"))?;
        println!("fetching {name} {version} from npm: the page, or a test of it, needs it");
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("failed to remove {}", home.display()))?;
        }
        fetch::whole(&home, |out| {
            fetch::npm_package(&npm, &format!("{name}@{version}"), Some(sha256), out)?;
            std::fs::write(out.join("sha256"), sha256).context("failed to write the hash")
        })?;
    }
    Ok(home.join("package"))
}
