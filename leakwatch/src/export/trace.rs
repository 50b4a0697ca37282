//! Starts and ends of tasks as a trace that Perfetto and Chrome open: JSON of the Trace Event Format.
//!
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>: complete events (`X`), instants (`i`) and
//! metadata (`M`). Tasks of a site that are alive at the same time lie in lanes below each other. The window is bounded:
//! what does not fit is counted. Starts and ends are exact. What a task did in between is as it was seen by looks at
//! memory, some times a second: a state lies within its life from the look that saw it first to the next one that saw another.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io::{self, Write},
};

use leakwatch_common::EventKind;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value, json};

use super::safe;
use crate::{
    observe::{CensusTask, Event, SiteId},
    report::{Names, SiteName},
};

/// Most events of a window.
pub const MOST_EVENTS: usize = 1 << 20;

/// What happens in one row of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Row {
    /// Tasks of a site.
    Site(u32),
    /// Threads.
    Threads,
}

/// A stretch of time in which something lived.
#[derive(Clone, Copy, Debug)]
struct Slice {
    process: u32,
    pid: u32,
    row: Row,
    task: u64,
    begin_ns: u64,
    end_ns: u64,
    /// It was alive before the window.
    before: bool,
    /// It is alive after it.
    after: bool,
}

/// What tasks at one address were seen doing.
#[derive(Debug, Default)]
struct Seen {
    /// Site and number of the last of them.
    site: u32,
    id: u64,
    /// When, and in which state; only changes.
    states: Vec<(u64, u32)>,
}

/// A window of events.
#[derive(Debug)]
pub struct Trace {
    begin_ns: u64,
    events: usize,
    left_out: u64,
    slices: Vec<Slice>,
    instants: Vec<(u32, &'static str, u64, u64)>,
    open: FxHashMap<(u32, Row, u64), u64>,
    /// By process and address.
    states: BTreeMap<(u32, u64), Seen>,
    state_names: Vec<String>,
    sites: Vec<(SiteId, SiteName)>,
    indices: FxHashMap<(u32, SiteId), u32>,
    comms: BTreeMap<u32, String>,
}

impl Trace {
    /// A window that begins at this moment, `CLOCK_MONOTONIC` ns.
    pub fn begin(begin_ns: u64) -> Self {
        Self {
            begin_ns,
            events: 0,
            left_out: 0,
            slices: Vec::new(),
            instants: Vec::new(),
            open: FxHashMap::default(),
            states: BTreeMap::new(),
            state_names: Vec::new(),
            sites: Vec::new(),
            indices: FxHashMap::default(),
            comms: BTreeMap::new(),
        }
    }

    /// Events that did not fit.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes an event in.
    pub fn add(&mut self, event: &Event, pid: u32, comm: &str, names: &mut dyn Names) {
        if self.events >= MOST_EVENTS {
            self.left_out += 1;
            return;
        }
        self.events += 1;
        self.comms.entry(pid).or_insert_with(|| comm.to_owned());
        let row = match event.runtime {
            Some(runtime) => {
                let id = SiteId { runtime, site: event.site, entry: event.entry };
                Row::Site(self.site(event.process, id, names))
            }
            None => Row::Threads,
        };
        // A task is its address from start to end: in between no other task has it.
        let key = |row| (event.process, row, event.task);
        match event.kind {
            EventKind::TaskStart | EventKind::ThreadStart => {
                self.open.insert(key(row), event.time_ns);
            }
            EventKind::TaskEnd | EventKind::ThreadExit => {
                let seen = self.open.remove(&key(row));
                let begin_ns = seen.unwrap_or(self.begin_ns).min(event.time_ns);
                self.slices.push(Slice {
                    process: event.process,
                    pid,
                    row,
                    task: event.task,
                    begin_ns,
                    end_ns: event.time_ns,
                    before: seen.is_none(),
                    after: false,
                });
            }
            EventKind::Fork => self.instants.push((pid, "fork", event.time_ns, event.task)),
            EventKind::Exec => self.instants.push((pid, "exec", event.time_ns, 0)),
            EventKind::ChildExec => self.instants.push((pid, "child exec", event.time_ns, event.task)),
            EventKind::ChildExit => self.instants.push((pid, "child exit", event.time_ns, event.task)),
            // It is no event of a watched process.
            EventKind::HostExec => {}
        }
    }

    /// Takes in what a task was doing at a moment.
    #[expect(clippy::too_many_arguments, reason = "a task, its process, and who knows names")]
    pub fn state(
        &mut self,
        time_ns: u64,
        process: u32,
        task: &CensusTask,
        state: &str,
        comm: &str,
        pid: u32,
        names: &mut dyn Names,
    ) {
        if self.events >= MOST_EVENTS {
            self.left_out += 1;
            return;
        }
        let known = self.state_names.iter().position(|name| name == state);
        let state = known.unwrap_or_else(|| {
            self.state_names.push(state.to_owned());
            self.state_names.len() - 1
        });
        let state = u32::try_from(state).unwrap_or(u32::MAX);
        self.comms.entry(pid).or_insert_with(|| comm.to_owned());
        let site = self.site(process, task.site, names);
        let seen = self.states.entry((process, task.address)).or_default();
        // The address may be another task's by now.
        let same = (seen.site, seen.id) == (site, task.id);
        if !same || seen.states.last().is_none_or(|&(_, last)| last != state) {
            self.events += 1;
            (seen.site, seen.id) = (site, task.id);
            seen.states.push((time_ns, state));
        }
    }

    fn site(&mut self, process: u32, id: SiteId, names: &mut dyn Names) -> u32 {
        let sites = &mut self.sites;
        *self.indices.entry((process, id)).or_insert_with(|| {
            sites.push((id, names.site(id)));
            u32::try_from(sites.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// Ends the window and writes it.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn finish(mut self, end_ns: u64, pids: &BTreeMap<u32, u32>, out: &mut dyn Write) -> io::Result<()> {
        let open: BTreeMap<(u32, Row, u64), u64> = self.open.drain().collect();
        for ((process, row, task), begin_ns) in open {
            let Some(&pid) = pids.get(&process) else { continue };
            let end_ns = end_ns.max(begin_ns);
            self.slices.push(Slice { process, pid, row, task, begin_ns, end_ns, before: false, after: true });
        }
        self.add_those_without_events(end_ns, pids);
        self.slices.sort_by_key(|slice| (slice.pid, slice.row, slice.begin_ns, slice.end_ns));
        out.write_all(b"{\"displayTimeUnit\":\"ms\",\"otherData\":")?;
        let facts =
            json!({ "source": "leakwatch events --trace", "events": self.events, "left_out": self.left_out });
        safe::write(&mut *out, &facts, false)?;
        out.write_all(b",\"traceEvents\":[")?;
        let mut first = true;
        let mut put = |out: &mut dyn Write, value: &Value| {
            out.write_all(if first { b"\n" } else { b",\n" })?;
            first = false;
            safe::write(out, value, false)
        };
        for (pid, comm) in &self.comms {
            put(out, &metadata(*pid, 0, "process_name", comm))?;
        }
        let mut lane = 0;
        for slices in self.slices.chunk_by(|a, b| (a.pid, a.row) == (b.pid, b.row)) {
            let Some(slice) = slices.first() else { continue };
            let (title, task) = self.titles(slice.row);
            // The lane that was free first; a new one where all are taken.
            let mut free: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
            for slice in slices {
                let tid = match free.peek() {
                    Some(&Reverse((until, tid))) if until <= slice.begin_ns => {
                        free.pop();
                        tid
                    }
                    _ => {
                        lane += 1;
                        put(out, &metadata(slice.pid, lane, "thread_name", &title))?;
                        put(out, &sort_index(slice.pid, lane))?;
                        lane
                    }
                };
                free.push(Reverse((slice.end_ns, tid)));
                put(out, &self.complete(slice, tid, &task, &title))?;
                for state in self.states_of(slice, tid) {
                    put(out, &state)?;
                }
            }
        }
        for (pid, name, time_ns, child) in &self.instants {
            let event = json!({
                "name": name, "cat": "process", "ph": "i", "s": "p", "ts": self.micros(*time_ns), "pid": pid, "tid": 0,
                "args": { "child": child },
            });
            put(out, &event)?;
        }
        out.write_all(b"\n]}\n")
    }

    /// Tasks that lived all through the window.
    fn add_those_without_events(&mut self, end_ns: u64, pids: &BTreeMap<u32, u32>) {
        let known: FxHashSet<(u32, u64)> =
            self.slices.iter().map(|slice| (slice.process, slice.task)).collect();
        for (&(process, task), seen) in self.states.iter().filter(|(key, _)| !known.contains(*key)) {
            let Some(&pid) = pids.get(&process) else { continue };
            let row = Row::Site(seen.site);
            let begin_ns = self.begin_ns;
            self.slices.push(Slice { process, pid, row, task, begin_ns, end_ns, before: true, after: true });
        }
    }

    /// What the task of a slice was seen doing in it.
    fn states_of(&self, slice: &Slice, tid: u64) -> Vec<Value> {
        let Row::Site(_) = slice.row else { return Vec::new() };
        let Some(Seen { states: seen, .. }) = self.states.get(&(slice.process, slice.task)) else {
            return Vec::new();
        };
        let within: Vec<(u64, u32)> =
            seen.iter().copied().filter(|(at, _)| (slice.begin_ns..slice.end_ns).contains(at)).collect();
        let ends = within.iter().skip(1).map(|&(at, _)| at).chain([slice.end_ns]);
        within
            .iter()
            .zip(ends)
            .map(|(&(at_ns, state), until_ns)| {
                json!({
                    "name": self.state_names.get(state as usize),
                    "cat": "state",
                    "ph": "X",
                    "ts": self.micros(at_ns),
                    "dur": micros(until_ns - at_ns),
                    "pid": slice.pid,
                    "tid": tid,
                    "args": { "seen": "by looks at memory" },
                })
            })
            .collect()
    }

    fn complete(&self, slice: &Slice, tid: u64, task: &str, title: &str) -> Value {
        let category = match slice.row {
            Row::Site(at) => self.sites.get(at as usize).map_or("task", |(id, _)| id.runtime.name()),
            Row::Threads => "thread",
        };
        let id =
            if slice.row == Row::Threads { slice.task.to_string() } else { format!("{:#x}", slice.task) };
        json!({
            "name": task,
            "cat": category,
            "ph": "X",
            "ts": self.micros(slice.begin_ns),
            "dur": micros(slice.end_ns - slice.begin_ns),
            "pid": slice.pid,
            "tid": tid,
            "args": {
                "id": id,
                "created_by": title,
                "started_in_window": !slice.before,
                "ended_in_window": !slice.after,
            },
        })
    }

    /// What a row and what the slices in it are called.
    fn titles(&self, row: Row) -> (String, String) {
        let Row::Site(at) = row else { return ("threads".to_owned(), "thread".to_owned()) };
        let Some((id, name)) = self.sites.get(at as usize) else { return Default::default() };
        let function = name.function.clone().unwrap_or_else(|| format!("{:#x}", id.site));
        let title = match (&name.file, name.line) {
            (Some(file), Some(line)) => format!("{function} ({file}:{line})"),
            _ => function.clone(),
        };
        (title, name.task.clone().unwrap_or(function))
    }

    fn micros(&self, time_ns: u64) -> f64 {
        micros(time_ns.saturating_sub(self.begin_ns))
    }
}

/// Microseconds with three decimals: exact nanoseconds for windows of months.
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are three months")]
fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn metadata(pid: u32, tid: u64, kind: &str, name: &str) -> Value {
    json!({ "name": kind, "ph": "M", "pid": pid, "tid": tid, "args": { "name": name } })
}

fn sort_index(pid: u32, tid: u64) -> Value {
    json!({ "name": "thread_sort_index", "ph": "M", "pid": pid, "tid": tid, "args": { "sort_index": tid } })
}

#[cfg(test)]
mod tests {
    use leakwatch_common::RuntimeKind;

    use super::*;
    use crate::report::FrameName;

    struct Fixed;

    impl Names for Fixed {
        fn site(&mut self, _site: SiteId) -> SiteName {
            SiteName {
                function: Some("main.leak".to_owned()),
                file: Some("/m.go".to_owned()),
                line: Some(3),
                task: Some("main.leak.func1".to_owned()),
                system: false,
            }
        }

        fn frame(&mut self, _pc: u64) -> Vec<FrameName> {
            Vec::new()
        }
    }

    fn event(kind: EventKind, time_ns: u64, task: u64) -> Event {
        let runtime = matches!(kind, EventKind::TaskStart | EventKind::TaskEnd).then_some(RuntimeKind::Go);
        Event { time_ns, process: 1, kind, runtime, task, site: 5, entry: 6, extra: 0 }
    }

    fn trace(events: &[Event]) -> Value {
        let mut trace = Trace::begin(1000);
        for event in events {
            trace.add(event, 42, "app", &mut Fixed);
        }
        let mut out = Vec::new();
        trace.finish(9000, &BTreeMap::from([(1, 42)]), &mut out).expect("memory");
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn lives_that_overlap_lie_in_lanes() {
        use EventKind::{Fork, TaskEnd, TaskStart, ThreadExit};
        let json = trace(&[
            event(TaskStart, 2000, 0xa),
            event(TaskStart, 3000, 0xb),
            event(TaskEnd, 4000, 0xa),
            event(TaskStart, 5000, 0xa),
            event(TaskEnd, 6000, 0xc),
            event(Fork, 6500, 77),
            event(ThreadExit, 7000, 12),
        ]);
        let events = json["traceEvents"].as_array().expect("events");
        let slices: Vec<(f64, f64, &str, bool, bool)> = events
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|event| {
                let args = &event["args"];
                (
                    event["ts"].as_f64().expect("ts"),
                    event["dur"].as_f64().expect("dur"),
                    args["id"].as_str().expect("id"),
                    args["started_in_window"].as_bool().expect("bool"),
                    args["ended_in_window"].as_bool().expect("bool"),
                )
            })
            .collect();
        assert_eq!(
            slices,
            [
                (0.0, 5.0, "0xc", false, true),
                (1.0, 2.0, "0xa", true, true),
                (2.0, 6.0, "0xb", true, false),
                (4.0, 4.0, "0xa", true, false),
                (0.0, 6.0, "12", false, true),
            ]
        );
        // In one lane nothing overlaps.
        let mut ends: BTreeMap<u64, f64> = BTreeMap::new();
        for event in events.iter().filter(|event| event["ph"] == "X") {
            let (tid, ts) = (event["tid"].as_u64().expect("tid"), event["ts"].as_f64().expect("ts"));
            let end = ends.insert(tid, ts + event["dur"].as_f64().expect("dur"));
            assert!(end.is_none_or(|end| end <= ts), "{event}");
        }
        assert_eq!(events.iter().filter(|event| event["ph"] == "i").count(), 1);
    }

    #[test]
    fn a_window_is_bounded() {
        let mut trace = Trace::begin(0);
        trace.events = MOST_EVENTS;
        trace.add(&event(EventKind::TaskStart, 1, 1), 42, "app", &mut Fixed);
        assert_eq!(trace.left_out(), 1);
        assert!(trace.open.is_empty());
    }
}
