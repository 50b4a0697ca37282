//! `leakwatch prove` against a program that knows which of its goroutines nothing can ever wake, and against the runtime's
//! own profile of them where there is one: nobody is accused who can be woken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use leakwatch_tests::corpus::{self, Running};
use leakwatch_tests::process::{self, Guard};
use leakwatch_tests::report::Report;
use leakwatch_tests::{Agent, Target, agent, gate, matrix, need, soak};
use serde_json::Value;

/// One way to build the program.
fn binary(release: &'static str, flavour: &'static str) -> PathBuf {
    matrix::go_target(release, flavour).path.with_file_name("prove")
}

/// What the program knows of its goroutines.
struct Known {
    leaks: BTreeSet<u64>,
    /// Wake by a way that the runtime's own proof does not see.
    hidden: BTreeSet<u64>,
    shapes: BTreeMap<u64, String>,
}

impl Known {
    fn of(target: &mut Target) -> Self {
        let mut known = Self { leaks: BTreeSet::new(), hidden: BTreeSet::new(), shapes: BTreeMap::new() };
        for one in target.command("truth").as_array().expect("a list") {
            let id = one["id"].as_u64().expect("a number");
            known.shapes.insert(id, one["shape"].as_str().unwrap_or_default().to_owned());
            if one["leaks"] == true {
                known.leaks.insert(id);
            }
            if one["weak"] == true {
                known.hidden.insert(id);
            }
        }
        known
    }

    fn names(&self, ids: impl IntoIterator<Item = u64>) -> Vec<String> {
        ids.into_iter()
            .map(|id| self.shapes.get(&id).cloned().unwrap_or_else(|| format!("goroutine {id}")))
            .collect()
    }

    /// Nobody is accused, and all that leak are found but 2 %. What is missed is held by a word that happens to be left on a
    /// stack or in a struct, which a look from outside cannot tell from others: `prove --why` names it, and so does this.
    fn compare(&self, pid: u32, name: &str) {
        let proof = &prove(pid, &[]);
        let proven = ids_of(proof);
        let wrong: Vec<u64> = proven.difference(&self.leaks).copied().collect();
        assert!(wrong.is_empty(), "{name}: accused, and can be woken: {:?}", self.names(wrong));
        let missed: Vec<u64> = self.leaks.difference(&proven).copied().collect();
        gate::say(&format!(
            "{name}: {} of {} proven, missed {:?}",
            proven.len(),
            self.leaks.len(),
            self.names(missed.iter().copied())
        ));
        explained(pid, &missed, name);
        assert!(missed.len() * 100 <= 2 * self.leaks.len(), "{name}: {} are missed", missed.len());
        assert!(proof["problems"].as_array().is_some_and(Vec::is_empty), "{name}: {}", proof["problems"]);
    }
}

/// Each that was missed has a word that leads to it, from something that is alive; or is found by another look.
fn explained(pid: u32, missed: &[u64], name: &str) {
    if missed.is_empty() {
        return;
    }
    let flags: Vec<String> = missed.iter().flat_map(|id| ["--why".to_owned(), id.to_string()]).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for why in prove(pid, &flags)["whys"].as_array().expect("answers") {
        let chain: Vec<&str> =
            why["chain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let fate = why["fate"].as_str().unwrap_or_default();
        gate::say(&format!("{name}: goroutine {}: {fate}: {}", why["id"], chain.join(", ")));
        let last = chain.last().copied().unwrap_or_default();
        // The last: one that moved while it was looked at is reached by its own stack, and nothing else is known.
        let ends = ["alive", "outside of the heap", "finalizer", "variable", "scheduler", "was not noted"];
        assert!(fate.contains("it is proven") || ends.iter().any(|end| last.contains(end)), "{name}: {why}");
    }
}

fn prove(pid: u32, more: &[&str]) -> Value {
    let pid = pid.to_string();
    let outcome = agent::run([&["prove", "--format", "json", "--pid", &pid], more].concat());
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

fn ids_of(proof: &Value) -> BTreeSet<u64> {
    let groups = proof["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["ids"].as_array().into_iter().flatten()).filter_map(Value::as_u64).collect()
}

/// All shapes, before and after everything that can be woken was woken: that shows that it could.
fn against_the_truth(release: &'static str, flavour: &'static str) {
    let name = format!("go {release} {flavour}");
    let mut target = Target::start(&binary(release, flavour));
    target.command("make 2");
    let known = Known::of(&mut target);
    assert!(known.leaks.len() >= 150, "{}", known.leaks.len());
    known.compare(target.pid(), &name);
    target.command("wake");
    known.compare(target.pid(), &format!("{name}, after wake"));
}

/// What the runtime itself reports.
fn against_the_runtime(release: &'static str) {
    let name = format!("go {release}");
    let mut target = Target::start(&binary(release, "plain"));
    target.command("make 2");
    let known = Known::of(&mut target);
    let proven = ids_of(&prove(target.pid(), &[]));
    let reported: BTreeSet<u64> =
        target.command("leaks").as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
    let wrong: Vec<u64> = proven.difference(&known.leaks).copied().collect();
    assert!(wrong.is_empty(), "{name}: accused, and can be woken: {:?}", known.names(wrong));
    let ours: Vec<u64> = proven.difference(&reported).copied().collect();
    let theirs: Vec<u64> =
        reported.difference(&proven).filter(|id| !known.hidden.contains(id)).copied().collect();
    gate::say(&format!(
        "{name}: the runtime reports {}, {} of them not proven {:?}, {} proven besides {:?}",
        reported.len(),
        theirs.len(),
        known.names(theirs.clone()),
        ours.len(),
        known.names(ours)
    ));
    assert!(theirs.len() * 100 <= 2 * reported.len(), "{name}: {}", theirs.len());
}

#[test]
fn nobody_is_accused_who_can_be_woken() {
    for release in matrix::GO_RELEASES {
        for flavour in ["plain", "stripped"] {
            need!(gate::live(), gate::file(&binary(release, flavour)));
            against_the_truth(release, flavour);
        }
    }
}

#[test]
fn nor_in_programs_with_c_or_anywhere_in_memory() {
    for release in ["1.21.13", "1.27.3"] {
        for flavour in ["pie", "cgo"] {
            need!(gate::live(), gate::file(&binary(release, flavour)));
            against_the_truth(release, flavour);
        }
    }
}

/// Variables of a plugin are alive as the program's own are; what it forgot is proven, at the plugin's line.
#[test]
fn a_plugin_holds_what_its_variables_hold() {
    for release in ["1.19", "1.27.3"] {
        let program = matrix::go_target(release, "cgo").path.with_file_name("plugged");
        let plugin = matrix::go_target(release, matrix::PLUGIN_FLAVOUR).path.with_file_name("plug");
        need!(gate::live(), gate::file(&program), gate::file(&plugin));
        let name = format!("go {release} with a plugin");
        let mut target = Target::start(&program);
        target.command(&format!("open {}", plugin.display()));
        target.command("make");
        let known = Known::of(&mut target);
        assert_eq!((known.shapes.len(), known.leaks.len()), (7, 3), "{name}");
        known.compare(target.pid(), &name);
        let proof = prove(target.pid(), &[]);
        for group in proof["groups"].as_array().into_iter().flatten() {
            assert_eq!(group["function"], "truth.Make", "{name}: {group}");
        }
        target.command("wake");
        known.compare(target.pid(), &format!("{name}, after wake"));
    }
}

#[test]
fn the_runtime_says_the_same() {
    for release in ["1.26.6", "1.27.3"] {
        need!(gate::live(), gate::file(&binary(release, "plain")));
        against_the_runtime(release);
    }
}

/// The only pointer that leads to a goroutine goes from hand to hand at full speed, under collections.
#[test]
fn what_moves_at_full_speed_is_not_lost() {
    const SECONDS: u64 = 20;
    for release in ["1.23.9", "1.27.3"] {
        need!(gate::live(), gate::file(&binary(release, "plain")));
        let mut target = Target::start(&binary(release, "plain"));
        target.command("make 1 receive");
        let known = Known::of(&mut target);
        let pid = target.pid();
        let (sender, moved) = std::sync::mpsc::channel();
        let mover = std::thread::spawn(move || {
            target.command_within(&format!("move {SECONDS}"), Duration::from_secs(4 * SECONDS));
            sender.send(()).expect("the test waits");
            target
        });
        let mut proofs = 0;
        while moved.try_recv().is_err() {
            let wrong: Vec<u64> = ids_of(&prove(pid, &[])).difference(&known.leaks).copied().collect();
            assert!(wrong.is_empty(), "go {release}: accused {wrong:?} in proof {proofs}");
            proofs += 1;
        }
        drop(mover.join().expect("all parcels were delivered"));
        assert!(proofs > 0);
        gate::say(&format!("go {release}: {proofs} proofs while 64 parcels moved"));
    }
}

/// What is proven during a watch is the verdict of its sites, and whoever is woken meanwhile was not proven.
#[test]
fn a_watch_proves() {
    for (release, mode) in [("1.19", "probes"), ("1.25.5", "memory"), ("1.27.3", "probes")] {
        need!(gate::live(), gate::file(&binary(release, "plain")));
        let mut target = Target::start(&binary(release, "plain"));
        target.command("make 1");
        let known = Known::of(&mut target);
        let pid = target.pid().to_string();
        let watch = ["watch", "--pid", &pid, "--mode", mode, "--budget", "100%"];
        // As short as it may be: the first proof is awaited.
        let short =
            [&watch[..], &["--prove", "--duration", "1s", "--format", "json", "--fail-on-leak"]].concat();
        let outcome = agent::run(short);
        let report: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        assert_eq!(outcome.code(), Some(3), "{}{}", outcome.stderr, report["processes"][0]["proof"]);
        let process = &report["processes"][0];
        let proven = process["proof"]["proven"].as_u64().expect("a proof");
        assert!(proven > 0 && proven <= known.leaks.len() as u64, "{process}");
        let sites = process["sites"].as_array().expect("sites");
        let by_site: u64 = sites.iter().filter_map(|site| site["proven"].as_u64()).sum();
        assert_eq!(by_site, proven);
        let leaks: Vec<&Value> = sites.iter().filter(|site| site["verdict"] == "leak").collect();
        assert_eq!(process["leaks"], leaks.len());
        assert!(leaks[0]["why"].as_str().is_some_and(|why| why.contains("can never be woken")), "{leaks:?}");
        assert_eq!(process["tasks"]["drift"], if mode == "probes" { Value::from(0) } else { Value::Null });

        let long = [&watch[..], &["--prove=200ms", "--interval", "200ms", "--format", "jsonl"]].concat();
        let mut agent = Agent::start(long);
        let mut proof = next_proof(&mut agent, &|proof| proof["proofs"].as_u64() >= Some(1));
        target.command("wake");
        let (proofs, judged) = (proof["proofs"].as_u64(), proof["judged"].as_u64());
        proof = next_proof(&mut agent, &|proof| {
            proof["proofs"].as_u64() > proofs && proof["judged"].as_u64() > judged
        });
        assert_eq!(proof["refuted"], 0, "go {release}: {proof}");
        assert!(proof["proven"].as_u64() <= Some(known.leaks.len() as u64), "go {release}: {proof}");
        assert!(agent.interrupt().status.success());
    }
}

/// A dump marks those who are proven, in every form, and nobody else.
#[test]
fn a_dump_marks_the_proven() {
    for release in ["1.22.10", "1.27.3"] {
        need!(gate::live(), gate::file(&binary(release, "plain")));
        let mut target = Target::start(&binary(release, "plain"));
        target.command("make 1");
        let known = Known::of(&mut target);
        let pid = target.pid().to_string();
        let dump = |format: &str| {
            let outcome = agent::run(["dump", "--prove", "--pid", &pid, "--format", format]);
            assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
            outcome
        };
        let text = dump("text");
        let marked: BTreeSet<u64> = text
            .stdout
            .lines()
            .filter(|line| line.contains(" (leaked)"))
            .filter_map(|line| line.strip_prefix("goroutine ")?.split_once(' ')?.0.parse().ok())
            .collect();
        let wrong = known.names(marked.difference(&known.leaks).copied());
        assert!(wrong.is_empty() && marked.len() * 100 >= 98 * known.leaks.len(), "go {release}: {wrong:?}");
        assert!(text.stderr.contains("are proven to wait for ever"), "{}", text.stderr);
        assert!(text.stdout.contains("[chan receive (leaked)"), "as the runtime prints it");
        let json: Value = serde_json::from_str(&dump("json").stdout).expect("JSON");
        let tasks = json["runtimes"][0]["tasks"].as_array().expect("tasks");
        let leaked = |task: &&Value| task["state"].as_str().is_some_and(|state| state.ends_with(" (leaked)"));
        let ids: BTreeSet<u64> = tasks.iter().filter(leaked).filter_map(|task| task["id"].as_u64()).collect();
        assert!(ids.is_subset(&known.leaks) && ids.len() * 100 >= 98 * known.leaks.len(), "go {release}");
        assert!(dump("folded").stdout.contains("(leaked)"), "go {release}");
    }
}

/// The judge of proofs: somebody who was proven and runs all the same, by a trick that Go forbids, is counted and told.
#[test]
fn a_proof_that_was_wrong_is_told() {
    for (release, mode) in [("1.21.13", "memory"), ("1.27.3", "probes")] {
        need!(gate::live(), gate::file(&binary(release, "plain")));
        let mut target = Target::start(&binary(release, "plain"));
        target.command("disguise 5");
        let pid = target.pid().to_string();
        let mut agent = Agent::start([
            "watch",
            "--pid",
            &pid,
            "--mode",
            mode,
            "--prove=300ms",
            "--interval",
            "200ms",
            "--format",
            "jsonl",
            "--budget",
            "100%",
        ]);
        let proof = next_proof(&mut agent, &|proof| proof["proofs"].as_u64() >= Some(1));
        let proven = proof["proven"].as_u64().expect("a number");
        assert!((1..=5).contains(&proven), "go {release}: {proof}");
        target.command("betray");
        let proof = next_proof(&mut agent, &|proof| proof["proven"] == 0);
        assert!(proof["refuted"].as_u64() >= Some(proven), "go {release}: {proof}");
        assert!(
            proof["refutations"][0].as_str().is_some_and(|story| story.contains("was proven to wait")),
            "{proof}"
        );
        let outcome = agent.interrupt();
        assert!(outcome.stderr.contains("a proof was wrong"), "{}", outcome.stderr);
        let last = outcome.stdout.lines().next_back().unwrap_or_default();
        let report: Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(report["processes"][0]["leaks"], 0, "{report}");
    }
}

/// The first line of a watch's `jsonl` in which the state of proofs is as wanted.
fn next_proof(agent: &mut Agent, wanted: &dyn Fn(&Value) -> bool) -> Value {
    const LINES: usize = 1000;
    let mut last = Value::Null;
    for _ in 0..LINES {
        let mut report: Value = serde_json::from_str(&agent.next_line()).expect("JSON");
        last = report["processes"][0]["proof"].take();
        if wanted(&last) {
            return last;
        }
    }
    panic!("not in {LINES} lines: {last}");
}

/// Large programs that nobody here wrote: proofs come to an end, and say nothing wrong about a server at rest.
#[test]
fn servers_are_looked_through() {
    for name in ["nats-server", "caddy"] {
        need!(gate::live(), gate::third_party(name));
        let path = matrix::third_party(name).expect("it is there");
        let mut command = std::process::Command::new(path);
        match name {
            "caddy" => command.args(["respond", "--listen", "127.0.0.1:0", "hello"]),
            _ => command.args(["-a", "127.0.0.1", "-p", "-1"]),
        };
        let server = Guard::start(&mut command);
        let mut proof = Value::Null;
        let up = process::eventually(Duration::from_secs(20), || {
            proof = prove(server.pid(), &[]);
            proof["goroutines"].as_u64() > Some(8)
        });
        assert!(up, "{name}: {proof}");
        assert!(proof["passes"].as_u64() >= Some(1), "{name}: {proof}");
        assert!(proof["problems"].as_array().is_some_and(Vec::is_empty), "{name}: {proof}");
    }
}

/// Nobody asked for a proof: one is made where a site is suspected, and makes it a leak. `--no-prove` leaves it at the suspicion.
#[test]
fn a_suspicion_is_settled_by_a_proof() {
    const SHAPE: &str = "stopped growing";
    need!(gate::live(), gate::file(&corpus::program("go")));
    let mut shapes = corpus::shapes("go");
    shapes.retain(|shape| shape.name == SHAPE);
    let running = Running::start("go", shapes);
    let pid = running.pid().to_string();
    let watch = |more: &[&str]| {
        let flags = ["watch", "--pid", &pid, "--format", "jsonl", "--interval", "500ms", "--duration", "2m"];
        Agent::start([flags.as_slice(), more].concat())
    };
    let verdict = |agent: &mut Agent, done: &dyn Fn(&Value) -> bool| loop {
        let report = Report::parse(&agent.next_line());
        let process = report.process(running.pid());
        let site = process
            .sites()
            .iter()
            .find(|site| site["function"].as_str().unwrap_or("").contains("stoppedGrowing"));
        if let Some(site) = site.filter(|site| done(site)) {
            return (site.clone(), process.json()["proof"].clone());
        }
    };
    let mut proving = watch(&[]);
    let mut quiet = watch(&["--no-prove"]);
    let (site, proof) = verdict(&mut proving, &|site| site["proven"].as_u64() > Some(0));
    assert_eq!((&site["verdict"], &proof["refuted"]), (&"leak".into(), &0.into()), "{site}");
    assert!(site["why"].as_str().is_some_and(|why| why.contains("can never be woken")), "{site}");
    let (site, proof) = verdict(&mut quiet, &|site| site["verdict"] == "suspect");
    assert_eq!((&site["proven"], &proof), (&Value::Null, &Value::Null), "{site}");
}

/// Servers under load whose configuration is changed again and again: who is proven never runs again. `cargo xtask soak` is the
/// long form.
#[test]
fn nobody_proven_in_a_loaded_server_runs_again() {
    for name in soak::SERVERS {
        need!(gate::live(), gate::third_party(name));
    }
    for row in soak::soak(Duration::from_secs(20), &soak::SERVERS, &["--prove=2s", "--budget", "100%"]) {
        let soak::Soaked { name, steps, proof, .. } = row;
        assert!(steps > 20 && proof["proofs"].as_u64() >= Some(1), "{name}: {steps} steps, {proof}");
        assert_eq!(
            (&proof["refuted"], &proof["failed"]),
            (&Value::from(0), &Value::from(0)),
            "{name}: {proof}"
        );
        gate::say(&format!("{name}: {} proofs, {} proven", proof["proofs"], proof["proven"]));
    }
}
