//! Puts the eBPF object where `kernel/object.rs` embeds it from, and tells the source revision.
//!
//! The object is the kept one, so that plain stable Rust is enough; `LEAKWATCH_EBPF_OBJECT` names another
//! (CI embeds the one that it has just built). Embed it aligned:
//! `aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leakwatch.bpf.o"))`.
//!
//! Sets `LEAKWATCH_REVISION` (git's short hash; `unknown` without git, `dev` in debug builds) and
//! `LEAKWATCH_EBPF_ORIGIN` (`kept`, or `given` when the variable named the object).

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// Names the object to embed instead of the kept one.
const GIVEN: &str = "LEAKWATCH_EBPF_OBJECT";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={GIVEN}");
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rustc-env=LEAKWATCH_REVISION={}", revision(&manifest_dir));
    match place_object(&manifest_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            println!("cargo::error={text}");
            ExitCode::FAILURE
        }
    }
}

fn place_object(manifest_dir: &Path) -> Result<(), String> {
    let given = env::var_os(GIVEN).filter(|path| !path.is_empty());
    let origin = if given.is_some() { "given" } else { "kept" };
    println!("cargo::rustc-env=LEAKWATCH_EBPF_ORIGIN={origin}");
    let object = given.map_or_else(|| manifest_dir.join("ebpf").join("leakwatch.bpf.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());

    let bytes = fs::read(&object).map_err(|error| {
        let fix =
            if origin == "given" { "name an existing object, or unset it" } else { "run `cargo xtask ebpf`" };
        format!("failed to read the eBPF object {} ({origin}): {error}; {fix}", object.display())
    })?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(format!("{} ({origin}) is not an ELF object", object.display()));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("leakwatch.bpf.o");
    fs::write(&out, bytes).map_err(|error| format!("failed to write {}: {error}", out.display()))
}

/// The revision of the sources, for bug reports. Never a reason to fail.
fn revision(manifest_dir: &Path) -> String {
    // A debug build would be rebuilt by every commit, only to be told apart from the one before.
    if env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return "dev".to_owned();
    }
    revision_from_git(manifest_dir).unwrap_or_else(|| "unknown".to_owned())
}

fn revision_from_git(manifest_dir: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(manifest_dir).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // A copy of the sources may lie inside somebody else's repository.
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if fs::canonicalize(top).ok()? != fs::canonicalize(manifest_dir.parent()?).ok()? {
        return None;
    }
    // HEAD names a branch; a commit changes the branch's own file, or the packed list when it has none.
    let head = git(&["rev-parse", "--symbolic-full-name", "HEAD"])?;
    for name in ["HEAD", head.as_str(), "packed-refs"] {
        let file = manifest_dir.join(git(&["rev-parse", "--git-path", name])?);
        // A watched file that is not there would make every build run this again.
        if file.is_file() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    git(&["rev-parse", "--short", "HEAD"])
}
