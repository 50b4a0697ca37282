//! Reads a recording, and makes the reports that the watch made.

use std::{collections::BTreeMap, io::Read};

use rustc_hash::FxHashMap;

use super::{
    entry::{Entry, EventLine},
    frame::{BadRecording, Frames},
};
use crate::{
    detect::Detector,
    model::{Attach, Limits, ProcessModel},
    observe::{Event, ProcessSample, SiteId},
    report::{
        self, FrameName, Identities, Names, ProcessInfo, ProcessInput, Report, SiteName, Span, WallClock,
    },
};

/// A moment of the watch at which a report was made.
#[derive(Debug)]
pub struct Moment {
    /// The report.
    pub report: Report,
    /// It was the watch's last.
    pub last: bool,
}

/// What belongs to a recorded event.
#[expect(missing_debug_implementations, reason = "names are whoever knows them")]
pub struct EventOf<'a> {
    /// The process that it is of.
    pub pid: u32,
    /// The clock of its time.
    pub clock: WallClock,
    /// Names of its addresses.
    pub names: &'a mut dyn Names,
}

/// A recording while it is read.
pub struct Replay<R> {
    frames: Frames<R>,
    rates: Span,
    detector: Detector,
    /// By number of their watching, in their order.
    watches: Vec<(u32, Watch)>,
    clock: Option<WallClock>,
    finished: bool,
    /// Lines that this leakwatch does not know.
    strange: u64,
}

struct Watch {
    model: ProcessModel,
    identities: Identities,
    info: ProcessInfo,
    names: Recorded,
}

/// Names as they were recorded.
#[derive(Default)]
struct Recorded {
    sites: FxHashMap<SiteId, SiteName>,
    frames: FxHashMap<u64, Vec<FrameName>>,
}

impl Names for Recorded {
    fn site(&mut self, site: SiteId) -> SiteName {
        self.sites.get(&site).cloned().unwrap_or_default()
    }

    fn frame(&mut self, pc: u64) -> Vec<FrameName> {
        self.frames.get(&pc).cloned().unwrap_or_default()
    }
}

impl<R: Read> Replay<R> {
    /// Begins to read. `rates`: what rates are to be of.
    ///
    /// # Errors
    /// When it is no recording, or a newer one.
    pub fn open(input: R, rates: Span) -> Result<Self, BadRecording> {
        Ok(Self {
            frames: Frames::open(input)?,
            rates,
            detector: Detector::default(),
            watches: Vec::new(),
            clock: None,
            finished: false,
            strange: 0,
        })
    }

    /// The next report; `None` at the end of what was recorded.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_report(&mut self) -> Result<Option<Moment>, BadRecording> {
        self.next_with(&mut |_event, _of| {})
    }

    /// The same; `each` is given the events that came before it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_with(
        &mut self,
        each: &mut dyn FnMut(&Event, EventOf<'_>),
    ) -> Result<Option<Moment>, BadRecording> {
        while let Some(lines) = self.frames.next_lines()? {
            let mut made = None;
            for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                match serde_json::from_slice(line) {
                    Ok(entry) => made = self.take(entry, each).or(made),
                    Err(_) => self.strange += 1,
                }
            }
            if let Some(moment) = made {
                self.finished |= moment.last;
                return Ok(Some(moment));
            }
        }
        Ok(None)
    }

    /// The recording has its end.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Bytes of the file that are whole.
    pub fn good_bytes(&self) -> u64 {
        self.frames.good
    }

    /// Lines that were passed over.
    pub fn strange(&self) -> u64 {
        self.strange
    }

    fn take(&mut self, entry: Entry, each: &mut dyn FnMut(&Event, EventOf<'_>)) -> Option<Moment> {
        match entry {
            Entry::Process { number, attach } => {
                let pid = attach.pid();
                let watch = Watch {
                    model: ProcessModel::new(Attach::from(attach), Limits::default()),
                    identities: Identities::default(),
                    // The rest of it is told with the first report.
                    info: ProcessInfo { pid, ..ProcessInfo::default() },
                    names: Recorded::default(),
                };
                self.watches.push((number, watch));
            }
            Entry::Info { number, info } => {
                if let Some(watch) = self.watch(number) {
                    watch.info = (*info).into();
                }
            }
            Entry::Site { number, site, name } => {
                if let (Some(watch), Some(site)) = (self.watch(number), site.id()) {
                    watch.names.sites.insert(site, name.into());
                }
            }
            Entry::Frames { number, pc, frames } => {
                if let Some(watch) = self.watch(number) {
                    watch.names.frames.insert(pc, frames.into_iter().map(FrameName::from).collect());
                }
            }
            Entry::Sample { number, sample } => {
                if let Some(Watch { model, identities, names, .. }) = self.watch(number) {
                    model.apply(&ProcessSample::from(*sample), &mut identities.with(names));
                }
            }
            Entry::Clock { wall, monotonic_ns } => {
                self.clock = wall.parse().ok().map(|wall| WallClock { wall, monotonic_ns });
            }
            Entry::Events { events } => self.events(&events, each),
            Entry::Report { context, last } => {
                let context = context.context(self.rates)?;
                let inputs = self.watches.iter_mut().map(|(_, watch)| ProcessInput {
                    info: &watch.info,
                    model: &watch.model,
                    names: &mut watch.names,
                });
                return Some(Moment { report: report::assemble(&context, inputs, &self.detector), last });
            }
        }
        None
    }

    fn events(&mut self, events: &[EventLine], each: &mut dyn FnMut(&Event, EventOf<'_>)) {
        let mut time_ns = 0;
        for line in events {
            time_ns = line.time_ns(time_ns);
            let Some(event) = line.event(time_ns) else {
                self.strange += 1;
                continue;
            };
            let Some(clock) = self.clock else { continue };
            if let Some(Watch { info, names, .. }) = self.watch(event.process) {
                each(&event, EventOf { pid: info.pid, clock, names });
            }
        }
    }

    fn watch(&mut self, number: u32) -> Option<&mut Watch> {
        self.watches.iter_mut().find(|(other, _)| *other == number).map(|(_, watch)| watch)
    }
}

impl<R> std::fmt::Debug for Replay<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processes: BTreeMap<u32, u32> =
            self.watches.iter().map(|(number, watch)| (*number, watch.info.pid)).collect();
        f.debug_struct("Replay").field("processes", &processes).finish_non_exhaustive()
    }
}
