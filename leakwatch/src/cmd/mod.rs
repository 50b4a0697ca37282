//! The commands, one file each: what was typed, put into practice.
//!
//! Nothing here knows how anything works; it chooses, opens and prints.

use crate::{
    cli::{Cli, Command, SizeArgs, WatchArgs},
    kernel,
};

mod agent;
mod alarms;
mod demo;
mod diff;
pub mod doctor;
mod dump;
mod events;
mod fleet;
mod floor;
pub mod inspect;
mod log;
mod output;
mod profiles;
mod progress;
mod prove;
mod record;
mod report;
mod run;
mod startup;
mod terminal;
mod top;
mod watch;

pub use startup::Usage;

/// How a command that did not fail ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Done.
    Done,
    /// A leak was found, and the user asked to be told by the exit code.
    Leak,
    /// A rule fired, and the user asked to be told by the exit code.
    Alert,
    /// The program that was run has this exit code.
    Code(u8),
    /// `doctor` found something that keeps leakwatch from working.
    Unfit,
}

/// Runs what was typed.
///
/// # Errors
/// What failed, on what, and what to do, in one sentence; causes below it.
pub fn run(cli: Cli) -> anyhow::Result<End> {
    log::start(cli.verbose)?;
    match cli.command {
        None => watch_command(&cli.watch, cli.verbose),
        Some(Command::Watch(args)) => watch_command(&args, cli.verbose),
        Some(Command::Top(args)) => top::run(&args, cli.verbose),
        Some(Command::Events(args)) => events::run(&args, cli.verbose),
        Some(Command::Run(args)) => run::run(&args, cli.verbose),
        Some(Command::Dump(args)) => dump::run(&args),
        Some(Command::Diff(args)) => diff::run(&args),
        Some(Command::Prove(args)) => prove::run(&args),
        Some(Command::Record(args)) => record::record(&args, cli.verbose),
        Some(Command::Replay(args)) => record::replay(&args),
        Some(Command::Report(args)) => report::run(&args),
        Some(Command::Inspect(args)) => {
            inspect::run(&args, &mut std::io::stdout().lock()).map(|()| End::Done)
        }
        Some(Command::Doctor(args)) => doctor::run(&args, &mut std::io::stdout().lock()),
        Some(Command::Demo(args)) => demo::run(&args, cli.verbose),
        Some(Command::Agent(args)) => agent::run(&args, cli.verbose).map(|()| End::Done),
        Some(Command::Fleet(args)) => fleet::run(&args),
        Some(Command::Floor { pid, runtime }) => floor::run(pid, &runtime, cli.verbose),
        Some(Command::DemoTarget { seconds, scenario }) => demo::target(seconds, scenario),
        Some(Command::Rules(args)) => alarms::run(&args),
        Some(Command::Profiles { name }) => profiles::run(name.as_deref()),
        Some(Command::Completions { shell }) => output::completions(shell),
        Some(Command::Man) => output::man(),
    }
}

fn watch_command(args: &WatchArgs, verbose: u8) -> anyhow::Result<End> {
    if let Some(word) = &args.alerts.fail_on_alert {
        alarms::level(word)?;
    }
    let (outcome, worst) = watch::run(args, verbose)?;
    if args.fail_on_leak && outcome.leaks > 0 {
        return Ok(End::Leak);
    }
    alarms::end(&args.alerts, worst)
}

/// Sizes of the kernel's tables, as asked for.
fn kernel_options(sizes: &SizeArgs, verbose: u8) -> kernel::Options {
    let default = kernel::Options::default();
    kernel::Options {
        live_tasks: sizes.max_tasks.unwrap_or(default.live_tasks),
        sites: sizes.max_sites.unwrap_or(default.sites),
        // Row 0 of the counters is nobody's.
        processes: sizes.max_processes.map_or(default.processes, |most| most.saturating_add(1)),
        ring_bytes: sizes.ring_size.unwrap_or(default.ring_bytes),
        log_level: if verbose >= 2 { DEBUG } else { 0 },
    }
}

/// `Level::Debug` of aya-log-common.
const DEBUG: u8 = 4;
