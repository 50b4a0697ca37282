//! Where our own log goes: to standard error, or aside while the terminal shows something else.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write},
    sync::{Mutex, PoisonError, mpsc},
};

use anyhow::Context as _;

use super::progress;
use crate::tui::Notice;

/// Lines that are kept while the screen is not ours to print on; of more, the first ones are given up.
const MOST_LINES: usize = 1_000;

/// Set while lines are kept.
static ASIDE: Mutex<Option<Aside>> = Mutex::new(None);

#[derive(Debug)]
struct Aside {
    lines: VecDeque<Vec<u8>>,
    /// Where the newest is told at once.
    notices: mpsc::Sender<Notice>,
}

/// While it lives, the log is kept; when it is dropped, what was kept is printed.
#[derive(Debug)]
pub(super) struct Kept(());

impl Kept {
    /// Begins to keep it, where standard error is a terminal; a log that goes elsewhere goes on.
    pub(super) fn begin(notices: mpsc::Sender<Notice>) -> Self {
        if io::stderr().is_terminal() {
            let mut aside = ASIDE.lock().unwrap_or_else(PoisonError::into_inner);
            *aside = Some(Aside { lines: VecDeque::new(), notices });
        }
        Self(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let kept = ASIDE.lock().unwrap_or_else(PoisonError::into_inner).take();
        for line in kept.into_iter().flat_map(|aside| aside.lines) {
            // There is no other place to complain to.
            drop(io::stderr().write_all(&line));
        }
    }
}

/// A line of the log.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut aside = ASIDE.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(aside) = aside.as_mut() else {
            let _line = progress::aside();
            return io::stderr().write(line);
        };
        let text = String::from_utf8_lossy(line).trim().to_owned();
        // Nobody reads them any more once the screen is closed.
        drop(aside.notices.send(Notice { text, bad: true }));
        aside.lines.push_back(line.to_owned());
        if aside.lines.len() > MOST_LINES {
            aside.lines.pop_front();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts it.
pub(super) fn start(verbose: u8) -> anyhow::Result<()> {
    use tracing_subscriber::{EnvFilter, fmt, prelude::*};
    let level = match verbose {
        0 => "warn",
        1 => "leakwatch=info,warn",
        _ => "leakwatch=debug,aya=info,aya_obj=info,debug",
    };
    let filter = EnvFilter::try_from_env("LEAKWATCH_LOG").unwrap_or_else(|_unset| EnvFilter::new(level));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = fmt::layer().with_writer(|| Line).with_ansi(colour).without_time().with_target(verbose > 1);
    tracing_subscriber::registry().with(filter).with(layer).try_init().context("cannot start logging")
}
