//! `tests/targets/go/truth` with every Go release, in every flavour; `tests/targets/go/prove` in those that matter to proofs,
//! and a program with a plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Target, root, sources};
use crate::shell;
use crate::tools::{GoToolchain, go_toolchains};

/// One way to build the program.
#[derive(Clone, Copy)]
struct Flavour {
    name: &'static str,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    /// By `go build`.
    Build { environment: &'static [(&'static str, &'static str)], arguments: &'static [&'static str] },
    /// The plain binary after binutils' strip.
    Strip,
}

const NO_CGO: (&str, &str) = ("CGO_ENABLED", "0");

/// All flavours; what a later one is made of comes earlier.
const FLAVOURS: [Flavour; 7] = [
    Flavour { name: "plain", how: How::Build { environment: &[NO_CGO], arguments: &[] } },
    Flavour { name: "strip", how: How::Strip },
    Flavour {
        name: "stripped",
        how: How::Build { environment: &[NO_CGO], arguments: &["-trimpath", "-ldflags=-s -w"] },
    },
    Flavour { name: "pie", how: How::Build { environment: &[NO_CGO], arguments: &["-buildmode=pie"] } },
    Flavour {
        name: "cgo",
        how: How::Build {
            environment: &[("CGO_ENABLED", "1")],
            arguments: &["-tags=truthcgo", "-ldflags=-linkmode=external"],
        },
    },
    Flavour {
        name: "plugin",
        how: How::Build { environment: &[("CGO_ENABLED", "1")], arguments: &["-buildmode=plugin"] },
    },
    // For inspection only.
    Flavour {
        name: "arm64",
        how: How::Build { environment: &[NO_CGO, ("GOARCH", "arm64")], arguments: &[] },
    },
];

/// The programs, and their flavours.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("truth", &["plain", "strip", "stripped", "pie", "cgo", "arm64"]),
    ("prove", &["plain", "stripped", "pie", "cgo"]),
    ("plugged", &["cgo"]),
    ("plug", &["plugin"]),
];

/// Plugins need all of Go's library built anew for them: the oldest and the newest release have to do.
const WITH_PLUGINS: [&str; 2] = ["1.19", "1.27.3"];

/// What programs need besides: the release and the program, and the variable. The runtime of 1.26 has its own profile of
/// leaked goroutines only so; 1.27 has it always. Arenas are an experiment in all of them.
const EXPERIMENTS: [(&str, &str, (&str, &str)); 2] = [
    ("1.25.5", "prove", ("GOEXPERIMENT", "arenas")),
    ("1.26.6", "prove", ("GOEXPERIMENT", "goroutineleakprofile")),
];

/// The binaries of each release are one batch.
pub(super) fn targets() -> Result<Vec<Vec<Target>>> {
    let mut programs = Vec::new();
    for (name, flavours) in PROGRAMS {
        let folder = shell::root().join("tests/targets/go").join(name);
        programs.push((name, flavours, sources(&folder)?, folder));
    }
    go_toolchains()?
        .iter()
        .map(|toolchain| {
            let identity = toolchain.identity()?;
            let mut batch = Vec::new();
            for (name, flavours, sources, folder) in &programs {
                if name.starts_with("plug") && !WITH_PLUGINS.contains(&toolchain.version) {
                    continue;
                }
                for flavour in FLAVOURS.iter().filter(|flavour| flavours.contains(&flavour.name)) {
                    batch.push(target(toolchain, *flavour, name, folder, &format!("{sources} {identity}")));
                }
            }
            Ok(batch)
        })
        .collect()
}

fn target(
    toolchain: &GoToolchain,
    flavour: Flavour,
    name: &'static str,
    program: &Path,
    inputs: &str,
) -> Target {
    let home = root().join("go").join(toolchain.version);
    let experiment = EXPERIMENTS
        .into_iter()
        .find(|(release, program, _)| *release == toolchain.version && *program == name)
        .map(|(.., variable)| variable);
    let made_of = match flavour.how {
        How::Build { environment, arguments } => {
            format!(
                "{environment:?} {arguments:?}{}",
                experiment.map_or_else(String::new, |set| format!("{set:?}"))
            )
        }
        How::Strip => "strip of plain".to_owned(),
    };
    let (toolchain, program) = (toolchain.clone(), program.to_owned());
    let suffix = if name == "truth" { String::new() } else { format!(" {name}") };
    Target {
        name: format!("go {} {}{suffix}", toolchain.version, flavour.name),
        output: home.join(flavour.name).join(name),
        recipe: format!("{inputs} {} {made_of}", module("truth", toolchain.version)),
        make: Box::new(move |output| match flavour.how {
            How::Build { environment, arguments } => {
                let module_file = write_module(&home, toolchain.version, flavour.name)?;
                let mut go = go(&toolchain);
                go.current_dir(&program).arg("build").arg("-modfile").arg(module_file).args(arguments);
                go.envs(environment.iter().copied()).envs(experiment).arg("-o").arg(output).arg(".");
                shell::output(&mut go).map(drop)
            }
            How::Strip => {
                let plain = home.join("plain").join("truth");
                shell::output(shell::command("strip").arg("-o").arg(output).arg(plain)).map(drop)
            }
        }),
    }
}

/// A module file of the toolchain's own language version: Go's compatibility settings (GODEBUG) follow it,
/// and a runtime of 1.27 is to run as one of 1.27.
pub(super) fn module(name: &str, version: &str) -> String {
    let mut parts = version.split('.');
    let language = format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("module {name}\n\ngo {language}\n")
}

fn write_module(home: &Path, version: &str, flavour: &str) -> Result<PathBuf> {
    let file = home.join(flavour).join("go.mod");
    fs::write(&file, module("truth", version))
        .with_context(|| format!("failed to write {}", file.display()))?;
    Ok(file)
}

/// The go command, on its own: no settings of this machine, no network, caches below the targets.
pub(super) fn go(toolchain: &GoToolchain) -> Command {
    let mut go = shell::command(&toolchain.go);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GO") || text.starts_with("CGO_") {
            go.env_remove(&name);
        }
    }
    let caches = shell::work_dir();
    go.env("GOCACHE", caches.join("gocache"))
        .env("GOPATH", caches.join("gopath"))
        // Go keeps telemetry counters below the user's settings.
        .env("XDG_CONFIG_HOME", caches.join("gopath"))
        .env("GOENV", "off")
        .env("GOFLAGS", "-mod=mod -buildvcs=false")
        .env("GOPROXY", "off")
        .env("GOSUMDB", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOOS", "linux")
        .env("GOARCH", "amd64");
    go
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_has_the_language_of_its_toolchain() {
        assert_eq!(module("truth", "1.27.3"), "module truth\n\ngo 1.27\n");
        assert_eq!(module("truth", "1.19"), "module truth\n\ngo 1.19\n");
    }

    #[test]
    fn what_is_stripped_is_built_before() {
        let place = |name| FLAVOURS.iter().position(|flavour| flavour.name == name);
        assert!(place("plain") < place("strip"));
    }
}
