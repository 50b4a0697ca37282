//! The difference of two looks as JSON, schema `leakwatch.diff/1`. Fields are only ever added.

use serde_json::{Value, json};

use super::safe;
use crate::report::diff::{Change, Difference, FilePlace, Snapshot};

/// Name of the schema.
pub const SCHEMA: &str = "leakwatch.diff/1";

/// The difference as an indented JSON document that ends with a newline. `names`: what the two files are called.
pub fn diff_to_json(difference: &Difference, looks: [&Snapshot; 2], names: [&str; 2]) -> String {
    let [a, b] = looks;
    let [name_a, name_b] = names;
    let look =
        |name: &str, look: &Snapshot| json!({ "file": name, "form": look.form, "tasks": look.tasks() });
    safe::page(&json!({
        "schema": SCHEMA,
        "a": look(name_a, a),
        "b": look(name_b, b),
        "survivors": difference.survivors.map(|survivors| json!({
            "stayed": survivors.stayed,
            "ended": survivors.ended,
            "started": survivors.started,
        })),
        "by_creation": difference.by_creation,
        "sites": difference.sites.iter().map(change).collect::<Vec<_>>(),
        "stacks": difference.stacks.iter().map(change).collect::<Vec<_>>(),
    }))
}

fn change(change: &Change) -> Value {
    json!({
        "fate": change.fate.name(),
        "before": change.before,
        "after": change.after,
        "survivors": change.survivors,
        "frames": change.frames.iter().map(frame).collect::<Vec<_>>(),
    })
}

fn frame(frame: &FilePlace) -> Value {
    json!({ "function": frame.function, "file": frame.file, "line": frame.line })
}
