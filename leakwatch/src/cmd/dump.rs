//! `leakwatch dump`: every task of a process, once, without stopping it.

use std::io::Write;

use super::{End, output, progress::Progress, prove, watch::say};
use crate::{
    agent::clock,
    cli::{DumpArgs, DumpFormat},
    collect::{
        dump,
        threads::{self, dump::ThreadDump},
    },
    export,
    host::{self, Process, ProcessMemory, maps},
    images::{Image, Modules},
    report::{
        WallClock,
        dump::{
            Dump, DumpMapping, DumpProcess, RuntimeDump, goroutines, threads as name_threads, tokio_tasks,
        },
    },
    text,
};

/// Takes a dump and writes it.
///
/// # Errors
/// When the process cannot be read, ends meanwhile, or the output cannot be written. Then no file is left.
pub(super) fn run(args: &DumpArgs) -> anyhow::Result<End> {
    if let Some(path) = &args.output {
        output::check(path)?;
    }
    // A proof first: who is proven waits for ever, and so is in the dump.
    let progress = Progress::begin(&format!("dumping pid {}", args.pid));
    let proof = args.prove.then(|| prove::proof(args.pid, &progress)).transpose()?;
    let whose = if args.threads { Whose::Threads } else { Whose::Runtimes };
    let mut dump = take(args.pid, args.system, whose, &progress)?;
    if let Some(proof) = &proof {
        let leaked = dump.mark_leaked(&proof.proven.iter().map(|task| task.id).collect());
        say(&format!(
            "{leaked} goroutines are proven to wait for ever; `leakwatch prove --pid {}` tells why",
            args.pid
        ))?;
        for problem in &proof.problems {
            say(problem)?;
        }
    }
    for runtime in &dump.runtimes {
        if runtime.unreadable > 0 {
            say(&format!(
                "{} of {} tasks did not hold still or could not be read and are left out",
                runtime.unreadable,
                runtime.tasks.len() as u64 + runtime.unreadable,
            ))?;
        }
        for problem in &runtime.problems {
            say(problem)?;
        }
    }
    match &args.output {
        Some(path) => progress.now(&format!("writing {}", path.display())),
        // What is printed may go to the same terminal.
        None => drop(progress),
    }
    output::write_with(args.output.as_deref(), &mut |out: &mut dyn Write| match args.format {
        DumpFormat::Text => text::write_dump(&dump, out),
        DumpFormat::Folded => text::write_folded(&dump, out),
        DumpFormat::Pprof => export::write_profile(&dump, out),
        DumpFormat::Summary => text::write_digest(&dump, out),
        DumpFormat::Json => export::write_dump_json(&dump, out),
    })?;
    Ok(End::Done)
}

/// Whose tasks a dump is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Goroutines alone.
    Go,
    /// Those of all runtimes; threads where there is no runtime that we know.
    Runtimes,
    /// The same, and the threads.
    Threads,
}

/// A dump of a process.
///
/// # Errors
/// When the process cannot be read, or ends meanwhile; when it is no Go program and only goroutines are wanted.
pub(super) fn take(pid: u32, system: bool, whose: Whose, progress: &Progress) -> anyhow::Result<Dump> {
    let process = Process::open(pid)?;
    progress.now(&format!("reading {}", process.exe().path.display()));
    let mut image = Image::of_process(&process)?;
    let clock = WallClock { wall: clock::now(), monotonic_ns: clock::monotonic_ns() };
    let now_ns = clock.monotonic_ns;
    let mut runtimes = Vec::new();
    let mut modules = Modules::of_process(&process)?;
    if image.inspection().go.is_some() || whose == Whose::Go {
        progress.now(&format!("reading the goroutines of pid {pid}"));
        let dump = dump::goroutines(&process, &image, &modules, now_ns, progress.amount())?;
        progress.now(&format!("naming the goroutines of pid {pid}"));
        runtimes.extend(goroutines(dump, &image, &modules));
    }
    if !image.inspection().tokio.is_empty() && whose != Whose::Go {
        progress.now(&format!("reading the tokio tasks of pid {pid}"));
        let dumps = dump::tokio_tasks(&process, &image, now_ns)?;
        runtimes.extend(dumps.into_iter().map(|dump| tokio_tasks(dump, &image)));
    }
    if whose == Whose::Threads || runtimes.is_empty() {
        progress.now(&format!("reading the threads of pid {pid}"));
        let memory = ProcessMemory::open(&process)?;
        let ThreadDump { tasks, routines } =
            threads::dump::dump(&process, &mut image, &mut modules, &memory, now_ns)?;
        runtimes.push(name_threads(tasks, &routines, &mut image, &mut modules));
    }
    if !system {
        runtimes = runtimes.into_iter().map(RuntimeDump::without_system).collect();
    }
    let build_id = image.inspection().elf.build_id();
    let mappings = maps::of_process(&process)?
        .into_iter()
        .filter(|mapping| mapping.execute && mapping.inode != 0)
        .map(|mapping| {
            let path = mapping.path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
            let own = mapping.inode == image.executable().identity().ino;
            DumpMapping {
                start: mapping.start,
                end: mapping.end,
                offset: mapping.offset,
                path,
                build_id: build_id.clone().filter(|_| own),
            }
        })
        .collect();
    Ok(Dump {
        host: host::name(),
        taken: clock.wall,
        process: DumpProcess {
            pid,
            start_ticks: Some(process.id().start_ticks),
            start_time: host::boot_time().ok().and_then(|booted| process.start_time(booted)),
            comm: process.comm().to_owned(),
            exe: Some(process.exe().path.display().to_string()),
            container: process.container().map(str::to_owned),
            rss_bytes: process.usage().ok().map(|usage| usage.rss_bytes),
            mappings,
        },
        runtimes,
    })
}
