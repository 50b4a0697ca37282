//! One process and the proofs of it: who is proven there, and whether that came true. The thread of a watch has one case, that of
//! the host agent one for each process that looked as if it leaked.
//!
//! It must never write to the process, and decides neither when to prove nor when to judge: its owner does.

use tracing::{debug, error};

use super::clock;
use crate::{
    collect::{
        CollectError,
        prove::{Ledger, Options, Subject},
    },
    host::HostError,
    observe::{ProofSample, ProvenTask},
};

/// A judgement may take this share of the time.
const JUDGE_SPACING: u64 = 100;

/// A process, and what was proven of it.
#[derive(Debug)]
pub(super) struct Case {
    subject: Subject,
    ledger: Ledger,
    /// Processor time that it took so far, ns.
    cpu_ns: u64,
    judged_ns: u64,
    judging_took_ns: u64,
}

impl Case {
    /// Of a process of which nothing is proven yet.
    pub(super) fn of(subject: Subject) -> Self {
        Self { subject, ledger: Ledger::default(), cpu_ns: 0, judged_ns: 0, judging_took_ns: 0 }
    }

    /// Judges, and makes one proof; `pause` waits between passes and says whether to go on. `false`: it said no.
    ///
    /// # Errors
    /// When the process has ended, which is all that happens then, and when nothing can be proven, which is noted.
    pub(super) fn prove(&mut self, pause: &mut dyn FnMut(u64) -> bool) -> Result<bool, CollectError> {
        self.judge();
        let begun_ns = clock::own_thread_cpu_ns();
        let proof = self.subject.prove(Options::default(), &mut clock::monotonic_ns, pause);
        self.cpu_ns += clock::own_thread_cpu_ns().saturating_sub(begun_ns);
        match proof {
            Ok(None) => Ok(false),
            Ok(Some(proof)) => {
                let (pid, proven) = (self.subject.pid(), proof.proven.len());
                debug!(pid, passes = proof.passes, proven, "a proof");
                self.ledger.take(proof);
                Ok(true)
            }
            Err(error) => {
                if !matches!(error, CollectError::Host(HostError::Ended { .. })) {
                    self.ledger.fail(error.to_string());
                }
                Err(error)
            }
        }
    }

    /// Looks whether everybody who was proven still waits.
    pub(super) fn judge(&mut self) {
        let (begun_ns, cpu_ns) = (clock::monotonic_ns(), clock::own_thread_cpu_ns());
        let proven: Vec<ProvenTask> = self.ledger.proven().cloned().collect();
        if !proven.is_empty() {
            let stories = self.ledger.judge(self.subject.refutations(&proven));
            self.log(stories);
        }
        self.cpu_ns += clock::own_thread_cpu_ns().saturating_sub(cpu_ns);
        self.judged_ns = clock::monotonic_ns();
        self.judging_took_ns = self.judged_ns.saturating_sub(begun_ns);
    }

    /// When to judge next: no earlier than `every_ns` after the last time, and later where that took long.
    pub(super) fn judged_next_ns(&self, every_ns: u64) -> u64 {
        self.judged_ns.saturating_add(self.judging_took_ns.saturating_mul(JUDGE_SPACING).max(every_ns))
    }

    /// A probe saw these goroutines end.
    pub(super) fn refute(&mut self, ended: &[u64]) {
        let refute = |&id: &u64| self.ledger.refute(id, "its end was seen by a probe");
        let stories = ended.iter().filter_map(refute).collect();
        self.log(stories);
    }

    fn log(&self, stories: Vec<String>) {
        let pid = self.subject.pid();
        for story in stories {
            error!("pid {pid}: a proof was wrong, please report it: {story}");
        }
    }

    /// No proof came to its end yet.
    pub(super) fn is_new(&self) -> bool {
        self.ledger.is_empty()
    }

    /// Somebody is proven, and is to be looked after.
    pub(super) fn has_proven(&self) -> bool {
        self.proven_count() > 0
    }

    /// How many are proven.
    pub(super) fn proven_count(&self) -> usize {
        self.ledger.proven().len()
    }

    /// No more than this many are kept from now on.
    pub(super) fn keep_at_most(&mut self, goroutines: usize) {
        self.ledger.keep_at_most(goroutines);
    }

    /// Address and number of everybody who is proven.
    pub(super) fn proven(&self) -> Vec<(u64, u64)> {
        self.ledger.proven().map(|task| (task.address, task.id)).collect()
    }

    /// Processor time that it took so far, ns.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.cpu_ns
    }

    /// What all of it comes to; proofs begin this far apart.
    pub(super) fn sample(&mut self, every_ns: u64) -> ProofSample {
        self.ledger.sample(self.cpu_ns, every_ns)
    }
}
