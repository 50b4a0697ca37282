//! `tests/targets/tokio` with one version of tokio after the other, in the flavours that matter for each.
//!
//! The newest version is built in every flavour, the older ones in those that decide what is found: with symbols,
//! with link-time optimization, and stripped. Each version has a lockfile in the program's `locks` folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Target, hash, root, sources};
use crate::shell;
use crate::tools::{RustToolchain, rust_toolchain};

/// A version of tokio, and which of the program's features it can have.
#[derive(Clone, Copy)]
struct Release {
    version: &'static str,
    features: &'static str,
    flavours: &'static [&'static str],
}

/// Every version that is built, oldest first; between two of them the layout of a task or its life changed. Not
/// every flavour of each: what an optimization does to tokio's code differs little between neighbours.
const RELEASES: [Release; 5] = [
    Release {
        version: "1.20.6",
        features: "",
        flavours: &["release", "strip", "lto", "lto-strip", "rustc-1.63", "rustc-1.63-strip"],
    },
    Release { version: "1.28.2", features: "joinset", flavours: &["lto", "lto-strip"] },
    Release { version: "1.36.0", features: "joinset", flavours: &["release", "strip"] },
    Release {
        version: "1.43.4",
        features: "joinset,alive",
        flavours: &["lto", "lto-strip", "rustc-1.85", "rustc-1.85-strip"],
    },
    Release {
        version: "1.54.1",
        features: "joinset,alive",
        flavours: &[
            "release",
            "debug",
            "debuginfo",
            "lto",
            "small",
            "tiny",
            "v0",
            "unstable",
            "static",
            "strip",
            "lto-strip",
            "small-strip",
            "tiny-strip",
            "v0-strip",
            "static-strip",
        ],
    },
];

/// How a flavour is made.
#[derive(Clone, Copy)]
enum How {
    /// By cargo, with this profile of the program's manifest and these flags of rustc.
    Cargo { profile: &'static str, flags: &'static [&'static str] },
    /// The same, release, by an older rustc.
    Rustc(&'static str),
    /// The binary of this flavour after binutils' strip; what cargo's `strip = true` makes.
    Strip(&'static str),
}

/// All flavours; what a later one is made of comes earlier.
const FLAVOURS: [(&str, How); 19] = [
    ("release", How::Cargo { profile: "release", flags: &[] }),
    ("debug", How::Cargo { profile: "dev", flags: &[] }),
    ("debuginfo", How::Cargo { profile: "debuginfo", flags: &[] }),
    ("lto", How::Cargo { profile: "lto", flags: &[] }),
    ("small", How::Cargo { profile: "small", flags: &[] }),
    // Size, link-time optimization and panic=abort together.
    ("tiny", How::Cargo { profile: "tiny", flags: &[] }),
    // With packed relocations, which nothing has to do with the mangling: one build less.
    (
        "v0",
        How::Cargo {
            profile: "release",
            flags: &["-Csymbol-mangling-version=v0", "-Clink-arg=-Wl,-z,pack-relative-relocs"],
        },
    ),
    ("unstable", How::Cargo { profile: "release", flags: &["--cfg", "tokio_unstable"] }),
    ("static", How::Cargo { profile: "release", flags: &["-Crelocation-model=static"] }),
    ("rustc-1.63", How::Rustc("1.63")),
    ("rustc-1.85", How::Rustc("1.85")),
    ("strip", How::Strip("release")),
    ("lto-strip", How::Strip("lto")),
    ("small-strip", How::Strip("small")),
    ("tiny-strip", How::Strip("tiny")),
    ("v0-strip", How::Strip("v0")),
    ("static-strip", How::Strip("static")),
    ("rustc-1.63-strip", How::Strip("rustc-1.63")),
    ("rustc-1.85-strip", How::Strip("rustc-1.85")),
];

/// The version in the program's own manifest, which is replaced for the others.
const NEWEST: &str = RELEASES[RELEASES.len() - 1].version;

/// The binaries of each version are one batch; the newest first, as it takes longest.
pub(super) fn targets() -> Result<Vec<Vec<Target>>> {
    let program = Program::read("truth")?;
    let rustc = shell::output(shell::command(rustc()).arg("-vV"))?;
    let mut batches = Vec::new();
    for release in RELEASES.iter().rev() {
        let mut batch = Vec::new();
        for (name, how) in FLAVOURS.iter().filter(|(name, _)| release.flavours.contains(name)) {
            batch.push(target(&program, release, name, *how, &rustc)?);
        }
        batches.push(batch);
    }
    batches.push(vec![two(&rustc)?]);
    Ok(batches)
}

/// The compiler that the workspace is built with.
fn rustc() -> PathBuf {
    std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from)
}

/// A program below `tests/targets/tokio`.
#[derive(Clone)]
struct Program {
    home: PathBuf,
    manifest: String,
    /// Of all that is compiled.
    hash: String,
}

impl Program {
    fn read(name: &str) -> Result<Self> {
        let home = shell::root().join("tests/targets/tokio").join(name);
        let manifest = read(&home.join("Cargo.toml"))?;
        let hash = hash(&[manifest.as_bytes(), sources(&home.join("src"))?.as_bytes()]);
        Ok(Self { home, manifest, hash })
    }

    fn lockfile(&self, version: &str) -> Result<String> {
        read(&self.home.join("locks").join(format!("{version}.lock")))
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
}

fn target(
    program: &Program,
    release: &'static Release,
    flavour: &'static str,
    how: How,
    rustc: &str,
) -> Result<Target> {
    let home = root().join("tokio").join(release.version);
    let lockfile = program.lockfile(release.version)?;
    let made_of = match how {
        How::Cargo { profile, flags } => format!("{rustc} {profile} {flags:?}"),
        How::Rustc(version) => format!("Debian's rustc {version}"),
        How::Strip(of) => format!("{rustc} strip of {of}"),
    };
    let recipe = hash(&[
        program.hash.as_bytes(),
        lockfile.as_bytes(),
        release.features.as_bytes(),
        made_of.as_bytes(),
    ]);
    let program = program.clone();
    Ok(Target {
        name: format!("tokio {} {flavour}", release.version),
        output: home.join(flavour).join("truth"),
        recipe,
        make: Box::new(move |output| {
            let package = home.join("package");
            match how {
                How::Strip(of) => {
                    let whole = home.join(of).join("truth");
                    shell::output(shell::command("strip").arg("-o").arg(output).arg(whole)).map(drop)
                }
                How::Cargo { profile, flags } => {
                    write_package(&program, release, &package, &lockfile)?;
                    let mut cargo = plain(shell::cargo("build"));
                    cargo.args(["--profile", profile]).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
                    build(cargo, release, &package)?;
                    take(&package, if profile == "dev" { "debug" } else { profile }, output)
                }
                How::Rustc(version) => {
                    let toolchain = rust_toolchain(version)?;
                    write_package(&program, release, &package, &lockfile)?;
                    let mut cargo = older(&toolchain, &package)?;
                    cargo.args(["--profile", "release"]);
                    build(cargo, release, &package)?;
                    take(&package, "release", output)
                }
            }
        }),
    })
}

/// Two versions of tokio in one program: the older one's source lies beside it, as cargo would make one of two
/// that come from one place.
fn two(rustc: &str) -> Result<Target> {
    let program = Program::read("two")?;
    let (truth, oldest) = (Program::read("truth")?, &RELEASES[0]);
    let lockfile = program.lockfile(NEWEST)?;
    let old_lockfile = truth.lockfile(oldest.version)?;
    let home = root().join("tokio").join("two");
    let parts = [rustc, &program.hash, &lockfile, &old_lockfile];
    Ok(Target {
        name: "tokio two release".to_owned(),
        output: home.join("release").join("two"),
        recipe: hash(&parts.map(str::as_bytes)),
        make: Box::new(move |output| {
            let older = home.join("older");
            write_package(&truth, oldest, &older, &old_lockfile)?;
            let vendored = vendored(&older)?;
            let package = home.join("package");
            let source = vendored.join(format!("tokio-{}", oldest.version));
            let manifest = program.manifest.replace("../older/vendored/tokio", &source.to_string_lossy());
            write(&package, &with_sources(&manifest, "two", &program), &lockfile)?;
            let mut cargo = plain(shell::cargo("build"));
            cargo.args(["--profile", "release", "--locked", "--quiet", "--manifest-path"]);
            cargo.arg(package.join("Cargo.toml")).env("CARGO_TARGET_DIR", package.join("target"));
            shell::output(&mut cargo)?;
            copy(&package.join("target/release/two"), output)
        }),
    })
}

/// The program's manifest with this version of tokio, and the lockfile, in a folder of their own.
fn write_package(program: &Program, release: &Release, package: &Path, lockfile: &str) -> Result<()> {
    let manifest = program.manifest.replace(&format!("={NEWEST}"), &format!("={}", release.version));
    write(package, &with_sources(&manifest, "truth", program), lockfile)
}

/// The sources stay where they are.
fn with_sources(manifest: &str, name: &str, program: &Program) -> String {
    let main = program.home.join("src").join("main.rs");
    format!("{manifest}\n[[bin]]\nname = \"{name}\"\npath = {:?}\n", main.display().to_string())
}

fn write(package: &Path, manifest: &str, lockfile: &str) -> Result<()> {
    fs::create_dir_all(package)
        .and_then(|()| fs::write(package.join("Cargo.toml"), manifest))
        .and_then(|()| fs::write(package.join("Cargo.lock"), lockfile))
        .with_context(|| format!("failed to write {}", package.display()))
}

/// The sources of the package's dependencies, as `cargo vendor` lays them down.
fn vendored(package: &Path) -> Result<PathBuf> {
    let vendored = package.join("vendored");
    let mut vendor = plain(shell::cargo("vendor"));
    vendor
        .args(["--locked", "--quiet", "--versioned-dirs", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg(&vendored);
    shell::output(&mut vendor)?;
    Ok(vendored)
}

fn build(mut cargo: Command, release: &Release, package: &Path) -> Result<()> {
    cargo.args(["--locked", "--quiet", "--no-default-features", "--features", release.features]);
    cargo.arg("--manifest-path").arg(package.join("Cargo.toml"));
    cargo.env("CARGO_TARGET_DIR", package.join("target")).env("TRUTH_TOKIO_VERSION", release.version);
    shell::output(&mut cargo).map(drop)
}

/// `cargo build` of an older toolchain, which finds the crates in a folder: it cannot ask today's registry.
fn older(toolchain: &RustToolchain, package: &Path) -> Result<Command> {
    let vendored = vendored(package)?;
    let mut cargo = match &toolchain.cargo {
        Some(older) => {
            let mut cargo = shell::command(older);
            cargo.arg("build");
            plain(cargo)
        }
        None => plain(shell::cargo("build")),
    };
    cargo.args(["--offline", "--config", "source.crates-io.replace-with=\"vendored\"", "--config"]);
    cargo.arg(format!("source.vendored.directory={:?}", vendored.display().to_string()));
    cargo.env("RUSTC", &toolchain.rustc).env("LD_LIBRARY_PATH", &toolchain.libraries);
    Ok(cargo)
}

/// Nothing of this machine's settings decides how a target is built.
fn plain(mut cargo: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let decides = text.starts_with("CARGO_PROFILE_") || text.starts_with("CARGO_BUILD_");
        if decides || text == "RUSTFLAGS" || text == "CARGO_ENCODED_RUSTFLAGS" || text == "RUSTC_WRAPPER" {
            cargo.env_remove(&name);
        }
    }
    cargo
}

fn take(package: &Path, folder: &str, output: &Path) -> Result<()> {
    copy(&package.join("target").join(folder).join("truth"), output)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("failed to copy {}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stripped_is_built_before() {
        let place = |wanted: &str| FLAVOURS.iter().position(|(name, _)| *name == wanted);
        for (name, how) in FLAVOURS {
            if let How::Strip(of) = how {
                assert!(place(of) < place(name), "{name}");
                for release in RELEASES.iter().filter(|release| release.flavours.contains(&name)) {
                    assert!(release.flavours.contains(&of), "{} {name}", release.version);
                }
            }
        }
    }

    #[test]
    fn every_flavour_of_a_release_is_known() {
        for release in RELEASES {
            for flavour in release.flavours {
                assert!(FLAVOURS.iter().any(|(name, _)| name == flavour), "{} {flavour}", release.version);
            }
        }
    }

    #[test]
    fn the_manifest_is_of_the_newest() {
        let manifest = include_str!("../../../tests/targets/tokio/truth/Cargo.toml");
        assert_eq!(manifest.matches(&format!("={NEWEST}")).count(), 1);
    }
}
