//! CPython in a process: which of the program's own functions and lines its threads are in.
//!
//! Where things are follows from the interpreter's version ([`PythonLayout`]) and is believed once a walk over a thread's
//! real frames has met code objects only. Objects are read when somebody asks and not kept: an address may be another
//! object's later. It must never give a line that no table of the function's own code gives.

use std::path::PathBuf;

use leakwatch_common::{Interpreter, ManagedFrame, NOT_INDIRECT};
use leakwatch_inspect::{
    Elf,
    python::{
        At, BYTES_LENGTH, BYTES_START, Current, OBJECT_TYPE, PythonLayout, STRING_LENGTH, STRING_STATE, TOLD,
        line_at, string_form,
    },
};

use crate::{
    host::Memory,
    images::{Frame, Image, Module, Modules},
};

/// Most threads, interpreters and frames that one walk meets.
const MOST_THREADS: usize = 1 << 20;
const MOST_INTERPRETERS: usize = 64;
const MOST_FRAMES: usize = 1024;

/// Longest file or function name that is read, in characters.
const LONGEST_NAME: u64 = 4096;

/// Largest table of lines that is read, in bytes.
const LARGEST_TABLE: u64 = 4 << 20;

/// Device and inode of a file.
type FileKey = ((u32, u32), u64);

/// The interpreter of a process.
#[derive(Clone, Debug)]
pub(super) struct Python {
    layout: PythonLayout,
    /// The file that it is in.
    file: FileKey,
    /// Address of the word with the state of the thread that holds the lock.
    current: u64,
    /// Added to a thread's pointer: the word with that thread's state; 0: not known.
    local: u64,
    /// The main interpreter.
    interpreter: u64,
    /// The type of code objects.
    code_type: u64,
}

/// Where an interpreter's variables are, in a process that has one.
#[derive(Clone, Debug)]
pub(super) struct Located {
    symbols: Symbols,
    module: FileKey,
    path: PathBuf,
}

/// Why a Python program's frames cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoPython {
    /// It has not begun.
    Early,
    /// There is one that we cannot read: why.
    Odd(String),
}

/// The state of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PythonThread {
    /// Its thread pointer: above its stack.
    pub(super) thread_pointer: u64,
    state: u64,
}

impl Python {
    /// The interpreter of a process, as far as it has begun.
    pub(super) fn of(located: &Located, memory: &impl Memory) -> Result<Self, NoPython> {
        let Located { symbols, module, path } = located;
        let name = path.display().to_string();
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let odd = |why: &str| NoPython::Odd(format!("frames of {name} cannot be read: {why}"));
        let mut head = [0; TOLD];
        memory.read(symbols.runtime, &mut head).map_err(|_unmapped| NoPython::Early)?;
        let layout = if let Some(told) = PythonLayout::told(&head).map_err(odd)? {
            told
        } else {
            let version = symbols.version(&file_name.unwrap_or_default(), memory);
            let (major, minor) = version.ok_or_else(|| odd("its version is not known"))?;
            PythonLayout::of_version(major, minor).ok_or_else(|| {
                odd(&format!("leakwatch does not know how CPython {major}.{minor} is laid out"))
            })?
        };
        let word = |base: u64, offset: u32| memory.read_u64(base.checked_add(u64::from(offset))?).ok();
        let mut interpreter =
            word(symbols.runtime, layout.interpreter).filter(|&first| first != 0).ok_or(NoPython::Early)?;
        if let Some(next) = layout.next_interpreter {
            // The main one is the first that was made, and the last of the list.
            for _ in 0..MOST_INTERPRETERS {
                match word(interpreter, next) {
                    None | Some(0) => break,
                    Some(another) => interpreter = another,
                }
            }
        }
        let current = match layout.current {
            Current::Runtime(offset) => symbols.runtime.checked_add(u64::from(offset)),
            Current::Lock { lock, holder } => word(interpreter, lock)
                .filter(|&lock| lock != 0)
                .and_then(|lock| lock.checked_add(u64::from(holder))),
        };
        let current = current.ok_or(NoPython::Early)?;
        let mut python =
            Self { local: 0, layout, file: *module, current, interpreter, code_type: symbols.code_type };
        // A program that has just begun has no frames yet.
        let threads = python.threads(memory);
        python.local = local_state(memory, &threads);
        let frames = python.frames_of(memory, *threads.first().ok_or(NoPython::Early)?);
        if frames.is_empty() {
            return Err(NoPython::Early);
        }
        if frames.iter().any(|frame| python.describe(memory, *frame).is_some()) {
            Ok(python)
        } else {
            Err(odd("its frames are not where this version has them"))
        }
    }

    /// How the kernel side reads frames, given where this kernel keeps a thread's pointer.
    pub(super) fn for_kernel(&self, thread_pointer: u32) -> Interpreter {
        let (at, at_mask) = match self.layout.at {
            At::Index { offset, .. } => (offset, u64::from(u32::MAX)),
            At::Address { offset, .. } => (offset, u64::MAX),
        };
        Interpreter {
            current: self.current,
            local: self.local,
            at_mask,
            thread_pointer,
            thread_id: self.layout.thread_id,
            frame: self.layout.frame,
            frame_in: self.layout.frame_in.unwrap_or(NOT_INDIRECT),
            code: self.layout.code,
            at,
            previous: self.layout.previous,
            reserved: 0,
        }
    }

    /// Whether a module is the interpreter, or one of the modules in C that come with it: what is made there is made by
    /// the program that is interpreted.
    pub(super) fn owns(&self, module: &Module) -> bool {
        module.identity() == self.file || module.path().to_string_lossy().contains("/lib-dynload/")
    }

    /// All threads of the main interpreter, by their thread pointers.
    pub(super) fn threads(&self, memory: &impl Memory) -> Vec<PythonThread> {
        let word = |base: u64, offset: u32| memory.read_u64(base.checked_add(u64::from(offset))?).ok();
        let mut threads = Vec::new();
        let mut next = word(self.interpreter, self.layout.threads);
        while let Some(state) = next.filter(|&state| state != 0 && threads.len() < MOST_THREADS) {
            if let Some(thread_pointer) = word(state, self.layout.thread_id).filter(|&pointer| pointer != 0) {
                threads.push(PythonThread { thread_pointer, state });
            }
            next = word(state, self.layout.next_thread);
        }
        threads.sort_unstable();
        threads.dedup_by_key(|thread| thread.thread_pointer);
        threads
    }

    /// The frames of a thread, innermost first. True for a thread that is blocked; of one that runs they may be torn,
    /// which shows in that they name nothing.
    pub(super) fn frames_of(&self, memory: &impl Memory, thread: PythonThread) -> Vec<ManagedFrame> {
        let layout = self.for_kernel(0);
        let word = |base: u64, offset: u32| memory.read_u64(base.checked_add(u64::from(offset))?).ok();
        let mut frames = Vec::new();
        let mut next = word(thread.state, layout.frame);
        if let (Some(holder), Some(inner)) = (next, self.layout.frame_in) {
            next = if holder == 0 { None } else { word(holder, inner) };
        }
        while let Some(frame) = next.filter(|&frame| frame != 0 && frames.len() < MOST_FRAMES) {
            let (Some(code), Some(at)) = (word(frame, layout.code), word(frame, layout.at)) else { break };
            frames.push(ManagedFrame { code, at: at & layout.at_mask });
            next = word(frame, layout.previous);
        }
        frames
    }

    /// What a frame is of; `None`: no function of the program (the interpreter has frames of its own), or it cannot be
    /// read.
    pub(super) fn describe(&self, memory: &impl Memory, frame: ManagedFrame) -> Option<Frame> {
        let layout = &self.layout;
        let at = |offset: u32| frame.code.checked_add(u64::from(offset));
        if memory.read_u64(at(OBJECT_TYPE)?).ok()? != self.code_type {
            return None;
        }
        let object = |offset: u32| memory.read_u64(at(offset)?).ok();
        let function = self.text(memory, object(layout.name)?)?;
        let file = self.text(memory, object(layout.file_name)?)?;
        if function == "<interpreter trampoline>" {
            return None;
        }
        let first_line = memory.read_u32(at(layout.first_line)?).ok()?.cast_signed();
        let offset = match layout.at {
            At::Index { unit, .. } => Some(u64::from(u32::try_from(frame.at).ok()?) * u64::from(unit)),
            At::Address { code_start, .. } => frame.at.checked_sub(at(code_start)?),
        };
        let line = offset.and_then(|offset| {
            let table = bytes(memory, object(layout.lines)?)?;
            line_at(layout.line_table, &table, first_line, offset)
        });
        Some(Frame { function, file: Some(file), line, inlined: false, internal: false })
    }

    /// A string object's text.
    fn text(&self, memory: &impl Memory, string: u64) -> Option<String> {
        let at = |offset: u32| string.checked_add(u64::from(offset));
        let length = memory.read_u64(at(STRING_LENGTH)?).ok().filter(|&length| length <= LONGEST_NAME)?;
        let (width, ascii) = string_form(memory.read_u32(at(STRING_STATE)?).ok()?)?;
        let mut bytes = vec![0; usize::try_from(length).ok()? * width];
        let start = if ascii { self.layout.ascii } else { self.layout.compact };
        memory.read(at(start)?, &mut bytes).ok()?;
        let letters = bytes.chunks_exact(width).map(|letter| {
            let number = letter.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
            char::from_u32(number)
        });
        letters.collect()
    }
}

/// The bytes of a bytes object.
fn bytes(memory: &impl Memory, object: u64) -> Option<Vec<u8>> {
    let at = |offset: u32| object.checked_add(u64::from(offset));
    let length = memory.read_u64(at(BYTES_LENGTH)?).ok().filter(|&length| length <= LARGEST_TABLE)?;
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    memory.read(at(BYTES_START)?, &mut bytes).ok()?;
    Some(bytes)
}

/// Where threads keep their own state, counted from their pointers: CPython keeps it under a key of
/// `pthread_setspecific`, whose values the C library has at a fixed distance (glibc: `specific_1stblock` of `struct pthread`,
/// nptl/descr.h), and from 3.12 on in a thread-local variable. 0: in no place that is the same for all of them.
fn local_state(memory: &impl Memory, threads: &[PythonThread]) -> u64 {
    const REACH: u64 = 4096;
    /// To the end of glibc's first 32 keys.
    const WORDS: u64 = (REACH + 0x510) / 8;
    const MOST_COMPARED: usize = 16;
    let around = |thread: &PythonThread| {
        let start = thread.thread_pointer.checked_sub(REACH)?;
        let places = (0..WORDS).filter(|place| memory.read_u64(start + place * 8) == Ok(thread.state));
        Some(places.collect::<Vec<u64>>())
    };
    let mut places: Option<Vec<u64>> = None;
    for found in threads.iter().take(MOST_COMPARED).filter_map(around) {
        places = Some(match places {
            Some(places) => places.into_iter().filter(|place| found.contains(place)).collect(),
            None => found,
        });
    }
    // Values of keys are above the pointer, variables below it.
    let place = places.and_then(|places| places.last().copied());
    place.map_or(0, |place| (place * 8).wrapping_sub(REACH))
}

/// The index of the frame that made something: the program's own code, not that of Python's library, innermost first.
/// Where all of it is the library's (`python -m http.server`), what is not the machinery of threads.
pub(super) fn site_of(frames: &[Frame]) -> Option<usize> {
    let file = |frame: &Frame| frame.file.clone().unwrap_or_default();
    let own = frames.iter().position(|frame| !is_library(&file(frame)));
    let user = || frames.iter().position(|frame| !is_machinery(&file(frame)));
    own.or_else(user).or(if frames.is_empty() { None } else { Some(0) })
}

/// What a thread runs: the outermost function that is not that of the module `threading`.
pub(super) fn routine_of(frames: &[Frame]) -> Option<&Frame> {
    let is_threading =
        |frame: &&Frame| frame.file.as_ref().is_some_and(|file| file.ends_with("/threading.py"));
    frames.iter().rev().find(|frame| !is_threading(frame))
}

/// A file of Python's own library: `…/lib/python3.11/threading.py`, but not what was installed below it.
fn is_library(file: &str) -> bool {
    let Some((_, rest)) = file.split_once("/lib/python3.").or_else(|| file.split_once("/lib64/python3."))
    else {
        return file.starts_with("<frozen ");
    };
    let version = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    version.starts_with('/') && !version.contains("/site-packages/") && !version.contains("/dist-packages/")
}

/// Files of Python's library that make threads and processes for others.
fn is_machinery(file: &str) -> bool {
    const FILES: [&str; 8] = [
        "/threading.py",
        "/subprocess.py",
        "/concurrent/futures/thread.py",
        "/concurrent/futures/process.py",
        "/concurrent/futures/_base.py",
        "/asyncio/base_events.py",
        "/asyncio/threads.py",
        "/_weakrefset.py",
    ];
    file.starts_with("<frozen ")
        || file.contains("/multiprocessing/")
        || FILES.iter().any(|end| file.ends_with(end))
}

impl Located {
    /// Looks for an interpreter in the program itself and in libraries of its name.
    pub(super) fn find(image: &Image, modules: &Modules) -> Option<Self> {
        let inspection = image.inspection();
        let of = |module: &Module, symbols| Self {
            symbols,
            module: module.identity(),
            path: module.path().to_owned(),
        };
        if inspection.go.is_none()
            && let Some(symbols) = Symbols::of(&inspection.elf, image.executable().bytes(), image.bias())
            && let Some(exe) = modules.at_link(image.bias(), &inspection.elf)
        {
            return Some(of(exe, symbols));
        }
        let libraries = modules.all().iter().filter(|module| module.file_name().starts_with("libpython"));
        libraries.into_iter().find_map(|module| {
            let bytes = module.open(modules.dir()).ok()?.read().ok()?;
            let elf = Elf::parse(&bytes).ok()?;
            let symbols = Symbols::of(&elf, &bytes, module.bias(modules.dir())?)?;
            Some(of(module, symbols))
        })
    }
}

/// Where the interpreter's variables are, at run time.
#[derive(Clone, Copy, Debug)]
struct Symbols {
    runtime: u64,
    code_type: u64,
    /// `Py_Version`, from 3.11 on.
    version: Option<u64>,
}

impl Symbols {
    fn of(elf: &Elf, bytes: &[u8], bias: u64) -> Option<Self> {
        let [runtime, code_type, version] = elf.symbols(bytes, ["_PyRuntime", "PyCode_Type", "Py_Version"]);
        let at = |symbol: leakwatch_inspect::Symbol| symbol.address.wrapping_add(bias);
        Some(Self { runtime: at(runtime?), code_type: at(code_type?), version: version.map(at) })
    }

    /// Major and minor version: as the interpreter has it, or else as its file is called.
    fn version(&self, file_name: &str, memory: &impl Memory) -> Option<(u32, u32)> {
        if let Some(version) = self.version.and_then(|at| memory.read_u32(at).ok()) {
            return Some((version >> 24, (version >> 16) & 0xff));
        }
        let (_, rest) = file_name.split_once("python3.")?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        Some((3, rest.get(..end)?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str) -> Frame {
        Frame {
            function: function.to_owned(),
            file: Some(file.to_owned()),
            line: Some(1),
            inlined: false,
            internal: false,
        }
    }

    #[test]
    fn the_programs_own_code() {
        assert!(is_library("/usr/lib/python3.11/threading.py") && is_library("<frozen runpy>"));
        assert!(is_library("/opt/python/lib/python3.8/concurrent/futures/thread.py"));
        for own in [
            "/usr/lib/python3/dist-packages/a.py",
            "/v/lib/python3.11/site-packages/b.py",
            "app.py",
            "<string>",
        ] {
            assert!(!is_library(own), "{own}");
        }
    }

    #[test]
    fn who_made_a_thread_and_what_it_runs() {
        let start = frame("Thread.start", "/usr/lib/python3.11/threading.py");
        let submit = frame("ThreadPoolExecutor.submit", "/usr/lib/python3.11/concurrent/futures/thread.py");
        let serve = frame("ThreadingMixIn.process_request", "/usr/lib/python3.11/socketserver.py");
        let app = frame("handle", "/srv/app.py");
        assert_eq!(site_of(&[start.clone(), submit.clone(), serve.clone(), app.clone()]), Some(3));
        assert_eq!(site_of(&[start.clone(), submit.clone(), serve]), Some(2));
        assert_eq!(site_of(std::slice::from_ref(&start)), Some(0));
        assert_eq!(site_of(&[]), None);
        assert_eq!(routine_of(&[start.clone(), app.clone(), start.clone()]), Some(&app));
        assert_eq!(routine_of(&[app, submit.clone(), start.clone()]), Some(&submit));
        assert_eq!(routine_of(&[start]), None);
    }
}
