//! HotSpot's compressed numbers and what it keeps in them: which bytecode is of which line, and which methods were inlined
//! at a place of compiled code (`compressedStream.cpp` and `debugInfo.hpp` of `src/hotspot/share/code`, JDK 17). Foreign bytes:
//! what makes no sense is `None`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Most entries of one table.
const MOST: usize = 1 << 16;

/// A stream of compressed numbers.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    /// The numbers from the first byte on.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// One number: up to five bytes of which all but the last are 192 and more.
    pub fn unsigned(&mut self) -> Option<u32> {
        const LOW: u8 = 192;
        let mut sum = 0_u32;
        for shift in [0, 6, 12, 18, 24] {
            let byte = self.byte()?;
            sum = sum.wrapping_add(u32::from(byte).wrapping_shl(shift));
            if byte < LOW {
                break;
            }
        }
        Some(sum)
    }

    /// One number with a sign in its lowest bit.
    pub fn signed(&mut self) -> Option<i32> {
        let number = self.unsigned()?;
        Some((number >> 1).cast_signed() ^ (number & 1).cast_signed().wrapping_neg())
    }
}

/// The line of a bytecode, from a method's table of lines; `None`: the table says nothing of it.
pub fn line_of(table: &[u8], bytecode: u32) -> Option<u32> {
    const LONG: u8 = 0xff;
    let mut numbers = Numbers::of(table);
    let (mut at, mut line) = (0_i32, 0_i32);
    let mut best: Option<(i32, i32)> = None;
    for _ in 0..MOST {
        match numbers.byte()? {
            0 => break,
            LONG => {
                at = at.wrapping_add(numbers.signed()?);
                line = line.wrapping_add(numbers.signed()?);
            }
            short => {
                at = at.wrapping_add(i32::from(short >> 3));
                line = line.wrapping_add(i32::from(short & 7));
            }
        }
        let before = u32::try_from(at).is_ok_and(|at| at <= bytecode);
        if before && best.is_none_or(|(nearest, _)| at >= nearest) {
            best = Some((at, line));
        }
    }
    best.and_then(|(_, line)| u32::try_from(line).ok()).filter(|&line| line > 0)
}

/// A method that was inlined at a place of compiled code, or the compiled method itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its place in the code's list of metadata, from 1.
    pub method: u32,
    /// The bytecode; `None`: its entry.
    pub bytecode: Option<u32>,
}

/// The scopes at a place of compiled code, innermost first. `data` is all of the code's debug information, `first` where
/// in it the innermost scope is.
pub fn scopes(data: &[u8], first: u32) -> Vec<Scope> {
    /// Deepest inlining that is followed.
    const DEEPEST: usize = 64;
    let mut scopes = Vec::new();
    let mut next = first;
    while next != 0 && scopes.len() < DEEPEST {
        let Some(bytes) = usize::try_from(next).ok().and_then(|at| data.get(at..)) else { break };
        let mut numbers = Numbers::of(bytes);
        let (Some(sender), Some(method), Some(bytecode)) =
            (numbers.unsigned(), numbers.unsigned(), numbers.unsigned())
        else {
            break;
        };
        // Bytecodes are kept plus one, so that the entry, -1, is a number.
        scopes.push(Scope { method, bytecode: bytecode.checked_sub(1) });
        // A caller's scope was written before.
        if sender >= next {
            break;
        }
        next = sender;
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut numbers = Numbers::of(&[0, 191, 192, 0, 255, 255, 255, 255, 255, 3, 4]);
        assert_eq!(numbers.unsigned(), Some(0));
        assert_eq!(numbers.unsigned(), Some(191));
        assert_eq!(numbers.unsigned(), Some(192));
        assert!(numbers.unsigned().is_some(), "no more than five bytes");
        assert_eq!((numbers.signed(), numbers.signed(), numbers.signed()), (Some(-2), Some(2), None));
    }

    #[test]
    fn lines() {
        // Bytecode 0 line 3, 4 line 5, 5 line 4 (a long one: +1, -1).
        let table = [3, 4 << 3 | 2, 0xff, 2, 1, 0];
        let line = |at| line_of(&table, at);
        assert_eq!([line(0), line(3), line(4), line(5), line(900)], [3, 3, 5, 4, 4].map(Some));
        assert_eq!(line_of(&[], 0), None);
        assert_eq!(line_of(&[0], 0), None);
    }

    #[test]
    fn inlined_methods() {
        let data = [0, 0, 7, 11, 1, 3, 0];
        assert_eq!(
            scopes(&data, 4),
            [Scope { method: 3, bytecode: None }, Scope { method: 7, bytecode: Some(10) }]
        );
        assert_eq!(scopes(&data, 0), []);
        assert_eq!(scopes(&data, 99), []);
    }
}
