//! What a test needs of its machine, and what happens where that is not there.
//!
//! A test that cannot run prints `SKIP name: reason` and passes, as far as its runner knows; `cargo xtask
//! test` counts such lines. With `LEAKWATCH_LIVE=require` it fails instead: a green run then skipped nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::{agent, matrix};

/// Returns from the test, skipped, unless everything is there.
///
/// Each argument is a gate: an expression that is `Ok` or the reason why the test cannot run.
///
/// ```no_run
/// use leakwatch_tests::{gate, matrix, need};
///
/// fn counts_are_exact() {
///     let target = matrix::any_go_target();
///     need!(gate::live(), gate::file(&target.path));
/// }
/// ```
#[macro_export]
macro_rules! need {
    ($($gate:expr),+ $(,)?) => {
        $(if let Err(reason) = $gate {
            $crate::gate::skip($crate::gate::name_of(&|| ()), &reason);
            return;
        })+
    };
}

/// Everything that watching a process takes: root, BTF and a built leakwatch.
pub fn live() -> Result<(), String> {
    root()?;
    btf()?;
    agent::binary().map(drop)
}

/// The test runs as root.
pub fn root() -> Result<(), String> {
    match std::fs::metadata("/proc/self") {
        Ok(own) if own.uid() == 0 => Ok(()),
        Ok(own) => Err(format!("needs root, runs as user {}", own.uid())),
        Err(error) => Err(format!("needs /proc: {error}")),
    }
}

/// The kernel describes its types.
pub fn btf() -> Result<(), String> {
    file(Path::new("/sys/kernel/btf/vmlinux"))
}

/// A file is there.
pub fn file(path: &Path) -> Result<(), String> {
    if path.is_file() {
        return Ok(());
    }
    let hint =
        if path.starts_with(matrix::targets_root()) { "; `cargo xtask targets` builds it" } else { "" };
    Err(format!("needs {}{hint}", path.display()))
}

/// tmux is there.
pub fn tmux() -> Result<(), String> {
    let there =
        std::process::Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success());
    if there { Ok(()) } else { Err("needs tmux; `cargo xtask tools tmux` installs it".to_owned()) }
}

/// Network namespaces can be made and joined.
pub fn network() -> Result<(), String> {
    let there =
        std::process::Command::new("ip").arg("-V").output().is_ok_and(|output| output.status.success());
    if there { Ok(()) } else { Err("needs ip; `cargo xtask tools network` installs it".to_owned()) }
}

/// Chromium is there, and what looks for barriers in a page.
pub fn browser() -> Result<(), String> {
    let there = crate::browser::CHROMIUM;
    if Path::new(there).is_file() && crate::browser::axe().is_file() {
        return Ok(());
    }
    Err(format!("needs {there} and axe-core; `cargo xtask tools browser` installs them"))
}

/// A program that nobody here wrote is there.
pub fn third_party(name: &str) -> Result<(), String> {
    matrix::third_party(name).map(drop)
}

/// Says that a test cannot run; fails where every test has to.
#[track_caller]
pub fn skip(test: &str, reason: &str) {
    if let Some(line) = skipped(test, reason, std::env::var("LEAKWATCH_LIVE").ok().as_deref()) {
        say(&line);
    } else {
        panic!("{test} cannot run, and LEAKWATCH_LIVE=require allows no skip: {reason}");
    }
}

/// The line that tells of a skip, or none where none is allowed.
fn skipped(test: &str, reason: &str, mode: Option<&str>) -> Option<String> {
    (mode != Some("require")).then(|| format!("SKIP {test}: {reason}"))
}

/// A line for whoever reads the test's output: a skip, or a figure that was measured.
#[expect(clippy::print_stdout, reason = "`cargo xtask test` reads skips from the test's output")]
pub fn say(line: &str) {
    println!("{line}");
}

/// The test that a closure was written in, from the name that the compiler gives the closure.
pub fn name_of<T>(_closure: &T) -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.trim_end_matches("::{{closure}}");
    name.split_once("::").map_or(name, |(_crate, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_one_line_with_the_tests_name() {
        let name = name_of(&|| ());
        assert_eq!(name, "gate::tests::a_skip_is_one_line_with_the_tests_name");
        assert_eq!(
            skipped(name, "needs root", None).as_deref(),
            Some("SKIP gate::tests::a_skip_is_one_line_with_the_tests_name: needs root")
        );
        assert_eq!(skipped(name, "needs root", Some("require")), None);
    }

    #[test]
    fn a_missing_target_says_how_to_get_it() {
        let missing = matrix::targets_root().join("go/0.9/plain/truth");
        let reason = file(&missing).expect_err("there is no such release");
        assert!(reason.ends_with("`cargo xtask targets` builds it"), "{reason}");
    }
}
