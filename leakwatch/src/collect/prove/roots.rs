//! What is alive without anybody pointing to it: stacks, memory outside of the heap, objects with specials, Ps that run.
//!
//! Data and bss of the program, of its plugins and libraries, the C heap, thread stacks, memory that the program mapped by
//! hand and the runtime's own records (finalizers, timers of network deadlines) are all one thing here: memory that was
//! written to and is in no arena of the heap. All of it is looked through.

use leakwatch_inspect::go::layout::QueueLayout;
use rustc_hash::FxHashMap;

use super::super::fields::{u8_at, u16_at, u64_at};
use super::{
    GoHeap, ProveError, Surroundings,
    marks::Marks,
    spans::{ARENA_SHIFT, PAGE_SHIFT, Spans},
    waits::Goroutine,
    why::Way,
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
                    marks.scan(spans, at, into);
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
                marks.scan(spans, request.address, request.into);
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
            Ok(()) => marks.scan(spans, at, into),
            Err(_) => ok = false,
        }
        at += PIECE;
    }
    ok
}

/// Marks objects that have specials: a finalizer or a cleanup is given the object, a weak pointer may become a strong one,
/// a pinned one may be in the hands of C. What only the memory profiler has noted is left out, in releases whose number for that
/// is known.
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
            let kind = u8_at(&bytes, layout.special_kind);
            let known = read && turn < MOST_SPECIALS && kind.is_some();
            match (offset, next) {
                (Some(_), Some(next)) if known && kind == heap.profile_special => at = next,
                (Some(offset), Some(next)) if known && offset < span.bytes => {
                    marks.mark_by(spans, span.start + offset, Way::Special);
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

/// Finds where the collector keeps what it came across: work of each P, the buffer of its write barrier, pages of pointers, and
/// the queues that Ps share. What is left there from the last collection is in nobody's hands, and while one runs, whatever the
/// program still uses is elsewhere, too. The answer: ranges that were the collector's the last time and are not any more.
pub(super) fn gathered(
    memory: &impl Memory,
    heap: &GoHeap,
    spans: &mut Spans,
) -> Result<Vec<(u64, u64)>, ProveError> {
    let layout = &heap.layout.collector;
    let (array, count) = (memory.read_u64(heap.allp)?, memory.read_u64(heap.allp.wrapping_add(8))?);
    let mut ranges = Vec::new();
    let end = u64::from(layout.work.saturating_add(layout.work_size))
        .max(u64::from(layout.barrier.saturating_add(layout.barrier_size)));
    for p in memory.read_words(array, count, MOST_PS)? {
        let at = |offset: u32| p.wrapping_add(u64::from(offset));
        // A P is an object of the heap (`procresize`, runtime/proc.go), since Go 1.22 behind a word that tells its type
        // (`mallocHeaderSize`, runtime/mbitmap.go). What is none may be anything.
        let fits = |(number, _, base): (u32, u64, u64)| {
            let size = spans.get(number).map_or(0, |span| span.size);
            p - base <= 8 && p - base + end <= size
        };
        if !spans.object(p).is_some_and(fits) {
            continue;
        }
        ranges.push((at(layout.work), u64::from(layout.work_size)));
        ranges.push((at(layout.barrier), u64::from(layout.barrier_size)));
        let page = layout.gather.and_then(|offset| memory.read_u64(at(offset)).ok());
        ranges.extend(
            page.filter(|page| *page != 0 && page.is_multiple_of(8)).map(|page| (page, 1 << PAGE_SHIFT)),
        );
        if let Some(queue) = &layout.queue {
            ranges.extend(rings(memory, queue, at(queue.chain), spans));
        }
    }
    Ok(spans.set_gathered(ranges))
}

/// The rings of a P's shared queue: from the oldest of a list to the newest. Each is in whole pages of its own (`newSpanSPMC`,
/// `runtime/mgcmark_greenteagc.go`) and has addresses in the heap and nothing else; what does not look so is none.
fn rings(memory: &impl Memory, layout: &QueueLayout, chain: u64, spans: &Spans) -> Vec<(u64, u64)> {
    /// More are not believed: each is twice as long as the one before.
    const MOST: usize = 32;
    /// Most words of one.
    const MOST_WORDS: u64 = 1 << 20;
    let mut found = Vec::new();
    // The newest comes first in the struct, then the oldest.
    let mut at = memory.read_u64(chain.wrapping_add(8)).unwrap_or(0);
    while at != 0 && at.is_multiple_of(8) && found.len() < MOST {
        let of = |offset: u32| at.wrapping_add(u64::from(offset));
        let (Ok(ring), Ok(words), Ok(next)) = (
            memory.read_u64(of(layout.ring)),
            memory.read_u32(of(layout.capacity)).map(u64::from),
            memory.read_u64(of(layout.previous)),
        ) else {
            break;
        };
        let plausible =
            ring.is_multiple_of(4096) && !spans.in_arena(ring) && (1..=MOST_WORDS).contains(&words);
        let of_heap = |word: &u64| *word == 0 || spans.in_arena(*word);
        if plausible
            && memory.read_words(ring, words, MOST_WORDS).is_ok_and(|words| words.iter().all(of_heap))
        {
            found.push((ring, words * 8));
        }
        at = next;
    }
    found
}

/// Marks what is in ranges that were the collector's when they would have been looked through, and are not any more.
pub(super) fn given_back(memory: &impl Memory, ranges: &[(u64, u64)], spans: &mut Spans, marks: &mut Marks) {
    for &(start, size) in ranges {
        // What is not there any more holds nothing.
        scan_range(memory, start & !7, start.saturating_add(size) & !7, spans, marks);
    }
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
