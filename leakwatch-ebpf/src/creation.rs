//! Where something was made: recognised by its call chain, or sent as a copy of the stack.
//!
//! Works from any program that runs in the process's own context: it takes the user's registers as an argument. It must
//! never make a storm dearer than [`limits::STACKS_PER_SECOND`] copies, and never drop one without counting it.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_RB_FORCE_WAKEUP, pt_regs},
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel, bpf_probe_read_user,
        generated::{bpf_get_current_task_btf, bpf_probe_read_user as read_user, bpf_task_pt_regs},
    },
};
use leakwatch_common::{
    CHAIN_LINKS, ChainKey, ChainLink, Counter, EventRecord, ProcessSlot, STACK_PIECE, SentKey, StackRecord,
    UserRegisters, limits, thread_site,
};

use crate::{
    counters::{Row, increment},
    frames,
    maps::{CHAINS, EVENTS, FRAMES, SENT, STACK_BUDGETS},
};

/// Registers of the current thread as it entered the kernel; `None`: the kernel did not give them.
#[inline(always)]
pub(crate) fn registers() -> Option<UserRegisters> {
    // SAFETY: plain helper calls; the task is the one that runs.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) };
    // SAFETY: the helper checks the address and fails instead of faulting.
    let regs = unsafe { bpf_probe_read_kernel(regs as *const pt_regs) }.ok()?;
    Some(UserRegisters {
        rip: regs.rip,
        rsp: regs.rsp,
        rbp: regs.rbp,
        rbx: regs.rbx,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rdi: regs.rdi,
    })
}

/// Where something was made.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    /// As [`thread_site`] says: that of a known call chain, the number of an interpreter's stack, or the number of the
    /// stack that is to be sent.
    pub(crate) site: u64,
    /// The stack is to be sent ([`send`]).
    pub(crate) send: bool,
}

/// Finds out where something is made.
#[inline(always)]
pub(crate) fn site(row: Row, slot: ProcessSlot, registers: &UserRegisters, time_ns: u64, made: u32) -> Made {
    // Read always: the frames are sent with a stack, too.
    let frames = frames::read(slot.incarnation);
    let chain = by_chain(slot.incarnation, registers);
    if chain.site != thread_site::UNKNOWN && !chain.managed {
        return Made { site: chain.site, send: false };
    }
    if chain.managed {
        if frames == thread_site::UNKNOWN {
            row.add(Counter::FramesUnreadable);
            return Made { site: chain.site, send: false };
        }
        let key = SentKey { site: frames, process: u64::from(slot.incarnation) };
        if SENT.get_ptr(&key).is_some() {
            return Made { site: frames, send: false };
        }
    }
    let send = within_budget(slot.slot, Budget::Threads, time_ns);
    if !send {
        row.add(Counter::StacksSkipped);
    }
    // What an interpreter's stack means may be told by a later one that is equal. It is only taken for that of calls that
    // lead from the interpreter, so where this one does not, nobody will tell, as if there were no number.
    let site = if send && !chain.managed { thread_site::of_stack(time_ns, made) } else { frames };
    Made { site, send }
}

/// What a known chain says.
#[derive(Clone, Copy)]
struct Known {
    site: u64,
    managed: bool,
}

/// The first of the process's chains that the stack holds.
#[inline(always)]
fn by_chain(process: u32, registers: &UserRegisters) -> Known {
    let index = matching_chain(process, registers);
    // SAFETY: as in `matching_chain`.
    match unsafe { CHAINS.get(&ChainKey { process, index }) } {
        Some(chain) => Known { site: chain.site, managed: chain.managed != 0 },
        None => Known { site: thread_site::UNKNOWN, managed: false },
    }
}

/// Its index; that of none, where the stack holds none. Not inlined: it is verified once.
#[inline(never)]
fn matching_chain(process: u32, registers: &UserRegisters) -> u32 {
    let mut index = 0;
    while index < limits::CHAINS_PER_PROCESS {
        // SAFETY: the user side writes whole chains, and a torn one does not match or matches rightly.
        let Some(chain) = (unsafe { CHAINS.get(&ChainKey { process, index }) }) else { break };
        index += 1;
        if chain.rip != registers.rip {
            continue;
        }
        let mut matching = 0;
        while matching < CHAIN_LINKS as u64 && matching < chain.count {
            let link = &chain.links[matching as usize & (CHAIN_LINKS - 1)];
            if link.offset == ChainLink::IN_RDI {
                if link.address != registers.rdi {
                    break;
                }
                matching += 1;
                continue;
            }
            let place = registers.rsp.wrapping_add(link.offset);
            // SAFETY: the helper checks the address and fails instead of faulting.
            match unsafe { bpf_probe_read_user(place as *const u64) } {
                Ok(word) if word == link.address => matching += 1,
                _ => break,
            }
        }
        if matching == chain.count {
            return index - 1;
        }
    }
    limits::CHAINS_PER_PROCESS
}

/// What stacks are sent of; each has a budget of its own.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    /// Threads and child processes: each that is not sent is a loss.
    Threads,
    /// Tasks: samples.
    Tasks,
    /// A site's first tasks, so that a storm at one site does not hide another one. Counted with `Tasks`.
    FirstTasks,
}

/// One more stack may be sent in this second.
#[inline(always)]
pub(crate) fn within_budget(slot: u32, of: Budget, time_ns: u64) -> bool {
    let Some(budgets) = STACK_BUDGETS.get_ptr_mut(slot) else { return false };
    let (which, most) = match of {
        Budget::Threads => (0, limits::STACKS_PER_SECOND),
        Budget::Tasks => (1, limits::TASK_STACKS_PER_SECOND),
        Budget::FirstTasks => (1, limits::FIRST_TASK_STACKS_PER_SECOND),
    };
    // SAFETY: a place in a live map value.
    let budget = unsafe { &raw mut (*budgets)[which] };
    let second = time_ns / 1_000_000_000;
    // SAFETY: a live map value. Two CPUs at the turn of a second may send a stack too many.
    let [since, sent] = unsafe { *budget };
    if since != second {
        // SAFETY: as above.
        unsafe { *budget = [second, 1] };
        return true;
    }
    if sent >= most {
        return false;
    }
    // SAFETY: a word of a live map value.
    increment(unsafe { &raw mut (*budget)[1] });
    true
}

/// Sends the stack on which `event` happened, with the frames that [`site`] read if it did. `false`: the ring was full.
#[inline(always)]
pub(crate) fn send(row: Row, event: &EventRecord, registers: &UserRegisters, with_frames: bool) -> bool {
    let Some(mut entry) = EVENTS.reserve::<StackRecord>(0) else { return false };
    let record = entry.as_mut_ptr();
    let mut length = 0;
    while length < leakwatch_common::STACK_BYTES {
        // SAFETY: within the reserved record: `length` is below the stack's size, a multiple of the piece's.
        let into = unsafe { (&raw mut (*record).stack).cast::<u8>().add(length) };
        let from = registers.rsp.wrapping_add(length as u64) as *const core::ffi::c_void;
        // SAFETY: the helper checks the user's address; ours has room for a piece.
        if unsafe { read_user(into.cast(), STACK_PIECE as u32, from.cast()) } != 0 {
            break;
        }
        length += STACK_PIECE;
    }
    if length == 0 {
        row.add(Counter::StackUnreadable);
    }
    // SAFETY: every field but the stack is written, and of the stack `length` bytes are.
    unsafe {
        (&raw mut (*record).event).write(*event);
        (&raw mut (*record).registers).write(*registers);
        (&raw mut (*record).length).write(length as u32);
        (&raw mut (*record).thread).write(bpf_get_current_pid_tgid() as u32);
        match FRAMES.get_ptr(0) {
            Some(frames) if with_frames => (&raw mut (*record).managed).write(*frames),
            _ => (&raw mut (*record).managed.count).write(0),
        }
    }
    if with_frames && thread_site::is_frames(event.site) {
        let key = SentKey { site: event.site, process: u64::from(event.process) };
        // Where it cannot be remembered it is sent again.
        let _remembered = SENT.insert(&key, &0, u64::from(BPF_ANY));
    }
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    true
}
