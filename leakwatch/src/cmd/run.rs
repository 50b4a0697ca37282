//! `leakwatch run`: starts a program, watches it from its first instruction to its end, and says what it left behind.

use std::{
    cell::RefCell,
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use regex::RegexSet;

use super::{
    End,
    output::{self, write_whole},
    progress::Progress,
    startup::{self, Usage, block_on, load},
};
use crate::{
    agent::{self, Main, Target, Update},
    cli::{RunArgs, RunFormat},
    collect::Mode,
    config, export,
    host::{Process, child::Started},
    report::{Report, SiteReport, Span, leftovers::Leftovers},
    text,
};

/// Exit code of a program that a signal ended, as shells have it: this and the signal's number.
const BY_SIGNAL: i32 = 128;

/// Runs it.
///
/// # Errors
/// When the program cannot be started or watched, or the output cannot be written. The program does not run then.
pub(super) fn run(args: &RunArgs, verbose: u8) -> anyhow::Result<End> {
    let ignored = config::patterns("--ignore", &args.ignore).map_err(|error| Usage(error.to_string()))?;
    if let Some(path) = &args.output {
        output::check(path)?;
    }
    let named = startup::named(&args.runtime)?;
    let grace = Duration::try_from(args.grace)?;
    let interval = Duration::try_from(args.interval)?;
    let (program, arguments) = args.command.split_first().context("there is no command to run")?;
    let mut attaching = Some(Progress::begin(&format!("attaching to {}", program.display())));
    let mut kernel = load(super::kernel_options(&args.sizes, verbose))?;
    let mut command = Command::new(program);
    command.args(arguments);
    let started = Started::start(&mut command)
        .with_context(|| format!("cannot start {}; is it on the PATH and executable?", program.display()))?;
    let options = agent::Options {
        interval,
        duration: None,
        mode: Mode::Auto,
        stacks: true,
        budget_percent: None,
        stream: false,
        looks: false,
        states: false,
        rates: Span::Watch,
        named,
        follow: !args.no_follow,
        prove: None,
        prove_suspects: None,
        main: Some(Main { pid: started.pid(), grace }),
        stop: None,
    };
    let process = Process::open(started.pid())?;
    let target = Target { process, required: true, probes: Vec::new() };
    let started = RefCell::new(started);
    let mut report = None;
    block_on(agent::watch(&mut kernel, vec![target], None, &options, &mut |update| {
        match update {
            Update::Attached => {
                attaching = None;
                started.borrow_mut().release()?;
            }
            Update::Final(last) => report = Some(Arc::clone(last)),
            _ => {}
        }
        Ok(())
    }))?;
    let status = started.borrow_mut().wait().context("the program's end could not be awaited")?;
    let report: Arc<Report> = report.context("the watch made no report")?;
    let left = Leftovers::of(&report, &|site| is_ignored(&ignored, site));
    print(args, &report, &left)?;
    Ok(end(args, status, &left))
}

/// The program's own failure is what its caller must see; leaks come second.
fn end(args: &RunArgs, status: ExitStatus, left: &Leftovers<'_>) -> End {
    let code = status.code().or_else(|| status.signal().map(|signal| BY_SIGNAL + signal)).unwrap_or(1);
    match u8::try_from(code).unwrap_or(1) {
        0 if args.fail_on_leak && !left.is_empty() => End::Leak,
        0 => End::Done,
        code => End::Code(code),
    }
}

fn print(args: &RunArgs, report: &Report, left: &Leftovers<'_>) -> anyhow::Result<()> {
    let text = match args.format {
        RunFormat::Text => text::leftovers(left),
        RunFormat::Json => export::to_json(report),
        RunFormat::Github => text::github(left, args.fail_on_leak),
        RunFormat::Junit => {
            let program = args.command.first().map(|program| program.to_string_lossy().into_owned());
            let sentences: Vec<String> = left.sites.iter().map(text::leftover_sentence).collect();
            export::to_junit(left, &program.unwrap_or_default(), &sentences).map_err(anyhow::Error::msg)?
        }
    };
    match &args.output {
        Some(path) => write_whole(Some(path), &text).context("cannot write what was left behind"),
        None => output::write_to_stderr(&text).context("cannot write to standard error"),
    }
}

/// What a site is known by matches a pattern of the user.
fn is_ignored(patterns: &RegexSet, site: &SiteReport) -> bool {
    let place = site.file.as_ref().zip(site.line).map(|(file, line)| format!("{file}:{line}"));
    [site.function.as_deref(), site.task.as_deref(), place.as_deref()]
        .into_iter()
        .flatten()
        .any(|text| patterns.is_match(text))
}
