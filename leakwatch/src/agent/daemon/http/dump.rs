//! `POST /api/v1/dump`: every task of a watched process with its stack, once, without stopping it.
//!
//! The only request that reaches a process. It takes a token or password wherever it comes from, and there is one dump at a
//! time: it runs on a thread of its own, so that nobody else's request waits for it, and what it makes is sent as it is made,
//! never a text of a million stacks in memory. It must never take a dump of a process that the agent does not watch.

use std::{
    convert::Infallible,
    io::{self, Write},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Shared, not_ready, nothing, text};
use crate::{alert::Dumper, export, observe::ProcessId, report::dump::Dump, text as tables};

/// Bytes of one piece of an answer.
const PIECE: usize = 64 << 10;

/// Pieces that wait for the reader; then the writer does.
const PIECES: usize = 4;

/// Who takes dumps, and the place for one.
#[derive(Clone)]
pub(super) struct Dumps {
    dumper: Option<Dumper>,
    place: Arc<Semaphore>,
}

impl std::fmt::Debug for Dumps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dumps").field("some", &self.dumper.is_some()).finish_non_exhaustive()
    }
}

/// Nobody, yet.
impl Default for Dumps {
    fn default() -> Self {
        Self { dumper: None, place: Arc::new(Semaphore::new(1)) }
    }
}

impl Dumps {
    pub(super) fn by(dumper: Dumper) -> Self {
        Self { dumper: Some(dumper), place: Arc::new(Semaphore::new(1)) }
    }
}

/// What is asked for.
#[derive(Debug)]
struct Wanted {
    pid: u32,
    form: Form,
}

/// Forms of a dump, as `leakwatch dump --format` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Text,
    Pprof,
    Folded,
    Json,
    Summary,
}

impl Form {
    const ALL: [(&str, Self); 5] = [
        ("text", Self::Text),
        ("pprof", Self::Pprof),
        ("folded", Self::Folded),
        ("json", Self::Json),
        ("summary", Self::Summary),
    ];

    const fn content_type(self) -> &'static str {
        match self {
            Self::Text | Self::Folded | Self::Summary => "text/plain; charset=utf-8",
            Self::Pprof => "application/octet-stream",
            Self::Json => "application/json",
        }
    }

    fn write(self, dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Text => tables::write_dump(dump, out),
            Self::Folded => tables::write_folded(dump, out),
            Self::Summary => tables::write_digest(dump, out),
            Self::Pprof => export::write_profile(dump, out),
            Self::Json => export::write_dump_json(dump, out),
        }
    }
}

pub(super) async fn dump(
    State(state): State<Shared>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let Some(dumper) = state.dumps.dumper.clone().filter(|_| state.terms().dumps) else {
        return nothing().await;
    };
    let Wanted { pid, form } = match wanted(&query) {
        Ok(wanted) => wanted,
        Err(what) => return text(StatusCode::BAD_REQUEST, &what),
    };
    let Some(snapshot) = state.snapshots.borrow().clone() else { return not_ready() };
    let Some(watched) = snapshot.figures.watched.iter().find(|watched| watched.process.pid == pid) else {
        return not_watched(pid);
    };
    let meant = watched.process;
    let Ok(place) = Arc::clone(&state.dumps.place).try_acquire_owned() else {
        return text(StatusCode::TOO_MANY_REQUESTS, "a dump is being taken; one at a time\n");
    };
    let (taken, is_taken) = oneshot::channel();
    let (pieces, received) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        match dumper(pid).map(|dump| (is_of(&dump, meant), dump)) {
            Err(error) => drop(taken.send(Err((StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))))),
            Ok((false, _)) => {
                let what = format!("the process that had pid {pid} has ended\n");
                drop(taken.send(Err((StatusCode::NOT_FOUND, what))));
            }
            Ok((true, dump)) => {
                if taken.send(Ok(())).is_ok() {
                    let mut out = Pieces { full: Vec::with_capacity(PIECE), pieces };
                    // An error: nobody reads any more.
                    drop(form.write(&dump, &mut out).and_then(|()| out.flush()));
                    // Kept to here, also when nobody waits for it any more. The answer ends with `out`: whoever has all of it may ask
                    // for the next one.
                    drop((dump, place));
                }
            }
        }
    });
    match is_taken.await {
        // What may be told can have changed while it was taken.
        Ok(Ok(())) if !state.terms().dumps => return nothing().await,
        Ok(Ok(())) => {}
        Ok(Err((status, what))) => return text(status, &what),
        Err(_gone) => return text(StatusCode::INTERNAL_SERVER_ERROR, "the dump failed\n"),
    }
    tracing::info!(pid, form = ?form, "a dump was taken for somebody who asked");
    let pieces = stream::unfold(received, async |mut received| {
        let piece: Bytes = received.recv().await?;
        Some((Ok::<_, Infallible>(piece), received))
    });
    ([(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()))], Body::from_stream(pieces))
        .into_response()
}

/// The dump is of the process that was meant, and not of its pid's next user; the wall clock may have been set since it was found.
fn is_of(dump: &Dump, meant: ProcessId) -> bool {
    dump.process.start_ticks == Some(meant.start_ticks)
}

fn not_watched(pid: u32) -> Response {
    text(
        StatusCode::NOT_FOUND,
        &format!("pid {pid} is not watched; /api/v1/processes lists those that are\n"),
    )
}

fn wanted(query: &[(String, String)]) -> Result<Wanted, String> {
    let (mut pid, mut form) = (None, Form::default());
    for (name, value) in query {
        match name.as_str() {
            "pid" => pid = Some(value.parse().map_err(|_error| "pid is a number\n")?),
            "format" => {
                let found = Form::ALL.into_iter().find(|(word, _)| word == value);
                form = found.ok_or("format is text, pprof, folded, json or summary\n")?.1;
            }
            _ => return Err("the parameters are pid and format\n".to_owned()),
        }
    }
    Ok(Wanted { pid: pid.ok_or("pid says which process\n")?, form })
}

/// Sends what is written to it, a piece at a time.
struct Pieces {
    full: Vec<u8>,
    pieces: mpsc::Sender<Bytes>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.full.extend_from_slice(bytes);
        if self.full.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.full.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.full, Vec::with_capacity(PIECE)).into();
        self.pieces.blocking_send(piece).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Result<(u32, Form), String> {
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        wanted(&query).map(|wanted| (wanted.pid, wanted.form))
    }

    #[test]
    fn what_may_be_asked_for() {
        assert_eq!(asked(&[("pid", "7")]), Ok((7, Form::Text)));
        assert_eq!(asked(&[("format", "pprof"), ("pid", "7")]), Ok((7, Form::Pprof)));
        for wrong in
            [&[][..], &[("pid", "-1")], &[("pid", "7"), ("format", "xml")], &[("pid", "7"), ("system", "1")]]
        {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_reader_that_goes_ends_the_writing() {
        let (pieces, received) = mpsc::channel(PIECES);
        let mut out = Pieces { full: Vec::new(), pieces };
        out.write_all(b"a few").expect("kept");
        drop(received);
        assert!(out.write_all(&vec![0; PIECE]).is_err(), "nobody is there");
    }
}
