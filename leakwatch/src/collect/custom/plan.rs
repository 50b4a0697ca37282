//! From named functions to probes: which instruction, and why it may be probed.

use std::{path::Path, sync::Arc};

use leakwatch_common::{Action, ProbeDescriptor, RuntimeKind};
use leakwatch_inspect::{
    Arch, Inspection,
    function::{Function, Point},
};

use super::{
    Base, FactAt, Means, Named, NamedFunction,
    descriptor::{descriptor, note_for, registers},
    search::{Search, Searched},
};
use crate::{
    collect::runtime::{Place, Probe, ProbedFile, Runtime},
    host::Memory,
    images::{self, Modules},
};

/// Plans the probes of all named runtimes in a process, in their order.
///
/// # Errors
/// One sentence: which function is not there and what was searched, why a probe cannot be placed, or that there are too
/// many.
pub fn plan_all(
    named: &[Arc<Named>],
    modules: &Modules,
    inspection: &Inspection,
    exe: &Path,
    memory: &impl Memory,
) -> Result<Vec<Runtime>, String> {
    let most = RuntimeKind::CUSTOM.len();
    if named.len() > most {
        return Err(format!("only {most} named runtimes can be watched at once"));
    }
    let each = named.iter().zip(RuntimeKind::CUSTOM);
    each.map(|(named, kind)| plan(named, kind, modules, inspection, exe, memory)).collect()
}

/// Plans the probes of a named runtime in a process; `kind`: which of those that were named it is.
///
/// # Errors
/// One sentence: which function is not there and what was searched, or why a probe cannot be placed.
fn plan(
    named: &Named,
    kind: RuntimeKind,
    modules: &Modules,
    inspection: &Inspection,
    exe: &Path,
    memory: &impl Memory,
) -> Result<Runtime, String> {
    let search = Search::of(modules, named);
    if let Some(missing) = named.requires.iter().find(|requirement| !search.meets(requirement)) {
        return Err(format!("{}: {} ({} is not there)", missing.origin, missing.why, missing.written));
    }
    let version = named.version.as_ref().and_then(|rule| search.version(rule));
    let mut problems: Vec<String> = search.unreadable.clone();
    let mut planner = Planner {
        go: inspection.go.is_some(),
        exe,
        memory,
        starts: Vec::new(),
        ends: Vec::new(),
        places: Vec::new(),
    };
    for function in &named.functions {
        if !belongs(function, version.as_deref())? {
            continue;
        }
        let found = search.find(function, &mut problems)?;
        // What a note would have said is unknown where nothing is there to say it.
        let unknown = |at: FactAt| if at == FactAt::Noted && !planner.notes() { FactAt::Nowhere } else { at };
        let function = &NamedFunction {
            site: unknown(function.site),
            entry: unknown(function.entry),
            ..function.clone()
        };
        for found in found {
            planner.add(function, found.number, found.file, &found.function)?;
        }
    }
    let Planner { starts, ends, places, .. } = planner;
    let started = starts.iter().any(|planned: &Planned| planned.descriptor.action == Action::Start as u8);
    if !started || ends.is_empty() {
        let what = if started { "end" } else { "start" };
        return Err(format!("{}: no function that {what}s a task is in this process", named.name));
    }
    // Ends first: while only a start is placed, nothing could be taken out of the live table again.
    let files: Vec<Arc<ProbedFile>> =
        search.files.into_iter().map(|found| ProbedFile::of_mapped(found.file.into_file())).collect();
    let probes = ends
        .into_iter()
        .chain(starts)
        .filter_map(|planned: Planned| {
            let file = Arc::clone(files.get(planned.file)?);
            Some(Probe {
                file,
                offset: planned.offset,
                descriptor: ProbeDescriptor { runtime: kind as u16, ..planned.descriptor },
                at_return: planned.at_return,
            })
        })
        .collect();
    Ok(Runtime { kind, name: Some(named.name.clone()), version, probes, tasks: None, problems, places })
}

/// Whether a function belongs to this version of the runtime.
fn belongs(function: &NamedFunction, version: Option<&str>) -> Result<bool, String> {
    let Some(versions) = &function.versions else { return Ok(true) };
    version.and_then(|version| versions.hold_for(version)).ok_or_else(|| {
        format!(
            "{}: {} is for versions {}, and the version of what runs is not known; leave `versions` out to take it \
             whatever the version",
            function.origin, function.written, versions.written
        )
    })
}

/// A probe that is not yet bound to an open file.
struct Planned {
    file: usize,
    offset: u64,
    descriptor: ProbeDescriptor,
    at_return: bool,
}

/// Turns functions into probes.
struct Planner<'a, M> {
    go: bool,
    exe: &'a Path,
    memory: &'a M,
    starts: Vec<Planned>,
    ends: Vec<Planned>,
    places: Vec<Place>,
}

impl<M: Memory> Planner<'_, M> {
    /// A function that notes something has been placed.
    fn notes(&self) -> bool {
        self.places.iter().any(|place| place.means == Means::Note.word())
    }

    fn add(
        &mut self,
        function: &NamedFunction,
        file: usize,
        searched: &Searched<'_>,
        target: &Function,
    ) -> Result<(), String> {
        let path = searched.module.path();
        let refuse =
            |why: String| format!("{}: {} in {}: {why}", function.origin, target.name, path.display());
        if self.go && path == self.exe && target.name.contains('.') && !target.name.contains("::") {
            return Err(refuse(
                "Go functions cannot be named, as their first instructions run again whenever the stack grows; \
                 goroutines are watched without being named"
                    .to_owned(),
            ));
        }
        let at_return = match function.task.base {
            Base::Argument(_) => {
                let point = searched.file.entry_of(target, &registers(function)).map_err(&refuse)?;
                let descriptor = descriptor(function, Some(&point)).map_err(&refuse)?;
                return self
                    .place(function, file, searched, target, &point, descriptor, false)
                    .map_err(refuse);
            }
            Base::Return | Base::ArgumentAtReturn(_) => {
                self.exits(function, searched, target).map_err(&refuse)?
            }
        };
        if let Some(note) = note_for(function) {
            let point = searched.file.entry_of(target, &registers(&note)).map_err(&refuse)?;
            let descriptor = descriptor(&note, Some(&point)).map_err(&refuse)?;
            self.place(&note, file, searched, target, &point, descriptor, false).map_err(&refuse)?;
        }
        let (points, hooked) = at_return;
        for point in &points {
            let descriptor = descriptor(function, (!hooked).then_some(point)).map_err(&refuse)?;
            self.place(function, file, searched, target, point, descriptor, hooked).map_err(&refuse)?;
        }
        Ok(())
    }

    /// Where a function's result is seen: its own return instructions, or, where these cannot be enumerated, its first
    /// byte for a return probe.
    fn exits(
        &self,
        function: &NamedFunction,
        searched: &Searched<'_>,
        target: &Function,
    ) -> Result<(Vec<Point>, bool), String> {
        if self.go {
            return Err("a function's result cannot be taken in a process with a Go runtime, whose stacks move; name a \
                 function that has the task as an argument, with task=argN"
                .to_owned());
        }
        let why = match searched.file.exits_of(target) {
            Ok(points) if !function.return_probe => return Ok((points, false)),
            Ok(_) => "return_probe asks for it".to_owned(),
            Err(why) => format!("its exits cannot be enumerated ({why})"),
        };
        if let Some(unsafe_because) = searched.file.no_return_probe(target) {
            return Err(format!(
                "its result cannot be taken: {why}, and a return probe is not safe ({unsafe_because}); name a function that has the task as an argument"
            ));
        }
        let mut point = searched.file.entry_of(target, &(0..16).collect::<Vec<u8>>())?;
        let first = target.address;
        point.reason = format!("a return probe at the first instruction {first:#x}, because {why}");
        Ok((vec![point], true))
    }

    #[expect(clippy::too_many_arguments, reason = "one row of the plan")]
    fn place(
        &mut self,
        function: &NamedFunction,
        file: usize,
        searched: &Searched<'_>,
        target: &Function,
        point: &Point,
        descriptor: ProbeDescriptor,
        at_return: bool,
    ) -> Result<(), String> {
        let mut mapped = false;
        for address in searched.module.run_time_addresses(point.file_offset) {
            mapped = true;
            let problem = images::check_bytes(Arch::X86_64, &target.name, &point.bytes, address, self.memory);
            if let Some(problem) = problem {
                return Err(problem.0);
            }
        }
        if !mapped {
            return Err("its code is not mapped".to_owned());
        }
        self.places.push(Place {
            means: function.means.word(),
            function: target.name.clone(),
            file: searched.module.path().display().to_string(),
            address: point.address,
            file_offset: point.file_offset,
            instruction: point.text.clone(),
            bytes: point.bytes.clone(),
            task: function.task.to_string(),
            emulated: point.emulated,
            reason: point.reason.clone(),
        });
        let planned = Planned { file, offset: point.file_offset, descriptor, at_return };
        match function.means {
            Means::Start | Means::Note => self.starts.push(planned),
            Means::End => self.ends.push(planned),
        }
        Ok(())
    }
}
