//! The file: a magic, then frames of length, checksum and deflated lines of JSON.
//!
//! A reader stops at the first frame that is not whole or whose checksum is wrong, and tells how many bytes that leaves
//! out. Lengths are bounded before anything is allocated for them.

use std::io::{self, Read, Write};

use flate2::{Compression, Crc, read::DeflateDecoder, write::DeflateEncoder};

/// Name and version of the form; entries are only ever added.
pub const SCHEMA: &str = "leakwatch.recording/1";

/// What every recording begins with: this and a version.
const MAGIC: &[u8; 7] = b"LKWREC\n";
const VERSION: u8 = 1;
/// Largest frame, packed and unpacked.
const LARGEST: usize = 1 << 28;
const LARGEST_UNPACKED: u64 = 1 << 30;

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadRecording {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else.
    #[error("it is no recording; `leakwatch record` makes them")]
    Foreign,
    /// From the future.
    #[error(
        "it is a recording of version {version}, newer than this leakwatch knows; replay it with the leakwatch that made it"
    )]
    Newer {
        /// Its version.
        version: u8,
    },
    /// Nothing was recorded.
    #[error("it was cut before anything was recorded")]
    Empty,
}

/// Writes the beginning of a file.
pub(super) fn begin(out: &mut impl Write) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&[VERSION])
}

/// Writes one frame.
pub(super) fn write(out: &mut impl Write, lines: &[u8]) -> io::Result<()> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(lines)?;
    let packed = packed.finish()?;
    let length = u32::try_from(packed.len()).map_err(|_too_large| {
        io::Error::new(io::ErrorKind::InvalidData, "a frame of the recording is too large")
    })?;
    let mut frame = Vec::with_capacity(packed.len() + 8);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&checksum(&packed).to_le_bytes());
    frame.extend_from_slice(&packed);
    // In one piece: what is cut is cut inside one frame.
    out.write_all(&frame)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Reads frames one after the other.
pub(super) struct Frames<R> {
    input: R,
    /// Bytes of whole frames read so far, the beginning among them.
    pub(super) good: u64,
}

impl<R: Read> Frames<R> {
    /// Checks the beginning.
    pub(super) fn open(mut input: R) -> Result<Self, BadRecording> {
        let mut head = [0; MAGIC.len() + 1];
        let read = read_up_to(&mut input, &mut head)?;
        if read == 0 {
            return Err(BadRecording::Empty);
        }
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC || read < head.len() {
            return Err(BadRecording::Foreign);
        }
        match version.first() {
            Some(&VERSION) => Ok(Self { input, good: head.len() as u64 }),
            Some(&version) if version > VERSION => Err(BadRecording::Newer { version }),
            _ => Err(BadRecording::Foreign),
        }
    }

    /// The lines of the next frame; `None` at the end, or where the file was cut or damaged.
    pub(super) fn next_lines(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = [0; 8];
        if read_up_to(&mut self.input, &mut head)? < head.len() {
            return Ok(None);
        }
        let word =
            |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let (length, sum) = (word(0) as usize, word(4));
        if length > LARGEST {
            return Ok(None);
        }
        let mut packed = Vec::new();
        (&mut self.input).take(length as u64).read_to_end(&mut packed)?;
        if packed.len() < length || checksum(&packed) != sum {
            return Ok(None);
        }
        let mut lines = Vec::new();
        let unpacked = DeflateDecoder::new(packed.as_slice()).take(LARGEST_UNPACKED).read_to_end(&mut lines);
        if unpacked.is_err() || lines.len() as u64 == LARGEST_UNPACKED {
            return Ok(None);
        }
        self.good += (head.len() + length) as u64;
        Ok(Some(lines))
    }
}

fn read_up_to(input: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = into.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        begin(&mut bytes).expect("memory");
        for frame in frames {
            write(&mut bytes, frame).expect("memory");
        }
        bytes
    }

    fn all(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Frames::open(bytes).expect("a recording");
        std::iter::from_fn(|| frames.next_lines().expect("memory")).collect()
    }

    #[test]
    fn a_cut_tail_is_lost_and_nothing_else() {
        let bytes = file(&[b"one", b"two\nthree", b"four"]);
        assert_eq!(all(&bytes), [b"one".to_vec(), b"two\nthree".to_vec(), b"four".to_vec()]);
        for cut in 8..bytes.len() {
            let read = all(&bytes[..cut]);
            let expected = all(&bytes);
            assert_eq!(read, expected[..read.len()], "cut at {cut}");
            assert!(read.len() < 3);
        }
        assert_eq!(all(&bytes[..bytes.len() - 1]).len(), 2);
    }

    #[test]
    fn damage_ends_it_where_it_is() {
        let bytes = file(&[b"one", b"two", b"three"]);
        let first = file(&[b"one"]).len();
        for at in first..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let read = all(&damaged);
            assert!(!read.is_empty() && read.len() < 3 && read[0] == b"one", "at {at}: {read:?}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        let refused = |bytes: &[u8]| Frames::open(bytes).err().expect("refused").to_string();
        assert!(refused(b"").contains("cut before"));
        assert!(refused(b"LKWREC\n").contains("no recording"));
        assert!(refused(b"goroutine 1 [running]:").contains("no recording"));
        assert!(refused(b"LKWREC\n\x02").contains("version 2, newer"));
    }
}
