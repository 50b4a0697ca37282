//! Finds processes: all that run, and each new program from its exec on. One thread, beside the one that watches.
//!
//! The thread opens a process, asks the filter, reads its program (or remembers it), and hands it over. It is told of
//! execs by the kernel side; a look through `/proc` now and then finds what nobody told of: forks that execute nothing, and
//! execs whose news was lost. It never touches a process and never blocks who watches.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Once,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use leakwatch_common::RuntimeKind;
use tokio::sync::mpsc::UnboundedSender;

use super::{filter::Candidate, options::Discover};
use crate::{
    agent::{clock, process},
    collect::{CollectError, Found},
    host::{self, HostError, Process, Root},
    images::{Binaries, BinaryFigures, ImageError},
};

/// A library that is larger is not searched for a runtime: it is read into memory for that. Python's extension modules with
/// tokio in them have some megabytes.
const LARGEST_LIBRARY: u64 = 64 << 20;

/// What is known of binaries is written no more often than this, ns.
const WRITTEN_EVERY_NS: u64 = 60_000_000_000;

/// What discovery is asked.
#[derive(Debug)]
enum Ask {
    /// These processes executed a program.
    Executed(Vec<u32>),
    /// Look through all processes.
    Scan,
    /// Other processes are wanted from now on.
    Wanted(Box<Discover>),
    /// It is over.
    Stop,
}

/// Why a process is not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The configuration does not want it.
    Filtered,
    /// It has none of the wanted runtimes.
    NoRuntime,
    /// We may not look at it.
    NotPermitted,
    /// It runs nothing that we read, or reading it failed.
    Unreadable,
    /// It is wanted, and its memory is so large that the first look at it is not over yet.
    FirstLook,
}

impl Reason {
    /// The word used in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::NoRuntime => "no_runtime",
            Self::NotPermitted => "not_permitted",
            Self::Unreadable => "unreadable",
            Self::FirstLook => "first_look",
        }
    }
}

/// What discovery tells.
#[derive(Debug)]
pub(super) enum News {
    /// A process that is wanted. One of this pid that is watched already is another by now.
    Found(Box<Found>),
    /// A process that was handed over is not wanted any more.
    Unwanted(u32),
    /// A look through all processes is over: how many are not watched, and why.
    Scanned {
        /// By reason.
        left_out: BTreeMap<Reason, u64>,
        /// What is known of binaries.
        binaries: BinaryFigures,
    },
}

/// The thread that looks for processes; it ends with this.
#[derive(Debug)]
pub(super) struct Discovery {
    asks: Sender<Ask>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Discovery {
    /// Begins with a look through all processes.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(wanted: Discover, root: Arc<Root>, news: UnboundedSender<News>) -> io::Result<Self> {
        let (asks, questions) = channel();
        let work = move || Finder::new(wanted, root, news).run(&questions);
        let thread = std::thread::Builder::new().name("discovery".to_owned()).spawn(work)?;
        Ok(Self { asks, thread: Some(thread) })
    }

    /// These processes executed a program just now.
    pub(super) fn executed(&self, pids: Vec<u32>) {
        self.ask(Ask::Executed(pids));
    }

    /// News was lost: look through all processes.
    pub(super) fn scan(&self) {
        self.ask(Ask::Scan);
    }

    /// Other processes are wanted from now on.
    pub(super) fn want(&self, wanted: Discover) {
        self.ask(Ask::Wanted(Box::new(wanted)));
    }

    fn ask(&self, ask: Ask) {
        if self.asks.send(ask).is_err() {
            tracing::error!("the thread that looks for processes is gone: no new ones are found");
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.ask(Ask::Stop);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say any more.
            drop(thread.join());
        }
    }
}

/// A process as it was when it was looked at: the same numbers, the same program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    start_ticks: u64,
    /// Device and inode of its executable; `None`: it cannot be seen.
    exe: Option<(u64, u64)>,
    /// What it has, if it was read.
    runtimes: Vec<RuntimeKind>,
    /// Why it is not watched; `None`: it was handed over.
    left_out: Option<Reason>,
}

struct Finder {
    /// Our pid.
    own: u32,
    wanted: Discover,
    root: Arc<Root>,
    news: UnboundedSender<News>,
    binaries: Binaries,
    /// Where they are kept; `None`: nowhere, or that does not work.
    cache: Option<PathBuf>,
    /// When they were written, and how many had been read by then.
    written: (u64, u64),
    known: BTreeMap<u32, Known>,
}

impl Finder {
    fn new(wanted: Discover, root: Arc<Root>, news: UnboundedSender<News>) -> Self {
        let mut binaries = Binaries::new(wanted.most_binaries).with_largest_library(LARGEST_LIBRARY);
        let cache = wanted.cache.clone().filter(|_| wanted.most_binaries > 0);
        if let Some(path) = &cache {
            match binaries.read(path) {
                Ok(known) => tracing::debug!("{known} binaries are known from {}", path.display()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!("{} is passed over, binaries are read anew: {error}", path.display());
                }
            }
        }
        let own = std::process::id();
        Self { own, wanted, root, news, binaries, cache, written: (0, 0), known: BTreeMap::new() }
    }

    /// Writes what is known of binaries, if there is something new.
    fn keep(&mut self) {
        let read = self.binaries.figures().inspected;
        let Some(path) = self.cache.as_ref().filter(|_| read != self.written.1) else { return };
        if let Err(error) = self.binaries.write(path) {
            tracing::warn!("what is known of binaries is not kept: cannot write {}: {error}", path.display());
            self.cache = None;
        }
        self.written = (clock::monotonic_ns(), read);
    }

    fn run(mut self, questions: &Receiver<Ask>) {
        let mut due_ns = 0;
        loop {
            let now_ns = clock::monotonic_ns();
            // However much news there is.
            if now_ns >= due_ns {
                self.scan();
                let every = self.wanted.rescan.max(Duration::from_millis(100));
                due_ns = clock::monotonic_ns().saturating_add(process::nanoseconds(every));
                continue;
            }
            match questions.recv_timeout(Duration::from_nanos(due_ns - now_ns)) {
                Ok(Ask::Executed(pids)) => pids.into_iter().for_each(|pid| self.consider(pid)),
                Ok(Ask::Scan) | Err(RecvTimeoutError::Timeout) => due_ns = 0,
                Ok(Ask::Wanted(wanted)) => {
                    self.wanted = *wanted;
                    self.ask_again();
                    due_ns = 0;
                }
                Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return self.keep(),
            }
            if clock::monotonic_ns().saturating_sub(self.written.0) >= WRITTEN_EVERY_NS {
                self.keep();
            }
        }
    }

    /// Other processes are wanted: those that were left out are as good as new, and of those that were handed over the ones that are
    /// not wanted any more whoever has them is told, and they are left out from now on.
    fn ask_again(&mut self) {
        self.known.retain(|_, known| known.left_out.is_none());
        let (wanted, root, news) = (&self.wanted, &self.root, &self.news);
        for (&pid, known) in &mut self.known {
            let wants = Process::open(pid).is_ok_and(|process| wants(wanted, root, &process));
            known.left_out = match (wants, wanted.takes(&known.runtimes)) {
                (true, true) => None,
                (true, false) => Some(Reason::NoRuntime),
                (false, _) => Some(Reason::Filtered),
            };
            if known.left_out.is_some() {
                // Nobody listens any more when the agent stops.
                drop(news.send(News::Unwanted(pid)));
            }
        }
    }

    /// Looks at every process that is new since the last time, or runs another program.
    fn scan(&mut self) {
        let pids = match host::pids() {
            Ok(pids) => pids,
            Err(error) => {
                tracing::warn!("{error}");
                return;
            }
        };
        self.known.retain(|pid, _| pids.binary_search(pid).is_ok());
        for pid in pids {
            let now = host::identity(pid);
            let same = self.known.get(&pid).is_some_and(|known| {
                now.is_some_and(|(ticks, exe)| (known.start_ticks, known.exe) == (ticks, exe))
            });
            if now.is_some() && !same {
                self.consider(pid);
            }
        }
        let mut left_out = BTreeMap::new();
        for reason in self.known.values().filter_map(|known| known.left_out) {
            *left_out.entry(reason).or_insert(0) += 1;
        }
        self.tell(News::Scanned { left_out, binaries: self.binaries.figures() });
    }

    fn consider(&mut self, pid: u32) {
        if pid == self.own {
            return;
        }
        let process = match Process::open(pid) {
            Ok(process) => process,
            Err(error) => {
                let known = host::identity(pid).zip(why_not(pid, &error.into()));
                self.known.extend(known.map(|((start_ticks, exe), reason)| {
                    (pid, Known { start_ticks, exe, runtimes: Vec::new(), left_out: Some(reason) })
                }));
                return;
            }
        };
        // Before it is looked at: one that executes another program meanwhile is looked at again.
        let (start_ticks, exe) = (process.id().start_ticks, process.program());
        let mut runtimes = Vec::new();
        let left_out = match self.look(process) {
            Ok(Ok(found)) => {
                runtimes = found.runtimes();
                self.tell(News::Found(Box::new(found)));
                None
            }
            Ok(Err(reason)) => Some(reason),
            Err(error) => {
                let Some(reason) = why_not(pid, &error) else { return };
                Some(reason)
            }
        };
        self.known.insert(pid, Known { start_ticks, exe, runtimes, left_out });
    }

    fn look(&mut self, process: Process) -> Result<Result<Found, Reason>, CollectError> {
        if !wants(&self.wanted, &self.root, &process) {
            return Ok(Err(Reason::Filtered));
        }
        let found = Found::look(process, &mut self.binaries)?;
        Ok(if self.wanted.takes(&found.runtimes()) { Ok(found) } else { Err(Reason::NoRuntime) })
    }

    fn tell(&self, news: News) {
        // Nobody listens any more when the agent stops.
        drop(self.news.send(news));
    }
}

/// Why a process is not watched that cannot be looked at; `None`: it is none any more, or never was one.
fn why_not(pid: u32, error: &CollectError) -> Option<Reason> {
    let reason = reason_of(error);
    if reason.is_some() {
        tracing::debug!("pid {pid} is not watched: {error}");
    }
    reason
}

/// What an error means for a process; `None`: it is none any more, or never was one.
fn reason_of(error: &CollectError) -> Option<Reason> {
    let of_host = |error: &HostError| match error {
        HostError::NotPermitted { .. } | HostError::Hidden { .. } => Some(Reason::NotPermitted),
        HostError::Ended { .. }
        | HostError::NoSuchProcess { .. }
        | HostError::Thread { .. }
        | HostError::KernelThread { .. }
        | HostError::Zombie { .. } => None,
        _ => Some(Reason::Unreadable),
    };
    match error {
        CollectError::Host(error) | CollectError::Image(ImageError::Host(error)) => of_host(error),
        _ => Some(Reason::Unreadable),
    }
}

/// The configuration wants this process.
fn wants(wanted: &Discover, root: &Root, process: &Process) -> bool {
    let place = process.place();
    let (container, pod) = if wanted.filter.asks_of_names() {
        process::home(process, root, wanted.filter.asks_of_labels())
    } else {
        (None, None)
    };
    if let Some(pod) = pod.as_ref().filter(|pod| wanted.filter.asks_of_labels() && pod.labels.is_none()) {
        static SAID: Once = Once::new();
        let (name, pid) = (pod.name.as_deref().unwrap_or("without a name"), process.pid());
        SAID.call_once(|| {
            tracing::warn!(
                "no pod_labels in [discover] mean pid {pid} of the pod {name}: its labels are not where engines keep them by \
                 default (docs/agent.md); this is said once"
            );
        });
    }
    let text = |text: Option<&Option<String>>| text.cloned().flatten().unwrap_or_default();
    wanted.filter.wants(&Candidate {
        comm: process.comm(),
        exe: &process.exe().path.to_string_lossy(),
        uid: process.uid(),
        cgroup: place.cgroup.as_deref().unwrap_or_default(),
        container: place.container.as_deref().unwrap_or_default(),
        image: &text(container.as_ref().map(|container| &container.image)),
        namespace: &text(pod.as_ref().map(|pod| &pod.namespace)),
        pod: &text(pod.as_ref().map(|pod| &pod.name)),
        labels: pod.as_ref().and_then(|pod| pod.labels.as_ref()),
    })
}
