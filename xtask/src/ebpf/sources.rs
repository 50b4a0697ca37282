//! The record of what the kept eBPF object was built from, and the comparison with what is there now.
//!
//! One line per thing that decides the object's bytes, so that a stale object can be explained by name. The
//! compiler is no such thing: another one gives other bytes from the same sources, and that is all right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::digest::sha256;

/// The crates whose files are compiled into the object.
const CRATES: [&str; 2] = ["leakwatch-ebpf", "leakwatch-common"];

/// What the object is built from: a name for each input, and what it must be equal to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources(BTreeMap<String, String>);

impl Sources {
    /// Reads the present state below `root`.
    pub(super) fn of(root: &Path, recipe: &[String]) -> Result<Self> {
        let mut inputs = BTreeMap::new();
        for name in CRATES {
            for file in files_below(&root.join(name))? {
                let bytes = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
                let relative = file.strip_prefix(root).unwrap_or(&file);
                inputs.insert(format!("file {}", relative.display()), sha256(&bytes));
            }
        }
        let manifest = read_toml(&root.join("Cargo.toml"))?;
        inputs.extend(workspace_entries(root, &manifest)?);
        inputs.extend(locked_dependencies(&read_toml(&root.join("Cargo.lock"))?)?);
        inputs.insert("recipe".to_owned(), recipe.join(" "));
        Ok(Self(inputs))
    }

    /// The first few inputs that differ from `built_from`, in words; empty when it is the same.
    pub(super) fn differences(&self, built_from: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(built_from.0.keys()).collect();
        names
            .into_iter()
            .filter_map(|name| match (self.0.get(name), built_from.0.get(name)) {
                (Some(now), Some(then)) if now == then => None,
                (Some(_), Some(_)) => Some(format!("{name} changed")),
                (Some(_), None) => Some(format!("{name} is new")),
                (None, _) => Some(format!("{name} is gone")),
            })
            .collect()
    }
}

/// What `leakwatch.bpf.sources` says.
#[derive(Debug)]
pub(super) struct Record {
    /// Hash of the object that the record belongs to.
    pub(super) object: String,
    /// What built it.
    pub(super) compiler: String,
    /// What the object was built from.
    pub(super) sources: Sources,
}

impl Record {
    /// The record as text: `name = value` lines.
    pub(super) fn write(object: &[u8], compiler: &str, sources: &Sources) -> String {
        let mut text = String::from(
            "# What leakwatch.bpf.o was built from. Written by `cargo xtask ebpf`, compared by `cargo xtask ebpf \
             --check`.\n",
        );
        let mut line = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            writeln!(text, "{name} = {value}").unwrap_or_default();
        };
        line("object", &sha256(object));
        line("compiler", compiler);
        for (name, value) in &sources.0 {
            line(name, value);
        }
        text
    }

    /// Reads what `write` wrote.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut inputs = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) =
                line.split_once(" = ").with_context(|| format!("the line {line:?} is not `name = value`"))?;
            inputs.insert(name.to_owned(), value.to_owned());
        }
        let object = inputs.remove("object").context("the line `object = …` is missing")?;
        let compiler = inputs.remove("compiler").context("the line `compiler = …` is missing")?;
        Ok(Self { object, compiler, sources: Sources(inputs) })
    }
}

/// All files below `dir`, in a stable order; what editors leave behind is not a source.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("failed to list {}", dir.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("failed to list {}", dir.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name.starts_with('#') || name.ends_with('~') || name == "target" {
                continue;
            }
            let kind =
                entry.file_type().with_context(|| format!("failed to look at {}", entry.path().display()))?;
            if kind.is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    Ok(found)
}

fn read_toml(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    text.parse().with_context(|| format!("failed to parse {}", path.display()))
}

/// The workspace's part in the crates' manifests: the edition, and the features of each dependency.
fn workspace_entries(root: &Path, manifest: &toml::Table) -> Result<BTreeMap<String, String>> {
    let workspace = manifest.get("workspace").context("Cargo.toml has no [workspace]")?;
    let mut entries = BTreeMap::new();
    let edition = workspace.get("package").and_then(|package| package.get("edition"));
    entries.insert(
        "workspace edition".to_owned(),
        edition.map_or_else(|| "none".to_owned(), ToString::to_string),
    );
    for name in CRATES {
        let krate = read_toml(&root.join(name).join("Cargo.toml"))?;
        let dependencies = krate.get("dependencies").and_then(toml::Value::as_table);
        for dependency in dependencies.into_iter().flat_map(toml::Table::keys) {
            if let Some(asked) = workspace.get("dependencies").and_then(|all| all.get(dependency)) {
                entries.insert(format!("workspace dependency {dependency}"), asked.to_string());
            }
        }
    }
    Ok(entries)
}

/// The lock entries (version and checksum) of everything the crates depend on, directly or not.
fn locked_dependencies(lock: &toml::Table) -> Result<BTreeMap<String, String>> {
    let packages =
        lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock has no packages")?;
    let text = |package: &toml::Value, key: &str| {
        package.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
    };
    let mut locked = BTreeMap::new();
    let mut seen = BTreeSet::new();
    // A dependency is written as its name, with the version behind it where the name is ambiguous.
    let mut open: Vec<String> = CRATES.iter().map(|name| (*name).to_owned()).collect();
    while let Some(wanted) = open.pop() {
        if !seen.insert(wanted.clone()) {
            continue;
        }
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let Some(package) = packages.iter().find(|package| {
            text(package, "name") == name && version.is_none_or(|version| text(package, "version") == version)
        }) else {
            bail!("Cargo.lock has no entry for {wanted}; run `cargo metadata` to bring it up to date");
        };
        if package.get("source").is_some() {
            let key = format!("lock {name} {}", text(package, "version"));
            locked.insert(key, text(package, "checksum"));
        }
        let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
        open.extend(dependencies.into_iter().flatten().filter_map(toml::Value::as_str).map(str::to_owned));
    }
    Ok(locked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(inputs: &[(&str, &str)]) -> Sources {
        Sources(inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let built_from = sources(&[("file a.rs", "00"), ("recipe", "-Cx --cfg=a=\"b\"")]);
        let record = Record::parse(&Record::write(b"object", "rustc 1", &built_from)).expect("own text");
        assert_eq!(record.object, sha256(b"object"));
        assert_eq!(record.compiler, "rustc 1");
        assert_eq!(record.sources, built_from);
        Record::parse("file a.rs 00\n").expect_err("no ` = `");
        Record::parse("file a.rs = 00\n").expect_err("no object");
    }

    #[test]
    fn differences_are_named() {
        let then = sources(&[("file a.rs", "1"), ("file b.rs", "1"), ("file c.rs", "1")]);
        let now = sources(&[("file a.rs", "1"), ("file b.rs", "2"), ("file d.rs", "1")]);
        assert_eq!(now.differences(&then), ["file b.rs changed", "file c.rs is gone", "file d.rs is new"]);
        assert!(now.differences(&now).is_empty());
    }

    #[test]
    fn only_the_crates_own_dependencies_are_recorded() {
        let lock = "
            [[package]]
            name = \"leakwatch-ebpf\"
            version = \"0.1.0\"
            dependencies = [\"leakwatch-common\", \"syn 2.0.0\"]
            [[package]]
            name = \"leakwatch-common\"
            version = \"0.1.0\"
            [[package]]
            name = \"syn\"
            version = \"1.0.0\"
            source = \"registry\"
            checksum = \"aa\"
            [[package]]
            name = \"syn\"
            version = \"2.0.0\"
            source = \"registry\"
            checksum = \"bb\"
        ";
        let locked = locked_dependencies(&lock.parse().expect("TOML")).expect("complete");
        assert_eq!(locked.into_iter().collect::<Vec<_>>(), [("lock syn 2.0.0".to_owned(), "bb".to_owned())]);
        let torn = lock.replace("name = \"leakwatch-common\"", "name = \"other\"");
        locked_dependencies(&torn.parse().expect("TOML")).expect_err("an entry is missing");
    }
}
