//! Names of addresses, as a report needs them, and which sites a person cannot tell apart.

use leakwatch_common::RuntimeKind;
use rustc_hash::FxHashMap;

use crate::images::Words;
use crate::model::{Classify, SiteClass};
use crate::observe::SiteId;
use crate::report::SpawnReport;

/// Who knows names. Answers are expected to be cached by the one who gives them.
pub trait Names {
    /// Names of a creation site.
    fn site(&mut self, site: SiteId) -> SiteName;
    /// Where the tasks of a site were seen to be spawned, the most frequent place first; empty where the site itself
    /// says it, or none was seen.
    fn spawns(&mut self, _site: SiteId) -> Vec<SpawnReport> {
        Vec::new()
    }
    /// Return addresses of the stack on which the first of a site's tasks was made, innermost first; empty where it was not
    /// seen.
    fn creation_stack(&mut self, _site: SiteId) -> Vec<u64> {
        Vec::new()
    }
    /// Whether stacks may be told.
    fn tells_stacks(&self) -> bool {
        true
    }
    /// Frames of a return address, innermost first; several where code was inlined, none when it is unknown.
    fn frame(&mut self, pc: u64) -> Vec<FrameName>;
    /// Those of them that tracebacks show, as a report's stacks have them; `None`: the address is unknown.
    fn words(&mut self, pc: u64) -> Option<Words> {
        let frames = self.frame(pc);
        (!frames.is_empty()).then(|| in_words(&frames))
    }
}

/// These frames as `func (file:line)`, without the runtime's own machinery.
pub fn in_words(frames: &[FrameName]) -> Words {
    frames.iter().filter(|frame| !frame.internal).map(|frame| frame.to_string().into()).collect()
}

/// Names of a creation site; `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SiteName {
    /// Function that starts the tasks, as the runtime itself prints `created by`.
    pub function: Option<String>,
    /// Source file of the statement.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// Function that the tasks run.
    pub task: Option<String>,
    /// The runtime's own tasks.
    pub system: bool,
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameName {
    /// Function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// The runtime's own machinery (`runtime.gopark`), which the runtime leaves out of its dumps.
    pub internal: bool,
}

impl std::fmt::Display for FrameName {
    /// `func (file:line)`, without what is unknown.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.function)?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(out, " ({file}:{line})"),
            (Some(file), None) => write!(out, " ({file})"),
            (None, _) => Ok(()),
        }
    }
}

/// The sites of one process by what a person sees of them: runtime, function, file, line, task.
///
/// Sites that look the same (the instances of a generic function, say) are one site to the model. Sites without
/// a name stay apart by their addresses.
#[derive(Debug, Default)]
pub struct Identities {
    known: FxHashMap<(RuntimeKind, SiteName), SiteId>,
}

impl Identities {
    /// What the model asks for new sites, with the names of this process.
    pub fn with<'a>(&'a mut self, names: &'a mut dyn Names) -> impl Classify + 'a {
        |site: SiteId| {
            let name = names.site(site);
            let system = name.system;
            if name.function.is_none() || (name.task.is_none() && site.entry != 0) {
                return SiteClass { canonical: site, system };
            }
            SiteClass { canonical: *self.known.entry((site.runtime, name)).or_insert(site), system }
        }
    }
}
