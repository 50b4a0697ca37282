//! The threads of a process, and children that have ended, as `/proc` shows them.
//!
//! Everything here is of a moment, and of thread ids that are reused: the caller knows from events what is still the
//! same. A thread that ended while we looked is absent, never made up.

use std::{fs, io, path::PathBuf};

use super::{
    HostError,
    process::{of_proc, read_proc},
    stat::Stat,
};

/// Most threads of one process that are listed: `PID_MAX_LIMIT` of include/linux/threads.h.
const MOST_THREADS: usize = 1 << 22;

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadInfo {
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// `R`, `S`, `D`, `T`, …, as `ps` shows it; `Z` and `X`: it has ended.
    pub state: char,
    /// Ticks after boot when it began.
    pub start_ticks: u64,
}

impl ThreadInfo {
    /// It has ended, and only its entry is left.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Where a blocked thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockedAt {
    /// The system call it is in; `None`: it is blocked outside of one, such as on a page.
    pub syscall: Option<i64>,
    /// Its stack pointer.
    pub sp: u64,
    /// Its next instruction.
    pub pc: u64,
}

/// Ids of the threads that a process has now, those that have just ended among them.
///
/// # Errors
/// [`HostError::Ended`], [`HostError::NotPermitted`].
pub fn ids(pid: u32) -> Result<Vec<u32>, HostError> {
    let path = PathBuf::from(format!("/proc/{pid}/task"));
    let entries = fs::read_dir(&path).map_err(|error| of_proc(pid, "list the threads", &path, error))?;
    // An entry that cannot be read is of a thread that ended meanwhile.
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(ids.take(MOST_THREADS).collect())
}

/// What a thread is doing; `None`: it is gone.
pub fn info(pid: u32, tid: u32) -> Option<ThreadInfo> {
    let bytes = read(pid, tid, "stat").ok()?;
    let stat = Stat::parse(&bytes)?;
    Some(ThreadInfo { tid, name: stat.comm.into_owned(), state: stat.state, start_ticks: stat.start_ticks })
}

/// Where a thread is blocked; `None`: it runs.
///
/// # Errors
/// When it is gone, or we may not look.
pub fn blocked_at(pid: u32, tid: u32) -> io::Result<Option<BlockedAt>> {
    Ok(parse_syscall(&String::from_utf8_lossy(&read(pid, tid, "syscall")?)))
}

/// How many turns a thread had on a processor; `None`: it is gone, or the kernel does not count (`CONFIG_SCHED_INFO`).
///
/// The third figure of `/proc/PID/task/TID/schedstat` (`proc_pid_schedstat` of fs/proc/base.c).
pub fn turns(pid: u32, tid: u32) -> Option<u64> {
    let text = read(pid, tid, "schedstat").ok()?;
    String::from_utf8_lossy(&text).split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The kernel's function that a thread sleeps in; `None`: it does not sleep, or the kernel does not tell.
pub fn wait_channel(pid: u32, tid: u32) -> Option<String> {
    let name = String::from_utf8(read(pid, tid, "wchan").ok()?).ok()?;
    (!name.is_empty() && name != "0").then_some(name)
}

/// Children of a process, by its threads, those among them that have ended and were not collected.
/// Empty where the kernel was built without `CONFIG_PROC_CHILDREN`.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = ids(pid).unwrap_or_default();
    let of_thread = |tid: u32| read(pid, tid, "children").unwrap_or_default();
    let text = threads.into_iter().flat_map(|tid| {
        let text = String::from_utf8_lossy(&of_thread(tid)).into_owned();
        text.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
    });
    text.collect()
}

/// A process that has ended and that its parent has not collected: its name. `None`: it is something else.
pub fn zombie_of(parent: u32, pid: u32) -> Option<String> {
    let bytes = read_proc(pid, "stat").ok()?;
    let stat = Stat::parse(&bytes)?;
    (stat.parent == parent && stat.is_zombie()).then(|| stat.comm.into_owned())
}

fn read(pid: u32, tid: u32, name: &str) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/task/{tid}/{name}"))
}

/// `proc_pid_syscall` of fs/proc/base.c: `running`, or `-1 SP PC`, or `NUMBER SIX ARGUMENTS SP PC`.
fn parse_syscall(text: &str) -> Option<BlockedAt> {
    let mut words = text.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let mut last = words.rev().map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let (pc, sp) = (last.next()??, last.next()??);
    Some(BlockedAt { syscall: (number >= 0).then_some(number), sp, pc })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_syscall_file() {
        let line = "230 0x0 0x0 0x7ffcade5e840 0x7ffcade5e880 0x0 0x0 0x7ffcade5e828 0x7f5aa1aa1503\n";
        let expected = BlockedAt { syscall: Some(230), sp: 0x7ffc_ade5_e828, pc: 0x7f5a_a1aa_1503 };
        assert_eq!(parse_syscall(line), Some(expected));
        let faulting = BlockedAt { syscall: None, sp: 16, pc: 32 };
        assert_eq!(parse_syscall("-1 0x10 0x20"), Some(faulting));
        for odd in ["running\n", "", "1", "1 0x", "x 0x1 0x2", "0 zz 0x1"] {
            assert_eq!(parse_syscall(odd), None, "{odd}");
        }
    }

    #[test]
    fn our_own_threads() {
        let pid = std::process::id();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (runs, running) = std::sync::mpsc::channel();
        let name = std::thread::Builder::new().name("named".to_owned());
        // A thread names itself, before it runs what it was made for.
        let body = move || {
            runs.send(()).expect("somebody waits");
            stopped.recv()
        };
        let thread = name.spawn(body).expect("it starts");
        running.recv().expect("it runs");
        let all: Vec<ThreadInfo> =
            ids(pid).expect("our threads").into_iter().filter_map(|tid| info(pid, tid)).collect();
        assert!(all.iter().any(|thread| thread.name == "named" && !thread.has_ended()), "{all:?}");
        drop(stop);
        thread.join().expect("joined").expect_err("the sender is gone");
        assert_eq!(info(pid, 0), None);
        assert!(blocked_at(pid, 0).is_err());
    }
}
