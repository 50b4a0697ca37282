//! Fields of structs that were read as bytes. `None`: the bytes end before the field does.
//!
//! It must never make a value of bytes that are not there.

pub(super) fn u64_at(bytes: &[u8], offset: u32) -> Option<u64> {
    bytes.get(offset as usize..)?.first_chunk().copied().map(u64::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], offset: u32) -> Option<u32> {
    bytes.get(offset as usize..)?.first_chunk().copied().map(u32::from_le_bytes)
}

pub(super) fn u16_at(bytes: &[u8], offset: u32) -> Option<u16> {
    bytes.get(offset as usize..)?.first_chunk().copied().map(u16::from_le_bytes)
}

pub(super) fn u8_at(bytes: &[u8], offset: u32) -> Option<u8> {
    bytes.get(offset as usize).copied()
}
