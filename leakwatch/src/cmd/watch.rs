//! `leakwatch watch`, that is `leakwatch --pid PID`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use tokio::sync::Notify;

use super::{
    alarms,
    output::{self, Lines, colour, form, write_whole},
    progress::{self, Progress},
    startup::{self, Usage, block_on, calibrate, load, targets},
    terminal::{self, Terminal},
};
use crate::{
    agent::{self, Looked, Outcome, ProofPace, Update, clock},
    cli::{Format, ModeArg, WatchArgs, WatchFormat},
    collect::{CollectError, Mode},
    export, host,
    page::{self, Story},
    record::Recorder,
    report::{Report, Span, WallClock, alerting::Level, course::Course},
    text,
};

/// Wait stacks shown under each site.
const STACKS: usize = 3;

/// Clears the screen and what scrolled off it, and goes to its top left.
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Watches, prints, and tells whether something leaked, and how much the rules that fired matter at most.
///
/// # Errors
/// When a process that was asked for cannot be watched, the kernel refuses, or the output cannot be written.
pub(super) fn run(args: &WatchArgs, verbose: u8) -> anyhow::Result<(Outcome, Option<Level>)> {
    run_with(args, verbose, &mut None)
}

/// As [`run`], and writes a recording; then nothing is printed before the end.
pub(super) fn run_with(
    args: &WatchArgs,
    verbose: u8,
    recorder: &mut Option<Recorder>,
) -> anyhow::Result<(Outcome, Option<Level>)> {
    if args.duration.is_some_and(|duration| duration < args.interval) && args.report() == Format::Jsonl {
        return Err(
            Usage("--duration is shorter than --interval: no line would be printed".to_owned()).into()
        );
    }
    let rules = alarms::chosen(&args.alerts)?;
    let stop = Arc::new(Notify::new());
    let screen = wants_screen(args)?;
    // A page of a site shows them.
    let stacks = args.stacks || screen || rules.as_ref().is_some_and(|file| alarms::need_stacks(&file.rules));
    let options = agent::Options {
        interval: Duration::try_from(args.interval)?,
        duration: args.duration.map(Duration::try_from).transpose()?,
        mode: match args.mode {
            ModeArg::Auto => Mode::Auto,
            ModeArg::Probes => Mode::Probes,
            ModeArg::Memory => Mode::Memory,
        },
        stacks,
        budget_percent: args.budget,
        stream: args.stream,
        looks: recorder.is_some(),
        states: false,
        rates: if args.report() == Format::Jsonl { Span::Interval } else { Span::Watch },
        named: startup::named(&args.runtime)?,
        follow: args.follow,
        prove: args.prove.map(|every| proof_pace(every, args.budget)).transpose()?,
        prove_suspects: (args.prove.is_none() && !args.no_prove).then_some(OF_SUSPECTS),
        main: None,
        stop: Some(Arc::clone(&stop)),
    };
    if let Some(path) = &args.output {
        output::check(path)?;
    }
    let mut printer = Printer::new(args, &stop, screen)?;
    let mut alarms = rules.map(|rules| alarms::start(rules, host::name(), alarms::dumper())).transpose()?;
    let begun = WallClock { wall: clock::now(), monotonic_ns: clock::monotonic_ns() };
    let mut sizes = super::kernel_options(&args.sizes, verbose);
    loop {
        let chosen = targets(&args.selection)?;
        let chosen_count = chosen.len();
        let pids = startup::pids(&chosen);
        let mut attaching = Some(Progress::begin(&format!("attaching to pid {pids}")));
        let mut kernel = load(sizes.clone())?;
        let hit_ns = calibrate(&mut kernel);
        let watched =
            block_on(agent::watch(&mut kernel, chosen, hit_ns, &options, &mut |update| match update {
                Update::Attached => {
                    attaching = None;
                    say(&format!("watching pid {pids}"))?;
                    printer.open(chosen_count, options.interval)
                }
                Update::Made(report) => {
                    if let Some(alarms) = alarms.as_mut() {
                        alarms.ask(report);
                    }
                    Ok(())
                }
                Update::Interval(report) => {
                    if let Some(alarms) = alarms.as_mut() {
                        alarms.tell(report);
                    }
                    if options.looks { Ok(()) } else { printer.interval(report) }
                }
                Update::Final(report) => {
                    if let Some(alarms) = alarms.as_mut() {
                        alarms.tell(report);
                    }
                    printer.last(report)
                }
                Update::Looked(Looked { number, attach, sample, mut names }) => {
                    recorder.as_mut().map_or(Ok(()), |r| r.sample(number, attach, sample, &mut names))
                }
                Update::Reporting { context, infos, last } => {
                    let infos = infos.iter().copied();
                    recorder.as_mut().map_or(Ok(()), |r| r.report(context, infos, last))
                }
                Update::Event(event, watch) if options.stream => {
                    let attach = watch.attach();
                    let mut names = watch.names();
                    recorder.as_mut().map_or(Ok(()), |r| r.event(event, &attach, &begun, &mut names))
                }
                Update::Event(..) | Update::State(..) | Update::Malformed => Ok(()),
            }));
        match watched {
            // More tasks are alive already than the table holds. How many is known only now, so: a larger one.
            Err(error)
                if is_too_small(&error)
                    && args.sizes.max_tasks.is_none()
                    && sizes.live_tasks < MOST_LIVE_TASKS =>
            {
                sizes.live_tasks = sizes.live_tasks.saturating_mul(4).min(MOST_LIVE_TASKS);
                tracing::info!("starting again with room for {} live tasks", sizes.live_tasks);
            }
            Err(error) => return Err(error),
            Ok(outcome) => return Ok((outcome, alarms::finish(alarms)?)),
        }
    }
}

/// Most percent of one core that proofs take where no budget is set.
const PROOF_PERCENT: f64 = 10.0;

/// When to prove where nobody asked for it and goroutines are suspected to leak.
const OF_SUSPECTS: ProofPace = ProofPace { every: Duration::from_mins(1), share_percent: 2.0 };

/// When to prove.
pub(super) fn proof_pace(every: SignedDuration, budget: Option<f64>) -> anyhow::Result<ProofPace> {
    Ok(ProofPace { every: Duration::try_from(every)?, share_percent: budget.unwrap_or(PROOF_PERCENT) })
}

/// The largest live table that is made without being asked for: about 1.7 GB of the kernel's memory.
const MOST_LIVE_TASKS: u32 = 1 << 24;

/// The attach failed for want of room in the live table.
fn is_too_small(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<CollectError>(),
        Some(CollectError::Kernel(kernel)) if kernel.is_live_table_full()
    )
}

/// A line for people who wait, and for scripts that need to know that everything is attached.
pub(super) fn say(line: &str) -> io::Result<()> {
    let _aside = progress::aside();
    let mut err = io::stderr().lock();
    writeln!(err, "leakwatch: {line}")
}

/// Whether to open a screen: one was asked for, or a person sits there and did not ask for anything else.
fn wants_screen(args: &WatchArgs) -> Result<bool, Usage> {
    match args.format {
        None => Ok(args.output.is_none() && !args.plain && terminal::is_there()),
        Some(WatchFormat::Report(_)) => Ok(false),
        Some(WatchFormat::Tui) if args.output.is_some() || args.plain => {
            Err(Usage("--format tui is a screen: it goes with neither --output nor --plain".to_owned()))
        }
        Some(WatchFormat::Tui) if terminal::is_there() => Ok(true),
        Some(WatchFormat::Tui) => Err(Usage(
            "--format tui needs a terminal as standard input and output, and TERM to say which".to_owned(),
        )),
    }
}

/// Puts reports where they were asked for.
struct Printer<'a> {
    args: &'a WatchArgs,
    /// For `jsonl`.
    lines: Option<Lines>,
    /// Redraw the table in place.
    live: bool,
    text: text::Options,
    /// As asked for, or as the name of --output says.
    form: Format,
    /// For pages.
    course: Course,
    /// A person sits there, and wants a screen.
    screen: bool,
    /// While it is open.
    terminal: Option<Terminal>,
    /// Tells the watch to end.
    stop: Arc<Notify>,
}

impl<'a> Printer<'a> {
    fn new(args: &'a WatchArgs, stop: &Arc<Notify>, screen: bool) -> anyhow::Result<Self> {
        let form = form(args.report(), args.output.as_deref());
        let to_terminal = args.output.is_none() && io::stdout().is_terminal();
        Ok(Self {
            args,
            form,
            course: Course::default(),
            lines: (form == Format::Jsonl).then(|| Lines::open(args.output.as_ref())).transpose()?,
            live: form == Format::Table && to_terminal,
            text: text::Options {
                width: terminal_width().unwrap_or(text::Options::default().width),
                color: args.output.is_none() && colour(),
                stacks: if args.stacks { STACKS } else { 0 },
                ..text::Options::default()
            },
            screen,
            terminal: None,
            stop: Arc::clone(stop),
        })
    }

    /// Everything is attached: what failed until now was printed as it always is.
    fn open(&mut self, processes: usize, interval: Duration) -> io::Result<()> {
        if self.screen && self.terminal.is_none() {
            self.terminal = Some(Terminal::open(terminal::Options {
                look: terminal::look(&self.args.terminal),
                many: processes > 1,
                hint: None,
                interval,
                stop: Arc::clone(&self.stop),
            })?);
        }
        Ok(())
    }

    fn interval(&mut self, report: &Arc<Report>) -> io::Result<()> {
        if let Some(terminal) = &self.terminal {
            terminal.show(report);
            return Ok(());
        }
        if matches!(self.form, Format::Html | Format::Markdown) {
            self.course.take(report);
            return Ok(());
        }
        if let Some(lines) = self.lines.as_mut() {
            lines.write(export::to_json_line(report).as_bytes())?;
            return lines.flush();
        }
        if self.form == Format::Prometheus && self.args.output.is_some() {
            return write_whole(self.args.output.as_deref(), &output::metrics(report));
        }
        if self.live {
            self.text.width = terminal_width().unwrap_or(self.text.width);
            let table = text::render(report, &self.text);
            return write_whole(None, &format!("{CLEAR}{table}"));
        }
        // Printed somewhere else: a table an interval when the end is not known, else the one at the end.
        if self.form == Format::Table && self.args.duration.is_none() && self.args.output.is_none() {
            return write_whole(None, &text::render(report, &self.text));
        }
        Ok(())
    }

    fn last(&mut self, report: &Arc<Report>) -> io::Result<()> {
        if let Some(terminal) = self.terminal.take() {
            // The last table stays where the shell's lines are.
            terminal.close()?;
            self.live = false;
        }
        self.course.take(report);
        let story = Story { report, course: &self.course, remarks: &[] };
        let text = match self.form {
            Format::Html => page::html(&story),
            Format::Markdown => page::markdown(&story),
            Format::Json => export::to_json(report),
            Format::Table => text::render(report, &self.text),
            Format::Prometheus => output::metrics(report),
            Format::Jsonl => return self.interval(report),
        };
        let clear = if self.live { CLEAR } else { "" };
        write_whole(self.args.output.as_deref(), &format!("{clear}{text}"))
    }
}

/// Columns of the terminal that standard output is.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
