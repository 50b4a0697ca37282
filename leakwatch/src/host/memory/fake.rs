//! A made-up memory: what tests and benches read in place of a process.

use std::{collections::BTreeMap, ops::Range};

use super::{Memory, ReadError, Written};

/// Memory over a map of address ranges. Neighbours are not joined: a read must lie within one range.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    ranges: BTreeMap<u64, Vec<u8>>,
}

impl Fake {
    /// Nothing is mapped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Maps `bytes` at `address`. Ranges must not overlap.
    #[must_use]
    pub fn with(mut self, address: u64, bytes: impl Into<Vec<u8>>) -> Self {
        self.ranges.insert(address, bytes.into());
        self
    }

    /// Maps `words` at `address`, little-endian.
    #[must_use]
    pub fn with_words(self, address: u64, words: &[u64]) -> Self {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.with(address, bytes)
    }
}

impl Memory for Fake {
    fn writable(&self) -> Result<Vec<Written>, ReadError> {
        let range = |(&start, bytes): (&u64, &Vec<u8>)| start..start.saturating_add(bytes.len() as u64);
        Ok(self.ranges.iter().map(|entry| Written { range: range(entry), stack: false }).collect())
    }

    fn touched(&self, addresses: Range<u64>) -> Vec<Range<u64>> {
        vec![addresses]
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let unmapped = ReadError::Unmapped { address, length: into.len() };
        let (start, bytes) = self.ranges.range(..=address).next_back().ok_or(unmapped)?;
        let from = usize::try_from(address - start).map_err(|_out_of_range| unmapped)?;
        let found = from.checked_add(into.len()).and_then(|to| bytes.get(from..to)).ok_or(unmapped)?;
        into.copy_from_slice(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ReadRequest, *};

    #[test]
    fn reads_within_ranges_only() {
        let memory = Fake::new().with_words(0x1000, &[1, 2, 3]).with(0x2000, *b"abc");
        assert_eq!(memory.read_u64(0x1008), Ok(2));
        assert_eq!(memory.read_words(0x1000, 3, 8), Ok(vec![1, 2, 3]));
        assert_eq!(memory.read_u64(0x1014), Err(ReadError::Unmapped { address: 0x1014, length: 8 }));
        assert_eq!(memory.read_u64(0), Err(ReadError::Unmapped { address: 0, length: 8 }));
        assert!(memory.read_words(0x1000, 9, 8).is_err());
        assert!(memory.read_words(0x1000, u64::MAX, u64::MAX).is_err());
    }

    #[test]
    fn many_at_once() {
        let memory = Fake::new().with_words(0x1000, &[7]);
        let (mut first, mut second, mut third) = ([0; 8], [0; 8], [0; 4]);
        let mut requests = [
            ReadRequest::new(0x1000, &mut first),
            ReadRequest::new(0x9000, &mut second),
            ReadRequest::new(0x1004, &mut third),
        ];
        assert_eq!(memory.read_many(&mut requests), 2);
        assert_eq!(requests.each_ref().map(|request| request.ok), [true, false, true]);
        assert_eq!(first, 7_u64.to_le_bytes());
    }
}
