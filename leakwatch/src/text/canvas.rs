//! Lines of text of a given width, with or without colour.

use crate::report::clean::{shorten, width};

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Style {
    /// Parameters of the SGR escape sequence.
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "1;31",
        }
    }
}

/// What is printed so far.
#[derive(Debug)]
pub(super) struct Canvas {
    text: String,
    width: usize,
    color: bool,
    /// Columns of the line that is being written.
    used: usize,
}

/// Fewest columns: narrower terminals wrap our lines.
const NARROWEST: usize = 60;

impl Canvas {
    pub(super) fn new(width: usize, color: bool) -> Self {
        Self { text: String::new(), width: width.max(NARROWEST), color, used: 0 }
    }

    pub(super) const fn width(&self) -> usize {
        self.width
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Adds a piece to the line that is being written; what does not fit is left out.
    pub(super) fn piece(&mut self, style: Style, text: &str) {
        let room = self.width.saturating_sub(self.used);
        let fits = width(text) <= room;
        let text = if fits { text } else { &shorten(text.trim_end_matches(' '), room) };
        self.used += width(text);
        if self.color && style != Style::Plain && !text.is_empty() {
            for part in ["\x1b[", style.code(), "m", text, "\x1b[0m"] {
                self.text.push_str(part);
            }
        } else {
            self.text.push_str(text);
        }
    }

    /// Ends the line that is being written, without blanks at its end.
    pub(super) fn end(&mut self) {
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
        self.used = 0;
    }

    /// One line, shortened in its middle where it must be.
    pub(super) fn line(&mut self, style: Style, text: &str) {
        let text = shorten(text, self.width);
        self.piece(style, &text);
        self.end();
    }

    /// A sentence, wrapped at blanks; the first line begins with `first`, the others with `indent` blanks.
    pub(super) fn wrapped(&mut self, style: Style, first: &str, indent: usize, text: &str) {
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        self.flow(style, first, indent, &words, " ");
    }

    /// Parts with a dot between them, wrapped between parts.
    pub(super) fn joined(&mut self, style: Style, parts: &[String]) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.flow(style, "", 2, &parts, " · ");
    }

    fn flow(&mut self, style: Style, first: &str, indent: usize, parts: &[&str], between: &str) {
        let mut line = first.to_owned();
        let mut empty = true;
        for part in parts {
            if !empty && width(&line) + width(between) + width(part) > self.width {
                self.line(style, &line);
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push_str(between);
            }
            line.push_str(part);
            empty = false;
        }
        self.line(style, &line);
    }
}
