//! The loop of the screen: the newest report, a key, or a signal; then a frame, and only what changed of it is sent.
//!
//! It has a thread of its own, and never waits for the watched process or for who watches it: reports come through a
//! place that holds the newest one. What takes long (saving, dumping) is done by others, who send a [`Notice`].

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use crossterm::event;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Signal, getpid, kill_current_process_group, kill_process},
};
use signal_hook::{SigId, consts::signal, flag};
use tokio::sync::watch;

use super::{
    draw::draw,
    keys::Command,
    screen::Screen,
    state::{Notice, State},
};
use crate::report::Report;

/// Signals and notices are looked for this often; keys and new sizes wake at once.
const TICK: Duration = Duration::from_millis(100);

/// Intervals without a report after which the screen says so, and the least time.
const SILENT_INTERVALS: f64 = 3.0;
const SILENT_LEAST_S: f64 = 3.0;

/// What the screen is told.
#[derive(Debug)]
pub struct Feed {
    /// The newest report.
    pub reports: watch::Receiver<Option<Arc<Report>>>,
    /// What there is to say.
    pub notices: mpsc::Receiver<Notice>,
    /// Seconds between two reports, as wanted.
    pub interval_s: f64,
}

/// What the screen asks of others. None of these may take long.
pub trait Host: Send {
    /// A clock that goes on, ns.
    fn now_ns(&self) -> u64;
    /// Begins to save a report.
    fn save(&self, report: &Arc<Report>);
    /// Begins to dump a process.
    fn dump(&self, pid: u32);
}

/// Signals that came.
#[derive(Debug)]
struct Signals {
    /// To end.
    end: Arc<AtomicBool>,
    /// To stop as a job.
    stop: Arc<AtomicBool>,
    /// To go on.
    go_on: Arc<AtomicBool>,
    registered: Vec<SigId>,
}

impl Signals {
    fn register() -> io::Result<Self> {
        let flag = || Arc::new(AtomicBool::new(false));
        let mut signals = Self { end: flag(), stop: flag(), go_on: flag(), registered: Vec::new() };
        let wanted = [
            (signal::SIGTERM, &signals.end),
            (signal::SIGHUP, &signals.end),
            (signal::SIGINT, &signals.end),
            (signal::SIGTSTP, &signals.stop),
            (signal::SIGCONT, &signals.go_on),
        ];
        let ids: io::Result<Vec<SigId>> =
            wanted.into_iter().map(|(signal, flag)| flag::register(signal, Arc::clone(flag))).collect();
        signals.registered = ids?;
        Ok(signals)
    }

    fn came(flag: &AtomicBool) -> bool {
        flag.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Shows reports until the user has seen enough, a signal says so, or no more reports come.
///
/// # Errors
/// When the terminal cannot be read or written.
pub fn run(screen: &mut Screen, state: &mut State, feed: &mut Feed, host: &dyn Host) -> io::Result<()> {
    let signals = Signals::register()?;
    let mut last_ns = host.now_ns();
    let mut dirty = true;
    loop {
        if Signals::came(&signals.end) {
            return Ok(());
        }
        if Signals::came(&signals.stop) {
            suspend(screen, &signals)?;
            dirty = true;
        } else if Signals::came(&signals.go_on) {
            screen.enter()?;
            dirty = true;
        }
        match feed.reports.has_changed() {
            Ok(true) => {
                let newest = feed.reports.borrow_and_update().clone();
                if let Some(report) = newest {
                    state.take(report);
                }
                last_ns = host.now_ns();
                dirty = true;
            }
            Ok(false) => {}
            // Nobody watches any more.
            Err(_closed) => return Ok(()),
        }
        while let Ok(notice) = feed.notices.try_recv() {
            state.say(notice);
            dirty = true;
        }
        let silent = silence(last_ns, host.now_ns(), feed.interval_s);
        if silent.is_some() || state.silent_s.is_some() {
            dirty |= silent.map(f64::trunc) != state.silent_s.map(f64::trunc);
            state.silent_for(silent);
        }
        if std::mem::take(&mut dirty) {
            frame(screen, state)?;
        }
        let woken = wait(io::stdin())?;
        if woken == Woken::Gone {
            return Ok(());
        }
        // All that waits is taken before the next frame: a wheel sends many.
        let mut taken = false;
        while event::poll(Duration::ZERO)? {
            (taken, dirty) = (true, true);
            match state.handle(&event::read()?) {
                Some(Command::Quit) => return Ok(()),
                // As the terminal itself would: everybody in the foreground is stopped, and we are told like them.
                Some(Command::Suspend) => drop(kill_current_process_group(Signal::TSTP)),
                Some(Command::Redraw) => screen.redraw()?,
                Some(Command::Save) => {
                    if let Some(report) = state.report() {
                        host.save(report);
                    }
                }
                Some(Command::Dump(pid)) => {
                    state.say(Notice { text: format!("dumping pid {pid}"), bad: false });
                    host.dump(pid);
                }
                None => {}
            }
        }
        if woken == Woken::Keys && !taken {
            screen.rouse()?;
        }
    }
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// The tick is over.
    Nothing,
    /// There is something to read.
    Keys,
    /// The terminal is gone.
    Gone,
}

/// Waits for a key, and not longer than a tick.
///
/// Where the terminal is gone, crossterm must not be asked: it reads the end of its input again and again (0.29,
/// `event/source/unix/mio.rs`).
fn wait(keys: impl AsFd) -> io::Result<Woken> {
    let mut keys = [PollFd::new(&keys, PollFlags::IN)];
    let tick = Timespec::try_from(TICK).map_err(io::Error::other)?;
    match poll(&mut keys, Some(&tick)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    let happened = keys.iter().fold(PollFlags::empty(), |all, keys| all | keys.revents());
    Ok(if happened.intersects(gone) {
        Woken::Gone
    } else if happened.contains(PollFlags::IN) {
        Woken::Keys
    } else {
        Woken::Nothing
    })
}

fn frame(screen: &mut Screen, state: &mut State) -> io::Result<()> {
    let mut areas = None;
    screen.terminal().draw(|frame| {
        let area = frame.area();
        areas = Some(draw(state, area, frame.buffer_mut()));
    })?;
    if let Some(areas) = areas {
        state.drawn(areas);
    }
    Ok(())
}

/// Gives the terminal back, stops, and takes it again when told to go on.
fn suspend(screen: &mut Screen, signals: &Signals) -> io::Result<()> {
    const LOOK: Duration = Duration::from_millis(10);
    screen.leave();
    signals.go_on.store(false, Ordering::Relaxed);
    kill_process(getpid(), Signal::STOP)?;
    // Another thread may be the one that stops first: this one must not take the terminal again before that.
    while !Signals::came(&signals.go_on) && !signals.end.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
    }
    screen.enter()
}

/// Seconds since the last report, where that is longer than one would think.
fn silence(last_ns: u64, now_ns: u64, interval_s: f64) -> Option<f64> {
    let seconds = Duration::from_nanos(now_ns.saturating_sub(last_ns)).as_secs_f64();
    (seconds > (SILENT_INTERVALS * interval_s).max(SILENT_LEAST_S)).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_is_gone_is_noticed() {
        let ends = nix::pty::openpty(None, None).expect("a pty");
        let wait = || wait(&ends.slave).expect("a look");
        assert_eq!(wait(), Woken::Nothing, "nobody typed anything");
        nix::unistd::write(&ends.master, b"q\n").expect("a key");
        assert_eq!(wait(), Woken::Keys);
        drop(ends.master);
        assert_eq!(wait(), Woken::Gone);
    }

    #[test]
    fn silence_is_worth_saying_after_a_while() {
        let s = 1_000_000_000;
        assert_eq!(silence(0, 2 * s, 0.1), None);
        assert_eq!(silence(0, 4 * s, 0.1), Some(4.0));
        assert_eq!(silence(0, 20 * s, 10.0), None);
        assert_eq!(silence(5 * s, 4 * s, 1.0), None, "a clock that went back says nothing");
    }
}
