//! The runtime functions that are read for probe sites and globals: found in one pass over the function table,
//! decoded when asked for. Must never hand out instructions of a function that does not decode to its end.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::disasm::{self, Access, Instruction, Operation};
use super::pclntab::{Function, Pclntab};
use crate::{Elf, Problem};

/// Every function that probe sites and globals are read from.
const NAMES: [&str; 26] = [
    "runtime.casgstatus",
    "runtime.newproc1",
    "runtime.newproc.func1",
    "runtime.gdestroy",
    "runtime.goexit0",
    "runtime.allgadd",
    "runtime.forEachG",
    "runtime.forEachGRace",
    "runtime.oneNewExtraM",
    "runtime.waitReason.String",
    "runtime.modulesinit",
    "runtime.moduledataverify",
    "runtime.findfunc",
    "runtime.mallocinit",
    "runtime.(*mheap).init",
    "runtime.(*mheap).alloc",
    "runtime.(*mcentral).grow",
    "runtime.semacquire1",
    "runtime.semrelease1",
    "runtime.procresize",
    "runtime.preemptall",
    "runtime.gcMarkTinyAllocs",
    "runtime.retake",
    "runtime.checkdead",
    "runtime.schedinit",
    "crosscall2",
];

/// A binary's runtime functions.
pub(super) struct Code<'a> {
    pub(super) elf: &'a Elf,
    pub(super) image: &'a [u8],
    functions: [Option<Function<'a>>; NAMES.len()],
}

/// A use of a static address in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// The address.
    pub(super) address: u64,
    /// What is done with it.
    pub(super) access: Access,
    /// Bytes read or written.
    pub(super) size: u8,
}

impl<'a> Code<'a> {
    /// Looks the functions up.
    pub(super) fn new(elf: &'a Elf, image: &'a [u8], pclntab: &Pclntab<'a>) -> Self {
        Code { elf, image, functions: pclntab.find(NAMES) }
    }

    /// The function with this name, which must be one of the names above.
    pub(super) fn function(&self, name: &str) -> Option<&Function<'a>> {
        debug_assert!(NAMES.contains(&name), "{name} is not looked up");
        self.functions.iter().flatten().find(|function| function.name == name)
    }

    /// A function's instructions.
    ///
    /// # Errors
    /// When it has no bytes in the file or does not decode to its end.
    pub(super) fn instructions(&self, function: &Function<'_>) -> Result<Vec<Instruction>, Problem> {
        let length = usize::try_from(function.end.saturating_sub(function.entry)).unwrap_or(usize::MAX);
        let code = self.elf.bytes(self.image, function.entry, length).filter(|code| !code.is_empty());
        let Some(code) = code.filter(|_| self.elf.executable_at(function.entry)) else {
            return Err(Problem(format!(
                "{} at {:#x} has no code in the file",
                function.name, function.entry
            )));
        };
        disasm::decode(self.elf.arch, code, function.entry)
            .map_err(|error| Problem(format!("{} cannot be disassembled: {error}", function.name)))
    }

    /// Static addresses that a function uses; empty when it does not exist or does not decode.
    pub(super) fn references(&self, name: &str) -> Vec<Reference> {
        let Some(Ok(instructions)) = self.function(name).map(|function| self.instructions(function)) else {
            return Vec::new();
        };
        let reference = |instruction: &Instruction| match instruction.operation {
            Operation::Reference { address, access, size } => Some(Reference { address, access, size }),
            _ => None,
        };
        instructions.iter().filter_map(reference).collect()
    }

    /// First arguments of the calls of `callee` inside `caller`, as far as they are static addresses.
    pub(super) fn first_arguments(&self, caller: &str, callee: &str) -> Vec<u64> {
        let (Some(caller), Some(callee)) = (self.function(caller), self.function(callee)) else {
            return Vec::new();
        };
        let Ok(instructions) = self.instructions(caller) else { return Vec::new() };
        let argument = |instruction: &Instruction| match instruction.operation {
            Operation::Call { target, arguments: [first, ..] } if target == callee.entry => first,
            _ => None,
        };
        instructions.iter().filter_map(argument).collect()
    }
}
