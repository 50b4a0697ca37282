//! A fleet as JSON, schema `leakwatch.fleet/1`.

use serde::Serialize;

use super::{
    json::{number, rfc3339},
    safe,
};
use crate::report::fleet::{FleetReport, FleetSite};

#[derive(Serialize)]
struct FleetJson<'a> {
    schema: &'static str,
    prometheus: &'a str,
    taken: String,
    since_s: Option<f64>,
    hosts: u64,
    processes: u64,
    sites: Vec<SiteJson<'a>>,
    more_sites: u64,
}

#[derive(Serialize)]
struct SiteJson<'a> {
    exe: Option<&'a str>,
    build_id: Option<&'a str>,
    image: Option<&'a str>,
    runtime: Option<&'a str>,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    task: Option<&'a str>,
    verdict: &'static str,
    live: u64,
    leak_rate_per_min: Option<f64>,
    proven: Option<u64>,
    hosts: u64,
    processes: u64,
    leaking_processes: u64,
    first_seen: Option<String>,
    version_before: Option<&'a str>,
    new: Option<bool>,
}

/// The JSON text, indented, with a newline at its end.
pub fn fleet_to_json(fleet: &FleetReport) -> String {
    safe::page(&FleetJson {
        schema: "leakwatch.fleet/1",
        prometheus: &fleet.prometheus,
        taken: rfc3339(fleet.taken, 3),
        since_s: number(fleet.since_s),
        hosts: fleet.hosts,
        processes: fleet.processes,
        sites: fleet.sites.iter().map(site).collect(),
        more_sites: fleet.more_sites,
    })
}

fn site(site: &FleetSite) -> SiteJson<'_> {
    SiteJson {
        exe: site.exe.as_deref(),
        build_id: site.build_id.as_deref(),
        image: site.image.as_deref(),
        runtime: site.runtime.as_deref(),
        function: site.function.as_deref(),
        file: site.file.as_deref(),
        line: site.line,
        task: site.task.as_deref(),
        verdict: site.verdict.name(),
        live: site.live,
        leak_rate_per_min: site.leak_rate_per_min.and_then(number),
        proven: site.proven,
        hosts: site.hosts,
        processes: site.processes,
        leaking_processes: site.leaking_processes,
        first_seen: site.first_seen.map(|time| rfc3339(time, 0)),
        version_before: site.version_before.as_deref(),
        new: site.is_new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::Verdict;

    #[test]
    fn the_schema() {
        let site = FleetSite {
            exe: Some("/bin/shop".to_owned()),
            build_id: Some("b".to_owned()),
            image: None,
            runtime: Some("go".to_owned()),
            function: Some("main.serve\u{1b}[2J".to_owned()),
            file: None,
            line: Some(12),
            task: None,
            verdict: Verdict::Leak,
            live: 7,
            leak_rate_per_min: Some(1.5),
            proven: None,
            hosts: 2,
            processes: 3,
            leaking_processes: 1,
            first_seen: Some("2026-11-22T03:00:00Z".parse().expect("a time")),
            version_before: None,
            is_new: Some(true),
        };
        let fleet = FleetReport {
            prometheus: "p:9090".to_owned(),
            taken: "2026-11-22T03:12:00.5Z".parse().expect("a time"),
            since_s: 604_800.0,
            hosts: 2,
            processes: 9,
            sites: vec![site],
            more_sites: 4,
        };
        let text = fleet_to_json(&fleet);
        assert!(!text.contains('\u{1b}') && text.ends_with("}\n"));
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let wanted = json!({
            "schema": "leakwatch.fleet/1", "prometheus": "p:9090", "taken": "2026-11-22T03:12:00.500Z",
            "since_s": 604_800.0, "hosts": 2, "processes": 9, "more_sites": 4,
            "sites": [{
                "exe": "/bin/shop", "build_id": "b", "image": null, "runtime": "go", "function": "main.serve\u{1b}[2J",
                "file": null, "line": 12, "task": null, "verdict": "leak", "live": 7, "leak_rate_per_min": 1.5,
                "proven": null, "hosts": 2, "processes": 3, "leaking_processes": 1,
                "first_seen": "2026-11-22T03:00:00Z", "version_before": null, "new": true,
            }],
        });
        assert_eq!(json, wanted);
    }
}
