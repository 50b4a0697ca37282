//! Names of tokio's types of tasks: what was spawned, in which function, and where that stands.
//!
//! Must never make a name up: a type without symbols is called by the place of its async block, else by the address of
//! its vtable, which is the same in every run of the same file.

use leakwatch_inspect::tokio_rt::{SourceLocation, TaskKind, TaskType, TokioFacts};

/// What is known of a type of task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskName {
    /// The function whose async block, future or closure it is.
    pub function: Option<String>,
    /// Source file of the async block.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// The future's type.
    pub task: String,
    /// tokio's own.
    pub system: bool,
}

/// The name of the type with this vtable, a link-time address.
pub(super) fn name(facts: &[TokioFacts], vtable: u64) -> Option<TaskName> {
    let of_type = |facts: &TokioFacts| facts.types.iter().find(|task| task.vtable == vtable).cloned();
    facts.iter().find_map(of_type).map(|task| of(&task))
}

fn of(task: &TaskType) -> TaskName {
    let place = task.locations.first();
    // The place of its code is its own. A name that may be another type's is not taken where there is one.
    let name = task.name.as_deref().filter(|_| task.name_is_certain || place.is_none());
    TaskName {
        function: name.and_then(enclosing).map(str::to_owned),
        file: place.map(|place| place.file.clone()),
        line: place.map(|place| place.line),
        task: name.map_or_else(|| without_name(task, place), str::to_owned),
        system: task.worker_loop,
    }
}

/// What a type is called that has no name, after rustc's `{async block@src/main.rs:3:5: 3:15}`.
fn without_name(task: &TaskType, place: Option<&SourceLocation>) -> String {
    let kind = match task.kind {
        Some(TaskKind::Blocking) => "blocking task",
        Some(TaskKind::Async) | None => "task",
    };
    match place {
        Some(SourceLocation { file, line, column }) => format!("{{async block@{file}:{line}:{column}}}"),
        None => format!("{{{kind} {:#x}}}", task.vtable),
    }
}

/// The function that a closure or async block stands in: `my::accept` of `my::accept::{{closure}}::{{closure}}`. `None`:
/// the type is written by hand.
fn enclosing(name: &str) -> Option<&str> {
    let mut inner = name;
    // A large future is boxed before it is spawned (`src/task/spawn.rs`).
    for (open, close) in [("core::pin::Pin<", ">"), ("alloc::boxed::Box<", ">")] {
        inner = inner.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).unwrap_or(inner);
    }
    let mut function = inner;
    while let Some((outer, last)) = function.rsplit_once("::") {
        if !last.starts_with('{') {
            break;
        }
        function = outer;
    }
    (function != inner && !function.is_empty()).then_some(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: Option<&str>, locations: &[(&str, u32, u32)]) -> TaskName {
        of(&typed(name, locations))
    }

    fn typed(name: Option<&str>, locations: &[(&str, u32, u32)]) -> TaskType {
        let place =
            |&(file, line, column): &(&str, u32, u32)| SourceLocation { file: file.to_owned(), line, column };
        TaskType {
            vtable: 0x0142_7508,
            functions: Vec::new(),
            trailer_offset: None,
            scheduler_offset: None,
            id_offset: None,
            spawn_location_offset: None,
            kind: Some(TaskKind::Async),
            makers: Vec::new(),
            name: name.map(str::to_owned),
            scheduler: None,
            locations: locations.iter().map(place).collect(),
            worker_loop: false,
            name_is_certain: true,
        }
    }

    #[test]
    fn a_task_is_called_as_people_wrote_it() {
        let named = task(Some("my::server::accept::{closure#0}::{closure#1}"), &[("src/server.rs", 12, 9)]);
        assert_eq!(named.function.as_deref(), Some("my::server::accept"));
        assert_eq!((named.file.as_deref(), named.line), (Some("src/server.rs"), Some(12)));
        assert_eq!(task(Some("my::Fut<{closure}>"), &[]).function, None, "a type of its own");
        let boxed = task(Some("core::pin::Pin<alloc::boxed::Box<my::big::{{closure}}>>"), &[]);
        assert_eq!(boxed.function.as_deref(), Some("my::big"));
    }

    #[test]
    fn a_name_that_may_be_another_types_is_not_taken_where_a_place_tells_more() {
        let doubtful = |locations: &[(&str, u32, u32)]| {
            let certain = typed(Some("my::accept::{{closure}}"), locations);
            of(&TaskType { name_is_certain: false, ..certain })
        };
        assert_eq!(doubtful(&[("src/main.rs", 3, 5)]).task, "{async block@src/main.rs:3:5}");
        assert_eq!(doubtful(&[("src/main.rs", 3, 5)]).function, None);
        assert_eq!(doubtful(&[]).task, "my::accept::{{closure}}");
    }

    #[test]
    fn without_symbols_the_place_or_the_vtable_tells_types_apart() {
        assert_eq!(task(None, &[("src/main.rs", 3, 5)]).task, "{async block@src/main.rs:3:5}");
        assert_eq!(task(None, &[]).task, "{task 0x1427508}");
    }
}
