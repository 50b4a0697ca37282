//! From a fresh clone to `leakwatch demo` running: plain stable Rust and the kept eBPF object, nothing else.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context, Result, bail};

use crate::shell;

/// `cargo xtask demo [ARGUMENT…]`: the arguments go to `leakwatch demo`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    shell::run(shell::cargo("build").args(["--release", "--locked", "--package", "leakwatch"]))
        .context("failed to build leakwatch")?;
    let leakwatch = shell::target_dir().join("release").join("leakwatch");
    let mut demo = if is_root() {
        shell::command(&leakwatch)
    } else {
        eprintln!("    watching needs root: starting it with sudo");
        let mut sudo = shell::command("sudo");
        sudo.arg(&leakwatch);
        sudo
    };
    demo.arg("demo").args(arguments);
    eprintln!("    $ {}", shell::line(&demo));
    // In our place, so that Ctrl-C and the exit code are the demo's own.
    let error = demo.exec();
    bail!("failed to start {}: {error}", leakwatch.display())
}

/// Whether we may watch other programs as we are.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
