//! Remote write: rounds into the queue on disk, and from there to the receiver, in order, one request at a time.
//!
//! A request leaves the queue when the receiver has it or has refused it for good. After a kill between its answer and the
//! note of it, the request is sent again: the same series, times and values, which Prometheus takes as what it has.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::Notify;

use super::answer::{self, Answer};
use super::outage::Outage;
use super::queue::{Queue, Record};
use super::{Board, RelayError, RemoteWrite, post};
use crate::export::metrics::Family;
use crate::export::remote_write::Encoder;
use crate::http::{self, Authorization};
use crate::report::Timestamp;

/// What this receiver is called in figures.
pub(super) const NAME: &str = "remote_write";

/// Bytes before a request in the queue: how it is to be sent.
const PREFIX: usize = 1;

/// One receiver.
#[derive(Debug)]
pub(super) struct Writer {
    client: reqwest::Client,
    url: reqwest::Url,
    authorization: Authorization,
    encoder: RefCell<Encoder>,
    queue: RefCell<Queue>,
    version: crate::export::remote_write::Version,
    /// Something was put into the queue, or nothing will be any more.
    changed: Notify,
    ended: Cell<bool>,
    board: Board,
    /// The queue's own count, as of the last time that it was told.
    told: Cell<u64>,
}

impl Writer {
    pub(super) fn open(options: RemoteWrite, board: &Board) -> Result<Self, RelayError> {
        let queue = Queue::open(&options.queue, options.limits)?;
        post(board, NAME, |row| row.queued_bytes = queue.waiting());
        Ok(Self {
            client: answer::client("export.remote_write")?,
            url: answer::url("export.remote_write.url", &options.url)?,
            authorization: options.authorization,
            version: options.encoding.version,
            encoder: RefCell::new(Encoder::new(options.encoding)),
            queue: RefCell::new(queue),
            changed: Notify::new(),
            ended: Cell::new(false),
            board: Board::clone(board),
            told: Cell::new(0),
        })
    }

    /// A round into the queue.
    pub(super) fn take(&self, families: &[Family], now: Timestamp) {
        let batches = self.encoder.borrow_mut().encode(families, now.as_millisecond());
        let version = match self.version {
            crate::export::remote_write::Version::V1 => 1,
            crate::export::remote_write::Version::V2 => 2,
        };
        for batch in batches {
            let mut bytes = Vec::with_capacity(PREFIX + batch.body.len());
            bytes.push(version);
            bytes.extend_from_slice(&batch.body);
            if let Err(error) = self.queue.borrow_mut().push(&Record { weight: batch.samples, bytes }) {
                tracing::warn!("{} samples are lost: {error}", batch.samples);
                post(&self.board, NAME, |row| row.dropped = row.dropped.saturating_add(batch.samples));
            }
        }
        self.tell();
        self.changed.notify_one();
    }

    /// No more rounds: every series ends just after the last one.
    pub(super) fn end(&self, last: Timestamp) {
        let after = last.checked_add(jiff::SignedDuration::from_millis(1)).unwrap_or(last);
        self.take(&[], after);
        self.ended.set(true);
        self.changed.notify_one();
    }

    pub(super) fn sync(&self) {
        if let Err(error) = self.queue.borrow_mut().sync() {
            tracing::warn!("{error}");
        }
    }

    fn tell(&self) {
        let queue = self.queue.borrow();
        let dropped = queue.dropped();
        let more = dropped.saturating_sub(self.told.replace(dropped));
        post(&self.board, NAME, |row| {
            row.queued_bytes = queue.waiting();
            row.dropped = row.dropped.saturating_add(more);
        });
    }

    /// Sends what is in the queue, and what comes, until the end.
    pub(super) async fn send_all(&self) {
        let mut outage = Outage::of(http::place(&self.url));
        let mut unreadable = Outage::of("the queue of remote write".to_owned());
        loop {
            let record = self.queue.borrow_mut().peek();
            if record.is_ok() {
                unreadable.is_over();
            }
            let wait = match record {
                Ok(Some(record)) => match self.send(&record).await {
                    Ok(()) => {
                        outage.is_over();
                        self.tell();
                        continue;
                    }
                    Err((why, after)) => outage.goes_on(&why, after),
                },
                Ok(None) if self.ended.get() => return,
                Ok(None) => {
                    self.changed.notified().await;
                    continue;
                }
                Err(error) => unreadable.goes_on(&error.to_string(), None),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends one request; `Err`: why it is to be tried again, after this long if the receiver said so.
    async fn send(&self, record: &Record) -> Result<(), (String, Option<Duration>)> {
        use crate::export::remote_write::Version;
        let (version, body) = match record.bytes.split_first() {
            Some((1, body)) => (Version::V1, body),
            Some((2, body)) => (Version::V2, body),
            _ => {
                tracing::warn!("{} samples in the queue are of a newer leakwatch", record.weight);
                self.give_up(record);
                self.done(record);
                return Ok(());
            }
        };
        let request = self
            .client
            .post(self.url.clone())
            .header("Content-Encoding", "snappy")
            .header("Content-Type", version.content_type())
            .header("X-Prometheus-Remote-Write-Version", version.number())
            .body(body.to_vec());
        match answer::send(request, &self.authorization).await {
            Answer::Taken(_) => {
                post(&self.board, NAME, |row| row.sent = row.sent.saturating_add(1));
                self.done(record);
                Ok(())
            }
            Answer::Refused(why) => {
                tracing::warn!("{} samples are given up: {}: {why}", record.weight, http::place(&self.url));
                self.give_up(record);
                self.done(record);
                Ok(())
            }
            Answer::Later(why, after) => {
                post(&self.board, NAME, |row| row.failed = row.failed.saturating_add(1));
                Err((why, after))
            }
        }
    }

    fn give_up(&self, record: &Record) {
        post(&self.board, NAME, |row| row.dropped = row.dropped.saturating_add(record.weight));
    }

    fn done(&self, record: &Record) {
        if let Err(error) = self.queue.borrow_mut().advance(record) {
            tracing::warn!("{error}");
        }
    }
}
