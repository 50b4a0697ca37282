//! A live process as a proof needs it.

use std::ops::Range;

use super::{GoHeap, Options, Prover, Step, Surroundings};
use crate::{
    collect::{CollectError, runtime},
    host::{Activity, Process, ProcessMemory, Touched},
    images::Image,
    observe::{Fate, Proof, ProvenTask, Refutation, Why},
};

/// A Go process that proofs are made of.
#[derive(Debug)]
pub struct Subject {
    process: Process,
    memory: ProcessMemory,
    heap: GoHeap,
}

impl Subject {
    /// Gets ready to look at a process.
    ///
    /// # Errors
    /// When it is no Go program, when something that a proof needs was not found in it, or when it may not be read.
    pub fn of(process: &Process, image: &Image) -> Result<Self, CollectError> {
        let pid = process.pid();
        let exe = || image.path().display().to_string();
        let facts =
            image.inspection().go.as_ref().ok_or_else(|| CollectError::NoRuntime { pid, exe: exe() })?;
        let heap = runtime::go_heap(facts, image.bias()).map_err(|why| CollectError::Incomplete {
            pid,
            exe: exe(),
            why,
        })?;
        Ok(Self { memory: ProcessMemory::open(process)?, process: Process::open(pid)?, heap })
    }

    /// Whose memory it is.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Proves what can be proven. `clock` gives `CLOCK_MONOTONIC` in ns; `pause` waits for so many ns, and says whether to
    /// go on.
    ///
    /// # Errors
    /// When the process ended or its heap makes no sense: nothing is proven. `Ok(None)`: `pause` said stop.
    pub fn prove(
        &self,
        options: Options,
        clock: &mut dyn FnMut() -> u64,
        pause: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Proof>, CollectError> {
        let mut prover = Prover::new(self.heap.clone(), self, options);
        self.run(&mut prover, clock, pause)
    }

    /// The same, and why each of these goroutines, by number, is proven or is not. It takes more memory.
    ///
    /// # Errors
    /// As of [`Subject::prove`].
    pub fn explain(
        &self,
        ids: &[u64],
        options: Options,
        clock: &mut dyn FnMut() -> u64,
        pause: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<(Proof, Vec<Why>)>, CollectError> {
        let mut prover = Prover::new(self.heap.clone(), self, options);
        prover.trace();
        let Some(proof) = self.run(&mut prover, clock, pause)? else { return Ok(None) };
        let proven = |id: u64| proof.proven.iter().any(|task| task.id == id);
        let why = |&id: &u64| {
            let why = prover.why(id)?;
            Some(if proven(id) { Why { fate: Fate::Proven, ..why } } else { why })
        };
        let whys = ids.iter().filter_map(why).collect();
        Ok(Some((proof, whys)))
    }

    fn run(
        &self,
        prover: &mut Prover,
        clock: &mut dyn FnMut() -> u64,
        pause: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Proof>, CollectError> {
        loop {
            match prover.step(&self.memory, self, clock) {
                Ok(Step::Done(proof)) => return Ok(Some(*proof)),
                Ok(Step::Again { pause_ns }) => {
                    if !pause(pause_ns) {
                        return Ok(None);
                    }
                }
                Err(_) if !self.process.alive() => {
                    return Err(crate::host::HostError::Ended { pid: self.process.pid() }.into());
                }
                Err(source) => return Err(CollectError::Prove { pid: self.process.pid(), source }),
            }
        }
    }

    /// Which of these goroutines are no more what they were when they were proven.
    pub fn refutations(&self, proven: &[ProvenTask]) -> Vec<Refutation> {
        let found = super::refutations(&self.heap, &self.memory, proven);
        // Its end takes all of them along, and proves nothing.
        if self.process.alive() { found } else { Vec::new() }
    }
}

impl Surroundings for Subject {
    fn written(&self) -> Result<Vec<Range<u64>>, String> {
        let touched = Touched::of(&self.process).map_err(|error| error.to_string())?;
        if touched.hidden_bytes > 0 {
            return Err(format!(
                "{} bytes of the process's memory hold something and are mapped without permission to read them",
                touched.hidden_bytes
            ));
        }
        Ok(touched.ranges)
    }

    fn activity(&self) -> Option<Activity> {
        Activity::of(&self.process).ok()
    }

    fn resident_bytes(&self) -> u64 {
        self.process.usage().map_or(0, |usage| usage.rss_bytes)
    }
}
