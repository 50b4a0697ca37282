//! Parts of the machine that go or change under a running leakwatch: control groups, and pids that come again.
//!
//! What becomes of it without tracefs is in `rights.rs`. The wall clock is everybody's: it is stepped on a machine of a test's own, in
//! `booted/clock.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use leakwatch_tests::{Agent, HostAgent, Target, agent, gate, matrix, need};

/// Once a second.
const OFTEN: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\nenabled = false\n";

/// Where control groups are, of the unified hierarchy, else of any.
fn hierarchies() -> Option<PathBuf> {
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"];
    places.iter().map(PathBuf::from).find(|place| place.join("cgroup.procs").exists())
}

/// A control group of a test's own.
struct Group(PathBuf);

impl Group {
    /// Makes it; `Err`: control groups cannot be made here.
    fn new(name: &str) -> Result<Self, String> {
        let root = hierarchies().ok_or("no cgroups are mounted")?;
        let path = root.join(format!("leakwatch-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Its path as `/proc/PID/cgroup` has it.
    fn name(&self) -> String {
        format!("/{}", self.0.file_name().expect("it has one").to_string_lossy())
    }

    /// A command that moves itself here and becomes the program.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$1\""]).arg(&self.0).arg(program);
        command
    }

    /// Moves a process out of it, into the one above, and removes it.
    #[track_caller]
    fn remove(self, pid: u32) {
        let above = self.0.parent().expect("a hierarchy");
        fs::write(above.join("cgroup.procs"), pid.to_string()).expect("moved");
        fs::remove_dir(&self.0).expect("nobody is in it");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It may be gone; while a program is in it, it cannot be removed, and programs are dropped first.
        drop(fs::remove_dir(&self.0));
    }
}

#[test]
fn a_process_stays_watched_when_its_control_group_goes() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&newest), Group::new("probe").map(drop));
    let group = Group::new("goes").expect("the gate has looked");
    let mut inside = Target::start_command(&mut group.command(&newest));
    let mut outside = Target::start(&newest);
    inside.command("spawn chan 20");
    let config =
        format!("{OFTEN}[discover]\nrescan = \"1s\"\ninclude = [{{ cgroup = \"{}\" }}]\n", group.name());
    let host = HostAgent::start("cgroup", &config);
    host.wait_live(inside.pid(), inside.check().num_goroutine);
    assert!(host.process(outside.pid()).is_none(), "it is in no such group");

    // By `watch`, too, which was told of the group by its folder.
    let mut watch =
        Agent::start(["watch", "--format", "json", "--cgroup", group.0.to_str().expect("a path")]);
    watch.wait_attached();
    let before = inside.check();
    let again = Group(group.0.clone());
    group.remove(inside.pid());
    inside.command("spawn method 9");
    inside.command("storm 500");
    outside.command("spawn chan 3");
    let after = inside.check();
    host.wait_live(inside.pid(), after.num_goroutine);
    let report = watch.interrupt().report();
    report.process(inside.pid()).assert_is(&before, &after, "after its group went");
    assert!(report.json()["processes"].as_array().is_some_and(|all| all.len() == 1), "nobody else came in");
    let gone = agent::run(["watch", "--cgroup", again.0.to_str().expect("a path")]);
    assert_eq!(gone.code(), Some(1), "{}", gone.stderr);
    assert!(gone.stderr.contains(&again.0.display().to_string()), "{}", gone.stderr);

    // Made again, it is wanted again.
    fs::create_dir(&again.0).expect("made");
    let mut late = Target::start_command(&mut again.command(&newest));
    late.command("spawn chan 4");
    host.wait_live(late.pid(), late.check().num_goroutine);
    host.wait_live(inside.pid(), inside.check().num_goroutine);
    assert!(host.process(outside.pid()).is_none());
    assert_eq!(host.terminate().code(), Some(0));
    drop((late, again));
}

/// The next process has this pid, unless that is in use.
fn choose_next_pid(pid: u32) -> Result<(), String> {
    let path = "/proc/sys/kernel/ns_last_pid";
    fs::write(path, (pid - 1).to_string()).map_err(|error| format!("{path} cannot be written: {error}"))
}

/// Ends a program and starts another one at once, with its pid; `None`: somebody else has that now.
#[track_caller]
fn succeed(first: Target, program: &Path) -> Option<Target> {
    let pid = first.pid();
    drop(first);
    // Whatever else the machine starts meanwhile may come first.
    (0..20).find_map(|_| {
        choose_next_pid(pid).expect("the gate has looked");
        let second = Target::start(program);
        (second.pid() == pid).then_some(second)
    })
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&newest), choose_next_pid(std::process::id()));
    let config = format!("{OFTEN}[discover]\ninclude = [{{ comm = \"truth\" }}]\n");
    let host = HostAgent::start("reuse", &config);
    let again = (0..50).find_map(|_| {
        let mut first = Target::start(&newest);
        first.command("spawn chan 77");
        host.wait_live(first.pid(), first.check().num_goroutine);
        succeed(first, &newest)
    });
    let mut second = again.expect("the same pid once in fifty");
    let function = second.command("spawn method 5")["function"].as_str().expect("a name").to_owned();
    let truth = second.check();
    host.wait_live(second.pid(), truth.num_goroutine);
    // Site by site it is the second one; of the first there is nothing in the report, and no series.
    let functions = host.report(second.pid()).expect("watched").process(second.pid()).by_function();
    let live: BTreeMap<&str, u64> = functions
        .iter()
        .filter(|(_, counts)| counts.live > 0)
        .map(|(name, counts)| (&**name, counts.live))
        .collect();
    let known: BTreeMap<&str, u64> = truth
        .sites
        .iter()
        .filter(|(_, site)| site.live > 0)
        .map(|(name, site)| (&**name, site.live))
        .collect();
    assert_eq!(live, known);
    let metrics = host.get("/metrics", &[]).body;
    let begins = format!("leakwatch_site_tasks_live{{pid=\"{}\"", second.pid());
    let of_sites: Vec<&str> = metrics.lines().filter(|line| line.starts_with(&begins)).collect();
    assert!(of_sites.iter().any(|line| line.contains(&function) && line.ends_with(" 5")), "{of_sites:#?}");
    assert!(
        of_sites.iter().all(|line| !line.contains("main.leakChan")),
        "the first one's are left: {of_sites:#?}"
    );
}

#[test]
fn a_watch_of_a_pid_that_is_used_again_has_nothing_of_the_second_process() {
    let newest = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&newest), choose_next_pid(std::process::id()));
    let found = (0..30).find_map(|_| {
        let mut first = Target::start(&newest);
        let watch = Agent::watch(first.pid(), &[]);
        let before = first.check();
        first.command("spawn chan 77");
        let after = first.check();
        let mut second = succeed(first, &newest)?;
        second.command("spawn method 40");
        Some((watch, second, before, after))
    });
    let (watch, mut second, before, after) = found.expect("the same pid once in thirty");
    // Its process has ended, and so does it.
    let report = watch.wait().report();
    let process = report.process(second.pid());
    assert_eq!(process.json()["exited"], true);
    let tasks = process.tasks();
    assert_eq!(tasks.started, after.started - before.started, "{tasks:?}");
    second.check();
}
