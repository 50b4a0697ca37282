//! What changed between two looks at a program's tasks: two dumps, two reports, two profiles.
//!
//! By site and by stack: what appeared, grew, shrank, stayed and went. Where both looks know their tasks by number, those
//! that are in both are the survivors. Pure; who reads files makes a [`Snapshot`] of each.

use std::collections::{BTreeMap, BTreeSet};

/// A frame as files have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePlace {
    /// The function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
}

impl FilePlace {
    /// What makes two frames the same: not the file, whose path differs between the machines that a program is built on.
    fn key(&self) -> (&str, Option<u32>) {
        (&self.function, self.line)
    }

    /// The runtime's own machinery, which its tracebacks leave out and its profiles do not.
    pub fn is_hidden(&self) -> bool {
        crate::images::is_hidden(&self.function)
    }
}

impl std::fmt::Display for FilePlace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.function)?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(out, " ({file}:{line})"),
            (None, Some(line)) => write!(out, " (line {line})"),
            _ => Ok(()),
        }
    }
}

/// Tasks that one look found at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The statement that started them; `None`: the look does not tell.
    pub site: Option<FilePlace>,
    /// Their stack, innermost first, as tracebacks have it; empty: not known.
    pub stack: Vec<FilePlace>,
    /// How many.
    pub count: u64,
    /// Their numbers, where the look tells them.
    pub ids: Vec<u64>,
}

/// One look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What it was read from, for people: `dump`, `report`, `profile`.
    pub form: &'static str,
    /// Pid and start of the process, where the look tells them.
    pub process: Option<(u32, String)>,
    /// Its tasks.
    pub groups: Vec<Group>,
    /// All of its tasks have numbers.
    pub numbered: bool,
}

impl Snapshot {
    /// How many tasks.
    pub fn tasks(&self) -> u64 {
        self.groups.iter().map(|group| group.count).sum()
    }
}

/// What became of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It has tasks now and had none.
    Appeared,
    /// It has more.
    Grew,
    /// It has fewer.
    Shrank,
    /// It has none any more.
    Went,
    /// It has as many.
    Stayed,
}

impl Fate {
    fn of(before: u64, after: u64) -> Self {
        match (before, after) {
            (0, _) => Self::Appeared,
            (_, 0) => Self::Went,
            (before, after) if after > before => Self::Grew,
            (before, after) if after < before => Self::Shrank,
            _ => Self::Stayed,
        }
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Grew => "grew",
            Self::Shrank => "shrank",
            Self::Went => "went",
            Self::Stayed => "stayed",
        }
    }
}

/// A place in both looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What became of it.
    pub fate: Fate,
    /// A site: one frame. A stack: its frames, innermost first.
    pub frames: Vec<FilePlace>,
    /// Tasks in the first look.
    pub before: u64,
    /// Tasks in the second.
    pub after: u64,
    /// Tasks that are in both; `None`: not known.
    pub survivors: Option<u64>,
}

impl Change {
    /// How many more there are.
    pub fn growth(&self) -> i64 {
        self.after.cast_signed().saturating_sub(self.before.cast_signed())
    }
}

/// What became of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survivors {
    /// In both looks.
    pub stayed: u64,
    /// Only in the first.
    pub ended: u64,
    /// Only in the second.
    pub started: u64,
}

/// The difference of two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Tasks in the first.
    pub before: u64,
    /// Tasks in the second.
    pub after: u64,
    /// By number, where both looks are of the same process and tell numbers.
    pub survivors: Option<Survivors>,
    /// Sites, what grew most first. Where a look does not tell sites: what the tasks run, the outermost frame.
    pub sites: Vec<Change>,
    /// The sites are those of `created by`.
    pub by_creation: bool,
    /// Stacks, what grew most first.
    pub stacks: Vec<Change>,
}

/// Compares two looks.
pub fn compare(before: &Snapshot, after: &Snapshot) -> Difference {
    let same_process = match (&before.process, &after.process) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    let numbered = before.numbered && after.numbered && same_process;
    let ids = |snapshot: &Snapshot| -> BTreeSet<u64> {
        snapshot.groups.iter().flat_map(|group| group.ids.iter().copied()).collect()
    };
    let (old, new) = (ids(before), ids(after));
    let count = |ids: usize| ids as u64;
    let survivors = numbered.then(|| {
        let stayed = count(old.intersection(&new).count());
        Survivors { stayed, ended: count(old.len()) - stayed, started: count(new.len()) - stayed }
    });
    let tells = |snapshot: &Snapshot| snapshot.groups.iter().any(|group| group.site.is_some());
    let by_creation = tells(before) && tells(after);
    let site = |group: &Group| -> Vec<FilePlace> {
        let frame = if by_creation { group.site.clone() } else { outermost(group) };
        vec![frame.unwrap_or_else(|| FilePlace { function: "?".to_owned(), ..FilePlace::default() })]
    };
    Difference {
        before: before.tasks(),
        after: after.tasks(),
        survivors,
        sites: changes(before, after, numbered, site),
        by_creation,
        stacks: changes(before, after, numbered, |group| group.stack.clone()),
    }
}

/// What a task runs. Its line says where it is, which is not the same for two that run the same.
fn outermost(group: &Group) -> Option<FilePlace> {
    group.stack.last().map(|frame| FilePlace { line: None, ..frame.clone() })
}

/// What is added up of a place.
#[derive(Default)]
struct Sum {
    frames: Vec<FilePlace>,
    before: u64,
    after: u64,
    old: BTreeSet<u64>,
    survivors: u64,
}

fn changes(
    before: &Snapshot,
    after: &Snapshot,
    numbered: bool,
    place: impl Fn(&Group) -> Vec<FilePlace>,
) -> Vec<Change> {
    let mut sums: BTreeMap<Vec<(String, Option<u32>)>, Sum> = BTreeMap::new();
    let mut add = |group: &Group, put: &dyn Fn(&mut Sum, &Group)| {
        let frames = place(group);
        let key =
            frames.iter().map(FilePlace::key).map(|(function, line)| (function.to_owned(), line)).collect();
        let sum = sums.entry(key).or_insert_with(|| Sum { frames, ..Sum::default() });
        put(sum, group);
    };
    for group in &before.groups {
        add(group, &|sum, group| {
            sum.before += group.count;
            sum.old.extend(&group.ids);
        });
    }
    for group in &after.groups {
        add(group, &|sum, group| {
            sum.after += group.count;
            sum.survivors += group.ids.iter().filter(|id| sum.old.contains(id)).count() as u64;
        });
    }
    let mut changes: Vec<Change> = sums
        .into_values()
        .map(|sum| Change {
            fate: Fate::of(sum.before, sum.after),
            frames: sum.frames,
            before: sum.before,
            after: sum.after,
            survivors: numbered.then_some(sum.survivors),
        })
        .collect();
    // What grew most first, what lost most last but for what stayed.
    changes.sort_by_key(|change| {
        (change.fate == Fate::Stayed, -change.growth(), std::cmp::Reverse(change.after))
    });
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(function: &str, line: u32) -> FilePlace {
        FilePlace { function: function.to_owned(), file: None, line: Some(line) }
    }

    fn group(site: &str, line: u32, ids: &[u64]) -> Group {
        Group {
            site: Some(place(site, 1)),
            stack: vec![place("main.wait", line), place("main.run", 9)],
            count: ids.len() as u64,
            ids: ids.to_vec(),
        }
    }

    fn snapshot(groups: Vec<Group>) -> Snapshot {
        Snapshot { form: "dump", process: None, groups, numbered: true }
    }

    #[test]
    fn what_grew_went_and_stayed() {
        let before =
            snapshot(vec![group("main.a", 1, &[1, 2]), group("main.b", 2, &[3]), group("main.c", 1, &[9])]);
        let after = snapshot(vec![
            group("main.a", 1, &[2, 4, 5]),
            group("main.d", 3, &[6]),
            group("main.c", 1, &[9]),
        ]);
        let difference = compare(&before, &after);
        assert_eq!((difference.before, difference.after), (4, 5));
        assert_eq!(difference.survivors, Some(Survivors { stayed: 2, ended: 2, started: 3 }));
        let sites: Vec<_> = difference
            .sites
            .iter()
            .map(|site| (site.frames[0].function.as_str(), site.fate, site.growth(), site.survivors))
            .collect();
        assert_eq!(
            sites,
            [
                ("main.a", Fate::Grew, 1, Some(1)),
                ("main.d", Fate::Appeared, 1, Some(0)),
                ("main.b", Fate::Went, -1, Some(0)),
                ("main.c", Fate::Stayed, 0, Some(1)),
            ]
        );
        let stacks: Vec<_> =
            difference.stacks.iter().map(|s| (s.frames[0].line, s.before, s.after)).collect();
        assert_eq!(stacks, [(Some(1), 3, 4), (Some(3), 0, 1), (Some(2), 1, 0)]);
    }

    #[test]
    fn other_processes_have_no_survivors() {
        let one = Snapshot { process: Some((1, "x".to_owned())), ..snapshot(vec![group("main.a", 1, &[1])]) };
        let other = Snapshot { process: Some((2, "x".to_owned())), ..one.clone() };
        assert_eq!(compare(&one, &other).survivors, None);
        assert_eq!(compare(&one, &one).survivors, Some(Survivors { stayed: 1, ended: 0, started: 0 }));
    }

    #[test]
    fn without_sites_what_they_run_is_compared() {
        let mut profile = snapshot(vec![group("main.a", 1, &[])]);
        profile.groups[0].site = None;
        profile.numbered = false;
        let difference = compare(&profile, &snapshot(vec![group("main.a", 1, &[1])]));
        assert!(!difference.by_creation);
        assert_eq!(difference.sites[0].frames[0].function, "main.run");
        assert_eq!(difference.survivors, None);
    }
}
