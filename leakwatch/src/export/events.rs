//! Single events as JSON lines.

use leakwatch_common::EventKind;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::json::rfc3339;
use super::safe;
use crate::observe::{Event, SiteId};
use crate::report::{Names, WallClock};

/// Named sites remembered; beyond that the memory starts anew.
const SITES_KEPT: usize = 1 << 16;

/// Turns events into lines. Remembers how sites are written, because events come by the hundred thousand.
#[derive(Debug, Default)]
pub struct EventEncoder {
    /// By process incarnation and site: the part of the line that names the site.
    sites: FxHashMap<(u32, SiteId), Vec<u8>>,
}

/// The part of a line that is the same for all events of a site.
#[derive(Serialize)]
struct SiteJson {
    runtime: &'static str,
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    entry: Option<String>,
}

/// The name of a kind of event.
const fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::TaskStart => "task_start",
        EventKind::TaskEnd => "task_end",
        EventKind::ThreadStart => "thread_start",
        EventKind::ThreadExit => "thread_exit",
        EventKind::Fork => "fork",
        EventKind::Exec => "exec",
        EventKind::ChildExec => "child_exec",
        EventKind::ChildExit => "child_exit",
        EventKind::HostExec => "host_exec",
    }
}

impl EventEncoder {
    /// Appends the event as one line of JSON, newline included.
    ///
    /// `pid` and `names` are those of the event's process. All lines have the same keys, with `null` for what does
    /// not apply or is not known; `tid` is the thread of a thread event or the child of a fork.
    pub fn encode(
        &mut self,
        event: &Event,
        pid: u32,
        clock: &WallClock,
        names: &mut dyn Names,
        out: &mut Vec<u8>,
    ) {
        let time = rfc3339(clock.at(event.time_ns), 9);
        append(out, &format!("{{\"time\":\"{time}\",\"kind\":\"{}\"", kind_name(event.kind)));
        if let Some(runtime) = event.runtime {
            let site = SiteId { runtime, site: event.site, entry: event.entry };
            append(out, &format!(",\"task\":\"0x{:x}\",\"tid\":null,", event.task));
            self.site(event.process, site, names, out);
        } else {
            append(
                out,
                &format!(",\"task\":null,\"tid\":{},\"runtime\":null,\"function\":null,", event.task),
            );
            append(out, "\"file\":null,\"line\":null,\"entry\":null");
        }
        let lifetime =
            lifetime_ns(event).map(|ns| format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000));
        append(out, &format!(",\"lifetime_s\":{}", lifetime.as_deref().unwrap_or("null")));
        append(out, &format!(",\"pid\":{pid}}}\n"));
    }

    /// Appends the site's part, without braces.
    fn site(&mut self, process: u32, site: SiteId, names: &mut dyn Names, out: &mut Vec<u8>) {
        let key = (process, site);
        if !self.sites.contains_key(&key) && self.sites.len() >= SITES_KEPT {
            self.sites.clear();
        }
        let written = self.sites.entry(key).or_insert_with(|| {
            let name = names.site(site);
            let hex = |address: u64| (address != 0).then(|| format!("0x{address:x}"));
            let json = SiteJson {
                runtime: site.runtime.name(),
                function: name.function.or_else(|| hex(site.site)),
                file: name.file,
                line: name.line,
                entry: name.task.or_else(|| hex(site.entry)),
            };
            let mut bytes = Vec::new();
            if safe::write(&mut bytes, &json, false).is_err() {
                bytes.clear();
            }
            let inner = bytes.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
            inner.unwrap_or(b"\"runtime\":null").to_vec()
        });
        out.extend_from_slice(written);
    }
}

fn append(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// How long an ended task lived; `None` for other events, and where its birth was not seen.
fn lifetime_ns(event: &Event) -> Option<u64> {
    (event.kind == EventKind::TaskEnd && event.extra != 0).then(|| event.time_ns.saturating_sub(event.extra))
}
