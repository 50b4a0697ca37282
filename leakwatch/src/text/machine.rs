//! A machine's fitness in words, for `leakwatch doctor`.

use super::Options;
use super::canvas::{Canvas, Style};
use crate::report::clean::clean;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::machine::MachineFinding;

    fn check(fitness: &[Fitness], last: &str) {
        let finding = |&fitness| MachineFinding {
            name: "kernel".to_owned(),
            fitness,
            found: "too old".to_owned(),
            fix: Some("use another".to_owned()),
        };
        let findings = fitness.iter().map(finding).collect();
        let text = machine(&Machine { findings }, &Options::default());
        assert_eq!(text.lines().last(), Some(last));
        assert!(text.lines().any(|line| line.trim_start() == "-> use another"), "{text}");
    }

    #[test]
    fn the_last_line_is_the_answer() {
        check(&[Fitness::Ok, Fitness::Ok], "leakwatch can run here.");
        check(&[Fitness::Ok, Fitness::Warn], "leakwatch can run here, with 1 restriction.");
        check(&[Fitness::Warn, Fitness::Fail], "leakwatch cannot run here: 1 finding above marked FAIL.");
    }
}
