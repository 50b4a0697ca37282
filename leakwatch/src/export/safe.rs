//! JSON that is safe to show: what a terminal could take for a command is escaped, the content is the same.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// Writes a value as JSON, on one line or indented.
///
/// # Errors
/// When `out` fails; the values of this floor always serialise.
pub(super) fn write<T: Serialize>(out: impl io::Write, value: &T, pretty: bool) -> io::Result<()> {
    let written = if pretty {
        let mut serializer = serde_json::Serializer::with_formatter(out, Safe(PrettyFormatter::new()));
        value.serialize(&mut serializer)
    } else {
        let mut serializer = serde_json::Serializer::with_formatter(out, Safe(CompactFormatter));
        value.serialize(&mut serializer)
    };
    written.map_err(io::Error::from)
}

/// A value as indented JSON with a newline at its end.
pub(super) fn page<T: Serialize>(value: &T) -> String {
    let mut text = text(value, true);
    text.push('\n');
    text
}

/// A value as JSON without any newline.
pub(super) fn line<T: Serialize>(value: &T) -> String {
    text(value, false)
}

fn text<T: Serialize>(value: &T, pretty: bool) -> String {
    let mut bytes = Vec::new();
    // Memory does not fail, and the values of this floor always serialise.
    if write(&mut bytes, value, pretty).is_err() {
        bytes.clear();
    }
    text_of(bytes)
}

/// What serde wrote, which is text.
pub(super) fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

/// Characters beyond JSON's own escapes that are not written as they are: DEL and the C1 controls, which terminals
/// obey, and those that change the direction of text or break lines.
pub(super) const fn unsafe_to_show(character: char) -> bool {
    matches!(character, '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A formatter that escapes more than its inner one.
struct Safe<F>(F);

impl<F: Formatter> Formatter for Safe<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // As nearly all is.
        if fragment.bytes().all(|byte| byte < 0x7f) {
            return out.write_all(fragment.as_bytes());
        }
        for part in fragment.split_inclusive(unsafe_to_show) {
            let Some(last) = part.chars().next_back().filter(|last| unsafe_to_show(*last)) else {
                out.write_all(part.as_bytes())?;
                continue;
            };
            out.write_all(part.strip_suffix(last).unwrap_or(part).as_bytes())?;
            write!(out, "\\u{:04x}", u32::from(last))?;
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_key(out)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}
