//! A bounded queue of records on disk, which survives a restart, a kill and an outage of whoever it is for.
//!
//! Segments `00000001.seg`, … hold records one after the other, each with its length and checksum. A run never appends to
//! a segment of another: it begins a new one, so a tail that was cut ends its segment and nothing else. `position` says up
//! to where records were taken; it is replaced as a whole.
//!
//! What it promises. *Order*: records come out as they went in. *Kill*: a record whose [`Queue::push`] returned is in the
//! kernel's page cache and survives the end of the process, `kill -9` included. *Power loss*: records are on the disk
//! after [`Queue::sync`], which its owner calls every few seconds, and when a segment is full; what was pushed since can
//! be lost, and never comes out damaged. *At least once*: a record comes out again when the process was killed after it
//! was taken and before [`Queue::advance`] returned. *Bounded*: beyond the limit the oldest segment is removed; what was
//! in it is counted, not forgotten.
//!
//! It never blocks on a receiver, knows no time, and trusts no length that it reads.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use flate2::Crc;

use crate::folder::Folder;

/// Bytes before a record: its length, its weight, its checksum.
const HEADER: usize = 16;

/// Largest record.
const LARGEST: usize = 64 << 20;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes after which a segment is full.
    pub segment: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 512 << 20, segment: 8 << 20 }
    }
}

/// Why the queue is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Another process has it.
    #[error("{} is the queue of another leakwatch that runs; give each its own queue_dir", folder.display())]
    Taken {
        /// Its folder.
        folder: PathBuf,
    },
    /// Something could not be done with a file.
    #[error("cannot {what} {}: {source}; check the disk and the rights of queue_dir", path.display())]
    Io {
        /// What.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record is larger than any may be.
    #[error("a record of {bytes} bytes is too large for the queue")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// A record, and what its owner says that it weighs (samples in it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it counts for when it is lost.
    pub weight: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Where reading is: in this segment, at this byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    segment: u64,
    offset: u64,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    folder: Folder,
    /// What it is called.
    path: PathBuf,
    limits: Limits,
    /// Locked for as long as the queue is open.
    _lock: File,
    /// Segments with their sizes, oldest first.
    segments: Vec<(u64, u64)>,
    writing: Option<File>,
    position: Position,
    reading: Option<(u64, File)>,
    dropped: u64,
    damaged: u64,
}

impl Queue {
    /// Opens the queue of a folder, which is made if it is not there, for its owner alone.
    ///
    /// # Errors
    /// When the folder cannot be made, read or locked.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, QueueError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| QueueError::Io { what, path, source }
        };
        let open = Folder::of_ours(folder).map_err(failed("use", folder))?;
        let path = folder.join("lock");
        let lock = open.lock_file("lock").map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(QueueError::Taken { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        let files = open.files().map_err(failed("read", folder))?;
        let segment = |(name, stat): (String, rustix::fs::Stat)| {
            let number = name.strip_suffix(".seg")?.parse::<u64>().ok()?;
            Some((number, u64::try_from(stat.st_size).ok()?))
        };
        let mut segments: Vec<(u64, u64)> = files.into_iter().filter_map(segment).collect();
        segments.sort_unstable();
        let mut queue = Self {
            position: read_position(&open),
            folder: open,
            path: folder.to_owned(),
            limits,
            _lock: lock,
            segments,
            writing: None,
            reading: None,
            dropped: 0,
            damaged: 0,
        };
        // What was taken before is of no use to anyone.
        while let Some(&(number, _)) =
            queue.segments.first().filter(|(number, _)| *number < queue.position.segment)
        {
            queue.remove(number)?;
        }
        Ok(queue)
    }

    /// Other limits from the next record on.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Puts a record behind all others. Beyond the limit the oldest segment goes.
    ///
    /// # Errors
    /// When it cannot be written, or is too large.
    pub fn push(&mut self, record: &Record) -> Result<(), QueueError> {
        let length = u32::try_from(record.bytes.len()).ok().filter(|_| record.bytes.len() <= LARGEST);
        let Some(length) = length else {
            return Err(QueueError::TooLarge { bytes: record.bytes.len() });
        };
        let mut framed = Vec::with_capacity(HEADER + record.bytes.len());
        framed.extend_from_slice(&length.to_le_bytes());
        framed.extend_from_slice(&record.weight.to_le_bytes());
        framed.extend_from_slice(&checksum(record.weight, &record.bytes).to_le_bytes());
        framed.extend_from_slice(&record.bytes);
        let full = self.segments.last().is_none_or(|(_, size)| *size >= self.limits.segment);
        if full || self.writing.is_none() {
            self.begin_segment()?;
        }
        let (Some(file), Some((number, size))) = (self.writing.as_mut(), self.segments.last_mut()) else {
            return Ok(());
        };
        if let Err(source) = file.write_all(&framed) {
            let path = self.path.join(segment(*number));
            // What was written of it goes; where it stays, it is a cut tail, and the next record goes to a new segment.
            if file.set_len(*size).and_then(|()| file.seek(SeekFrom::Start(*size))).is_err() {
                self.writing = None;
            }
            return Err(QueueError::Io { what: "write", path, source });
        }
        *size += framed.len() as u64;
        while self.bytes() > self.limits.bytes && self.segments.len() > 1 {
            let (oldest, _) = self.segments[0];
            self.dropped = self.dropped.saturating_add(self.weight_of(oldest));
            self.remove(oldest)?;
        }
        Ok(())
    }

    /// The oldest record that was not taken yet. What is damaged is passed over and counted.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn peek(&mut self) -> Result<Option<Record>, QueueError> {
        loop {
            let Some(&(oldest, size)) = self.segments.first() else { return Ok(None) };
            if self.position.segment != oldest {
                self.position = Position { segment: oldest, offset: 0 };
            }
            if self.position.offset < size {
                match self.read_at(oldest, self.position.offset)? {
                    Some(record) => return Ok(Some(record)),
                    // A tail that was cut, or damage: nothing behind it in this segment can be trusted.
                    None => self.damaged += 1,
                }
            }
            if self.segments.len() == 1 && self.writing.is_some() && self.position.offset >= size {
                return Ok(None);
            }
            self.remove(oldest)?;
            if self.segments.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Removes what was taken already, where nothing else is left; `false`: there was nothing to remove.
    pub fn clear(&mut self) -> bool {
        if self.waiting() > 0 || self.bytes() == 0 {
            return false;
        }
        let taken: Vec<u64> = self.segments.iter().map(|(number, _)| *number).collect();
        taken.into_iter().all(|number| self.remove(number).is_ok())
    }

    /// The record of the last [`Self::peek`] is done with.
    ///
    /// # Errors
    /// When the position cannot be written: the record comes again after a restart.
    pub fn advance(&mut self, record: &Record) -> Result<(), QueueError> {
        self.position.offset += (HEADER + record.bytes.len()) as u64;
        let mut bytes = Vec::with_capacity(20);
        bytes.extend_from_slice(&self.position.segment.to_le_bytes());
        bytes.extend_from_slice(&self.position.offset.to_le_bytes());
        let mut sum = Crc::new();
        sum.update(&bytes);
        bytes.extend_from_slice(&sum.sum().to_le_bytes());
        self.folder.replace("position", &bytes, 0o600).map_err(|source| QueueError::Io {
            what: "write",
            path: self.path.join("position"),
            source,
        })
    }

    /// Has the disk keep what was pushed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&mut self) -> Result<(), QueueError> {
        let Some(file) = &self.writing else { return Ok(()) };
        file.sync_data().map_err(|source| QueueError::Io { what: "write", path: self.path.clone(), source })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all segments, those of the oldest that were taken already among them.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|(_, size)| size).sum()
    }

    /// Bytes that were not taken yet.
    pub fn waiting(&self) -> u64 {
        let taken = self.segments.first().filter(|(number, _)| *number == self.position.segment);
        self.bytes().saturating_sub(taken.map_or(0, |(_, size)| self.position.offset.min(*size)))
    }

    /// Weight of what was removed before anyone took it.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many segments ended with something else than a whole record.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    fn begin_segment(&mut self) -> Result<(), QueueError> {
        if let Err(error) = self.sync() {
            self.writing = None;
            return Err(error);
        }
        let last = self.segments.last().map_or(0, |(number, _)| *number).max(self.position.segment);
        let number = last.saturating_add(1);
        let name = segment(number);
        let file = self.folder.create(&name);
        let path = self.path.join(name);
        self.writing = Some(file.map_err(|source| QueueError::Io { what: "make", path, source })?);
        self.segments.push((number, 0));
        Ok(())
    }

    fn remove(&mut self, number: u64) -> Result<(), QueueError> {
        if self.segments.last().is_some_and(|(last, _)| *last == number) {
            self.writing = None;
        }
        if self.reading.as_ref().is_some_and(|(open, _)| *open == number) {
            self.reading = None;
        }
        self.segments.retain(|(other, _)| *other != number);
        let name = segment(number);
        self.folder.remove(&name).map_err(|source| QueueError::Io {
            what: "remove",
            path: self.path.join(name),
            source,
        })
    }

    /// The record at this place; `None` when there is no whole one.
    fn read_at(&mut self, number: u64, offset: u64) -> Result<Option<Record>, QueueError> {
        let name = segment(number);
        let failed = |source| QueueError::Io { what: "read", path: self.path.join(&name), source };
        if self.reading.as_ref().is_none_or(|(open, _)| *open != number) {
            self.reading = Some((number, self.folder.read(&name).map_err(failed)?));
        }
        let Some((_, file)) = self.reading.as_mut() else { return Ok(None) };
        match whole_record(file, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            other => other.map_err(failed),
        }
    }

    /// Weight of the records of a segment that were not taken.
    fn weight_of(&mut self, number: u64) -> u64 {
        let mut offset = if self.position.segment == number { self.position.offset } else { 0 };
        let mut weight = 0u64;
        while let Ok(Some(record)) = self.read_at(number, offset) {
            weight = weight.saturating_add(record.weight);
            offset += (HEADER + record.bytes.len()) as u64;
        }
        weight
    }
}

fn segment(number: u64) -> String {
    format!("{number:08}.seg")
}

fn whole_record(file: &mut File, offset: u64) -> io::Result<Option<Record>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    let [length, weight_low, weight_high, sum] = [0, 4, 8, 12].map(|at| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    });
    let weight = u64::from(weight_high) << 32 | u64::from(weight_low);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Ok(None);
    }
    // Grows with what is there: a wrong length asks for no memory.
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes)?;
    let whole = bytes.len() == length && checksum(weight, &bytes) == sum;
    Ok(whole.then_some(Record { weight, bytes }))
}

fn checksum(weight: u64, bytes: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(&weight.to_le_bytes());
    sum.update(bytes);
    sum.sum()
}

/// The position that was written last; the beginning where there is none that is whole.
fn read_position(folder: &Folder) -> Position {
    let mut bytes = Vec::new();
    let file = folder.read("position");
    if file.and_then(|file| file.take(64).read_to_end(&mut bytes)).is_err() {
        return Position::default();
    }
    let part =
        |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let mut sum = Crc::new();
    sum.update(bytes.get(..16).unwrap_or_default());
    let written = bytes.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match (part(0), part(8)) {
        (Some(segment), Some(offset)) if written == Some(sum.sum()) => Position { segment, offset },
        _ => Position::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, fs};

    use proptest::prelude::*;

    use super::*;

    fn record(number: u64, size: usize) -> Record {
        Record { weight: number + 1, bytes: number.to_le_bytes().repeat(size / 8 + 1) }
    }

    const SMALL: Limits = Limits { bytes: 1 << 30, segment: 300 };

    fn drain(queue: &mut Queue) -> Vec<Record> {
        let mut records = Vec::new();
        while let Some(record) = queue.peek().expect("readable") {
            queue.advance(&record).expect("writable");
            records.push(record);
        }
        records
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Queue::open(folder.path(), SMALL).expect("a queue");
        assert!(matches!(Queue::open(folder.path(), SMALL), Err(QueueError::Taken { .. })));
        drop(first);
        Queue::open(folder.path(), SMALL).expect("free again");
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").expect("a file");
        let queue = folder.path().join("queue");
        fs::create_dir(&queue).expect("a folder");
        std::os::unix::fs::symlink(&victim, queue.join("lock")).expect("a link");
        assert!(matches!(Queue::open(&queue, SMALL), Err(QueueError::Io { .. })));
        fs::remove_file(queue.join("lock")).expect("removed");
        std::os::unix::fs::symlink(&victim, queue.join("00000001.seg")).expect("a link");
        let mut queue = Queue::open(&queue, SMALL).expect("a queue");
        assert!(queue.push(&record(1, 8)).is_err());
        assert_eq!(fs::read_to_string(&victim).expect("still there"), "precious");
    }

    #[test]
    fn the_oldest_goes_first_and_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let limits = Limits { bytes: 1_000, segment: 200 };
        let mut queue = Queue::open(folder.path(), limits).expect("a queue");
        let pushed: Vec<Record> = (0..50).map(|number| record(number, 64)).collect();
        for one in &pushed {
            queue.push(one).expect("room");
            assert!(queue.bytes() <= limits.bytes);
        }
        let dropped = queue.dropped();
        let left = drain(&mut queue);
        assert!(pushed.ends_with(&left) && !left.is_empty());
        let weight = |records: &[Record]| records.iter().map(|one| one.weight).sum::<u64>();
        assert_eq!(dropped + weight(&left), weight(&pushed));
        assert_eq!(queue.waiting(), 0);
    }

    proptest! {
        /// Pushes, takes, kills (a queue that is dropped and opened anew) and cut tails in any order.
        #[test]
        fn records_come_out_in_order_and_whole(steps in proptest::collection::vec((0..10u8, 0..400usize), 1..80)) {
            let folder = tempfile::tempdir().expect("a folder");
            let mut queue = Some(Queue::open(folder.path(), SMALL).expect("a queue"));
            let mut model: VecDeque<Record> = VecDeque::new();
            let mut number = 0;
            for (what, size) in steps {
                let open = queue.as_mut().expect("open");
                match what {
                    0..=4 => {
                        let one = record(number, size);
                        number += 1;
                        open.push(&one).expect("room");
                        model.push_back(one);
                    }
                    5..=6 => {
                        let one = open.peek().expect("readable");
                        prop_assert_eq!(&one, &model.front().cloned());
                        if let Some(one) = one {
                            open.advance(&one).expect("writable");
                            model.pop_front();
                        }
                    }
                    7 => {
                        // Looked at, killed: it comes again.
                        prop_assert_eq!(open.peek().expect("readable"), model.front().cloned());
                        drop(queue.take());
                        queue = Some(Queue::open(folder.path(), SMALL).expect("a queue"));
                    }
                    8 => {
                        drop(queue.take());
                        queue = Some(Queue::open(folder.path(), SMALL).expect("a queue"));
                    }
                    _ => {
                        // Power loss: the newest segment lost its tail.
                        let last = open.segments.last().copied();
                        drop(queue.take());
                        if let Some((number, length)) = last {
                            let keep = length.saturating_sub(size as u64 % 64);
                            let path = folder.path().join(segment(number));
                            let file = fs::OpenOptions::new().write(true).open(path).expect("a segment");
                            file.set_len(keep).expect("cut");
                        }
                        let mut again = Queue::open(folder.path(), SMALL).expect("a queue");
                        // What is left is a beginning of what there was, from the position on.
                        let whole: Vec<Record> = model.drain(..).collect();
                        let left = drain(&mut again);
                        prop_assert!(whole.starts_with(&left), "{:?} of {:?}", left.len(), whole.len());
                        prop_assert!(whole.len() - left.len() <= 64 / 24 + 1);
                        queue = Some(again);
                    }
                }
            }
            let left = drain(queue.as_mut().expect("open"));
            prop_assert_eq!(left, Vec::from(model));
        }

        /// Any bytes in place of a segment or the position: no panic, no damaged record.
        #[test]
        fn foreign_bytes_are_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..200), position in proptest::collection::vec(any::<u8>(), 0..24)) {
            let folder = tempfile::tempdir().expect("a folder");
            fs::write(folder.path().join("00000003.seg"), &bytes).expect("a file");
            fs::write(folder.path().join("position"), &position).expect("a file");
            let mut queue = Queue::open(folder.path(), SMALL).expect("a queue");
            let one = record(1, 8);
            queue.push(&one).expect("room");
            prop_assert_eq!(drain(&mut queue), vec![one]);
        }
    }
}
