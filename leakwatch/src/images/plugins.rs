//! Code of Go that is not the program's own: plugins (`-buildmode=plugin`), each with function tables of its own.
//!
//! A goroutine's stack goes through program and plugins alike. Must never name an address by a table that does not hold it.

use leakwatch_inspect::{
    Arch, Elf, Inspection,
    go::pclntab::{Pclntab, SpecialIds},
};

use super::{
    Image, Modules,
    names::{self, Created, Frame},
};

/// Most plugins of one program whose tables are used.
pub(super) const MOST: usize = 32;

/// Sections of files with code of Go (`cmd/link/internal/ld`): the function tables, which are part of `.data.rel.ro` in plugins of old
/// releases, and the note with the build id.
const MARKS: [&str; 2] = [".gopclntab", ".note.go.buildid"];

/// All function tables that a process's goroutines may stand in: the program's own first, then those of its plugins, each
/// with its run-time addresses less its link-time addresses.
pub(super) type Tables<'a> = Vec<(Pclntab<'a>, u64)>;

impl Image {
    /// Its function tables, and the functions that a walk has to know; `None`: it is no program of Go.
    pub(super) fn go_tables<'a>(&'a self, modules: &'a Modules) -> Option<(Tables<'a>, SpecialIds)> {
        let loaded = &self.loaded;
        let table =
            Pclntab::new(loaded.program.exe.bytes(), loaded.inspection().go.as_ref()?.pclntab.as_ref()?)?;
        let mut tables = vec![(table, loaded.bias)];
        tables.extend(modules.plugins(loaded.program.exe.identity().ino));
        Some((tables, table.special_ids()))
    }
}

/// Whether a file may have function tables of Go.
pub(super) fn may_be_in(elf: &Elf) -> bool {
    elf.sections.iter().any(|section| MARKS.iter().any(|mark| section.name.ends_with(mark)))
}

/// The bytes of a plugin and what they tell.
#[derive(Debug)]
pub(super) struct Plugin {
    bytes: Vec<u8>,
    inspection: Inspection,
}

impl Plugin {
    /// Of a file's bytes; `None`: it has no code of Go with tables.
    pub(super) fn read(bytes: &[u8], elf: &Elf) -> Option<Self> {
        may_be_in(elf).then_some(())?;
        let inspection = leakwatch_inspect::inspect(bytes).ok()?;
        let plugin = Self { bytes: bytes.to_vec(), inspection };
        plugin.table().is_some().then_some(plugin)
    }

    /// Its function tables.
    pub(super) fn table(&self) -> Option<Pclntab<'_>> {
        Pclntab::new(&self.bytes, self.inspection.go.as_ref()?.pclntab.as_ref()?)
    }

    /// As [`super::Image::site_name`], of a link-time address.
    pub(super) fn created(&self, pc: u64) -> Option<Created> {
        names::created_in(&self.table()?, self.arch(), pc)
    }

    /// The function that holds a link-time address.
    pub(super) fn function(&self, pc: u64) -> Option<String> {
        names::function_in(&self.table()?, pc)
    }

    /// The frames at a link-time return address, innermost first.
    pub(super) fn frames(&self, pc: u64) -> Vec<Frame> {
        self.table().map_or_else(Vec::new, |table| names::frames_in(&table, self.arch(), pc))
    }

    fn arch(&self) -> Arch {
        self.inspection.elf.arch
    }
}
