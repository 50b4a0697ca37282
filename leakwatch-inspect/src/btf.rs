//! Offsets of fields in the running kernel's structs, from its own type information.
//!
//! The format is that of Documentation/bpf/btf.rst (Linux 6.18). Foreign bytes: what makes no sense is `None`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::reader::{c_string, slice_at, u16_at, u32_at};

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
/// Longest name that is compared.
const NAME_LIMIT: usize = 256;
/// Bytes of one type before what its kind adds.
const TYPE_SIZE: usize = 12;
const MEMBER_SIZE: usize = 12;

/// A file of type information.
#[derive(Clone, Copy, Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

/// A field of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bit: u32,
    of_type: u32,
}

impl<'a> Btf<'a> {
    /// Reads the header; `None`: it is no type information that we read.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if u16_at(bytes, 0)? != MAGIC {
            return None;
        }
        let header = u64::from(u32_at(bytes, 4)?);
        let part = |offset: usize| {
            let start = header.checked_add(u64::from(u32_at(bytes, offset)?))?;
            slice_at(bytes, start, u64::from(u32_at(bytes, offset.checked_add(4)?)?))
        };
        Some(Self { types: part(8)?, strings: part(16)? })
    }

    /// The byte offset of a field, of one of the struct that it is, and so on: `["thread", "fsbase"]`.
    pub fn offset(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut at = self.named(structure)?;
        let mut bits = 0_u32;
        for (depth, name) in path.iter().enumerate() {
            if depth > 0 {
                at = self.numbered(at)?;
            }
            let field = self.field(usize::try_from(at).ok()?, name)?;
            bits = bits.checked_add(field.bit)?;
            at = field.of_type;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Where the struct of this name is.
    fn named(&self, name: &str) -> Option<u32> {
        let at = self.places().find(|&at| self.is_struct(at) && self.name_at(at) == Some(name.as_bytes()))?;
        u32::try_from(at).ok()
    }

    /// Where the type of this number is. Numbers begin at 1.
    fn numbered(&self, number: u32) -> Option<u32> {
        let at = self.places().nth(usize::try_from(number.checked_sub(1)?).ok()?)?;
        u32::try_from(at).ok()
    }

    fn is_struct(&self, at: usize) -> bool {
        u32_at(self.types, at.saturating_add(4)).is_some_and(|info| kind(info) == STRUCT)
    }

    fn name_at(&self, at: usize) -> Option<&'a [u8]> {
        c_string(self.strings, usize::try_from(u32_at(self.types, at)?).ok()?, NAME_LIMIT)
    }

    fn field(&self, at: usize, name: &str) -> Option<Field> {
        let info = u32_at(self.types, at.checked_add(4)?).filter(|info| kind(*info) == STRUCT)?;
        let first = at.checked_add(TYPE_SIZE)?;
        for index in 0..usize::from(u16::try_from(info & 0xffff).ok()?) {
            let member = first.checked_add(index.checked_mul(MEMBER_SIZE)?)?;
            if self.name_at(member) != Some(name.as_bytes()) {
                continue;
            }
            let word = u32_at(self.types, member.checked_add(8)?)?;
            // With the kind's flag the upper byte is the width of a bit field.
            let bit = if info >> 31 == 0 { word } else { word & 0xff_ffff };
            return Some(Field { bit, of_type: u32_at(self.types, member.checked_add(4)?)? });
        }
        None
    }

    /// Where each type is, in the order of their numbers.
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let mut next = Some(0_usize);
        std::iter::from_fn(move || {
            let at = next?;
            let size = more(u32_at(self.types, at.checked_add(4)?)?)?;
            next = at.checked_add(TYPE_SIZE)?.checked_add(size);
            Some(at)
        })
    }
}

const fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

/// Bytes that a type's kind adds to it; `None`: a kind that we do not know, so that what follows cannot be found.
fn more(info: u32) -> Option<usize> {
    let count = usize::try_from(info & 0xffff).ok()?;
    Some(match kind(info) {
        // A number, a variable, a tag of a declaration.
        1 | 14 | 17 => 4,
        // A pointer, a name, qualifiers, a function, a floating point number, a tag of a type.
        2 | 7..=12 | 16 | 18 => 0,
        // An array.
        3 => 12,
        // Structs and unions, and enumerations of 64 bits.
        STRUCT | 5 | 19 => count.checked_mul(MEMBER_SIZE)?,
        // Enumerations, and the parameters of a function.
        6 | 13 => count.checked_mul(8)?,
        // A section of data.
        15 => count.checked_mul(12)?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn le(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn made_up() -> Vec<u8> {
        let strings = b"\0task\0thread\0fsbase\0inner\0";
        let types = [
            // 1: an integer.
            le(&[0, 1 << 24, 8, 64]),
            // 2: struct inner { u64 a; u64 fsbase; }
            le(&[20, STRUCT << 24 | 2, 16, 0, 1, 0, 13, 1, 64]),
            // 3: struct task { u64; struct inner thread; }, with widths of bit fields.
            le(&[1, 1 << 31 | STRUCT << 24 | 2, 24, 0, 1, 0, 6, 2, 64]),
        ]
        .concat();
        let header = [
            &0xeb9f_u16.to_le_bytes()[..],
            &[1, 0],
            &le(&[
                24,
                0,
                u32::try_from(types.len()).expect("short"),
                u32::try_from(types.len()).expect("short"),
            ]),
            &le(&[u32::try_from(strings.len()).expect("short")]),
        ]
        .concat();
        [header, types, strings.to_vec()].concat()
    }

    #[test]
    fn a_field_of_a_field() {
        let bytes = made_up();
        let btf = Btf::parse(&bytes).expect("it is one");
        assert_eq!(btf.offset("task", &["thread", "fsbase"]), Some(16));
        assert_eq!(btf.offset("task", &["thread"]), Some(8));
        assert_eq!(btf.offset("inner", &["fsbase"]), Some(8));
        assert_eq!(btf.offset("task", &["thread", "nothing"]), None);
        assert_eq!(btf.offset("nobody", &["thread"]), None);
    }

    #[test]
    fn cut_anywhere_it_is_no_panic() {
        let bytes = made_up();
        for end in 0..bytes.len() {
            if let Some(btf) = bytes.get(..end).and_then(Btf::parse) {
                assert_eq!(btf.offset("task", &["thread", "fsbase"]), None, "cut at {end}");
            }
        }
    }

    #[test]
    fn the_kernel_that_runs() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let btf = Btf::parse(&bytes).expect("the kernel's own");
        if cfg!(target_arch = "x86_64") {
            assert!(btf.offset("task_struct", &["thread", "fsbase"]).is_some_and(|offset| offset > 0));
        }
    }
}
