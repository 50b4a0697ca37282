//! The host agent and the processes that it watches as JSON, schema `leakwatch.agent/1`: what `/api/v1/processes` answers.

use serde_json::{Value, json};

use super::{
    json::{number, rfc3339},
    safe,
};
use crate::report::{
    ProcessReport, Report, SiteReport, Verdict,
    agent::{AgentReport, FeatureReport, Named, WatchedReport},
};

/// The JSON text, indented, with a newline at its end.
pub fn agent_to_json(report: &Report, agent: &AgentReport) -> String {
    let processes: Vec<Value> =
        report.processes.iter().zip(&agent.watched).map(|(process, watched)| row(process, watched)).collect();
    let mut about = about(report, agent);
    about["processes"] = processes.into();
    safe::page(&about)
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
pub(super) fn row(process: &ProcessReport, watched: &WatchedReport) -> Value {
    let known = |value: Option<f64>| value.and_then(number);
    let worst = process.sites.first();
    json!({
        "pid": process.pid,
        "start_time": process.start_time.map(|time| rfc3339(time, 3)),
        "comm": process.comm,
        "exe": process.exe,
        "container": process.container.as_ref().map(|container| &container.id),
        "container_name": process.container.as_ref().map(|container| &container.name),
        "container_engine": process.container.as_ref().map(|container| &container.engine),
        "image": process.container.as_ref().map(|container| &container.image),
        "pod": process.pod.as_ref().map(|pod| json!({
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "labels": pod.labels,
        })),
        "runtimes": process.runtimes.iter().map(|runtime| json!({
            "kind": runtime.kind,
            "version": runtime.version,
        })).collect::<Vec<_>>(),
        "tier": watched.tier,
        "watched_s": number(process.watched_s),
        "looks": watched.looks,
        "probe_hits": watched.probe_hits,
        "added_percent": known(watched.added_percent),
        "tasks_live": process.tasks.live,
        "start_rate_per_s": known(process.tasks.start_rate_per_s),
        "end_rate_per_s": known(process.tasks.end_rate_per_s),
        "growth_per_min": known(process.tasks.growth_per_min),
        "threads_live": process.threads.live,
        "rss_bytes": process.memory.rss_bytes,
        "lost": process.losses.iter().map(|loss| loss.count).sum::<u64>(),
        "leaks": process.leaks,
        "suspects": process.sites.iter().filter(|site| is_suspect(site)).count(),
        "verdict": worst.map(|site| site.verdict.name()),
        "worst": worst.map(|site| json!({
            "function": site.function,
            "file": site.file,
            "line": site.line,
            "task": site.task,
            "runtime": site.runtime,
        })),
    })
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
