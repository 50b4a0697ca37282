//! What the agent sends: its rounds, at a pace of their own, to whoever takes metrics and alerts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::Snapshot;
use jiff::SignedDuration;

use crate::{
    agent::clock,
    export::{
        metrics::{ExportFigures, Limits, families},
        otlp::Sender,
        remote_write::{self as encoding, Version},
    },
    http::Authorization,
    relay::{self, Ending, Otlp, Protocol, Relay, RelayError, RemoteWrite, Round, otlp, remote_write},
    report::{Timestamp, alerting::AlertReport},
};

/// Where to send to, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Least time between two rounds.
    pub interval: Duration,
    /// URL of a receiver of remote write.
    pub remote_write: Option<String>,
    /// Which of its protocols.
    pub version: Version,
    /// Histograms as native ones, too.
    pub native_histograms: bool,
    /// Where what waits for it is kept.
    pub queue_dir: PathBuf,
    /// Most bytes of that.
    pub queue_bytes: u64,
    /// A file with a bearer token for it.
    pub remote_write_token: Option<PathBuf>,
    /// URL of a receiver of the OpenTelemetry protocol.
    pub otlp: Option<String>,
    /// Which of its transports.
    pub otlp_protocol: Protocol,
    /// A file with a bearer token for it.
    pub otlp_token: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            remote_write: None,
            version: Version::V1,
            native_histograms: false,
            queue_dir: PathBuf::from("/var/lib/leakwatch/queue"),
            queue_bytes: 512 << 20,
            remote_write_token: None,
            otlp: None,
            otlp_protocol: Protocol::Http,
            otlp_token: None,
        }
    }
}

/// Most bytes that wait in memory for a receiver of the OpenTelemetry protocol.
const MEMORY: usize = 16 << 20;

/// How long the end waits for receivers. What remote write has not sent by then is sent by the next run.
const PATIENCE: Duration = Duration::from_secs(3);

impl Options {
    /// The receiver of remote write, to which this machine is called `host`.
    fn remote_write(&self, host: &str) -> Option<RemoteWrite> {
        Some(RemoteWrite {
            url: self.remote_write.clone()?,
            authorization: Authorization::bearer_of(self.remote_write_token.as_deref()),
            queue: self.queue_dir.clone(),
            limits: relay::Limits { bytes: self.queue_bytes, ..relay::Limits::default() },
            encoding: encoding::Options {
                version: self.version,
                native_histograms: self.native_histograms,
                // What a scrape would add.
                labels: vec![
                    ("job".to_owned(), "leakwatch".to_owned()),
                    ("instance".to_owned(), host.to_owned()),
                ],
            },
        })
    }

    /// The receiver of the OpenTelemetry protocol.
    fn otlp(&self) -> Option<Otlp> {
        Some(Otlp {
            endpoint: self.otlp.clone()?,
            protocol: self.otlp_protocol,
            authorization: Authorization::bearer_of(self.otlp_token.as_deref()),
            memory: MEMORY,
        })
    }
}

/// A receiver with what sends to it.
#[derive(Debug)]
struct Running<O, T> {
    options: O,
    relay: Relay<T>,
}

/// What becomes of one receiver by other options.
#[derive(Debug)]
enum Step<O, T> {
    /// Nothing: it goes on with its queue, its connection and its counts.
    Stay,
    /// It is the same queue, sent in another way.
    Change(O, T),
    /// It is gone, or another one.
    Replace(Option<Running<O, T>>),
}

/// Other options that can be had, and what sends by them.
#[derive(Debug)]
pub struct Change {
    every: Duration,
    remote_write: Step<RemoteWrite, remote_write::Terms>,
    otlp: Step<Otlp, otlp::Terms>,
}

/// What sends; nothing where nobody is sent to.
#[derive(Debug)]
pub struct Exports {
    host: String,
    remote_write: Option<Running<RemoteWrite, remote_write::Terms>>,
    otlp: Option<Running<Otlp, otlp::Terms>>,
    /// Those that nobody is sent to by any more.
    ending: Vec<Ending>,
    every: Duration,
    /// `CLOCK_MONOTONIC` from which on the next round is sent, ns.
    due_ns: u64,
    /// The time that the last round was sent with.
    sent: Option<Timestamp>,
    /// Alerts that changed since the last round.
    changed: Vec<AlertReport>,
}

impl Exports {
    /// Starts the threads that send, where there is somebody to send to; `host` is what this machine is called there.
    ///
    /// # Errors
    /// When a setting is of no use, or the queue cannot be opened.
    pub fn start(options: &Options, host: String) -> Result<Self, RelayError> {
        let mut exports = Self {
            host,
            remote_write: None,
            otlp: None,
            ending: Vec::new(),
            every: options.interval,
            due_ns: 0,
            sent: None,
            changed: Vec::new(),
        };
        let change = exports.prepare(options)?;
        exports.change(change);
        Ok(exports)
    }

    /// Looks whether it can be done by other options. Nothing is sent by them before [`Self::change`].
    ///
    /// # Errors
    /// When a setting is of no use, or a queue cannot be opened; all goes on as before then.
    pub fn prepare(&mut self, options: &Options) -> Result<Change, RelayError> {
        let remote_write = match (&self.remote_write, options.remote_write(&self.host)) {
            (None, None) => Step::Stay,
            (Some(now), Some(wanted)) if now.options == wanted => Step::Stay,
            (Some(now), Some(wanted)) if now.options.queue == wanted.queue => {
                let terms = remote_write::Terms::of(&wanted)?;
                Step::Change(wanted, terms)
            }
            (_, None) => Step::Replace(None),
            (_, Some(options)) => {
                // One that was taken away a moment ago may have the queue still.
                self.ending.drain(..).for_each(Ending::hurry);
                let relay = Relay::to_remote_write(&options, clock::now)?;
                Step::Replace(Some(Running { options, relay }))
            }
        };
        let otlp = match (&self.otlp, options.otlp()) {
            (None, None) => Step::Stay,
            (Some(now), Some(wanted)) if now.options == wanted => Step::Stay,
            (Some(_), Some(wanted)) => {
                let terms = otlp::Terms::of(&wanted)?;
                Step::Change(wanted, terms)
            }
            (Some(_), None) => Step::Replace(None),
            (None, Some(options)) => {
                let sender =
                    Sender { host: self.host.clone(), version: env!("CARGO_PKG_VERSION").to_owned() };
                let relay = Relay::to_otlp(&options, sender, clock::now)?;
                Step::Replace(Some(Running { options, relay }))
            }
        };
        Ok(Change { every: options.interval, remote_write, otlp })
    }

    /// Sends by other options from now on. Whoever is not sent to any more gets what waits for him for three seconds more; what is
    /// left in a queue on disk stays there, for whoever is sent to from it next.
    pub fn change(&mut self, change: Change) {
        self.ending.retain(|ending| !ending.is_over());
        self.ending.extend(take(&mut self.remote_write, change.remote_write));
        self.ending.extend(take(&mut self.otlp, change.otlp));
        if self.every != change.every {
            self.every = change.every;
            // The next round was put off by the old one.
            self.due_ns = 0;
        }
    }

    /// Somebody is sent to.
    fn is_any(&self) -> bool {
        self.remote_write.is_some() || self.otlp.is_some()
    }

    /// Alerts that began to fire, or ended.
    pub fn changed(&mut self, alerts: &[AlertReport]) {
        if self.is_any() {
            self.changed.extend_from_slice(alerts);
        }
    }

    /// Sends a snapshot, if it is time for one or alerts changed.
    pub fn offer(&mut self, snapshot: &Snapshot) {
        let now_ns = clock::monotonic_ns();
        if !self.is_any() || now_ns < self.due_ns && self.changed.is_empty() {
            return;
        }
        self.due_ns = now_ns.saturating_add(u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX));
        let families = families(&snapshot.report.processes, &snapshot.metrics(), &Limits::default());
        let now = not_before(self.sent, clock::now());
        self.sent = Some(now);
        let alerts = std::mem::take(&mut self.changed).into();
        let round = Round { report: Arc::clone(&snapshot.report), families: families.into(), alerts, now };
        let to_otlp = self.otlp.as_ref().is_none_or(|otlp| otlp.relay.take(round.clone()));
        let to_remote_write = self.remote_write.as_ref().is_none_or(|writer| writer.relay.take(round));
        if !(to_otlp && to_remote_write) {
            tracing::warn!("a thread that sends is behind: a round was dropped");
        }
    }

    /// What became of what was sent.
    pub fn figures(&self) -> Vec<ExportFigures> {
        let remote_write = self.remote_write.iter().flat_map(|running| running.relay.figures());
        remote_write.chain(self.otlp.iter().flat_map(|running| running.relay.figures())).collect()
    }

    /// Ends it.
    pub fn finish(self) {
        let remote_write = self.remote_write.map(|running| running.relay.end(PATIENCE));
        let otlp = self.otlp.map(|running| running.relay.end(PATIENCE));
        self.ending.into_iter().chain(remote_write).chain(otlp).for_each(Ending::join);
    }
}

/// Takes a step; whoever ends by it.
fn take<O, T>(running: &mut Option<Running<O, T>>, step: Step<O, T>) -> Option<Ending> {
    match (step, running) {
        (Step::Change(options, terms), Some(running)) => {
            running.options = options;
            running.relay.change(terms);
            None
        }
        (Step::Replace(other), running) => {
            if let Some(other) = &other {
                other.relay.begin();
            }
            std::mem::replace(running, other).map(|running| running.relay.end(PATIENCE))
        }
        // There is nobody to change, and none was seen when the step was made.
        (Step::Stay | Step::Change(..), _) => None,
    }
}

/// A wall clock that goes back by less than this was put right a little; receivers take no figures out of their order.
const A_LITTLE: SignedDuration = SignedDuration::from_mins(10);

/// The time of a round, behind that of the last one. A clock that was far ahead is believed when it goes back: what was sent meanwhile
/// was too far in the future for receivers.
fn not_before(last: Option<Timestamp>, now: Timestamp) -> Timestamp {
    match last {
        Some(last) if last >= now && last.duration_since(now) <= A_LITTLE => {
            last.checked_add(SignedDuration::from_millis(1)).unwrap_or(now)
        }
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_on_when_the_clock_goes_back_a_little() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let last = Some(time("2026-10-09T03:00:00Z"));
        let is = |now: &str, sent: &str| assert_eq!(not_before(last, time(now)), time(sent), "{now}");
        is("2026-10-09T03:00:10Z", "2026-10-09T03:00:10Z");
        is("2026-10-09T03:00:00Z", "2026-10-09T03:00:00.001Z");
        is("2026-10-09T02:59:30Z", "2026-10-09T03:00:00.001Z");
        is("2026-10-09T02:00:00Z", "2026-10-09T02:00:00Z");
        is("2026-10-09T04:00:00Z", "2026-10-09T04:00:00Z");
        assert_eq!(not_before(None, time("2026-10-09T02:00:00Z")), time("2026-10-09T02:00:00Z"));
    }
}
