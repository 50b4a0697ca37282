//! A machine that a live test boots: QEMU, Debian's kernel, and a Debian with systemd on a disk.
//!
//! It is emulated, so that it is the same wherever the test runs: where `/dev/kvm` opens, what is behind it need not be able to run a
//! kernel of the guest's own. Nothing of leakwatch is on the disk: the test brings that along on a second one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{apt, dir, fetch};
use crate::shell;

/// Of the disk's Debian: what every Debian has, systemd as process 1, what loads modules, and what sets up a network.
const PACKAGES: &str = "usr-is-merged,systemd,systemd-sysv,kmod,iproute2";

/// Modules of the kernel that are not built in: how the test talks to the machine. The disk's driver and file system are.
const MODULES: [&str; 5] = [
    "drivers/virtio",
    "drivers/char/virtio_console.ko",
    "drivers/net/virtio_net.ko",
    "drivers/net/net_failover.ko",
    "net/core/failover.ko",
];

/// The folder with `qemu`, `vmlinuz` and `root.ext4`.
pub(super) fn machine() -> Result<PathBuf> {
    let machine = dir().join("machine");
    if !machine.exists() {
        println!("fetching QEMU, a kernel and a small system from Debian: a live test boots a machine");
        apt::install(&["e2fsprogs"], "to write the disk of a machine")?;
        fetch::whole(&machine, |out| {
            apt::unpack_with_needs(&["qemu-system-x86"], &out.join("qemu"))?;
            let root = out.join("root");
            system(out, &root)?;
            kernel(out, &root)?;
            disk(&root, &out.join("root.ext4"))
        })?;
    }
    Ok(machine)
}

/// Installs a small Debian, of the release that this machine has, into a folder.
fn system(out: &Path, root: &Path) -> Result<()> {
    let tools = out.join("mmdebstrap");
    apt::unpack_with_needs(&["mmdebstrap"], &tools)?;
    let programs = tools.join("usr/bin");
    let path = std::env::join_paths(
        std::iter::once(programs.clone())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )
    .context("PATH")?;
    let mut debian = shell::command("perl");
    debian
        .arg(programs.join("mmdebstrap"))
        .args(["--quiet", "--mode=root", "--variant=essential"])
        .arg(format!("--include={PACKAGES}"))
        .arg(format!("--hook-dir={}", tools.join("usr/share/mmdebstrap/hooks/merged-usr").display()))
        // It is gone with the first error, so nothing has to be safe on the disk meanwhile.
        .arg("--dpkgopt=force-unsafe-io");
    for texts in ["man", "locale", "doc"] {
        debian.arg(format!("--dpkgopt=path-exclude=/usr/share/{texts}/*"));
    }
    debian.arg(release()?).arg(root).args(apt::sources()?).env("PATH", path);
    shell::output(&mut debian)?;
    remove(&tools)
}

/// The name of this machine's Debian.
fn release() -> Result<String> {
    let file = "/etc/os-release";
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {file}"))?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(str::to_owned).with_context(|| format!("{file} has no VERSION_CODENAME"))
}

/// Unpacks the kernel into `out`, and its modules into the system.
fn kernel(out: &Path, root: &Path) -> Result<()> {
    let package = apt::newest_of("linux-image-cloud-amd64")?;
    let version = package.trim_start_matches("linux-image-");
    let unpacked = out.join("kernel");
    apt::unpack(&[&package], &unpacked)?;
    let image = out.join("vmlinuz");
    fs::rename(unpacked.join("boot").join(format!("vmlinuz-{version}")), &image)
        .with_context(|| format!("failed to make {}", image.display()))?;
    let all = unpacked.join("lib/modules").join(version);
    let wanted = root.join("usr/lib/modules").join(version);
    fs::create_dir_all(wanted.join("kernel"))
        .with_context(|| format!("failed to make {}", wanted.display()))?;
    let mut copy = shell::command("cp");
    copy.current_dir(&all).args(["--recursive", "--parents", "modules.order", "modules.builtin"]);
    copy.arg("modules.builtin.modinfo").args(MODULES.map(|module| format!("kernel/{module}"))).arg(&wanted);
    shell::output(&mut copy)?;
    shell::output(shell::command("chroot").arg(root).args(["depmod", version]))?;
    remove(&unpacked)
}

/// Writes a folder to a disk with a file system.
fn disk(root: &Path, disk: &Path) -> Result<()> {
    // /usr/sbin need not be in PATH.
    let program = shell::find_program("mke2fs", &["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut write = shell::command(program.context("there is no mke2fs")?);
    write.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(root).arg(disk).arg("700M");
    shell::output(&mut write)?;
    remove(root)
}

fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).with_context(|| format!("failed to remove {}", dir.display()))
}
