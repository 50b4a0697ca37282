//! libuv as Debian builds it for static linking: with the names of its own functions, which its shared library lacks.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{apt, dir, fetch};

/// A folder with `include/uv.h` and `lib/libuv.a`.
pub(crate) fn libuv() -> Result<PathBuf> {
    let home = dir().join("libuv");
    if !home.join("lib").join("libuv.a").is_file() {
        println!("fetching libuv from Debian: a test target uses it");
        fetch::whole(&home, |partial| {
            apt::unpack(&["libuv1-dev"], partial)?;
            let usr = partial.join("usr");
            let library = find(&usr.join("lib"))?;
            fs::create_dir_all(partial.join("lib")).context("failed to make a folder")?;
            fs::rename(&library, partial.join("lib").join("libuv.a"))
                .with_context(|| format!("failed to move {}", library.display()))?;
            fs::rename(usr.join("include"), partial.join("include")).context("failed to move its headers")
        })?;
    }
    Ok(home)
}

/// The static library, in the folder of this machine's architecture.
fn find(libraries: &std::path::Path) -> Result<PathBuf> {
    let folders =
        fs::read_dir(libraries).with_context(|| format!("failed to read {}", libraries.display()))?;
    for folder in folders {
        let library = folder.context("failed to read a folder")?.path().join("libuv_a.a");
        if library.is_file() {
            return Ok(library);
        }
    }
    bail!("libuv1-dev has no libuv_a.a")
}
