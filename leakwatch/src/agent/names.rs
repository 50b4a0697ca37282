//! Names for reports, from a process's executable.

use crate::{
    images::Image,
    observe::SiteId,
    report::{FrameName, Names, SiteName},
};

/// An [`Image`] as the report's source of names.
#[derive(Debug)]
pub struct ImageNames<'a>(pub &'a mut Image);

impl Names for ImageNames<'_> {
    fn site(&mut self, site: SiteId) -> SiteName {
        let created = self.0.site_name(site.site);
        SiteName {
            function: created.function,
            file: created.file,
            line: created.line,
            task: self.0.function_name(site.entry),
            system: self.0.is_system(site.entry),
        }
    }

    fn frame(&mut self, pc: u64) -> Vec<FrameName> {
        let frames = self.0.frames(pc);
        frames
            .into_iter()
            .map(|frame| FrameName { function: frame.function, file: frame.file, line: frame.line })
            .collect()
    }
}
