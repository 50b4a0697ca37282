//! The command lines that the documents show: each is one that leakwatch takes, and each command is shown.
#![expect(clippy::tests_outside_test_module, reason = "all of it is a test")]

use std::{fs, path::Path};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use leakwatch::cli::Cli;

/// The repository's documents: those at its top and those in `docs`.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut documents = Vec::new();
    for folder in [root.clone(), root.join("docs")] {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("a document");
                documents.push((path.file_name().expect("a name").to_string_lossy().into_owned(), text));
            }
        }
    }
    documents
}

/// The command lines in a document: in blocks, as a shell would be given them, and in running text between backticks.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            lines.extend(command_line(line));
        } else {
            lines.extend(line.split('`').skip(1).step_by(2).filter_map(command_line));
        }
    }
    lines
}

/// What follows `leakwatch`, without prompt, sudo, comments (after two blanks) and what the shell does with the output.
fn command_line(line: &str) -> Option<String> {
    let line = line.trim_start();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let line = line.strip_prefix("sudo ").unwrap_or(line);
    let line = line.strip_prefix("leakwatch ")?;
    let end = [" | ", " > ", " # ", "  "].into_iter().filter_map(|stop| line.find(stop)).min();
    let line = line.get(..end.unwrap_or(line.len())).unwrap_or(line).trim();
    // `leakwatch demo`, not the title of a table or a sentence.
    (!line.contains('…')).then(|| line.to_owned())
}

#[test]
fn every_command_line_in_the_documents_is_taken() {
    let mut seen = 0;
    for (name, text) in documents() {
        for line in command_lines(&text) {
            let words = line.split_whitespace().map(|word| match word {
                "PID" => "4242",
                "BINARY" => "/usr/bin/caddy",
                other => other,
            });
            let parsed = Cli::try_parse_from(std::iter::once("leakwatch").chain(words));
            // A command that is only named lacks its arguments.
            let fine = |error: &clap::Error| match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
                ErrorKind::MissingRequiredArgument => !line.contains(' '),
                _ => false,
            };
            if let Err(error) = parsed.as_ref()
                && !fine(error)
            {
                panic!("{name} shows `leakwatch {line}`, but: {error}");
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "the documents show {seen} command lines: are they still found?");
}

#[test]
fn every_command_is_shown_in_the_readme() {
    let documents = documents();
    let (_, readme) = documents.iter().find(|(name, _)| name == "README.md").expect("a README");
    let lines = command_lines(readme);
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let shown = lines.iter().any(|line| line.split_whitespace().next() == Some(command.get_name()));
        assert!(shown, "README.md does not show `leakwatch {}`", command.get_name());
    }
}

/// Flags in running text, such as `--budget 2%`, exist.
#[test]
fn every_flag_in_the_documents_exists() {
    let command = Cli::command();
    let commands = || command.get_subcommands().chain(std::iter::once(&command));
    let known = |flag: &str| {
        flag == "help"
            || flag == "version"
            || commands().any(|one| one.get_arguments().any(|argument| argument.get_long() == Some(flag)))
    };
    let documents = documents();
    // Flags of other programs that the documents name.
    let foreign = ["cap-add", "pid=host", "release", "cfg"];
    for name in ["README.md", "json.md", "troubleshooting.md", "how-it-counts.md", "CHANGELOG.md"] {
        let (_, text) = documents.iter().find(|(file, _)| file == name).expect("the document");
        for span in text.split('`').skip(1).step_by(2) {
            let Some(flag) = span.strip_prefix("--").and_then(|rest| rest.split_whitespace().next()) else {
                continue;
            };
            assert!(known(flag) || foreign.contains(&flag), "{name} names `--{flag}`");
        }
    }
}

/// The examples under `--help` are command lines that leakwatch takes, and each command has some.
#[test]
fn every_help_ends_with_examples_that_are_taken() {
    let mut command = Cli::command();
    command.build();
    for one in command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        let help = one.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines: Vec<String> = help.lines().filter_map(command_line).collect();
        assert!(!lines.is_empty(), "`leakwatch {} --help` has no example", one.get_name());
        for line in lines {
            let words = line.split_whitespace().map(|word| word.trim_matches('\''));
            let parsed = Cli::try_parse_from(std::iter::once("leakwatch").chain(words));
            assert!(parsed.is_ok(), "`leakwatch {line}`: {}", parsed.expect_err("it is"));
        }
    }
}

/// Whatever `doctor` looks at has its row in the page that says what to do.
#[test]
fn troubleshooting_knows_every_finding_of_doctor() {
    let documents = documents();
    let (_, page) = documents.iter().find(|(name, _)| name == "troubleshooting.md").expect("the page");
    for finding in leakwatch::host::features::check() {
        assert!(page.contains(&format!("\n| {} |", finding.name)), "no row of {:?}", finding.name);
    }
}
