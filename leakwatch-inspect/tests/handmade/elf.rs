//! Headers, sections, symbols and addresses of handmade files.

use leakwatch_inspect::elf::{Arch, Elf, ElfKind, InspectError, Symbol};

use super::image::{DATA, END, Image, RODATA, TEXT, USUAL, all};

#[test]
fn segments_and_addresses() {
    let image = USUAL.build();
    let elf = Elf::parse(&image).unwrap();
    assert_eq!((elf.arch, elf.kind), (Arch::X86_64, ElfKind::Executable));
    assert_eq!(elf.segments.len(), 3);
    let base = USUAL.base();
    assert_eq!(elf.file_offset(base + TEXT), Some(TEXT));
    assert_eq!(elf.address_of(DATA + 8), Some(base + DATA + 8));
    assert_eq!(elf.file_offset(base + END), None, ".bss is not in the file");
    assert!(elf.segment_at(base + END).is_some(), "but in memory");
    assert_eq!(elf.file_offset(base - 1), None);
    assert!(elf.executable_at(base + TEXT) && !elf.executable_at(base + RODATA));
    assert!(elf.writable_at(base + DATA) && !elf.writable_at(base + RODATA));
    assert_eq!(elf.bytes(&image, base + END - 4, 4), Some([0; 4].as_slice()));
    assert_eq!(elf.bytes(&image, base + END - 4, 5), None, "not all in the file");
    assert_eq!(elf.bytes(&image, base + RODATA - 4, 8), None, "across two segments");
}

#[test]
fn sections_and_symbols() {
    let image = USUAL.build();
    let elf = Elf::parse(&image).unwrap();
    assert!(elf.symtab && !elf.dwarf && !elf.dynamic);
    assert_eq!(elf.section(".gopclntab").unwrap().address.start, USUAL.pclntab_address());
    assert_eq!(elf.section(".bss").unwrap().file, 0..0);
    let [text, main, part] = elf.symbols(&image, ["runtime.text", "main.main", "main.mai"]);
    assert_eq!(text.map(|s| s.address), Some(USUAL.text()));
    assert_eq!(main, Some(Symbol { address: USUAL.text(), size: 0x40 }));
    assert_eq!(part, None);
}

#[test]
fn pointers_come_from_relocations() {
    for (name, kind) in all().into_iter().filter(|(_, kind)| kind.moduledata) {
        let image = kind.build();
        let elf = Elf::parse(&image).unwrap();
        let words = elf.pointers(&image, kind.moduledata(), 24).unwrap();
        assert_eq!((words[0], words[22]), (kind.pclntab_address(), kind.text()), "{name}");
        // The addends themselves stand in the data segment, too.
        let places = elf.places_of(&image, kind.pclntab_address());
        assert!(places.contains(&kind.moduledata()) && places.len() <= 2, "{name}: {places:#x?}");
    }
}

fn error(image: &[u8]) -> String {
    Elf::parse(image).unwrap_err().to_string()
}

#[test]
fn files_that_are_refused() {
    assert_eq!(error(b"#!/bin/sh"), "this is not an ELF file (it starts with [23, 21, 2f, 62])");
    assert_eq!(error(b""), "this is not an ELF file (it starts with [])");
    let patched = |at: usize, byte: u8| {
        let mut image = USUAL.build();
        image[at] = byte;
        error(&image)
    };
    assert!(patched(4, 1).starts_with("this is a 32-bit ELF file"));
    assert!(patched(5, 2).starts_with("this is a big-endian ELF file"));
    assert!(patched(16, 1).starts_with("this is a relocatable object ELF file"));
    assert!(patched(16, 4).starts_with("this is a core dump ELF file"));
    assert!(patched(18, 243).starts_with("this is a machine 243 (RISC-V) ELF file"));
    assert!(patched(39, 1).ends_with("the program headers lie outside of the file"));
    assert!(patched(56, 0).ends_with("it has no loadable segment"));
    assert!(patched(54, 32).contains("program headers of 32 bytes"));
    let short = USUAL.build();
    assert!(error(&short[..40]).ends_with("the file ends inside the ELF header"));
    assert!(matches!(Elf::parse(&short[..100]), Err(InspectError::Corrupt { .. })));
}

#[test]
fn what_a_truncated_file_still_tells() {
    let image = USUAL.build();
    let cut = &image[..usize::try_from(DATA + 0x10).unwrap()];
    let elf = Elf::parse(cut).unwrap();
    let problems: Vec<_> = elf.problems.iter().map(|p| p.0.as_str()).collect();
    assert_eq!(
        problems,
        [
            "the file is truncated: a loadable segment lacks 1776 bytes",
            "the section headers lie outside of the file: is it truncated?"
        ]
    );
    assert!(elf.bytes(cut, USUAL.base() + DATA, 0x10).is_some());
    assert!(elf.bytes(cut, USUAL.base() + DATA, 0x11).is_none());
}

/// A file with a section of these bytes, flags and name.
fn with_section(name: &[u8; 12], flags: u64, contents: &[u8]) -> Vec<u8> {
    let mut image = Image { build_info: None, ..USUAL }.build();
    let at = image.len();
    image.extend(contents);
    // The section that was .go.buildinfo: its name is that long, its header is the fifth.
    let names = image.windows(13).position(|w| w == b".go.buildinfo").unwrap();
    image[names..names + 12].copy_from_slice(name);
    image[names + 12] = 0;
    let header = usize::try_from(END).unwrap() + 0x100 + 4 * 64;
    for (offset, value) in [(8, flags), (16, 0), (24, at as u64), (32, contents.len() as u64)] {
        image[header + offset..header + offset + 8].copy_from_slice(&value.to_le_bytes());
    }
    image
}

fn compressed(kind: u32, size: u64, data: &[u8]) -> Vec<u8> {
    let header = [u64::from(kind), size, 1].map(u64::to_le_bytes).concat();
    [header.as_slice(), data].concat()
}

/// 1,000 times the letter a, by zlib.
const ZLIB: [u8; 17] =
    [0x78, 0x9c, 0x4b, 0x4c, 0x1c, 0x05, 0xa3, 0x60, 0x14, 0x0c, 0x77, 0x00, 0x00, 0xf9, 0xd8, 0x7a, 0xf8];

fn check_section(
    name: &[u8; 12],
    wanted: &str,
    flags: u64,
    contents: &[u8],
    cap: usize,
    expect: Result<usize, &str>,
) {
    let image = with_section(name, flags, contents);
    let elf = Elf::parse(&image).unwrap();
    let found = elf.section_bytes(&image, wanted, cap).map(|b| b.unwrap().len()).map_err(|p| p.0);
    assert_eq!(found, expect.map_err(str::to_owned));
}

#[test]
fn compressed_sections() {
    let zlib = &ZLIB[..];
    let gnu = [b"ZLIB".as_slice(), &1000_u64.to_be_bytes(), zlib].concat();
    let debug = b".debug_info\0";
    check_section(debug, ".debug_info", 0, b"plain", 0, Ok(5));
    check_section(debug, ".debug_info", 0x800, &compressed(1, 1000, zlib), 1000, Ok(1000));
    check_section(b".zdebug_info", ".debug_info", 0, &gnu, 1000, Ok(1000));
    // A raw zstd block: frame header with a size of one byte, last block of 3 bytes as they are.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x19, 0, 0, b'a', b'b', b'c'];
    check_section(debug, ".debug_info", 0x800, &compressed(2, 3, &zstd), 1000, Ok(3));
}

#[test]
fn compressed_sections_that_are_refused() {
    let zlib = &ZLIB[..];
    let check = |contents: &[u8], cap: usize, expect: &str| {
        let image = with_section(b".debug_info\0", 0x800, contents);
        let elf = Elf::parse(&image).unwrap();
        let problem = elf.section_bytes(&image, ".debug_info", cap).unwrap_err().0;
        assert!(problem.starts_with(&format!("section .debug_info: {expect}")), "{problem}");
    };
    check(
        &compressed(1, 1000, zlib),
        999,
        "1000 bytes when decompressed, more than the 999 that are allowed",
    );
    check(&compressed(1, u64::MAX, zlib), 1 << 40, "18446744073709551615 bytes when decompressed, more than");
    check(&compressed(1, 1 << 39, zlib), 1 << 40, "it decompresses to 1000 bytes, not to 549755813888");
    check(&compressed(1, 1000, &zlib[..6]), 1000, "damaged compressed data");
    check(&compressed(1, 1000, b"nonsense"), 1000, "damaged compressed data");
    check(&compressed(2, 1000, b"nonsense"), 1000, "damaged zstd data");
    check(&compressed(3, 1000, zlib), 1000, "unknown compression 3");
    check(b"short", 1000, "it ends inside the compression header");
}
