//! Functions by name: exactly as linked, as people write them, or by pattern; and what was probably meant.
//!
//! A name is looked for in the symbol tables of a file and of its detached debug information. Must never take a
//! name's likeness for the name: nearest names are for messages alone.

use std::{collections::BTreeMap, path::Path};

use leakwatch_inspect::{
    Elf,
    function::{self, Function, Point},
};
use object::{Object as _, ObjectSymbol as _, SymbolFlags, SymbolKind};
use regex::Regex;

use super::{ImageError, Module, debug_file, demangle, modules::roots_of, without_parameters};
use crate::host::{MappedFile, ProcDir};

/// `STT_GNU_IFUNC`: the symbol's value is a function that chooses the function.
const GNU_IFUNC: u8 = 10;

/// Most functions that one pattern may mean.
pub const MOST_MATCHES: usize = 256;

/// Names that are compared with one that is not there; the files of some programs have millions.
const MOST_COMPARED: usize = 200_000;

/// Least likeness (0 to 1) of a name that is worth showing.
const LIKE: f64 = 0.72;

/// What is looked for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A function's name: as linked (`_ZN4Pool3getEi`), demangled (`Pool::get(int)`), or without its parameters
    /// (`Pool::get`).
    Name(String),
    /// A pattern over demangled names.
    Pattern(Regex),
    /// A link-time address of the file.
    Address(u64),
}

/// A file of a process with all that searching and placing probes takes.
#[derive(Debug)]
pub struct SymbolFile {
    file: MappedFile,
    elf: Elf,
    bytes: Vec<u8>,
    /// By address: names as linked, and whether they are chosen at run time.
    functions: BTreeMap<u64, Listed>,
}

/// What the tables say of one address.
#[derive(Debug)]
struct Listed {
    size: u64,
    names: Vec<Box<str>>,
    chosen_at_run_time: bool,
}

impl SymbolFile {
    /// Reads a module of a process.
    ///
    /// # Errors
    /// When it cannot be read, or is no ELF file that we read.
    pub fn of_module(module: &Module, dir: &ProcDir) -> Result<Self, ImageError> {
        let file = module.open(dir)?;
        let bytes = file.read()?;
        let path = module.path();
        let elf = Elf::parse(&bytes).map_err(|why| ImageError::Inspect { path: path.to_owned(), why })?;
        let detached = if elf.symtab { None } else { debug_file::find(&elf, &bytes, path, &roots_of(dir)) };
        let mut functions = BTreeMap::new();
        for image in [Some(&bytes), detached.as_ref()].into_iter().flatten() {
            list(image, &mut functions);
        }
        Ok(Self { file, elf, bytes, functions })
    }

    /// Its path, for people.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file, to place probes in.
    pub fn into_file(self) -> MappedFile {
        self.file
    }

    /// The path to attach probes through while the file is open.
    pub fn file(&self) -> &MappedFile {
        &self.file
    }

    /// How many functions the tables name.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// The file has no names of its own functions: only what it exports, if anything.
    pub fn is_stripped(&self) -> bool {
        !self.elf.symtab
    }

    /// The functions that are meant, by address; one more than [`MOST_MATCHES`] at most.
    ///
    /// # Errors
    /// When one that is meant is chosen at run time, so that its address is not that of the code that runs.
    pub fn find(&self, wanted: &Wanted) -> Result<Vec<Function>, String> {
        if let Wanted::Address(address) = wanted {
            let listed = self.functions.range(..=*address).next_back();
            let inside = listed.filter(|(start, listed)| *address < start.saturating_add(listed.size));
            let (name, size) = inside.map_or((format!("{address:#x}"), 0), |(start, listed)| {
                let end = start.saturating_add(listed.size);
                (shown(listed), end - address)
            });
            return Ok(vec![Function { name, address: *address, size }]);
        }
        let mut found = Vec::new();
        for (&address, listed) in &self.functions {
            let Some(name) = listed.names.iter().find_map(|name| meant(name, wanted)) else { continue };
            if listed.chosen_at_run_time {
                return Err(format!(
                    "{name} in {} is chosen at run time among several functions (ifunc); name the one that runs",
                    self.path().display()
                ));
            }
            found.push(Function { name, address, size: listed.size });
            if found.len() > MOST_MATCHES {
                break;
            }
        }
        Ok(found)
    }

    /// Parts of a function that the compiler put elsewhere: `name.cold`, `name.part.0.cold`.
    fn parts(&self, function: &Function) -> Vec<Function> {
        let Some(listed) = self.functions.get(&function.address) else { return Vec::new() };
        let is_part = |name: &str| {
            listed.names.iter().any(|whole| {
                name.strip_prefix(&**whole).is_some_and(|rest| rest.starts_with('.') && rest.contains("cold"))
            })
        };
        let parts = self.functions.iter().filter(|(_, part)| part.names.iter().any(|name| is_part(name)));
        parts.map(|(&address, part)| Function { name: shown(part), address, size: part.size }).collect()
    }

    /// Where to probe a function's beginning, see [`function::at_entry`].
    ///
    /// # Errors
    /// Why it cannot be probed.
    pub fn entry_of(&self, function: &Function, keep: &[u8]) -> Result<Point, String> {
        function::at_entry(&self.elf, &self.bytes, function, keep)
    }

    /// Where to probe a function's exits, see [`function::at_exits`].
    ///
    /// # Errors
    /// Why they cannot be enumerated.
    pub fn exits_of(&self, function: &Function) -> Result<Vec<Point>, String> {
        function::at_exits(&self.elf, &self.bytes, function, &self.parts(function))
    }

    /// Why a return probe on a function would not be safe.
    pub fn no_return_probe(&self, function: &Function) -> Option<String> {
        function::no_return_probe(&self.elf, &self.bytes, function)
    }

    /// The functions whose names are most like one that is not there, best first.
    pub fn nearest(&self, wanted: &str) -> Vec<(f64, String)> {
        let plain = without_parameters(wanted);
        let mut near: Vec<(f64, String)> = Vec::new();
        for listed in self.functions.values().take(MOST_COMPARED) {
            let name = shown(listed);
            let likeness = likeness(plain, without_parameters(&name));
            if likeness >= LIKE {
                near.push((likeness, name));
            }
        }
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.truncate(3);
        near
    }

    /// What a version pattern catches first in the file's text.
    pub fn text(&self, pattern: &regex::bytes::Regex) -> Option<String> {
        let caught = pattern.captures(&self.bytes)?;
        Some(String::from_utf8_lossy(caught.get(1)?.as_bytes()).into_owned())
    }
}

/// Likeness of two names, 0 to 1: a name that contains the other is nearly it.
fn likeness(wanted: &str, name: &str) -> f64 {
    let (wanted, name) = (wanted.to_lowercase(), name.to_lowercase());
    if wanted.len() >= 4 && (name.contains(&wanted) || (name.len() >= 4 && wanted.contains(&name))) {
        let lengths = [wanted.len(), name.len()].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
        let share = f64::from(lengths[0].min(lengths[1])) / f64::from(lengths[0].max(lengths[1]));
        return 0.8 + 0.2 * share;
    }
    if wanted.len().abs_diff(name.len()) > wanted.len() / 2 + 2 {
        return 0.0;
    }
    strsim::normalized_damerau_levenshtein(&wanted, &name)
}

/// The name that people know, of one that is meant.
fn meant(name: &str, wanted: &Wanted) -> Option<String> {
    match wanted {
        Wanted::Name(wanted) => {
            let unversioned = name.split_once('@').map_or(name, |(name, _)| name);
            if unversioned == wanted {
                return Some(demangle(name).into_owned());
            }
            // Demangling is dear, and a mangled name has the function's own in it.
            if !is_mangled(name) || !name.contains(last_word(wanted)) {
                return None;
            }
            let demangled = demangle(name);
            let same = demangled == wanted.as_str() || without_parameters(&demangled) == wanted.as_str();
            same.then(|| demangled.into_owned())
        }
        Wanted::Pattern(pattern) => {
            let demangled = demangle(name);
            pattern.is_match(&demangled).then(|| demangled.into_owned())
        }
        Wanted::Address(_) => None,
    }
}

/// The function's own name: `get` of `ns::Pool<int>::get(void*)`; empty where it is none (`operator==`).
fn last_word(wanted: &str) -> &str {
    let path = without_parameters(wanted);
    let name = path.rsplit("::").next().unwrap_or_default().trim_start_matches('~');
    let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(name.len());
    let word = name.get(..end).unwrap_or_default();
    if word == "operator" { "" } else { word }
}

fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

fn shown(listed: &Listed) -> String {
    listed.names.first().map_or_else(String::new, |name| demangle(name).into_owned())
}

fn list(image: &[u8], functions: &mut BTreeMap<u64, Listed>) {
    let Ok(file) = object::File::parse(image) else { return };
    for symbol in file.symbols().chain(file.dynamic_symbols()) {
        let flags = match symbol.flags() {
            SymbolFlags::Elf { st_info, .. } => st_info & 0xf,
            _ => 0,
        };
        if symbol.is_undefined() || (symbol.kind() != SymbolKind::Text && flags != GNU_IFUNC) {
            continue;
        }
        let Ok(name) = symbol.name() else { continue };
        let listed = functions.entry(symbol.address()).or_insert_with(|| Listed {
            size: 0,
            names: Vec::new(),
            chosen_at_run_time: false,
        });
        listed.size = listed.size.max(symbol.size());
        listed.chosen_at_run_time |= flags == GNU_IFUNC;
        if listed.names.iter().all(|known| **known != *name) {
            listed.names.push(name.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::Process, images::Modules};

    fn ourselves() -> SymbolFile {
        let process = Process::open(std::process::id()).expect("ourselves");
        let modules = Modules::of_process(&process).expect("our modules");
        let (own, _) = modules.at(ourselves as *const () as u64).expect("our code");
        SymbolFile::of_module(own, modules.dir()).expect("our symbols")
    }

    #[unsafe(no_mangle)]
    extern "C" fn leakwatch_test_pool_acquire(a: u64) -> u64 {
        std::hint::black_box(a)
    }

    #[test]
    fn by_name_by_pattern_and_by_address() {
        let file = ourselves();
        assert_eq!(leakwatch_test_pool_acquire(1), 1);
        let exact = file.find(&Wanted::Name("leakwatch_test_pool_acquire".to_owned())).expect("found");
        let [function] = exact.as_slice() else { panic!("{exact:?}") };
        assert!(function.size > 0);
        let inside = file.find(&Wanted::Address(function.address + 1)).expect("found");
        assert_eq!(inside[0].name, "leakwatch_test_pool_acquire");
        assert_eq!(inside[0].size, function.size - 1);
        let demangled = "leakwatch::images::symbols::tests::ourselves";
        assert_eq!(file.find(&Wanted::Name(demangled.to_owned())).expect("found").len(), 1);
        let pattern = Regex::new("symbols::tests::(ourselves|nobody)$").expect("a pattern");
        assert_eq!(file.find(&Wanted::Pattern(pattern)).expect("found").len(), 1);
        assert!(file.entry_of(function, &[7]).is_ok());
    }

    #[test]
    fn names_that_people_write() {
        let method = "_ZN4jobs4Pool3putEPv";
        for name in [method, "jobs::Pool::put", "jobs::Pool::put(void*)"] {
            assert!(meant(method, &Wanted::Name(name.to_owned())).is_some(), "{name}");
        }
        assert_eq!(meant(method, &Wanted::Name("Pool::put".to_owned())), None);
        assert_eq!(meant(method, &Wanted::Name("jobs::Pool::pu".to_owned())), None);
        assert!(meant("_ZN4jobs3JobD1Ev", &Wanted::Name("jobs::Job::~Job".to_owned())).is_some());
        assert!(meant("_ZN3FooeqERKS_", &Wanted::Name("Foo::operator==".to_owned())).is_some());
        assert!(meant("_ZN4PoolIiE3getEv", &Wanted::Name("Pool<int>::get".to_owned())).is_some());
    }

    #[test]
    fn what_was_probably_meant() {
        let near = ourselves().nearest("leakwatch_test_pool_aquire");
        assert_eq!(near[0].1, "leakwatch_test_pool_acquire", "{near:?}");
        assert!(ourselves().nearest("zzzzqqqqxxxx").is_empty());
        assert!(likeness("uv_queue", "uv_queue_work") > likeness("uv_queue", "uv_close"));
    }
}
