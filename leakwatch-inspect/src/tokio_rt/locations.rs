//! `core::panic::Location`s that code refers to: which file, and with it which tokio, and where an async block stands.
//!
//! A Location is a static of a string and two numbers, `{file: &str, line: u32, col: u32}`, and is passed to whatever
//! panics. It is there in stripped programs, too. Must never take other data for one: its file is printable and has a
//! name that ends in `.rs`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;
use std::ops::Range;

use iced_x86::FlowControl;

use super::code::Code;
use super::version::TokioVersion;

/// Longest file name that is believed.
const MAX_FILE: u64 = 512;
/// What `core::panicking::panic_const_async_fn_resumed` prints (`library/core/src/panicking.rs`): every async block's code
/// has a branch that calls it, with the Location of the block.
const RESUMED: &[u8] = b"`async fn` resumed after completion";

/// A place in source code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
pub struct SourceLocation {
    /// File, as it was when the crate was compiled.
    pub file: String,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// The Location at an address.
pub(super) fn read(code: &Code<'_>, address: u64) -> Option<SourceLocation> {
    let word = |offset: u64| code.data.word(address.checked_add(offset)?);
    let (text, length, numbers) = (word(0)?, word(8)?, word(16)?);
    (4..=MAX_FILE).contains(&length).then_some(())?;
    let text = code.elf.bytes(code.image, text, usize::try_from(length).ok()?)?;
    let file = std::str::from_utf8(text).ok().filter(|file| file.as_bytes().ends_with(b".rs"))?;
    file.bytes().all(|byte| (b' '..0x7f).contains(&byte)).then_some(())?;
    let line = u32::try_from(numbers & u64::from(u32::MAX)).ok()?;
    let column = u32::try_from(numbers >> 32).ok()?;
    (line > 0 && column > 0).then(|| SourceLocation { file: file.to_owned(), line, column })
}

/// Does an async block stand in tokio itself? What a task awaits there is not what it is.
fn is_tokios(location: &SourceLocation) -> bool {
    location.file.contains("/tokio-1.") || location.file.contains("/tokio/src/")
}

/// The version of tokio whose task code a function has: its assertions name their file.
pub(super) fn version(code: &Code<'_>, function: &Range<u64>) -> Option<TokioVersion> {
    let instructions = code.decode(function)?;
    instructions.iter().find_map(|instruction| {
        let location = read(code, code.address_taken(instruction)?)?;
        let (_, rest) = location.file.rsplit_once("/tokio-")?;
        rest.contains("/src/runtime/").then_some(())?;
        super::version::parse(rest.as_bytes())
    })
}

/// The functions that panic because an async block was resumed after its end.
pub(super) fn resumed(code: &Code<'_>) -> BTreeSet<u64> {
    let mut texts = BTreeSet::new();
    for at in memchr::memmem::find_iter(code.image, RESUMED).take(8) {
        texts.extend(u64::try_from(at).ok().and_then(|at| code.elf.address_of(at)));
    }
    // The text itself, or the slice of one text that points to it.
    let mut places = texts.clone();
    for segment in code.data.segments() {
        let words = segment.words.iter().zip((segment.address..).step_by(8));
        places.extend(words.filter(|(word, _)| texts.contains(word)).map(|(_, place)| place));
    }
    let mut functions = BTreeSet::new();
    for (address, text) in code.text() {
        let relative = super::starts::relative(address, text, 0x8d);
        for (place, target) in relative.chain(super::starts::immediate(code, address, text, &places)) {
            if places.contains(&target)
                && let Some(function) = code.function_at(place)
            {
                functions.insert(function.start);
            }
        }
    }
    functions
}

/// The Locations of the async blocks whose code these functions have, in the order of the code.
pub(super) fn of_async_blocks(
    code: &Code<'_>,
    resumed: &BTreeSet<u64>,
    functions: &[u64],
) -> Vec<SourceLocation> {
    let mut found = Vec::new();
    for function in functions.iter().filter_map(|function| code.function_at(*function)) {
        let mut last = None;
        for instruction in code.decode(&function).unwrap_or_default() {
            if let Some(address) = code.address_taken(&instruction) {
                last = Some(address);
            }
            let calls = matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall | FlowControl::UnconditionalBranch
            );
            if calls
                && code.target(&instruction).is_some_and(|target| resumed.contains(&target))
                && let Some(location) = last.and_then(|last| read(code, last))
                && !is_tokios(&location)
                && !found.contains(&location)
            {
                found.push(location);
            }
        }
    }
    found
}
