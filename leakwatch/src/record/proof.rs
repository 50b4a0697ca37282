//! What proofs have shown, as it stands in a recording: the form of the file, fields are only ever added.
//!
//! A kind of wait that this leakwatch does not know becomes one without an object: the reason is told in general terms then.

use serde::{Deserialize, Serialize};

use super::entry::SiteLine;
use crate::observe::{Awaited, ProofSample, ProvenObject, ProvenSite, WaitKind};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ProofLine {
    proofs: u64,
    failed: u64,
    judged: u64,
    passes: u32,
    void: u32,
    still: bool,
    confidence: f64,
    goroutines: u64,
    heap_bytes: u64,
    own_bytes: u64,
    took_ns: u64,
    cpu_ns: u64,
    every_ns: u64,
    proven: u64,
    refuted: u64,
    refutations: Vec<String>,
    problems: Vec<String>,
    sites: Vec<ProvenSiteLine>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProvenSiteLine {
    site: SiteLine,
    count: u64,
    objects: u64,
    first: Option<ObjectLine>,
    alike: bool,
    most_holders: u64,
    all_holders: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ObjectLine {
    address: u64,
    kind: String,
    channel: Option<(u64, u64, bool)>,
    waiting: u64,
    holders: u64,
    all_holders: bool,
}

const KINDS: [(&str, WaitKind); 9] = [
    ("receive", WaitKind::Receive),
    ("send", WaitKind::Send),
    ("select", WaitKind::Select),
    ("forever", WaitKind::Forever),
    ("mutex", WaitKind::Mutex),
    ("rwmutex", WaitKind::RwMutex),
    ("waitgroup", WaitKind::WaitGroup),
    ("cond", WaitKind::Cond),
    ("semaphore", WaitKind::Semaphore),
];

impl From<&ProofSample> for ProofLine {
    fn from(sample: &ProofSample) -> Self {
        let ProofSample {
            proofs,
            failed,
            judged,
            passes,
            void,
            still,
            confidence,
            goroutines,
            heap_bytes,
            own_bytes,
            took_ns,
            cpu_ns,
            every_ns,
            proven,
            refuted,
            refutations,
            problems,
            sites,
        } = sample.clone();
        Self {
            proofs,
            failed,
            judged,
            passes,
            void,
            still,
            confidence,
            goroutines,
            heap_bytes,
            own_bytes,
            took_ns,
            cpu_ns,
            every_ns,
            proven,
            refuted,
            refutations,
            problems,
            sites: sites.into_iter().map(ProvenSiteLine::from).collect(),
        }
    }
}

impl From<ProofLine> for ProofSample {
    fn from(line: ProofLine) -> Self {
        let ProofLine {
            proofs,
            failed,
            judged,
            passes,
            void,
            still,
            confidence,
            goroutines,
            heap_bytes,
            own_bytes,
            took_ns,
            cpu_ns,
            every_ns,
            proven,
            refuted,
            refutations,
            problems,
            sites,
        } = line;
        Self {
            proofs,
            failed,
            judged,
            passes,
            void,
            still,
            confidence,
            goroutines,
            heap_bytes,
            own_bytes,
            took_ns,
            cpu_ns,
            every_ns,
            proven,
            refuted,
            refutations,
            problems,
            sites: sites.into_iter().filter_map(ProvenSiteLine::proven).collect(),
        }
    }
}

impl From<ProvenSite> for ProvenSiteLine {
    fn from(proven: ProvenSite) -> Self {
        let ProvenSite { site, count, awaited } = proven;
        let Awaited { objects, first, alike, most_holders, all_holders } = awaited;
        Self {
            site: site.into(),
            count,
            objects,
            first: first.map(ObjectLine::from),
            alike,
            most_holders,
            all_holders,
        }
    }
}

impl ProvenSiteLine {
    /// `None`: of a runtime that this leakwatch does not know.
    fn proven(self) -> Option<ProvenSite> {
        let Self { site, count, objects, first, alike, most_holders, all_holders } = self;
        let first = first.and_then(ObjectLine::object);
        let awaited = Awaited { objects, first, alike, most_holders, all_holders };
        Some(ProvenSite { site: site.id()?, count, awaited })
    }
}

impl From<ProvenObject> for ObjectLine {
    fn from(object: ProvenObject) -> Self {
        let ProvenObject { address, kind, channel, waiting, holders, all_holders } = object;
        let name = KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| name);
        Self { address, kind: name.to_owned(), channel, waiting, holders, all_holders }
    }
}

impl ObjectLine {
    fn object(self) -> Option<ProvenObject> {
        let Self { address, kind, channel, waiting, holders, all_holders } = self;
        let (_, kind) = KINDS.iter().find(|(name, _)| *name == kind)?;
        Some(ProvenObject { address, kind: *kind, channel, waiting, holders, all_holders })
    }
}
