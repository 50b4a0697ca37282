//! Packages leakwatch: one static executable, and the Debian package with it, each tried in a root of its own. A test installs
//! the same package with the executable that is there anyway.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell;

/// The version of cargo-deb that is installed where there is none.
const CARGO_DEB: &str = "3.8.0";

/// What a package must have, besides documents.
const INSTALLED: [&str; 7] = [
    "usr/bin/leakwatch",
    "etc/leakwatch/agent.toml",
    "usr/lib/systemd/system/leakwatch-agent.service",
    "usr/share/man/man1/leakwatch.1.gz",
    "usr/share/bash-completion/completions/leakwatch",
    "usr/share/zsh/vendor-completions/_leakwatch",
    "usr/share/fish/vendor_completions.d/leakwatch.fish",
];

/// The profile of what is installed on hosts, in the workspace's Cargo.toml.
const DIST: &str = "dist";

/// `cargo xtask package [--debug] [--dynamic]`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut release, mut dynamic) = (true, false);
    for argument in arguments {
        match &**argument {
            "--debug" => release = false,
            "--dynamic" => dynamic = true,
            _ => bail!("`cargo xtask package` takes --debug, --dynamic, or nothing"),
        }
    }
    let target = (!dynamic).then(|| format!("{}-unknown-linux-musl", std::env::consts::ARCH));
    let profile = match (release, dynamic) {
        (false, _) => "dev",
        (true, false) => DIST,
        (true, true) => "release",
    };
    let binary = match &target {
        Some(target) => static_binary(target, profile)?,
        None => built_binary(profile)?,
    };
    let made = shell::work_dir().join("package");
    fs::create_dir_all(&made).with_context(|| format!("failed to make {}", made.display()))?;
    for (file, words) in [
        ("leakwatch.1", &["man"][..]),
        ("leakwatch.bash", &["completions", "bash"]),
        ("_leakwatch", &["completions", "zsh"]),
        ("leakwatch.fish", &["completions", "fish"]),
        ("agent.toml", &["agent", "--print-config"]),
    ] {
        let path = made.join(file);
        let text = shell::output(shell::command(&binary).args(words))?;
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    let package = made.join(if dynamic { "leakwatch-dynamic.deb" } else { "leakwatch.deb" });
    let mut deb = shell::command(cargo_deb()?);
    deb.args(["--package", "leakwatch", "--profile", profile, "--no-build", "--quiet", "--output"])
        .arg(&package);
    match &target {
        Some(target) => deb.args(["--target", target]),
        // This one is installed once, on a machine that is many times slower.
        None => deb.args(["--strip", "--fast"]),
    };
    shell::run(&mut deb)?;
    let root = made.join("root");
    unpack(&package, &root)?;
    if !dynamic {
        try_inside(&root)?;
    }
    println!("executable         {}", binary.display());
    println!("Debian package     {}", package.display());
    Ok(())
}

/// What `cargo build` made last: it needs the C library that this machine has.
fn built_binary(profile: &str) -> Result<PathBuf> {
    let binary = shell::target_dir().join(folder(profile)).join("leakwatch");
    if !binary.is_file() {
        bail!("there is no {}: `cargo build --profile {profile} -p leakwatch` makes it", binary.display());
    }
    Ok(binary)
}

/// Builds leakwatch against musl, which leaves nothing to find at run time.
fn static_binary(target: &str, profile: &str) -> Result<PathBuf> {
    if let Some(rustup) = shell::find_program("rustup", &[]) {
        shell::output(shell::command(rustup).args(["target", "add", target]))?;
    }
    if shell::find_program("musl-gcc", &[]).is_none() {
        bail!("needs musl-gcc: `apt-get install musl-tools`");
    }
    let mut build = shell::cargo("build");
    build.args(["--locked", "--package", "leakwatch", "--target", target, "--profile", profile]);
    shell::run(&mut build)?;
    Ok(shell::target_dir().join(target).join(folder(profile)).join("leakwatch"))
}

/// Where cargo puts what it builds with a profile.
fn folder(profile: &str) -> &str {
    if profile == "dev" { "debug" } else { profile }
}

/// What makes Debian packages, installed where there is none.
pub(crate) fn cargo_deb() -> Result<PathBuf> {
    if let Some(found) = shell::find_cargo_program("cargo-deb") {
        return Ok(found);
    }
    eprintln!("    installing cargo-deb {CARGO_DEB}, which makes Debian packages (some minutes)");
    let mut install = shell::cargo("install");
    install.args(["cargo-deb", "--version", CARGO_DEB, "--locked", "--debug", "--root"]);
    install
        .arg(shell::cargo_tools_dir())
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env_remove("CARGO_TARGET_DIR");
    shell::run(&mut install).context("failed to install cargo-deb")?;
    shell::find_cargo_program("cargo-deb").context("cargo-deb was installed and cannot be found")
}

/// Unpacks the package into an empty root, and looks whether all is there.
fn unpack(package: &Path, root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("failed to remove {}", root.display()))?;
    }
    shell::output(shell::command("dpkg-deb").arg("-x").arg(package).arg(root))?;
    for file in INSTALLED {
        if !root.join(file).is_file() {
            bail!("{} has no /{file}", package.display());
        }
    }
    print!("{}", shell::output(shell::command("dpkg-deb").arg("--info").arg(package))?);
    Ok(())
}

/// Runs leakwatch in the root that it was unpacked into: no library, no file of this machine is in reach.
fn try_inside(root: &Path) -> Result<()> {
    let inside =
        |words: &[&str]| shell::run(shell::command("chroot").arg(root).arg("/usr/bin/leakwatch").args(words));
    inside(&["--version"])?;
    inside(&["agent", "--check-config", "--config", "/etc/leakwatch/agent.toml"])
}
