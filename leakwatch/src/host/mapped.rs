//! The files that a process has mapped, reached through its mappings and not through their names.
//!
//! A library's name in `/proc/PID/maps` is one of the process's mount namespace, and the file may have been deleted or
//! replaced since. `/proc/PID/map_files/START-END` leads to the very file that is mapped. Nothing here interprets a
//! file's bytes, and none are memory-mapped: unlike a running executable, a library can be cut short by anybody who may
//! write it, and reading such a map would be the end of leakwatch.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::{
    FileIdentity, HostError, ProcDir,
    exe::READ_LIMIT,
    maps::{self, Mapping},
};

/// A file that a process has mapped, open.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    file: File,
    identity: FileIdentity,
}

impl ProcDir {
    /// Its mappings, by address.
    ///
    /// # Errors
    /// [`HostError::Ended`], [`HostError::NotPermitted`].
    pub fn mappings(&self) -> Result<Vec<Mapping>, HostError> {
        self.parse_maps(maps::parse)
    }

    /// Those of its mappings that are code.
    ///
    /// # Errors
    /// As [`Self::mappings`].
    pub fn code(&self) -> Result<Vec<Mapping>, HostError> {
        self.parse_maps(maps::parse_code)
    }

    fn parse_maps(&self, parse: impl FnOnce(&[u8]) -> Vec<Mapping>) -> Result<Vec<Mapping>, HostError> {
        // A process that is ending has lost its memory before its directory says so.
        let parse = |text: &[u8]| if text.is_empty() { None } else { Some(parse(text)) };
        self.look_into(c"maps", parse)?.ok_or(HostError::Ended { pid: self.pid() })
    }

    /// Which file is behind a mapping: [`MappedFile::identity`] of what [`Self::open_mapped`] opens, most often without opening it.
    ///
    /// # Errors
    /// As [`Self::open_mapped`].
    pub fn mapped(&self, mapping: &Mapping) -> Result<FileIdentity, HostError> {
        match self.regular_file(&link_to(mapping)) {
            Some(file) => Ok(file),
            None => Ok(self.open_mapped(mapping)?.identity),
        }
    }

    /// Opens the file behind a mapping.
    ///
    /// # Errors
    /// When it is no regular file, or cannot be opened either through the mapping (which takes `CAP_SYS_ADMIN` or
    /// `CAP_CHECKPOINT_RESTORE`) or, as the same file, by its name.
    pub fn open_mapped(&self, mapping: &Mapping) -> Result<MappedFile, HostError> {
        let path = mapping.path.clone().unwrap_or_default();
        let through = self.join(&link_to(mapping));
        let file = match open(&through) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.open_by_name(&path, mapping.inode)
            }
            other => other,
        };
        let failed = |error| HostError::File { action: "open", path: path.clone(), error };
        let file = file.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(HostError::NotAFile { path, kind: "special file" });
        }
        let identity = FileIdentity::of(&metadata);
        Ok(MappedFile { path, file, identity })
    }

    /// By its name in the process's own mount namespace, if that is still the file with this inode.
    fn open_by_name(&self, path: &Path, inode: u64) -> io::Result<File> {
        let file = open(&self.root().join(path.strip_prefix("/").unwrap_or(path)))?;
        if file.metadata()?.ino() == inode {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "the name leads to another file by now"))
        }
    }
}

/// What leads to the file behind a mapping, in the process's directory.
fn link_to(mapping: &Mapping) -> String {
    format!("map_files/{:x}-{:x}", mapping.start, mapping.end)
}

/// Opens for reading, without waiting for anybody where it is a FIFO.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

impl MappedFile {
    /// A file at rest, by its path.
    ///
    /// # Errors
    /// [`HostError::File`], [`HostError::NotAFile`].
    pub fn at_rest(path: &Path) -> Result<Self, HostError> {
        let failed = |error| HostError::File { action: "open", path: path.to_owned(), error };
        let file = open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(HostError::NotAFile { path: path.to_owned(), kind: "special file" });
        }
        Ok(Self { path: path.to_owned(), file, identity: FileIdentity::of(&metadata) })
    }

    /// Its path, for people: in the process's mount namespace; ` (deleted)` may follow.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file and which content.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// A copy of its bytes.
    ///
    /// # Errors
    /// [`HostError::TooLarge`], [`HostError::File`].
    pub fn read(&self) -> Result<Vec<u8>, HostError> {
        let size = self.identity.size;
        if size > READ_LIMIT {
            return Err(HostError::TooLarge { path: self.path.clone(), size, limit: READ_LIMIT });
        }
        let failed = |error| HostError::File { action: "read", path: self.path.clone(), error };
        // A second description of the same file: reading must not depend on where the last reader stopped.
        let mut file = open(&self.attach_path()).map_err(failed)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.by_ref().take(READ_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// The path to attach uprobes through while this value lives, see [`super::Executable::attach_path`].
    pub fn attach_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{
        Process,
        target::{Target, copy},
    };

    /// The first code mapping of a file with this in its name.
    ///
    /// A program that was just started has its executable a moment before the mappings of it.
    fn code_of(dir: &ProcDir, name: &str) -> Mapping {
        let is_it = |mapping: &&Mapping| {
            mapping.execute && mapping.path.as_ref().is_some_and(|path| path.to_string_lossy().contains(name))
        };
        let look = |_| {
            let found = dir.mappings().expect("its mappings").iter().find(is_it).cloned();
            if found.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            found
        };
        (0..1000).find_map(look).expect("it is mapped")
    }

    #[test]
    fn a_deleted_file_is_the_one_that_is_mapped() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("sleeper");
        copy("/bin/sleep", &path);
        let mut child = Target::sleeping(&path);
        let process = Process::open(child.pid()).expect("a live child");
        let dir = process.dir();
        std::fs::remove_file(&path).expect("removed");
        let mapping = code_of(dir, "sleeper");
        // Without the capability the name is all there is, and that is gone.
        let Ok(file) = dir.open_mapped(&mapping) else { return };
        let expect = std::fs::read("/bin/sleep").expect("read");
        assert!(file.read().expect("its bytes") == expect);
        assert!(file.read().expect("once more") == expect);
        assert!(file.path().to_string_lossy().ends_with(" (deleted)"));
        assert_eq!(file.identity().ino, mapping.inode);
        child.end();
        assert!(matches!(dir.mappings(), Err(HostError::Ended { .. })));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_not_believed() {
        let process = Process::open(std::process::id()).expect("ourselves");
        let dir = process.dir();
        assert!(dir.open_by_name(Path::new("/bin/sh"), u64::MAX).is_err());
        let inode = std::fs::metadata("/bin/sh").expect("it is there").ino();
        assert!(dir.open_by_name(Path::new("/bin/sh"), inode).is_ok());
        assert!(matches!(MappedFile::at_rest(Path::new("/dev/null")), Err(HostError::NotAFile { .. })));
    }
}
