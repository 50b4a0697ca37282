//! A line on the terminal while something takes longer than a second: what it is, how far, and for how long.
//!
//! It is on standard error, where that is a terminal, and nowhere else: never in a pipe or a file. It is taken away before
//! anything else is said there ([`aside`]) and when what takes long is over. It changes nothing of the terminal, so that
//! nothing need be given back, however leakwatch ends.

use std::{
    io::{self, IsTerminal as _, Read, Write as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    agent::clock,
    collect::Amount,
    report::{
        clean::{clean, shorten},
        units::duration,
    },
};

/// What is over sooner is not worth a line.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Time between two looks.
const PACE: Duration = Duration::from_millis(200);
/// Columns where the terminal does not say.
const WIDTH: usize = 80;
/// Erases the line and goes to its beginning.
const ERASE: &[u8] = b"\r\x1b[K";

/// True: our line is the last on the terminal. Who prints there holds it.
static SHOWN: Mutex<bool> = Mutex::new(false);

/// Something that may take long; over when dropped.
#[derive(Debug)]
pub(super) struct Progress {
    state: Arc<State>,
    /// Dropped to end the thread.
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    what: Mutex<String>,
    amount: Amount,
}

impl Progress {
    /// Something begins: `reading /usr/bin/caddy`.
    pub(super) fn begin(what: &str) -> Self {
        let mut progress = Self::unseen();
        progress.now(what);
        let term = std::env::var("TERM").unwrap_or_default();
        if io::stderr().is_terminal() && !term.is_empty() && term != "dumb" {
            let (end, ended) = mpsc::channel();
            let (state, begun_ns) = (Arc::clone(&progress.state), clock::monotonic_ns());
            let shower = std::thread::Builder::new().name("progress".to_owned());
            // Without a thread there is no line, and nothing else is missing.
            progress.thread = shower.spawn(move || state.show(begun_ns, &ended)).ok();
            progress.end = Some(end);
        }
        progress
    }

    /// One that nobody sees: the terminal shows something else.
    pub(super) fn unseen() -> Self {
        Self { state: Arc::default(), end: None, thread: None }
    }

    /// Something else is done now; of how much, nobody knows yet.
    pub(super) fn now(&self, what: &str) {
        clean(what).clone_into(&mut self.state.what.lock().unwrap_or_else(PoisonError::into_inner));
        self.state.amount.begin(0);
    }

    /// How much of it is done.
    pub(super) fn amount(&self) -> &Amount {
        &self.state.amount
    }

    /// A file of so many bytes, whose reading is what takes long.
    pub(super) fn of_reading<R>(&self, length: u64, file: R) -> Counted<R> {
        self.state.amount.begin(length);
        Counted { file, state: Arc::clone(&self.state) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl State {
    fn show(&self, begun_ns: u64, ended: &mpsc::Receiver<()>) {
        while ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
            let passed_ns = clock::monotonic_ns().saturating_sub(begun_ns);
            if passed_ns >= PATIENCE_NS {
                let line = self.line(passed_ns);
                let width =
                    rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
                // A line that fills the last column goes on in the next line on some terminals.
                let line = shorten(&line, if width > 0 { width - 1 } else { WIDTH });
                let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
                *shown = io::stderr().write_all(&[ERASE, line.as_bytes()].concat()).is_ok();
            }
        }
        drop(aside());
    }

    fn line(&self, passed_ns: u64) -> String {
        let what = self.what.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let percent = self.amount.percent().map_or_else(String::new, |percent| format!("{percent} %, "));
        let passed = duration(Duration::from_nanos(passed_ns).as_secs_f64().trunc());
        format!("leakwatch: {what}: {percent}{passed}")
    }
}

/// Takes the line away, and keeps it away while this is held.
pub(super) fn aside() -> MutexGuard<'static, bool> {
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut *shown) {
        // There is no other place to complain to.
        drop(io::stderr().write_all(ERASE));
    }
    shown
}

/// A file, and how much of it was read.
#[derive(Debug)]
pub(super) struct Counted<R> {
    file: R,
    state: Arc<State>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(bytes)?;
        self.state.amount.add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_how_far_and_how_long() {
        let progress = Progress::unseen();
        progress.now("reading /tmp/a\x1b[2Jb");
        assert_eq!(progress.state.line(1_900_000_000), "leakwatch: reading /tmp/a\\x1b[2Jb: 1s");
        let mut file = progress.of_reading(8, &b"abcdefgh"[..]);
        let mut two = [0; 2];
        file.read_exact(&mut two).expect("it has them");
        assert!(
            progress.state.line(61_000_000_000).ends_with(": 25 %, 1m1s"),
            "{}",
            progress.state.line(61_000_000_000)
        );
    }
}
