//! What proofs of one process have shown so far, and whether it came true.
//!
//! Who was proven once stays proven, whatever a later look finds: a stale word may lead to him by then, and nothing else can
//! have changed. So each of them is looked at again and again; one that ended or ran refutes its proof, which is counted and
//! told and must never happen. It never takes a refutation back.

use rustc_hash::FxHashMap;

use crate::observe::{Awaited, Proof, ProofSample, ProvenObject, ProvenSite, ProvenTask, Refutation, SiteId};

/// Stories that are kept.
const STORIES: usize = 16;
/// Objects that are kept to explain sites.
const MOST_OBJECTS: usize = 1 << 20;

/// The proven goroutines of a process.
#[derive(Debug, Default)]
pub struct Ledger {
    tasks: FxHashMap<u64, ProvenTask>,
    /// What they wait on, by address.
    objects: FxHashMap<u64, ProvenObject>,
    /// Addresses of what each waits on, by its number: places in a proof's table mean nothing beyond that proof.
    awaited: FxHashMap<u64, Vec<u64>>,
    /// Room for as many goroutines; `None`: for all.
    room: Option<usize>,
    sample: ProofSample,
}

impl Ledger {
    /// From now on no more goroutines than this are kept.
    pub fn keep_at_most(&mut self, goroutines: usize) {
        self.room = Some(goroutines);
    }

    /// Takes a proof in.
    pub fn take(&mut self, proof: Proof) {
        let sample = &mut self.sample;
        sample.proofs += 1;
        (sample.passes, sample.void, sample.still) = (proof.passes, proof.void, proof.still);
        (sample.confidence, sample.goroutines) = (proof.confidence, proof.goroutines);
        (sample.heap_bytes, sample.own_bytes) = (proof.heap_bytes, proof.own_bytes);
        sample.took_ns = proof.took_ns;
        sample.problems = proof.problems;
        let room = self.room.unwrap_or(usize::MAX);
        for object in &proof.objects {
            if self.objects.len() < MOST_OBJECTS.min(room) || self.objects.contains_key(&object.address) {
                self.objects.insert(object.address, object.clone());
            }
        }
        let mut left_out = 0;
        for mut task in proof.proven {
            if self.tasks.len() >= room && !self.tasks.contains_key(&task.id) {
                left_out += 1;
                continue;
            }
            let on = std::mem::take(&mut task.objects);
            let addresses =
                on.iter().filter_map(|&at| Some(proof.objects.get(at as usize)?.address)).collect();
            self.awaited.insert(task.id, addresses);
            // The wait's beginning is noted late: the latest look knows it if any does.
            self.tasks.insert(task.id, task);
        }
        if left_out > 0 {
            self.sample.problems.push(format!(
                "{left_out} goroutines more are proven than there is room to remember: they are not counted"
            ));
        }
        self.count();
    }

    /// A proof could not be made.
    pub fn fail(&mut self, why: String) {
        self.sample.failed += 1;
        self.sample.problems = vec![why];
    }

    /// No proof came to its end yet.
    pub fn is_empty(&self) -> bool {
        self.sample.proofs == 0
    }

    /// Those who are proven: whoever looks whether they still wait needs them.
    pub fn proven(&self) -> impl ExactSizeIterator<Item = &ProvenTask> {
        self.tasks.values()
    }

    /// They were looked at, and these are no more what they were. The answer: the stories that are new.
    pub fn judge(&mut self, refutations: Vec<Refutation>) -> Vec<String> {
        self.sample.judged += 1;
        refutations
            .into_iter()
            .filter_map(|Refutation { task, story }| self.refute(task.id, &story))
            .collect()
    }

    /// A goroutine was seen to end or to run; the story, if it was proven.
    pub fn refute(&mut self, id: u64, what: &str) -> Option<String> {
        let task = self.tasks.remove(&id)?;
        let objects = self.awaited.remove(&id).unwrap_or_default();
        let on: Vec<String> = objects.iter().map(|address| format!("{address:#x}")).collect();
        let story = format!(
            "goroutine {id} (g {:#x}, made at {:#x}, runs {:#x}) was proven to wait for ever for {:?} on [{}], but {what}",
            task.address,
            task.site.site,
            task.site.entry,
            task.kind,
            on.join(", "),
        );
        self.sample.refuted += 1;
        if self.sample.refutations.len() == STORIES {
            self.sample.refutations.remove(0);
        }
        self.sample.refutations.push(story.clone());
        self.count();
        Some(story)
    }

    /// What all of it comes to; `cpu_ns` was spent so far, and proofs begin this far apart.
    pub fn sample(&mut self, cpu_ns: u64, every_ns: u64) -> ProofSample {
        (self.sample.cpu_ns, self.sample.every_ns) = (cpu_ns, every_ns);
        self.sample.clone()
    }

    /// Counts by site.
    fn count(&mut self) {
        let mut by_site: FxHashMap<SiteId, (u64, Vec<u64>)> = FxHashMap::default();
        #[expect(clippy::iter_over_hash_type, reason = "sums and sorted lists, whatever the order")]
        for task in self.tasks.values() {
            let (count, objects) = by_site.entry(task.site).or_default();
            *count += 1;
            objects.extend(self.awaited.get(&task.id).into_iter().flatten());
        }
        let site = |(site, (count, mut objects)): (SiteId, (u64, Vec<u64>))| {
            objects.sort_unstable();
            objects.dedup();
            let awaited = Awaited::of(objects.iter().filter_map(|address| self.objects.get(address)));
            ProvenSite { site, count, awaited }
        };
        self.sample.sites = by_site.into_iter().map(site).collect();
        self.sample.sites.sort_unstable_by_key(|site| site.site);
        self.sample.proven = self.tasks.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::WaitKind;
    use leakwatch_common::RuntimeKind;

    fn task(id: u64, site: u64, objects: Vec<u32>) -> ProvenTask {
        ProvenTask {
            address: 0xc0_0000 + id * 512,
            id,
            site: SiteId { runtime: RuntimeKind::Go, site, entry: 0 },
            kind: WaitKind::Receive,
            waiting_since_ns: None,
            objects,
            stack_bytes: 2048,
            turn: 0,
        }
    }

    fn proof(tasks: Vec<ProvenTask>) -> Proof {
        let object = |address| ProvenObject {
            address,
            kind: WaitKind::Receive,
            channel: Some((0, 0, false)),
            waiting: 1,
            holders: 1,
            all_holders: true,
        };
        Proof { proven: tasks, objects: vec![object(0xa0), object(0xb0)], passes: 24, ..Proof::default() }
    }

    #[test]
    fn who_is_proven_stays_so_until_refuted() {
        let mut ledger = Ledger::default();
        ledger.take(proof(vec![task(7, 1, vec![0]), task(8, 1, vec![1]), task(9, 2, vec![1])]));
        // The second proof misses two of them, and finds another one.
        ledger.take(proof(vec![task(7, 1, vec![0]), task(10, 2, vec![])]));
        let sample = ledger.sample(5, 6);
        assert_eq!((sample.proofs, sample.proven, sample.refuted, sample.cpu_ns), (2, 4, 0, 5));
        let counts: Vec<(u64, u64, u64)> =
            sample.sites.iter().map(|site| (site.site.site, site.count, site.awaited.objects)).collect();
        assert_eq!(counts, [(1, 2, 2), (2, 2, 1)]);
        let refutation = Refutation { task: task(8, 1, vec![]), story: "it ended".to_owned() };
        let stories = ledger.judge(vec![refutation.clone()]);
        assert!(
            stories[0].contains("goroutine 8")
                && stories[0].contains("0xb0")
                && stories[0].ends_with("it ended")
        );
        assert_eq!(ledger.judge(vec![refutation]), Vec::<String>::new(), "once is enough");
        assert_eq!(ledger.refute(8, "its end was seen"), None);
        let sample = ledger.sample(5, 6);
        assert_eq!((sample.proven, sample.refuted, sample.judged, sample.refutations.len()), (3, 1, 2, 1));
        ledger.keep_at_most(4);
        ledger.take(proof(vec![task(7, 1, vec![0]), task(11, 2, vec![]), task(12, 2, vec![])]));
        let sample = ledger.sample(5, 6);
        assert_eq!((sample.proven, sample.problems.len()), (4, 1), "{:?}", sample.problems);
        assert!(sample.problems[0].starts_with("1 goroutines more"), "{:?}", sample.problems);
        ledger.fail("no memory".to_owned());
        assert_eq!(ledger.sample(0, 0).failed, 1);
    }
}
