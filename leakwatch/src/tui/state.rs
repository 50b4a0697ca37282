//! What is on the screen, and what keys and reports do to it. Pure: no terminal, no clock, no file.
//!
//! Reports replace each other; what the user chose (page, cursor, order, filter) stays. Nothing is kept of a report
//! but the one that is shown and, while the screen is paused, the newest.

use std::sync::Arc;

use super::{
    columns::{ProcessColumn, SiteColumn},
    listing::{Listing, Sort},
    look::Look,
};
use crate::report::{ProcessReport, Report, SiteReport, Timestamp};

/// The longest filter that can be typed, characters.
pub(super) const LONGEST_FILTER: usize = 200;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The list of processes.
    Processes,
    /// A process and its sites.
    Sites,
    /// One site.
    Site,
}

/// What lies over the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// The keys.
    Help,
    /// What the figures do not show, all of it.
    Notes,
}

/// Which process: pids are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessKey {
    pid: u32,
    start_time: Option<Timestamp>,
    /// Which of those that had this pid and start, one after the other by exec.
    nth: usize,
}

/// Which site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SiteKey {
    runtime: String,
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    task: Option<String>,
}

impl SiteKey {
    fn of(site: &SiteReport) -> Self {
        Self {
            runtime: site.runtime.clone(),
            function: site.function.clone(),
            file: site.file.clone(),
            line: site.line,
            task: site.task.clone(),
        }
    }

    fn is(&self, site: &SiteReport) -> bool {
        self.line == site.line
            && self.function == site.function
            && self.task == site.task
            && self.file == site.file
            && self.runtime == site.runtime
    }
}

/// A line for the user, shown until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// One sentence.
    pub text: String,
    /// Something went wrong.
    pub bad: bool,
}

/// Where things were drawn: what a click means.
#[derive(Clone, Debug, Default)]
pub struct Areas {
    /// Row of the heads of columns.
    pub heads_y: Option<u16>,
    /// Heads of columns: where they begin, where they end, and their number.
    pub heads: Vec<(u16, u16, usize)>,
    /// First row of the list, and how many there are.
    pub rows: (u16, u16),
    /// The list's first row that is on the screen.
    pub top: usize,
    /// Lines that the page has and that the screen shows, where it is no list.
    pub lines: (usize, usize),
}

/// All of it.
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each a key of its own")]
#[derive(Clone, Debug)]
pub struct State {
    pub(super) look: Look,
    pub(super) shown: Option<Arc<Report>>,
    pub(super) newest: Option<Arc<Report>>,
    pub(super) page: Page,
    pub(super) overlay: Option<Overlay>,
    pub(super) paused: bool,
    /// The first page is the list of processes.
    pub(super) many: bool,
    /// The runtime's own sites are shown, too.
    pub(super) system: bool,
    pub(super) processes: Listing<ProcessKey>,
    pub(super) process_sort: Sort<ProcessColumn>,
    pub(super) sites: Listing<SiteKey>,
    pub(super) site_sort: Sort<SiteColumn>,
    /// Which process the pages below the list are of.
    pub(super) process: Option<ProcessKey>,
    pub(super) filter: String,
    pub(super) typing: bool,
    /// First line on the screen of a page that is no list.
    pub(super) scroll: usize,
    pub(super) notice: Option<Notice>,
    pub(super) areas: Areas,
    /// Seconds since the last report came.
    pub(super) silent_s: Option<f64>,
    /// What the watch was told, where it needs saying: `memory only`.
    pub(super) hint: Option<String>,
}

impl State {
    /// Nothing is known yet. `many`: the list of processes comes first, even where there is one.
    pub fn new(look: Look, many: bool) -> Self {
        Self {
            look,
            shown: None,
            newest: None,
            page: if many { Page::Processes } else { Page::Sites },
            overlay: None,
            paused: false,
            many,
            system: false,
            processes: Listing::default(),
            process_sort: Sort { by: ProcessColumn::Verdict, reversed: false },
            sites: Listing::default(),
            site_sort: Sort { by: SiteColumn::Verdict, reversed: false },
            process: None,
            filter: String::new(),
            typing: false,
            scroll: 0,
            notice: None,
            areas: Areas::default(),
            silent_s: None,
            hint: None,
        }
    }

    /// What stands in the title besides, such as how processes are looked at.
    #[must_use]
    pub fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// A new report came.
    pub fn take(&mut self, report: Arc<Report>) {
        self.silent_s = None;
        // Children that are followed make a list of what began as one.
        if report.processes.len() > 1 && !self.many {
            self.many = true;
            if self.shown.is_none() {
                self.page = Page::Processes;
            } else if self.process.is_none() {
                self.process = self.shown.as_ref().and_then(|shown| key_at(shown, 0));
            }
        }
        if self.paused && self.shown.is_some() {
            self.newest = Some(report);
            return;
        }
        self.shown = Some(report);
        self.arrange();
    }

    /// Something is to be said.
    pub fn say(&mut self, notice: Notice) {
        self.notice = Some(notice);
    }

    /// No report came for so long; told only when it is worth knowing.
    pub fn silent_for(&mut self, seconds: Option<f64>) {
        self.silent_s = seconds;
    }

    /// It was drawn.
    pub fn drawn(&mut self, areas: Areas) {
        match self.page {
            _ if self.overlay.is_some() => {}
            Page::Processes => self.processes.drawn(areas.top),
            Page::Sites => self.sites.drawn(areas.top),
            Page::Site => {}
        }
        let (lines, height) = areas.lines;
        self.scroll = self.scroll.min(lines.saturating_sub(height));
        self.areas = areas;
    }

    /// The report on the screen.
    pub fn report(&self) -> Option<&Arc<Report>> {
        self.shown.as_ref()
    }

    /// The process that the page is of; on the list of processes, the one under the cursor.
    pub fn process(&self) -> Option<&ProcessReport> {
        let report = self.shown.as_ref()?;
        let place = match (self.page, &self.process) {
            (Page::Processes, _) => self.processes.place()?,
            (_, Some(key)) => place_of(report, key)?,
            (_, None) => 0,
        };
        report.processes.get(place).map(AsRef::as_ref)
    }

    /// The site under the cursor, or whose page it is. `None`: it is not in this report.
    pub fn site(&self) -> Option<&SiteReport> {
        let process = self.process()?;
        if self.page == Page::Processes {
            return None;
        }
        match self.sites.held() {
            Some(key) => process.sites.iter().find(|site| key.is(site)),
            None => process.sites.get(self.sites.place()?),
        }
    }

    /// Puts rows into their order again: a report came, or the user wants another one.
    pub(super) fn arrange(&mut self) {
        let Some(report) = self.shown.clone() else { return };
        let order = super::columns::order_processes(&report, self.process_filter(), self.process_sort);
        self.processes.arrange(order, |place| key_at(&report, place).unwrap_or(NO_PROCESS));
        let Some(place) = self.process_place(&report) else { return };
        let Some(process) = report.processes.get(place) else { return };
        let order = super::columns::order_sites(process, self.site_filter(), self.site_sort, self.system);
        self.sites.arrange(order, |place| process.sites.get(place).map_or_else(no_site, SiteKey::of));
    }

    fn process_place(&self, report: &Report) -> Option<usize> {
        match &self.process {
            Some(key) => place_of(report, key),
            None => (!report.processes.is_empty()).then_some(0),
        }
    }

    fn process_filter(&self) -> &str {
        if self.page == Page::Processes { &self.filter } else { "" }
    }

    fn site_filter(&self) -> &str {
        if self.page == Page::Processes { "" } else { &self.filter }
    }

    /// Puts the cursor of the page's list on a row.
    pub(super) fn go(&mut self, row: usize) {
        let Some(report) = self.shown.clone() else { return };
        if self.page == Page::Processes {
            self.processes.go(row, |place| key_at(&report, place).unwrap_or(NO_PROCESS));
        } else if let Some(process) = self.process_place(&report).and_then(|at| report.processes.get(at)) {
            self.sites.go(row, |place| process.sites.get(place).map_or_else(no_site, SiteKey::of));
        }
    }

    /// Into what the cursor is on.
    pub(super) fn open(&mut self) {
        match self.page {
            Page::Processes => {
                let Some(report) = &self.shown else { return };
                let Some(key) = self.processes.place().and_then(|place| key_at(report, place)) else {
                    return;
                };
                self.show_process(key);
            }
            Page::Sites if !self.sites.is_empty() => {
                // From now on it is this one, wherever it goes in the list.
                self.go(self.sites.cursor());
                self.page = Page::Site;
                self.scroll = 0;
            }
            Page::Sites | Page::Site => {}
        }
    }

    fn show_process(&mut self, key: ProcessKey) {
        if self.process != Some(key) {
            self.sites.release();
        }
        self.process = Some(key);
        self.page = Page::Sites;
        self.filter.clear();
        self.arrange();
    }

    /// Out of it again. False: there is nothing to go back to.
    pub(super) fn back(&mut self) -> bool {
        if self.overlay.take().is_some() {
            self.scroll = 0;
        } else if self.page == Page::Site {
            self.page = Page::Sites;
        } else if !self.filter.is_empty() {
            self.filter.clear();
            self.arrange();
        } else if self.page == Page::Sites && self.many {
            self.page = Page::Processes;
            self.arrange();
        } else {
            return false;
        }
        true
    }

    /// The process after this one, or before it.
    pub(super) fn next_process(&mut self, step: isize) {
        let Some(report) = self.shown.clone() else { return };
        let count = report.processes.len();
        if self.page == Page::Processes || count < 2 {
            return;
        }
        let here = self.process_place(&report).unwrap_or(0);
        let next = if step < 0 { (here + count - 1) % count } else { (here + 1) % count };
        if let Some(key) = key_at(&report, next) {
            self.show_process(key);
        }
    }

    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
        if let Some(report) = self.newest.take() {
            self.shown = Some(report);
            self.arrange();
        }
    }
}

/// Stands where there is nothing; equal to nothing that is there.
const NO_PROCESS: ProcessKey = ProcessKey { pid: 0, start_time: None, nth: usize::MAX };

fn no_site() -> SiteKey {
    SiteKey { runtime: String::new(), function: None, file: None, line: None, task: None }
}

fn key_at(report: &Report, place: usize) -> Option<ProcessKey> {
    let process = report.processes.get(place)?;
    let before = report.processes.iter().take(place);
    let same =
        |other: &&Arc<ProcessReport>| (other.pid, other.start_time) == (process.pid, process.start_time);
    let nth = before.filter(same).count();
    Some(ProcessKey { pid: process.pid, start_time: process.start_time, nth })
}

fn place_of(report: &Report, key: &ProcessKey) -> Option<usize> {
    let same = |process: &ProcessReport| (process.pid, process.start_time) == (key.pid, key.start_time);
    let places = report.processes.iter().enumerate().filter(|(_, process)| same(process));
    places.map(|(place, _)| place).nth(key.nth)
}
