//! leakwatch's kernel side: probes and tracepoints -> counters, live table, ring buffer.
//!
//! One uprobe program serves every runtime: the attach point's cookie names a descriptor that says what passing
//! the point means and where the task is. Authoritative state is in maps; the ring buffer only streams.
//!
//! It must never return silently when it could not do its work (it raises a named [`Counter`]), never write to
//! the watched program, and never trust a word read from it for anything but a key.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the macros make undocumented public twins of the entry points"
)]

mod counters;
mod creation;
mod frames;
mod maps;
mod processes;
mod registers;
mod ring;
mod sched;
mod task;

use aya_ebpf::{
    EbpfContext as _,
    macros::{tracepoint, uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext, TracePointContext},
};

/// Starts and ends of tasks, for every runtime.
#[uprobe]
pub fn task_probe(ctx: ProbeContext) -> u32 {
    task::on_probe(&ctx);
    0
}

/// The same at the return of a function, where no instruction of its own can be probed. It is never attached to Go.
#[uretprobe]
pub fn task_return(ctx: RetProbeContext) -> u32 {
    task::on_probe(&ProbeContext::new(ctx.as_ptr()));
    0
}

/// Does nothing: the floor that the cost of `task_probe` is measured against.
#[uprobe]
pub fn empty_probe(_ctx: ProbeContext) -> u32 {
    0
}

/// `task:task_newtask`: a thread or a child process is made.
#[tracepoint]
pub fn task_newtask(ctx: TracePointContext) -> u32 {
    sched::on_newtask(&ctx, creation::registers);
    0
}

/// The same for a kernel that does not give a thread's registers: where the task is made, nobody can tell.
#[tracepoint]
pub fn task_newtask_blind(ctx: TracePointContext) -> u32 {
    sched::on_newtask(&ctx, || None);
    0
}

/// `sched:sched_process_exec`: a process replaced its image.
#[tracepoint]
pub fn sched_process_exec(ctx: TracePointContext) -> u32 {
    sched::on_exec(&ctx);
    0
}

/// `sched:sched_process_exit`: a thread ended.
#[tracepoint]
pub fn sched_process_exit(ctx: TracePointContext) -> u32 {
    sched::on_exit(&ctx);
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that nothing here can be reached: a program that could panic would not load.
    loop {}
}

/// The kernel reads the licence from the object; `bpf_probe_read_user` and others are for GPL-compatible
/// programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
