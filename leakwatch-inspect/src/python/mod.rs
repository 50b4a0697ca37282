//! CPython: how its versions lay out threads, frames and functions, and what their tables of lines mean.
//!
//! Offsets of 3.7 to 3.12 are those of the headers of these releases (`offsetof` on x86-64 Linux, 3.7.16, 3.8.18, 3.9.18,
//! 3.10.13, 3.11.2, 3.11.7, 3.12.1); they are fixed within a minor version. 3.13 tells them itself (`_Py_DebugOffsets`,
//! `Include/internal/pycore_runtime.h`); later versions tell them in another order, and are not read. Nothing here may be believed before a walk over real frames has agreed with it: that is the caller's.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod lines;

pub use lines::{LineTable, line_at};

use crate::reader::u64_at;

/// Where things are in one version. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PythonLayout {
    /// What leads to the state of the thread that holds the lock.
    pub current: Current,
    /// In a runtime: its main interpreter, or the first of the list of interpreters.
    pub interpreter: u32,
    /// In an interpreter: the next one; `None`: `interpreter` is the main one.
    pub next_interpreter: Option<u32>,
    /// In an interpreter: the first of its threads.
    pub threads: u32,
    /// In a thread's state: the next thread.
    pub next_thread: u32,
    /// In a thread's state: its thread pointer, as `pthread_self` has it.
    pub thread_id: u32,
    /// In a thread's state: its innermost frame, or what leads to it.
    pub frame: u32,
    /// In what that leads to: the innermost frame.
    pub frame_in: Option<u32>,
    /// In a frame: its code object.
    pub code: u32,
    /// In a frame: where in it.
    pub at: At,
    /// In a frame: its caller's.
    pub previous: u32,
    /// In a code object: the file.
    pub file_name: u32,
    /// In a code object: the function's name, with its class where the version keeps that.
    pub name: u32,
    /// In a code object: the line of its `def`.
    pub first_line: u32,
    /// In a code object: its table of lines.
    pub lines: u32,
    /// The table's form.
    pub line_table: LineTable,
    /// Bytes of a string's header when it is ASCII, before its characters.
    pub ascii: u32,
    /// The same for other strings.
    pub compact: u32,
}

/// What leads to the state of the thread that holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Current {
    /// A word of the runtime.
    Runtime(u32),
    /// A word of the lock to which this word of the interpreter leads.
    Lock {
        /// In an interpreter: its lock.
        lock: u32,
        /// In the lock: the state of the thread that held it last.
        holder: u32,
    },
}

/// Where a frame is in its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A 32-bit number of units of so many bytes.
    Index {
        /// In a frame.
        offset: u32,
        /// Bytes of a unit.
        unit: u32,
    },
    /// The address of an instruction; code begins at an offset of the code object.
    Address {
        /// In a frame.
        offset: u32,
        /// In a code object.
        code_start: u32,
    },
}

/// In a string: its number of characters.
pub const STRING_LENGTH: u32 = 16;
/// In a string: bits that say how its characters are kept.
pub const STRING_STATE: u32 = 32;
/// In a table of bytes: how many.
pub const BYTES_LENGTH: u32 = 16;
/// In a table of bytes: the first.
pub const BYTES_START: u32 = 32;
/// In an object: its type.
pub const OBJECT_TYPE: u32 = 8;
/// Bytes at the runtime's beginning that are read for [`PythonLayout::told`].
pub const TOLD: usize = 8 * 71;

/// Bytes of one character of a string, and whether it is ASCII, from its state; `None`: not kept in one piece.
pub fn string_form(state: u32) -> Option<(usize, bool)> {
    let (kind, compact, ascii) = ((state >> 2) & 7, state >> 5 & 1 == 1, state >> 6 & 1 == 1);
    let bytes = match kind {
        1 => 1,
        2 => 2,
        4 => 4,
        _ => return None,
    };
    compact.then_some((bytes, ascii))
}

impl PythonLayout {
    /// That of a version that does not tell its offsets; `None`: it is not in the table.
    pub fn of_version(major: u32, minor: u32) -> Option<Self> {
        let before_3_8 = Self {
            current: Current::Runtime(1480),
            interpreter: 32,
            next_interpreter: None,
            threads: 8,
            next_thread: 8,
            thread_id: 176,
            frame: 24,
            frame_in: None,
            code: 32,
            at: At::Index { offset: 104, unit: 1 },
            previous: 24,
            file_name: 96,
            name: 104,
            first_line: 36,
            lines: 112,
            line_table: LineTable::Begins,
            ascii: 48,
            compact: 72,
        };
        let of_3_8 = Self {
            current: Current::Runtime(1368),
            interpreter: 40,
            file_name: 104,
            name: 112,
            first_line: 40,
            lines: 120,
            ..before_3_8
        };
        let of_3_9 = Self { current: Current::Runtime(568), ..of_3_8 };
        let of_3_11 = Self {
            current: Current::Runtime(576),
            interpreter: 48,
            threads: 16,
            thread_id: 152,
            frame: 56,
            frame_in: Some(8),
            at: At::Address { offset: 56, code_start: 184 },
            previous: 48,
            file_name: 112,
            name: 128,
            first_line: 72,
            lines: 136,
            line_table: LineTable::Locations,
            ..of_3_9
        };
        Some(match (major, minor) {
            (3, 7) => before_3_8,
            (3, 8) => of_3_8,
            (3, 9) => of_3_9,
            (3, 10) => {
                Self { at: At::Index { offset: 96, unit: 2 }, line_table: LineTable::Ranges, ..of_3_9 }
            }
            (3, 11) => of_3_11,
            (3, 12) => Self {
                current: Current::Lock { lock: 384, holder: 8 },
                threads: 72,
                thread_id: 136,
                frame_in: Some(0),
                code: 0,
                at: At::Address { offset: 56, code_start: 192 },
                previous: 8,
                first_line: 68,
                ascii: 40,
                compact: 56,
                ..of_3_11
            },
            _ => return None,
        })
    }

    /// What a runtime tells of itself at its beginning: [`TOLD`] bytes, or fewer. `None`: nothing, or a version whose
    /// telling we do not know.
    ///
    /// # Errors
    /// When threads run without a common lock, so that nobody can tell whose frames are read.
    pub fn told(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        if bytes.get(..8) != Some(b"xdebugpy") {
            return Ok(None);
        }
        let version = u64_at(bytes, 8).unwrap_or(0);
        if (version >> 16) & 0xffff != 0x030d {
            return Ok(None);
        }
        if u64_at(bytes, 16) != Some(0) {
            return Err("it is a free-threaded build");
        }
        Ok(Self::of_3_13(bytes))
    }

    /// The order of the words in 3.13.
    fn of_3_13(bytes: &[u8]) -> Option<Self> {
        /// Largest offset that makes sense: an interpreter's size in 3.13 is about 280,000 bytes.
        const LARGEST: u64 = 1 << 20;
        let told = |index: usize| {
            let offset = u64_at(bytes, index.checked_mul(8)?)?;
            u32::try_from(offset).ok().filter(|_| offset < LARGEST)
        };
        let (lock_in, holder_in) = (told(15)?, told(18)?);
        Some(Self {
            current: Current::Lock { lock: told(14)?, holder: holder_in.checked_sub(lock_in)? },
            interpreter: told(5)?,
            next_interpreter: Some(told(8)?),
            threads: told(9)?,
            next_thread: told(21)?,
            thread_id: told(24)?,
            frame: told(23)?,
            frame_in: None,
            previous: told(29)?,
            code: told(30)?,
            at: At::Address { offset: told(31)?, code_start: told(43)? },
            file_name: told(35)?,
            name: told(37)?,
            lines: told(38)?,
            first_line: told(39)?,
            line_table: LineTable::Locations,
            ascii: told(70)?,
            // A pointer and a length more (Include/cpython/unicodeobject.h).
            compact: told(70)?.checked_add(16)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_table() {
        for minor in 7..=12 {
            let layout = PythonLayout::of_version(3, minor).expect("in the table");
            assert_ne!(layout.code, layout.previous);
        }
        assert_eq!(PythonLayout::of_version(3, 6), None);
        assert_eq!(PythonLayout::of_version(3, 13), None, "it tells them itself");
        assert_eq!(PythonLayout::of_version(2, 7), None);
    }

    #[test]
    fn strings() {
        assert_eq!(string_form(0b110_0100), Some((1, true)));
        assert_eq!(string_form(0b010_1000), Some((2, false)));
        assert_eq!(string_form(0b001_0100), None, "not in one piece");
        assert_eq!(string_form(u32::MAX), None);
    }

    #[test]
    fn what_is_told() {
        assert_eq!(PythonLayout::told(&[]), Ok(None));
        assert_eq!(PythonLayout::told(&[0; TOLD]), Ok(None));
        let runtime = |free_threaded: u64| {
            let words = (3..71).flat_map(|index: u64| (index * 8).to_le_bytes());
            let head = [u64::from_le_bytes(*b"xdebugpy"), 0x030d_00f0, free_threaded];
            head.into_iter().flat_map(u64::to_le_bytes).chain(words).collect::<Vec<u8>>()
        };
        let bytes = runtime(0);
        let told = PythonLayout::told(&bytes).expect("with a lock").expect("all of it");
        assert_eq!(told.current, Current::Lock { lock: 14 * 8, holder: 24 });
        assert!(PythonLayout::told(&runtime(1)).is_err());
        assert_eq!(PythonLayout::told(bytes.get(..TOLD - 1).expect("shorter")), Ok(None));
    }
}
