//! Sends what `export` encodes to the engines that people run: Prometheus's remote write through a queue on disk, and the
//! OpenTelemetry protocol.
//!
//! Each receiver has a thread and a runtime of its own: whoever watches hands a round over and goes on, whatever a receiver does. What
//! may change while it is sent are its [`remote_write::Terms`] or [`otlp::Terms`]; the queue and the counts stay.
//! Memory and disk are bounded; what did not fit is counted by name. It reads no clock (a round brings its time, and whoever
//! starts it the clock by which a date in an answer is a wait) and no report but the one it is given.

mod answer;
mod grpc;
pub mod otlp;
mod outage;
pub mod queue;
pub mod remote_write;
#[cfg(test)]
mod tests;
mod waiting;

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

/// A receiver of remote write.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub struct Round {
    /// The report.
    pub report: Arc<Report>,
    /// The families made from its processes.
    pub families: Arc<[Family]>,
    /// Alerts that changed since the round before.
    pub alerts: Arc<[AlertReport]>,
    /// When this is.
    pub now: Timestamp,
}

/// What the thread tells.
type Board = Arc<Mutex<Vec<ExportFigures>>>;

/// What a thread is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Nothing yet.
    Wait,
    /// To take rounds, and send.
    Run,
    /// To send what there is for so long.
    End(Duration),
}

/// What sends to one receiver.
trait Sending: Send + 'static {
    /// A round to be sent.
    fn take(&self, round: &Round);

    /// There are no more rounds; the last one was at this time, if there was one.
    fn end(&self, last: Option<Timestamp>);

    /// Has the disk keep what waits.
    fn sync(&self) {}

    /// Sends what waits, and what comes, until the end.
    fn send_all(&self) -> impl Future<Output = ()>;
}

/// A receiver with the thread that sends to it by some terms. Dropped without [`Relay::end`], the thread stops where it is; a queue on
/// disk stays.
#[derive(Debug)]
pub struct Relay<T> {
    rounds: mpsc::Sender<Round>,
    terms: watch::Sender<Arc<T>>,
    board: Board,
    ending: Ending,
}

/// A thread that is told to end.
#[derive(Debug)]
pub struct Ending {
    course: watch::Sender<Course>,
    thread: Option<JoinHandle<()>>,
}

impl Relay<remote_write::Terms> {
    /// Opens the queue. The receiver need not be there yet. Nothing is sent before [`Relay::begin`].
    ///
    /// # Errors
    /// When a setting is of no use, or the queue cannot be opened.
    pub fn to_remote_write(options: &RemoteWrite, clock: fn() -> Timestamp) -> Result<Self, RelayError> {
        let terms = remote_write::Terms::of(options)?;
        Self::start(terms, |terms, board| remote_write::Writer::open(&options.queue, terms, clock, board))
    }
}

impl Relay<otlp::Terms> {
    /// The receiver need not be there yet. Nothing is sent before [`Relay::begin`].
    ///
    /// # Errors
    /// When a setting is of no use.
    pub fn to_otlp(options: &Otlp, sender: Sender, clock: fn() -> Timestamp) -> Result<Self, RelayError> {
        let terms = otlp::Terms::of(options)?;
        Self::start(terms, |terms, board| Ok(otlp::Client::new(terms, sender, clock, board)))
    }
}

impl<T> Relay<T> {
    fn start<S: Sending>(
        terms: T,
        open: impl FnOnce(watch::Receiver<Arc<T>>, Board) -> Result<S, RelayError>,
    ) -> Result<Self, RelayError> {
        let board = Board::default();
        let (rounds, inbox) = mpsc::channel(ROUNDS);
        let (course, told) = watch::channel(Course::Wait);
        let (terms, of_sender) = watch::channel(Arc::new(terms));
        let sending = open(of_sender, Arc::clone(&board))?;
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(run(inbox, told, sending)),
                Err(error) => tracing::error!("nothing is sent: {error}"),
            }
        };
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(work);
        let thread = Some(thread.map_err(RelayError::Thread)?);
        Ok(Self { rounds, terms, board, ending: Ending { course, thread } })
    }

    /// What waits, and what comes, is sent from now on.
    pub fn begin(&self) {
        self.ending.course.send_replace(Course::Run);
    }

    /// What is sent from now on goes by other terms, what waits already, too. What is on its way is not called back.
    pub fn change(&self, terms: T) {
        self.terms.send_replace(Arc::new(terms));
    }

    /// Hands a round over. Returns at once. Answers `false` when the thread is so far behind that the round was dropped (and
    /// counted).
    pub fn take(&self, round: Round) -> bool {
        let samples: usize = round.families.iter().map(|family| family.series.len()).sum();
        let taken = self.rounds.try_send(round).is_ok();
        if !taken {
            let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            for figures in board.iter_mut() {
                figures.dropped = figures.dropped.saturating_add(samples as u64);
            }
        }
        taken
    }

    /// What became of everything so far.
    pub fn figures(&self) -> Vec<ExportFigures> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it: what was handed over is stored, and sent for as long as `patience` lasts. Series of remote write end with
    /// stale markers. It does not wait for that.
    pub fn end(self, patience: Duration) -> Ending {
        self.ending.course.send_replace(Course::End(patience));
        self.ending
    }
}

impl Ending {
    /// It is over.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends now, whatever there is to be sent. The queue on disk is free then.
    pub fn hurry(self) {
        self.course.send_replace(Course::End(Duration::ZERO));
        self.join();
    }

    /// Waits for the end.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that sends has failed");
        }
    }
}

/// Takes rounds in until there are none, and sends.
async fn run(mut inbox: mpsc::Receiver<Round>, mut course: watch::Receiver<Course>, sending: impl Sending) {
    if course.wait_for(|&course| course != Course::Wait).await.is_err() {
        return;
    }
    let take = async {
        let mut sync = tokio::time::interval(SYNC);
        let mut last = None;
        loop {
            tokio::select! {
                round = inbox.recv() => {
                    let Some(round) = round else { break };
                    last = Some(round.now);
                    sending.take(&round);
                }
                _ = sync.tick() => sending.sync(),
            }
        }
        sending.end(last);
        sending.sync();
    };
    let all = async { tokio::join!(take, sending.send_all()) };
    let over = async {
        // An error: whoever started us is gone.
        while let Ok(Course::End(patience)) =
            course.wait_for(|course| matches!(course, Course::End(_))).await.map(|course| *course)
        {
            tokio::select! {
                () = tokio::time::sleep(patience) => return,
                // Perhaps less than was said first.
                changed = course.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::select! {
        _ = all => {}
        () = over => {}
    }
}

/// Waits for so long, or until the terms are others.
async fn pause<T>(wait: Duration, terms: &mut watch::Receiver<T>) {
    let changed = async {
        if terms.changed().await.is_err() {
            // These are the last ones.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = changed => {}
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
