//! A machine that a live test boots: QEMU, kernels of three releases of Debian, and a Debian with systemd on a disk.
//!
//! It is emulated, so that it is the same wherever the test runs: where `/dev/kvm` opens, what is behind it need not be able to run a
//! kernel of the guest's own. Nothing of leakwatch is on the disk: the test brings that along.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{apt, dir, fetch};
use crate::shell;

/// Of the disk's Debian: what every Debian has, systemd as process 1, what loads modules, and what sets up a network.
const PACKAGES: &str = "usr-is-merged,systemd,systemd-sysv,kmod,iproute2";

/// Files of a kernel's modules that the test needs to talk to the machine, where they are not built in as the disk's driver and
/// file system are: an expression of `find`.
const MODULES: [&str; 10] =
    ["(", "-name", "modules.*", "-o", "-name", "virtio*.ko*", "-o", "-name", "*failover.ko*", ")"];

/// The package that depends on the newest kernel of a release.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Releases of Debian whose kernels it boots besides that of its own: an older one (Linux 5.10) and a newer one (6.12).
const OTHERS: [&str; 2] = ["bullseye", "trixie"];

/// The folder with `qemu`, `root.ext4`, `vmlinuz`, and `vmlinuz-` for each of the others.
pub(super) fn machine() -> Result<PathBuf> {
    let machine = dir().join("machines");
    if !machine.exists() {
        println!("fetching QEMU, three kernels and a small system from Debian: live tests boot machines");
        apt::install(&["e2fsprogs"], "to write the disk of a machine")?;
        fetch::whole(&machine, |out| {
            apt::unpack_with_needs(&["qemu-system-x86"], &out.join("qemu"))?;
            let root = out.join("root");
            system(out, &root)?;
            let unpacked = out.join("kernel");
            let package = apt::newest_of(KERNEL)?;
            apt::unpack(&[&package], &unpacked)?;
            kernel(&package, &unpacked, &out.join("vmlinuz"), &root)?;
            for release in OTHERS {
                // What the security team has: the newest kernel, and little else.
                let packages = apt::OtherRelease::new(&format!("{release}-security"), &out.join("apt"))?;
                let package = packages.newest_of(KERNEL)?;
                packages.unpack(&[&package], &unpacked)?;
                kernel(&package, &unpacked, &out.join(format!("vmlinuz-{release}")), &root)?;
                remove(&out.join("apt"))?;
            }
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
    debian.arg(apt::release()?).arg(root).args(apt::sources()?).env("PATH", path);
    shell::output(&mut debian)?;
    remove(&tools)
}

/// Moves a kernel that was unpacked to `image`, and those of its modules that are needed into the system.
fn kernel(package: &str, unpacked: &Path, image: &Path, root: &Path) -> Result<()> {
    let version = package.trim_start_matches("linux-image-");
    fs::rename(unpacked.join("boot").join(format!("vmlinuz-{version}")), image)
        .with_context(|| format!("failed to make {}", image.display()))?;
    // Before Debian 13 they are in /lib.
    let all = ["lib", "usr/lib"].map(|lib| unpacked.join(lib).join("modules").join(version));
    let all = all.iter().find(|all| all.is_dir()).with_context(|| format!("{package} has no modules"))?;
    let wanted = root.join("usr/lib/modules").join(version);
    fs::create_dir_all(&wanted).with_context(|| format!("failed to make {}", wanted.display()))?;
    let mut copy = shell::command("find");
    copy.current_dir(all).arg(".").args(MODULES).args(["-exec", "cp", "--parents", "--target-directory"]);
    shell::output(copy.arg(&wanted).args(["{}", "+"]))?;
    shell::output(shell::command("chroot").arg(root).args(["depmod", version]))?;
    remove(unpacked)
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
