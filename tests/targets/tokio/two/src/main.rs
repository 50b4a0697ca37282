//! Tasks of two versions of tokio in one process, counted by the program itself. A line in, a line out:
//! `spawn newer|older N`, `finish newer|older N`, `storm newer|older N`, `truth`, each answered when it is done.

use std::io::BufRead as _;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Tasks of one tokio.
struct Book {
    started: AtomicU64,
    ended: AtomicU64,
}

impl Book {
    const fn new() -> Self {
        Self { started: AtomicU64::new(0), ended: AtomicU64::new(0) }
    }

    fn live(&self) -> u64 {
        self.started.load(SeqCst) - self.ended.load(SeqCst)
    }
}

static NEWER: Book = Book::new();
static OLDER: Book = Book::new();

struct Ending(&'static Book);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

fn starting(book: &'static Book) -> Ending {
    book.started.fetch_add(1, SeqCst);
    Ending(book)
}

/// A runtime of one tokio: the two are different types, so each has its own code.
macro_rules! side {
    ($module:ident, $tokio:ident, $book:ident) => {
        mod $module {
            use super::{starting, wait, Ending, $book as BOOK};
            use $tokio::runtime::{Builder, Runtime};
            use $tokio::sync::oneshot::{channel, Receiver, Sender};
            use $tokio::task::JoinHandle;

            pub struct Side {
                runtime: Runtime,
                held: Vec<(Sender<()>, JoinHandle<()>)>,
            }

            async fn waits(end: Ending, gate: Receiver<()>) {
                drop(gate.await);
                drop(end);
            }

            async fn short(end: Ending) {
                drop(end);
            }

            impl Side {
                pub fn new() -> Self {
                    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
                    Self { runtime, held: Vec::new() }
                }

                pub fn run(&mut self, command: &str, n: u64) -> Result<(), String> {
                    match command {
                        "spawn" => {
                            for _ in 0..n {
                                let (send, gate) = channel();
                                self.held.push((send, self.runtime.spawn(waits(starting(&BOOK), gate))));
                            }
                            Ok(())
                        }
                        "finish" if n as usize <= self.held.len() => {
                            for (send, handle) in self.held.drain(..n as usize) {
                                drop(send);
                                wait(|| handle.is_finished());
                            }
                            Ok(())
                        }
                        "storm" => {
                            for _ in 0..n {
                                let handle = self.runtime.spawn(short(starting(&BOOK)));
                                wait(|| handle.is_finished());
                            }
                            Ok(())
                        }
                        _ => Err(format!("{command} {n}: cannot be done")),
                    }
                }
            }
        }
    };
}

side!(newer, tokio, NEWER);
side!(older_side, older, OLDER);

fn wait(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_micros(20));
    }
}

fn main() {
    let (mut newer, mut older) = (newer::Side::new(), older_side::Side::new());
    println!("ready {{\"pid\":{},\"version\":\"two\"}}", std::process::id());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let done = match words.as_slice() {
            ["truth"] => Ok(()),
            [command, side, n] => {
                let n = n.parse().unwrap_or(0);
                if *side == "older" { older.run(command, n) } else { newer.run(command, n) }
            }
            _ => Err(format!("{line}: unknown")),
        };
        let of = |book: &Book| {
            let (started, ended) = (book.started.load(SeqCst), book.ended.load(SeqCst));
            format!("{{\"live\":{},\"started\":{started},\"ended\":{ended}}}", book.live())
        };
        match done {
            Ok(()) => println!("ok {{\"newer\":{},\"older\":{}}}", of(&NEWER), of(&OLDER)),
            Err(error) => println!("err {error}"),
        }
    }
}
