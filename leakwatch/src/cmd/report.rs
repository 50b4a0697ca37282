//! `leakwatch report`: a recording, or reports as JSON, made into one page to attach to a ticket or to paste into an issue.

use std::{
    fs::File,
    io::{BufReader, Read, Seek as _},
    path::Path,
};

use anyhow::Context as _;

use super::{
    End,
    alarms::{self, Past},
    output::{self, write_whole},
    progress::Progress,
};
use crate::{
    cli::{Format, PageFormat, ReportArgs},
    export::{Reports, check_reports},
    page::{self, Story},
    record::{BadRecording, Moment, Replay},
    report::{Report, Span, course::Course},
};

/// What a recording begins with.
const RECORDING: &[u8] = b"LKWREC";

/// Reads the file, and writes the page.
///
/// # Errors
/// When the file is neither, damaged, newer or empty, or the page cannot be written; then nothing is written.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<End> {
    let path = &args.input;
    if let Some(output) = &args.output {
        output::check(output)?;
    }
    let mut past = Past::begin(&args.alerts)?;
    let read = read(path, &mut past).with_context(|| format!("cannot read {}", path.display()));
    // The reason is half of the sentence.
    let Told { report, course, remarks } = read.map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let story = Story { report: &report, course: &course, remarks: &remarks };
    let text = match (args.format, output::form(Format::Table, args.output.as_deref())) {
        (Some(PageFormat::Markdown), _) | (None, Format::Markdown) => page::markdown(&story),
        _ => page::html(&story),
    };
    let to = || match &args.output {
        Some(path) => format!("cannot write {}; choose another --output", path.display()),
        None => "cannot write to standard output".to_owned(),
    };
    write_whole(args.output.as_deref(), &text).with_context(to)?;
    alarms::end(&args.alerts, past.worst())
}

/// What a file tells.
struct Told {
    report: Report,
    course: Course,
    /// What is to be known of the file.
    remarks: Vec<String>,
}

fn read(path: &Path, past: &mut Past) -> anyhow::Result<Told> {
    let mut file = File::open(path)?;
    let length = file.metadata().map(|data| if data.is_file() { Some(data.len()) } else { None })?;
    // It is read twice where it is JSON.
    let length = length.context("it is no regular file")?;
    let mut head = Vec::new();
    (&mut file).take(RECORDING.len() as u64).read_to_end(&mut head)?;
    file.rewind()?;
    let progress = Progress::begin(&format!("reading {}", path.display()));
    if head == RECORDING {
        read_recording(progress.of_reading(length, file), length, past)
    } else {
        check_reports(BufReader::new(progress.of_reading(length, &file)))?;
        file.rewind()?;
        read_json(progress.of_reading(length, &file), past)
    }
}

fn read_recording(file: impl Read, length: u64, past: &mut Past) -> anyhow::Result<Told> {
    let mut replay = Replay::open(BufReader::new(file), Span::Watch)?;
    let (mut course, mut last) = (Course::default(), None);
    while let Some(Moment { mut report, .. }) = replay.next_report()? {
        past.ask(&mut report);
        course.take(&report);
        last = Some(report);
    }
    let mut remarks = Vec::new();
    if !replay.finished() {
        let lost = length.saturating_sub(replay.good_bytes());
        remarks.push(format!(
            "the recording has no end: its last {lost} bytes are lost, and this is as of its last whole look"
        ));
    }
    if replay.strange() > 0 {
        let strange = replay.strange();
        remarks.push(format!(
            "{strange} lines of the recording are not known to this leakwatch and were passed over"
        ));
    }
    Ok(Told { report: last.ok_or(BadRecording::Empty)?, course, remarks })
}

fn read_json(file: impl Read, past: &mut Past) -> anyhow::Result<Told> {
    let mut reports = Reports::open(BufReader::new(file));
    let (mut course, mut last) = (Course::default(), None::<Report>);
    while let Some(mut report) = reports.next_report()? {
        if last.as_ref().is_some_and(|before| before.started != report.started) {
            anyhow::bail!("it has reports of several watches; give one of them");
        }
        past.ask(&mut report);
        course.take(&report);
        last = Some(report);
    }
    let mut remarks = Vec::new();
    if reports.cut() {
        remarks.push("the file was cut: this is as of its last whole report".to_owned());
    }
    Ok(Told { report: last.context("it is empty")?, course, remarks })
}
