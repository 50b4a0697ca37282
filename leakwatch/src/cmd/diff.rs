//! `leakwatch diff`: two dumps, two reports or two profiles; what appeared, grew, stayed, went.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::Context as _;

use super::{End, output::write_whole, progress::Progress};
use crate::{
    cli::{DiffArgs, TextOrJson},
    export,
    report::diff::{Snapshot, compare},
    text,
};

/// Largest file that is read.
const LARGEST: u64 = 4 << 30;

/// Compares two files.
///
/// # Errors
/// When one of them cannot be read, or is none of the forms that are known.
pub(super) fn run(args: &DiffArgs) -> anyhow::Result<End> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let difference = compare(&before, &after);
    let (name_a, name_b) = (args.before.display().to_string(), args.after.display().to_string());
    let (looks, names) = ([&before, &after], [name_a.as_str(), name_b.as_str()]);
    let printed = match args.format {
        TextOrJson::Text => text::diff(&difference, looks, names),
        TextOrJson::Json => export::diff_to_json(&difference, looks, names),
    };
    write_whole(args.output.as_deref(), &printed)
        .with_context(|| "cannot write the difference; choose another --output".to_owned())?;
    Ok(End::Done)
}

/// Reads a file in whichever form it has.
fn read(path: &Path) -> anyhow::Result<Snapshot> {
    let name = path.display();
    let cannot = || format!("cannot read {name}");
    let _reading = Progress::begin(&format!("reading {name}"));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| anyhow::anyhow!("cannot read {name}: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        anyhow::bail!("{}: it is larger than {LARGEST} bytes", cannot());
    }
    let sentence = |error: export::Unreadable| anyhow::anyhow!("cannot read {name}: {error}");
    if bytes.trim_ascii_start().starts_with(b"{") {
        return export::read_json(&bytes).map_err(sentence);
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return export::read_pprof(&bytes).map_err(sentence);
    }
    let text = String::from_utf8_lossy(&bytes);
    let (snapshot, strange) = text::read_goroutines(&text);
    if snapshot.tasks() > 0 {
        if strange > 0 {
            super::watch::say(&format!("{name}: {strange} blocks are no goroutines and are passed over"))?;
        }
        return Ok(snapshot);
    }
    // An unpacked profile begins with its first field.
    match export::read_pprof(&bytes) {
        Ok(profile) if bytes.first() == Some(&0x0a) => Ok(profile),
        _ => anyhow::bail!(
            "cannot read {name}: it is no dump (text or JSON), report (JSON) or profile of goroutines; \
             `leakwatch dump` and `leakwatch watch --format json` write such files"
        ),
    }
}
