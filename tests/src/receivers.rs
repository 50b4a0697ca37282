//! Whoever takes what leakwatch sends, on loopback: a receiver of the OpenTelemetry protocol by gRPC, built from the official
//! protobufs, and a server that takes whatever is posted to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_server::{LogsService, LogsServiceServer},
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_server::{MetricsService, MetricsServiceServer},
};
use tonic::transport::server::{Server, TcpIncoming};
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// What came, in its order.
#[derive(Debug)]
struct Kept<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Kept<T> {
    fn push(&self, one: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    fn all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A receiver of the OpenTelemetry protocol by gRPC that wants a token.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    service: Service,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone, Debug, Default)]
struct Service {
    token: String,
    metrics: Kept<ExportMetricsServiceRequest>,
    logs: Kept<ExportLogsServiceRequest>,
    refused: Kept<()>,
}

impl Service {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if given == Some(&*format!("Bearer {}", self.token)) {
            return Ok(());
        }
        self.refused.push(());
        Err(Status::unauthenticated("another token"))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.admit(&request)?;
        self.metrics.push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.admit(&request)?;
        self.logs.push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl Collector {
    /// Starts one that lets in who has this token.
    #[track_caller]
    pub fn start(token: &str) -> Self {
        Self::serve(token, Server::builder())
    }

    /// The same over TLS, with this certificate and key (PEM), whatever they are worth.
    #[track_caller]
    pub fn start_over_tls(token: &str, certificate: &str, key: &str) -> Self {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        Self::serve(token, Server::builder().tls_config(tls).expect("a certificate and its key"))
    }

    #[track_caller]
    fn serve(token: &str, mut server: Server) -> Self {
        let service = Service { token: token.to_owned(), ..Service::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port")
        };
        let address = incoming.local_addr().expect("its address");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = server
            .add_service(MetricsServiceServer::new(service.clone()))
            .add_service(LogsServiceServer::new(service.clone()));
        let thread = std::thread::spawn(move || {
            let ended = runtime.block_on(server.serve_with_incoming_shutdown(incoming, async {
                // Whoever holds the other end has gone: the same as to be told.
                drop(stopped.await);
            }));
            ended.expect("it served to its end");
        });
        Self { address, service, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All metrics that came.
    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.service.metrics.all()
    }

    /// All logs that came.
    pub fn logs(&self) -> Vec<ExportLogsServiceRequest> {
        self.service.logs.all()
    }

    /// How many it refused.
    pub fn refused(&self) -> usize {
        self.service.refused.all().len()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What was posted to a [`Sink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// By which connection: the port of who posts.
    pub from: u16,
    /// The path.
    pub path: String,
    /// The headers, as they came.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

/// An HTTP server that says yes to whatever is posted, and keeps it.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    posted: Kept<Posted>,
}

impl Sink {
    /// Starts it; it answers until the test ends.
    #[track_caller]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let posted = Kept::default();
        let kept = posted.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                // A connection that breaks is the sender's to repeat.
                std::thread::spawn(move || drop(take(stream, &kept)));
            }
        });
        Self { address, posted }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was posted to this path.
    pub fn posted(&self, path: &str) -> Vec<Posted> {
        self.posted.all().into_iter().filter(|one| one.path == path).collect()
    }
}

/// One connection's requests.
fn take(stream: TcpStream, kept: &Kept<Posted>) -> std::io::Result<()> {
    let from = stream.peer_addr()?.port();
    let mut stream = BufReader::new(stream);
    loop {
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            if stream.read_line(&mut headers)? == 0 {
                return Ok(());
            }
        }
        let path = headers.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = headers.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        kept.push(Posted { from, path, headers, body });
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// A way to a server on loopback that keeps what goes over it.
#[derive(Debug)]
pub struct Wiretap {
    address: SocketAddr,
    asked: Heard,
    answered: Heard,
}

/// Bytes of one direction, of all connections one after the other.
type Heard = Arc<Mutex<Vec<u8>>>;

impl Wiretap {
    /// Leads to this server until the test ends.
    #[track_caller]
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let (asked, answered) = (Heard::default(), Heard::default());
        let tap = Self { address, asked: Arc::clone(&asked), answered: Arc::clone(&answered) };
        let server = server.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is away is so for the client, too.
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (Ok(to_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
                pass_on(client, to_server, Arc::clone(&asked));
                pass_on(server, to_client, Arc::clone(&answered));
            }
        });
        tap
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients said.
    pub fn asked(&self) -> Vec<u8> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the server said.
    pub fn answered(&self) -> Vec<u8> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One direction of a connection, until either side ends it.
fn pass_on(mut from: TcpStream, mut to: TcpStream, heard: Heard) {
    std::thread::spawn(move || {
        let mut piece = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..read]);
            if to.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        // It may be closed already.
        drop(to.shutdown(std::net::Shutdown::Both));
    });
}
