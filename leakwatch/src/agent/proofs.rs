//! Proofs while a process is watched: a thread of its own looks at the process's memory, so that counting and the loop's pace
//! do not wait for it.
//!
//! A proof begins every so often, later where it would take more of a processor than it may. Between proofs the thread is the
//! judge: it looks whether everybody who was proven still waits. It must never write to the process, and its figures reach the
//! report through samples alone.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::Duration,
};

use tracing::{debug, warn};

use super::{case::Case, clock, process::nanoseconds};
use crate::{
    collect::{CollectError, Session, prove::Subject},
    host::HostError,
    observe::ProofSample,
};

/// The judge looks this often at most.
const JUDGE_EVERY_NS: u64 = 1_000_000_000;

/// When to prove.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// A proof begins this long after the one before began.
    pub every: Duration,
    /// Most percent of one core that proofs may take: beyond it they begin later.
    pub share_percent: f64,
}

/// What the thread is told.
enum Order {
    /// A probe saw these goroutines end.
    Ended(Vec<u64>),
    /// Come to an end: now, or after the first proof.
    Finish { after_first: bool },
}

/// What the thread tells.
struct News {
    sample: ProofSample,
    /// Address and number of everybody who is proven, when that changed.
    proven: Option<Vec<(u64, u64)>>,
}

/// Proofs of one watched process. Ends its thread when dropped.
#[derive(Debug)]
pub(super) struct Proofs {
    orders: Option<Sender<Order>>,
    news: Receiver<News>,
    thread: Option<JoinHandle<Case>>,
    /// What the thread left behind.
    left: Option<Case>,
    /// What was told last of the time between proofs, ns.
    every_ns: u64,
}

impl Proofs {
    /// Begins to prove. `None`: the process is no Go program.
    pub(super) fn begin(session: &Session, pace: Pace) -> Option<Self> {
        session.image().inspection().go.as_ref()?;
        let (teller, news) = mpsc::channel();
        let (orders, inbox) = mpsc::channel();
        let mut proofs = Self { orders: Some(orders), news, thread: None, left: None, every_ns: 0 };
        let subject = match Subject::of(session.process(), session.image()) {
            Ok(subject) => subject,
            Err(error) => {
                tell_failure(&teller, &error);
                return Some(proofs);
            }
        };
        let prover = Prover {
            case: Case::of(subject),
            pace,
            inbox,
            teller: teller.clone(),
            finish: None,
            every_ns: nanoseconds(pace.every),
        };
        match std::thread::Builder::new().name("leakwatch-prove".to_owned()).spawn(|| prover.run()) {
            Ok(thread) => proofs.thread = Some(thread),
            Err(error) => tell_failure(&teller, &error),
        }
        Some(proofs)
    }

    /// What is new, if anything is; the session learns who is proven, and the judge who ended.
    pub(super) fn news(&mut self, session: &mut Session) -> Option<ProofSample> {
        if self.thread.is_some() && self.finished() {
            self.orders = None;
            self.left = self.thread.take().and_then(|thread| thread.join().ok());
        }
        let mut last = None;
        for News { sample, proven } in self.news.try_iter() {
            if let Some(proven) = proven {
                session.watch_proven(proven);
            }
            self.every_ns = sample.every_ns;
            last = Some(sample);
        }
        let ended = session.ended_though_proven();
        if ended.is_empty() {
            return last;
        }
        match (&mut self.left, &self.orders) {
            (Some(case), _) => {
                case.refute(&ended);
                last = Some(case.sample(self.every_ns));
            }
            // A thread that broke down has said so.
            (None, Some(orders)) => drop(orders.send(Order::Ended(ended))),
            (None, None) => {}
        }
        last
    }

    /// Asks the thread to come to an end: now, or after the first proof.
    pub(super) fn finish(&self, after_first: bool) {
        if let Some(orders) = &self.orders {
            drop(orders.send(Order::Finish { after_first }));
        }
    }

    /// The thread has come to its end.
    pub(super) fn finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Proofs {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It has logged what went wrong; nothing of it is left to undo.
            drop(thread.join());
        }
    }
}

fn tell_failure(teller: &Sender<News>, error: &dyn std::fmt::Display) {
    let sample = ProofSample { failed: 1, problems: vec![error.to_string()], ..ProofSample::default() };
    drop(teller.send(News { sample, proven: None }));
}

/// The thread.
struct Prover {
    case: Case,
    pace: Pace,
    inbox: Receiver<Order>,
    teller: Sender<News>,
    /// It is to come to an end; `true`: after the first proof.
    finish: Option<bool>,
    every_ns: u64,
}

impl Prover {
    fn run(mut self) -> Case {
        loop {
            let begun_ns = clock::monotonic_ns();
            let cpu_ns = self.case.cpu_ns();
            match self.prove() {
                Ok(true) => {}
                // Told to come to an end, or the process did.
                Ok(false) => break,
                Err(CollectError::Host(HostError::Ended { .. })) => return self.case,
                Err(error) => debug!("no proof: {error}"),
            }
            let spent_ns = self.case.cpu_ns().saturating_sub(cpu_ns);
            self.every_ns = every_ns(self.pace, spent_ns);
            self.tell(true);
            if self.finish.is_some() || !self.wait_until(begun_ns.saturating_add(self.every_ns)) {
                break;
            }
        }
        self.case.judge();
        self.tell(true);
        self.case
    }

    /// One proof; `false`: it was broken off.
    fn prove(&mut self) -> Result<bool, CollectError> {
        let (inbox, finish) = (&self.inbox, &mut self.finish);
        let mut orders = Vec::new();
        let none_yet = self.case.is_new();
        let mut pause = |pause_ns: u64| {
            let until = clock::monotonic_ns().saturating_add(pause_ns);
            loop {
                let left = until.saturating_sub(clock::monotonic_ns());
                match inbox.recv_timeout(Duration::from_nanos(left)) {
                    Ok(Order::Finish { after_first }) => *finish = Some(after_first),
                    Ok(order @ Order::Ended(_)) => orders.push(order),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => *finish = Some(false),
                }
                if *finish == Some(false) {
                    break;
                }
            }
            finish.is_none_or(|after_first| after_first && none_yet)
        };
        let proven = self.case.prove(&mut pause);
        for order in orders {
            self.obey(order);
        }
        proven
    }

    /// Waits, and judges meanwhile; `false`: it is to come to an end.
    fn wait_until(&mut self, until_ns: u64) -> bool {
        loop {
            let now_ns = clock::monotonic_ns();
            if now_ns >= until_ns {
                return true;
            }
            let next_ns = self.case.judged_next_ns(JUDGE_EVERY_NS).min(until_ns);
            match self.inbox.recv_timeout(Duration::from_nanos(next_ns.saturating_sub(now_ns))) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) if next_ns < until_ns => {
                    self.case.judge();
                    self.tell(false);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.finish = Some(false),
            }
            if self.finish.is_some() {
                return false;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Finish { after_first } => self.finish = Some(after_first),
            Order::Ended(ended) => self.case.refute(&ended),
        }
    }

    fn tell(&mut self, proven: bool) {
        let sample = self.case.sample(self.every_ns);
        let proven = proven.then(|| self.case.proven());
        if self.teller.send(News { sample, proven }).is_err() {
            warn!("nobody listens to what was proven");
        }
    }
}

/// How far apart proofs begin that take so much processor time.
fn every_ns(pace: Pace, spent_ns: u64) -> u64 {
    let asked = nanoseconds(pace.every);
    let share = (pace.share_percent / 100.0).max(1e-6);
    let allowed = Duration::try_from_secs_f64(crate::model::seconds(spent_ns) / share);
    asked.max(allowed.map_or(u64::MAX, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_that_cost_much_are_far_apart() {
        let pace = Pace { every: Duration::from_secs(5), share_percent: 10.0 };
        assert_eq!(every_ns(pace, 100_000_000), 5_000_000_000);
        assert_eq!(every_ns(pace, 2_000_000_000), 20_000_000_000);
        assert!(every_ns(Pace { share_percent: f64::MIN_POSITIVE, ..pace }, u64::MAX) > 1 << 60);
    }
}
