//! A proof as JSON, schema `leakwatch.proof/1`. Fields are only ever added.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    json::{number, rfc3339},
    safe,
};
use crate::report::{
    ProofSample,
    proof::{Group, ProofReport, ProvenObject, kind},
};

/// Name of the schema.
pub const SCHEMA: &str = "leakwatch.proof/1";

/// The JSON text, indented, with a newline at its end.
pub fn proof_to_json(report: &ProofReport) -> String {
    let (proof, process) = (&report.proof, &report.dump.process);
    let runtime = report.dump.runtimes.first();
    safe::page(&json!({
        "schema": SCHEMA,
        "host": report.dump.host,
        "taken": rfc3339(report.dump.taken, 3),
        "process": {
            "pid": process.pid,
            "start_time": process.start_time.map(|time| rfc3339(time, 3)),
            "comm": process.comm,
            "exe": process.exe,
            "container": process.container,
        },
        "runtime": { "kind": runtime.map(|runtime| &runtime.kind), "version": runtime.and_then(|runtime| runtime.version.as_ref()) },
        "proven": proof.proven.len(),
        "goroutines": proof.goroutines,
        "candidates": proof.candidates,
        "passes": proof.passes,
        "void_passes": proof.void,
        "collections": proof.collections,
        "stood_still": proof.still,
        "confidence": proof.confidence,
        "heap_bytes": proof.heap_bytes,
        "read_bytes_per_pass": proof.read_bytes,
        "own_bytes": proof.own_bytes,
        "took_s": seconds(proof.took_ns),
        "problems": proof.problems,
        "whys": report.whys.iter()
            .map(|why| json!({ "id": why.id, "fate": why.fate, "chain": why.chain }))
            .collect::<Vec<_>>(),
        "groups": report.groups.iter().map(|one| group(report, one)).collect::<Vec<_>>(),
    }))
}

fn group(report: &ProofReport, group: &Group) -> Value {
    let frames: Vec<Value> = group
        .stack
        .iter()
        .map(|frame| json!({ "function": frame.function, "file": frame.file, "line": frame.line }))
        .collect();
    let objects: Vec<Value> =
        group.objects.iter().filter_map(|&at| report.proof.objects.get(at as usize)).map(object).collect();
    let origin = group.origin.as_ref();
    json!({
        "count": group.ids.len(),
        "state": format!("{} (leaked)", group.state),
        "function": origin.and_then(|origin| origin.function.as_ref()),
        "file": origin.and_then(|origin| origin.file.as_ref()),
        "line": origin.and_then(|origin| origin.line),
        "task": origin.and_then(|origin| origin.task.as_ref()),
        "longest_wait_s": group.longest_ns.map(seconds),
        "stack_bytes": group.bytes,
        "why": group.why,
        "objects": objects,
        "stack": frames,
        "ids": group.ids,
    })
}

fn object(object: &ProvenObject) -> Value {
    json!({
        "address": format!("{:#x}", object.address),
        "kind": kind(object),
        "length": object.channel.map(|(length, _, _)| length),
        "capacity": object.channel.map(|(_, capacity, _)| capacity),
        "closed": object.channel.map(|(_, _, closed)| closed),
        "proven_waiting": object.waiting,
        "proven_holders": object.holders,
        "all_holders_counted": object.all_holders,
    })
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns / 1_000_000 * 1_000_000).as_secs_f64()
}

/// What proofs have shown during a watch, as part of its report.
#[derive(Serialize)]
pub(super) struct WatchedProofJson<'a> {
    proofs: u64,
    failed: u64,
    judged: u64,
    proven: Option<u64>,
    refuted: u64,
    refutations: &'a [String],
    passes: u32,
    passes_void: u32,
    stood_still: bool,
    confidence: Option<f64>,
    goroutines: u64,
    heap_bytes: u64,
    own_bytes: u64,
    took_s: f64,
    every_s: f64,
    cpu_s: f64,
    cpu_percent_of_one_core: Option<f64>,
    problems: &'a [String],
}

impl<'a> WatchedProofJson<'a> {
    pub(super) fn of(proof: &'a ProofSample, watched_s: f64) -> Self {
        let cpu_s = seconds(proof.cpu_ns);
        Self {
            proofs: proof.proofs,
            failed: proof.failed,
            judged: proof.judged,
            proven: (proof.proofs > 0).then_some(proof.proven),
            refuted: proof.refuted,
            refutations: &proof.refutations,
            passes: proof.passes,
            passes_void: proof.void,
            stood_still: proof.still,
            confidence: (proof.proofs > 0).then_some(proof.confidence),
            goroutines: proof.goroutines,
            heap_bytes: proof.heap_bytes,
            own_bytes: proof.own_bytes,
            took_s: seconds(proof.took_ns),
            every_s: seconds(proof.every_ns),
            cpu_s,
            cpu_percent_of_one_core: (watched_s > 0.0).then(|| number(cpu_s * 100.0 / watched_s)).flatten(),
            problems: &proof.problems,
        }
    }
}
