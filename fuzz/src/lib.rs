//! What the fuzz targets do with foreign bytes. Must use nothing but leakwatch-inspect's public API, so that its
//! stable tests can include this file and replay the corpus (`leakwatch-inspect/tests/handmade/corpus.rs`).

use leakwatch_inspect::btf::Btf;
use leakwatch_inspect::elf::Arch;
use leakwatch_inspect::function::{self, Function};
use leakwatch_inspect::go::pclntab::{Pclntab, PclntabLocation};
use leakwatch_inspect::go::version::{GoVersion, find_build_info, guess_version};
use leakwatch_inspect::go::{dwarf, globals};
use leakwatch_inspect::python::{LineTable, PythonLayout, line_at};
use leakwatch_inspect::{Elf, Inspection, jvm, tokio_rt};

/// Functions, pcs and words that are looked at of one input: more would only repeat.
const SAMPLES: usize = 32;
/// What sections may decompress to.
const CAP: usize = 1 << 20;

/// The bytes as a whole file: headers, sections, symbols, relocations, tables, version.
pub fn elf(image: &[u8]) {
    let Ok(elf) = Elf::parse(image) else { return };
    for name in [".debug_info", ".debug_abbrev", ".gopclntab", ".text", ".shstrtab"] {
        if let Ok(Some(bytes)) = elf.section_bytes(image, name, CAP) {
            assert!(bytes.len() <= CAP.max(image.len()));
        }
    }
    let found = elf.symbols(image, ["runtime.text", "main.main", ""]);
    let starts = elf.segments.iter().flat_map(|s| [s.address.start, s.address.end.saturating_sub(1)]);
    let symbols = found.iter().flatten().map(|s| s.address);
    for address in starts.chain(symbols).chain([0, u64::MAX]).take(SAMPLES) {
        if let Some(offset) = elf.file_offset(address) {
            assert!(usize::try_from(offset).is_ok_and(|o| o < image.len()));
            assert!(elf.address_of(offset).is_some());
            assert_eq!(elf.bytes(image, address, 1).map(<[u8]>::len), Some(1));
        }
        looked_at((elf.executable_at(address), elf.writable_at(address), elf.pointers(image, address, 4)));
        looked_at(elf.places_of(image, address));
    }
    assert!(elf.relative_relocations(image).count() <= image.len());
    if let Ok(location) = Pclntab::locate(&elf, image) {
        tables(image, &location);
    }
    looked_at(leakwatch_inspect::inspect(image));
}

/// The bytes as a function table whose first byte says what the rest does not: where funcdata begins, and the machine.
pub fn pclntab(input: &[u8]) {
    let Some((&choice, image)) = input.split_first() else { return };
    let len = u64::try_from(image.len()).unwrap_or(0);
    let word =
        |at: usize| image.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let location = PclntabLocation {
        address: 0x1000,
        file: 0..len,
        text_start: 0x40_0000,
        text_end: 0x40_1000,
        format: match image.first() {
            Some(0xfa) => 16,
            Some(0xf0) => 18,
            _ => 20,
        },
        functions: word(8),
        gofunc: Some(0x1000),
        gofunc_file: len * u64::from(choice >> 1) / 128..len,
        moduledata: None,
        arch: if choice & 1 == 0 { Arch::X86_64 } else { Arch::Aarch64 },
    };
    tables(image, &location);
}

fn tables(image: &[u8], location: &PclntabLocation) {
    let Some(table) = Pclntab::new(image, location) else { return };
    let found = table.find(["main.main", "runtime.goexit", "runtime.newproc1", ""]);
    for function in table.functions().take(SAMPLES).chain(found.into_iter().flatten()) {
        assert!(!function.name.is_empty());
        for pc in [function.entry, function.entry.wrapping_add(3), function.end.wrapping_sub(1), function.end]
        {
            let frames = table.frames(pc);
            if let (Some(frame), Some((file, line))) = (frames.first(), table.line_at(pc)) {
                assert_eq!((frame.file, frame.line), (Some(file), Some(line)));
            }
            looked_at(table.function_at(pc));
        }
    }
    looked_at((table.frames(0), table.frames(u64::MAX), table.function(table.len())));
}

/// The bytes as a version's text, and as a file with build info or without.
pub fn version(input: &[u8]) {
    if let Some(version) = str::from_utf8(input).ok().and_then(GoVersion::parse) {
        assert_eq!(GoVersion::parse(&version.text).as_ref(), Some(&version));
        assert!(version.at_least(version.major, version.minor));
    }
    if let Ok(elf) = Elf::parse(input) {
        looked_at((find_build_info(&elf, input), guess_version(&elf, input, None)));
    }
}

/// The bytes as a whole file again, for what is read out of code, DWARF and the tables of layouts.
pub fn inspect(image: &[u8]) {
    let Ok(inspection) = leakwatch_inspect::inspect(image) else { return };
    let elf = &inspection.elf;
    looked_at(dwarf::offsets(elf, image));
    tokio_facts(&inspection, image);
    let Some(go) = inspection.go else { return };
    for site in [&go.start, &go.end].into_iter().flatten() {
        assert_eq!(elf.file_offset(site.address), Some(site.file_offset));
        assert_eq!(elf.bytes(image, site.address, site.bytes.len()), Some(site.bytes.as_slice()));
        assert!(elf.executable_at(site.address) && (1..=15).contains(&site.bytes.len()));
        let table = go.pclntab.as_ref().and_then(|location| Pclntab::new(image, location));
        let function = table.and_then(|table| table.function_at(site.address));
        assert!(function.is_some_and(|f| site.address + site.bytes.len() as u64 <= f.end));
    }
    if let Some(location) = &go.pclntab {
        let found = globals::from_code(elf, image, location);
        for global in
            [found.allgs, found.allglen, found.allgptr, found.sched, found.mheap, found.semtable, found.allp]
        {
            assert!(global.is_none_or(|global| elf.writable_at(global.address)));
        }
    }
    assert!(go.wait_reasons.len() <= 64);
}

/// The bytes as a program with tokio in it, and as the code of a function that takes addresses.
pub fn tokio(image: &[u8]) {
    if let Ok(inspection) = leakwatch_inspect::inspect(image) {
        tokio_facts(&inspection, image);
    }
    if tokio_rt::may_be_in(image) {
        let middle = 0x1000 + (image.len() / 2) as u64;
        for fixed in [false, true] {
            looked_at(tokio_rt::taken(image, 0x1000, Some(middle), fixed));
        }
    }
}

fn tokio_facts(inspection: &Inspection, image: &[u8]) {
    let elf = &inspection.elf;
    for facts in &inspection.tokio {
        for site in facts.starts.iter().map(|start| &start.site).chain(&facts.ends) {
            assert_eq!(elf.bytes(image, site.address, site.bytes.len()), Some(site.bytes.as_slice()));
            assert_eq!(elf.file_offset(site.address), Some(site.file_offset));
            assert!(elf.executable_at(site.address) && site.task_register < 16);
        }
        assert!(!facts.types.is_empty());
        for task in &facts.types {
            assert!(task.functions.iter().all(|function| elf.executable_at(*function)));
            assert!(!task.worker_loop || task.kind == Some(tokio_rt::TaskKind::Blocking));
        }
    }
}

/// The bytes as a table of lines, whose first four say of which form, from which line, and where to look: CPython's and
/// HotSpot's.
pub fn lines(input: &[u8]) {
    let Some((&[form, first, low, high], table)) = input.split_first_chunk::<4>() else { return };
    let form = match form % 3 {
        0 => LineTable::Begins,
        1 => LineTable::Ranges,
        _ => LineTable::Locations,
    };
    let at = u16::from_le_bytes([low, high]);
    for at in [u64::from(at), 0, u64::MAX] {
        assert_ne!(line_at(form, table, i32::from(first), at), Some(0));
    }
    assert_ne!(jvm::line_of(table, u32::from(at)), Some(0));
    assert!(jvm::scopes(table, u32::from(at)).len() <= table.len() + 1);
    looked_at((PythonLayout::told(table), PythonLayout::of_version(u32::from(low), u32::from(high))));
}

/// The bytes as the kernel's type information.
pub fn btf(input: &[u8]) {
    let Some(btf) = Btf::parse(input) else { return };
    looked_at((btf.offset("task", &["thread", "fsbase"]), btf.offset("inner", &["fsbase"])));
}

/// The bytes as a file with functions that somebody named: where they could be probed.
pub fn functions(image: &[u8]) {
    let Ok(elf) = Elf::parse(image) else { return };
    let named = elf.symbols(image, ["runtime.text", "main.main", "runtime.goexit"]);
    let starts = elf.segments.iter().filter(|s| s.executable).map(|s| (s.address.start, 0));
    let places = named.iter().flatten().map(|symbol| (symbol.address, symbol.size)).chain(starts);
    for (address, size) in places.take(SAMPLES) {
        for size in [size, 0, 64, u64::MAX] {
            let function = Function { name: "f".to_owned(), address, size };
            if let Ok(point) = function::at_entry(&elf, image, &function, &[7, 6]) {
                assert_eq!(elf.bytes(image, point.address, point.bytes.len()), Some(point.bytes.as_slice()));
            }
            for point in function::at_exits(&elf, image, &function, &[]).unwrap_or_default() {
                assert_eq!(elf.file_offset(point.address), Some(point.file_offset));
            }
            looked_at(function::no_return_probe(&elf, image, &function));
        }
    }
}

/// The answer does not matter, only that there is one.
fn looked_at<T>(answer: T) {
    drop(answer);
}
