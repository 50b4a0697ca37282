//! Field offsets of the runtime's structs: from the binary's own DWARF, else from `layouts.toml`.
//!
//! The table is data, written by `cargo xtask layouts`; this file says which fields there are and what they mean. Must
//! never answer with a wrong version's offset without saying so in [`GoLayout::source`].
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod table;

use super::code::Code;
use super::version::GoVersion;
use super::{Source, dwarf, globals};
use crate::{Elf, Problem};

/// A field that leakwatch reads, as `type.field.field` without the package; a type alone means its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, such as `g.sched.sp`.
    pub name: &'static str,
    /// The file of Go's source that declares the type.
    pub file: &'static str,
}

macro_rules! fields {
    ($($file:literal: $($name:literal)*;)*) => {
        /// Every field in `layouts.toml`. To read a new one, add it here, run `cargo xtask layouts`, and give it a place in
        /// [`GoLayout`] or [`HeapLayout`].
        pub const FIELDS: &[Field] = &[$($(Field { name: $name, file: $file },)*)*];
    };
}

fields! {
    "src/runtime/runtime2.go":
        "g" "g.stack.lo" "g.stack.hi" "g.m" "g.sched.sp" "g.sched.pc" "g.sched.bp" "g.syscallsp" "g.syscallpc"
        "g.syscallbp" "g.atomicstatus" "g.goid" "g.waitsince" "g.waitreason" "g.parentGoid" "g.gopc" "g.startpc"
        "g.waiting" "g.labels" "g.lockedm" "g._defer" "g.param" "g.timer" "g.coroarg" "m.procid" "m.curg" "m.g0"
        "g.trackingSeq" "g.bubble" "g.syncGroup" "p.m" "p.schedtick" "p.gcw" "p.wbBuf" "p.timers" "schedt.goidgen" "schedt.ngsys" "schedt.gFree" "sudog" "sudog.g" "sudog.next" "sudog.prev"
        "sudog.elem" "sudog.waitlink" "sudog.c";
    "src/runtime/mgcwork.go": "gcWork" "p.gcw.ptrBuf" "p.gcw.spanq.chain";
    "src/runtime/mwbbuf.go": "wbBuf";
    "src/runtime/mgcmark_greenteagc.go": "spanSPMC.prev" "spanSPMC.cap" "spanSPMC.ring";
    "src/runtime/time.go": "timers.heap" "timer.when";
    "src/runtime/synctest.go": "synctestBubble.id" "synctestGroup.root";
    "src/runtime/netpoll.go": "pollDesc.fd" "pollDesc.rg" "pollDesc.wg";
    "src/runtime/chan.go": "hchan.qcount" "hchan.dataqsiz" "hchan.closed" "hchan.recvq" "hchan.sendq";
    "src/runtime/sema.go": "semaRoot.treap" "notifyList.head";
    "src/runtime/map.go": "hmap.count" "hmap.B" "hmap.buckets";
    "src/runtime/mheap.go":
        "mheap.allspans" "mheap.sweepgen" "special.next" "special.offset" "special.kind" "mspan" "mspan.startAddr" "mspan.npages" "mspan.nelems" "mspan.spanclass" "mspan.state"
        "mspan.elemsize" "mspan.specials";
    "src/runtime/symtab.go":
        "moduledata.text" "moduledata.etext" "moduledata.data" "moduledata.edata" "moduledata.bss" "moduledata.ebss"
        "moduledata.next";
}

/// Byte offsets inside the runtime's structs. An `Option` is a field that this version does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct GoLayout {
    /// Where it was taken from.
    pub source: Source,
    /// `unsafe.Sizeof(g{})`.
    pub g_size: u32,
    /// `g.stack.lo`.
    pub stack_lo: u32,
    /// `g.stack.hi`.
    pub stack_hi: u32,
    /// `g.m`.
    pub m: u32,
    /// `g.sched.sp`.
    pub sched_sp: u32,
    /// `g.sched.pc`.
    pub sched_pc: u32,
    /// `g.sched.bp`.
    pub sched_bp: u32,
    /// `g.syscallsp`.
    pub syscallsp: u32,
    /// `g.syscallpc`.
    pub syscallpc: u32,
    /// `g.syscallbp` (Go 1.23 and later).
    pub syscallbp: Option<u32>,
    /// `g.atomicstatus`, a u32.
    pub atomicstatus: u32,
    /// `g.goid`.
    pub goid: u32,
    /// `g.waitsince`, `nanotime()` (`CLOCK_MONOTONIC`) or 0.
    pub waitsince: u32,
    /// `g.waitreason`, a u8.
    pub waitreason: u32,
    /// `g.parentGoid` (Go 1.21 and later).
    pub parent_goid: Option<u32>,
    /// `g.gopc`.
    pub gopc: u32,
    /// `g.startpc`.
    pub startpc: u32,
    /// `g.waiting`, a `*sudog`.
    pub waiting: u32,
    /// `g.labels`.
    pub labels: u32,
    /// `g.lockedm`.
    pub lockedm: u32,
    /// `schedt.goidgen`.
    pub sched_goidgen: u32,
    /// `schedt.ngsys`, an i32.
    pub sched_ngsys: u32,
    /// `schedt.gFree`.
    pub sched_gfree: u32,
    /// `hmap` (Go 1.23 and older): that is how profiler labels are kept where it is there, in a slice where not.
    pub map: Option<MapLayout>,
    /// `pollDesc`: who waits for the network.
    pub poll: Option<PollLayout>,
    /// What a goroutine in a bubble of `testing/synctest` is known by (Go 1.24 and later).
    pub bubble: Option<BubbleLayout>,
    /// `notifyList.head`, the first sudog that waits on a `sync.Cond`.
    pub notify_head: Option<u32>,
    /// What walking the heap takes; `None` when some of it is not known for this version.
    pub heap: Option<HeapLayout>,
}

/// Byte offsets in `hmap`, the maps of Go 1.23 and older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct MapLayout {
    /// `hmap.count`, an int.
    pub count: u32,
    /// `hmap.B`, a u8: the logarithm of the number of buckets.
    pub log_buckets: u32,
    /// `hmap.buckets`, a pointer to the first.
    pub buckets: u32,
}

/// Where the bubble of a goroutine is, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum BubbleLayout {
    /// `g.syncGroup` and `synctestGroup.root`, the goroutine by whose number it is called (Go 1.24).
    Group {
        /// In the goroutine.
        of: u32,
        /// In the group.
        root: u32,
    },
    /// `g.bubble` and `synctestBubble.id` (Go 1.25 and later).
    Bubble {
        /// In the goroutine.
        of: u32,
        /// In the bubble.
        id: u32,
    },
}

impl BubbleLayout {
    fn from_offsets(offset: &impl Fn(&str) -> Option<u32>) -> Option<BubbleLayout> {
        match (offset("g.bubble"), offset("synctestBubble.id")) {
            (Some(of), Some(id)) => Some(Self::Bubble { of, id }),
            _ => Some(Self::Group { of: offset("g.syncGroup")?, root: offset("synctestGroup.root")? }),
        }
    }

    /// Offset of the pointer in the goroutine.
    pub fn of(self) -> u32 {
        match self {
            Self::Group { of, .. } | Self::Bubble { of, .. } => of,
        }
    }
}

/// Byte offsets in `pollDesc`, of which the network poller has one for each file that it polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct PollLayout {
    /// `pollDesc.fd`, the file descriptor.
    pub fd: u32,
    /// `pollDesc.rg`: the goroutine that waits to read, or a small number.
    pub reader: u32,
    /// `pollDesc.wg`: the one that waits to write.
    pub writer: u32,
}

/// Where the collector keeps what it came across, in its struct `p` and beyond: pointers by which nobody else reaches anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct CollectorLayout {
    /// `p.gcw`, a P's share of the collector's work.
    pub work: u32,
    /// `unsafe.Sizeof(gcWork{})`.
    pub work_size: u32,
    /// `p.wbBuf`, the buffer of the write barrier.
    pub barrier: u32,
    /// `unsafe.Sizeof(wbBuf{})`.
    pub barrier_size: u32,
    /// `p.gcw.ptrBuf`, a pointer to a page in which the collector gathers pointers (Go 1.26 and later).
    pub gather: Option<u32>,
    /// Queues of objects that other Ps may take over (Go 1.26 and later).
    pub queue: Option<QueueLayout>,
}

/// The queues that a P shares with others: rings of addresses, each in pages of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct QueueLayout {
    /// `p.gcw.spanq.chain`: pointers to the newest and to the oldest `spanSPMC`.
    pub chain: u32,
    /// `spanSPMC.prev`, a pointer to the next newer one.
    pub previous: u32,
    /// `spanSPMC.cap`, a u32: words of the ring.
    pub capacity: u32,
    /// `spanSPMC.ring`, a pointer.
    pub ring: u32,
}

/// The kind of a `special` that only the memory profiler has noted (`_KindSpecialProfile`, src/runtime/mheap.go of Go 1.18 to
/// 1.27): nobody gets an object by it. `None`: not known for this release.
pub const fn profile_special(major: u16, minor: u16) -> Option<u8> {
    match (major, minor) {
        (1, 18..=22) => Some(2),
        // The weak handle came before it.
        (1, 23..=24) => Some(3),
        // The tiny block did.
        (1, 25..=27) => Some(4),
        _ => None,
    }
}

/// Byte offsets that a walk over the heap and over waiting goroutines needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct HeapLayout {
    /// `g._defer`.
    pub g_defer: u32,
    /// `g.param`.
    pub g_param: u32,
    /// `g.timer`.
    pub g_timer: u32,
    /// `g.coroarg` (Go 1.23 and later).
    pub g_coroarg: Option<u32>,
    /// `unsafe.Sizeof(sudog{})`.
    pub sudog_size: u32,
    /// `sudog.g`.
    pub sudog_g: u32,
    /// `sudog.next`.
    pub sudog_next: u32,
    /// `sudog.prev`.
    pub sudog_prev: u32,
    /// `sudog.elem`; in a semaphore's treap the semaphore's address.
    pub sudog_elem: u32,
    /// `sudog.waitlink`.
    pub sudog_waitlink: u32,
    /// `sudog.c`.
    pub sudog_c: u32,
    /// `hchan.qcount`, a uint.
    pub hchan_qcount: u32,
    /// `hchan.dataqsiz`, a uint.
    pub hchan_dataqsiz: u32,
    /// `hchan.closed`, a u32.
    pub hchan_closed: u32,
    /// `hchan.recvq`, a waitq {first, last}.
    pub hchan_recvq: u32,
    /// `hchan.sendq`, a waitq {first, last}.
    pub hchan_sendq: u32,
    /// `semaRoot.treap`.
    pub sema_treap: u32,
    /// `mheap.allspans`, a slice of `*mspan`.
    pub mheap_allspans: u32,
    /// `unsafe.Sizeof(mspan{})`.
    pub mspan_size: u32,
    /// `mspan.startAddr`.
    pub mspan_start: u32,
    /// `mspan.npages`.
    pub mspan_npages: u32,
    /// `mspan.spanclass`, a u8; bit 0: without pointers.
    pub mspan_class: u32,
    /// `mspan.state`, a u8; 1: in use.
    pub mspan_state: u32,
    /// `mspan.elemsize`.
    pub mspan_elemsize: u32,
    /// `mspan.specials`.
    pub mspan_specials: u32,
    /// `mheap.sweepgen`, a u32: two more with each collection.
    pub mheap_sweepgen: u32,
    /// `special.next`.
    pub special_next: u32,
    /// `special.offset`: a u16 before Go 1.25, a word since; as long as it is until `special.kind`.
    pub special_offset: u32,
    /// `special.kind`, a u8.
    pub special_kind: u32,
    /// `g.trackingSeq`, a u8: one more whenever the goroutine stops to run.
    pub g_tracking_seq: u32,
    /// `m.curg`.
    pub m_curg: u32,
    /// `m.g0`.
    pub m_g0: u32,
    /// `p.m`.
    pub p_m: u32,
    /// `p.schedtick`, a u32: one more whenever the P begins to run a goroutine.
    pub p_schedtick: u32,
    /// Where a P has the collector's own records.
    pub collector: CollectorLayout,
    /// `p.timers`: a slice before Go 1.23, the struct `timers` since.
    pub p_timers: u32,
    /// `timers.heap`, a slice (Go 1.23 and later).
    pub timers_heap: Option<u32>,
    /// `timer.when`, `nanotime()`.
    pub timer_when: Option<u32>,
    /// `moduledata.data`; edata follows.
    pub module_data: u32,
    /// `moduledata.bss`; ebss follows.
    pub module_bss: u32,
    /// `moduledata.next`.
    pub module_next: u32,
}

impl GoLayout {
    /// Puts a layout together from the offsets that `offset` knows by name.
    ///
    /// # Errors
    /// When a field that every version has is not known.
    pub(super) fn from_offsets(
        source: Source,
        offset: impl Fn(&str) -> Option<u32>,
    ) -> Result<GoLayout, Problem> {
        let need = |name: &str| {
            offset(name).ok_or_else(|| Problem(format!("the offset of runtime.{name} is not known")))
        };
        Ok(GoLayout {
            source,
            g_size: need("g")?,
            stack_lo: need("g.stack.lo")?,
            stack_hi: need("g.stack.hi")?,
            m: need("g.m")?,
            sched_sp: need("g.sched.sp")?,
            sched_pc: need("g.sched.pc")?,
            sched_bp: need("g.sched.bp")?,
            syscallsp: need("g.syscallsp")?,
            syscallpc: need("g.syscallpc")?,
            syscallbp: offset("g.syscallbp"),
            atomicstatus: need("g.atomicstatus")?,
            goid: need("g.goid")?,
            waitsince: need("g.waitsince")?,
            waitreason: need("g.waitreason")?,
            parent_goid: offset("g.parentGoid"),
            gopc: need("g.gopc")?,
            startpc: need("g.startpc")?,
            waiting: need("g.waiting")?,
            labels: need("g.labels")?,
            lockedm: need("g.lockedm")?,
            sched_goidgen: need("schedt.goidgen")?,
            sched_ngsys: need("schedt.ngsys")?,
            sched_gfree: need("schedt.gFree")?,
            map: MapLayout::from_offsets(&offset),
            poll: PollLayout::from_offsets(&offset),
            bubble: BubbleLayout::from_offsets(&offset),
            notify_head: offset("notifyList.head"),
            heap: HeapLayout::from_offsets(&offset),
        })
    }
}

impl GoLayout {
    /// Has the same offsets, wherever they are from. Only compares what both know.
    pub(super) fn agrees_with(&self, other: &GoLayout) -> bool {
        fn of_both<T>(one: Option<T>, other: Option<T>) -> (Option<T>, Option<T>) {
            one.zip(other).unzip()
        }
        let (heap, other_heap) = of_both(self.heap, other.heap);
        let (poll, other_poll) = of_both(self.poll, other.poll);
        let (notify_head, other_head) = of_both(self.notify_head, other.notify_head);
        let (bubble, other_bubble) = of_both(self.bubble, other.bubble);
        let own = GoLayout { source: other.source, heap, poll, bubble, notify_head, ..*self };
        let (heap, poll, bubble, notify_head) = (other_heap, other_poll, other_bubble, other_head);
        own == GoLayout { poll, bubble, notify_head, heap, ..*other }
    }
}

impl MapLayout {
    fn from_offsets(offset: &impl Fn(&str) -> Option<u32>) -> Option<MapLayout> {
        Some(MapLayout {
            count: offset("hmap.count")?,
            log_buckets: offset("hmap.B")?,
            buckets: offset("hmap.buckets")?,
        })
    }
}

impl PollLayout {
    fn from_offsets(offset: &impl Fn(&str) -> Option<u32>) -> Option<PollLayout> {
        Some(PollLayout {
            fd: offset("pollDesc.fd")?,
            reader: offset("pollDesc.rg")?,
            writer: offset("pollDesc.wg")?,
        })
    }
}

impl CollectorLayout {
    fn from_offsets(offset: &impl Fn(&str) -> Option<u32>) -> Option<CollectorLayout> {
        Some(CollectorLayout {
            work: offset("p.gcw")?,
            work_size: offset("gcWork")?,
            barrier: offset("p.wbBuf")?,
            barrier_size: offset("wbBuf")?,
            gather: offset("p.gcw.ptrBuf"),
            queue: (|| {
                Some(QueueLayout {
                    chain: offset("p.gcw.spanq.chain")?,
                    previous: offset("spanSPMC.prev")?,
                    capacity: offset("spanSPMC.cap")?,
                    ring: offset("spanSPMC.ring")?,
                })
            })(),
        })
    }
}

impl HeapLayout {
    fn from_offsets(offset: &impl Fn(&str) -> Option<u32>) -> Option<HeapLayout> {
        Some(HeapLayout {
            g_defer: offset("g._defer")?,
            g_param: offset("g.param")?,
            g_timer: offset("g.timer")?,
            g_coroarg: offset("g.coroarg"),
            sudog_size: offset("sudog")?,
            sudog_g: offset("sudog.g")?,
            sudog_next: offset("sudog.next")?,
            sudog_prev: offset("sudog.prev")?,
            sudog_elem: offset("sudog.elem")?,
            sudog_waitlink: offset("sudog.waitlink")?,
            sudog_c: offset("sudog.c")?,
            hchan_qcount: offset("hchan.qcount")?,
            hchan_dataqsiz: offset("hchan.dataqsiz")?,
            hchan_closed: offset("hchan.closed")?,
            hchan_recvq: offset("hchan.recvq")?,
            hchan_sendq: offset("hchan.sendq")?,
            sema_treap: offset("semaRoot.treap")?,
            mheap_allspans: offset("mheap.allspans")?,
            mspan_size: offset("mspan")?,
            mspan_start: offset("mspan.startAddr")?,
            mspan_npages: offset("mspan.npages")?,
            mspan_class: offset("mspan.spanclass")?,
            mspan_state: offset("mspan.state")?,
            mspan_elemsize: offset("mspan.elemsize")?,
            mspan_specials: offset("mspan.specials")?,
            mheap_sweepgen: offset("mheap.sweepgen")?,
            special_next: offset("special.next")?,
            special_offset: offset("special.offset")?,
            special_kind: offset("special.kind")?,
            g_tracking_seq: offset("g.trackingSeq")?,
            m_curg: offset("m.curg")?,
            m_g0: offset("m.g0")?,
            p_m: offset("p.m")?,
            p_schedtick: offset("p.schedtick")?,
            collector: CollectorLayout::from_offsets(&offset)?,
            p_timers: offset("p.timers")?,
            timers_heap: offset("timers.heap"),
            timer_when: offset("timer.when"),
            module_data: offset("moduledata.data")?,
            module_bss: offset("moduledata.bss")?,
            module_next: offset("moduledata.next")?,
        })
    }
}

/// A layout with what belongs to it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) layout: Option<GoLayout>,
    /// The table's.
    pub(super) wait_reasons: &'static [String],
    pub(super) problems: Vec<Problem>,
}

/// The layout: the binary's own DWARF, else the table, unless the code contradicts it.
pub(super) fn find(elf: &Elf, image: &[u8], version: Option<&GoVersion>, code: Option<&Code<'_>>) -> Found {
    let mut found = Found::default();
    let known = table::known(version);
    if let Ok(known) = &known {
        found.wait_reasons = known.wait_reasons;
    }
    let own = dwarf::offsets(elf, image).and_then(|offsets| {
        offsets.map(|all| GoLayout::from_offsets(Source::Dwarf, |name| all.get(name).copied())).transpose()
    });
    match (own, known) {
        // Too old: nothing else about this runtime is known either.
        (_, Err(problem)) => found.problems.push(problem),
        (Ok(Some(own)), Ok(known)) => {
            if known.layout.source == Source::Table && !known.layout.agrees_with(&own) {
                let differs = "its DWARF and leakwatch's table have different layouts (a modified toolchain?); the DWARF is believed";
                found.problems.push(Problem(differs.into()));
            }
            found.layout = Some(own);
        }
        (own, Ok(known)) => {
            if let Err(problem) = own {
                found.problems.push(Problem(format!("its DWARF is of no use: {}", problem.0)));
            }
            found.problems.extend(known.problem);
            match code.and_then(globals::sched) {
                Some((_, ngsys)) if ngsys != u64::from(known.layout.sched_ngsys) => {
                    found.problems.push(Problem(format!(
                        "its code has sched.ngsys at {ngsys}, leakwatch's table at {}: the layouts of this runtime are not known",
                        known.layout.sched_ngsys
                    )));
                }
                _ => found.layout = Some(known.layout),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::version::GoVersion;

    #[test]
    fn what_only_one_of_two_layouts_knows_is_no_difference() {
        let version = GoVersion::parse("go1.27.1");
        let known = table::known(version.as_ref()).expect("a release of the table").layout;
        assert!(known.poll.is_some() && known.notify_head.is_some() && known.heap.is_some());
        // A program without a network has no poll descriptors in its DWARF.
        let own = GoLayout { source: Source::Dwarf, poll: None, notify_head: None, heap: None, ..known };
        assert!(known.agrees_with(&own) && own.agrees_with(&known));
        let other = GoLayout { goid: known.goid + 8, ..own };
        assert!(!known.agrees_with(&other));
        let moved = known.poll.map(|poll| PollLayout { reader: poll.reader + 8, ..poll });
        assert!(!known.agrees_with(&GoLayout { poll: moved, ..known }));
    }
}
