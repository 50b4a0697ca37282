//! The text of `/proc/PID/stat` and `/proc/PID/status`, as far as leakwatch needs it.
//!
//! A comm may hold blanks, brackets and newlines: everything before the *last* `)` is name.

use std::borrow::Cow;

/// `PF_KTHREAD` of `include/linux/sched.h`, the same since 2.6.
const PF_KTHREAD: u64 = 0x0020_0000;

/// `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat<'a> {
    pub(crate) comm: Cow<'a, str>,
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) kernel_thread: bool,
    pub(crate) threads: u64,
    pub(crate) start_ticks: u64,
    pub(crate) rss_pages: u64,
}

impl<'a> Stat<'a> {
    /// Of the whole line, or of the beginning of it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let begin = bytes.iter().position(|&byte| byte == b'(')?;
        let end = bytes.iter().rposition(|&byte| byte == b')')?;
        let comm = String::from_utf8_lossy(bytes.get(begin + 1..end)?);
        // Field 3 of proc_pid_stat(5) is the first here.
        let mut fields = std::str::from_utf8(bytes.get(end + 1..)?).ok()?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // The next one after so many.
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        Some(Self {
            comm,
            state,
            parent: u32::try_from(number(0)?).ok()?,
            kernel_thread: number(9 - 5)? & PF_KTHREAD != 0,
            threads: number(20 - 10)?,
            start_ticks: number(22 - 21)?,
            rss_pages: number(24 - 23)?,
        })
    }

    /// Ended; only its parent has not collected it.
    pub(crate) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The process that a thread is of, by the text of its `/proc/PID/status`.
pub(crate) fn parse_process(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The line `btime` of `/proc/stat`: when the machine was booted, seconds after 1970.
pub(crate) fn parse_boot_time(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "1234 (a) (b\n) S 1 1234 1234 0 -1 4194560 2178 0 0 0 5 3 0 0 20 0 17 0 987654 1234567 \
                        444 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0";

    #[test]
    fn a_comm_may_hold_anything() {
        let stat = Stat::parse(STAT.as_bytes()).expect("a stat line");
        assert_eq!(stat.comm, "a) (b\n");
        assert_eq!((stat.state, stat.parent, stat.threads), ('S', 1, 17));
        assert_eq!((stat.start_ticks, stat.rss_pages), (987_654, 444));
        assert!(!stat.kernel_thread && !stat.is_zombie());
    }

    #[test]
    fn a_kernel_thread_is_known_by_its_flag() {
        let line = STAT.replace("4194560", "2129984");
        assert!(Stat::parse(line.as_bytes()).expect("a stat line").kernel_thread);
    }

    #[test]
    fn cut_lines_are_refused() {
        for end in 0..STAT.len() - 150 {
            assert_eq!(Stat::parse(&STAT.as_bytes()[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn status_gives_the_process() {
        assert_eq!(parse_process("Name:\tsh\nTgid:\t77\nUid:\t1000\n"), Some(77));
        assert_eq!(parse_process("Name:\tsh\n"), None);
    }

    #[test]
    fn boot_time_is_one_line_of_many() {
        assert_eq!(parse_boot_time("cpu 1 2\nintr 5\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000));
        assert_eq!(parse_boot_time("cpu 1 2\n"), None);
    }
}
