//! Remote write: rounds into the queue on disk, and from there to the receiver, in order, one request at a time.
//!
//! A request leaves the queue when the receiver has it or has refused it for good. After a kill between its answer and the
//! note of it, the request is sent again: the same series, times and values, which Prometheus takes as what it has.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::sync::{Notify, watch};

use super::answer::{self, Answer};
use super::outage::Outage;
use super::queue::{Limits, Queue, Record};
use super::waiting::Waiting;
use super::{Board, RelayError, RemoteWrite, Round, Sending, pause, post};
use crate::export::metrics::Family;
use crate::export::remote_write::{self as encoding, Encoder, Version};
use crate::http::{self, Authorization, Reply};
use crate::report::Timestamp;

/// What this receiver is called in figures.
pub(super) const NAME: &str = "remote_write";

/// Bytes before a request in the queue: how it is to be sent.
const PREFIX: usize = 1;

/// How to send to a receiver, with what that takes at hand.
#[derive(Debug)]
pub struct Terms {
    client: reqwest::Client,
    url: reqwest::Url,
    authorization: Authorization,
    encoding: encoding::Options,
    limits: Limits,
}

impl Terms {
    /// Those of these options.
    ///
    /// # Errors
    /// When one is of no use.
    pub fn of(options: &RemoteWrite) -> Result<Self, RelayError> {
        Ok(Self {
            client: answer::client("export.remote_write")?,
            url: answer::url("export.remote_write.url", &options.url)?,
            authorization: options.authorization.clone(),
            encoding: options.encoding.clone(),
            limits: options.limits,
        })
    }

    async fn post(&self, version: Version, body: Vec<u8>) -> Result<Reply, String> {
        let request = self
            .client
            .post(self.url.clone())
            .header("Content-Encoding", "snappy")
            .header("Content-Type", version.content_type())
            .header("X-Prometheus-Remote-Write-Version", version.number())
            .body(body);
        answer::ask(request, &self.authorization).await
    }
}

/// One receiver.
#[derive(Debug)]
pub(super) struct Writer {
    terms: watch::Receiver<Arc<Terms>>,
    encoder: RefCell<Encoder>,
    queue: RefCell<Waiting>,
    /// The receiver has shown that it knows 1.0 alone, and nothing has failed since.
    only_v1: Cell<bool>,
    /// Something was put into the queue, or nothing will be any more.
    changed: Notify,
    ended: Cell<bool>,
    clock: fn() -> Timestamp,
    board: Board,
    /// The queue's own count, as of the last time that it was told.
    told: Cell<u64>,
}

impl Writer {
    pub(super) fn open(
        queue: &Path,
        terms: watch::Receiver<Arc<Terms>>,
        clock: fn() -> Timestamp,
        board: Board,
    ) -> Result<Self, RelayError> {
        let now = Arc::clone(&terms.borrow());
        let queue = Waiting::behind(Queue::open(queue, now.limits)?);
        post(&board, NAME, |row| row.queued_bytes = queue.waiting());
        Ok(Self {
            terms,
            only_v1: Cell::new(false),
            encoder: RefCell::new(Encoder::new(now.encoding.clone())),
            queue: RefCell::new(queue),
            changed: Notify::new(),
            ended: Cell::new(false),
            clock,
            board,
            told: Cell::new(0),
        })
    }

    /// A round into the queue.
    fn put(&self, families: &[Family], now: Timestamp) {
        let terms = Arc::clone(&self.terms.borrow());
        self.queue.borrow_mut().limit(terms.limits);
        let batches = {
            let mut encoder = self.encoder.borrow_mut();
            encoder.change(&terms.encoding);
            encoder.encode(families, now.as_millisecond())
        };
        let version = match terms.encoding.version {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        for batch in batches {
            let mut bytes = Vec::with_capacity(PREFIX + batch.body.len());
            bytes.push(version);
            bytes.extend_from_slice(&batch.body);
            self.queue.borrow_mut().push(Record { weight: batch.samples, bytes });
        }
        self.tell();
        self.changed.notify_one();
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

    /// Sends one request; `Err`: why it is to be tried again, after this long if the receiver said so.
    async fn send(&self, record: &Record, terms: &Terms) -> Result<(), (String, Option<Duration>)> {
        let (version, body) = match record.bytes.split_first() {
            Some((1, body)) => (Version::V1, body),
            Some((2, body)) => (Version::V2, body),
            _ => {
                tracing::warn!("{} samples in the queue are of a newer leakwatch", record.weight);
                post(&self.board, NAME, |row| row.dropped = row.dropped.saturating_add(record.weight));
                self.done(record);
                return Ok(());
            }
        };
        let reply = match version {
            Version::V1 => terms.post(version, body.to_vec()).await,
            Version::V2 => self.post_v2(body, terms).await,
        };
        let written = reply.as_ref().ok().and_then(written);
        let refused = record.weight.saturating_sub(written.unwrap_or(0));
        match answer::judge(reply, (self.clock)()) {
            Answer::Taken(_) => {
                post(&self.board, NAME, |row| row.sent = row.sent.saturating_add(1));
                // Of 1.0 nobody says how much was written.
                if written.is_some() && refused > 0 {
                    self.give_up(refused, record, terms, "it does not say why");
                }
                self.done(record);
                Ok(())
            }
            Answer::Refused(why) => {
                self.give_up(refused, record, terms, &why);
                self.done(record);
                Ok(())
            }
            Answer::Later(why, after) => {
                // Whoever comes back after a failure may know more.
                self.only_v1.set(false);
                post(&self.board, NAME, |row| row.failed = row.failed.saturating_add(1));
                Err((why, after))
            }
        }
    }

    /// Sends a request of 2.0, and as one of 1.0 to whoever does not know 2.0.
    async fn post_v2(&self, body: &[u8], terms: &Terms) -> Result<Reply, String> {
        if self.only_v1.get()
            && let Some(as_v1) = encoding::as_v1(body)
        {
            return terms.post(Version::V1, as_v1).await;
        }
        let reply = terms.post(Version::V2, body.to_vec()).await?;
        let Some(as_v1) = (!knows_v2(&reply)).then(|| encoding::as_v1(body)).flatten() else {
            return Ok(reply);
        };
        let again = terms.post(Version::V1, as_v1).await?;
        if !again.status.is_success() {
            // It was not that.
            return Ok(again);
        }
        self.only_v1.set(true);
        tracing::info!("{} knows no remote write 2.0: it gets 1.0", http::place(&terms.url));
        Ok(again)
    }

    /// So many samples of a request are given up.
    fn give_up(&self, samples: u64, of: &Record, terms: &Terms, why: &str) {
        let (place, all) = (http::place(&terms.url), of.weight);
        tracing::warn!("{samples} of {all} samples are given up: {place}: {why}");
        post(&self.board, NAME, |row| row.dropped = row.dropped.saturating_add(samples));
    }

    fn done(&self, record: &Record) {
        self.queue.borrow_mut().advance(record);
    }
}

impl Sending for Writer {
    fn take(&self, round: &Round) {
        self.put(&round.families, round.now);
    }

    /// Every series ends just after the last round.
    fn end(&self, last: Option<Timestamp>) {
        if let Some(last) = last {
            let after = last.checked_add(jiff::SignedDuration::from_millis(1)).unwrap_or(last);
            self.put(&[], after);
        }
        self.ended.set(true);
        self.changed.notify_one();
    }

    fn sync(&self) {
        self.queue.borrow_mut().sync();
    }

    async fn send_all(&self) {
        let mut terms = self.terms.clone();
        let mut now = Arc::clone(&terms.borrow_and_update());
        let mut outage = Outage::of(http::place(&now.url));
        let mut unreadable = Outage::of("the queue of remote write".to_owned());
        loop {
            let record = self.queue.borrow_mut().peek();
            if record.is_ok() {
                unreadable.is_over();
            }
            let newest = Arc::clone(&terms.borrow_and_update());
            if !Arc::ptr_eq(&newest, &now) {
                now = newest;
                self.only_v1.set(false);
                outage = Outage::of(http::place(&now.url));
            }
            let wait = match record {
                Ok(Some(record)) => match self.send(&record, &now).await {
                    Ok(()) => {
                        outage.is_over();
                        self.tell();
                        continue;
                    }
                    Err((why, after)) => {
                        self.queue.borrow_mut().put_back();
                        outage.goes_on(&why, after)
                    }
                },
                Ok(None) if self.ended.get() => return,
                Ok(None) => {
                    self.changed.notified().await;
                    continue;
                }
                Err(error) => unreadable.goes_on(&error.to_string(), None),
            };
            pause(wait, &mut terms).await;
        }
    }
}

/// Samples and histograms that a receiver wrote, where it says so, as every one that knows 2.0 must, also of a request that it took
/// a part of alone (<https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/#required-written-response-headers>).
fn written(reply: &Reply) -> Option<u64> {
    let count = |of: &str| -> Option<u64> {
        let name = format!("x-prometheus-remote-write-{of}-written");
        reply.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    };
    match (count("samples"), count("histograms")) {
        (None, None) => None,
        (samples, histograms) => Some(samples.unwrap_or(0).saturating_add(histograms.unwrap_or(0))),
    }
}

/// Whoever answers so to a request of 2.0 knows that. One of 1.0 finds nothing in it, which it takes or refuses, as it does not know
/// its type.
fn knows_v2(reply: &Reply) -> bool {
    let is_answer_of_v1 = reply.status.is_success()
        || matches!(reply.status, StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE);
    written(reply).is_some() || !is_answer_of_v1
}
