//! Finds processes: all that run, and each new program from its exec on.
//!
//! A process is opened, the filter is asked, its program is read (or remembered), and it is handed over. Execs are told of by the
//! kernel side; a look through `/proc` now and then finds what nobody told of: forks that execute nothing, and execs whose news was
//! lost. A thread beside the one that watches does that, for to read a program takes as long as it is large; what runs a program that
//! is known is found at once by the one that watches, to whom it is handed over anyway. It never touches a process and never
//! blocks who watches.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use leakwatch_common::RuntimeKind;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{filter::Candidate, options::Discover};
use crate::{
    agent::{clock, process},
    collect::{CollectError, Found},
    host::{self, HostError, Process, Root},
    images::{Binaries, BinaryFigures, ImageError, Reading},
};

/// A library that is larger is not searched for a runtime: it is read into memory for that. Python's extension modules with
/// tokio in them have some megabytes.
const LARGEST_LIBRARY: u64 = 64 << 20;

/// Execs that are looked at without the thread in one go, at most.
const AT_ONCE: usize = 64;

/// What is known of binaries is written no more often than this, ns.
const WRITTEN_EVERY_NS: u64 = 60_000_000_000;

/// And where they cannot be written, half as often after each failure, an hour apart at most.
const MOST_DOUBLINGS: u32 = 6;

/// What discovery is asked.
#[derive(Debug)]
enum Ask {
    /// These processes executed a program.
    Executed(Vec<u32>),
    /// These processes were handed over and could not be taken; now they can.
    Again(Vec<u32>),
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
    /// It is wanted, and as many as may be are watched.
    NoRoom,
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
            Self::NoRoom => "no_room",
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
    /// How many of them wait, or are worked on.
    waiting: Arc<AtomicUsize>,
    finder: Arc<Mutex<Finder>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Discovery {
    /// Begins with a look through all processes.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(wanted: Discover, root: Arc<Root>, news: UnboundedSender<News>) -> io::Result<Self> {
        let (asks, questions) = channel();
        let waiting = Arc::<AtomicUsize>::default();
        let finder = Arc::new(Mutex::new(Finder::new(wanted, root, news)));
        let work = {
            let (finder, waiting) = (Arc::clone(&finder), Arc::clone(&waiting));
            move || run(&finder, &questions, &waiting)
        };
        let thread = std::thread::Builder::new().name("discovery".to_owned()).spawn(work)?;
        Ok(Self { asks, waiting, finder, thread: Some(thread) })
    }

    /// These processes executed a program just now. Those are returned that are wanted and run what is known; the thread
    /// tells of the others, in `news`.
    pub(super) fn executed(&self, mut pids: Vec<u32>, news: &UnboundedReceiver<News>) -> Vec<Found> {
        let mut found = Vec::new();
        if pids.is_empty() {
            return found;
        }
        // Not before what was asked or told earlier, perhaps of the same process, nor while something is read.
        if self.waiting.load(Ordering::Acquire) == 0
            && let Ok(mut finder) = self.finder.try_lock()
            && news.is_empty()
        {
            let others = pids.split_off(pids.len().min(AT_ONCE));
            pids.retain(|&pid| match finder.consider(pid, Reading::Known) {
                Ok(one) => {
                    found.extend(one);
                    false
                }
                Err(Unread) => true,
            });
            pids.extend(others);
        }
        for one in &mut found {
            one.newborn = true;
        }
        if !pids.is_empty() {
            self.ask(Ask::Executed(pids));
        }
        found
    }

    /// News was lost: look through all processes.
    pub(super) fn scan(&self) {
        self.ask(Ask::Scan);
    }

    /// Tell of these processes again, if they are there still: there was no room for them, and is now.
    pub(super) fn again(&self, pids: Vec<u32>) {
        if !pids.is_empty() {
            self.ask(Ask::Again(pids));
        }
    }

    /// Other processes are wanted from now on.
    pub(super) fn want(&self, wanted: Discover) {
        self.ask(Ask::Wanted(Box::new(wanted)));
    }

    fn ask(&self, ask: Ask) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
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

/// A program that is not known and was not to be read.
#[derive(Debug)]
struct Unread;

#[derive(Debug)]
struct Finder {
    /// Our pid.
    own: u32,
    wanted: Discover,
    root: Arc<Root>,
    news: UnboundedSender<News>,
    binaries: Binaries,
    /// Where they are kept; `None`: nowhere.
    cache: Option<PathBuf>,
    /// How many had been read when they were written last; `None`: they are to be written, whatever was read.
    written: Option<u64>,
    /// They are not written before this, ns.
    keep_from_ns: u64,
    /// How often they could not be written, in a row.
    unwritten: u32,
    known: BTreeMap<u32, Known>,
}

impl Finder {
    fn new(wanted: Discover, root: Arc<Root>, news: UnboundedSender<News>) -> Self {
        let binaries = Binaries::new(wanted.most_binaries).with_largest_library(LARGEST_LIBRARY);
        let own = std::process::id();
        let mut finder = Self {
            own,
            wanted,
            root,
            news,
            binaries,
            cache: None,
            written: Some(0),
            keep_from_ns: 0,
            unwritten: 0,
            known: BTreeMap::new(),
        };
        finder.open_cache();
        finder
    }

    /// Other processes are wanted from now on, and what is known of binaries is kept elsewhere, or less of it.
    fn want(&mut self, wanted: Discover) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        self.binaries.keep_at_most(self.wanted.most_binaries);
        if (before.cache, before.most_binaries == 0)
            != (self.wanted.cache.clone(), self.wanted.most_binaries == 0)
        {
            self.open_cache();
            (self.written, self.keep_from_ns, self.unwritten) = (None, 0, 0);
        }
        self.ask_again();
    }

    /// Takes in what is known of binaries from the runs before; what is known then is written there.
    fn open_cache(&mut self) {
        self.cache = self.wanted.cache.clone().filter(|_| self.wanted.most_binaries > 0);
        let Some(path) = &self.cache else { return };
        match self.binaries.read(path) {
            Ok(known) => tracing::debug!("{known} binaries are known from {}", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!("{} is passed over, binaries are read anew: {error}", path.display());
            }
        }
    }

    /// Writes what is known of binaries, if there is something new. Where that does not go, as on a disk that is full, it is tried again,
    /// ever more rarely: whatever is known has to be put together for each attempt.
    fn keep(&mut self) {
        let read = self.binaries.figures().inspected;
        let Some(path) = self.cache.as_ref().filter(|_| self.written != Some(read)) else { return };
        let wait = match self.binaries.write(path) {
            Ok(()) => {
                if std::mem::take(&mut self.unwritten) > 0 {
                    tracing::warn!("what is known of binaries is kept in {} again", path.display());
                }
                self.written = Some(read);
                WRITTEN_EVERY_NS
            }
            Err(error) => {
                if self.unwritten == 0 {
                    let path = path.display();
                    tracing::warn!(
                        "what is known of binaries is not kept for now: cannot write {path}: {error}"
                    );
                }
                self.unwritten += 1;
                WRITTEN_EVERY_NS << self.unwritten.min(MOST_DOUBLINGS)
            }
        };
        self.keep_from_ns = clock::monotonic_ns().saturating_add(wait);
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
                self.find(pid, false);
            }
        }
        let mut left_out = BTreeMap::new();
        for reason in self.known.values().filter_map(|known| known.left_out) {
            *left_out.entry(reason).or_insert(0) += 1;
        }
        self.tell(News::Scanned { left_out, binaries: self.binaries.figures() });
    }

    /// Considers a process, and tells if it is wanted; `newborn`: it executed its program just now.
    fn find(&mut self, pid: u32, newborn: bool) {
        // Whatever is not known is read.
        if let Ok(Some(mut found)) = self.consider(pid, Reading::All) {
            found.newborn = newborn;
            self.tell(News::Found(Box::new(found)));
        }
    }

    /// Opens a process, and takes note of what becomes of it; it is returned if it is wanted.
    fn consider(&mut self, pid: u32, reading: Reading) -> Result<Option<Found>, Unread> {
        if pid == self.own {
            return Ok(None);
        }
        let process = match Process::open(pid) {
            Ok(process) => process,
            Err(error) => {
                let known = host::identity(pid).zip(why_not(pid, &error.into()));
                self.known.extend(known.map(|((start_ticks, exe), reason)| {
                    (pid, Known { start_ticks, exe, runtimes: Vec::new(), left_out: Some(reason) })
                }));
                return Ok(None);
            }
        };
        // Before it is looked at: one that executes another program meanwhile is looked at again.
        let (start_ticks, exe) = (process.id().start_ticks, process.program());
        let mut runtimes = Vec::new();
        let (found, left_out) = match self.look(process, reading) {
            Ok(Ok(found)) => {
                runtimes = found.runtimes();
                (Some(found), None)
            }
            Ok(Err(reason)) => (None, Some(reason)),
            Err(CollectError::Image(ImageError::Unread { .. })) => return Err(Unread),
            Err(error) => {
                let Some(reason) = why_not(pid, &error) else { return Ok(None) };
                (None, Some(reason))
            }
        };
        self.known.insert(pid, Known { start_ticks, exe, runtimes, left_out });
        Ok(found)
    }

    fn look(&mut self, process: Process, reading: Reading) -> Result<Result<Found, Reason>, CollectError> {
        if !wants(&self.wanted, &self.root, &process) {
            return Ok(Err(Reason::Filtered));
        }
        self.binaries.limit_to(reading);
        let found = Found::look(process, &mut self.binaries)?;
        Ok(if self.wanted.takes(&found.runtimes()) { Ok(found) } else { Err(Reason::NoRuntime) })
    }

    fn tell(&self, news: News) {
        // Nobody listens any more when the agent stops.
        drop(self.news.send(news));
    }
}

/// What the thread does until it is told to stop, or nobody is there any more.
fn run(finder: &Mutex<Finder>, questions: &Receiver<Ask>, waiting: &AtomicUsize) {
    let mut due_ns = 0;
    loop {
        let now_ns = clock::monotonic_ns();
        // However much news there is.
        if now_ns >= due_ns {
            let mut finder = hold(finder);
            finder.scan();
            let every = finder.wanted.rescan.max(Duration::from_millis(100));
            due_ns = clock::monotonic_ns().saturating_add(process::nanoseconds(every));
            continue;
        }
        let asked = questions.recv_timeout(Duration::from_nanos(due_ns - now_ns));
        let was_asked = asked.is_ok();
        let mut finder = hold(finder);
        match asked {
            Ok(Ask::Executed(pids)) => pids.into_iter().for_each(|pid| finder.find(pid, true)),
            Ok(Ask::Again(pids)) => pids.into_iter().for_each(|pid| finder.find(pid, false)),
            Ok(Ask::Scan) | Err(RecvTimeoutError::Timeout) => due_ns = 0,
            Ok(Ask::Wanted(wanted)) => {
                finder.want(*wanted);
                due_ns = 0;
            }
            Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return finder.keep(),
        }
        if clock::monotonic_ns() >= finder.keep_from_ns {
            finder.keep();
        }
        if was_asked {
            waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// What it knows is as good as before when somebody panicked with it.
fn hold(finder: &Mutex<Finder>) -> MutexGuard<'_, Finder> {
    finder.lock().unwrap_or_else(PoisonError::into_inner)
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
    let place = wanted.filter.asks_of_place().then(|| process.place());
    let (id, container, pod) = if wanted.filter.asks_of_names() {
        let (container, pod) = process::home(process, root, wanted.filter.asks_of_labels());
        (container.as_ref().map(|container| container.id.clone()), container, pod)
    } else {
        (place.and_then(|_| process::container_id(process, root)), None, None)
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
        cgroup: place.and_then(|place| place.cgroup.as_deref()).unwrap_or_default(),
        container: id.as_deref().unwrap_or_default(),
        image: &text(container.as_ref().map(|container| &container.image)),
        namespace: &text(pod.as_ref().map(|pod| &pod.namespace)),
        pod: &text(pod.as_ref().map(|pod| &pod.name)),
        labels: pod.as_ref().and_then(|pod| pod.labels.as_ref()),
    })
}
