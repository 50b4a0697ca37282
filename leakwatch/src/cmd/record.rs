//! `leakwatch record` and `leakwatch replay`: a watch in a file, and its reports from that file.

use std::fs::File;

use anyhow::Context as _;

use super::{
    End,
    output::{Lines, colour, write_whole},
    watch::{self, say},
};
use crate::{
    cli::{Format, RecordArgs, ReplayArgs, WatchArgs},
    export,
    record::{Moment, Recorder, Replay},
    report::Span,
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
        prove: args.prove,
        format: args.format,
        output: args.report.clone(),
        runtime: args.runtime.clone(),
        sizes: args.sizes.clone(),
        ..WatchArgs::default()
    };
    watch::run_with(&watch, verbose, &mut Some(recorder))?;
    Ok(End::Done)
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
    let mut replay = Replay::open(std::io::BufReader::new(file), rates).map_err(bad)?;
    let mut lines = (args.format == Format::Jsonl).then(|| Lines::open(args.output.as_ref())).transpose()?;
    let mut last = None;
    while let Some(Moment { report, .. }) = replay.next_report().map_err(bad)? {
        if let Some(lines) = lines.as_mut() {
            lines.write(export::to_json_line(&report).as_bytes())?;
        }
        last = Some(report);
    }
    let Some(report) = last else { return Err(bad(crate::record::BadRecording::Empty)) };
    if !replay.finished() {
        let lost = length.saturating_sub(replay.good_bytes());
        say(&format!(
            "{path} has no end: the last {lost} bytes are lost, the report is of the last whole look"
        ))?;
    }
    if replay.strange() > 0 {
        say(&format!(
            "{path}: {} lines are not known to this leakwatch and are passed over",
            replay.strange()
        ))?;
    }
    let printed = match args.format {
        Format::Jsonl => return Ok(lines.map_or(Ok(()), |mut lines| lines.flush()).map(|()| End::Done)?),
        Format::Json => export::to_json(&report),
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
    Ok(End::Done)
}
