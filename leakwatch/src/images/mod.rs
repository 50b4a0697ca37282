//! Executables with all that their bytes tell, and names for the addresses of a process that runs one.
//!
//! Joins `host` (which file, mapped where) with `leakwatch_inspect` (what the bytes mean). Addresses that come in are
//! run-time addresses of the process; the load bias is taken off here and nowhere else. Names are given as the Go
//! runtime itself prints them. Must never guess: an address that no function holds has no name.

mod bias;
mod binaries;
mod callers;
mod debug_file;
mod demangle;
mod kept;
mod libraries;
mod modules;
mod names;
mod native;
mod plugins;
mod program;
mod sites;
mod symbols;
mod tokio_rt;
mod trace;
mod unwind;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use leakwatch_inspect::{InspectError, Inspection, Problem};

use crate::host::{Executable, HostError, Memory, Process, maps};

pub use binaries::{Binaries, BinaryFigures, Reading};
pub use callers::{NativeFrame, NativeStack, NativeUnwinder, Registers, RuntimeStep};
pub use demangle::{demangle, without_parameters};
pub use libraries::Library;
pub use modules::{Module, Modules};
pub use names::{Created, Frame, Words, is_hidden};
use program::Program;
pub use sites::{check_bytes, hex};
pub use symbols::{MOST_MATCHES, SymbolFile, Wanted};
pub use tokio_rt::TaskName;
pub use trace::{Origin, Traced, Tracer};
pub use unwind::Unwinder;

/// Why a program's executable cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file or the process.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Not an ELF file that we read.
    #[error("cannot inspect {}: {why}", path.display())]
    Inspect {
        /// The executable.
        path: PathBuf,
        /// What it is instead; the message has it.
        why: InspectError,
    },
    /// It is not known, and was not to be read.
    #[error("{} is not known yet, and to read it takes its time", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
    },
    /// The process executes another program each time we look.
    #[error("process {pid} keeps replacing its program; try again when it has settled")]
    Restless {
        /// Its pid.
        pid: u32,
    },
    /// None of the process's mappings is code of its executable.
    #[error(
        "cannot find where {} is loaded in process {pid}: none of its mappings is code of that file; \
         leakwatch cannot watch programs that load themselves (packed or emulated ones)",
        path.display()
    )]
    NotMapped {
        /// The process.
        pid: u32,
        /// Its executable.
        path: PathBuf,
    },
}

/// An executable, inspected, and where it is loaded.
#[derive(Debug)]
pub struct Image {
    loaded: Loaded,
    libraries: Vec<Library>,
}

/// An image before anybody asked it for names: what a thread that looks for processes hands to the one that watches
/// them.
#[derive(Debug)]
pub struct Loaded {
    program: Arc<Program>,
    path: PathBuf,
    bias: u64,
}

/// How long to wait before the image is taken anew: a process in the middle of an `execve` has the new executable
/// before it has its mappings.
const RETRIES: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
];

impl Loaded {
    /// The program that a process runs, and all modules that it has mapped by then.
    ///
    /// # Errors
    /// When it cannot be opened, is no ELF file that we read, or is not mapped as its headers say.
    pub fn of_process(process: &Process, binaries: &mut Binaries) -> Result<(Self, Modules), ImageError> {
        let mut waits = RETRIES.iter();
        loop {
            let failure = match Self::take(process, binaries)? {
                Ok(taken) => return Ok(taken),
                Err(failure) => failure,
            };
            match waits.next() {
                // Whoever has no time to read has none to wait.
                Some(_) if binaries.reading() == Reading::Known => {
                    return Err(ImageError::Unread { path: process.exe().path.clone() });
                }
                Some(wait) => std::thread::sleep(*wait),
                None => return Err(failure),
            }
        }
    }

    /// One attempt; an error inside is of the moment, perhaps.
    fn take(
        process: &Process,
        binaries: &mut Binaries,
    ) -> Result<Result<(Self, Modules), ImageError>, ImageError> {
        let pid = process.pid();
        let path = process.exe().path.clone();
        let program = binaries.program_of(process)?;
        // Its addresses are those of the file, and it loads no libraries: nothing has to be read.
        if program.is_alone() {
            return Ok(Ok((Self { program, path, bias: 0 }, Modules::new(process, Vec::new()))));
        }
        let mappings = process.dir().code()?;
        let entry = if program.stays() { None } else { maps::entry_address(process)? };
        // All three are of one program only if it is still the same.
        if !program.exe.is_run_by(process)? {
            return Ok(Err(ImageError::Restless { pid }));
        }
        let Some(bias) = program.bias(entry, &mappings) else {
            return Ok(Err(ImageError::NotMapped { pid, path }));
        };
        program.exe.forget_pages();
        Ok(Ok((Self { program, path, bias }, Modules::new(process, mappings))))
    }

    /// What the bytes tell.
    pub fn inspection(&self) -> &Inspection {
        &self.program.inspection
    }

    /// The libraries of the process that have a runtime in them.
    ///
    /// # Errors
    /// [`ImageError::Unread`], where that is all that `binaries` may say.
    pub fn libraries(&self, modules: &Modules, binaries: &mut Binaries) -> Result<Vec<Library>, ImageError> {
        libraries::find(modules, self.program.exe.identity().ino, binaries)
    }
}

impl Image {
    /// The program that a process runs, without its libraries.
    ///
    /// # Errors
    /// As [`Loaded::of_process`].
    pub fn of_process(process: &Process) -> Result<Self, ImageError> {
        Ok(Self::new(Loaded::of_process(process, &mut Binaries::new(0))?.0, Vec::new()))
    }

    /// An image with the libraries that were found for it.
    pub fn new(loaded: Loaded, libraries: Vec<Library>) -> Self {
        Self { loaded, libraries }
    }

    /// A file that nobody need be running; its addresses are link-time addresses.
    ///
    /// # Errors
    /// When it cannot be read or is no ELF file that we read.
    pub fn of_file(path: &Path) -> Result<Self, ImageError> {
        let exe = Executable::open(path)?;
        let inspection = leakwatch_inspect::inspect(exe.bytes())
            .map_err(|why| ImageError::Inspect { path: path.to_owned(), why })?;
        let program = Program::new(exe, Arc::new(inspection));
        Ok(Self::new(Loaded { program, path: path.to_owned(), bias: 0 }, Vec::new()))
    }

    /// Gives back the memory of the file's pages that were looked at.
    pub fn forget_pages(&self) {
        self.loaded.program.exe.forget_pages();
    }

    /// What the bytes tell.
    pub fn inspection(&self) -> &Inspection {
        self.loaded.inspection()
    }

    /// Looks for libraries of the process that have a runtime in them.
    pub fn look_for_libraries(&mut self, modules: &Modules) {
        // Everything is read.
        self.libraries = self.loaded.libraries(modules, &mut Binaries::new(0)).unwrap_or_default();
    }

    /// Those that were found.
    pub fn libraries(&self) -> &[Library] {
        &self.libraries
    }

    /// Run-time address less link-time address.
    pub fn bias(&self) -> u64 {
        self.loaded.bias
    }

    /// The executable's path, for people: in the process's mount namespace, and it may be deleted.
    pub fn path(&self) -> &Path {
        &self.loaded.path
    }

    /// The path to attach uprobes through while this image lives, see [`Executable::attach_path`].
    pub fn attach_path(&self) -> PathBuf {
        self.loaded.program.exe.attach_path()
    }

    /// The file.
    pub fn executable(&self) -> &Executable {
        &self.loaded.program.exe
    }

    /// Compares the instructions at the probe sites with those in the process's memory: a probe that does not sit on
    /// the start of the instruction that we chose would corrupt the program. No problem means no difference.
    pub fn check_sites(&self, memory: &impl Memory) -> Vec<Problem> {
        let own = std::iter::once((self.inspection(), self.loaded.bias));
        let of_libraries = self.libraries.iter().map(|library| (&*library.inspection, library.bias));
        own.chain(of_libraries)
            .flat_map(|(inspection, bias)| {
                let go = inspection.go.iter().flat_map(|go| go.start.iter().chain(&go.end));
                let tokio = inspection.tokio.iter();
                let tokio =
                    tokio.flat_map(|facts| facts.starts.iter().map(|start| &start.site).chain(&facts.ends));
                let arch = inspection.elf.arch;
                go.chain(tokio).filter_map(move |site| sites::check(arch, site, bias, memory))
            })
            .collect()
    }

    /// The place that started a task, from the return address that the runtime stored (Go: `g.gopc`): named as in the
    /// runtime's `created by`, that is the function as linked, not the one inlined there, and the line of the `go`
    /// statement.
    pub fn site_name(&self, pc: u64) -> Created {
        let pc = pc.wrapping_sub(self.loaded.bias);
        self.loaded.program.created(pc)
    }

    /// The tokio type of task whose vtable is at this run-time address.
    pub fn task_name(&self, vtable: u64) -> Option<TaskName> {
        let of_library =
            |library: &Library| tokio_rt::name(&library.inspection.tokio, vtable.wrapping_sub(library.bias));
        tokio_rt::name(&self.inspection().tokio, vtable.wrapping_sub(self.loaded.bias))
            .or_else(|| self.libraries.iter().find_map(of_library))
    }

    /// The function that holds a run-time address, as the runtime prints it.
    pub fn function_name(&self, pc: u64) -> Option<String> {
        let pc = pc.wrapping_sub(self.loaded.bias);
        self.loaded.program.function(pc)
    }

    /// Whether tasks that begin at this address are the runtime's own, by the runtime's rule at their creation.
    pub fn is_system(&self, entry: u64) -> bool {
        self.function_name(entry).is_some_and(|name| names::is_system(&name))
    }

    /// The frames at a return address of a stack, innermost first; several where code was inlined, none when no
    /// function holds the address.
    pub fn frames(&self, pc: u64) -> Vec<Frame> {
        let pc = pc.wrapping_sub(self.loaded.bias);
        self.loaded.program.frames(pc)
    }

    /// The same in words: `of` says them, always the same way, and is asked once for all processes that run this program. `None`: no
    /// function holds the address.
    pub fn words(&self, pc: u64, of: impl FnOnce(Vec<Frame>) -> Words) -> Option<Words> {
        self.loaded.program.words(pc.wrapping_sub(self.loaded.bias), of)
    }
}

/// The frames at a return address of a native stack, innermost first: the executable knows those of its own runtime
/// best.
pub fn frames(image: &Image, modules: &mut Modules, pc: u64) -> Vec<Frame> {
    let known = if image.inspection().go.is_some() { image.frames(pc) } else { Vec::new() };
    if known.is_empty() { modules.frames(pc) } else { known }
}

#[cfg(test)]
mod tests;
