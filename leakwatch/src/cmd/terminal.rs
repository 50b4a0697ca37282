//! The terminal of `watch` and `top`: a thread that shows the newest report, and what its keys ask for.
//!
//! It never makes who watches wait: reports are left in a place that holds one, and saving and dumping have threads of
//! their own. The terminal is given back before anything else is printed.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{
    dump::{self, Whose},
    log, output,
    progress::Progress,
};
use crate::{
    agent::clock,
    cli::{Charset, ColorArg, TerminalArgs},
    export,
    report::Report,
    text,
    tui::{self, Colors, Feed, Host, Look, Notice, Screen, State},
};

/// The longest part of a file's name that is a process's.
const LONGEST_NAME: usize = 40;

/// An open terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Dropped to end the thread.
    reports: Option<watch::Sender<Option<Arc<Report>>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    /// Dropped after the thread has ended: prints what was logged meanwhile.
    kept: Option<log::Kept>,
}

/// What it shows and whom it tells.
#[derive(Debug)]
pub(super) struct Options {
    /// How things look.
    pub(super) look: Look,
    /// The list of processes comes first.
    pub(super) many: bool,
    /// What stands in the title besides.
    pub(super) hint: Option<String>,
    /// Time between two reports.
    pub(super) interval: Duration,
    /// Told when the user has seen enough.
    pub(super) stop: Arc<Notify>,
}

/// Whether a person sits there: keys come from a terminal, and what we print is seen on one that can do more than print.
pub(super) fn is_there() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    io::stdin().is_terminal() && io::stdout().is_terminal() && !term.is_empty() && term != "dumb"
}

/// How things look there, as flags and environment say.
pub(super) fn look(args: &TerminalArgs) -> Look {
    let var = |name| std::env::var(name).ok();
    let value = |name: &'static str| var(name);
    let colors = match args.colors {
        ColorArg::Auto => {
            tui::colors(value("NO_COLOR").as_deref(), value("COLORTERM").as_deref(), value("TERM").as_deref())
        }
        ColorArg::None => Colors::None,
        ColorArg::Sixteen => Colors::Sixteen,
        ColorArg::Palette => Colors::Palette,
        ColorArg::True => Colors::True,
    };
    let utf8 = match args.charset {
        Charset::Auto => tui::is_utf8(
            value("LC_ALL").as_deref(),
            value("LC_CTYPE").as_deref(),
            value("LANG").as_deref(),
            value("TERM").as_deref(),
        ),
        Charset::Utf8 => true,
        Charset::Ascii => false,
    };
    Look { colors, ascii: !utf8 }
}

impl Terminal {
    /// Takes the terminal that standard output is.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub(super) fn open(options: Options) -> io::Result<Self> {
        let (reports, newest) = watch::channel(None);
        let (sender, notices) = mpsc::channel();
        let Options { look, many, hint, interval, stop } = options;
        let mut screen = Screen::open(io::stdout())?;
        let kept = log::Kept::begin(sender.clone());
        let jobs = Jobs { notices: sender, dumping: Arc::new(AtomicBool::new(false)) };
        let mut feed = Feed { reports: newest, notices, interval_s: interval.as_secs_f64() };
        let thread = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
            let _told = Told(stop);
            let mut state = State::new(look, many).with_hint(hint);
            tui::run(&mut screen, &mut state, &mut feed, &jobs)
        })?;
        Ok(Self { reports: Some(reports), thread: Some(thread), kept: Some(kept) })
    }

    /// Shows a report, as soon as there is time. Costs nothing here.
    pub(super) fn show(&self, report: &Arc<Report>) {
        if let Some(reports) = &self.reports {
            reports.send_replace(Some(Arc::clone(report)));
        }
    }

    /// Gives the terminal back.
    ///
    /// # Errors
    /// Why the screen ended before the watch did, where the user did not end it.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        self.reports = None;
        let ended = self.thread.take().map(JoinHandle::join);
        self.kept = None;
        match ended {
            None => Ok(()),
            Some(Ok(shown)) => shown,
            Some(Err(_panic)) => Err(io::Error::other("the thread of the terminal panicked")),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The watch ended by an error of its own, which is the one to be told.
        drop(self.end());
    }
}

/// Tells that the screen is gone, however it went.
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// What keys ask for.
struct Jobs {
    notices: mpsc::Sender<Notice>,
    /// One dump at a time.
    dumping: Arc<AtomicBool>,
}

impl Host for Jobs {
    fn now_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn save(&self, report: &Arc<Report>) {
        let report = Arc::clone(report);
        let stem = match report.processes.as_slice() {
            [one] => stem(&one.comm, Some(one.pid)),
            _ => stem(&report.host, None),
        };
        self.begin(move || {
            let json = export::to_json(&report);
            output::write_new(&stem, "json", &mut |out| out.write_all(json.as_bytes()))
        });
    }

    fn dump(&self, pid: u32) {
        if self.dumping.swap(true, Ordering::AcqRel) {
            let text = "a dump is being made already".to_owned();
            drop(self.notices.send(Notice { text, bad: true }));
            return;
        }
        let dumping = Arc::clone(&self.dumping);
        self.begin(move || {
            let _free = Free(dumping);
            let dump = dump::take(pid, false, Whose::Runtimes, &Progress::unseen())?;
            let stem = stem(&dump.process.comm, Some(pid));
            output::write_new(&stem, "dump.txt", &mut |out| text::write_dump(&dump, out))
        });
    }
}

/// Sets a flag back, however the job ended.
struct Free(Arc<AtomicBool>);

impl Drop for Free {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Jobs {
    /// Does something in a thread of its own and tells what came of it.
    fn begin(&self, job: impl FnOnce() -> anyhow::Result<std::path::PathBuf> + Send + 'static) {
        let notices = self.notices.clone();
        let started = std::thread::Builder::new().name("save".to_owned()).spawn(move || {
            let notice = match job() {
                Ok(path) => Notice { text: format!("written: {}", path.display()), bad: false },
                Err(error) => Notice { text: format!("{error:#}"), bad: true },
            };
            // The screen may be closed by now; the file says it all.
            drop(notices.send(notice));
        });
        if let Err(error) = started {
            let text = format!("cannot start a thread to write with: {error}");
            drop(self.notices.send(Notice { text, bad: true }));
        }
    }
}

/// `leakwatch-NAME-PID-TIME`, of signs that every file system and shell takes.
fn stem(name: &str, pid: Option<u32>) -> String {
    let safe = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '.' | '_' | '-');
    let name: String =
        name.chars().map(|sign| if safe(sign) { sign } else { '_' }).take(LONGEST_NAME).collect();
    let pid = pid.map_or_else(String::new, |pid| format!("-{pid}"));
    format!("leakwatch-{name}{pid}-{}", clock::now().strftime("%Y%m%dT%H%M%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_harmless() {
        let stem = stem("../a b\x1b[2J\n日", Some(7));
        assert!(stem.starts_with("leakwatch-.._a_b__2J__-7-20"), "{stem}");
        assert!(super::stem(&"x".repeat(10_000), None).len() < 100);
    }
}
