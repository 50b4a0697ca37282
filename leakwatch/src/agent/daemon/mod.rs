//! The host agent: finds every process that it can watch, looks at each as rarely as is enough, and publishes one report of
//! them all.
//!
//! One loop drives it. Beside it are the thread that finds processes (`discovery`) and the one that answers requests; both
//! see copies, and neither touches a process. A process is looked at through its memory; one that looks as if it leaked gets
//! probes for a while ([`tiers`]). What cannot be had on a machine is off, and said to be off ([`Feature`]); the rest goes on.
//! It must never hold a process's figures longer than the process lives, and what it costs must never grow with what it has
//! seen.

mod discovery;
mod ends;
pub mod exports;
mod figures;
pub mod files;
pub mod filter;
mod fleet;
pub mod http;
pub mod options;
mod proofs;
mod prover;
mod quiet;
mod reading;
pub mod selector;
pub mod tiers;
mod veil;
mod watched;

use std::{io, pin::pin, sync::Arc, time::Duration};

use leakwatch_common::EventKind;
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tracing::warn;

pub use self::{
    discovery::Reason,
    figures::{ErrorKind, Errors, Feature, Figures, Snapshot, WatchedFigures},
    options::Options,
    reading::Reading,
};
use self::{
    discovery::{Discovery, News},
    ends::Ends,
    fleet::Fleet,
};
use super::{
    clock,
    process::{self, nanoseconds},
};
use crate::{
    export::metrics::ExportFigures,
    host::Root,
    kernel::{EventReader, Kernel},
    observe::Observed,
    report::Report,
};

/// Between two turns: who is due is looked at, budgets are kept, and a snapshot is published.
const TURN: Duration = Duration::from_secs(1);

/// From a turn until a snapshot is published in between, where processes came or went: who is a second old is in the list.
const HALF_TURN: Duration = Duration::from_millis(500);

/// Programs that executed one after the other within this time are told of together from then on, as long as some come in each such
/// time: each by itself would wake the agent up, and find it cold.
const GATHER: Duration = Duration::from_millis(50);

/// Records taken from the ring before anything else gets its turn.
const DRAIN: usize = 65_536;

/// What the agent starts with.
#[derive(Debug)]
pub struct Parts {
    /// The kernel side; `None`: it could not be loaded, and processes are looked at by memory alone.
    pub kernel: Option<Kernel>,
    /// Price of a probe hit, ns; `None`: not known, and no probes are placed.
    pub hit_ns: Option<f64>,
    /// What the machine lets us do.
    pub features: Vec<Feature>,
    /// How to run.
    pub options: Options,
    /// What this machine is called.
    pub host: String,
    /// Where the machine's files are.
    pub root: Arc<Root>,
    /// Dumps are taken in turns with proofs.
    pub reading: Reading,
}

/// What the agent tells of its own course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// All processes that were there have been looked at: it is ready.
    Ready,
    /// A turn is over: it lives.
    Turn,
    /// The configuration is read again.
    Reloading,
    /// It is in force, and nothing is answered by the old one any more; or it is wrong, and the old one stays.
    Reloaded {
        /// It is in force.
        taken: bool,
    },
    /// It stops.
    Stopping,
}

/// What the agent asks of whoever started it.
pub trait Owner {
    /// The configuration as it is now.
    ///
    /// # Errors
    /// What is wrong with it; the agent goes on with what it has.
    fn reload(&mut self) -> anyhow::Result<Options>;

    /// It has come to this stage.
    fn stage(&mut self, stage: Stage);

    /// Every `[sampling] interval`, before a report is published: what is to be said in it besides.
    fn round(&mut self, report: &mut Report);

    /// And after it was published.
    fn published(&mut self, snapshot: &Arc<Snapshot>);

    /// What became of what was sent to others.
    fn exports(&self) -> Vec<ExportFigures>;
}

/// Runs until a signal ends it.
///
/// # Errors
/// When signals cannot be caught, no thread can be had, or the ring of the kernel side cannot be read.
pub async fn run(
    parts: Parts,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    owner: &mut dyn Owner,
) -> anyhow::Result<()> {
    let Parts { mut kernel, hit_ns, features, options, host, root, reading } = parts;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (news_sender, mut news) = mpsc::unbounded_channel();
    let ends = Ends::new()?;
    let mut events = None;
    if let Some(kernel) = kernel.as_mut() {
        events = Some(process::readable(kernel.take_events()?)?);
        // From here on no exec is missed: the look through all processes comes after.
        kernel.announce_execs(false)?;
    }
    let discovery = Discovery::start(options.discover.clone(), Arc::clone(&root), news_sender)?;
    let mut fleet = Fleet::new(Parts { kernel, hit_ns, features, options, host, root, reading }, ends);
    let mut turns = pin!(tokio::time::interval(TURN));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut between = pin!(tokio::time::sleep(HALF_TURN));
    let mut gathered = pin!(tokio::time::sleep(GATHER));
    let mut gathers = false;
    let mut executed_ns = 0;
    let mut scanned = false;
    let mut ready = false;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => {
                owner.stage(Stage::Reloading);
                let taken = reload(&mut fleet, owner, &discovery);
                if taken && scanned {
                    publish(&mut fleet, owner, &snapshots, true);
                }
                owner.stage(Stage::Reloaded { taken });
            }
            ready = readable(&mut events) => {
                ready?;
                let executed = drain(&mut events, &mut fleet, &discovery, &news).await;
                let now_ns = clock::monotonic_ns();
                if executed && !gathers {
                    let since_ns = now_ns.saturating_sub(std::mem::replace(&mut executed_ns, now_ns));
                    gathers = since_ns < nanoseconds(GATHER) && fleet.gather_execs(true);
                    gathered.set(tokio::time::sleep(GATHER));
                }
            }
            () = &mut gathered, if gathers => {
                gathers = drain(&mut events, &mut fleet, &discovery, &news).await;
                if gathers {
                    gathered.set(tokio::time::sleep(GATHER));
                } else {
                    fleet.gather_execs(false);
                    // Who came before that woke nobody.
                    drain(&mut events, &mut fleet, &discovery, &news).await;
                }
            }
            Some(news) = news.recv() => match news {
                News::Found(found) => fleet.attach(*found).await,
                News::Unwanted(pid) => fleet.unwanted(pid),
                News::Scanned { left_out, binaries } => {
                    fleet.scanned(left_out, binaries);
                    scanned = true;
                }
            },
            () = &mut between => {
                // What happened before an end is counted before it.
                drain(&mut events, &mut fleet, &discovery, &news).await;
                fleet.forget_ended();
                if scanned && (fleet.came_or_went() || fleet.has_new()) {
                    fleet.look_at_new();
                    publish(&mut fleet, owner, &snapshots, false);
                }
                // The next turn, which sets it again, comes first.
                between.set(tokio::time::sleep(until_next(&fleet, TURN)));
            }
            _ = turns.tick() => {
                drain(&mut events, &mut fleet, &discovery, &news).await;
                fleet.forget_ended();
                if fleet.lost_execs() {
                    discovery.scan();
                }
                fleet.turn().await;
                discovery.again(fleet.with_room());
                if scanned {
                    let round = fleet.round_is_due();
                    publish(&mut fleet, owner, &snapshots, round);
                    if !ready && !fleet.has_new() {
                        owner.stage(Stage::Ready);
                        ready = true;
                    }
                }
                owner.stage(Stage::Turn);
                between.set(tokio::time::sleep(until_next(&fleet, HALF_TURN)));
            }
        }
    }
    owner.stage(Stage::Stopping);
    drop(discovery);
    fleet.close();
    Ok(())
}

/// Takes the configuration over as it is now, if it is right; whether it is.
fn reload(fleet: &mut Fleet, owner: &mut dyn Owner, discovery: &Discovery) -> bool {
    match owner.reload() {
        Ok(options) => {
            discovery.want(options.discover.clone());
            fleet.reload(options);
            true
        }
        Err(error) => {
            fleet.note(ErrorKind::Reload);
            warn!("the configuration is wrong, the agent goes on with the one it has: {error:#}");
            false
        }
    }
}

/// How long after a snapshot the next one may be published in between: at once, where some were left out of that one, else `wait`.
fn until_next(fleet: &Fleet, wait: Duration) -> Duration {
    if fleet.has_new() { Duration::ZERO } else { wait }
}

/// Publishes what there is to be said now; in a `round` its owner adds to it, and is told of it.
fn publish(
    fleet: &mut Fleet,
    owner: &mut dyn Owner,
    snapshots: &watch::Sender<Option<Arc<Snapshot>>>,
    round: bool,
) {
    let (mut report, mut figures) = fleet.report();
    figures.exports = owner.exports();
    if round {
        owner.round(&mut report);
        fleet.keep_alerting(&report);
    }
    let snapshot = Arc::new(Snapshot { report: Arc::new(report), figures });
    snapshots.send_replace(Some(Arc::clone(&snapshot)));
    if round {
        owner.published(&snapshot);
    }
}

/// Returns when there may be something in the ring; never, where there is no kernel side.
async fn readable(events: &mut Option<AsyncFd<EventReader>>) -> io::Result<()> {
    match events {
        Some(events) => {
            events.readable_mut().await?.clear_ready();
            Ok(())
        }
        None => std::future::pending().await,
    }
}

/// Takes what waits in the ring; whether some process executed a program.
async fn drain(
    events: &mut Option<AsyncFd<EventReader>>,
    fleet: &mut Fleet,
    discovery: &Discovery,
    news: &mpsc::UnboundedReceiver<News>,
) -> bool {
    let Some(events) = events else { return false };
    let mut stacks = Vec::new();
    let mut executed = Vec::new();
    events.get_mut().drain(DRAIN, |observed| match observed {
        Observed::HostExec(pid) => executed.push(pid),
        Observed::Event(event) if event.kind == EventKind::Exec => fleet.executed(event.process),
        Observed::Event(event) => fleet.take_event(&event),
        Observed::Stack(stack) => stacks.push(stack),
        Observed::Malformed => {}
    });
    for stack in stacks {
        fleet.take_stack(&stack);
    }
    executed.sort_unstable();
    executed.dedup();
    let some = !executed.is_empty();
    for found in discovery.executed(executed, news) {
        fleet.attach(found).await;
    }
    some
}
