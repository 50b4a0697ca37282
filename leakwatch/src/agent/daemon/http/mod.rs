//! The agent's server: a thread and an event loop of its own, so that who asks cannot hold up who watches.
//!
//! It sees published snapshots and nothing else: no request reaches the kernel side or the configuration, and only one of them,
//! `dump`, a process. Every request is bounded: in size, in time, and in how many there are at once. What may be asked by whom
//! is decided here and in `auth`; what is answered is made by the outputs. It must never log or answer with a secret.

mod auth;
mod coding;
mod dump;
mod events;
mod origin;
mod page;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Notify, Semaphore, watch},
};
use tracing::{debug, warn};

use self::{auth::Secrets, coding::Accepted, dump::Dumps};
use super::{
    figures::Snapshot,
    options::{Access, Http, Redact},
};
use crate::alert::{Dumper, HoldAnswer, Holds};
use crate::export::{
    self,
    metrics::{Limits, encode, families, negotiate},
};

/// The longest header that is read, and the longest address.
const HEADER_BYTES: usize = 16 << 10;

/// The most headers of a request.
const HEADERS: usize = 64;

/// The most who listen to what changes at once.
const LISTENERS: usize = 16;

/// What is published, as it comes.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    terms: watch::Sender<Arc<Terms>>,
    state: Shared,
    connections: usize,
}

/// Who may ask for what, and what the server proves and asks to be proven: what may change while it answers.
pub struct Terms {
    tls: Option<tokio_rustls::TlsAcceptor>,
    secrets: Secrets,
    metrics: Access,
    api: Access,
    hold: Access,
    dump: Access,
    page: Access,
    /// Dumps may be told: nothing is redacted.
    dumps: bool,
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terms").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Terms {
    /// Reads certificates and secrets.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it must be.
    pub fn read(options: &Http, redact: &Redact) -> anyhow::Result<Self> {
        Ok(Self {
            tls: options.tls.as_ref().map(|(cert, key)| tls::acceptor(cert, key)).transpose()?,
            secrets: Secrets::read(options)?,
            metrics: options.metrics,
            api: options.api,
            hold: options.hold,
            dump: options.dump,
            page: options.page,
            // A dump has what is not to be told.
            dumps: !redact.any(),
        })
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A server that answers; it ends with this.
#[derive(Debug)]
pub struct Serving {
    terms: watch::Sender<Arc<Terms>>,
    stop: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Shared {
    snapshots: Snapshots,
    terms: watch::Receiver<Arc<Terms>>,
    /// What the breakers say.
    holds: Arc<Holds>,
    dumps: Dumps,
    listeners: Arc<Semaphore>,
    timeout: Duration,
}

impl Shared {
    /// As they are now.
    fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.terms.borrow())
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Peer(IpAddr);

impl Server {
    /// Listens, and answers on these terms; `None`: there is to be none.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(options: &Http, terms: Terms, snapshots: Snapshots) -> anyhow::Result<Option<Self>> {
        let Some(address) = options.listen else { return Ok(None) };
        let listener = std::net::TcpListener::bind(address).map_err(|error| {
            anyhow::anyhow!("cannot listen on {address}: {error}; choose another [http] listen, or \"off\"")
        })?;
        listener.set_nonblocking(true).context("cannot make a socket that does not block")?;
        let address = listener.local_addr().context("cannot tell the address that is listened on")?;
        let (terms, of_requests) = watch::channel(Arc::new(terms));
        let state = Shared {
            snapshots,
            terms: of_requests,
            holds: Arc::default(),
            dumps: Dumps::default(),
            listeners: Arc::new(Semaphore::new(LISTENERS)),
            timeout: options.timeout,
        };
        Ok(Some(Self { listener, address, terms, state, connections: options.connections }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// It speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.state.terms().tls.is_some()
    }

    /// Answers from now on, on a thread of its own; these are the holds that it tells of, and who takes dumps.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn serve(mut self, holds: Arc<Holds>, dumper: Dumper) -> anyhow::Result<Serving> {
        self.state.holds = holds;
        self.state.dumps = Dumps::by(dumper);
        let terms = self.terms.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop of the server")?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.notified() => {}
                    ended = self.accept() => if let Err(error) = ended {
                        tracing::error!("the server has ended: {error:#}");
                    }
                }
            });
        };
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(work)?;
        Ok(Serving { terms, stop, thread: Some(thread) })
    }

    async fn accept(self) -> anyhow::Result<()> {
        let listener = TcpListener::from_std(self.listener).context("cannot listen")?;
        let places = Arc::new(Semaphore::new(self.connections));
        let router = router(self.state.clone());
        loop {
            let place = Arc::clone(&places).acquire_owned().await.context("no place for a connection")?;
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                // Out of descriptors, or the peer is gone already: others may still come.
                Err(error) => {
                    debug!("a connection could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (router, tls, timeout) = (router.clone(), self.state.terms().tls.clone(), self.state.timeout);
            tokio::spawn(async move {
                let peer = Peer(peer.ip().to_canonical());
                match tls {
                    None => answer(socket, peer, router, timeout).await,
                    Some(tls) => match tokio::time::timeout(timeout, tls.accept(socket)).await {
                        Ok(Ok(socket)) => answer(socket, peer, router, timeout).await,
                        Ok(Err(error)) => debug!("{}: no TLS: {error}", peer.0),
                        Err(_elapsed) => debug!("{}: TLS took too long", peer.0),
                    },
                }
                drop(place);
            });
        }
    }
}

impl Serving {
    /// Answers on other terms from the next request and connection on.
    pub fn change(&self, terms: Terms) {
        self.terms.send_replace(Arc::new(terms));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread of the server had failed");
        }
    }
}

/// Answers the requests of one connection. A request that does not come, an answer that is not taken and a connection that
/// stays idle end with the time.
async fn answer<S>(socket: S, peer: Peer, router: Router, timeout: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = TowerToHyperService::new(router.layer(axum::Extension(peer)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_headers(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(true)
        .serve_connection(TokioIo::new(socket), service);
    // Prometheus keeps its connection; a minute of requests is enough before it makes another.
    match tokio::time::timeout(timeout.saturating_mul(6), connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("{}: {error}", peer.0),
        Err(_elapsed) => debug!("{}: the connection was closed: its time is up", peer.0),
    }
}

fn router(state: Shared) -> Router {
    Router::new()
        .route("/", get(page::file))
        .route("/page/{file}", get(page::file))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/processes", get(processes))
        .route("/api/v1/report", get(report))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/hold", get(hold))
        .route("/api/v1/dump", post(dump::dump))
        .route("/api/v1/events", get(events::events))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Lets through who may ask, and takes no longer than is allowed.
async fn guard(
    State(state): State<Shared>,
    axum::Extension(peer): axum::Extension<Peer>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let terms = state.terms();
    let access = match request.uri().path() {
        "/healthz" | "/readyz" => Access::Open,
        "/metrics" => terms.metrics,
        "/api/v1/hold" => terms.hold,
        "/api/v1/dump" => terms.dump,
        path if page::is_page(path) => terms.page,
        _ => terms.api,
    };
    let headers = request.headers();
    if access != Access::Open && origin::is_another_page(headers) {
        return text(StatusCode::FORBIDDEN, "a page of another site asks for this\n");
    }
    let proven = terms.secrets.allow(headers.get(header::AUTHORIZATION));
    let allowed = match access {
        Access::Open => true,
        Access::Local => proven || peer.0.is_loopback() && origin::names_the_machine(headers),
        Access::Auth => proven,
        Access::Off => return nothing().await,
    };
    if !allowed {
        return terms.secrets.refusal(access);
    }
    let accepted = Accepted::of(headers);
    // A body means nothing here, and none is read.
    let answer = async { coding::coded(accepted, next.run(request).await).await };
    match tokio::time::timeout(state.timeout, answer).await {
        Ok(mut response) => {
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
        Err(_elapsed) => text(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long\n"),
    }
}

/// The server lives.
async fn healthz() -> Response {
    text(StatusCode::OK, "ok\n")
}

/// Every process that was there at the start has been looked at.
async fn readyz(State(state): State<Shared>) -> Response {
    match state.snapshots.borrow().as_ref() {
        Some(_) => text(StatusCode::OK, "ready\n"),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "not all processes have been looked at yet\n"),
    }
}

/// What Prometheus reads, in the form that it asks for.
async fn metrics(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let Some(snapshot) = state.snapshots.borrow().clone() else { return not_ready() };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = negotiate(accept);
    let families = families(&snapshot.report.processes, &snapshot.metrics(), &Limits::default());
    let headers = [(header::CONTENT_TYPE, form.content_type()), (header::VARY, "accept")];
    (headers, encode(&families, form)).into_response()
}

async fn processes(State(state): State<Shared>) -> Response {
    let Some(snapshot) = state.snapshots.borrow().clone() else { return not_ready() };
    json(export::agent_to_json(&snapshot.report, &snapshot.about()))
}

/// What may be asked of the report and of the holds.
#[derive(Debug, Default)]
struct Which {
    pid: Option<u32>,
}

async fn report(State(state): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let which = match which(&query) {
        Ok(which) => which,
        Err(what) => return text(StatusCode::BAD_REQUEST, &what),
    };
    let Some(snapshot) = state.snapshots.borrow().clone() else { return not_ready() };
    let Some(pid) = which.pid else { return json(export::to_json(&snapshot.report)) };
    let Some(process) = snapshot.report.processes.iter().find(|process| process.pid == pid) else {
        let what = format!("pid {pid} is not watched; /api/v1/processes lists those that are\n");
        return text(StatusCode::NOT_FOUND, &what);
    };
    json(export::to_json(&snapshot.report.only(process)))
}

async fn alerts(State(state): State<Shared>) -> Response {
    let Some(snapshot) = state.snapshots.borrow().clone() else { return not_ready() };
    json(export::alerts_to_json(&snapshot.report))
}

/// Whether a breaker holds: 503 while one does. What was not looked at yet is held by nobody.
async fn hold(State(state): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let which = match which(&query) {
        Ok(which) => which,
        Err(what) => return text(StatusCode::BAD_REQUEST, &what),
    };
    let HoldAnswer { held, body } = state.holds.answer(which.pid);
    let status = if held { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, json(body)).into_response()
}

fn which(query: &[(String, String)]) -> Result<Which, String> {
    let mut which = Which::default();
    for (name, value) in query {
        match (name.as_str(), value.parse()) {
            ("pid", Ok(pid)) => which.pid = Some(pid),
            ("pid", Err(_)) => return Err("pid is a number\n".to_owned()),
            _ => return Err("the only parameter is pid\n".to_owned()),
        }
    }
    Ok(which)
}

async fn nothing() -> Response {
    text(StatusCode::NOT_FOUND, "there is nothing here\n")
}

async fn wrong_method() -> Response {
    text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are all there is, and POST for /api/v1/dump\n")
}

fn not_ready() -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, "nothing has been looked at yet\n")
}

fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn text(status: StatusCode, body: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.to_owned()).into_response()
}
