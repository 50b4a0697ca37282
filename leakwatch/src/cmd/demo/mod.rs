//! `leakwatch demo`: a built-in program that leaks in known ways, watched like any other.
//!
//! What is promised is said before, and what was seen of it after; where the two differ, that is said, too.

mod program;
mod scenario;

use std::{
    io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum as _;

use super::{
    End,
    output::{colour, write_whole},
    startup::{block_on, calibrate, load},
    watch::{CLEAR, say},
};
use crate::{
    agent::{self, Target, Update},
    cli::{DemoArgs, Format, Scenario},
    collect::Mode,
    export,
    host::Process,
    page::{self, Story},
    report::{Report, Span, course::Course},
    text,
};
pub(super) use program::run as target;

/// Starts the built-in program, watches it, and says what should be seen and what was.
///
/// # Errors
/// As `watch`.
pub(super) fn run(args: &DemoArgs, verbose: u8) -> anyhow::Result<End> {
    if args.list {
        write_whole(None, &list()).context("cannot write to standard output")?;
        return Ok(End::Done);
    }
    let plan = scenario::plan(args.scenario);
    let duration = args.duration.map_or(Ok(plan.takes), Duration::try_from)?;
    let mut kernel = load(super::kernel_options(&crate::cli::SizeArgs::default(), verbose))?;
    let hit_ns = calibrate(&mut kernel);
    let mut program = Program::start(args.scenario, duration)?;
    let process = Process::open(program.child.id())?;
    let target = Target { process, required: true, probes: program::probes(args.scenario)? };
    let pid = target.process.pid();
    let options = agent::Options {
        interval: Duration::from_millis(500).min(duration),
        duration: Some(duration),
        mode: Mode::Probes,
        stacks: args.scenario == Scenario::OneChannel,
        budget_percent: None,
        stream: false,
        looks: false,
        states: false,
        rates: Span::Watch,
        named: Vec::new(),
        prove: None,
        prove_suspects: None,
        main: None,
        stop: None,
        follow: false,
    };
    let mut course = Course::default();
    let to_terminal = io::stdout().is_terminal();
    block_on(agent::watch(&mut kernel, vec![target], hit_ns, &options, &mut |update| match update {
        Update::Attached => {
            say(&scenario::before(&plan))?;
            say(&format!("watching the built-in program, pid {pid}, for {}s", duration.as_secs_f32()))?;
            program.go()
        }
        Update::Interval(report) => {
            course.take(report);
            match args.format {
                Format::Jsonl => write_whole(None, &export::to_json_line(report)),
                Format::Table if to_terminal => {
                    write_whole(None, &format!("{CLEAR}{}", table(report, &options)))
                }
                _ => Ok(()),
            }
        }
        Update::Final(report) => {
            course.take(report);
            let story = Story { report, course: &course, remarks: &[] };
            let text = match args.format {
                Format::Html => page::html(&story),
                Format::Markdown => page::markdown(&story),
                Format::Table => {
                    let clear = if to_terminal { CLEAR } else { "" };
                    format!("{clear}{}{}", table(report, &options), scenario::after(&plan, report))
                }
                Format::Json => export::to_json(report),
                Format::Prometheus => super::output::metrics(report),
                Format::Jsonl => export::to_json_line(report),
            };
            write_whole(None, &text)
        }
        Update::Made(_)
        | Update::Event(..)
        | Update::State(..)
        | Update::Malformed
        | Update::Looked(_)
        | Update::Reporting { .. } => Ok(()),
    }))?;
    Ok(End::Done)
}

fn table(report: &Report, options: &agent::Options) -> String {
    let stacks = usize::from(options.stacks);
    text::render(report, &text::Options { color: colour(), stacks, ..text::Options::default() })
}

/// All scenarios, with what each should show.
fn list() -> String {
    let of = |scenario: &Scenario| {
        let plan = scenario::plan(*scenario);
        let name = scenario.to_possible_value()?.get_name().to_owned();
        Some(format!("{name} ({} s): {}", plan.takes.as_secs(), scenario::before(&plan)))
    };
    Scenario::value_variants().iter().filter_map(of).collect()
}

/// The child; ended when dropped.
struct Program {
    child: Child,
}

impl Program {
    fn start(scenario: Scenario, duration: Duration) -> anyhow::Result<Self> {
        let seconds = duration.as_secs().saturating_add(30).to_string();
        let own = std::env::current_exe().context("cannot find leakwatch's own executable")?;
        let name = scenario.to_possible_value().context("a scenario has a name")?;
        let child = Command::new(own)
            .args(["demo-target", "--seconds", &seconds, name.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the built-in program")?;
        let mut program = Self { child };
        let mut line = String::new();
        let out = program.child.stdout.take().context("the built-in program has no output")?;
        BufReader::new(out).read_line(&mut line).context("the built-in program did not start")?;
        Ok(program)
    }

    /// Lets it begin: nothing happens before the probes are placed, so every task is seen from its birth.
    fn go(&mut self) -> io::Result<()> {
        self.child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(b"go\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
