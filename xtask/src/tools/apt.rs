//! Debian's packages: installed into the host, or only unpacked into a folder of ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::fetch::three_times;
use crate::{demo, shell};

/// Options of every call: patient with another apt that runs, and with slow mirrors; asks nothing.
const OPTIONS: [&str; 8] = [
    "-o",
    "DPkg::Lock::Timeout=300",
    "-o",
    "Acquire::Retries=3",
    "-o",
    "Acquire::http::Timeout=60",
    "-o",
    "APT::Sandbox::User=root",
];

/// Installs those of `packages` that are not installed; `why` is for the reader.
pub(super) fn install(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {} from Debian: {why}", missing.join(" "));
    with_lists(|| install_now(&missing))
}

/// Installs `packages` in the newest version that Debian has today, also when an older one is installed or an old list
/// names one.
pub(super) fn install_newest(packages: &[&str], why: &str) -> Result<()> {
    println!("installing {} from Debian: {why}", packages.join(" "));
    with_new_lists(|| install_now(packages))
}

fn install_now(packages: &[&str]) -> Result<()> {
    let mut apt = apt_get(demo::is_root());
    apt.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
    shell::output(&mut apt).map(drop)
}

/// Unpacks `packages` below `out` without installing them: no script of theirs runs, no service starts.
pub(super) fn unpack(packages: &[&str], out: &Path) -> Result<()> {
    let downloads = out.join("deb");
    fs::create_dir_all(&downloads).with_context(|| format!("failed to make {}", downloads.display()))?;
    with_lists(|| {
        let mut apt = apt_get(true);
        apt.arg("download").args(packages).current_dir(&downloads);
        shell::output(&mut apt).map(drop)
    })?;
    let entries =
        fs::read_dir(&downloads).with_context(|| format!("failed to read {}", downloads.display()))?;
    for entry in entries {
        let package = entry.with_context(|| format!("failed to read {}", downloads.display()))?.path();
        shell::output(shell::command("dpkg-deb").arg("-x").arg(&package).arg(out))?;
    }
    fs::remove_dir_all(&downloads).with_context(|| format!("failed to remove {}", downloads.display()))
}

/// Tries with the package lists as they are, and with new ones when that fails: a fresh machine has none, an
/// old machine's name packages that are gone.
fn with_lists(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    if have_lists() {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("      again with new package lists: {error:#}"),
        }
    }
    with_new_lists(attempt)
}

fn with_new_lists(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    three_times(|| {
        shell::output(apt_get(demo::is_root()).args(["update", "-q"]))?;
        attempt()
    })
}

fn have_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn is_installed(package: &str) -> bool {
    let mut query = shell::command("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status}", package]);
    shell::output(&mut query).is_ok_and(|status| status == "installed")
}

/// apt-get as it is, or through a sudo that does not ask.
fn apt_get(as_is: bool) -> Command {
    let mut apt = if as_is {
        shell::command("apt-get")
    } else {
        let mut sudo = shell::command("sudo");
        sudo.args(["--non-interactive", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    };
    apt.args(OPTIONS).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
