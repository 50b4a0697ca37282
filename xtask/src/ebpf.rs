//! Builds the kernel side: `leakwatch-ebpf` -> `leakwatch/ebpf/leakwatch.bpf.o`, the kept object.
//!
//! The object is kept in the repository so that plain stable Rust builds leakwatch; beside it stands the
//! record of the sources it was built from. Needs a compiler with the library's sources (a nightly with
//! rust-src, or Debian's rustc-web) and bpf-linker; nobody who only builds leakwatch needs these.

mod sources;
mod strip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{digest::sha256, shell, tools};
use sources::{Record, Sources};

/// The target of the kernel side. The BPF instructions are the same on every host ...
const TARGET: &str = "bpfel-unknown-none";
/// ... but the registers of a probed process are the host's.
const REGISTERS_OF: &str = "x86_64";
/// The newest LLVM whose bitcode bpf-linker is built for (its feature `llvm-22`).
const NEWEST_LLVM: u32 = 22;

/// `cargo xtask ebpf [--check | --fresh-to PATH]`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => rebuild_kept(),
        ["--check"] => check(),
        ["--fresh-to", path] => fresh_to(&std::path::absolute(path).context("failed to resolve the path")?),
        _ => bail!("`cargo xtask ebpf` takes nothing, --check, or --fresh-to PATH"),
    }
}

/// Fails, naming what differs, when the kept object is not from the present sources.
pub(crate) fn check() -> Result<()> {
    let kept = Kept::at(&shell::root());
    let object = fs::read(&kept.object).with_context(|| format!("{} is missing; {REBUILD}", Kept::OBJECT))?;
    let text = fs::read_to_string(&kept.record)
        .with_context(|| format!("{} is missing; {REBUILD}", Kept::RECORD))?;
    let record = Record::parse(&text).with_context(|| format!("{} is damaged; {REBUILD}", Kept::RECORD))?;
    if record.object != sha256(&object) {
        bail!("{} is not the object that {} was written for; {REBUILD}", Kept::OBJECT, Kept::RECORD);
    }
    let differences = Sources::of(&shell::root(), &recipe())?.differences(&record.sources);
    if !differences.is_empty() {
        let shown = differences.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = differences.len().saturating_sub(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        bail!("{} was not built from these sources ({shown}{more}); {REBUILD}", Kept::OBJECT);
    }
    eprintln!("    {} is from these sources", Kept::OBJECT);
    Ok(())
}

/// Whether there is a compiler for the kernel side; a linker is another matter.
pub(crate) fn has_compiler() -> bool {
    Compiler::find().is_ok()
}

/// Builds from the present sources to `path`; the kept object stays as it is.
pub(crate) fn fresh_to(path: &Path) -> Result<()> {
    let built = build(Warnings::Deny)?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    }
    fs::write(path, &built.object).with_context(|| format!("failed to write {}", path.display()))?;
    eprintln!("    {}: {} bytes by {}", path.display(), built.object.len(), built.compiler);
    compare_with_kept(&built)
}

/// The same compiler gives the same bytes from the same sources, in whatever folder: a kept object that
/// differs is not what its record says.
fn compare_with_kept(built: &Built) -> Result<()> {
    let Ok(Ok(record)) = fs::read_to_string(Kept::at(&shell::root()).record).map(|text| Record::parse(&text))
    else {
        return Ok(()); // `check` says so.
    };
    if record.object == sha256(&built.object) {
        eprintln!("    byte for byte the kept object");
    } else if record.compiler != built.compiler {
        eprintln!("    not comparable with the kept object, which is by {}", record.compiler);
    } else if record.sources == built.sources {
        bail!("{} is not what its sources give with the compiler that it names; {REBUILD}", Kept::OBJECT);
    }
    Ok(())
}

const REBUILD: &str = "run `cargo xtask ebpf` and commit what it writes";

/// The kept object and its record.
struct Kept {
    object: PathBuf,
    record: PathBuf,
}

impl Kept {
    const OBJECT: &str = "leakwatch/ebpf/leakwatch.bpf.o";
    const RECORD: &str = "leakwatch/ebpf/leakwatch.bpf.sources";

    fn at(root: &Path) -> Self {
        Self { object: root.join(Self::OBJECT), record: root.join(Self::RECORD) }
    }
}

/// Where the kept object is.
pub(crate) fn kept_object() -> PathBuf {
    Kept::at(&shell::root()).object
}

fn rebuild_kept() -> Result<()> {
    let built = build(Warnings::Show)?;
    let kept = Kept::at(&shell::root());
    if let Some(dir) = kept.object.parent() {
        fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    }
    fs::write(&kept.object, &built.object).with_context(|| format!("failed to write {}", Kept::OBJECT))?;
    let record = Record::write(&built.object, &built.compiler, &built.sources);
    fs::write(&kept.record, record).with_context(|| format!("failed to write {}", Kept::RECORD))?;
    eprintln!("    {}: {} bytes by {}", Kept::OBJECT, built.object.len(), built.compiler);
    Ok(())
}

/// A freshly built object.
struct Built {
    object: Vec<u8>,
    compiler: String,
    sources: Sources,
}

/// What a warning of the kernel side's own code is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Warnings {
    Show,
    Deny,
}

fn build(warnings: Warnings) -> Result<Built> {
    let root = shell::root();
    let compiler = Compiler::find()?;
    let linker =
        tools::bpf_linker().context("bpf-linker is not installed; `cargo xtask tools ebpf` installs it")?;
    let sources = Sources::of(&root, &recipe())?;

    let target_dir = shell::work_dir().join("ebpf");
    let mut cargo = compiler.cargo();
    cargo
        .args(["build", "--locked", "--release", "-Zbuild-std=core", "--target", TARGET])
        .args(["--package", "leakwatch-ebpf", "--bin", "leakwatch", "--target-dir"])
        .arg(&target_dir);
    if warnings == Warnings::Deny {
        // Unlike `-D warnings` this is no flag that the objects built so far depend on.
        cargo.args(["-Zwarnings", "--config", "build.warnings=\"deny\""]);
    }
    let flags =
        recipe().into_iter().chain([format!("-Clinker={}", linker.display())]).chain(compiler.remaps(&root));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.collect::<Vec<_>>().join("\u{1f}"));
    shell::run(&mut cargo).context("failed to build the eBPF object")?;

    if Sources::of(&root, &recipe())? != sources {
        bail!("the sources of the eBPF object changed while it was built; run the same command again");
    }
    let linked = target_dir.join(TARGET).join("release").join("leakwatch");
    let linked = fs::read(&linked).with_context(|| format!("failed to read {}", linked.display()))?;
    let object = strip::without_dwarf(&linked)?;
    let folders = compiler.folders(&root).into_iter().map(|(folder, _)| folder.display().to_string());
    let home = std::env::var("HOME").into_iter();
    let roots = ["/home/", "/usr/"].map(str::to_owned);
    strip::refuse_paths(&object, &folders.chain(home).chain(roots).collect::<Vec<_>>())?;
    let linker = shell::output(shell::command(linker).arg("--version"))?;
    Ok(Built { object, compiler: format!("{}, {}", compiler.version, linker.trim()), sources })
}

/// The flags that decide the object's bytes; the same on every machine, and recorded with the object.
fn recipe() -> Vec<String> {
    let mut flags: Vec<String> = [
        // The oldest kernel we run on, 5.15, has every v3 instruction (atomics with fetch since 5.12).
        "-Ctarget-cpu=v3",
        "-Copt-level=3",
        "-Cpanic=abort",
        // Types and lines for BTF; the DWARF is stripped afterwards.
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
    ]
    .map(str::to_owned)
    .into();
    flags.push(format!("--cfg=bpf_target_arch=\"{REGISTERS_OF}\""));
    flags
}

/// A compiler that can build `core` for BPF.
struct Compiler {
    /// The rustc to use, or none for the one rustup knows as `nightly`.
    rustc: Option<PathBuf>,
    /// What it calls itself.
    version: String,
    /// Where its library's sources are.
    library: PathBuf,
}

impl Compiler {
    /// A rustup nightly with rust-src, else Debian's rustc with rust-web-src.
    fn find() -> Result<Self> {
        let debian = Path::new("/usr/bin/rustc");
        let compiler = Self::probe(None).or_else(|| Self::probe(Some(debian)));
        compiler.context(
            "no compiler that can build for BPF: neither a rustup nightly with the component rust-src nor \
             Debian's rustc-web with rust-web-src is installed; `cargo xtask tools ebpf` installs the latter",
        )
    }

    /// The compiler, if it is there, has its library's sources, and an LLVM that bpf-linker reads.
    fn probe(path: Option<&Path>) -> Option<Self> {
        let ask = |question: &[&str]| {
            let mut rustc = shell::command(path.unwrap_or(Path::new("rustc")));
            if path.is_none() {
                rustc.env("RUSTUP_TOOLCHAIN", "nightly");
            }
            // Not there, or not working, is an answer here.
            shell::output(rustc.env_remove("LD_LIBRARY_PATH").args(question)).ok()
        };
        let version = ask(&["--version", "--verbose"])?;
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
        let major: u32 = llvm.split('.').next()?.parse().ok()?;
        let library = Path::new(ask(&["--print", "sysroot"])?.trim()).join("lib/rustlib/src/rust/library");
        let new_enough =
            release_of(&version) >= release_of(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION")));
        let usable = new_enough && major <= NEWEST_LLVM && library.join("core").is_dir();
        let version = format!("{}, LLVM {llvm}", version.lines().next()?);
        usable.then(|| Self { rustc: path.map(Path::to_path_buf), version, library })
    }

    /// A cargo that uses this compiler and nothing of the caller's own build settings.
    fn cargo(&self) -> Command {
        let mut cargo;
        if let Some(rustc) = &self.rustc {
            // cargo's own version does not matter: -Zbuild-std needs only the leave to use it.
            cargo = shell::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        } else {
            cargo = shell::command("cargo");
            cargo.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("RUSTC");
        }
        for inherited in [
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_RUSTFLAGS",
            "LD_LIBRARY_PATH",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
        ] {
            cargo.env_remove(inherited);
        }
        cargo
    }

    /// Flags that replace this machine's folders by names that every machine has in common.
    fn remaps(&self, root: &Path) -> Vec<String> {
        let flag = |(from, to): (PathBuf, &str)| format!("--remap-path-prefix={}={to}", from.display());
        self.folders(root).into_iter().map(flag).collect()
    }

    /// The folders that sources come from, and their common names.
    fn folders(&self, root: &Path) -> Vec<(PathBuf, &'static str)> {
        let cargo_home = shell::cargo_bin_dir().and_then(|bin| bin.parent().map(Path::to_path_buf));
        let registries = cargo_home.map(|home| home.join("registry/src")).unwrap_or_default();
        let registries: Vec<PathBuf> = fs::read_dir(&registries)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        // The library's folder is often a link, and some paths are written as where it leads.
        let library = [Some(self.library.clone()), fs::canonicalize(&self.library).ok()];
        let mut folders = vec![(root.to_path_buf(), ".")];
        folders.extend(registries.into_iter().map(|folder| (folder, "registry")));
        folders.extend(library.into_iter().flatten().map(|folder| (folder, "library")));
        folders
    }
}

/// Release of a compiler that says `rustc 1.96.0 (…)`.
fn release_of(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(release_of("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some((1, 96)));
        assert!(release_of("rustc 1.100.0-nightly") > release_of("rustc 1.95"));
        assert_eq!(release_of("clang"), None);
    }

    #[test]
    fn the_recipe_names_no_machine() {
        assert!(recipe().iter().all(|flag| !flag.contains('/')), "{:?}", recipe());
    }

    #[test]
    fn other_arguments_are_refused() {
        run(&["--chekc".to_owned()]).expect_err("a typing error is not a rebuild");
    }
}
