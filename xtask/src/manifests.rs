//! Writes the plain Kubernetes manifests from the Helm chart: one truth for both. A test of `tests/tests/deploy` finds a difference.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{shell, tools};

/// `cargo xtask manifests`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("`cargo xtask manifests` takes no arguments");
    }
    let root = shell::root();
    let mut python = shell::command("python3");
    python
        .env("PYTHONPATH", tools::chart_tools()?)
        .arg(root.join("tests/chart.py"))
        .arg("--plain")
        .arg(root.join("deploy/helm/leakwatch"));
    let path = root.join("deploy/kubernetes/leakwatch.yaml");
    fs::write(&path, shell::output(&mut python)?)
        .with_context(|| format!("failed to write {}", path.display()))
}
