//! The breaker: while a rule holds there is a file, and an HTTP answer is 503. Whoever routes requests, or the program's own
//! health check, can look at either.
//!
//! It is let go when the alerts resolve, and when leakwatch ends: nobody is held by what nobody watches.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::sync::{Notify, watch};

use super::{AlertError, tally::Tally};
use crate::export::{HOLD_SCHEMA, hold_to_json};
use crate::folder::{self, Folder};
use crate::report::alerting::{AlertReport, AlertState};

/// Alerts that one hold remembers; what is held does not depend on how many there are.
const MOST: usize = 1_000;

/// All holds and what holds them.
#[derive(Debug, Default)]
pub struct Holds(Mutex<Vec<Arc<Held>>>);

/// One hold.
#[derive(Debug)]
pub(super) struct Held {
    by: Mutex<BTreeMap<u64, Arc<AlertReport>>>,
    file: Option<HoldFile>,
    changed: Notify,
    tally: Arc<Tally>,
}

/// The answer to whoever asks whether to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldAnswer {
    /// Something holds: to be told as 503.
    pub held: bool,
    /// What, as JSON.
    pub body: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Holds {
    pub(super) fn add(&self, file: Option<HoldFile>, tally: Arc<Tally>) -> Arc<Held> {
        let held = Arc::new(Held { by: Mutex::default(), file, changed: Notify::new(), tally });
        lock(&self.0).push(Arc::clone(&held));
        held
    }

    /// Nobody is held by it any more; its file is for [`keep_file`] to take away.
    pub(super) fn remove(&self, gone: &Arc<Held>) {
        lock(&self.0).retain(|held| !Arc::ptr_eq(held, gone));
        gone.set(&[]);
    }

    /// The answer of all holds, or of one process's part in them.
    pub fn answer(&self, pid: Option<u32>) -> HoldAnswer {
        let holds = lock(&self.0).clone();
        answer(&holds, pid)
    }

    /// Lets everything go.
    pub(super) fn release(&self) {
        for held in lock(&self.0).iter() {
            lock(&held.by).clear();
            if let Some(file) = &held.file
                && let Err(error) = file.remove()
            {
                tracing::warn!("the hold file {} is still there: {error}", file.0.display());
            }
        }
    }
}

impl Held {
    /// Takes in that an alert fires or is over.
    pub(super) fn put(&self, alert: Arc<AlertReport>) {
        self.change(|by, tally| {
            if alert.state != AlertState::Firing {
                by.remove(&alert.id);
            } else if by.len() < MOST {
                by.insert(alert.id, alert);
            } else {
                tally.dropped();
            }
        });
    }

    /// These fire, and nothing else that it holds for.
    pub(super) fn set(&self, firing: &[Arc<AlertReport>]) {
        self.change(|by, _| *by = firing.iter().take(MOST).map(|alert| (alert.id, alert.clone())).collect());
    }

    pub(super) fn holds(&self) -> bool {
        !lock(&self.by).is_empty()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<u64, Arc<AlertReport>>, &Tally)) {
        let mut by = lock(&self.by);
        let was = by.is_empty();
        change(&mut by, &self.tally);
        if was != by.is_empty() {
            drop(by);
            if self.file.is_none() {
                self.tally.done();
            }
            self.changed.notify_one();
        }
    }
}

fn answer(holds: &[Arc<Held>], pid: Option<u32>) -> HoldAnswer {
    let mut by: BTreeMap<u64, Arc<AlertReport>> = BTreeMap::new();
    for held in holds {
        let alerts = lock(&held.by);
        let asked = alerts.iter().filter(|(_, alert)| pid.is_none_or(|pid| alert.pid == pid));
        by.extend(asked.map(|(id, alert)| (*id, alert.clone())));
    }
    let alerts: Vec<&AlertReport> = by.values().map(|alert| &**alert).collect();
    HoldAnswer { held: !alerts.is_empty(), body: hold_to_json(&alerts) }
}

/// The file that is there while something holds.
#[derive(Debug)]
pub(super) struct HoldFile(PathBuf);

impl HoldFile {
    /// Looks whether the name can be used, and removes a file that an earlier leakwatch left there.
    ///
    /// # Errors
    /// When its folder is not there, or the name is taken by what is not ours.
    pub(super) fn open(path: &Path) -> Result<Self, AlertError> {
        let failed = |what: String| AlertError::HoldFile { path: path.to_owned(), what };
        let file = Self(path.to_owned());
        file.remove().map_err(|error| failed(error.to_string()))?;
        Ok(file)
    }

    /// Its folder, as it is now, and its name there.
    fn place(&self) -> io::Result<(Folder, &str)> {
        let (folder, name) = folder::split(&self.0)?;
        Ok((Folder::of_anybody(folder)?, name))
    }

    /// It is not writable by others and begins as ours do.
    fn is_ours(folder: &Folder, name: &str) -> io::Result<bool> {
        let open = folder.read(name)?;
        let mut begin = Vec::new();
        open.take(256).read_to_end(&mut begin)?;
        let marker = format!("{{\n  \"schema\": \"{HOLD_SCHEMA}\"");
        Ok(begin.starts_with(marker.as_bytes()))
    }

    /// Puts it there, whole, for everybody to read.
    fn write(&self, body: &str) -> io::Result<()> {
        let (folder, name) = self.place()?;
        folder.replace(name, body.as_bytes(), 0o644)
    }

    /// Takes it away, if it is there and ours.
    fn remove(&self) -> io::Result<()> {
        let (folder, name) = self.place()?;
        match Self::is_ours(&folder, name) {
            Ok(true) => folder.remove(name),
            Ok(false) => Err(io::Error::other("there is a file that leakwatch did not make")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Keeps the file of a hold as it should be, until it is over; then it is not there.
pub(super) async fn keep_file(held: Arc<Held>, mut stopped: watch::Receiver<bool>) {
    let mut there = false;
    loop {
        let over = tokio::select! {
            biased;
            () = held.changed.notified() => false,
            _ = stopped.wait_for(|stop| *stop) => true,
        };
        let found = answer(std::slice::from_ref(&held), None);
        let wanted = found.held && !over;
        if wanted != there {
            let of = held.clone();
            // A file system that hangs holds up a thread of its own.
            let written = tokio::task::spawn_blocking(move || match &of.file {
                Some(file) if wanted => file.write(&found.body),
                Some(file) => file.remove(),
                None => Ok(()),
            });
            match written.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                Ok(()) => {
                    there = wanted;
                    held.tally.done();
                }
                Err(error) => held.tally.failed(&error.to_string()),
            }
        }
        if over {
            return;
        }
    }
}

/// Takes the address, before anything is watched: an address that is taken is an error of whoever wrote it.
///
/// # Errors
/// When it cannot be had.
pub(super) fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), AlertError> {
    let failed = |source: io::Error| AlertError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Answers on a listener until leakwatch ends.
pub(super) async fn serve(listener: TcpListener, held: Arc<Held>, mut stopped: watch::Receiver<bool>) {
    let routes =
        Router::new().route("/", get(tell)).route("/api/v1/hold", get(tell)).with_state(held.clone());
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return held.tally.failed(&error.to_string()),
    };
    // Connections that are open when leakwatch ends are not waited for.
    tokio::select! {
        served = axum::serve(listener, routes) => if let Err(error) = served {
            held.tally.failed(&error.to_string());
        },
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

async fn tell(State(held): State<Arc<Held>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let pid = match asked(query.as_deref().unwrap_or_default()) {
        Ok(pid) => pid,
        Err(what) => return (StatusCode::BAD_REQUEST, kind, format!("{{\"error\": \"{what}\"}}\n")),
    };
    let found = answer(std::slice::from_ref(&held), pid);
    (if found.held { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, kind, found.body)
}

/// The process of a query such as `pid=4242`.
fn asked(query: &str) -> Result<Option<u32>, &'static str> {
    let mut pid = None;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let Some(text) = part.strip_prefix("pid=") else { return Err("the only parameter is pid") };
        pid = Some(text.parse().map_err(|_no_number| "pid is a number")?);
    }
    Ok(pid)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn alert(id: u64, pid: u32, state: AlertState) -> Arc<AlertReport> {
        Arc::new(AlertReport { id, pid, state, rule: "leak".to_owned(), ..AlertReport::default() })
    }

    #[test]
    fn held_while_one_of_them_fires() {
        let holds = Holds::default();
        let held = holds.add(None, Arc::default());
        assert!(!holds.answer(None).held);
        held.put(alert(1, 7, AlertState::Firing));
        held.put(alert(2, 8, AlertState::Firing));
        assert!(holds.answer(None).held && holds.answer(Some(7)).held && !holds.answer(Some(9)).held);
        held.put(alert(1, 7, AlertState::Resolved));
        assert!(held.holds() && !holds.answer(Some(7)).held);
        held.put(alert(2, 8, AlertState::Resolved));
        assert!(!held.holds());
        held.set(&[alert(3, 9, AlertState::Firing)]);
        assert!(holds.answer(Some(9)).held);
        holds.remove(&held);
        assert!(!holds.answer(None).held && !held.holds());
    }

    #[test]
    fn the_file_is_ours_or_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("hold");
        let file = HoldFile::open(&path).expect("nothing is there");
        file.write(&hold_to_json(&[&AlertReport::default()])).expect("written");
        let (folder, name) = file.place().expect("it is there");
        assert!(HoldFile::is_ours(&folder, name).expect("there"));
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o644);
        HoldFile::open(&path).expect("what was left behind is taken away");
        assert!(!path.exists());
        fs::write(&path, "somebody's").expect("written");
        assert!(HoldFile::open(&path).is_err() && file.remove().is_err());
        assert_eq!(fs::read_to_string(&path).expect("still there"), "somebody's");
        // Through a link nothing is written and nothing removed.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(HoldFile::open(&link).is_err());
        HoldFile(link.clone()).write("x").expect("the link itself is replaced");
        assert_eq!(fs::read_to_string(&path).expect("still there"), "somebody's");
        assert!(HoldFile::open(&dir.path().join("no/such")).is_err());
    }

    #[test]
    fn questions() {
        assert_eq!(asked(""), Ok(None));
        assert_eq!(asked("pid=42"), Ok(Some(42)));
        assert!(asked("pid=x").is_err() && asked("p=1").is_err());
    }
}
