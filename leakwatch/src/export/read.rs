//! Files that leakwatch or a program wrote, read back for `diff`: dumps and reports as JSON, profiles.
//!
//! Such files come from anywhere: cut, damaged, of a newer leakwatch. Each of these is one sentence, and nothing in them
//! sizes an allocation unchecked or is taken for an index that must be there.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::profile::{self, read_profile};
use crate::report::diff::{FilePlace, Group, Snapshot};

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    /// For this reason, as what follows "cannot read FILE: ".
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Reads a dump or a report as JSON.
///
/// # Errors
/// When it is damaged, of another schema, or of a newer one.
pub fn read_json(bytes: &[u8]) -> Result<Snapshot, Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }
    let damaged = |error: serde_json::Error| Unreadable(format!("its JSON is damaged ({error})"));
    let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
    let number =
        |prefix: &str| head.schema.strip_prefix(prefix).and_then(|number| number.parse::<u32>().ok());
    match (number("leakwatch.dump/"), number("leakwatch.report/")) {
        (Some(1), _) => Ok(of_dump(&serde_json::from_slice(bytes).map_err(damaged)?)),
        (_, Some(1)) => Ok(of_report(serde_json::from_slice(bytes).map_err(damaged)?)),
        (Some(_), _) | (_, Some(_)) => Err(Unreadable(format!(
            "its schema {} is newer than this leakwatch knows; compare it with the leakwatch that wrote it",
            head.schema
        ))),
        (None, None) => {
            Err(Unreadable(format!("its schema {:?} is neither that of a dump nor of a report", head.schema)))
        }
    }
}

#[derive(Deserialize)]
struct DumpJson {
    process: ProcessJson,
    runtimes: Vec<RuntimeJson>,
}

#[derive(Deserialize)]
struct ProcessJson {
    pid: u32,
    start_time: Option<String>,
}

#[derive(Deserialize)]
struct RuntimeJson {
    sites: Vec<SiteJson>,
    frames: Vec<FrameJson>,
    stacks: Vec<StackJson>,
    tasks: Vec<TaskJson>,
}

#[derive(Deserialize)]
struct SiteJson {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
}

#[derive(Deserialize)]
struct FrameJson {
    function: String,
    file: Option<String>,
    line: Option<u32>,
}

#[derive(Deserialize)]
struct StackJson {
    shown: Vec<usize>,
}

#[derive(Deserialize)]
struct TaskJson {
    id: u64,
    site: Option<usize>,
    stack: Option<usize>,
}

fn of_dump(dump: &DumpJson) -> Snapshot {
    let mut groups = Vec::new();
    // Numbers are of one runtime; above 2^60 no runtime counts.
    for (runtime, space) in dump.runtimes.iter().zip(0_u64..) {
        let mut sums: BTreeMap<(Option<usize>, Option<usize>), Vec<u64>> = BTreeMap::new();
        for task in &runtime.tasks {
            sums.entry((task.site, task.stack)).or_default().push(task.id ^ space << 60);
        }
        for ((site, stack), ids) in sums {
            let site = site.and_then(|at| runtime.sites.get(at)).and_then(|site| {
                Some(FilePlace { function: site.function.clone()?, file: site.file.clone(), line: site.line })
            });
            let frames = stack.and_then(|at| runtime.stacks.get(at)).map_or(&[][..], |stack| &stack.shown);
            let stack = frames
                .iter()
                .filter_map(|&at| runtime.frames.get(at))
                .map(|frame| FilePlace {
                    function: frame.function.clone(),
                    file: frame.file.clone(),
                    line: frame.line,
                })
                .collect();
            groups.push(Group { site, stack, count: ids.len() as u64, ids });
        }
    }
    let start = dump.process.start_time.clone();
    Snapshot { form: "dump", process: start.map(|start| (dump.process.pid, start)), groups, numbered: true }
}

#[derive(Deserialize)]
struct ReportJson {
    processes: Vec<ReportProcessJson>,
}

#[derive(Deserialize)]
struct ReportProcessJson {
    sites: Vec<ReportSiteJson>,
}

#[derive(Deserialize)]
struct ReportSiteJson {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    live: u64,
    #[serde(default)]
    waiting: Vec<WaitingJson>,
}

#[derive(Deserialize)]
struct WaitingJson {
    stack: Vec<String>,
    count: u64,
}

fn of_report(report: ReportJson) -> Snapshot {
    let mut groups = Vec::new();
    for site in report.processes.into_iter().flat_map(|process| process.sites) {
        let place = site.function.map(|function| FilePlace { function, file: site.file, line: site.line });
        let mut rest = site.live;
        for waiting in site.waiting {
            let count = waiting.count.min(rest);
            rest -= count;
            let stack = waiting.stack.iter().map(|frame| printed_frame(frame)).collect();
            groups.push(Group { site: place.clone(), stack, count, ids: Vec::new() });
        }
        if rest > 0 {
            groups.push(Group { site: place, stack: Vec::new(), count: rest, ids: Vec::new() });
        }
    }
    Snapshot { form: "report", process: None, groups, numbered: false }
}

/// `main.f (main.go:12)`
fn printed_frame(text: &str) -> FilePlace {
    let place = text.strip_suffix(')').and_then(|text| text.rsplit_once(" ("));
    match place.and_then(|(function, place)| Some((function, place.rsplit_once(':')?))) {
        Some((function, (file, line))) => {
            FilePlace { function: function.to_owned(), file: Some(file.to_owned()), line: line.parse().ok() }
        }
        None => FilePlace { function: text.to_owned(), file: None, line: None },
    }
}

/// What profiles of tasks count, by the beginning of its name.
const COUNTED: [&str; 3] = ["goroutine", "thread", "task"];

/// Reads a profile, leakwatch's or a program's own.
///
/// # Errors
/// When it is damaged, or no profile of tasks.
pub fn read_pprof(bytes: &[u8]) -> Result<Snapshot, Unreadable> {
    let read = read_profile(bytes).map_err(Unreadable)?;
    let kind = |at: usize| read.sample_type.get(at).map(|kind| read.string(kind.r#type));
    let of_tasks = |kind: &str| COUNTED.iter().any(|known| kind.starts_with(known));
    let value = (0..read.sample_type.len()).find(|&at| kind(at).is_some_and(of_tasks));
    let Some(value) = value else {
        return Err(Unreadable(format!(
            "it is a profile of {:?}, not of goroutines, tasks or threads",
            kind(0).unwrap_or("nothing")
        )));
    };
    let functions: BTreeMap<u64, FilePlace> = read
        .function
        .iter()
        .map(|function| {
            let file = Some(read.string(function.filename).to_owned()).filter(|file| !file.is_empty());
            (function.id, FilePlace { function: read.string(function.name).to_owned(), file, line: None })
        })
        .collect();
    let locations: BTreeMap<u64, Vec<FilePlace>> =
        read.location.iter().map(|location| (location.id, frames(location, &functions))).collect();
    let groups = read
        .sample
        .iter()
        .map(|sample| {
            let all: Vec<FilePlace> =
                sample.location_id.iter().filter_map(|id| locations.get(id)).flatten().cloned().collect();
            let shown: Vec<FilePlace> = all.iter().filter(|frame| !frame.is_hidden()).cloned().collect();
            let count = sample.value.get(value).and_then(|&count| u64::try_from(count).ok()).unwrap_or(0);
            Group { site: None, stack: if shown.is_empty() { all } else { shown }, count, ids: Vec::new() }
        })
        .collect();
    Ok(Snapshot { form: "profile", process: None, groups, numbered: false })
}

fn frames(location: &profile::Location, functions: &BTreeMap<u64, FilePlace>) -> Vec<FilePlace> {
    let frame = |line: &profile::Line| {
        let place = functions.get(&line.function_id)?;
        Some(FilePlace { line: u32::try_from(line.line).ok().filter(|&line| line > 0), ..place.clone() })
    };
    location.line.iter().filter_map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_and_foreign_files_are_one_sentence() {
        let refused = |bytes: &[u8], part: &str| {
            let error = read_json(bytes).expect_err("refused").to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        };
        refused(b"{", "damaged");
        refused(b"{\"schema\": \"leakwatch.dump/2\"}", "newer");
        refused(b"{\"schema\": \"leakwatch.binary/1\"}", "neither");
        refused(b"{\"schema\": \"leakwatch.dump/1\"}", "damaged");
        refused(b"[]", "damaged");
        for bytes in [&b"\x1f\x8b"[..], b"\x1f\x8b\x08\x00garbage", b"\x0a\x04\x08\x01", b"\xff\xff\xff"] {
            assert!(read_pprof(bytes).is_err());
        }
    }

    #[test]
    fn indices_that_lead_nowhere_are_unknown() {
        let dump = br#"{"schema": "leakwatch.dump/1", "process": {"pid": 1, "start_time": null}, "runtimes": [
            {"sites": [], "frames": [], "stacks": [{"shown": [7]}], "tasks": [{"id": 1, "site": 5, "stack": 0},
             {"id": 2, "site": null, "stack": 99}]}]}"#;
        let snapshot = read_json(dump).expect("a dump");
        assert_eq!(snapshot.tasks(), 2);
        assert!(snapshot.groups.iter().all(|group| group.site.is_none() && group.stack.is_empty()));
    }

    #[test]
    fn frames_of_reports() {
        let frame = printed_frame("main.(*T).f (/a b/main.go:12)");
        assert_eq!((frame.function.as_str(), frame.line), ("main.(*T).f", Some(12)));
        assert_eq!(printed_frame("main.f").function, "main.f");
    }
}
