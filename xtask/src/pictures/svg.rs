//! A screen as an SVG that looks the same wherever it is shown: words are set to the width of their columns, whatever the
//! font, and the bars of curves are drawn, not written.

use std::fmt::Write as _;

use super::cells::{Look, Row};

/// Size of a cell and of the letters in it, pixels.
const CELL: (f64, f64) = (8.4, 18.0);
const LETTERS: f64 = 14.0;
/// From the top of a row to the line that letters stand on.
const BASE: f64 = 13.5;
/// Around the screen.
const MARGIN: f64 = 14.0;

/// Colours of a dark terminal.
const BACKGROUND: &str = "#11161b";
const TEXT: &str = "#d6dbe0";
const FAINT: &str = "#808890";

/// Bars by their height in eighths.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The picture.
#[expect(clippy::cast_precision_loss, reason = "columns and rows of a terminal")]
pub(super) fn draw(rows: &[Row], (columns, lines): (u16, u16), title: &str) -> String {
    let (width, height) =
        (f64::from(columns).mul_add(CELL.0, 2.0 * MARGIN), f64::from(lines).mul_add(CELL.1, 2.0 * MARGIN));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         role=\"img\">\n<title>{}</title>\n<style>text {{ font: {LETTERS}px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; }} rect {{ shape-rendering: crispEdges; }}\
         </style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n",
        escaped(title)
    );
    for (number, row) in rows.iter().enumerate() {
        let top = (number as f64).mul_add(CELL.1, MARGIN);
        for (column, look, text) in row {
            stretch(&mut svg, *column, top, *look, text);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn x(column: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a column of a terminal")]
    let column = column as f64;
    column.mul_add(CELL.0, MARGIN)
}

fn stretch(svg: &mut String, column: usize, top: f64, look: Look, text: &str) {
    let own = look.text.map_or_else(
        || if look.faint { FAINT.to_owned() } else { TEXT.to_owned() },
        |(red, green, blue)| format!("#{red:02x}{green:02x}{blue:02x}"),
    );
    let fill = if look.reversed {
        let wide = x(column + text.chars().count()) - x(column);
        line(
            svg,
            format_args!(
                "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{}\" fill=\"{own}\"/>",
                x(column),
                CELL.1
            ),
        );
        BACKGROUND
    } else {
        &own
    };
    let signs: Vec<char> = text.chars().collect();
    let mut place = 0;
    while let Some(&sign) = signs.get(place) {
        if let Some(eighths) = BARS.iter().position(|bar| *bar == sign) {
            let same = signs.iter().skip(place).take_while(|other| **other == sign).count();
            #[expect(clippy::cast_precision_loss, reason = "one to eight")]
            let high = CELL.1 * (eighths + 1) as f64 / 8.0;
            let wide = x(column + place + same) - x(column + place);
            line(
                svg,
                format_args!(
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" fill=\"{fill}\"/>",
                    x(column + place),
                    top + CELL.1 - high
                ),
            );
            place += same;
            continue;
        }
        // A word of its own, so that every one begins in its column.
        let word: String =
            signs.iter().skip(place).take_while(|sign| **sign != ' ' && !BARS.contains(sign)).collect();
        let length = word.chars().count();
        if length > 0 {
            let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
            line(
                svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{fill}\"{weight}>{}</text>",
                    x(column + place),
                    top + BASE,
                    x(length) - x(0),
                    escaped(&word)
                ),
            );
        }
        place += length.max(1);
    }
}

fn line(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    if writeln!(svg, "{line}").is_err() {
        svg.clear();
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_in_their_columns_and_bars_are_drawn() {
        let row = vec![(2, Look { bold: true, ..Look::default() }, "a <b▄▄ c".to_owned())];
        let svg = draw(&[row], (10, 2), "a & b");
        assert!(svg.contains("<title>a &amp; b</title>"), "{svg}");
        for (place, word) in [(2, "a"), (4, "&lt;b"), (9, "c")] {
            let begins = format!("<text x=\"{:.1}\"", x(place));
            let line = svg.lines().find(|line| line.starts_with(&begins)).expect("a word");
            assert!(line.contains("bold") && line.ends_with(&format!(">{word}</text>")), "{line}");
        }
        assert!(
            svg.contains(&format!("<rect x=\"{:.1}\" y=\"23.0\" width=\"16.8\" height=\"9.0\"", x(6))),
            "{svg}"
        );
    }
}
