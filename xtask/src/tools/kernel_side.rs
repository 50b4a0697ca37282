//! What builds the kernel side from source, and what the overhead bench compares with.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{apt, fetch};
use crate::{ebpf, shell};

/// Debian's compiler with its library's sources, for who has no rustup nightly with rust-src.
const COMPILER: [&str; 2] = ["rustc-web", "rust-web-src"];
/// What bpf-linker is built against.
const LLVM: &str = "llvm-22-dev";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const BPF_LINKER: &str = "0.13.0";

/// Makes `cargo xtask ebpf` possible; returns the bpf-linker.
pub(crate) fn ebpf_toolchain() -> Result<PathBuf> {
    if !ebpf::has_compiler() {
        // An old list may name a release of it that cannot build the kernel side.
        apt::install_newest(&COMPILER, "a compiler for the kernel side, with its library's sources")?;
    }
    if let Some(linker) = bpf_linker() {
        return Ok(linker);
    }
    apt::install(&[LLVM], "bpf-linker is built against it")?;
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

/// A bpf-linker of the version that we build with: ours, or the user's.
pub(crate) fn bpf_linker() -> Option<PathBuf> {
    let ours = shell::cargo_tools_dir().join("bin").join("bpf-linker");
    [Some(ours), shell::find_cargo_program("bpf-linker")].into_iter().flatten().find(|linker| {
        let version = shell::output(shell::command(linker).arg("--version"));
        version.is_ok_and(|text| text.split_whitespace().any(|word| word == BPF_LINKER))
    })
}

/// bpftrace, which the overhead bench measures against.
pub(crate) fn bpftrace() -> Result<PathBuf> {
    if let Some(path) = shell::find_program("bpftrace", &[]) {
        return Ok(path);
    }
    apt::install(&["bpftrace"], "the overhead bench measures against it")?;
    shell::find_program("bpftrace", &[]).context("bpftrace is not there after installing it")
}
