//! Types of tasks put together from vtables, the code that makes them, and names; and told apart by tokio version.
//!
//! Must never let a type be watched half: one that is made somewhere unknown, or whose end is nowhere, is a problem that
//! the facts state.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use super::code::Code;
use super::own::Own;
use super::version::TokioVersion;
use super::vtables::Found;
use super::{StartSite, TaskKind, TaskType, TokioFacts, VtableForm, locations, names, starts, vtables};
use crate::{ProbeSite, Problem};

/// How many calls deep an end may be below `shutdown`: `raw::shutdown`, `Harness::shutdown`, `Harness::complete`,
/// `State::transition_to_complete`.
const END_DEPTH: u8 = 4;
/// Most functions that are looked at for the end of one type.
const MAX_LOOKED_AT: usize = 200;
/// Wrapper of `spawn_blocking`'s closures (`src/runtime/blocking/task.rs`).
const BLOCKING_TASK: &str = "tokio::runtime::blocking::task::BlockingTask<";

/// All types of one form, and where they start.
pub(super) struct Made {
    form: VtableForm,
    pub(super) types: Vec<TaskType>,
    starts: Vec<StartSite>,
    problems: Vec<Problem>,
}

/// Puts the types of one form together.
///
/// `located`: the code names its source files, so that a type without a mark of a blocking job is none.
pub(super) fn of_form(code: &Code<'_>, form: VtableForm, found: Vec<Found>, located: bool) -> Option<Made> {
    let starts = starts::find(code, form, &found);
    // Without offsets a table is one only when code makes tasks with it.
    let kept: Vec<(Found, Vec<u64>)> = found
        .into_iter()
        .zip(starts.makers)
        .filter(|(_, makers)| form == VtableForm::Offsets || !makers.is_empty())
        .collect();
    let tables: Vec<Found> = kept.iter().map(|(table, _)| table.clone()).collect();
    let resumed = locations::resumed(code);
    let names = names::find(code, &tables);
    let mut own = Own::new(code);
    let mut types: Vec<TaskType> = kept
        .into_iter()
        .zip(names)
        .map(|((table, makers), names)| {
            let blocking = names.task.as_deref().and_then(|task| task.strip_prefix(BLOCKING_TASK));
            let kind = match (&names.task, blocking) {
                (_, Some(_)) => Some(TaskKind::Blocking),
                (Some(_), None) if names.certain => Some(TaskKind::Async),
                _ if own.is_blocking(form, &table) => Some(TaskKind::Blocking),
                (name, None) => vtables::kind(code, form, &table)
                    .or((name.is_some() || located).then_some(TaskKind::Async)),
            };
            let worker_loop = kind == Some(TaskKind::Blocking) && own.is_worker_loop(&table);
            let name = blocking.and_then(|name| name.strip_suffix('>')).map(str::to_owned).or(names.task);
            let poll = names::calls(code, table.functions.first().copied().as_slice(), 3);
            TaskType {
                vtable: table.address,
                trailer_offset: table.trailer_offset,
                scheduler_offset: table.scheduler_offset,
                id_offset: table.id_offset,
                spawn_location_offset: table.spawn_location_offset,
                functions: table.functions,
                kind,
                makers,
                name,
                scheduler: names.scheduler,
                locations: if kind == Some(TaskKind::Blocking) {
                    Vec::new()
                } else {
                    locations::of_async_blocks(code, &resumed, &poll)
                },
                worker_loop,
                name_is_certain: names.certain,
            }
        })
        .collect();
    let doubtful: Vec<bool> = types.iter().map(|task| is_doubtful(task, &types)).collect();
    for (task, doubtful) in types.iter_mut().zip(doubtful) {
        task.name_is_certain |= task.name.is_some() && !doubtful;
        // Where nothing is inlined the loop is too far down to be reached, but the closure has a name.
        let by_name = task.name_is_certain && task.name.as_deref().is_some_and(is_of_worker);
        task.worker_loop |= by_name && task.kind == Some(TaskKind::Blocking);
    }
    (!types.is_empty()).then_some(Made { form, types, starts: starts.sites, problems: starts.problems })
}

/// Is it a closure of tokio's worker threads?
fn is_of_worker(name: &str) -> bool {
    let of_module = |module: &str| name.contains(&format!("tokio::runtime::{module}::worker::"));
    ["scheduler::multi_thread", "thread_pool"].into_iter().any(of_module)
}

/// Has another type the same name that cannot be the same type: its async block stands elsewhere, or neither says where it
/// stands and both run on the same scheduler? A type has one vtable for each of its schedulers.
fn is_doubtful(task: &TaskType, types: &[TaskType]) -> bool {
    let same_name = types.iter().filter(|other| other.vtable != task.vtable && other.name == task.name);
    let place = |task: &TaskType| task.locations.first().cloned();
    same_name.into_iter().any(|other| match (place(task), place(other)) {
        (None, None) => task.scheduler == other.scheduler,
        (own, others) => own != others,
    })
}

/// Tells the versions apart, by the file names in the assertions of the code that completes tasks.
pub(super) fn by_version(
    code: &Code<'_>,
    versions: &[TokioVersion],
    made: Vec<Made>,
    ends: Vec<ProbeSite>,
    problems: Vec<Problem>,
) -> Vec<TokioFacts> {
    let end_of: BTreeMap<u64, usize> = ends
        .iter()
        .enumerate()
        .filter_map(|(index, site)| Some((code.function_at(site.address)?.start, index)))
        .collect();
    let version_of_end: Vec<Option<TokioVersion>> = ends
        .iter()
        .map(|site| match versions {
            [] => None,
            [only] => Some(*only),
            _ => locations::version(code, &code.function_at(site.address)?),
        })
        .collect();
    // A version has one form: file names of another version tell nothing of these tables.
    let fitting =
        |version: Option<TokioVersion>, form| version.filter(|version| VtableForm::of(*version) == form);
    let mut form_of_end: BTreeMap<usize, VtableForm> = BTreeMap::new();
    let mut all: BTreeMap<(Option<TokioVersion>, VtableForm), TokioFacts> = BTreeMap::new();
    let mut version_of_vtable: BTreeMap<u64, Option<TokioVersion>> = BTreeMap::new();
    let mut starts = Vec::new();
    for mut one in made {
        let mut without_end = 0_usize;
        for task in one.types {
            let reached = reached_ends(code, &task, &end_of);
            if reached.is_empty() && one.form != VtableForm::Offsets {
                // Without offsets a table is one only when its functions complete tasks, too.
                continue;
            }
            if reached.is_empty() {
                without_end = without_end.saturating_add(1);
            }
            let version = match versions {
                [] => None,
                [only] => Some(*only),
                _ => reached.iter().find_map(|end| version_of_end.get(*end).copied().flatten()),
            };
            let version = fitting(version, one.form);
            form_of_end.extend(reached.iter().map(|end| (*end, one.form)));
            version_of_vtable.insert(task.vtable, version);
            facts(&mut all, version, one.form).types.push(task);
        }
        if without_end > 0 && code.guessed {
            one.problems.push(Problem(format!(
                "of {without_end} types of tasks it could not be checked that their ends are seen, as the file has no \
                 unwind tables"
            )));
        } else if without_end > 0 {
            one.problems.push(Problem(format!(
                "{without_end} types of tasks have no known place where they end: their ends are not counted"
            )));
        }
        if let Some(entry) = all.iter_mut().find(|((_, form), _)| *form == one.form) {
            entry.1.problems.append(&mut one.problems);
        }
        starts.extend(one.starts.into_iter().map(|start| (one.form, start)));
    }
    for (form, mut start) in starts {
        start.vtables.retain(|vtable| version_of_vtable.contains_key(vtable));
        if start.vtables.is_empty() {
            continue;
        }
        let version = start.vtables.iter().find_map(|vtable| version_of_vtable.get(vtable).copied());
        facts(&mut all, version.flatten(), form).starts.push(start);
    }
    let fallback = all.keys().next().copied();
    for (index, (end, version)) in ends.into_iter().zip(version_of_end).enumerate() {
        // An end whose version is not told sees tasks of any: it is placed once, with the first of its form.
        let form = form_of_end.get(&index).copied();
        let fits = |key: &&(Option<TokioVersion>, VtableForm)| form.is_none_or(|form| key.1 == form);
        let exact = all.keys().filter(fits).find(|key| fitting(version, key.1) == key.0);
        let key = exact.or_else(|| all.keys().find(fits)).copied().or(fallback);
        if let Some(entry) = key.and_then(|key| all.get_mut(&key)) {
            entry.ends.push(end);
        }
    }
    if let Some(first) = all.values_mut().next() {
        first.problems.extend(problems);
    }
    let mut all: Vec<TokioFacts> = all.into_values().collect();
    for facts in &mut all {
        facts.problems.extend(unmade(facts));
        facts.problems.extend(of_unknown_kind(facts));
        if facts.ends.is_empty() {
            facts.problems.push(Problem("no place was found where tasks end".to_owned()));
        }
    }
    all
}

fn facts(
    all: &mut BTreeMap<(Option<TokioVersion>, VtableForm), TokioFacts>,
    version: Option<TokioVersion>,
    form: VtableForm,
) -> &mut TokioFacts {
    all.entry((version, form)).or_insert_with(|| TokioFacts {
        version,
        form,
        types: Vec::new(),
        starts: Vec::new(),
        ends: Vec::new(),
        problems: Vec::new(),
    })
}

/// Types that no code makes, as a problem.
fn unmade(facts: &TokioFacts) -> Option<Problem> {
    let count = facts.types.iter().filter(|task| task.makers.is_empty()).count();
    (count > 0).then(|| {
        Problem(format!(
            "{count} types of tasks have no known place where they start: their starts are not counted"
        ))
    })
}

/// Types that may be jobs of `spawn_blocking`, as a problem.
fn of_unknown_kind(facts: &TokioFacts) -> Option<Problem> {
    let count = facts.types.iter().filter(|task| task.kind.is_none()).count();
    (count > 0).then(|| {
        Problem(format!(
            "of {count} types nothing tells whether they are jobs of spawn_blocking: all are counted as tasks"
        ))
    })
}

/// The ends (by index) that a type's `shutdown` reaches.
fn reached_ends(code: &Code<'_>, task: &TaskType, ends: &BTreeMap<u64, usize>) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let from: Vec<u64> = task.functions.last().into_iter().chain(task.functions.first()).copied().collect();
    let mut seen: BTreeSet<u64> = from.iter().copied().collect();
    let mut edge = from;
    for _ in 0..END_DEPTH {
        reached.extend(edge.iter().filter_map(|function| ends.get(function)));
        if !reached.is_empty() || seen.len() > MAX_LOOKED_AT {
            break;
        }
        let mut next = names::calls(code, &edge, 1);
        next.retain(|function| seen.insert(*function));
        edge = next;
    }
    reached
}
