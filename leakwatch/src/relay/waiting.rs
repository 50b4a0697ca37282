//! What waits for a receiver: the queue on disk, and behind it, while the disk takes nothing more, some memory.
//!
//! Records come out as they went in. A disk that is full costs nothing while the receiver takes what comes; in an outage it costs what
//! does not fit into [`MEMORY`], the oldest of that first, and what is in memory when leakwatch ends. It must never leave a half of a
//! record on the disk, nor fill the log with what goes on for hours.

use std::collections::VecDeque;

use super::outage::Outage;
use super::queue::{Limits, Queue, QueueError, Record};

/// Most bytes that wait in memory.
pub(super) const MEMORY: usize = 16 << 20;

/// Where the record came from that was looked at last and is not done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Nowhere,
    Queue,
    Memory,
}

/// Records in their order.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: Queue,
    /// What the disk did not take. All of it is newer than what is in the queue.
    memory: VecDeque<Record>,
    /// Bytes of it.
    bytes: usize,
    looked: Looked,
    /// Weight of what had no room in memory.
    dropped: u64,
    disk: Outage,
    /// The disk's own writing of what it took.
    kept: Outage,
    position: Outage,
}

impl Waiting {
    pub(super) fn behind(queue: Queue) -> Self {
        let path = queue.path().display().to_string();
        Self {
            queue,
            memory: VecDeque::new(),
            bytes: 0,
            looked: Looked::Nowhere,
            dropped: 0,
            disk: Outage::of(format!("the queue in {path}")),
            kept: Outage::of(format!("the disk of the queue in {path}")),
            position: Outage::of(format!("the position in the queue in {path}")),
        }
    }

    /// Other limits from the next record on.
    pub(super) fn limit(&mut self, limits: Limits) {
        self.queue.limit(limits);
    }

    /// Puts a record behind all others.
    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.bytes.len();
        self.memory.push_back(record);
        self.settle();
        // The one that is on its way stays.
        let oldest = usize::from(self.looked == Looked::Memory);
        while self.bytes > MEMORY
            && let Some(record) = self.memory.remove(oldest)
        {
            self.bytes -= record.bytes.len();
            self.dropped = self.dropped.saturating_add(record.weight);
        }
    }

    /// Brings to the disk what waits in memory, as far as it takes that.
    fn settle(&mut self) {
        while let Some(record) = self.memory.front().filter(|_| self.looked != Looked::Memory) {
            match self.queue.push(record) {
                Ok(()) => {}
                Err(error @ QueueError::TooLarge { .. }) => {
                    tracing::warn!("{} samples are lost: {error}", record.weight);
                    self.dropped = self.dropped.saturating_add(record.weight);
                }
                // What was sent already makes room for it.
                Err(_) if self.queue.clear() => continue,
                Err(error) => {
                    let most = MEMORY >> 20;
                    self.disk
                        .goes_on(&format!("{error}; what comes waits in memory, {most} MB at most"), None);
                    return;
                }
            }
            self.forget_first();
        }
        if self.memory.is_empty() {
            self.disk.is_over();
        }
    }

    fn forget_first(&mut self) {
        if let Some(record) = self.memory.pop_front() {
            self.bytes -= record.bytes.len();
        }
    }

    /// The oldest record, until [`Self::advance`] or [`Self::put_back`].
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub(super) fn peek(&mut self) -> Result<Option<Record>, QueueError> {
        let on_disk = self.queue.peek()?;
        let (looked, record) = match on_disk {
            Some(record) => (Looked::Queue, Some(record)),
            None => (Looked::Memory, self.memory.front().cloned()),
        };
        self.looked = if record.is_some() { looked } else { Looked::Nowhere };
        Ok(record)
    }

    /// The record that was looked at is done with.
    pub(super) fn advance(&mut self, record: &Record) {
        match std::mem::replace(&mut self.looked, Looked::Nowhere) {
            Looked::Queue => match self.queue.advance(record) {
                Ok(()) => self.position.is_over(),
                Err(error) => drop(self.position.goes_on(&error.to_string(), None)),
            },
            Looked::Memory => self.forget_first(),
            Looked::Nowhere => {}
        }
    }

    /// It is looked at again later.
    pub(super) fn put_back(&mut self) {
        self.looked = Looked::Nowhere;
    }

    /// Has the disk keep what was pushed.
    pub(super) fn sync(&mut self) {
        match self.queue.sync() {
            Ok(()) => self.kept.is_over(),
            Err(error) => drop(self.kept.goes_on(&error.to_string(), None)),
        }
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.queue.waiting().saturating_add(self.bytes as u64)
    }

    /// Weight of what was given up for want of room.
    pub(super) fn dropped(&self) -> u64 {
        self.queue.dropped().saturating_add(self.dropped)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let weight: u64 = self.memory.iter().map(|record| record.weight).sum();
        if weight > 0 {
            tracing::warn!("{weight} samples that waited in memory are lost: the disk does not take them");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn record(number: u8, size: usize) -> Record {
        Record { weight: 1, bytes: vec![number; size] }
    }

    /// A queue, and a thing by the name of its first segment: it can have none.
    fn refused(folder: &Path) -> (Waiting, std::path::PathBuf) {
        let in_the_way = folder.join("00000001.seg");
        let waiting = Waiting::behind(Queue::open(folder, Limits::default()).expect("a queue"));
        fs::create_dir(&in_the_way).expect("made");
        (waiting, in_the_way)
    }

    fn next(waiting: &mut Waiting) -> Option<u8> {
        let record = waiting.peek().expect("readable")?;
        waiting.advance(&record);
        record.bytes.first().copied()
    }

    #[test]
    fn what_the_disk_refuses_waits_in_memory_and_goes_there_when_it_can_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut waiting, in_the_way) = refused(folder.path());
        for number in 1..=3 {
            waiting.push(record(number, 10));
        }
        assert_eq!((waiting.memory.len(), waiting.waiting()), (3, 30));
        assert_eq!(next(&mut waiting), Some(1));
        // One is on its way when there is room again: it does not go to the disk behind its own back.
        let on_its_way = waiting.peek().expect("readable").expect("one");
        fs::remove_dir(&in_the_way).expect("removed");
        waiting.push(record(4, 10));
        assert_eq!(waiting.memory.len(), 3);
        waiting.put_back();
        waiting.push(record(5, 10));
        assert_eq!((waiting.memory.len(), on_its_way.bytes[0]), (0, 2));
        // It is on the disk by now, and the next run has it.
        drop(waiting);
        let mut again = Waiting::behind(Queue::open(folder.path(), Limits::default()).expect("a queue"));
        let all: Vec<u8> = std::iter::from_fn(|| next(&mut again)).collect();
        assert_eq!((all, again.dropped(), again.waiting()), (vec![2, 3, 4, 5], 0, 0));
    }

    #[test]
    fn memory_is_bounded_and_what_has_no_room_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut waiting, _) = refused(folder.path());
        for number in 0..20 {
            waiting.push(record(number, 1 << 20));
        }
        assert_eq!((waiting.bytes, waiting.dropped()), (MEMORY, 4));
        // The one that is on its way is not given up under the hand of whoever sends it.
        assert_eq!(waiting.peek().expect("readable").expect("one").bytes[0], 4);
        waiting.push(record(20, 1 << 20));
        assert_eq!(waiting.dropped(), 5);
        let all: Vec<u8> = std::iter::from_fn(|| next(&mut waiting)).collect();
        assert_eq!(all, [vec![4], (6..=20).collect()].concat());
    }
}
