//! A runtime that a user names: the functions by which its tasks start and end, turned into probes.
//!
//! What is named is data ([`Named`]); whoever reads flags or profiles makes it. Every error says what was looked for, in
//! which files, and what was probably meant. It must never plan a return probe in a process with a Go runtime, never one
//! on a function that may switch stacks, and never a probe on an instruction that is not in memory what it is in the
//! file.

mod descriptor;
mod plan;
mod search;

use std::fmt;

use crate::images::Wanted;

pub use plan::plan_all;

/// A runtime by the functions that a user named.
#[derive(Clone, Debug)]
pub struct Named {
    /// What to call it.
    pub name: String,
    /// How its version is found; `None`: it has none.
    pub version: Option<VersionRule>,
    /// Its functions.
    pub functions: Vec<NamedFunction>,
    /// What must be there for the functions to mean what they are said to mean.
    pub requires: Vec<Requirement>,
}

/// A function that tells a build of the runtime that can be watched from one that cannot: where a compiler inlined
/// functions, those that are left are passed by some tasks only, and every figure would be wrong.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// Where the user said so.
    pub origin: String,
    /// The function.
    pub wanted: Wanted,
    /// As the user wrote it.
    pub written: String,
    /// In which modules.
    pub library: Option<FileNames>,
    /// What to say where it is not there.
    pub why: String,
}

/// How a version is found.
#[derive(Clone, Debug)]
pub struct VersionRule {
    /// In which modules, by file name.
    pub library: Option<FileNames>,
    /// Over a module's path; its first group is the version.
    pub path: Option<regex::Regex>,
    /// Over a module's bytes; its first group is the version.
    pub text: Option<regex::bytes::Regex>,
}

/// A function that starts or ends tasks.
#[derive(Clone, Debug)]
pub struct NamedFunction {
    /// Where the user said so, for messages: `--start 'pool_get'`, `pool.toml:12`.
    pub origin: String,
    /// What passing it means.
    pub means: Means,
    /// Which function.
    pub wanted: Wanted,
    /// As the user wrote it.
    pub written: String,
    /// In which modules; `None`: in the program and all its libraries.
    pub library: Option<FileNames>,
    /// Where the task is.
    pub task: TaskAt,
    /// Where the site is that is to blame for the task.
    pub site: FactAt,
    /// Where the function is that the task runs.
    pub entry: FactAt,
    /// Values that are no task.
    pub invalid: Invalid,
    /// The task is a 32-bit number, such as an `int` handle.
    pub half: bool,
    /// Its result is to be taken by a return probe, also where its exits are known: much cheaper, and it changes the
    /// program's stack.
    pub return_probe: bool,
    /// That it is not there is no error.
    pub optional: bool,
    /// Versions of the runtime that it belongs to.
    pub versions: Option<Versions>,
}

/// What passing a function means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A task begins.
    Start,
    /// A task ends.
    End,
    /// Nothing yet: its site and entry are those of the task that the same thread starts next.
    Note,
}

/// Where a task's identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskAt {
    /// The value that it is, or that leads to it.
    pub base: Base,
    /// It is the word in memory there.
    pub word: bool,
    /// Added to the value: before the word is read, where one is.
    pub offset: i32,
}

/// A value of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The argument of this number, from 1, as the function is entered.
    Argument(u8),
    /// What the function returns.
    Return,
    /// The argument of this number, when the function returned 0: what it points to is filled by then.
    ArgumentAtReturn(u8),
}

/// Where a site or an entry function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactAt {
    /// Nowhere.
    Nowhere,
    /// The return address of the call: who called the function.
    Caller,
    /// The argument of this number, from 1.
    Argument(u8),
    /// The word at the task's value plus this.
    TaskWord(i32),
    /// What the thread's last [`Means::Note`] said.
    Noted,
}

/// Values that are no task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Invalid {
    /// 0.
    pub zero: bool,
    /// -1.
    pub minus_one: bool,
    /// Every negative number.
    pub negative: bool,
}

/// File names with `*` for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNames(pub String);

/// Versions that all bounds hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// As it was written.
    pub written: String,
    /// Relation and version.
    pub bounds: Vec<(Relation, Vec<u64>)>,
}

/// How a version compares with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the signs' names")]
pub enum Relation {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

impl FileNames {
    /// Whether a file name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }
}

impl Versions {
    /// Whether a version, such as `3.11.2`, is among them; `None`: it is no version.
    pub fn hold_for(&self, version: &str) -> Option<bool> {
        let version = numbers(version)?;
        Some(self.bounds.iter().all(|(relation, bound)| {
            // A bound speaks of as many numbers as it has: 3.11.2 is within <=3.11.
            let ours: Vec<u64> = (0..bound.len()).map(|at| version.get(at).copied().unwrap_or(0)).collect();
            match relation {
                Relation::Less => ours < *bound,
                Relation::LessOrEqual => ours <= *bound,
                Relation::Greater => ours > *bound,
                Relation::GreaterOrEqual => ours >= *bound,
                Relation::Equal => ours == *bound,
            }
        }))
    }
}

/// The numbers of a version; what follows them (`rc1`, `-1+deb`) is left out.
pub fn numbers(version: &str) -> Option<Vec<u64>> {
    let digits = version.trim();
    let end = digits.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(digits.len());
    let found: Option<Vec<u64>> =
        digits.get(..end)?.trim_end_matches('.').split('.').map(|number| number.parse().ok()).collect();
    found.filter(|numbers| !numbers.is_empty())
}

impl Means {
    /// `start`, `end` or `note`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for TaskAt {
    /// As it is written in flags and profiles.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.word { "*" } else { "" };
        match self.base {
            Base::Argument(number) | Base::ArgumentAtReturn(number) => write!(f, "{star}arg{number}")?,
            Base::Return => write!(f, "{star}ret")?,
        }
        if self.offset != 0 {
            write!(f, "{:+}", self.offset)?;
        }
        if matches!(self.base, Base::ArgumentAtReturn(_)) { f.write_str("@ret") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let is = |pattern: &str, name: &str| FileNames(pattern.to_owned()).matches(name);
        assert!(is("libuv.so.1", "libuv.so.1") && !is("libuv.so.1", "libuv.so.1.0.0"));
        assert!(
            is("libuv.so*", "libuv.so.1.0.0")
                && is("*", "x")
                && is("_asyncio.*.so", "_asyncio.cpython-311.so")
        );
        assert!(!is("libuv*.a", "libuv.so") && !is("a*b*c", "acb") && is("a*b*c", "axbxc"));
    }

    #[test]
    fn versions() {
        let bound = |relation, text: &str| (relation, numbers(text).expect("a version"));
        let versions = Versions {
            written: ">=3.8, <3.13".to_owned(),
            bounds: vec![bound(Relation::GreaterOrEqual, "3.8"), bound(Relation::Less, "3.13")],
        };
        assert_eq!(versions.hold_for("3.11.2"), Some(true));
        assert_eq!(versions.hold_for("3.13"), Some(false));
        assert_eq!(versions.hold_for("3.7.9rc1"), Some(false));
        assert_eq!(versions.hold_for("unknown"), None);
        assert_eq!(numbers("1.2.3-rc1"), Some(vec![1, 2, 3]));
        assert_eq!(numbers("99999999999999999999"), None);
    }
}
