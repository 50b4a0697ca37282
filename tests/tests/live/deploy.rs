//! What lies in `deploy/`: its rules by promtool's own tests, its dashboards by asking a real Prometheus every query that
//! they have, on metrics in which every family has series.

use std::fs;
use std::path::PathBuf;

use leakwatch_tests::prometheus::{Alertmanager, PATIENCE, Page, Prometheus, promtool};
use leakwatch_tests::{HostAgent, Target, gate, matrix, need, process};
use serde_json::Value;

fn deploy() -> PathBuf {
    matrix::repository().join("deploy")
}

/// Every metric that there is, as the encoder writes them.
fn whole() -> String {
    let path = matrix::repository().join("leakwatch/src/export/metrics/golden/whole.prom");
    fs::read_to_string(path).expect("the file of the encoder's test")
}

#[test]
fn rules_do_what_their_tests_say() {
    need!(gate::third_party("prometheus"), gate::third_party("promtool"));
    for arguments in [["test", "rules", "leakwatch.test.yml"], ["check", "config", "scrape.yml"]] {
        let output = promtool(&deploy().join("prometheus"), &arguments);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

#[test]
fn alertmanager_takes_the_routes() {
    need!(gate::third_party("prometheus-alertmanager"));
    let alertmanager = matrix::third_party("prometheus-alertmanager").expect("the gate has looked");
    let amtool = fs::canonicalize(alertmanager).expect("a program").with_file_name("amtool");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(&amtool)
            .args(arguments)
            .current_dir(deploy().join("alertmanager"))
            .output()
            .expect("amtool runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["check-config", "alertmanager.yml"]);
    let to = |labels: [&str; 2]| {
        run(&["config", "routes", "test", "--config.file=alertmanager.yml", labels[0], labels[1]])
    };
    assert_eq!(to(["alertname=LeakwatchProvenLeak", "severity=critical"]).trim(), "leakwatch-pager");
    assert_eq!(to(["alertname=LeakwatchLeak", "severity=warning"]).trim(), "leakwatch-tickets");
    assert_eq!(to(["alertname=LeakwatchSuspect", "severity=info"]).trim(), "leakwatch-log");
    assert_eq!(to(["alertname=Watchdog", "severity=none"]).trim(), "nobody");
}

/// A dashboard's variables and the queries of its panels, by title.
fn queries(dashboard: &Value) -> (Vec<String>, Vec<(String, String)>) {
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let variables = variables.iter().filter(|one| one["type"] == "query");
    let variables =
        variables.map(|one| one["query"]["query"].as_str().expect("a query").to_owned()).collect();
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let title = panel["title"].as_str().expect("a title").to_owned();
            all.push((title, target["expr"].as_str().expect("a query").to_owned()));
        }
    }
    (variables, all)
}

#[test]
fn every_query_of_every_dashboard_has_data() {
    need!(gate::third_party("prometheus"), gate::third_party("promtool"));
    let page = Page::serve(whole());
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [leakwatch.rules.yml]\n\
         scrape_configs: [{{ job_name: leakwatch, static_configs: [{{ targets: ['127.0.0.1:{}'] }}] }}]\n",
        page.port()
    );
    let rules = fs::read_to_string(deploy().join("prometheus/leakwatch.rules.yml")).expect("the rules");
    let prometheus = Prometheus::start("dashboards", &config, &[("leakwatch.rules.yml", &rules)], &[]);
    let scraped = process::eventually(PATIENCE, || {
        let samples = prometheus.query("count_over_time(leakwatch_build_info[1h])");
        samples.iter().any(|(_, samples)| *samples >= 4.0)
    });
    assert!(scraped, "Prometheus does not scrape");

    let mut empty = Vec::new();
    let mut asked = 0;
    for entry in fs::read_dir(deploy().join("grafana")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        let name = dashboard["title"].as_str().expect("a title");
        let (variables, queries) = queries(&dashboard);
        for variable in variables {
            let inside = variable.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) =
                inside.and_then(|inside| inside.rsplit_once(", ")).expect("label_values(…)");
            let expression = format!("count by ({label}) ({})", with_values(selector));
            if prometheus.query(&expression).iter().all(|(labels, _)| !labels.contains_key(label)) {
                empty.push(format!("{name}: {variable}"));
            }
        }
        for (title, expression) in queries {
            asked += 1;
            if prometheus.query(&with_values(&expression)).is_empty() {
                empty.push(format!("{name}: {title}: {expression}"));
            }
        }
    }
    assert!(asked > 40, "only {asked} queries: are they still found?");
    assert!(empty.is_empty(), "no data for {empty:#?}");

    // Recording rules, too.
    for rule in rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")) {
        let there = process::eventually(PATIENCE, || !prometheus.query(rule).is_empty());
        assert!(there, "no data for {rule}");
    }
}

/// A query as Grafana sends it when all is chosen in every variable.
fn with_values(expression: &str) -> String {
    let mut text = expression.to_owned();
    for variable in ["$instance", "$comm", "$pid", "$function"] {
        text = text.replace(variable, ".*");
    }
    assert!(!text.contains('$'), "a variable is left in {text}");
    text
}

/// An agent, Prometheus with the rules as they are, and Alertmanager: a program leaks, the alert with its site comes to
/// Alertmanager, and goes when the program was started anew.
#[test]
fn a_leak_becomes_an_alert_with_its_site_and_ends_with_a_restart() {
    let binary = matrix::any_go_target();
    need!(
        gate::live(),
        gate::file(&binary.path),
        gate::third_party("prometheus"),
        gate::third_party("prometheus-alertmanager")
    );
    let mut target = Target::start(&binary.path);
    // The agent knows a program by the path that the kernel knows, without links.
    let exe = fs::canonicalize(&binary.path).expect("the target");
    let only = format!("[discover]\ninclude = [{{ exe = \"{}\" }}]\n", exe.display());
    let agent =
        HostAgent::start("alerts", &format!("{only}[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n"));
    let routes = fs::read_to_string(deploy().join("alertmanager/alertmanager.yml")).expect("the routes");
    let alertmanager = Alertmanager::start("alerts", &routes);
    let rules = fs::read_to_string(deploy().join("prometheus/leakwatch.rules.yml")).expect("the rules");
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [leakwatch.rules.yml]\n\
         scrape_configs: [{{ job_name: leakwatch, static_configs: [{{ targets: ['{}'] }}] }}]\n\
         alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{}'] }}] }}] }}\n",
        agent.address(),
        alertmanager.port(),
    );
    let more = ["--enable-feature=native-histograms", "--rules.alert.resend-delay=2s"];
    let prometheus = Prometheus::start("alerts", &config, &[("leakwatch.rules.yml", &rules)], &more);
    let leaks =
        |alerts: Vec<Value>| alerts.into_iter().find(|alert| alert["labels"]["alertname"] == "LeakwatchLeak");

    let function = target.command("spawn chan 10")["function"].as_str().expect("a name").to_owned();
    agent.wait_until("a look at the program", |agent| agent.process(target.pid()).is_some());
    let mut found = None;
    let fires = process::eventually(PATIENCE, || {
        target.command("spawn chan 3");
        found = leaks(alertmanager.active());
        found.is_some()
    });
    assert!(fires, "no alert; Prometheus has {:#?}", prometheus.alerts());
    let alert = found.expect("it was found");
    let labels = &alert["labels"];
    assert_eq!(labels["function"], function.as_str(), "{alert:#}");
    assert_eq!(labels["pid"], target.pid().to_string().as_str());
    assert_eq!(labels["instance"], agent.address());
    let link = alert["annotations"]["stacks"].as_str().expect("a link").to_owned();
    let path = link.split_once(agent.address()).expect("the agent's address").1;
    let report = agent.get(path, &[]);
    assert!(report.status == 200 && report.body.contains(&function), "{link} leads nowhere");

    // Figures in Prometheus are the program's own, by the form that has native histograms, too.
    let truth = target.check();
    let live = || prometheus.query(&format!("leakwatch_tasks_live{{pid=\"{}\"}}", target.pid()));
    let wanted = f64::from(u32::try_from(truth.num_goroutine).expect("a count"));
    let same = process::eventually(PATIENCE, || live().iter().any(|(_, live)| (live - wanted).abs() < 0.5));
    assert!(same, "Prometheus has {:?}, the program {wanted}", live());

    // By what Prometheus itself wrote down: from the first it saw of the site to the alert.
    let site = format!("pid=\"{}\",function=\"{function}\"", target.pid());
    let times = |selector: &str| -> Vec<f64> {
        let samples = prometheus.samples(selector, "1h").into_iter().flat_map(|(_, samples)| samples);
        samples.map(|(time, _)| time).collect()
    };
    let firing = format!("ALERTS{{alertname=\"LeakwatchLeak\",alertstate=\"firing\",{site}}}");
    let first = |selector: &str| times(selector).into_iter().reduce(f64::min).expect("samples");
    let took = first(&firing) - first(&format!("leakwatch_site_tasks_live{{{site}}}"));
    assert!((0.0..=120.0).contains(&took), "it took {took} s");

    let gone = target.pid();
    drop(target);
    let again = Target::start(&binary.path);
    let over = process::eventually(PATIENCE, || leaks(alertmanager.active()).is_none());
    assert!(over, "the alert stays: {:#?}", alertmanager.active());
    let last = |selector: &str| times(selector).into_iter().reduce(f64::max).expect("samples");
    let stayed = last(&firing) - last(&format!("leakwatch_tasks_live{{pid=\"{gone}\"}}"));
    assert!((0.0..=120.0).contains(&stayed), "it stayed for {stayed} s");
    drop(again);
}
