//! One process: who it is, whether it is still there, what it holds.
//!
//! A [`Process`] is made of a pidfd first and of its directory in `/proc` second, and it is given out only when the
//! pidfd says that the process still ran after the last file was read. So all of its facts are of one process,
//! even if the pid was reused a moment later; what is read of it later is read through that directory.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, ffi::OsStringExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use jiff::{SignedDuration, Timestamp};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags},
};

use super::{
    Denied, HostError, ProcDir,
    container::Place,
    engines::upper_layer,
    proc_dir::EXE,
    stat::{Stat, parse_boot_time, parse_process},
};
use crate::observe::ProcessId;

/// As much of a process's mounts as is read: its root is among the first.
const LONGEST_MOUNTS: u64 = 1 << 20;

/// A process that can be watched: not a kernel thread, not a zombie, and we may look into it.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    pidfd: Arc<OwnedFd>,
    dir: Arc<ProcDir>,
    /// Its `stat`, which is read again and again.
    stat: OwnedFd,
    comm: String,
    exe: ExePath,
    uid: u32,
    place: OnceLock<Place>,
}

/// What a process has of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Threads.
    pub threads: u64,
    /// Resident memory in bytes. The kernel keeps this figure per thread and is off by up to 64 pages for each
    /// (`SPLIT_RSS_COUNTING`, before 6.2) or per CPU (later).
    pub rss_bytes: u64,
}

/// Where `/proc/PID/exe` points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExePath {
    /// The path in the process's own mount namespace, without the kernel's ` (deleted)`.
    pub path: PathBuf,
    /// The file has no such name any more: it was deleted or replaced by another.
    pub deleted: bool,
}

impl Process {
    /// Looks a process up.
    ///
    /// # Errors
    /// [`HostError::NoSuchProcess`], [`HostError::Thread`], [`HostError::KernelThread`],
    /// [`HostError::Zombie`], [`HostError::Hidden`], [`HostError::NotPermitted`] (we may not look at its
    /// executable), [`HostError::Ended`] (while we looked).
    pub fn open(pid: u32) -> Result<Self, HostError> {
        let pidfd = open_pidfd(pid)?;
        let result = Self::read(pid, pidfd);
        match result {
            // Whatever a vanishing process made fail, the one true sentence is that it ended.
            Ok(process) if !process.alive() => Err(HostError::Ended { pid }),
            other => other,
        }
    }

    fn read(pid: u32, pidfd: OwnedFd) -> Result<Self, HostError> {
        let dir = match ProcDir::open(pid) {
            // The pidfd was opened, so the process is there or has just ended.
            Err(HostError::Ended { .. }) if is_alive(pidfd.as_fd()) => return Err(HostError::Hidden { pid }),
            other => other?,
        };
        let file = dir.file(c"stat").map_err(|errno| dir.failed("read the state", c"stat", errno))?;
        let mut bytes = [0; STAT_BYTES];
        let stat = read_stat(pid, file.as_fd(), &mut bytes)?;
        let (is_zombie, comm) = (stat.is_zombie(), stat.comm.into_owned());
        if stat.kernel_thread {
            return Err(HostError::KernelThread { pid, comm });
        }
        if is_zombie {
            return Err(HostError::Zombie { pid, comm, parent: stat.parent });
        }
        let id = ProcessId { pid, start_ticks: stat.start_ticks };
        // Between fork's end and the loss of its memory a process has a stat line but no executable.
        let (exe, uid) = (read_exe(&dir)?, dir.owner()?);
        let (pidfd, dir) = (Arc::new(pidfd), Arc::new(dir));
        Ok(Self { id, pidfd, dir, stat: file, comm, exe, uid, place: OnceLock::new() })
    }

    /// Pid and start time: no other process has both.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Its pid in leakwatch's pid namespace.
    pub fn pid(&self) -> u32 {
        self.id.pid
    }

    /// Its name as of [`Process::open`] (`/proc/PID/comm`; an exec changes it).
    pub fn comm(&self) -> &str {
        &self.comm
    }

    /// Its executable as of [`Process::open`].
    pub fn exe(&self) -> &ExePath {
        &self.exe
    }

    /// Effective user id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Id of the container it runs in; `None`: on the host, or in an engine whose cgroups we do not know.
    pub fn container(&self) -> Option<&str> {
        self.place().container.as_deref()
    }

    /// Where it runs: its container, pod and control group, as of the first time that somebody asks. Of one that had ended by
    /// then nothing is known.
    pub fn place(&self) -> &Place {
        self.place.get_or_init(|| {
            let parse = |cgroups: &[u8]| Place::parse(&String::from_utf8_lossy(cgroups));
            self.dir.look_into(c"cgroup", parse).unwrap_or_default()
        })
    }

    /// Its directory in `/proc`.
    pub fn dir(&self) -> &Arc<ProcDir> {
        &self.dir
    }

    /// Becomes readable when the process has ended: for event loops that outlive this.
    pub fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.pidfd
    }

    /// The writable layer of its root, where that is an overlay's: what container engines give each container.
    pub fn upper_layer(&self) -> Option<PathBuf> {
        let file = File::from(self.dir.file(c"mountinfo").ok()?);
        let mut mounts = Vec::new();
        file.take(LONGEST_MOUNTS).read_to_end(&mut mounts).ok()?;
        upper_layer(&String::from_utf8_lossy(&mounts))
    }

    /// Whether it still runs. A zombie does not.
    pub fn alive(&self) -> bool {
        is_alive(self.pidfd.as_fd())
    }

    /// When it was started, by the wall clock; `booted` is [`boot_time`].
    pub fn start_time(&self, booted: Timestamp) -> Option<Timestamp> {
        booted.checked_add(self.started_after_boot()).ok()
    }

    /// When it was started, as `CLOCK_BOOTTIME` counts, to within a tick.
    pub fn started_after_boot(&self) -> SignedDuration {
        ticks_to_duration(self.id.start_ticks, rustix::param::clock_ticks_per_second())
    }

    /// What it has of the machine now.
    ///
    /// # Errors
    /// [`HostError::Ended`], or what reading `/proc/PID/stat` said.
    pub fn usage(&self) -> Result<Usage, HostError> {
        let mut bytes = [0; STAT_BYTES];
        let stat = read_stat(self.id.pid, self.stat.as_fd(), &mut bytes)?;
        if stat.is_zombie() {
            return Err(HostError::Ended { pid: self.id.pid });
        }
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Ok(Usage { threads: stat.threads, rss_bytes: stat.rss_pages.saturating_mul(page) })
    }

    /// Device and inode of what it runs now; `None`: that cannot be seen.
    pub fn program(&self) -> Option<(u64, u64)> {
        self.dir.program().ok().map(|file| (file.dev, file.ino))
    }
}

/// When the machine was booted, by the wall clock: whoever sets the clock moves it. The file has a line for each
/// interrupt of the machine and takes its time.
///
/// # Errors
/// When `/proc/stat` cannot be read.
pub fn boot_time() -> Result<Timestamp, HostError> {
    let path = Path::new("/proc/stat");
    let text = std::fs::read_to_string(path).map_err(|error| HostError::File {
        action: "read",
        path: path.to_owned(),
        error,
    })?;
    let malformed = |what: &str| HostError::Malformed { path: path.to_owned(), what: what.to_owned() };
    let boot = parse_boot_time(&text).ok_or_else(|| malformed("no btime line"))?;
    Timestamp::from_second(boot).map_err(|error| malformed(&error.to_string()))
}

/// Ticks after boot when this process was started, and device and inode of what it runs, where that can be seen; `None`:
/// there is no such process. Two looks that say the same saw the same process run the same program.
pub fn identity(pid: u32) -> Option<(u64, Option<(u64, u64)>)> {
    let file = File::open(format!("/proc/{pid}/stat")).ok()?;
    let mut bytes = [0; STAT_BYTES];
    let stat = read_stat(pid, file.as_fd(), &mut bytes).ok()?;
    if stat.kernel_thread || stat.is_zombie() {
        return None;
    }
    let program = std::fs::metadata(format!("/proc/{pid}/exe")).ok();
    Some((stat.start_ticks, program.map(|file| (file.dev(), file.ino()))))
}

/// Becomes readable when the process has ended: for event loops.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn open_pidfd(pid: u32) -> Result<OwnedFd, HostError> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(HostError::NoSuchProcess { pid })?;
    rustix::process::pidfd_open(raw, PidfdFlags::empty()).map_err(|error| match error {
        Errno::SRCH => HostError::NoSuchProcess { pid },
        // A thread that is not the first of its process: EINVAL up to Linux 6.8, ENOENT after.
        Errno::INVAL | Errno::NOENT => match process_of_thread(pid) {
            Some(process) if process != pid => HostError::Thread { tid: pid, pid: process },
            _ => HostError::NoSuchProcess { pid },
        },
        other => HostError::File {
            action: "open",
            path: PathBuf::from(format!("pidfd of {pid}")),
            error: other.into(),
        },
    })
}

fn process_of_thread(tid: u32) -> Option<u32> {
    parse_process(&String::from_utf8_lossy(&read_proc(tid, "status").ok()?))
}

/// A pidfd is readable from the moment the last thread of its process has ended.
pub(super) fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Err(Errno::INTR) => {}
            Ok(0) => return true,
            _ => return false,
        }
    }
}

fn ticks_to_duration(ticks: u64, per_second: u64) -> SignedDuration {
    let per_second = per_second.max(1);
    let seconds = i64::try_from(ticks / per_second).unwrap_or(i64::MAX);
    let rest = ticks % per_second;
    let nanoseconds = rest.saturating_mul(1_000_000_000) / per_second;
    SignedDuration::new(seconds, i32::try_from(nanoseconds).unwrap_or(0))
}

/// As much of a `stat` line as is read: all fields that we need, however large they are.
const STAT_BYTES: usize = 1024;

/// Reads an open `/proc/PID/stat`. The kernel gives such a file's one line in one go (`seq_read_iter` of `fs/seq_file.c`).
fn read_stat<'a>(
    pid: u32,
    file: BorrowedFd<'_>,
    bytes: &'a mut [u8; STAT_BYTES],
) -> Result<Stat<'a>, HostError> {
    let failed = |errno: Errno| {
        of_proc(pid, "read the state", &PathBuf::from(format!("/proc/{pid}/stat")), errno.into())
    };
    let read = rustix::io::pread(file, &mut bytes[..], 0).map_err(failed)?;
    bytes.get(..read).and_then(Stat::parse).ok_or_else(|| malformed(pid, "stat"))
}

/// Where the link to the executable points. It is magic: the name is for people, the file is reached through the link.
fn read_exe(dir: &ProcDir) -> Result<ExePath, HostError> {
    const DELETED: &[u8] = b" (deleted)";
    let path = |bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let target = dir.link(EXE).map_err(|errno| dir.failed("see the executable", EXE, errno))?;
    let Some(name) = target.strip_suffix(DELETED) else {
        return Ok(ExePath { path: path(target), deleted: false });
    };
    // A file may really have such a name.
    let literal = Path::new(std::ffi::OsStr::from_bytes(&target));
    let named = std::fs::metadata(dir.root().join(literal.strip_prefix("/").unwrap_or(literal)));
    let same = match (dir.program(), named) {
        (Ok(file), Ok(named)) => (file.dev, file.ino) == (named.dev(), named.ino()),
        _ => false,
    };
    let name = if same { &target } else { name };
    Ok(ExePath { path: path(name.to_vec()), deleted: !same })
}

/// Bytes that nearly every file of `/proc/PID` has less of.
const TYPICAL: usize = 4096;

/// Reads a file of `/proc/PID` in one go.
pub(super) fn read_proc(pid: u32, name: &str) -> Result<Vec<u8>, HostError> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    let read = || {
        let mut bytes = Vec::with_capacity(TYPICAL);
        // Of a file without this the standard library asks for the size, in two calls, before it reads.
        File::open(&path)?.take(u64::MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| of_proc(pid, "read the state", &path, error))
}

/// The meaning of an error from a file of `/proc/PID`.
pub(super) fn of_proc(pid: u32, action: &'static str, path: &Path, error: io::Error) -> HostError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::SRCH) => HostError::Ended { pid },
        Some(Errno::ACCESS | Errno::PERM) => {
            HostError::NotPermitted { pid, action, denied: Denied::of_process() }
        }
        _ => HostError::File { action: "read", path: path.to_owned(), error },
    }
}

pub(super) fn malformed(pid: u32, name: &str) -> HostError {
    HostError::Malformed {
        path: PathBuf::from(format!("/proc/{pid}/{name}")),
        what: "a field is missing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::host::target::{Target, copy};

    #[test]
    fn a_live_process_and_its_end() {
        let mut child = Target::sleeping("sleep");
        let process = Process::open(child.pid()).expect("a live child");
        assert!(process.alive());
        assert_eq!(process.pid(), child.pid());
        assert!(process.id().start_ticks > 0);
        assert!(process.usage().expect("threads").threads >= 1);
        let booted = boot_time().expect("the machine was booted");
        assert!(
            process.start_time(booted).expect("a start time") >= booted && booted > Timestamp::UNIX_EPOCH
        );
        child.end();
        assert!(!process.alive());
        assert!(matches!(process.usage(), Err(HostError::Ended { .. })));
        assert!(matches!(Process::open(child.pid()), Err(HostError::NoSuchProcess { .. })));
    }

    #[test]
    fn ourselves() {
        let me = std::process::id();
        let process = Process::open(me).expect("ourselves");
        assert_eq!(process.exe().path, std::env::current_exe().expect("our path"));
        assert!(!process.exe().deleted);
        assert!(process.usage().expect("rss").rss_bytes > 100_000);
    }

    #[test]
    fn impossible_pids() {
        for pid in [0, u32::MAX, 1 << 30] {
            assert!(matches!(Process::open(pid), Err(HostError::NoSuchProcess { .. })), "{pid}");
        }
    }

    #[test]
    fn a_zombie_is_named_so() {
        let mut child = Target::start(Command::new("sh").args(["-c", "exit 0"]));
        // The end of its output is the end of the process or just before it.
        let mut output = Vec::new();
        child.0.stdout.take().expect("a pipe").read_to_end(&mut output).expect("read");
        let pidfd = open_pidfd(child.pid()).expect("a pidfd of a zombie");
        while is_alive(pidfd.as_fd()) {
            std::thread::yield_now();
        }
        let error = Process::open(child.pid()).expect_err("a zombie");
        assert!(matches!(error, HostError::Zombie { parent, .. } if parent == std::process::id()), "{error}");
    }

    /// Each child ends by itself within a millisecond or so, at another moment of our looking at it each time.
    #[test]
    fn whatever_ends_meanwhile_is_said_to_have_ended() {
        for delay in 0..200 {
            let child = Target::start(&mut Command::new("true"));
            std::thread::sleep(std::time::Duration::from_micros(delay * 10));
            match Process::open(child.pid()) {
                Ok(process) => assert_eq!(process.pid(), child.pid()),
                Err(HostError::Ended { .. } | HostError::Zombie { .. }) => {}
                Err(error) => panic!("after {delay}: {error}"),
            }
        }
    }

    #[test]
    fn a_kernel_thread_is_named_so() {
        // pid 2 is kthreadd wherever pid 1 is the machine's init.
        let stat = read_proc(2, "stat").unwrap_or_default();
        if !Stat::parse(&stat).is_some_and(|stat| stat.kernel_thread) {
            return;
        }
        let error = Process::open(2).expect_err("a kernel thread");
        assert!(matches!(error, HostError::KernelThread { .. }), "{error}");
    }

    #[test]
    fn a_thread_id_names_its_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid()).expect("send");
            stopped.recv().expect_err("the sender is dropped");
        });
        let tid = u32::try_from(told.recv().expect("a tid").as_raw_nonzero().get()).expect("positive");
        let error = Process::open(tid).expect_err("a thread");
        drop(stop);
        thread.join().expect("join");
        assert!(matches!(error, HostError::Thread { pid, .. } if pid == std::process::id()), "{error}");
    }

    #[test]
    fn a_deleted_executable_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sleeper");
        copy("/bin/sleep", &path);
        let child = Target::sleeping(&path);
        std::fs::remove_file(&path).expect("delete");
        let process = Process::open(child.pid()).expect("a live child");
        assert_eq!(*process.exe(), ExePath { path, deleted: true });
    }

    #[test]
    fn a_name_that_says_deleted_is_not_deleted() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sleeper (deleted)");
        copy("/bin/sleep", &path);
        let child = Target::sleeping(&path);
        let process = Process::open(child.pid()).expect("a live child");
        assert_eq!(*process.exe(), ExePath { path, deleted: false });
    }

    #[test]
    fn ticks_become_time() {
        assert_eq!(ticks_to_duration(12_345, 100), SignedDuration::new(123, 450_000_000));
        assert_eq!(ticks_to_duration(5, 0), SignedDuration::new(5, 0));
    }
}
