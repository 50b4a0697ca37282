//! The host agent and the processes that it watches as JSON, schema `leakwatch.agent/1`: what `/api/v1/processes` answers.
//!
//! A host has hundreds of processes and somebody asks every few seconds: their rows are written as they are read, without a tree of
//! values in between.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    json::{PodJson, number, rfc3339},
    safe,
};
use crate::report::{
    ProcessReport, Report, SiteReport, Verdict,
    agent::{AgentReport, FeatureReport, Named, WatchedReport},
};

/// The agent and its processes.
#[derive(Serialize)]
struct AgentJson<'a> {
    #[serde(flatten)]
    about: Value,
    processes: Vec<Row<'a>>,
}

/// The JSON text, indented, with a newline at its end.
pub fn agent_to_json(report: &Report, agent: &AgentReport) -> String {
    let rows = report.processes.iter().zip(&agent.watched);
    let processes = rows.map(|(process, watched)| Row::of(process, watched)).collect();
    safe::page(&AgentJson { about: about(report, agent), processes })
}

/// The agent, without its processes.
pub(super) fn about(report: &Report, agent: &AgentReport) -> Value {
    let [known, inspected, reused] = agent.binaries;
    json!({
        "schema": "leakwatch.agent/1",
        "host": report.host,
        "started": rfc3339(agent.started, 3),
        "own": {
            "cpu_s": number(agent.cpu_s),
            "rss_bytes": agent.rss_bytes,
            "open_fds": agent.open_fds,
            "threads": agent.threads,
            "turn_s": number(agent.turn_s),
        },
        "host_percent": agent.host_percent.and_then(number),
        "budget_percent_of_one_core": report.overhead.budget_percent.and_then(number),
        "hit_ns": agent.hit_ns.and_then(number),
        "attached": agent.attached,
        "left_out": counts(&agent.left_out),
        "probes": agent.probes,
        "promoted": agent.promoted,
        "thinned": agent.thinned,
        "demoted": agent.demoted,
        "proofs": {
            "made": agent.proofs.made,
            "failed": agent.proofs.failed,
            "refuted": agent.proofs.refuted,
            "cpu_s": number(agent.proofs.cpu_s),
        },
        "binaries": { "known": known, "inspected": inspected, "reused": reused },
        "lost_execs": agent.lost_execs,
        "losses": counts(&agent.losses),
        "errors": counts(&agent.errors),
        "features": agent.features.iter().map(feature).collect::<Vec<_>>(),
    })
}

/// A process in a few figures.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    pid: u32,
    start_time: Option<String>,
    comm: &'a str,
    exe: Option<&'a str>,
    container: Option<&'a str>,
    container_name: Option<&'a str>,
    container_engine: Option<&'a str>,
    image: Option<&'a str>,
    pod: Option<PodJson<'a>>,
    runtimes: Vec<RuntimeJson<'a>>,
    tier: &'static str,
    watched_s: Option<f64>,
    looks: u64,
    probe_hits: u64,
    added_percent: Option<f64>,
    tasks_live: u64,
    start_rate_per_s: Option<f64>,
    end_rate_per_s: Option<f64>,
    growth_per_min: Option<f64>,
    threads_live: Option<u64>,
    rss_bytes: Option<u64>,
    lost: u64,
    leaks: usize,
    suspects: usize,
    verdict: Option<&'static str>,
    worst: Option<Worst<'a>>,
    /// Seconds since attach, and tasks alive then; only for who asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) curve: Option<Vec<(Option<f64>, u64)>>,
}

#[derive(Serialize)]
struct RuntimeJson<'a> {
    kind: &'a str,
    version: Option<&'a str>,
}

/// The site that is worst.
#[derive(Serialize)]
struct Worst<'a> {
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    task: Option<&'a str>,
    runtime: &'a str,
}

impl<'a> Row<'a> {
    /// Of a process.
    pub(super) fn of(process: &'a ProcessReport, watched: &WatchedReport) -> Self {
        let known = |value: Option<f64>| value.and_then(number);
        let container = process.container.as_ref();
        let worst = process.sites.first();
        Self {
            pid: process.pid,
            start_time: process.start_time.map(|time| rfc3339(time, 3)),
            comm: &process.comm,
            exe: process.exe.as_deref(),
            container: container.map(|container| &*container.id),
            container_name: container.and_then(|container| container.name.as_deref()),
            container_engine: container.and_then(|container| container.engine.as_deref()),
            image: container.and_then(|container| container.image.as_deref()),
            pod: process.pod.as_ref().map(PodJson::from),
            runtimes: process
                .runtimes
                .iter()
                .map(|runtime| RuntimeJson { kind: &runtime.kind, version: runtime.version.as_deref() })
                .collect(),
            tier: watched.tier,
            watched_s: number(process.watched_s),
            looks: watched.looks,
            probe_hits: watched.probe_hits,
            added_percent: known(watched.added_percent),
            tasks_live: process.tasks.live,
            start_rate_per_s: known(process.tasks.start_rate_per_s),
            end_rate_per_s: known(process.tasks.end_rate_per_s),
            growth_per_min: known(process.tasks.growth_per_min),
            threads_live: process.threads.live,
            rss_bytes: process.memory.rss_bytes,
            lost: process.losses.iter().map(|loss| loss.count).sum(),
            leaks: process.leaks,
            suspects: process.sites.iter().filter(|site| is_suspect(site)).count(),
            verdict: worst.map(|site| site.verdict.name()),
            worst: worst.map(|site| Worst {
                function: site.function.as_deref(),
                file: site.file.as_deref(),
                line: site.line,
                task: site.task.as_deref(),
                runtime: &site.runtime,
            }),
            curve: None,
        }
    }
}

fn is_suspect(site: &SiteReport) -> bool {
    !site.system && site.verdict == Verdict::Suspect
}

fn counts(all: &[Named]) -> Value {
    all.iter().map(|one| (one.name.clone(), Value::from(one.count))).collect::<serde_json::Map<_, _>>().into()
}

fn feature(feature: &FeatureReport) -> Value {
    json!({ "name": feature.name, "on": feature.on, "why": feature.why })
}
