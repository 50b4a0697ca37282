//! What is done when a rule begins to fire and when it is over: webhooks, commands, dumps, log lines, holds.
//!
//! It never holds up the watch: everything happens on a thread of its own, queues are bounded, and what did not fit or did
//! not succeed is a counter in the report. It must never decide what fires: that is the floor `rules`.

mod dispatcher;
mod folder;
mod hold;
mod tally;
mod webhook;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use dispatcher::{Dispatcher, Dumper, Means, Replacement};
pub use hold::{HoldAnswer, Holds};

use crate::report::alerting::Level;

/// Labels that leakwatch gives to every alert; those of a rule have other names.
pub const OWN_LABELS: [&str; 17] = [
    "alertname",
    "level",
    "severity",
    "host",
    "pid",
    "comm",
    "exe",
    "container",
    "image",
    "namespace",
    "pod",
    "runtime",
    "function",
    "file",
    "line",
    "task",
    "source",
];

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its name.
    pub name: String,
    /// What.
    pub kind: Kind,
    /// Only for alerts that matter at least so much.
    pub least: Level,
    /// At most so often a minute.
    pub per_minute: u32,
    /// So often before it is given up.
    pub attempts: u32,
    /// One attempt takes no longer.
    pub timeout: Duration,
    /// Also when an alert is over; webhooks and holds need that and always are told.
    pub resolved: bool,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Alertmanager is told.
    Webhook(Webhook),
    /// A command is run, with the alert and the report on its standard input.
    Command(Command),
    /// The process's tasks are dumped.
    Dump(Dump),
    /// A line on standard error.
    Log,
    /// A file and an HTTP answer that others look at.
    Hold(Hold),
}

impl Kind {
    /// The file that is there while something holds.
    fn hold_file(&self) -> Option<&Path> {
        match self {
            Self::Hold(hold) => hold.file.as_deref(),
            Self::Webhook(_) | Self::Command(_) | Self::Dump(_) | Self::Log => None,
        }
    }

    /// The word in files and reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Command(_) => "command",
            Self::Dump(_) => "dump",
            Self::Log => "log",
            Self::Hold(_) => "hold",
        }
    }
}

/// Alertmanager, or what speaks as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its address, with or without `/api/v2/alerts`.
    pub url: String,
    /// What fires is sent again this often.
    pub resend: Duration,
    /// A file with the token of an `Authorization: Bearer` header.
    pub bearer_token_file: Option<PathBuf>,
    /// Where people who read the alert can look.
    pub generator_url: Option<String>,
}

impl Webhook {
    /// What fires is sent again this often when nothing else is said; Prometheus's own default for
    /// `--rules.alert.resend-delay`.
    pub const RESEND: Duration = Duration::from_mins(1);
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
}

/// Dumps in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The folder.
    pub dir: PathBuf,
    /// Files in it at most; the oldest of ours give way.
    pub most_files: u32,
    /// Bytes of them at most.
    pub most_bytes: u64,
}

impl Default for Dump {
    fn default() -> Self {
        Self { dir: PathBuf::new(), most_files: 100, most_bytes: 512 << 20 }
    }
}

/// A breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// It is there while something holds.
    pub file: Option<PathBuf>,
    /// `GET /` there answers 503 while something holds, else 200.
    pub listen: Option<SocketAddr>,
}

impl Action {
    /// With defaults for all but what it is.
    pub fn of(kind: Kind) -> Self {
        let (per_minute, timeout_s, resolved) = match kind {
            Kind::Webhook(_) => (60, 10, true),
            Kind::Command(_) => (10, 30, true),
            Kind::Dump(_) => (4, 60, false),
            Kind::Log => (60, 1, true),
            Kind::Hold(_) => (600, 1, true),
        };
        Self {
            name: kind.name().to_owned(),
            kind,
            least: Level::Green,
            per_minute,
            attempts: 3,
            timeout: Duration::from_secs(timeout_s),
            resolved,
        }
    }
}

/// Why actions cannot begin their work.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// An address.
    #[error("the hold action cannot listen on {address}: {source}; choose another `listen`")]
    Listen {
        /// It.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The file of a hold.
    #[error("the hold action cannot use the file {}: {what}; choose another `file`", path.display())]
    HoldFile {
        /// It.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// The folder of dumps.
    #[error("the dump action cannot use the folder {}: {what}; choose another `dir`", path.display())]
    Folder {
        /// It.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// The thread of the actions.
    #[error("the thread of the actions cannot be started: {source}")]
    Thread {
        /// Why not.
        source: io::Error,
    },
}
