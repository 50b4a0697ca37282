//! pc-value tables: runs of (value delta, pc delta) as varints. Must end on any bytes.
//!
//! The encoding is that of `step` and `pcvalue` in `runtime/symtab.go` (the same in Go 1.2 to 1.27).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Steps that may stand still: in real tables every step advances the pc, but perhaps the first.
const IDLE_STEPS: u64 = 16;

/// The value at `offset` bytes from the function's entry. `None`: the table does not say, or is damaged.
pub(super) fn value_at(table: &[u8], quantum: u32, offset: u64) -> Option<i32> {
    let mut rest = table;
    let mut value: i32 = -1;
    let mut pc: u64 = 0;
    for step in 0..offset.saturating_add(IDLE_STEPS) {
        let delta = varint(&mut rest)?;
        // A value delta of 0 ends the table, but for its first entry.
        if delta == 0 && step > 0 {
            return None;
        }
        value = value.wrapping_add(zigzag(delta));
        pc = pc.checked_add(u64::from(varint(&mut rest)?).checked_mul(u64::from(quantum))?)?;
        if offset < pc {
            return Some(value);
        }
    }
    None
}

/// 0, -1, 1, -2, 2 ... for 0, 1, 2, 3, 4 ...
fn zigzag(delta: u32) -> i32 {
    (delta >> 1).cast_signed() ^ (delta & 1).cast_signed().wrapping_neg()
}

/// A little-endian base-128 number of at most five bytes, cut to 32 bits.
fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut number: u32 = 0;
    for shift in [0_u32, 7, 14, 21, 28] {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u32::from(byte & 0x7f).wrapping_shl(shift);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{value_at, varint, zigzag};

    #[test]
    fn deltas_alternate_in_sign() {
        assert_eq!([0, 1, 2, 3, 4].map(zigzag), [0, -1, 1, -2, 2]);
        assert_eq!(zigzag(u32::MAX), i32::MIN);
    }

    #[test]
    fn numbers_of_several_bytes() {
        assert_eq!(varint(&mut [0x81, 0x01].as_slice()), Some(129));
        assert_eq!(varint(&mut [0xff; 4].as_slice()), None);
        assert_eq!(varint(&mut [0xff; 9].as_slice()), None);
    }

    #[test]
    fn values_hold_until_their_pc() {
        // -1 + 11 = 10 for 4 bytes, then 10 - 2 = 8 for 2 bytes, then the end.
        let table = [22, 4, 3, 2, 0];
        let at = |pc| value_at(&table, 1, pc);
        assert_eq!([0, 3, 4, 5, 6].map(at), [Some(10), Some(10), Some(8), Some(8), None]);
        assert_eq!(value_at(&table, 4, 15), Some(10));
    }

    #[test]
    fn a_first_delta_of_zero_is_a_value() {
        assert_eq!(value_at(&[0, 4, 0], 1, 3), Some(-1));
    }

    #[test]
    fn ends_on_endless_zero_steps() {
        assert_eq!(value_at(&[2, 0].repeat(1 << 16), 1, 100), None);
    }
}
