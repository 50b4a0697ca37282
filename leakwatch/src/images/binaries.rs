//! What is known of binaries that were read before: many processes run the same one.
//!
//! A file is known by its identity: device, inode, size and last change. What cannot be inspected is remembered, too.
//! Bounded: the binary that was asked for the longest ago goes first. It must never take a path for an identity.

use std::sync::Arc;

use leakwatch_inspect::{InspectError, Inspection, tokio_rt};
use rustc_hash::FxHashMap;

use crate::host::FileIdentity;

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

/// Binaries that were read.
#[derive(Debug)]
pub struct Binaries {
    most: usize,
    largest_library: u64,
    known: FxHashMap<FileIdentity, Entry>,
    asked: u64,
    inspected: u64,
}

impl Binaries {
    /// Keeps this many at most; 0: none.
    pub fn new(most: usize) -> Self {
        Self { most, largest_library: u64::MAX, known: FxHashMap::default(), asked: 0, inspected: 0 }
    }

    /// Larger libraries are taken for ones without a runtime, unread: they would be read into memory as a whole.
    #[must_use]
    pub fn with_largest_library(self, bytes: u64) -> Self {
        Self { largest_library: bytes, ..self }
    }

    /// Figures of the questions so far.
    pub fn figures(&self) -> BinaryFigures {
        BinaryFigures {
            known: self.known.len() as u64,
            inspected: self.inspected,
            reused: self.asked.saturating_sub(self.inspected),
        }
    }

    /// What an executable's bytes tell.
    pub(super) fn inspection(
        &mut self,
        file: FileIdentity,
        bytes: &[u8],
    ) -> Result<Arc<Inspection>, InspectError> {
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
    fn none_are_kept_where_none_may_be() {
        let mut binaries = Binaries::new(0);
        for _ in 0..2 {
            assert!(binaries.inspection(file(1), b"no ELF").is_err());
        }
        assert_eq!(binaries.figures(), BinaryFigures { known: 0, inspected: 2, reused: 0 });
    }
}
