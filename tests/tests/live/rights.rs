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
    // With probes, too: each start is counted.
    host.counts_exactly(pid, &mut target, 3000);
    // One that comes is found by its exec.
    let mut other = Target::start(&newest);
    other.command("spawn method 7");
    host.wait_live(other.pid(), other.check().num_goroutine);
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
}

/// Whether a feature is on, and why.
#[track_caller]
fn feature(host: &HostAgent, name: &str) -> (bool, String) {
    let about = host.about();
    let all = about["features"].as_array().expect("features").iter();
    let found = all.clone().find(|feature| feature["name"] == name);
    let found = found.unwrap_or_else(|| panic!("nothing is said of {name}: {:#}", about["features"]));
    (found["on"] == true, found["why"].as_str().expect("a reason").to_owned())
}

#[test]
fn without_the_kernel_side_it_looks_at_memory_and_says_so() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&newest));
    let mut target = Target::start(&newest);
    target.command("spawn chan 30");
    // Whoever may not load eBPF, and may look at others. It is ready all the same.
    let rights = Rights::only(&["SYS_PTRACE", "DAC_READ_SEARCH"]);
    let host = HostAgent::start_with("no-bpf", PROMPT, |config| rights.agent(config));
    for name in ["kernel", "exec_news", "threads", "probes"] {
        let (on, why) = feature(&host, name);
        assert!(!on && !why.is_empty(), "{name} is on: {why}");
    }
    for name in ["http", "confined"] {
        assert!(feature(&host, name).0, "{name} is off");
    }
    host.wait_live(target.pid(), target.check().num_goroutine);
    // What comes is found by looking.
    let mut other = Target::start(&newest);
    other.command("spawn method 4");
    host.wait_live(other.pid(), other.check().num_goroutine);
    target.command("finish chan 10");
    host.wait_live(target.pid(), target.check().num_goroutine);
    assert_eq!(
        (&host.process(target.pid()).expect("watched")["tier"], &host.about()["probes"]),
        (&"memory".into(), &0.into())
    );
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("no kernel side"), "{}", outcome.stderr);
}

#[test]
fn without_any_right_it_runs_and_says_what_it_does_not_see() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&newest));
    // Another user's program: root without capabilities may not look into it.
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&newest);
    let target = Target::start_command(&mut command);
    let host = HostAgent::start_with("no-rights", PROMPT, |config| Rights::only(&[]).agent(config));
    for name in ["kernel", "exec_news", "threads", "probes", "memory"] {
        let (on, why) = feature(&host, name);
        assert!(!on && !why.is_empty(), "{name} is on: {why}");
    }
    assert_eq!(host.get("/readyz", &[]).status, 200);
    host.wait_until("the one that it may not look at", |host| {
        host.process(target.pid()).is_none()
            && host.about()["left_out"]["not_permitted"].as_u64().is_some_and(|count| count >= 1)
    });
    assert!(host.get("/metrics", &[]).body.contains("leakwatch_build_info"));
    assert_eq!(host.terminate().code(), Some(0));
}

#[test]
fn without_tracefs_there_is_no_kernel_side_and_the_reason_is_given() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&newest));
    let mut target = Target::start(&newest);
    target.command("spawn chan 30");
    // Everything but what mounts one: SYS_ADMIN would.
    let rights = Rights::deployed().without("SYS_ADMIN").without_tracefs();
    let host = HostAgent::start_with("no-tracefs", PROMPT, |config| rights.agent(config));
    let (on, why) = feature(&host, "kernel");
    assert!(!on && why.contains("tracefs"), "{why}");
    host.wait_live(target.pid(), target.check().num_goroutine);
    assert_eq!(host.terminate().code(), Some(0));
}

/// What is loaded and attached needs no tracefs any more.
#[test]
fn tracefs_that_goes_while_it_runs_takes_nothing_with_it() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&newest));
    let host = HostAgent::start_with("tracefs-goes", PROMPT, |config| Rights::deployed().agent(config));
    // In the agent's own mount namespace and root: nobody else's is touched.
    let target = host.pid().to_string();
    let mut command = std::process::Command::new("nsenter");
    command.args(["--mount", "--root", "--target", &target, "umount", "--lazy", "/sys/kernel/tracing"]);
    let output = command.output().expect("nsenter runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut late = Target::start(&newest);
    late.command("spawn chan 20");
    host.wait_live(late.pid(), late.check().num_goroutine);
    host.wait_until("probes", |host| {
        late.command("spawn chan 5");
        host.process(late.pid()).expect("watched")["tier"] == "probes"
    });
    host.wait_live(late.pid(), late.check().num_goroutine);
    assert!(feature(&host, "exec_news").0);
    assert_eq!(host.about()["errors"]["kernel"], 0);
    assert_eq!(host.terminate().code(), Some(0));
}
