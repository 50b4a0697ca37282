//! Executables: the bytes of the program that a process runs, and the name under which the kernel can probe it.
//!
//! A process's program is opened through `/proc/PID/exe`, which leads to the very file that the kernel executes:
//! deleted, replaced by a new version, on an overlay, or in a mount namespace where its path means another file.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use memmap2::{Mmap, UncheckedAdvice};
use nix::fcntl::OFlag;

use super::{HostError, Process, proc_dir::EXE, process::of_proc};

/// Most bytes of a running executable that are mapped.
const MAP_LIMIT: u64 = 16 << 30;
/// Most bytes of a file at rest that are read.
pub(super) const READ_LIMIT: u64 = 1 << 30;

/// Bytes that are read at once to be compared.
const PIECE: usize = 256 << 10;

/// Which file it is, and which content: a file that was rewritten in place has the same `dev` and `ino`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device, as `stat` gives it (on overlays and btrfs not what `/proc/PID/maps` shows).
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content: seconds after 1970.
    pub mtime: i64,
    /// And nanoseconds.
    pub mtime_ns: i64,
}

impl FileIdentity {
    pub(super) fn of_stat(stat: &rustix::fs::Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: stat.st_mtime,
            mtime_ns: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime: metadata.mtime(),
            mtime_ns: metadata.mtime_nsec(),
        }
    }
}

/// An open executable and its bytes.
#[derive(Debug)]
pub struct Executable {
    file: File,
    bytes: Bytes,
    /// Somebody looked at the bytes since their pages were forgotten.
    looked_at: AtomicBool,
    identity: FileIdentity,
}

#[derive(Debug)]
enum Bytes {
    /// Of a running program: pages come and go as they are looked at.
    Mapped(Mmap),
    /// Of a file that anybody may change meanwhile: a copy.
    Read(Vec<u8>),
}

impl Executable {
    /// Which file a process runs now.
    ///
    /// # Errors
    /// [`HostError::Ended`], [`HostError::NotPermitted`].
    pub fn identity_of(process: &Process) -> Result<FileIdentity, HostError> {
        process.dir().program()
    }

    /// The program that a process runs now.
    ///
    /// # Errors
    /// [`HostError::Ended`], [`HostError::NotPermitted`], [`HostError::TooLarge`], or that it cannot be mapped.
    pub fn of_process(process: &Process) -> Result<Self, HostError> {
        let pid = process.pid();
        let path = PathBuf::from(format!("/proc/{pid}/exe"));
        let refused = |error| of_proc(pid, "open the executable", &path, error);
        let file = File::from(process.dir().file(EXE).map_err(|errno| refused(errno.into()))?);
        let metadata = file.metadata().map_err(refused)?;
        let size = metadata.size();
        if size > MAP_LIMIT {
            return Err(HostError::TooLarge { path, size, limit: MAP_LIMIT });
        }
        // SAFETY: the bytes under a shared slice must not change. The kernel refuses to open a running executable
        // for writing or to truncate it (ETXTBSY, deny_write_access in fs/exec.c), and to replace it by rename
        // leaves this inode as it is. What remains: kernels 6.11 and 6.12 did not refuse, a network filesystem's
        // server or the lower layer of an overlay can change it behind the kernel's back, and the process may
        // have ended since. Readers of the slice hold for any content, and a file cut short there raises SIGBUS.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| HostError::File {
            action: "map",
            path: path.clone(),
            error,
        })?;
        Ok(Self::new(file, Bytes::Mapped(map), &metadata))
    }

    /// A file at rest.
    ///
    /// # Errors
    /// [`HostError::NotAFile`] for directories, FIFOs, sockets and devices (which are not opened),
    /// [`HostError::TooLarge`], [`HostError::File`].
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let failed = |action, error| HostError::File { action, path: path.to_owned(), error };
        regular(path, &std::fs::metadata(path).map_err(|error| failed("open", error))?)?;
        // It may have become a FIFO since: opening one without O_NONBLOCK would wait for a writer.
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(|error| failed("open", error))?;
        let metadata = file.metadata().map_err(|error| failed("open", error))?;
        regular(path, &metadata)?;
        let size = metadata.size();
        if size > READ_LIMIT {
            return Err(HostError::TooLarge { path: path.to_owned(), size, limit: READ_LIMIT });
        }
        let mut bytes = Vec::new();
        // Files of /proc and /sys say 0 and give more, and a file may grow: the limit holds while reading, too.
        file.by_ref().take(READ_LIMIT).read_to_end(&mut bytes).map_err(|error| failed("read", error))?;
        Ok(Self::new(file, Bytes::Read(bytes), &metadata))
    }

    fn new(file: File, bytes: Bytes, metadata: &Metadata) -> Self {
        Self { file, bytes, looked_at: AtomicBool::new(false), identity: FileIdentity::of(metadata) }
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.looked_at.store(true, Ordering::Relaxed);
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }

    /// Both have the same content, byte by byte, whatever they say of themselves.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn is_alike(&self, other: &Self) -> io::Result<bool> {
        if self.identity.size != other.identity.size {
            return Ok(false);
        }
        // Read, not mapped: none of it is to stay in our memory.
        let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
        let mut at = 0;
        loop {
            let read = read_piece(&self.file, &mut ours, at)?;
            if read != read_piece(&other.file, &mut theirs, at)? || ours.get(..read) != theirs.get(..read) {
                return Ok(false);
            }
            if read < PIECE {
                return Ok(true);
            }
            at += PIECE as u64;
        }
    }

    /// Which file and which content.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Whether this is still what the process runs: an exec makes it another file.
    ///
    /// # Errors
    /// [`HostError::Ended`], [`HostError::NotPermitted`].
    pub fn is_run_by(&self, process: &Process) -> Result<bool, HostError> {
        let now = Self::identity_of(process)?;
        Ok((now.dev, now.ino) == (self.identity.dev, self.identity.ino))
    }

    /// The path to attach uprobes through, good as long as this value lives and in this process only.
    ///
    /// `perf_event_open` takes a path, resolves it with `kern_path(name, LOOKUP_FOLLOW)` in the caller's mount
    /// namespace, once, and keeps the inode (`create_local_trace_uprobe` in
    /// <https://github.com/torvalds/linux/blob/v6.18/kernel/trace/trace_uprobe.c>). Magic links are followed to
    /// the open file, whatever its name has become, and `d_real_inode` finds the layer below an overlay. So the
    /// file that was inspected is the file that is probed, even if the process executes another meanwhile. The
    /// alternatives: the path of the exe link names nothing (deleted, other mount namespace) or, worse, another
    /// file (replaced); `/proc/PID/root/PATH` fails for deleted files; `/proc/PID/exe` works for all of them but
    /// follows an exec; `/proc/PID/map_files/START-END` needs `CAP_CHECKPOINT_RESTORE` in the first user namespace.
    pub fn attach_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Gives back the memory of pages that were looked at; they are read again when they are needed.
    pub fn forget_pages(&self) {
        let Bytes::Mapped(map) = &self.bytes else { return };
        if !self.looked_at.swap(false, Ordering::Relaxed) {
            return;
        }
        // SAFETY: the mapping is one of a file that was never written through: whoever reads the bytes meanwhile or later
        // finds the file's content, as before, for the pages come back with it.
        let advised = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        // It is advice: nothing depends on it.
        drop(advised);
    }
}

/// Fills the piece from there on, as far as the file goes.
fn read_piece(file: &File, piece: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = piece.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn regular(path: &Path, metadata: &Metadata) -> Result<(), HostError> {
    let kind = metadata.file_type();
    let kind = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "device"
    } else {
        "special file"
    };
    Err(HostError::NotAFile { path: path.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::host::target::{Target, copy};

    #[test]
    fn what_is_not_a_file_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).expect("bind");
        let check = |path: &Path, expect: &str| {
            let error = Executable::open(path).expect_err("refused").to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(dir.path(), "is a directory, not a regular file; give the path of an executable");
        check(&fifo, "is a FIFO, not");
        check(&dir.path().join("socket"), "is a socket, not");
        check(Path::new("/dev/zero"), "/dev/zero is a device, not");
        check(Path::new("/no/such/file"), "cannot open /no/such/file: No such file or directory");
        check(Path::new(""), "cannot open");
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sparse");
        File::create(&path).and_then(|file| file.set_len(READ_LIMIT + 1)).expect("a sparse file");
        assert!(matches!(Executable::open(&path), Err(HostError::TooLarge { .. })));
    }

    #[test]
    fn alike_is_the_same_in_every_byte() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            Executable::open(&path).expect("open")
        };
        let bytes = vec![7; PIECE * 2];
        let (one, two) = (file("one", &bytes), file("two", &bytes));
        assert_ne!(one.identity(), two.identity());
        assert!(one.is_alike(&two).expect("read") && one.is_alike(&one).expect("read"));
        for place in [0, PIECE, PIECE * 2 - 1] {
            let mut other = bytes.clone();
            other[place] = 8;
            assert!(!one.is_alike(&file("other", &other)).expect("read"), "{place}");
        }
        assert!(!one.is_alike(&file("short", &bytes[1..])).expect("read"));
        assert!(file("none", b"").is_alike(&file("nothing", b"")).expect("read"));
    }

    #[test]
    fn a_replaced_executable_is_the_one_that_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("sleeper"), dir.path().join("other"));
        copy("/bin/sleep", &path);
        copy("/bin/true", &other);
        let child = Target::sleeping(&path);
        std::fs::rename(&other, &path).expect("replace");
        let process = Process::open(child.pid()).expect("a live child");
        let executable = Executable::of_process(&process).expect("its executable");
        let expect = std::fs::read("/bin/sleep").expect("read");
        assert!(executable.bytes() == expect);
        executable.forget_pages();
        assert!(executable.bytes() == expect);
        assert!(std::fs::read(executable.attach_path()).expect("through the path") == expect);
        assert!(executable.is_run_by(&process).expect("alive"));
        assert!(process.exe().deleted);
        assert_eq!(executable.identity().size, expect.len() as u64);
    }

    #[test]
    fn an_exec_makes_it_another_file() {
        let mut child = Target::start(Command::new("sh").args(["-c", "read line; exec sleep 1000"]));
        let process = Process::open(child.pid()).expect("a live child");
        let executable = Executable::of_process(&process).expect("its executable");
        assert!(executable.is_run_by(&process).expect("alive"));
        drop(child.0.stdin.take());
        while executable.is_run_by(&process).expect("alive") {
            std::thread::yield_now();
        }
    }
}
