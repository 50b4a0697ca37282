//! Symbols by name, from `.symtab`, then `.dynsym`. Must never build a table of all symbols: there may be millions.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Elf, Section};
use crate::reader::{range_of, u16_at, u32_at, u64_at};

const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const SYMBOL_SIZE: usize = 24;

/// A defined symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Link-time address.
    pub address: u64,
    /// Size in bytes as recorded; 0 where none is.
    pub size: u64,
}

impl Elf {
    /// Looks up defined symbols by their exact names in one scan of `.symtab` (and one of `.dynsym` when some are
    /// missing there). The first definition of a name wins.
    pub fn symbols<const N: usize>(&self, image: &[u8], names: [&str; N]) -> [Option<Symbol>; N] {
        let mut found = [None; N];
        for kind in [SHT_SYMTAB, SHT_DYNSYM] {
            for table in self.sections.iter().filter(|s| s.kind == kind).take(1) {
                if found.iter().any(Option::is_none) {
                    self.scan(image, table, &names, &mut found);
                }
            }
        }
        found
    }

    /// Calls `each` with every defined symbol of `.symtab`, else of `.dynsym`, and its name.
    pub fn for_each_symbol(&self, image: &[u8], mut each: impl FnMut(Symbol, &[u8])) {
        let table =
            [SHT_SYMTAB, SHT_DYNSYM].iter().find_map(|kind| self.sections.iter().find(|s| s.kind == *kind));
        let Some(table) = table else { return };
        let strings = usize::try_from(table.link).ok().and_then(|at| self.sections.get(at));
        let Some(strings) = strings.and_then(|s| range_of(image, &s.file)) else { return };
        for symbol in range_of(image, &table.file).unwrap_or_default().chunks_exact(SYMBOL_SIZE) {
            let name = u32_at(symbol, 0).and_then(|at| strings.get(usize::try_from(at).ok()?..));
            let name = name.and_then(|name| name.get(..memchr::memchr(0, name)?));
            let (Some(name), Some(address), Some(size)) = (name, u64_at(symbol, 8), u64_at(symbol, 16))
            else {
                continue;
            };
            if u16_at(symbol, 6) != Some(0) && !name.is_empty() {
                each(Symbol { address, size }, name);
            }
        }
    }

    fn scan<const N: usize>(
        &self,
        image: &[u8],
        table: &Section,
        names: &[&str; N],
        found: &mut [Option<Symbol>; N],
    ) {
        let strings = usize::try_from(table.link).ok().and_then(|at| self.sections.get(at));
        let Some(strings) = strings.and_then(|s| range_of(image, &s.file)) else { return };
        for symbol in range_of(image, &table.file).unwrap_or_default().chunks_exact(SYMBOL_SIZE) {
            let name = u32_at(symbol, 0).and_then(|at| strings.get(usize::try_from(at).ok()?..));
            let (Some(name), Some(section)) = (name, u16_at(symbol, 6)) else { continue };
            if section == 0 {
                continue;
            }
            for (wanted, slot) in names.iter().zip(found.iter_mut()) {
                let is_it = slot.is_none()
                    && name.strip_prefix(wanted.as_bytes()).and_then(<[u8]>::first) == Some(&0);
                if let (true, Some(address), Some(size)) = (is_it, u64_at(symbol, 8), u64_at(symbol, 16)) {
                    *slot = Some(Symbol { address, size });
                }
            }
        }
    }
}
