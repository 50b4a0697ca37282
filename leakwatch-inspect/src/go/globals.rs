//! Addresses of the runtime's globals: from symbols, else from the code that uses them.
//!
//! What the code says is accepted only when it is checked: by the shape of the variable, by its contents, or by a
//! second function that uses the same address in its own way. Must never return an address outside of writable data.
//! Function bodies: `src/runtime/proc.go`, `sema.go`, `symtab.go`, `malloc.go`, `mcentral.go` of Go 1.18 - 1.27.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::code::{Code, Reference};
use super::disasm::Access;
use super::pclntab::{Pclntab, PclntabLocation};
use super::{Global, GoGlobals, Source};
use crate::{Elf, Problem};

/// `_PCHeader` is the first word of a moduledata; ftab is the sixth slice after it (`src/runtime/symtab.go`).
const MODULEDATA_FTAB_LEN: u64 = 8 * (1 + 5 * 3 + 1);
/// Number of wait reasons that are looked at to recognise `waitReasonStrings`; 1.18 has 31.
const CHECKED_WAIT_REASONS: usize = 24;
/// Longest wait reason ("GC worker (idle)", "flushing proc caches", ...) that is believed.
const MAX_WAIT_REASON: usize = 64;

/// The globals as the symbol table names them.
pub fn from_symbols(elf: &Elf, image: &[u8]) -> GoGlobals {
    let found = elf.symbols(
        image,
        [
            "runtime.allgs",
            "runtime.allglen",
            "runtime.allgptr",
            "runtime.sched",
            "runtime.waitReasonStrings",
            "runtime.firstmoduledata",
            "runtime.mheap_",
            "runtime.semtable",
            "runtime.allp",
        ],
    );
    let [allgs, allglen, allgptr, sched, wait_reason_strings, firstmoduledata, mheap, semtable, allp] =
        found.map(|symbol| symbol.map(|symbol| Global { address: symbol.address, source: Source::Symtab }));
    GoGlobals { allgs, allglen, allgptr, sched, wait_reason_strings, firstmoduledata, mheap, semtable, allp }
}

/// The globals as the runtime's code uses them; independent of symbols.
pub fn from_code(elf: &Elf, image: &[u8], pclntab: &PclntabLocation) -> GoGlobals {
    Pclntab::new(image, pclntab)
        .map(|functions| find(&Code::new(elf, image, &functions), pclntab))
        .unwrap_or_default()
}

/// Symbols first, code where they are missing, and a problem where the two contradict each other.
pub(super) fn combine(symbols: GoGlobals, code: GoGlobals) -> (GoGlobals, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut pick = |name: &str, symbol: Option<Global>, code: Option<Global>| {
        match (symbol, code) {
            (Some(symbol), Some(code)) if symbol.address != code.address => problems.push(Problem(format!(
                "runtime.{name} is at {:#x} by its symbol and at {:#x} by the code that uses it; the symbol is believed",
                symbol.address, code.address
            ))),
            (None, None) => problems.push(Problem(format!("runtime.{name} was not found"))),
            _ => {}
        }
        symbol.or(code)
    };
    let globals = GoGlobals {
        allgs: pick("allgs", symbols.allgs, code.allgs),
        allglen: pick("allglen", symbols.allglen, code.allglen),
        allgptr: pick("allgptr", symbols.allgptr, code.allgptr),
        sched: pick("sched", symbols.sched, code.sched),
        wait_reason_strings: pick("waitReasonStrings", symbols.wait_reason_strings, code.wait_reason_strings),
        firstmoduledata: pick("firstmoduledata", symbols.firstmoduledata, code.firstmoduledata),
        mheap: pick("mheap_", symbols.mheap, code.mheap),
        semtable: pick("semtable", symbols.semtable, code.semtable),
        allp: pick("allp", symbols.allp, code.allp),
    };
    (globals, problems)
}

/// Reads the globals out of the code.
pub(super) fn find(code: &Code<'_>, pclntab: &PclntabLocation) -> GoGlobals {
    let global = |address: u64| Global { address, source: Source::Code };
    let (allgs, allglen, allgptr) = all_goroutines(code);
    GoGlobals {
        allgs: allgs.map(global),
        allglen: allglen.map(global),
        allgptr: allgptr.map(global),
        sched: sched(code).map(|(sched, _)| global(sched)),
        wait_reason_strings: wait_reason_strings(code).map(global),
        firstmoduledata: firstmoduledata(code, pclntab).map(global),
        mheap: mheap(code).map(global),
        semtable: semtable(code).map(global),
        allp: allp(code).map(global),
    }
}

/// A function's references to writable words.
fn writable(code: &Code<'_>, function: &str) -> Vec<Reference> {
    let mut references = code.references(function);
    references.retain(|reference| {
        reference.address.is_multiple_of(4)
            && code.elf.writable_at(reference.address)
            && !code.elf.executable_at(reference.address)
    });
    references
}

/// The words that a function reads, compares or writes, without atomics; each once, ascending.
fn words(references: &[Reference]) -> Vec<u64> {
    let plain =
        |reference: &&Reference| matches!(reference.access, Access::Read | Access::Compare | Access::Write);
    let mut words: Vec<u64> = references
        .iter()
        .filter(plain)
        .filter(|reference| reference.address.is_multiple_of(8))
        .flat_map(|reference| match reference.size {
            16 => vec![reference.address, reference.address.wrapping_add(8)],
            8 => vec![reference.address],
            _ => vec![],
        })
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// The only element.
fn only<T>(items: impl IntoIterator<Item = T>) -> Option<T> {
    let mut items = items.into_iter();
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// Addresses that a function uses in this way with this size, each once.
fn uses(references: &[Reference], access: Access, size: Option<u8>) -> Vec<u64> {
    let mut found: Vec<u64> = references
        .iter()
        .filter(|reference| reference.access == access && size.is_none_or(|size| reference.size == size))
        .map(|reference| reference.address)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// `allgs`, `allglen`, `allgptr`, from `allgadd`: `allgs = append(allgs, gp)` uses the three words of the slice;
/// `if &allgs[0] != allgptr { atomicstorep(&allgptr, ...) }` reads and atomically writes allgptr;
/// `atomic.Storeuintptr(&allglen, ...)` only writes it. forEachG and forEachGRace confirm.
fn all_goroutines(code: &Code<'_>) -> (Option<u64>, Option<u64>, Option<u64>) {
    let references = writable(code, "runtime.allgadd");
    let plain = words(&references);
    let slice = only(plain.iter().copied().filter(|base| {
        [8, 16].iter().all(|offset| plain.binary_search(&base.wrapping_add(*offset)).is_ok())
    }));
    let confirming = words(&writable(code, "runtime.forEachG"));
    let confirmed = |base: &u64| {
        confirming.is_empty() || (confirming.contains(base) && confirming.contains(&base.wrapping_add(8)))
    };
    let allgs = slice.filter(confirmed);

    let atomics = uses(&references, Access::Atomic, Some(8));
    let (read_too, write_only): (Vec<u64>, Vec<u64>) =
        atomics.into_iter().partition(|address| plain.contains(address));
    // On arm64 forEachGRace reads them with ldar, which counts as a read, too.
    let race = words(&writable(code, "runtime.forEachGRace"));
    let confirmed = |address: &u64| race.is_empty() || race.contains(address);
    (allgs, only(write_only).filter(confirmed), only(read_too).filter(confirmed))
}

/// `sched` and the offset of `sched.ngsys` in it. newproc1 and oneNewExtraM do `sched.goidgen.Add()` on the first word
/// of sched (64 bits) and `sched.ngsys.Add(1)` (32 bits); gdestroy or goexit0 does `sched.ngsys.Add(-1)`.
pub(super) fn sched(code: &Code<'_>) -> Option<(u64, u64)> {
    let starting = writable(code, "runtime.newproc1");
    let ids = uses(&starting, Access::Atomic, Some(8));
    let ending: Vec<u64> = ["runtime.gdestroy", "runtime.goexit0"]
        .iter()
        .flat_map(|function| uses(&writable(code, function), Access::Atomic, Some(4)))
        .collect();
    let counts = uses(&starting, Access::Atomic, Some(4)).into_iter().filter(|count| ending.contains(count));
    let near = |id: u64, count: u64| (8..1024).contains(&count.wrapping_sub(id));
    let mut pairs: Vec<(u64, u64)> = counts
        .flat_map(|count| ids.iter().map(move |id| (*id, count)))
        .filter(|(id, count)| near(*id, *count))
        .collect();
    if pairs.len() > 1 {
        let extra = uses(&writable(code, "runtime.oneNewExtraM"), Access::Atomic, Some(8));
        pairs.retain(|(id, _)| extra.contains(id));
    }
    let (id, count) = only(pairs)?;
    Some((id, count.wrapping_sub(id)))
}

/// The array that `waitReason.String` indexes: its elements are headers of short strings.
fn wait_reason_strings(code: &Code<'_>) -> Option<u64> {
    let is_array = |address: &u64| {
        read_wait_reasons(code.elf, code.image, *address, CHECKED_WAIT_REASONS).len() == CHECKED_WAIT_REASONS
    };
    let references = code.references("runtime.waitReason.String");
    only(uses(&references, Access::Take, None).into_iter().filter(is_array))
}

/// Reads at most `count` elements of `waitReasonStrings`, up to the first that does not look like one: printable ASCII
/// texts, the first empty.
pub fn read_wait_reasons(elf: &Elf, image: &[u8], address: u64, count: usize) -> Vec<String> {
    let headers = elf.pointers(image, address, count.saturating_mul(2)).unwrap_or_default();
    let text = |(index, header): (usize, &[u64])| {
        let [text, length] = header else { return None };
        if index == 0 {
            return (*length == 0).then(String::new);
        }
        let length = usize::try_from(*length).ok().filter(|length| (1..=MAX_WAIT_REASON).contains(length))?;
        let text = elf.bytes(image, *text, length)?;
        let printable = text.iter().all(|byte| matches!(byte, b' '..=b'~'));
        printable.then(|| String::from_utf8_lossy(text).into_owned())
    };
    headers.chunks_exact(2).enumerate().map_while(text).collect()
}

/// The moduledata that `modulesinit` starts from: it begins with the address of the pclntab and holds as many functions.
fn firstmoduledata(code: &Code<'_>, pclntab: &PclntabLocation) -> Option<u64> {
    let is_moduledata = |address: &u64| {
        let word =
            |offset: u64| code.elf.pointers(code.image, address.wrapping_add(offset), 1)?.first().copied();
        word(0) == Some(pclntab.address)
            && word(MODULEDATA_FTAB_LEN) == Some(u64::from(pclntab.functions).wrapping_add(1))
    };
    ["runtime.modulesinit", "runtime.moduledataverify", "runtime.schedinit", "runtime.findfunc"]
        .iter()
        .find_map(|function| {
            only(uses(&writable(code, function), Access::Take, None).into_iter().filter(is_moduledata))
        })
}

/// `mheap_`: the receiver of `mheap_.init()` in mallocinit, and of `mheap_.alloc()` in mcentral.grow.
fn mheap(code: &Code<'_>) -> Option<u64> {
    let initialised = only(code.first_arguments("runtime.mallocinit", "runtime.(*mheap).init"))?;
    let grown = code.first_arguments("runtime.(*mcentral).grow", "runtime.(*mheap).alloc");
    (grown.contains(&initialised) && code.elf.writable_at(initialised)).then_some(initialised)
}

/// `semtable`: the one large table that semacquire1 and semrelease1 both index.
fn semtable(code: &Code<'_>) -> Option<u64> {
    let acquire = uses(&writable(code, "runtime.semacquire1"), Access::Take, None);
    let release = uses(&writable(code, "runtime.semrelease1"), Access::Take, None);
    only(acquire.into_iter().filter(|address| release.contains(address)))
}

/// `allp`: the slice whose first two words several functions load to walk over all Ps.
fn allp(code: &Code<'_>) -> Option<u64> {
    let resized = words(&writable(code, "runtime.procresize"));
    let walkers = ["runtime.preemptall", "runtime.gcMarkTinyAllocs", "runtime.retake", "runtime.checkdead"];
    let walked: Vec<Vec<u64>> = walkers.iter().map(|function| words(&writable(code, function))).collect();
    let is_walked = |base: &u64| {
        let by = |words: &&Vec<u64>| words.contains(base) && words.contains(&base.wrapping_add(8));
        walked.iter().filter(by).count() >= 2
    };
    only(resized.into_iter().filter(is_walked))
}
