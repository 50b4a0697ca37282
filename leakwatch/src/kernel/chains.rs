//! The tables of what is made by a process: call chains that lead to a site, and children.

use std::os::fd::AsFd as _;

use aya::maps::{HashMap, MapData, MapError};
use leakwatch_common::{
    Chain, ChainKey, ChildValue, Interpreter, RuntimeKind, SiteCounters, SiteKey, limits,
};
use leakwatch_inspect::btf::Btf;

use super::{
    batch,
    error::KernelError,
    object::{Kernel, Watched, hash_map},
    plain::Plain,
};

impl Kernel {
    /// Has creations by these calls counted to their site from now on. `index` is one more than that of the process's
    /// last chain, 0 for the first. `false`: there is no room for it, its stacks are sent as before.
    pub fn add_chain(&mut self, watched: &Watched, index: u32, chain: Chain) -> Result<bool, KernelError> {
        if index >= limits::CHAINS_PER_PROCESS {
            return Ok(false);
        }
        let key = ChainKey { process: watched.slot.incarnation, index };
        match self.chains()?.insert(Plain(key), Plain(chain), 0) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error))
                if matches!(error.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM)) =>
            {
                Ok(false)
            }
            Err(source) => Err(KernelError::Map { map: "CHAINS", source: Box::new(source) }),
        }
    }

    /// Has the frames of the process's interpreter read where it makes threads and children.
    pub fn set_interpreter(
        &mut self,
        watched: &Watched,
        interpreter: Interpreter,
    ) -> Result<(), KernelError> {
        let map_error = |source| KernelError::Map { map: "INTERPRETERS", source: Box::new(source) };
        let mut table = self.interpreters()?;
        table.insert(watched.slot.incarnation, Plain(interpreter), 0).map_err(map_error)
    }

    /// Removes a thread's site of which nothing will be counted any more, to make room.
    pub fn remove_thread_site(&mut self, watched: &Watched, site: u64) -> Result<(), KernelError> {
        let map_error = |source| KernelError::Map { map: "SITES", source: Box::new(source) };
        let map = self.ebpf.map_mut("SITES").ok_or(KernelError::Missing { name: "SITES" })?;
        let mut sites =
            HashMap::<_, Plain<SiteKey>, Plain<SiteCounters>>::try_from(map).map_err(map_error)?;
        let process = watched.slot.incarnation;
        let key = SiteKey { site, entry: 0, process, runtime: RuntimeKind::Thread as u32 };
        match sites.remove(&Plain(key)) {
            // Gone already is as good as removed.
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            Err(source) => Err(map_error(source)),
        }
    }

    /// Removes the chains and children of a process that is not watched any more.
    pub(super) fn purge_made(&mut self, incarnation: u32) -> Result<(), KernelError> {
        let mut chains = self.chains()?;
        for index in 0..limits::CHAINS_PER_PROCESS {
            // They are numbered without a gap.
            if chains.remove(&Plain(ChainKey { process: incarnation, index })).is_err() {
                break;
            }
        }
        // A process without an interpreter has no entry.
        drop(self.interpreters()?.remove(&incarnation));
        let mut children = Vec::new();
        let map = hash_map(&self.ebpf, "CHILDREN")?;
        batch::for_each::<u32, ChildValue>(map.fd().as_fd(), |pid, child| {
            if child.process == incarnation {
                children.push(*pid);
            }
        })
        .map_err(|source| KernelError::MapRead { map: "CHILDREN", source })?;
        let map_error = |source| KernelError::Map { map: "CHILDREN", source: Box::new(source) };
        let map = self.ebpf.map_mut("CHILDREN").ok_or(KernelError::Missing { name: "CHILDREN" })?;
        let mut table = HashMap::<_, u32, Plain<ChildValue>>::try_from(map).map_err(map_error)?;
        for pid in children {
            // It may end meanwhile: gone already is as good as removed.
            drop(table.remove(&pid));
        }
        Ok(())
    }

    fn interpreters(&mut self) -> Result<HashMap<&mut MapData, u32, Plain<Interpreter>>, KernelError> {
        let map = self.ebpf.map_mut("INTERPRETERS").ok_or(KernelError::Missing { name: "INTERPRETERS" })?;
        HashMap::try_from(map)
            .map_err(|source| KernelError::Map { map: "INTERPRETERS", source: Box::new(source) })
    }

    fn chains(&mut self) -> Result<HashMap<&mut MapData, Plain<ChainKey>, Plain<Chain>>, KernelError> {
        let map = self.ebpf.map_mut("CHAINS").ok_or(KernelError::Missing { name: "CHAINS" })?;
        HashMap::try_from(map).map_err(|source| KernelError::Map { map: "CHAINS", source: Box::new(source) })
    }
}

/// Where this kernel keeps a thread's pointer to its thread-local variables, in its `task_struct`; `None`: the kernel
/// does not tell (it has no type information), or its processor is another.
pub fn thread_pointer() -> Option<u32> {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    Btf::parse(&bytes)?.offset("task_struct", &["thread", "fsbase"])
}
