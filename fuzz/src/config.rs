//! What the fuzz targets do with files that users write. Uses nothing but leakwatch's public API, so that its stable tests
//! can include this file and replay the corpus (`leakwatch/tests/config_corpus.rs`).

use leakwatch::config::{self, ConfigError};
use leakwatch::rules::{Engine, Limits, Moment};

/// Each error names the file and a line that is in it.
fn well_said(text: &str, error: &ConfigError) {
    let line = error.place.strip_prefix("fuzz:").and_then(|line| line.parse::<usize>().ok());
    assert!(line.is_some_and(|line| (1..=text.lines().count() + 1).contains(&line)), "{error}");
    assert!(!error.what.is_empty());
}

/// The bytes as a file of rules and actions; what is taken can be asked.
pub fn rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match config::rules::parse("fuzz", text) {
        Ok(file) => {
            for rule in &file.rules {
                assert!(!rule.name.is_empty() && (1..=8).contains(&rule.when.len()));
                assert!([rule.for_s, rule.clear_for_s, rule.hold_s].iter().all(|time| *time >= 0.0));
                assert!(rule.when.iter().all(|condition| condition.threshold.is_finite()));
            }
            let mut engine = Engine::new(file.rules, Limits::default());
            let at = Moment { at_s: 0.0, wall: leakwatch::report::Timestamp::UNIX_EPOCH };
            assert!(engine.evaluate(at, &[]).changes.is_empty());
        }
        Err(error) => well_said(text, &error),
    }
}

/// The bytes as a profile of a runtime.
pub fn profile(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Err(error) = config::check_profile("fuzz", text) {
        well_said(text, &error);
    }
}
