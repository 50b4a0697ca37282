//! Sections' bytes, decompressed when they are compressed. Must never grow past the caller's cap.
//!
//! Compressed sections are ELF's `SHF_COMPRESSED` (zlib or zstd, gABI "Section Compression") or the older GNU form:
//! a section named `.zdebug_*` that starts with `ZLIB` and the size as a big-endian u64.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::io::Read;

use super::{Elf, Section};
use crate::Problem;
use crate::reader::{array_at, range_of, u32_at, u64_at};

const SHF_COMPRESSED: u64 = 0x800;
const ELFCOMPRESS_ZLIB: u32 = 1;
const ELFCOMPRESS_ZSTD: u32 = 2;
const COMPRESSION_HEADER_SIZE: usize = 24;

impl Elf {
    /// A section's bytes, decompressed. `Ok(None)`: there is no such section, or it has no bytes in the file. For
    /// `.debug_*` the older `.zdebug_*` is found too. Uncompressed bytes are borrowed and not subject to `cap`.
    ///
    /// # Errors
    /// When the section is truncated, damaged, compressed in an unknown way, or more than `cap` bytes long.
    pub fn section_bytes<'a>(
        &self,
        image: &'a [u8],
        name: &str,
        cap: usize,
    ) -> Result<Option<Cow<'a, [u8]>>, Problem> {
        let Some(section) = self.debug_section(name) else { return Ok(None) };
        let bytes = match section.encoding(image) {
            Ok(Encoding::Plain(bytes)) => Ok(Cow::Borrowed(bytes)),
            Ok(Encoding::Zlib(data, size)) => inflate(data, size, cap).map(Cow::Owned),
            Ok(Encoding::Zstd(data, size)) => unzstd(data, size, cap).map(Cow::Owned),
            Err(what) => Err(what),
        };
        bytes.map(Some).map_err(|what| Problem(format!("section {}: {what}", section.name)))
    }

    /// A section's bytes as a stream, decompressed as they are read, so that nothing of their size is held.
    /// `Ok(None)` as for [`Elf::section_bytes`].
    ///
    /// # Errors
    /// When the section is truncated or compressed in an unknown way. Damage further in is an error of the reader.
    pub fn section_reader<'a>(
        &self,
        image: &'a [u8],
        name: &str,
    ) -> Result<Option<Box<dyn Read + 'a>>, Problem> {
        let Some(section) = self.debug_section(name) else { return Ok(None) };
        let reader: Result<Box<dyn Read + 'a>, String> = match section.encoding(image) {
            Ok(Encoding::Plain(bytes)) => Ok(Box::new(bytes)),
            Ok(Encoding::Zlib(data, size)) => Ok(Box::new(flate2::read::ZlibDecoder::new(data).take(size))),
            Ok(Encoding::Zstd(data, size)) => {
                zstd_decoder(data).map(|d| Box::new(d.take(size)) as Box<dyn Read>)
            }
            Err(what) => Err(what),
        };
        reader.map(Some).map_err(|what| Problem(format!("section {}: {what}", section.name)))
    }

    /// The section with this name that has bytes in the file, or its older compressed form.
    fn debug_section(&self, name: &str) -> Option<&Section> {
        let older = || self.section(&format!(".zdebug_{}", name.strip_prefix(".debug_")?));
        self.section(name).or_else(older).filter(|section| !section.file.is_empty())
    }
}

/// How a section's bytes are stored, and its size when they are compressed.
enum Encoding<'a> {
    Plain(&'a [u8]),
    Zlib(&'a [u8], u64),
    Zstd(&'a [u8], u64),
}

impl Section {
    fn encoding<'a>(&self, image: &'a [u8]) -> Result<Encoding<'a>, String> {
        let bytes = range_of(image, &self.file).unwrap_or_default();
        if u64::try_from(bytes.len()).is_ok_and(|len| len < self.size) {
            return Err(format!("the file has only {} of its {} bytes", bytes.len(), self.size));
        }
        if self.flags & SHF_COMPRESSED != 0 {
            let (Some(format), Some(size), Some(data)) =
                (u32_at(bytes, 0), u64_at(bytes, 8), bytes.get(COMPRESSION_HEADER_SIZE..))
            else {
                return Err("it ends inside the compression header".into());
            };
            return match format {
                ELFCOMPRESS_ZLIB => Ok(Encoding::Zlib(data, size)),
                ELFCOMPRESS_ZSTD => Ok(Encoding::Zstd(data, size)),
                other => Err(format!("unknown compression {other}")),
            };
        }
        let size = array_at::<8>(bytes, 4).map(u64::from_be_bytes);
        if let (true, true, Some(size), Some(data)) =
            (self.name.starts_with(".zdebug_"), bytes.starts_with(b"ZLIB"), size, bytes.get(12..))
        {
            return Ok(Encoding::Zlib(data, size));
        }
        Ok(Encoding::Plain(bytes))
    }
}

fn inflate(data: &[u8], size: u64, cap: usize) -> Result<Vec<u8>, String> {
    collect(flate2::read::ZlibDecoder::new(data), size, cap)
}

fn unzstd(data: &[u8], size: u64, cap: usize) -> Result<Vec<u8>, String> {
    collect(zstd_decoder(data)?, size, cap)
}

fn zstd_decoder(data: &[u8]) -> Result<impl Read + '_, String> {
    ruzstd::decoding::StreamingDecoder::new(data).map_err(|e| format!("damaged zstd data: {e}"))
}

/// Reads `size` bytes; the output grows as data comes, not by what the header claims.
fn collect(decoder: impl Read, size: u64, cap: usize) -> Result<Vec<u8>, String> {
    if u64::try_from(cap).is_ok_and(|cap| size > cap) {
        return Err(format!("{size} bytes when decompressed, more than the {cap} that are allowed"));
    }
    let mut out = Vec::new();
    decoder.take(size).read_to_end(&mut out).map_err(|e| format!("damaged compressed data: {e}"))?;
    if u64::try_from(out.len()).is_ok_and(|len| len == size) {
        Ok(out)
    } else {
        Err(format!("it decompresses to {} bytes, not to {size}", out.len()))
    }
}
