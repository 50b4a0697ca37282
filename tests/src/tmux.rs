//! A terminal that a program cannot tell from a real one, and what is on it: tmux, with a server of its own.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::eventually;

/// How long something may take to be on the screen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Servers of this process so far.
static SERVERS: AtomicU32 = AtomicU32::new(0);

/// A terminal in which a shell waits for commands; ended, with all that runs in it, when dropped.
#[derive(Debug)]
pub struct Tmux {
    server: String,
}

impl Tmux {
    /// Starts one of this size, in this folder.
    #[track_caller]
    pub fn start(columns: u16, rows: u16, folder: &Path) -> Self {
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let tmux = Self { server: format!("leakwatch-test-{}-{number}", std::process::id()) };
        let (columns, rows, folder) = (columns.to_string(), rows.to_string(), folder.display().to_string());
        tmux.run(&[
            "-u",
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
            "-c",
            &folder,
            "env LC_ALL=C.UTF-8 TERM=screen-256color PS1='$ ' sh -i",
        ]);
        tmux.wait_for(|screen| screen.contains('$'));
        tmux
    }

    /// What is on it, without blanks at the ends of lines.
    #[track_caller]
    pub fn screen(&self) -> String {
        let shown = self.run(&["capture-pane", "-p"]);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// The same with its colours, as escape sequences, and with its blanks.
    #[track_caller]
    pub fn screen_in_colour(&self) -> String {
        let shown = self.run(&["capture-pane", "-p", "-e", "-N"]);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// Types a text as it is.
    #[track_caller]
    pub fn write(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    /// Presses a key, by tmux's name of it: `Enter`, `Escape`, `C-z`.
    #[track_caller]
    pub fn press(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    /// Types a command and runs it.
    #[track_caller]
    pub fn command(&self, line: &str) {
        self.write(line);
        self.press("Enter");
    }

    /// Waits until the screen is as it should be, and returns it.
    #[track_caller]
    pub fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let seen = eventually(PATIENCE, || {
            screen = self.screen();
            wanted(&screen)
        });
        assert!(seen, "this is not what was waited for:\n{screen}");
        screen
    }

    /// Gives it another size.
    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Gives it another size and presses a key at the same moment.
    #[track_caller]
    pub fn resize_and_press(&self, columns: u16, rows: u16, key: &str) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.run(&["resize-window", "-x", &columns, "-y", &rows, ";", "send-keys", key]);
    }

    /// A program in it has taken the other screen, or the mouse.
    #[track_caller]
    pub fn is_taken(&self) -> bool {
        let flags = self.run(&["display-message", "-p", "#{alternate_on}#{mouse_any_flag}"]);
        String::from_utf8_lossy(&flags.stdout).contains('1')
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Output {
        let output = Command::new("tmux").arg("-L").arg(&self.server).args(arguments).output();
        match output {
            Ok(output) if output.status.success() => output,
            Ok(output) => panic!("tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => panic!("tmux {arguments:?}: {error}"),
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // The server may have ended with its last program.
        drop(Command::new("tmux").arg("-L").arg(&self.server).arg("kill-server").output());
    }
}
