//! A web server of the test's own, for programs that fetch: it holds its answers back until it is told to let go.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// What a path is answered with: status, type, body.
type Answer = (u16, &'static str, String);

/// The server; it goes on until the test ends.
pub(crate) struct Pages {
    port: u16,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    asked: AtomicU64,
}

impl Pages {
    /// Listens; every request is held back until `let_go`.
    #[track_caller]
    pub(crate) fn start(answer: fn(&str) -> Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let gate = Arc::<Gate>::default();
        let shared = Arc::clone(&gate);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let gate = Arc::clone(&shared);
                // A client that goes away ends its thread.
                std::thread::spawn(move || serve(stream, &gate, answer));
            }
        });
        Self { port, gate }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many requests there were.
    pub(crate) fn asked(&self) -> u64 {
        self.gate.asked.load(Ordering::SeqCst)
    }

    /// From now on every request is answered.
    pub(crate) fn let_go(&self) {
        *self.gate.open.lock().expect("nobody panics with it") = true;
        self.gate.opened.notify_all();
    }
}

fn serve(stream: TcpStream, gate: &Gate, answer: fn(&str) -> Answer) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).ok()? == 0 {
            return None;
        }
        let mut header = request.clone();
        while !header.trim_end().is_empty() {
            header.clear();
            stream.read_line(&mut header).ok()?;
        }
        gate.asked.fetch_add(1, Ordering::SeqCst);
        let mut open = gate.open.lock().ok()?;
        while !*open {
            open = gate.opened.wait(open).ok()?;
        }
        drop(open);
        let mut words = request.split_whitespace();
        let (method, path) = (words.next()?, words.next()?);
        let (status, kind, body) = answer(path);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        let text = if method == "HEAD" { head } else { head + &body };
        stream.get_mut().write_all(text.as_bytes()).ok()?;
    }
}
