//! An error in what a user wrote.

use std::ops::Range;

/// Where it stands, what is wrong, and what is allowed there, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ConfigError {
    /// A file and line, or a flag.
    pub place: String,
    /// What is wrong, and what to write instead.
    pub what: String,
}

impl ConfigError {
    /// Of a place.
    pub(super) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

/// `file:line` of a span in a text.
pub(super) fn line_of(file: &str, text: &str, span: &Range<usize>) -> String {
    let line = 1 + text.get(..span.start).unwrap_or(text).matches('\n').count();
    format!("{file}:{line}")
}

/// The word of a list that was probably meant.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Least likeness that is worth a question.
    const LIKE: f64 = 0.5;
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(word, known);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LIKE).then_some(best)
}

/// "`x` is not known; did you mean `y`? There are a, b, c".
pub(super) fn unknown(kind: &str, word: &str, known: &[&str]) -> String {
    let meant = nearest(word, known).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    format!("unknown {kind} `{word}`{meant}; there are {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_likeness() {
        assert_eq!(line_of("f", "a\nb\nc", &(4..5)), "f:3");
        assert_eq!(line_of("f", "", &(9..9)), "f:1");
        assert_eq!(nearest("symbl", &["symbol", "task"]), Some("symbol"));
        assert_eq!(nearest("zzz", &["symbol", "task"]), None);
        assert_eq!(
            unknown("key", "taks", &["task", "site"]),
            "unknown key `taks` (did you mean `task`?); there are task, site"
        );
    }
}
