//! `[redact]`: what is not told of programs. It must never read the secret: only the file's name is here.

use super::key::{Default, Key, Section};
use crate::config::values::{flag, path};

/// `[redact]`.
pub(super) const REDACT: Section = Section {
    name: "redact",
    about: "What no answer, alert, metric or export may tell of the programs. Dumps, which are nothing else, are not made then.",
    keys: &[
        Key {
            name: "symbols",
            default: Default::Is("false"),
            doc: "Names of functions, types and source files: hashes stand for the first two, the same name has the same one; \
              files and lines are left out. Rules that ask for a name have to ask for its hash.",
            set: |options, value| {
                options.redact.symbols = flag(value)?;
                Ok(())
            },
        },
        Key {
            name: "stacks",
            default: Default::Is("false"),
            doc: "Stacks, of waiting tasks and of those that made them, are left out; rules about stacks never fire then.",
            set: |options, value| {
                options.redact.stacks = flag(value)?;
                Ok(())
            },
        },
        Key {
            name: "key_file",
            default: Default::Unset("\"/etc/leakwatch/redact.key\""),
            doc: "A file with a secret that goes into the hashes, the same on all hosts. Without it, who has the program can try \
              its names.",
            set: |options, value| {
                options.redact.key_file = Some(path(value)?);
                Ok(())
            },
        },
    ],
};
