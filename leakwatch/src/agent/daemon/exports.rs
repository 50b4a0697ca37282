//! What the agent sends: its rounds, at a pace of their own, to whoever takes metrics and alerts.

use std::{path::PathBuf, time::Duration};

use super::Snapshot;
use jiff::SignedDuration;

use crate::{
    agent::clock,
    export::{
        metrics::{ExportFigures, Limits, families},
        otlp::Sender,
        remote_write::{self, Version},
    },
    http::Authorization,
    relay::{self, Otlp, Protocol, Relay, RelayError, RemoteWrite},
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

/// The running sender; nothing where nobody is sent to.
#[derive(Debug, Default)]
pub struct Exports {
    relay: Option<Relay>,
    every: Duration,
    /// `CLOCK_MONOTONIC` from which on the next round is sent, ns.
    due_ns: u64,
    /// The time that the last round was sent with.
    sent: Option<Timestamp>,
    /// Alerts that changed since the last round.
    changed: Vec<AlertReport>,
}

impl Exports {
    /// Starts the thread that sends, where there is somebody to send to; `host` is what this machine is called there.
    ///
    /// # Errors
    /// When a setting is of no use, or the queue cannot be opened.
    pub fn start(options: &Options, host: String) -> Result<Self, RelayError> {
        let token = |file: &Option<PathBuf>| Authorization::bearer_of(file.as_deref());
        let remote_write = options.remote_write.as_ref().map(|url| RemoteWrite {
            url: url.clone(),
            authorization: token(&options.remote_write_token),
            queue: options.queue_dir.clone(),
            limits: relay::Limits { bytes: options.queue_bytes, ..relay::Limits::default() },
            encoding: remote_write::Options {
                version: options.version,
                native_histograms: options.native_histograms,
                // What a scrape would add.
                labels: vec![
                    ("job".to_owned(), "leakwatch".to_owned()),
                    ("instance".to_owned(), host.clone()),
                ],
            },
        });
        let otlp = options.otlp.as_ref().map(|endpoint| Otlp {
            endpoint: endpoint.clone(),
            protocol: options.otlp_protocol,
            authorization: token(&options.otlp_token),
            memory: MEMORY,
        });
        if remote_write.is_none() && otlp.is_none() {
            return Ok(Self::default());
        }
        let sender = Sender { host, version: env!("CARGO_PKG_VERSION").to_owned() };
        let relay = Relay::start(relay::Options { sender, clock: clock::now, remote_write, otlp })?;
        Ok(Self { relay: Some(relay), every: options.interval, ..Self::default() })
    }

    /// Alerts that began to fire, or ended.
    pub fn changed(&mut self, alerts: &[AlertReport]) {
        if self.relay.is_some() {
            self.changed.extend_from_slice(alerts);
        }
    }

    /// Sends a snapshot, if it is time for one or alerts changed.
    pub fn offer(&mut self, snapshot: &Snapshot) {
        let now_ns = clock::monotonic_ns();
        let Some(relay) = &self.relay else { return };
        if now_ns < self.due_ns && self.changed.is_empty() {
            return;
        }
        self.due_ns = now_ns.saturating_add(u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX));
        let families = families(&snapshot.report.processes, &snapshot.metrics(), &Limits::default());
        let now = not_before(self.sent, clock::now());
        self.sent = Some(now);
        let changed = std::mem::take(&mut self.changed);
        if !relay.take(&snapshot.report, families, changed, now) {
            tracing::warn!("the thread that sends is behind: a round was dropped");
        }
    }

    /// What became of what was sent.
    pub fn figures(&self) -> Vec<ExportFigures> {
        self.relay.as_ref().map(Relay::figures).unwrap_or_default()
    }

    /// Ends it.
    pub fn finish(self) {
        if let Some(relay) = self.relay {
            relay.finish(PATIENCE);
        }
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
