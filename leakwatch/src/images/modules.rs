//! Every ELF file that a process executes code of: its program, its shared libraries, its interpreter; and names for
//! the addresses in them.
//!
//! An address belongs to the module whose code mapping holds it; which byte of the file is there follows from the
//! mapping, and its link-time address from the file's segments, so that a library that is loaded twice needs nothing
//! special. Files are reached through the mappings ([`crate::host::ProcDir`]): deleted, replaced, on an overlay or in
//! another mount namespace, it is the file that runs. They are opened when something of them is asked for, read, and
//! closed. Must never take a path for an identity, and never keep more than its bounds say.

use std::{
    cell::OnceCell,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use leakwatch_inspect::{Elf, go::pclntab::Pclntab};
use rustc_hash::FxHashMap;

use super::{
    ImageError, debug_file,
    names::{Created, Frame},
    native::Native,
    plugins::{self, Plugin},
};
use crate::host::{FileIdentity, HostError, MappedFile, ProcDir, Process, maps::Mapping};

/// Most modules that are known of one process. A browser has some hundred.
const MOST_MODULES: usize = 4096;

/// Most addresses whose names are kept; a cache that is full starts anew.
const KEPT: usize = 1 << 14;

/// What the list calls the kernel's own code in the process.
const VDSO: &str = "[vdso]";

/// One file that a process executes code of.
#[derive(Debug)]
pub struct Module {
    path: PathBuf,
    /// What `/proc/PID/maps` says: equal numbers, equal file. Not what `stat` says on overlays and btrfs.
    file: ((u32, u32), u64),
    /// Its code mappings, by address.
    code: Vec<Mapping>,
    /// Read when something of it is first asked for; `None`: it cannot be read.
    facts: OnceCell<Option<Facts>>,
    /// Whether it may have code of Go: `facts` are not read for what has none.
    may_be_go: OnceCell<bool>,
}

/// What the bytes of a module tell.
#[derive(Debug)]
struct Facts {
    elf: Elf,
    names: Native,
    /// Where it has code of Go.
    plugin: Option<Plugin>,
}

impl Facts {
    fn created(&self, link: u64) -> Created {
        let of_plugin = self.plugin.as_ref().and_then(|plugin| plugin.created(link));
        of_plugin.unwrap_or_else(|| self.names.created(link))
    }

    fn function(&self, link: u64) -> Option<String> {
        let of_plugin = self.plugin.as_ref().and_then(|plugin| plugin.function(link));
        of_plugin.or_else(|| self.names.function(link))
    }

    fn frames(&self, link: u64) -> Vec<Frame> {
        let of_plugin = self.plugin.as_ref().map_or_else(Vec::new, |plugin| plugin.frames(link));
        if of_plugin.is_empty() { self.names.frames(link) } else { of_plugin }
    }
}

/// The modules of a process.
#[derive(Debug)]
pub struct Modules {
    dir: Arc<ProcDir>,
    files: Vec<Module>,
    /// Where there is code: addresses and the module's index; by address.
    code: Vec<(Range<u64>, usize)>,
    vdso: Option<Range<u64>>,
    /// Code that no file backs: what the process made itself.
    anonymous: Vec<Range<u64>>,
    left_out: usize,
    created: FxHashMap<u64, Created>,
    frames: FxHashMap<u64, Vec<Frame>>,
}

impl Module {
    /// Its path, for people: in the process's mount namespace, without the kernel's ` (deleted)`.
    pub fn path(&self) -> &Path {
        let text = self.path.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
        text.map_or(&self.path, Path::new)
    }

    /// Device (major, minor) and inode, as `/proc/PID/maps` shows them.
    pub fn identity(&self) -> ((u32, u32), u64) {
        self.file
    }

    /// Its file's name without the folders.
    pub fn file_name(&self) -> String {
        let path = self.path();
        path.file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// Run-time addresses of a byte of the file that is mapped as code: several when it is loaded several times.
    pub fn run_time_addresses(&self, file_offset: u64) -> impl Iterator<Item = u64> + '_ {
        self.code.iter().filter_map(move |mapping| {
            let into = file_offset.checked_sub(mapping.offset)?;
            let address = mapping.start.checked_add(into)?;
            mapping.contains(address).then_some(address)
        })
    }

    /// Run-time address less link-time address; of the first when it is loaded several times. `None`: it cannot be
    /// read, or is not mapped as its headers say.
    pub fn bias(&self, dir: &ProcDir) -> Option<u64> {
        let mapping = self.code.first()?;
        let offset = mapping.offset.max(self.first_code(dir)?);
        let link = link_address(&self.facts(dir)?.elf, offset)?;
        Some(mapping.start.checked_add(offset - mapping.offset)?.wrapping_sub(link))
    }

    /// Its function tables of Go, and its bias. Names are only read of what has such.
    fn plugin(&self, dir: &ProcDir) -> Option<(Pclntab<'_>, u64)> {
        let sections_say = || {
            let bytes = self.open(dir).ok()?.read().ok()?;
            Some(plugins::may_be_in(&Elf::parse(&bytes).ok()?))
        };
        self.may_be_go.get_or_init(|| sections_say().unwrap_or(false)).then_some(())?;
        Some((self.facts(dir)?.plugin.as_ref()?.table()?, self.bias(dir)?))
    }

    /// Where in the file its first code stands.
    fn first_code(&self, dir: &ProcDir) -> Option<u64> {
        let elf = &self.facts(dir)?.elf;
        elf.segments.iter().filter(|segment| segment.executable).map(|segment| segment.file.start).min()
    }

    /// Opens the file, to read it or to place probes in it.
    ///
    /// # Errors
    /// [`HostError::Ended`], or that the mapped file cannot be reached.
    pub fn open(&self, dir: &ProcDir) -> Result<MappedFile, HostError> {
        let mapping = self.code.first().ok_or(HostError::Ended { pid: dir.pid() })?;
        dir.open_mapped(mapping)
    }

    /// Which file it is, and which content.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn content(&self, dir: &ProcDir) -> Result<FileIdentity, HostError> {
        let mapping = self.code.first().ok_or(HostError::Ended { pid: dir.pid() })?;
        dir.mapped(mapping)
    }

    /// The link-time address of a run-time address in one of its code mappings.
    fn link_time(&self, dir: &ProcDir, address: u64) -> Option<u64> {
        let offset = self.code.iter().find_map(|mapping| mapping.file_offset(address))?;
        link_address(&self.facts(dir)?.elf, offset)
    }

    fn facts(&self, dir: &ProcDir) -> Option<&Facts> {
        self.facts.get_or_init(|| self.read(dir).ok()).as_ref()
    }

    fn read(&self, dir: &ProcDir) -> Result<Facts, ImageError> {
        let bytes = self.open(dir)?.read()?;
        let elf =
            Elf::parse(&bytes).map_err(|why| ImageError::Inspect { path: self.path().to_owned(), why })?;
        let detached = if elf.dwarf && elf.symtab {
            None
        } else {
            debug_file::find(&elf, &bytes, self.path(), &roots_of(dir))
        };
        let names = Native::read(&bytes, detached.as_deref());
        let plugin = Plugin::read(&bytes, &elf);
        Ok(Facts { elf, names, plugin })
    }
}

/// Where detached debug information may be: below the process's root directory, then below ours.
pub(super) fn roots_of(dir: &ProcDir) -> [PathBuf; 2] {
    [dir.root(), PathBuf::from("/")]
}

/// The link-time address of a byte of a file's code.
fn link_address(elf: &Elf, offset: u64) -> Option<u64> {
    let segment = elf.segments.iter().find(|segment| segment.executable && segment.file.contains(&offset))?;
    segment.address.start.checked_add(offset - segment.file.start)
}

impl Modules {
    /// The modules of a process now.
    ///
    /// # Errors
    /// [`HostError::Ended`], [`HostError::NotPermitted`].
    pub fn of_process(process: &Process) -> Result<Self, HostError> {
        let mappings = process.dir().code()?;
        Ok(Self::new(process, mappings))
    }

    /// Those of these mappings of a process. None are as good as all: where something is asked for that is in none of them,
    /// they are read.
    pub(super) fn new(process: &Process, mappings: Vec<Mapping>) -> Self {
        let mut modules = Self {
            dir: Arc::clone(process.dir()),
            files: Vec::new(),
            code: Vec::new(),
            vdso: None,
            anonymous: Vec::new(),
            left_out: 0,
            created: FxHashMap::default(),
            frames: FxHashMap::default(),
        };
        modules.take(mappings);
        modules
    }

    /// Looks at the mappings anew; what was read of modules that are still there is kept. `true`: something changed.
    ///
    /// # Errors
    /// [`HostError::Ended`], [`HostError::NotPermitted`]; what was known stays.
    pub fn refresh(&mut self) -> Result<bool, HostError> {
        let mappings = self.dir.code()?;
        Ok(self.take(mappings))
    }

    /// Becomes those of these mappings; `true`: something changed.
    fn take(&mut self, mappings: Vec<Mapping>) -> bool {
        let before: Vec<_> =
            self.code.iter().map(|(range, at)| (range.clone(), self.files[*at].file)).collect();
        let mut old: FxHashMap<_, Module> =
            self.files.drain(..).map(|module| ((module.file, module.path.clone()), module)).collect();
        let mut places: FxHashMap<_, usize> = FxHashMap::default();
        self.left_out = 0;
        self.vdso = None;
        self.anonymous.clear();
        for mapping in mappings.into_iter().filter(|mapping| mapping.execute) {
            let path = mapping.path.clone().unwrap_or_default();
            if mapping.inode == 0 {
                if path.as_os_str() == VDSO {
                    self.vdso = Some(mapping.start..mapping.end);
                } else {
                    self.anonymous.push(mapping.start..mapping.end);
                }
                continue;
            }
            let key = ((mapping.dev, mapping.inode), path);
            if let Some(module) = places.get(&key).and_then(|at: &usize| self.files.get_mut(*at)) {
                module.code.push(mapping);
                continue;
            }
            if self.files.len() == MOST_MODULES {
                self.left_out += 1;
                continue;
            }
            places.insert(key.clone(), self.files.len());
            let known = old.remove(&key).map(|module| (module.facts, module.may_be_go));
            let (facts, may_be_go) = known.unwrap_or_default();
            self.files.push(Module { file: key.0, path: key.1, code: vec![mapping], facts, may_be_go });
        }
        self.code = self
            .files
            .iter()
            .enumerate()
            .flat_map(|(at, module)| module.code.iter().map(move |mapping| (mapping.start..mapping.end, at)))
            .collect();
        self.code.sort_by_key(|(range, _)| range.start);
        let after = self.code.iter().map(|(range, at)| (range.clone(), self.files[*at].file));
        let changed = !after.eq(before);
        if changed {
            self.created.clear();
            self.frames.clear();
        }
        changed
    }

    /// The process's directory in `/proc`, through which the modules are reached.
    pub fn dir(&self) -> &ProcDir {
        &self.dir
    }

    /// All of them, by address.
    pub fn all(&self) -> &[Module] {
        &self.files
    }

    /// The module that is loaded with this bias: of an executable, that of the program itself.
    pub fn at_link(&self, bias: u64, elf: &Elf) -> Option<&Module> {
        let code = elf.segments.iter().find(|segment| segment.executable)?;
        self.at(code.address.start.wrapping_add(bias)).map(|(module, _)| module)
    }

    /// Function tables of Go in other files than the program's own (the one with this inode), each with its run-time
    /// address less its link-time address.
    pub(super) fn plugins(&self, program: u64) -> Vec<(Pclntab<'_>, u64)> {
        let others = self.files.iter().filter(|module| module.identity().1 != program);
        let tables = others.filter_map(|module| module.plugin(&self.dir));
        tables.take(plugins::MOST).collect()
    }

    /// Modules that there was no room for.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The module that holds a run-time address of code, and the address as the file was linked (`None` when the file
    /// cannot be read). As of the last look at the mappings.
    pub fn at(&self, address: u64) -> Option<(&Module, Option<u64>)> {
        let after = self.code.partition_point(|(range, _)| range.start <= address);
        let (range, at) = self.code.get(after.checked_sub(1)?)?;
        let module = self.files.get(*at).filter(|_| range.contains(&address))?;
        Some((module, module.link_time(&self.dir, address)))
    }

    /// Whether a run-time address is in code, as of the last look at the mappings: of a file, of the kernel's own, or made
    /// by the process itself.
    pub fn is_code(&self, address: u64) -> bool {
        self.at_index(address)
            || self.vdso.as_ref().is_some_and(|range| range.contains(&address))
            || self.is_anonymous(address)
    }

    /// Whether a run-time address is in code that no file backs, such as a compiler makes at run time.
    pub fn is_anonymous(&self, address: u64) -> bool {
        // They are by address, as the kernel lists them.
        let after = self.anonymous.partition_point(|range| range.start <= address);
        after
            .checked_sub(1)
            .and_then(|at| self.anonymous.get(at))
            .is_some_and(|range| range.contains(&address))
    }

    /// What called: the function, file and line of the call before a return address. An address in a module without
    /// a name for it is called by the module and its link-time address, as `libx.so.1+0x1234`; one that is in no
    /// module has no name.
    pub fn site_name(&mut self, pc: u64) -> Created {
        self.look_again_for(pc);
        if let Some(known) = self.created.get(&pc) {
            return known.clone();
        }
        let found = self.find_name(pc);
        if self.created.len() >= KEPT {
            self.created.clear();
        }
        self.created.insert(pc, found.clone());
        found
    }

    /// The function that holds a run-time address; in a module without a name for it, the module and the address.
    pub fn function_name(&mut self, pc: u64) -> Option<String> {
        self.look_again_for(pc);
        let Some((module, link)) = self.at(pc) else { return self.site_name(pc).function };
        let named = link.and_then(|link| module.facts(&self.dir)?.function(link));
        Some(named.unwrap_or_else(|| numbered(module, link)))
    }

    /// The frames at a return address of a stack, innermost first, those that were inlined among them. None where no
    /// module holds the address.
    pub fn frames(&mut self, pc: u64) -> Vec<Frame> {
        self.look_again_for(pc);
        if let Some(known) = self.frames.get(&pc) {
            return known.clone();
        }
        let mut found = self.find_frames(pc);
        if found.is_empty() {
            let created = self.site_name(pc);
            found.extend(created.function.map(|function| Frame {
                function,
                file: created.file,
                line: created.line,
                inlined: false,
                internal: false,
            }));
        }
        if self.frames.len() >= KEPT {
            self.frames.clear();
        }
        self.frames.insert(pc, found.clone());
        found
    }

    fn find_frames(&self, pc: u64) -> Vec<Frame> {
        let Some((module, Some(link))) = self.at(pc) else { return Vec::new() };
        module.facts(&self.dir).map_or_else(Vec::new, |facts| facts.frames(link))
    }

    fn find_name(&self, pc: u64) -> Created {
        let Some((module, link)) = self.at(pc) else {
            return Created { function: self.vdso_name(pc), ..Created::default() };
        };
        let mut created =
            link.and_then(|link| Some(module.facts(&self.dir)?.created(link))).unwrap_or_default();
        created.function.get_or_insert_with(|| numbered(module, link));
        created
    }

    fn vdso_name(&self, pc: u64) -> Option<String> {
        self.vdso.as_ref().filter(|range| range.contains(&pc)).map(|_| VDSO.to_owned())
    }

    /// Reads the mappings again when an address is in none that we know: a library may have been loaded since.
    /// Addresses that are nowhere (code made at run time) are asked for once: their lack of a name is kept.
    pub(super) fn look_again_for(&mut self, pc: u64) {
        let known = self.is_code(pc) || self.created.contains_key(&pc);
        if !known {
            // A process that has ended has no new mappings; what was known stays true.
            drop(self.refresh());
        }
    }

    fn at_index(&self, address: u64) -> bool {
        let after = self.code.partition_point(|(range, _)| range.start <= address);
        after
            .checked_sub(1)
            .and_then(|at| self.code.get(at))
            .is_some_and(|(range, _)| range.contains(&address))
    }
}

/// A place that has no name: `libx.so.1+0x1234`.
fn numbered(module: &Module, link: Option<u64>) -> String {
    match link {
        Some(link) => format!("{}+{link:#x}", module.file_name()),
        None => module.file_name(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Reaped(Child);

    impl Drop for Reaped {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    fn ourselves() -> Modules {
        let process = Process::open(std::process::id()).expect("ourselves");
        Modules::of_process(&process).expect("our modules")
    }

    #[test]
    fn the_program_and_its_libraries() {
        let mut modules = ourselves();
        let own = std::fs::read_link("/proc/self/exe").expect("our path");
        let code = ourselves as *const () as u64;
        let (program, link) = modules.at(code).expect("our code");
        assert_eq!(program.path(), own);
        let bias = program.bias(modules.dir()).expect("it is mapped as its headers say");
        assert_eq!(code - bias, link.expect("it can be read"));
        let bytes = program.open(modules.dir()).expect("opens").read().expect("reads");
        let elf = Elf::parse(&bytes).expect("an ELF file");
        let offset = elf.file_offset(code - bias).expect("it is in the file");
        assert_eq!(program.run_time_addresses(offset).collect::<Vec<_>>(), [code]);
        assert!(modules.function_name(code).is_some_and(|name| name.ends_with("modules::tests::ourselves")));
        let created = modules.site_name(code + 1);
        assert!(created.function.is_some_and(|name| name.ends_with("modules::tests::ourselves")));
        assert!(created.file.is_some_and(|file| file.ends_with("modules.rs")) && created.line.is_some());

        let library = libc::getpid as *const () as u64;
        let (module, _) = modules.at(library).expect("the C library is mapped");
        assert!(module.file_name().contains("libc"), "{}", module.path().display());
        let name = modules.function_name(library).expect("a name");
        assert!(name.contains("getpid"), "{name}");
        assert_eq!(modules.left_out(), 0);
        assert!(!modules.refresh().expect("our mappings"), "nothing was loaded meanwhile");
    }

    #[test]
    fn what_is_no_code_has_no_name() {
        let mut modules = ourselves();
        let local = 0_u64;
        let nowhere = &raw const local as u64;
        assert_eq!(modules.function_name(nowhere), None);
        assert_eq!(modules.site_name(nowhere), Created::default());
        assert_eq!(modules.frames(nowhere), []);
        assert!(modules.at(0).is_none() && modules.at(u64::MAX).is_none());
        let vdso = modules.vdso.clone();
        assert!(vdso.is_none_or(|range| modules.function_name(range.start).as_deref() == Some(VDSO)));
    }

    #[test]
    fn a_process_that_ended_keeps_the_names_that_were_read() {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("it starts");
        let mut child = Reaped(child);
        let process = Process::open(child.0.id()).expect("a live child");
        // Between its start and the loading of its libraries there are none.
        let mut modules = Modules::of_process(&process).expect("its modules");
        while modules.all().iter().all(|module| !module.file_name().starts_with("libc")) {
            modules.refresh().expect("its mappings");
        }
        let address = modules.all().iter().next().map(|module| module.code[0].start).expect("a module");
        let name = modules.function_name(address);
        assert!(name.is_some());
        child.0.kill().expect("killed");
        child.0.wait().expect("reaped");
        assert!(modules.refresh().is_err());
        assert_eq!(modules.function_name(address), name);
        assert_eq!(modules.function_name(1), None);
    }
}
