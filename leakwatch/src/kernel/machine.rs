//! What concerns no single watched process: news of every exec of the machine, and what was counted for nobody.

use aya::maps::Array;
use leakwatch_common::{ProcessSlot, RuntimeKind, process_flags};

use super::{
    error::KernelError,
    object::{Kernel, Watched},
    plain::Plain,
};
use crate::observe::Counters;

impl Kernel {
    /// Has every `execve` of the machine told of ([`crate::observe::Observed::HostExec`]) from now on: at once, or `together`, which
    /// wakes nobody up: the caller asks often enough.
    ///
    /// # Errors
    /// When the kernel's tables cannot be written.
    pub fn announce_execs(&mut self, together: bool) -> Result<(), KernelError> {
        let flags = process_flags::ANNOUNCE | if together { process_flags::GATHER } else { 0 };
        let map_error = |source| KernelError::Map { map: "SLOTS", source: Box::new(source) };
        let map = self.ebpf.map_mut("SLOTS").ok_or(KernelError::Missing { name: "SLOTS" })?;
        let mut slots = Array::<_, Plain<ProcessSlot>>::try_from(map).map_err(map_error)?;
        slots.set(0, Plain(ProcessSlot { flags, ..ProcessSlot::default() }), 0).map_err(map_error)
    }

    /// What was counted where no process could be named: news of execs that were lost among it.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub fn counters_of_nobody(&self) -> Result<Counters, KernelError> {
        self.counters_of_slot(0)
    }

    /// Removes what the tables have of the tasks of a process, so that counting them can begin anew. Its probes are off.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub fn forget_tasks(
        &mut self,
        watched: &Watched,
        of: impl Fn(RuntimeKind) -> bool,
    ) -> Result<(), KernelError> {
        self.purge_live(watched.incarnation(), &of)?;
        self.purge_sites(watched.incarnation(), &of)
    }
}
