//! The frames of an interpreter, on the thread that runs it.
//!
//! Where they are is data ([`Interpreter`]). It must never take another thread's frames for this one's: the state that
//! was found is compared with the thread pointer of the thread that runs.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_user, generated::bpf_get_current_task};
use leakwatch_common::{Interpreter, MANAGED_FRAMES, ManagedFrames, NOT_INDIRECT, thread_site};

use crate::maps::{FRAMES, INTERPRETERS};

/// Spreads the words of frames over a hash: 2^64 over the golden ratio, made odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Reads the frames of the current thread into [`FRAMES`]; the number of that stack. `None`: the process has no
/// interpreter that is known, this thread is none of its threads, or its frames cannot be read. Not inlined: it is
/// verified once.
#[inline(never)]
pub(crate) fn read(process: u32) -> u64 {
    let Some(scratch) = FRAMES.get_ptr_mut(0) else { return thread_site::UNKNOWN };
    // SAFETY: a live map value of this CPU.
    let scratch = unsafe { &mut *scratch };
    scratch.count = 0;
    // SAFETY: the user side writes whole values, once for a process.
    let Some(layout) = (unsafe { INTERPRETERS.get(&process) }) else { return thread_site::UNKNOWN };
    walk(layout, scratch).unwrap_or(thread_site::UNKNOWN)
}

#[inline(always)]
fn walk(layout: &Interpreter, into: &mut ManagedFrames) -> Option<u64> {
    let mut frame = innermost(layout)?;
    let mut hash = 0;
    let mut index = 0;
    while index < MANAGED_FRAMES && frame != 0 {
        let code = word(frame, layout.code)?;
        let at = word(frame, layout.at)? & layout.at_mask;
        frame = word(frame, layout.previous)?;
        let place = &mut into.frames[index & (MANAGED_FRAMES - 1)];
        place.code = code;
        place.at = at;
        index += 1;
        hash = mixed(mixed(hash, code), at);
    }
    into.count = index as u64;
    (index > 0).then_some(thread_site::of_frames(hash))
}

/// The innermost frame of the thread that runs: its state is the one that holds the interpreter's lock, or else (around
/// `vfork`, CPython gives the lock back) that in a variable of its own.
#[inline(always)]
fn innermost(layout: &Interpreter) -> Option<u64> {
    // SAFETY: a plain helper call.
    let task = unsafe { bpf_get_current_task() };
    let thread_pointer = task.wrapping_add(u64::from(layout.thread_pointer));
    // SAFETY: the helper checks the address and fails instead of faulting.
    let thread_pointer = unsafe { bpf_probe_read_kernel(thread_pointer as *const u64) }.ok()?;
    let mut state = own(layout, thread_pointer, layout.current);
    if state.is_none() && layout.local != 0 {
        state = own(layout, thread_pointer, thread_pointer.wrapping_add(layout.local));
    }
    let state = state?;
    let frame = word(state, layout.frame)?;
    if layout.frame_in == NOT_INDIRECT { Some(frame) } else { word(frame, layout.frame_in) }
}

/// The state to which a word leads, if it is that of the thread that runs.
#[inline(always)]
fn own(layout: &Interpreter, thread_pointer: u64, place: u64) -> Option<u64> {
    let state = word(place, 0)?;
    (state != 0 && word(state, layout.thread_id)? == thread_pointer).then_some(state)
}

#[inline(always)]
fn mixed(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(SPREAD);
    mixed ^ (mixed >> 32)
}

/// A word of the program's memory.
#[inline(always)]
fn word(address: u64, offset: u32) -> Option<u64> {
    let place = address.wrapping_add(u64::from(offset));
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_user(place as *const u64) }.ok()
}
