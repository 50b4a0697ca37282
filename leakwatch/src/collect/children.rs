//! The child processes of a process: where they were forked, what they execute, which have ended and were not collected.
//!
//! How many were forked and have ended is counted in the kernel, exactly. Commands and sites come from events: when the
//! ring buffer lost some, they are less, and the loss is counted. Nothing here attaches to a child.

use std::collections::BTreeMap;

use leakwatch_common::{EventKind, RuntimeKind, name_of_words};
use rustc_hash::FxHashMap;

use super::sample::empty_site;
use crate::{
    host::threads,
    observe::{ChildrenSample, CommandSample, Event, SiteId, SiteSample, ZombieSample},
};

/// Children that are kept; the kernel's table has room for as many.
const MOST_CHILDREN: usize = leakwatch_common::limits::CHILDREN as usize;

/// Commands that are told apart; further ones are counted together.
const MOST_COMMANDS: usize = 1024;

/// The name of what is beyond [`MOST_COMMANDS`].
const OTHERS: &str = "(other commands)";

/// A child that has not ended.
#[derive(Debug)]
struct Child {
    /// Where it was forked, as the event said ([`leakwatch_common::thread_site`]).
    site: u64,
    /// Its command's place in the list.
    command: usize,
    at_attach: bool,
}

/// A child that ended and was not collected when we looked last.
#[derive(Debug)]
struct Zombie {
    command: usize,
    /// When it ended, `CLOCK_MONOTONIC` ns; `None`: before the attach.
    since_ns: Option<u64>,
}

/// Figures of one site and command.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    live_at_attach: u64,
    started: u64,
    ended: u64,
}

/// The children of one process.
#[derive(Debug, Default)]
pub struct Children {
    pid: u32,
    /// The parent's own name: what a child is called until it executes something.
    own: String,
    live: FxHashMap<u32, Child>,
    zombies: BTreeMap<u32, Zombie>,
    commands: Vec<String>,
    places: FxHashMap<String, usize>,
    /// By site number and command.
    figures: BTreeMap<(u64, usize), Figures>,
}

impl Children {
    /// Those that are there at attach.
    pub(super) fn of(pid: u32, comm: &str) -> Self {
        let mut children = Self { pid, own: comm.to_owned(), ..Self::default() };
        for child in threads::children(pid).into_iter().take(MOST_CHILDREN) {
            let Some(info) = threads::info(child, child) else { continue };
            let command = children.command(&info.name);
            if info.has_ended() {
                children.zombies.insert(child, Zombie { command, since_ns: None });
            } else {
                children.figures.entry((0, command)).or_default().live_at_attach += 1;
                children.live.insert(child, Child { site: 0, command, at_attach: true });
            }
        }
        children
    }

    /// Pids of those that have not ended, as far as is known.
    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.live.keys().copied().collect();
        pids.sort_unstable();
        pids
    }

    fn command(&mut self, name: &str) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let name = if self.commands.len() < MOST_COMMANDS { name } else { OTHERS };
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        self.commands.push(name.to_owned());
        self.places.insert(name.to_owned(), self.commands.len() - 1);
        self.commands.len() - 1
    }

    /// A child was forked, executed something, or ended.
    pub(super) fn event(&mut self, event: &Event) {
        let Ok(pid) = u32::try_from(event.task) else { return };
        match event.kind {
            EventKind::Fork => {
                let own = self.own.clone();
                let command = self.command(&own);
                self.figures.entry((event.site, command)).or_default().started += 1;
                // One that was there under this pid has ended without our hearing of it.
                self.zombies.remove(&pid);
                self.end(pid);
                if self.live.len() < MOST_CHILDREN {
                    self.live.insert(pid, Child { site: event.site, command, at_attach: false });
                }
            }
            EventKind::ChildExec => {
                let command = self.command(&name(event));
                let Some(child) = self.live.get_mut(&pid) else { return };
                let (before, after) = ((child.site, child.command), (child.site, command));
                let at_attach = child.at_attach;
                child.command = command;
                for (key, sign) in [(before, -1), (after, 1)] {
                    let figures = self.figures.entry(key).or_default();
                    let figure = if at_attach { &mut figures.live_at_attach } else { &mut figures.started };
                    *figure = figure.saturating_add_signed(sign);
                }
            }
            EventKind::ChildExit => {
                let command = self.live.get(&pid).map(|child| child.command);
                let command = command.unwrap_or_else(|| self.command(&name(event)));
                self.end(pid);
                if self.zombies.len() < MOST_CHILDREN {
                    self.zombies.insert(pid, Zombie { command, since_ns: Some(event.time_ns) });
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, pid: u32) {
        if let Some(child) = self.live.remove(&pid) {
            self.figures.entry((child.site, child.command)).or_default().ended += 1;
        }
    }

    /// Looks which children that ended were collected since, and, after events were lost or for children from before the
    /// attach, which are gone.
    pub(super) fn look(&mut self, lost: bool) {
        let parent = self.pid;
        self.zombies.retain(|&pid, _| threads::zombie_of(parent, pid).is_some());
        // The end of a child from before the attach is no event: the kernel side does not know it.
        let mut asked: Vec<u32> =
            self.live.iter().filter(|(_, child)| lost || child.at_attach).map(|(pid, _)| *pid).collect();
        asked.sort_unstable();
        for pid in asked {
            let state = threads::info(pid, pid);
            if state.as_ref().is_some_and(|info| !info.has_ended()) {
                continue;
            }
            if let (Some(info), Some(child)) = (state, self.live.get(&pid))
                && info.has_ended()
            {
                self.zombies.insert(pid, Zombie { command: child.command, since_ns: None });
            }
            self.end(pid);
        }
    }

    /// Figures by site and command; `site` tells what a number means.
    pub(super) fn sites(&self, site: impl Fn(u64) -> u64, into: &mut BTreeMap<SiteId, SiteSample>) {
        for (&(number, command), figures) in &self.figures {
            let entry = command as u64 + 1;
            let id = SiteId { runtime: RuntimeKind::Process, site: site(number), entry };
            let sample = into.entry(id).or_insert_with(|| empty_site(id));
            sample.live_at_attach += figures.live_at_attach;
            sample.started += figures.started;
            sample.ended += figures.ended;
        }
        into.retain(|id, sample| {
            id.runtime != RuntimeKind::Process || sample.live_at_attach + sample.started > 0
        });
    }

    /// The command of a site's id.
    pub fn command_of(&self, id: SiteId) -> Option<&str> {
        let place = usize::try_from(id.entry.checked_sub(1)?).ok()?;
        self.commands.get(place).map(String::as_str)
    }

    /// All of them by command, and the zombies among them.
    pub(super) fn sample(&self) -> ChildrenSample {
        let mut commands = vec![Figures::default(); self.commands.len()];
        for (&(_, command), figures) in &self.figures {
            if let Some(sum) = commands.get_mut(command) {
                sum.live_at_attach += figures.live_at_attach;
                sum.started += figures.started;
                sum.ended += figures.ended;
            }
        }
        let mut zombies: BTreeMap<usize, ZombieSample> = BTreeMap::new();
        for zombie in self.zombies.values() {
            let name = self.commands.get(zombie.command).cloned().unwrap_or_default();
            let sample = zombies.entry(zombie.command).or_insert_with(|| ZombieSample {
                command: name,
                count: 0,
                since_ns: zombie.since_ns,
            });
            sample.count += 1;
            // One from before the attach is the oldest, and nobody knows how old.
            sample.since_ns = match (sample.since_ns, zombie.since_ns) {
                (Some(a), Some(b)) => Some(a.min(b)),
                _ => None,
            };
        }
        let by_command = commands.iter().zip(&self.commands).map(|(figures, name)| CommandSample {
            command: name.clone(),
            live: (figures.live_at_attach + figures.started).saturating_sub(figures.ended),
            forked: figures.started,
            ended: figures.ended,
        });
        ChildrenSample {
            live: self.live.len() as u64,
            commands: by_command.filter(|command| command.live + command.forked > 0).collect(),
            zombies: zombies.into_values().collect(),
        }
    }
}

/// The command's name in an event of a child.
fn name(event: &Event) -> String {
    let bytes = name_of_words(event.site, event.entry);
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use leakwatch_common::words_of_name;

    use super::*;

    fn event(kind: EventKind, pid: u32, site: u64, name: &str) -> Event {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let (low, high) = words_of_name(bytes);
        let fork = kind == EventKind::Fork;
        Event {
            time_ns: 100,
            process: 1,
            kind,
            runtime: None,
            task: u64::from(pid),
            site: if fork { site } else { low },
            entry: if fork { 0 } else { high },
            extra: 0,
        }
    }

    #[test]
    fn children_are_counted_by_what_they_became() {
        let mut children = Children { own: "shell".to_owned(), ..Children::default() };
        for pid in 1..=3 {
            children.event(&event(EventKind::Fork, pid, 7, ""));
        }
        children.event(&event(EventKind::ChildExec, 1, 0, "sleep"));
        children.event(&event(EventKind::ChildExec, 2, 0, "a-name-of-16-byt"));
        children.event(&event(EventKind::ChildExit, 1, 0, "sleep"));
        let sample = children.sample();
        let of = |name: &str| {
            let found = sample.commands.iter().find(|command| command.command == name);
            found.map(|command| (command.live, command.forked, command.ended))
        };
        assert_eq!(of("shell"), Some((1, 1, 0)), "it never executed anything");
        assert_eq!(of("sleep"), Some((0, 1, 1)));
        assert_eq!(of("a-name-of-16-byt"), Some((1, 1, 0)));
        assert_eq!((sample.live, sample.zombies[0].count), (2, 1));
        assert_eq!(sample.zombies[0].since_ns, Some(100));
        let mut sites = BTreeMap::new();
        children.sites(|number| number + 1, &mut sites);
        assert_eq!(sites.values().map(|site| site.started).sum::<u64>(), 3);
        assert!(sites.keys().all(|id| id.site == 8));
        let sleep = sites.keys().find(|id| children.command_of(**id) == Some("sleep"));
        assert!(sleep.is_some_and(|id| sites[id].ended == 1));
    }

    #[test]
    fn commands_are_bounded() {
        let mut children = Children::default();
        for pid in 0..5000 {
            children.event(&event(EventKind::Fork, pid, 0, ""));
            children.event(&event(EventKind::ChildExec, pid, 0, &format!("c{pid}")));
        }
        assert!(children.commands.len() <= MOST_COMMANDS + 1);
        let sample = children.sample();
        assert_eq!(sample.commands.iter().map(|command| command.forked).sum::<u64>(), 5000);
    }
}
