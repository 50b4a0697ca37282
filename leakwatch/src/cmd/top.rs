//! `leakwatch top`: every process of the host, live, on a terminal: Go and tokio programs by their tasks, all others by
//! their threads and children.
//!
//! It is the host agent with a screen instead of a server: the same finder, the same looks through memory.

use std::{sync::Arc, time::Duration};

use leakwatch_common::RuntimeKind;
use tokio::sync::{Notify, watch};

use super::{
    End,
    startup::{Usage, block_on, calibrate, load, no_probes},
    terminal::{self, Terminal},
    watch::say,
};
use crate::{
    agent::daemon::{
        self, Feature, Options, Owner, Parts, Reading, Snapshot, Stage,
        options::{Discover, Http, Promote, Prove, Sampling},
    },
    cli::TopArgs,
    export::metrics::ExportFigures,
    host::{self, Root},
    report::Report,
};

/// Shows them until the user has seen enough.
///
/// # Errors
/// When there is no terminal, or it cannot be taken.
pub(super) fn run(args: &TopArgs, verbose: u8) -> anyhow::Result<End> {
    if !terminal::is_there() {
        let text = "top needs a terminal as standard input and output; `leakwatch agent` serves the same figures to programs";
        return Err(Usage(text.to_owned()).into());
    }
    let options = Options {
        http: Http { listen: None, ..Http::default() },
        discover: Discover {
            runtimes: vec![RuntimeKind::Go, RuntimeKind::Tokio, RuntimeKind::Thread],
            ..Discover::default()
        },
        sampling: Sampling {
            interval: Duration::try_from(args.interval)?,
            stacks: true,
            ..Sampling::default()
        },
        prove: Prove { enabled: false, ..Prove::default() },
        promote: Promote { enabled: args.probes, ..Promote::default() },
        ..Options::default()
    };
    let mut features = Vec::new();
    let mut kernel = match load(super::kernel_options(&args.sizes, verbose)) {
        Ok(kernel) => Some(kernel),
        // Memory tells of tasks without it.
        Err(error) => {
            say(&format!(
                "without the kernel side, so threads are not counted, and Go and tokio programs alone are shown: {error:#}"
            ))?;
            features.push(Feature { name: "kernel", on: false, why: format!("{error:#}") });
            None
        }
    };
    if let Some(error) = kernel.as_ref().filter(|_| args.probes).and_then(no_probes) {
        say(&format!("by memory alone: {error:#}"))?;
    }
    let hit_ns = if args.probes { kernel.as_mut().and_then(calibrate) } else { None };
    let (snapshots, _nobody_asks) = watch::channel(None::<Arc<Snapshot>>);
    let stop = Arc::new(Notify::new());
    let hint = if args.probes { "by memory, probes where it grows" } else { "by memory" };
    let root = Arc::new(Root::of_machine()?);
    let terminal = Terminal::open(terminal::Options {
        look: terminal::look(&args.terminal),
        many: true,
        hint: Some(hint.to_owned()),
        interval: Duration::try_from(args.interval)?,
        stop: Arc::clone(&stop),
    })?;
    let (reading, host) = (Reading::default(), host::name());
    let parts = Parts { kernel, hit_ns, features, options: options.clone(), host, root, reading };
    let mut viewer = Viewer { options, terminal };
    let ended = block_on(async {
        tokio::select! {
            ended = daemon::run(parts, snapshots, &mut viewer) => ended,
            // All that was placed in the kernel is ours alone and goes with it.
            () = stop.notified() => Ok(()),
        }
    });
    let closed = viewer.terminal.close();
    ended?;
    closed?;
    Ok(End::Done)
}

/// Shows what is published. Nobody configures it while it runs.
struct Viewer {
    options: Options,
    terminal: Terminal,
}

impl Owner for Viewer {
    fn reload(&mut self) -> anyhow::Result<Options> {
        Ok(self.options.clone())
    }

    fn stage(&mut self, _stage: Stage) {}

    fn round(&mut self, _report: &mut Report) {}

    fn published(&mut self, snapshot: &Arc<Snapshot>) {
        self.terminal.show(&snapshot.report);
    }

    fn exports(&self) -> Vec<ExportFigures> {
        Vec::new()
    }
}
