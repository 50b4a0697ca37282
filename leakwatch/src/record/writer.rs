//! Writes a recording, a frame for each report of the watch.

use std::{fs::File, io};

use rustc_hash::FxHashSet;
use serde::Serialize as _;

use super::{
    entry::{Entry, EventLine},
    frame,
};
use crate::{
    model::Attach,
    observe::{Event, ProcessSample, SiteId},
    report::{Context, Names, ProcessInfo, WallClock},
};

/// A recording while it is written.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    lines: Vec<u8>,
    processes: FxHashSet<u32>,
    sites: FxHashSet<(u32, SiteId)>,
    frames: FxHashSet<(u32, u64)>,
    events: Vec<EventLine>,
    /// When the last of them was.
    before_ns: u64,
    /// The clock was written.
    clock: bool,
}

/// Events of one frame.
const EVENTS_TOGETHER: usize = 1 << 14;

impl Recorder {
    /// Begins a recording in an empty file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(mut file: File) -> io::Result<Self> {
        frame::begin(&mut file)?;
        Ok(Self {
            file,
            lines: Vec::new(),
            processes: FxHashSet::default(),
            sites: FxHashSet::default(),
            frames: FxHashSet::default(),
            events: Vec::new(),
            before_ns: 0,
            clock: false,
        })
    }

    /// A look at a process; `number` is the number of its watching.
    ///
    /// # Errors
    /// Never; the lines wait for the next report.
    pub fn sample(
        &mut self,
        number: u32,
        attach: &Attach,
        sample: &ProcessSample,
        names: &mut dyn Names,
    ) -> io::Result<()> {
        self.process(number, attach)?;
        let census = sample.census.iter().flat_map(|census| &census.waiting);
        for site in sample.sites.iter().map(|site| site.id).chain(census.clone().map(|group| group.site)) {
            self.site(number, site, names)?;
        }
        for &pc in census.flat_map(|group| &group.stack) {
            if self.frames.insert((number, pc)) {
                let frames = names.frame(pc).into_iter().map(Into::into).collect();
                self.push(&Entry::Frames { number, pc, frames })?;
            }
        }
        self.push(&Entry::Sample { number, sample: Box::new(sample.into()) })
    }

    /// An event of the process whose watching has its number.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn event(
        &mut self,
        event: &Event,
        attach: &Attach,
        clock: &WallClock,
        names: &mut dyn Names,
    ) -> io::Result<()> {
        self.process(event.process, attach)?;
        if !self.clock {
            self.clock = true;
            self.push(&Entry::Clock { wall: clock.wall.to_string(), monotonic_ns: clock.monotonic_ns })?;
        }
        if let Some(runtime) = event.runtime {
            self.site(event.process, SiteId { runtime, site: event.site, entry: event.entry }, names)?;
        }
        let before_ns = if self.events.is_empty() { 0 } else { self.before_ns };
        self.events.push(EventLine::new(event, before_ns));
        self.before_ns = event.time_ns;
        if self.events.len() == EVENTS_TOGETHER {
            self.push_events()?;
            frame::write(&mut self.file, &self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }

    fn push_events(&mut self) -> io::Result<()> {
        if self.events.is_empty() {
            return Ok(());
        }
        let events = std::mem::take(&mut self.events);
        self.push(&Entry::Events { events })
    }

    fn process(&mut self, number: u32, attach: &Attach) -> io::Result<()> {
        if self.processes.insert(number) {
            self.push(&Entry::Process { number, attach: attach.into() })?;
        }
        Ok(())
    }

    fn site(&mut self, number: u32, site: SiteId, names: &mut dyn Names) -> io::Result<()> {
        if self.sites.insert((number, site)) {
            let name = names.site(site).into();
            self.push(&Entry::Site { number, site: site.into(), name })?;
        }
        Ok(())
    }

    /// A report is made of all processes, in this order; what was said since the last one goes to the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn report<'a>(
        &mut self,
        context: &Context,
        infos: impl IntoIterator<Item = (u32, &'a ProcessInfo)>,
        last: bool,
    ) -> io::Result<()> {
        self.push_events()?;
        for (number, info) in infos {
            self.push(&Entry::Info { number, info: Box::new(info.into()) })?;
        }
        self.push(&Entry::Report { context: context.into(), last })?;
        frame::write(&mut self.file, &self.lines)?;
        self.lines.clear();
        if last { self.file.sync_all() } else { self.file.sync_data() }
    }

    fn push(&mut self, entry: &Entry) -> io::Result<()> {
        entry.serialize(&mut serde_json::Serializer::new(&mut self.lines))?;
        self.lines.push(b'\n');
        Ok(())
    }
}
