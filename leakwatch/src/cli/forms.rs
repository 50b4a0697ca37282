//! The forms in which commands print: the values of `--format`.

use clap::{ValueEnum, builder::PossibleValue};

/// Forms of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object at the end.
    Json,
    /// One JSON object a line, each interval.
    Jsonl,
    /// Metrics as Prometheus's text, at the end; a file is written anew each interval.
    Prometheus,
    /// A page with curves, to attach to a ticket (also by the name: --output report.html).
    Html,
    /// To paste into an issue (also by the name: --output report.md).
    Markdown,
}

/// How `watch` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFormat {
    /// On a screen.
    Tui,
    /// As other commands print reports.
    Report(Format),
}

impl ValueEnum for WatchFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Tui,
            Self::Report(Format::Table),
            Self::Report(Format::Json),
            Self::Report(Format::Jsonl),
            Self::Report(Format::Prometheus),
            Self::Report(Format::Html),
            Self::Report(Format::Markdown),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Tui => Some(PossibleValue::new("tui").help("A screen to move in (docs/terminal.md)")),
            Self::Report(format) => format.to_possible_value(),
        }
    }
}

/// Forms of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PageFormat {
    /// One file that needs nothing else: no script, no network.
    Html,
    /// To paste into an issue.
    Markdown,
}

/// How `run` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RunFormat {
    /// For people.
    #[default]
    Text,
    /// The whole report.
    Json,
    /// Annotations of GitHub's workflows.
    Github,
    /// `JUnit` XML: a test case for each site.
    Junit,
}

/// Forms of a dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DumpFormat {
    /// As the runtime itself prints it (Go: debug=2).
    #[default]
    Text,
    /// A gzipped profile for `go tool pprof`.
    Pprof,
    /// One line a stack with its count, for flame graphs.
    Folded,
    /// One JSON object.
    Json,
    /// For people: what tasks do, what they wait on, what they cost.
    Summary,
}

/// Forms of a proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProveFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For `go tool pprof`: a goroutine profile of the proven ones.
    Pprof,
}

/// Forms of a plain answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TextOrJson {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_prints_in_every_form_of_a_report() {
        let forms: Vec<Format> = WatchFormat::value_variants()
            .iter()
            .filter_map(|form| if let WatchFormat::Report(format) = form { Some(*format) } else { None })
            .collect();
        assert_eq!(forms, Format::value_variants());
        assert_eq!(WatchFormat::from_str("tui", false), Ok(WatchFormat::Tui));
    }
}
