//! Running other programs: every command is echoed, timed and, when it fails, named in the error.
//!
//! Also knows where the repository is and which environment a nested cargo must not inherit. Never
//! interprets a command line: arguments go to the program as they are.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    // cargo sets the variable for `cargo xtask`; the compiled-in value serves a directly started xtask.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Where xtask keeps what it builds and installs for itself: ignored by git, kept between runs.
pub(crate) fn work_dir() -> PathBuf {
    root().join("target").join("leakwatch")
}

/// Where cargo puts what it builds for people.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where `tools` and other tasks install cargo programs: `--root` of `cargo install`.
pub(crate) fn cargo_tools_dir() -> PathBuf {
    work_dir().join("tools").join("cargo")
}

/// The full path of a program that cargo installed, by us or by the user.
pub(crate) fn find_cargo_program(name: &str) -> Option<PathBuf> {
    let mut also: Vec<PathBuf> = cargo_bin_dir().into_iter().collect();
    also.push(cargo_tools_dir().join("bin"));
    find_program(name, &also)
}

/// A command that runs in the repository's root.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// A cargo command in the repository's root: the cargo that started xtask.
pub(crate) fn cargo(task: &str) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(task);
    // `cargo run` adds its own library folders, and these describe xtask, not what is built next.
    for inherited in ["LD_LIBRARY_PATH", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
        cargo.env_remove(inherited);
    }
    cargo
}

/// Echoes and runs `command`; an exit code other than 0 is an error that names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("    $ {line}");
    let started = Stopwatch::start();
    let status = command.status().with_context(|| format!("failed to start `{line}`"))?;
    let took = started.seconds();
    if !status.success() {
        bail!("`{line}` failed after {took:.1} s: {status}");
    }
    if took >= 1.0 {
        eprintln!("      {took:.1} s");
    }
    Ok(())
}

/// As `run`, and returns what the command printed, standard output and standard error as they came.
///
/// The text is returned also when the command failed; `Ok(false)` then.
pub(crate) fn run_and_read(command: &mut Command) -> Result<(bool, String)> {
    let line = line(command);
    eprintln!("    $ {line}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{line}`"))?;
    let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    let read: Mutex<String> = Mutex::default();
    std::thread::scope(|scope| {
        for pipe in [stdout, stderr].into_iter().flatten() {
            scope.spawn(|| forward(pipe, &read));
        }
    });
    let status = child.wait().with_context(|| format!("failed to wait for `{line}`"))?;
    Ok((status.success(), read.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// Shows every line at once and keeps it.
fn forward(pipe: impl Read, read: &Mutex<String>) {
    let mut lines = BufReader::new(pipe);
    let mut line = Vec::new();
    // A pipe that breaks has no more to say.
    while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line);
        eprint!("{text}");
        read.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
        line.clear();
    }
}

/// Runs `command` quietly and returns its standard output; its standard error is part of a failure's text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.output().with_context(|| format!("failed to start `{line}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}: {}", output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed something that is not UTF-8"))
}

/// The program's full path, looked for in PATH and then in `also`.
pub(crate) fn find_program(name: &str, also: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(also.iter().cloned())
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// The folder that `cargo install` puts programs into; it need not be in PATH.
pub(crate) fn cargo_bin_dir() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    Some(home.join("bin"))
}

/// The command as a person would type it; only what was set for this command, never the whole environment.
pub(crate) fn line(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy().replace('\u{1f}', " ");
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value)))
    });
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()));
    set.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// How long a step takes.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the ban is for leakwatch's floors; xtask times its own steps"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_named() {
        let error = run(Command::new("false").arg("a b")).expect_err("`false` fails");
        assert!(error.to_string().starts_with("`false 'a b'` failed after"), "{error}");
        let error = output(Command::new("leakwatch-no-such-program").arg("x")).expect_err("no such program");
        assert_eq!(error.to_string(), "failed to start `leakwatch-no-such-program x`");
    }

    #[test]
    fn what_a_command_prints_is_kept() {
        let mut command = Command::new("sh");
        let (good, text) =
            run_and_read(command.args(["-c", "echo out; echo err >&2; exit 3"])).expect("sh starts");
        assert!(!good);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["err", "out"]);
    }

    #[test]
    fn the_echoed_line_shows_what_was_set() {
        let mut command = Command::new("cargo");
        command.arg("build").env("A", "x\u{1f}y").env_remove("B");
        assert_eq!(line(&command), "A='x y' cargo build");
    }
}
