//! A program whose true tokio tasks are known, `tests/targets/tokio/truth`, and what a report must say of it.
//!
//! Its README has the protocol. Names of types are compared in a form that all ways to write them have in common.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::report::{Counts, ProcessReport};
use crate::target::{Ready, SiteTruth, Target};

/// What a report calls tokio's tasks, and its jobs on the blocking pool.
pub const TASKS: &str = "tokio";
/// See `TASKS`.
pub const BLOCKING: &str = "tokio_blocking";

/// A running target; killed and reaped when dropped.
#[derive(Debug)]
pub struct TokioTarget {
    target: Target,
}

/// The common form of what a type is called by its place: `{async block@src/main.rs:3:5}`.
const PLACE: &str = "{}";

/// What the target knows of its tasks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct TokioTruth {
    /// What tokio's own metrics say, without tasks of a `LocalSet`; none where this version has no such metric.
    pub num_alive_tasks: Option<u64>,
    /// Alive now, without blocking jobs.
    pub live: u64,
    /// Started since the process began, without blocking jobs.
    pub started: u64,
    /// Ended since the process began, without blocking jobs.
    pub ended: u64,
    /// Of `live`, those in a `LocalSet`.
    pub local: u64,
    /// Jobs of `spawn_blocking`.
    pub blocking: SiteTruth,
    /// By type of the future or job.
    pub sites: BTreeMap<String, TokioSite>,
    /// Tasks start and end in the background, so this is stale by now.
    pub busy: bool,
}

/// What the target knows of the tasks of one type.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct TokioSite {
    /// Alive now.
    pub live: u64,
    /// Started since the process began.
    pub started: u64,
    /// Ended since the process began.
    pub ended: u64,
    /// `task`, `local` or `blocking`.
    pub kind: String,
}

impl TokioTarget {
    /// Starts a target with a `multi_thread` runtime of two workers.
    #[track_caller]
    pub fn start(binary: &Path) -> Self {
        Self::start_command(&mut Command::new(binary))
    }

    /// Starts a target whose main runtime is a `current_thread` one.
    #[track_caller]
    pub fn start_current_thread(binary: &Path) -> Self {
        Self::start_command(Command::new(binary).env("TRUTH_RUNTIME", "current_thread"))
    }

    /// Starts a target by a command of the caller's.
    #[track_caller]
    pub fn start_command(command: &mut Command) -> Self {
        Self { target: Target::start_command(command) }
    }

    /// Its process id, as this test's process sees it.
    pub fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// What it said of itself.
    pub fn ready(&self) -> &Ready {
        self.target.ready()
    }

    /// Sends a command and returns what its answer carries; panics when the answer is an error.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> Value {
        self.target.command(line)
    }

    /// Sends a command that this build may not be able to do.
    #[track_caller]
    pub fn try_command(&mut self, line: &str) -> Result<Value, String> {
        self.target.try_command(line)
    }

    /// What it knows of its tasks, settled and compared with tokio's own count.
    #[track_caller]
    pub fn truth(&mut self) -> TokioTruth {
        let answer = self.target.command("truth");
        let truth: TokioTruth = match serde_json::from_value(answer.clone()) {
            Ok(truth) => truth,
            Err(error) => panic!("target: `truth` answers {answer}: {error}"),
        };
        if let (Some(alive), false) = (truth.num_alive_tasks, truth.busy) {
            assert_eq!(alive + truth.local, truth.live, "the target's book and tokio's");
        }
        truth
    }

    /// The names that `spawn` knows.
    #[track_caller]
    pub fn kinds(&mut self) -> Vec<String> {
        serde_json::from_value(self.command("kinds")["kinds"].clone()).expect("a list of names")
    }

    /// The target itself, for ways to end it.
    pub fn into_inner(self) -> Target {
        self.target
    }

    /// The target itself.
    pub fn inner(&mut self) -> &mut Target {
        &mut self.target
    }
}

/// What should be reported, by type in the common form: of tasks, or of blocking jobs.
fn expected(before: &TokioTruth, after: &TokioTruth, blocking: bool) -> BTreeMap<String, Counts> {
    let mut expected = BTreeMap::<String, Counts>::new();
    for (name, site) in after.sites.iter().filter(|(_, site)| (site.kind == "blocking") == blocking) {
        let earlier = before.sites.get(name).cloned().unwrap_or_default();
        let sum = expected.entry(common_form(name)).or_default();
        sum.live += site.live;
        sum.live_at_attach += earlier.live;
        sum.started += site.started - earlier.started;
        sum.ended += site.ended - earlier.ended;
    }
    expected.retain(|_, counts| *counts != Counts::default());
    expected
}

/// The report's own sites of a runtime of tokio, added up by type in the common form.
#[track_caller]
pub fn by_type(process: ProcessReport<'_>, runtime: &str) -> BTreeMap<String, Counts> {
    let mut types = BTreeMap::<String, Counts>::new();
    for site in process.sites().iter().filter(|site| site["runtime"] == runtime && site["system"] == false) {
        let name = common_form(site["task"].as_str().unwrap_or_default());
        let sum = types.entry(name).or_default();
        let one = Counts::of(site);
        sum.live += one.live;
        sum.live_at_attach += one.live_at_attach;
        sum.started += one.started;
        sum.ended += one.ended;
    }
    types.retain(|_, counts| *counts != Counts::default());
    types
}

/// Panics unless every figure is the truth: alive at attach as `before` says, started and ended since and alive now
/// as `after` says, in all, and for each type where types have names, with no drift.
///
/// Types some of whose code is equal may have that code in common, with the name of one of them: such types are reported
/// by the place of their async block, and are in the sums alone.
#[track_caller]
pub fn assert_is(
    process: ProcessReport<'_>,
    before: &TokioTruth,
    after: &TokioTruth,
    named: bool,
    about: &str,
) {
    let all = Counts {
        live: after.live,
        live_at_attach: before.live,
        started: after.started - before.started,
        ended: after.ended - before.ended,
    };
    assert_eq!(process.tasks(), all, "{about}: in all; reported is left, true is right");
    for (runtime, blocking) in [(TASKS, false), (BLOCKING, true)] {
        let (reported, expected) = (by_type(process, runtime), expected(before, after, blocking));
        let (left, right) = (sum(&reported), sum(&expected));
        assert_eq!(left, right, "{about}: {runtime}; reported is left, true is right: {reported:#?}");
        if blocking {
            continue;
        }
        // A name stands for no more than its own type, and for all of it unless some of that is told by its place.
        let by_place = reported.contains_key(PLACE);
        for (name, counts) in reported.iter().filter(|(name, _)| named && *name != PLACE) {
            let own = expected.get(name).copied().unwrap_or_default();
            assert!(
                own == *counts || (by_place && own.has_all(counts)),
                "{about}: {name}: reported {counts:?}, true {own:?}; true are {expected:#?}"
            );
        }
    }
    // A process that is gone has no memory to compare with.
    if process.json()["exited"] != true {
        let drift = process.drift();
        assert_eq!(drift, 0, "{about}: drift {drift}: {:#?}", seen_differently(process));
    }
}

/// Sites of which memory shows another number of live tasks than the probes.
fn seen_differently(process: ProcessReport<'_>) -> Vec<&Value> {
    let in_memory = |site: &Value| -> u64 {
        let waiting = site["waiting"].as_array().into_iter().flatten();
        waiting.filter_map(|group| group["count"].as_u64()).sum()
    };
    let of_tokio = process.sites().iter().filter(|site| site["runtime"] == TASKS);
    of_tokio.filter(|site| Some(in_memory(site)) != site["live"].as_u64()).collect()
}

fn sum(types: &BTreeMap<String, Counts>) -> Counts {
    types.values().fold(Counts::default(), |sum, counts| Counts {
        live: sum.live + counts.live,
        live_at_attach: sum.live_at_attach + counts.live_at_attach,
        started: sum.started + counts.started,
        ended: sum.ended + counts.ended,
    })
}

/// The name of a type as symbols of both manglings, debug information and `type_name` agree on it: without generic
/// arguments, numbers of closures and hashes of crates, and without the box that tokio puts a big future into.
pub fn common_form(name: &str) -> String {
    let mut name = name.trim();
    while let Some(inner) = boxed(name) {
        name = inner;
    }
    let mut plain = String::new();
    let mut rest = name.chars().peekable();
    let (mut depth, mut last) = (0_usize, ' ');
    while let Some(c) = rest.next() {
        match c {
            // `<Type>::method`, `<Type as Trait>::method`: the type is a part of the path.
            '<' if plain.is_empty() => {}
            '>' if depth == 0 && last != '-' => {}
            '<' => depth += 1,
            '>' if last != '-' => depth -= 1,
            _ if depth > 0 => {}
            ' ' if rest.clone().take(3).collect::<String>() == "as " => {
                // Up to the end of the qualified type.
                let mut inner = 0;
                for c in rest.by_ref() {
                    match c {
                        '<' => inner += 1,
                        '>' if inner == 0 => break,
                        '>' => inner -= 1,
                        _ => {}
                    }
                }
            }
            '[' => while rest.next_if(|c| *c != ']').is_some() {},
            ']' => {}
            '{' => {
                plain.push_str("{}");
                let mut open = 1;
                while open > 0 {
                    match rest.next() {
                        Some('{') => open += 1,
                        Some('}') => open -= 1,
                        Some(_) => {}
                        None => break,
                    }
                }
            }
            c => plain.push(c),
        }
        last = c;
    }
    // `worker::<u16>::{closure#0}` leaves two empty segments.
    plain.replace("::::", "::")
}

/// The type in a pinned box, unless it is a trait object.
fn boxed(name: &str) -> Option<&str> {
    let inner = name.strip_prefix("core::pin::Pin<alloc::boxed::Box<")?.strip_suffix(">>")?;
    let inner = inner.strip_suffix(", alloc::alloc::Global").unwrap_or(inner);
    (!inner.trim_start_matches('(').starts_with("dyn ")).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gate, matrix, need};

    #[test]
    fn all_ways_to_write_a_type_have_a_common_form() {
        for (same, ways) in [
            (
                "truth::kinds::waits::{}",
                &[
                    "truth::kinds::waits::{{closure}}",
                    "truth::kinds::waits::{async_fn_env#0}",
                    "truth[5d3f]::kinds::waits::{closure#0}",
                    "core::pin::Pin<alloc::boxed::Box<truth::kinds::waits::{{closure}}>>",
                    "core::pin::Pin<alloc::boxed::Box<truth::kinds::waits::{async_fn_env#0}, alloc::alloc::Global>>",
                ][..],
            ),
            (
                "truth::kinds::worker::{}",
                &[
                    "truth::kinds::worker<alloc::string::String>::{{closure}}",
                    "truth::kinds::worker::<u16>::{closure#0}",
                    "truth::kinds::worker::{async_fn_env#0}<u16>",
                ],
            ),
            (
                "truth::kinds::Server::accept::{}",
                &[
                    "truth::kinds::Server::accept::{{closure}}",
                    "<truth::kinds::Server>::accept::{closure#0}",
                    "<truth::kinds::Server as truth::Trait<u8>>::accept::{closure#0}",
                    "truth::kinds::Server::accept::{async_fn_env#0}",
                ],
            ),
            (
                "core::pin::Pin",
                &[
                    "core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = ()> + core::marker::Send>>",
                    "core::pin::Pin<alloc::boxed::Box<(dyn core::future::future::Future<Output=()> + core::marker::Send), alloc::alloc::Global>>",
                ],
            ),
        ] {
            for way in ways {
                assert_eq!(common_form(way), same, "{way}");
            }
        }
    }

    #[test]
    fn the_book_is_kept() {
        let newest =
            matrix::tokio_target(matrix::TOKIO_RELEASES[matrix::TOKIO_RELEASES.len() - 1], "release");
        let oldest = matrix::tokio_target(matrix::TOKIO_RELEASES[0], "strip");
        need!(gate::file(&newest.path), gate::file(&oldest.path));
        for binary in [&newest, &oldest] {
            for mut target in
                [TokioTarget::start(&binary.path), TokioTarget::start_current_thread(&binary.path)]
            {
                for kind in target.kinds() {
                    assert_eq!(target.command(&format!("spawn {kind} 3"))["live"], 3, "{kind}");
                }
                let before = target.truth();
                assert_eq!(target.command("storm 1000 3")["started"], 1003);
                assert_eq!(target.command("aborts 30")["started"], 30);
                assert_eq!(target.command("toolate 5")["started"], 5);
                target.command("finish kept 2");
                target.command("abort pending 1");
                assert_eq!(target.command("shutdown")["ended"], 3);
                let after = target.truth();
                assert_eq!(after.started - before.started, 1038);
                assert_eq!(after.ended - before.ended, 1038 + 2 + 1 + 3);
                assert_eq!(after.num_alive_tasks.is_some(), binary == &newest);
                assert!(target.try_command("finish pending 1").is_err());
                // Its end of input would wait for the blocking jobs that never end.
                assert!(target.into_inner().exit(0).success());
            }
        }
    }
}
