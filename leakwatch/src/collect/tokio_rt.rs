//! tokio tasks as a process's memory shows them, read without a stop.
//!
//! tokio lists its tasks, but where is in no symbol. A task's header has the address of its type's vtable in it, and the
//! vtables are known from the binary: so all memory that the program wrote is looked through for words that are such
//! addresses. What is found is believed only as a task when the words around it are a header's: a state that can be,
//! references, the list that owns it, an id; and when its neighbours in that list know it. A header that says so twice, a
//! moment apart, is a live task. What is left of others in freed memory may look like a header, but no list knows it.
//!
//! It must never write to the process, never take a size from it, and never read a clock.

use std::{collections::BTreeMap, hash::Hasher as _, sync::Arc};

use leakwatch_common::RuntimeKind;
use leakwatch_inspect::tokio_rt::{TaskKind, TokioFacts, VtableForm};
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::{
    go::Seen,
    tokio_lists::{self, Lists},
    tokio_search::{Header, Search},
};
use crate::{
    host::{Memory, ReadError, ReadRequest},
    observe::{Census, CensusTask, NO_WAKER, SiteId, TaskStatus, Waiting},
};

/// Bytes from a header's start that hold its state, its vtable and its owner in every form.
const HEADER: usize = 48;
/// Where a task's own part begins: after state, queue, vtable and owner (`Header`, `src/runtime/task/core.rs`).
const FUTURE_AT: u64 = 32;
/// Bytes of a future that are compared.
const MOST_OF_FUTURE: usize = 4096;
/// Futures read at once.
const FUTURES: usize = 256;

/// Bits of a task's state and the position of its references (`src/runtime/task/state.rs`, the same from 1.20 to 1.54).
mod state {
    pub(super) const RUNNING: u64 = 1;
    pub(super) const COMPLETE: u64 = 2;
    pub(super) const NOTIFIED: u64 = 4;
    pub(super) const JOIN_INTEREST: u64 = 8;
    pub(super) const CANCELLED: u64 = 32;
    pub(super) const REFERENCES: u32 = 6;
    /// Nobody has more; what a heap writes over freed memory is larger.
    pub(super) const MOST_REFERENCES: u64 = 1 << 20;
    /// `INITIAL_STATE`, and the same after its `JoinHandle` was dropped.
    pub(super) const NEVER_RUN: [u64; 2] =
        [3 << REFERENCES | JOIN_INTEREST | NOTIFIED, 2 << REFERENCES | NOTIFIED];
}

/// In the oldest form the header is `{state, owned, queue_next, vtable, owner_id}`, and `owned` are two words.
const OWNED_BEFORE_VTABLE: u64 = 24;

/// Owners are numbered from 1 on (`NEXT_OWNED_TASKS_ID`).
const MOST_OWNERS: u64 = 1 << 40;

/// One type of task.
#[derive(Clone, Copy, Debug)]
struct Type {
    kind: RuntimeKind,
    form: VtableForm,
    id_offset: Option<u64>,
    /// Offset of the two pointers of its owner's list.
    owned_offset: Option<u64>,
    /// Offset of the address of the `Location` that spawned it: builds with `--cfg tokio_unstable` keep it.
    spawned_at: Option<u64>,
}

/// Which kind of task the types are, by run-time address of their vtables.
pub type Kinds = Arc<FxHashMap<u64, RuntimeKind>>;

/// The types of all tokio versions in a process.
#[derive(Debug)]
pub struct TokioRuntime {
    types: FxHashMap<u64, Type>,
    /// First vtable, and how far the last one is from it.
    first: u64,
    span: u64,
    kinds: Kinds,
}

/// A look at all tasks that may be interrupted.
#[derive(Debug, Default)]
pub struct Look {
    search: Search,
    tasks: Vec<CensusTask>,
    unreadable: u64,
}

impl Look {
    /// Bytes of the process's memory that it read so far.
    pub fn read(&self) -> u64 {
        self.search.read()
    }
}

/// A task that is in memory, alive or not.
#[derive(Clone, Debug)]
pub struct KeptTask {
    /// The task.
    pub task: CensusTask,
    /// What it does, in tokio's words: `idle`, `notified`, `running`, `complete`.
    pub state: &'static str,
    /// Number of the runtime or `LocalSet` that owns it; 0: none.
    pub owner: u64,
    /// Its `JoinHandle` is held.
    pub join_interest: bool,
}

impl KeptTask {
    /// It is being polled.
    pub fn runs(&self) -> bool {
        self.state == RUNNING
    }
}

impl TokioRuntime {
    /// Of these facts, each of a file that is loaded this much above its link-time addresses.
    pub fn new(files: &[(&[TokioFacts], u64)]) -> Self {
        let types: FxHashMap<u64, Type> = files
            .iter()
            .flat_map(|(facts, bias)| facts.iter().map(|facts| (facts, *bias)))
            .flat_map(|(facts, bias)| facts.types.iter().map(move |task| (facts.form, task, bias)))
            .map(|(form, task, bias)| {
                let kind = match task.kind {
                    Some(TaskKind::Blocking) => RuntimeKind::TokioBlocking,
                    Some(TaskKind::Async) | None => RuntimeKind::Tokio,
                };
                let owned_offset = match form {
                    VtableForm::Plain => Some(form.vtable_offset() - OWNED_BEFORE_VTABLE),
                    VtableForm::Trailer | VtableForm::Offsets => task.trailer_offset,
                };
                (
                    task.vtable.wrapping_add(bias),
                    Type {
                        kind,
                        form,
                        id_offset: task.id_offset,
                        owned_offset,
                        spawned_at: task.spawn_location_offset,
                    },
                )
            })
            .collect();
        let first = types.keys().copied().min().unwrap_or(0);
        let last = types.keys().copied().max().unwrap_or(0);
        let kinds = Arc::new(types.iter().map(|(vtable, known)| (*vtable, known.kind)).collect());
        Self { types, first, span: last - first, kinds }
    }

    /// Which kind of task the types are.
    pub fn kinds(&self) -> Kinds {
        Arc::clone(&self.kinds)
    }

    /// Calls `each` with every task that memory shows, and with what once was one.
    ///
    /// # Errors
    /// When the list of mappings cannot be read.
    pub fn for_each(&self, memory: &impl Memory, mut each: impl FnMut(Seen)) -> Result<(), ReadError> {
        Search::default().go_on(self, memory, u64::MAX, &mut each).map(drop)
    }

    /// Addresses of the `Location`s that spawned the live tasks, by vtable, with how many: none but in builds with
    /// `--cfg tokio_unstable`.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn spawned_at(&self, memory: &impl Memory) -> Result<BTreeMap<(u64, u64), u64>, ReadError> {
        let mut found = BTreeMap::new();
        if self.types.values().all(|known| known.spawned_at.is_none()) {
            return Ok(found);
        }
        self.for_each(memory, |seen| {
            let Seen::Live(task) = seen else { return };
            let vtable = task.site.entry;
            let offset = self.types.get(&vtable).and_then(|known| known.spawned_at);
            let read = |offset: u64| memory.read_u64(task.address.wrapping_add(offset)).ok();
            if let Some(location) = offset.and_then(read) {
                *found.entry((vtable, location)).or_default() += 1;
            }
        })?;
        Ok(found)
    }

    /// Calls `each` with every task that memory shows, and with those that are complete and kept by their
    /// `JoinHandle`: a program that holds such handles for ever leaks what the tasks returned.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn for_each_kept(
        &self,
        memory: &impl Memory,
        mut each: impl FnMut(KeptTask),
    ) -> Result<(), ReadError> {
        let mut ids = FxHashSet::default();
        self.for_each(memory, |seen| {
            let (address, live) = match seen {
                Seen::Live(task) => (task.address, Some(task)),
                Seen::Dead { address } => (address, None),
                Seen::Foreign { .. } | Seen::Unreadable { .. } => return,
            };
            let mut bytes = [0; HEADER];
            let read = memory.read(address, &mut bytes).ok();
            let Some(state) = read.and_then(|()| word(&bytes, 0)) else { return };
            // Of a live task the list said so; one that is complete is in no list, and its own words must do.
            let task = live.or_else(|| self.complete(memory, address, &bytes, state));
            let Some(task) = task else { return };
            if ids.insert((task.id, task.address)) {
                each(KeptTask {
                    owner: self.owner(task.site.entry, &bytes).unwrap_or(0),
                    join_interest: state & state::JOIN_INTEREST != 0,
                    state: state_text(state),
                    task,
                });
            }
        })
    }

    /// A task that is complete and whose output nobody took: somebody holds its handle, and so a reference. The last
    /// reference is counted down before memory is freed, and the interest before that.
    fn complete(&self, memory: &impl Memory, address: u64, bytes: &[u8], state: u64) -> Option<CensusTask> {
        let kept = state::COMPLETE | state::JOIN_INTEREST;
        let references = state >> state::REFERENCES;
        let possible = state & (kept | state::RUNNING) == kept
            && (1..=state::MOST_REFERENCES).contains(&references)
            && address.is_multiple_of(8);
        possible.then_some(())?;
        let (vtable, known) = Self::vtable_offsets().find_map(|offset| {
            let vtable = word(bytes, usize::try_from(offset).ok()?)?;
            let known = self.types.get(&vtable).filter(|known| known.form.vtable_offset() == offset)?;
            Some((vtable, known))
        })?;
        let id = match known.id_offset {
            Some(offset) => memory.read_u64(address.wrapping_add(offset)).ok()?,
            None => 0,
        };
        (known.id_offset.is_none() || (1..1 << 56).contains(&id)).then_some(())?;
        Some(CensusTask {
            address,
            id,
            site: SiteId { runtime: known.kind, site: 0, entry: vtable },
            status: TaskStatus::Waiting,
            wait_reason: None,
            waiting_since_ns: None,
            runs: None,
            wakes_itself: false,
            unwakeable: false,
            stack_bytes: 0,
            stack: Vec::new(),
        })
    }

    /// Bytes of a task's allocation: header, scheduler, future, trailer. `None`: the layout does not tell.
    ///
    /// A trailer is the list's two pointers and a waker's two words, and from tokio 1.45 on perhaps two of hooks
    /// (`src/runtime/task/core.rs`); a cell is as large as a multiple of its alignment, which is 128 on x86-64.
    pub fn task_bytes(&self, vtable: u64) -> Option<u64> {
        const ALIGNMENT: u64 = 128;
        let known = self.types.get(&vtable)?;
        let trailer = known.owned_offset.filter(|_| known.form == VtableForm::Offsets)?;
        let [least, most] =
            [32, 48].map(|size| trailer.checked_add(size)?.checked_next_multiple_of(ALIGNMENT));
        least.filter(|_| least == most)
    }

    /// Offset of a type's list pointers.
    pub(super) fn owned_offset(&self, vtable: u64) -> Option<u64> {
        self.types.get(&vtable)?.owned_offset
    }

    /// The vtable of what may be a task's header; `None`: it is none.
    pub(super) fn vtable_at(&self, memory: &impl Memory, address: u64) -> Option<u64> {
        Self::vtable_offsets().find_map(|offset| {
            let vtable = memory.read_u64(address.wrapping_add(offset)).ok()?;
            self.types.contains_key(&vtable).then_some(vtable)
        })
    }

    /// Offset of the vtable in headers. Two forms in one process are two versions, whose lists are not mixed.
    fn vtable_offsets() -> impl Iterator<Item = u64> {
        [VtableForm::Offsets, VtableForm::Plain].into_iter().map(VtableForm::vtable_offset)
    }

    /// Counts and groups every live task, and shows each to `see`.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn census(
        &self,
        memory: &impl Memory,
        see: &mut dyn FnMut(&CensusTask),
    ) -> Result<Census, ReadError> {
        let mut look = Look::default();
        self.go_on(&mut look, memory, u64::MAX)?;
        Ok(self.census_of(look, memory, see))
    }

    /// Goes on with a look until so many bytes were read; `true`: it is over.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn go_on(&self, look: &mut Look, memory: &impl Memory, bytes: u64) -> Result<bool, ReadError> {
        let Look { search, tasks, unreadable } = look;
        search.go_on(self, memory, bytes, &mut |seen| match seen {
            Seen::Live(task) => tasks.push(task),
            Seen::Unreadable { .. } => *unreadable += 1,
            Seen::Dead { .. } | Seen::Foreign { .. } => {}
        })
    }

    /// Counts and groups what a look that is over found, and shows each to `see`.
    pub fn census_of(&self, look: Look, memory: &impl Memory, see: &mut dyn FnMut(&CensusTask)) -> Census {
        let Look { mut tasks, unreadable, .. } = look;
        let mut census = Census { unreadable, ..Census::default() };
        let mut groups: FxHashMap<(SiteId, &str), Waiting> = FxHashMap::default();
        for task in &tasks {
            // What a runtime calls its tasks; the others are in their groups.
            if task.site.runtime.is_task() {
                census.live += 1;
                let by_state = &mut census.by_state;
                match task.status {
                    TaskStatus::Running => by_state.running += 1,
                    TaskStatus::Runnable => by_state.runnable += 1,
                    _ => by_state.waiting += 1,
                }
            }
            let reason = reason(task);
            let group = groups.entry((task.site, reason)).or_insert_with(|| Waiting {
                site: task.site,
                reason: reason.to_owned(),
                stack: Vec::new(),
                count: 0,
                longest_ns: None,
                stack_bytes: 0,
            });
            group.count += 1;
        }
        self.note_runs(memory, &mut tasks);
        tasks.iter().for_each(see);
        census.waiting = groups.into_values().collect();
        census.waiting.sort_by(|a, b| {
            b.count.cmp(&a.count).then_with(|| (a.site, &a.reason).cmp(&(b.site, &b.reason)))
        });
        census
    }

    /// What a task's future holds, as one figure: it is another one when the task has got anywhere.
    ///
    /// A future that waits in one of tokio's lists (a timer, a semaphore, a `Notify`) has the list's node in itself, whose
    /// pointers change when a neighbour comes or goes. They point into other tasks, so such words are passed over.
    fn note_runs(&self, memory: &impl Memory, tasks: &mut [CensusTask]) {
        let end = |task: &CensusTask| Some(task.address.wrapping_add(self.owned_offset(task.site.entry)?));
        let mut cells: Vec<(u64, u64)> =
            tasks.iter().filter_map(|task| Some((task.address, end(task)?))).collect();
        cells.sort_unstable();
        let in_a_task = |word: u64| {
            let after = cells.partition_point(|(begin, _)| *begin <= word);
            after.checked_sub(1).and_then(|at| cells.get(at)).is_some_and(|(_, end)| word < *end)
        };
        for batch in tasks.chunks_mut(FUTURES) {
            let lengths: Vec<usize> = batch
                .iter()
                .map(|task| {
                    let length = self.owned_offset(task.site.entry).unwrap_or(0).saturating_sub(FUTURE_AT);
                    usize::try_from(length).unwrap_or(MOST_OF_FUTURE).min(MOST_OF_FUTURE) & !7
                })
                .collect();
            let mut bytes: Vec<Vec<u8>> = lengths.iter().map(|length| vec![0; *length]).collect();
            let mut requests: Vec<_> = batch
                .iter()
                .zip(&mut bytes)
                .map(|(task, into)| ReadRequest::new(task.address.wrapping_add(FUTURE_AT), into))
                .collect();
            memory.read_many(&mut requests);
            let read: Vec<bool> =
                requests.iter().map(|request| request.ok && !request.into.is_empty()).collect();
            drop(requests);
            for ((task, bytes), _) in batch.iter_mut().zip(&bytes).zip(read).filter(|(_, read)| *read) {
                let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
                let mut hasher = FxHasher::default();
                words
                    .map(|word| if in_a_task(word) { 0 } else { word })
                    .for_each(|word| hasher.write_u64(word));
                task.runs = Some(hasher.finish());
            }
        }
    }

    /// No type of task is known.
    pub(super) fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Notes the words of some memory that may be the vtable of a task's header.
    pub(super) fn find(
        &self,
        address: u64,
        bytes: &[u8],
        in_stack: bool,
        headers: &mut Vec<Header>,
        lists: &mut Lists,
    ) {
        lists.look_through(address, bytes);
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        for (word, place) in words.zip((address..).step_by(8)) {
            // All vtables are near each other: nearly every word fails here.
            if word.wrapping_sub(self.first) <= self.span
                && let Some(known) = self.types.get(&word)
            {
                let address = place.wrapping_sub(known.form.vtable_offset());
                headers.push(Header { address, vtable: word, in_stack });
            }
        }
    }

    /// Reads headers, twice, and tells what each is; those that are alone in their list are kept for later.
    pub(super) fn read_batch(
        &self,
        memory: &impl Memory,
        headers: &[Header],
        ids: &mut FxHashSet<(u64, u64)>,
        lonely: &mut Vec<(CensusTask, u64)>,
        each: &mut impl FnMut(Seen),
    ) {
        let mut structs = vec![0; headers.len() * HEADER];
        let mut numbers = vec![0; headers.len() * 8];
        let mut requests = Vec::with_capacity(headers.len() * 2);
        for ((header, into), number) in
            headers.iter().zip(structs.chunks_exact_mut(HEADER)).zip(numbers.chunks_exact_mut(8))
        {
            // A form without the id's offset reads its state twice.
            let id_offset = self.types.get(&header.vtable).and_then(|known| known.id_offset).unwrap_or(0);
            requests.push(ReadRequest::new(header.address, into));
            requests.push(ReadRequest::new(header.address.wrapping_add(id_offset), number));
        }
        memory.read_many(&mut requests);
        let looks: Vec<Option<Seen>> = headers
            .iter()
            .zip(requests.chunks_exact(2))
            .map(|(header, pair)| match pair {
                [whole, number] if whole.ok && number.ok => self.parse(header, whole.into, number.into),
                _ => None,
            })
            .collect();
        drop(requests);
        // A second look: what is no header any more, or complete by now, is not alive.
        let mut again = vec![0; headers.len() * 8];
        let mut requests: Vec<_> = headers
            .iter()
            .zip(again.chunks_exact_mut(8))
            .map(|(header, into)| ReadRequest::new(header.address, into))
            .collect();
        memory.read_many(&mut requests);
        let heads = structs.chunks_exact(HEADER);
        for (((look, request), header), bytes) in looks.into_iter().zip(&requests).zip(headers).zip(heads) {
            let task = match look {
                None => continue,
                Some(Seen::Live(task)) => task,
                Some(other) => {
                    each(other);
                    continue;
                }
            };
            let second = word(request.into, 0).filter(|_| request.ok);
            if second.and_then(status).is_none() {
                each(Seen::Dead { address: header.address });
                continue;
            }
            if !self.is_queued_behind_a_task(memory, header, bytes) {
                each(Seen::Dead { address: header.address });
                continue;
            }
            // Of two copies of one task one is left over from its making.
            if task.id != 0 && !ids.insert((task.id, header.vtable)) {
                continue;
            }
            // No list owns blocking jobs.
            let listed = match task.site.runtime {
                RuntimeKind::TokioBlocking => Some(true),
                _ => tokio_lists::is_listed(self, memory, header.address, header.vtable),
            };
            match listed {
                Some(true) => each(Seen::Live(task)),
                Some(false) => each(Seen::Dead { address: header.address }),
                None => lonely.extend(self.owner(header.vtable, bytes).map(|owner| (task, owner))),
            }
        }
    }

    /// The number of a task's owner, in its header's bytes.
    fn owner(&self, vtable: u64, header: &[u8]) -> Option<u64> {
        word(header, usize::try_from(self.types.get(&vtable)?.form.owner_offset()).ok()?)
    }

    /// Whether the next one in the queue, which stands before the vtable in every form, is a task, or there is none. In freed
    /// memory that was given out again as something else, the heap's own pointers are often still there.
    fn is_queued_behind_a_task(&self, memory: &impl Memory, header: &Header, bytes: &[u8]) -> bool {
        let offset = self.types.get(&header.vtable).map(|known| known.form.vtable_offset());
        let next = offset.and_then(|offset| word(bytes, usize::try_from(offset).ok()?.checked_sub(8)?));
        let (Some(offset), Some(next)) = (offset, next) else { return false };
        let is_task = || self.vtable_at(memory, next).is_some();
        // One that was taken from the queue meanwhile has no next one any more.
        let moved = || memory.read_u64(header.address.wrapping_add(offset - 8)).ok() != Some(next);
        next == 0 || is_task() || moved()
    }

    /// A header's bytes; `None`: it is none.
    fn parse(&self, header: &Header, bytes: &[u8], number: &[u8]) -> Option<Seen> {
        let known = self.types.get(&header.vtable)?;
        (header.address.is_multiple_of(8)).then_some(())?;
        let state = word(bytes, 0)?;
        let vtable = word(bytes, usize::try_from(known.form.vtable_offset()).ok()?)?;
        let owner = word(bytes, usize::try_from(known.form.owner_offset()).ok()?)?;
        let id = if known.id_offset.is_some() { word(number, 0)? } else { 0 };
        let plausible = vtable == header.vtable
            && owner < MOST_OWNERS
            && state >> state::REFERENCES <= state::MOST_REFERENCES
            && (known.id_offset.is_none() || (1..1 << 56).contains(&id));
        plausible.then_some(())?;
        let Some(status) = status(state).filter(|_| !is_freed(header.address, state)) else {
            return Some(Seen::Dead { address: header.address });
        };
        let made = match known.kind {
            // No list owns a blocking job. What is left of its making on a stack looks like one that has not run.
            RuntimeKind::TokioBlocking => {
                owner == 0 && !(header.in_stack && state::NEVER_RUN.contains(&state))
            }
            // A task is put into its list when it is made; before that it is on the stack.
            _ => owner != 0,
        };
        made.then_some(Seen::Live(CensusTask {
            address: header.address,
            id,
            site: SiteId { runtime: known.kind, site: 0, entry: header.vtable },
            status,
            wait_reason: None,
            waiting_since_ns: None,
            runs: None,
            wakes_itself: false,
            unwakeable: is_unwakeable(state),
            stack_bytes: 0,
            stack: Vec::new(),
        }))
    }
}

/// What a live task does, by its state; `None`: it is complete, or this is no state.
fn status(state: u64) -> Option<TaskStatus> {
    if state >> state::REFERENCES == 0 || state & state::COMPLETE != 0 {
        return None;
    }
    Some(if state & state::RUNNING != 0 {
        TaskStatus::Running
    } else if state & (state::NOTIFIED | state::CANCELLED) != 0 {
        TaskStatus::Runnable
    } else {
        TaskStatus::Waiting
    })
}

/// [`KeptTask::state`] of a task that is being polled.
const RUNNING: &str = "running";

/// A task's state word in tokio's words.
fn state_text(state: u64) -> &'static str {
    match state {
        _ if state & state::COMPLETE != 0 => "complete",
        _ if state & state::RUNNING != 0 => RUNNING,
        _ if state & state::CANCELLED != 0 => "cancelled",
        _ if state & state::NOTIFIED != 0 => "notified",
        _ => "idle",
    }
}

/// Did glibc write the first word of freed memory there? That is the next free piece's address, mangled with its own
/// (`PROTECT_PTR` of `malloc/malloc.c`, since 2.32). In a program at fixed addresses the heap is low, and such a word may be
/// a state that can be.
fn is_freed(address: u64, word: u64) -> bool {
    /// Bytes between two pieces of one heap.
    const HEAP: u64 = 1 << 32;
    /// No heap begins below. What a state that can be makes of a low address is smaller.
    const LOWEST: u64 = 1 << 20;
    let next = word ^ (address >> 12);
    next == 0 || (next.is_multiple_of(16) && next >= LOWEST && next.abs_diff(address) < HEAP)
}

/// Does nothing but its runtime's list refer to a task that stands still?
fn is_unwakeable(state: u64) -> bool {
    let busy = state::RUNNING | state::COMPLETE | state::NOTIFIED | state::JOIN_INTEREST | state::CANCELLED;
    state >> state::REFERENCES == 1 && state & busy == 0
}

/// The status in tokio's words, and whether anything can wake it.
pub(super) fn reason(task: &CensusTask) -> &'static str {
    match task.status {
        _ if task.unwakeable => NO_WAKER,
        TaskStatus::Running => "running",
        TaskStatus::Runnable => "notified",
        _ => "idle",
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use leakwatch_inspect::tokio_rt::TaskType;

    use super::*;
    use crate::host::memory::Fake;

    const BIAS: u64 = 0x5555_0000_0000;
    const ASYNC: u64 = 0x1000;
    const BLOCKING: u64 = 0x1050;
    /// Offset of the list's pointers in our tasks.
    const TRAILER: u64 = 48;

    fn runtime() -> TokioRuntime {
        let task = |vtable, kind| TaskType {
            vtable,
            functions: Vec::new(),
            trailer_offset: Some(TRAILER),
            scheduler_offset: Some(32),
            id_offset: Some(40),
            spawn_location_offset: None,
            kind: Some(kind),
            makers: Vec::new(),
            name: None,
            scheduler: None,
            locations: Vec::new(),
            worker_loop: false,
            name_is_certain: false,
        };
        let facts = TokioFacts {
            version: None,
            form: VtableForm::Offsets,
            types: vec![task(ASYNC, TaskKind::Async), task(BLOCKING, TaskKind::Blocking)],
            starts: Vec::new(),
            ends: Vec::new(),
            problems: Vec::new(),
        };
        TokioRuntime::new(&[(&[facts], BIAS)])
    }

    /// A task: state, next of the queue, vtable, owner, scheduler, id, neighbours in the list.
    fn task(vtable: u64, state: u64, owner: u64, id: u64, list: [u64; 2]) -> [u64; 8] {
        [state, 0, vtable + BIAS, owner, 0x7000, id, list[0], list[1]]
    }

    fn look(memory: &Fake) -> (Vec<u64>, Vec<u64>) {
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        let read = runtime().for_each(memory, |seen| match seen {
            Seen::Live(task) => live.push(task.id),
            Seen::Dead { address } => dead.push(address),
            Seen::Foreign { .. } | Seen::Unreadable { .. } => {}
        });
        read.expect("it can be read");
        (live, dead)
    }

    const IDLE: u64 = 2 << 6 | 8;

    #[test]
    fn neighbours_in_a_list_are_alive_and_what_only_looks_like_one_is_not() {
        let memory = Fake::new()
            .with_words(0x10_000, &task(ASYNC, IDLE, 1, 11, [0, 0x20_000]))
            .with_words(0x20_000, &task(ASYNC, IDLE | state::RUNNING, 1, 12, [0x10_000, 0]))
            // Freed, and its first words are another's: its neighbours know nothing of it.
            .with_words(0x30_000, &task(ASYNC, 0x41, 1, 13, [0x10_000, 0x20_000]))
            // Complete, and kept by its handle.
            .with_words(0x40_000, &task(ASYNC, IDLE | state::COMPLETE, 1, 14, [0, 0]))
            // Still being made, on a stack: no list has it.
            .with_words(0x50_000, &task(ASYNC, 0xcc, 0, 15, [0, 0]));
        let (live, dead) = look(&memory);
        assert_eq!(live, [11, 12]);
        assert_eq!(dead, [0x30_000, 0x40_000]);
    }

    #[test]
    fn what_is_queued_before_no_task_is_freed_memory_in_other_hands() {
        let queued = |next: u64| {
            let mut words = task(ASYNC, IDLE | state::NOTIFIED, 1, 11, [0, 0]);
            words[1] = next;
            let memory = Fake::new()
                .with_words(0x10_000, &words)
                .with_words(0x20_000, &task(ASYNC, IDLE, 1, 12, [0, 0]))
                .with_words(0x40_000, &[0; 8])
                .with_words(0x90_000, &[7, 0x10_000, 0x10_000, 0, 1, 0, 0x20_000, 0x20_000]);
            look(&memory).0
        };
        assert_eq!(queued(0), [11, 12]);
        assert_eq!(queued(0x20_000), [11, 12], "a task");
        assert_eq!(queued(0x40_000), [12], "something else");
        assert_eq!(queued(0x7fff_0000), [12], "nothing is there");
    }

    #[test]
    fn a_task_alone_is_first_and_last_of_its_list() {
        let alone = task(ASYNC, IDLE, 1, 11, [0, 0]);
        let memory = Fake::new().with_words(0x10_000, &alone);
        assert_eq!(look(&memory), (Vec::new(), vec![0x10_000]), "nobody has its address");
        let with =
            |words: &[u64]| look(&Fake::new().with_words(0x10_000, &alone).with_words(0x90_000, words)).0;
        let nobody: [u64; 0] = [];
        assert_eq!(with(&[0, 0x10_000, 0x10_000, 0, 1]), [11], "beside its owner's number");
        assert_eq!(with(&[0, 0x10_000, 0x10_000, 0, 2]), nobody, "another owner's list");
        assert_eq!(with(&[1, 0x10_000, 0x10_000, 0x10_000, 0, 1]), nobody, "again and again, as in a queue");
    }

    #[test]
    fn lists_of_one_may_be_in_an_array() {
        let alone = task(ASYNC, IDLE, 7, 11, [0, 0]);
        // Four lists, the third of which has one; and who owns them: address, length, counts, mask, number.
        // Locks have four bytes that nobody sets.
        let lock = 0x5600_0000_0000;
        let lists = [lock, 0, 0, 0, 0, 0, lock, 0x10_000, 0x10_000, lock, 0, 0];
        let with = |lists: &[u64], owner: &[u64]| {
            let memory = Fake::new().with_words(0x10_000, &alone);
            look(&memory.with_words(0x90_000, lists).with_words(0xa0_000, owner)).0
        };
        let nobody: [u64; 0] = [];
        assert_eq!(with(&lists, &[0x90_000, 4, 1, 1, 3, 7]), [11]);
        assert_eq!(with(&lists, &[0x90_000, 4, 1, 1, 3, 8]), nobody, "another owner's");
        assert_eq!(with(&lists, &[0x90_000, 4, 1, 1, 5, 7]), nobody, "no mask");
        assert_eq!(with(&lists, &[0x90_010, 4, 1, 1, 3, 7]), nobody, "between two of its lists");
    }

    /// Looks in parts of so many bytes: what it found, and how many parts it took.
    fn look_in_parts(memory: &impl Memory, bytes: u64) -> (Vec<u64>, usize) {
        let (mut look, mut parts) = (Look::default(), 1);
        while !runtime().go_on(&mut look, memory, bytes).expect("it can be read") {
            parts += 1;
        }
        (look.tasks.iter().map(|task| task.id).collect(), parts)
    }

    #[test]
    fn a_look_in_parts_finds_what_one_look_finds() {
        let memory = Fake::new()
            .with_words(0x10_000, &task(ASYNC, IDLE, 1, 11, [0, 0x20_000]))
            .with_words(0x20_000, &task(ASYNC, IDLE, 1, 12, [0x10_000, 0]))
            .with_words(0x30_000, &task(ASYNC, 0x41, 1, 13, [0x10_000, 0x20_000]))
            // Alone: the first pass finds its list behind it, the second one is for what no list has.
            .with_words(0x40_000, &task(ASYNC, IDLE, 2, 14, [0, 0]))
            .with_words(0x50_000, &task(ASYNC, IDLE, 3, 15, [0, 0]))
            .with_words(0x90_000, &[0, 0x40_000, 0x40_000, 0, 2]);
        assert_eq!(look_in_parts(&memory, u64::MAX), (vec![11, 12, 14], 1));
        let (found, parts) = look_in_parts(&memory, 64);
        assert_eq!(found, [11, 12, 14]);
        assert_eq!(parts, 11, "six stretches twice, two of them together at the turn");
    }

    /// As much as a process can map, untouched.
    struct Vast(std::cell::Cell<usize>);

    impl Memory for Vast {
        fn writable(&self) -> Result<Vec<crate::host::Written>, ReadError> {
            Ok(vec![crate::host::Written { range: 0x1000..1 << 47, stack: false }])
        }

        fn touched(&self, addresses: std::ops::Range<u64>) -> Vec<std::ops::Range<u64>> {
            assert!(addresses.end - addresses.start <= 256 << 20, "{addresses:x?}");
            self.0.set(self.0.get() + 1);
            Vec::new()
        }

        fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
            Err(ReadError::Unmapped { address, length: into.len() })
        }
    }

    #[test]
    fn what_is_mapped_and_never_touched_costs_something_too() {
        let (memory, mut look) = (Vast(std::cell::Cell::new(0)), Look::default());
        for part in 1..=3 {
            assert_eq!(runtime().go_on(&mut look, &memory, 128 << 20), Ok(false));
            assert_eq!(memory.0.get(), part * 128, "a page map of 512 KiB each");
        }
    }

    #[test]
    fn blocking_jobs_belong_to_no_list_and_to_no_total() {
        let memory = Fake::new().with_words(0x10_000, &task(BLOCKING, 0xc9, 0, 21, [0, 0]));
        let census = runtime().census(&memory, &mut |_| ()).expect("it can be read");
        assert_eq!((census.live, census.waiting.len()), (0, 1));
        let group = census.waiting.first().expect("one group");
        assert_eq!(
            (group.site.runtime, group.count, group.reason.as_str()),
            (RuntimeKind::TokioBlocking, 1, "running")
        );
    }

    #[test]
    fn what_glibc_writes_over_a_task_is_no_state() {
        // A heap of a program at fixed addresses: the last free piece, and one with another one behind it.
        assert!(is_freed(0x3be5_8f00, 0x3be58));
        assert!(is_freed(0x03b5_8f00, 0x03b5_8f00 >> 12 ^ 0x03b5_9000));
        for (address, state) in [
            (0x3be5_8f00, 0xc8),
            (0x3be5_8f00, 0x88),
            (0x2be5_0f00, 0xcc),
            (0x5555_5556_0000, 0xc8),
            (0x7f12_3400_0d80, 0x88),
        ] {
            assert!(!is_freed(address, state), "{address:#x}");
        }
    }

    #[test]
    fn states_that_cannot_be_are_no_tasks() {
        for state in [0, 0x3f, 0x7f35_2400_3480, 1 << 40 | 8] {
            let memory = Fake::new()
                .with_words(0x10_000, &task(ASYNC, state, 1, 11, [0, 0]))
                .with_words(0x90_000, &[0x10_000, 0x10_000, 0, 1]);
            assert_eq!(look(&memory).0, [0_u64; 0], "{state:#x}");
        }
    }
}
