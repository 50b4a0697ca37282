//! `tests/targets/corpus`: shapes of tasks that leak or only look so, one program for each runtime.
//!
//! Each has the names that its truth is told by: what a compiler merges or inlines would be one site of several shapes.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Target, go, hash, root, sources};
use crate::shell;
use crate::tools::go_toolchains;

/// The release of Go, the newest there is: `RELEASES` in `tools/go.rs`.
const GO: &str = "1.27.3";

/// One program each.
pub(super) fn targets() -> Result<Vec<Vec<Target>>> {
    let folder = shell::root().join("tests/targets/corpus");
    let target = |runtime: &str, recipe: String, make: super::Make| Target {
        name: format!("corpus {runtime}"),
        output: root().join("corpus").join(runtime).join("corpus"),
        recipe,
        make,
    };
    let mut batches = Vec::new();

    let (home, toolchains) = (folder.join("go"), go_toolchains()?);
    if let Some(toolchain) = toolchains.into_iter().find(|toolchain| toolchain.version == GO) {
        let recipe = format!("{} {} {}", sources(&home)?, sources(&home.join("lib"))?, toolchain.identity()?);
        let make: super::Make = Box::new(move |output| {
            let module = output.with_extension("mod");
            let text = go::module("corpus", toolchain.version);
            fs::write(&module, text).with_context(|| format!("failed to write {}", module.display()))?;
            let mut go = go::go(&toolchain);
            go.current_dir(&home).env("CGO_ENABLED", "1").arg("build").arg("-modfile").arg(&module);
            shell::output(go.arg("-o").arg(output).arg("."))?;
            fs::remove_file(&module).with_context(|| format!("failed to remove {}", module.display()))
        });
        batches.push(vec![target("go", recipe, make)]);
    }

    let home = folder.join("tokio");
    let recipe = hash(&[sources(&home)?.as_bytes(), sources(&home.join("src"))?.as_bytes()]);
    let make: super::Make = Box::new(move |output| {
        let built = shell::work_dir().join("cargo").join("corpus");
        let mut cargo: Command = shell::cargo("build");
        cargo.current_dir(&home).env("CARGO_TARGET_DIR", &built);
        shell::output(cargo.args(["--quiet", "--locked", "--release"]))?;
        let program = built.join("release").join("corpus");
        fs::copy(&program, output).with_context(|| format!("failed to copy {}", program.display())).map(drop)
    });
    batches.push(vec![target("tokio", recipe, make)]);

    let home = folder.join("threads");
    let recipe = sources(&home)?;
    let make: super::Make = Box::new(move |output| {
        let mut gcc = shell::command("gcc");
        gcc.current_dir(&home).args(["-g", "-O1", "-fno-inline-functions", "-Wall", "-pthread", "-o"]);
        shell::output(gcc.arg(output).args(["corpus.c", "-lm"])).map(drop)
    });
    batches.push(vec![target("threads", recipe, make)]);
    Ok(batches)
}
