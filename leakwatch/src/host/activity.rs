//! What the threads of a process have done so far, to tell whether it did anything between two moments.

use std::collections::BTreeMap;

use super::{HostError, Process, process::read_proc, stat::Stat};

/// The threads of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// By thread id.
    threads: BTreeMap<u32, Thread>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thread {
    /// Neither running nor about to.
    asleep: bool,
    /// Processor time so far, and how often the scheduler put it on a processor.
    run: (u64, u64),
}

impl Activity {
    /// Looks at every thread of a process.
    ///
    /// # Errors
    /// [`HostError::Ended`], [`HostError::NotPermitted`], or that the kernel keeps no such records.
    pub fn of(process: &Process) -> Result<Self, HostError> {
        let pid = process.pid();
        let folder = std::path::PathBuf::from(format!("/proc/{pid}/task"));
        let failed = |error| HostError::File { action: "read", path: folder.clone(), error };
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(thread) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // The counters first: a thread that wakes after them is seen awake, or has other counters the next time.
            let (Ok(counters), Ok(stat)) = (
                read_proc(pid, &format!("task/{thread}/schedstat")),
                read_proc(pid, &format!("task/{thread}/stat")),
            ) else {
                continue;
            };
            let text = String::from_utf8_lossy(&counters);
            let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
            let (Some(Ok(time)), Some(_), Some(Ok(times)), Some(stat)) =
                (numbers.next(), numbers.next(), numbers.next(), Stat::parse(&stat))
            else {
                return Err(super::process::malformed(pid, "task"));
            };
            threads.insert(
                thread,
                Thread { asleep: matches!(stat.state, 'S' | 'D' | 'T' | 't'), run: (time, times) },
            );
        }
        if threads.is_empty() || !process.alive() {
            return Err(HostError::Ended { pid });
        }
        Ok(Self { threads })
    }

    /// No thread ran from this moment to a later one, and there are the same threads.
    pub fn stood_still_until(&self, later: &Self) -> bool {
        // A kernel that counts nothing would show standing still.
        let counts = self.threads.values().any(|thread| thread.run.1 > 0);
        counts && self == later && self.threads.values().all(|thread| thread.asleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::target::Target;

    #[test]
    fn a_sleeper_stands_still_and_we_do_not() {
        let child = Target::sleeping("sleep");
        let process = Process::open(child.pid()).expect("a child");
        let look = || Activity::of(&process).expect("its threads");
        // It may still be on its way to sleep.
        let still = (0..1000).any(|_| {
            let first = look();
            std::thread::yield_now();
            first.stood_still_until(&look())
        });
        assert!(still);
        let ourselves = Process::open(std::process::id()).expect("ourselves");
        let first = Activity::of(&ourselves).expect("our threads");
        assert!(!first.stood_still_until(&Activity::of(&ourselves).expect("our threads")), "we are running");
    }
}
