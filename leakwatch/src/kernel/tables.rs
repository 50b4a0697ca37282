//! The kernel's tables: counters, sites, live tasks.

use std::os::fd::AsFd as _;

use aya::maps::{HashMap, MapError, PerCpuArray};
use leakwatch_common::{
    COUNTERS, Counter, LiveKey, LiveState, LiveValue, RuntimeKind, SiteCounters, SiteKey,
};

use super::{
    batch,
    error::KernelError,
    object::{Kernel, Watched, hash_map},
    plain::Plain,
};
use crate::observe::{Counters, SiteId};

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const BPF_NOEXIST: u64 = 1;

/// One entry of the live table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveTask {
    /// Its address.
    pub task: u64,
    /// Its site; `None` when its runtime id is unknown to this build.
    pub site: SiteId,
    /// `CLOCK_MONOTONIC` ns; `None`: it was alive before the attach.
    pub born_ns: Option<u64>,
}

impl Kernel {
    /// The process's counters, summed over CPUs.
    pub fn counters(&self, watched: &Watched) -> Result<Counters, KernelError> {
        self.counters_of_slot(watched.slot.slot)
    }

    /// Those of one row of the counters.
    pub(super) fn counters_of_slot(&self, slot: u32) -> Result<Counters, KernelError> {
        let map_error = |source| KernelError::Map { map: "COUNTER_ROWS", source: Box::new(source) };
        let map = self.ebpf.map("COUNTER_ROWS").ok_or(KernelError::Missing { name: "COUNTER_ROWS" })?;
        let rows = PerCpuArray::<_, [u64; COUNTERS]>::try_from(map).map_err(map_error)?;
        let mut sum = Counters::default();
        for row in rows.get(&slot, 0).map_err(map_error)?.iter() {
            for (total, value) in sum.0.iter_mut().zip(row) {
                *total = total.wrapping_add(*value);
            }
        }
        let hits = Counter::OF_HITS.into_iter().map(|counter| sum.get(counter));
        sum.set(Counter::ProbeHits, hits.fold(sum.get(Counter::ProbeHits), u64::wrapping_add));
        Ok(sum)
    }

    /// Calls `each` with every (incarnation, site, counters) of the site table.
    pub fn for_each_site(&self, mut each: impl FnMut(u32, SiteId, &SiteCounters)) -> Result<(), KernelError> {
        let map = hash_map(&self.ebpf, "SITES")?;
        batch::for_each::<SiteKey, SiteCounters>(map.fd().as_fd(), |key, value| {
            if let Some(site) = site_id(key.runtime, key.site, key.entry) {
                each(key.process, site, value);
            }
        })
        .map_err(|source| KernelError::MapRead { map: "SITES", source })
    }

    /// Calls `each` with every (incarnation, task) of the live table, tombstones left out.
    pub fn for_each_live(&self, mut each: impl FnMut(u32, LiveTask)) -> Result<(), KernelError> {
        self.for_each_entry(|key, value| {
            if value.state == LiveState::Tombstone as u64 {
                return;
            }
            if let Some(site) = site_id(key.runtime, value.site, value.entry) {
                let born_ns = (value.born_ns != 0).then_some(value.born_ns);
                each(key.process, LiveTask { task: key.task, site, born_ns });
            }
        })
    }

    /// Enters a task that the census saw alive. `false`: an event said something of this address since the
    /// attach, and it knows better.
    pub fn add_seen(&mut self, watched: &Watched, task: u64, site: SiteId) -> Result<bool, KernelError> {
        let key = live_key(watched, task, site.runtime);
        let value =
            LiveValue { born_ns: 0, site: site.site, entry: site.entry, state: LiveState::Seen as u64 };
        match self.live()?.insert(Plain(key), Plain(value), BPF_NOEXIST) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                Ok(false)
            }
            Err(MapError::SyscallError(error))
                if matches!(error.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM)) =>
            {
                Err(KernelError::Full {
                    what: KernelError::LIVE_TABLE,
                    size: self.options().live_tasks,
                    flag: "--max-tasks",
                })
            }
            Err(source) => Err(KernelError::Map { map: "LIVE", source: Box::new(source) }),
        }
    }

    /// Takes back a task that the census had entered, if no event took it meanwhile. `true`: it was there.
    pub fn remove_seen(
        &mut self,
        watched: &Watched,
        task: u64,
        runtime: RuntimeKind,
    ) -> Result<bool, KernelError> {
        let key = Plain(live_key(watched, task, runtime));
        let mut live = self.live()?;
        match live.get(&key, 0) {
            Ok(value) if value.0.state == LiveState::Seen as u64 => Ok(live.remove(&key).is_ok()),
            Ok(_) | Err(MapError::KeyNotFound) => Ok(false),
            Err(source) => Err(KernelError::Map { map: "LIVE", source: Box::new(source) }),
        }
    }

    /// Removes everything that belongs to an incarnation.
    pub(super) fn purge(&mut self, incarnation: u32) -> Result<(), KernelError> {
        self.purge_live(incarnation, &|_| true)?;
        self.purge_made(incarnation)?;
        self.purge_sites(incarnation, &|_| true)
    }

    /// Removes an incarnation's sites of these runtimes.
    pub(super) fn purge_sites(
        &mut self,
        incarnation: u32,
        of: &dyn Fn(RuntimeKind) -> bool,
    ) -> Result<(), KernelError> {
        let mut keys = Vec::new();
        let map = hash_map(&self.ebpf, "SITES")?;
        batch::for_each::<SiteKey, SiteCounters>(map.fd().as_fd(), |key, _| {
            if key.process == incarnation && is_one(key.runtime, of) {
                keys.push(*key);
            }
        })
        .map_err(|source| KernelError::MapRead { map: "SITES", source })?;
        let map_error = |source| KernelError::Map { map: "SITES", source: Box::new(source) };
        let map = self.ebpf.map_mut("SITES").ok_or(KernelError::Missing { name: "SITES" })?;
        let mut sites =
            HashMap::<_, Plain<SiteKey>, Plain<SiteCounters>>::try_from(map).map_err(map_error)?;
        for key in keys {
            // A probe that is just being taken off may have the key again; what is left is nobody's and harmless.
            drop(sites.remove(&Plain(key)));
        }
        Ok(())
    }

    /// Removes an incarnation's live tasks of these runtimes.
    pub(super) fn purge_live(
        &mut self,
        incarnation: u32,
        of: &dyn Fn(RuntimeKind) -> bool,
    ) -> Result<(), KernelError> {
        let mut keys = Vec::new();
        self.for_each_entry(|key, _| {
            if key.process == incarnation && is_one(key.runtime, of) {
                keys.push(*key);
            }
        })?;
        let mut live = self.live()?;
        for key in keys {
            // Gone already is as good as removed.
            drop(live.remove(&Plain(key)));
        }
        Ok(())
    }

    fn for_each_entry(&self, each: impl FnMut(&LiveKey, &LiveValue)) -> Result<(), KernelError> {
        let map = hash_map(&self.ebpf, "LIVE")?;
        batch::for_each(map.fd().as_fd(), each).map_err(|source| KernelError::MapRead { map: "LIVE", source })
    }

    fn live(
        &mut self,
    ) -> Result<HashMap<&mut aya::maps::MapData, Plain<LiveKey>, Plain<LiveValue>>, KernelError> {
        let map = self.ebpf.map_mut("LIVE").ok_or(KernelError::Missing { name: "LIVE" })?;
        HashMap::try_from(map).map_err(|source| KernelError::Map { map: "LIVE", source: Box::new(source) })
    }
}

fn live_key(watched: &Watched, task: u64, runtime: RuntimeKind) -> LiveKey {
    // One probe sees both kinds of tokio's tasks; they are told apart by their type, here above the kernel.
    let runtime = match runtime {
        RuntimeKind::TokioBlocking => RuntimeKind::Tokio,
        other => other,
    };
    LiveKey { task, process: watched.slot.incarnation, runtime: runtime as u32 }
}

/// One of these runtimes; an id that this build does not know is none of them and goes with all.
fn is_one(runtime: u32, of: &dyn Fn(RuntimeKind) -> bool) -> bool {
    u16::try_from(runtime).ok().and_then(RuntimeKind::from_id).is_none_or(of)
}

fn site_id(runtime: u32, site: u64, entry: u64) -> Option<SiteId> {
    let runtime = RuntimeKind::from_id(u16::try_from(runtime).ok()?)?;
    Some(SiteId { runtime, site, entry })
}
