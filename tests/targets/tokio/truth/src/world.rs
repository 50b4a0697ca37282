//! The runtimes of this process: the main one, a second one that can be shut down, and a thread with a `LocalSet`.
//!
//! The thread that answers commands is none of theirs.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};

/// The scheduler of the main and of the second runtime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    MultiThread,
    CurrentThread,
}

/// A runtime that runs, and how it is ended.
enum Inner {
    Multi(Runtime),
    /// Owned by a thread that blocks on the channel's other end.
    Current(oneshot::Sender<()>, thread::JoinHandle<()>),
}

/// A runtime that runs.
pub struct Rt {
    handle: Handle,
    inner: Option<Inner>,
}

impl Rt {
    pub fn start(flavour: Flavour, workers: usize) -> Self {
        if flavour == Flavour::MultiThread {
            let runtime = Builder::new_multi_thread().worker_threads(workers).enable_time().build().unwrap();
            return Self { handle: runtime.handle().clone(), inner: Some(Inner::Multi(runtime)) };
        }
        let (stop, stopped) = oneshot::channel();
        let (send, receive) = channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            send.send(runtime.handle().clone()).unwrap();
            // Told to stop, or nobody is left who could tell.
            drop(runtime.block_on(stopped));
        });
        Self { handle: receive.recv().unwrap(), inner: Some(Inner::Current(stop, thread)) }
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    #[cfg(feature = "alive")]
    pub fn num_alive_tasks(&self) -> Option<u64> {
        Some(self.handle.metrics().num_alive_tasks() as u64)
    }

    #[cfg(not(feature = "alive"))]
    pub fn num_alive_tasks(&self) -> Option<u64> {
        None
    }

    /// Shuts it down without waiting for blocking jobs.
    pub fn shutdown_background(mut self) {
        match self.inner.take() {
            Some(Inner::Multi(runtime)) => runtime.shutdown_background(),
            other => self.inner = other,
        }
    }
}

impl Drop for Rt {
    fn drop(&mut self) {
        match self.inner.take() {
            Some(Inner::Multi(runtime)) => drop(runtime),
            Some(Inner::Current(stop, thread)) => {
                drop(stop);
                thread.join().unwrap();
            }
            None => {}
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs a `LocalSet`, and does in it what it is told to.
pub struct Local {
    jobs: mpsc::UnboundedSender<Job>,
    thread: thread::JoinHandle<()>,
}

impl Local {
    pub fn start() -> Self {
        let (jobs, mut todo) = mpsc::unbounded_channel::<Job>();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                while let Some(job) = todo.recv().await {
                    job();
                }
            });
        });
        Self { jobs, thread }
    }

    /// Runs a function in the `LocalSet`, outside of any task, and returns what it returns.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = channel();
        let job: Job = Box::new(move || drop(send.send(job())));
        assert!(self.jobs.send(job).is_ok(), "the local thread runs");
        receive.recv().unwrap()
    }

    /// Drops the `LocalSet` with what is in it.
    pub fn end(self) {
        drop(self.jobs);
        self.thread.join().unwrap();
    }
}

/// A task that `spawn` made.
pub struct Held {
    /// Lets it end; none: nothing but an abort does.
    pub release: Option<Box<dyn FnOnce() + Send>>,
    pub handle: Option<JoinHandle<()>>,
}

/// Everything that lives from command to command.
pub struct World {
    pub flavour: Flavour,
    pub workers: usize,
    pub main: Rt,
    pub second: Option<Rt>,
    pub local: Option<Local>,
    /// By kind, the oldest first.
    pub held: BTreeMap<&'static str, Vec<Held>>,
    /// Handles of tasks that have ended.
    pub kept: Vec<JoinHandle<()>>,
    #[cfg(feature = "joinset")]
    pub set: tokio::task::JoinSet<()>,
}

impl World {
    pub fn new(flavour: Flavour, workers: usize) -> Self {
        Self {
            flavour,
            workers,
            main: Rt::start(flavour, workers),
            second: None,
            local: None,
            held: BTreeMap::new(),
            kept: Vec::new(),
            #[cfg(feature = "joinset")]
            set: tokio::task::JoinSet::new(),
        }
    }

    pub fn handle(&self) -> &Handle {
        self.main.handle()
    }

    /// The second runtime, started if it is not there.
    pub fn second(&mut self) -> &Rt {
        let (flavour, workers) = (self.flavour, self.workers);
        self.second.get_or_insert_with(|| Rt::start(flavour, workers))
    }

    pub fn local(&mut self) -> &Local {
        self.local.get_or_insert_with(Local::start)
    }

    /// What tokio itself says of all runtimes, where this version can.
    pub fn num_alive_tasks(&self) -> Option<u64> {
        let second = match &self.second {
            Some(second) => second.num_alive_tasks()?,
            None => 0,
        };
        Some(self.main.num_alive_tasks()? + second)
    }
}
