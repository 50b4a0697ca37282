//! When the host agent proves which goroutines nothing alive can wake, and of which process: of those that look as if they leaked,
//! one at a time, and so rarely that it stays cheap.
//!
//! The thread that does it is `prover`'s; this has no thread, and everything that takes time or reads a process is
//! there. It must never begin a proof that its share of the processor does not allow, and never keep anything of a process that is
//! forgotten: what is known of one is in its [`Proving`], which goes with it.

use std::{collections::BTreeMap, time::Duration};

use leakwatch_common::RuntimeKind;
use tracing::{debug, error, warn};

use super::{
    options::{Budget, Options, Prove},
    prover::{News, Order, Prover},
    reading::Reading,
    watched::{Watched, Watches},
};
use crate::{
    agent::{clock, process::nanoseconds},
    collect::prove::Subject,
    detect::Verdict,
    host::own,
    model::{float, seconds},
    observe::ProofSample,
    report::{ProcessReport, agent::ProofTotals, units::bytes},
};

/// Proofs that show no new site double the time to the next one this often.
const MOST_DOUBLED: u32 = 4;

/// Proofs of all processes.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    reading: Reading,
    /// `None`: nothing was to be proven yet, or no thread can be had.
    prover: Option<Prover>,
    broken: bool,
    /// A proof is being made.
    busy: bool,
    debt: Debt,
    totals: ProofTotals,
}

/// Of one process: whether a proof is wanted, when the last one was begun, and what is proven.
#[derive(Debug, Default)]
pub(super) struct Proving {
    /// It looks as if it leaked.
    wanted: bool,
    /// Its suspicious sites, the most there were, and as many as there were at the last proof.
    suspects: usize,
    suspects_then: usize,
    /// When the last proof was begun, or refused.
    begun_ns: Option<u64>,
    /// Proofs in a row that showed no new site.
    fruitless: u32,
    /// The prover knows it.
    opened: bool,
    known: Option<ProofSample>,
    /// That is news to the model.
    fresh: bool,
    /// Goroutines whose ends were seen although they were proven.
    ended: Vec<u64>,
}

impl Proving {
    /// A look was taken: what the report says, whether it has probes, and whose end those saw although it was proven.
    pub(super) fn look(&mut self, report: &ProcessReport, is_probed: bool, ended: Vec<u64>) {
        let go = RuntimeKind::Go.name();
        let sites = report.sites.iter().filter(|site| site.runtime == go && !site.system);
        let suspects = sites.filter(|site| site.verdict >= Verdict::Suspect).count();
        let has_go = report.runtimes.iter().any(|runtime| runtime.kind == go);
        self.wanted = has_go && (suspects > 0 || is_probed);
        self.suspects = self.suspects.max(suspects);
        self.ended.extend(ended);
    }

    /// What proofs have shown, when that is new.
    pub(super) fn news(&mut self) -> Option<ProofSample> {
        std::mem::take(&mut self.fresh).then(|| self.known.clone()).flatten()
    }

    /// Time from the beginning of the last proof to that of the next.
    fn spacing(&self, options: &Prove) -> Duration {
        // Another site than before: that is not to wait for long.
        let doubled = if self.suspects > self.suspects_then { 0 } else { self.fruitless };
        options.every.saturating_mul(1 << doubled)
    }

    /// Its turn, the earliest first; `None`: not now.
    fn turn(&self, now_ns: u64, options: &Prove) -> Option<u64> {
        let Some(begun_ns) = self.begun_ns else { return self.wanted.then_some(0) };
        let due_ns = begun_ns.saturating_add(nanoseconds(self.spacing(options)));
        (self.wanted && now_ns >= due_ns).then_some(due_ns)
    }

    fn begin(&mut self, now_ns: u64) {
        self.begun_ns = Some(now_ns);
        self.suspects_then = self.suspects;
    }

    /// No proof is made, for this reason.
    fn refuse(&mut self, why: String, failed: u64) {
        let known = self.known.get_or_insert_default();
        known.failed += failed;
        self.fresh |= failed > 0 || known.problems != [why.as_str()];
        known.problems = vec![why];
    }

    /// That changes what is said of a site.
    fn is_surprised_by(&self, sample: &ProofSample) -> bool {
        let then = self.known.as_ref().map(|known| (known.sites.len(), known.refuted));
        (sample.sites.len(), sample.refuted) != then.unwrap_or_default()
    }

    /// This is known by now; what of it is new goes into the totals.
    fn take(&mut self, sample: ProofSample, tried: bool, options: &Prove, totals: &mut ProofTotals) {
        let then = self.known.take().unwrap_or_default();
        if tried {
            let more = sample.sites.len() > then.sites.len();
            self.fruitless = if more { 0 } else { (self.fruitless + 1).min(MOST_DOUBLED) };
        }
        totals.made += sample.proofs.saturating_sub(then.proofs);
        totals.failed += sample.failed.saturating_sub(then.failed);
        totals.refuted += sample.refuted.saturating_sub(then.refuted);
        self.known = Some(ProofSample { every_ns: nanoseconds(self.spacing(options)), ..sample });
        self.fresh = true;
    }
}

/// A proof takes its processor time all at once, and none is made for a while after it: over that while it is counted. What was
/// used and not counted yet is owed.
#[derive(Debug, Default)]
struct Debt {
    /// Used and not counted yet, ns.
    owed: u64,
    /// Used, ns.
    used: u64,
    /// When it was settled last.
    settled_ns: Option<u64>,
}

impl Debt {
    /// So much was used by now; so much of a core may be.
    fn settle(&mut self, now_ns: u64, used_ns: u64, share_percent: f64) {
        let passed_ns = now_ns.saturating_sub(self.settled_ns.replace(now_ns).unwrap_or(now_ns));
        let used_then_ns = std::mem::replace(&mut self.used, used_ns);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a time that fits is not negative and fits"
        )]
        let paid_ns = (float(passed_ns) * share_percent / 100.0) as u64;
        self.owed = self.owed.saturating_add(used_ns.saturating_sub(used_then_ns)).saturating_sub(paid_ns);
    }
}

/// What proofs may take of a core, percent: never more than half of what all watching may take.
fn share_percent(prove: &Prove, budget: &Budget, processors: f64) -> f64 {
    prove.cpu_percent.min(budget.host_percent * processors / 2.0)
}

impl Proofs {
    /// Dumps are taken in turns with proofs.
    pub(super) fn new(reading: Reading) -> Self {
        Self { reading, ..Self::default() }
    }

    /// What became of them.
    pub(super) fn totals(&self) -> ProofTotals {
        ProofTotals { cpu_s: seconds(self.debt.used), ..self.totals }
    }

    /// Processor time that was used and is counted later, ns.
    pub(super) fn owed_ns(&self) -> u64 {
        self.debt.owed
    }

    /// One turn: takes what is new, and begins the next proof where one is due. `numbers` are those of watchings, to pids.
    pub(super) fn turn(&mut self, watches: &mut Watches, numbers: &BTreeMap<u64, u32>, options: &Options) {
        let now_ns = clock::monotonic_ns();
        if let Some(prover) = &self.prover {
            let share = share_percent(&options.prove, &options.budget, f64::from(own::processors()));
            self.debt.settle(now_ns, prover.cpu_ns(), share);
            for news in prover.news() {
                match news {
                    News::PutOff | News::Gone => self.busy = false,
                    News::Stands { number, tried, sample, proven } => {
                        self.busy &= !tried;
                        let watched = numbers.get(&number).and_then(|pid| watches.get_mut(pid));
                        let Some(watched) = watched else { continue };
                        if let Some(proven) = proven {
                            watched.session.watch_proven(proven);
                        }
                        if watched.proving.is_surprised_by(&sample) {
                            // A verdict changes: that is told soon.
                            watched.due_ns = 0;
                        }
                        watched.proving.take(*sample, tried, &options.prove, &mut self.totals);
                    }
                }
            }
            self.busy &= !prover.is_gone();
            for watched in watches.values_mut().filter(|watched| !watched.proving.ended.is_empty()) {
                let ended = std::mem::take(&mut watched.proving.ended);
                // One that is gone is told of when it is next needed.
                let _told = prover.tell(Order::Ended(watched.number, ended));
            }
        }
        if options.prove.enabled && !self.busy && !self.broken && self.debt.owed == 0 {
            self.begin(watches, now_ns, &options.prove);
        }
    }

    /// Begins a proof of the process that has waited for the longest time, if one is due.
    fn begin(&mut self, watches: &mut Watches, now_ns: u64, options: &Prove) {
        let due = watches.values_mut().filter_map(|one| Some((one.proving.turn(now_ns, options)?, one)));
        let Some((_, watched)) = due.min_by_key(|(turn, watched)| (*turn, watched.number)) else { return };
        watched.proving.begin(now_ns);
        let pid = watched.session.process().pid();
        // What has ended says nothing of its memory.
        let Some(rss_bytes) = watched.report.memory.rss_bytes else { return };
        if rss_bytes > options.largest {
            let why = format!(
                "it has {} of memory, more than the {} that [prove] largest allows: nothing is proven of it",
                bytes(rss_bytes),
                bytes(options.largest)
            );
            debug!("pid {pid}: {why}");
            return watched.proving.refuse(why, 0);
        }
        let Some(prover) = self.prover() else { return };
        if !watched.proving.opened {
            match Subject::of(watched.session.process(), watched.session.image()) {
                Ok(subject) => {
                    watched.proving.opened = prover.tell(Order::Open(watched.number, Box::new(subject)));
                }
                Err(error) => {
                    debug!("pid {pid}: {error}");
                    self.totals.failed += 1;
                    return watched.proving.refuse(error.to_string(), 1);
                }
            }
        }
        self.busy = prover.tell(Order::Prove(watched.number));
        if !self.busy {
            error!("the thread that proves is gone: nothing is proven any more");
            self.broken = true;
        }
    }

    /// The thread, which begins when it is first needed.
    fn prover(&mut self) -> Option<&Prover> {
        if self.prover.is_none() {
            match Prover::start(self.reading.clone()) {
                Ok(prover) => self.prover = Some(prover),
                Err(error) => {
                    warn!("nothing is proven: there is no thread for it: {error}");
                    self.broken = true;
                }
            }
        }
        self.prover.as_ref()
    }

    /// The process is gone.
    pub(super) fn forget(&self, watched: &Watched) {
        if let Some(prover) = self.prover.as_ref().filter(|_| watched.proving.opened) {
            let _told = prover.tell(Order::Forget(watched.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        observe::{Awaited, ProvenSite, SiteId},
        report::samples,
    };

    const SECOND: u64 = 1_000_000_000;

    fn report(verdict: Verdict) -> ProcessReport {
        let mut report = samples::leaking();
        report.sites.iter_mut().for_each(|site| site.verdict = verdict);
        report
    }

    fn shown(proofs: u64, sites: u64) -> ProofSample {
        let site = |site| SiteId { runtime: RuntimeKind::Go, site, entry: 0 };
        let sites = (0..sites).map(|at| ProvenSite { site: site(at), count: 2, awaited: Awaited::default() });
        ProofSample { proofs, sites: sites.collect(), ..ProofSample::default() }
    }

    /// Takes a proof that was begun then; seconds to the next.
    fn proof(proving: &mut Proving, at_s: u64, sample: ProofSample) -> u64 {
        proving.begin(at_s * SECOND);
        proving.take(sample, true, &Prove::default(), &mut ProofTotals::default());
        proving.news().expect("it is new").every_ns / SECOND
    }

    #[test]
    fn a_proof_is_wanted_where_something_is_suspicious() {
        let (options, mut proving) = (Prove::default(), Proving::default());
        for (verdict, is_probed, wanted) in [
            (Verdict::Ok, false, false),
            (Verdict::NotYet, false, false),
            (Verdict::Suspect, false, true),
            (Verdict::Leak, false, true),
            (Verdict::Ok, true, true),
        ] {
            proving.look(&report(verdict), is_probed, Vec::new());
            assert_eq!(proving.turn(0, &options).is_some(), wanted, "{verdict:?}");
        }
        let mut tokio = report(Verdict::Leak);
        tokio.sites.iter_mut().for_each(|site| "tokio".clone_into(&mut site.runtime));
        tokio.runtimes.iter_mut().for_each(|runtime| "tokio".clone_into(&mut runtime.kind));
        proving.look(&tokio, true, Vec::new());
        assert_eq!(proving.turn(0, &options), None, "of Go alone");
    }

    #[test]
    fn proofs_that_show_nothing_new_become_rare() {
        let (options, mut proving) = (Prove::default(), Proving::default());
        let mut suspicious = report(Verdict::Suspect);
        proving.look(&suspicious, false, Vec::new());
        assert_eq!(proving.turn(7, &options), Some(0), "whoever has none comes first");
        assert_eq!(proof(&mut proving, 0, shown(1, 1)), 60, "it showed a site");
        assert!(proving.news().is_none(), "once");
        assert_eq!(
            (proving.turn(59 * SECOND, &options), proving.turn(60 * SECOND, &options)),
            (None, Some(60 * SECOND))
        );
        let waits: Vec<u64> = (2..8).map(|made| proof(&mut proving, made * 1000, shown(made, 1))).collect();
        assert_eq!(waits, [120, 240, 480, 960, 960, 960]);
        // Another site is suspicious.
        let site = suspicious.sites[0].clone();
        suspicious.sites.push(site);
        proving.look(&suspicious, false, Vec::new());
        assert!(proving.turn(7061 * SECOND, &options).is_some());
        assert_eq!(proof(&mut proving, 8000, shown(8, 2)), 60);
    }

    #[test]
    fn why_nothing_is_proven_is_told_once_and_what_was_proven_stays() {
        let mut proving = Proving::default();
        proof(&mut proving, 0, shown(1, 1));
        proving.refuse("too large".to_owned(), 0);
        let known = proving.news().expect("new");
        assert_eq!((known.problems, known.sites.len()), (vec!["too large".to_owned()], 1));
        proving.refuse("too large".to_owned(), 0);
        assert!(proving.news().is_none());
        proving.refuse("too large".to_owned(), 1);
        assert_eq!(proving.news().map(|known| known.failed), Some(1));
        let mut totals = ProofTotals::default();
        proving.take(ProofSample { refuted: 1, ..shown(3, 1) }, false, &Prove::default(), &mut totals);
        assert_eq!((totals.made, totals.refuted), (2, 1));
    }

    #[test]
    fn what_a_proof_used_is_counted_over_the_time_to_the_next() {
        let mut debt = Debt::default();
        debt.settle(0, 0, 1.0);
        debt.settle(SECOND, SECOND, 1.0);
        assert_eq!(debt.owed, SECOND - SECOND / 100);
        debt.settle(50 * SECOND, SECOND, 1.0);
        assert_eq!(debt.owed, SECOND / 2);
        debt.settle(101 * SECOND, SECOND, 1.0);
        assert_eq!((debt.owed, debt.used), (0, SECOND));
    }

    #[test]
    fn proofs_never_take_more_than_half_of_the_budget() {
        let (prove, budget) = (Prove::default(), Budget { host_percent: 1.0, ..Budget::default() });
        for (processors, share) in [(1.0, 0.5), (2.0, 1.0), (64.0, 1.0)] {
            assert!((share_percent(&prove, &budget, processors) - share).abs() < 1e-9, "{processors}");
        }
    }
}
