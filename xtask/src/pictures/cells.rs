//! What is on a terminal, from tmux's `capture-pane -e`: text with `CSI … m` and nothing else.

/// How a stretch of text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Colour of the text; `None`: the terminal's own.
    pub(super) text: Option<(u8, u8, u8)>,
    pub(super) bold: bool,
    pub(super) faint: bool,
    /// Text and background are exchanged.
    pub(super) reversed: bool,
}

/// Stretches of a row: the column where each begins, how it looks, and its text.
pub(super) type Row = Vec<(usize, Look, String)>;

/// The rows of a screen. A sign is one column wide: names in our pictures are such.
pub(super) fn parse(screen: &str) -> Vec<Row> {
    let mut look = Look::default();
    screen.lines().map(|line| row(line, &mut look)).collect()
}

fn row(line: &str, look: &mut Look) -> Row {
    let mut row = Row::new();
    let mut column = 0;
    let mut rest = line;
    while let Some(sign) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\x1b[") {
            let end = after.find(|sign: char| sign.is_ascii_alphabetic()).unwrap_or(after.len());
            let (codes, after) = after.split_at(end);
            change(look, codes);
            rest = after.get(1..).unwrap_or_default();
            continue;
        }
        rest = rest.get(sign.len_utf8()..).unwrap_or_default();
        match row.last_mut() {
            Some((_, same, text)) if *same == *look => text.push(sign),
            _ => row.push((column, *look, sign.to_string())),
        }
        column += 1;
    }
    row
}

/// `CSI codes m`: <https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>.
fn change(look: &mut Look, codes: &str) {
    let codes: Vec<u8> = codes.split([';', ':']).map(|code| code.parse().unwrap_or(0)).collect();
    let mut codes = codes.as_slice();
    while let Some((&code, rest)) = codes.split_first() {
        codes = rest;
        match code {
            0 => *look = Look::default(),
            1 => look.bold = true,
            2 => look.faint = true,
            7 => look.reversed = true,
            22 => (look.bold, look.faint) = (false, false),
            27 => look.reversed = false,
            39 => look.text = None,
            38 => {
                if let [2, red, green, blue, rest @ ..] = codes {
                    look.text = Some((*red, *green, *blue));
                    codes = rest;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_begin_where_they_stand() {
        let rows = parse("ab\x1b[1m\x1b[38;2;232;52;52mLEAK\x1b[0m c\n\x1b[7m>\x1b[27m|");
        let bad = Look { text: Some((232, 52, 52)), bold: true, ..Look::default() };
        let plain = Look::default();
        assert_eq!(
            rows[0],
            [(0, plain, "ab".to_owned()), (2, bad, "LEAK".to_owned()), (6, plain, " c".to_owned())]
        );
        assert_eq!(rows[1][0], (0, Look { reversed: true, ..plain }, ">".to_owned()));
        assert_eq!(rows[1][1].0, 1);
    }
}
