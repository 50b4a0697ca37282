//! `leakwatch prove`: the goroutines that nothing alive can ever wake.

use std::{cell::Cell, io::Write};

use super::{
    End,
    dump::{self, Whose},
    inspect::page,
    output::{self, write_whole},
    progress::Progress,
};
use crate::{
    agent,
    cli::{ProveArgs, ProveFormat},
    collect::prove::{Options, Subject},
    export,
    host::{Process, maps},
    images::Image,
    report::proof::{Explanation, Proof, ProofReport},
    text,
};

/// Proves, and prints.
///
/// # Errors
/// When the process is none that anything can be proven of, it ends meanwhile, or the output cannot be written.
pub(super) fn run(args: &ProveArgs) -> anyhow::Result<End> {
    if let Some(path) = &args.output {
        output::check(path)?;
    }
    let report = prove(args.pid, &args.why)?;
    match args.format {
        ProveFormat::Text => write_whole(args.output.as_deref(), &text::proof(&report, &page()))?,
        ProveFormat::Json => write_whole(args.output.as_deref(), &export::proof_to_json(&report))?,
        ProveFormat::Pprof => output::write_with(args.output.as_deref(), &mut |out: &mut dyn Write| {
            export::write_profile(&report.dump, out)
        })?,
    }
    let leaks = args.fail_on_leak && !report.groups.is_empty();
    Ok(if leaks { End::Leak } else { End::Done })
}

fn open(pid: u32) -> anyhow::Result<(Process, Subject)> {
    let process = Process::open(pid)?;
    let image = Image::of_process(&process)?;
    let subject = Subject::of(&process, &image)?;
    Ok((process, subject))
}

/// A proof of a process, without names.
pub(super) fn proof(pid: u32, progress: &Progress) -> anyhow::Result<Proof> {
    let (_, subject) = open(pid)?;
    let passes = Cell::new(1);
    let each = || progress.now(&format!("proving which goroutines of pid {pid} leak, pass {}", passes.get()));
    each();
    let next = || {
        passes.set(passes.get() + 1);
        each();
        true
    };
    Ok(agent::prove(&subject, Options::default(), &next)?.unwrap_or_default())
}

/// A proof of a process, with names; of these goroutines also why they are proven or are not.
pub(super) fn prove(pid: u32, why: &[u64]) -> anyhow::Result<ProofReport> {
    let progress = Progress::begin(&format!("proving which goroutines of pid {pid} leak"));
    if why.is_empty() {
        let proof = proof(pid, &progress)?;
        return Ok(ProofReport::of(dump::take(pid, true, Whose::Go, &progress)?, proof));
    }
    let (process, subject) = open(pid)?;
    let (proof, whys) = agent::explain(&subject, why, Options::default())?;
    let maps = maps::of_process(&process)?;
    let place = |address: u64| {
        let path = maps.iter().find(|mapping| mapping.contains(address))?.path.as_ref()?;
        Some(path.to_string_lossy().into_owned())
    };
    let mut report = ProofReport::of(dump::take(pid, true, Whose::Go, &progress)?, proof);
    report.whys = whys.iter().map(|why| Explanation::of(why, &place)).collect();
    Ok(report)
}
