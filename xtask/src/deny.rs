//! Checks licences, doubled crates and sources of every dependency: cargo-deny with deny.toml.
//!
//! Security advisories are left out: their database has to be fetched from elsewhere.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The version that is installed where there is none.
const VERSION: &str = "0.20.2";

/// `cargo xtask deny`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("`cargo xtask deny` takes no arguments");
    }
    let deny = installed()?;
    let mut check = shell::command(deny);
    check.args(["--locked", "--all-features", "check", "licenses", "bans", "sources"]);
    shell::run(&mut check)?;
    eprintln!(
        "    not checked: advisories (`cargo deny check advisories`, where their database can be fetched)"
    );
    Ok(())
}

fn installed() -> Result<PathBuf> {
    if let Some(deny) = shell::find_cargo_program("cargo-deny") {
        return Ok(deny);
    }
    eprintln!(
        "    installing cargo-deny {VERSION}, which checks the licences of what we depend on (a minute or two)"
    );
    let mut install = shell::cargo("install");
    install.args(["cargo-deny", "--version", VERSION, "--locked", "--no-default-features", "--root"]);
    install.arg(shell::cargo_tools_dir());
    // It runs for a second: the time to optimise it would never come back.
    install.args(["--debug"]).env("CARGO_PROFILE_DEV_DEBUG", "false").env_remove("CARGO_TARGET_DIR");
    shell::run(&mut install).context("failed to install cargo-deny")?;
    shell::find_cargo_program("cargo-deny").context("cargo-deny was installed and cannot be found")
}
