//! A machine's fitness in words, for `leakwatch doctor`.

use super::Options;
use super::canvas::{Canvas, Style};
use super::clean::clean;
use crate::report::machine::{Fitness, Machine};
use crate::report::units::count;

/// Columns before what was found.
const INDENT: usize = 34;

/// Prints findings, each with its fix. Ends with a newline.
pub fn machine(machine: &Machine, options: &Options) -> String {
    let mut canvas = Canvas::new(options.width, options.color);
    for finding in &machine.findings {
        let (style, mark) = match finding.fitness {
            Fitness::Ok => (Style::Plain, "ok"),
            Fitness::Warn => (Style::Warning, "warn"),
            Fitness::Fail => (Style::Bad, "FAIL"),
        };
        let first = format!("{mark:<6}{:<28}", finding.name);
        canvas.wrapped(style, &first, INDENT, &clean(&finding.found));
        if let Some(fix) = &finding.fix {
            canvas.wrapped(Style::Strong, &format!("{:INDENT$}-> ", ""), INDENT + 3, &clean(fix));
        }
    }
    canvas.blank();
    let doubts = machine.count(Fitness::Warn);
    let (style, sentence) = match (machine.count(Fitness::Fail), doubts) {
        (0, 0) => (Style::Good, "leakwatch can run here.".to_owned()),
        (0, _) => {
            (Style::Warning, format!("leakwatch can run here, with {}.", count(doubts as u64, "restriction")))
        }
        (fails, _) => {
            let hindrances = count(fails as u64, "finding");
            (Style::Bad, format!("leakwatch cannot run here: {hindrances} above marked FAIL."))
        }
    };
    canvas.wrapped(style, "", 0, &sentence);
    canvas.finish()
}
