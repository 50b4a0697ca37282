//! Attaching to a running process, late, without a gap or a double count.
//!
//! Probes on several instructions cannot be placed at one moment, and tasks start and end meanwhile. So:
//!
//! 1. the probes are placed, silent (the process's flags say "do not count");
//! 2. one map write switches counting and the census flag on. From here on every start and end is recorded by
//!    address, ends as tombstones;
//! 3. the census reads every task from memory and enters those of which no event has spoken. What an event
//!    has spoken of is already known: a start is in the table, an end left its tombstone;
//! 4. a second census corrects the few that were between their probe and their change of status at step 2;
//! 5. the census flag goes off.
//!
//! Threads are taken in by the same steps, with a flag of their own.
//!
//! A task from before that ends during 3 without having been seen is counted by the kernel side
//! (`EndedBeforeSeen`): it was alive at attach. One that was seen although its end had passed the probe before 2 is
//! found out by 4, or, when its address was started anew by then, by the kernel side (`seen_in_vain`): it was not. So `live = live_at_attach + started - ended` from the first
//! moment on.

use std::{collections::BTreeMap, time::Duration};

use leakwatch_common::{RuntimeKind, process_flags};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    error::CollectError,
    go::{Seen, Stacks},
    runtime::{Runtime, Tasks},
    threads::Threads,
};
use crate::{
    host::{Memory, ProcessMemory, ReadError},
    kernel::{Kernel, KernelError, Watched},
    observe::SiteId,
};

/// Between the two looks of the attach: longer than a thread that was interrupted between a probe and the next
/// few instructions usually waits for its turn.
const SECOND_LOOK: Duration = Duration::from_millis(15);

/// What the attach found.
#[derive(Debug, Default)]
pub(super) struct AtAttach {
    /// Tasks alive then, by site.
    pub(super) live: BTreeMap<SiteId, u64>,
    /// Tasks of each runtime that could not be read in the last look.
    pub(super) unreadable: FxHashMap<RuntimeKind, u64>,
}

/// Places the probes of all runtimes and takes the process's tasks in, as the module says. A runtime without probes is
/// only looked at. On an error the caller forgets `watched`, which takes everything off.
pub(super) async fn attach(
    kernel: &mut Kernel,
    watched: &mut Watched,
    memory: &ProcessMemory,
    runtimes: &[&Runtime],
    threads: &mut Threads,
    flags: u32,
) -> Result<AtAttach, CollectError> {
    place(kernel, watched, runtimes)?;
    let flags = flags | process_flags::COUNTING | process_flags::LIVE_TABLE | process_flags::THREADS;
    kernel.set_flags(watched, flags | process_flags::CENSUS | process_flags::THREAD_CENSUS)?;
    threads.enter_live(kernel, watched)?;
    let probed: Vec<&Tasks> = tasks_of(runtimes, |runtime| !runtime.probes.is_empty());
    let mut found = enter_all(kernel, watched, memory, &probed).await?;
    threads.remove_ended(kernel, watched)?;
    kernel.set_flags(watched, flags)?;
    // What could not be read here is read at every look again, which says so.
    let by_memory = tasks_of(runtimes, |runtime| runtime.probes.is_empty());
    for (_, site) in look(watched.pid, &by_memory, memory)?.live {
        *found.live.entry(site).or_default() += 1;
    }
    Ok(found)
}

/// Places the probes of runtimes of a process that is watched already, and takes their tasks in. `flags` are those that
/// the process has. On an error the caller takes off what was placed.
pub(super) async fn take_in(
    kernel: &mut Kernel,
    watched: &mut Watched,
    memory: &ProcessMemory,
    runtimes: &[&Runtime],
    flags: u32,
) -> Result<AtAttach, CollectError> {
    place(kernel, watched, runtimes)?;
    let flags = flags | process_flags::COUNTING | process_flags::LIVE_TABLE;
    kernel.set_flags(watched, flags | process_flags::CENSUS)?;
    let probed: Vec<&Tasks> = tasks_of(runtimes, |_| true);
    let found = enter_all(kernel, watched, memory, &probed).await?;
    kernel.set_flags(watched, flags)?;
    Ok(found)
}

fn place(kernel: &mut Kernel, watched: &mut Watched, runtimes: &[&Runtime]) -> Result<(), CollectError> {
    for probe in runtimes.iter().flat_map(|runtime| &runtime.probes) {
        let attached = if probe.at_return {
            kernel.attach_return(watched, &probe.file.attach_path, probe.offset, probe.descriptor)
        } else {
            kernel.attach(watched, &probe.file.attach_path, probe.offset, probe.descriptor)
        };
        attached.map_err(|error| error.with_path(&probe.file.path))?;
    }
    Ok(())
}

/// Takes in the tasks that are alive, in two looks. The process's flags have `CENSUS`.
async fn enter_all(
    kernel: &mut Kernel,
    watched: &Watched,
    memory: &ProcessMemory,
    probed: &[&Tasks],
) -> Result<AtAttach, CollectError> {
    let mut found = AtAttach::default();
    let mut entered = Vec::new();
    if probed.is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
    } else {
        for task in &look(watched.pid, probed, memory)?.live {
            enter(kernel, watched, task, &mut found, &mut entered)?;
        }
        tokio::time::sleep(SECOND_LOOK).await;
        let second = look(watched.pid, probed, memory)?;
        for task in &second.live {
            enter(kernel, watched, task, &mut found, &mut entered)?;
        }
        for (task, site) in entered {
            // It ended although no event said so: its end was under way when the events began.
            let gone = second.dead.contains(&task) || second.is_absent(task, site.runtime);
            let ghost = gone && kernel.remove_seen(watched, task, site.runtime)?;
            if let Some(count) = found.live.get_mut(&site).filter(|_| ghost) {
                *count -= 1;
            }
        }
        found.unreadable = second.unreadable;
    }
    Ok(found)
}

fn tasks_of<'a>(runtimes: &[&'a Runtime], which: impl Fn(&Runtime) -> bool) -> Vec<&'a Tasks> {
    runtimes.iter().filter(|runtime| which(runtime)).filter_map(|runtime| runtime.tasks.as_ref()).collect()
}

/// Enters a task into the live table, unless an event has spoken of it.
fn enter(
    kernel: &mut Kernel,
    watched: &Watched,
    &(task, site): &(u64, SiteId),
    found: &mut AtAttach,
    entered: &mut Vec<(u64, SiteId)>,
) -> Result<(), KernelError> {
    if kernel.add_seen(watched, task, site)? {
        *found.live.entry(site).or_default() += 1;
        entered.push((task, site));
    }
    Ok(())
}

/// One look at all tasks, kept small: this runs with 100,000s of them.
#[derive(Default)]
struct Look {
    live: Vec<(u64, SiteId)>,
    dead: FxHashSet<u64>,
    unreadable: FxHashMap<RuntimeKind, u64>,
    /// Addresses of live tasks, of runtimes whose dead ones cannot be listed.
    listed: FxHashSet<u64>,
}

impl Look {
    /// Was it not found, in a runtime where that means that it is dead?
    fn is_absent(&self, task: u64, runtime: RuntimeKind) -> bool {
        matches!(runtime, RuntimeKind::Tokio | RuntimeKind::TokioBlocking) && !self.listed.contains(&task)
    }
}

fn look(pid: u32, runtimes: &[&Tasks], memory: &impl Memory) -> Result<Look, CollectError> {
    let mut look = Look::default();
    for tasks in runtimes {
        let mut unreadable = 0;
        let read: Result<(), ReadError> = tasks.for_each(memory, Stacks::Skip, |seen| match seen {
            Seen::Live(task) => {
                look.live.push((task.address, task.site));
                if tasks.absent_is_dead() {
                    look.listed.insert(task.address);
                }
            }
            Seen::Dead { address } => {
                look.dead.insert(address);
            }
            Seen::Foreign { .. } => {}
            Seen::Unreadable { .. } => unreadable += 1,
        });
        read.map_err(|source| CollectError::Memory { pid, source })?;
        if unreadable > 0 {
            *look.unreadable.entry(tasks.kind()).or_default() += unreadable;
        }
    }
    Ok(look)
}
