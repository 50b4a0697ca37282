//! From where a function's code stands to its line: the tables of CPython's code objects.
//!
//! Three forms, by version: `Objects/lnotab_notes.txt` of 3.7 to 3.10 and `Objects/locations.md` of 3.11 to 3.13 describe
//! them. Foreign bytes: a table that ends early gives what it says until there.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// The form of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTable {
    /// `co_lnotab`, to 3.9: where each line begins.
    Begins,
    /// `co_linetable` of 3.10: ranges with lines or without.
    Ranges,
    /// `co_linetable` from 3.11 on: locations with columns.
    Locations,
}

/// In a table of ranges: there is no line.
const NO_LINE: i8 = -128;

/// The line of the instruction at a byte offset of the code; `None`: it has none.
pub fn line_at(form: LineTable, table: &[u8], first_line: i32, offset: u64) -> Option<u32> {
    let line = match form {
        LineTable::Begins => begun(table, first_line, offset),
        LineTable::Ranges => within(table, first_line, offset)?,
        LineTable::Locations => located(table, first_line, offset)?,
    };
    u32::try_from(line).ok().filter(|&line| line > 0)
}

/// `PyCode_Addr2Line` of 3.7 to 3.9 (Objects/codeobject.c).
fn begun(table: &[u8], first_line: i32, offset: u64) -> i32 {
    let (mut line, mut at) = (first_line, 0_u64);
    for [step, lines] in table.as_chunks::<2>().0 {
        at = at.saturating_add(u64::from(*step));
        if at > offset {
            break;
        }
        line = line.saturating_add(i32::from(lines.cast_signed()));
    }
    line
}

/// `_PyCode_CheckLineNumber` of 3.10.
fn within(table: &[u8], first_line: i32, offset: u64) -> Option<i32> {
    let (mut line, mut end) = (first_line, 0_u64);
    for [length, lines] in table.as_chunks::<2>().0 {
        let lines = lines.cast_signed();
        if lines != NO_LINE {
            line = line.saturating_add(i32::from(lines));
        }
        end = end.saturating_add(u64::from(*length));
        if offset < end {
            return (lines != NO_LINE).then_some(line);
        }
    }
    None
}

/// `advance` and `get_line_delta` of 3.11 to 3.13.
fn located(table: &[u8], first_line: i32, offset: u64) -> Option<i32> {
    /// An instruction, and each entry of its cache.
    const CODE_UNIT: u64 = 2;
    const BEGIN: u8 = 0x80;
    let (mut line, mut end) = (first_line, 0_u64);
    let mut rest = table;
    while let Some((&head, tail)) = rest.split_first() {
        if head & BEGIN == 0 {
            return None;
        }
        let size = tail.iter().position(|byte| byte & BEGIN != 0).unwrap_or(tail.len());
        let (body, next) = tail.split_at_checked(size)?;
        rest = next;
        let kind = (head >> 3) & 15;
        let step = match kind {
            // Without columns, and with all.
            13 | 14 => signed(body)?,
            10..=12 => i32::from(kind).saturating_sub(10),
            _ => 0,
        };
        line = line.saturating_add(step);
        end = end.saturating_add(CODE_UNIT.saturating_mul(u64::from(head & 7).saturating_add(1)));
        if offset < end {
            // 15: no location.
            return (kind != 15).then_some(line);
        }
    }
    None
}

/// A number in sixes of bits, the least first; the lowest is the sign.
fn signed(bytes: &[u8]) -> Option<i32> {
    let (mut value, mut shift) = (0_u32, 0_u32);
    for byte in bytes {
        value |= u32::from(byte & 63).checked_shl(shift)?;
        if byte & 64 == 0 {
            let size = i32::try_from(value >> 1).ok()?;
            return if value & 1 == 0 { Some(size) } else { size.checked_neg() };
        }
        shift = shift.checked_add(6)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_lines_begin() {
        // 0..6 line 10, 6..50 line 11, then back to 9.
        let table = [6, 1, 44, 0xfe];
        let line = |offset| line_at(LineTable::Begins, &table, 10, offset);
        assert_eq!(
            [line(0), line(5), line(6), line(49), line(50), line(999)],
            [10, 10, 11, 11, 9, 9].map(Some)
        );
    }

    #[test]
    fn ranges_of_3_10() {
        // The example of lnotab_notes.txt: lines 1 to 3, one range without.
        let table = [6, 0, 44, 1, 4, 0x80, 2, 2];
        let line = |offset| line_at(LineTable::Ranges, &table, 1, offset);
        assert_eq!(
            [line(0), line(6), line(49), line(50), line(54), line(56)],
            [Some(1), Some(2), Some(2), None, Some(4), None]
        );
    }

    #[test]
    fn locations_of_3_11() {
        // `compile("def f():\n  a = g(\n    1)\n  return a", …)` has these kinds: none, one line, long, short.
        let table = [
            0x80 | 15 << 3, // one unit without a location
            0x80 | 11 << 3 | 1,
            2,
            3, // two units, line + 1
            0x80 | 14 << 3,
            4,
            1,
            1,
            1, // line + 2
            0x80 | 13 << 3,
            3, // line - 1
            0x80,
            0x10, // short: the same line
        ];
        let line = |offset| line_at(LineTable::Locations, &table, 5, offset);
        assert_eq!(
            [line(0), line(2), line(4), line(6), line(8), line(10), line(12)],
            [None, Some(6), Some(6), Some(8), Some(7), Some(7), None]
        );
    }

    #[test]
    fn nonsense_is_no_line() {
        assert_eq!(line_at(LineTable::Locations, &[1, 2, 3], 1, 0), None);
        assert_eq!(
            line_at(LineTable::Locations, &[0x80 | 14 << 3, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f], 1, 0),
            None
        );
        assert_eq!(line_at(LineTable::Begins, &[0, 0xff], 1, u64::MAX), None);
        assert_eq!(line_at(LineTable::Ranges, &[], i32::MAX, 0), None);
    }
}
