//! The floor of the overhead bench: empty programs on the very instructions that `watch` would probe.

use std::{path::PathBuf, sync::Arc};

use super::{
    End,
    inspect::plans_of,
    startup::{self, block_on, load},
    watch::say,
};
use crate::{
    cli::{RuntimeArgs, SizeArgs},
    collect::custom::Named,
    host::Process,
    images::Image,
};

/// Puts them where `watch` would put its own.
pub(super) fn run(pid: u32, runtime: &RuntimeArgs, verbose: u8) -> anyhow::Result<End> {
    let process = Process::open(pid)?;
    let image = Image::of_process(&process)?;
    let named = startup::named(runtime)?;
    if !named.is_empty() {
        return named_floor(&process, &image, &named, verbose);
    }
    let found = image.inspection();
    let go = found.go.iter().flat_map(|go| go.end.iter().chain(&go.start));
    let tokio = found
        .tokio
        .iter()
        .flat_map(|tokio| tokio.ends.iter().chain(tokio.starts.iter().map(|start| &start.site)));
    let sites: Vec<_> = go.chain(tokio).collect();
    anyhow::ensure!(!sites.is_empty(), "the process has neither Go's runtime nor tokio");
    let path = image.attach_path();
    hold(pid, sites.iter().map(|site| (path.clone(), site.file_offset)), verbose)
}

/// The same for runtimes that were named.
fn named_floor(process: &Process, image: &Image, named: &[Arc<Named>], verbose: u8) -> anyhow::Result<End> {
    let plans = plans_of(process, image, named)?;
    let probes = || plans.iter().flat_map(|plan| &plan.probes);
    anyhow::ensure!(
        probes().all(|probe| !probe.at_return),
        "an empty program at a return is no floor of what stands at instructions"
    );
    let places = probes().map(|probe| (probe.file.attach_path.clone(), probe.offset));
    hold(process.pid(), places, verbose)
}

/// Attaches, and holds until interrupted.
fn hold(pid: u32, places: impl Iterator<Item = (PathBuf, u64)>, verbose: u8) -> anyhow::Result<End> {
    let mut kernel = load(super::kernel_options(&SizeArgs::default(), verbose))?;
    let mut watched = kernel.watch(pid, 0)?;
    for (path, offset) in places {
        kernel.attach_empty(&mut watched, &path, offset)?;
    }
    say(&format!("watching pid {pid}"))?;
    block_on(async { Ok(tokio::signal::ctrl_c().await?) })?;
    kernel.forget(&mut watched)?;
    Ok(End::Done)
}
