//! From selection to a loaded kernel side: what `watch`, `events` and `demo` have in common.

use std::{future::Future, sync::Arc};

use anyhow::Context as _;

use crate::{
    agent::{Target, clock},
    cli::{RuntimeArgs, Selection},
    collect::{
        CollectError,
        custom::{Means, Named},
    },
    config::{self, FunctionFlag},
    host::{self, Process, tracefs},
    kernel::{self, Kernel},
};

/// The processes that were asked for.
///
/// # Errors
/// When nothing was asked for, a pid cannot be opened, or a selection matches nothing.
pub(super) fn targets(selection: &Selection) -> anyhow::Result<Vec<Target>> {
    if selection.is_empty() {
        return Err(Usage(
            "say what to watch: --pid PID, --comm NAME, --exe PATH or --cgroup PATH".to_owned(),
        )
        .into());
    }
    let mut targets = Vec::new();
    for &pid in &selection.pids {
        if targets.iter().all(|target: &Target| target.process.pid() != pid) {
            targets.push(Target { process: Process::open(pid)?, required: true, probes: Vec::new() });
        }
    }
    let selectors = [
        selection.comm.clone().map(host::Selector::Comm),
        selection.exe.clone().map(host::Selector::Exe),
        selection.cgroup.clone().map(host::Selector::Cgroup),
    ];
    for selector in selectors.into_iter().flatten() {
        let found = host::find(&selector)?;
        if found.is_empty() {
            anyhow::bail!("no process matches {selector}; `ps -eo pid,comm,args` lists what runs");
        }
        for process in found {
            if targets.iter().all(|target: &Target| target.process.pid() != process.pid()) {
                targets.push(Target { process, required: false, probes: Vec::new() });
            }
        }
    }
    Ok(targets)
}

/// Their pids, for people: `4242, 4243`.
pub(super) fn pids(targets: &[Target]) -> String {
    let pids: Vec<String> = targets.iter().map(|target| target.process.pid().to_string()).collect();
    pids.join(", ")
}

/// The runtimes that were named on the command line.
///
/// # Errors
/// Where a flag or a profile is wrong, and what is allowed there.
pub(super) fn named(args: &RuntimeArgs) -> anyhow::Result<Vec<Arc<Named>>> {
    let flags = [("--start", Means::Start, &args.start), ("--end", Means::End, &args.end)];
    let flags: Vec<FunctionFlag<'_>> = flags
        .into_iter()
        .flat_map(|(flag, means, texts)| texts.iter().map(move |text| FunctionFlag { flag, means, text }))
        .collect();
    let named = config::named(&args.profile, &flags).map_err(|error| Usage(error.to_string()))?;
    Ok(named.into_iter().map(Arc::new).collect())
}

/// Loads the kernel side and attaches the tracepoints.
pub(super) fn load(options: kernel::Options) -> anyhow::Result<Kernel> {
    if let Some(finding) = host::features::foreign_pids() {
        anyhow::bail!("{finding}");
    }
    // A mount that is needed for a moment is no reason to leave the machine's mount namespace: programs that we start
    // later stay in it as well.
    tracefs::with_tracefs(|tracefs| {
        let mut kernel = Kernel::load(options, tracefs.layout()?).map_err(|error| explain(error.into()))?;
        kernel.attach_tracepoints()?;
        if tracing::enabled!(tracing::Level::DEBUG) {
            for program in kernel.programs() {
                tracing::debug!(?program, "loaded");
            }
        }
        Ok(kernel)
    })?
}

/// That there are no probes on this kernel, if so, and why.
pub(super) fn no_probes(kernel: &Kernel) -> Option<anyhow::Error> {
    kernel.no_probes().map(|error| explain(error.into()))
}

/// The price of a probe hit, where it can be measured.
pub(super) fn calibrate(kernel: &mut Kernel) -> Option<f64> {
    // Who wants one says so.
    if kernel.no_probes().is_some() {
        return None;
    }
    let priced = (|| -> anyhow::Result<f64> {
        let exe = host::Executable::of_process(&Process::open(std::process::id())?)?;
        let offsets = own_offsets(kernel::calibration_points())?;
        Ok(kernel.calibrate(&exe.attach_path(), offsets, clock::monotonic_ns)?)
    })();
    match priced {
        Ok(ns) => {
            tracing::info!("a probe hit costs {ns:.0} ns here");
            Some(ns)
        }
        Err(error) => {
            tracing::warn!(
                "the price of a probe hit could not be measured, so the overhead is unknown: {error:#}"
            );
            None
        }
    }
}

/// Where functions of our own stand in our executable: byte offsets, as probes want them.
pub(super) fn own_offsets<const N: usize>(functions: [u64; N]) -> anyhow::Result<[u64; N]> {
    let maps = host::maps::of_process(&Process::open(std::process::id())?)?;
    let mut offsets = [0; N];
    for (offset, function) in offsets.iter_mut().zip(functions) {
        *offset =
            host::maps::file_offset(&maps, function).context("our own code is not mapped from a file")?;
    }
    Ok(offsets)
}

/// Runs a future on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(future)
        .map_err(explain)
}

/// A refusal by the kernel is mostly a missing capability: say which, before the kernel's own words.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let refused = error.is::<kernel::KernelError>()
        || matches!(error.downcast_ref::<CollectError>(), Some(CollectError::Kernel(_)));
    match host::features::why_not() {
        Some(finding) if refused => error.context(finding),
        _ => error,
    }
}

/// Wrong usage: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);
