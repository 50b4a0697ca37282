//! Programs whose tasks are of no runtime that leakwatch recognises: `tests/targets/c` and `tests/targets/smol`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Target, root, sources};
use crate::shell;
use crate::tools::libuv;

/// The C programs, and the one of async-task in an unoptimised and an optimised build.
pub(super) fn targets() -> Result<Vec<Vec<Target>>> {
    let c = shell::root().join("tests/targets/c");
    let read = sources(&c)?;
    let smol = shell::root().join("tests/targets/smol");
    let smol_sources = format!("{} {}", sources(&smol)?, sources(&smol.join("src"))?);
    let smol_target = |profile: &'static str| Target {
        name: format!("smol {profile}"),
        output: root().join("smol").join(profile).join("smol-truth"),
        recipe: format!("{smol_sources} {profile}"),
        make: Box::new(move |output| build_smol(profile, output)),
    };
    let of_c = |name: &'static str, compiler: &'static str, arguments: &'static [&'static str]| Target {
        name: format!("c {name}"),
        output: root().join("c").join(name),
        recipe: format!("{read} {compiler} {arguments:?}"),
        make: Box::new(move |output| compile(compiler, arguments, output)),
    };
    Ok(vec![
        // What a later one is linked with comes earlier.
        vec![
            of_c("libpool.so", "cc", &["-O2", "-g", "-fPIC", "-shared", "pool.c"]),
            of_c(
                "handles",
                "c++",
                &[
                    "-O2",
                    "-g",
                    "-pthread",
                    "handles.cc",
                    "jobs.cc",
                    "-L{out}",
                    "-lpool",
                    "-ldl",
                    "-Wl,-rpath,$ORIGIN",
                ],
            ),
            of_c(
                "uv",
                "cc",
                &["-O2", "-g", "-pthread", "uv.c", "-I{uv}/include", "{uv}/lib/libuv.a", "-ldl"],
            ),
        ],
        vec![smol_target("dev"), smol_target("release")],
    ])
}

/// Compiles in the folder of the sources; `{out}` is that of the programs, `{uv}` that of libuv.
fn compile(compiler: &str, arguments: &[&str], output: &Path) -> Result<()> {
    let out = output.parent().context("a target has a folder")?.display().to_string();
    let mut command = shell::command(compiler);
    command.current_dir(shell::root().join("tests/targets/c")).arg("-o").arg(output);
    for argument in arguments {
        let mut argument = argument.replace("{out}", &out);
        if argument.contains("{uv}") {
            argument = argument.replace("{uv}", &libuv()?.display().to_string());
        }
        command.arg(argument);
    }
    shell::output(&mut command).map(drop)
}

fn build_smol(profile: &str, output: &Path) -> Result<()> {
    let built: PathBuf = shell::work_dir().join("cargo").join("smol");
    let mut cargo: Command = shell::cargo("build");
    cargo.current_dir(shell::root().join("tests/targets/smol")).env("CARGO_TARGET_DIR", &built);
    shell::output(cargo.args(["--quiet", "--locked", "--profile", profile]))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let program = built.join(folder).join("smol-truth");
    fs::copy(&program, output).with_context(|| format!("failed to copy {}", program.display())).map(drop)
}
