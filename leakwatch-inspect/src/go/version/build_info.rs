//! Build info: the version, main package and settings that Go's linker leaves in a binary. Must never follow a
//! pointer or a length out of the image.
//!
//! The format from `src/debug/buildinfo/buildinfo.go` and `src/runtime/debug/mod.go` of Go 1.27: 14 bytes of magic,
//! pointer size, flags; with flag 2 (Go 1.18 and later) two strings with varint lengths follow at 32, without it
//! (Go 1.13 to 1.17) the header holds two pointers to Go string headers.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::elf::Elf;
use crate::reader::{range_of, u64_at};

const MAGIC: &[u8] = b"\xff Go buildinf:";
const ALIGNMENT: u64 = 16;
const HEADER_SIZE: usize = 32;
const FLAG_INLINE: u8 = 2;
const FLAG_BIG_ENDIAN: u8 = 1;
/// Longest version text and longest module text that are read.
const MAX_VERSION: u64 = 1024;
const MAX_MODULES: u64 = 16 << 20;
/// Bytes that frame the module text on both sides (`cmd/go/internal/modload`, infoStart and infoEnd).
const FRAME: usize = 16;

/// What the build info tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// The toolchain's version as it prints it, such as `go1.26.3`.
    pub version: String,
    /// Main package path.
    pub main_path: Option<String>,
    /// Build settings in their order.
    pub settings: Vec<(String, String)>,
}

/// Reads the build info, from its section or from where its magic stands in writable segments (then in others).
pub fn find_build_info(elf: &Elf, image: &[u8]) -> Option<BuildInfo> {
    let section = elf.section(".go.buildinfo").map(|s| (s.address.start, &s.file));
    let segments = |writable| {
        let segments = elf.segments.iter().filter(move |s| s.writable == writable);
        segments.map(|s| (s.address.start, &s.file))
    };
    section.into_iter().chain(segments(true)).chain(segments(false)).find_map(|(address, file)| {
        let bytes = range_of(image, file)?;
        let aligned = |at: &usize| {
            u64::try_from(*at).is_ok_and(|at| address.wrapping_add(at).is_multiple_of(ALIGNMENT))
        };
        let places = memchr::memmem::find_iter(bytes, MAGIC).filter(aligned);
        places.take(16).find_map(|at| read(elf, image, bytes.get(at..)?))
    })
}

fn read(elf: &Elf, image: &[u8], blob: &[u8]) -> Option<BuildInfo> {
    let (pointer_size, flags) = (*blob.get(14)?, *blob.get(15)?);
    let (version, modules) = if flags & FLAG_INLINE != 0 {
        let mut rest = blob.get(HEADER_SIZE..)?;
        let version = inline_string(&mut rest, MAX_VERSION)?;
        (version, inline_string(&mut rest, MAX_MODULES).unwrap_or_default())
    } else {
        if pointer_size != 8 || flags & FLAG_BIG_ENDIAN != 0 {
            return None;
        }
        let version = string_at(elf, image, u64_at(blob, 16)?, MAX_VERSION)?;
        (version, u64_at(blob, 24).and_then(|at| string_at(elf, image, at, MAX_MODULES)).unwrap_or_default())
    };
    let version = str::from_utf8(version).ok().filter(|v| !v.is_empty())?;
    let mut info = BuildInfo { version: version.to_owned(), ..BuildInfo::default() };
    if let Some(text) = unframe(modules) {
        info.read_modules(&String::from_utf8_lossy(text));
    }
    Some(info)
}

impl BuildInfo {
    /// Lines of tab-separated fields: `path`, `mod`, `dep`, `=>`, `build KEY=VALUE`.
    fn read_modules(&mut self, text: &str) {
        for line in text.lines() {
            match line.split_once('\t') {
                Some(("path", path)) => self.main_path = Some(path.to_owned()),
                Some(("build", setting)) => self.settings.extend(read_setting(setting)),
                _ => {}
            }
        }
    }
}

/// `KEY=VALUE`, of which either may be quoted as in Go source when it has odd characters.
fn read_setting(setting: &str) -> Option<(String, String)> {
    let (key, value) = match setting.strip_prefix('"') {
        Some(quoted) => quoted.split_once("\"=")?,
        None => setting.split_once('=')?,
    };
    Some((key.to_owned(), unquote(value)))
}

/// The text of a Go string literal with its usual escapes; other text as it is.
fn unquote(text: &str) -> String {
    if let Some(inner) = text.strip_prefix('`').and_then(|t| t.strip_suffix('`')) {
        return inner.to_owned();
    }
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    out
}

/// The module text without the 16 bytes that frame it on both sides.
fn unframe(text: &[u8]) -> Option<&[u8]> {
    let end = text.len().checked_sub(FRAME)?;
    let inner = text.get(FRAME..end)?;
    (inner.last() == Some(&b'\n')).then_some(inner)
}

/// A string with its length before it as a varint.
fn inline_string<'a>(rest: &mut &'a [u8], cap: u64) -> Option<&'a [u8]> {
    let mut len: u64 = 0;
    for shift in (0_u32..63).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        len |= u64::from(byte & 0x7f).wrapping_shl(shift);
        if byte & 0x80 == 0 {
            let len = usize::try_from(len).ok().filter(|_| len <= cap)?;
            let (text, tail) = rest.split_at_checked(len)?;
            *rest = tail;
            return Some(text);
        }
    }
    None
}

/// The text of the Go string whose header {pointer, length} stands at an address.
fn string_at<'a>(elf: &Elf, image: &'a [u8], address: u64, cap: u64) -> Option<&'a [u8]> {
    let header = elf.pointers(image, address, 2)?;
    let (text, len) = (*header.first()?, *header.get(1)?);
    elf.bytes(image, text, usize::try_from(len).ok().filter(|_| len <= cap)?)
}
