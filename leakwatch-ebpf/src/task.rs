//! Starts and ends of tasks.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user},
    programs::ProbeContext,
};
use aya_log_ebpf::debug;
use leakwatch_common::{
    AT_TASK, Action, Counter, EventKind, EventRecord, INSTRUCTION_POINTER, LiveKey, LiveState, LiveValue,
    Note, ProbeDescriptor, ProcessSlot, Register, SiteCounters, SiteKey, TaskSource, UserRegisters, fact,
    lifetime_bucket, limits, process_flags, task_source, unpack_cookie,
};

use crate::{
    counters::{Row, increment},
    creation,
    maps::{DESCRIPTORS, LIVE, NOTES, SITE_ZERO, SITES},
    processes, registers,
    ring::{self, Urgency},
};

/// One hit of a probe: whose it is and what it tells.
pub(crate) struct Hit {
    pub(crate) row: Row,
    pub(crate) slot: ProcessSlot,
    pub(crate) runtime: u16,
    pub(crate) now: u64,
    pub(crate) task: u64,
}

/// Site and entry function of a task; 0 is unknown.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) site: u64,
    pub(crate) entry: u64,
}

/// The uprobe program.
#[inline(always)]
pub(crate) fn on_probe(ctx: &ProbeContext) {
    // SAFETY: a plain helper call on our own context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let (index, slot) = unpack_cookie(cookie);
    // A probe that is attached to one process fires in that one alone (kernel/trace/trace_uprobe.c,
    // uprobe_perf_filter); one that is attached to a file fires in processes that nobody asked for, too.
    let Some((row, slot)) = (if slot == 0 { processes::current() } else { processes::of_slot(slot) }) else {
        return;
    };
    if slot.flags & process_flags::COUNTING == 0 {
        row.add(Counter::ProbeHits);
        return;
    }
    let Some(descriptor) = DESCRIPTORS.get(index) else {
        row.add(Counter::DescriptorMissing);
        return;
    };
    let task = match task_of(ctx, descriptor) {
        Ok(task) => task,
        // The counters are constants here: the verifier must see that they are within the row.
        Err(NoTask::Unreadable) => {
            row.add(Counter::TaskUnreadable);
            debug!(ctx, "the task pointer at cookie {:x} cannot be read", cookie);
            return;
        }
        Err(NoTask::Refused) => {
            row.add(Counter::NotATask);
            return;
        }
    };
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    let hit = Hit { row, slot, runtime: descriptor.runtime, now, task };
    if descriptor.action == Action::Start as u8 || descriptor.action == Action::StartTraced as u8 {
        on_start(ctx, &hit, descriptor);
    } else if descriptor.action == Action::End as u8 || descriptor.action == Action::EndFreed as u8 {
        on_end(ctx, &hit, descriptor);
    } else if descriptor.action == Action::Note as u8 {
        on_note(ctx, &hit, descriptor);
    } else {
        row.add(Counter::DescriptorMissing);
    }
}

#[inline(always)]
fn on_start(ctx: &ProbeContext, hit: &Hit, descriptor: &ProbeDescriptor) {
    let facts = read_facts(ctx, hit, descriptor);
    hit.row.add(Counter::Started);
    let started = count_start(hit, facts);
    if descriptor.action == Action::StartTraced as u8 && is_sample(started) {
        send_stack(ctx, hit, facts, started);
    }
    if hit.slot.flags & process_flags::LIVE_TABLE != 0 {
        let value = LiveValue {
            born_ns: hit.now,
            site: facts.site,
            entry: facts.entry,
            state: LiveState::Started as u64,
        };
        put_live(hit, &value);
    }
    if hit.slot.flags & process_flags::STREAM != 0 {
        ring::send(hit.row, record(hit, EventKind::TaskStart, facts, 0), Urgency::Stream);
    }
}

#[inline(always)]
fn on_end(ctx: &ProbeContext, hit: &Hit, descriptor: &ProbeDescriptor) {
    hit.row.add(Counter::Ended);
    let life = bury(hit, descriptor.action == Action::EndFreed as u8);
    let (born_ns, facts) = life.unwrap_or_else(|| (0, read_facts(ctx, hit, descriptor)));
    let census = hit.slot.flags & process_flags::CENSUS != 0;
    let before_seen = life.is_none() && census;
    if before_seen {
        hit.row.add(Counter::EndedBeforeSeen);
    } else if life.is_none() {
        hit.row.add(Counter::EndWithoutStart);
    }
    count_end(hit, facts, born_ns, before_seen);
    if hit.slot.flags & process_flags::STREAM != 0 {
        ring::send(hit.row, record(hit, EventKind::TaskEnd, facts, born_ns), Urgency::Stream);
    }
}

/// Counts a start to its site; how many there are now, about.
#[inline(always)]
pub(crate) fn count_start(hit: &Hit, facts: Facts) -> u64 {
    let Some(site) = site_counters(hit, facts) else { return 0 };
    // SAFETY: a field of a live map value.
    increment(unsafe { &raw mut (*site).started });
    // SAFETY: as above.
    unsafe { (*site).started }
}

/// Is the stack of a site's start with this number wanted? Powers of two, so that a rare one is seen, and one of many.
#[inline(always)]
const fn is_sample(started: u64) -> bool {
    started & started.wrapping_sub(1) == 0 || started & (limits::TASK_STACK_EVERY - 1) == 0
}

/// Sends the stack on which a task was started, unless there were enough in this second. Not inlined: few starts come
/// here, and the others are faster without it in their way.
#[inline(never)]
fn send_stack(ctx: &ProbeContext, hit: &Hit, facts: Facts, started: u64) {
    let first = started <= limits::FIRST_TASKS;
    let budget = if first { creation::Budget::FirstTasks } else { creation::Budget::Tasks };
    if !creation::within_budget(hit.slot.slot, budget, hit.now) {
        return;
    }
    let register = |number: Register| registers::read(ctx, number as u8).unwrap_or(0);
    let user = UserRegisters {
        rip: registers::read(ctx, INSTRUCTION_POINTER).unwrap_or(0),
        rsp: register(Register::Rsp),
        rbp: register(Register::Rbp),
        rbx: register(Register::Rbx),
        r12: register(Register::R12),
        r13: register(Register::R13),
        r14: register(Register::R14),
        r15: register(Register::R15),
        rdi: register(Register::Rdi),
    };
    // A sample that does not fit is no loss.
    let _sent = creation::send(hit.row, &record(hit, EventKind::TaskStart, facts, 0), &user, false);
}

/// Counts an end to its site. `born_ns` 0: its birth was not seen. `before_seen`: see
/// [`Counter::EndedBeforeSeen`].
#[inline(always)]
pub(crate) fn count_end(hit: &Hit, facts: Facts, born_ns: u64, before_seen: bool) {
    if let Some(site) = site_counters(hit, facts) {
        // SAFETY: a field of a live map value.
        increment(unsafe { &raw mut (*site).ended });
        if before_seen {
            // SAFETY: as above.
            increment(unsafe { &raw mut (*site).ended_before_seen });
        }
        if born_ns != 0 {
            let bucket = lifetime_bucket(hit.now.saturating_sub(born_ns));
            // SAFETY: the bucket is below LIFETIME_BUCKETS.
            increment(unsafe {
                &raw mut (*site).lifetimes[bucket & (leakwatch_common::LIFETIME_BUCKETS - 1)]
            });
        }
    }
}

/// Takes an ended task out of the live table; its birth and facts, where the table had it.
#[inline(always)]
pub(crate) fn bury(hit: &Hit, freed: bool) -> Option<(u64, Facts)> {
    let key = live_key(hit);
    let tombstone = LiveState::Tombstone as u64;
    let Some(entry) = LIVE.get_ptr_mut(&key) else {
        if hit.slot.flags & process_flags::CENSUS != 0 {
            // The census may have read this task as alive a moment ago; the tombstone says better.
            let value = LiveValue { born_ns: 0, site: 0, entry: 0, state: tombstone };
            if LIVE.insert(&key, &value, u64::from(BPF_ANY)).is_err() {
                hit.row.add(Counter::LiveTableFull);
            }
        }
        return None;
    };
    // SAFETY: a live map value. Only the start and the end of this one task write it, and the program orders those.
    let value = unsafe { *entry };
    if value.state == tombstone {
        return None;
    }
    if freed && hit.slot.flags & process_flags::CENSUS == 0 {
        // Gone already is as good as removed.
        let _gone = LIVE.remove(&key);
    } else {
        // SAFETY: as above.
        unsafe { (*entry).state = tombstone };
    }
    Some((value.born_ns, Facts { site: value.site, entry: value.entry }))
}

/// Puts a started task into the live table: over the tombstone of the address's last task where there is one.
#[inline(always)]
pub(crate) fn put_live(hit: &Hit, value: &LiveValue) {
    let key = live_key(hit);
    if let Some(entry) = LIVE.get_ptr_mut(&key) {
        // SAFETY: a live map value; see `bury`.
        let old = unsafe { *entry };
        // SAFETY: as above.
        unsafe { *entry = *value };
        if old.state == LiveState::Seen as u64 && hit.slot.flags & process_flags::CENSUS != 0 {
            // Its end passed the probe before counting began, and the census read it before it took effect.
            if let Some(site) = site_counters(hit, Facts { site: old.site, entry: old.entry }) {
                // SAFETY: a field of a live map value.
                increment(unsafe { &raw mut (*site).seen_in_vain });
            }
        } else if old.state != LiveState::Tombstone as u64 {
            hit.row.add(Counter::StartWithoutEnd);
        }
    } else if LIVE.insert(&key, value, u64::from(BPF_ANY)).is_err() {
        hit.row.add(Counter::LiveTableFull);
    }
}

/// Keeps what is known here for the point that this thread passes next.
#[inline(always)]
fn on_note(ctx: &ProbeContext, hit: &Hit, descriptor: &ProbeDescriptor) {
    let facts = read_facts(ctx, hit, descriptor);
    let note = Note { task: hit.task, site: facts.site, entry: facts.entry };
    hit.row.add(Counter::Noted);
    // What cannot be kept is missed, and counted, at the point that asks for it.
    let _lost = NOTES.insert(bpf_get_current_pid_tgid(), note, u64::from(BPF_ANY));
}

/// A thread's note.
#[inline(always)]
fn note_of(thread: u64) -> Option<Note> {
    // SAFETY: copied out at once; only this thread writes it.
    unsafe { NOTES.get(&thread) }.copied()
}

/// Why a hit is of no task.
#[derive(Clone, Copy)]
enum NoTask {
    /// It could not be read.
    Unreadable,
    /// The descriptor says that such a value is none.
    Refused,
}

/// The task, or why there is none.
#[inline(always)]
fn task_of(ctx: &ProbeContext, descriptor: &ProbeDescriptor) -> Result<u64, NoTask> {
    let register = registers::read(ctx, descriptor.task_register).ok_or(NoTask::Unreadable)?;
    if descriptor.task_source == TaskSource::Register as u8 {
        return Ok(register);
    }
    named_task(register, descriptor)
}

/// As [`task_of`], for all that a user-named point may ask for.
#[inline(never)]
fn named_task(register: u64, descriptor: &ProbeDescriptor) -> Result<u64, NoTask> {
    let source = descriptor.task_source;
    let mut value = register;
    if source & task_source::NOTED_TASK != 0 {
        // The return value says whether the call made anything; the argument that it was noted for says what.
        if register as u32 != 0 {
            return Err(NoTask::Refused);
        }
        value = note_of(bpf_get_current_pid_tgid()).ok_or(NoTask::Unreadable)?.task;
    }
    if source & task_source::MEMORY != 0 {
        let address = value.wrapping_add_signed(i64::from(descriptor.task_offset));
        // SAFETY: the helper checks the address and fails instead of faulting.
        value = unsafe { bpf_probe_read_user(address as *const u64) }.map_err(|_| NoTask::Unreadable)?;
    } else {
        value = value.wrapping_add_signed(i64::from(descriptor.task_offset));
    }
    let signed = if source & task_source::HALF == 0 {
        value as i64
    } else {
        value &= u64::from(u32::MAX);
        i64::from(value as i32)
    };
    let refused = (source & task_source::NOT_ZERO != 0 && signed == 0)
        || (source & task_source::NOT_MINUS_ONE != 0 && signed == -1)
        || (source & task_source::NOT_NEGATIVE != 0 && signed < 0);
    if refused { Err(NoTask::Refused) } else { Ok(value) }
}

/// The task's site and entry, from registers and from the program's memory; what is not readable is counted.
#[inline(always)]
fn read_facts(ctx: &ProbeContext, hit: &Hit, descriptor: &ProbeDescriptor) -> Facts {
    if descriptor.task_source & task_source::NOTED_FACTS != 0 {
        let thread = bpf_get_current_pid_tgid();
        let note = note_of(thread);
        if note.is_none() {
            hit.row.add(Counter::FactsUnreadable);
        }
        // It is used once.
        let _gone = NOTES.remove(&thread);
        let note = note.unwrap_or_default();
        return Facts { site: note.site, entry: note.entry };
    }
    let mut words = [0; fact::WORDS];
    if is_word(descriptor.site) || is_word(descriptor.entry) {
        let base = if descriptor.facts_register == AT_TASK {
            hit.task
        } else {
            registers::read(ctx, descriptor.facts_register).unwrap_or(0)
        };
        let address = base.wrapping_add_signed(i64::from(descriptor.facts_offset));
        // SAFETY: the helper checks the address and fails instead of faulting.
        match unsafe { bpf_probe_read_user(address as *const [u64; fact::WORDS]) } {
            Ok(read) => words = read,
            Err(_) => {
                hit.row.add(Counter::FactsUnreadable);
                debug!(ctx, "the facts at {:x} of task {:x} cannot be read", address, hit.task);
            }
        }
    }
    Facts { site: pick(ctx, &words, descriptor.site), entry: pick(ctx, &words, descriptor.entry) }
}

#[inline(always)]
const fn is_word(which: u8) -> bool {
    (which as usize) < fact::WORDS
}

#[inline(always)]
fn pick(ctx: &ProbeContext, words: &[u64; fact::WORDS], which: u8) -> u64 {
    match which {
        0 => words[0],
        1 => words[1],
        2 => words[2],
        fact::NONE => 0,
        register => registers::read(ctx, register.wrapping_sub(fact::REGISTER)).unwrap_or(0),
    }
}

/// The counters of the hit's site, made on first use; `None` is counted.
#[inline(always)]
fn site_counters(hit: &Hit, facts: Facts) -> Option<*mut SiteCounters> {
    let key = SiteKey {
        site: facts.site,
        entry: facts.entry,
        process: hit.slot.incarnation,
        runtime: u32::from(hit.runtime),
    };
    if let Some(site) = SITES.get_ptr_mut(&key) {
        return Some(site);
    }
    if let Some(zero) = SITE_ZERO.get(0) {
        // Another CPU may make it first: then the insert fails and the look-up below finds theirs.
        let _lost_race = SITES.insert(&key, zero, u64::from(BPF_NOEXIST));
    }
    let site = SITES.get_ptr_mut(&key);
    if site.is_none() {
        hit.row.add(Counter::SiteTableFull);
    }
    site
}

#[inline(always)]
fn live_key(hit: &Hit) -> LiveKey {
    LiveKey { task: hit.task, process: hit.slot.incarnation, runtime: u32::from(hit.runtime) }
}

#[inline(always)]
fn record(hit: &Hit, kind: EventKind, facts: Facts, extra: u64) -> EventRecord {
    EventRecord {
        time_ns: hit.now,
        task: hit.task,
        site: facts.site,
        entry: facts.entry,
        extra,
        process: hit.slot.incarnation,
        kind: kind as u16,
        runtime: hit.runtime,
    }
}
