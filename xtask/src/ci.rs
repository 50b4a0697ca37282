//! Everything from a fresh clone to all tests passed, step by step: what CI runs, and what a person runs.
//!
//! A step that fails does not keep the others from being looked at, unless they need what it makes. The last
//! line sums the tests up in the form that test runners use.

mod counts;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{deny, ebpf, layouts, package, page, shell, targets, tidy, tools};
use counts::Counts;

/// One promise, and how it is checked.
struct Step {
    name: &'static str,
    promise: &'static str,
    /// Steps without which this one says nothing.
    needs: &'static [&'static str],
    run: fn(&mut Counts) -> Result<()>,
}

const STEPS: &[Step] = &[
    Step {
        name: "tools",
        promise: "what a bare machine lacks can be installed, without a question",
        needs: &[],
        run: |_| {
            tools::run(
                &["ebpf", "go", "third-party", "tmux", "deploy", "network", "browser", "machine"]
                    .map(str::to_owned),
            )
        },
    },
    Step {
        name: "ebpf fresh",
        promise: "the kernel side builds from source, without a warning, to the kept bytes",
        needs: &["tools"],
        run: |_| ebpf::fresh_to(&fresh_object()),
    },
    Step {
        name: "ebpf check",
        promise: "the kept eBPF object is from these sources",
        needs: &[],
        run: |_| ebpf::check(),
    },
    Step {
        name: "fmt",
        promise: "rustfmt has nothing to change",
        needs: &[],
        run: |_| shell::run(shell::cargo("fmt").args(["--all", "--", "--check", "--color", "never"])),
    },
    Step { name: "tidy", promise: "imports go down the floors", needs: &[], run: |_| tidy::run(&[]) },
    Step {
        name: "page",
        promise: "the page's modules have no error of types, and what others made is what their packages have",
        needs: &[],
        run: |_| page::run(&[]),
    },
    Step {
        name: "clippy",
        promise: "no lint of the workspace's table fires",
        needs: &[],
        run: |_| {
            let mut clippy = shell::cargo("clippy");
            clippy.args(WHOLE_WORKSPACE).args([
                "--all-targets",
                "--locked",
                "--keep-going",
                "--",
                "-D",
                "warnings",
            ]);
            shell::run(&mut clippy)
        },
    },
    Step {
        name: "doc",
        promise: "every link in the documentation leads somewhere",
        needs: &[],
        run: |_| {
            let mut doc = shell::cargo("doc");
            doc.args(WHOLE_WORKSPACE).args([
                "--no-deps",
                "--document-private-items",
                "--locked",
                "--keep-going",
            ]);
            shell::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
    Step {
        name: "deny",
        promise: "dependencies have permissive licences, one version each, and one source",
        needs: &[],
        run: |_| deny::run(&[]),
    },
    Step {
        name: "targets",
        promise: "the programs with known truth build with every Go release",
        needs: &["tools"],
        run: |_| targets::run(&[]),
    },
    Step {
        name: "layouts",
        promise: "the table of Go's runtime layouts says what the DWARF of the targets says",
        needs: &["targets"],
        run: |_| layouts::run(&["--check".to_owned()]),
    },
    Step {
        name: "build",
        promise: "stable Rust and the kept object are enough for a release binary",
        needs: &[],
        run: |_| build_release(None),
    },
    Step {
        name: "unit and offline tests",
        promise: "what needs no kernel is right",
        needs: &[],
        run: offline_tests,
    },
    Step { name: "doc tests", promise: "the examples in the documentation run", needs: &[], run: doc_tests },
    Step {
        name: "live tests",
        promise: "with the fresh object, real programs are counted exactly on this kernel",
        needs: &["ebpf fresh", "targets", "build"],
        run: live_tests,
    },
];

/// leakwatch-ebpf builds only for its own target.
const WHOLE_WORKSPACE: [&str; 3] = ["--workspace", "--exclude", "leakwatch-ebpf"];

/// The one program of leakwatch-tests that watches real programs.
const LIVE: &str = "live";

/// `cargo xtask test`, also known as `cargo xtask ci`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("`cargo xtask test` takes no arguments");
    }
    let all = shell::Stopwatch::start();
    let mut counts = Counts::default();
    let mut outcomes: Vec<(&Step, Outcome, f64)> = Vec::new();
    for (number, step) in (1..).zip(STEPS) {
        eprintln!("\n[{number}/{}] {}: {}", STEPS.len(), step.name, step.promise);
        let started = shell::Stopwatch::start();
        let missing = step.needs.iter().find(|need| {
            outcomes.iter().any(|(step, outcome, _)| step.name == **need && !matches!(outcome, Outcome::Kept))
        });
        let outcome = match missing {
            Some(need) => Outcome::NotRun(need),
            None => match (step.run)(&mut counts) {
                Ok(()) => Outcome::Kept,
                Err(error) => Outcome::Broken(format!("{error:#}")),
            },
        };
        if let Outcome::Broken(error) = &outcome {
            eprintln!("    FAILED: {error}");
        }
        outcomes.push((step, outcome, started.seconds()));
    }

    println!();
    for (step, outcome, seconds) in &outcomes {
        let said = match outcome {
            Outcome::Kept => "ok".to_owned(),
            Outcome::NotRun(need) => format!("NOT RUN: needs `{need}`"),
            Outcome::Broken(error) => format!("FAILED, the promise was: {}\n{:>36}{error}", step.promise, ""),
        };
        println!("{:<24} {seconds:>8.1} s  {said}", step.name);
    }
    println!("{:<24} {:>8.1} s", "all", all.seconds());
    for skip in &counts.skips {
        println!("skipped: {skip}");
    }
    for name in &counts.flaky {
        println!("flaky, failed once and passed once: {name}");
    }
    let broken = outcomes.iter().filter(|(_, outcome, _)| !matches!(outcome, Outcome::Kept)).count();
    // The last line is for whoever counts tests.
    println!("{counts}");
    if broken > 0 {
        bail!("{broken} of {} steps failed", STEPS.len());
    }
    Ok(())
}

/// How a step ended.
enum Outcome {
    Kept,
    Broken(String),
    NotRun(&'static str),
}

/// The object that the live tests load.
fn fresh_object() -> PathBuf {
    shell::work_dir().join("fresh").join("leakwatch.bpf.o")
}

fn build_release(object: Option<PathBuf>) -> Result<()> {
    let mut build = shell::cargo("build");
    build.args(["--release", "--locked", "--package", "leakwatch"]).env_remove("LEAKWATCH_EBPF_OBJECT");
    if let Some(object) = object {
        build.env("LEAKWATCH_EBPF_OBJECT", object);
    }
    shell::run(&mut build)?;
    shell::run(shell::command(release_binary()).arg("--version"))
}

fn release_binary() -> PathBuf {
    shell::target_dir().join("release").join("leakwatch")
}

/// Everything but the live tests: nextest where it is installed, cargo's own runner elsewhere.
fn offline_tests(counts: &mut Counts) -> Result<()> {
    if has_nextest() {
        let mut nextest = shell::cargo("nextest");
        nextest.args(["run", "--locked", "--no-fail-fast"]).args(WHOLE_WORKSPACE);
        if test_binaries()?.iter().any(|name| name == LIVE) {
            nextest.args(["-E", &format!("not binary({LIVE})")]);
        }
        return tests(&mut nextest, counts);
    }
    let mut others = shell::cargo("test");
    others.args(["--locked", "--no-fail-fast", "--tests"]).args(WHOLE_WORKSPACE);
    let others = tests(others.args(["--exclude", "leakwatch-tests", "--", "--show-output"]), counts);
    let mut own = shell::cargo("test");
    own.args(["--locked", "--no-fail-fast", "--package", "leakwatch-tests", "--lib"]);
    for name in test_binaries()?.iter().filter(|name| *name != LIVE) {
        own.args(["--test", name]);
    }
    others.and(tests(own.args(["--", "--show-output"]), counts))
}

/// The test programs of leakwatch-tests: a folder each.
fn test_binaries() -> Result<Vec<String>> {
    let dir = shell::root().join("tests").join("tests");
    let entries = fs::read_dir(&dir).with_context(|| format!("failed to list {}", dir.display()))?;
    let programs =
        entries.filter_map(|entry| entry.ok().filter(|entry| entry.path().join("main.rs").is_file()));
    let mut names: Vec<String> =
        programs.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn doc_tests(counts: &mut Counts) -> Result<()> {
    tests(shell::cargo("test").args(["--locked", "--doc"]).args(WHOLE_WORKSPACE), counts)
}

/// The tests that watch real programs, one at a time: they load the machine, and measure it.
fn live_tests(counts: &mut Counts) -> Result<()> {
    // Where they are the same bytes, what was built with the kept object is the same program.
    let fresh = fs::read(fresh_object()).context("failed to read the fresh object")?;
    let is_kept = fs::read(ebpf::kept_object()).is_ok_and(|kept| kept == fresh) && release_binary().is_file();
    let object = (!is_kept).then(fresh_object);
    if object.is_some() {
        build_release(object.clone()).context("failed to build leakwatch with the fresh object")?;
    }
    package::run(&["--dynamic".to_owned()]).context("failed to package what is tested")?;
    let mut live;
    if has_nextest() {
        live = shell::cargo("nextest");
        live.args(["run", "--locked", "--no-fail-fast", "--package", "leakwatch-tests", "--test", LIVE]);
        // Which of them run side by side: .config/nextest.toml.
        live.args(["--test-threads", "2"]);
    } else {
        live = shell::cargo("test");
        live.args(["--locked", "--no-fail-fast", "--package", "leakwatch-tests", "--test", LIVE]);
        live.args(["--", "--test-threads=1", "--nocapture"]);
    }
    live.env("LEAKWATCH_BIN", release_binary());
    if let Some(object) = object {
        live.env("LEAKWATCH_EBPF_OBJECT", object);
    }
    let before = counts.skips.len();
    tests(&mut live, counts)?;
    let skipped = counts.skips.len().saturating_sub(before);
    if skipped > 0 && std::env::var("LEAKWATCH_LIVE").is_ok_and(|value| value == "require") {
        bail!("{skipped} live tests were skipped, and LEAKWATCH_LIVE=require allows none");
    }
    Ok(())
}

fn tests(command: &mut Command, counts: &mut Counts) -> Result<()> {
    let line = shell::line(command);
    // nextest keeps what passed tests print to itself, but for this file.
    let printed = shell::root().join("target").join("nextest").join("default").join("junit.xml");
    if printed.exists() {
        fs::remove_file(&printed).with_context(|| format!("failed to remove {}", printed.display()))?;
    }
    let (good, text) = shell::run_and_read(command)?;
    counts.add(&Counts::read(&text, &fs::read_to_string(&printed).unwrap_or_default()));
    if !good {
        bail!("`{line}` failed");
    }
    Ok(())
}

fn has_nextest() -> bool {
    shell::find_cargo_program("cargo-nextest").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_an_earlier_step() {
        for (index, step) in STEPS.iter().enumerate() {
            for need in step.needs {
                assert!(
                    STEPS.iter().take(index).any(|earlier| earlier.name == *need),
                    "{} needs {need}",
                    step.name
                );
            }
        }
    }
}
