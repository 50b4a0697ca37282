//! Every tokio task of a process, with its state, as memory shows it.
//!
//! A task between two polls has no stack: what it waits on is inside its future. What is known of it is its type, its
//! state word, its owner, and whether somebody still holds its `JoinHandle`. Must never write to the process, never take
//! a size from it unchecked, and never read a clock.

use leakwatch_common::RuntimeKind;

use crate::{
    collect::{
        CollectError,
        tokio_rt::{KeptTask, TokioRuntime},
    },
    host::{Process, ProcessMemory},
    images::Image,
    observe::{DumpedTask, Marks, Stack, TaskDump},
};

/// All tokio tasks of a process, at about `now_ns`: those of the runtimes, then jobs of `spawn_blocking`.
///
/// # Errors
/// When memory cannot be listed, or the process ends meanwhile.
pub fn tokio_tasks(process: &Process, image: &Image, now_ns: u64) -> Result<Vec<TaskDump>, CollectError> {
    let pid = process.pid();
    let facts = &image.inspection().tokio;
    let memory = ProcessMemory::open(process)?;
    let versions: Vec<String> = facts.iter().filter_map(|facts| Some(facts.version?.to_string())).collect();
    let version = (!versions.is_empty()).then(|| versions.join(", "));
    let runtime = TokioRuntime::new(&[(facts, image.bias())]);
    let mut dumps = [RuntimeKind::Tokio, RuntimeKind::TokioBlocking]
        .map(|kind| TaskDump::new(kind, version.clone(), now_ns));
    let read = runtime.for_each_kept(&memory, |task| {
        let dump = dumps.iter_mut().find(|dump| dump.runtime == task.task.site.runtime);
        if let Some(dump) = dump {
            take_in(dump, &runtime, &task);
        }
    });
    if !process.alive() {
        return Err(crate::host::HostError::Ended { pid }.into());
    }
    read.map_err(|source| CollectError::Memory { pid, source })?;
    let [mut tasks, mut jobs] = dumps;
    let problems = facts.iter().flat_map(|facts| &facts.problems).map(|problem| problem.0.clone());
    tasks.problems.extend(problems);
    for dump in [&mut tasks, &mut jobs] {
        dump.tasks.sort_by_key(|task| (task.id, task.address));
    }
    Ok(if jobs.tasks.is_empty() { vec![tasks] } else { vec![tasks, jobs] })
}

fn take_in(dump: &mut TaskDump, runtime: &TokioRuntime, task: &KeptTask) {
    let mut labels =
        vec![("join_handle".to_owned(), (if task.join_interest { "held" } else { "dropped" }).to_owned())];
    if task.owner != 0 {
        labels.push(("runtime".to_owned(), task.owner.to_string()));
    }
    if task.task.unwakeable {
        labels.push(("waker".to_owned(), "none".to_owned()));
    }
    dump.tasks.push(DumpedTask {
        id: task.task.id,
        address: task.task.address,
        parent: None,
        site: task.task.site,
        state: dump.states.index(task.state),
        marks: Marks::default(),
        waited_ns: None,
        wakes_ns: None,
        stack: if task.runs() { Stack::Running } else { Stack::None },
        labels: Some(dump.labels.index(labels.as_slice())),
        bytes: runtime.task_bytes(task.task.site.entry),
        waits: (0, 0),
    });
}
