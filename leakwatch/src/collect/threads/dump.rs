//! Every thread of a process with its stack, once: what `leakwatch dump` prints of programs without a runtime that we know,
//! and of others when asked.
//!
//! A thread's stack is believed when the thread stood at the same place, in the same system call, after it was walked as
//! before. It must never stop a thread, and never give a stack to one that moved.

use leakwatch_common::RuntimeKind;

use super::{
    Threads, Views, at,
    look::{routine, state_text},
};
use crate::{
    host::{HostError, Process, ProcessMemory, threads},
    images::{Image, Modules, NativeStack, Registers},
    observe::{DumpedTask, Marks, Stack, TaskDump},
};

/// How often a thread that moves is looked at.
const LOOKS: usize = 4;

/// The threads of a process and who knows their names.
#[derive(Debug)]
pub struct ThreadDump {
    /// The threads. The entry of a site is a place in `routines`, and one; 0: not known.
    pub tasks: TaskDump,
    /// Functions that threads run.
    pub routines: Vec<String>,
}

/// All threads of a process, at about `now_ns`.
///
/// # Errors
/// When they cannot be listed, or the process ends meanwhile.
pub fn dump(
    process: &Process,
    image: &mut Image,
    modules: &mut Modules,
    memory: &ProcessMemory,
    now_ns: u64,
) -> Result<ThreadDump, HostError> {
    let pid = process.pid();
    let mut threads = Threads::new(pid);
    let mut dump = TaskDump::new(RuntimeKind::Thread, None, now_ns);
    let mut views = Views { image, modules, memory };
    let mut ids = threads::ids(pid)?;
    ids.sort_unstable();
    for tid in ids {
        threads.dump_one(&mut views, tid, &mut dump);
    }
    if !process.alive() {
        return Err(HostError::Ended { pid });
    }
    Ok(ThreadDump { tasks: dump, routines: threads.routines })
}

impl Threads {
    fn dump_one(&mut self, views: &mut Views<'_, ProcessMemory>, tid: u32, dump: &mut TaskDump) {
        let Some(thread) = threads::info(self.pid, tid).filter(|thread| !thread.has_ended()) else { return };
        let (place, native) = self.walk(views, tid);
        let stack = match &native {
            Some(native) => {
                let pcs: Vec<u64> = native.frames.iter().map(|frame| frame.pc).collect();
                let index = dump.stacks.index(pcs.as_slice());
                if native.whole { Stack::Whole(index) } else { Stack::Part(index) }
            }
            None if place.is_none() && thread.state == 'R' => Stack::Running,
            None => Stack::Unreadable,
        };
        let entry = native.and_then(|native| routine(views, &native)).map_or(0, |name| self.routine(name));
        let state = state_text(self.pid, tid, thread.state, place);
        let mut labels = vec![("name".to_owned(), thread.name)];
        labels.extend(threads::wait_channel(self.pid, tid).map(|channel| ("wchan".to_owned(), channel)));
        dump.tasks.push(DumpedTask {
            id: u64::from(tid),
            address: 0,
            parent: None,
            site: at(RuntimeKind::Thread, 0, entry),
            state: dump.states.index(state.as_str()),
            marks: Marks::default(),
            waited_ns: None,
            wakes_ns: None,
            stack,
            labels: Some(dump.labels.index(labels.as_slice())),
            bytes: None,
            waits: (0, 0),
        });
    }

    /// Where a thread is blocked, and its stack if it still was there when that was read.
    fn walk(
        &mut self,
        views: &mut Views<'_, ProcessMemory>,
        tid: u32,
    ) -> (Option<threads::BlockedAt>, Option<NativeStack>) {
        let mut before = threads::blocked_at(self.pid, tid).ok().flatten();
        for _ in 0..LOOKS {
            let Some(place) = before else { break };
            let stack = self.unwind_blocked(views, place);
            let after = threads::blocked_at(self.pid, tid).ok().flatten();
            if after == before {
                return (before, Some(stack));
            }
            before = after;
        }
        (before, None)
    }

    /// The stack of a thread that is blocked there.
    pub(super) fn unwind_blocked(
        &mut self,
        views: &mut Views<'_, impl crate::host::Memory>,
        place: threads::BlockedAt,
    ) -> NativeStack {
        let memory = views.memory;
        let read = |address| memory.read_u64(address).ok();
        self.unwind_from(views, &Registers::at(place.pc, place.sp), read)
    }
}
