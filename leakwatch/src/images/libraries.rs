//! Libraries of a process that have a runtime of their own in them: an extension module of Python with tokio, say.
//!
//! Those that are mapped when they are looked for; one that is loaded later is not known. Must never take a library for one
//! by its name: its bytes are inspected, as those of a program are.

use std::sync::Arc;

use leakwatch_inspect::Inspection;

use super::{ImageError, binaries::Binaries, modules::Modules};
use crate::host::MappedFile;

/// Most libraries with a runtime that are watched in one process.
const MOST: usize = 8;

/// A library with tokio in it.
#[derive(Debug)]
pub struct Library {
    /// The file; it is held open, for probes are placed through it.
    pub file: MappedFile,
    /// What its bytes tell.
    pub inspection: Arc<Inspection>,
    /// Run-time address less link-time address.
    pub bias: u64,
}

/// The libraries of a process with tokio in them; `executable` is the inode of its program, which is none.
///
/// # Errors
/// [`ImageError::Unread`] alone.
pub(super) fn find(
    modules: &Modules,
    executable: u64,
    binaries: &mut Binaries,
) -> Result<Vec<Library>, ImageError> {
    let mut found = Vec::new();
    for module in modules.all().iter().filter(|module| module.identity().1 != executable) {
        let Ok(content) = module.content(modules.dir()) else { continue };
        if !binaries.may_tell(content) {
            return Err(ImageError::Unread { path: module.path().to_owned() });
        }
        let open = || module.open(modules.dir()).ok().filter(|file| file.identity() == content);
        let mut file = None;
        if !binaries.knows(content) {
            file = open();
            // The process has ended, perhaps: that says nothing of the library.
            if file.is_none() {
                continue;
            }
        }
        let Some(inspection) = binaries.of_library(content, || file.as_ref()?.read().ok()) else { continue };
        let Some(file) = file.or_else(open) else { continue };
        let bias = module.bias(modules.dir());
        found.extend(bias.map(|bias| Library { file, inspection, bias }));
        if found.len() == MOST {
            break;
        }
    }
    Ok(found)
}
