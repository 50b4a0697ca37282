//! What is known of binaries that were read before: many processes run the same one.
//!
//! A file is known by its identity: device, inode, size and last change. What cannot be inspected is remembered, too. A copy of a
//! program that runs is known by its bytes, all of them: what a file says of itself, such as its build id, is foreign input.
//! Bounded: the binary that was asked for the longest ago goes first. It can be kept in a file (`kept`). It must never take a
//! path for an identity.

use std::{io, path::Path, sync::Arc};

use leakwatch_inspect::{InspectError, Inspection, tokio_rt};
use rustc_hash::FxHashMap;

use super::{
    ImageError,
    kept::{self, Kept, KeptFacts},
    program::{Program, Programs},
};
use crate::host::{Executable, FileIdentity, Process};

/// What was found out about a file.
#[derive(Clone, Debug)]
enum Facts {
    /// All of it.
    Known(Arc<Inspection>),
    /// It is no ELF file that we read.
    Unreadable(InspectError),
    /// A library without a runtime in it.
    Nothing,
}

#[derive(Debug)]
struct Entry {
    facts: Facts,
    /// Number of the question that asked for it last.
    asked: u64,
}

/// How often binaries were asked for, and how many are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BinaryFigures {
    /// Known now.
    pub known: u64,
    /// Read and inspected.
    pub inspected: u64,
    /// Asked for and known already.
    pub reused: u64,
}

/// Which binaries are read when somebody asks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Those that are not known: that takes as long as they are large.
    #[default]
    All,
    /// None. A program counts as known while a process that somebody looks at runs it.
    Known,
}

/// Binaries that were read.
#[derive(Debug)]
pub struct Binaries {
    most: usize,
    reading: Reading,
    largest_library: u64,
    known: FxHashMap<FileIdentity, Entry>,
    /// Those of them that are open.
    programs: Programs,
    asked: u64,
    inspected: u64,
}

impl Binaries {
    /// Keeps this many at most; 0: none.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            reading: Reading::All,
            largest_library: u64::MAX,
            known: FxHashMap::default(),
            programs: Programs::default(),
            asked: 0,
            inspected: 0,
        }
    }

    /// Larger libraries are taken for ones without a runtime, unread: they would be read into memory as a whole.
    #[must_use]
    pub fn with_largest_library(self, bytes: u64) -> Self {
        Self { largest_library: bytes, ..self }
    }

    /// Keeps this many at most from now on; those that were asked for last stay.
    pub fn keep_at_most(&mut self, most: usize) {
        self.most = most;
        if self.known.len() > most {
            let mut known: Vec<(FileIdentity, Entry)> = self.known.drain().collect();
            known.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.asked));
            known.truncate(most);
            self.known.extend(known);
        }
    }

    /// From now on only these are read; [`ImageError::Unread`] says that another one would have to be.
    pub fn limit_to(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// Which are read.
    pub(super) fn reading(&self) -> Reading {
        self.reading
    }

    /// Takes in what [`Self::write`] wrote; how many.
    ///
    /// # Errors
    /// When there is no file, or it is refused as a whole: a link, others' to write to, damaged, of another leakwatch.
    pub fn read(&mut self, path: &Path) -> io::Result<usize> {
        let kept = kept::read(path)?;
        let before = self.known.len();
        for kept in kept.into_iter().take(self.most.saturating_sub(before)) {
            let file = kept.file();
            let facts = match kept.facts {
                KeptFacts::Known(inspection) => Facts::Known(Arc::new(inspection)),
                KeptFacts::Unreadable(why) => Facts::Unreadable(why),
                KeptFacts::Nothing => Facts::Nothing,
            };
            self.known.entry(file).or_insert(Entry { facts, asked: 0 });
        }
        Ok(self.known.len() - before)
    }

    /// Writes what is known, those first that were asked for last.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut known: Vec<(&FileIdentity, &Entry)> = self.known.iter().collect();
        known.sort_by_key(|(file, entry)| (std::cmp::Reverse(entry.asked), file.dev, file.ino));
        let kept = known.into_iter().map(|(file, entry)| {
            let facts = match &entry.facts {
                Facts::Known(inspection) => KeptFacts::Known(&**inspection),
                Facts::Unreadable(why) => KeptFacts::Unreadable(why),
                Facts::Nothing => KeptFacts::Nothing,
            };
            Kept::new(file, facts)
        });
        kept::write(path, kept)
    }

    /// Figures of the questions so far.
    pub fn figures(&self) -> BinaryFigures {
        BinaryFigures {
            known: self.known.len() as u64,
            inspected: self.inspected,
            reused: self.asked.saturating_sub(self.inspected),
        }
    }

    /// The program that a process runs: opened for it, or for another one before.
    pub(super) fn program_of(&mut self, process: &Process) -> Result<Arc<Program>, ImageError> {
        if let Some(program) = self.programs.get(Executable::identity_of(process)?) {
            self.asked = self.asked.saturating_add(1);
            if let Some(entry) = self.known.get_mut(&program.exe.identity()) {
                entry.asked = self.asked;
            }
            return Ok(program);
        }
        if self.reading == Reading::Known {
            return Err(ImageError::Unread { path: process.exe().path.clone() });
        }
        let exe = Executable::of_process(process)?;
        self.share(&exe);
        let inspection = self
            .inspection(exe.identity(), exe.bytes())
            .map_err(|why| ImageError::Inspect { path: process.exe().path.clone(), why })?;
        let program = Program::new(exe, inspection);
        self.programs.insert(&program);
        Ok(program)
    }

    /// A file that is not known may be a copy of one that runs: containers have the same program in layers of their own. Its
    /// build id would say so, but anybody can write another's into a file: the bytes are compared, which takes a
    /// fifth of the time that it takes to inspect them.
    fn share(&mut self, exe: &Executable) {
        let file = exe.identity();
        if self.most == 0 || self.known.contains_key(&file) {
            return;
        }
        if let Some(program) = self.programs.alike(exe) {
            self.make_room(&file);
            let facts = Facts::Known(Arc::clone(&program.inspection));
            self.known.insert(file, Entry { facts, asked: self.asked });
        }
    }

    /// What an executable's bytes tell.
    fn inspection(&mut self, file: FileIdentity, bytes: &[u8]) -> Result<Arc<Inspection>, InspectError> {
        let facts = self.facts(file, |known| match known {
            Some(Facts::Nothing) | None => Some(of_executable(bytes)),
            Some(_) => None,
        });
        match facts {
            Facts::Known(inspection) => Ok(inspection),
            Facts::Unreadable(why) => Err(why),
            // What is found of an executable is never nothing.
            Facts::Nothing => leakwatch_inspect::inspect(bytes).map(Arc::new),
        }
    }

    /// Whether it is known what a library's bytes tell, or may be read.
    pub(super) fn may_tell(&self, file: FileIdentity) -> bool {
        self.reading == Reading::All || self.knows(file)
    }

    /// Whether it was read.
    pub(super) fn knows(&self, file: FileIdentity) -> bool {
        self.known.contains_key(&file)
    }

    /// What a library's bytes tell, if a runtime may be in it; `read` gives them where they are needed.
    pub(super) fn of_library(
        &mut self,
        file: FileIdentity,
        read: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Arc<Inspection>> {
        let mut read = Some(read).filter(|_| file.size <= self.largest_library);
        let facts = self.facts(file, |known| match known {
            Some(_) => None,
            None => Some(of_library(read.take().and_then(|read| read()).as_deref())),
        });
        match facts {
            Facts::Known(inspection) => Some(inspection),
            Facts::Unreadable(_) | Facts::Nothing => None,
        }
    }

    /// What is known of a file; `look` says what to put in its place, or that nothing new is needed.
    fn facts(&mut self, file: FileIdentity, look: impl FnOnce(Option<&Facts>) -> Option<Facts>) -> Facts {
        self.asked = self.asked.saturating_add(1);
        let new = look(self.known.get(&file).map(|entry| &entry.facts));
        let Some(facts) = new else {
            // Whoever says that nothing new is needed was shown what is there.
            return self.known.get_mut(&file).map_or(Facts::Nothing, |entry| {
                entry.asked = self.asked;
                entry.facts.clone()
            });
        };
        self.inspected = self.inspected.saturating_add(1);
        if self.most > 0 {
            self.make_room(&file);
            self.known.insert(file, Entry { facts: facts.clone(), asked: self.asked });
        }
        facts
    }

    fn make_room(&mut self, file: &FileIdentity) {
        if self.known.len() < self.most || self.known.contains_key(file) {
            return;
        }
        let oldest = self.known.iter().min_by_key(|(_, entry)| entry.asked).map(|(oldest, _)| *oldest);
        if let Some(oldest) = oldest {
            self.known.remove(&oldest);
        }
    }
}

fn of_executable(bytes: &[u8]) -> Facts {
    match leakwatch_inspect::inspect(bytes) {
        Ok(inspection) => Facts::Known(Arc::new(inspection)),
        Err(why) => Facts::Unreadable(why),
    }
}

fn of_library(bytes: Option<&[u8]>) -> Facts {
    let Some(bytes) = bytes.filter(|bytes| tokio_rt::may_be_in(bytes)) else { return Facts::Nothing };
    match leakwatch_inspect::inspect(bytes) {
        Ok(inspection) if inspection.tokio.is_empty() => Facts::Nothing,
        Ok(inspection) => Facts::Known(Arc::new(inspection)),
        Err(_) => Facts::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::target::{Target, copy};

    fn file(ino: u64) -> FileIdentity {
        FileIdentity { dev: 1, ino, size: 2, mtime: 3, mtime_ns: 4 }
    }

    fn own_bytes() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("our own executable")
    }

    #[test]
    fn a_binary_is_read_once() {
        let bytes = own_bytes();
        let mut binaries = Binaries::new(8);
        let first = binaries.inspection(file(1), &bytes).expect("an ELF file");
        let second = binaries.inspection(file(1), b"not looked at").expect("known");
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(binaries.figures(), BinaryFigures { known: 1, inspected: 1, reused: 1 });
    }

    /// Containers have the same program in layers of their own; a file that only says that it is the same is another.
    #[test]
    fn a_copy_of_what_runs_is_not_inspected_and_one_that_differs_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["layer1", "layer2", "forged"].map(|name| folder.path().join(name));
        copy("/bin/sleep", &paths[0]);
        copy("/bin/sleep", &paths[1]);
        // Its size and its build id are those of the others.
        let mut bytes = std::fs::read("/bin/sleep").expect("there");
        *bytes.last_mut().expect("some") ^= 1;
        let other = folder.path().join("bytes");
        std::fs::write(&other, bytes).expect("written");
        copy(other.to_str().expect("a text"), &paths[2]);
        std::fs::set_permissions(&paths[2], std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("ours");
        let running = paths.map(|path| Target::sleeping(&path));
        let open = |target: &Target| Process::open(target.pid()).expect("a live child");
        let mut binaries = Binaries::new(8);
        let [first, second, forged] =
            running.each_ref().map(|target| binaries.program_of(&open(target)).expect("an ELF file"));
        assert!(Arc::ptr_eq(&first.inspection, &second.inspection) && !Arc::ptr_eq(&first, &second));
        assert!(
            !Arc::ptr_eq(&first.inspection, &forged.inspection),
            "it has their build id, and another content"
        );
        assert_eq!(first.inspection.elf.build_id(), forged.inspection.elf.build_id());
        assert_eq!(binaries.figures(), BinaryFigures { known: 3, inspected: 2, reused: 1 });
        // Nothing is left open for those that may come: one that comes when nobody runs it is inspected.
        drop((first, second, forged));
        let later = folder.path().join("layer4");
        copy("/bin/sleep", &later);
        let later = Target::sleeping(&later);
        binaries.program_of(&open(&later)).expect("an ELF file");
        assert_eq!(binaries.figures().inspected, 3);
    }

    /// A program that nobody runs any more is not open, and has to be read as far as its headers.
    #[test]
    fn who_has_no_time_to_read_is_told_so_and_gets_what_is_open() {
        let target = Target::sleeping("/bin/sleep");
        let process = Process::open(target.pid()).expect("a live child");
        let mut binaries = Binaries::new(8);
        binaries.limit_to(Reading::Known);
        assert!(matches!(binaries.program_of(&process), Err(ImageError::Unread { .. })));
        binaries.limit_to(Reading::All);
        let open = binaries.program_of(&process).expect("an ELF file");
        binaries.limit_to(Reading::Known);
        assert!(Arc::ptr_eq(&open, &binaries.program_of(&process).expect("it is open")));
        assert!(!binaries.may_tell(file(1)) && binaries.may_tell(open.exe.identity()));
        drop(open);
        assert!(matches!(binaries.program_of(&process), Err(ImageError::Unread { .. })));
    }

    #[test]
    fn what_is_no_program_is_known_as_such() {
        let mut binaries = Binaries::new(8);
        assert!(binaries.inspection(file(1), b"#!/bin/sh").is_err());
        assert!(binaries.inspection(file(1), &own_bytes()).is_err(), "it was not read again");
        assert!(binaries.of_library(file(2), || Some(b"nothing in it".to_vec())).is_none());
        assert!(binaries.of_library(file(2), || panic!("it is known")).is_none());
        let mut small = Binaries::new(8).with_largest_library(1);
        assert!(small.of_library(file(2), || panic!("it is too large")).is_none());
        // A file can be a library of one process and the program of another.
        assert!(binaries.inspection(file(2), &own_bytes()).is_ok());
        assert_eq!(binaries.figures().inspected, 3);
    }

    #[test]
    fn the_one_asked_for_the_longest_ago_goes_first() {
        let mut binaries = Binaries::new(2);
        for ino in [1, 2, 1, 3] {
            assert!(binaries.inspection(file(ino), b"no ELF").is_err());
        }
        assert_eq!(binaries.figures(), BinaryFigures { known: 2, inspected: 3, reused: 1 });
        assert!(binaries.inspection(file(1), b"no ELF").is_err());
        assert_eq!(binaries.figures().inspected, 3, "the first was asked for later than the second");
        assert!(binaries.inspection(file(2), b"no ELF").is_err());
        assert_eq!(binaries.figures().inspected, 4);
    }

    #[test]
    fn those_that_were_asked_for_last_stay_when_there_may_be_fewer() {
        let mut binaries = Binaries::new(8);
        for ino in [1, 2, 3, 1] {
            assert!(binaries.inspection(file(ino), b"no ELF").is_err());
        }
        binaries.keep_at_most(2);
        assert_eq!(binaries.figures(), BinaryFigures { known: 2, inspected: 3, reused: 1 });
        for ino in [1, 3] {
            assert!(binaries.inspection(file(ino), b"no ELF").is_err());
        }
        assert_eq!(binaries.figures().inspected, 3);
        binaries.keep_at_most(0);
        assert_eq!(binaries.figures().known, 0);
    }

    #[test]
    fn none_are_kept_where_none_may_be() {
        let mut binaries = Binaries::new(0);
        for _ in 0..2 {
            assert!(binaries.inspection(file(1), b"no ELF").is_err());
        }
        assert_eq!(binaries.figures(), BinaryFigures { known: 0, inspected: 2, reused: 0 });
    }

    #[test]
    fn what_was_written_is_known_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state/binaries.cache");
        let bytes = own_bytes();
        let mut binaries = Binaries::new(8);
        let first = binaries.inspection(file(1), &bytes).expect("an ELF file");
        assert!(binaries.inspection(file(2), b"#!/bin/sh").is_err());
        assert!(binaries.of_library(file(3), || Some(b"nothing in it".to_vec())).is_none());
        binaries.write(&path).expect("written");
        let mut again = Binaries::new(8);
        assert_eq!(again.read(&path).expect("read"), 3);
        let second = again.inspection(file(1), b"not looked at").expect("known");
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "nothing is lost on the way");
        assert!(
            again.inspection(file(2), &bytes).is_err()
                && again.of_library(file(3), || panic!("known")).is_none()
        );
        assert_eq!(again.figures(), BinaryFigures { known: 3, inspected: 0, reused: 3 });
        // Of fewer, those that were asked for last.
        let mut few = Binaries::new(1);
        assert_eq!(few.read(&path).expect("read"), 1);
        assert!(few.of_library(file(3), || panic!("it was asked for last")).is_none());
    }

    #[test]
    fn what_is_not_ours_is_refused_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("binaries.cache");
        let mut binaries = Binaries::new(8);
        assert!(binaries.inspection(file(2), b"#!/bin/sh").is_err());
        binaries.write(&path).expect("written");
        let good = std::fs::read_to_string(&path).expect("there");
        let refused = |path: &Path| Binaries::new(8).read(path).expect_err("refused").to_string();
        for (text, why) in [
            (good.replace("NotElf", "NotElg"), "it is damaged"),
            (good.trim_end().to_owned(), "it is damaged"),
            (good.replacen(env!("CARGO_PKG_VERSION"), "99.0.0", 1), "it is not of this leakwatch"),
            ("somebody else's".to_owned(), "it is not of this leakwatch"),
            (String::new(), "it is not of this leakwatch"),
        ] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(refused(&path), why);
        }
        let (link, target) = (folder.path().join("link"), folder.path().join("precious"));
        std::fs::write(&target, &good).expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        refused(&link);
        binaries.write(&link).expect("the link is replaced");
        assert!(!link.is_symlink() && std::fs::read_to_string(&target).expect("there") == good);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&link, open).expect("for all");
        assert!(refused(&link).starts_with("others may write to it"));
        assert_eq!(
            Binaries::new(8).read(&folder.path().join("none")).expect_err("none").kind(),
            io::ErrorKind::NotFound
        );
    }
}
