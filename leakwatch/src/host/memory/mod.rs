//! Another process's memory.
//!
//! A read gives the bytes or an error, never zeros in their place. Reads race with the program: what was read
//! was true for a moment at most, and validating it is the caller's business.

mod fake;
mod process;
mod written;

use std::ops::Range;

pub use fake::Fake;
pub use process::ProcessMemory;
pub use written::Written;

/// Why some bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing is mapped there, or not readable.
    #[error("{length} bytes at {address:#x} are not mapped")]
    Unmapped {
        /// First address.
        address: u64,
        /// How many bytes were asked for.
        length: usize,
    },
    /// The process has ended.
    #[error("the process ended")]
    Ended,
    /// The kernel refused.
    #[error("reading the process's memory is not permitted (it needs CAP_SYS_PTRACE)")]
    NotPermitted,
    /// More was asked for than the caller allows itself to believe.
    #[error("{count} words at {address:#x} are more than the {cap} that are plausible")]
    TooMany {
        /// First address.
        address: u64,
        /// How many words were asked for.
        count: u64,
        /// The most the caller accepts.
        cap: u64,
    },
    /// Anything else the kernel said.
    #[error("reading {length} bytes at {address:#x} failed with errno {errno}")]
    Other {
        /// First address.
        address: u64,
        /// How many bytes were asked for.
        length: usize,
        /// The kernel's error number.
        errno: i32,
    },
}

/// One of many reads done together.
#[derive(Debug)]
pub struct ReadRequest<'a> {
    /// First address.
    pub address: u64,
    /// Where the bytes go. Undefined content when the read failed.
    pub into: &'a mut [u8],
    /// Set by [`Memory::read_many`]: all bytes were read.
    pub ok: bool,
}

impl<'a> ReadRequest<'a> {
    /// A request that has not been served.
    pub fn new(address: u64, into: &'a mut [u8]) -> Self {
        Self { address, into, ok: false }
    }
}

/// A program's memory: a live process's, or a made-up one in tests.
pub trait Memory {
    /// Fills `into` with the bytes from `address` on.
    ///
    /// # Errors
    /// When any of the bytes cannot be read; `into` is then undefined.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError>;

    /// Serves many requests at once, marks each one ok or not, and tells how many are ok.
    ///
    /// They are read in their order. One that fails does not keep the others from being served.
    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> usize {
        let mut served = 0;
        for request in requests {
            request.ok = self.read(request.address, request.into).is_ok();
            served += usize::from(request.ok);
        }
        served
    }

    /// The memory that the program may have written: its private writable mappings, by address.
    ///
    /// # Errors
    /// When the list of mappings cannot be read.
    fn writable(&self) -> Result<Vec<Written>, ReadError>;

    /// What of such a mapping's addresses was ever touched, by address; all of it where nobody knows.
    fn touched(&self, addresses: Range<u64>) -> Vec<Range<u64>>;

    /// The memory that the program wrote: its private writable mappings, without pages that it never touched.
    ///
    /// # Errors
    /// When the list of mappings cannot be read.
    fn written(&self) -> Result<Vec<Written>, ReadError> {
        let of = |Written { range, stack }| {
            self.touched(range).into_iter().map(move |range| Written { range, stack })
        };
        Ok(self.writable()?.into_iter().flat_map(of).collect())
    }

    /// The word at `address`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_u64(&self, address: u64) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The 32-bit word at `address`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_u32(&self, address: u64) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The words at `first` and at `second`, read in this order.
    ///
    /// # Errors
    /// When one of them cannot be read.
    fn read_in_order(&self, first: u64, second: u64) -> Result<(u64, u64), ReadError> {
        let (mut one, mut other) = ([0; 8], [0; 8]);
        let mut both = [ReadRequest::new(first, &mut one), ReadRequest::new(second, &mut other)];
        if self.read_many(&mut both) == both.len() {
            return Ok((u64::from_le_bytes(one), u64::from_le_bytes(other)));
        }
        // One by one, for what is wrong.
        Ok((self.read_u64(first)?, self.read_u64(second)?))
    }

    /// The words that [`Self::read_words`] gives, and the word at `after`, read after them.
    ///
    /// # Errors
    /// When the word at `after` cannot be read; inside, when the others cannot.
    fn read_words_before(
        &self,
        address: u64,
        count: u64,
        cap: u64,
        after: u64,
    ) -> Result<(Result<Vec<u64>, ReadError>, u64), ReadError> {
        let mut words = match room(address, count, cap) {
            Ok(bytes) => bytes,
            Err(error) => return Ok((Err(error), self.read_u64(after)?)),
        };
        let mut last = [0; 8];
        let mut both = [ReadRequest::new(address, &mut words), ReadRequest::new(after, &mut last)];
        if self.read_many(&mut both) == both.len() {
            return Ok((Ok(words.chunks_exact(8).map(word).collect()), u64::from_le_bytes(last)));
        }
        // One by one, for what is wrong.
        Ok((self.read_words(address, count, cap), self.read_u64(after)?))
    }

    /// `count` words from `address` on. `count` is often a foreign number: more than `cap` is an error, and
    /// nothing is allocated for it.
    ///
    /// # Errors
    /// When any of them cannot be read, or there would be too many.
    fn read_words(&self, address: u64, count: u64, cap: u64) -> Result<Vec<u64>, ReadError> {
        let mut buffer = room(address, count, cap)?;
        self.read(address, &mut buffer)?;
        Ok(buffer.chunks_exact(8).map(word).collect())
    }
}

/// Room for so many words, if they are not too many.
fn room(address: u64, count: u64, cap: u64) -> Result<Vec<u8>, ReadError> {
    let too_many = ReadError::TooMany { address, count, cap };
    if count > cap {
        return Err(too_many);
    }
    let bytes = count.checked_mul(8).and_then(|bytes| usize::try_from(bytes).ok()).ok_or(too_many)?;
    Ok(vec![0; bytes])
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
