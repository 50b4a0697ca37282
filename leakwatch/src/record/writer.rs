//! Writes a recording, a frame for each report of the watch.

use std::{fs::File, io};

use rustc_hash::FxHashSet;
use serde::Serialize as _;

use super::{entry::Entry, frame};
use crate::{
    model::Attach,
    observe::{ProcessSample, SiteId},
    report::{Context, Names, ProcessInfo},
};

/// A recording while it is written.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    lines: Vec<u8>,
    processes: FxHashSet<u32>,
    sites: FxHashSet<(u32, SiteId)>,
    frames: FxHashSet<(u32, u64)>,
}

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
        if self.processes.insert(number) {
            self.push(&Entry::Process { number, attach: attach.into() })?;
        }
        let census = sample.census.iter().flat_map(|census| &census.waiting);
        for site in sample.sites.iter().map(|site| site.id).chain(census.clone().map(|group| group.site)) {
            if self.sites.insert((number, site)) {
                let name = names.site(site).into();
                self.push(&Entry::Site { number, site: site.into(), name })?;
            }
        }
        for &pc in census.flat_map(|group| &group.stack) {
            if self.frames.insert((number, pc)) {
                let frames = names.frame(pc).into_iter().map(Into::into).collect();
                self.push(&Entry::Frames { number, pc, frames })?;
            }
        }
        self.push(&Entry::Sample { number, sample: Box::new(sample.into()) })
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
