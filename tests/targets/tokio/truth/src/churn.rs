//! Commands that start tasks all of which end, by every way that tokio has for a task to end.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::{yield_now, LocalSet};

use crate::book::{self, Ending, Kind, Site};
use crate::quiet::wait_until;
use crate::world::{Flavour, Rt, World};

/// How many short tasks are alive at most.
const IN_FLIGHT: usize = 4096;

pub type Churn = fn(&mut World, u64, u64) -> Result<&'static Site, String>;

/// Name, usage of the arguments, and what is done with them.
pub const CHURNS: &[(&str, &str, Churn)] = &[
    ("storm", "N [DRIVERS]", storm),
    ("localstorm", "N", localstorm),
    ("nested", "N", nested),
    ("yields", "N [TIMES]", yields),
    ("panics", "N", panics),
    ("aborts", "N", aborts),
    ("blockstorm", "N", blockstorm),
    ("inplace", "N", inplace),
    ("sets", "N [TASKS]", sets),
    ("runtimes", "N [TASKS]", runtimes),
    ("localsets", "N [TASKS]", localsets),
    ("toolate", "N", toolate),
];

/// Waits until nothing is alive but what was before.
fn until_gone(live: u64) -> Result<(), String> {
    wait_until("the end of all", || book::live(None) <= live)
}

static STORM_DRIVER: Site = Site::new(Kind::Task);
static STORM: Site = Site::new(Kind::Task);

async fn short(end: Ending, mine: Arc<AtomicUsize>) {
    end.enter(&STORM);
    mine.fetch_sub(1, SeqCst);
}

async fn drives_storm(end: Ending, share: u64, in_flight: usize) {
    end.enter(&STORM_DRIVER);
    let mine = Arc::new(AtomicUsize::new(0));
    for _ in 0..share {
        mine.fetch_add(1, SeqCst);
        let task = short(STORM.starting(), mine.clone());
        STORM.spawns(&task);
        drop(tokio::spawn(task));
        while mine.load(SeqCst) >= in_flight {
            yield_now().await;
        }
    }
}

fn storm(world: &mut World, n: u64, drivers: u64) -> Result<&'static Site, String> {
    let (live, drivers) = (book::live(None), drivers.max(1));
    for driver in 0..drivers {
        let share = n / drivers + u64::from(driver < n % drivers);
        let task = drives_storm(STORM_DRIVER.starting(), share, IN_FLIGHT / drivers as usize + 1);
        STORM_DRIVER.spawns(&task);
        drop(world.handle().spawn(task));
    }
    until_gone(live)?;
    Ok(&STORM)
}

static LOCAL_DRIVER: Site = Site::new(Kind::Local);
static LOCAL_STORM: Site = Site::new(Kind::Local);

async fn short_local(end: Ending) {
    end.enter(&LOCAL_STORM);
    yield_now().await;
    drop(end);
}

async fn drives_local(end: Ending, n: u64) {
    end.enter(&LOCAL_DRIVER);
    for _ in 0..n {
        let task = short_local(LOCAL_STORM.starting());
        LOCAL_STORM.spawns(&task);
        drop(tokio::task::spawn_local(task));
        while LOCAL_STORM.live() >= 1024 {
            yield_now().await;
        }
    }
}

fn localstorm(world: &mut World, n: u64, _: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    world.local().run(move || {
        let task = drives_local(LOCAL_DRIVER.starting(), n);
        LOCAL_DRIVER.spawns(&task);
        drop(tokio::task::spawn_local(task));
    });
    until_gone(live)?;
    Ok(&LOCAL_STORM)
}

static NEST: Site = Site::new(Kind::Task);
static NEST_CHILD: Site = Site::new(Kind::Task);
static NEST_GRANDCHILD: Site = Site::new(Kind::Task);

async fn grandchild(end: Ending) {
    end.enter(&NEST_GRANDCHILD);
}

async fn child(end: Ending) {
    end.enter(&NEST_CHILD);
    let task = grandchild(NEST_GRANDCHILD.starting());
    NEST_GRANDCHILD.spawns(&task);
    drop(tokio::spawn(task).await);
}

async fn nest(end: Ending) {
    end.enter(&NEST);
    let task = child(NEST_CHILD.starting());
    NEST_CHILD.spawns(&task);
    drop(tokio::spawn(task));
}

/// Tasks that start tasks that start tasks: 3 N.
fn nested(world: &mut World, n: u64, _: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    for _ in 0..n {
        let task = nest(NEST.starting());
        NEST.spawns(&task);
        drop(world.handle().spawn(task));
    }
    until_gone(live)?;
    Ok(&NEST)
}

static YIELDING: Site = Site::new(Kind::Task);

async fn yielding(end: Ending, times: u64) {
    end.enter(&YIELDING);
    for _ in 0..times {
        yield_now().await;
    }
}

fn yields(world: &mut World, n: u64, times: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    for _ in 0..n {
        let task = yielding(YIELDING.starting(), times.max(3));
        YIELDING.spawns(&task);
        drop(world.handle().spawn(task));
    }
    until_gone(live)?;
    Ok(&YIELDING)
}

static PANICKING: Site = Site::new(Kind::Task);

async fn panicking(end: Ending, n: u64) {
    end.enter(&PANICKING);
    if n % 2 == 0 {
        yield_now().await;
    }
    // Without the hook, which would print it.
    std::panic::resume_unwind(Box::new("as asked for"));
}

fn panics(world: &mut World, n: u64, _: u64) -> Result<&'static Site, String> {
    if cfg!(panic = "abort") {
        return Err("a panic ends this build".to_owned());
    }
    let live = book::live(None);
    for i in 0..n {
        let task = panicking(PANICKING.starting(), i);
        PANICKING.spawns(&task);
        let handle = world.handle().spawn(task);
        wait_until("a panic", || handle.is_finished())?;
    }
    until_gone(live)?;
    Ok(&PANICKING)
}

static ABORTED: Site = Site::new(Kind::Task);

async fn aborted(end: Ending) {
    end.enter(&ABORTED);
    pending::<()>().await;
    drop(end);
}

/// Aborted at once, mostly before they ran; or once they wait; or by another task.
fn aborts(world: &mut World, n: u64, _: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    for i in 0..n {
        let task = aborted(ABORTED.starting());
        ABORTED.spawns(&task);
        let handle = world.handle().spawn(task);
        if i % 3 == 1 {
            wait_until("its first poll", || ABORTED.has_arrived())?;
        }
        handle.abort();
        if i % 5 == 0 {
            handle.abort();
        }
        // Half of the handles are gone before the task is.
        if i % 2 == 0 {
            wait_until("an abort", || handle.is_finished())?;
        }
    }
    until_gone(live)?;
    Ok(&ABORTED)
}

static BLOCK_DRIVER: Site = Site::new(Kind::Task);
static BLOCK_STORM: Site = Site::new(Kind::Blocking);

async fn drives_blocking(end: Ending, n: u64) {
    end.enter(&BLOCK_DRIVER);
    let mut last = Vec::new();
    for i in 0..n {
        let end = BLOCK_STORM.starting();
        let job = move || {
            end.enter(&BLOCK_STORM);
            drop(end);
        };
        BLOCK_STORM.spawns(&job);
        last.push(tokio::task::spawn_blocking(job));
        if i % 32 == 31 {
            for handle in last.drain(..) {
                drop(handle.await);
            }
        }
    }
    for handle in last {
        drop(handle.await);
    }
}

/// Short jobs on the blocking pool, and a task that waits for them.
fn blockstorm(world: &mut World, n: u64, _: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    let task = drives_blocking(BLOCK_DRIVER.starting(), n);
    BLOCK_DRIVER.spawns(&task);
    drop(world.handle().spawn(task));
    until_gone(live)?;
    Ok(&BLOCK_STORM)
}

static IN_PLACE: Site = Site::new(Kind::Task);

async fn blocks_in_place(end: Ending) {
    end.enter(&IN_PLACE);
    tokio::task::block_in_place(|| thread::sleep(Duration::from_millis(1)));
    yield_now().await;
    drop(end);
}

/// The worker's thread goes on with the task, and another one becomes the worker.
fn inplace(world: &mut World, n: u64, _: u64) -> Result<&'static Site, String> {
    if world.flavour == Flavour::CurrentThread {
        return Err("a current_thread runtime cannot block in place".to_owned());
    }
    let live = book::live(None);
    for _ in 0..n {
        let task = blocks_in_place(IN_PLACE.starting());
        IN_PLACE.spawns(&task);
        drop(world.handle().spawn(task));
    }
    until_gone(live)?;
    Ok(&IN_PLACE)
}

static IN_SET: Site = Site::new(Kind::Task);

#[cfg(feature = "joinset")]
async fn in_a_dropped_set(end: Ending) {
    end.enter(&IN_SET);
    pending::<()>().await;
    drop(end);
}

/// N sets that are dropped with their tasks in them, or told to abort them all.
#[cfg(feature = "joinset")]
fn sets(world: &mut World, n: u64, tasks: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    for i in 0..n {
        let mut set = tokio::task::JoinSet::new();
        for _ in 0..tasks.max(5) {
            let task = in_a_dropped_set(IN_SET.starting());
            IN_SET.spawns(&task);
            set.spawn_on(task, world.handle());
        }
        if i % 2 == 0 {
            set.abort_all();
        }
    }
    until_gone(live)?;
    Ok(&IN_SET)
}

#[cfg(not(feature = "joinset"))]
fn sets(_: &mut World, _: u64, _: u64) -> Result<&'static Site, String> {
    Err(format!("this version of tokio has no JoinSet; {} started", IN_SET.started()))
}

static SHUT_DOWN: Site = Site::new(Kind::Task);

async fn is_shut_down(end: Ending) {
    end.enter(&SHUT_DOWN);
    pending::<()>().await;
    drop(end);
}

/// N runtimes that are shut down with tasks in them; some of these have not run once.
fn runtimes(world: &mut World, n: u64, tasks: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    for i in 0..n {
        let flavour = if i % 2 == 0 { world.flavour } else { Flavour::CurrentThread };
        let runtime = Rt::start(flavour, world.workers);
        for _ in 0..tasks.max(5) {
            let task = is_shut_down(SHUT_DOWN.starting());
            SHUT_DOWN.spawns(&task);
            drop(runtime.handle().spawn(task));
        }
        if i % 3 == 0 {
            runtime.shutdown_background();
        } else {
            drop(runtime);
        }
        // A current_thread runtime that is shut down keeps nothing either.
        until_gone(live)?;
    }
    Ok(&SHUT_DOWN)
}

static LEFT_LOCAL: Site = Site::new(Kind::Local);

async fn is_left_in_a_set(end: Ending) {
    end.enter(&LEFT_LOCAL);
    pending::<()>().await;
    drop(end);
}

/// N `LocalSet`s that never run and are dropped with their tasks.
fn localsets(world: &mut World, n: u64, tasks: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    world.local().run(move || {
        for _ in 0..n {
            let set = LocalSet::new();
            for _ in 0..tasks.max(5) {
                let task = is_left_in_a_set(LEFT_LOCAL.starting());
                LEFT_LOCAL.spawns(&task);
                drop(set.spawn_local(task));
            }
        }
    });
    until_gone(live)?;
    Ok(&LEFT_LOCAL)
}

static TOO_LATE: Site = Site::new(Kind::Task);

async fn comes_too_late(end: Ending) {
    end.enter(&TOO_LATE);
    pending::<()>().await;
    drop(end);
}

/// Tasks spawned on a runtime that has been shut down: tokio makes them, and cancels them at once.
fn toolate(world: &mut World, n: u64, _: u64) -> Result<&'static Site, String> {
    let live = book::live(None);
    let runtime = Rt::start(world.flavour, world.workers);
    let handle = runtime.handle().clone();
    drop(runtime);
    for _ in 0..n {
        let task = comes_too_late(TOO_LATE.starting());
        TOO_LATE.spawns(&task);
        drop(handle.spawn(task));
    }
    until_gone(live)?;
    Ok(&TOO_LATE)
}

static BUSY: Site = Site::new(Kind::Task);

async fn is_busy(end: Ending) {
    end.enter(&BUSY);
    yield_now().await;
    drop(end);
}

/// A thread that starts and ends tasks in the background, between commands.
pub struct Background {
    running: Arc<AtomicBool>,
    /// Held while a round of tasks is alive, and while a command runs.
    round: Arc<Mutex<()>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    done: Arc<AtomicU64>,
}

impl Background {
    pub fn new() -> Self {
        Self {
            running: Arc::default(),
            round: Arc::default(),
            thread: Mutex::default(),
            done: Arc::default(),
        }
    }

    pub fn is_on(&self) -> bool {
        self.running.load(SeqCst)
    }

    /// Runs `work` between two rounds.
    pub fn pause<T>(&self, work: impl FnOnce() -> T) -> T {
        let _round = self.round.lock().unwrap();
        work()
    }

    pub fn start(&self, world: &World, seconds: u64, rate: u64) -> Result<(), String> {
        let mut thread = self.thread.lock().unwrap();
        if thread.is_some() {
            return Err("it is busy already; `idle` ends that".to_owned());
        }
        self.running.store(true, SeqCst);
        let (running, round, done) = (self.running.clone(), self.round.clone(), self.done.clone());
        let handle = world.handle().clone();
        *thread = Some(thread::spawn(move || {
            let begun = Instant::now();
            let mut last = begun;
            let mut due = 0.0;
            while running.load(SeqCst) && begun.elapsed() < Duration::from_secs(seconds) {
                let held = round.lock().unwrap();
                let now = Instant::now();
                // What a long command held up is not caught up with.
                due = f64::min(due + (now - last).as_secs_f64() * rate as f64, rate as f64 / 20.0);
                last = now;
                while due >= 1.0 {
                    due -= 1.0;
                    let task = is_busy(BUSY.starting());
                    BUSY.spawns(&task);
                    drop(handle.spawn(task));
                    done.fetch_add(1, SeqCst);
                }
                while BUSY.live() > 0 {
                    thread::yield_now();
                }
                drop(held);
                thread::sleep(Duration::from_millis(1));
            }
            running.store(false, SeqCst);
        }));
        Ok(())
    }

    /// Ends it; outside of `pause`.
    pub fn end(&self) {
        self.running.store(false, SeqCst);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }
}
