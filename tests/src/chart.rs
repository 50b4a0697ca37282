//! The Helm chart as Helm renders it, checked against Kubernetes' schemas; and what systemd thinks of the unit.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::matrix;

/// The chart with some values.
#[derive(Clone, Debug, Deserialize)]
pub struct Rendered {
    /// The manifests as Helm writes them.
    pub text: String,
    /// The same, parsed.
    pub documents: Vec<Value>,
    /// What `helm lint --strict` and the schemas have against them, or why there are none.
    pub problems: Vec<String>,
}

impl Rendered {
    /// The one object of this kind.
    #[track_caller]
    pub fn object(&self, kind: &str) -> &Value {
        let found = self.documents.iter().find(|document| document["kind"] == kind);
        found.unwrap_or_else(|| panic!("there is no {kind}: {}", self.text))
    }
}

/// Whether the chart can be rendered here.
pub fn gate() -> Result<(), String> {
    there("python/helm_python")
}

/// Whether systemd can judge the unit here.
pub fn systemd_gate() -> Result<(), String> {
    there("systemd/usr/bin/systemd-analyze")
}

fn there(name: &str) -> Result<(), String> {
    let path = tools().join(name);
    if path.exists() {
        return Ok(());
    }
    Err(format!("needs {}; `cargo xtask tools deploy` fetches it", path.display()))
}

fn tools() -> PathBuf {
    matrix::work_dir().join("tools").join("deploy")
}

fn python() -> Command {
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", tools().join("python"))
        .arg(matrix::repository().join("tests/chart.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    python
}

fn chart() -> PathBuf {
    matrix::repository().join("deploy/helm/leakwatch")
}

/// The chart with each of these values, checked against these releases of Kubernetes.
#[track_caller]
pub fn render(cases: &[Value], versions: &[&str]) -> Vec<Rendered> {
    let cases: Vec<Value> =
        cases.iter().map(|values| serde_json::json!({ "values": values, "versions": versions })).collect();
    let mut child = python().arg(chart()).spawn().expect("Python starts");
    let input = serde_json::to_vec(&cases).expect("JSON");
    child.stdin.take().expect("it is piped").write_all(&input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the chart is not rendered");
    serde_json::from_slice(&output.stdout).expect("its answer")
}

/// What `deploy/kubernetes/leakwatch.yaml` is to be.
#[track_caller]
pub fn plain() -> String {
    let output = python().arg("--plain").arg(chart()).stdin(Stdio::null()).output().expect("Python runs");
    assert!(output.status.success(), "the chart is not rendered");
    String::from_utf8(output.stdout).expect("a text")
}

/// Runs `systemd-analyze`.
#[track_caller]
pub fn systemd_analyze(arguments: &[&str]) -> Output {
    let root = tools().join("systemd");
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let more = root.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let path = [libraries.join("systemd"), libraries, more].map(|path| path.display().to_string()).join(":");
    let mut command = Command::new(root.join("usr/bin/systemd-analyze"));
    command.env("LD_LIBRARY_PATH", path).args(arguments).output().expect("systemd-analyze runs")
}
