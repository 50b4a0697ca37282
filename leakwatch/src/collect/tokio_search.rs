//! A look through a process's memory for tokio's tasks that can be interrupted: it reads so many bytes at a time and goes on where
//! it was, so that a process with much memory keeps nobody waiting.
//!
//! What is found is examined at once, while it is fresh: each part of memory is seen as it was at one moment, all of them within
//! the time that the look took. A task stays where it was made, so one that lives all that time is seen exactly once. Must never
//! read more than it was allowed to, but for the tasks that it finds.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    go::Seen,
    tokio_lists::{self, Lists},
    tokio_rt::TokioRuntime,
};
use crate::{
    host::{Memory, ReadError, Written},
    observe::CensusTask,
};

/// Bytes that are looked through at once: bounds our memory.
const CHUNK: usize = 1 << 20;
/// Where a stretch cannot be read as a whole it is read in these.
const SMALL: usize = 4096;
/// Headers read at once.
const BATCH: usize = 1024;
/// More headers than believed: tasks have at least 64 bytes each.
const MOST_HEADERS: usize = 1 << 26;
/// Addresses that the kernel is asked about at once: which of their pages were ever touched.
const ASKED: u64 = 256 << 20;
/// What to ask about one page costs, in bytes that could have been read instead.
const PRICE_OF_A_PAGE: u64 = 16;
const PAGE: u64 = 4096;

/// A header that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) address: u64,
    pub(super) vtable: u64,
    pub(super) in_stack: bool,
}

/// Where a look is.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Mappings that are left, the next one last; `None`: it has not begun.
    mappings: Option<Vec<Written>>,
    /// Of the one before: what was touched and is left, the next stretch last.
    stretches: Vec<Written>,
    lists: Lists,
    /// Headers that were found.
    headers: usize,
    /// Of the tasks that were found.
    ids: FxHashSet<(u64, u64)>,
    /// Tasks that are alone in their list, if they are tasks, each with its owner's number.
    lonely: Vec<(CensusTask, u64)>,
    /// Those were not in any list that the first pass saw: the second one is for them.
    second: bool,
    /// Bytes that were read.
    read: u64,
}

impl Search {
    /// Goes on until so much was read; `true`: the look is over. Calls `each` with every task that memory shows, and with what
    /// once was one.
    ///
    /// # Errors
    /// When the list of mappings or the memory cannot be read.
    pub(super) fn go_on(
        &mut self,
        types: &TokioRuntime,
        memory: &impl Memory,
        mut bytes: u64,
        each: &mut impl FnMut(Seen),
    ) -> Result<bool, ReadError> {
        if types.is_empty() {
            return Ok(true);
        }
        loop {
            let mut headers = Vec::new();
            let over = self.find(types, memory, &mut bytes, &mut headers)?;
            if !self.second {
                for batch in headers.chunks(BATCH) {
                    types.read_batch(memory, batch, &mut self.ids, &mut self.lonely, each);
                }
            }
            if !over {
                return Ok(false);
            }
            let owners: FxHashMap<u64, u64> =
                self.lonely.iter().map(|(task, owner)| (task.address, *owner)).collect();
            let alone = std::mem::take(&mut self.lists).alone(types, memory, &owners);
            if self.second {
                for (task, _) in self.lonely.drain(..) {
                    let address = task.address;
                    // Another may have come to its list meanwhile.
                    let joined =
                        || tokio_lists::is_listed(types, memory, address, task.site.entry) == Some(true);
                    each(if alone.contains(&address) || joined() {
                        Seen::Live(task)
                    } else {
                        Seen::Dead { address }
                    });
                }
                return Ok(true);
            }
            for (task, _) in self.lonely.extract_if(.., |(task, _)| alone.contains(&task.address)) {
                each(Seen::Live(task));
            }
            if self.lonely.is_empty() {
                return Ok(true);
            }
            // Alone in their list since they were found, or not tasks: who has their addresses now?
            self.second = true;
            self.mappings = None;
            self.headers = 0;
        }
    }

    /// Bytes that were read so far.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Where words are that may be the vtable of a task's header; `true`: all memory was looked through.
    fn find(
        &mut self,
        types: &TokioRuntime,
        memory: &impl Memory,
        bytes: &mut u64,
        headers: &mut Vec<Header>,
    ) -> Result<bool, ReadError> {
        if self.mappings.is_none() {
            let mut mappings = memory.writable()?;
            mappings.reverse();
            self.mappings = Some(mappings);
        }
        let mut buffer = vec![0; CHUNK];
        while let Some(Written { range, stack }) = self.next_stretch(memory, bytes) {
            let length = usize::try_from(range.end - range.start).unwrap_or(CHUNK).min(CHUNK);
            let into = buffer.get_mut(..length).unwrap_or_default();
            let at = range.start;
            let rest = at.saturating_add(length as u64)..range.end;
            if !rest.is_empty() {
                self.stretches.push(Written { range: rest, stack });
            }
            *bytes = bytes.saturating_sub(length as u64);
            self.read = self.read.saturating_add(length as u64);
            let before = headers.len();
            match memory.read(at, into) {
                Ok(()) => types.find(at, into, stack, headers, &mut self.lists),
                Err(ReadError::Unmapped { .. }) => {
                    // Part of it was unmapped meanwhile.
                    for (small, at) in into.chunks_mut(SMALL).zip((at..).step_by(SMALL)) {
                        if memory.read(at, small).is_ok() {
                            types.find(at, small, stack, headers, &mut self.lists);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
            self.headers = self.headers.saturating_add(headers.len() - before);
            if self.headers >= MOST_HEADERS {
                return Ok(true);
            }
        }
        Ok(self.stretches.is_empty() && self.mappings.as_ref().is_none_or(Vec::is_empty))
    }

    /// The next stretch that was ever touched; `None`: there is none, or no more may be read. To ask for it costs something, too.
    fn next_stretch(&mut self, memory: &impl Memory, bytes: &mut u64) -> Option<Written> {
        while *bytes > 0 {
            if let Some(stretch) = self.stretches.pop() {
                return Some(stretch);
            }
            let mappings = self.mappings.as_mut()?;
            let Written { range, stack } = mappings.pop()?;
            let end = range.end.min(range.start.saturating_add(ASKED));
            if end < range.end {
                mappings.push(Written { range: end..range.end, stack });
            }
            *bytes = bytes.saturating_sub((end - range.start) / PAGE * PRICE_OF_A_PAGE);
            let touched = memory.touched(range.start..end);
            self.stretches.extend(touched.into_iter().rev().map(|range| Written { range, stack }));
        }
        None
    }
}
