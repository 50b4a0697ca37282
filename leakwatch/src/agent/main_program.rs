//! The program that we started ourselves: signals are passed on to it, and what it leaves running has a moment to end.
//!
//! Must never end a program that somebody else started.

use std::{io, pin::Pin, time::Duration};

use rustix::process::{Pid, Signal};
use tokio::time::{Sleep, sleep};

/// A program that we started: the watch is of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Main {
    /// Its process.
    pub pid: u32,
    /// When it ended, its children may take this long to end, too; and a task must have lived this long to count as left
    /// behind.
    pub grace: Duration,
}

/// Where in its life it is. Without one, nothing here ever happens.
pub(super) struct MainProgram {
    main: Option<Main>,
    told: bool,
    grace: Option<Pin<Box<Sleep>>>,
}

impl MainProgram {
    pub(super) fn new(main: Option<Main>) -> Self {
        Self { main, told: false, grace: None }
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.main.map(|main| main.pid)
    }

    /// Passes a signal on to it, once: its end is then ours. False: there is none, it was told before, or it is gone.
    pub(super) fn pass_on(&mut self, signal: Signal) -> bool {
        let Some(main) = self.main.filter(|_| !self.told && self.grace.is_none()) else { return false };
        self.told = true;
        // A terminal sends an interrupt to all processes in its foreground, the program among them.
        let foreground = rustix::termios::tcgetpgrp(io::stdin());
        if signal == Signal::INT && foreground.is_ok_and(|group| group == rustix::process::getpgrp()) {
            return true;
        }
        let pid = i32::try_from(main.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
    }

    /// It ended. What it left running has its grace from now on.
    pub(super) fn ended(&mut self) {
        if let Some(main) = self.main.filter(|_| self.grace.is_none()) {
            self.grace = Some(Box::pin(sleep(main.grace)));
        }
    }

    /// Comes back when it ended and the grace is over.
    pub(super) async fn over(&mut self) {
        match self.grace.as_mut() {
            Some(grace) => grace.await,
            None => std::future::pending().await,
        }
    }
}
