//! The kinds of tasks that `spawn` makes: each a type of its own that waits for something of its own.

use std::future::{pending, Future};
use std::pin::Pin;
use std::sync::{mpsc::channel, Arc};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, Mutex, Notify, Semaphore};

use crate::book::{Ending, Kind, Site};
use crate::world::{Held, World};

/// Spawns one.
pub type Spawn = fn(&mut World) -> Held;

/// A kind, its site, and how one is made.
pub struct Row {
    pub name: &'static str,
    pub site: &'static Site,
    pub spawn: Spawn,
}

/// A static site and the functions' row.
macro_rules! rows {
    ($($(#[$cfg:meta])* $name:literal $site:ident $kind:ident $spawn:ident,)*) => {
        $($(#[$cfg])* pub static $site: Site = Site::new(Kind::$kind);)*
        /// All kinds.
        pub static ROWS: &[Row] = &[$($(#[$cfg])* Row { name: $name, site: &$site, spawn: $spawn },)*];
    };
}

rows! {
    "pending" PENDING Task spawn_pending,
    "notify" NOTIFY Task spawn_notify,
    "oneshot" ONESHOT Task spawn_oneshot,
    "mpsc" MPSC Task spawn_mpsc,
    "mutex" MUTEX Task spawn_mutex,
    "semaphore" SEMAPHORE Task spawn_semaphore,
    "sleeplong" SLEEPLONG Task spawn_sleeplong,
    "timeout" TIMEOUT Task spawn_timeout,
    "block" BLOCK Task spawn_block,
    "method" METHOD Task spawn_method,
    "generic" GENERIC Task spawn_generic,
    "genericstring" GENERICSTRING Task spawn_genericstring,
    "future" FUTURE Task spawn_future,
    "boxed" BOXED Task spawn_boxed,
    "big" BIG Task spawn_big,
    "detached" DETACHED Task spawn_detached,
    "kept" KEPT Task spawn_kept,
    "second" SECOND Task spawn_second,
    "local" LOCAL Local spawn_local,
    "blocking" BLOCKING Blocking spawn_blocking,
    #[cfg(feature = "joinset")]
    "joinset" JOINSET Task spawn_joinset,
}

/// Spawns on the main runtime; a macro, so that each kind calls tokio from its own function.
macro_rules! on_main {
    ($world:expr, $site:ident, $future:expr) => {{
        let future = $future;
        $site.spawns(&future);
        $world.handle().spawn(future)
    }};
}

fn held(release: impl FnOnce() + Send + 'static, handle: tokio::task::JoinHandle<()>) -> Held {
    Held { release: Some(Box::new(release)), handle: Some(handle) }
}

async fn waits_for_ever(end: Ending) {
    end.enter(&PENDING);
    pending::<()>().await;
    drop(end);
}

#[inline(never)]
fn spawn_pending(world: &mut World) -> Held {
    let handle = on_main!(world, PENDING, waits_for_ever(PENDING.starting()));
    Held { release: None, handle: Some(handle) }
}

async fn waits_for_notify(end: Ending, bell: Arc<Notify>) {
    end.enter(&NOTIFY);
    bell.notified().await;
}

#[inline(never)]
fn spawn_notify(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let handle = on_main!(world, NOTIFY, waits_for_notify(NOTIFY.starting(), bell.clone()));
    held(move || bell.notify_one(), handle)
}

async fn waits_for_oneshot(end: Ending, receive: oneshot::Receiver<u8>) {
    end.enter(&ONESHOT);
    drop(receive.await);
}

#[inline(never)]
fn spawn_oneshot(world: &mut World) -> Held {
    let (send, receive) = oneshot::channel();
    let handle = on_main!(world, ONESHOT, waits_for_oneshot(ONESHOT.starting(), receive));
    held(move || _ = send.send(1), handle)
}

async fn waits_for_mpsc(end: Ending, mut receive: mpsc::Receiver<u64>) {
    end.enter(&MPSC);
    while receive.recv().await.is_some() {}
}

#[inline(never)]
fn spawn_mpsc(world: &mut World) -> Held {
    let (send, receive) = mpsc::channel(1);
    let handle = on_main!(world, MPSC, waits_for_mpsc(MPSC.starting(), receive));
    held(move || drop(send), handle)
}

async fn waits_for_mutex(end: Ending, mutex: Arc<Mutex<u32>>) {
    end.enter(&MUTEX);
    *mutex.lock().await += 1;
}

#[inline(never)]
fn spawn_mutex(world: &mut World) -> Held {
    let mutex = Arc::new(Mutex::new(0));
    let locked = mutex.clone().try_lock_owned().unwrap();
    let handle = on_main!(world, MUTEX, waits_for_mutex(MUTEX.starting(), mutex));
    held(move || drop(locked), handle)
}

async fn waits_for_permits(end: Ending, semaphore: Arc<Semaphore>) {
    end.enter(&SEMAPHORE);
    drop(semaphore.acquire_many(3).await);
}

#[inline(never)]
fn spawn_semaphore(world: &mut World) -> Held {
    let semaphore = Arc::new(Semaphore::new(0));
    let handle = on_main!(world, SEMAPHORE, waits_for_permits(SEMAPHORE.starting(), semaphore.clone()));
    held(move || semaphore.add_permits(3), handle)
}

async fn sleeps_long(end: Ending) {
    end.enter(&SLEEPLONG);
    tokio::time::sleep(Duration::from_secs(3_600_000)).await;
    drop(end);
}

#[inline(never)]
fn spawn_sleeplong(world: &mut World) -> Held {
    let handle = on_main!(world, SLEEPLONG, sleeps_long(SLEEPLONG.starting()));
    Held { release: None, handle: Some(handle) }
}

async fn waits_in_timeout(end: Ending, bell: Arc<Notify>) {
    end.enter(&TIMEOUT);
    bell.notified().await;
    drop(end);
}

async fn ends_by_timeout(inner: impl Future<Output = ()>) {
    drop(tokio::time::timeout(Duration::from_secs(3_600_000), inner).await);
}

/// One future in another.
#[inline(never)]
fn spawn_timeout(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let inner = waits_in_timeout(TIMEOUT.starting(), bell.clone());
    let handle = on_main!(world, TIMEOUT, ends_by_timeout(inner));
    held(move || bell.notify_one(), handle)
}

/// An async block in a closure.
#[inline(never)]
fn spawn_block(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let (end, rung) = (BLOCK.starting(), bell.clone());
    let make = move || async move {
        end.enter(&BLOCK);
        rung.notified().await;
        drop(end);
    };
    let handle = on_main!(world, BLOCK, make());
    held(move || bell.notify_one(), handle)
}

struct Server {
    bell: Notify,
}

impl Server {
    async fn accept(self: Arc<Self>, end: Ending) {
        end.enter(&METHOD);
        self.bell.notified().await;
    }
}

#[inline(never)]
fn spawn_method(world: &mut World) -> Held {
    let server = Arc::new(Server { bell: Notify::new() });
    let handle = on_main!(world, METHOD, server.clone().accept(METHOD.starting()));
    held(move || server.bell.notify_one(), handle)
}

async fn worker<T: Clone + Send>(end: Ending, site: &'static Site, receive: oneshot::Receiver<T>) {
    end.enter(site);
    if let Ok(value) = receive.await {
        drop(value.clone());
    }
}

#[inline(never)]
fn spawn_generic(world: &mut World) -> Held {
    let (send, receive) = oneshot::channel();
    let handle = on_main!(world, GENERIC, worker::<u16>(GENERIC.starting(), &GENERIC, receive));
    held(move || _ = send.send(7), handle)
}

#[inline(never)]
fn spawn_genericstring(world: &mut World) -> Held {
    let (send, receive) = oneshot::channel();
    let handle = on_main!(world, GENERICSTRING, worker::<String>(GENERICSTRING.starting(), &GENERICSTRING, receive));
    held(move || drop(send.send("seven".to_owned())), handle)
}

/// A future written by hand.
struct Parked {
    end: Ending,
    gate: oneshot::Receiver<i64>,
}

impl Future for Parked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.end.enter(&FUTURE);
        Pin::new(&mut self.gate).poll(cx).map(drop)
    }
}

#[inline(never)]
fn spawn_future(world: &mut World) -> Held {
    let (send, gate) = oneshot::channel();
    let handle = on_main!(world, FUTURE, Parked { end: FUTURE.starting(), gate });
    held(move || _ = send.send(-7), handle)
}

/// As many libraries spawn: all such tasks have one type.
#[inline(never)]
fn spawn_boxed(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let (end, rung) = (BOXED.starting(), bell.clone());
    let boxed: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        end.enter(&BOXED);
        rung.notified().await;
        drop(end);
    });
    let handle = on_main!(world, BOXED, boxed);
    held(move || bell.notify_one(), handle)
}

async fn holds_much(end: Ending, bell: Arc<Notify>) {
    end.enter(&BIG);
    let mut room = [0u8; 20_000];
    let at = std::process::id() as usize % room.len();
    room[at] = 1;
    bell.notified().await;
    // All of it is still needed.
    assert_eq!(room.iter().filter(|byte| **byte == 1).count(), 1);
}

/// Newer tokios box a future of this size by themselves.
#[inline(never)]
fn spawn_big(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let handle = on_main!(world, BIG, holds_much(BIG.starting(), bell.clone()));
    held(move || bell.notify_one(), handle)
}

async fn is_detached(end: Ending, bell: Arc<Notify>) {
    end.enter(&DETACHED);
    bell.notified().await;
    drop(end);
}

/// Nobody has a handle.
#[inline(never)]
fn spawn_detached(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    drop(on_main!(world, DETACHED, is_detached(DETACHED.starting(), bell.clone())));
    Held { release: Some(Box::new(move || bell.notify_one())), handle: None }
}

async fn is_kept(end: Ending, bell: Arc<Notify>) {
    end.enter(&KEPT);
    bell.notified().await;
    drop(end);
}

/// Its handle outlives it, and with it the memory of the task.
#[inline(never)]
fn spawn_kept(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let handle = on_main!(world, KEPT, is_kept(KEPT.starting(), bell.clone()));
    held(move || bell.notify_one(), handle)
}

async fn is_on_the_second(end: Ending, bell: Arc<Notify>) {
    end.enter(&SECOND);
    bell.notified().await;
    drop(end);
}

/// On a runtime that can be shut down.
#[inline(never)]
fn spawn_second(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let future = is_on_the_second(SECOND.starting(), bell.clone());
    SECOND.spawns(&future);
    let handle = world.second().handle().spawn(future);
    held(move || bell.notify_one(), handle)
}

async fn is_local(end: Ending, bell: Arc<Notify>) {
    end.enter(&LOCAL);
    bell.notified().await;
    drop(end);
}

#[inline(never)]
fn spawn_local(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let future = is_local(LOCAL.starting(), bell.clone());
    LOCAL.spawns(&future);
    let handle = world.local().run(move || tokio::task::spawn_local(future));
    held(move || bell.notify_one(), handle)
}

#[inline(never)]
fn spawn_blocking(world: &mut World) -> Held {
    let (send, receive) = channel::<()>();
    let end = BLOCKING.starting();
    let job = move || {
        end.enter(&BLOCKING);
        _ = receive.recv();
        drop(end);
    };
    BLOCKING.spawns(&job);
    let handle = world.handle().spawn_blocking(job);
    held(move || drop(send), handle)
}

#[cfg(feature = "joinset")]
async fn is_in_a_set(end: Ending, bell: Arc<Notify>) {
    end.enter(&JOINSET);
    bell.notified().await;
    drop(end);
}

/// Its handle is the set's.
#[cfg(feature = "joinset")]
#[inline(never)]
fn spawn_joinset(world: &mut World) -> Held {
    let bell = Arc::new(Notify::new());
    let future = is_in_a_set(JOINSET.starting(), bell.clone());
    JOINSET.spawns(&future);
    let handle = world.main.handle().clone();
    world.set.spawn_on(future, &handle);
    Held { release: Some(Box::new(move || bell.notify_one())), handle: None }
}
