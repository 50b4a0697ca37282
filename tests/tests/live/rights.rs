//! The agent with the rights that `deploy/` gives it, and with fewer: what works, and what it says is off.

use leakwatch_tests::{HostAgent, Target, gate, matrix, need, rights::Rights};
use serde_json::Value;

/// Of the targets alone, once a second; probes as soon as something grows.
const PROMPT: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\nhold = \"1m\"\n\
                      [discover]\ninclude = [{ comm = \"truth\" }]\nrescan = \"1s\"\n\
                      [budget]\nprocess_percent = 100\nhost_percent = 100\n";

/// Whether each feature is on, as the agent says.
#[track_caller]
fn features(host: &HostAgent) -> Vec<(String, bool)> {
    let about = host.about();
    let name = |feature: &Value| feature["name"].as_str().expect("a name").to_owned();
    let all = about["features"].as_array().expect("features");
    all.iter().map(|feature| (name(feature), feature["on"] == true)).collect()
}

#[test]
fn the_rights_of_the_unit_and_the_container_are_enough() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&newest));
    let mut target = Target::start(&newest);
    target.command("spawn chan 100");
    let host = HostAgent::start_with("rights", PROMPT, |config| Rights::deployed().agent(config));
    // Where not even the test may look at process 1, the agent cannot either.
    let first = std::fs::read_link("/proc/1/exe").is_ok();
    for (feature, on) in features(&host) {
        assert!(on || (feature == "memory" && !first), "{feature}: {:#}", host.about()["features"]);
    }
    let pid = target.pid();
    host.wait_live(pid, target.check().num_goroutine);
    // With probes, too: each start is counted.
    host.wait_until("probes", |host| {
        target.command("spawn chan 5");
        host.process(pid).expect("watched")["tier"] == "probes"
    });
    let started = |host: &HostAgent| host.report(pid).expect("watched").process(pid).tasks().started;
    host.wait_live(pid, target.check().num_goroutine);
    let (before, known) = (target.check(), started(&host));
    target.command("storm 3000");
    let after = target.check();
    host.wait_until("every start", |host| started(host) - known == after.started - before.started);
    // One that comes is found by its exec.
    let mut other = Target::start(&newest);
    other.command("spawn method 7");
    host.wait_live(other.pid(), other.check().num_goroutine);
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
}
