//! Files that the agent is told by: its configuration, and secrets.
//!
//! Each is opened once, and what is looked at before it is believed is what was opened: nobody can put another one in its place
//! meanwhile. A symbolic link is followed, and it is the file behind it that has to be as it must.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::bail;

/// The most bytes of one.
const LARGEST: u64 = 1 << 20;

/// A configuration. As root, one that anybody may write or that another user owns is refused.
///
/// # Errors
/// That, and when it cannot be read.
pub fn configuration(path: &Path) -> anyhow::Result<String> {
    let root = rustix::process::geteuid().is_root();
    read(path, |file| {
        if root && file.mode() & 0o002 != 0 {
            bail!("anybody may write {}, and the agent runs as root: `chmod o-w {0}`", path.display());
        }
        let owner = file.uid();
        if root && owner != 0 {
            bail!("{} belongs to user {owner}, and the agent runs as root: `chown root {0}`", path.display());
        }
        Ok(())
    })
}

/// A file with secrets. One that others may read is refused.
///
/// # Errors
/// That, and when it cannot be read.
pub fn secret(path: &Path) -> anyhow::Result<String> {
    read(path, |file| {
        if file.mode() & 0o007 != 0 {
            bail!("{} holds secrets and others may read it: `chmod o= {0}`", path.display());
        }
        Ok(())
    })
}

fn read(path: &Path, check: impl FnOnce(&Metadata) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let opened = open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    let (file, metadata) = opened.map_err(|error| cannot(path, &error))?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        bail!("{} is no file of at most {LARGEST} bytes", path.display());
    }
    check(&metadata)?;
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(|error| cannot(path, &error))?;
    Ok(text)
}

fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, to open a FIFO is to wait for who writes to it.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?.into())
}

fn cannot(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("cannot read {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, chown, symlink},
    };

    use super::*;

    #[test]
    fn what_others_may_change_or_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, "x").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            path
        };
        let refused = |result: anyhow::Result<String>, what: &str| {
            let error = format!("{:#}", result.expect_err("refused"));
            assert!(error.contains(what), "{error}");
        };
        let (open, read, closed) = (file("open", 0o666), file("read", 0o644), file("closed", 0o600));
        assert_eq!(secret(&closed).expect("read"), "x");
        refused(secret(&read), "others may read it");
        refused(secret(dir.path()), "no file");
        refused(secret(&dir.path().join("absent")), "absent");
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        refused(secret(&dir.path().join("fifo")), "no file");
        fs::write(&closed, vec![b'x'; 1 << 21]).expect("written");
        refused(secret(&closed), "1048576");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        assert_eq!(configuration(&read).expect("read"), "x");
        refused(configuration(&open), "anybody may write");
        // The file behind a link is what counts.
        let link = dir.path().join("link");
        symlink(&open, &link).expect("linked");
        refused(configuration(&link), "anybody may write");
        chown(&read, Some(12345), None).expect("given away");
        refused(configuration(&read), "belongs to user 12345");
    }
}
