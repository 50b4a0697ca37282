//! What builds the kernel side from source, and what the overhead bench compares with.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{apt, fetch};
use crate::shell;

/// Debian's compiler with its library's sources, and the LLVM that bpf-linker is built against.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "llvm-22-dev"];
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const BPF_LINKER: &str = "0.13.0";

/// Makes `cargo xtask ebpf` possible; returns the bpf-linker.
pub(crate) fn ebpf_toolchain() -> Result<PathBuf> {
    apt::install(&PACKAGES, "a compiler and LLVM for the kernel side")?;
    if let Some(linker) = bpf_linker() {
        return Ok(linker);
    }
    println!("installing bpf-linker {BPF_LINKER} from crates.io: it links the kernel side");
    fetch::three_times(|| {
        let mut install = shell::cargo("install");
        install
            .args(["bpf-linker", "--version", BPF_LINKER, "--locked", "--quiet"])
            .args(["--no-default-features", "--features", "llvm-22", "--root"])
            .arg(shell::cargo_tools_dir())
            .env("LLVM_PREFIX", LLVM_PREFIX);
        shell::run(&mut install)
    })?;
    bpf_linker().with_context(|| format!("bpf-linker {BPF_LINKER} is not there after installing it"))
}

/// A bpf-linker of the version that we build with.
fn bpf_linker() -> Option<PathBuf> {
    let linker = shell::find_cargo_program("bpf-linker")?;
    let version = shell::output(shell::command(&linker).arg("--version")).ok()?;
    version.split_whitespace().any(|word| word == BPF_LINKER).then_some(linker)
}

/// bpftrace, which the overhead bench measures against.
pub(crate) fn bpftrace() -> Result<PathBuf> {
    if let Some(path) = shell::find_program("bpftrace", &[]) {
        return Ok(path);
    }
    apt::install(&["bpftrace"], "the overhead bench measures against it")?;
    shell::find_program("bpftrace", &[]).context("bpftrace is not there after installing it")
}
