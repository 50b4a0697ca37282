//! Little-endian words out of foreign bytes. Must never panic: an offset outside of the bytes is `None`.

/// The `N` bytes at `offset`.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

/// The u16 at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

/// The u32 at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

/// The u64 at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

/// `bytes[start..start + len]`.
pub(crate) fn slice_at(bytes: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    let end = start.checked_add(len)?;
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// `bytes[range]`.
pub(crate) fn range_of<'a>(bytes: &'a [u8], range: &std::ops::Range<u64>) -> Option<&'a [u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// The bytes before the first NUL; `None` when there is none within `cap` bytes.
pub(crate) fn c_string(bytes: &[u8], offset: usize, cap: usize) -> Option<&[u8]> {
    let tail = bytes.get(offset..)?;
    let tail = tail.get(..cap).unwrap_or(tail);
    let end = memchr::memchr(0, tail)?;
    tail.get(..end)
}
