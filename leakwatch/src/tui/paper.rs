//! What pages are drawn on: a buffer of cells, and words with roles. Nothing reaches a cell that is not on the screen, is
//! wider than its place, or that the terminal cannot show.

use ratatui::{buffer::Buffer, layout::Rect};

use super::look::{Look, Role};
use crate::report::clean::width;

/// A line of pieces, each with its role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces(pub(super) Vec<(Role, String)>);

impl Pieces {
    /// A line of one piece.
    pub(super) fn of(role: Role, text: impl Into<String>) -> Self {
        Self(vec![(role, text.into())])
    }

    /// With one more.
    #[must_use]
    pub(super) fn and(mut self, role: Role, text: impl Into<String>) -> Self {
        self.0.push((role, text.into()));
        self
    }

    /// Columns that it takes.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| width(text)).sum()
    }
}

/// The screen, while it is drawn.
#[derive(Debug)]
pub(super) struct Paper<'b> {
    buffer: &'b mut Buffer,
    area: Rect,
    look: Look,
}

impl<'b> Paper<'b> {
    /// A blank one.
    pub(super) fn new(buffer: &'b mut Buffer, area: Rect, look: Look) -> Self {
        let area = area.intersection(buffer.area);
        for position in area.positions() {
            if let Some(cell) = buffer.cell_mut(position) {
                cell.reset();
            }
        }
        Self { buffer, area, look }
    }

    /// How things look.
    pub(super) fn look(&self) -> Look {
        self.look
    }

    /// Columns.
    pub(super) fn width(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Rows.
    pub(super) fn height(&self) -> usize {
        usize::from(self.area.height)
    }

    /// Writes a text into at most `room` columns, and tells how many it took. Expects clean text.
    pub(super) fn put(&mut self, x: usize, y: usize, room: usize, role: Role, text: &str) -> usize {
        let room = room.min(self.width().saturating_sub(x));
        if y >= self.height() || room == 0 {
            return 0;
        }
        let (left, top) = (self.column(x), self.row(y));
        let style = self.look.style(role);
        let ascii: String;
        let text = if self.look.ascii && !text.is_ascii() {
            ascii = text.chars().map(Look::ascii_of).collect();
            &ascii
        } else {
            text
        };
        let (end, _) = self.buffer.set_stringn(left, top, text, room, style);
        usize::from(end.saturating_sub(left))
    }

    /// Writes a text so that it ends before column `end`.
    pub(super) fn put_right(&mut self, end: usize, y: usize, room: usize, role: Role, text: &str) {
        let taken = width(text).min(room);
        self.put(end.saturating_sub(taken), y, taken, role, text);
    }

    /// Writes pieces one after the other, and tells how many columns they took.
    pub(super) fn pieces(&mut self, x: usize, y: usize, room: usize, pieces: &Pieces) -> usize {
        let mut used = 0;
        for (role, text) in &pieces.0 {
            used += self.put(x + used, y, room.saturating_sub(used), *role, text);
        }
        used
    }

    /// Gives a stretch of a row one more role, under what is written there. Curves stay as they are: turned round, they would
    /// show what is missing as what is there.
    pub(super) fn mark(&mut self, x: usize, y: usize, room: usize, role: Role) {
        let room = room.min(self.width().saturating_sub(x));
        if y >= self.height() {
            return;
        }
        let width = u16::try_from(room).unwrap_or(u16::MAX);
        let area = Rect { x: self.column(x), y: self.row(y), width, height: 1 }.intersection(self.area);
        let (style, curve) = (self.look.style(role), self.look.style(Role::Curve).fg);
        for place in area.positions() {
            if let Some(cell) = self.buffer.cell_mut(place)
                && (curve.is_none() || cell.style().fg != curve)
            {
                cell.set_style(style);
            }
        }
    }

    /// Where a column of the paper is on the screen.
    pub(super) fn column(&self, x: usize) -> u16 {
        self.area.x.saturating_add(u16::try_from(x).unwrap_or(u16::MAX))
    }

    /// Where a row of the paper is on the screen.
    pub(super) fn row(&self, y: usize) -> u16 {
        self.area.y.saturating_add(u16::try_from(y).unwrap_or(u16::MAX))
    }
}

/// A text on several lines of at most `room` columns, broken at blanks where there are any. Expects clean text.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let wide = width(word);
        if used > 0 && used + 1 + wide > room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        if wide <= room {
            line.push_str(word);
            used += wide;
            continue;
        }
        for sign in word.chars() {
            let mut own = [0; 4];
            let wide = width(sign.encode_utf8(&mut own));
            if used + wide > room && used > 0 {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(sign);
            used += wide;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(buffer: &Buffer) -> Vec<String> {
        let rows = buffer.area.rows();
        rows.map(|row| row.columns().map(|at| buffer[(at.x, at.y)].symbol()).collect()).collect()
    }

    #[test]
    fn nothing_leaves_its_place() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 2));
        let mut paper = Paper::new(&mut buffer, Rect::new(0, 0, 6, 2), Look::default());
        assert_eq!(paper.put(1, 0, 3, Role::Plain, "abcdef"), 3);
        assert_eq!(paper.put(4, 0, 99, Role::Plain, "xyz"), 2);
        paper.put_right(6, 1, 4, Role::Plain, "ok");
        assert_eq!(paper.put(0, 7, 3, Role::Plain, "below"), 0);
        assert_eq!(paper.put(9, 0, 3, Role::Plain, "beside"), 0);
        paper.mark(3, 9, 99, Role::Cursor);
        assert_eq!(shown(&buffer), [" abcxy", "    ok"]);
    }

    #[test]
    fn only_ascii_reaches_a_terminal_that_has_no_more() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 1));
        let look = Look { ascii: true, ..Look::default() };
        Paper::new(&mut buffer, Rect::new(0, 0, 8, 1), look).put(0, 0, 8, Role::Plain, "a·b…日–é");
        assert_eq!(shown(&buffer), ["a.b~?-? "]);
    }

    #[test]
    fn text_is_broken_at_blanks() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("", 4), Vec::<String>::new());
        assert!(wrap("日本", 1).len() == 2, "even where it does not fit");
    }
}
