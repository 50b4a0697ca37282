//! A folder of dumps that never holds more than it may.

use std::{
    io::{self, Write},
    sync::Mutex,
};

use super::{AlertError, Dump};
use crate::folder;

/// How our files begin; others are left alone and do not count.
const OURS: &str = "leakwatch-";

/// Writes what is to be in a file.
pub(super) type Content<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// The folder.
#[derive(Debug)]
pub(super) struct Folder {
    open: folder::Folder,
    most_files: usize,
    most_bytes: u64,
    /// One writes at a time.
    writing: Mutex<()>,
}

/// One of our files.
#[derive(Debug)]
struct Entry {
    name: String,
    bytes: u64,
    written: (i64, i64),
}

impl Folder {
    /// Opens it; it is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or opened, is a link, or is somebody else's to write to.
    pub(super) fn open(dump: &Dump) -> Result<Self, AlertError> {
        let open = folder::Folder::of_ours(&dump.dir)
            .map_err(|error| AlertError::Folder { path: dump.dir.clone(), what: error.to_string() })?;
        let most_files = usize::try_from(dump.most_files).unwrap_or(usize::MAX);
        Ok(Self { open, most_files, most_bytes: dump.most_bytes, writing: Mutex::new(()) })
    }

    /// Writes some files, each whole or not at all; older ones of ours give way.
    ///
    /// # Errors
    /// When one cannot be written, or they are more than the folder may hold.
    pub(super) fn write(&self, files: &[(String, Content<'_>)]) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (name, content) in files {
            let temporary = format!("{name}.tmp");
            let bytes = match self.write_one(&temporary, content) {
                Ok(bytes) => bytes,
                Err(error) => {
                    // It is not there when its name was taken; that one is not ours to remove.
                    let taken = error.kind() == io::ErrorKind::AlreadyExists;
                    if !taken && let Err(left) = self.open.remove(&temporary) {
                        tracing::debug!("{temporary} stays: {left}");
                    }
                    return Err(error);
                }
            };
            self.make_room(&temporary, bytes)?;
            self.open.rename(&temporary, name)?;
        }
        Ok(())
    }

    fn write_one(&self, name: &str, content: Content<'_>) -> io::Result<u64> {
        let file = self.open.create(name)?;
        let mut out = Bounded { inner: io::BufWriter::new(file), written: 0, most: self.most_bytes };
        content(&mut out)?;
        out.flush()?;
        out.inner.get_ref().sync_all()?;
        Ok(out.written)
    }

    /// Removes the oldest files until one of so many bytes, which is there already under a temporary name, has its place.
    fn make_room(&self, temporary: &str, bytes: u64) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.name != temporary);
        entries.sort_by(|a, b| (b.written, &b.name).cmp(&(a.written, &a.name)));
        let mut held: u64 = entries.iter().map(|entry| entry.bytes).sum();
        while entries.len() >= self.most_files || held.saturating_add(bytes) > self.most_bytes {
            let Some(oldest) = entries.pop() else { break };
            held -= oldest.bytes;
            self.open.remove(&oldest.name)?;
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let files = self.open.files()?.into_iter().filter(|(name, _)| name.starts_with(OURS));
        let entry = files.map(|(name, stat)| Entry {
            name,
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            written: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        });
        Ok(entry.collect())
    }
}

/// A writer that refuses to write more than so many bytes.
struct Bounded<W> {
    inner: W,
    written: u64,
    most: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.saturating_add(bytes.len() as u64) > self.most {
            return Err(io::Error::other(format!(
                "the dump alone has more than {} bytes (most_bytes)",
                self.most
            )));
        }
        let taken = self.inner.write(bytes)?;
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The name of a dump's files, without its end: of the rule only what names of files can have.
pub(super) fn name(rule: &str, pid: u32, second: i64, id: u64) -> String {
    let plain: String = rule
        .chars()
        .take(60)
        .map(|character| if character.is_ascii_alphanumeric() || character == '-' { character } else { '_' })
        .collect();
    format!("{OURS}{plain}-{pid}-{second}-{id}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(most_files: u32, most_bytes: u64) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().expect("a folder");
        let dump = Dump { dir: dir.path().join("dumps"), most_files, most_bytes };
        let folder = Folder::open(&dump).expect("a new folder");
        (dir, folder)
    }

    fn put(folder: &Folder, name: &str, bytes: usize) -> io::Result<()> {
        folder.write(&[(format!("{OURS}{name}"), &|out: &mut dyn Write| out.write_all(&vec![b'x'; bytes]))])
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path().join("dumps")).expect("the folder").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_never_has_more_than_it_may() {
        let (dir, folder) = folder(3, 1_000);
        fs::write(dir.path().join("dumps/somebody"), "else").expect("written");
        for number in 0..6 {
            put(&folder, &format!("a{number}"), 10).expect("written");
        }
        assert_eq!(names(&dir), ["leakwatch-a3", "leakwatch-a4", "leakwatch-a5", "somebody"]);
        put(&folder, "large", 990).expect("written");
        assert_eq!(names(&dir), ["leakwatch-a5", "leakwatch-large", "somebody"]);
        let error = put(&folder, "huge", 1_001).expect_err("too large").to_string();
        assert!(error.contains("more than 1000 bytes"), "{error}");
        assert_eq!(names(&dir), ["leakwatch-a5", "leakwatch-large", "somebody"], "and nothing is left of it");
    }

    #[test]
    fn links_lead_nowhere() {
        let (dir, folder) = folder(3, 1_000);
        let target = dir.path().join("precious");
        fs::write(&target, "precious").expect("written");
        std::os::unix::fs::symlink(&target, dir.path().join("dumps/leakwatch-x.tmp")).expect("a link");
        assert!(put(&folder, "x", 10).is_err(), "the name is taken");
        std::os::unix::fs::symlink(&target, dir.path().join("dumps/leakwatch-y")).expect("a link");
        put(&folder, "y", 10).expect("the link is replaced");
        assert_eq!(fs::read_to_string(&target).expect("there"), "precious");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("dumps"), &link).expect("a link");
        assert!(Folder::open(&Dump { dir: link, ..Dump::default() }).is_err());
        let open = dir.path().join("open");
        fs::create_dir(&open).expect("a folder");
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("for all");
        assert!(Folder::open(&Dump { dir: open, ..Dump::default() }).is_err());
    }

    #[test]
    fn names_of_rules_are_no_paths() {
        assert_eq!(name("../../etc/passwd", 7, 1, 2), "leakwatch-______etc_passwd-7-1-2");
    }
}
