//! Steps of a stack walk by the tables of a Go program, with a cache: many stacks have the same few return addresses.
//!
//! The walk itself is `collect`'s business. Must never guess: an address that no function holds has no step.

use leakwatch_inspect::{
    Arch,
    go::pclntab::{SpecialIds, Step},
};
use rustc_hash::FxHashMap;

use super::{Image, Modules, plugins::Tables};

/// Steps that are kept; a program has some ten thousand call sites with blocked goroutines at most.
const KEPT: usize = 1 << 17;

/// The steps of one program. Addresses are run-time addresses.
#[derive(Debug)]
pub struct Unwinder<'a> {
    tables: Tables<'a>,
    arch: Arch,
    ids: SpecialIds,
    steps: FxHashMap<u64, Option<Step>>,
}

impl Image {
    /// For walks over its goroutines' stacks; `None` without the tables of a Go program.
    pub fn unwinder<'a>(&'a self, modules: &'a Modules) -> Option<Unwinder<'a>> {
        let (tables, ids) = self.go_tables(modules)?;
        Some(Unwinder { tables, arch: self.inspection().elf.arch, ids, steps: FxHashMap::default() })
    }
}

impl Unwinder<'_> {
    /// How a walk goes on from a pc.
    pub fn step(&mut self, pc: u64) -> Option<Step> {
        if let Some(known) = self.steps.get(&pc) {
            return *known;
        }
        if self.steps.len() >= KEPT {
            self.steps.clear();
        }
        let step = self.tables.iter().find_map(|(table, bias)| table.step(pc.wrapping_sub(*bias)));
        self.steps.insert(pc, step);
        step
    }

    /// Whether this function is called with the stack of C code: its caller can be told although it writes the stack
    /// pointer.
    pub fn is_cgocallback(&self, step: &Step) -> bool {
        self.ids.cgocallback == Some(step.id)
    }

    /// Calls leave the return address on the stack before the callee's frame, not in it.
    pub fn calls_push(&self) -> bool {
        self.arch == Arch::X86_64
    }
}
