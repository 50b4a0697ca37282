//! The detached debug information of a stripped file, as distributions install it.
//!
//! Looked for where gdb looks (<https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>):
//! by build id, then by the name in `.gnu_debuglink`; in the process's own root directory and then in ours. A file is
//! believed only when its build id is that of the file that it claims to be of: a name proves nothing.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use leakwatch_inspect::Elf;
use object::Object as _;

use crate::host::MappedFile;

/// Where debug files are installed.
const INSTALLED: &str = "usr/lib/debug";

/// The bytes of the debug file that belongs to `image`, which is at `path` below one of the `roots`.
pub(super) fn find(elf: &Elf, image: &[u8], path: &Path, roots: &[PathBuf]) -> Option<Vec<u8>> {
    let id = elf.build_id.as_deref().filter(|id| id.len() >= 2)?;
    let names = candidates(id, image, path);
    roots.iter().flat_map(|root| names.iter().map(move |name| root.join(name))).find_map(|candidate| {
        let bytes = MappedFile::at_rest(&candidate).and_then(|file| file.read()).ok()?;
        (Elf::parse(&bytes).ok()?.build_id.as_deref() == Some(id)).then_some(bytes)
    })
}

/// Paths below a root directory.
fn candidates(id: &[u8], image: &[u8], path: &Path) -> Vec<PathBuf> {
    let hex: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (first, rest) = hex.split_at(1);
    let mut found =
        vec![PathBuf::from(format!("{INSTALLED}/.build-id/{}/{}.debug", first.concat(), rest.concat()))];
    let link = object::File::parse(image).ok().and_then(|file| file.gnu_debuglink().ok().flatten());
    // A name with a slash would lead out of the folders that are meant.
    let name = link.map(|(name, _)| OsStr::from_bytes(name)).filter(|name| !name.as_bytes().contains(&b'/'));
    let folder = path.strip_prefix("/").ok().and_then(Path::parent);
    if let (Some(name), Some(folder)) = (name, folder) {
        found.push(folder.join(name));
        found.push(folder.join(".debug").join(name));
        found.push(Path::new(INSTALLED).join(folder).join(name));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_looks() {
        let found = candidates(&[0xab, 0xcd, 0xef], &[], Path::new("/usr/lib/libx.so"));
        assert_eq!(found, [PathBuf::from("usr/lib/debug/.build-id/ab/cdef.debug")]);
    }

    #[test]
    fn another_files_debug_information_is_not_believed() {
        let folder = tempfile::tempdir().expect("a directory");
        let own = std::fs::read("/proc/self/exe").expect("our own bytes");
        let mut elf = Elf::parse(&own).expect("an ELF file");
        elf.build_id = Some(vec![0xab, 0xcd]);
        let place = folder.path().join(INSTALLED).join(".build-id/ab");
        std::fs::create_dir_all(&place).expect("folders");
        std::fs::copy("/bin/true", place.join("cd.debug")).expect("a copy");
        assert_eq!(find(&elf, &own, Path::new("/x"), &[folder.path().to_owned()]), None);
        let other = std::fs::read("/bin/true").expect("read");
        elf.build_id = Elf::parse(&other).expect("an ELF file").build_id;
        if let Some(id) = &elf.build_id {
            let place = folder.path().join(&candidates(id, &own, Path::new("/x"))[0]);
            std::fs::create_dir_all(place.parent().expect("a folder")).expect("folders");
            std::fs::copy("/bin/true", place).expect("a copy");
            assert_eq!(find(&elf, &own, Path::new("/x"), &[folder.path().to_owned()]), Some(other));
        }
    }
}
