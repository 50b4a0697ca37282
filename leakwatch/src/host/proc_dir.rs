//! A process's directory in `/proc`, held open: what is read through it is of this process even if its pid was given to
//! another meanwhile, and an error once it has ended.
//!
//! So nothing that is read here has to be followed by a question whether the process still runs. Files are read by their names
//! in the directory, without a path. Nothing here interprets what it reads.

use std::{
    cell::Cell,
    ffi::CStr,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use super::{FileIdentity, HostError, process::of_proc};

/// Bytes that nearly every file of `/proc/PID` has less of.
const TYPICAL: usize = 4096;

/// A larger buffer is not kept for the next file.
const MOST_KEPT: usize = 16 * TYPICAL;

thread_local! {
    /// What files are read into: some for each process that comes, each larger than what an allocator has at hand.
    static READ_INTO: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that nearly every path has less of.
const TYPICAL_PATH: usize = 256;

/// The link to the program that runs.
pub(super) const EXE: &CStr = c"exe";

/// A process's directory in `/proc`.
#[derive(Debug)]
pub struct ProcDir {
    pid: u32,
    dir: OwnedFd,
}

impl ProcDir {
    /// The directory of whoever has this pid.
    pub(super) fn open(pid: u32) -> Result<Self, HostError> {
        let path = PathBuf::from(format!("/proc/{pid}"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(dir) => Ok(Self { pid, dir }),
            Err(errno) => Err(of_proc(pid, "read the state", &path, errno.into())),
        }
    }

    /// The process's pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Effective user id. `/proc/PID` itself has that owner whatever the process may be dumped for, unlike the files in it
    /// (`task_dump_owner` of fs/proc/base.c); of one that has ended it is 0.
    pub(super) fn owner(&self) -> Result<u32, HostError> {
        let stat = rustix::fs::fstat(&self.dir).map_err(|errno| self.failed("read the state", c"", errno))?;
        Ok(stat.st_uid)
    }

    /// Opens one of its files for reading; a FIFO that it leads to is not waited for.
    pub(super) fn file(&self, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, name, flags, Mode::empty())
    }

    /// All bytes of one of its files, as long as `look` looks at them.
    pub(super) fn look_into<T>(&self, name: &CStr, look: impl FnOnce(&[u8]) -> T) -> Result<T, HostError> {
        let mut bytes = READ_INTO.take();
        let read = self.read_into(name, &mut bytes);
        let seen = read.map(|()| look(&bytes)).map_err(|errno| self.failed("read the state", name, errno));
        if bytes.capacity() <= MOST_KEPT {
            READ_INTO.set(bytes);
        }
        seen
    }

    fn read_into(&self, name: &CStr, bytes: &mut Vec<u8>) -> Result<(), Errno> {
        let file = self.file(name)?;
        bytes.clear();
        bytes.reserve(TYPICAL);
        while rustix::io::read(&file, rustix::buffer::spare_capacity(bytes))? > 0 {
            bytes.reserve(TYPICAL);
        }
        Ok(())
    }

    /// Where one of its links points.
    pub(super) fn link(&self, name: &CStr) -> Result<Vec<u8>, Errno> {
        rustix::fs::readlinkat(&self.dir, name, Vec::with_capacity(TYPICAL_PATH))
            .map(std::ffi::CString::into_bytes)
    }

    /// Which file it runs now.
    pub(super) fn program(&self) -> Result<FileIdentity, HostError> {
        let stat = rustix::fs::statat(&self.dir, EXE, AtFlags::empty());
        stat.map(|stat| FileIdentity::of_stat(&stat))
            .map_err(|errno| self.failed("open the executable", EXE, errno))
    }

    /// Which file one of its links leads to; `None`: to no regular file, or that cannot be seen.
    pub(super) fn regular_file(&self, name: &str) -> Option<FileIdentity> {
        let stat = rustix::fs::statat(&self.dir, name, AtFlags::empty()).ok()?;
        FileType::from_raw_mode(stat.st_mode).is_file().then(|| FileIdentity::of_stat(&stat))
    }

    /// The root directory of the process's mount namespace.
    pub fn root(&self) -> PathBuf {
        self.join("root")
    }

    /// A path to what is in it, good in this process only.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_fd().as_raw_fd()))
    }

    pub(super) fn failed(&self, action: &'static str, name: &CStr, errno: Errno) -> HostError {
        let path = PathBuf::from(format!("/proc/{}", self.pid)).join(name.to_string_lossy().as_ref());
        of_proc(self.pid, action, &path, io::Error::from(errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::target::Target;

    #[test]
    fn an_open_directory_is_of_its_process_alone() {
        let mut child = Target::sleeping("sleep");
        let dir = ProcDir::open(child.pid()).expect("its directory");
        let is_its = |stat: &[u8]| stat.starts_with(child.pid().to_string().as_bytes());
        assert!(dir.look_into(c"stat", is_its).expect("read"));
        assert_eq!(dir.owner().expect("its owner"), rustix::process::geteuid().as_raw());
        child.end();
        for name in [c"stat", c"cgroup", c"maps"] {
            assert!(matches!(dir.look_into(name, <[u8]>::len), Err(HostError::Ended { .. })), "{name:?}");
        }
        assert!(matches!(dir.program(), Err(HostError::Ended { .. })));
        assert!(matches!(ProcDir::open(child.pid()), Err(HostError::Ended { .. })));
    }

    #[test]
    fn what_is_longer_than_usual_is_read_whole() {
        let dir = ProcDir::open(std::process::id()).expect("our directory");
        // Of each mapping twenty lines.
        let look = |maps: &[u8]| {
            assert!(maps.len() > 2 * TYPICAL && maps.ends_with(b"\n"), "{}", maps.len());
            // Who looks into another file meanwhile disturbs nobody.
            dir.look_into(c"comm", |comm| assert!(comm.len() < 20)).expect("our name");
        };
        dir.look_into(c"smaps", look).expect("our mappings");
    }
}
