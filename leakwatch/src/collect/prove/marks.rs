//! Which objects of the heap are reachable: marks, and the spans that wait to be scanned.
//!
//! Marking is conservative: every aligned word that is an address inside an object marks it. A span is read once for all
//! of its objects that wait, so spans wait in a queue and collect objects meanwhile. Marks stay from one pass to the
//! next: what was reachable once counts as reachable. So a span that holds what it held when it was scanned leads to nothing
//! new: of what is read a figure is kept, and only where it is another one are all words looked at again. It must never
//! keep what it reads.

use std::{collections::VecDeque, hash::Hasher as _, num::NonZeroU64};

use rustc_hash::{FxHashMap, FxHasher};

use super::{
    super::fields::u64_at,
    spans::Spans,
    why::{Trace, Way},
};
use crate::host::{Memory, ReadRequest};

/// Bytes of large objects that are read at once, and of small spans that are read together.
const PIECE: u64 = 1 << 20;
/// Spans that are read together.
const TOGETHER: usize = 128;

/// The marks.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marked: Vec<u64>,
    /// Scanned, with what their spans hold ([`super::spans::Span::content`]).
    scanned: Vec<u64>,
    /// Not to be scanned in this pass.
    excluded: Vec<u64>,
    /// What pieces of large objects held when they were scanned, by address.
    pieces: FxHashMap<u64, NonZeroU64>,
    /// What is read now is read after the last look at the table of spans: words in it may lead into spans that are not known
    /// yet, so it has to be looked at again.
    late: bool,
    queue: VecDeque<u32>,
    /// Objects that goroutines wait for, by address: which goroutines.
    awaited: FxHashMap<u64, Vec<u32>>,
    /// Goroutines whose object was marked.
    woken: Vec<u32>,
    /// Reads of marked memory that failed, in this pass.
    pub(super) failed: u64,
    /// Bytes that were read, in this pass.
    pub(super) read_bytes: u64,
    /// What marked what, where that is asked for.
    pub(super) trace: Option<Trace>,
}

/// A figure that is another one when the bytes are others.
fn content_of(bytes: &[u8]) -> NonZeroU64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN)
}

fn bit(at: u64) -> (usize, u64) {
    (usize::try_from(at >> 6).unwrap_or(usize::MAX), 1 << (at & 63))
}

fn set(bits: &mut [u64], at: u64) -> bool {
    let (word, mask) = bit(at);
    let Some(word) = bits.get_mut(word) else { return false };
    let new = *word & mask == 0;
    *word |= mask;
    new
}

fn has(bits: &[u64], at: u64) -> bool {
    let (word, mask) = bit(at);
    bits.get(word).is_some_and(|word| word & mask != 0)
}

impl Marks {
    /// Forgets everything.
    pub(super) fn clear(&mut self, spans: &mut Spans) {
        spans.forget_marks();
        self.marked.clear();
        self.scanned.clear();
        self.pieces.clear();
        if let Some(trace) = self.trace.as_mut() {
            trace.clear();
        }
    }

    /// Room for the objects of new spans.
    pub(super) fn grow(&mut self, spans: &Spans) {
        let words = usize::try_from(spans.bits().div_ceil(64)).unwrap_or(usize::MAX);
        self.marked.resize(words, 0);
        self.scanned.resize(words, 0);
        self.excluded.resize(words, 0);
    }

    /// Bytes that this takes.
    pub(super) fn own_bytes(&self) -> u64 {
        let words = self.marked.capacity() + self.scanned.capacity() + self.excluded.capacity();
        ((words + 2 * self.pieces.capacity()) * 8) as u64
    }

    /// A new pass: all that was marked is read again, and scanned where it is not what it was.
    pub(super) fn begin(&mut self, spans: &mut Spans) {
        self.grow(spans);
        self.excluded.fill(0);
        self.late = false;
        self.queue.clear();
        self.awaited.clear();
        self.woken.clear();
        (self.failed, self.read_bytes) = (0, 0);
        for number in 0..spans.len() {
            let marked = &self.marked;
            let Some(span) = spans.get_mut(number) else { continue };
            (span.queued, span.awaited) = (false, false);
            if span.gone || span.no_scan {
                continue;
            }
            let (from, to) = (bit(span.first).0, bit(span.first + span.objects() - 1).0);
            if marked.get(from..=to).is_some_and(|words| words.iter().any(|&word| word != 0)) {
                span.queued = true;
                self.queue.push_back(number);
            }
        }
    }

    /// The object at an address is never walked through: it leads to goroutines whatever it is.
    pub(super) fn exclude(&mut self, spans: &Spans, address: u64) {
        if let Some((number, index, _)) = spans.object(address)
            && let Some(span) = spans.get(number)
        {
            set(&mut self.excluded, span.first + index);
        }
    }

    /// From here on the table of spans is not looked at any more in this pass.
    pub(super) fn be_late(&mut self) {
        self.late = true;
    }

    /// Nothing that was read before is trusted to have been whole.
    pub(super) fn read_anew(&mut self, spans: &mut Spans) {
        self.pieces.clear();
        for number in 0..spans.len() {
            if let Some(span) = spans.get_mut(number) {
                span.content = None;
            }
        }
    }

    /// A goroutine waits for the object that holds an address. Marked, or not of the heap: it is reachable already.
    pub(super) fn wait_for(&mut self, spans: &mut Spans, address: u64, goroutine: u32) {
        let found = spans.object(address);
        let Some((number, index, object)) = found else {
            self.woken.push(goroutine);
            return;
        };
        let Some(span) = spans.get_mut(number) else { return };
        span.awaited = true;
        if has(&self.marked, span.first + index) {
            self.woken.push(goroutine);
        } else {
            self.awaited.entry(object).or_default().push(goroutine);
        }
    }

    /// Takes the goroutines whose objects were marked since the last time.
    pub(super) fn take_woken(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.woken)
    }

    /// The object that holds an address was not reached, and is not one that is never walked through (a goroutine's
    /// struct, a place in a queue).
    pub(super) fn is_unreached(&self, spans: &Spans, address: u64) -> bool {
        spans
            .object(address)
            .and_then(|(number, index, _)| Some(spans.get(number)?.first + index))
            .is_some_and(|at| !has(&self.marked, at) && !has(&self.excluded, at))
    }

    /// The object that holds an address is marked.
    pub(super) fn is_marked(&self, spans: &Spans, address: u64) -> bool {
        spans
            .object(address)
            .and_then(|(number, index, _)| Some(spans.get(number)?.first + index))
            .is_some_and(|at| has(&self.marked, at))
    }

    /// Marks the object that holds an address, if one does, and notes why.
    pub(super) fn mark_by(&mut self, spans: &mut Spans, address: u64, way: Way) {
        if self.mark(spans, address) {
            self.note(spans, address, way);
        }
    }

    #[cold]
    fn note(&mut self, spans: &Spans, address: u64, way: Way) {
        if let Some(trace) = self.trace.as_mut()
            && let Some((.., object)) = spans.object(address)
        {
            trace.note(object, way);
        }
    }

    /// Marks the object that holds an address, if one does; whether that is new.
    #[inline]
    fn mark(&mut self, spans: &mut Spans, address: u64) -> bool {
        let Some(number) = spans.find_unmarked(address) else { return false };
        let Some(span) = spans.get_mut(number) else { return false };
        let index = span.index(address);
        if index >= span.objects() {
            return false;
        }
        let at = span.first + index;
        let new = set(&mut self.marked, at);
        if new {
            if span.awaited
                && let Some(waiting) = self.awaited.remove(&span.object(index))
            {
                self.woken.extend(waiting);
            }
            if !span.no_scan && !span.queued && !has(&self.excluded, at) {
                span.queued = true;
                self.queue.push_back(number);
            }
            spans.count_marked(number);
        }
        new
    }

    /// Marks all objects of a span that was not there before: nobody knows what led to them.
    pub(super) fn mark_all(&mut self, spans: &mut Spans, number: u32) {
        let Some(&span) = spans.get(number) else { return };
        for index in 0..span.objects() {
            self.mark_by(spans, span.object(index), Way::New);
        }
    }

    /// Marks all that words point to which were read from an address.
    pub(super) fn scan(&mut self, spans: &mut Spans, from: u64, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<8>();
        if self.trace.is_none() {
            for word in words {
                self.mark(spans, u64::from_le_bytes(*word));
            }
            return;
        }
        for (at, word) in (from..).step_by(8).zip(words) {
            self.mark_by(spans, u64::from_le_bytes(*word), Way::Word(at));
        }
    }

    /// Scans until nothing waits.
    pub(super) fn drain(&mut self, memory: &impl Memory, spans: &mut Spans) {
        let mut buffers: Vec<Vec<u8>> = (0..TOGETHER).map(|_| Vec::new()).collect();
        let mut numbers = Vec::with_capacity(TOGETHER);
        while !self.queue.is_empty() {
            numbers.clear();
            let mut bytes = 0;
            while numbers.len() < TOGETHER && bytes < PIECE {
                let Some(number) = self.queue.pop_front() else { break };
                let Some(span) = spans.get_mut(number) else { continue };
                if span.gone {
                    span.queued = false;
                    continue;
                }
                if span.bytes > PIECE {
                    span.queued = false;
                    self.scan_large(memory, spans, number);
                    continue;
                }
                bytes += span.bytes;
                numbers.push((number, span.start, span.bytes));
            }
            let mut requests: Vec<_> = numbers
                .iter()
                .zip(&mut buffers)
                .map(|(&(_, start, bytes), buffer)| {
                    buffer.resize(usize::try_from(bytes).unwrap_or(0), 0);
                    ReadRequest::new(start, buffer)
                })
                .collect();
            memory.read_many(&mut requests);
            let served: Vec<bool> = requests.iter().map(|request| request.ok).collect();
            drop(requests);
            for ((&(number, start, bytes), buffer), ok) in numbers.iter().zip(&mut buffers).zip(served) {
                self.read_bytes += bytes;
                spans.blank_gathered(start, buffer);
                self.scan_small(spans, number, buffer, ok);
            }
        }
    }

    /// Scans the objects of a span that wait, those that it leads to in itself among them.
    fn scan_small(&mut self, spans: &mut Spans, number: u32, bytes: &[u8], ok: bool) {
        let Some(&span) = spans.get(number) else { return };
        self.failed += u64::from(!ok);
        let size = usize::try_from(span.size).unwrap_or(usize::MAX);
        let (first, last) = (bit(span.first).0, bit(span.first + span.objects() - 1).0);
        let content = ok.then(|| content_of(bytes));
        if content.is_none() || content != span.content {
            self.scanned.get_mut(first..=last).unwrap_or_default().fill(0);
        }
        loop {
            let mut found = false;
            for word in first..=last {
                let pending = |marks: &Self| {
                    let marked = marks.marked.get(word).copied().unwrap_or(0);
                    let done = |bits: &[u64]| bits.get(word).copied().unwrap_or(u64::MAX);
                    marked & !done(&marks.scanned) & !done(&marks.excluded)
                };
                let mut grey = pending(self);
                while grey != 0 {
                    found = true;
                    let index = (((word - first) as u64) << 6) + u64::from(grey.trailing_zeros());
                    set(&mut self.scanned, span.first + index);
                    let from = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(size);
                    if ok && let Some(object) = bytes.get(from..from.saturating_add(size)) {
                        self.scan(spans, span.object(index), object);
                    }
                    grey = pending(self);
                }
            }
            if !found {
                break;
            }
        }
        // Until here it counted as queued, as what it found in itself was done at once.
        if let Some(span) = spans.get_mut(number) {
            (span.queued, span.content) = (false, content.filter(|_| !self.late));
        }
    }

    fn scan_large(&mut self, memory: &impl Memory, spans: &mut Spans, number: u32) {
        let Some(&span) = spans.get(number) else { return };
        let mut piece = Vec::new();
        for index in 0..span.objects() {
            if !has(&self.marked, span.first + index) || has(&self.excluded, span.first + index) {
                continue;
            }
            let mut from = 0;
            while from < span.size {
                let length = PIECE.min(span.size - from);
                piece.resize(usize::try_from(length).unwrap_or(0), 0);
                self.read_bytes += length;
                let at = span.object(index) + from;
                match memory.read(at, &mut piece) {
                    Ok(()) => {
                        spans.blank_gathered(at, &mut piece);
                        let content = content_of(&piece);
                        if self.pieces.get(&at) != Some(&content) {
                            self.scan(spans, at, &piece);
                        }
                        if self.late {
                            self.pieces.remove(&at);
                        } else {
                            self.pieces.insert(at, content);
                        }
                    }
                    Err(_) => self.failed += 1,
                }
                from += length;
            }
        }
    }

    /// What an object that is not marked leads to in the heap, once each: for explanations, not for proofs.
    pub(super) fn words_of(
        memory: &impl Memory,
        spans: &Spans,
        number: u32,
        index: u64,
        most: u64,
    ) -> Vec<u64> {
        let Some(span) = spans.get(number) else { return Vec::new() };
        if span.no_scan {
            return Vec::new();
        }
        let mut bytes = vec![0; usize::try_from(span.size.min(most) & !7).unwrap_or(0)];
        if memory.read(span.object(index), &mut bytes).is_err() {
            return Vec::new();
        }
        (0..bytes.len()).step_by(8).filter_map(|at| u64_at(&bytes, u32::try_from(at).ok()?)).collect()
    }
}
