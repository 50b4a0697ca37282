//! A process whose program was read, and that nobody has touched yet.
//!
//! Reading a program that was never seen takes as long as it is large, so it can be done by another thread than the one
//! that watches: what is found here can be sent between threads. Nothing here attaches, and nothing reads the process's
//! memory.

use leakwatch_common::RuntimeKind;

use super::error::CollectError;
use crate::{
    host::Process,
    images::{Binaries, Library, Loaded, Modules},
};

/// A process and its program.
#[derive(Debug)]
pub struct Found {
    /// The process.
    pub process: Process,
    /// It began to run its program just now: nothing that it has was there before.
    pub newborn: bool,
    pub(super) loaded: Loaded,
    pub(super) modules: Modules,
    pub(super) libraries: Vec<Library>,
}

impl Found {
    /// Reads the program of a process, or remembers it.
    ///
    /// # Errors
    /// When the process ends, may not be looked at, or runs no program that we read.
    pub fn look(process: Process, binaries: &mut Binaries) -> Result<Self, CollectError> {
        let (loaded, modules) = Loaded::of_process(&process, binaries)?;
        let libraries = loaded.libraries(&modules, binaries)?;
        Ok(Self { process, newborn: false, loaded, modules, libraries })
    }

    /// The runtimes whose tasks it may have, as far as its files tell; without any it has threads.
    pub fn runtimes(&self) -> Vec<RuntimeKind> {
        let inspection = self.loaded.inspection();
        let tokio = !inspection.tokio.is_empty() || !self.libraries.is_empty();
        let go = inspection.go.is_some().then_some(RuntimeKind::Go);
        go.into_iter().chain(tokio.then_some(RuntimeKind::Tokio)).collect()
    }
}
