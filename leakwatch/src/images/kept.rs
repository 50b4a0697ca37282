//! What is known of binaries, in a file: an agent that starts again reads none of them anew.
//!
//! The file is of one leakwatch alone, by version and revision: another one may find more in the same bytes. What is damaged,
//! of another leakwatch or not ours is refused as a whole. It must never follow a link, believe a file that others may write,
//! or read or write more than [`MOST_BYTES`].

use std::{
    hash::Hasher as _,
    io::{self, Read as _},
    path::Path,
};

use leakwatch_inspect::{InspectError, Inspection};
use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};

use crate::{
    folder::{self, Folder},
    host::FileIdentity,
};

/// Most bytes of the file; some thousand binaries.
pub(super) const MOST_BYTES: usize = 32 << 20;

/// What the file begins with.
const MAGIC: &str = "leakwatch.binaries/1";

/// One binary: which file it is, and what is known of it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Kept<I, E> {
    file: (u64, u64, u64, i64, i64),
    pub(super) facts: KeptFacts<I, E>,
}

/// What is known of it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum KeptFacts<I, E> {
    /// All of it.
    Known(I),
    /// It is no ELF file that we read.
    Unreadable(E),
    /// A library without a runtime in it.
    Nothing,
}

impl<I, E> Kept<I, E> {
    pub(super) fn new(file: &FileIdentity, facts: KeptFacts<I, E>) -> Self {
        let FileIdentity { dev, ino, size, mtime, mtime_ns } = *file;
        Self { file: (dev, ino, size, mtime, mtime_ns), facts }
    }

    /// Which file it is.
    pub(super) fn file(&self) -> FileIdentity {
        let (dev, ino, size, mtime, mtime_ns) = self.file;
        FileIdentity { dev, ino, size, mtime, mtime_ns }
    }
}

fn header(body: &[u8]) -> String {
    let mut hasher = FxHasher::default();
    hasher.write(body);
    let (version, revision) = (env!("CARGO_PKG_VERSION"), env!("LEAKWATCH_REVISION"));
    format!("{MAGIC} {version} {revision} {:016x}\n", hasher.finish())
}

/// Writes binaries, as many of the first ones as there is room for, whole or not at all. The folder is made if it is not there.
///
/// # Errors
/// When the folder is others' to write to, or the file cannot be written.
pub(super) fn write<'a>(
    path: &Path,
    binaries: impl Iterator<Item = Kept<&'a Inspection, &'a InspectError>>,
) -> io::Result<()> {
    let (folder, name) = folder::split(path)?;
    let folder = Folder::of_ours(folder)?;
    let mut body = Vec::new();
    for kept in binaries {
        let mut line = serde_json::to_vec(&kept)?;
        line.push(b'\n');
        if body.len() + line.len() > MOST_BYTES - 256 {
            break;
        }
        body.extend_from_slice(&line);
    }
    let mut whole = header(&body).into_bytes();
    whole.append(&mut body);
    folder.replace(name, &whole, 0o600)
}

/// Reads them.
///
/// # Errors
/// When there is no file, it is a link or others' to write to, or it is damaged or of another leakwatch.
pub(super) fn read(path: &Path) -> io::Result<Vec<Kept<Inspection, InspectError>>> {
    let refused = |what: &str| io::Error::other(what.to_owned());
    let (folder, name) = folder::split(path)?;
    let file = Folder::of_anybody(folder)?.read(name)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST_BYTES {
        return Err(refused("it is too large"));
    }
    let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| end + 1);
    let (head, body) = bytes.split_at(end);
    let wanted = header(body);
    if head != wanted.as_bytes() {
        let same = |text: &[u8]| text.rsplitn(2, |&byte| byte == b' ').nth(1).map(<[u8]>::to_vec);
        let other = same(head) != same(wanted.as_bytes());
        return Err(refused(if other { "it is not of this leakwatch" } else { "it is damaged" }));
    }
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(io::Error::from)).collect()
}
