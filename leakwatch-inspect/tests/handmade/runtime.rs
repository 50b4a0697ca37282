//! A file with the parts of a Go runtime that probe sites, globals and layouts are read from, assembled here.

use leakwatch_inspect::elf::Arch;
use leakwatch_inspect::go::{GoFacts, Source};
use leakwatch_inspect::inspect;

/// Addresses: code, then function tables and data.
const BASE: u64 = 0x40_0000;
const TEXT: u64 = BASE + 0x200;
const TABLES: u64 = BASE + 0x1000;
const DATA: u64 = BASE + 0x1800;
const REASONS: u64 = DATA + 0x100;
/// Globals without bytes in the file.
const BSS: u64 = BASE + 0x2000;
const ALLGS: u64 = BSS;
const ALLGLEN: u64 = BSS + 0x20;
const ALLGPTR: u64 = BSS + 0x28;
const ALLP: u64 = BSS + 0x40;
const SCHED: u64 = BSS + 0x100;
const NGSYS: u64 = 96;
const SEMTABLE: u64 = BSS + 0x200;
const MHEAP: u64 = BSS + 0x400;
/// End of what is loaded from the file; debug sections follow.
const LOADED: usize = 0x2000;

/// How the compiler treated casgstatus and what else differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As Go 1.27 on amd64.
    Called,
    /// Inlined, as in profile-guided builds.
    Inlined,
    /// Inlined in a way that gives no jump into the loop.
    InlinedStraight,
    /// newproc1 inlined into its caller.
    NoCaller,
    /// newproc1 has an instruction that is none.
    Garbage,
    /// The code's `sched.ngsys` is not where the table says.
    OtherLayout,
    /// arm64.
    Arm64,
}

pub(super) const KINDS: [Kind; 7] = [
    Kind::Called,
    Kind::Inlined,
    Kind::InlinedStraight,
    Kind::NoCaller,
    Kind::Garbage,
    Kind::OtherLayout,
    Kind::Arm64,
];

/// Part of a function.
enum Part {
    Bytes(Vec<u8>),
    /// A direct call.
    Call(&'static str),
    /// Opcode and `ModRM` byte, then the distance to an address.
    Rip(&'static [u8], u64),
}

use Part::{Call, Rip};

fn bytes(bytes: &[u8]) -> Part {
    Part::Bytes(bytes.to_vec())
}

/// mov ebx, FROM; mov ecx, TO; call runtime.casgstatus
fn change(from: u8, to: u8) -> Vec<Part> {
    vec![bytes(&[0xbb, from, 0, 0, 0, 0xb9, to, 0, 0, 0]), Call("runtime.casgstatus")]
}

/// The loop that casgstatus is inlined as: jmp in; back: mov rcx, [rsp + 8]; in: mov eax, FROM; lock cmpxchg
/// [rcx + 0x90], edi; jne back.
fn swap(from: u8, jump: bool) -> Part {
    let mut code = if jump { vec![0xeb, 5] } else { vec![] };
    code.extend([
        0x48, 0x8b, 0x4c, 0x24, 8, 0xb8, from, 0, 0, 0, 0xf0, 0x0f, 0xb1, 0xb9, 0x90, 0, 0, 0, 0x75, 0xec,
    ]);
    Part::Bytes(code)
}

const LEA_RAX: &[u8] = &[0x48, 0x8d, 0x05];
const LEA_RCX: &[u8] = &[0x48, 0x8d, 0x0d];
const LEA_RDX: &[u8] = &[0x48, 0x8d, 0x15];
const LOAD_RAX: &[u8] = &[0x48, 0x8b, 0x05];
const LOAD_RCX: &[u8] = &[0x48, 0x8b, 0x0d];

fn x86_64(kind: Kind) -> Vec<(&'static str, Vec<Part>)> {
    let ngsys = SCHED + if kind == Kind::OtherLayout { 72 } else { NGSYS };
    let inlined = matches!(kind, Kind::Inlined | Kind::InlinedStraight);
    let ret = || bytes(&[0xc3, 0xcc, 0xcc]);
    let mut newproc1 = change(0, 6);
    // lock xadd [rcx], r8; lock xadd [rdx], esi
    newproc1.extend([Rip(LEA_RCX, SCHED), bytes(&[0xf0, 0x4c, 0x0f, 0xc1, 1])]);
    newproc1.extend([Rip(LEA_RDX, ngsys), bytes(&[0xf0, 0x0f, 0xc1, 0x32])]);
    newproc1.extend(if inlined { vec![swap(6, kind == Kind::Inlined)] } else { change(6, 1) });
    newproc1.push(if kind == Kind::Garbage { bytes(&[0x06, 0xc3]) } else { ret() });
    // cmp [r14 + 0x10], rsp; jbe; push rbp
    let mut gdestroy = vec![bytes(&[0x49, 0x3b, 0x66, 0x10, 0x76, 0, 0x55])];
    gdestroy.extend(if inlined { vec![swap(2, true)] } else { change(2, 6) });
    gdestroy.extend([Rip(LEA_RDX, ngsys), bytes(&[0xf0, 0x0f, 0xc1, 0x32]), ret()]);
    let caller = if kind == Kind::NoCaller { vec![ret()] } else { vec![Call("runtime.newproc1"), ret()] };
    let walk = || vec![Rip(LOAD_RAX, ALLP), Rip(LOAD_RCX, ALLP + 8), ret()];
    vec![
        ("runtime.casgstatus", vec![ret()]),
        ("runtime.newproc1", newproc1),
        ("runtime.newproc.func1", caller),
        ("runtime.gdestroy", gdestroy),
        ("runtime.goexit0", vec![Call("runtime.gdestroy"), ret()]),
        (
            "runtime.allgadd",
            vec![
                Rip(LOAD_RCX, ALLGS + 16),
                Rip(LOAD_RAX, ALLGS + 8),
                Rip(LOAD_RCX, ALLGS),
                Rip(&[0x48, 0x39, 0x1d], ALLGPTR),
                Rip(LEA_RCX, ALLGPTR),
                bytes(&[0x48, 0x87, 0x19]),
                Rip(LEA_RDX, ALLGLEN),
                bytes(&[0x48, 0x87, 0x0a]),
                ret(),
            ],
        ),
        ("runtime.forEachG", vec![Rip(LOAD_RAX, ALLGS), Rip(LOAD_RCX, ALLGS + 8), ret()]),
        ("runtime.waitReason.String", vec![Rip(LEA_RDX, REASONS), ret()]),
        ("runtime.modulesinit", vec![Rip(LEA_RCX, DATA), ret()]),
        ("runtime.mallocinit", vec![Rip(LEA_RAX, MHEAP), Call("runtime.(*mheap).init"), ret()]),
        ("runtime.(*mheap).init", vec![ret()]),
        ("runtime.(*mheap).alloc", vec![ret()]),
        ("runtime.(*mcentral).grow", vec![Rip(LEA_RAX, MHEAP), Call("runtime.(*mheap).alloc"), ret()]),
        ("runtime.semacquire1", vec![Rip(LEA_RCX, SEMTABLE), ret()]),
        ("runtime.semrelease1", vec![Rip(LEA_RDX, SEMTABLE), ret()]),
        (
            "runtime.procresize",
            vec![Rip(LOAD_RAX, ALLP), Rip(LOAD_RCX, ALLP + 8), Rip(LOAD_RAX, ALLP + 16), ret()],
        ),
        ("runtime.retake", walk()),
        ("runtime.checkdead", walk()),
    ]
}

/// Words of arm64 code.
fn arm64() -> Vec<(&'static str, Vec<Part>)> {
    let code = |words: &[u32]| Part::Bytes(words.iter().flat_map(|word| word.to_le_bytes()).collect());
    let (six, two, one) = (0xb27f_07e1, 0xb27f_03e1, 0xb240_03e2);
    let call = || Call("runtime.casgstatus");
    let ret = || code(&[0xd65f_03c0, 0]);
    vec![
        ("runtime.casgstatus", vec![ret()]),
        ("runtime.newproc1", vec![code(&[0xaa1f_03e1]), call(), code(&[six, one]), call(), ret()]),
        ("runtime.newproc.func1", vec![Call("runtime.newproc1"), ret()]),
        ("runtime.gdestroy", vec![code(&[two, six + 1]), call(), ret()]),
        ("runtime.goexit0", vec![Call("runtime.gdestroy"), ret()]),
    ]
}

/// Code, and the functions' names, entries and end.
fn assemble(arch: Arch, functions: &[(&'static str, Vec<Part>)]) -> (Vec<u8>, Vec<(&'static str, u64)>, u64) {
    let size = |part: &Part| match part {
        Part::Bytes(bytes) => bytes.len(),
        Call(_) if arch == Arch::Aarch64 => 4,
        Call(_) => 5,
        Rip(opcode, _) => opcode.len() + 4,
    };
    let mut at = TEXT;
    let mut entries = vec![];
    for (name, parts) in functions {
        entries.push((*name, at));
        at += parts.iter().map(size).sum::<usize>() as u64;
    }
    let mut code: Vec<u8> = vec![];
    for part in functions.iter().flat_map(|(_, parts)| parts) {
        let here = TEXT + code.len() as u64;
        let distance =
            |from: u64, target: u64| i32::try_from(target.wrapping_sub(from).cast_signed()).unwrap();
        let after = here + size(part) as u64;
        match part {
            Part::Bytes(bytes) => code.extend(bytes),
            Call(name) => {
                let target = entries.iter().find(|(other, _)| other == name).unwrap().1;
                if arch == Arch::Aarch64 {
                    let words = (distance(here, target) >> 2).cast_unsigned() & 0x03ff_ffff;
                    code.extend((0x9400_0000 | words).to_le_bytes());
                } else {
                    code.push(0xe8);
                    code.extend(distance(after, target).to_le_bytes());
                }
            }
            Rip(opcode, target) => {
                code.extend(*opcode);
                code.extend(distance(after, *target).to_le_bytes());
            }
        }
    }
    (code, entries, at)
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A function table of Go 1.20 - 1.25 (`runtime/symtab.go`, pcHeader).
fn pclntab(arch: Arch, functions: &[(&str, u64)], end: u64) -> Vec<u8> {
    let mut names = vec![0_u8];
    let mut offsets = vec![];
    for (name, _) in functions {
        offsets.push(u32::try_from(names.len()).unwrap());
        names.extend(name.bytes().chain([0]));
    }
    names.resize(names.len().next_multiple_of(8), 0);
    let count = functions.len();
    let header = 72;
    let tables = header + names.len() as u64 + 8;
    let mut out = 0xffff_fff1_u32.to_le_bytes().to_vec();
    out.extend([0, 0, if arch == Arch::Aarch64 { 4 } else { 1 }, 8]);
    out.extend(words(&[count as u64, 0, TEXT, header, tables - 8, tables - 8, tables - 8, tables]));
    out.extend(names);
    out.extend([0; 8]);
    let ftab = count * 8 + 4;
    for (index, (_, entry)) in functions.iter().enumerate() {
        out.extend(u32::try_from(entry - TEXT).unwrap().to_le_bytes());
        out.extend(u32::try_from(ftab + index * 44).unwrap().to_le_bytes());
    }
    out.extend(u32::try_from(end - TEXT).unwrap().to_le_bytes());
    for ((_, entry), name) in functions.iter().zip(offsets) {
        out.extend(u32::try_from(entry - TEXT).unwrap().to_le_bytes());
        out.extend(name.to_le_bytes());
        out.extend([0; 36]);
    }
    out
}

/// DWARF 4 with the types of package runtime: fields in the order given, 8 bytes each, from `first` on.
fn dwarf(first: u8) -> (Vec<u8>, Vec<u8>) {
    let abbrev = [
        &[1, 0x11, 1, 0x03, 0x08, 0, 0][..],         // compile unit: name
        &[2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0f, 0, 0], // structure: name, byte_size
        &[3, 0x0d, 0, 0x03, 0x08, 0x38, 0x0f, 0x49, 0x10, 0, 0], // member: name, location, type
        &[0],
    ]
    .concat();
    let structs: [(&str, &[&str]); 4] = [
        ("runtime.stack", &["lo", "hi"]),
        ("runtime.gobuf", &["sp", "pc", "bp"]),
        ("runtime.schedt", &["goidgen", "ngsys", "gFree"]),
        (
            "runtime.g",
            &[
                "m",
                "syscallsp",
                "syscallpc",
                "atomicstatus",
                "goid",
                "waitsince",
                "waitreason",
                "gopc",
                "startpc",
                "waiting",
                "labels",
                "lockedm",
                "stack",
                "sched",
            ],
        ),
    ];
    let mut out = vec![0; 4];
    out.extend([4, 0, 0, 0, 0, 0, 8]);
    out.extend(b"\x01runtime\0");
    let mut places = vec![];
    for (name, members) in structs {
        places.push((name, u32::try_from(out.len()).unwrap()));
        out.push(2);
        out.extend(name.bytes().chain([0, 100]));
        for (index, member) in members.iter().enumerate() {
            let ty = match *member {
                "stack" => places[0].1,
                "sched" => places[1].1,
                _ => 0,
            };
            out.push(3);
            out.extend(member.bytes().chain([0, first + 8 * u8::try_from(index).unwrap()]));
            out.extend(ty.to_le_bytes());
        }
        out.push(0);
    }
    out.push(0);
    let length = u32::try_from(out.len() - 4).unwrap();
    out[..4].copy_from_slice(&length.to_le_bytes());
    (out, abbrev)
}

/// The file; with DWARF if `dwarf`.
pub(super) fn build(kind: Kind, with_dwarf: bool) -> Vec<u8> {
    let arch = if kind == Kind::Arm64 { Arch::Aarch64 } else { Arch::X86_64 };
    let (code, functions, end) = assemble(arch, &if kind == Kind::Arm64 { arm64() } else { x86_64(kind) });
    let mut out = vec![0; LOADED];
    let mut put = |address: u64, bytes: &[u8]| {
        let at = usize::try_from(address - BASE).unwrap();
        out[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(TEXT, &code);
    put(TABLES, &pclntab(arch, &functions, end));
    // moduledata: pcHeader, five slices, the length of ftab, text and etext
    let mut module = vec![0; 40];
    module[0] = TABLES;
    module[17] = functions.len() as u64 + 1;
    put(DATA, &words(&module));
    let text = DATA + 0x600;
    put(text, b"chan receive");
    for index in 1..30_u64 {
        put(REASONS + 16 * index, &words(&[text, 12]));
    }
    let (info, abbrev) = if with_dwarf { dwarf(8) } else { (vec![], vec![]) };
    let names = b"\0.text\0.gopclntab\0.debug_info\0.debug_abbrev\0.shstrtab\0";
    let (info_at, abbrev_at) = (out.len(), out.len() + info.len());
    let names_at = abbrev_at + abbrev.len();
    out.extend(info.iter().chain(&abbrev).chain(names));
    let headers = out.len();
    let section = |name: &str, kind: u32, address: u64, offset: usize, size: usize| {
        let at = names.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        let mut header = u32::try_from(at).unwrap().to_le_bytes().to_vec();
        header.extend(kind.to_le_bytes());
        header.extend(words(&[
            if address == 0 { 0 } else { 2 },
            address,
            offset as u64,
            size as u64,
            0,
            1,
            0,
        ]));
        header
    };
    let tables = pclntab(arch, &functions, end).len();
    for header in [
        vec![0; 64],
        section(".text", 1, TEXT, 0x200, code.len()),
        section(".gopclntab", 1, TABLES, 0x1000, tables),
        section(".debug_info", 1, 0, info_at, info.len()),
        section(".debug_abbrev", 1, 0, abbrev_at, abbrev.len()),
        section(".shstrtab", 3, 0, names_at, names.len()),
    ] {
        out.extend(header);
    }
    let machine: u16 = if arch == Arch::Aarch64 { 183 } else { 62 };
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    header.extend(machine.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    header.extend(words(&[TEXT, 64, headers as u64]));
    header.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 6, 0, 5, 0]);
    for (flags, address, file, memory) in [(5_u64, BASE, 0x1000_u64, 0x1000_u64), (6, TABLES, 0x1000, 0x3000)]
    {
        header.extend(words(&[1 | flags << 32, address - BASE, address, address, file, memory, 0x1000]));
    }
    out[..header.len()].copy_from_slice(&header);
    out
}

fn facts(kind: Kind, with_dwarf: bool) -> (Vec<u8>, GoFacts) {
    let image = build(kind, with_dwarf);
    let go = inspect(&image).unwrap().go.unwrap();
    (image, go)
}

/// Function and instruction of both sites, and the register that holds g.
fn check(kind: Kind, start: (&str, u8, bool), end: (&str, u8)) {
    let (image, go) = facts(kind, false);
    let (first, last) = (go.start.unwrap(), go.end.unwrap());
    let text = |site: &leakwatch_inspect::ProbeSite| site.text.split(' ').next().unwrap().to_owned();
    assert_eq!((first.function.as_str(), last.function.as_str()), ("runtime.newproc1", "runtime.gdestroy"));
    assert_eq!((text(&first).as_str(), first.task_register, first.emulated), start, "{kind:?}: {first:?}");
    assert_eq!((text(&last).as_str(), last.task_register), end, "{kind:?}: {last:?}");
    for site in [first, last] {
        let at = usize::try_from(site.file_offset).unwrap();
        assert_eq!(image[at..][..site.bytes.len()], site.bytes);
        assert_eq!(site.address - BASE, site.file_offset);
    }
}

#[test]
fn probe_sites() {
    check(Kind::Called, ("call", 0, true), ("call", 0));
    check(Kind::Inlined, ("jmp", 1, true), ("push", 0));
    check(Kind::InlinedStraight, ("lock", 1, false), ("push", 0));
    check(Kind::Arm64, ("bl", 0, true), ("bl", 0));
}

#[test]
fn a_site_that_would_miss_goroutines_is_refused() {
    let (_, go) = facts(Kind::NoCaller, false);
    assert!(go.start.is_none() && go.end.is_some());
    assert!(
        go.problems.iter().any(|problem| problem.0.contains("inlined into runtime.newproc.func1")),
        "{:?}",
        go.problems
    );
}

#[test]
fn a_function_that_does_not_decode_is_refused() {
    let (_, go) = facts(Kind::Garbage, false);
    assert!(go.start.is_none() && go.end.is_some());
    assert!(
        go.problems.iter().any(|problem| problem.0.contains("cannot be disassembled")),
        "{:?}",
        go.problems
    );
}

#[test]
fn globals_from_code() {
    let (_, go) = facts(Kind::Called, false);
    let at = |global: Option<leakwatch_inspect::go::Global>| {
        let global = global.unwrap();
        assert_eq!(global.source, Source::Code);
        global.address
    };
    let globals = go.globals;
    assert_eq!([at(globals.allgs), at(globals.allglen), at(globals.allgptr)], [ALLGS, ALLGLEN, ALLGPTR]);
    assert_eq!([at(globals.sched), at(globals.allp)], [SCHED, ALLP]);
    assert_eq!([at(globals.wait_reason_strings), at(globals.firstmoduledata)], [REASONS, DATA]);
    assert_eq!([at(globals.mheap), at(globals.semtable)], [MHEAP, SEMTABLE]);
    assert_eq!(go.wait_reasons.get(1).map(String::as_str), Some("chan receive"));
}

#[test]
fn a_table_that_the_code_contradicts_is_not_used() {
    assert!(facts(Kind::Called, false).1.layout.is_some());
    let (_, go) = facts(Kind::OtherLayout, false);
    assert!(go.layout.is_none());
    assert!(go.problems.iter().any(|problem| problem.0.contains("sched.ngsys at 72")), "{:?}", go.problems);
}

#[test]
fn dwarf_wins_over_the_table() {
    let (_, go) = facts(Kind::Called, true);
    let layout = go.layout.unwrap();
    assert_eq!((layout.source, layout.g_size, layout.heap), (Source::Dwarf, 100, None));
    assert_eq!((layout.m, layout.gopc, layout.startpc), (8, 64, 72));
    // The stack is the 13th field, its hi the second of that.
    assert_eq!((layout.stack_lo, layout.stack_hi), (104 + 8, 104 + 16));
    assert_eq!((layout.sched_sp, layout.sched_bp), (112 + 8, 112 + 24));
    assert_eq!((layout.parent_goid, layout.syscallbp), (None, None));
}
