//! What leakwatch itself takes of the machine.

use std::{fs, sync::LazyLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::stat::Stat;

/// Where the kernel lists our file descriptors.
const FDS: &str = "/proc/self/fd";

/// What this process has now; `None`: it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Resident memory, bytes.
    pub rss_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Own {
    /// Reads it.
    pub fn read() -> Self {
        let bytes = fs::read("/proc/self/stat").unwrap_or_default();
        let stat = Stat::parse(&bytes);
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Self {
            rss_bytes: stat.as_ref().map(|stat| stat.rss_pages.saturating_mul(page)),
            open_fds: open_fds(),
            threads: stat.map(|stat| stat.threads),
        }
    }
}

/// Since Linux 6.2 the size of the directory is how many there are (`proc_fd_getattr`, fs/proc/fd.c); before, 0.
fn open_fds() -> Option<u64> {
    let size = fs::metadata(FDS).ok()?.len();
    if size > 0 { Some(size) } else { listed_fds() }
}

fn listed_fds() -> Option<u64> {
    // The directory itself is open while it is listed.
    fs::read_dir(FDS).ok().map(|fds| (fds.count() as u64).saturating_sub(1))
}

/// Processors that we may run on, as of the first time that somebody asked: to find out takes several files.
pub fn processors() -> u32 {
    static FOUND: LazyLock<u32> = LazyLock::new(|| {
        std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
    });
    *FOUND
}

/// Allows as many open files as the hard limit does, at most this many: each watched process takes some. Returns how many
/// may be open now.
pub fn raise_open_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let allowed = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let now = current.unwrap_or(u64::MAX);
    if now >= allowed {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum }) {
        Ok(()) => allowed,
        // What cannot be raised is what there is.
        Err(_) => now,
    }
}

/// The user id of a user's name; a number is one.
pub fn user_id(name: &str) -> Option<u32> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_have_memory_files_and_threads() {
        let own = Own::read();
        assert!(own.rss_bytes.is_some_and(|bytes| bytes > 100_000), "{own:?}");
        // Other tests open and close files meanwhile.
        for fds in [own.open_fds, listed_fds()] {
            assert!(fds.is_some_and(|fds| fds >= 3), "{fds:?}");
        }
        assert!(own.threads.is_some_and(|threads| threads >= 1), "{own:?}");
        assert!(raise_open_files(0) > 0);
        assert_eq!((user_id("root"), user_id("4711"), user_id("no such user")), (Some(0), Some(4711), None));
    }
}
