//! `leakwatch events`: the ring buffer as JSON lines, one event a line.

use std::{collections::BTreeMap, time::Duration};

use super::{
    End,
    output::{self, Lines},
    progress::Progress,
    startup::{self, block_on, load, targets},
    watch::say,
};
use crate::{
    agent::{self, Update, clock},
    cli::EventsArgs,
    collect::Mode,
    export::{EventEncoder, Trace},
    report::{Report, Span, WallClock},
};

/// Waiting lines are sent this often, and at the end.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// Prints events until the time is up, a signal comes, or all processes ended; then says what was lost.
///
/// # Errors
/// When a process that was asked for cannot be watched, the kernel refuses, or the output cannot be written.
pub(super) fn run(args: &EventsArgs, verbose: u8) -> anyhow::Result<End> {
    let chosen = targets(&args.selection)?;
    let pids = startup::pids(&chosen);
    let mut attaching = Some(Progress::begin(&format!("attaching to pid {pids}")));
    let mut kernel = load(super::kernel_options(&args.sizes, verbose))?;
    let options = agent::Options {
        interval: FLUSH_EVERY,
        duration: args.duration.map(Duration::try_from).transpose()?,
        mode: Mode::Probes,
        stacks: false,
        budget_percent: None,
        stream: true,
        looks: false,
        states: args.trace.is_some(),
        rates: Span::Watch,
        named: startup::named(&args.runtime)?,
        prove: None,
        prove_suspects: None,
        main: None,
        stop: None,
        follow: false,
    };
    if let Some(path) = &args.trace {
        output::check(path)?;
    }
    let mut lines = Lines::open(args.output.as_ref())?;
    let mut trace = args.trace.as_ref().map(|_| Trace::begin(clock::monotonic_ns()));
    let mut numbers = BTreeMap::new();
    let mut encoder = EventEncoder::default();
    let wall = WallClock { wall: clock::now(), monotonic_ns: clock::monotonic_ns() };
    let mut line = Vec::new();
    let (mut delivered, mut malformed) = (0_u64, 0_u64);
    block_on(agent::watch(&mut kernel, chosen, None, &options, &mut |update| match update {
        Update::Attached => {
            attaching = None;
            say(&format!("watching pid {pids}"))
        }
        Update::Event(event, watch) => {
            delivered += 1;
            let pid = watch.info().pid;
            if let Some(trace) = trace.as_mut() {
                numbers.insert(event.process, pid);
                let comm = watch.info().comm.clone();
                trace.add(event, pid, &comm, &mut watch.names());
                return Ok(());
            }
            line.clear();
            encoder.encode(event, pid, &wall, &mut watch.names(), &mut line);
            lines.write(&line)
        }
        Update::State(time_ns, task, state, watch) => {
            if let Some(trace) = trace.as_mut() {
                let (number, pid) = (watch.number(), watch.info().pid);
                numbers.insert(number, pid);
                let comm = watch.info().comm.clone();
                trace.state(time_ns, number, task, state, &comm, pid, &mut watch.names());
            }
            Ok(())
        }
        Update::Malformed => {
            malformed += 1;
            Ok(())
        }
        Update::Interval(_) => lines.flush(),
        Update::Final(report) => {
            lines.flush()?;
            say(&summary(report, delivered, malformed))
        }
        Update::Made(_) | Update::Looked(_) | Update::Reporting { .. } => Ok(()),
    }))?;
    if let Some(trace) = trace {
        if trace.left_out() > 0 {
            say(&format!(
                "{} events did not fit into the trace; --duration makes it shorter",
                trace.left_out()
            ))?;
        }
        let mut trace = Some(trace);
        output::write_with(args.trace.as_deref(), &mut |out| {
            trace.take().map_or(Ok(()), |trace| trace.finish(clock::monotonic_ns(), &numbers, out))
        })?;
    }
    Ok(End::Done)
}

/// What was delivered, what was lost, and the totals, which are exact all the same.
fn summary(report: &Report, delivered: u64, malformed: u64) -> String {
    let sum = |figure: fn(&crate::report::ProcessReport) -> u64| -> u64 {
        report.processes.iter().map(|process| figure(process)).sum()
    };
    let lost = sum(|process| process.tasks.lost_events);
    let mut text = format!(
        "{delivered} events, {lost} lost; {} tasks started and {} ended (exact, the runtime's own not among them)",
        sum(|process| process.tasks.started),
        sum(|process| process.tasks.ended),
    );
    if malformed > 0 {
        text = format!("{text}; {malformed} records made no sense");
    }
    if lost > 0 {
        text.push_str("; raise --ring-size to lose fewer");
    }
    text
}
