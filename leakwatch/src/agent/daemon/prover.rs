//! The thread that proves for the host agent: one proof at a time on the whole host, and between proofs the judge, who looks whether
//! everybody who was proven still waits.
//!
//! It does what it is told ([`Order`]) and tells what came of it ([`News`]); when to prove, and whom, is for
//! `proofs`. It must never keep a process that it was told to forget, and never wait for anything but orders.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use tracing::debug;

use super::reading::Reading;
use crate::{
    agent::{case::Case, clock},
    collect::{CollectError, prove::Subject},
    host::HostError,
    observe::ProofSample,
};

/// The judge looks at a process this often at most.
const JUDGE_EVERY_NS: u64 = 10_000_000_000;

/// Goroutines that are remembered as proven, over all processes: some ten megabytes. Beyond it they are counted and not kept.
const MOST_PROVEN: usize = 100_000;

/// What the thread is told. A process is called by the number of its watching.
#[derive(Debug)]
pub(super) enum Order {
    /// There is this process; nothing is proven of it yet.
    Open(u64, Box<Subject>),
    /// A proof of it is to be made now.
    Prove(u64),
    /// Probes saw these goroutines of it end.
    Ended(u64, Vec<u64>),
    /// It is gone: nothing of it is to be kept.
    Forget(u64),
}

/// What the thread tells.
#[derive(Debug)]
pub(super) enum News {
    /// What is proven of a process by now.
    Stands {
        /// The process.
        number: u64,
        /// A proof was tried; else those who were proven before were looked at.
        tried: bool,
        /// What it comes to.
        sample: Box<ProofSample>,
        /// Address and number of everybody who is proven, where that may have changed.
        proven: Option<Vec<(u64, u64)>>,
    },
    /// A dump is being taken: no proof was begun.
    PutOff,
    /// The process that was to be proven has ended, or was to be forgotten meanwhile.
    Gone,
}

/// The thread; it ends with this.
#[derive(Debug)]
pub(super) struct Prover {
    orders: Option<Sender<Order>>,
    news: Receiver<News>,
    cpu_ns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Prover {
    /// Begins to listen.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(reading: Reading) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let (teller, news) = channel();
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            inbox,
            teller,
            reading,
            cases: BTreeMap::new(),
            waiting: VecDeque::new(),
            cpu_ns: Arc::clone(&cpu_ns),
        };
        let thread = std::thread::Builder::new().name("prover".to_owned()).spawn(|| worker.run())?;
        Ok(Self { orders: Some(orders), news, cpu_ns, thread: Some(thread) })
    }

    /// Tells it what to do; `false`: it is gone.
    pub(super) fn tell(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }

    /// It broke down: nobody will tell of what it was doing.
    pub(super) fn is_gone(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What is new.
    pub(super) fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter()
    }

    /// Processor time that it has used, ns.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }
}

impl Drop for Prover {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say any more.
            drop(thread.join());
        }
    }
}

struct Worker {
    inbox: Receiver<Order>,
    teller: Sender<News>,
    reading: Reading,
    cases: BTreeMap<u64, Case>,
    /// Orders that came during a proof.
    waiting: VecDeque<Order>,
    cpu_ns: Arc<AtomicU64>,
}

impl Worker {
    fn run(mut self) {
        loop {
            self.cpu_ns.store(clock::own_thread_cpu_ns(), Ordering::Relaxed);
            match self.next() {
                Ok(Order::Open(number, subject)) => {
                    self.cases.insert(number, Case::of(*subject));
                }
                Ok(Order::Prove(number)) => {
                    let news = self.prove(number);
                    self.tell(news);
                }
                Ok(Order::Ended(number, ended)) => {
                    if let Some(case) = self.cases.get_mut(&number) {
                        case.refute(&ended);
                        let news = stands(number, case, false);
                        self.tell(news);
                    }
                }
                Ok(Order::Forget(number)) => drop(self.cases.remove(&number)),
                Err(RecvTimeoutError::Timeout) => self.judge(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits for an order until somebody is to be judged.
    fn next(&mut self) -> Result<Order, RecvTimeoutError> {
        const LONG: Duration = Duration::from_hours(1);
        if let Some(order) = self.waiting.pop_front() {
            return Ok(order);
        }
        let judged = self.cases.values().filter(|case| case.has_proven());
        let wait = judged
            .map(|case| case.judged_next_ns(JUDGE_EVERY_NS))
            .min()
            .map_or(LONG, |next_ns| Duration::from_nanos(next_ns.saturating_sub(clock::monotonic_ns())));
        self.inbox.recv_timeout(wait)
    }

    /// Judges those whose turn it is.
    fn judge(&mut self) {
        let now_ns = clock::monotonic_ns();
        let mut news = Vec::new();
        for (&number, case) in &mut self.cases {
            if case.has_proven() && case.judged_next_ns(JUDGE_EVERY_NS) <= now_ns {
                case.judge();
                news.push(stands(number, case, false));
            }
        }
        for news in news {
            self.tell(news);
        }
    }

    fn prove(&mut self, number: u64) -> News {
        let Some(_turn) = self.reading.begin_now() else { return News::PutOff };
        let kept: usize = self.cases.values().map(Case::proven_count).sum();
        let Some(case) = self.cases.get_mut(&number) else { return News::Gone };
        case.keep_at_most(MOST_PROVEN.saturating_sub(kept - case.proven_count()));
        let (inbox, waiting, cpu_ns) = (&self.inbox, &mut self.waiting, &self.cpu_ns);
        let mut pause = |pause_ns: u64| {
            cpu_ns.store(clock::own_thread_cpu_ns(), Ordering::Relaxed);
            let until_ns = clock::monotonic_ns().saturating_add(pause_ns);
            loop {
                let left_ns = until_ns.saturating_sub(clock::monotonic_ns());
                match inbox.recv_timeout(Duration::from_nanos(left_ns)) {
                    Ok(Order::Forget(gone)) if gone == number => return false,
                    Ok(order) => waiting.push_back(order),
                    Err(RecvTimeoutError::Timeout) => return true,
                    Err(RecvTimeoutError::Disconnected) => return false,
                }
            }
        };
        match case.prove(&mut pause) {
            Ok(false) | Err(CollectError::Host(HostError::Ended { .. })) => {
                self.cases.remove(&number);
                return News::Gone;
            }
            Ok(true) => {}
            Err(error) => debug!("no proof: {error}"),
        }
        stands(number, case, true)
    }

    fn tell(&self, news: News) {
        // Nobody listens any more when the agent stops.
        drop(self.teller.send(news));
    }
}

fn stands(number: u64, case: &mut Case, tried: bool) -> News {
    let sample = Box::new(case.sample(0));
    let proven = (tried || sample.refuted > 0).then(|| case.proven());
    News::Stands { number, tried, sample, proven }
}
