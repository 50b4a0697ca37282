//! Builds the programs with known truth that the tests watch: `cargo xtask targets`.
//!
//! One binary for every release of the runtime and every flavour, kept in
//! `target/leakwatch/targets/KIND/VERSION/FLAVOUR/`. A binary is built again only when its sources, its
//! toolchain or the way it is built changed: their hash stands beside it. Nothing here uses the network but
//! the installation of missing toolchains, and cargo for crates that it has not yet.

mod c;
mod corpus;
mod custom;
mod go;
mod many;
mod tokio;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::shell;

/// One binary to be: what decides its bytes, and how it is made.
struct Target {
    /// For people: `go 1.27.3 stripped`.
    name: String,
    /// Where it is to be.
    output: PathBuf,
    /// Everything that decides its bytes.
    recipe: String,
    /// Makes it at the path that it is given.
    make: Make,
}

type Make = Box<dyn Fn(&Path) -> Result<()> + Send + Sync>;

/// `cargo xtask targets [WORD…]`: all, or those whose name has every word.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let started = shell::Stopwatch::start();
    let batches: Vec<Vec<Target>> = [
        tokio::targets()?,
        go::targets()?,
        many::targets()?,
        custom::targets()?,
        c::targets()?,
        corpus::targets()?,
    ]
    .into_iter()
    .flatten()
    .map(|batch| batch.into_iter().filter(|target| target.matches(arguments)).collect::<Vec<_>>())
    .filter(|batch| !batch.is_empty())
    .collect();
    let total: usize = batches.iter().map(Vec::len).sum();
    if total == 0 {
        bail!("no target's name has the words {}", arguments.join(" "));
    }
    let (built, failures) = make_all(&batches);
    println!("{total} targets, {built} built, in {:.1} s", started.seconds());
    if !failures.is_empty() {
        bail!("{} targets were not built: {}", failures.len(), failures.join("; "));
    }
    Ok(())
}

/// The go command of a toolchain, on its own.
pub(crate) fn go_command(toolchain: &crate::tools::GoToolchain) -> std::process::Command {
    go::go(toolchain)
}

/// Where the targets are: `LEAKWATCH_TARGETS`, or below cargo's target folder.
pub(crate) fn root() -> PathBuf {
    std::env::var_os("LEAKWATCH_TARGETS")
        .map_or_else(|| shell::work_dir().join("targets"), |dir| shell::root().join(dir))
}

/// Makes what is not up to date; a batch's targets one after another, two batches at a time, because linkers
/// leave a processor idle. Returns how many were built, and what failed.
fn make_all(batches: &[Vec<Target>]) -> (usize, Vec<String>) {
    let next = AtomicUsize::new(0);
    let built = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for target in batch {
                        match target.make_if_stale() {
                            Ok(true) => {
                                built.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(false) => {}
                            Err(error) => {
                                eprintln!("    {} FAILED: {error:#}", target.name);
                                let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                                failures.push(target.name.clone());
                            }
                        }
                    }
                }
            });
        }
    });
    (built.into_inner(), failures.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Target {
    fn matches(&self, words: &[String]) -> bool {
        words.iter().all(|word| self.name.split(' ').any(|part| part == word))
    }

    /// Makes the binary and its stamp unless both are there and up to date; tells whether it did.
    fn make_if_stale(&self) -> Result<bool> {
        let stamp = self.output.with_extension("stamp");
        let recipe = hash(&[self.recipe.as_bytes()]);
        if self.output.is_file() && fs::read_to_string(&stamp).is_ok_and(|kept| kept == recipe) {
            return Ok(false);
        }
        let started = shell::Stopwatch::start();
        let dir = self.output.parent().context("a target has a folder")?;
        fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
        // Made aside and moved: a running one stays whole, a broken-off build leaves nothing.
        let partial = self.output.with_extension(format!("partial-{}", std::process::id()));
        (self.make)(&partial)?;
        fs::rename(&partial, &self.output)
            .with_context(|| format!("failed to move {} into place", partial.display()))?;
        fs::write(&stamp, recipe).with_context(|| format!("failed to write {}", stamp.display()))?;
        println!("built {:<24} {:>6.1} s", self.name, started.seconds());
        Ok(true)
    }
}

/// Names and contents of the files in a folder, in the order of their names.
fn sources(dir: &Path) -> Result<String> {
    let entries = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("failed to read {}", dir.display()))?.path();
        if path.is_file() && path.extension().is_none_or(|extension| extension != "md") {
            files.push(path);
        }
    }
    files.sort();
    let mut parts = Vec::new();
    for file in &files {
        parts.push(file.file_name().unwrap_or_default().as_encoded_bytes().to_vec());
        parts.push(fs::read(file).with_context(|| format!("failed to read {}", file.display()))?);
    }
    Ok(hash(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// SHA-256 of the parts, each with its length, in hex.
fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_targets() {
        let target = Target {
            name: "go 1.21.13 pie".to_owned(),
            output: PathBuf::new(),
            recipe: String::new(),
            make: Box::new(|_| Ok(())),
        };
        for (words, chosen) in
            [("", true), ("1.21.13", true), ("go pie", true), ("1.21", false), ("pie 1.22.10", false)]
        {
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            assert_eq!(target.matches(&words), chosen, "{words:?}");
        }
    }

    #[test]
    fn a_target_is_built_once_for_each_recipe() {
        let dir = std::env::temp_dir().join(format!("xtask-targets-{}", std::process::id()));
        let mut target = Target {
            name: "x".to_owned(),
            output: dir.join("x"),
            recipe: "one".to_owned(),
            make: Box::new(|path| fs::write(path, "made").context("write")),
        };
        assert!(target.make_if_stale().expect("it builds"));
        assert!(!target.make_if_stale().expect("it is there"));
        target.recipe = "two".to_owned();
        assert!(target.make_if_stale().expect("it builds again"));
        fs::remove_file(&target.output).expect("it is there");
        assert!(target.make_if_stale().expect("a missing one is built"));
        fs::remove_dir_all(&dir).expect("it is there");
    }

    #[test]
    fn a_hash_knows_where_its_parts_end() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }
}
