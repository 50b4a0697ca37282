//! Names in a native program (Rust, C, C++): from its symbol table and, for lines, its DWARF.
//!
//! Read once, when the first name is asked for: programs with a runtime of their own tables (Go) never come here.

use std::sync::Arc;

use addr2line::Context;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use super::{
    demangle::demangle,
    names::{Created, Frame},
};

/// Most bytes of one DWARF section that are believed and held. Line tables of the largest programs known fit.
const SECTION_LIMIT: u64 = 1 << 30;

type Reader = gimli::EndianArcSlice<gimli::RunTimeEndian>;

/// A function's place.
struct Symbol {
    address: u64,
    end: u64,
    /// As it is in the table: demangled when it is asked for.
    name: Box<str>,
}

impl Symbol {
    fn underscores(&self) -> usize {
        self.name.bytes().take_while(|&byte| byte == b'_').count()
    }
}

/// A native program's names. Addresses are link-time addresses.
pub(super) struct Native {
    /// By address.
    symbols: Vec<Symbol>,
    lines: Option<Context<Reader>>,
}

impl Native {
    /// Reads the tables; what is missing or broken gives no names. `detached` is the file's debug information where it
    /// was taken out of it: its symbols and lines count beside the file's own.
    pub(super) fn read(image: &[u8], detached: Option<&[u8]>) -> Self {
        let mut symbols = Vec::new();
        let mut lines = None;
        for file in [Some(image), detached].into_iter().flatten() {
            let Ok(file) = object::File::parse(file) else { continue };
            let functions = file
                .symbols()
                .chain(file.dynamic_symbols())
                .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
                .filter_map(|symbol| {
                    Some(Symbol {
                        address: symbol.address(),
                        end: symbol.address().checked_add(symbol.size())?,
                        name: symbol.name().ok()?.into(),
                    })
                });
            symbols.extend(functions);
            if file.section_by_name(".debug_line").is_some() {
                let dwarf = gimli::Dwarf::load(|id| Ok::<_, gimli::Error>(section(&file, id.name())));
                lines = dwarf.ok().and_then(|dwarf| Context::from_dwarf(dwarf).ok()).or(lines);
            }
        }
        // Of several names of one function the one with the fewest underscores in front is what people call it.
        symbols.sort_by_key(|symbol| (symbol.address, symbol.underscores()));
        symbols.dedup_by_key(|symbol| symbol.address);
        Self { symbols, lines }
    }

    /// The function at an address.
    pub(super) fn function(&self, pc: u64) -> Option<String> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= pc);
        let symbol = self.symbols.get(after.checked_sub(1)?)?;
        (pc < symbol.end).then(|| demangle(&symbol.name).into_owned())
    }

    /// The call before a return address.
    pub(super) fn created(&self, pc: u64) -> Created {
        let call = pc.saturating_sub(1);
        let location = self.lines.as_ref().and_then(|lines| lines.find_location(call).ok().flatten());
        Created {
            function: self.function(call),
            file: location.as_ref().and_then(|location| location.file).map(str::to_owned),
            line: location.and_then(|location| location.line),
        }
    }

    /// Frames of a return address, innermost first: those that were inlined, and the function that they are in.
    pub(super) fn frames(&self, pc: u64) -> Vec<Frame> {
        let call = pc.saturating_sub(1);
        let mut frames = self.frames_by_lines(call);
        // Without debug information of the function itself its symbol has its name.
        match (frames.last_mut(), self.function(call)) {
            (Some(outermost), Some(function)) => outermost.function = function,
            (None, Some(function)) => {
                let created = self.created(pc);
                let (file, line) = (created.file, created.line);
                frames.push(Frame { function, file, line, inlined: false, internal: false });
            }
            (_, None) => {}
        }
        frames.retain(|frame| !frame.function.is_empty());
        frames
    }

    fn frames_by_lines(&self, call: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        let Some(Ok(mut found)) = self.lines.as_ref().map(|lines| lines.find_frames(call).skip_all_loads())
        else {
            return frames;
        };
        while let Ok(Some(frame)) = found.next() {
            let name = frame.function.as_ref().and_then(|name| name.raw_name().ok());
            frames.push(Frame {
                function: name.map_or_else(String::new, |name| demangle(&name).into_owned()),
                file: frame.location.as_ref().and_then(|location| location.file).map(str::to_owned),
                line: frame.location.and_then(|location| location.line),
                inlined: true,
                internal: false,
            });
        }
        if let Some(outermost) = frames.last_mut() {
            outermost.inlined = false;
        }
        frames
    }
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("symbols", &self.symbols.len()).finish_non_exhaustive()
    }
}

/// A section's bytes; empty when it is absent, broken, or claims to be larger than we believe.
fn section(file: &object::File<'_>, name: &str) -> Reader {
    let data = file
        .section_by_name(name)
        .and_then(|section| section.compressed_data().ok())
        .filter(|data| data.uncompressed_size <= SECTION_LIMIT)
        .and_then(|data| data.decompress().ok())
        .unwrap_or_default();
    Reader::new(Arc::from(&*data), gimli::RunTimeEndian::Little)
}
