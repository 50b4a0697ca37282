//! Goroutines as a Go process's memory shows them, read without a stop.
//!
//! Every read races with the program. So a goroutine counts only when its status is a known one, its stack bounds
//! make sense, and goid and status were the same before and after; what failed is counted, never guessed.
//! It must never write to the process, never take a size from it unchecked, and never read a clock.

use std::sync::Arc;

use leakwatch_common::RuntimeKind;
use leakwatch_inspect::go::layout::GoLayout;
use rustc_hash::FxHashMap;

use super::fields::{u32_at, u64_at};
use crate::{
    host::{Memory, ReadError, ReadRequest},
    observe::{Census, CensusTask, LiveByState, SiteId, TaskStatus, Waiting},
};

/// Goroutine structs read at once: bounds our memory, and is one `process_vm_readv` call.
const BATCH: usize = 1024;

/// Most goroutine structs that we believe in. The largest programs known hold some tens of millions.
const MOST_GOROUTINES: u64 = 1 << 27;

/// Most bytes of one goroutine's stack that are read, from its stack pointer up.
const MOST_STACK: u64 = 64 << 10;

/// Most frames of one stack that are kept.
const MOST_FRAMES: usize = 64;

/// What `time.Sleep` waits for, in `waitReasonStrings` of runtime/runtime2.go.
const SLEEP: &str = "sleep";

/// `_Gscan` of runtime/runtime2.go: set on top of a status while the collector looks at the stack.
pub(super) const G_SCAN: u32 = 0x1000;

/// Where the process keeps its goroutines: run-time addresses and offsets.
#[derive(Clone, Debug)]
pub struct GoRuntime {
    /// Offsets in `g`.
    pub layout: GoLayout,
    /// Address of `runtime.allglen`.
    pub allglen: u64,
    /// Address of `runtime.allgptr`.
    pub allgptr: u64,
    /// Address of `runtime.sched`, where found.
    pub sched: Option<u64>,
    /// Names of `g.waitreason`.
    pub wait_reasons: Arc<[String]>,
}

/// One goroutine struct, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Alive.
    Live(CensusTask),
    /// A free struct, waiting to be used again.
    Dead {
        /// Its address.
        address: u64,
    },
    /// In use by a C thread that calls back into Go (`needm`, runtime/proc.go): no `go` statement made it.
    Foreign {
        /// Its address.
        address: u64,
    },
    /// It could not be read, did not hold still, or makes no sense.
    Unreadable {
        /// Its address.
        address: u64,
    },
}

/// Stacks or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stacks {
    /// Walk the stacks of parked goroutines.
    Read,
    /// Leave them.
    Skip,
}

impl GoRuntime {
    /// Calls `each` with every goroutine struct there is.
    ///
    /// # Errors
    /// When the list of goroutines itself cannot be read; a single one that cannot is [`Seen::Unreadable`].
    pub fn for_each(
        &self,
        memory: &impl Memory,
        stacks: Stacks,
        mut each: impl FnMut(Seen),
    ) -> Result<(), ReadError> {
        let goroutines = self.all_goroutines(memory)?;
        let mut buffers = Buffers::new(&self.layout, goroutines.len().min(BATCH));
        for addresses in goroutines.chunks(BATCH) {
            self.read_batch(memory, addresses, stacks, &mut buffers, &mut each);
        }
        Ok(())
    }

    /// The number that the next batch of goroutines begins with (`sched.goidgen`); `None`: it is not known where it is, or
    /// it cannot be read.
    pub fn next_number(&self, memory: &impl Memory) -> Option<u64> {
        let address = self.sched?.checked_add(u64::from(self.layout.sched_goidgen))?;
        memory.read_u64(address).ok()
    }

    /// Counts and groups every live goroutine, and shows each to `see`.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub fn census(
        &self,
        memory: &impl Memory,
        stacks: Stacks,
        now_ns: u64,
        see: &mut dyn FnMut(&CensusTask),
    ) -> Result<Census, ReadError> {
        let mut census = Census { stack_bytes: Some(0), ..Census::default() };
        let mut groups: FxHashMap<(SiteId, TaskStatus, Option<u8>, Vec<u64>), Waiting> = FxHashMap::default();
        self.for_each(memory, stacks, |seen| match seen {
            Seen::Dead { .. } => {}
            Seen::Foreign { .. } => census.foreign += 1,
            Seen::Unreadable { .. } => census.unreadable += 1,
            Seen::Live(task) => {
                count(&mut census, &task);
                // Before Go 1.23 a goroutine has its number a moment after it has its status.
                if task.id != 0 {
                    see(&task);
                }
                let longest = task.waiting_since_ns.map(|since| now_ns.saturating_sub(since));
                let reason = self.reason(&task);
                let stack_bytes = task.stack_bytes;
                let key = (task.site, task.status, task.wait_reason, task.stack);
                let group = groups.entry(key).or_insert_with_key(|(site, _, _, stack)| Waiting {
                    site: *site,
                    reason,
                    stack: stack.clone(),
                    count: 0,
                    longest_ns: None,
                    stack_bytes: 0,
                });
                group.count += 1;
                group.longest_ns = group.longest_ns.max(longest);
                group.stack_bytes += stack_bytes;
            }
        })?;
        census.waiting = groups.into_values().collect();
        census.waiting.sort_by(|a, b| {
            b.count
                .cmp(&a.count)
                .then_with(|| (a.site, &a.reason, &a.stack).cmp(&(b.site, &b.reason, &b.stack)))
        });
        Ok(census)
    }

    /// What a goroutine does, in the runtime's words (`chan receive`, `running`).
    pub fn reason(&self, task: &CensusTask) -> String {
        let status = match task.status {
            TaskStatus::Runnable => "runnable",
            TaskStatus::Running => "running",
            TaskStatus::Syscall => "syscall",
            TaskStatus::Waiting => "waiting",
            TaskStatus::Preempted => "preempted",
        };
        task.wait_reason
            .and_then(|index| self.wait_reasons.get(usize::from(index)))
            .filter(|name| !name.is_empty())
            .map_or_else(|| status.to_owned(), Clone::clone)
    }

    /// Addresses of every `g`. The runtime appends to this array and replaces it by a longer one; it reads the
    /// length first and the pointer second (`atomicAllG`, runtime/proc.go), and so do we.
    pub(super) fn all_goroutines(&self, memory: &impl Memory) -> Result<Vec<u64>, ReadError> {
        const TRIES: usize = 8;
        let mut tried = 0;
        loop {
            let (length, array) = memory.read_in_order(self.allglen, self.allgptr)?;
            // The old array may be freed while we read it.
            let (addresses, then) = memory.read_words_before(array, length, MOST_GOROUTINES, self.allgptr)?;
            let held_still = then == array;
            tried += 1;
            match addresses {
                Ok(addresses) if held_still => return Ok(addresses),
                Err(error) if held_still || tried == TRIES => return Err(error),
                Ok(_) if tried == TRIES => {
                    return Err(ReadError::TooMany { address: array, count: length, cap: MOST_GOROUTINES });
                }
                _ => {}
            }
        }
    }

    fn read_batch(
        &self,
        memory: &impl Memory,
        addresses: &[u64],
        stacks: Stacks,
        buffers: &mut Buffers,
        each: &mut impl FnMut(Seen),
    ) {
        let span = buffers.span;
        let mut requests: Vec<_> = addresses
            .iter()
            .zip(buffers.structs.chunks_exact_mut(span))
            .map(|(&address, into)| ReadRequest::new(address, into))
            .collect();
        memory.read_many(&mut requests);
        let mut seen: Vec<Seen> = requests
            .iter()
            .map(|request| {
                if request.ok {
                    self.parse(request.address, request.into)
                } else {
                    Unread::at(request.address)
                }
            })
            .collect();
        drop(requests);
        self.look_again(memory, stacks, &mut seen, &buffers.structs, span);
        seen.into_iter().for_each(each);
    }

    /// A goroutine struct's bytes, as far as they can be judged alone.
    fn parse(&self, address: u64, bytes: &[u8]) -> Seen {
        let layout = &self.layout;
        let parsed = (|| {
            let status = u32_at(bytes, layout.atomicstatus)? & !G_SCAN;
            let status = match status {
                // _Gidle, _Gdead and _Gdeadextra (1.26 and later)
                0 | 6 | 11 => return Some(Seen::Dead { address }),
                1 => TaskStatus::Runnable,
                2 => TaskStatus::Running,
                3 => TaskStatus::Syscall,
                // _Gleaked (1.26 and later): parked, and found unreachable by the collector
                4 | 10 => TaskStatus::Waiting,
                // _Gcopystack, _Gpreempted
                8 | 9 => TaskStatus::Preempted,
                _ => return None,
            };
            let (low, high) = (u64_at(bytes, layout.stack_lo)?, u64_at(bytes, layout.stack_hi)?);
            let id = u64_at(bytes, layout.goid)?;
            // A live goroutine has a stack; its goid is set a moment after its status (Go 1.22 and older).
            if low >= high {
                return None;
            }
            let (site, entry) = (u64_at(bytes, layout.gopc)?, u64_at(bytes, layout.startpc)?);
            if site == 0 && entry == 0 {
                return Some(Seen::Foreign { address });
            }
            let waiting = status == TaskStatus::Waiting;
            let since = u64_at(bytes, layout.waitsince)?;
            let wait_reason = waiting.then(|| bytes.get(layout.waitreason as usize).copied()).flatten();
            // `casgstatus` counts it up whenever a goroutine leaves the status of running (runtime/proc.go).
            let runs = layout.heap.and_then(|heap| bytes.get(heap.g_tracking_seq as usize).copied());
            Some(Seen::Live(CensusTask {
                address,
                id,
                site: SiteId { runtime: RuntimeKind::Go, site, entry },
                status,
                wait_reason,
                waiting_since_ns: (waiting && since != 0).then_some(since),
                runs: runs.map(u64::from),
                wakes_itself: wait_reason
                    .and_then(|index| self.wait_reasons.get(usize::from(index)))
                    .is_some_and(|reason| reason == SLEEP),
                // A proof says so of goroutines.
                unwakeable: false,
                stack_bytes: high - low,
                stack: Vec::new(),
            }))
        })();
        parsed.unwrap_or_else(|| Unread::at(address))
    }

    /// Reads the stacks of parked goroutines, and after them once more what tells whether each of all was the same goroutine
    /// meanwhile: all of a batch in one call.
    fn look_again(
        &self,
        memory: &impl Memory,
        stacks: Stacks,
        seen: &mut [Seen],
        structs: &[u8],
        span: usize,
    ) {
        let walks = if stacks == Stacks::Read { self.walks(seen, structs, span) } else { Vec::new() };
        let live: Vec<(usize, u64)> = seen
            .iter()
            .enumerate()
            .filter_map(|(index, one)| match one {
                Seen::Live(task) => Some((index, task.address)),
                Seen::Dead { .. } | Seen::Foreign { .. } | Seen::Unreadable { .. } => None,
            })
            .collect();
        let (first, last) = window(&[(self.layout.atomicstatus, 4), (self.layout.goid, 8)]);
        let width = (last - first) as usize;
        let of_stacks: usize = walks.iter().map(|walk| walk.length).sum();
        let mut bytes = vec![0; of_stacks + live.len() * width];
        let (mut stack_bytes, field_bytes) = bytes.split_at_mut(of_stacks);
        let mut requests = Vec::with_capacity(walks.len() + live.len());
        for walk in &walks {
            let (own, others) = stack_bytes.split_at_mut(walk.length);
            requests.push(ReadRequest::new(walk.sp, own));
            stack_bytes = others;
        }
        let fields = live.iter().zip(field_bytes.chunks_exact_mut(width));
        requests.extend(
            fields
                .map(|(&(_, address), into)| ReadRequest::new(address.wrapping_add(u64::from(first)), into)),
        );
        memory.read_many(&mut requests);
        let (of_stacks, of_fields) = requests.split_at(walks.len());
        for (walk, read) in walks.iter().zip(of_stacks) {
            if let (true, Some(Seen::Live(task))) = (read.ok, seen.get_mut(walk.index)) {
                task.stack = walk.frames(read.into);
            }
        }
        for (&(index, address), read) in live.iter().zip(of_fields) {
            let look = (|| {
                let id = u64_at(read.into, self.layout.goid - first)?;
                let status = u32_at(read.into, self.layout.atomicstatus - first)? & !G_SCAN;
                read.ok.then_some((id, status))
            })();
            if let Some(one) = seen.get_mut(index) {
                confirm(one, address, look);
            }
        }
    }

    /// The stacks that can be walked by their frame pointers (DESIGN 2.3): `sched.pc`, then from `sched.bp` up, inside the
    /// stack.
    fn walks(&self, seen: &[Seen], structs: &[u8], span: usize) -> Vec<Walk> {
        let layout = &self.layout;
        let mut walks = Vec::with_capacity(seen.len());
        for (index, (one, bytes)) in seen.iter().zip(structs.chunks_exact(span)).enumerate() {
            let Seen::Live(task) = one else { continue };
            if !matches!(task.status, TaskStatus::Waiting | TaskStatus::Runnable | TaskStatus::Preempted) {
                continue;
            }
            let words = (
                u64_at(bytes, layout.stack_lo),
                u64_at(bytes, layout.stack_hi),
                u64_at(bytes, layout.sched_sp),
                u64_at(bytes, layout.sched_pc),
                u64_at(bytes, layout.sched_bp),
            );
            let (Some(low), Some(high), Some(sp), Some(pc), Some(bp)) = words else { continue };
            if sp < low || sp >= high {
                continue;
            }
            let length = usize::try_from((high - sp).min(MOST_STACK)).unwrap_or(0) & !7;
            walks.push(Walk { index, sp, pc, bp, length });
        }
        walks
    }
}

/// A second look at a live goroutine, its number and its status: one whose goid changed is another goroutine by now, and what was
/// read may be of either. A status that changed makes its stack and its wait doubtful, not its life.
fn confirm(one: &mut Seen, address: u64, look: Option<(u64, u32)>) {
    let Seen::Live(task) = one else { return };
    match look {
        Some((_, 0 | 6 | 11)) => *one = Seen::Dead { address },
        // Before Go 1.23 the goid is written after the status: 0 may become a number.
        Some((id, _)) if id != task.id && task.id != 0 => *one = Unread::at(address),
        Some((_, 4 | 10)) if task.status == TaskStatus::Waiting => {}
        Some((_, _)) if task.status != TaskStatus::Waiting => {}
        Some(_) => {
            task.stack.clear();
            task.status = TaskStatus::Runnable;
            task.wait_reason = None;
            task.waiting_since_ns = None;
        }
        None => *one = Unread::at(address),
    }
}

/// Shorthand for a goroutine that could not be read.
struct Unread;

impl Unread {
    fn at(address: u64) -> Seen {
        Seen::Unreadable { address }
    }
}

/// Room for goroutine structs.
struct Buffers {
    /// Bytes from the struct's start that hold all fields we read.
    span: usize,
    structs: Vec<u8>,
}

impl Buffers {
    /// For so many at once.
    fn new(layout: &GoLayout, structs: usize) -> Self {
        let (_, last) = window(&[
            (layout.stack_lo, 8),
            (layout.stack_hi, 8),
            (layout.sched_sp, 8),
            (layout.sched_pc, 8),
            (layout.sched_bp, 8),
            (layout.atomicstatus, 4),
            (layout.goid, 8),
            (layout.waitsince, 8),
            (layout.waitreason, 1),
            (layout.gopc, 8),
            (layout.startpc, 8),
            (layout.heap.map_or(layout.startpc, |heap| heap.g_tracking_seq), 1),
        ]);
        let span = last as usize;
        Self { span, structs: vec![0; span * structs] }
    }
}

/// A parked goroutine's stack, to be walked.
struct Walk {
    index: usize,
    sp: u64,
    pc: u64,
    bp: u64,
    /// Bytes of it that are read.
    length: usize,
}

impl Walk {
    fn frames(&self, bytes: &[u8]) -> Vec<u64> {
        let mut frames = vec![self.pc];
        let mut frame = self.bp;
        while frames.len() < MOST_FRAMES {
            let Some(offset) = frame.checked_sub(self.sp).and_then(|offset| u32::try_from(offset).ok())
            else {
                break;
            };
            let Some(after) = offset.checked_add(8) else { break };
            let (Some(next), Some(back)) = (u64_at(bytes, offset), u64_at(bytes, after)) else {
                break;
            };
            if back == 0 {
                break;
            }
            frames.push(back);
            // Callers' frames are at higher addresses; anything else is not a chain.
            if next <= frame {
                break;
            }
            frame = next;
        }
        frames
    }
}

fn count(census: &mut Census, task: &CensusTask) {
    census.live += 1;
    if let Some(bytes) = census.stack_bytes.as_mut() {
        *bytes += task.stack_bytes;
    }
    let LiveByState { runnable, running, syscall, waiting, preempted } = &mut census.by_state;
    *match task.status {
        TaskStatus::Runnable => runnable,
        TaskStatus::Running => running,
        TaskStatus::Syscall => syscall,
        TaskStatus::Waiting => waiting,
        TaskStatus::Preempted => preempted,
    } += 1;
}

/// The range of offsets that covers all of these (offset, size) fields.
fn window(fields: &[(u32, u32)]) -> (u32, u32) {
    let first = fields.iter().map(|&(offset, _)| offset).min().unwrap_or(0);
    let last = fields.iter().map(|&(offset, size)| offset.saturating_add(size)).max().unwrap_or(0);
    (first, last)
}
