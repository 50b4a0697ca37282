//! Holds the repository's shape: what may import what, and the small promises that no compiler checks.
//!
//! The floors and their reasons are data in `tidy/floors.rs`. Every check is a pure function from a file's
//! text to findings, so that each has tests with deliberately wrong snippets. Looks at the files git knows or
//! would add; never changes one.

mod counters;
mod floors;
mod imports;
mod manifests;
mod table;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    /// 0 when it concerns the whole file.
    line: usize,
    text: String,
}

impl Finding {
    fn new(file: &str, line: usize, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.text)
        } else {
            write!(f, "{}:{}: {}", self.file, self.line, self.text)
        }
    }
}

/// `cargo xtask tidy`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("`cargo xtask tidy` takes no arguments");
    }
    let root = shell::root();
    let files = known_files()?;
    let mut findings = floors::faults_of_the_table();
    let mut edges = floors::Edges::default();
    for file in &files {
        let Ok(bytes) = fs::read(root.join(file)) else {
            continue; // Deleted in the working tree, or a link to a folder.
        };
        let Ok(content) = std::str::from_utf8(&bytes) else {
            continue; // Not text.
        };
        findings.extend(check_file(file, content, &mut edges));
    }
    findings.extend(edges.cycles());
    findings.extend(counters::check_uses(&read(&root, counters::LIST)?, &kernel_side(&root, &files)?));

    findings.sort();
    findings.dedup();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("1 finding"),
        n => bail!("{n} findings"),
    }
}

/// Everything that can be said by looking at one file.
fn check_file(file: &str, content: &str, edges: &mut floors::Edges) -> Vec<Finding> {
    let mut findings = text::check(file, content);
    if file.ends_with("Cargo.toml") {
        findings.extend(manifests::check(file, content));
    }
    if file.ends_with(table::NAME) {
        findings.extend(table::check(file, content));
    }
    if !is_rust(file) {
        return findings;
    }
    let parsed = match syn::parse_file(content) {
        Ok(parsed) => parsed,
        Err(error) => {
            findings.push(Finding::new(file, error.span().start().line, format!("does not parse: {error}")));
            return findings;
        }
    };
    findings.extend(text::check_rust(file, content, &parsed));
    findings.extend(floors::check(file, &parsed, edges));
    if file == counters::LIST {
        findings.extend(counters::check_list(file, &parsed));
    }
    findings
}

fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "rs")
}

/// The files that git has, and those that the next commit would add.
fn known_files() -> Result<Vec<String>> {
    let listed = shell::output(shell::command("git").args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
    .context("failed to list the repository's files")?;
    let mut files: Vec<String> = listed.split_terminator('\0').map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn kernel_side(root: &Path, files: &[String]) -> Result<String> {
    files
        .iter()
        .filter(|file| file.starts_with("leakwatch-ebpf/src/") && root.join(file).exists())
        .map(|file| read(root, file))
        .collect()
}

fn read(root: &Path, file: &str) -> Result<String> {
    fs::read_to_string(root.join(file)).with_context(|| format!("failed to read {file}"))
}
