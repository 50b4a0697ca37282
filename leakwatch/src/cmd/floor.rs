//! The floor of the overhead bench: empty programs on the very instructions that `watch` would probe.

use super::{
    End,
    startup::{block_on, load},
    watch::say,
};
use crate::{cli::SizeArgs, host::Process, images::Image};

/// Attaches, and holds until interrupted.
pub(super) fn run(pid: u32, verbose: u8) -> anyhow::Result<End> {
    let image = Image::of_process(&Process::open(pid)?)?;
    let found = image.inspection();
    let go = found.go.iter().flat_map(|go| go.end.iter().chain(&go.start));
    let tokio = found
        .tokio
        .iter()
        .flat_map(|tokio| tokio.ends.iter().chain(tokio.starts.iter().map(|start| &start.site)));
    let sites: Vec<_> = go.chain(tokio).collect();
    anyhow::ensure!(!sites.is_empty(), "the process has neither Go's runtime nor tokio");
    let mut kernel = load(super::kernel_options(&SizeArgs::default(), verbose))?;
    let mut watched = kernel.watch(pid)?;
    for site in sites {
        kernel.attach_empty(&mut watched, &image.attach_path(), site.file_offset)?;
    }
    say(&format!("watching pid {pid}"))?;
    block_on(async { Ok(tokio::signal::ctrl_c().await?) })?;
    kernel.forget(&mut watched)?;
    Ok(End::Done)
}
