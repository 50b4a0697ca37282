//! Ends of the processes that the agent watches: one descriptor tells of all of them.
//!
//! A task, a descriptor and an entry in the reactor for each of them would be a tenth of what a short life costs, and so would be waking
//! up for each end: nobody sees it before the next report. It must never own a process's descriptor: who forgets the process closes it,
//! and the kernel takes it out of here.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
};

/// Ends taken by one call.
const AT_ONCE: usize = 256;

/// Who is awaited, and who has ended.
#[derive(Debug)]
pub(super) struct Ends(OwnedFd);

impl Ends {
    /// Nobody is awaited yet.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// From now on the end of the process that this pidfd is of is told as `number`, once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn tell(&self, pidfd: impl AsFd, number: u64) -> io::Result<()> {
        // A pidfd is readable from the end of its process on: once is enough.
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        Ok(epoll::add(&self.0, pidfd, EventData::new_u64(number), flags)?)
    }

    /// The numbers of those that have ended since the last time; waits for nobody.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn take(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let mut events = Vec::with_capacity(AT_ONCE);
        loop {
            events.clear();
            epoll::wait(&self.0, spare_capacity(&mut events), Some(&Timespec::default()))?;
            numbers.extend(events.iter().map(|event| event.data.u64()));
            if events.len() < AT_ONCE {
                return Ok(numbers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn each_end_is_told_once_and_nothing_of_who_is_forgotten() {
        let ends = Ends::new().expect("an epoll");
        let mut children: Vec<_> =
            (0..AT_ONCE + 2).map(|_| Command::new("sleep").arg("600").spawn().expect("a child")).collect();
        let mut pidfds: Vec<_> = children
            .iter()
            .zip(0u64..)
            .map(|(child, number)| {
                let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("a pidfd");
                ends.tell(&pidfd, number).expect("told");
                pidfd
            })
            .collect();
        drop(pidfds.pop());
        assert_eq!(ends.take().expect("told"), [0; 0], "all of them run");
        for child in &mut children {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
        let mut told = ends.take().expect("told");
        told.sort_unstable();
        assert_eq!(told, (0..=AT_ONCE as u64).collect::<Vec<_>>(), "the last one was forgotten");
        assert_eq!(ends.take().expect("told"), [0; 0], "they were told");
    }
}
