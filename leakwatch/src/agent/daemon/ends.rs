//! Ends of the processes that the agent watches: one descriptor tells of all of them.
//!
//! A task, a descriptor and an entry in the reactor for each of them would be a tenth of what a short life costs. It must never own a
//! process's descriptor: who forgets the process closes it, and the kernel takes it out of here.

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
use tokio::io::unix::AsyncFd;

use crate::agent::process::readable;

/// Ends taken at once; those beyond are taken by the next call.
const AT_ONCE: usize = 256;

/// Who is awaited.
#[derive(Debug)]
pub(super) struct Ends(OwnedFd);

/// Tells who has ended.
#[derive(Debug)]
pub(super) struct Ended(AsyncFd<OwnedFd>);

/// Nobody is awaited yet.
///
/// # Errors
/// When the kernel gives no descriptor.
pub(super) fn ends() -> io::Result<(Ends, Ended)> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    Ok((Ends(epoll.try_clone()?), Ended(readable(epoll)?)))
}

impl Ends {
    /// From now on the end of the process that this pidfd is of is told as `number`, once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn tell(&self, pidfd: impl AsFd, number: u64) -> io::Result<()> {
        // A pidfd is readable from the end of its process on: once is enough.
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        Ok(epoll::add(&self.0, pidfd, EventData::new_u64(number), flags)?)
    }
}

impl Ended {
    /// The numbers of those that have ended; waits until there are some.
    ///
    /// # Errors
    /// When the descriptor fails.
    pub(super) async fn next(&mut self) -> io::Result<Vec<u64>> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut events = Vec::with_capacity(AT_ONCE);
            epoll::wait(ready.get_inner(), spare_capacity(&mut events), Some(&Timespec::default()))?;
            if events.len() < AT_ONCE {
                ready.clear_ready();
            }
            if !events.is_empty() {
                return Ok(events.iter().map(|event| event.data.u64()).collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[tokio::test]
    async fn each_end_is_told_once_and_nothing_of_who_is_forgotten() {
        let (ends, mut ended) = ends().expect("an epoll");
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
        for child in &mut children {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
        let mut told = Vec::new();
        while told.len() <= AT_ONCE {
            told.extend(ended.next().await.expect("told"));
        }
        told.sort_unstable();
        assert_eq!(told, (0..=AT_ONCE as u64).collect::<Vec<_>>(), "the last one was forgotten");
        let again = tokio::time::timeout(std::time::Duration::from_millis(50), ended.next()).await;
        assert!(again.is_err(), "{again:?}");
    }
}
