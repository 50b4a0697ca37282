//! Makes small ELF files with Go tables in them, of every format and with every quirk that real linkers show.

use leakwatch_inspect::elf::Arch;

pub(super) const NAMES: &[u8] =
    b"main.main\0main.leak\0main.(*T).deeper\0main.worker[go.shape.int]\0runtime.goexit\0";
const FILES: &[u8] = b"/src/main.go\0/src/lib.go\0";
/// File offsets (and addresses, less the base) of the segments: text, read-only data, data.
pub(super) const TEXT: u64 = 0x200;
pub(super) const RODATA: u64 = 0x300;
pub(super) const DATA: u64 = 0x800;
pub(super) const END: u64 = 0xf00;
const MODULE: u64 = DATA;
const RELA: u64 = DATA + 0x200;
const DYNAMIC: u64 = DATA + 0x260;
const BUILD_INFO: u64 = DATA + 0x2b0;
const BUILD_VERSION: u64 = DATA + 0x3f0;
const GOFUNC: u64 = RODATA + 0x300;
const VERSION_TEXT: u64 = RODATA + 0x400;

/// Offsets of names, units, files, pc tables and ftab from the header.
const TABLES: [u64; 5] = [0x48, 0xa8, 0xb0, 0xd0, 0x110];

/// What kind of file to make.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a quirk that files have or have not")]
pub(super) struct Image {
    pub(super) arch: Arch,
    /// 16, 18 or 20; 2 for the formats before.
    pub(super) format: u8,
    /// The newest moduledata (Go 1.27), else the one of the format's first versions.
    pub(super) newest_module: bool,
    pub(super) pie: bool,
    /// Position independent, with 0 in the words that relocations fill.
    pub(super) zero_words: bool,
    /// The header's textStart is filled in (until Go 1.25).
    pub(super) text_start: bool,
    pub(super) moduledata: bool,
    pub(super) section_headers: bool,
    /// Build info with inline strings, or with pointers as before Go 1.18.
    pub(super) build_info: Option<bool>,
}

/// A usual file of Go 1.27.
pub(super) const USUAL: Image = Image {
    arch: Arch::X86_64,
    format: 20,
    newest_module: true,
    pie: false,
    zero_words: false,
    text_start: false,
    moduledata: true,
    section_headers: true,
    build_info: Some(true),
};

/// Files that the tests and the fuzz corpus begin with.
pub(super) fn all() -> Vec<(&'static str, Image)> {
    let before_1_26 = Image { newest_module: false, text_start: true, ..USUAL };
    vec![
        ("usual", USUAL),
        ("no_sections", Image { section_headers: false, ..USUAL }),
        ("pie", Image { pie: true, zero_words: true, ..USUAL }),
        ("pie_in_place", Image { pie: true, ..USUAL }),
        ("no_build_info", Image { build_info: None, ..USUAL }),
        ("arm64_pie", Image { arch: Arch::Aarch64, pie: true, zero_words: true, ..USUAL }),
        ("go1_20", before_1_26),
        ("go1_20_no_moduledata", Image { moduledata: false, ..before_1_26 }),
        ("go1_18_pie", Image { format: 18, pie: true, zero_words: true, ..before_1_26 }),
        ("go1_18", Image { format: 18, ..before_1_26 }),
        ("go1_16", Image { format: 16, build_info: Some(false), ..before_1_26 }),
        ("go1_12", Image { format: 2, build_info: Some(false), ..before_1_26 }),
    ]
}

fn put(out: &mut [u8], at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).unwrap();
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn words(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn halves(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Offset of a name in [`NAMES`].
fn name(text: &str) -> u32 {
    let at = NAMES.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
    u32::try_from(at).unwrap()
}

impl Image {
    pub(super) fn base(&self) -> u64 {
        if self.pie { 0x1_0000 } else { 0x40_0000 }
    }

    /// Entries of main.main, main.worker, runtime.goexit, and the end.
    pub(super) fn entries(&self) -> [u64; 4] {
        [0, 0x40, 0x60, 0x80].map(|o| self.base() + TEXT + 0x20 + o)
    }

    /// `runtime.text`: not where the executable segment begins.
    pub(super) fn text(&self) -> u64 {
        self.entries()[0]
    }

    pub(super) fn pclntab_address(&self) -> u64 {
        self.base() + RODATA
    }

    pub(super) fn gofunc(&self) -> u64 {
        self.base() + GOFUNC
    }

    pub(super) fn moduledata(&self) -> u64 {
        self.base() + MODULE
    }

    /// The tables alone, as at [`Image::pclntab_address`].
    pub(super) fn pclntab(&self) -> Vec<u8> {
        let quantum = if self.arch == Arch::Aarch64 { 4 } else { 1 };
        let magic: u32 = match self.format {
            2 => 0xffff_fffb,
            16 => 0xffff_fffa,
            18 => 0xffff_fff0,
            _ => 0xffff_fff1,
        };
        let [names, units, files, pcs, ftab] = TABLES;
        let mut out = vec![0; usize::try_from(ftab).unwrap()];
        put(&mut out, 0, &magic.to_le_bytes());
        put(&mut out, 6, &[quantum, 8]);
        let start = if self.text_start && !(self.pie && self.zero_words) { self.text() } else { 0 };
        let mut header = vec![3, 2, start, names, units, files, pcs, ftab];
        if self.format == 16 {
            header.remove(2);
        }
        put(&mut out, 8, &words(&header));
        put(&mut out, names, NAMES);
        put(&mut out, units, &halves(&[0, 13]));
        put(&mut out, files, FILES);
        put(&mut out, pcs, &self.pc_tables());
        out.extend(self.functions());
        out
    }

    /// At 1 the files, at 8 the lines, at 24 the inline tree's index of main.main; at 32 the lines of the others.
    fn pc_tables(&self) -> Vec<u8> {
        let quantum = if self.arch == Arch::Aarch64 { 4 } else { 1 };
        let mut out = vec![0; 0x40];
        // Pairs of (value + 1 as a step from the value before, bytes of code).
        let table = |steps: &[(i8, u8)]| -> Vec<u8> {
            let zigzag = |n: i8| ((n << 1) ^ (n >> 7)).cast_unsigned();
            steps.iter().flat_map(|(step, len)| [zigzag(*step), len / quantum]).chain([0]).collect()
        };
        // main.go 0..0x10, lib.go 0x10..0x20, main.go to the end.
        put(&mut out, 1, &table(&[(1, 0x10), (1, 0x10), (-1, 0x20)]));
        // Lines 10, 30 (in deeper), 20 (in leak), 11.
        put(&mut out, 8, &table(&[(11, 0x10), (20, 0x10), (-10, 0x10), (-9, 0x10)]));
        // Not inlined, deeper (index 1), leak (index 0), not inlined.
        put(&mut out, 24, &table(&[(0, 0x10), (2, 0x10), (-1, 0x10), (-1, 0x10)]));
        put(&mut out, 34, &table(&[(51, 0x20)]));
        put(&mut out, 40, &table(&[(1, 0x20)]));
        out
    }

    /// ftab and the functions behind it.
    fn functions(&self) -> Vec<u8> {
        let entries = self.entries();
        let wide = self.format == 16;
        let entry_size: u32 = if wide { 16 } else { 8 };
        let mut out = Vec::new();
        let mut functions = Vec::new();
        let begin = 3 * entry_size + entry_size / 2;
        let rows =
            [("main.main", 1, 8, true), ("main.worker", 40, 34, false), ("runtime.goexit", 0, 0, false)];
        for (index, (function, file, line, inlines)) in rows.into_iter().enumerate() {
            let offset = begin + u32::try_from(functions.len()).unwrap();
            let relative = u32::try_from(entries[index] - self.text()).unwrap();
            if wide {
                out.extend(words(&[entries[index], u64::from(offset)]));
                functions.extend(words(&[entries[index]]));
            } else {
                out.extend(halves(&[relative, offset]));
                functions.extend(halves(&[relative]));
            }
            // nameoff, args, deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset.
            functions.extend(halves(&[name(function), 0, 0, 0, file, line, if inlines { 3 } else { 0 }, 0]));
            if self.format == 20 {
                functions.extend(halves(&[9]));
            }
            functions.extend([0, 0, 0, if inlines { 4 } else { 0 }]);
            if inlines {
                functions.extend(halves(&[0, 0, 24]));
                functions.extend(halves(&[u32::MAX, u32::MAX, u32::MAX, 0x10]));
            }
        }
        if wide {
            out.extend(words(&[entries[3]]));
        } else {
            out.extend(halves(&[u32::try_from(entries[3] - self.text()).unwrap()]));
        }
        out.extend(functions);
        out
    }

    /// Inline tree of main.main at 0x10: leak (called at 0x30), and deeper (called by leak at 0x20).
    fn trees(&self) -> Vec<u8> {
        let mut out = vec![0xee; 0x10];
        for (function, parent_pc) in [("main.leak", 0x30), ("main.(*T).deeper", 0x20)] {
            match self.format {
                20 => out.extend(halves(&[0, name(function), parent_pc, 1])),
                _ => out.extend(halves(&[0, 0, 0, name(function), parent_pc])),
            }
        }
        out
    }

    fn module_words(&self) -> Vec<u64> {
        let at = |offset: u64| self.pclntab_address() + offset;
        let [names, units, files, pcs, ftab] = TABLES;
        let [first, .., last] = self.entries();
        let mut module = vec![0; 56];
        for (index, value) in [
            (0, at(0)),
            (1, at(names)),
            (4, at(units)),
            (7, at(files)),
            (10, at(pcs)),
            (13, at(ftab)),
            (16, at(ftab)),
        ] {
            module[index] = value;
        }
        (module[17], module[18]) = (4, 4);
        (module[20], module[21], module[22], module[23]) = (first, last, self.text(), last);
        let gofunc = match (self.format, self.newest_module) {
            (20, true) => 43,
            (20, false) => 40,
            _ => 38,
        };
        module[gofunc] = self.gofunc();
        module
    }

    fn build_info_bytes(&self, inline: bool) -> Vec<u8> {
        let mut out = b"\xff Go buildinf:\x08".to_vec();
        if !inline {
            out.push(0);
            // A string header for the version stands right after.
            let header = self.base() + BUILD_INFO + 32;
            out.extend(words(&[header, 0, self.base() + VERSION_TEXT + 16, 8]));
            return out;
        }
        out.push(2);
        out.resize(32, 0);
        let framed = format!(
            "{0}path\texample.com/cmd/leaky\nmod\texample.com\t(devel)\t\nbuild\t-trimpath=true\nbuild\t-ldflags=\"-X \
             \\\"a=b\\\"\"\n{0}",
            "0123456789abcdef"
        );
        for text in ["go1.27.3", &framed] {
            let len = text.len();
            out.push(u8::try_from(len & 0x7f).unwrap() | if len > 127 { 0x80 } else { 0 });
            out.extend((len > 127).then(|| u8::try_from(len >> 7).unwrap()));
            out.extend(text.as_bytes());
        }
        out
    }

    /// The whole file.
    pub(super) fn build(&self) -> Vec<u8> {
        let mut out = vec![0; usize::try_from(END).unwrap()];
        put(&mut out, RODATA, &self.pclntab());
        put(&mut out, GOFUNC, &self.trees());
        put(&mut out, VERSION_TEXT, b"go1.26.5go1.99  go1.17.5");
        let base = self.base();
        let mut pointers = Vec::new();
        if self.moduledata {
            put(&mut out, MODULE, &words(&self.module_words()));
            let found = self.module_words();
            let is_pointer = |i: &usize| found[*i] >= base;
            pointers.extend((0..found.len()).filter(is_pointer).map(|i| (MODULE + 8 * i as u64, found[i])));
        }
        if let Some(inline) = self.build_info {
            put(&mut out, BUILD_INFO, &self.build_info_bytes(inline));
        }
        put(&mut out, BUILD_VERSION, &words(&[base + VERSION_TEXT, 8]));
        pointers.push((BUILD_VERSION, base + VERSION_TEXT));
        if self.text_start {
            pointers.push((RODATA + 24, self.text()));
        }
        if self.pie {
            self.relocate(&mut out, &pointers);
        }
        put(&mut out, 0, &self.headers());
        if self.section_headers {
            self.sections(&mut out);
        }
        out
    }

    /// Writes relative relocations behind the file's segments' other data, and takes the words' values away.
    fn relocate(&self, out: &mut [u8], pointers: &[(u64, u64)]) {
        let kind = if self.arch == Arch::Aarch64 { 1027 } else { 8 };
        let table: Vec<u8> =
            pointers.iter().flat_map(|(at, to)| words(&[self.base() + at, kind, *to])).collect();
        // They need more room than the gap before the dynamic table: at the end of the data segment.
        let at = DATA + 0x400;
        let at = if table.len() > 0x60 { at } else { RELA };
        put(out, at, &table[..table.len().min(usize::try_from(END - at).unwrap())]);
        put(out, DYNAMIC, &words(&[7, self.base() + at, 8, table.len() as u64, 9, 24, 0, 0]));
        if self.zero_words {
            for (at, _) in pointers {
                put(out, *at, &words(&[0]));
            }
        }
    }

    fn headers(&self) -> Vec<u8> {
        let machine: u16 = if self.arch == Arch::Aarch64 { 183 } else { 62 };
        let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        out.extend(if self.pie { 3_u16 } else { 2 }.to_le_bytes());
        out.extend(machine.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        out.extend(words(&[self.text(), 64, if self.section_headers { SECTION_TABLE } else { 0 }]));
        out.extend(0_u32.to_le_bytes());
        let count = if self.section_headers { SECTIONS } else { 0 };
        out.extend(
            [64, 56, if self.pie { 4 } else { 3 }, 64, count, 1].iter().flat_map(|n: &u16| n.to_le_bytes()),
        );
        let mut segment = |kind: u32, flags: u32, start: u64, end: u64, memory: u64| {
            out.extend(halves(&[kind, flags]));
            out.extend(words(&[start, self.base() + start, 0, end - start, end - start + memory, 0x1000]));
        };
        segment(1, 5, 0, RODATA, 0);
        segment(1, 4, RODATA, DATA, 0);
        segment(1, 6, DATA, END, 0x100);
        if self.pie {
            segment(2, 6, DYNAMIC, DYNAMIC + 0x40, 0);
        }
        out
    }

    /// Section headers, names and a symbol table behind the segments.
    fn sections(&self, out: &mut Vec<u8>) {
        let strings = b"\0.shstrtab\0.text\0.gopclntab\0.go.buildinfo\0.symtab\0.strtab\0.bss\0runtime.text\0main.main\0";
        let string = |text: &str| {
            let text = format!("{text}\0");
            u32::try_from(strings.windows(text.len()).position(|w| w == text.as_bytes()).unwrap()).unwrap()
        };
        out.extend(strings);
        out.resize(usize::try_from(END + 0x80).unwrap(), 0);
        out.extend([0; 24]);
        for (symbol, address, size) in
            [("runtime.text", self.text(), 0), ("main.main", self.entries()[0], 0x40)]
        {
            out.extend(halves(&[string(symbol)]));
            out.extend([2, 0, 2, 0]);
            out.extend(words(&[address, size]));
        }
        out.resize(usize::try_from(SECTION_TABLE).unwrap(), 0);
        let mut section = |text: &str, kind: u32, flags: u64, address: u64, place: (u64, u64), link: u32| {
            out.extend(halves(&[string(text), kind]));
            out.extend(words(&[flags, address, place.0, place.1]));
            out.extend(halves(&[link, 0]));
            out.extend(words(&[1, if kind == 2 { 24 } else { 0 }]));
        };
        let base = self.base();
        let table = self.pclntab().len() as u64;
        section("", 0, 0, 0, (0, 0), 0);
        section(".shstrtab", 3, 0, 0, (END, strings.len() as u64), 0);
        section(".text", 1, 6, base + TEXT, (TEXT, RODATA - TEXT), 0);
        section(".gopclntab", 1, 2, base + RODATA, (RODATA, table), 0);
        let info = if self.build_info.is_some() { 0x140 } else { 0 };
        section(".go.buildinfo", 1, 3, base + BUILD_INFO, (BUILD_INFO, info), 0);
        section(".symtab", 2, 0, 0, (END + 0x80, 72), 6);
        section(".strtab", 3, 0, 0, (END, strings.len() as u64), 0);
        section(".bss", 8, 3, base + END, (END, 0x100), 0);
    }
}

const SECTION_TABLE: u64 = END + 0x100;
const SECTIONS: u16 = 8;
