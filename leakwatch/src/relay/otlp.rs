//! The OpenTelemetry protocol, by HTTP or gRPC: requests wait in memory, oldest first, until the receiver has them.
//!
//! Counters are cumulative, so what is given up when a receiver is away for long is detail and no total.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_client::MetricsServiceClient,
};
use prost::Message as _;
use tokio::sync::{Notify, watch};
use tonic::Status;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::answer::{self, Answer, PATIENCE};
use super::outage::Outage;
use super::{Board, Otlp, RelayError, Round, Sending, grpc, pause, post};
use crate::export::otlp::{Sender, logs, metrics};
use crate::http::{self, Authorization};
use crate::report::Timestamp;

/// What this receiver is called in figures.
pub(super) const NAME: &str = "otlp";

/// And in the log.
const RECEIVER: &str = "the OpenTelemetry receiver";

/// Which transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Protocol buffers by HTTP; port 4318 as a rule.
    #[default]
    Http,
    /// gRPC; port 4317 as a rule.
    Grpc,
}

/// A request that waits.
#[derive(Clone, Debug)]
enum Request {
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

impl Request {
    fn size(&self) -> usize {
        match self {
            Self::Metrics(request) => request.encoded_len(),
            Self::Logs(request) => request.encoded_len(),
        }
    }

    /// Points or records in it.
    fn weight(&self) -> u64 {
        use opentelemetry_proto::tonic::metrics::v1::metric::Data;
        let points = |data: &Data| match data {
            Data::Gauge(one) => one.data_points.len(),
            Data::Sum(one) => one.data_points.len(),
            Data::Histogram(one) => one.data_points.len(),
            Data::ExponentialHistogram(one) => one.data_points.len(),
            Data::Summary(one) => one.data_points.len(),
        };
        let weight: usize = match self {
            Self::Metrics(request) => {
                let scopes = request.resource_metrics.iter().flat_map(|one| &one.scope_metrics);
                scopes
                    .flat_map(|scope| &scope.metrics)
                    .filter_map(|metric| metric.data.as_ref())
                    .map(points)
                    .sum()
            }
            Self::Logs(request) => {
                let scopes = request.resource_logs.iter().flat_map(|one| &one.scope_logs);
                scopes.map(|scope| scope.log_records.len()).sum()
            }
        };
        weight as u64
    }
}

#[derive(Debug)]
enum Transport {
    Http { client: Box<reqwest::Client>, metrics: reqwest::Url, logs: reqwest::Url },
    Grpc(Box<Endpoint>),
}

/// How to send to a receiver, with what that takes at hand.
#[derive(Debug)]
pub struct Terms {
    transport: Transport,
    authorization: Authorization,
    /// Most bytes that wait.
    memory: usize,
}

impl Terms {
    /// Those of these options.
    ///
    /// # Errors
    /// When one is of no use.
    pub fn of(options: &Otlp) -> Result<Self, RelayError> {
        let transport = Transport::of(options)?;
        Ok(Self { transport, authorization: options.authorization.clone(), memory: options.memory })
    }
}

impl Transport {
    fn of(options: &Otlp) -> Result<Self, RelayError> {
        const WHAT: &str = "export.otlp.endpoint";
        let url = answer::url(WHAT, &options.endpoint)?;
        Ok(match options.protocol {
            Protocol::Http => {
                let client = Box::new(answer::client(WHAT)?);
                let (metrics, logs) = (http::below(&url, "/v1/metrics"), http::below(&url, "/v1/logs"));
                Self::Http { client, metrics, logs }
            }
            Protocol::Grpc => {
                let unusable = |error: tonic::transport::Error| RelayError::Unusable {
                    what: WHAT,
                    why: error.to_string(),
                };
                let endpoint = Endpoint::from_shared(options.endpoint.clone()).map_err(unusable)?;
                let endpoint = endpoint.timeout(PATIENCE).connect_timeout(PATIENCE / 3);
                let endpoint = if url.scheme() == "https" {
                    endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(unusable)?
                } else {
                    endpoint
                };
                Self::Grpc(Box::new(endpoint))
            }
        })
    }
}

/// One receiver.
#[derive(Debug)]
pub(super) struct Client {
    terms: watch::Receiver<Arc<Terms>>,
    sender: Sender,
    waiting: RefCell<VecDeque<(Request, usize)>>,
    bytes: Cell<usize>,
    changed: Notify,
    ended: Cell<bool>,
    clock: fn() -> Timestamp,
    board: Board,
}

impl Client {
    pub(super) fn new(
        terms: watch::Receiver<Arc<Terms>>,
        sender: Sender,
        clock: fn() -> Timestamp,
        board: Board,
    ) -> Self {
        post(&board, NAME, |_| {});
        Self {
            terms,
            sender,
            waiting: RefCell::default(),
            bytes: Cell::new(0),
            changed: Notify::new(),
            ended: Cell::new(false),
            clock,
            board,
        }
    }

    fn queue(&self, request: Request) {
        let most = self.terms.borrow().memory;
        let mut waiting = self.waiting.borrow_mut();
        let size = request.size();
        self.bytes.set(self.bytes.get() + size);
        waiting.push_back((request, size));
        let mut dropped = 0u64;
        while self.bytes.get() > most
            && let Some((request, size)) = waiting.pop_front()
        {
            self.bytes.set(self.bytes.get().saturating_sub(size));
            dropped = dropped.saturating_add(request.weight());
        }
        let queued = self.bytes.get() as u64;
        post(&self.board, NAME, |row| {
            row.dropped = row.dropped.saturating_add(dropped);
            row.queued_bytes = queued;
        });
        self.changed.notify_one();
    }

    async fn send(&self, request: &Request, terms: &Terms, channel: &mut Option<Channel>) -> Answer {
        match &terms.transport {
            Transport::Http { client, metrics, logs } => {
                let (url, body) = match request {
                    Request::Metrics(request) => (metrics, request.encode_to_vec()),
                    Request::Logs(request) => (logs, request.encode_to_vec()),
                };
                let post =
                    client.post(url.clone()).header("Content-Type", "application/x-protobuf").body(body);
                let reply = answer::ask(post, &terms.authorization).await;
                let answer = answer::judge(reply, (self.clock)());
                if let Answer::Taken(body) = &answer {
                    self.in_part(request, body);
                }
                answer
            }
            Transport::Grpc(endpoint) => {
                match self.call(request, endpoint, &terms.authorization, channel).await {
                    Ok(body) => {
                        self.in_part(request, &body);
                        Answer::Taken(body)
                    }
                    Err(status) => {
                        *channel = None;
                        let why = format!("{:?}: {}", status.code(), status.message());
                        if grpc::is_passing(status.code()) {
                            Answer::Later(why, grpc::retry_delay(status.details()))
                        } else {
                            Answer::Refused(why)
                        }
                    }
                }
            }
        }
    }

    async fn call(
        &self,
        request: &Request,
        endpoint: &Endpoint,
        authorization: &Authorization,
        channel: &mut Option<Channel>,
    ) -> Result<Vec<u8>, Status> {
        let open = if let Some(open) = channel {
            open.clone()
        } else {
            let connected = endpoint.connect().await;
            let connected = connected.map_err(|error| Status::unavailable(http::with_causes(&error)))?;
            channel.insert(connected).clone()
        };
        let bearer = authorization.bearer().map_err(Status::unavailable)?;
        let bearer = bearer.map(AsciiMetadataValue::try_from).transpose();
        let bearer = bearer
            .map_err(|_invisible| Status::unavailable("the token has characters that no header may have"))?;
        let add = |metadata: &mut tonic::metadata::MetadataMap| {
            if let Some(bearer) = bearer {
                metadata.insert("authorization", bearer);
            }
        };
        Ok(match request {
            Request::Metrics(request) => {
                let mut request = tonic::Request::new(request.clone());
                add(request.metadata_mut());
                MetricsServiceClient::new(open).export(request).await?.into_inner().encode_to_vec()
            }
            Request::Logs(request) => {
                let mut request = tonic::Request::new(request.clone());
                add(request.metadata_mut());
                LogsServiceClient::new(open).export(request).await?.into_inner().encode_to_vec()
            }
        })
    }

    /// What a receiver did not take of what it took.
    fn in_part(&self, request: &Request, answer: &[u8]) {
        let (rejected, why) = match request {
            Request::Metrics(_) => {
                let answer = ExportMetricsServiceResponse::decode(answer).unwrap_or_default();
                answer.partial_success.map(|part| (part.rejected_data_points, part.error_message))
            }
            Request::Logs(_) => {
                let answer = ExportLogsServiceResponse::decode(answer).unwrap_or_default();
                answer.partial_success.map(|part| (part.rejected_log_records, part.error_message))
            }
        }
        .unwrap_or_default();
        if let Ok(rejected @ 1..) = u64::try_from(rejected) {
            tracing::warn!("{RECEIVER} refuses {rejected} points: {why}");
            post(&self.board, NAME, |row| row.dropped = row.dropped.saturating_add(rejected));
        }
    }
}

impl Sending for Client {
    fn take(&self, round: &Round) {
        let processes = &round.report.processes;
        let request = metrics(&round.families, processes, &self.sender, round.now);
        self.queue(Request::Metrics(request));
        if !round.alerts.is_empty() {
            self.queue(Request::Logs(logs(&round.alerts, processes, &self.sender, round.now)));
        }
    }

    fn end(&self, _last: Option<Timestamp>) {
        self.ended.set(true);
        self.changed.notify_one();
    }

    async fn send_all(&self) {
        let mut terms = self.terms.clone();
        let mut now = Arc::clone(&terms.borrow_and_update());
        let mut channel = None;
        let mut outage = Outage::of(RECEIVER.to_owned());
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some((request, size)) = next else {
                if self.ended.get() {
                    return;
                }
                self.changed.notified().await;
                continue;
            };
            let newest = Arc::clone(&terms.borrow_and_update());
            if !Arc::ptr_eq(&newest, &now) {
                now = newest;
                channel = None;
                outage = Outage::of(RECEIVER.to_owned());
            }
            self.bytes.set(self.bytes.get().saturating_sub(size));
            match self.send(&request, &now, &mut channel).await {
                Answer::Taken(_) => {
                    outage.is_over();
                    let queued = self.bytes.get() as u64;
                    post(&self.board, NAME, |row| {
                        row.sent = row.sent.saturating_add(1);
                        row.queued_bytes = queued;
                    });
                }
                Answer::Refused(why) => {
                    outage.is_over();
                    tracing::warn!("{RECEIVER} refuses: {why}");
                    let weight = request.weight();
                    post(&self.board, NAME, |row| row.dropped = row.dropped.saturating_add(weight));
                }
                Answer::Later(why, after) => {
                    post(&self.board, NAME, |row| row.failed = row.failed.saturating_add(1));
                    // Back to its place, unless newer ones have taken its room.
                    if self.bytes.get() + size <= now.memory {
                        self.bytes.set(self.bytes.get() + size);
                        self.waiting.borrow_mut().push_front((request, size));
                    } else {
                        let weight = request.weight();
                        post(&self.board, NAME, |row| row.dropped = row.dropped.saturating_add(weight));
                    }
                    pause(outage.goes_on(&why, after), &mut terms).await;
                }
            }
        }
    }
}
