//! One look at all threads of a process: names, states, what they wait in, and on which stack.

use leakwatch_common::{RuntimeKind, thread_site};
use rustc_hash::FxHashMap;

use super::{
    Threads, Views, at, frames, glue, jvm, own_frame,
    python::{self, PythonThread},
    syscalls,
};
use crate::{
    host::{
        HostError, Memory,
        maps::{self, Mapping},
        threads,
    },
    images::{Frame, NativeStack},
    observe::{Census, CensusTask, LiveByState, SiteId, TaskStatus, ThreadNames, Waiting},
};

/// Most threads of which one look asks more than the name and state.
const MOST_ASKED: usize = 1 << 16;

/// Most stacks that one look unwinds.
const MOST_UNWOUND: usize = 1 << 14;

/// System calls that end by themselves.
const SLEEPS: [&str; 2] = ["nanosleep", "clock_nanosleep"];

/// Threads of one site that wait for the same thing at the same place.
type Group = (SiteId, String, Vec<u64>);

impl Threads {
    /// Names, states and waits of all threads; shows each to `see`.
    ///
    /// # Errors
    /// When the threads cannot be listed.
    pub(in crate::collect) fn look(
        &mut self,
        views: &mut Views<'_, impl Memory>,
        with_stacks: bool,
        see: &mut dyn FnMut(&CensusTask),
    ) -> Result<(Census, ThreadNames), HostError> {
        let mut census = Census::default();
        let mut names: FxHashMap<String, u64> = FxHashMap::default();
        let mut groups: FxHashMap<Group, u64> = FxHashMap::default();
        let mut unwound = 0;
        let mut managed = None;
        self.find_jvm(views);
        for (asked, tid) in threads::ids(self.pid)?.into_iter().enumerate() {
            // A thread that is gone meanwhile is no thread that could not be read.
            let Some(thread) = threads::info(self.pid, tid).filter(|thread| !thread.has_ended()) else {
                continue;
            };
            census.live += 1;
            *names.entry(without_numbers(&thread.name)).or_default() += 1;
            let place = if asked < MOST_ASKED {
                threads::blocked_at(self.pid, tid).ok().flatten()
            } else {
                census.unreadable += 1;
                None
            };
            let reason = state_text(self.pid, tid, thread.state, place);
            count_state(&mut census.by_state, thread.state, place.is_some());
            let mut stack = Vec::new();
            if let Some(place) = place
                && unwound < MOST_UNWOUND
                && (with_stacks || self.wants_task(tid))
            {
                unwound += 1;
                if let Some(frames) = self.managed_stack(views, place.sp, &mut managed) {
                    self.note_managed(tid, &frames);
                    if with_stacks {
                        stack = frames.into_iter().filter_map(|frame| self.place_of(frame)).collect();
                    }
                } else {
                    let frames = self.unwind_blocked(views, place);
                    let memory = views.memory;
                    let java = self.java_frames(views, &frames, |address| memory.read_u64(address).ok());
                    match jvm::routine_of(&java) {
                        Some(routine) if self.wants_task(tid) => self.learn_routine(tid, routine),
                        _ => self.note_task(views, tid, &frames),
                    }
                    if with_stacks {
                        stack = self.with_java(&frames, &java);
                    }
                }
            }
            let site = self.site_of(tid);
            see(&CensusTask {
                address: thread.start_ticks,
                id: u64::from(tid),
                site,
                status: if thread.state == 'R' { TaskStatus::Running } else { TaskStatus::Waiting },
                wait_reason: None,
                waiting_since_ns: None,
                runs: threads::turns(self.pid, tid),
                wakes_itself: SLEEPS.contains(&reason.as_str()),
                unwakeable: false,
                stack_bytes: 0,
                stack: Vec::new(),
            });
            *groups.entry((site, reason, stack)).or_default() += 1;
        }
        let waiting = groups.into_iter().map(|((site, reason, stack), count)| Waiting {
            site,
            reason,
            stack,
            count,
            longest_ns: None,
            stack_bytes: 0,
        });
        census.waiting = waiting.collect();
        census.waiting.sort_by(|a, b| {
            b.count
                .cmp(&a.count)
                .then_with(|| (a.site, &a.reason, &a.stack).cmp(&(b.site, &b.reason, &b.stack)))
        });
        let mut names: Vec<(String, u64)> = names.into_iter().collect();
        names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok((census, ThreadNames(names)))
    }

    /// The frames of a blocked thread that an interpreter runs, innermost first; `None`: none does. `found` keeps what
    /// one look needs to tell.
    fn managed_stack(
        &self,
        views: &Views<'_, impl Memory>,
        sp: u64,
        found: &mut Option<Interpreted>,
    ) -> Option<Vec<Frame>> {
        let python = self.python.as_ref()?;
        let found = found.get_or_insert_with(|| Interpreted {
            threads: python.threads(views.memory),
            mappings: views.modules.dir().mappings().unwrap_or_default(),
        });
        let frames = python.frames_of(views.memory, found.on_stack(sp)?);
        Some(frames.into_iter().filter_map(|frame| python.describe(views.memory, frame)).collect())
    }

    /// The site of a live thread.
    fn site_of(&self, tid: u32) -> SiteId {
        let number = self.live.get(&tid).copied().unwrap_or(thread_site::UNKNOWN);
        self.site(at(RuntimeKind::Thread, number, 0))
    }

    /// Whether a look at the thread's stack tells something new: what its site's threads run.
    fn wants_task(&self, tid: u32) -> bool {
        let id = self.site_of(tid);
        id.site != thread_site::SEEN && self.task_of(id).is_none()
    }

    /// Learns what a thread runs: the outermost function that is the program's own.
    fn note_task(&mut self, views: &mut Views<'_, impl Memory>, tid: u32, stack: &NativeStack) {
        if !self.wants_task(tid) {
            return;
        }
        if let Some(routine) = routine(views, stack) {
            self.learn_routine(tid, routine);
        }
    }

    /// The same of a thread of an interpreter, by its frames.
    fn note_managed(&mut self, tid: u32, frames: &[Frame]) {
        if self.wants_task(tid)
            && let Some(routine) = python::routine_of(frames)
        {
            self.learn_routine(tid, routine.function.clone());
        }
    }

    fn learn_routine(&mut self, tid: u32, routine: String) {
        let routine = self.routine(routine);
        let id = self.site_of(tid);
        if id.site == thread_site::UNKNOWN {
            // Of a thread from before the attach, and of one whose stack was not sent, this is all that is known.
            if let Some(&number) =
                self.live.get(&tid).filter(|number| **number & thread_site::FRAMES == thread_site::SEEN)
            {
                self.known.insert(number, at(RuntimeKind::Thread, thread_site::UNKNOWN, routine));
                self.learnt = true;
            }
        } else {
            self.tasks.insert(id.site, routine);
        }
    }
}

/// What a thread does: the system call that it is in, else where in the kernel it sleeps.
pub(super) fn state_text(pid: u32, tid: u32, state: char, place: Option<threads::BlockedAt>) -> String {
    match (place.and_then(|place| place.syscall), state) {
        (Some(number), _) => syscalls::name(number),
        (None, 'R') => "running".to_owned(),
        (None, 'T' | 't') => "stopped".to_owned(),
        (None, _) => threads::wait_channel(pid, tid).unwrap_or_else(|| "waiting".to_owned()),
    }
}

/// What an interpreter and the kernel tell of a process's threads, of one moment.
struct Interpreted {
    /// By thread pointer.
    threads: Vec<PythonThread>,
    mappings: Vec<Mapping>,
}

impl Interpreted {
    /// The interpreter's thread on whose stack this is: its thread pointer is the next one above, in the same mapping
    /// (`allocate_stack` of glibc's nptl, and `__pthread_create` of musl, place it so). The first thread's is
    /// elsewhere, and is not found.
    fn on_stack(&self, sp: u64) -> Option<PythonThread> {
        let above = self.threads.partition_point(|thread| thread.thread_pointer < sp);
        let thread = self.threads.get(above)?;
        let stack = maps::find(&self.mappings, sp)?;
        stack.contains(thread.thread_pointer).then_some(*thread)
    }
}

/// What a thread runs. Go's threads stand on stacks that no table describes, and begin in one function.
pub(super) fn routine(views: &mut Views<'_, impl Memory>, stack: &NativeStack) -> Option<String> {
    const GO: &str = "runtime.mstart";
    if views.image.inspection().go.is_some()
        && stack.frames.iter().any(|frame| !views.image.frames(frame.pc).is_empty())
    {
        return Some(GO.to_owned());
    }
    if !stack.whole {
        return None;
    }
    let pc = stack.frames.iter().rev().map(|frame| frame.pc).find(|pc| own_frame(views, *pc).is_some())?;
    let outermost_first = frames(views.image, views.modules, pc).into_iter().rev();
    outermost_first.into_iter().find(|frame| !glue::is_glue(frame)).map(|frame| frame.function)
}

/// Names that differ in numbers only are one: `worker-12` and `worker-13` are `worker-*`.
fn without_numbers(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if !character.is_ascii_digit() {
            text.push(character);
        } else if !text.ends_with('*') {
            text.push('*');
        }
    }
    text
}

fn count_state(states: &mut LiveByState, state: char, in_syscall: bool) {
    let count = match (state, in_syscall) {
        ('R', false) => &mut states.running,
        ('T' | 't', _) => &mut states.preempted,
        (_, true) => &mut states.syscall,
        (_, false) => &mut states.waiting,
    };
    *count += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_numbers() {
        assert_eq!(without_numbers("worker-12"), "worker-*");
        assert_eq!(without_numbers("pool-1-thread-3"), "pool-*-thread-*");
        assert_eq!(without_numbers("main"), "main");
        assert_eq!(without_numbers("2"), "*");
    }
}
