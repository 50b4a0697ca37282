//! Field offsets of the runtime's structs: from the binary's own DWARF, else from `layouts.toml`.

use super::Source;

/// Byte offsets inside the runtime's structs. An `Option` is a field that this version does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}
