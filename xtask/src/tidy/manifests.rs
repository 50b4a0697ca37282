//! The edges between our own crates, as their manifests state them, and what the pure crates may never need.

use super::Finding;

/// One of our crates: which of ours it may depend on, and which others it must not.
struct Krate {
    name: &'static str,
    may: &'static [&'static str],
    never: &'static [&'static str],
}

/// What reads, writes, waits or looks at the clock.
const IMPURE: &[&str] = &[
    "anyhow", "aya", "aya-log", "clap", "jiff", "libc", "memmap2", "nix", "procfs", "rustix", "tempfile",
    "tokio",
];

/// From the ground up. Tests look at leakwatch as its users do: they run it.
const CRATES: &[Krate] = &[
    Krate { name: "leakwatch-common", may: &[], never: IMPURE },
    Krate { name: "leakwatch-ebpf", may: &["leakwatch-common"], never: &["aya", "tokio"] },
    Krate { name: "leakwatch-inspect", may: &["leakwatch-common"], never: IMPURE },
    Krate { name: "leakwatch", may: &["leakwatch-common", "leakwatch-inspect"], never: &["aya-ebpf"] },
    Krate { name: "leakwatch-tests", may: &["leakwatch-common", "leakwatch-inspect"], never: &["aya-ebpf"] },
    // Without leakwatch itself: `cargo xtask demo` would build it twice.
    Krate {
        name: "xtask",
        may: &["leakwatch-common", "leakwatch-inspect", "leakwatch-tests"],
        never: &["aya", "aya-ebpf", "tokio"],
    },
];

/// Checks one Cargo.toml.
pub(super) fn check(file: &str, content: &str) -> Vec<Finding> {
    let manifest: toml::Table = match content.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(file, 0, format!("does not parse: {error}"))],
    };
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let Some(krate) = name.and_then(|name| CRATES.iter().find(|krate| krate.name == name)) else {
        return Vec::new();
    };
    let is_ours = |name: &str| CRATES.iter().any(|krate| krate.name == name);
    let mut findings = Vec::new();
    for dependency in dependencies(&manifest) {
        if is_ours(&dependency) && !krate.may.contains(&dependency.as_str()) {
            findings.push(Finding::new(
                file,
                0,
                format!("`{}` must not depend on `{dependency}`", krate.name),
            ));
        }
        if krate.never.contains(&dependency.as_str()) {
            let text = format!("`{}` must never need `{dependency}`", krate.name);
            findings.push(Finding::new(file, 0, text));
        }
    }
    if manifest.get("lints").and_then(|lints| lints.get("workspace")).is_none() {
        findings.push(Finding::new(file, 0, "has no `[lints] workspace = true`"));
    }
    findings
}

/// Dependencies of the built crate; what only its tests need is free.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let targets =
        manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    let tables = std::iter::once(manifest).chain(targets.filter_map(toml::Value::as_table));
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "build-dependencies"] {
            for (key, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
                let renamed = value.get("package").and_then(toml::Value::as_str);
                found.push(renamed.unwrap_or(key).to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, rest: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}");
        check("Cargo.toml", &manifest).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn edges_go_down() {
        let wrong = "[dependencies]\nleakwatch = { workspace = true }\n";
        assert_eq!(
            findings("leakwatch-inspect", wrong),
            ["`leakwatch-inspect` must not depend on `leakwatch`"]
        );
        let hidden = "[target.'cfg(unix)'.build-dependencies]\nx = { package = \"leakwatch-inspect\" }\n";
        assert_eq!(
            findings("leakwatch-common", hidden),
            ["`leakwatch-common` must not depend on `leakwatch-inspect`"]
        );
        let fine = "[dependencies]\nleakwatch-common = { workspace = true }\n";
        assert!(findings("leakwatch-inspect", fine).is_empty());
        assert!(findings("leakwatch-inspect", "[dev-dependencies]\nleakwatch = \"1\"\n").is_empty());
    }

    #[test]
    fn pure_crates_stay_pure() {
        assert_eq!(
            findings("leakwatch-inspect", "[dependencies]\ntokio = \"1\"\n"),
            ["`leakwatch-inspect` must never need `tokio`"]
        );
    }

    #[test]
    fn lints_come_from_the_workspace() {
        let findings = check("Cargo.toml", "[package]\nname = \"xtask\"\n");
        assert_eq!(findings, [Finding::new("Cargo.toml", 0, "has no `[lints] workspace = true`")]);
        assert!(check("Cargo.toml", "[workspace]\n").is_empty());
    }
}
