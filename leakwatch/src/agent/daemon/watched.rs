//! One process that the agent watches: its session, its figures, its last report, its place in the queue of looks.

use std::{collections::BTreeMap, sync::Arc};

use leakwatch_common::Counter;

use super::{
    options::{Options, Promote, Redact},
    proofs::Proving,
    tiers::{Course, Tier},
    veil::Veiled,
};
use crate::{
    agent::{clock, names::ImageNames, process},
    collect::{Looks, SAMPLED_SINCE, Session, sample_all},
    detect::Detector,
    kernel::{Kernel, KernelError},
    model::{Attach, Limits, ProcessModel, Span, TasksAre, float},
    observe::ProcessSample,
    report::{self, Identities, ProcessInfo, ProcessInput, ProcessReport},
};

/// What is kept of a process: less than of one that somebody watches alone, for there are many.
const LIMITS: Limits =
    Limits { moments: 180, site_samples: 120, sites: 512, waiting_per_site: 8, stack_depth: 48 };

/// Bytes of a process's memory that are looked through before others get their turn: about a tenth of a second.
const LOOKED_THROUGH: u64 = 128 << 20;

/// Watched processes by pid. Each is large, and a map moves what it has about.
pub(super) type Watches = BTreeMap<u32, Box<Watched>>;

/// A watched process.
pub(super) struct Watched {
    /// No other watching has it.
    pub(super) number: u64,
    pub(super) session: Session,
    attach: Attach,
    info: ProcessInfo,
    model: ProcessModel,
    identities: Identities,
    /// As of the last look; before the first one nothing is said in it.
    pub(super) report: Arc<ProcessReport>,
    /// Through the tiers.
    pub(super) course: Course,
    /// What is proven of it.
    pub(super) proving: Proving,
    /// The next look is due then.
    pub(super) due_ns: u64,
    /// What the last look took, ns.
    pub(super) took_ns: u64,
    /// Looks taken.
    pub(super) looks: u64,
    /// Hits of its probes, and when they were read last.
    hits: (u64, u64),
    /// What its probes added between the last two reads, percent of one core; `None`: it has none, or their price is not
    /// known.
    pub(super) added_percent: Option<f64>,
}

impl Watched {
    /// A process that was just attached, and not looked at yet; `info` is what [`process::info`] says of it.
    pub(super) fn new(number: u64, session: Session, info: ProcessInfo) -> Self {
        let id = session.process().id();
        let tasks = if session.runtimes().is_empty() { TasksAre::Threads } else { TasksAre::OfRuntimes };
        let now_ns = clock::monotonic_ns();
        let attach = Attach { process: id, time_ns: now_ns, tasks };
        let build_id = session.image().inspection().elf.build_id();
        let info = ProcessInfo { blind: session.blind(), build_id, ..info };
        Self {
            number,
            session,
            attach,
            info,
            model: ProcessModel::new(attach, LIMITS),
            identities: Identities::default(),
            report: Arc::default(),
            course: Course::default(),
            proving: Proving::default(),
            due_ns: now_ns,
            took_ns: 0,
            looks: 0,
            hits: (0, now_ns),
            added_percent: None,
        }
    }

    /// How its watching began.
    pub(super) fn attach(&self) -> Attach {
        self.attach
    }

    /// Takes a look and makes its report. Returns how long that took, ns.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub(super) fn look(
        &mut self,
        kernel: Option<&Kernel>,
        options: &Options,
        detector: &Detector,
    ) -> Result<u64, KernelError> {
        let redact = &options.redact;
        let stacks = options.sampling.stacks && !redact.stacks;
        let begun_ns = clock::monotonic_ns();
        let ages = self.course.is_probed();
        let looks = Looks { ages, census: true, stacks, most_bytes: Some(LOOKED_THROUGH) };
        let samples = sample_all(kernel, [&mut self.session], looks, begun_ns)?;
        for sample in samples.into_iter().flatten() {
            let sample = ProcessSample { proof: self.proving.news(), ..sample };
            let mut names = ImageNames::new(self.session.names());
            self.model.apply(&sample, &mut self.identities.with(&mut names));
        }
        self.tell(detector, redact);
        let ended = self.session.ended_though_proven();
        self.proving.look(&self.report, self.course.tier() != Tier::Memory, ended);
        self.session.rest();
        self.looks += u64::from(!self.session.is_looking());
        Ok(clock::monotonic_ns().saturating_sub(begun_ns))
    }

    /// Makes the report of what is known.
    pub(super) fn tell(&mut self, detector: &Detector, redact: &Redact) {
        self.info.runtimes = process::runtimes(&self.session);
        let mut names = Veiled::new(ImageNames::new(self.session.names()), redact);
        let input = ProcessInput { info: &self.info, model: &self.model, names: &mut names };
        self.report = Arc::new(report::assemble_process(input, detector, Span::Watch));
    }

    /// Puts the next look, or the next part of this one, where it belongs: a look not before `interval_ns` have passed, and so
    /// that looks which take this long take no more than their share, percent of one core, of the time.
    pub(super) fn schedule(&mut self, took_ns: u64, interval_ns: u64, share_percent: f64) {
        self.took_ns = took_ns;
        let spacing_ns = match (self.session.is_unseen(), self.session.is_looking()) {
            // Until it is over nothing is known of the process.
            (true, _) => 0,
            (false, true) => spacing_ns(took_ns, 0, share_percent),
            (false, false) => spacing_ns(took_ns, interval_ns, share_percent),
        };
        self.due_ns = clock::monotonic_ns().saturating_add(spacing_ns);
    }

    /// Its probes were just placed.
    pub(super) fn begin_probes(&mut self, kernel: &Kernel, now_ns: u64) {
        self.course.placed(now_ns);
        // Their hits from an earlier time are not of this one. What cannot be read is read again at the next turn.
        let hits = self.session.probe_hits(kernel).unwrap_or(self.hits.0);
        self.hits = (hits, now_ns);
        self.info.runtimes = process::runtimes(&self.session);
        Arc::make_mut(&mut self.report).runtimes.clone_from(&self.info.runtimes);
    }

    /// Takes its probes off and lets it rest, for this reason.
    ///
    /// # Errors
    /// When the kernel's tables cannot be written; the probes are off all the same.
    pub(super) fn end_probes(
        &mut self,
        kernel: &mut Kernel,
        reason: &str,
        options: &Promote,
    ) -> Result<(), KernelError> {
        self.course.demoted(clock::monotonic_ns(), options);
        self.added_percent = None;
        self.take_probes_off(kernel, reason)
    }

    /// Takes its probes off for a while, for this reason; they are thinned.
    ///
    /// # Errors
    /// As [`Self::end_probes`].
    pub(super) fn pause_probes(&mut self, kernel: &mut Kernel, reason: &str) -> Result<(), KernelError> {
        self.added_percent = self.added_percent.map(|_| 0.0);
        self.take_probes_off(kernel, reason)
    }

    fn take_probes_off(&mut self, kernel: &mut Kernel, reason: &str) -> Result<(), KernelError> {
        let taken = self.session.take_probes_off(kernel, &format!("{reason}: {SAMPLED_SINCE}"));
        self.info.runtimes = process::runtimes(&self.session);
        Arc::make_mut(&mut self.report).runtimes.clone_from(&self.info.runtimes);
        taken
    }

    /// Hits of its probes so far.
    pub(super) fn probe_hits(&self) -> u64 {
        self.hits.0.max(self.model.counters().get(Counter::ProbeHits))
    }

    /// Measures what its probes add, at this price of a hit (ns).
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub(super) fn measure(
        &mut self,
        kernel: &Kernel,
        price_ns: Option<f64>,
    ) -> Result<Option<f64>, KernelError> {
        if !self.course.is_probed() {
            return Ok(None);
        }
        self.added_percent = None;
        let hits = self.session.probe_hits(kernel)?;
        let now_ns = clock::monotonic_ns();
        let (before, then_ns) = std::mem::replace(&mut self.hits, (hits, now_ns));
        let passed_ns = now_ns.saturating_sub(then_ns);
        self.added_percent = price_ns
            .filter(|_| passed_ns > 0)
            .map(|price| float(hits.saturating_sub(before)) * price * 100.0 / float(passed_ns));
        Ok(self.added_percent)
    }
}

/// What looks at one process may take, percent of one core, so that all together take no more than `percent`: what those
/// whose looks are cheap leave is for the dear ones, to each as much. `took_ns` is what a look at each takes.
pub(super) fn share_of_each(mut took_ns: Vec<u64>, interval_ns: u64, percent: f64) -> f64 {
    took_ns.sort_unstable();
    let mut left = percent;
    let mut others = took_ns.len();
    for took_ns in took_ns {
        let even = left / float(others as u64);
        let wanted = float(took_ns) * 100.0 / float(interval_ns.max(1));
        if wanted > even {
            return even;
        }
        left -= wanted;
        others -= 1;
    }
    // Each may be looked at as often as is wanted.
    percent
}

/// Time to the next look.
fn spacing_ns(took_ns: u64, interval_ns: u64, share_percent: f64) -> u64 {
    let spacing = float(took_ns) * 100.0 / share_percent.max(0.001);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float too large for the integer becomes its largest value"
    )]
    let spacing = spacing as u64;
    spacing.max(interval_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_take_their_share_of_the_time_at_most() {
        assert_eq!(spacing_ns(1_000, 10_000_000, 1.0), 10_000_000, "a short one: the interval counts");
        assert_eq!(spacing_ns(1_000_000, 10_000_000, 1.0), 100_000_000);
        // 256 processes share one percent.
        assert_eq!(spacing_ns(1_000_000, 0, 1.0 / 256.0), 25_600_000_000);
        assert_eq!(spacing_ns(u64::MAX, 0, 0.0), u64::MAX);
    }

    #[test]
    fn what_cheap_looks_leave_is_for_the_dear_ones() {
        const SECOND: u64 = 1_000_000_000;
        let is = |took: Vec<u64>, interval_ns: u64, share: f64| {
            let found = share_of_each(took, interval_ns, 1.0);
            assert!((found - share).abs() < 1e-9, "{found}");
        };
        is(vec![], SECOND, 1.0);
        // 0.3 % are wanted.
        is(vec![1_000_000, 2_000_000], SECOND, 1.0);
        // One that wants 100 % of a core, beside a hundred that want 0.001 % each.
        let mut took = vec![10_000; 100];
        took.push(SECOND);
        is(took, SECOND, 0.9);
        assert_eq!(spacing_ns(10_000, SECOND, 0.9), SECOND);
        // All are dear: the same for each.
        is(vec![SECOND; 4], SECOND, 0.25);
        is(vec![0; 4], 0, 1.0);
    }
}
