//! The terminal while we have it: raw, another screen, the mouse; and given back whatever happens.
//!
//! It is given back when the [`Screen`] is dropped, and before the words of a panic of any thread are printed. What was
//! changed is remembered once: giving back twice does nothing.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use ratatui::{
    Terminal,
    backend::{Backend as _, CrosstermBackend},
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The other screen, no cursor, clicks and the wheel (in a form that has no limit of 223 columns).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?1006h";

/// All of that undone, and no colour left on.
const LEAVE: &[u8] = b"\x1b[?1006l\x1b[?1000l\x1b[0m\x1b[?25h\x1b[?1049l";

/// Bytes of a frame that go to the terminal at once.
const FRAME: usize = 1 << 16;

/// A terminal that is ours.
#[derive(Debug)]
pub struct Screen {
    held: Arc<Held>,
    terminal: Terminal<CrosstermBackend<BufWriter<File>>>,
}

/// What must be put back.
#[derive(Debug)]
struct Held {
    tty: File,
    /// How the terminal was before; `None`: it is not ours now.
    before: Mutex<Option<Termios>>,
}

impl Held {
    fn enter(&self) -> io::Result<()> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_some() {
            return Ok(());
        }
        let was = tcgetattr(&self.tty)?;
        let mut raw = was.clone();
        raw.make_raw();
        tcsetattr(&self.tty, OptionalActions::Now, &raw)?;
        *before = Some(was);
        drop(before);
        (&self.tty).write_all(ENTER)
    }

    /// Errors are left alone: there is nobody to tell, and the rest is to be put back all the same.
    fn leave(&self) {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before {
            drop((&self.tty).write_all(LEAVE));
            tcsetattr(&self.tty, OptionalActions::Drain, &before).unwrap_or(());
        }
    }
}

impl Screen {
    /// Takes a terminal.
    ///
    /// # Errors
    /// When it is none, or cannot be changed.
    pub fn open(tty: impl AsFd) -> io::Result<Self> {
        let screen = Self::take(tty)?;
        let held = Arc::clone(&screen.held);
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            held.leave();
            next(panic);
        }));
        Ok(screen)
    }

    fn take(tty: impl AsFd) -> io::Result<Self> {
        let tty = File::from(tty.as_fd().try_clone_to_owned()?);
        let out = BufWriter::with_capacity(FRAME, tty.try_clone()?);
        let held = Arc::new(Held { tty, before: Mutex::new(None) });
        held.enter()?;
        // From here on dropping the screen gives it back.
        let terminal = Terminal::new(CrosstermBackend::new(out));
        match terminal {
            Ok(terminal) => Ok(Self { held, terminal }),
            Err(error) => {
                held.leave();
                Err(error)
            }
        }
    }

    /// What to draw on.
    pub fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<BufWriter<File>>> {
        &mut self.terminal
    }

    /// Gives the terminal back for a while.
    pub fn leave(&self) {
        self.held.leave();
    }

    /// Has whoever waits for keys look again, where there are some that he was told of and has not taken.
    ///
    /// crossterm is told of keys once (it polls by edges), and forgets that it was when the size changed at the same time (0.29,
    /// `event/source/unix/mio.rs`): they would wait for the next key, and who asks whether there are any would never rest. Setting
    /// the modes that are set tells him once more (`n_tty_set_termios`,
    /// <https://github.com/torvalds/linux/blob/v6.12/drivers/tty/n_tty.c>).
    ///
    /// # Errors
    /// When the terminal's modes cannot be set.
    pub fn rouse(&self) -> io::Result<()> {
        let modes = tcgetattr(&self.held.tty)?;
        Ok(tcsetattr(&self.held.tty, OptionalActions::Now, &modes)?)
    }

    /// Takes it again; all of the screen is drawn anew.
    ///
    /// # Errors
    /// When it cannot be changed.
    pub fn enter(&mut self) -> io::Result<()> {
        self.held.enter()?;
        self.redraw()
    }

    /// Has the next frame draw every cell. Asks the terminal nothing: one that does not answer would be waited for.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn redraw(&mut self) -> io::Result<()> {
        self.terminal.backend_mut().clear()?;
        // What is believed to be on the screen is forgotten.
        self.terminal.swap_buffers();
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.held.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rustix::termios::LocalModes;

    use super::*;

    /// A terminal of our own: our end and the program's.
    fn pty() -> (File, File) {
        let ends = nix::pty::openpty(None, None).expect("a pty");
        (File::from(ends.master), File::from(ends.slave))
    }

    fn is_raw(tty: &File) -> bool {
        !tcgetattr(tty).expect("attributes").local_modes.contains(LocalModes::ICANON)
    }

    /// What has been written, up to these bytes.
    fn written(ours: &mut File, up_to: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(up_to) {
            let mut some = [0; 256];
            let read = ours.read(&mut some).expect("what was written");
            bytes.extend_from_slice(&some[..read]);
        }
        bytes
    }

    // Only one of these has the hook: a panic of any test would give back the screens of all others.

    #[test]
    fn a_dropped_screen_is_given_back() {
        let (mut ours, tty) = pty();
        let before = tcgetattr(&tty).expect("attributes");
        let screen = Screen::take(&tty).expect("a screen");
        assert!(is_raw(&tty));
        assert_eq!(written(&mut ours, ENTER), ENTER);
        drop(screen);
        let after = tcgetattr(&tty).expect("attributes");
        assert_eq!(after.local_modes, before.local_modes);
        assert_eq!((after.input_modes, after.output_modes), (before.input_modes, before.output_modes));
        assert_eq!(written(&mut ours, LEAVE), LEAVE);
    }

    /// What is told once, and forgotten, is told again.
    #[test]
    fn who_waits_for_keys_is_told_once_more() {
        use rustix::event::{Timespec, epoll};
        let (mut ours, tty) = pty();
        let screen = Screen::take(&tty).expect("a screen");
        let waits = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&waits, &tty, epoll::EventData::new_u64(0), edges).expect("added");
        let told = |tv_sec| {
            let mut events = Vec::with_capacity(4);
            let limit = Timespec { tv_sec, tv_nsec: 0 };
            epoll::wait(&waits, rustix::buffer::spare_capacity(&mut events), Some(&limit)).expect("a wait");
            events.len()
        };
        ours.write_all(b"q").expect("a key");
        assert_eq!((told(10), told(0)), (1, 0), "by edges");
        screen.rouse().expect("the modes are set");
        assert_eq!(told(10), 1);
    }

    #[test]
    fn it_can_be_left_and_taken_again() {
        let (mut ours, tty) = pty();
        let mut screen = Screen::take(&tty).expect("a screen");
        screen.leave();
        assert!(!is_raw(&tty));
        screen.leave();
        written(&mut ours, LEAVE);
        screen.enter().expect("taken again");
        assert!(is_raw(&tty));
        drop(screen);
        assert!(!is_raw(&tty));
        let again = written(&mut ours, LEAVE);
        assert!(again.starts_with(ENTER), "leaving twice wrote nothing more");
    }

    #[test]
    fn a_panic_of_another_thread_is_read_on_the_usual_screen() {
        let (mut ours, tty) = pty();
        let screen = Screen::open(&tty).expect("a screen");
        assert!(is_raw(&tty));
        written(&mut ours, ENTER);
        let panics = std::thread::spawn(|| panic!("on purpose: a test of the terminal's guard"));
        panics.join().expect_err("it panics");
        assert!(!is_raw(&tty), "before anything is printed");
        assert_eq!(written(&mut ours, LEAVE), LEAVE);
        drop(screen);
        assert!(!is_raw(&tty));
    }

    #[test]
    fn what_is_no_terminal_is_refused() {
        let file = tempfile::tempfile().expect("a file");
        Screen::take(&file).expect_err("it is a file");
    }
}
