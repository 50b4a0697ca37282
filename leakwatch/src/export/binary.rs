//! A binary as JSON, schema `leakwatch.binary/1`: what `leakwatch inspect --format json` prints.

use serde_json::{Value, json};

use super::safe;
use crate::report::binary::{Binary, BinaryRuntime, Watch};

/// The JSON text, indented, with a newline at its end.
pub fn binary_to_json(binary: &Binary) -> String {
    safe::page(&json!({
        "schema": "leakwatch.binary/1",
        "path": binary.path,
        "pid": binary.pid,
        "size_bytes": binary.size_bytes,
        "arch": binary.arch,
        "pie": binary.pie,
        "dynamic": binary.dynamic,
        "symtab": binary.symtab,
        "dwarf": binary.dwarf,
        "build_id": binary.build_id,
        "load_bias": binary.load_bias.map(hex),
        "runtimes": binary.runtimes.iter().map(runtime).collect::<Vec<_>>(),
        "problems": binary.problems,
    }))
}

fn runtime(runtime: &BinaryRuntime) -> Value {
    let settings: Vec<Value> =
        runtime.settings.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let functions = runtime.functions.as_ref().map(|table| {
        json!({
            "count": table.count,
            "format": table.format,
            "address": hex(table.address),
            "text": hex(table.text),
            "inlined": table.inlined,
        })
    });
    let probes: Vec<Value> = runtime
        .probes
        .iter()
        .map(|probe| {
            json!({
                "action": probe.action,
                "function": probe.function,
                "address": hex(probe.address),
                "file_offset": hex(probe.file_offset),
                "instruction": probe.instruction,
                "bytes": probe.bytes,
                "register": probe.register,
                "emulated": probe.emulated,
                "reason": probe.reason,
            })
        })
        .collect();
    let layout = runtime.layout.as_ref().map(|layout| {
        let fields: serde_json::Map<String, Value> =
            layout.fields.iter().map(|(name, offset)| ((*name).to_owned(), json!(offset))).collect();
        json!({ "source": layout.source, "fields": fields, "heap": layout.heap })
    });
    let globals: Vec<Value> = runtime
        .globals
        .iter()
        .map(|variable| {
            json!({
                "name": variable.name,
                "address": variable.found.map(|(address, _)| hex(address)),
                "source": variable.found.map(|(_, source)| source),
            })
        })
        .collect();
    let types: Vec<Value> = runtime
        .types
        .iter()
        .map(|found| {
            json!({
                "vtable": hex(found.vtable),
                "kind": found.kind,
                "name": found.name,
                "name_is_certain": found.name_is_certain,
                "scheduler": found.scheduler,
                "place": found.place,
                "poll": found.poll.map(hex),
                "id_offset": found.id_offset,
                "makers": found.makers,
            })
        })
        .collect();
    json!({
        "kind": runtime.kind,
        "version": runtime.version,
        "version_source": runtime.version_source,
        "main_package": runtime.main_package,
        "flavour": runtime.flavour,
        "settings": settings,
        "functions": functions,
        "probes": probes,
        "layout": layout,
        "globals": globals,
        "wait_reasons": runtime.wait_reasons,
        "types": types,
        "watch": match runtime.watch {
            Watch::Probes => "probes",
            Watch::Memory => "memory",
            Watch::No => "no",
        },
        "missing": runtime.missing,
        "problems": runtime.problems,
    })
}

/// JSON numbers lose the low bits of addresses.
fn hex(address: u64) -> String {
    format!("{address:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::binary::sample;

    #[test]
    fn the_form_that_scripts_read() {
        let text = binary_to_json(&sample());
        let json: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["schema"], "leakwatch.binary/1");
        assert_eq!(json["path"], "/srv/app\u{1b}[2J", "escaped, not changed");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(json["load_bias"], "0x555500000000");
        let runtime = &json["runtimes"][0];
        assert_eq!(runtime["watch"], "no");
        assert_eq!(runtime["layout"], Value::Null, "unknown is null");
        assert_eq!(runtime["probes"][0]["address"], "0x454168");
        assert_eq!(runtime["globals"][1]["address"], Value::Null);
        assert_eq!(runtime["settings"][0], json!({ "name": "-tags", "value": "a\nb" }));
    }
}
