//! A program that we start ourselves, held before its first instruction until somebody watches it.
//!
//! The kernel stops a traced program at its `execve`; that is the only tracing that leakwatch ever does, of a program that
//! nobody else has seen yet, and it ends before the program runs. When leakwatch dies meanwhile, the kernel lets it go.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// A program that we started.
#[derive(Debug)]
pub struct Started {
    child: Child,
    held: bool,
}

impl Started {
    /// Starts it and holds it. All that is done with it until [`Self::release`] must be done on this thread.
    ///
    /// # Errors
    /// When it cannot be started, or ends at once.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // SAFETY: between fork and exec only one system call is made, which takes no memory and no lock.
        unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
        let child = command.spawn()?;
        let started = Self { child, held: true };
        match waitpid(started.raw()?, None) {
            Ok(WaitStatus::Stopped(..)) => Ok(started),
            Ok(_ended) => Err(io::Error::other("it ended before it ran")),
            Err(error) => Err(error.into()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run; from here on nobody traces it.
    ///
    /// # Errors
    /// When it is gone: somebody killed it.
    pub fn release(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.held) {
            match ptrace::detach(self.raw()?, None) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When somebody else waited for it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    fn raw(&self) -> io::Result<Pid> {
        i32::try_from(self.child.id()).map(Pid::from_raw).map_err(io::Error::other)
    }
}

impl Drop for Started {
    /// One that never ran is not left behind; one that runs is nobody's to end.
    fn drop(&mut self) {
        if self.held {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_when_it_is_released_and_not_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ran");
        let mut started = Started::start(Command::new("touch").arg(&file)).expect("it starts");
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", started.pid())).expect("it is there");
        assert_eq!(comm.trim_end(), "touch", "it executes the program already");
        assert!(!file.exists());
        started.release().expect("it is there");
        assert!(started.wait().expect("our child").success());
        assert!(file.exists());
    }

    #[test]
    fn one_that_was_never_released_is_gone() {
        let started = Started::start(Command::new("sleep").arg("1000")).expect("it starts");
        let pid = started.pid();
        drop(started);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn one_that_is_not_there_is_an_error() {
        assert!(Started::start(&mut Command::new("/no/such/program")).is_err());
    }
}
