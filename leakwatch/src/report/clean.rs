//! Foreign names made harmless, and short enough.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that a text takes. Only meaningful for [`clean`] text.
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text on one line that a terminal cannot take for a command: controls, changes of direction, and whatever takes
/// no column of its own are written as escapes (`\n`, `\x1b`, `\u{202e}`).
pub fn clean(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            '\0'..='\x7f' if character.is_ascii_control() => {
                safe.extend(format!("\\x{:02x}", u32::from(character)).chars());
            }
            // Controls have no width at all, marks and direction changes have 0.
            _ if character.width().unwrap_or(0) == 0 => safe.extend(character.escape_unicode()),
            _ => safe.push(character),
        }
    }
    safe
}

/// A text of at most `most` columns: its middle gives way to an ellipsis, because names begin with the package and
/// end with the line. Expects [`clean`] text.
pub fn shorten(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(1);
    let head = take(text.chars(), room / 2);
    let tail: Vec<char> = take(text.chars().rev(), room - room / 2);
    head.into_iter().chain((most > 0).then_some('…')).chain(tail.into_iter().rev()).collect()
}

/// As many characters as fit into `columns`.
fn take(characters: impl Iterator<Item = char>, columns: usize) -> Vec<char> {
    let mut left = columns;
    characters
        .take_while(|character| {
            let fits = character.width().unwrap_or(0);
            let rest = left.checked_sub(fits);
            left = rest.unwrap_or(0);
            rest.is_some()
        })
        .collect()
}

/// A Go function without the path of its package's parents: `server.(*Server).Run` of
/// `github.com/nats-io/nats-server/v2/server.(*Server).Run`. Others are left alone.
pub fn short_function(function: &str) -> &str {
    let path = function.find(['(', '[', '<', ' ']).and_then(|end| function.get(..end)).unwrap_or(function);
    path.rfind('/').and_then(|slash| function.get(slash + 1..)).unwrap_or(function)
}

/// The last component of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_text() {
        assert_eq!(clean("a\x1b[31mb\nc\u{9b}2J\u{202e}d\u{301}"), r"a\x1b[31mb\nc\u{9b}2J\u{202e}d\u{301}");
        assert_eq!(clean("main.(*Größe[…]).f·1"), "main.(*Größe[…]).f·1");
    }

    #[test]
    fn the_middle_gives_way() {
        assert_eq!(shorten("0123456789", 10), "0123456789");
        assert_eq!(shorten("0123456789", 7), "012…789");
        assert_eq!(shorten("日本語日本語", 7), "日…語", "wide characters are not cut in half");
        assert_eq!(shorten("abc", 1), "…");
        assert_eq!(shorten("abc", 0), "");
        assert!(width(&shorten(&"x".repeat(10_000), 60)) == 60);
    }

    #[test]
    fn short_names() {
        let cases = [
            ("github.com/nats-io/nats-server/v2/server.(*Server).Run", "server.(*Server).Run"),
            ("main.spawn[github.com/a/b.T]", "main.spawn[github.com/a/b.T]"),
            ("net/http.(*conn).serve", "http.(*conn).serve"),
            ("<a::B as c::D>::poll", "<a::B as c::D>::poll"),
            ("main.main", "main.main"),
            ("", ""),
        ];
        for (long, short) in cases {
            assert_eq!(short_function(long), short);
        }
        assert_eq!(file_name("/src/server.go"), "server.go");
    }
}
