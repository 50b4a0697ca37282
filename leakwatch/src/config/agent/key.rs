//! A section of the agent's configuration and a key in it, as a row of a table: what is printed, what is allowed and what errors
//! say all come from there. It must never know one section from another.

use toml::de::DeValue;

use crate::agent::daemon::options::Options;

/// One section.
pub(super) struct Section {
    /// As it is written between brackets.
    pub(super) name: &'static str,
    /// What it is about.
    pub(super) about: &'static str,
    /// Its keys, in the order in which they are printed.
    pub(super) keys: &'static [Key],
}

/// One key.
pub(super) struct Key {
    /// As it is written.
    pub(super) name: &'static str,
    /// What it is when it is not written.
    pub(super) default: Default,
    /// What it means.
    pub(super) doc: &'static str,
    /// Puts what is written into the options; the error is what is allowed there.
    pub(super) set: fn(&mut Options, &DeValue<'_>) -> Result<(), String>,
}

/// What a key is when it is not written.
pub(super) enum Default {
    /// As if this were written.
    Is(&'static str),
    /// Nothing; this is how it may look.
    Unset(&'static str),
}
