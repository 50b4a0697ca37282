//! What a type of task is called: the future's type and its scheduler's, from symbols.
//!
//! With v0 mangling `raw::poll::<T, S>` says it. With legacy mangling type arguments are dropped from names of functions,
//! but not from drop glue: `drop_in_place<Cell<T, S>>`, which `dealloc` calls, and those of its parts. The compiler merges
//! equal functions, so that a type may call drop glue with another type's name: a name is certain only when `poll` calls the
//! future's own code, or when no type with other code has the same one (`types`).
//!
//! Must never make a name up: without symbols there is none.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use super::code::Code;
use super::vtables::Found;

/// Longest symbol that is demangled.
const LONGEST: usize = 16 << 10;
/// Most functions of one type that are looked at for calls.
const MAX_LOOKED_AT: usize = 24;

/// A type's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// The future's type (the closure's, for `spawn_blocking`).
    pub(super) task: Option<String>,
    /// The scheduler's type.
    pub(super) scheduler: Option<String>,
    /// It is not from code that the compiler may have merged with another type's.
    pub(super) certain: bool,
}

/// Names of all vtables, in their order.
pub(super) fn find(code: &Code<'_>, vtables: &[Found]) -> Vec<Names> {
    let reached: Vec<Reached> = vtables.iter().map(|table| reach(code, table, 1)).collect();
    let wanted: BTreeSet<u64> =
        reached.iter().flat_map(|reached| reached.poll.iter().chain(&reached.drop)).copied().collect();
    let symbols = symbols_at(code, &wanted);
    let mut names: Vec<Names> = reached.iter().map(|reached| name(reached, &symbols)).collect();
    if names.iter().any(|names| names.task.is_none()) && code.elf.symtab {
        // Where nothing is inlined the drop glue is some calls further down.
        let deeper: Vec<Reached> = vtables.iter().map(|table| reach(code, table, 4)).collect();
        let wanted = deeper.iter().flat_map(|reached| &reached.drop).copied().collect();
        let symbols = symbols_at(code, &wanted);
        for (names, reached) in names.iter_mut().zip(&deeper).filter(|(names, _)| names.task.is_none()) {
            *names = name(reached, &symbols);
        }
    }
    names
}

/// Symbols that begin at these addresses, demangled.
pub(super) fn symbols_at(code: &Code<'_>, addresses: &BTreeSet<u64>) -> BTreeMap<u64, Vec<String>> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    code.elf.for_each_symbol(code.image, |symbol, name| {
        if addresses.contains(&symbol.address)
            && name.len() <= LONGEST
            && let Ok(name) = std::str::from_utf8(name)
            && let Ok(name) = rustc_demangle::try_demangle(name)
        {
            found.entry(symbol.address).or_default().push(format!("{name:#}"));
        }
    });
    found
}

/// Functions that a type's own functions are or call.
struct Reached {
    /// `poll` and what it calls, two calls deep.
    poll: Vec<u64>,
    /// `dealloc` and its like, and what they call.
    drop: Vec<u64>,
}

fn reach(code: &Code<'_>, table: &Found, depth: u8) -> Reached {
    let poll = table.functions.first().copied();
    let rest = table.functions.get(1..).unwrap_or_default();
    Reached { poll: calls(code, poll.as_slice(), 2), drop: calls(code, rest, depth) }
}

/// These functions and what they call, that many calls deep, nearest first.
pub(super) fn calls(code: &Code<'_>, from: &[u64], depth: u8) -> Vec<u64> {
    let mut all = from.to_vec();
    let mut edge = from.to_vec();
    for _ in 0..depth {
        let mut next = Vec::new();
        for function in edge.iter().take(MAX_LOOKED_AT).filter_map(|address| code.function_at(*address)) {
            for instruction in code.decode(&function).unwrap_or_default() {
                let target = code.target(&instruction).filter(|target| !function.contains(target));
                if let Some(target) = target.filter(|target| code.is_function(*target))
                    && !all.contains(&target)
                {
                    all.push(target);
                    next.push(target);
                }
            }
        }
        edge = next;
    }
    all
}

/// What the symbols say.
fn name(reached: &Reached, symbols: &BTreeMap<u64, Vec<String>>) -> Names {
    let texts = |addresses: &[u64]| -> Vec<String> {
        addresses.iter().filter_map(|address| symbols.get(address)).flatten().cloned().collect()
    };
    let (poll, drop) = (texts(&reached.poll), texts(&reached.drop));
    let own = poll.iter().chain(&drop);
    if let Some([task, scheduler]) = own.clone().find_map(|name| typed_function(name)) {
        return Names { task: Some(task), scheduler: Some(scheduler), certain: true };
    }
    let glue: Vec<Glue> = drop.iter().chain(&poll).filter_map(|name| glue(name)).collect();
    let scheduler = glue.iter().find_map(|glue| glue.scheduler.clone());
    // The future's own code is called like its type.
    let called = glue.iter().find(|glue| poll.contains(&glue.task));
    let task = called.or(glue.iter().find(|glue| glue.scheduler.is_some())).or(glue.first());
    Names { task: task.map(|glue| glue.task.clone()), scheduler, certain: called.is_some() }
}

/// What a piece of drop glue names.
struct Glue {
    task: String,
    scheduler: Option<String>,
}

fn glue(name: &str) -> Option<Glue> {
    let inner = generic(name, "core::ptr::drop_in_place")?;
    let inner = generic(inner, "alloc::boxed::Box").unwrap_or(inner);
    if let Some(arguments) = generic(inner, "tokio::runtime::task::core::Cell") {
        let [task, scheduler, ..] = arguments_of(arguments)[..] else { return None };
        return Some(Glue { task: task.to_owned(), scheduler: Some(scheduler.to_owned()) });
    }
    let part = ["Stage", "CoreStage"]
        .iter()
        .find_map(|part| generic(inner, &format!("tokio::runtime::task::core::{part}")))?;
    Some(Glue { task: (*arguments_of(part).first()?).to_owned(), scheduler: None })
}

/// `raw::poll::<T, S>`, and the others of the vtable, as v0 mangling names them.
fn typed_function(name: &str) -> Option<[String; 2]> {
    let rest = name.strip_prefix("tokio::runtime::task::raw::")?;
    let (_, arguments) = rest.split_once("::<")?;
    let [task, scheduler] = arguments_of(arguments.strip_suffix('>')?)[..] else { return None };
    Some([task.to_owned(), scheduler.to_owned()])
}

/// The arguments of `path<...>` or `path::<...>`.
fn generic<'a>(name: &'a str, path: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(path)?;
    rest.strip_prefix("::").unwrap_or(rest).strip_prefix('<')?.strip_suffix('>')
}

/// Splits at the commas of the outermost level.
fn arguments_of(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0_usize, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '<' | '(' | '[' | '{' => depth = depth.saturating_add(1),
            '>' if !text.get(..at).is_some_and(|before| before.ends_with('-')) => {
                depth = depth.saturating_sub(1);
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.extend(text.get(start..at).map(str::trim));
                start = at.saturating_add(1);
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..).map(str::trim));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_at_the_outermost_level() {
        assert_eq!(arguments_of("a<b,c>, fn(x, y) -> z<q>,d"), ["a<b,c>", "fn(x, y) -> z<q>", "d"]);
    }

    #[test]
    fn both_manglings_tell_the_type() {
        let legacy = "core::ptr::drop_in_place<tokio::runtime::task::core::Cell<prog::storm::{{closure}}::{{closure}},\
                      alloc::sync::Arc<tokio::runtime::scheduler::multi_thread::handle::Handle>>>";
        let glue = glue(legacy).expect("drop glue of a cell");
        assert_eq!(glue.task, "prog::storm::{{closure}}::{{closure}}");
        assert_eq!(
            glue.scheduler.as_deref(),
            Some("alloc::sync::Arc<tokio::runtime::scheduler::multi_thread::handle::Handle>")
        );
        let v0 = "tokio::runtime::task::raw::poll::<prog::storm::{closure#0}::{closure#0}, alloc::sync::Arc<tokio::task::local::Shared>>";
        assert_eq!(
            typed_function(v0),
            Some([
                "prog::storm::{closure#0}::{closure#0}".into(),
                "alloc::sync::Arc<tokio::task::local::Shared>".into()
            ])
        );
    }
}
