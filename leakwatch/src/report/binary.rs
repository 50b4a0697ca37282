//! What leakwatch knows of one binary, in words: the answer of `leakwatch inspect`.
//!
//! Plain data for the outputs, made of an [`Image`]. Addresses are link-time addresses of the file.

use leakwatch_inspect::{
    Arch, Elf, ElfKind, ProbeAction, ProbeSite,
    go::{BuildFlavour, GoFacts, GoGlobals, Source, pclntab::PclntabLocation},
};

use crate::images::{self, Image};

mod tokio_rt;

/// A binary.
#[expect(clippy::struct_excessive_bools, reason = "independent findings, not states")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Its path, in the process's mount namespace where it was found through one.
    pub path: String,
    /// The process it was found through.
    pub pid: Option<u32>,
    /// Size of the file.
    pub size_bytes: u64,
    /// `x86-64` or `arm64`.
    pub arch: &'static str,
    /// Position independent.
    pub pie: bool,
    /// Starts through the dynamic linker.
    pub dynamic: bool,
    /// Has a symbol table.
    pub symtab: bool,
    /// Has DWARF.
    pub dwarf: bool,
    /// GNU build id in hex.
    pub build_id: Option<String>,
    /// What the process's addresses are larger by; `None` for a file at rest.
    pub load_bias: Option<u64>,
    /// Runtimes linked in. None: nothing here for leakwatch to watch.
    pub runtimes: Vec<BinaryRuntime>,
    /// What is odd about the file.
    pub problems: Vec<String>,
}

/// A runtime in a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryRuntime {
    /// `go`, `tokio`.
    pub kind: &'static str,
    /// Such as `go1.26.1`; `None`: nothing tells it.
    pub version: Option<String>,
    /// Where the version was found.
    pub version_source: Option<&'static str>,
    /// Main package.
    pub main_package: Option<String>,
    /// How it was built, in words.
    pub flavour: Vec<&'static str>,
    /// Build settings as recorded.
    pub settings: Vec<(String, String)>,
    /// Its function table.
    pub functions: Option<FunctionTable>,
    /// Probe sites.
    pub probes: Vec<Probe>,
    /// Offsets inside the runtime's structs.
    pub layout: Option<Layout>,
    /// The runtime's variables.
    pub globals: Vec<Variable>,
    /// How many wait reasons have a name.
    pub wait_reasons: usize,
    /// Types of tasks, where the runtime has such.
    pub types: Vec<TypeOfTask>,
    /// How it can be watched.
    pub watch: Watch,
    /// What is missing, and what does not work for it.
    pub missing: Vec<String>,
    /// What is odd.
    pub problems: Vec<String>,
}

impl BinaryRuntime {
    /// A runtime that the user named: its probes are all that is known of it.
    pub fn named(
        kind: &'static str,
        version: Option<String>,
        probes: Vec<Probe>,
        problems: Vec<String>,
    ) -> Self {
        Self {
            kind,
            version,
            version_source: None,
            main_package: None,
            flavour: Vec::new(),
            settings: Vec::new(),
            functions: None,
            probes,
            layout: None,
            globals: Vec::new(),
            wait_reasons: 0,
            types: Vec::new(),
            watch: Watch::Probes,
            missing: Vec::new(),
            problems,
        }
    }

    /// Whether the user named it.
    pub fn is_named(&self) -> bool {
        self.kind.starts_with(NAMED)
    }
}

/// What the kinds of runtimes that a user named begin with.
const NAMED: &str = "custom";

/// How a program can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Every start and end of a task, and what is alive.
    Probes,
    /// What is alive, by looking at its memory.
    Memory,
    /// Not at all.
    No,
}

/// The function and line tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionTable {
    /// Number of functions.
    pub count: u32,
    /// The first Go version with this format, such as `go1.20`.
    pub format: String,
    /// Address of the table.
    pub address: u64,
    /// Address that entries count from.
    pub text: u64,
    /// Inlined functions have names too.
    pub inlined: bool,
}

/// An instruction to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// `start` or `end`.
    pub action: &'static str,
    /// The function that holds it.
    pub function: String,
    /// Its address.
    pub address: u64,
    /// Its place in the file.
    pub file_offset: u64,
    /// As text.
    pub instruction: String,
    /// Its bytes in hex.
    pub bytes: String,
    /// The register that holds the task there.
    pub register: String,
    /// Costs one trap instead of two.
    pub emulated: bool,
    /// Why this one.
    pub reason: String,
}

/// Where the offsets are from, and some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where they were found.
    pub source: &'static str,
    /// Field and byte offset; `None`: this version has no such field.
    pub fields: Vec<(&'static str, Option<u32>)>,
    /// Enough is known to walk the heap.
    pub heap: bool,
}

/// A variable of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Such as `runtime.allgs`.
    pub name: &'static str,
    /// Address and where it was found; `None`: not found.
    pub found: Option<(u64, &'static str)>,
}

/// A type of task: a future that is spawned somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeOfTask {
    /// Address of its vtable, by which its tasks are recognised.
    pub vtable: u64,
    /// `async` or `blocking`.
    pub kind: Option<&'static str>,
    /// Its name from symbols.
    pub name: Option<String>,
    /// No other type has this name.
    pub name_is_certain: bool,
    /// The scheduler that it is spawned on.
    pub scheduler: Option<String>,
    /// `file:line:column` of its async block.
    pub place: Option<String>,
    /// Its poll function.
    pub poll: Option<u64>,
    /// Offset of a task's id.
    pub id_offset: Option<u64>,
    /// Functions that make such tasks.
    pub makers: usize,
}

impl Binary {
    /// What is known of an image; `pid` where it was found through a process.
    pub fn of(image: &Image, pid: Option<u32>) -> Self {
        let inspection = image.inspection();
        let elf = &inspection.elf;
        Self {
            path: image.path().display().to_string(),
            pid,
            size_bytes: image.executable().identity().size,
            arch: arch(elf.arch),
            pie: elf.kind == ElfKind::PositionIndependent,
            dynamic: elf.dynamic,
            symtab: elf.symtab,
            dwarf: elf.dwarf,
            build_id: elf.build_id(),
            load_bias: pid.map(|_| image.bias()),
            runtimes: inspection
                .go
                .iter()
                .map(|go| runtime(elf, go))
                .chain(inspection.tokio.iter().map(|facts| tokio_rt::runtime(elf, facts)))
                .collect(),
            problems: elf.problems.iter().map(|problem| problem.0.clone()).collect(),
        }
    }
}

fn runtime(elf: &Elf, go: &GoFacts) -> BinaryRuntime {
    BinaryRuntime {
        kind: "go",
        version: go.version.as_ref().map(|version| version.text.clone()),
        version_source: go.version_source.map(source),
        main_package: go.main_path.clone(),
        flavour: flavour(&go.flavour),
        settings: go.settings.clone(),
        functions: go.pclntab.as_ref().map(functions),
        probes: go.start.iter().chain(&go.end).map(|site| probe(elf.arch, site)).collect(),
        layout: go.layout.as_ref().map(layout),
        globals: globals(&go.globals),
        wait_reasons: go.wait_reasons.len(),
        types: Vec::new(),
        watch: watch(elf, go),
        missing: missing(elf, go),
        problems: go.problems.iter().map(|problem| problem.0.clone()).collect(),
    }
}

/// Reading what is alive takes the layout of a goroutine and where all of them are listed.
fn watch(elf: &Elf, go: &GoFacts) -> Watch {
    let readable = go.layout.is_some() && go.globals.allglen.is_some() && go.globals.allgptr.is_some();
    match (readable && elf.arch == Arch::X86_64, go.start.is_some() && go.end.is_some()) {
        (false, _) => Watch::No,
        (true, false) => Watch::Memory,
        (true, true) => Watch::Probes,
    }
}

fn missing(elf: &Elf, go: &GoFacts) -> Vec<String> {
    let globals = &go.globals;
    let all = [
        (elf.arch == Arch::X86_64, "an x86-64 program: leakwatch reads arm64 binaries but watches none yet"),
        (go.start.is_some(), "the probe site for starts: goroutines are counted by reading memory"),
        (go.end.is_some(), "the probe site for ends: goroutines are counted by reading memory"),
        (go.layout.is_some(), "the layout of a goroutine: nothing can be read from memory"),
        (
            globals.allglen.is_some() && globals.allgptr.is_some(),
            "runtime.allglen or runtime.allgptr: what is alive at attach cannot be read",
        ),
        (globals.sched.is_some(), "runtime.sched: the number of the runtime's own goroutines is not known"),
        (go.pclntab.is_some(), "the function table: addresses have no names"),
        (
            !go.wait_reasons.is_empty() || globals.wait_reason_strings.is_some(),
            "the names of wait reasons: they are shown as numbers",
        ),
        (go.version.is_some(), "the version: offsets are tried and checked"),
    ];
    all.into_iter().filter(|(there, _)| !there).map(|(_, what)| what.to_owned()).collect()
}

const fn arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86-64",
        Arch::Aarch64 => "arm64",
    }
}

/// Where a fact was found, in words that follow "from".
const fn source(source: Source) -> &'static str {
    match source {
        Source::BuildInfo => "the build info",
        Source::Dwarf => "the binary's DWARF",
        Source::Symtab => "the symbol table",
        Source::Code => "the code that uses it",
        Source::Table => "the table shipped with leakwatch",
        Source::NewestKnown => "the newest version in the table shipped with leakwatch (this one is newer)",
        Source::Guess => "strings in the binary (a guess)",
    }
}

fn flavour(flavour: &BuildFlavour) -> Vec<&'static str> {
    let words = [
        (flavour.pie, "position independent"),
        (flavour.cgo, "cgo"),
        (flavour.external_link == Some(true), "linked externally"),
        (flavour.stripped, "no symbol table"),
        (flavour.no_dwarf, "no DWARF"),
        (flavour.trimpath == Some(true), "-trimpath"),
    ];
    words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect()
}

fn functions(table: &PclntabLocation) -> FunctionTable {
    FunctionTable {
        count: table.functions,
        format: format!("go1.{}", table.format),
        address: table.address,
        text: table.text_start,
        inlined: table.gofunc.is_some(),
    }
}

fn probe(arch: Arch, site: &ProbeSite) -> Probe {
    Probe {
        action: match site.action {
            ProbeAction::Start => "start",
            ProbeAction::End => "end",
        },
        function: site.function.clone(),
        address: site.address,
        file_offset: site.file_offset,
        instruction: site.text.clone(),
        bytes: images::hex(&site.bytes),
        register: register(arch, site.task_register),
        emulated: site.emulated,
        reason: site.reason.clone(),
    }
}

fn register(arch: Arch, number: u8) -> String {
    const X86: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];
    match (arch, X86.get(usize::from(number))) {
        (Arch::X86_64, Some(name)) => (*name).to_owned(),
        (Arch::X86_64, None) => format!("register {number}"),
        (Arch::Aarch64, _) => format!("x{number}"),
    }
}

fn layout(layout: &leakwatch_inspect::go::layout::GoLayout) -> Layout {
    Layout {
        source: source(layout.source),
        fields: vec![
            ("g", Some(layout.g_size)),
            ("g.stack.lo", Some(layout.stack_lo)),
            ("g.stack.hi", Some(layout.stack_hi)),
            ("g.m", Some(layout.m)),
            ("g.sched.sp", Some(layout.sched_sp)),
            ("g.sched.pc", Some(layout.sched_pc)),
            ("g.sched.bp", Some(layout.sched_bp)),
            ("g.syscallsp", Some(layout.syscallsp)),
            ("g.syscallpc", Some(layout.syscallpc)),
            ("g.syscallbp", layout.syscallbp),
            ("g.atomicstatus", Some(layout.atomicstatus)),
            ("g.goid", Some(layout.goid)),
            ("g.waitsince", Some(layout.waitsince)),
            ("g.waitreason", Some(layout.waitreason)),
            ("g.parentGoid", layout.parent_goid),
            ("g.gopc", Some(layout.gopc)),
            ("g.startpc", Some(layout.startpc)),
            ("schedt.goidgen", Some(layout.sched_goidgen)),
            ("schedt.ngsys", Some(layout.sched_ngsys)),
        ],
        heap: layout.heap.is_some(),
    }
}

fn globals(globals: &GoGlobals) -> Vec<Variable> {
    let all = [
        ("runtime.allgs", globals.allgs),
        ("runtime.allglen", globals.allglen),
        ("runtime.allgptr", globals.allgptr),
        ("runtime.sched", globals.sched),
        ("runtime.waitReasonStrings", globals.wait_reason_strings),
        ("runtime.firstmoduledata", globals.firstmoduledata),
        ("runtime.mheap_", globals.mheap),
        ("runtime.semtable", globals.semtable),
        ("runtime.allp", globals.allp),
    ];
    let found = |global: leakwatch_inspect::go::Global| (global.address, source(global.source));
    all.into_iter().map(|(name, global)| Variable { name, found: global.map(found) }).collect()
}

/// A binary with names that nobody should trust.
#[cfg(test)]
pub(crate) fn sample() -> Binary {
    Binary {
        path: "/srv/app\x1b[2J".to_owned(),
        pid: Some(7),
        size_bytes: 5_000_000,
        arch: "x86-64",
        pie: true,
        dynamic: false,
        symtab: false,
        dwarf: false,
        build_id: None,
        load_bias: Some(0x5555_0000_0000),
        runtimes: vec![BinaryRuntime {
            kind: "go",
            version: Some("go1.26.1".to_owned()),
            version_source: Some(source(Source::BuildInfo)),
            main_package: Some("example.com/app".to_owned()),
            flavour: vec!["position independent"],
            settings: vec![("-tags".to_owned(), "a\nb".to_owned())],
            functions: None,
            probes: vec![Probe {
                action: "start",
                function: "runtime.newproc1".to_owned(),
                address: 0x45_4168,
                file_offset: 0x5_4168,
                instruction: "call 0x44cde0".to_owned(),
                bytes: "e8 73 8c ff ff".to_owned(),
                register: "rax".to_owned(),
                emulated: true,
                reason: "it is the last call".to_owned(),
            }],
            layout: None,
            globals: vec![
                Variable { name: "runtime.allglen", found: Some((0x62_5400, source(Source::Code))) },
                Variable { name: "runtime.sched", found: None },
            ],
            wait_reasons: 45,
            types: vec![TypeOfTask {
                vtable: 0x71_0000,
                kind: Some("async"),
                name: Some("app::accept::{closure#0}".to_owned()),
                name_is_certain: true,
                scheduler: None,
                place: Some("src/app.rs:3:5".to_owned()),
                poll: Some(0x45_0000),
                id_offset: Some(40),
                makers: 1,
            }],
            watch: Watch::No,
            missing: vec!["the layout of a goroutine".to_owned()],
            problems: vec!["odd".to_owned()],
        }],
        problems: vec!["the file was deleted".to_owned()],
    }
}
