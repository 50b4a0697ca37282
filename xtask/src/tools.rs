//! Installs what builds and tests need and a bare machine lacks; it asks nothing and can be run again.
//!
//! Nearly everything goes below `target/leakwatch/tools`, so the host stays as it is: Debian packages are
//! unpacked there, which also starts no service. Only what must be installed is (compilers with their
//! libraries, bpftrace). Each step says on one line what it fetches and why; a step that finds its result
//! there says nothing. Packages are asked for by name from the registries that the machine is set up for.

mod apt;
mod browser;
mod deploy;
mod fetch;
mod go;
mod kernel_side;
mod libuv;
mod machine;
mod rust;
mod third_party;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{package, shell};

pub(crate) use browser::{Package, npm};
pub(crate) use deploy::chart_tools;
pub(crate) use go::{GoToolchain, go_toolchains};
pub(crate) use kernel_side::{bpf_linker, bpftrace, ebpf_toolchain};
pub(crate) use libuv::libuv;
pub(crate) use rust::{RustToolchain, rust_toolchain};
pub(crate) use third_party::{MONITORING, PROGRAMS as THIRD_PARTY, third_party};

/// Below this everything is kept.
fn dir() -> PathBuf {
    shell::work_dir().join("tools")
}

/// `cargo xtask tools [go] [third-party] [monitoring] [ebpf] [bpftrace] [java] [tmux] [deploy] [network] [browser] [machine]`: these, or all of them.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    const ALL: [&str; 11] = [
        "go",
        "third-party",
        "monitoring",
        "ebpf",
        "bpftrace",
        "java",
        "tmux",
        "deploy",
        "network",
        "browser",
        "machine",
    ];
    let mut wanted: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(unknown) = wanted.iter().find(|name| !ALL.contains(name)) {
        bail!("`cargo xtask tools` does not know {unknown:?}; it knows {}", ALL.join(", "));
    }
    if wanted.is_empty() {
        wanted = ALL.to_vec();
    }
    let mut failures = Vec::new();
    for name in wanted {
        if let Err(error) = install(name) {
            eprintln!("    {name} FAILED: {error:#}");
            failures.push(name);
        }
    }
    if !failures.is_empty() {
        bail!("not installed: {}", failures.join(", "));
    }
    Ok(())
}

/// A JVM that compiles what it runs, for the live tests of Java; Debian's, where there is none.
fn java() -> Result<PathBuf> {
    let java = PathBuf::from("/usr/bin/java");
    if !java.is_file() || !java.with_file_name("javac").is_file() {
        apt::install(&["default-jdk-headless"], "live tests watch a Java program")?;
    }
    Ok(java)
}

/// A terminal that tests can look at; Debian's, where there is none.
fn tmux() -> Result<()> {
    apt::install(&["tmux"], "live tests run leakwatch on a terminal and look at it")
}

/// Network namespaces and links between them; Debian's, where there is none.
fn network() -> Result<()> {
    apt::install(&["iproute2"], "a live test has two hosts, each a network namespace")
}

fn install(name: &str) -> Result<()> {
    match name {
        "go" => {
            for toolchain in go_toolchains()? {
                println!("go {:<10} {}", toolchain.version, toolchain.go.display());
            }
        }
        "third-party" => {
            let mut failures = Vec::new();
            for program in THIRD_PARTY {
                match third_party(program.name) {
                    Ok(path) => println!("{:<13} {}", program.name, path.display()),
                    Err(error) => failures.push(format!("{}: {error:#}", program.name)),
                }
            }
            if !failures.is_empty() {
                bail!("{}", failures.join("; "));
            }
        }
        "monitoring" => {
            for name in MONITORING {
                println!("{name:<13} {}", third_party(name)?.display());
            }
        }
        "tmux" => tmux()?,
        "browser" => browser::install()?,
        "deploy" => {
            println!("charts        {}", chart_tools()?.display());
            println!("systemd       {}", deploy::systemd()?.display());
            println!("engines       {}", deploy::engines()?.display());
        }
        "network" => network()?,
        "machine" => {
            println!("machine       {}", machine::machine()?.display());
            println!("cargo-deb     {}", package::cargo_deb()?.display());
        }
        "java" => println!("java          {}", java()?.display()),
        "ebpf" => println!("bpf-linker    {}", ebpf_toolchain()?.display()),
        "bpftrace" => println!("bpftrace      {}", bpftrace()?.display()),
        _ => bail!("unknown part {name:?}"),
    }
    Ok(())
}
