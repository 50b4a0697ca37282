//! The reading end of the ring buffer.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{MapData, RingBuf};
use leakwatch_common::{EventKind, EventRecord, ManagedFrame, ManagedFrames, RuntimeKind, StackRecord};
use zerocopy::FromBytes as _;

use crate::observe::{Event, Observed, StackCopy};

/// Reads events. Its file descriptor is readable when the kernel side thinks that it is worth a look; records
/// that wait below that mark are found by polling.
pub struct EventReader {
    ring: RingBuf<MapData>,
}

impl EventReader {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Hands over what waits, `most` records at most; returns how many there were.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(Observed)) -> usize {
        let mut count = 0;
        while count < most {
            let Some(item) = self.ring.next() else { break };
            each(decode(&item));
            count += 1;
        }
        count
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl std::fmt::Debug for EventReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventReader").finish_non_exhaustive()
    }
}

/// One record; its size tells which kind. Bytes that are not a record of this build are [`Observed::Malformed`].
fn decode(bytes: &[u8]) -> Observed {
    if let Ok(record) = StackRecord::ref_from_bytes(bytes) {
        let length = usize::try_from(record.length).unwrap_or(usize::MAX);
        return match (event(&record.event), record.stack.get(..length)) {
            (Some(event), Some(stack)) => Observed::Stack(Box::new(StackCopy {
                event,
                thread: record.thread,
                registers: record.registers,
                bytes: stack.to_vec(),
                managed: managed(&record.managed),
            })),
            _ => Observed::Malformed,
        };
    }
    let record = EventRecord::read_from_bytes(bytes).ok();
    match record.as_ref().and_then(event) {
        Some(Event { kind: EventKind::HostExec, task, .. }) => {
            u32::try_from(task).map_or(Observed::Malformed, Observed::HostExec)
        }
        Some(event) => Observed::Event(event),
        None => Observed::Malformed,
    }
}

/// The frames that were read.
fn managed(frames: &ManagedFrames) -> Vec<ManagedFrame> {
    let count = usize::try_from(frames.count).unwrap_or(usize::MAX);
    frames.frames.get(..count).map_or_else(Vec::new, <[ManagedFrame]>::to_vec)
}

fn event(record: &EventRecord) -> Option<Event> {
    Some(Event {
        time_ns: record.time_ns,
        process: record.process,
        kind: EventKind::from_id(record.kind)?,
        runtime: RuntimeKind::from_id(record.runtime),
        task: record.task,
        site: record.site,
        entry: record.entry,
        extra: record.extra,
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes as _;

    use leakwatch_common::{STACK_BYTES, UserRegisters};

    use super::*;

    #[test]
    fn a_stack_is_as_long_as_it_says_and_no_longer_than_it_can_be() {
        let event = EventRecord { kind: EventKind::ThreadStart as u16, task: 7, ..EventRecord::default() };
        let mut record = StackRecord {
            event,
            registers: UserRegisters::default(),
            length: 2048,
            thread: 3,
            managed: ManagedFrames { count: 2, ..ManagedFrames::default() },
            stack: [5; STACK_BYTES],
        };
        // Records of the ring are aligned to 8 bytes, as this one is.
        let Observed::Stack(stack) = decode(record.as_bytes()) else { panic!("a stack") };
        assert_eq!((stack.bytes.len(), stack.thread, stack.event.task, stack.managed.len()), (2048, 3, 7, 2));
        record.managed.count = u64::MAX;
        let Observed::Stack(stack) = decode(record.as_bytes()) else { panic!("a stack") };
        assert_eq!(stack.managed, []);
        record.length = u32::MAX;
        assert_eq!(decode(record.as_bytes()), Observed::Malformed);
    }

    #[test]
    fn odd_records_are_malformed_not_fatal() {
        let good = EventRecord { kind: 1, runtime: 1, task: 7, ..EventRecord::default() };
        assert!(matches!(decode(good.as_bytes()), Observed::Event(event) if event.task == 7));
        let unknown = EventRecord { kind: 999, ..good };
        assert_eq!(decode(unknown.as_bytes()), Observed::Malformed);
        assert_eq!(decode(&good.as_bytes()[..47]), Observed::Malformed);
        assert_eq!(decode(&[]), Observed::Malformed);
        let exec = EventRecord { kind: EventKind::HostExec as u16, runtime: 0, ..good };
        assert_eq!(decode(exec.as_bytes()), Observed::HostExec(7));
        assert_eq!(decode(EventRecord { task: u64::MAX, ..exec }.as_bytes()), Observed::Malformed);
    }
}
