//! As much of HTTP/1.1 and of the NATS protocol as it takes to keep a server busy and to ask it for its goroutines.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// No answer takes so long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("its number").port()
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether somebody listens.
pub(crate) fn listens(port: u16) -> bool {
    connect(port).is_ok()
}

/// A connection to an HTTP server that stays open until it is dropped.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    port: u16,
}

impl Http {
    /// Connects.
    #[track_caller]
    pub(crate) fn connect(port: u16) -> Self {
        Self { stream: BufReader::new(connect(port).expect("a connection")), port }
    }

    /// Asks for a page and reads all of it: the status and the body.
    pub(crate) fn get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let status = status.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let (mut length, mut chunked) = (0, false);
        loop {
            let header = self.line()?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            chunked |= header == "transfer-encoding: chunked";
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let size = u64::from_str_radix(&self.line()?, 16).unwrap_or(0);
                self.stream.by_ref().take(size).read_to_end(&mut body)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.stream.by_ref().take(length).read_to_end(&mut body)?;
        }
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Connections at a time, connections in a row, requests over each.
const CLIENTS: usize = 4;
const CONNECTIONS: usize = 50;
const REQUESTS: usize = 10;

/// Keeps an HTTP server busy for a while.
#[track_caller]
pub(crate) fn load_http(port: u16, paths: &[&str]) {
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..CONNECTIONS {
                    let mut http = Http::connect(port);
                    for path in paths.iter().cycle().take(REQUESTS) {
                        let (status, _) = http.get(path).expect("an answer");
                        assert!((200..500).contains(&status), "{path}: {status}");
                    }
                }
            });
        }
    });
}

/// Keeps a NATS server busy for a while: clients that subscribe, publish, and leave.
#[track_caller]
pub(crate) fn load_nats(port: u16) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for connection in 0..CONNECTIONS {
                    let mut stream = BufReader::new(connect(port).expect("a connection"));
                    let subject = format!("test.{client}.{connection}");
                    await_line(&mut stream, "INFO ");
                    let mut send = stream.get_ref().try_clone().expect("another handle");
                    let begin = format!("CONNECT {{\"verbose\":false}}\r\nSUB {subject} 1\r\nPING\r\n");
                    send.write_all(begin.as_bytes()).expect("it is sent");
                    await_line(&mut stream, "PONG");
                    for _ in 0..REQUESTS {
                        send.write_all(format!("PUB {subject} 2\r\nhi\r\n").as_bytes()).expect("it is sent");
                        await_line(&mut stream, "MSG ");
                    }
                }
            });
        }
    });
}

/// Reads lines until one begins like this.
fn await_line(stream: &mut BufReader<TcpStream>, begin: &str) {
    let mut line = String::new();
    while !line.starts_with(begin) {
        line.clear();
        let read = stream.read_line(&mut line).expect("a line");
        assert!(read > 0 && !line.starts_with("-ERR"), "{begin}: {line}");
    }
}
