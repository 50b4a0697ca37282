//! `leakwatch record` and `leakwatch replay`: a watch in a file, and its reports from that file.

use std::{fs::File, io::Read};

use anyhow::Context as _;

use super::{
    End,
    alarms::{self, Past},
    output::{Lines, colour, form, write_whole},
    progress::Progress,
    watch::{self, say},
};
use crate::{
    cli::{Format, RecordArgs, ReplayArgs, WatchArgs, WatchFormat},
    export,
    page::{self, Story},
    record::{EventOf, Moment, Recorder, Replay},
    report::{Span, course::Course},
    text,
};

/// Wait stacks shown under each site.
const STACKS: usize = 3;

/// Watches as `watch` does, and records what it sees.
///
/// # Errors
/// As of `watch`, and when the recording cannot be written. What was written up to then can be replayed.
pub(super) fn record(args: &RecordArgs, verbose: u8) -> anyhow::Result<End> {
    let path = &args.recording;
    let cannot = || format!("cannot write {}; choose another --output", path.display());
    let recorder = Recorder::begin(File::create(path).with_context(cannot)?).with_context(cannot)?;
    let watch = WatchArgs {
        selection: args.selection.clone(),
        duration: args.duration,
        interval: args.interval,
        mode: args.mode,
        budget: args.budget,
        stacks: args.stacks,
        stream: args.events,
        prove: args.prove,
        format: Some(WatchFormat::Report(args.format)),
        no_prove: args.no_prove,
        output: args.report.clone(),
        runtime: args.runtime.clone(),
        sizes: args.sizes.clone(),
        ..WatchArgs::default()
    };
    watch::run_with(&watch, verbose, &mut Some(recorder))?;
    Ok(End::Done)
}

/// Prints the events of a recording as `leakwatch events` does.
fn replay_events<R: Read>(args: &ReplayArgs, mut replay: Replay<R>, length: u64) -> anyhow::Result<End> {
    let path = args.recording.display();
    let mut out = Lines::open(args.output.as_ref())?;
    let mut encoder = export::EventEncoder::default();
    let mut line = Vec::new();
    let mut written = Ok(());
    let mut events = 0_u64;
    let mut each = |event: &_, of: EventOf<'_>| {
        events += 1;
        line.clear();
        encoder.encode(event, of.pid, &of.clock, of.names, &mut line);
        if written.is_ok() {
            written = out.write(&line);
        }
    };
    while replay.next_with(&mut each).with_context(|| format!("cannot replay {path}"))?.is_some() {}
    written?;
    out.flush()?;
    anyhow::ensure!(events > 0, "{path} has no events in it; `leakwatch record --events` records them");
    say_what_is_missing(args, &replay, length)?;
    Ok(End::Done)
}

/// Tells what of the file could not be read.
fn say_what_is_missing<R>(args: &ReplayArgs, replay: &Replay<R>, length: u64) -> anyhow::Result<()>
where
    R: Read,
{
    let path = args.recording.display();
    if !replay.finished() {
        let lost = length.saturating_sub(replay.good_bytes());
        say(&format!(
            "{path} has no end: the last {lost} bytes are lost, what is printed goes to the last whole look"
        ))?;
    }
    if replay.strange() > 0 {
        say(&format!(
            "{path}: {} lines are not known to this leakwatch and are passed over",
            replay.strange()
        ))?;
    }
    Ok(())
}

/// Prints the reports of a recording.
///
/// # Errors
/// When the file is no recording, a newer one, or has nothing in it, or the output cannot be written.
pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<End> {
    let path = args.recording.display();
    let file = File::open(&args.recording).with_context(|| format!("cannot read {path}"))?;
    let length = file.metadata().map(|data| data.len()).unwrap_or_default();
    let rates = if args.format == Format::Jsonl { Span::Interval } else { Span::Watch };
    let bad = |error: crate::record::BadRecording| anyhow::anyhow!("cannot replay {path}: {error}");
    // Elsewhere lines may go to the same terminal while the file is read.
    let silent = args.format != Format::Jsonl && !args.events || args.output.is_some();
    let progress = if silent { Progress::begin(&format!("reading {path}")) } else { Progress::unseen() };
    let file = std::io::BufReader::new(progress.of_reading(length, file));
    let mut replay = Replay::open(file, rates).map_err(bad)?;
    let mut lines = (args.format == Format::Jsonl).then(|| Lines::open(args.output.as_ref())).transpose()?;
    let mut last = None;
    if args.events {
        return replay_events(args, replay, length);
    }
    let form = form(args.format, args.output.as_deref());
    let mut course = Course::default();
    let mut past = Past::begin(&args.alerts)?;
    while let Some(Moment { mut report, .. }) = replay.next_report().map_err(bad)? {
        past.ask(&mut report);
        if let Some(lines) = lines.as_mut() {
            lines.write(export::to_json_line(&report).as_bytes())?;
        }
        course.take(&report);
        last = Some(report);
    }
    drop(progress);
    let Some(report) = last else { return Err(bad(crate::record::BadRecording::Empty)) };
    say_what_is_missing(args, &replay, length)?;
    let story = Story { report: &report, course: &course, remarks: &[] };
    let printed = match form {
        Format::Html => page::html(&story),
        Format::Markdown => page::markdown(&story),
        Format::Jsonl => {
            lines.map_or(Ok(()), |mut lines| lines.flush())?;
            return alarms::end(&args.alerts, past.worst());
        }
        Format::Json => export::to_json(&report),
        Format::Prometheus => super::output::metrics(&report),
        Format::Table => text::render(
            &report,
            &text::Options {
                color: args.output.is_none() && colour(),
                stacks: if args.stacks { STACKS } else { 0 },
                ..text::Options::default()
            },
        ),
    };
    write_whole(args.output.as_deref(), &printed).with_context(|| "cannot write the report".to_owned())?;
    alarms::end(&args.alerts, past.worst())
}
