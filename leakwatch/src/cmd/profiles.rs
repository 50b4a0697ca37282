//! `leakwatch profiles`: what runtimes leakwatch has profiles of, and what is in them.

use std::io::Write as _;

use super::{End, startup::Usage};
use crate::config;

/// Lists them, or prints one.
///
/// # Errors
/// When there is none of that name, or standard output fails.
pub(super) fn run(name: Option<&str>) -> anyhow::Result<End> {
    let mut out = std::io::stdout().lock();
    let Some(name) = name else {
        for profile in config::shipped() {
            writeln!(out, "{:<12} {}", profile.name, profile.description())?;
        }
        return Ok(End::Done);
    };
    let profile = config::shipped().iter().find(|profile| profile.name == name);
    let profile = profile
        .ok_or_else(|| Usage(format!("no profile is called {name}; `leakwatch profiles` lists them")))?;
    out.write_all(profile.text.as_bytes())?;
    Ok(End::Done)
}
