//! What is alive without anybody pointing to it: stacks, memory outside of the heap, objects with specials, Ps that run.
//!
//! Data and bss of the program, of its plugins and libraries, the C heap, thread stacks, memory that the program mapped by
//! hand and the runtime's own records (finalizers, timers of network deadlines) are all one thing here: memory that was
//! written to and is in no arena of the heap. All of it is looked through.

use rustc_hash::FxHashMap;

use super::super::fields::{u8_at, u16_at, u64_at};
use super::{
    GoHeap, ProveError, Surroundings,
    marks::Marks,
    spans::{ARENA_SHIFT, Spans},
    waits::Goroutine,
};
use crate::host::{Memory, ReadRequest};

/// Bytes read at once.
const PIECE: u64 = 256 << 10;
/// The same as a length.
const PIECE_LENGTH: usize = 256 << 10;
/// Stacks read at once.
const BATCH: usize = 256;
/// Most Ps that are believed: `_MaxGomaxprocs` was 1024, and is not limited since Go 1.10.
const MOST_PS: u64 = 1 << 16;
/// Most records of one span: a few for each object of 8 bytes.
const MOST_SPECIALS: u64 = 1 << 18;

/// A P that runs a goroutine: by which it is known whether that had a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    goroutine: u64,
    tick: u32,
}

/// Marks what memory outside of the heap points to. The answer is what could not be read and still is there.
pub(super) fn outside(
    memory: &impl Memory,
    around: &impl Surroundings,
    spans: &mut Spans,
    marks: &mut Marks,
) -> Result<Option<String>, ProveError> {
    let mut failed = Vec::new();
    let mut buffer = vec![0; PIECE_LENGTH];
    for range in around.written().map_err(ProveError::Surroundings)? {
        let mut at = range.start & !7;
        while at < range.end {
            let arena_end = ((at >> ARENA_SHIFT) + 1) << ARENA_SHIFT;
            if spans.in_arena(at) {
                at = arena_end;
                continue;
            }
            let end = range.end.min(arena_end).min(at + PIECE);
            let piece = usize::try_from(end - at).unwrap_or(0);
            let into = buffer.get_mut(..piece).unwrap_or_default();
            marks.read_bytes += end - at;
            match memory.read(at, into) {
                Ok(()) => {
                    spans.blank_records(at, into);
                    marks.scan(spans, into);
                }
                Err(_) => failed.push((at, end)),
            }
            at = end;
        }
    }
    if failed.is_empty() {
        return Ok(None);
    }
    // What was unmapped meanwhile holds nothing any more.
    let now = around.written().map_err(ProveError::Surroundings)?;
    let is_there =
        |&&(start, end): &&(u64, u64)| now.iter().any(|range| range.start < end && start < range.end);
    Ok(failed
        .iter()
        .find(is_there)
        .map(|(start, end)| format!("memory outside of the heap at {start:#x}-{end:#x} could not be read")))
}

/// Marks what goroutines have: on their stacks and in their structs. Those that could not be read are the answer.
pub(super) fn goroutines<'g>(
    memory: &impl Memory,
    heap: &GoHeap,
    goroutines: impl Iterator<Item = &'g Goroutine>,
    spans: &mut Spans,
    marks: &mut Marks,
) -> Vec<u64> {
    let mut failed = Vec::new();
    let size = (heap.runtime.layout.g_size as usize).clamp(8, 4096);
    let mut structs = vec![0; size * BATCH];
    let mut stacks = vec![0; PIECE_LENGTH];
    let mut goroutines = goroutines.peekable();
    while goroutines.peek().is_some() {
        // A batch is as many as fit into the buffer; one that is larger than it is read in pieces.
        let (mut batch, mut used) = (Vec::new(), 0);
        while let Some(&goroutine) = goroutines.peek() {
            let (_, length) = goroutine.stack();
            if length > PIECE {
                if !large(memory, goroutine, spans, marks) {
                    failed.push(goroutine.address);
                }
            } else if used + length > PIECE || batch.len() == BATCH {
                break;
            } else {
                used += length;
            }
            batch.push(goroutine);
            goroutines.next();
        }
        let mut rest = stacks.as_mut_slice();
        let mut requests = Vec::with_capacity(2 * batch.len());
        for (goroutine, into) in batch.iter().zip(structs.chunks_exact_mut(size)) {
            requests.push(ReadRequest::new(goroutine.address, into));
            let (from, length) = goroutine.stack();
            if length <= PIECE {
                let (into, after) =
                    std::mem::take(&mut rest).split_at_mut(usize::try_from(length & !7).unwrap_or(0));
                rest = after;
                requests.push(ReadRequest::new(from, into));
            }
        }
        memory.read_many(&mut requests);
        marks.read_bytes += used;
        for request in &requests {
            if request.ok {
                marks.scan(spans, request.into);
            } else {
                let whose = batch.iter().find(|goroutine| {
                    goroutine.address == request.address || goroutine.stack().0 == request.address
                });
                failed.extend(whose.map(|goroutine| goroutine.address));
            }
        }
    }
    failed
}

/// A stack that is read in pieces.
fn large(memory: &impl Memory, goroutine: &Goroutine, spans: &mut Spans, marks: &mut Marks) -> bool {
    let (from, length) = goroutine.stack();
    scan_range(memory, from, from.saturating_add(length), spans, marks)
}

/// Marks what a range points to; whether all of it could be read.
fn scan_range(memory: &impl Memory, from: u64, end: u64, spans: &mut Spans, marks: &mut Marks) -> bool {
    let mut buffer = vec![0; PIECE_LENGTH];
    let (mut at, mut ok) = (from, true);
    while at < end {
        let length = usize::try_from(PIECE.min(end - at)).unwrap_or(0);
        let into = buffer.get_mut(..length).unwrap_or_default();
        marks.read_bytes += length as u64;
        match memory.read(at, into) {
            Ok(()) => marks.scan(spans, into),
            Err(_) => ok = false,
        }
        at += PIECE;
    }
    ok
}

/// Marks objects that have specials: a finalizer or a cleanup is given the object, a weak pointer may become a strong one,
/// a pinned one may be in the hands of C. (What only the memory profiler has noted is marked as well: it is not worth the
/// risk of taking one kind for another.)
pub(super) fn specials(memory: &impl Memory, heap: &GoHeap, spans: &mut Spans, marks: &mut Marks) {
    let layout = &heap.layout;
    let width =
        (layout.special_kind.max(layout.special_offset + 8).max(layout.special_next + 8) + 1).min(256);
    // Before Go 1.24 the offset was 16 bits, right before the kind.
    let short = layout.special_kind < layout.special_offset.saturating_add(8);
    let mut bytes = vec![0; width as usize];
    for (number, first) in std::mem::take(&mut spans.specials) {
        let Some(&span) = spans.get(number) else { continue };
        let mut at = first;
        for turn in 0.. {
            if at == 0 {
                break;
            }
            let read = memory.read(at, &mut bytes).is_ok();
            let offset = if short {
                u16_at(&bytes, layout.special_offset).map(u64::from)
            } else {
                u64_at(&bytes, layout.special_offset)
            };
            let next = u64_at(&bytes, layout.special_next);
            let known = read && turn < MOST_SPECIALS && u8_at(&bytes, layout.special_kind).is_some();
            match (offset, next) {
                (Some(offset), Some(next)) if known && offset < span.bytes => {
                    marks.mark(spans, span.start + offset);
                    at = next;
                }
                _ => {
                    // A list that cannot be followed: any object of the span may be on it.
                    marks.mark_all(spans, number);
                    break;
                }
            }
        }
    }
}

/// Finds the pages in which the collector gathers what it found (`gcWork.ptrBuf`): what is left there from the last
/// collection is in nobody's hands.
pub(super) fn gathered(memory: &impl Memory, heap: &GoHeap, spans: &mut Spans) -> Result<(), ProveError> {
    let Some(offset) = heap.layout.p_gather else { return Ok(()) };
    let (array, count) = (memory.read_u64(heap.allp)?, memory.read_u64(heap.allp.wrapping_add(8))?);
    let pages = memory
        .read_words(array, count, MOST_PS)?
        .into_iter()
        .filter_map(|p| memory.read_u64(p.wrapping_add(u64::from(offset))).ok())
        .filter(|page| *page != 0 && page.is_multiple_of(8))
        .collect();
    spans.set_gathered(pages);
    Ok(())
}

/// Marks what the stacks of threads hold on which the runtime's scheduler runs (g0), where they are in the heap's arenas:
/// a timer that is being run is nowhere else. The answer: which P runs which goroutine.
pub(super) fn threads(
    memory: &impl Memory,
    heap: &GoHeap,
    spans: &mut Spans,
    marks: &mut Marks,
) -> Result<FxHashMap<u64, Running>, ProveError> {
    /// Most bytes of a g0's stack: 16 KiB where Go allocates it.
    const MOST: u64 = 1 << 20;
    let layout = &heap.layout;
    let (array, count) = (memory.read_u64(heap.allp)?, memory.read_u64(heap.allp.wrapping_add(8))?);
    if count == 0 {
        return Err(ProveError::Corrupt(format!("the list of Ps at {:#x} is empty", heap.allp)));
    }
    let mut running = FxHashMap::default();
    for p in memory.read_words(array, count, MOST_PS)? {
        let at = |offset: u32| p.wrapping_add(u64::from(offset));
        let thread = memory.read_u64(at(layout.p_m))?;
        if thread == 0 {
            continue;
        }
        let tick = memory.read_u32(at(layout.p_schedtick))?;
        let of = |offset: u32| memory.read_u64(thread.wrapping_add(u64::from(offset)));
        let (goroutine, scheduler) = (of(layout.m_curg)?, of(layout.m_g0)?);
        if goroutine != 0 {
            running.insert(p, Running { goroutine, tick });
        }
        let bound = |offset: u32| memory.read_u64(scheduler.wrapping_add(u64::from(offset)));
        let (low, high) = (bound(heap.runtime.layout.stack_lo)?, bound(heap.runtime.layout.stack_hi)?);
        // A C thread's stack is among what is outside of the heap.
        if low < high && high - low <= MOST && low.is_multiple_of(8) && spans.in_arena(low) {
            marks.failed += u64::from(!scan_range(memory, low, high, spans, marks));
        }
    }
    Ok(running)
}
