//! Older Rust compilers, to build test targets with: Debian's packages, unpacked and not installed.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{apt, dir, fetch};

/// A Rust toolchain on this machine.
#[derive(Clone, Debug)]
pub(crate) struct RustToolchain {
    /// Its compiler.
    pub(crate) rustc: PathBuf,
    /// Its cargo; none where today's cargo can drive the compiler.
    pub(crate) cargo: Option<PathBuf>,
    /// Where its libraries are, for `LD_LIBRARY_PATH`.
    pub(crate) libraries: PathBuf,
}

/// What a release of Rust is made of, in Debian.
const RELEASES: [(&str, &[&str]); 2] = [
    (
        "1.63",
        &[
            "rustc",
            "cargo",
            "libstd-rust-1.63",
            "libstd-rust-dev",
            "libllvm14",
            // What cargo is linked with.
            "libgit2-1.5",
            "libhttp-parser2.9",
            "libmbedcrypto7",
            "libmbedtls14",
            "libmbedx509-1",
            "libssh2-1",
        ],
    ),
    ("1.85", RUSTC_1_85),
];

/// The older of two versions that Debian has under one name.
const RUSTC_1_85: &[&str] = &[
    "rustc-web=1.85.0+dfsg3-1~deb12u3",
    "libstd-rust-web-1.85=1.85.0+dfsg3-1~deb12u3",
    "libstd-rust-web-dev=1.85.0+dfsg3-1~deb12u3",
    "libllvm19",
];

/// The toolchain of this version, unpacked if it is not there.
pub(crate) fn rust_toolchain(version: &str) -> Result<RustToolchain> {
    let Some((_, packages)) = RELEASES.iter().find(|(known, _)| *known == version) else {
        bail!("no Rust {version} is known here");
    };
    let home = dir().join("rust").join(version);
    let rustc = home.join("usr/bin/rustc");
    if !rustc.is_file() {
        println!("unpacking Rust {version} from Debian: to build test targets with it");
        fetch::whole(&home, |partial| apt::unpack(packages, partial))?;
    }
    if !rustc.is_file() {
        bail!("{} is not there after unpacking Rust {version}; remove {}", rustc.display(), home.display());
    }
    let cargo = home.join("usr/bin/cargo");
    Ok(RustToolchain {
        rustc,
        cargo: cargo.is_file().then_some(cargo),
        libraries: home.join("usr/lib/x86_64-linux-gnu"),
    })
}
