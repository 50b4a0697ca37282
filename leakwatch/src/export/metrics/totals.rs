//! Figures over all processes, those that are gone among them, which the reports of those that live do not have.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;

use crate::report::{ProcessReport, Timestamp};

/// A process, for as long as it is watched without a break.
type Who = (u32, Option<Timestamp>);

/// What only grows over all processes since the agent started: losses by name, executions of probes by runtime.
///
/// Its owner tells it of each round of reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    lost: BTreeMap<String, u64>,
    hits: BTreeMap<String, u64>,
    last: FxHashMap<Who, Last>,
}

/// What a process's last report said.
#[derive(Clone, Debug, Default, PartialEq)]
struct Last {
    lost: Vec<(String, u64)>,
    hits: Vec<(String, u64)>,
}

impl Totals {
    /// Adds what happened since the round before. A process that is not among the reports is forgotten, what it added
    /// is not. A figure that became smaller is of a watching that began anew, and is added whole.
    pub fn add(&mut self, processes: &[Arc<ProcessReport>]) {
        let mut seen = FxHashMap::default();
        for process in processes {
            let who = (process.pid, process.start_time);
            let before = self.last.remove(&who).unwrap_or_default();
            let now = Last {
                lost: process.losses.iter().map(|loss| (loss.name.to_string(), loss.count)).collect(),
                hits: hits_by_runtime(process),
            };
            for (name, count) in &now.lost {
                let total = self.lost.entry(name.clone()).or_default();
                *total = total.saturating_add(grown(*count, &before.lost, name));
            }
            for (runtime, count) in &now.hits {
                let total = self.hits.entry(runtime.clone()).or_default();
                *total = total.saturating_add(grown(*count, &before.hits, runtime));
            }
            seen.insert(who, now);
        }
        self.last = seen;
    }

    /// Losses by name.
    pub fn lost(&self) -> impl Iterator<Item = (&str, u64)> {
        self.lost.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// Executions of probes by runtime; those in a process with several runtimes as `mixed`.
    pub fn hits(&self) -> impl Iterator<Item = (&str, u64)> {
        self.hits.iter().map(|(runtime, count)| (runtime.as_str(), *count))
    }
}

fn grown<N: PartialEq<M>, M: ?Sized>(now: u64, before: &[(N, u64)], name: &M) -> u64 {
    let before = before.iter().find(|(other, _)| other == name).map_or(0, |(_, count)| *count);
    now.checked_sub(before).unwrap_or(now)
}

/// The kernel side counts executions by process: where it has several runtimes, nobody knows whose they are.
fn hits_by_runtime(process: &ProcessReport) -> Vec<(String, u64)> {
    if process.probe_hits == 0 {
        return Vec::new();
    }
    let runtime = match process.runtimes.as_slice() {
        [one] => one.kind.clone(),
        _ => "mixed".to_owned(),
    };
    vec![(runtime, process.probe_hits)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Loss, samples};

    #[test]
    fn totals_never_shrink_and_forget_nobody() {
        let mut one = samples::process(1, "one");
        let mut two = samples::process(2, "two");
        one.probe_hits = 100;
        two.probe_hits = 7;
        two.losses = vec![Loss { name: "ring_full".into(), count: 3 }];
        let mut totals = Totals::default();
        totals.add(&[one.clone().into(), two.clone().into()]);
        totals.add(&[one.clone().into(), two.into()]);
        assert_eq!(totals.hits().collect::<Vec<_>>(), [("go", 107)]);
        one.probe_hits = 110;
        totals.add(&[one.clone().into()]);
        assert_eq!(totals.hits().collect::<Vec<_>>(), [("go", 117)]);
        assert_eq!(totals.lost().collect::<Vec<_>>(), [("ring_full", 3)]);
        // Watched anew: its figures begin again.
        one.probe_hits = 5;
        totals.add(&[one.into()]);
        assert_eq!(totals.hits().collect::<Vec<_>>(), [("go", 122)]);
    }
}
