//! What looks at `deploy/` as those do who run it: Helm's own SDK, Kubernetes' schemas, systemd's judge of units, and container
//! engines.

use std::path::PathBuf;

use anyhow::Result;

use super::{apt, dir, fetch};

/// Python packages: Helm's SDK with a library of Helm in it, and the schemas of Kubernetes' releases.
const PYTHON: [&str; 2] = ["helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0"];

/// Debian packages: `systemd-analyze`, and the libraries that it loads.
const SYSTEMD: [&str; 10] = [
    "systemd",
    "libsystemd-shared",
    "libapparmor1",
    "libcryptsetup12",
    "libdevmapper1.02.1",
    "libfdisk1",
    "libip4tc2",
    "libjson-c5",
    "libkmod2",
    "libseccomp2",
];

/// Debian packages: three container engines with what runs their containers, and the libraries that they load.
const ENGINES: [&str; 11] = [
    "podman",
    "docker.io",
    "containerd",
    "runc",
    "conmon",
    "libassuan0",
    "libdevmapper1.02.1",
    "libglib2.0-0",
    "libgpgme11",
    "libseccomp2",
    "libsubid4",
];

/// Folder of the Python packages, for `PYTHONPATH`.
pub(crate) fn chart_tools() -> Result<PathBuf> {
    let python = dir().join("deploy").join("python");
    if !python.exists() {
        println!("fetching {} from PyPI: to render and check deploy/helm", PYTHON.join(" "));
        fetch::whole(&python, |out| fetch::python_packages(&PYTHON, out))?;
    }
    Ok(python)
}

/// Folder that systemd's packages are unpacked in.
pub(crate) fn systemd() -> Result<PathBuf> {
    let systemd = dir().join("deploy").join("systemd");
    if !systemd.exists() {
        println!("unpacking {} from Debian: to check deploy/systemd", SYSTEMD[0]);
        fetch::whole(&systemd, |out| apt::unpack(&SYSTEMD, out))?;
    }
    Ok(systemd)
}

/// Folder that container engines are unpacked in; none of them is started.
pub(crate) fn engines() -> Result<PathBuf> {
    let engines = dir().join("deploy").join("engines");
    if !engines.exists() {
        println!(
            "unpacking podman, docker and containerd from Debian: live tests watch programs in their containers"
        );
        fetch::whole(&engines, |out| apt::unpack(&ENGINES, out))?;
    }
    Ok(engines)
}
