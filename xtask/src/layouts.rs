//! `leakwatch-inspect/src/go/layouts.toml` from the DWARF of the plain test binaries of every Go toolchain.
//!
//! Must never write an offset that was not measured, except for the releases in [`INFERRED`], which the table marks as
//! such.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use leakwatch_inspect::Elf;
use leakwatch_inspect::go::layout::FIELDS;
use leakwatch_inspect::go::layout::table::Table;
use leakwatch_inspect::go::version::{GoVersion, find_build_info};
use leakwatch_inspect::go::{dwarf, globals};

use crate::shell;

/// Where the table is.
const TABLE: &str = "leakwatch-inspect/src/go/layouts.toml";
const REBUILD: &str = "`cargo xtask layouts` writes it";
/// Largest test binary that is read.
const MAX_BINARY: u64 = 1 << 30;

/// A release that no toolchain could be had for.
struct Inferred {
    release: (u16, u16),
    /// The measured release that it equals, but for what follows.
    like: (u16, u16),
    /// The measured release that its wait reasons equal.
    wait_reasons_like: (u16, u16),
    differing: &'static [(&'static str, u32)],
    /// Fields that were not compared, and are left out.
    unknown: &'static [&'static str],
    why: &'static str,
}

const INFERRED: &[Inferred] = &[
    Inferred {
        release: (1, 18),
        like: (1, 19),
        wait_reasons_like: (1, 19),
        differing: &[],
        unknown: &[
            "m.procid",
            "m.curg",
            "mheap.allspans",
            "mheap.sweepgen",
            "mspan",
            "mspan.specials",
            "moduledata.next",
            "p.timers",
            "p.gcw",
            "p.wbBuf",
            "gcWork",
            "wbBuf",
        ],
        why: "1.19 changed no field of g before gcAssistBytes (goroutineProfiled fills a gap after selectDone) and none \
              of schedt before gFree; not measured",
    },
    Inferred {
        release: (1, 20),
        like: (1, 19),
        wait_reasons_like: (1, 21),
        differing: &[("schedt.gFree", 160)],
        unknown: &[
            "m.procid",
            "m.curg",
            "mheap.allspans",
            "mheap.sweepgen",
            "mspan",
            "mspan.specials",
            "moduledata.next",
            "p.timers",
            "p.gcw",
            "p.wbBuf",
            "gcWork",
            "wbBuf",
        ],
        why: "computed from the source of 1.20.6: g is that of 1.19 with atomic types of the same size, schedt gained \
              needspinning before gFree as in 1.21, waitReasonStrings is that of 1.21; not measured",
    },
];

/// What one release's binary tells.
#[derive(Clone)]
struct Measured {
    /// The toolchain.
    version: String,
    offsets: dwarf::Offsets,
    wait_reasons: Vec<String>,
}

/// `cargo xtask layouts [--check]`
pub(crate) fn run(args: &[String]) -> Result<()> {
    let check = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--check"] => true,
        _ => bail!("`cargo xtask layouts` takes nothing or --check"),
    };
    let measured = measure()?;
    let path = shell::root().join(TABLE);
    let present = fs::read_to_string(&path).unwrap_or_default();
    if let Some(table) = Table::shipped() {
        for release in table.release.iter().filter(|release| release.measured.is_some()) {
            if !measured.keys().any(|(major, minor)| release.go == format!("{major}.{minor}")) {
                bail!("there is no plain test binary of Go {}; `cargo xtask targets` builds it", release.go);
            }
        }
    }
    let text = render(&measured)?;
    if !check {
        return fs::write(&path, text).with_context(|| format!("failed to write {TABLE}"));
    }
    // Another patch release may be at hand here; it must say the same.
    let facts = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("measured = ")).map(str::to_owned).collect()
    };
    let (is, should) = (facts(&present), facts(&text));
    if let Some((is, should)) = is.iter().zip(&should).find(|(is, should)| is != should) {
        bail!("{TABLE} has {is:?} where the test binaries say {should:?}; {REBUILD}");
    }
    if is.len() != should.len() {
        bail!("{TABLE} is not what the test binaries say; {REBUILD}");
    }
    Ok(())
}

/// Reads every `<targets>/go/<version>/plain/truth`.
fn measure() -> Result<BTreeMap<(u16, u16), Measured>> {
    let targets = std::env::var_os("LEAKWATCH_TARGETS")
        .map_or_else(|| shell::work_dir().join("targets"), PathBuf::from)
        .join("go");
    let entries = fs::read_dir(&targets)
        .with_context(|| format!("{} cannot be read; `cargo xtask targets` makes it", targets.display()))?;
    let mut measured = BTreeMap::<_, Measured>::new();
    for entry in entries {
        let binary = entry?.path().join("plain").join("truth");
        if !binary.is_file() {
            continue;
        }
        let (version, one) =
            read(&binary).with_context(|| format!("failed to inspect {}", binary.display()))?;
        let release = (version.major, version.minor);
        if let Some(other) = measured.get(&release).filter(|other| other.offsets != one.offsets) {
            bail!(
                "{} and {} have different layouts; ranges of whole releases cannot tell them apart",
                other.version,
                one.version
            );
        }
        measured.insert(release, one);
    }
    if measured.is_empty() {
        bail!("there are no test binaries in {}; `cargo xtask targets` builds them", targets.display());
    }
    Ok(measured)
}

fn read(binary: &std::path::Path) -> Result<(GoVersion, Measured)> {
    if fs::metadata(binary)?.len() > MAX_BINARY {
        bail!("it is larger than any test binary");
    }
    let image = fs::read(binary)?;
    let elf = Elf::parse(&image)?;
    let version = find_build_info(&elf, &image)
        .and_then(|info| GoVersion::parse(&info.version))
        .context("it does not tell its Go version")?;
    let offsets = dwarf::offsets(&elf, &image)
        .map_err(|problem| anyhow::anyhow!(problem.0))?
        .context("it has no DWARF; a plain build is needed")?;
    let [strings] = elf.symbols(&image, ["runtime.waitReasonStrings"]);
    let strings = strings.context("it has no symbol runtime.waitReasonStrings")?;
    let count = usize::try_from(strings.size / 16)?;
    let wait_reasons = globals::read_wait_reasons(&elf, &image, strings.address, count);
    if wait_reasons.len() != count {
        bail!("only {} of {count} wait reasons could be read", wait_reasons.len());
    }
    let one = Measured { version: version.text.clone(), offsets, wait_reasons };
    Ok((version, one))
}

/// The table as text.
fn render(measured: &BTreeMap<(u16, u16), Measured>) -> Result<String> {
    let mut all = measured.clone();
    let mut text = String::from(
        "# Field offsets of the Go runtime's structs on 64-bit Linux (amd64 and arm64 alike), and texts of its wait reasons.\n\
         #\n\
         # Written by `cargo xtask layouts` from the DWARF of programs built with each toolchain: do not edit. `since` and\n\
         # `until` are the first and the last Go release in which an offset holds; a release outside of all ranges does not\n\
         # have the field, or (only where `inferred` stands) its offset is not known. A name without a dot is a type's size.\n",
    );
    for inferred in INFERRED.iter().filter(|inferred| !measured.contains_key(&inferred.release)) {
        let like = measured.get(&inferred.like).context("the release to infer from is not measured")?;
        let reasons =
            measured.get(&inferred.wait_reasons_like).context("the release to infer from is not measured")?;
        let mut offsets = like.offsets.clone();
        offsets.retain(|name, _| !inferred.unknown.contains(name));
        offsets.extend(inferred.differing.iter().copied());
        let one = Measured { version: String::new(), offsets, wait_reasons: reasons.wait_reasons.clone() };
        all.insert(inferred.release, one);
    }
    let name = |(major, minor): &(u16, u16)| format!("{major}.{minor}");
    for (release, one) in &all {
        writeln!(text, "\n[[release]]\ngo = {:?}", name(release))?;
        match INFERRED.iter().find(|inferred| inferred.release == *release && one.version.is_empty()) {
            Some(inferred) => writeln!(text, "inferred = {:?}", inferred.why)?,
            None => writeln!(text, "measured = {:?}", one.version)?,
        }
    }
    for field in FIELDS {
        let values: Vec<_> =
            all.iter().map(|(release, one)| (release, one.offsets.get(field.name))).collect();
        writeln!(text, "\n[[field]]\nname = {:?}\nsource = {:?}\noffsets = [", field.name, field.file)?;
        for run in values.chunk_by(|a, b| a.1 == b.1) {
            if let (Some((since, Some(offset))), Some((until, _))) = (run.first(), run.last()) {
                let (since, until) = (name(since), name(until));
                writeln!(text, "    {{ since = {since:?}, until = {until:?}, offset = {offset} }},")?;
            }
        }
        writeln!(text, "]")?;
    }
    let reasons: Vec<_> = all.iter().map(|(release, one)| (release, &one.wait_reasons)).collect();
    for run in reasons.chunk_by(|a, b| a.1 == b.1) {
        if let (Some((since, texts)), Some((until, _))) = (run.first(), run.last()) {
            let (since, until) = (name(since), name(until));
            writeln!(text, "\n[[wait_reasons]]\nsince = {since:?}\nuntil = {until:?}")?;
            writeln!(text, "source = \"src/runtime/runtime2.go\"\ntexts = [")?;
            for reason in *texts {
                writeln!(text, "    {reason:?},")?;
            }
            writeln!(text, "]")?;
        }
    }
    Ok(text)
}
