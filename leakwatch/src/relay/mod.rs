//! Sends what `export` encodes to the engines that people run: Prometheus's remote write through a queue on disk, and the
//! OpenTelemetry protocol.
//!
//! It has a thread and a runtime of its own: whoever watches hands a round over and goes on, whatever a receiver does.
//! Memory and disk are bounded; what did not fit is counted by name. It reads no clock (a round brings its time, and whoever
//! starts it the clock by which a date in an answer is a wait) and no report but the one it is given.

mod answer;
mod grpc;
mod otlp;
mod outage;
pub mod queue;
mod remote_write;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::export::metrics::{ExportFigures, Family};
use crate::export::otlp::Sender;
use crate::export::remote_write as encoding;
use crate::http::Authorization;
use crate::report::alerting::AlertReport;
use crate::report::{Report, Timestamp};

pub use otlp::Protocol;
pub use queue::{Limits, QueueError};

/// Rounds that may wait for the thread; one more is dropped and counted.
const ROUNDS: usize = 4;

/// The queue is written to the disk itself this often.
const SYNC: Duration = Duration::from_secs(5);

/// Where to send to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who sends.
    pub sender: Sender,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// Remote write.
    pub remote_write: Option<RemoteWrite>,
    /// The OpenTelemetry protocol.
    pub otlp: Option<Otlp>,
}

/// A receiver of remote write.
#[derive(Clone, Debug)]
pub struct RemoteWrite {
    /// Its URL, with the path.
    pub url: String,
    /// Who we are to it.
    pub authorization: Authorization,
    /// Where what waits is kept.
    pub queue: PathBuf,
    /// How much of it.
    pub limits: Limits,
    /// What is sent.
    pub encoding: encoding::Options,
}

/// A receiver of the OpenTelemetry protocol.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// Its URL: for HTTP without `/v1/metrics` and `/v1/logs`, which are added.
    pub endpoint: String,
    /// Which of the two transports.
    pub protocol: Protocol,
    /// Who we are to it.
    pub authorization: Authorization,
    /// Most bytes that wait in memory.
    pub memory: usize,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The queue is of no use.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A URL, a token or a certificate is of no use.
    #[error("{what} is of no use: {why}")]
    Unusable {
        /// Which setting.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The system gives no thread.
    #[error("cannot start the thread that sends: {0}")]
    Thread(std::io::Error),
}

/// One look at all processes.
struct Round {
    report: Arc<Report>,
    families: Vec<Family>,
    alerts: Vec<AlertReport>,
    now: Timestamp,
}

/// What the thread tells.
type Board = Arc<Mutex<Vec<ExportFigures>>>;

/// The running thread. Dropped without [`Relay::finish`], it stops where it is; the queue on disk stays.
#[derive(Debug)]
pub struct Relay {
    rounds: Option<mpsc::Sender<Round>>,
    stop: watch::Sender<Option<Duration>>,
    board: Board,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Opens the queue and starts the thread. Receivers need not be there yet.
    ///
    /// # Errors
    /// When a setting is of no use, or the queue cannot be opened.
    pub fn start(options: Options) -> Result<Self, RelayError> {
        let board = Board::default();
        let (rounds, inbox) = mpsc::channel(ROUNDS);
        let (stop, stopped) = watch::channel(None);
        let remote_write =
            options.remote_write.map(|one| remote_write::Writer::open(one, options.clock, &board));
        let remote_write = remote_write.transpose()?;
        let otlp = options.otlp.map(|one| otlp::Client::new(one, options.sender, options.clock, &board));
        let otlp = otlp.transpose()?;
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(run(inbox, stopped, remote_write, otlp)),
                Err(error) => tracing::error!("nothing is sent: {error}"),
            }
        };
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(work);
        let thread = thread.map_err(RelayError::Thread)?;
        Ok(Self { rounds: Some(rounds), stop, board, thread: Some(thread) })
    }

    /// Hands a round over: the report, the families made from its processes, and alerts that changed. Returns at once.
    /// Answers `false` when the thread is so far behind that the round was dropped (and counted).
    pub fn take(
        &self,
        report: &Arc<Report>,
        families: Vec<Family>,
        alerts: Vec<AlertReport>,
        now: Timestamp,
    ) -> bool {
        let samples: usize = families.iter().map(|family| family.series.len()).sum();
        let round = Round { report: Arc::clone(report), families, alerts, now };
        let taken = self.rounds.as_ref().is_some_and(|rounds| rounds.try_send(round).is_ok());
        if !taken {
            let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            for figures in board.iter_mut() {
                figures.dropped = figures.dropped.saturating_add(samples as u64);
            }
        }
        taken
    }

    /// What became of everything so far, by receiver.
    pub fn figures(&self) -> Vec<ExportFigures> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it: what was handed over is stored, and sent for as long as `patience` lasts. Series of remote write end with
    /// stale markers.
    pub fn finish(mut self, patience: Duration) {
        self.rounds = None;
        self.stop.send_replace(Some(patience));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that sends has failed");
        }
    }
}

/// Takes rounds in until there are none, while both senders send.
async fn run(
    mut inbox: mpsc::Receiver<Round>,
    stopped: watch::Receiver<Option<Duration>>,
    remote_write: Option<remote_write::Writer>,
    otlp: Option<otlp::Client>,
) {
    let take = async {
        let mut sync = tokio::time::interval(SYNC);
        let mut last = None;
        loop {
            tokio::select! {
                round = inbox.recv() => {
                    let Some(round) = round else { break };
                    last = Some(round.now);
                    if let Some(writer) = &remote_write {
                        writer.take(&round.families, round.now);
                    }
                    if let Some(client) = &otlp {
                        client.take(&round);
                    }
                }
                _ = sync.tick() => remote_write.iter().for_each(remote_write::Writer::sync),
            }
        }
        if let (Some(writer), Some(last)) = (&remote_write, last) {
            writer.end(last);
            writer.sync();
        }
        if let Some(client) = &otlp {
            client.end();
        }
    };
    let write = async {
        if let Some(writer) = &remote_write {
            writer.send_all().await;
        }
    };
    let export = async {
        if let Some(client) = &otlp {
            client.send_all().await;
        }
    };
    let all = async { tokio::join!(take, write, export) };
    let over = async {
        let mut stopped = stopped;
        // An error: whoever started us is gone.
        if let Ok(Some(patience)) = stopped.wait_for(Option::is_some).await.map(|patience| *patience) {
            tokio::time::sleep(patience).await;
        }
    };
    tokio::select! {
        _ = all => {}
        () = over => {}
    }
}

/// Changes one receiver's row.
fn post(board: &Board, to: &'static str, change: impl FnOnce(&mut ExportFigures)) {
    let mut rows = board.lock().unwrap_or_else(PoisonError::into_inner);
    let place = rows.iter().position(|row| row.to == to).unwrap_or_else(|| {
        rows.push(ExportFigures { to, ..ExportFigures::default() });
        rows.len() - 1
    });
    if let Some(row) = rows.get_mut(place) {
        change(row);
    }
}
