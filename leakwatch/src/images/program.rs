//! A program's file, open, and what is known of it: one for all processes that run it.
//!
//! Its bytes are mapped once and its names are found once, however many processes ask: names hang on link-time addresses, which
//! are the same in all of them. It is open as long as somebody holds it and must never be kept longer: while it is, the
//! filesystem that it is on cannot be unmounted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use leakwatch_inspect::{ElfKind, Inspection};
use rustc_hash::FxHashMap;

use super::{
    bias,
    names::{Created, Frame, Names, Words},
};
use crate::host::{Executable, FileIdentity, maps::Mapping};

/// An executable, inspected.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) exe: Executable,
    pub(super) inspection: Arc<Inspection>,
    /// Where it begins, as it was linked.
    entry: Option<u64>,
    names: Mutex<Names>,
}

impl Program {
    pub(super) fn new(exe: Executable, inspection: Arc<Inspection>) -> Arc<Self> {
        let entry = bias::entry_of(exe.bytes());
        Arc::new(Self { exe, inspection, entry, names: Mutex::default() })
    }

    /// It is loaded where it was linked to be.
    pub(super) fn stays(&self) -> bool {
        self.inspection.elf.kind == ElfKind::Executable
    }

    /// And no dynamic linker loads anything beside it.
    pub(super) fn is_alone(&self) -> bool {
        self.stays() && !self.inspection.elf.dynamic
    }

    /// Run-time address less link-time address in a process, which was told to begin at `entry`.
    pub(super) fn bias(&self, entry: Option<u64>, mappings: &[Mapping]) -> Option<u64> {
        bias::find(&self.inspection.elf, self.entry, entry, mappings, self.exe.identity().ino)
    }

    pub(super) fn created(&self, link: u64) -> Created {
        self.names().created(&self.exe, &self.inspection, link)
    }

    pub(super) fn function(&self, link: u64) -> Option<String> {
        self.names().function(&self.exe, &self.inspection, link)
    }

    pub(super) fn frames(&self, link: u64) -> Vec<Frame> {
        self.names().frames(&self.exe, &self.inspection, link)
    }

    pub(super) fn words(&self, link: u64, of: impl FnOnce(Vec<Frame>) -> Words) -> Option<Words> {
        self.names().words(&self.exe, &self.inspection, link, of)
    }

    /// A cache is as good as before when somebody panicked with it.
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Programs that somebody holds.
#[derive(Debug, Default)]
pub(super) struct Programs(FxHashMap<FileIdentity, Weak<Program>>);

impl Programs {
    /// The one of this file.
    pub(super) fn get(&self, file: FileIdentity) -> Option<Arc<Program>> {
        self.0.get(&file)?.upgrade()
    }

    /// One of another file with the same content.
    pub(super) fn alike(&self, exe: &Executable) -> Option<Arc<Program>> {
        let same_size = self.0.iter().filter(|(file, _)| file.size == exe.identity().size);
        let mut alive = same_size.filter_map(|(_, program)| program.upgrade());
        // What cannot be read now is inspected, and says there what is wrong with it.
        alive.find(|program| program.exe.is_alike(exe).unwrap_or(false))
    }

    /// From now on this one.
    pub(super) fn insert(&mut self, program: &Arc<Program>) {
        self.0.retain(|_, program| program.strong_count() > 0);
        self.0.insert(program.exe.identity(), Arc::downgrade(program));
    }
}
