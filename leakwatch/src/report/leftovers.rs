//! What is wrong at the end of a program that we ran: tasks that it left behind, sites that leak, processes that still run.

use super::{ProcessReport, Report, SiteReport, Verdict};

/// What was left behind.
#[derive(Clone, Debug, Default)]
pub struct Leftovers<'a> {
    /// Of sites, those with most tasks first.
    pub sites: Vec<Leftover<'a>>,
    /// Processes that still ran when the grace was over.
    pub processes: Vec<&'a ProcessReport>,
}

/// A site that left tasks behind, or leaks.
#[derive(Clone, Copy, Debug)]
pub struct Leftover<'a> {
    /// Its process.
    pub process: &'a ProcessReport,
    /// The site.
    pub site: &'a SiteReport,
    /// Tasks that were alive when the process ended.
    pub tasks: u64,
}

impl Leftover<'_> {
    /// Its verdict is that it leaks.
    pub fn leaks(&self) -> bool {
        self.site.verdict == Verdict::Leak
    }
}

impl<'a> Leftovers<'a> {
    /// Of a report; `ignored` tells which sites the user knows of.
    pub fn of(report: &'a Report, ignored: &dyn Fn(&SiteReport) -> bool) -> Self {
        let mut sites = Vec::new();
        for process in &report.processes {
            for site in process.sites.iter().filter(|site| !ignored(site)) {
                let tasks = site.left_behind.unwrap_or(0);
                if tasks > 0 || site.verdict == Verdict::Leak {
                    sites.push(Leftover { process, site, tasks });
                }
            }
        }
        sites.sort_by_key(|left| std::cmp::Reverse(left.tasks));
        Self {
            sites,
            processes: report
                .processes
                .iter()
                .map(AsRef::as_ref)
                .filter(|process: &&ProcessReport| !process.exited)
                .collect(),
        }
    }

    /// Nothing was.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty() && self.processes.is_empty()
    }

    /// Tasks in all.
    pub fn tasks(&self) -> u64 {
        self.sites.iter().map(|left| left.tasks).sum()
    }
}
