//! The floors of the `leakwatch` crate as a table: who may import whom, which outside crate lives where, and
//! who may read the clock or say `unsafe`.
//!
//! The table is the architecture's only written form that a machine reads; a change here needs a reason in
//! its row. It may never hold a cycle.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::imports::{self, Facts, Target};

/// A top-level module of `leakwatch`, in floor order.
struct Floor {
    name: &'static str,
    /// The floors it may import besides itself.
    may: &'static [&'static str],
    why: &'static str,
}

const FLOORS: &[Floor] = &[
    Floor { name: "observe", may: &[], why: "plain data: what collection tells the model" },
    Floor { name: "host", may: &["observe"], why: "processes and memory are named by observe's ids" },
    Floor { name: "folder", may: &[], why: "one place writes files that nobody asked for by hand" },
    Floor {
        name: "images",
        may: &["observe", "host", "folder"],
        why: "reads binaries through host, facts through inspect, and keeps what it read",
    },
    Floor { name: "kernel", may: &["observe"], why: "loads, attaches, and hands out observations" },
    Floor {
        name: "collect",
        may: &["observe", "host", "images", "kernel"],
        why: "joins probes and memory into one stream",
    },
    Floor { name: "model", may: &["observe"], why: "a pure function of observations and times" },
    Floor { name: "detect", may: &["observe", "model"], why: "rules over the model's view" },
    Floor {
        name: "report",
        may: &["observe", "images", "model", "detect"],
        why: "puts figures, verdicts and names of addresses together",
    },
    Floor {
        name: "rules",
        may: &["report"],
        why: "what users want to be told, over the figures of reports: no clock, no files, nothing done",
    },
    Floor { name: "text", may: &["report"], why: "an output sees nothing but the report" },
    Floor { name: "tui", may: &["report"], why: "an output sees nothing but the report" },
    Floor { name: "export", may: &["report"], why: "an output sees nothing but the report" },
    Floor { name: "page", may: &["report"], why: "an output sees nothing but the report" },
    Floor {
        name: "http",
        may: &[],
        why: "one client for all who ask others: no redirections, secrets from files",
    },
    Floor {
        name: "alert",
        may: &["report", "rules", "text", "export", "http", "folder"],
        why: "does what is to be done when a rule fires, on a thread of its own",
    },
    Floor {
        name: "relay",
        may: &["report", "export", "http", "folder"],
        why: "sends what export encodes; a queue, retries and sockets are no part of an encoding",
    },
    Floor {
        name: "fleet",
        may: &["report", "export", "http"],
        why: "asks a Prometheus what the agents of all hosts saw; it measures nothing itself",
    },
    Floor {
        name: "record",
        may: &["observe", "model", "detect", "report"],
        why: "what collection told and who it was told of, in a file, and the same reports from it",
    },
    Floor {
        name: "agent",
        may: &[
            "observe", "host", "images", "kernel", "collect", "model", "detect", "report", "text", "tui",
            "export", "http", "rules", "alert", "relay",
        ],
        why: "the loop that turns every floor's crank; it does not know flags",
    },
    Floor { name: "cli", may: &[], why: "what was typed, and nothing else" },
    Floor {
        name: "config",
        may: &[
            "cli", "observe", "host", "images", "kernel", "collect", "model", "detect", "report", "text",
            "tui", "export", "http", "agent", "rules", "alert", "relay",
        ],
        why: "turns flags and TOML into each floor's Options; what is an address, http says",
    },
    Floor {
        name: "cmd",
        may: &[
            "cli", "config", "host", "kernel", "collect", "agent", "report", "text", "tui", "export", "page",
            "record", "rules", "alert", "fleet", "http",
        ],
        why: "one subcommand a file: chooses processes and options, opens the kernel side, hands both to the agent \
              and its reports to one output",
    },
    Floor { name: "main", may: &["cli", "cmd"], why: "parse, run, exit code" },
];

/// A module below a floor that may import more than its floor.
const EXTRA: &[Floor] = &[
    Floor { name: "cmd::dump", may: &["images"], why: "looks at one process once, with no loop around it" },
    Floor { name: "cmd::floor", may: &["images"], why: "probes that do nothing, with no loop around them" },
    Floor { name: "cmd::inspect", may: &["images"], why: "looks at one binary, with no loop around it" },
    Floor { name: "cmd::prove", may: &["images"], why: "looks at one process once, with no loop around it" },
    Floor { name: "export::events", may: &["observe"], why: "prints the stream itself, before any report" },
    Floor { name: "export::trace", may: &["observe"], why: "draws the stream itself, before any report" },
];

/// An outside crate that only some floors may name.
struct Guest {
    name: &'static str,
    floors: &'static [&'static str],
    why: &'static str,
}

const GUESTS: &[Guest] = &[
    Guest { name: "aya", floors: &["kernel"], why: "one floor talks to the kernel" },
    Guest { name: "aya_log", floors: &["kernel"], why: "one floor talks to the kernel" },
    Guest { name: "aya_obj", floors: &["kernel"], why: "one floor talks to the kernel" },
    Guest {
        name: "tokio",
        floors: &["kernel", "collect", "export", "relay", "alert", "tui", "agent", "cmd"],
        why: "async only at the edges",
    },
    Guest {
        name: "serde",
        floors: &["observe", "host", "images", "export", "record", "config"],
        why: "nothing below an output serializes, but for what is kept of binaries; host reads what container engines keep",
    },
    Guest {
        name: "serde_json",
        floors: &["observe", "host", "images", "export", "record", "config"],
        why: "nothing below an output serializes, but for what is kept of binaries; host reads what container engines keep",
    },
    Guest { name: "axum", floors: &["alert", "agent"], why: "the agent's server, and the answer of a hold" },
    Guest { name: "futures_util", floors: &["agent"], why: "who listens to the agent gets a stream" },
    Guest { name: "hyper", floors: &["agent"], why: "one server answers requests, each bounded" },
    Guest { name: "hyper_util", floors: &["agent"], why: "one server answers requests, each bounded" },
    Guest { name: "rustls", floors: &["agent", "alert"], why: "TLS at the edges" },
    Guest { name: "tokio_rustls", floors: &["agent"], why: "TLS at the edges" },
    Guest { name: "sha2", floors: &["agent"], why: "of secrets only hashes are kept" },
    Guest {
        name: "subtle",
        floors: &["agent"],
        why: "secrets are compared in the same time whatever they are",
    },
    Guest { name: "sd_notify", floors: &["cmd"], why: "one command runs under a service manager" },
    Guest { name: "seccompiler", floors: &["host"], why: "one floor asks the operating system" },
    Guest { name: "toml", floors: &["config"], why: "one floor knows the configuration's form" },
    Guest { name: "cpp_demangle", floors: &["images"], why: "one floor gives names to addresses" },
    Guest { name: "rustc_demangle", floors: &["images"], why: "one floor gives names to addresses" },
    Guest {
        name: "regex",
        floors: &["images", "collect", "rules", "agent", "config", "cmd"],
        why: "symbols are searched by pattern, rules and reports pick sites by it, the agent processes",
    },
    Guest { name: "quick_junit", floors: &["export"], why: "one output speaks to build servers" },
    Guest { name: "httpdate", floors: &["http"], why: "a receiver may say by a date when to come again" },
    Guest {
        name: "reqwest",
        floors: &["http", "alert", "relay", "fleet"],
        why: "alerts and metrics are sent by HTTP, and a Prometheus is asked; nothing else is",
    },
    Guest { name: "strsim", floors: &["images", "config"], why: "what was probably meant" },
    Guest { name: "clap", floors: &["cli", "cmd", "main"], why: "one floor knows flags" },
    Guest {
        name: "clap_complete",
        floors: &["cli", "cmd"],
        why: "the command `completions`, and its shells",
    },
    Guest { name: "clap_mangen", floors: &["cmd"], why: "the command `man`" },
    Guest {
        name: "prost",
        floors: &["host", "export", "relay"],
        why: "outputs speak protocol buffers, and containerd keeps what it knows of pods in one",
    },
    Guest {
        name: "opentelemetry_proto",
        floors: &["export", "relay"],
        why: "the official messages of one output, and who sends them",
    },
    Guest { name: "tonic", floors: &["relay"], why: "one floor speaks gRPC" },
    Guest { name: "snap", floors: &["export"], why: "remote write is compressed so" },
    Guest {
        name: "flate2",
        floors: &["export", "record", "relay", "agent"],
        why: "profiles are gzipped, by pprof's convention, recordings deflated, the queue has its checksums, and the \
              agent's server answers in gzip",
    },
    Guest { name: "maud", floors: &["page"], why: "one output writes HTML, and every name in it is escaped" },
    Guest { name: "ratatui", floors: &["tui"], why: "one output draws screens" },
    Guest { name: "crossterm", floors: &["tui"], why: "one output reads keys" },
    Guest {
        name: "signal_hook",
        floors: &["tui"],
        why: "a screen is given back when a signal ends or stops us",
    },
    Guest { name: "comfy_table", floors: &["text"], why: "one output draws tables" },
    Guest {
        name: "anyhow",
        floors: &["agent", "config", "cmd", "main"],
        why: "lower floors have their own errors",
    },
    Guest {
        name: "leakwatch_inspect",
        floors: &["images", "kernel", "collect", "report"],
        why: "the model and its rules know no binaries",
    },
];

/// Where the clock may be read; time is an argument everywhere else.
const CLOCK: &str = "leakwatch/src/agent/clock.rs";

/// Names that read a clock when `now` is called on them.
const CLOCKS: [&str; 4] = ["SystemTime", "Instant", "Timestamp", "Zoned"];

/// Modules that may say `unsafe`.
const UNSAFE: &[(&str, &str)] = &[
    ("host::memory", "reads another process's memory into uninitialised bytes"),
    ("host::child", "stops a program that it starts before its first instruction"),
    ("host::exe", "maps a file that another program could cut short"),
    ("kernel", "bytes of maps and rings as shared types"),
];

/// Which floor imports which, and where that was first seen.
#[derive(Default)]
pub(super) struct Edges(BTreeMap<(String, String), (String, usize)>);

impl Edges {
    /// Imports that lead back to where they started, whatever the table says.
    pub(super) fn cycles(&self) -> Vec<Finding> {
        let edges: BTreeSet<(&str, &str)> =
            self.0.keys().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        self.0
            .iter()
            .filter(|((from, to), _)| from != to && reaches(&edges, to, from))
            .map(|((from, to), (file, line))| {
                Finding::new(
                    file,
                    *line,
                    format!("`{from}` imports `{to}`, which imports `{from}`: a cycle of floors"),
                )
            })
            .collect()
    }
}

fn reaches(edges: &BTreeSet<(&str, &str)>, start: &str, goal: &str) -> bool {
    let mut open = vec![start.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(here) = open.pop() {
        if here == goal {
            return true;
        }
        if seen.insert(here.clone()) {
            open.extend(edges.iter().filter(|(from, _)| *from == here).map(|(_, to)| (*to).to_owned()));
        }
    }
    false
}

/// What is wrong with the table itself: a floor that is not there, a row without a reason, a cycle.
pub(super) fn faults_of_the_table() -> Vec<Finding> {
    let file = "xtask/src/tidy/floors.rs";
    let mut findings = Vec::new();
    let mut edges = Edges::default();
    for floor in FLOORS.iter().chain(EXTRA) {
        if floor.why.is_empty() {
            findings.push(Finding::new(file, 0, format!("the row `{}` has no reason", floor.name)));
        }
        for to in floor.may {
            if !FLOORS.iter().any(|other| other.name == *to) {
                findings.push(Finding::new(
                    file,
                    0,
                    format!("the row `{}` names `{to}`, which is no floor", floor.name),
                ));
            }
            let from = floor.name.split("::").next().unwrap_or_default();
            edges.0.insert((from.to_owned(), (*to).to_owned()), (file.to_owned(), 0));
        }
    }
    for guest in GUESTS.iter().filter(|guest| guest.why.is_empty()) {
        findings.push(Finding::new(file, 0, format!("the row `{}` has no reason", guest.name)));
    }
    findings.extend(edges.cycles());
    findings
}

/// Checks one Rust file of any crate against the table.
pub(super) fn check(file: &str, parsed: &syn::File, edges: &mut Edges) -> Vec<Finding> {
    let Some((krate, below)) = file.split_once("/src/") else {
        return Vec::new();
    };
    let module = module_of(below);
    // `check_test_modules` sees to it that such a file is for tests only.
    if module.iter().any(|name| name == "tests") {
        return Vec::new();
    }
    let facts = imports::facts(parsed, &module);
    let mut findings = match krate {
        "leakwatch" => check_leakwatch(file, &module, &facts, edges),
        "leakwatch-inspect" | "leakwatch-common" => check_pure(file, &facts),
        _ => return Vec::new(),
    };
    let moved = facts.moved_modules.iter();
    findings.extend(
        moved.map(|line| Finding::new(file, *line, "`#[path]` hides where a module is: move the file")),
    );
    findings.extend(check_test_modules(file, parsed));
    findings
}

/// A module called `tests` is free of the floors, so it must not be part of a build.
fn check_test_modules(file: &str, parsed: &syn::File) -> Option<Finding> {
    parsed.items.iter().find_map(|item| match item {
        syn::Item::Mod(module) if module.ident == "tests" && !imports::is_test_only(&module.attrs) => {
            let line = module.ident.span().start().line;
            Some(Finding::new(file, line, "`mod tests` without `#[cfg(test)]`"))
        }
        _ => None,
    })
}

/// `host/memory/mod.rs` -> `["host", "memory"]`
fn module_of(below: &str) -> Vec<String> {
    let mut names: Vec<String> = below.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|name| name == "mod" || (names.len() == 1 && name == "lib")) {
        names.pop();
    }
    names
}

fn check_leakwatch(file: &str, module: &[String], facts: &Facts, edges: &mut Edges) -> Vec<Finding> {
    let mut findings = Vec::new();
    let top = module.first().map_or("lib", String::as_str);
    let row = FLOORS.iter().find(|floor| floor.name == top);
    if row.is_none() && top != "lib" {
        findings.push(Finding::new(
            file,
            0,
            format!("`{top}` is no floor: give it a row in xtask/src/tidy/floors.rs"),
        ));
    }
    let path = module.join("::");
    let extra = EXTRA.iter().filter(|extra| is_within(&path, extra.name)).flat_map(|extra| extra.may);
    let may: Vec<&str> = row.into_iter().flat_map(|floor| floor.may).chain(extra).copied().collect();

    for reference in &facts.references {
        let line = reference.line;
        let (own, other) = match &reference.target {
            Target::Own(path) => (Some(path.as_slice()), None),
            // The binary sees its library from outside.
            Target::Other(path) if top == "main" && path.first().is_some_and(|name| name == "leakwatch") => {
                (path.get(1..), None)
            }
            Target::Other(path) => (None, Some(path.as_slice())),
        };
        if let (Some(own), Some(row)) = (own, row) {
            findings.extend(check_own(file, line, row, &may, own, edges));
        }
        let name = other.and_then(<[String]>::first);
        if let Some(guest) = name.and_then(|name| GUESTS.iter().find(|guest| guest.name == name))
            && !guest.floors.contains(&top)
        {
            let floors = guest.floors.join(", ");
            let text = format!("`{}` may be named only in {floors}: {}", guest.name, guest.why);
            findings.push(Finding::new(file, line, text));
        }
    }
    if file != CLOCK {
        findings.extend(clock_reads(file, facts));
    }
    if !UNSAFE.iter().any(|(place, _)| is_within(&path, place)) {
        let places: Vec<&str> = UNSAFE.iter().map(|(place, _)| *place).collect();
        let text = format!("`unsafe` is only for {}", places.join(", "));
        findings.extend(facts.unsafe_lines.iter().map(|line| Finding::new(file, *line, text.clone())));
    }
    findings
}

fn check_own(
    file: &str,
    line: usize,
    row: &Floor,
    may: &[&str],
    own: &[String],
    edges: &mut Edges,
) -> Option<Finding> {
    let to = own.first().map_or("*", String::as_str);
    if to == row.name {
        return None;
    }
    if !FLOORS.iter().any(|floor| floor.name == to) {
        let text = format!("`crate::{to}` is no floor: name the floor that has it");
        return Some(Finding::new(file, line, text));
    }
    edges.0.entry((row.name.to_owned(), to.to_owned())).or_insert_with(|| (file.to_owned(), line));
    if may.contains(&to) {
        return None;
    }
    let allowed =
        if may.is_empty() { "no other floor".to_owned() } else { format!("only {}", may.join(", ")) };
    let text = format!("`{}` must not import `{to}`; it may import {allowed} ({})", row.name, row.why);
    Some(Finding::new(file, line, text))
}

/// `leakwatch-inspect` and `leakwatch-common`: bytes in, facts out.
fn check_pure(file: &str, facts: &Facts) -> Vec<Finding> {
    let mut findings = clock_reads(file, facts);
    for reference in &facts.references {
        let Target::Other(path) = &reference.target else { continue };
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        if let ["std", "fs" | "net" | "process" | "env" | "thread", ..] | ["tokio" | "nix" | "libc", ..] =
            names.as_slice()
        {
            let text = format!("`{}`: this crate is pure, its caller reads and writes", names.join("::"));
            findings.push(Finding::new(file, reference.line, text));
        }
    }
    findings
}

fn clock_reads(file: &str, facts: &Facts) -> Vec<Finding> {
    let reads = facts.references.iter().filter_map(|reference| {
        let (Target::Own(path) | Target::Other(path)) = &reference.target;
        let last = path.last()?.as_str();
        let before = path.iter().rev().nth(1).map_or("", String::as_str);
        let reads = (last == "now" && CLOCKS.contains(&before)) || last.starts_with("clock_gettime");
        reads.then(|| (reference.line, path.join("::")))
    });
    let text =
        |path: String| format!("`{path}` reads the clock: only {CLOCK} does, time is an argument elsewhere");
    reads.map(|(line, path)| Finding::new(file, line, text(path))).collect()
}

fn is_within(module: &str, place: &str) -> bool {
    module.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_snippet(file: &str, source: &str) -> Vec<String> {
        let parsed = syn::parse_file(source).expect("the snippet parses");
        check(file, &parsed, &mut Edges::default()).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[track_caller]
    fn refused(file: &str, source: &str, wanted: &str) {
        let findings = check_snippet(file, source);
        assert!(findings.iter().any(|finding| finding.contains(wanted)), "{wanted:?} is not in {findings:?}");
    }

    #[track_caller]
    fn accepted(file: &str, source: &str) {
        assert_eq!(check_snippet(file, source), Vec::<String>::new());
    }

    #[test]
    fn the_table_holds_together() {
        assert_eq!(faults_of_the_table(), []);
    }

    #[test]
    fn imports_go_down() {
        accepted(
            "leakwatch/src/detect/growth.rs",
            "use crate::{model::SiteView, observe::SiteId}; use super::Rule;",
        );
        refused(
            "leakwatch/src/model/site.rs",
            "use crate::report::Report;",
            "site.rs:1: `model` must not import `report`",
        );
        refused(
            "leakwatch/src/model/site.rs",
            "fn f() { super::super::text::draw() }",
            "must not import `text`",
        );
        refused("leakwatch/src/model/mod.rs", "fn f() { super::text::draw() }", "must not import `text`");
        refused(
            "leakwatch/src/text/table.rs",
            "fn f() { print!(\"{}\", crate::export::X) }",
            "must not import `export`",
        );
        refused(
            "leakwatch/src/observe/ids.rs",
            "use crate::{\n  host::X};",
            "ids.rs:2: `observe` must not import `host`",
        );
        accepted("leakwatch/src/model/site.rs", "#[cfg(test)] mod tests { use crate::report::Report; }");
    }

    #[test]
    fn tests_may_import_anything_and_are_only_tests() {
        accepted("leakwatch/src/export/tests.rs", "use crate::observe::SiteId;");
        accepted("leakwatch/src/export/mod.rs", "#[cfg(test)] mod tests;");
        refused("leakwatch/src/export/mod.rs", "mod tests;", "`mod tests` without `#[cfg(test)]`");
    }

    #[test]
    fn the_root_is_no_way_round() {
        refused("leakwatch/src/model/site.rs", "use crate::*;", "`crate::*` is no floor");
        refused("leakwatch/src/model/site.rs", "use crate::Report;", "`crate::Report` is no floor");
        refused("leakwatch/src/model/mod.rs", "use super::*;", "`crate::*` is no floor");
        refused("leakwatch/src/helpers/mod.rs", "", "`helpers` is no floor");
        refused("leakwatch/src/model/mod.rs", "#[path = \"../report/mod.rs\"] mod r;", "`#[path]`");
        accepted("leakwatch/src/lib.rs", "pub mod model; pub use model::Model;");
    }

    #[test]
    fn main_sees_the_library_from_outside() {
        accepted("leakwatch/src/main.rs", "use leakwatch::{cli::Cli, cmd};");
        refused(
            "leakwatch/src/main.rs",
            "fn main() { leakwatch::agent::run() }",
            "`main` must not import `agent`",
        );
    }

    #[test]
    fn single_files_may_have_more() {
        accepted("leakwatch/src/cmd/inspect.rs", "use crate::images::Images;");
        refused("leakwatch/src/cmd/watch.rs", "use crate::images::Images;", "`cmd` must not import `images`");
        refused(
            "leakwatch/src/export/json.rs",
            "use crate::observe::Event;",
            "`export` must not import `observe`",
        );
    }

    #[test]
    fn guests_stay_where_they_belong() {
        accepted("leakwatch/src/kernel/object.rs", "use aya::Ebpf;");
        refused("leakwatch/src/collect/live.rs", "use aya::Ebpf;", "`aya` may be named only in kernel");
        refused("leakwatch/src/model/mod.rs", "async fn f() { tokio::spawn(g()); }", "`tokio`");
        refused("leakwatch/src/report/mod.rs", "#[derive(serde::Serialize)] struct R;", "`serde`");
        refused("leakwatch/src/host/mod.rs", "use ::anyhow::Result;", "`anyhow`");
        refused("leakwatch/src/model/mod.rs", "use leakwatch_inspect::Elf;", "`leakwatch_inspect`");
    }

    #[test]
    fn the_clock_is_read_in_one_place() {
        let source = "fn f() { let t = std::time::Instant::now(); }";
        accepted("leakwatch/src/agent/clock.rs", source);
        refused("leakwatch/src/agent/mod.rs", source, "reads the clock");
        refused(
            "leakwatch/src/model/mod.rs",
            "use std::time::SystemTime; fn f() { SystemTime::now(); }",
            "reads the clock",
        );
        refused("leakwatch/src/host/mod.rs", "fn f() { rustix::time::clock_gettime(x); }", "reads the clock");
        refused("leakwatch-inspect/src/lib.rs", source, "reads the clock");
        refused(
            "leakwatch/src/model/mod.rs",
            "fn f() -> Vec<T> { vec![Timestamp::now()] }",
            "reads the clock",
        );
    }

    #[test]
    fn unsafe_is_kept_in_its_places() {
        accepted("leakwatch/src/host/memory/process.rs", "fn f() { unsafe { g() } }");
        refused("leakwatch/src/host/process.rs", "fn f() { unsafe { g() } }", "`unsafe` is only for");
        refused("leakwatch/src/host/memory_map.rs", "fn f() { unsafe { g() } }", "`unsafe` is only for");
    }

    #[test]
    fn inspect_is_pure() {
        refused("leakwatch-inspect/src/lib.rs", "fn f() { std::fs::read(\"x\"); }", "`std::fs::read`");
        refused("leakwatch-inspect/src/lib.rs", "use std::{fs::File, io};", "`std::fs::File`");
        accepted("leakwatch-inspect/src/lib.rs", "use std::collections::BTreeMap;");
    }

    #[test]
    fn cycles_are_found_whatever_the_table_says() {
        let mut edges = Edges::default();
        for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")] {
            edges.0.insert((from.to_owned(), to.to_owned()), ("f.rs".to_owned(), 1));
        }
        assert_eq!(edges.cycles().len(), 3);
    }
}
