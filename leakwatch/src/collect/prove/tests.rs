//! Proofs over made-up memory: what is reachable is never accused, and memory that makes no sense accuses nobody.

use std::{cell::Cell, collections::BTreeMap, ops::Range};

use leakwatch_inspect::go::{
    Source,
    layout::{CollectorLayout, GoLayout, HeapLayout, QueueLayout},
};
use proptest::prelude::*;

use super::*;
use crate::host::memory::Fake;
use crate::observe::{Fate, Link};

const ARENA: u64 = 0xc0_0000_0000;
const STRUCTS: u64 = ARENA;
const SUDOGS: u64 = ARENA + 0x2000;
const OBJECTS: u64 = ARENA + 0x4000;
const STACKS: u64 = ARENA + 0x1_0000;
const DATA: u64 = 0x50_0000;
const MHEAP: u64 = 0x60_0000;
const SPANS: u64 = 0x62_0000;
const ALLP: u64 = 0x63_0000;
const LIST: u64 = 0x64_0000;
const SPECIALS: u64 = 0x65_0000;
const STACK: u64 = 0x800;

/// Words by address, in ranges that a read may cover.
struct World {
    ranges: BTreeMap<u64, Vec<u64>>,
    goroutines: u64,
    sudogs: u64,
}

fn layout() -> (GoLayout, HeapLayout) {
    let heap = HeapLayout {
        g_defer: 40,
        g_param: 136,
        g_timer: 360,
        g_coroarg: None,
        sudog_size: 88,
        sudog_g: 0,
        sudog_next: 8,
        sudog_prev: 16,
        sudog_elem: 24,
        sudog_waitlink: 64,
        sudog_c: 80,
        hchan_qcount: 0,
        hchan_dataqsiz: 8,
        hchan_closed: 28,
        hchan_recvq: 48,
        hchan_sendq: 64,
        sema_treap: 8,
        mheap_allspans: 16,
        mspan_size: 160,
        mspan_start: 24,
        mspan_npages: 32,
        mspan_class: 98,
        mspan_state: 99,
        mspan_elemsize: 104,
        mspan_specials: 128,
        mheap_sweepgen: 8,
        special_next: 0,
        special_offset: 8,
        special_kind: 16,
        g_tracking_seq: 191,
        m_curg: 184,
        m_g0: 0,
        p_m: 48,
        p_schedtick: 16,
        collector: CollectorLayout {
            work: 0x400,
            work_size: 0x80,
            barrier: 0x480,
            barrier_size: 0x80,
            gather: None,
            queue: Some(QueueLayout { chain: 0x470, previous: 24, capacity: 40, ring: 48 }),
        },
        p_timers: 0,
        timers_heap: None,
        timer_when: None,
        module_data: 208,
        module_bss: 224,
        module_next: 576,
    };
    let go = GoLayout {
        source: Source::Table,
        g_size: 456,
        stack_lo: 0,
        stack_hi: 8,
        m: 48,
        sched_sp: 56,
        sched_pc: 64,
        sched_bp: 96,
        syscallsp: 104,
        syscallpc: 112,
        syscallbp: None,
        atomicstatus: 144,
        goid: 152,
        waitsince: 168,
        waitreason: 176,
        parent_goid: None,
        gopc: 280,
        startpc: 296,
        waiting: 320,
        labels: 352,
        lockedm: 232,
        sched_goidgen: 0,
        sched_ngsys: 0,
        sched_gfree: 0,
        map: None,
        poll: None,
        bubble: None,
        notify_head: None,
        heap: Some(heap),
    };
    (go, heap)
}

/// Wait reasons of the made-up runtime.
const REASONS: [&str; 5] = ["", "chan receive", "select (no cases)", "sync.Mutex.Lock", "IO wait"];

/// What a goroutine of the made-up process does.
#[derive(Clone, Copy, Debug)]
enum Does {
    Runs,
    Receives(u64),
    Locks(u64),
    WaitsForEver,
    WaitsForInput,
}

impl World {
    fn new() -> Self {
        let mut ranges = BTreeMap::new();
        for (start, bytes) in [
            (STRUCTS, 0x2000),
            (SUDOGS, 0x2000),
            (OBJECTS, 0x2000),
            (STACKS, 0x8000),
            (DATA, 0x1000),
            (MHEAP, 0x1000),
            (SPANS, 0x1000),
            (ALLP, 0x2000),
            (LIST, 0x2000),
            (SPECIALS, 0x1000),
        ] {
            ranges.insert(start, vec![0; bytes / 8]);
        }
        let mut world = Self { ranges, goroutines: 0, sudogs: 0 };
        world.put(MHEAP + 16, &[LIST + 0x1000, 4]);
        for (place, (start, pages, size, state)) in
            [(STRUCTS, 1, 512, 1), (SUDOGS, 1, 96, 1), (OBJECTS, 1, 64, 1), (STACKS, 4, 0, 2_u64)]
                .into_iter()
                .enumerate()
        {
            let mspan = SPANS + place as u64 * 160;
            world.put(LIST + 0x1000 + place as u64 * 8, &[mspan]);
            world.put(mspan + 24, &[start, pages]);
            world.put(mspan + 96, &[state << 24, size]);
        }
        world.put(ALLP, &[ALLP + 0x100, 1]);
        world.put(ALLP + 0x100, &[ALLP + 0x1000]);
        world.put(LIST, &[0, LIST + 0x100]);
        world
    }

    fn put(&mut self, address: u64, words: &[u64]) {
        let (start, range) = self.ranges.range_mut(..=address).next_back().expect("mapped");
        let at = usize::try_from((address - start) / 8).expect("small");
        range[at..at + words.len()].copy_from_slice(words);
    }

    fn get(&self, address: u64) -> u64 {
        let (start, range) = self.ranges.range(..=address).next_back().expect("mapped");
        range[usize::try_from((address - start) / 8).expect("small")]
    }

    /// Adds a goroutine; `holds` are the words on its stack. The answer is its number.
    fn goroutine(&mut self, does: Does, holds: &[u64]) -> u64 {
        let number = self.goroutines;
        self.goroutines += 1;
        let g = STRUCTS + number * 512;
        let (low, high) = (STACKS + number * STACK, STACKS + (number + 1) * STACK);
        let pointer = high - 512;
        self.put(g, &[low, high]);
        self.put(g + 56, &[pointer]);
        let (status, reason) = match does {
            Does::Runs => (2, 0),
            Does::Receives(_) => (4, 1),
            Does::WaitsForEver => (4, 2),
            Does::Locks(_) => (4, 3),
            Does::WaitsForInput => (4, 4),
        };
        self.put(g + 144, &[status, 100 + number]);
        self.put(g + 176, &[reason]);
        self.put(g + 280, &[0x40_1000]);
        self.put(pointer + 64, holds);
        if let Does::Receives(object) | Does::Locks(object) = does {
            let sudog = SUDOGS + self.sudogs * 96;
            self.sudogs += 1;
            self.put(sudog, &[g]);
            if let Does::Receives(_) = does {
                self.put(sudog + 80, &[object]);
                self.put(g + 320, &[sudog]);
                self.put(object + 48, &[sudog, sudog]);
            } else {
                self.put(sudog + 24, &[object]);
                self.put(pointer + 8, &[sudog]);
            }
            self.put(pointer + 32, &[object]);
        }
        self.put(LIST, &[self.goroutines]);
        self.put(LIST + 0x100 + number * 8, &[g]);
        100 + number
    }

    fn memory(&self) -> Fake {
        self.ranges.iter().fold(Fake::new(), |fake, (&start, words)| fake.with_words(start, words))
    }

    fn prove(&self) -> Result<Proof, ProveError> {
        prove(&self.memory(), &Quiet, Options::default())
    }

    /// How many are proven, by fewer passes.
    fn briefly(&self) -> Result<usize, ProveError> {
        let options = Options { passes: 3, fewest: 2, ..Options::default() };
        prove(&self.memory(), &Quiet, options).map(|proof| proof.proven.len())
    }

    fn proven(&self) -> Vec<u64> {
        self.prove().expect("a proof").proven.iter().map(|task| task.id).collect()
    }
}

fn heap() -> GoHeap {
    let (layout, heap) = layout();
    let runtime = GoRuntime {
        layout,
        allglen: LIST,
        allgptr: LIST + 8,
        sched: None,
        wait_reasons: REASONS.iter().map(|reason| (*reason).to_owned()).collect(),
    };
    GoHeap { runtime, layout: heap, mheap: MHEAP, allp: ALLP, profile_special: Some(3) }
}

/// Surroundings in which nothing is known of the threads.
struct Quiet;

impl Surroundings for Quiet {
    fn written(&self) -> Result<Vec<Range<u64>>, String> {
        Ok(std::iter::once(DATA..DATA + 0x1000).collect())
    }

    fn activity(&self) -> Option<Activity> {
        None
    }

    fn resident_bytes(&self) -> u64 {
        1 << 20
    }
}

fn prove(memory: &impl Memory, around: &impl Surroundings, options: Options) -> Result<Proof, ProveError> {
    let time = Cell::new(0);
    let mut prover = Prover::new(heap(), around, options);
    for _ in 0..1000 {
        let step = prover.step(memory, around, &mut || {
            time.set(time.get() + 1_000_000);
            time.get()
        })?;
        match step {
            Step::Done(proof) => return Ok(*proof),
            Step::Again { pause_ns } => time.set(time.get() + pause_ns),
        }
    }
    panic!("a proof has an end");
}

const A: u64 = OBJECTS;
const B: u64 = OBJECTS + 64 * 5;
const C: u64 = OBJECTS + 64 * 9;

#[test]
fn what_nobody_reaches_is_proven_and_explained() {
    let mut world = World::new();
    let leaked = world.goroutine(Does::Receives(A), &[]);
    world.goroutine(Does::Runs, &[]);
    let proof = world.prove().expect("a proof");
    assert_eq!(proof.proven.iter().map(|task| task.id).collect::<Vec<_>>(), [leaked]);
    assert_eq!((proof.goroutines, proof.candidates, proof.passes), (2, 1, 24));
    assert!(proof.confidence > 0.999_999 && proof.confidence < 1.0);
    let object = &proof.objects[0];
    assert_eq!((object.address, object.waiting, object.holders, object.all_holders), (A, 1, 1, true));
}

#[test]
fn every_way_to_it_counts() {
    // On the stack of one that runs, of one that waits for input; in data; behind two other objects; behind an inner address.
    for (who, holds, data) in [
        (Does::Runs, vec![A], vec![]),
        (Does::WaitsForInput, vec![A + 8], vec![]),
        (Does::Runs, vec![], vec![0, A]),
        (Does::Runs, vec![], vec![B]),
        (Does::Runs, vec![C + 63], vec![]),
    ] {
        let mut world = World::new();
        world.goroutine(Does::Receives(A), &[]);
        world.goroutine(who, &holds);
        world.put(B + 16, &[C]);
        world.put(C + 8, &[A]);
        world.put(DATA + 256, &data);
        assert_eq!(world.proven(), [0_u64; 0], "{who:?} {holds:x?} {data:x?}");
    }
}

#[test]
fn who_is_stuck_wakes_nobody_and_who_is_not_does() {
    let mut world = World::new();
    let first = world.goroutine(Does::Receives(A), &[B, C]);
    let second = world.goroutine(Does::Receives(B), &[]);
    let third = world.goroutine(Does::Locks(C + 8), &[A]);
    assert_eq!(world.proven(), [first, second, third]);
    let proof = world.prove().expect("a proof");
    assert!(proof.objects.iter().any(|object| object.address == B && object.holders == 2));
    // One that runs holds A: the first wakes, and then the others.
    world.goroutine(Does::Runs, &[A]);
    assert_eq!(world.proven(), [0_u64; 0]);
}

#[test]
fn nothing_ends_a_wait_for_ever_but_main_may() {
    let mut world = World::new();
    let stuck = world.goroutine(Does::WaitsForEver, &[]);
    let main = STRUCTS + 512;
    world.goroutine(Does::WaitsForEver, &[]);
    world.put(main + 152, &[1]);
    assert_eq!(world.proven(), [stuck]);
}

#[test]
fn an_object_outside_of_the_heap_is_in_reach() {
    let mut world = World::new();
    world.goroutine(Does::Locks(DATA + 64), &[]);
    assert_eq!(world.proven(), [0_u64; 0]);
}

#[test]
fn what_has_a_special_is_in_reach() {
    let mut world = World::new();
    world.goroutine(Does::Receives(A), &[]);
    world.put(B + 8, &[A]);
    world.put(SPANS + 2 * 160 + 128, &[SPECIALS]);
    world.put(SPECIALS, &[0, B - OBJECTS, 2]);
    assert_eq!(world.proven(), [0_u64; 0]);
    // A list that bites its own tail, one that leads nowhere, one with an object that is not there.
    for list in [[SPECIALS, 0, 2], [0xdead_0000, 0, 2], [0, 1 << 60, 2]] {
        world.put(SPECIALS, &list);
        assert_eq!(world.proven(), [0_u64; 0]);
    }
}

#[test]
fn what_only_the_profiler_noted_is_in_nobody_s_reach() {
    let mut world = World::new();
    let leaked = world.goroutine(Does::Receives(A), &[]);
    world.put(SPANS + 2 * 160 + 128, &[SPECIALS]);
    world.put(SPECIALS, &[0, A - OBJECTS, 3]);
    assert_eq!(world.proven(), [leaked]);
    // A finalizer behind it counts.
    world.put(SPECIALS, &[SPECIALS + 64, A - OBJECTS, 3]);
    world.put(SPECIALS + 64, &[0, A - OBJECTS, 1]);
    assert_eq!(world.proven(), [0_u64; 0]);
}

/// The collector's own records in a P and beyond lead nowhere; the rest of the P does.
#[test]
fn what_the_collector_keeps_is_in_nobody_s_hands() {
    // A P behind the word with its type, as an object of its own.
    let ring = 0x66_0000;
    let with = |p: u64, changes: &[(u64, u64)]| {
        let mut world = World::new();
        world.ranges.insert(ring, vec![0; 512]);
        let leaked = world.goroutine(Does::Receives(A), &[]);
        world.put(LIST + 0x1000 + 32, &[SPANS + 4 * 160]);
        world.put(SPANS + 4 * 160 + 24, &[ARENA + 0x1_8000, 1]);
        world.put(SPANS + 4 * 160 + 96, &[1 << 24, 0x2000]);
        world.put(MHEAP + 24, &[5]);
        world.ranges.insert(ARENA + 0x1_8000, vec![0; 0x400]);
        world.put(ALLP + 0x100, &[p]);
        world.put(DATA, &[p]);
        // The shared queue: its only part, with a ring of 8 words.
        world.put(p + 0x478, &[DATA + 512]);
        world.put(DATA + 512, &[0, 0, 0, 0, 0, 8, ring]);
        for &(address, value) in changes {
            world.put(address, &[value]);
        }
        let around = Written(vec![DATA..DATA + 0x1000, ring..ring + 0x1000]);
        let proof = prove(&world.memory(), &around, Options::default()).expect("a proof");
        assert!(proof.proven.iter().all(|task| task.id == leaked));
        !proof.proven.is_empty()
    };
    for p in [ARENA + 0x1_8000, ARENA + 0x1_8008] {
        assert!(with(p, &[(p + 0x400, A), (p + 0x4f8, A), (ring, A), (ring + 56, A + 1)]), "{p:x}");
        assert!(!with(p, &[(p + 0x300, A)]) && !with(p, &[(p + 0x500, A)]), "beside it: {p:x}");
        assert!(!with(p, &[(ring + 64, A)]), "behind the ring");
        assert!(!with(p, &[(ring, A), (ring + 8, 77)]), "it has what no ring has");
    }
    // What is no P may be anything: here it ends beyond its object.
    let p = ARENA + 0x1_8010;
    assert!(!with(p, &[(p + 0x400, A)]));
}

/// Memory outside of the heap that was written to.
struct Written(Vec<Range<u64>>);

impl Surroundings for Written {
    fn written(&self) -> Result<Vec<Range<u64>>, String> {
        Ok(self.0.clone())
    }

    fn activity(&self) -> Option<Activity> {
        None
    }

    fn resident_bytes(&self) -> u64 {
        1 << 20
    }
}

#[test]
fn it_is_told_why_nobody_is_proven() {
    let mut world = World::new();
    let first = world.goroutine(Does::Receives(A), &[B]);
    let second = world.goroutine(Does::Locks(B + 8), &[]);
    let alive = world.goroutine(Does::Runs, &[C]);
    world.put(C + 16, &[A]);
    let memory = world.memory();
    let mut prover = Prover::new(heap(), &Quiet, Options::default());
    prover.trace();
    let mut time = 0;
    let mut clock = || {
        time += 1;
        time
    };
    drop(prover.step(&memory, &Quiet, &mut clock).expect("a pass"));
    let why = |id| prover.why(id).expect("it was noted");
    assert_eq!((why(alive).fate, why(999).fate), (Fate::Alive, Fate::Gone));
    let pointer = STACKS + STACK - 512;
    let to_c =
        Link::Stack { at: pointer + 2 * STACK + 64, goroutine: alive, depth: STACK - 448, waits: false };
    let of_first = [
        Link::Awaits { goroutine: first, address: A },
        Link::Object { base: A, size: 64 },
        Link::Word { at: C + 16 },
        Link::Object { base: C, size: 64 },
        to_c,
    ];
    assert_eq!((why(first).fate, why(first).chain), (Fate::Reached, of_first.to_vec()));
    let of_second = why(second);
    assert_eq!(
        of_second.chain[..3],
        [
            Link::Awaits { goroutine: second, address: B + 8 },
            Link::Object { base: B, size: 64 },
            Link::Stack { at: pointer + 64, goroutine: first, depth: 64, waits: true },
        ]
    );
    assert_eq!(of_second.chain[3..], of_first, "and so on to what is alive");
}

#[test]
fn a_goroutine_that_cannot_be_made_out_is_in_reach() {
    let mut world = World::new();
    world.goroutine(Does::Receives(A), &[]);
    // Its sudog is another's.
    world.put(SUDOGS, &[STRUCTS + 512]);
    assert_eq!(world.proven(), [0_u64; 0]);
    // A select whose list of cases is a ring.
    world.put(SUDOGS, &[STRUCTS]);
    world.put(SUDOGS + 64, &[SUDOGS]);
    assert_eq!(world.proven(), [0_u64; 0]);
}

#[test]
fn memory_that_cannot_be_read_accuses_nobody() {
    for missing in [STACKS, OBJECTS] {
        let mut world = World::new();
        world.goroutine(Does::Receives(A), &[]);
        world.goroutine(Does::Runs, &[C]);
        world.ranges.remove(&missing);
        let proof = world.prove().expect("a proof");
        assert!(proof.proven.is_empty(), "{missing:x}");
        assert!(proof.passes == 0 && proof.void > 0 && !proof.problems.is_empty(), "{proof:?}");
    }
}

#[test]
fn a_goroutine_that_runs_without_a_break_may_have_anything_in_registers() {
    let mut world = World::new();
    world.goroutine(Does::Receives(A), &[]);
    world.goroutine(Does::Runs, &[]);
    let (p, m) = (ALLP + 0x1000, ALLP + 0x1800);
    world.put(p + 48, &[m]);
    world.put(m, &[STRUCTS + 512]);
    world.put(m + 184, &[STRUCTS + 512]);
    let proof = world.prove().expect("a proof");
    assert!(proof.proven.is_empty());
    assert!(proof.problems[0].contains("without a break"), "{:?}", proof.problems);
}

#[test]
fn the_judge_sees_who_runs_again() {
    let mut world = World::new();
    world.goroutine(Does::Receives(A), &[]);
    let proven = world.prove().expect("a proof").proven;
    assert_eq!(refutations(&heap(), &world.memory(), &proven), []);
    let story = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        world.goroutine(Does::Receives(A), &[]);
        change(&mut world);
        refutations(&heap(), &world.memory(), &proven).pop().map(|refutation| refutation.story)
    };
    assert_eq!(story(&|world| world.put(STRUCTS + 144, &[6])).as_deref(), Some("it ended"));
    assert!(
        story(&|world| world.put(STRUCTS + 152, &[7])).is_some_and(|story| story.contains("goroutine 7"))
    );
    assert_eq!(story(&|world| world.put(STRUCTS + 144, &[2])).as_deref(), Some("it does not wait any more"));
    // trackingSeq is byte 191: the highest byte of the word at 184.
    assert_eq!(
        story(&|world| world.put(STRUCTS + 184, &[1 << 56])).as_deref(),
        Some("it ran, and waits again")
    );
}

/// Tables that no runtime has: each is an error, or accuses nobody.
#[test]
fn nonsense_is_an_error_and_never_an_accusation() {
    let mspan = SPANS + 2 * 160;
    for (address, value) in [
        (MHEAP + 24, 1 << 60),
        (MHEAP + 24, 0),
        (MHEAP + 16, 0xdead_0000),
        (MHEAP + 16, 3),
        (mspan + 24, 0),
        (mspan + 24, ARENA + 12),
        (mspan + 24, 1 << 60),
        (mspan + 24, STRUCTS),
        (mspan + 24, 0x1000_0000_0000),
        (mspan + 32, 1 << 60),
        (mspan + 32, 1 << 40),
        (mspan + 32, 1 << 20),
        (mspan + 32, 0),
        (mspan + 96, 7 << 24),
        (mspan + 104, 0),
        (mspan + 104, 1),
        (mspan + 104, 1 << 60),
        (LIST + 0x1010, 0xdead_0000),
        (LIST, 1 << 60),
        (LIST + 8, 0xdead_0000),
        (LIST + 0x100, 0xdead_0000),
        (STRUCTS + 8, 1 << 60),
        (STRUCTS + 144, 77),
        (STRUCTS + 56, 8),
        (ALLP + 8, 1 << 60),
        (ALLP + 8, 0),
        (ALLP, 0xdead_0000),
    ] {
        let mut world = World::new();
        world.goroutine(Does::Receives(A), &[]);
        world.goroutine(Does::Runs, &[B]);
        world.put(B, &[A]);
        world.put(address, &[value]);
        let proven = world.briefly();
        assert!(matches!(proven, Err(_) | Ok(0)), "{address:x} = {value:x}: {proven:?}");
    }
}

#[test]
fn overlapping_spans_are_found_out_in_time() {
    let mut world = World::new();
    world.goroutine(Does::Receives(A), &[]);
    // Ten thousand spans that all claim the same gigabyte.
    let mut list = vec![SPANS; 10_000];
    list[1] = SPANS + 160;
    world.put(SPANS + 24, &[ARENA, 1 << 17]);
    world.ranges.insert(0x7000_0000, list);
    world.put(MHEAP + 16, &[0x7000_0000, 10_000]);
    assert!(matches!(world.briefly(), Err(_) | Ok(0)));
}

/// Who is reachable in a graph: the model that proofs are compared with.
fn model(stuck: &[(usize, Vec<usize>)], edges: &[(usize, usize)], roots: &[usize]) -> Vec<usize> {
    let mut reached: Vec<usize> = roots.to_vec();
    let mut woken = vec![false; stuck.len()];
    loop {
        let before = reached.len();
        for &(from, to) in edges {
            if reached.contains(&from) && !reached.contains(&to) {
                reached.push(to);
            }
        }
        for (number, (on, holds)) in stuck.iter().enumerate() {
            if !woken[number] && reached.contains(on) {
                woken[number] = true;
                for object in holds {
                    if !reached.contains(object) {
                        reached.push(*object);
                    }
                }
            }
        }
        if reached.len() == before
            && stuck.iter().zip(&woken).all(|((on, _), woken)| *woken || !reached.contains(on))
        {
            return (0..stuck.len()).filter(|&number| !woken[number]).collect();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// On memory that holds still a proof says exactly what the graph says.
    #[test]
    fn proofs_say_what_the_graph_says(
        stuck in proptest::collection::vec((0..12_usize, proptest::collection::vec(0..24_usize, 0..4)), 1..8),
        edges in proptest::collection::vec((12..24_usize, 0..24_usize), 0..30),
        roots in proptest::collection::vec(0..24_usize, 0..4),
        data in any::<bool>(),
    ) {
        let object = |number: usize| OBJECTS + number as u64 * 128;
        let mut world = World::new();
        // An object of 128 bytes in the model is two of 64 in memory; edges leave its second half from slots of their own.
        world.put(SPANS + 2 * 160 + 104, &[128]);
        for (on, holds) in &stuck {
            let holds: Vec<u64> = holds.iter().map(|&held| object(held) + 24).collect();
            let sudogs = world.sudogs;
            world.goroutine(Does::Receives(object(*on)), &holds);
            // Several may wait for one: its queue is a list.
            world.put(SUDOGS + sudogs * 96 + 8, &[0]);
        }
        let mut used = [0_u64; 24];
        let mut kept = Vec::new();
        for &(from, to) in &edges {
            if used[from] < 14 {
                world.put(object(from) + used[from] * 8, &[object(to)]);
                used[from] += 1;
                kept.push((from, to));
            }
        }
        let held: Vec<u64> = roots.iter().map(|&root| object(root)).collect();
        if data {
            world.put(DATA + 80, &held);
            world.goroutine(Does::Runs, &[]);
        } else {
            world.goroutine(Does::Runs, &held);
        }
        let expected: Vec<u64> = model(&stuck, &kept, &roots).into_iter().map(|number| 100 + number as u64).collect();
        prop_assert_eq!(world.proven(), expected);
    }

    /// Whatever the tables say: an end, no panic, and no more than the goroutines that wait.
    #[test]
    fn any_bytes_in_the_tables_come_to_an_end(changes in proptest::collection::vec((0..6_usize, 0..64_u64, any::<u64>()), 1..6)) {
        let mut world = World::new();
        world.goroutine(Does::Receives(A), &[]);
        world.goroutine(Does::Locks(B), &[A]);
        world.goroutine(Does::Runs, &[C]);
        for (table, word, value) in changes {
            let start = [SPANS, MHEAP, LIST, ALLP + 0x1000, STRUCTS, SUDOGS][table];
            world.put(start + word * 8, &[value]);
        }
        if let Ok(proven) = world.briefly() {
            prop_assert!(proven <= 2);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A word is passed over at a glance only where everything is marked: whatever was marked, forgotten and made anew.
    #[test]
    fn nothing_unmarked_is_passed_over(
        size in proptest::sample::select(vec![64_u64, 512, 2048, 4096, 8192]),
        steps in proptest::collection::vec((0..12_u8, 0..0x4000_u64), 1..60),
    ) {
        let mut world = World::new();
        world.put(SPANS + 2 * 160 + 104, &[size]);
        let layout = layout().1;
        let (mut spans, mut marks) = (Spans::new(1 << 30), Marks::default());
        spans.refresh(&world.memory(), &layout, MHEAP).expect("spans");
        marks.begin(&mut spans);
        for (step, offset) in steps {
            match step {
                0 => {
                    marks.clear(&mut spans);
                    marks.begin(&mut spans);
                }
                1 => {
                    // The span is cut anew.
                    let other = if offset % 2 == 0 { 128 } else { size };
                    world.put(SPANS + 2 * 160 + 104, &[other]);
                    spans.refresh(&world.memory(), &layout, MHEAP).expect("spans");
                    marks.grow(&spans);
                }
                _ => marks.scan(&mut spans, DATA, &(STRUCTS + offset).to_le_bytes()),
            }
            for address in (STRUCTS..STRUCTS + 0x6000).step_by(64) {
                if spans.object(address).is_some() && !marks.is_marked(&spans, address) {
                    prop_assert!(spans.find_unmarked(address).is_some(), "{address:x}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// However the tables are damaged, also to look like something: a goroutine whose channel is named by the program's own data is
    /// never accused, and there is an end in bounded time and memory.
    #[test]
    fn damaged_tables_accuse_nobody(
        changes in proptest::collection::vec((0..8_usize, 0..96_u64, 0..14_usize, any::<u64>()), 1..8),
    ) {
        let mut world = World::new();
        let waits = world.goroutine(Does::Receives(A), &[]);
        world.goroutine(Does::Runs, &[C]);
        world.put(DATA + 24, &[A]);
        for (table, word, kind, random) in changes {
            let start = [SPANS, SPANS + 2 * 160, MHEAP, LIST, LIST + 0x1000, ALLP, SPECIALS, SPANS + 160][table];
            let value = match kind {
                0 => 1 << 60,
                1 => u64::MAX,
                2 => 0,
                3 => A,
                4 => DATA,
                5 => DATA + random % 32 * 8,
                6 => SPANS + random % 8 * 160,
                7 => ARENA + random % 32 * 0x2000,
                8 => start + random % 16 * 8,
                9 => random % 0x4000,
                10 => 1 << (random % 64),
                11 => DATA.wrapping_sub(random % 160),
                12 => OBJECTS + random % 0x2000,
                _ => random,
            };
            world.put(start + word % 64 * 8, &[value]);
        }
        let options = Options { passes: 3, fewest: 2, ..Options::default() };
        if let Ok(proof) = prove(&world.memory(), &Quiet, options) {
            prop_assert!(proof.proven.iter().all(|task| task.id != waits), "{:?}", proof.proven);
            prop_assert!(proof.own_bytes < 64 << 20, "{}", proof.own_bytes);
        }
    }
}

#[test]
fn the_world_is_what_it_seems() {
    let mut world = World::new();
    world.goroutine(Does::Receives(A), &[]);
    assert_eq!(world.get(A + 48), SUDOGS);
    let mut spans = Spans::new(1 << 30);
    let refreshed = spans.refresh(&world.memory(), &layout().1, MHEAP).expect("spans");
    assert_eq!((refreshed.new.len(), refreshed.unsettled), (3, 0));
    assert_eq!(spans.object(A + 70), Some((2, 1, A + 64)));
    assert_eq!(spans.object(STACKS), None);
    assert!(spans.in_arena(STACKS) && !spans.in_arena(DATA));
    let again = spans.refresh(&world.memory(), &layout().1, MHEAP).expect("spans");
    assert_eq!(again.new.len(), 0, "nothing changed");
}
