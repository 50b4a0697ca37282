//! The floor of the overhead bench: empty programs on the very instructions that `watch` would probe.

use anyhow::Context as _;

use super::{
    End,
    startup::{block_on, load},
    watch::say,
};
use crate::{cli::SizeArgs, host::Process, images::Image};

/// Attaches, and holds until interrupted.
pub(super) fn run(pid: u32, verbose: u8) -> anyhow::Result<End> {
    let image = Image::of_process(&Process::open(pid)?)?;
    let go = image.inspection().go.as_ref().context("the process is not a Go program")?;
    let mut kernel = load(super::kernel_options(&SizeArgs::default(), verbose))?;
    let mut watched = kernel.watch(pid)?;
    for site in go.end.iter().chain(&go.start) {
        kernel.attach_empty(&mut watched, &image.attach_path(), site.file_offset)?;
    }
    say(&format!("watching pid {pid}"))?;
    block_on(async { Ok(tokio::signal::ctrl_c().await?) })?;
    kernel.forget(&mut watched)?;
    Ok(End::Done)
}
