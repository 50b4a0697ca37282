//! A folder of a test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use leakwatch_tests::matrix;

/// A folder of this test's own, removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes it.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("leakwatch-live-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A copy of the Go target in it.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        self.copy_of(&matrix::any_go_target().path, name)
    }

    /// A copy of a program in it.
    pub(crate) fn copy_of(&self, program: &Path, name: &str) -> PathBuf {
        let copy = self.0.join(name);
        fs::copy(program, &copy).expect("a copy of the target");
        copy
    }

    /// A file with a secret in it, for us alone. Its path.
    pub(crate) fn secret(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        path.display().to_string()
    }

    /// A folder in it.
    pub(crate) fn below(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("a folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
