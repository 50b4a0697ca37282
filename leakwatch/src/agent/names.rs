//! Names for reports, from a process's executable.

use crate::{
    images::Image,
    observe::SiteId,
    report::{FrameName, Names, SiteName},
};

/// What Go's main goroutine runs.
const MAIN: &str = "runtime.main";

/// An [`Image`] as the report's source of names.
#[derive(Debug)]
pub struct ImageNames<'a>(pub &'a mut Image);

impl Names for ImageNames<'_> {
    fn site(&mut self, site: SiteId) -> SiteName {
        let task = self.0.function_name(site.entry);
        if task.as_deref() == Some(MAIN) {
            // Made by the runtime's assembly; the runtime prints no "created by" for it either.
            return SiteName { function: task.clone(), task, ..SiteName::default() };
        }
        let created = self.0.site_name(site.site);
        SiteName {
            function: created.function,
            file: created.file,
            line: created.line,
            task,
            system: self.0.is_system(site.entry),
        }
    }

    fn frame(&mut self, pc: u64) -> Vec<FrameName> {
        let frames = self.0.frames(pc);
        frames
            .into_iter()
            .map(|frame| FrameName {
                function: frame.function,
                file: frame.file,
                line: frame.line,
                internal: frame.internal,
            })
            .collect()
    }
}
