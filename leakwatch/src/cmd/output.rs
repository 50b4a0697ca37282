//! Where results go: standard output, or a file that appears only when it is whole.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::End;
use crate::{
    cli::{Cli, Format},
    export,
    report::Report,
};

/// One result, written once: to standard output, or to a temporary file beside its name, renamed at the end.
pub(super) fn write_whole(path: Option<&Path>, text: &str) -> io::Result<()> {
    let Some(path) = path else {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        return out.flush();
    };
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A report as metrics.
pub(super) fn metrics(report: &Report) -> String {
    export::metrics::report_to_text(report, env!("CARGO_PKG_VERSION"), env!("LEAKWATCH_REVISION"))
}

/// A result beside what a program that we ran wrote to standard output.
pub(super) fn write_to_stderr(text: &str) -> io::Result<()> {
    let mut err = io::stderr().lock();
    err.write_all(text.as_bytes())?;
    err.flush()
}

/// One result that is written in pieces: to standard output, or to a temporary file beside its name, renamed at the end.
///
/// # Errors
/// When the file cannot be made, or `write` fails; no file is left then.
pub(super) fn write_with(
    path: Option<&Path>,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    let Some(path) = path else {
        let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
        write(&mut out)?;
        return Ok(out.flush()?);
    };
    let cannot = || format!("cannot write {}; choose another --output", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path)).with_context(cannot)?;
    let mut out = BufWriter::with_capacity(1 << 18, file.as_file_mut());
    write(&mut out).and_then(|()| out.flush()).with_context(cannot)?;
    drop(out);
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

/// Names that are tried when a file is there already.
const MOST_NAMES: u32 = 1_000;

/// One result in a file of the current folder whose name is not taken yet, `STEM.EXTENSION` or `STEM-2.EXTENSION`; tells
/// which. What is there is never replaced, and no link is followed: the file appears whole, under a new name.
///
/// # Errors
/// When the file cannot be made, or `write` fails; no file is left then.
pub(super) fn write_new(
    stem: &str,
    extension: &str,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<PathBuf> {
    let folder = std::env::current_dir().context("the current folder is gone")?;
    write_new_in(&folder, stem, extension, write)
}

fn write_new_in(
    folder: &Path,
    stem: &str,
    extension: &str,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot write to {}", folder.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    let mut out = BufWriter::with_capacity(1 << 18, file.as_file_mut());
    write(&mut out).and_then(|()| out.flush()).with_context(cannot)?;
    drop(out);
    file.as_file().sync_all().with_context(cannot)?;
    for number in 1..=MOST_NAMES {
        let counted = if number > 1 { format!("-{number}") } else { String::new() };
        let path = folder.join(format!("{stem}{counted}.{extension}"));
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(path),
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => file = taken.file,
            Err(other) => return Err(anyhow::Error::from(other.error).context(cannot())),
        }
    }
    anyhow::bail!("{} names like {stem}.{extension} are taken in {}", MOST_NAMES, folder.display())
}

/// Whether a result can be written there: better known before a watch than after it.
///
/// # Errors
/// When the folder is not there or cannot be written to.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let probe = tempfile::NamedTempFile::new_in(folder_of(path));
    probe.with_context(|| format!("cannot write {}; choose another --output", path.display()))?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The form of a report: that of its file's name, where none was asked for.
pub(super) fn form(asked: Format, path: Option<&Path>) -> Format {
    let extension = path.and_then(Path::extension).and_then(OsStr::to_str).unwrap_or_default();
    match (asked, extension.to_ascii_lowercase().as_str()) {
        (Format::Table, "html" | "htm") => Format::Html,
        (Format::Table, "md" | "markdown") => Format::Markdown,
        (asked, _) => asked,
    }
}

/// A stream of lines, to standard output or a file.
pub(super) struct Lines {
    out: BufWriter<Box<dyn Write>>,
}

impl Lines {
    /// Opens it. A file that is there is replaced.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(super) fn open(path: Option<&PathBuf>) -> anyhow::Result<Self> {
        let out: Box<dyn Write> =
            match path {
                None => Box::new(io::stdout()),
                Some(path) => Box::new(
                    OpenOptions::new().write(true).create(true).truncate(true).open(path).with_context(
                        || format!("cannot write {}; choose another --output", path.display()),
                    )?,
                ),
            };
        Ok(Self { out: BufWriter::with_capacity(1 << 18, out) })
    }

    /// Writes bytes; they may wait in memory until [`Self::flush`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether to colour what goes to standard output.
pub(super) fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `leakwatch completions`.
pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<End> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "leakwatch", &mut script);
    io::stdout().lock().write_all(&script).context("cannot write to standard output")?;
    Ok(End::Done)
}

/// `leakwatch man`: the page of the program and of each command.
pub(super) fn man() -> anyhow::Result<End> {
    let mut page = Vec::new();
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        clap_mangen::Man::new(
            subcommand.clone().display_name(format!("leakwatch-{}", subcommand.get_name())),
        )
        .render(&mut page)?;
    }
    io::stdout().lock().write_all(&page).context("cannot write to standard output")?;
    Ok(End::Done)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_is_there_is_never_replaced_and_no_link_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let elsewhere = tempfile::NamedTempFile::new().expect("a file");
        symlink(elsewhere.path(), folder.path().join("a.txt")).expect("a link");
        let write = |text: &'static str| {
            write_new_in(folder.path(), "a", "txt", &mut |out| out.write_all(text.as_bytes()))
                .expect("a path")
        };
        assert_eq!(write("one"), folder.path().join("a-2.txt"));
        assert_eq!(write("two"), folder.path().join("a-3.txt"));
        assert_eq!(fs::read_to_string(elsewhere.path()).expect("a text"), "");
        assert_eq!(fs::read_to_string(folder.path().join("a-2.txt")).expect("a text"), "one");
        write_new_in(folder.path(), "b", "txt", &mut |_| Err(io::Error::other("no"))).expect_err("it fails");
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 3, "nothing is left behind");
    }
}
