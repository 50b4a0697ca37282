//! `tests/targets/c` and `tests/targets/cpp`: programs of threads and child processes, in the ways of compiling that
//! decide how their stacks are walked.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Target, hash, root};
use crate::shell;

/// A program.
#[derive(Clone, Copy)]
struct Program {
    language: &'static str,
    source: &'static str,
    compiler: &'static str,
    always: &'static [&'static str],
}

const PROGRAMS: [Program; 2] = [
    Program {
        language: "c",
        source: "tests/targets/c/threads.c",
        compiler: "gcc",
        always: &["-Wall", "-pthread"],
    },
    Program {
        language: "cpp",
        source: "tests/targets/cpp/threads.cpp",
        compiler: "g++",
        always: &["-std=c++20", "-Wall", "-pthread"],
    },
];

/// Name and flags.
const FLAVOURS: [(&str, &[&str]); 5] = [
    ("plain", &["-g", "-O2", "-fomit-frame-pointer"]),
    ("pointers", &["-g", "-O2", "-fno-omit-frame-pointer"]),
    ("debug", &["-g", "-O0"]),
    // No symbols, and no names: .eh_frame stays, as it does in every stripped program.
    ("strip", &["-O2", "-s"]),
    ("static", &["-g", "-O2", "-static"]),
];

/// The binaries of each program are one batch.
pub(super) fn targets() -> Result<Vec<Vec<Target>>> {
    PROGRAMS.iter().map(|program| Ok(of(*program)?.into_iter().collect())).collect()
}

fn of(program: Program) -> Result<Vec<Target>> {
    let source = shell::root().join(program.source);
    let text = std::fs::read(&source).with_context(|| format!("failed to read {}", source.display()))?;
    let version = shell::output(shell::command(program.compiler).arg("--version")).unwrap_or_default();
    let inputs = hash(&[&text, version.as_bytes()]);
    Ok(FLAVOURS.iter().map(|(name, flags)| target(program, name, flags, &source, &inputs)).collect())
}

fn target(
    program: Program,
    flavour: &'static str,
    flags: &'static [&'static str],
    source: &Path,
    inputs: &str,
) -> Target {
    let source = source.to_owned();
    let output: PathBuf = root().join(program.language).join("threads").join(flavour).join("threads");
    Target {
        name: format!("{} threads {flavour}", program.language),
        output,
        recipe: format!("{inputs} {:?} {flags:?}", program.always),
        make: Box::new(move |output| {
            let mut compiler = shell::command(program.compiler);
            compiler.args(program.always).args(flags).arg("-o").arg(output).arg(&source);
            shell::output(&mut compiler).map(drop)
        }),
    }
}
