//! How things look: colours as far as the terminal has them, and signs that it can show.
//!
//! Nothing is said by colour alone: a verdict is always a word, too. Nothing here asks the terminal or the environment.

use ratatui::style::{Color, Modifier, Style};

/// How many colours there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colors {
    /// None: bold, faint and reversed only.
    None,
    /// The terminal's own sixteen.
    #[default]
    Sixteen,
    /// The palette of 256.
    Palette,
    /// Any.
    True,
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Colours.
    pub colors: Colors,
    /// Nothing but ASCII reaches the terminal.
    pub ascii: bool,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// Text and figures.
    #[default]
    Plain,
    /// What to read first.
    Strong,
    /// What can be left unread.
    Faint,
    /// Nothing wrong.
    Good,
    /// Suspect, or to be known before figures are trusted.
    Warning,
    /// A leak.
    Bad,
    /// Heads of columns.
    Head,
    /// Curves.
    Curve,
    /// Where the cursor is.
    Cursor,
    /// Keys in hints.
    Key,
}

impl Look {
    /// The style of a role.
    pub(super) fn style(self, role: Role) -> Style {
        let plain = Style::new();
        let (sixteen, palette, rgb, modifier) = match role {
            Role::Plain => return plain,
            Role::Strong => return plain.add_modifier(Modifier::BOLD),
            Role::Cursor => return plain.add_modifier(Modifier::REVERSED),
            // Sixteen colours have no grey that can be read on every background.
            Role::Faint if matches!(self.colors, Colors::None | Colors::Sixteen) => {
                return plain.add_modifier(Modifier::DIM);
            }
            Role::Faint => (Color::DarkGray, 244, (128, 128, 128), Modifier::empty()),
            Role::Good => (Color::Green, 71, (84, 168, 92), Modifier::empty()),
            Role::Warning => (Color::Yellow, 172, (214, 142, 22), Modifier::BOLD),
            Role::Bad => (Color::Red, 196, (232, 52, 52), Modifier::BOLD),
            Role::Head => (Color::Cyan, 67, (96, 140, 178), Modifier::BOLD),
            Role::Curve => (Color::Cyan, 74, (86, 156, 214), Modifier::empty()),
            Role::Key => (Color::Cyan, 74, (86, 156, 214), Modifier::BOLD),
        };
        let style = match self.colors {
            Colors::None => plain,
            Colors::Sixteen => plain.fg(sixteen),
            Colors::Palette => plain.fg(Color::Indexed(palette)),
            Colors::True => plain.fg(Color::Rgb(rgb.0, rgb.1, rgb.2)),
        };
        style.add_modifier(modifier)
    }

    /// What stands where a figure is not known.
    pub(super) const fn unknown(self) -> &'static str {
        if self.ascii { "-" } else { "–" }
    }

    /// Between two facts on a line.
    pub(super) const fn between(self) -> &'static str {
        if self.ascii { " | " } else { " · " }
    }

    /// Heights of a column of a chart, an eighth each, the empty one first.
    pub(super) const fn eighths(self) -> [char; 9] {
        if self.ascii {
            [' ', '_', '_', '.', '.', ':', ':', '#', '#']
        } else {
            [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        }
    }

    /// Points down or up, beside the head of the column that rows are sorted by.
    pub(super) const fn arrow(self, descending: bool) -> char {
        match (self.ascii, descending) {
            (true, true) => 'v',
            (true, false) => '^',
            (false, true) => '▼',
            (false, false) => '▲',
        }
    }

    /// A sign of ours or of a name, as ASCII; one column stays one column.
    pub(super) const fn ascii_of(sign: char) -> char {
        match sign {
            '\0'..='\x7f' => sign,
            '–' | '—' | '‐' | '─' => '-',
            '…' => '~',
            '·' => '.',
            '│' => '|',
            '→' => '>',
            '×' => 'x',
            _ => '?',
        }
    }
}

/// How many colours a terminal has, as its environment says: `NO_COLOR` (any value but an empty one), `COLORTERM`, `TERM`.
pub fn colors(no_color: Option<&str>, colorterm: Option<&str>, term: Option<&str>) -> Colors {
    let term = term.unwrap_or_default();
    if no_color.is_some_and(|value| !value.is_empty()) || term == "dumb" || term.starts_with("vt") {
        return Colors::None;
    }
    let color = colorterm.unwrap_or_default().to_ascii_lowercase();
    if color == "truecolor" || color == "24bit" || term.ends_with("-direct") {
        Colors::True
    } else if term.contains("256") || !color.is_empty() {
        Colors::Palette
    } else {
        Colors::Sixteen
    }
}

/// Whether a terminal of this locale shows UTF-8: the first of `LC_ALL`, `LC_CTYPE` and `LANG` that is set decides, as
/// locale(7) has it. The console of the kernel (`TERM=linux`) has UTF-8, but hardly any of the signs that we draw with.
pub fn is_utf8(lc_all: Option<&str>, lc_ctype: Option<&str>, lang: Option<&str>, term: Option<&str>) -> bool {
    let locale = [lc_all, lc_ctype, lang].into_iter().flatten().find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    term != Some("linux") && (locale.contains("utf-8") || locale.contains("utf8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_what_the_environment_says() {
        assert_eq!(colors(None, Some("truecolor"), Some("xterm-256color")), Colors::True);
        assert_eq!(colors(None, None, Some("screen-256color")), Colors::Palette);
        assert_eq!(colors(None, None, Some("xterm")), Colors::Sixteen);
        assert_eq!(colors(None, None, Some("dumb")), Colors::None);
        assert_eq!(colors(Some("1"), Some("truecolor"), Some("xterm-256color")), Colors::None);
        assert_eq!(colors(Some(""), None, Some("xterm")), Colors::Sixteen, "empty is not set");
    }

    #[test]
    fn without_colours_no_style_has_one() {
        let look = Look { colors: Colors::None, ascii: true };
        for role in [Role::Plain, Role::Faint, Role::Good, Role::Warning, Role::Bad, Role::Head, Role::Curve]
        {
            assert_eq!((look.style(role).fg, look.style(role).bg), (None, None), "{role:?}");
        }
    }

    #[test]
    fn signs_are_what_the_locale_says() {
        assert!(is_utf8(None, None, Some("en_GB.UTF-8"), None));
        assert!(is_utf8(Some(""), Some("C.utf8"), Some("C"), Some("xterm")));
        assert!(!is_utf8(Some("C"), None, Some("en_GB.UTF-8"), None), "the first that is set decides");
        assert!(!is_utf8(None, None, None, None) && !is_utf8(None, None, Some("C.UTF-8"), Some("linux")));
    }
}
