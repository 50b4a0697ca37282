//! Walks over the stacks of goroutines that stand still, as the runtime's own unwinder does it: by the distance of the
//! stack pointer from its frame's start that the function tables give for every pc (`resolveInternal`,
//! runtime/traceback.go). No frame pointers: what stands in a prologue or comes from assembly has none.
//!
//! Must end on any stack: every step goes up, and the stack has an end.

use crate::{
    host::{Memory, ReadRequest},
    images::Unwinder,
};

/// Bytes of a stack that are read at first: the whole of most.
const FIRST: u64 = 2 << 10;
/// Bytes that are read at once of a deeper one.
const MORE: u64 = 64 << 10;
/// Most frames of one stack; the runtime's limit on stacks, 1 GB, holds some ten million.
const MOST_FRAMES: usize = 1 << 20;

/// Where a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) pc: u64,
    pub(super) sp: u64,
    /// End of the stack.
    pub(super) high: u64,
    /// The innermost frame made a system call.
    pub(super) in_syscall: bool,
}

/// The first bytes of several stacks, read in one call.
pub(super) struct Windows {
    bytes: Vec<u8>,
    ranges: Vec<Option<std::ops::Range<usize>>>,
}

impl Windows {
    /// Reads them; a stack that cannot be read has none.
    pub(super) fn read(memory: &impl Memory, starts: &[Option<Start>]) -> Self {
        let mut total = 0;
        let lengths: Vec<usize> = starts
            .iter()
            .map(|start| start.map_or(0, |start| to_usize(start.high.saturating_sub(start.sp).min(FIRST))))
            .collect();
        let ranges: Vec<_> = lengths
            .iter()
            .map(|&length| {
                let from = total;
                total += length;
                from..total
            })
            .collect();
        let mut bytes = vec![0; total];
        let mut rest = bytes.as_mut_slice();
        let mut requests = Vec::with_capacity(starts.len());
        for (start, &length) in starts.iter().zip(&lengths) {
            let (into, after) = rest.split_at_mut(length);
            rest = after;
            requests.push(ReadRequest::new(start.map_or(0, |start| start.sp), into));
        }
        memory.read_many(&mut requests);
        let served: Vec<bool> =
            requests.iter().map(|request| request.ok && !request.into.is_empty()).collect();
        drop(requests);
        let ranges = ranges.into_iter().zip(served).map(|(range, ok)| ok.then_some(range)).collect();
        Self { bytes, ranges }
    }

    /// The bytes of the stack with this index, from its stack pointer up.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.ranges.get(index)?.clone()?)
    }
}

/// Walks one stack, whose first bytes are `window`: `pcs` gets the addresses of the next instructions, innermost first.
/// True when it came to the end of the stack.
pub(super) fn walk(
    memory: &impl Memory,
    unwinder: &mut Unwinder<'_>,
    start: Start,
    window: &[u8],
    pcs: &mut Vec<u64>,
) -> bool {
    pcs.clear();
    let mut words = Words { memory, high: start.high, first: start.sp, window, more: Vec::new(), from: 0 };
    let (mut pc, mut sp) = (start.pc, start.sp);
    let pushed = if unwinder.calls_push() { 8 } else { 0 };
    // A function that was entered by a call to address 0.
    if pc == 0 {
        let Some(back) = words.at(sp) else { return false };
        (pc, sp) = (back, sp.wrapping_add(pushed));
    }
    while pcs.len() < MOST_FRAMES {
        let Some(step) = unwinder.step(pc) else { return false };
        let innermost = pcs.is_empty();
        let Some(delta) = step.sp_delta else {
            return false;
        };
        pcs.push(pc);
        if step.top {
            return true;
        }
        let excused = (innermost && start.in_syscall) || unwinder.is_cgocallback(&step);
        if step.writes_sp && !excused {
            return false;
        }
        let Some(end) = sp.checked_add(u64::from(delta)).and_then(|end| end.checked_add(pushed)) else {
            return false;
        };
        let back = if pushed > 0 { words.at(end.wrapping_sub(8)) } else { words.at(sp) };
        let Some(back) = back else { return false };
        if back == 0 {
            return true;
        }
        if end <= sp && back == pc {
            return false;
        }
        (pc, sp) = (back, end);
    }
    false
}

/// Words of a stack, read on demand beyond its first bytes.
struct Words<'a, M: Memory> {
    memory: &'a M,
    high: u64,
    first: u64,
    window: &'a [u8],
    more: Vec<u8>,
    from: u64,
}

impl<M: Memory> Words<'_, M> {
    fn at(&mut self, address: u64) -> Option<u64> {
        if let Some(word) = word(self.window, address.checked_sub(self.first)?) {
            return Some(word);
        }
        if let Some(word) = address.checked_sub(self.from).and_then(|offset| word(&self.more, offset)) {
            return Some(word);
        }
        if address.checked_add(8)? > self.high {
            return None;
        }
        let length = to_usize((self.high - address).min(MORE));
        self.more.resize(length, 0);
        self.from = address;
        if self.memory.read(address, &mut self.more).is_err() {
            self.more.clear();
            return None;
        }
        word(&self.more, 0)
    }
}

fn word(bytes: &[u8], offset: u64) -> Option<u64> {
    let offset = usize::try_from(offset).ok()?;
    bytes.get(offset..)?.first_chunk().copied().map(u64::from_le_bytes)
}

fn to_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(0)
}
