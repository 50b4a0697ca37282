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
//! A task from before that ends during 3 without having been seen is counted by the kernel side
//! (`EndedBeforeSeen`): it was alive at attach. One that was seen although its end had passed the probe before 2 is
//! found out by 4, or, when its address was started anew by then, by the kernel side (`seen_in_vain`): it was not. So `live = live_at_attach + started - ended` from the first
//! moment on.

use std::{collections::BTreeMap, time::Duration};

use leakwatch_common::{AT_TASK, Action, ProbeDescriptor, RuntimeKind, TaskSource, fact, process_flags};
use leakwatch_inspect::{
    ProbeAction, ProbeSite,
    go::{GoFacts, layout::GoLayout},
};
use rustc_hash::FxHashSet;

use super::go::{GoRuntime, Seen, Stacks};
use crate::{
    host::{HostError, Memory, ProcessMemory, ReadError},
    images::{Image, ImageError},
    kernel::{Kernel, KernelError, Watched},
    observe::SiteId,
};

/// Between the two looks of the attach: longer than a thread that was interrupted between a probe and the next
/// few instructions usually waits for its turn.
const SECOND_LOOK: Duration = Duration::from_millis(15);

/// Why a process cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The process or its files.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Its executable.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No runtime that we know.
    #[error(
        "{exe} (pid {pid}) is not a Go program: no Go runtime is linked into it; `leakwatch inspect --pid {pid}` shows what is there"
    )]
    NoRuntime {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
    },
    /// A runtime, but not all that watching needs.
    #[error("{exe} (pid {pid}) cannot be watched: {why}; `leakwatch inspect --pid {pid}` has the details")]
    Incomplete {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
        /// What is missing.
        why: String,
    },
    /// Its memory.
    #[error("cannot read the goroutines of pid {pid}: {source}")]
    Memory {
        /// The process.
        pid: u32,
        /// Why.
        source: ReadError,
    },
}

/// What the attach found.
#[derive(Debug, Default)]
pub(super) struct AtAttach {
    /// Tasks alive then, by site.
    pub(super) live: BTreeMap<SiteId, u64>,
    /// Goroutine structs that could not be read in the last look.
    pub(super) unreadable: u64,
}

/// The descriptors of a Go program's two probes.
pub(super) fn descriptor(site: &ProbeSite, layout: &GoLayout) -> Option<ProbeDescriptor> {
    // One read of three words covers both: startpc is two words after gopc in every version since 1.18
    // (`layouts.toml`), and if it ever is not, the entry is left unknown rather than read wrong.
    let entry = match layout.startpc.checked_sub(layout.gopc)? {
        8 => 1,
        16 => 2,
        _ => fact::NONE,
    };
    Some(ProbeDescriptor {
        action: match site.action {
            ProbeAction::Start => Action::Start as u8,
            ProbeAction::End => Action::End as u8,
        },
        task_register: site.task_register,
        task_source: TaskSource::Register as u8,
        facts_register: AT_TASK,
        site: 0,
        entry,
        runtime: RuntimeKind::Go as u16,
        task_offset: 0,
        facts_offset: i32::try_from(layout.gopc).ok()?,
    })
}

/// Run-time addresses of the runtime's globals.
pub(super) fn go_runtime(facts: &GoFacts, bias: u64) -> Result<GoRuntime, String> {
    let problems = || facts.problems.iter().map(|problem| problem.0.as_str()).collect::<Vec<_>>().join("; ");
    let layout = facts.layout.ok_or_else(problems)?;
    let address = |global: Option<leakwatch_inspect::go::Global>, name: &str| {
        global
            .map(|global| global.address.wrapping_add(bias))
            .ok_or_else(|| format!("the variable runtime.{name} was not found"))
    };
    Ok(GoRuntime {
        layout,
        allglen: address(facts.globals.allglen, "allglen")?,
        allgptr: address(facts.globals.allgptr, "allgptr")?,
        sched: facts.globals.sched.map(|global| global.address.wrapping_add(bias)),
        wait_reasons: facts.wait_reasons.clone(),
    })
}

/// Places the probes and takes the process's tasks in, as the module says. On an error the caller forgets
/// `watched`, which takes everything off.
pub(super) async fn attach(
    kernel: &mut Kernel,
    watched: &mut Watched,
    image: &Image,
    memory: &ProcessMemory,
    facts: &GoFacts,
    go: &GoRuntime,
    flags: u32,
) -> Result<AtAttach, CollectError> {
    let pid = watched.pid;
    // The end first: while only the start is placed, nothing could be taken out again.
    for site in facts.end.iter().chain(&facts.start) {
        let descriptor = descriptor(site, &go.layout).ok_or_else(|| CollectError::Incomplete {
            pid,
            exe: image.path().display().to_string(),
            why: "the layout of its goroutine struct makes no sense".to_owned(),
        })?;
        kernel
            .attach(watched, &image.attach_path(), site.file_offset, descriptor)
            .map_err(|error| error.with_path(image.path()))?;
    }
    let flags = flags | process_flags::COUNTING | process_flags::LIVE_TABLE;
    kernel.set_flags(watched, flags | process_flags::CENSUS)?;
    let memory_error = |source| CollectError::Memory { pid, source };

    let mut found = AtAttach::default();
    let mut entered = Vec::new();
    for task in &look(go, memory).map_err(memory_error)?.live {
        enter(kernel, watched, task, &mut found, &mut entered)?;
    }
    tokio::time::sleep(SECOND_LOOK).await;
    let second = look(go, memory).map_err(memory_error)?;
    for task in &second.live {
        enter(kernel, watched, task, &mut found, &mut entered)?;
    }
    for (task, site) in entered {
        // It ended although no event said so: its end was under way when the events began.
        let ghost = second.dead.contains(&task) && kernel.remove_seen(watched, task, RuntimeKind::Go)?;
        if let Some(count) = found.live.get_mut(&site).filter(|_| ghost) {
            *count -= 1;
        }
    }
    found.unreadable = second.unreadable;
    kernel.set_flags(watched, flags)?;
    Ok(found)
}

/// What is alive in a process that is counted by memory alone.
pub(super) fn first_look(pid: u32, memory: &impl Memory, go: &GoRuntime) -> Result<AtAttach, CollectError> {
    let mut found = AtAttach::default();
    // What could not be read is read at every look again, which says so.
    for (_, site) in look(go, memory).map_err(|source| CollectError::Memory { pid, source })?.live {
        *found.live.entry(site).or_default() += 1;
    }
    Ok(found)
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

/// One look at all goroutines, kept small: this runs with 100,000s of them.
struct Look {
    live: Vec<(u64, SiteId)>,
    dead: FxHashSet<u64>,
    unreadable: u64,
}

fn look(go: &GoRuntime, memory: &impl Memory) -> Result<Look, ReadError> {
    let mut look = Look { live: Vec::new(), dead: FxHashSet::default(), unreadable: 0 };
    go.for_each(memory, Stacks::Skip, |seen| match seen {
        Seen::Live(task) => look.live.push((task.address, task.site)),
        Seen::Dead { address } => {
            look.dead.insert(address);
        }
        Seen::Foreign { .. } => {}
        Seen::Unreadable { .. } => look.unreadable += 1,
    })?;
    Ok(look)
}
