//! The heap as the runtime divides it: spans of pages, each cut into objects of one size.
//!
//! `mheap.allspans` lists every span there ever was (runtime/mheap.go); one in use is a run of 8 KiB pages of objects.
//! The table is foreign input, read while the program changes it: what does not tile, is not aligned, or would make us
//! hold more memory than was allowed is an error, never a guess. It must never hold a copy of the heap.

use std::num::NonZeroU64;

use super::super::fields::{u8_at, u64_at};
use super::ProveError;
use crate::host::{Memory, ReadRequest};
use leakwatch_inspect::go::layout::HeapLayout;

/// `pageShift` of runtime/sizeclasses.go, the same since Go 1.0.
pub(super) const PAGE_SHIFT: u32 = 13;
/// An arena on 64-bit Linux (`heapArenaBytes`, runtime/malloc.go): 64 MiB.
pub(super) const ARENA_SHIFT: u32 = 26;
const PAGES_OF_ARENA: usize = 1 << (ARENA_SHIFT - PAGE_SHIFT);
/// `mSpanInUse` and `mSpanManual` of runtime/mheap.go.
const IN_USE: u8 = 1;
const MANUAL: u8 = 2;
/// Highest address of a user program on any 64-bit Linux.
const TOP: u64 = 1 << 56;
/// No span.
const NONE: u32 = u32::MAX;
/// Words read at once while a long list is read: a length that is not true fails before much is allocated.
const CHUNK: u64 = 1 << 16;
/// The same as a length.
const CHUNK_LENGTH: usize = 1 << 16;
/// Structs read at once.
const BATCH: usize = 1024;
/// Most arenas between the first and the last: 128 TiB, all addresses that a process has without five-level page tables. (Those of
/// package `arena` are 64 TiB away from the others: `mallocinit`, runtime/malloc.go.)
const MOST_ARENAS: u64 = 1 << 21;

/// A span in use.
#[expect(clippy::struct_excessive_bools, reason = "independent marks, not states")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// First address.
    pub(super) start: u64,
    /// Bytes of one object.
    pub(super) size: u64,
    /// Bytes of the span.
    pub(super) bytes: u64,
    /// How many objects it has.
    objects: u64,
    /// Those of them that are not marked.
    unmarked: u64,
    /// The first of its objects' bits.
    pub(super) first: u64,
    /// `2^32 / size` rounded up, or 0 where that is not exact.
    magic: u32,
    /// Its objects have no pointers.
    pub(super) no_scan: bool,
    /// It waits to be scanned.
    pub(super) queued: bool,
    /// Some of its objects are awaited.
    pub(super) awaited: bool,
    /// It was taken out again.
    pub(super) gone: bool,
    /// What it held when the objects that count as scanned were scanned ([`super::marks::Marks`]); `None`: it has to be read.
    pub(super) content: Option<NonZeroU64>,
}

impl Span {
    /// How many objects it has.
    pub(super) fn objects(&self) -> u64 {
        self.objects
    }

    /// Which object holds an address of the span.
    pub(super) fn index(&self, address: u64) -> u64 {
        let offset = address.wrapping_sub(self.start);
        if self.magic == 0 {
            offset.checked_div(self.size).unwrap_or(0)
        } else {
            (offset * u64::from(self.magic)) >> 32
        }
    }

    /// The address of an object.
    pub(super) fn object(&self, index: u64) -> u64 {
        self.start + index * self.size
    }
}

/// What is read of an `mspan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Raw {
    start: u64,
    pages: u64,
    size: u64,
    class: u8,
    state: u8,
    specials: u64,
}

impl Raw {
    /// Changes when the span becomes another one. Never 0.
    fn print(&self) -> u64 {
        if self.state == 0 {
            return 1;
        }
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for word in [self.start, self.pages, self.size, u64::from(self.class), u64::from(self.state)] {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        hash | 2
    }
}

/// All spans, and which one holds a page.
#[expect(clippy::struct_field_names, reason = "its spans are what they are")]
#[derive(Debug, Default)]
pub(super) struct Spans {
    spans: Vec<Span>,
    /// Prints of `allspans` as it was read last; 0: not known.
    prints: Vec<u64>,
    /// Which span of `spans` stands for an entry of `allspans`.
    at: Vec<u32>,
    /// Number of the first arena, and for each from there on its table.
    first_arena: u64,
    arenas: Vec<u32>,
    tables: Vec<Box<[u32]>>,
    /// For each table a bit a page: an object there is not marked. A word that leads elsewhere is done with at a glance.
    dark: Vec<[u64; PAGES_OF_ARENA / 64]>,
    /// Bits that were given out, and those of them that are in use.
    bits: u64,
    live_bits: u64,
    /// Addresses of all `mspan`s with their places in `allspans`, sorted.
    list: Vec<(u64, u32)>,
    /// The allocator's own records, which name the first object of each span: addresses and lengths, sorted.
    records: Vec<(u64, u64)>,
    /// Where the collector keeps what it came across: addresses and lengths, sorted.
    gathered: Vec<(u64, u64)>,
    /// Spans with specials: their number and `mspan.specials`.
    pub(super) specials: Vec<(u32, u64)>,
    /// Most bytes that this table and its bits may take.
    budget: u64,
    /// Bytes of the spans in use.
    heap_bytes: u64,
    /// Pages that were checked to be free in this refresh.
    checked: u64,
    /// Where the runtime's own variables are: the address of one of them.
    variables: u64,
}

/// What a [`Spans::refresh`] found.
#[derive(Debug, Default)]
pub(super) struct Refreshed {
    /// Spans that were not there before.
    pub(super) new: Vec<u32>,
    /// Spans that are read in the middle of a change: read them again.
    pub(super) unsettled: usize,
}

impl Spans {
    /// An empty table that may take so many bytes of our memory.
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Bits that objects have, all together.
    pub(super) fn bits(&self) -> u64 {
        self.bits
    }

    /// Most bytes that it may take.
    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// Most of the bits belong to spans that are gone.
    pub(super) fn wasteful(&self) -> bool {
        self.bits > 2 * self.live_bits + (1 << 20)
    }

    /// Bytes of the heap.
    pub(super) fn heap_bytes(&self) -> u64 {
        self.heap_bytes
    }

    /// Where the collector keeps what it came across, of which nobody takes a pointer. The answer: what was there before and
    /// is not any more.
    pub(super) fn set_gathered(&mut self, mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
        ranges.sort_unstable();
        ranges.dedup();
        let mut before = std::mem::replace(&mut self.gathered, ranges);
        before.retain(|range| self.gathered.binary_search(range).is_err());
        before
    }

    /// Bytes that this table takes.
    pub(super) fn own_bytes(&self) -> u64 {
        let spans = self.spans.capacity() * size_of::<Span>()
            + self.prints.capacity() * 12
            + self.list.capacity() * 16;
        let tables = self.tables.len() * (size_of::<[u32; PAGES_OF_ARENA]>() + PAGES_OF_ARENA / 8)
            + self.arenas.len() * 4;
        (spans + tables + self.specials.capacity() * 16) as u64
    }

    /// How many spans there are, those that are gone among them.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.spans.len()).unwrap_or(NONE)
    }

    /// A span by its number.
    pub(super) fn get(&self, number: u32) -> Option<&Span> {
        self.spans.get(number as usize)
    }

    /// A span by its number.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Span> {
        self.spans.get_mut(number as usize)
    }

    /// The span in use that holds an address.
    #[inline]
    pub(super) fn find(&self, address: u64) -> Option<u32> {
        let (arena, page) = place(address, self.first_arena);
        let table = *self.arenas.get(arena)?;
        let number = *self.tables.get(table as usize)?.get(page)?;
        (number != NONE).then_some(number)
    }

    /// The first address of the object that holds an address, with the span's number and the object's place.
    pub(super) fn object(&self, address: u64) -> Option<(u32, u64, u64)> {
        let number = self.find(address)?;
        let span = self.get(number)?;
        let index = span.index(address);
        (index < span.objects()).then(|| (number, index, span.object(index)))
    }

    /// The address is in an arena of the heap, in use or not.
    pub(super) fn in_arena(&self, address: u64) -> bool {
        let arena = (address >> ARENA_SHIFT).wrapping_sub(self.first_arena);
        usize::try_from(arena)
            .ok()
            .and_then(|arena| self.arenas.get(arena))
            .is_some_and(|&table| table != NONE)
    }

    /// Reads the list again and takes in what changed since. Objects of spans that did not change keep their bits.
    pub(super) fn refresh(
        &mut self,
        memory: &impl Memory,
        layout: &HeapLayout,
        mheap: u64,
    ) -> Result<Refreshed, ProveError> {
        let addresses = self.read_list(memory, layout, mheap)?;
        let longer = addresses.len() != self.list.len();
        if longer {
            self.list = addresses.iter().copied().zip(0..).collect();
            self.list.sort_unstable();
        }
        self.prints.resize(addresses.len().max(self.prints.len()), 0);
        self.at.resize(self.prints.len(), NONE);
        self.specials.clear();
        self.checked = 0;
        self.variables = mheap;
        let mut changed = Vec::new();
        let mut refreshed = Refreshed::default();
        let width = [
            layout.mspan_start,
            layout.mspan_npages,
            layout.mspan_class,
            layout.mspan_state,
            layout.mspan_elemsize,
            layout.mspan_specials,
        ]
        .into_iter()
        .max()
        .unwrap_or(0)
        .saturating_add(8) as usize;
        if width > 4096 {
            return Err(ProveError::Corrupt("an mspan of this layout is larger than any known".to_owned()));
        }
        let mut bytes = vec![0; width * BATCH];
        for (batch, addresses) in addresses.chunks(BATCH).enumerate() {
            let mut requests: Vec<_> = addresses
                .iter()
                .zip(bytes.chunks_exact_mut(width))
                .map(|(&address, into)| ReadRequest::new(address, into))
                .collect();
            memory.read_many(&mut requests);
            for (index, request) in requests.iter().enumerate() {
                let raw = parse(layout, request.into).filter(|_| request.ok);
                let raw = raw.ok_or_else(|| {
                    ProveError::Corrupt(format!("the mspan at {:#x} cannot be read", request.address))
                })?;
                let place = batch * BATCH + index;
                let print = raw.print();
                if self.prints.get(place) == Some(&print) {
                    if raw.specials != 0
                        && raw.state == IN_USE
                        && let Some(&number) = self.at.get(place)
                    {
                        self.specials.push((number, raw.specials));
                    }
                } else {
                    changed.push((place, raw, print));
                }
            }
        }
        let stale = longer || !changed.is_empty();
        // First what is no more, then what is new: pages change hands.
        for &(place, ..) in &changed {
            self.retire(place);
        }
        for (place, raw, print) in changed {
            match self.admit(place, &raw)? {
                Admitted::Yes(number) => {
                    refreshed.new.extend(number);
                    if let Some(known) = self.prints.get_mut(place) {
                        *known = print;
                    }
                }
                Admitted::NotYet => refreshed.unsettled += 1,
            }
        }
        if stale {
            self.find_records(layout);
        }
        Ok(refreshed)
    }

    /// Finds out which memory belongs to the allocator. It makes `mspan`s one behind the other in chunks of 16 KiB (`fixalloc`,
    /// runtime/mfixalloc.go): what stands alone, as an entry of a damaged list might, is believed only in its name of a span
    /// that is there.
    fn find_records(&mut self, layout: &HeapLayout) {
        let size = u64::from(layout.mspan_size);
        let in_use = |place: u32| self.at.get(place as usize).is_some_and(|&number| number != NONE);
        let is_next = |a: &(u64, u32), b: &(u64, u32)| b.0.wrapping_sub(a.0) == size;
        self.records = self
            .list
            .chunk_by(is_next)
            .filter(|chunk| chunk.iter().any(|&(_, place)| in_use(place)))
            .filter_map(|chunk| match chunk {
                [(record, _)] => Some((record.saturating_add(u64::from(layout.mspan_start)), 8)),
                [(first, _), .., (last, _)] => Some((*first, last.saturating_add(size) - first)),
                [] => None,
            })
            .collect();
    }

    /// `mheap.allspans`, a slice that only grows.
    fn read_list(
        &self,
        memory: &impl Memory,
        layout: &HeapLayout,
        mheap: u64,
    ) -> Result<Vec<u64>, ProveError> {
        const TRIES: usize = 4;
        let header = mheap.wrapping_add(u64::from(layout.mheap_allspans));
        let cap = self.budget / 16;
        let mut last = None;
        for _ in 0..TRIES {
            let (array, length) = (memory.read_u64(header)?, memory.read_u64(header.wrapping_add(8))?);
            if length == 0 || length > cap || !array.is_multiple_of(8) || array == 0 {
                last = Some(ProveError::Corrupt(format!(
                    "the list of spans at {header:#x} claims {length} spans"
                )));
                continue;
            }
            let mut addresses = Vec::new();
            let read = (0..length).step_by(CHUNK_LENGTH).try_for_each(|from| {
                let words =
                    memory.read_words(array.wrapping_add(from * 8), CHUNK.min(length - from), CHUNK)?;
                addresses.extend(words);
                Ok::<_, ProveError>(())
            });
            // The old array is given back when a longer one replaces it.
            match read {
                Ok(()) if memory.read_u64(header)? == array => return Ok(addresses),
                Ok(()) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ProveError::Corrupt("the list of spans does not hold still".to_owned())))
    }

    /// Blanks the allocator's and the collector's own records in memory that was read from an address: they name the first
    /// object of every span, or what the collector came across, and nobody reaches an object by them.
    pub(super) fn blank_records(&self, from: u64, bytes: &mut [u8]) {
        let end = from.saturating_add(bytes.len() as u64);
        let first = self.records.partition_point(|(start, size)| start.saturating_add(*size) <= from);
        let records = self.records.get(first..).unwrap_or_default();
        blank(from, bytes, records.iter().copied().take_while(|(start, _)| *start < end));
        self.blank_gathered(from, bytes);
    }

    /// Blanks what the collector keeps in memory that was read from an address.
    pub(super) fn blank_gathered(&self, from: u64, bytes: &mut [u8]) {
        let end = from.saturating_add(bytes.len() as u64);
        let first = self.gathered.partition_point(|(start, size)| start.saturating_add(*size) <= from);
        let ranges = self.gathered.get(first..).unwrap_or_default();
        blank(from, bytes, ranges.iter().copied().take_while(|(start, _)| *start < end));
    }

    fn retire(&mut self, place: usize) {
        let Some(number) = self.at.get_mut(place).map(|at| std::mem::replace(at, NONE)) else { return };
        if let Some(known) = self.prints.get_mut(place) {
            *known = 0;
        }
        let Some(span) = self.spans.get_mut(number as usize).filter(|span| !span.gone) else { return };
        span.gone = true;
        let (start, bytes) = (span.start, span.bytes);
        self.live_bits -= span.objects();
        self.heap_bytes -= bytes;
        self.fill(start, bytes, NONE);
    }

    fn admit(&mut self, place: usize, raw: &Raw) -> Result<Admitted, ProveError> {
        if raw.state > MANUAL {
            return Err(ProveError::Corrupt(format!("a span is in state {}, which there is not", raw.state)));
        }
        if raw.state == 0 {
            return Ok(Admitted::Yes(None));
        }
        let bytes = raw.pages.checked_mul(1 << PAGE_SHIFT);
        let end = bytes.and_then(|bytes| raw.start.checked_add(bytes));
        let (Some(bytes), Some(end)) = (bytes, end) else {
            return Err(ProveError::Corrupt(format!(
                "a span at {:#x} claims {} pages",
                raw.start, raw.pages
            )));
        };
        if raw.start == 0 || bytes == 0 || !raw.start.is_multiple_of(1 << PAGE_SHIFT) || end > TOP {
            // A struct is filled in bit by bit (`initSpan`, runtime/mheap.go): it may be read half way.
            return Ok(Admitted::NotYet);
        }
        self.cover(raw.start, end)?;
        if raw.state == MANUAL {
            return Ok(Admitted::Yes(None));
        }
        // Spans that overlap could make us check the same pages again and again.
        self.checked += bytes >> PAGE_SHIFT;
        if self.checked > 2 * (self.tables.len() * PAGES_OF_ARENA) as u64 + (1 << 20) {
            return Err(ProveError::Corrupt("its spans overlap".to_owned()));
        }
        let size = raw.size;
        if size < 8 || size > bytes || !size.is_multiple_of(8) || !self.is_free(raw.start, bytes) {
            return Ok(Admitted::NotYet);
        }
        let objects = bytes / size;
        let exact = bytes.checked_mul(size).is_some_and(|product| product < 1 << 32);
        let magic = if exact { u32::MAX / u32::try_from(size).unwrap_or(1) + 1 } else { 0 };
        let number = self.len();
        self.spans.push(Span {
            start: raw.start,
            size,
            bytes,
            objects,
            unmarked: objects,
            first: self.bits,
            magic,
            no_scan: raw.class & 1 == 1,
            queued: false,
            awaited: false,
            gone: false,
            content: None,
        });
        // Whole words, so that two spans never share one.
        self.bits += objects.next_multiple_of(64);
        self.live_bits += objects;
        self.heap_bytes += bytes;
        if let Some(at) = self.at.get_mut(place) {
            *at = number;
        }
        if raw.specials != 0 {
            self.specials.push((number, raw.specials));
        }
        self.fill(raw.start, bytes, number);
        self.within_budget()?;
        Ok(Admitted::Yes(Some(number)))
    }

    /// Makes tables for the arenas of these addresses.
    fn cover(&mut self, start: u64, end: u64) -> Result<(), ProveError> {
        let (first, last) = (start >> ARENA_SHIFT, (end - 1) >> ARENA_SHIFT);
        // Arenas are the heap's alone: what is said to be in one with the runtime's variables would have them passed over.
        if (first..=last).contains(&(self.variables >> ARENA_SHIFT)) {
            return Err(ProveError::Corrupt(format!(
                "a span at {start:#x} is among the program's variables"
            )));
        }
        let too_far = || ProveError::Corrupt(format!("a span at {start:#x} is far from all others"));
        if self.arenas.is_empty() {
            self.first_arena = first;
        }
        if first < self.first_arena {
            let more = self.first_arena - first;
            if more > MOST_ARENAS {
                return Err(too_far());
            }
            let more = usize::try_from(more).unwrap_or(0);
            self.arenas.splice(0..0, std::iter::repeat_n(NONE, more));
            self.first_arena = first;
        }
        let length = last - self.first_arena + 1;
        if length > MOST_ARENAS {
            return Err(too_far());
        }
        let length = usize::try_from(length).unwrap_or(0);
        if self.arenas.len() < length {
            self.arenas.resize(length, NONE);
        }
        for arena in first..=last {
            let Some(table) =
                usize::try_from(arena - self.first_arena).ok().and_then(|arena| self.arenas.get_mut(arena))
            else {
                continue;
            };
            if *table == NONE {
                *table = u32::try_from(self.tables.len()).unwrap_or(NONE);
                self.tables.push(vec![NONE; PAGES_OF_ARENA].into_boxed_slice());
                self.dark.push([0; PAGES_OF_ARENA / 64]);
                self.within_budget()?;
            }
        }
        Ok(())
    }

    fn within_budget(&self) -> Result<(), ProveError> {
        let bytes = (self.tables.len() * size_of::<[u32; PAGES_OF_ARENA]>() + self.arenas.len() * 4) as u64
            + self.bits / 4
            + (self.spans.len() * size_of::<Span>() + self.prints.len() * 28) as u64;
        if bytes > self.budget {
            return Err(ProveError::TooLarge { bytes, budget: self.budget });
        }
        Ok(())
    }

    fn is_free(&self, start: u64, bytes: u64) -> bool {
        (start..start + bytes).step_by(1 << PAGE_SHIFT).all(|page| self.find(page).is_none())
    }

    fn fill(&mut self, start: u64, bytes: u64, number: u32) {
        for address in (start..start + bytes).step_by(1 << PAGE_SHIFT) {
            let (arena, page) = place(address, self.first_arena);
            let table = self.arenas.get(arena).copied().unwrap_or(NONE) as usize;
            if let Some(entry) = self.tables.get_mut(table).and_then(|table| table.get_mut(page)) {
                *entry = number;
            }
        }
        self.darken(start, bytes, number != NONE);
    }

    /// Sets or clears the bits of pages that say that an object there is not marked.
    fn darken(&mut self, start: u64, bytes: u64, dark: bool) {
        for address in (start..start + bytes).step_by(1 << PAGE_SHIFT) {
            let (arena, page) = place(address, self.first_arena);
            let table = self.arenas.get(arena).copied().unwrap_or(NONE) as usize;
            if let Some(word) = self.dark.get_mut(table).and_then(|dark| dark.get_mut(page >> 6)) {
                let bit = 1 << (page & 63);
                *word = if dark { *word | bit } else { *word & !bit };
            }
        }
    }

    /// One more object of a span is marked.
    #[inline]
    pub(super) fn count_marked(&mut self, number: u32) {
        let Some(span) = self.spans.get_mut(number as usize) else { return };
        span.unmarked = span.unmarked.saturating_sub(1);
        if span.unmarked == 0 {
            let (start, bytes) = (span.start, span.bytes);
            self.darken(start, bytes, false);
        }
    }

    /// No object is marked any more.
    pub(super) fn forget_marks(&mut self) {
        for number in 0..self.spans.len() {
            let Some(span) = self.spans.get_mut(number).filter(|span| !span.gone) else { continue };
            (span.unmarked, span.content) = (span.objects, None);
            let (start, bytes) = (span.start, span.bytes);
            self.darken(start, bytes, true);
        }
    }

    /// The span in use that holds an address, where an object of it is not marked; also where others of its page are.
    #[inline]
    pub(super) fn find_unmarked(&self, address: u64) -> Option<u32> {
        let (arena, page) = place(address, self.first_arena);
        let table = *self.arenas.get(arena)? as usize;
        if self.dark.get(table)?.get(page >> 6)? & (1 << (page & 63)) == 0 {
            return None;
        }
        let number = *self.tables.get(table)?.get(page)?;
        (number != NONE).then_some(number)
    }
}

/// Where the table of an address is, and its place there. Only right for addresses that are not below the first arena;
/// others come out far away.
#[inline]
fn place(address: u64, first_arena: u64) -> (usize, usize) {
    let arena = (address >> ARENA_SHIFT).wrapping_sub(first_arena);
    let page = (address >> PAGE_SHIFT) as usize & (PAGES_OF_ARENA - 1);
    (usize::try_from(arena).unwrap_or(usize::MAX), page)
}

/// Blanks ranges of memory that was read from an address.
fn blank(from: u64, bytes: &mut [u8], ranges: impl Iterator<Item = (u64, u64)>) {
    for (start, size) in ranges {
        let at = |address: u64| usize::try_from(address.saturating_sub(from)).unwrap_or(usize::MAX);
        let range = at(start)..at(start.saturating_add(size)).min(bytes.len());
        if let Some(bytes) = bytes.get_mut(range) {
            bytes.fill(0);
        }
    }
}

enum Admitted {
    /// As a span of objects, or as none of those.
    Yes(Option<u32>),
    /// What was read makes no sense yet.
    NotYet,
}

fn parse(layout: &HeapLayout, bytes: &[u8]) -> Option<Raw> {
    Some(Raw {
        start: u64_at(bytes, layout.mspan_start)?,
        pages: u64_at(bytes, layout.mspan_npages)?,
        size: u64_at(bytes, layout.mspan_elemsize)?,
        class: u8_at(bytes, layout.mspan_class)?,
        state: u8_at(bytes, layout.mspan_state)?,
        specials: u64_at(bytes, layout.mspan_specials)?,
    })
}
