//! The book: how many tasks each site has started, how many of them have run, how many are gone.
//!
//! A site is a type of future (or of a blocking job) that is spawned at one place. Its name is what the compiler
//! calls that type, so that no name is written down twice. Nothing here knows about tokio.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::Mutex;

/// What runs the tasks of a site.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A runtime: `num_alive_tasks` counts them.
    Task,
    /// A `LocalSet`.
    Local,
    /// A thread of the blocking pool.
    Blocking,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Task => "task",
            Kind::Local => "local",
            Kind::Blocking => "blocking",
        }
    }
}

/// One place that spawns, and what has passed through it.
pub struct Site {
    kind: Kind,
    /// Raised before the task is spawned.
    started: AtomicU64,
    /// Raised by the task's first lines, or when the future is dropped without having run.
    entered: AtomicU64,
    /// Raised when the future is dropped, shortly before tokio takes the task away.
    ended: AtomicU64,
    name: Mutex<Option<&'static str>>,
}

static SITES: Mutex<Vec<&'static Site>> = Mutex::new(Vec::new());

impl Site {
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            started: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            name: Mutex::new(None),
        }
    }

    /// To be called for each task, before it is spawned; what it returns has to live in the future.
    pub fn starting(&'static self) -> Ending {
        if self.started.fetch_add(1, SeqCst) == 0 {
            SITES.lock().unwrap().push(self);
        }
        Ending { site: self, entered: AtomicBool::new(false) }
    }

    /// Remembers the name of what is spawned here.
    pub fn spawns<F>(&self, _what: &F) {
        let mut name = self.name.lock().unwrap();
        if name.is_none() {
            *name = Some(std::any::type_name::<F>());
        }
    }

    pub fn started(&self) -> u64 {
        self.started.load(SeqCst)
    }

    pub fn ended(&self) -> u64 {
        self.ended.load(SeqCst)
    }

    pub fn entered(&self) -> u64 {
        self.entered.load(SeqCst)
    }

    pub fn live(&self) -> u64 {
        // The end first: what ends between the two reads is still alive.
        let ended = self.ended();
        self.started() - ended
    }

    pub fn name(&self) -> &'static str {
        self.name.lock().unwrap().unwrap_or("")
    }

    /// Whether everything that was started has run its first lines, or is gone.
    pub fn has_arrived(&self) -> bool {
        self.entered() >= self.started()
    }
}

/// Counts the end of a task when it is dropped: at its end, by a panic, by an abort, by a shutdown.
pub struct Ending {
    site: &'static Site,
    entered: AtomicBool,
}

impl Ending {
    /// The task runs. Each type names its own site, so that no two of them have the same code: compilers and linkers
    /// make one of such, and nobody could tell their tasks apart.
    #[inline(always)]
    pub fn enter(&self, site: &'static Site) {
        assert!(std::ptr::eq(self.site, site), "a task of another site");
        self.arrive();
    }

    fn arrive(&self) {
        if !self.entered.swap(true, SeqCst) {
            self.site.entered.fetch_add(1, SeqCst);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.arrive();
        self.site.ended.fetch_add(1, SeqCst);
    }
}

/// What is known of all sites of one name.
#[derive(Clone, Copy, Default)]
pub struct Entry {
    pub live: u64,
    pub started: u64,
    pub ended: u64,
    pub kind: &'static str,
}

/// The whole book by name. Sites of one type are one entry.
pub fn entries() -> BTreeMap<&'static str, Entry> {
    let mut entries: BTreeMap<&'static str, Entry> = BTreeMap::new();
    for site in sites() {
        let entry = entries.entry(site.name()).or_default();
        let (ended, started) = (site.ended(), site.started());
        entry.live += started - ended;
        entry.started += started;
        entry.ended += ended;
        entry.kind = site.kind.name();
    }
    entries
}

/// All sites that have spawned anything.
pub fn sites() -> Vec<&'static Site> {
    SITES.lock().unwrap().clone()
}

/// Alive, of this kind or of all.
pub fn live(kind: Option<Kind>) -> u64 {
    sites().iter().filter(|site| kind.is_none() || kind == Some(site.kind)).map(|site| site.live()).sum()
}

/// Started, of all kinds.
pub fn started() -> u64 {
    sites().iter().map(|site| site.started()).sum()
}
