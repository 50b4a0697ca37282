//! Names for reports, from a process's executable and its libraries.

use leakwatch_common::RuntimeKind;

use crate::{
    images::{Frame, Image, Modules, TaskName},
    observe::SiteId,
    report::{FrameName, Names, SiteName},
};

/// What Go's main goroutine runs.
const MAIN: &str = "runtime.main";

/// An [`Image`], and the other files of its process, as the report's source of names.
#[derive(Debug)]
pub struct ImageNames<'a> {
    image: &'a mut Image,
    modules: &'a mut Modules,
}

impl<'a> ImageNames<'a> {
    /// Of a process's executable and all of its modules.
    pub fn new((image, modules): (&'a mut Image, &'a mut Modules)) -> Self {
        Self { image, modules }
    }

    /// The executable knows its own names best; an address that it does not know may be in a library.
    fn function(&mut self, pc: u64) -> Option<String> {
        self.image.function_name(pc).or_else(|| self.modules.function_name(pc).filter(|_| pc != 0))
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
        if matches!(site.runtime, RuntimeKind::Tokio | RuntimeKind::TokioBlocking) {
            return self.image.task_name(site.entry).map(of_type).unwrap_or_default();
        }
        let task = self.function(site.entry);
        if task.as_deref() == Some(MAIN) {
            // Made by the runtime's assembly; the runtime prints no "created by" for it either.
            return SiteName { function: task.clone(), task, ..SiteName::default() };
        }
        let mut created = self.image.site_name(site.site);
        if created.function.is_none() && site.site != 0 {
            created = self.modules.site_name(site.site);
        }
        SiteName {
            function: created.function,
            file: created.file,
            line: created.line,
            task,
            system: self.image.is_system(site.entry),
        }
    }

    fn frame(&mut self, pc: u64) -> Vec<FrameName> {
        let mut frames = self.image.frames(pc);
        if frames.is_empty() {
            frames = self.modules.frames(pc);
        }
        frames.into_iter().map(name_of).collect()
    }
}
