//! Takes what began to fire and what is over, and hands it to the workers of the actions. It never waits.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, mpsc as threads},
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{runtime, sync::mpsc, sync::watch, task::JoinSet};

use super::{
    Action, AlertError, Kind,
    folder::Folder,
    hold::{HoldFile, Holds, keep_file, serve},
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

/// The actions at work.
#[derive(Debug)]
pub struct Dispatcher {
    stations: Vec<Station>,
    /// By the rule's name, the stations that it goes to.
    routes: BTreeMap<String, Vec<usize>>,
    holds: Arc<Holds>,
    listening: Vec<(String, SocketAddr)>,
    stop: watch::Sender<bool>,
    thread: Option<(JoinHandle<()>, threads::Receiver<()>)>,
}

/// An action and how to reach its worker.
#[derive(Debug)]
struct Station {
    action: Action,
    tally: Arc<Tally>,
    allowance: Allowance,
    to: To,
}

#[derive(Debug)]
enum To {
    /// One job after the other.
    Queue(mpsc::Sender<Job>),
    /// What fires now is sent, whatever came before.
    Outbox(Arc<Outbox>),
    /// The number of the hold.
    Hold(usize),
}

impl Dispatcher {
    /// Begins the work of these actions for these rules.
    ///
    /// # Errors
    /// When an address cannot be listened on, a file or folder cannot be used, or no thread can be started.
    pub fn start(rules: &[Rule], actions: Vec<Action>, means: &Means) -> Result<Self, AlertError> {
        let (stop, stopped) = watch::channel(false);
        let holds = Arc::new(Holds::default());
        let mut stations = Vec::new();
        let mut works: Vec<Begin> = Vec::new();
        let mut listening = Vec::new();
        for action in actions {
            let tally = Arc::new(Tally::default());
            let (to, work) = station(&action, &tally, &holds, &stopped, means, &mut listening)?;
            works.push(work);
            let allowance = Allowance::new(action.per_minute);
            stations.push(Station { action, tally, allowance, to });
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| AlertError::Thread { source })?;
        let (ended, end) = threads::channel();
        let thread = thread::Builder::new().name("leakwatch-alert".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut set = JoinSet::new();
                for work in works {
                    work(&mut set);
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
        let thread = Some((thread, end));
        let mut dispatcher = Self { stations, routes: BTreeMap::new(), holds, listening, stop, thread };
        dispatcher.route(rules);
        Ok(dispatcher)
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
    pub fn listening(&self) -> &[(String, SocketAddr)] {
        &self.listening
    }

    /// Takes the changes of a look, with its report. It does not wait: what there is no room for is counted.
    pub fn take(&mut self, at: Moment, changes: &[AlertReport], report: &Arc<Report>) {
        for change in changes {
            let Some(route) = self.routes.get(&change.rule) else { continue };
            let alert = Arc::new(change.clone());
            for &number in route {
                if let Some(station) = self.stations.get_mut(number) {
                    station.take(at, &alert, report, &self.holds);
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
                    held: match station.to {
                        To::Hold(number) => Some(self.holds.is_held(number)),
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
        self.stop.send_replace(true);
        for station in &mut self.stations {
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
    fn take(&mut self, at: Moment, alert: &Arc<AlertReport>, report: &Arc<Report>, holds: &Holds) {
        if alert.level < self.action.least {
            return;
        }
        match &self.to {
            To::Outbox(outbox) => outbox.put(alert.clone(), &self.tally),
            To::Hold(number) => holds.put(*number, alert.clone()),
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

/// How to reach an action's worker, and what begins that in the runtime.
fn station(
    action: &Action,
    tally: &Arc<Tally>,
    holds: &Arc<Holds>,
    stopped: &watch::Receiver<bool>,
    means: &Means,
    listening: &mut Vec<(String, SocketAddr)>,
) -> Result<(To, Begin), AlertError> {
    let queue = |work: Work| -> (To, Begin) {
        let (sender, jobs) = mpsc::channel(QUEUE);
        let worker = Worker { action: action.clone(), tally: tally.clone(), work, stopped: stopped.clone() };
        (To::Queue(sender), Box::new(move |set| drop(set.spawn(worker.run(jobs)))))
    };
    Ok(match &action.kind {
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
                stopped.clone(),
            );
            (To::Outbox(outbox), Box::new(move |set| drop(set.spawn(delivery))))
        }
        Kind::Hold(hold) => {
            let file = hold.file.as_deref().map(HoldFile::open).transpose()?;
            let listener = hold.listen.map(super::hold::bind).transpose()?;
            if let Some((_, address)) = &listener {
                listening.push((action.name.clone(), *address));
            }
            let number = holds.add(file, tally.clone());
            let (holds, stopped) = (holds.clone(), stopped.clone());
            let begin: Begin = Box::new(move |set| {
                drop(set.spawn(keep_file(number, holds.clone(), stopped.clone())));
                if let Some((listener, _)) = listener {
                    drop(set.spawn(serve(listener, number, holds, stopped)));
                }
            });
            (To::Hold(number), begin)
        }
    })
}
