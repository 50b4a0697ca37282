//! What leakwatch knows of the tokio in a binary, in words.

use leakwatch_inspect::{
    Elf,
    tokio_rt::{SourceLocation, TaskKind, TaskType, TokioFacts, VtableForm},
};

use super::{BinaryRuntime, Layout, TypeOfTask, Watch, probe};

/// One tokio version.
pub(super) fn runtime(elf: &Elf, facts: &TokioFacts) -> BinaryRuntime {
    let starts = facts.starts.iter().map(|start| &start.site);
    let (problems, missing) = (texts(facts), missing(elf, facts));
    let counted = !facts.starts.is_empty() && !facts.ends.is_empty();
    BinaryRuntime {
        kind: "tokio",
        version: facts.version.map(|version| version.to_string()),
        version_source: facts.version.map(|_| "the file names in its panics"),
        main_package: None,
        flavour: Vec::new(),
        settings: Vec::new(),
        functions: None,
        probes: starts.chain(&facts.ends).map(|site| probe(elf.arch, site)).collect(),
        layout: Some(layout(facts.form)),
        globals: Vec::new(),
        wait_reasons: 0,
        types: facts.types.iter().map(type_of_task).collect(),
        watch: if counted { Watch::Probes } else { Watch::Memory },
        missing,
        problems,
    }
}

fn texts(facts: &TokioFacts) -> Vec<String> {
    facts.problems.iter().map(|problem| problem.0.clone()).collect()
}

fn missing(elf: &Elf, facts: &TokioFacts) -> Vec<String> {
    let all = [
        (facts.version.is_some(), "the version: no file name tells it"),
        (elf.symtab, "symbols: types of tasks have no names but the places of their async blocks"),
    ];
    all.into_iter().filter(|(there, _)| !there).map(|(_, what)| what.to_owned()).collect()
}

fn layout(form: VtableForm) -> Layout {
    let offset = |offset: u64| u32::try_from(offset).ok();
    Layout {
        source: "the form of its task vtables",
        fields: vec![
            ("Header.state", Some(0)),
            ("Header.vtable", offset(form.vtable_offset())),
            ("Header.owner_id", offset(form.owner_offset())),
        ],
        heap: false,
    }
}

fn type_of_task(task: &TaskType) -> TypeOfTask {
    TypeOfTask {
        vtable: task.vtable,
        kind: match task.kind {
            Some(TaskKind::Async) => Some("async"),
            Some(TaskKind::Blocking) => Some("blocking"),
            None => None,
        },
        name: task.name.clone(),
        name_is_certain: task.name_is_certain,
        scheduler: task.scheduler.clone(),
        place: task.locations.first().map(place),
        poll: task.functions.first().copied(),
        id_offset: task.id_offset,
        makers: task.makers.len(),
    }
}

fn place(location: &SourceLocation) -> String {
    format!("{}:{}:{}", location.file, location.line, location.column)
}
