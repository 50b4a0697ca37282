//! Dumps in the runtime's own form (`debug=2`), read back: leakwatch's, the program's own, and what a crash left.
//!
//! Files come from anywhere and may be cut: what is no trace is passed over and counted, and a file without any trace is
//! refused by who reads it.

use std::collections::BTreeMap;

use crate::report::diff::{FilePlace, Group, Snapshot};

/// Reads a dump. Also gives how many blocks of text are no traces.
pub fn read_goroutines(text: &str) -> (Snapshot, usize) {
    let mut groups: BTreeMap<(Frames, String), Group> = BTreeMap::new();
    let mut strange = 0;
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let Some((id, site, stack)) = trace(block) else {
            strange += 1;
            continue;
        };
        let frames = stack.iter().map(|frame| (frame.function.clone(), frame.line)).collect();
        let created = site.as_ref().map(ToString::to_string).unwrap_or_default();
        let group = groups.entry((frames, created)).or_insert_with(|| Group {
            site,
            stack,
            count: 0,
            ids: Vec::new(),
        });
        group.count += 1;
        group.ids.push(id);
    }
    let groups = groups.into_values().collect();
    (Snapshot { form: "dump", process: None, groups, numbered: true }, strange)
}

/// Functions and lines.
type Frames = Vec<(String, Option<u32>)>;
/// Number, site, stack.
type Trace = (u64, Option<FilePlace>, Vec<FilePlace>);

/// `goroutine 7 [chan receive]:`, then two lines a frame.
fn trace(block: &str) -> Option<Trace> {
    let mut lines = block.trim_start_matches('\n').lines().peekable();
    let (id, state) = lines.next()?.strip_prefix("goroutine ")?.split_once(' ')?;
    if !state.contains('[') || !state.ends_with(':') {
        return None;
    }
    let id = id.parse().ok()?;
    let (mut site, mut stack) = (None, Vec::new());
    while let Some(line) = lines.next() {
        if line.starts_with('\t') {
            // "goroutine running on other thread; stack unavailable"
            continue;
        }
        let place = lines.next_if(|next| next.starts_with('\t')).map(file_and_line).unwrap_or_default();
        let (file, number) = place;
        if let Some(created) = line.strip_prefix("created by ") {
            let function = created.split_once(" in goroutine ").map_or(created, |(function, _)| function);
            site = Some(FilePlace { function: function.to_owned(), file, line: number });
        } else if line.starts_with("...") && line.ends_with("elided...") {
            stack.push(FilePlace { function: line.to_owned(), file: None, line: None });
        } else {
            let function = line.rsplit_once('(').map_or(line, |(function, _)| function);
            stack.push(FilePlace { function: function.to_owned(), file, line: number });
        }
    }
    Some((id, site, stack))
}

/// `\t/src/main.go:12 +0x1d`
fn file_and_line(line: &str) -> (Option<String>, Option<u32>) {
    let line = line.trim();
    let place = line.rsplit_once(" +0x").map_or(line, |(place, _)| place);
    match place.rsplit_once(':') {
        Some((file, number)) => (Some(file.to_owned()), number.parse().ok()),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_read_and_grouped() {
        let trace = |id: u32| {
            format!(
                "goroutine {id} [chan receive, 5 minutes, locked to thread]:\nmain.(*T[...]).f(0xc0000, {{0x1, 0x2}})\n\
                 \t/src dir/main.go:9 +0x1d\nmain.g(...)\n\t/src dir/main.go:4\ncreated by main.h in goroutine 1\n\
                 \t/src dir/main.go:8 +0x5c"
            )
        };
        let text = format!(
            "{}\n\n{}\n\nexit status 2\n\ngoroutine 9 [running]:\n\tgoroutine running on other thread; \
            stack unavailable\ncreated by main.k\n\t/k.go:1 +0x1\n",
            trace(5),
            trace(6)
        );
        let (snapshot, strange) = read_goroutines(&text);
        assert_eq!(strange, 1);
        assert_eq!(snapshot.tasks(), 3);
        let group = snapshot.groups.iter().find(|group| group.count == 2).expect("a group");
        assert_eq!(group.ids, [5, 6]);
        assert_eq!(group.stack[0].function, "main.(*T[...]).f");
        assert_eq!(group.stack[1].line, Some(4));
        let site = group.site.as_ref().expect("a site");
        assert_eq!(
            (site.function.as_str(), site.file.as_deref(), site.line),
            ("main.h", Some("/src dir/main.go"), Some(8))
        );
    }

    #[test]
    fn any_text_is_survived() {
        for text in [
            "",
            "\n\n\n",
            "goroutine",
            "goroutine x [a]:",
            "goroutine 1 [a]:",
            "goroutine 1 [a]:\n\t",
            "\t\n\n\t:",
        ] {
            let (snapshot, _) = read_goroutines(text);
            assert!(snapshot.tasks() <= 1, "{text:?}");
        }
    }
}
