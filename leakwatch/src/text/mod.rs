//! A report for a person at a terminal: one headline, totals, the worst site first.
//!
//! Plain text of a given width, coloured only when asked. Names come from foreign binaries: they are made harmless
//! before anything else is done with them. Nothing here prints, asks for a terminal's width, or looks at variables
//! of the environment.

mod alerts;
mod binary;
mod canvas;
mod diff;
mod digest;
mod dump;
mod fleet;
mod goroutines;
mod headline;
mod leftovers;
mod machine;
mod notes;
mod proof;
mod sites;

#[cfg(test)]
mod tests;

use crate::report::units::{count, duration, figure};
use crate::report::{Overhead, Report, Verdict};
pub use binary::binary;
use canvas::{Canvas, Style};
pub use diff::diff;
pub use digest::write_digest;
pub use dump::{write_dump, write_folded};
pub use fleet::fleet;
pub use goroutines::read_goroutines;
pub use leftovers::{github, leftover_sentence, leftovers};
pub use machine::machine;
pub use proof::proof;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Columns of the terminal; fewer than 60 are taken as 60.
    pub width: usize,
    /// Use colours.
    pub color: bool,
    /// Wait stacks to print under each site; 0 for none.
    pub stacks: usize,
    /// Show the runtime's own tasks too.
    pub system: bool,
    /// Sites to print of each process.
    pub sites: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { width: 80, color: false, stacks: 0, system: false, sites: 20 }
    }
}

/// Prints a report. Ends with a newline.
pub fn render(report: &Report, options: &Options) -> String {
    let mut canvas = Canvas::new(options.width, options.color);
    if report.processes.is_empty() {
        canvas.line(Style::Plain, "no process was watched");
    }
    for (index, process) in report.processes.iter().enumerate() {
        if index > 0 {
            canvas.blank();
        }
        let alone = (report.processes.len() == 1).then_some(&report.overhead);
        headline::write(&mut canvas, process, alone);
        notes::write(&mut canvas, process);
        sites::write(&mut canvas, process, options);
    }
    if report.processes.len() > 1 {
        summary(&mut canvas, report);
    }
    alerts::write(&mut canvas, &report.alerting);
    canvas.finish()
}

/// The last line of a report of several processes.
fn summary(canvas: &mut Canvas, report: &Report) {
    let having = |verdict: Verdict| {
        let sites = report.processes.iter().flat_map(|process| &process.sites);
        sites.filter(|site| site.verdict == verdict).count() as u64
    };
    let mut parts = vec![
        format!(
            "{} watched for {}",
            count(report.processes.len() as u64, "process"),
            duration(report.duration_s)
        ),
        match (having(Verdict::Leak), having(Verdict::Suspect)) {
            (0, 0) => "nothing suspect".to_owned(),
            (0, suspects) => count(suspects, "suspect"),
            (leaks, 0) => count(leaks, "leak"),
            (leaks, suspects) => format!("{}, {}", count(leaks, "leak"), count(suspects, "suspect")),
        },
    ];
    parts.extend(overhead(&report.overhead));
    canvas.blank();
    canvas.joined(Style::Plain, &parts);
}

/// What watching cost, in a few words.
fn overhead(overhead: &Overhead) -> Option<String> {
    let percent = overhead.cpu_percent_of_one_core?;
    let budget =
        overhead.budget_percent.map_or_else(String::new, |budget| format!(" (budget {}%)", figure(budget)));
    Some(format!("overhead {}% of a core{budget}", figure(percent)))
}
