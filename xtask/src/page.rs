//! Checks the agent's page, which has no build: the types of its modules, and the bytes of what others made.
//!
//! TypeScript looks at the JavaScript as it is and writes nothing. `--write` takes the vendored files from their package anew.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{
    shell,
    tools::{self, Package},
};

/// Draws the charts; MIT. A new version is one that somebody has looked at.
const UPLOT: Package = Package {
    name: "uplot",
    version: "1.6.32",
    sha256: "4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d",
};

/// Files of it, in the package and here.
const FILES: [(&str, &str); 4] = [
    ("dist/uPlot.esm.js", "uplot.js"),
    ("dist/uPlot.min.css", "uplot.css"),
    ("dist/uPlot.d.ts", "uplot.d.ts"),
    ("LICENSE", "LICENSE"),
];

/// Checks types.
const TYPESCRIPT: Package = Package {
    name: "typescript",
    version: "5.9.3",
    sha256: "10e108c9cf7d5f2879053dff18515fb405abf2ccef63eaaf017d9c571687a1d3",
};

/// `cargo xtask page [--write]`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let write = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--write"] => true,
        _ => bail!("`cargo xtask page` takes nothing, or --write"),
    };
    let assets = shell::root().join("leakwatch/assets");
    let package = tools::npm(&UPLOT)?;
    for (theirs, ours) in FILES {
        let ours = assets.join("vendor").join(UPLOT.name).join(ours);
        let theirs = package.join(theirs);
        let wanted = fs::read(&theirs).with_context(|| format!("failed to read {}", theirs.display()))?;
        if fs::read(&ours).is_ok_and(|there| there == wanted) {
            continue;
        }
        if !write {
            bail!(
                "{} is not what {} {} has; `cargo xtask page --write` takes it from there",
                ours.display(),
                UPLOT.name,
                UPLOT.version
            );
        }
        fs::write(&ours, wanted).with_context(|| format!("failed to write {}", ours.display()))?;
    }
    let compiler = tools::npm(&TYPESCRIPT)?.join("lib/tsc.js");
    shell::run(shell::command("node").arg(compiler).arg("--project").arg(assets.join("tsconfig.json")))
}
