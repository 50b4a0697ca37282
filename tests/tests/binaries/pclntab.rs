//! Function tables against symbol tables and DWARF, for every Go version and way to build.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use addr2line::Context;
use gimli::{EndianSlice, LittleEndian};
use leakwatch_inspect::Elf;
use leakwatch_inspect::go::pclntab::{Pclntab, PclntabLocation};
use leakwatch_inspect::go::version::{GoVersion, find_build_info, guess_version};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSymbol, SymbolKind};

use super::targets::{Target, every_version, target};

/// Bytes between two pcs that are looked up: odd, so that it hits all kinds of places in instructions.
const STRIDE: u64 = 37;
const CAP: usize = 256 << 20;
const RUNTIME: [&str; 6] = [
    "runtime.newproc1",
    "runtime.casgstatus",
    "runtime.allgadd",
    "runtime.schedinit",
    "main.main",
    "runtime.goexit1",
];

/// A target with its table found.
struct Found {
    target: Target,
    elf: Elf,
    location: PclntabLocation,
}

impl Found {
    fn new(target: Target) -> Found {
        let elf = Elf::parse(&target.image).unwrap_or_else(|e| panic!("{}: {e}", target.name));
        let location =
            Pclntab::locate(&elf, &target.image).unwrap_or_else(|p| panic!("{}: {}", target.name, p.0));
        assert!(location.gofunc.is_some(), "{}: go:func.* was not found", target.name);
        assert!(location.moduledata.is_some(), "{}: moduledata was not found", target.name);
        Found { target, elf, location }
    }

    fn table(&self) -> Pclntab<'_> {
        Pclntab::new(&self.target.image, &self.location).unwrap()
    }

    /// Functions by address.
    fn functions(&self) -> BTreeMap<u64, &str> {
        self.table().functions().map(|f| (f.entry, f.name)).collect()
    }
}

/// Function symbols as the object crate reads them.
struct Symbols(BTreeMap<String, BTreeSet<u64>>);

impl Symbols {
    fn read(target: &Target) -> Symbols {
        let file = ElfFile64::<object::LittleEndian>::parse(target.image.as_slice()).unwrap();
        let mut all: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
        for symbol in file.symbols() {
            let keep = symbol.kind() == SymbolKind::Text || is_marker(symbol.name().unwrap_or_default());
            if let (true, Ok(name)) = (keep, symbol.name()) {
                all.entry(table_name(target.minor, name)).or_default().insert(symbol.address());
            }
        }
        Symbols(all)
    }

    fn only(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(BTreeSet::first).copied()
    }
}

fn is_marker(name: &str) -> bool {
    ["runtime.text", "runtime.etext", "runtime.firstmoduledata", "go:func.*", "go.func.*"].contains(&name)
}

/// The linker writes names for ELF with `.` in the place of `·`, and marks the ABI of assembly.
fn elf_names(name: &str) -> [String; 2] {
    let name = name.replace('·', ".");
    [name.clone(), format!("{name}.abi0")]
}

/// Names as function tables have them: before Go 1.21 with `[...]` for type arguments.
fn table_name(minor: u32, name: &str) -> String {
    match (minor < 21).then(|| name.split_once('[').zip(name.rsplit_once(']'))).flatten() {
        Some(((before, _), (_, after))) => format!("{before}[...]{after}"),
        None => name.to_owned(),
    }
}

fn check_symbols(found: &Found, symbols: &Symbols) {
    let name = &found.target.name;
    let location = &found.location;
    assert_eq!(Some(location.text_start), symbols.only("runtime.text"), "{name}: text");
    assert_eq!(Some(location.text_end), symbols.only("runtime.etext"), "{name}: etext");
    assert_eq!(location.moduledata, symbols.only("runtime.firstmoduledata"), "{name}: moduledata");
    let gofunc = symbols.only("go:func.*").or(symbols.only("go.func.*"));
    assert_eq!(location.gofunc, gofunc, "{name}: go:func.*");
    let functions = found.functions();
    assert!(functions.len() > 1500, "{name}: only {} functions", functions.len());
    assert_eq!(functions.len(), found.table().len(), "{name}: some functions cannot be read");
    for (entry, function) in functions {
        let at = |n: &String| symbols.0.get(n).is_some_and(|addresses| addresses.contains(&entry));
        assert!(
            elf_names(function).iter().any(at),
            "{name}: {function} at {entry:#x} is not in the symbol table"
        );
    }
    let ours = found.elf.symbols(&found.target.image, RUNTIME).map(|s| s.map(|s| s.address));
    let theirs = RUNTIME.map(|n| symbols.only(n));
    assert_eq!(ours, theirs, "{name}: Elf::symbols");
    let by_name = found.table().find(RUNTIME).map(|f| f.map(|f| f.entry));
    assert_eq!(by_name, theirs, "{name}: Pclntab::find");
}

/// Compares with the symbols of the same file.
fn check_flavour(flavour: &'static str) {
    for target in every_version(flavour) {
        let symbols = Symbols::read(&target);
        check_symbols(&Found::new(target), &symbols);
    }
}

#[test]
fn plain_agrees_with_its_symbols() {
    check_flavour("plain");
}

#[test]
fn pie_agrees_with_its_symbols() {
    check_flavour("pie");
}

#[test]
fn cgo_agrees_with_its_symbols() {
    check_flavour("cgo");
}

#[test]
fn arm64_agrees_with_its_symbols() {
    check_flavour("arm64");
}

/// Stripping leaves functions, files and lines as they are.
#[test]
fn strip_changes_nothing() {
    for stripped in every_version("strip") {
        let Some(plain) = target(stripped.minor, "plain") else { continue };
        let (stripped, plain) = (Found::new(stripped), Found::new(plain));
        assert!(!stripped.elf.symtab && !stripped.elf.dwarf, "{}", stripped.target.name);
        assert!(stripped.functions() == plain.functions(), "{}: functions differ", stripped.target.name);
        let (table, truth) = (stripped.table(), plain.table());
        for pc in pcs(&table) {
            assert_eq!(table.frames(pc), truth.frames(pc), "{}: {pc:#x}", stripped.target.name);
        }
    }
}

/// `-s -w -trimpath` leaves functions and lines; files lose the path before the package.
#[test]
fn trimpath_changes_only_paths() {
    for stripped in every_version("stripped") {
        let Some(plain) = target(stripped.minor, "plain") else { continue };
        let (stripped, plain) = (Found::new(stripped), Found::new(plain));
        let name = &stripped.target.name;
        assert!(!stripped.elf.symtab && !stripped.elf.dwarf, "{name}");
        let (table, truth) = (stripped.table(), plain.table());
        let names = |t: &Pclntab<'_>| t.functions().map(|f| f.name.to_owned()).collect::<Vec<_>>();
        assert!(names(&table) == names(&truth), "{name}: functions differ");
        for (ours, theirs) in table.functions().zip(truth.functions()) {
            for offset in (0..ours.end - ours.entry).step_by(37) {
                let chain = |t: &Pclntab<'_>, pc| -> Vec<_> {
                    let base = |f: Option<&str>| f.and_then(|f| f.rsplit('/').next()).map(str::to_owned);
                    t.frames(pc).iter().map(|f| (f.function.to_owned(), base(f.file), f.line)).collect()
                };
                let (a, b) = (chain(&table, ours.entry + offset), chain(&truth, theirs.entry + offset));
                assert_eq!(a, b, "{name}: {}+{offset:#x}", ours.name);
            }
        }
    }
}

fn pcs<'a>(table: &Pclntab<'a>) -> impl Iterator<Item = u64> + use<'a> {
    table.functions().flat_map(|f| (f.entry..f.end).step_by(usize::try_from(STRIDE).unwrap()))
}

/// (function, file, line), innermost first.
type Chain = Vec<(String, String, u32)>;

fn dwarf_chain(context: &Context<EndianSlice<'_, LittleEndian>>, pc: u64) -> Chain {
    let mut frames = context.find_frames(pc).skip_all_loads().unwrap();
    let mut chain = Chain::new();
    while let Some(frame) = frames.next().unwrap() {
        let function = frame.function.map(|f| f.raw_name().unwrap().into_owned()).unwrap_or_default();
        let (file, line) = frame.location.map_or((None, None), |l| (l.file, l.line));
        // A file without a folder is joined to the unit's, which is ".".
        let file = file.unwrap_or_default().trim_start_matches("./");
        chain.push((function, file.to_owned(), line.unwrap_or(0)));
    }
    chain
}

/// Frames, inlined ones with them, against what addr2line makes of the DWARF in the same file.
fn check_lines(flavour: &'static str) {
    for target in every_version(flavour) {
        let found = Found::new(target);
        let (name, image) = (&found.target.name, &found.target.image);
        let section = |id: gimli::SectionId| -> Result<Cow<'_, [u8]>, String> {
            Ok(found.elf.section_bytes(image, id.name(), CAP).map_err(|p| p.0)?.unwrap_or_default())
        };
        let sections = gimli::DwarfSections::load(section).unwrap();
        let context = Context::from_dwarf(sections.borrow(|s| EndianSlice::new(s, LittleEndian))).unwrap();
        let table = found.table();
        let (mut same, mut inlined, mut different) = (0, 0, Vec::new());
        for pc in pcs(&table) {
            let text = |f: Option<&str>| f.unwrap_or_default().to_owned();
            let frames = table.frames(pc);
            let ours: Chain =
                frames.iter().map(|f| (f.function.to_owned(), text(f.file), f.line.unwrap_or(0))).collect();
            let mut truth = dwarf_chain(&context, pc);
            for (function, _, _) in &mut truth {
                *function = table_name(found.target.minor, function);
            }
            // DWARF of Go 1.19 has no inlined calls in wrappers that the compiler made.
            let wrapper = ours.last().is_some_and(|(_, file, _)| file == "<autogenerated>");
            if wrapper && found.target.minor < 21 {
                continue;
            }
            if truth.first().is_none_or(|(_, _, line)| *line == 0) {
                continue;
            }
            let functions = |chain: &Chain| chain.iter().map(|(f, _, _)| f.clone()).collect::<Vec<_>>();
            assert_eq!(functions(&ours), functions(&truth), "{name}: {pc:#x}");
            if ours == truth {
                same += 1;
                inlined += usize::from(ours.len() > 1);
            } else {
                different.push((pc, ours, truth));
            }
        }
        assert!(same > 10_000 && inlined > 1_000, "{name}: only {same} pcs, {inlined} in inlined code");
        // A call inlined into a package's init has no instruction of its own line left, so that the function table
        // (and the runtime) say <autogenerated> where DWARF still knows. And Go 1.21 has a few empty line rows.
        assert!(
            different.len() * 1000 < same,
            "{name}: {} of {same}, such as {:?}",
            different.len(),
            different[0]
        );
    }
}

#[test]
fn plain_lines_agree_with_dwarf() {
    check_lines("plain");
}

#[test]
fn pie_lines_agree_with_dwarf() {
    check_lines("pie");
}

#[test]
fn cgo_lines_agree_with_dwarf() {
    check_lines("cgo");
}

#[test]
fn arm64_lines_agree_with_dwarf() {
    check_lines("arm64");
}

/// The version of the folder, by build info and by guess.
#[test]
fn versions() {
    for flavour in ["plain", "stripped", "pie", "cgo", "strip", "arm64"] {
        for target in every_version(flavour) {
            let found = Found::new(target);
            let info = find_build_info(&found.elf, &found.target.image).unwrap();
            let version = GoVersion::parse(&info.version).unwrap();
            assert_eq!(u32::from(version.minor), found.target.minor, "{}", found.target.name);
            assert!(info.settings.iter().any(|(key, _)| key == "CGO_ENABLED"), "{}", found.target.name);
            let guess = guess_version(&found.elf, &found.target.image, Some(&found.location)).unwrap();
            assert_eq!(guess, version, "{}", found.target.name);
        }
    }
}

/// With no section headers at all, the same is found by looking through the segments.
#[test]
fn without_section_headers() {
    for flavour in ["plain", "stripped", "pie", "cgo", "strip", "arm64"] {
        for target in every_version(flavour) {
            let with = Found::new(target);
            let mut image = with.target.image.clone();
            // e_shoff, and e_shnum with e_shstrndx.
            image[40..48].fill(0);
            image[60..64].fill(0);
            let elf = Elf::parse(&image).unwrap();
            assert!(elf.sections.is_empty() && elf.problems.is_empty(), "{}", with.target.name);
            let found = Pclntab::locate(&elf, &image).unwrap();
            // The section tells its end, the scan goes on to the segment's.
            let same =
                PclntabLocation { file: with.location.file.start..found.file.end, ..with.location.clone() };
            assert_eq!(found, same, "{}", with.target.name);
            let info = |elf: &Elf, image: &[u8]| find_build_info(elf, image).unwrap();
            assert_eq!(info(&elf, &image), info(&with.elf, &with.target.image), "{}", with.target.name);
        }
    }
}
