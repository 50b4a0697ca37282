//! Takes what began to fire and what is over, and hands it to the workers of the actions. It never waits.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, mpsc as threads},
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{runtime, sync::mpsc, sync::watch, task::JoinSet};

use super::{
    Action, AlertError, Kind,
    folder::Folder,
    hold::{Held, HoldFile, Holds, keep_file, serve},
    tally::{Allowance, Tally},
    webhook::{Outbox, deliver},
    worker::{Job, Work, Worker},
};
use crate::report::alerting::{ActionReport, AlertReport, AlertState};
use crate::report::{Report, dump::Dump};
use crate::rules::{Moment, Rule};

/// Takes a dump of a process, when a rule asks for one.
pub type Dumper = Arc<dyn Fn(u32) -> Result<Dump, String> + Send + Sync>;

/// What waits for a worker at most.
const QUEUE: usize = 256;

/// What the floor cannot do by itself.
#[derive(Clone)]
pub struct Means {
    /// Takes dumps.
    pub dumper: Dumper,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// Name of this machine.
    pub host: String,
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The actions at work.
#[derive(Debug)]
pub struct Dispatcher {
    stations: Vec<Station>,
    /// By which those are told of the end that finish what they have, and get no more.
    leaving: Vec<watch::Sender<bool>>,
    /// By the rule's name, the stations that it goes to.
    routes: BTreeMap<String, Vec<usize>>,
    holds: Arc<Holds>,
    means: Means,
    /// Where work begins; `None`: it is over.
    begin: Option<mpsc::UnboundedSender<Begin>>,
    thread: Option<(JoinHandle<()>, threads::Receiver<()>)>,
}

/// An action and how to reach its worker.
#[derive(Debug)]
struct Station {
    action: Action,
    tally: Arc<Tally>,
    allowance: Allowance,
    to: To,
    /// Where it listens.
    listening: Option<SocketAddr>,
    /// No more attempts.
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
enum To {
    /// One job after the other.
    Queue(mpsc::Sender<Job>),
    /// What fires now is sent, whatever came before.
    Outbox(Arc<Outbox>),
    /// Something holds, or nothing does.
    Hold(Arc<Held>),
}

/// Other actions, opened and not at work yet.
pub struct Replacement {
    next: Vec<Next>,
    begin: Vec<Begin>,
    holds: Arc<Holds>,
}

enum Next {
    /// The station that was at this place goes on, for this action.
    Kept(usize, Action),
    New(Station),
}

impl std::fmt::Debug for Replacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replacement").field("actions", &self.next.len()).finish_non_exhaustive()
    }
}

/// What is opened and then not wanted holds nobody.
impl Drop for Replacement {
    fn drop(&mut self) {
        for next in &self.next {
            if let Next::New(Station { to: To::Hold(held), .. }) = next {
                self.holds.remove(held);
            }
        }
    }
}

impl Dispatcher {
    /// Begins the work of these actions for these rules.
    ///
    /// # Errors
    /// When an address cannot be listened on, a file or folder cannot be used, or no thread can be started.
    pub fn start(rules: &[Rule], actions: Vec<Action>, means: &Means) -> Result<Self, AlertError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| AlertError::Thread { source })?;
        let (begin, mut begins) = mpsc::unbounded_channel::<Begin>();
        let (ended, end) = threads::channel();
        let thread = thread::Builder::new().name("leakwatch-alert".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut set = JoinSet::new();
                loop {
                    tokio::select! {
                        begin = begins.recv() => match begin {
                            Some(begin) => begin(&mut set),
                            None => break,
                        },
                        Some(_) = set.join_next() => {}
                    }
                }
                while set.join_next().await.is_some() {}
            });
            // A dump that hangs is not waited for.
            runtime.shutdown_background();
            if ended.send(()).is_err() {
                tracing::debug!("nobody waits for the actions any more");
            }
        });
        let thread = thread.map_err(|source| AlertError::Thread { source })?;
        let mut dispatcher = Self {
            stations: Vec::new(),
            leaving: Vec::new(),
            routes: BTreeMap::new(),
            holds: Arc::default(),
            means: means.clone(),
            begin: Some(begin),
            thread: Some((thread, end)),
        };
        let replacement = dispatcher.prepare(actions)?;
        dispatcher.replace(replacement, rules, &[]);
        Ok(dispatcher)
    }

    /// Opens what these actions need and the ones at work have not. Nothing changes until [`Self::replace`].
    ///
    /// # Errors
    /// As of [`Self::start`]; also where a hold is to have the file of another one, which has it until then.
    pub fn prepare(&self, actions: Vec<Action>) -> Result<Replacement, AlertError> {
        let mut free: Vec<Option<&Station>> = self.stations.iter().map(Some).collect();
        let mut kept = Vec::new();
        for action in &actions {
            let at = free.iter().position(|one| one.is_some_and(|station| station.goes_on_for(action)));
            kept.push(at);
            if let Some(place) = at.and_then(|at| free.get_mut(at)) {
                *place = None;
            }
        }
        let files = free.iter().flatten().filter_map(|station| station.action.kind.hold_file());
        let files: Vec<&Path> = files.collect();
        let mut replacement =
            Replacement { next: Vec::new(), begin: Vec::new(), holds: Arc::clone(&self.holds) };
        for (action, at) in actions.into_iter().zip(kept) {
            if let Some(at) = at {
                replacement.next.push(Next::Kept(at, action));
                continue;
            }
            if let Some(path) = action.kind.hold_file().filter(|file| files.contains(file)) {
                let what = "another hold has it until this one begins".to_owned();
                return Err(AlertError::HoldFile { path: path.to_owned(), what });
            }
            let (station, begin) = Station::open(action, &self.holds, &self.means)?;
            replacement.next.push(Next::New(station));
            replacement.begin.push(begin);
        }
        Ok(replacement)
    }

    /// Goes on with these, for these rules. Those that stay as they were go on with what they have; the others finish it, and get no
    /// more. Who tells what fires now begins with that: `firing`.
    pub fn replace(&mut self, mut replacement: Replacement, rules: &[Rule], firing: &[AlertReport]) {
        let mut old: Vec<Option<Station>> = self.stations.drain(..).map(Some).collect();
        let mut fresh = Vec::new();
        for next in replacement.next.drain(..) {
            let station = match next {
                Next::New(station) => {
                    fresh.push(self.stations.len());
                    station
                }
                Next::Kept(at, action) => match old.get_mut(at).and_then(Option::take) {
                    Some(station) => Station { action, ..station },
                    None => continue,
                },
            };
            self.stations.push(station);
        }
        if let Some(begin) = &self.begin {
            for work in replacement.begin.drain(..) {
                // An error: its thread has failed, which its end tells of.
                drop(begin.send(work));
            }
        }
        self.leaving.retain(|stop| !stop.is_closed());
        for station in old.into_iter().flatten() {
            self.leaving.push(station.leave(&self.holds));
        }
        self.route(rules);
        let firing: Vec<_> = firing.iter().map(|alert| Arc::new(alert.clone())).collect();
        for (number, station) in self.stations.iter().enumerate() {
            let goes = |alert: &&Arc<AlertReport>| {
                alert.level >= station.action.least
                    && self.routes.get(&alert.rule).is_some_and(|route| route.contains(&number))
            };
            let firing: Vec<_> = firing.iter().filter(goes).cloned().collect();
            match &station.to {
                // It goes on, perhaps for other levels.
                To::Hold(held) => held.set(&firing),
                To::Outbox(outbox) if fresh.contains(&number) => {
                    for alert in firing {
                        outbox.put(alert, &station.tally);
                    }
                }
                // What began before it is not news.
                To::Outbox(_) | To::Queue(_) => {}
            }
        }
    }

    /// Takes changes of these rules from now on, to the actions that they name.
    pub fn route(&mut self, rules: &[Rule]) {
        let of = |rule: &Rule| {
            let goes = |station: &Station| {
                rule.actions.as_ref().is_none_or(|names| names.contains(&station.action.name))
            };
            let to = self.stations.iter().enumerate().filter(|(_, station)| goes(station));
            (rule.name.clone(), to.map(|(at, _)| at).collect())
        };
        self.routes = rules.iter().map(of).collect();
    }

    /// What the holds say, for others that answer by HTTP.
    pub fn holds(&self) -> Arc<Holds> {
        self.holds.clone()
    }

    /// Names of the actions that listen, and where.
    pub fn listening(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.stations.iter().filter_map(|station| Some((station.action.name.as_str(), station.listening?)))
    }

    /// Takes the changes of a look, with its report. It does not wait: what there is no room for is counted.
    pub fn take(&mut self, at: Moment, changes: &[AlertReport], report: &Arc<Report>) {
        for change in changes {
            let Some(route) = self.routes.get(&change.rule) else { continue };
            let alert = Arc::new(change.clone());
            for &number in route {
                if let Some(station) = self.stations.get_mut(number) {
                    station.take(at, &alert, report);
                }
            }
        }
    }

    /// What the actions did so far.
    pub fn figures(&self) -> Vec<ActionReport> {
        self.stations
            .iter()
            .map(|station| {
                let counts = station.tally.counts();
                ActionReport {
                    name: station.action.name.clone(),
                    kind: station.action.kind.name(),
                    done: counts.done,
                    failed: counts.failed,
                    given_up: counts.given_up,
                    dropped: counts.dropped,
                    waiting: counts.waiting,
                    last_error: counts.last_error,
                    held: match &station.to {
                        To::Hold(held) => Some(held.holds()),
                        To::Queue(_) | To::Outbox(_) => None,
                    },
                }
            })
            .collect()
    }

    /// Lets the workers finish what waits, for this long at most; what the actions did in the end.
    pub fn finish(mut self, deadline: Duration) -> Vec<ActionReport> {
        self.end(deadline);
        self.figures()
    }

    fn end(&mut self, deadline: Duration) {
        self.begin = None;
        for stop in &self.leaving {
            stop.send_replace(true);
        }
        for station in &mut self.stations {
            station.stop.send_replace(true);
            if let To::Queue(sender) = &mut station.to {
                // A queue without senders ends its worker when it is empty.
                let (closed, _) = mpsc::channel(1);
                *sender = closed;
            }
        }
        if let Some((thread, end)) = self.thread.take()
            && end.recv_timeout(deadline).is_ok()
            && thread.join().is_err()
        {
            tracing::warn!("the thread of the actions ended with a panic; please report it");
        }
        self.holds.release();
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl Station {
    /// It may go on with its work for this action, which is the same, or a hold by the same ways.
    fn goes_on_for(&self, action: &Action) -> bool {
        self.action == *action || matches!(self.to, To::Hold(_)) && self.action.kind == action.kind
    }

    /// Gets no more. What it has, a queue finishes, and a webhook sends once more; a hold lets go.
    fn leave(self, holds: &Holds) -> watch::Sender<bool> {
        match self.to {
            To::Queue(_) => {}
            To::Outbox(_) => drop(self.stop.send_replace(true)),
            To::Hold(held) => {
                holds.remove(&held);
                self.stop.send_replace(true);
            }
        }
        self.stop
    }

    fn take(&mut self, at: Moment, alert: &Arc<AlertReport>, report: &Arc<Report>) {
        if alert.level < self.action.least {
            return;
        }
        match &self.to {
            To::Outbox(outbox) => outbox.put(alert.clone(), &self.tally),
            To::Hold(held) => held.put(alert.clone()),
            To::Queue(sender) => {
                if alert.state == AlertState::Resolved && !self.action.resolved {
                    return;
                }
                if !self.allowance.take(at.at_s) {
                    self.tally.dropped();
                    return;
                }
                self.tally.queued();
                if sender.try_send(Job { alert: alert.clone(), report: report.clone() }).is_err() {
                    self.tally.left();
                    self.tally.dropped();
                }
            }
        }
    }
}

type Begin = Box<dyn FnOnce(&mut JoinSet<()>) + Send>;

impl Station {
    /// Opens what the action needs; and what begins its work in the runtime.
    fn open(action: Action, holds: &Arc<Holds>, means: &Means) -> Result<(Self, Begin), AlertError> {
        let (stop, stopped) = watch::channel(false);
        let tally = Arc::new(Tally::default());
        let mut listening = None;
        let queue = |work: Work| -> (To, Begin) {
            let (sender, jobs) = mpsc::channel(QUEUE);
            let worker =
                Worker { action: action.clone(), tally: tally.clone(), work, stopped: stopped.clone() };
            (To::Queue(sender), Box::new(move |set| drop(set.spawn(worker.run(jobs)))))
        };
        let (to, begin): (To, Begin) = match &action.kind {
            Kind::Log => queue(Work::Log),
            Kind::Command(command) => queue(Work::Command(command.clone())),
            Kind::Dump(dump) => {
                let folder = Folder::open(dump)?;
                queue(Work::Dump(Arc::new(folder), means.dumper.clone(), means.clock))
            }
            Kind::Webhook(webhook) => {
                let outbox = Arc::new(Outbox::default());
                let delivery = deliver(
                    webhook.clone(),
                    action.clone(),
                    outbox.clone(),
                    tally.clone(),
                    means.clone(),
                    stopped,
                );
                (To::Outbox(outbox), Box::new(move |set| drop(set.spawn(delivery))))
            }
            Kind::Hold(hold) => {
                let file = hold.file.as_deref().map(HoldFile::open).transpose()?;
                let listener = hold.listen.map(super::hold::bind).transpose()?;
                listening = listener.as_ref().map(|(_, address)| *address);
                let held = holds.add(file, tally.clone());
                let of = held.clone();
                let begin: Begin = Box::new(move |set| {
                    drop(set.spawn(keep_file(of.clone(), stopped.clone())));
                    if let Some((listener, _)) = listener {
                        drop(set.spawn(serve(listener, of, stopped)));
                    }
                });
                (To::Hold(held), begin)
            }
        };
        let allowance = Allowance::new(action.per_minute);
        Ok((Self { action, tally, allowance, to, listening, stop }, begin))
    }
}
