//! The machine's own files, when ours are those of a container or of a unit with a root of its own.
//!
//! Whoever may look into processes reaches the machine's files through process 1: its root is the machine's. So nothing
//! has to be mounted for that, and nothing is. What is read is foreign: a path is resolved below the root whatever
//! symbolic links say (`RESOLVE_IN_ROOT` of `openat2(2)`), only regular files are read, and of none more than was asked
//! for. It must never write, and never tell a file that could not be read from one that is not there by a guess.

use std::{
    ffi::OsString,
    fs::File,
    io::Read as _,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::Path,
};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

use super::HostError;

/// Process 1's root: the machine's, wherever `/proc` shows the machine's processes.
const OF_THE_FIRST: &str = "/proc/1/root";

/// How often a path is resolved again that somebody moved meanwhile.
const TRIES: usize = 3;

/// A folder that files are read below.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// The root of the machine whose processes are seen: that of process 1, or ours where we may not look at that.
    ///
    /// # Errors
    /// When neither can be opened.
    pub fn of_machine() -> Result<Self, HostError> {
        Self::at(Path::new(OF_THE_FIRST)).or_else(|_| Self::at(Path::new("/")))
    }

    /// This folder.
    ///
    /// # Errors
    /// When it cannot be opened, or is none.
    pub fn at(path: &Path) -> Result<Self, HostError> {
        let dir = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let failed = |error| HostError::File { action: "open", path: path.to_owned(), error };
        dir.map(Self).map_err(|errno| failed(errno.into()))
    }

    /// A file to be read; `None`: it is not there, may not be read, or is no regular file.
    pub fn file(&self, path: &Path) -> Option<File> {
        // Not to wait for a writer, should it be a pipe.
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let is_file = FileType::from_raw_mode(fstat(&file).ok()?.st_mode) == FileType::RegularFile;
        is_file.then(|| File::from(file))
    }

    /// What is in a file; `None`: as [`Root::file`], or it has more than `most` bytes.
    pub fn read(&self, path: &Path, most: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.file(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes).ok()?;
        (read as u64 <= most).then_some(bytes)
    }

    /// Names in a folder, `most` of them at most; none where it is not there or may not be read.
    pub fn names(&self, path: &Path, most: usize) -> impl Iterator<Item = OsString> {
        let dir = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY).and_then(|dir| Dir::new(dir).ok());
        let entries = dir.into_iter().flatten().map_while(Result::ok).take(most);
        let names = entries.map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec()));
        names.filter(|name| name != "." && name != "..")
    }

    fn open(&self, path: &Path, flags: OFlags) -> Option<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let once = || openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        std::iter::repeat_with(once)
            .take(TRIES)
            .find(|result| !matches!(result, Err(rustix::io::Errno::AGAIN)))?
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn read(root: &Root, path: &str, most: u64) -> Option<String> {
        root.read(Path::new(path), most).map(|bytes| String::from_utf8(bytes).expect("a text"))
    }

    #[test]
    fn links_lead_nowhere_but_below_the_root() {
        let folder = tempfile::tempdir().expect("a folder");
        let (inside, outside) = (folder.path().join("root"), folder.path().join("secret"));
        fs::create_dir_all(inside.join("data/docker")).expect("made");
        fs::create_dir_all(inside.join("var/lib")).expect("made");
        fs::write(&outside, "outside").expect("written");
        fs::write(inside.join("data/docker/file"), "inside").expect("written");
        symlink("/data/docker", inside.join("var/lib/docker")).expect("linked");
        symlink(&outside, inside.join("absolute")).expect("linked");
        symlink("../secret", inside.join("relative")).expect("linked");
        symlink("/proc/self/root", inside.join("magic")).expect("linked");
        let root = Root::at(&inside).expect("a root");
        assert_eq!(read(&root, "/var/lib/docker/file", 100).as_deref(), Some("inside"));
        for path in ["/absolute", "relative", "../secret", "/magic/etc/passwd", "absent"] {
            assert_eq!(read(&root, path, 100), None, "{path}");
        }
    }

    #[test]
    fn only_files_are_read_and_none_in_part() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::at(folder.path()).expect("a root");
        fs::write(folder.path().join("file"), "1234").expect("written");
        assert_eq!(read(&root, "file", 4).as_deref(), Some("1234"));
        assert_eq!(read(&root, "file", 3), None);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path().join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        assert_eq!(read(&root, "pipe", 4), None);
        assert_eq!(read(&root, "/", 4), None);
        let mut names: Vec<OsString> = root.names(Path::new("/"), 100).collect();
        names.sort();
        assert_eq!(names, ["file", "pipe"]);
        assert_eq!(root.names(Path::new("/absent"), 100).count(), 0);
    }
}
