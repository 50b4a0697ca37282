//! A machine's fitness as JSON, schema `leakwatch.doctor/1`: what `leakwatch doctor --format json` prints.

use serde_json::{Value, json};

use super::safe;
use crate::report::machine::{Fitness, Machine};

/// The JSON text, indented, with a newline at its end.
pub fn machine_to_json(machine: &Machine) -> String {
    let findings: Vec<Value> = machine
        .findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.name,
                "status": match finding.fitness {
                    Fitness::Ok => "ok",
                    Fitness::Warn => "warn",
                    Fitness::Fail => "fail",
                },
                "found": finding.found,
                "fix": finding.fix,
            })
        })
        .collect();
    safe::page(&json!({
        "schema": "leakwatch.doctor/1",
        "fit": machine.count(Fitness::Fail) == 0,
        "findings": findings,
    }))
}
