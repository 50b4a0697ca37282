//! Names for reports, from a process's executable and its libraries.

use leakwatch_common::{RuntimeKind, thread_site};

use crate::{
    collect::{NameSources, Spawn, Threads},
    images::{Created, Frame, TaskName, Words},
    observe::SiteId,
    report::{FrameName, Names, SiteName, SpawnReport, in_words},
};

/// What Go's main goroutine runs.
const MAIN: &str = "runtime.main";

/// The site of the thread that a process begins with: nobody made it.
const MAIN_THREAD: &str = "(main thread)";

/// A process's files, and what is known of its threads and children, as the report's source of names.
#[derive(Debug)]
pub struct ImageNames<'a>(NameSources<'a>);

impl<'a> ImageNames<'a> {
    /// Of a process.
    pub fn new(sources: NameSources<'a>) -> Self {
        Self(sources)
    }

    /// What made a thread or a child process, as the book of threads has it.
    fn made(&self, site: SiteId) -> SiteName {
        let NameSources { image, threads, children, .. } = &self.0;
        let task = match site.runtime {
            RuntimeKind::Process => children.command_of(site).map(str::to_owned),
            _ => threads.task_of(site).map(str::to_owned),
        };
        if site.site == thread_site::SEEN {
            let system = image.inspection().go.is_some();
            return SiteName { function: Some(MAIN_THREAD.to_owned()), task, system, ..SiteName::default() };
        }
        let Some(creation) = threads.creation(site.site) else {
            let system =
                site.runtime == RuntimeKind::Thread && task.as_deref().is_some_and(Threads::is_of_runtime);
            return SiteName { task, system, ..SiteName::default() };
        };
        let created = creation.created.clone();
        let system = creation.system && site.runtime == RuntimeKind::Thread;
        SiteName { function: created.function, file: created.file, line: created.line, task, system }
    }

    /// The executable knows its own names best; an address that it does not know may be in a library.
    fn function(&mut self, pc: u64) -> Option<String> {
        self.0.image.function_name(pc).or_else(|| self.0.modules.function_name(pc).filter(|_| pc != 0))
    }
}

fn of_type(name: TaskName) -> SiteName {
    let TaskName { function, file, line, task, system } = name;
    SiteName { function, file, line, task: Some(task), system }
}

fn name_of(frame: Frame) -> FrameName {
    FrameName { function: frame.function, file: frame.file, line: frame.line, internal: frame.internal }
}

impl Names for ImageNames<'_> {
    fn site(&mut self, site: SiteId) -> SiteName {
        if matches!(site.runtime, RuntimeKind::Thread | RuntimeKind::Process) {
            return self.made(site);
        }
        if matches!(site.runtime, RuntimeKind::Tokio | RuntimeKind::TokioBlocking) {
            return self.0.image.task_name(site.entry).map(of_type).unwrap_or_default();
        }
        let task = self.function(site.entry);
        if task.as_deref() == Some(MAIN) {
            // Made by the runtime's assembly; the runtime prints no "created by" for it either.
            return SiteName { function: task.clone(), task, ..SiteName::default() };
        }
        let mut created = self.0.image.site_name(site.site);
        if created.function.is_none() && site.site != 0 {
            created = self.0.modules.site_name(site.site);
        }
        SiteName {
            function: created.function,
            file: created.file,
            line: created.line,
            task,
            system: self.0.image.is_system(site.entry),
        }
    }

    fn spawns(&mut self, site: SiteId) -> Vec<SpawnReport> {
        let spawns = match site.runtime {
            RuntimeKind::Tokio | RuntimeKind::TokioBlocking => self.0.spawns.of(site.entry),
            _ => &[],
        };
        let report = |spawn: &Spawn| {
            let Created { function, file, line } = spawn.place.clone();
            SpawnReport { function, file, line, seen: spawn.count }
        };
        spawns.iter().map(report).collect()
    }

    fn creation_stack(&mut self, site: SiteId) -> Vec<u64> {
        let creation = match site.runtime {
            RuntimeKind::Thread | RuntimeKind::Process => self.0.threads.creation(site.site),
            _ => None,
        };
        creation.map(|creation| creation.stack.clone()).unwrap_or_default()
    }

    fn frame(&mut self, pc: u64) -> Vec<FrameName> {
        if let Some(place) = self.0.threads.place(pc) {
            return vec![name_of(place.clone())];
        }
        let mut frames = self.0.image.frames(pc);
        if frames.is_empty() {
            frames = self.0.modules.frames(pc);
        }
        frames.into_iter().map(name_of).collect()
    }

    fn words(&mut self, pc: u64) -> Option<Words> {
        let of = |frames: Vec<Frame>| in_words(&frames.into_iter().map(name_of).collect::<Vec<_>>());
        if let Some(place) = self.0.threads.place(pc) {
            return Some(of(vec![place.clone()]));
        }
        self.0.image.words(pc, of).or_else(|| {
            let frames = self.0.modules.frames(pc);
            (!frames.is_empty()).then(|| of(frames))
        })
    }
}
