//! Runtimes that a user names, against programs that know what they opened and closed.

use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use leakwatch_tests::{Agent, agent, gate, matrix, need, process::Guard, process::Lines};
use serde_json::Value;

use crate::folder::Folder;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// A program that answers each line with a line of JSON; it says one line when it is ready.
struct Program {
    guard: Guard,
    stdin: ChildStdin,
    answers: Lines,
}

impl Program {
    #[track_caller]
    fn start(command: &mut Command) -> Self {
        let mut guard = Guard::start(command);
        let stdin = guard.child().stdin.take().expect("it is piped");
        let answers = Lines::of(guard.child().stdout.take().expect("it is piped"));
        let program = Self { guard, stdin, answers };
        program.answer("its start");
        program
    }

    #[track_caller]
    fn answer(&self, to: &str) -> Value {
        let line = match self.answers.next(PATIENCE) {
            Ok(line) => line,
            Err(why) => panic!("no answer to {to}: {why:?}"),
        };
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert!(value["error"].is_null(), "{to}: {value}");
        value
    }

    #[track_caller]
    fn command(&mut self, line: &str) -> Value {
        use std::io::Write as _;
        writeln!(self.stdin, "{line}").expect("it reads");
        self.answer(line)
    }

    fn pid(&self) -> u32 {
        self.guard.pid()
    }
}

fn target(path: &str) -> PathBuf {
    matrix::targets_root().join(path)
}

fn handles() -> Program {
    Program::start(&mut Command::new(target("c/handles")))
}

/// What is reported of the one named runtime of a process.
struct Reported {
    process: Value,
}

impl Reported {
    #[track_caller]
    fn of(outcome: &agent::Outcome, pid: u32) -> Self {
        let report = outcome.report();
        let processes = report.json()["processes"].as_array().expect("processes").clone();
        let process = processes.into_iter().find(|process| process["pid"] == pid).expect("the process");
        Self { process }
    }

    /// Sites of the named runtime that start or end anything.
    fn sites(&self) -> Vec<&Value> {
        let sites = self.process["sites"].as_array().expect("sites").iter();
        sites.filter(|site| site["runtime"] == "custom").collect()
    }

    /// Sums over the sites: started, ended.
    fn counts(&self) -> (u64, u64) {
        let sum = |field: &str| self.sites().iter().map(|site| site[field].as_u64().expect("a count")).sum();
        (sum("started"), sum("ended"))
    }

    /// The site whose function has this in its name.
    #[track_caller]
    fn site(&self, function: &str) -> &Value {
        let sites = self.sites();
        let found =
            sites.iter().find(|site| site["function"].as_str().is_some_and(|it| it.contains(function)));
        found.unwrap_or_else(|| panic!("no site {function} in {:#}", self.process["sites"]))
    }

    #[track_caller]
    fn assert_lossless(&self) {
        let tasks = &self.process["tasks"];
        let losses = self.process["losses"].as_object().cloned().unwrap_or_default();
        let wrong: Vec<_> = losses
            .iter()
            .filter(|(name, count)| !name.starts_with("end_without_start") && count.as_u64() != Some(0))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?} {tasks}");
    }
}

#[track_caller]
fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} is no count in {value}"))
}

/// Opens, closes, fails and storms handles of one kind, and compares.
#[track_caller]
fn check_kind(kind: &str, flags: &[&str]) {
    let mut program = handles();
    let agent = Agent::watch(program.pid(), flags);
    program.command(&format!("open {kind} 50"));
    program.command(&format!("close {kind} 20"));
    if kind != "job" {
        program.command(&format!("fail {kind} 10"));
    }
    let truth = program.command(&format!("storm {kind} 2000"));
    let reported = Reported::of(&agent.interrupt(), program.pid());
    assert_eq!(reported.counts(), (number(&truth, "opened"), number(&truth, "closed")), "{kind}");
    let leak = reported.site("leak_orders");
    assert_eq!(
        (number(leak, "live"), number(leak, "started"), number(leak, "ended")),
        (30, 50, 20),
        "{kind}"
    );
    assert_eq!(number(&reported.process["tasks"], "live"), number(&truth, "live"), "{kind}");
    let request = reported.site("handle_request");
    assert_eq!((number(request, "live"), number(request, "started")), (0, 2000), "{kind}");
    assert_eq!(leak["line"], truth["leak_line"], "{kind}: the line of the call");
    assert_eq!(request["line"], truth["request_line"], "{kind}: the line of the call");
    assert!(leak["file"].as_str().is_some_and(|file| file.ends_with("handles.cc")), "{leak}");
    if kind != "job" {
        let problems = reported.process["runtimes"].to_string();
        assert!(problems.contains("0 calls had a value that is no task"), "{kind}: {problems}");
    }
    reported.assert_lossless();
}

#[test]
fn addresses_that_a_function_of_a_library_returns() {
    need!(gate::live(), gate::file(&target("c/handles")));
    check_kind("pool", &["--profile", "handle-pool"]);
}

#[test]
fn numbers_whose_failure_is_minus_one() {
    need!(gate::live(), gate::file(&target("c/handles")));
    check_kind(
        "number",
        &["--start", "pool_number:task=ret:bits=32:invalid=-1", "--end", "pool_number_close:bits=32"],
    );
}

#[test]
fn two_named_runtimes_are_two_entries_though_their_tasks_have_the_same_numbers() {
    need!(gate::live(), gate::file(&target("c/handles")));
    let folder = Folder::new("named");
    let file = folder.path().join("again.toml");
    let profile = r#"
name = "again"
[[start]]
symbol = "pool_number"
task = "ret"
bits = 32
invalid = [-1]
[[end]]
symbol = "pool_number_close"
task = "arg1"
bits = 32
"#;
    std::fs::write(&file, profile).expect("the profile");
    let file = file.display().to_string();
    let start = "pool_number:task=ret:bits=32:invalid=-1";
    let flags = [
        "--profile",
        &file,
        "--start",
        start,
        "--end",
        "pool_number_close:bits=32",
        "--profile",
        "handle-pool",
    ];
    let mut program = handles();
    let agent = Agent::watch(program.pid(), &flags);
    program.command("open number 50");
    program.command("close number 20");
    let numbers = program.command("storm number 2000");
    let pool = program.command("open pool 7");
    let outcome = agent.interrupt();
    let process = &outcome.report().json()["processes"][0].clone();
    let runtimes: Vec<(&str, &str)> = process["runtimes"]
        .as_array()
        .expect("runtimes")
        .iter()
        .map(|runtime| (runtime["kind"].as_str().expect("a kind"), runtime["name"].as_str().expect("a name")))
        .collect();
    assert_eq!(runtimes, [("custom", "again"), ("custom_2", "handle-pool"), ("custom_3", "custom")]);
    let counts = |kind: &str| -> (u64, u64) {
        let sites = process["sites"].as_array().expect("sites");
        let of = sites.iter().filter(|site| site["runtime"] == kind);
        of.fold((0, 0), |(started, ended), site| {
            (started + number(site, "started"), ended + number(site, "ended"))
        })
    };
    for kind in ["custom", "custom_3"] {
        assert_eq!(counts(kind), (number(&numbers, "opened"), number(&numbers, "closed")), "{kind}");
    }
    let of_pool = counts("custom_2");
    assert_eq!(of_pool, (number(&pool, "opened"), number(&pool, "closed")));
    let all = 2 * number(&numbers, "live") + number(&pool, "live");
    assert_eq!(number(&process["tasks"], "live"), all);
}

#[test]
fn handles_that_come_through_a_pointer() {
    need!(gate::live(), gate::file(&target("c/handles")));
    check_kind("fill", &["--start", "pool_fill:task=*arg1@ret", "--end", "pool_close"]);
}

#[test]
fn results_of_a_function_that_ends_in_a_tail_call() {
    need!(gate::live(), gate::file(&target("c/handles")));
    check_kind("tail", &["--start", "pool_tail:task=ret", "--end", "pool_close"]);
}

#[test]
fn results_by_a_return_probe_that_was_asked_for() {
    need!(gate::live(), gate::file(&target("c/handles")));
    check_kind("pool", &["--start", "pool_open:task=ret:return_probe=true", "--end", "pool_close"]);
}

#[test]
fn objects_by_constructor_and_destructor() {
    need!(gate::live(), gate::file(&target("c/handles")));
    check_kind("job", &["--start", "jobs::Job::Job", "--end", "jobs::Job::~Job"]);
}

#[test]
fn methods_by_their_arguments() {
    need!(gate::live(), gate::file(&target("c/handles")));
    check_kind(
        "method",
        &["--start", "re:^jobs::Pool::get\\(:task=ret", "--end", "jobs::Pool::put(void*):task=arg2"],
    );
}

#[test]
fn a_storm_of_two_hundred_thousand_in_four_threads() {
    need!(gate::live(), gate::file(&target("c/handles")));
    let mut program = handles();
    let agent = Agent::watch(program.pid(), &["--profile", "handle-pool"]);
    program.command("threads 4 50000");
    let truth = program.command("truth pool");
    let outcome = agent.interrupt();
    let report = outcome.report();
    let reported = Reported::of(&outcome, program.pid());
    assert_eq!(reported.counts(), (number(&truth, "opened"), number(&truth, "closed")));
    assert_eq!(number(&truth, "opened"), 200_000);
    reported.assert_lossless();
    let overhead = &report.json()["overhead"];
    assert!(overhead["probe_hits"].as_u64().is_some_and(|hits| hits >= 400_000), "{overhead}");
    assert!(overhead["cpu_percent_of_one_core"].as_f64().is_some_and(|percent| percent > 0.0), "{overhead}");
}

#[test]
fn what_was_alive_before_is_said_to_be_unknown() {
    need!(gate::live(), gate::file(&target("c/handles")));
    let mut program = handles();
    program.command("open pool 30");
    let agent = Agent::watch(program.pid(), &["--profile", "handle-pool"]);
    program.command("open pool 20");
    program.command("close pool 40");
    let reported = Reported::of(&agent.interrupt(), program.pid());
    let tasks = &reported.process["tasks"];
    assert_eq!(number(tasks, "started"), 20);
    // Thirty of those that ended were never seen to start: ten of the others are alive.
    assert_eq!(number(tasks, "ended"), 40, "{tasks}");
    assert_eq!(tasks["live_at_attach"], Value::Null, "{tasks}");
    assert_eq!(number(reported.site("leak_orders"), "live"), 10);
}

#[test]
fn a_profile_with_an_error_names_the_line() {
    need!(gate::live(), gate::file(&target("c/handles")));
    let program = handles();
    let folder = std::env::temp_dir().join(format!("leakwatch-profile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let pid = program.pid().to_string();
    for (text, part) in [
        (
            "name = \"x\"\n[[start]]\nsymbl = \"pool_open\"\n",
            "p.toml:3: unknown key of [[start]] `symbl` (did you mean `symbol`?)",
        ),
        (
            "name = \"x\"\n[[start]]\nsymbol = \"pool_open\"\ntask = \"rax\"\n",
            "p.toml:4: `rax` is no place of a task",
        ),
        ("name = \"x\"\n[[start]]\nsymbol = \"pool_open\"\n", "there is no [[end]]"),
        ("name = ", "p.toml:1: not TOML"),
        ("\u{0}\u{1}\u{2}", "not TOML"),
    ] {
        let path = folder.join("p.toml");
        std::fs::write(&path, text).expect("written");
        let path = path.display().to_string();
        let outcome = agent::run(["watch", "--pid", &pid, "--profile", &path]);
        assert_eq!(outcome.code(), Some(2), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{part:?} is not in {}", outcome.stderr);
    }
    std::fs::remove_dir_all(&folder).expect("removed");
    let outcome = agent::run(["watch", "--pid", &pid, "--profile", "asyncoi"]);
    assert!(
        outcome.code() == Some(2) && outcome.stderr.contains("did you mean `asyncio`?"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_function_that_is_not_there_is_answered_by_what_is() {
    need!(gate::live(), gate::file(&target("c/handles")));
    let program = handles();
    let pid = program.pid().to_string();
    let said = |start: &str, end: &str| {
        let outcome = agent::run(["watch", "--pid", &pid, "--start", start, "--end", end]);
        assert_eq!(outcome.code(), Some(1), "{}", outcome.stderr);
        outcome.stderr
    };
    let error = said("pool_opn:task=ret", "pool_close");
    for part in ["--start 'pool_opn:task=ret'", "libpool.so (", "libc.so.6 (", "c/handles (", "pool_open"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    let error = said("pool_open:task=ret:library=libnone.so*", "pool_close");
    assert!(error.contains("no library of the process is called libnone.so*"), "{error}");
    let error = said("re:^no_such_thing_", "pool_close");
    assert!(error.contains("no function's name matches"), "{error}");
    let error = said("memcpy:task=ret", "pool_close");
    assert!(error.contains("chosen at run time"), "{error}");
    let error = said("setjmp:task=ret", "pool_close");
    assert!(error.contains("setjmp"), "{error}");
}

#[test]
fn a_library_that_is_loaded_later_is_there_at_the_next_attach() {
    need!(gate::live(), gate::file(&target("c/handles")));
    let mut program = handles();
    let folder = std::env::temp_dir().join(format!("leakwatch-later-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let later = folder.join("liblater.so");
    std::fs::copy(target("c/libpool.so"), &later).expect("copied");
    let pid = program.pid().to_string();
    let flags =
        ["--start", "pool_open:task=ret:library=liblater.so", "--end", "pool_close:library=liblater.so"];
    let arguments = ["watch", "--pid", &pid].into_iter().chain(flags);
    let outcome = agent::run(arguments);
    assert!(outcome.stderr.contains("no library of the process is called liblater.so"), "{}", outcome.stderr);
    program.command(&format!("load {}", later.display()));
    // Deleted meanwhile, it is still what the process runs.
    std::fs::remove_dir_all(&folder).expect("removed");
    let agent = Agent::watch(program.pid(), &flags);
    program.command("open pool 3");
    let reported = Reported::of(&agent.interrupt(), program.pid());
    assert_eq!(reported.counts(), (0, 0), "the program calls the other copy");
}

#[test]
fn threads_as_resources_of_glibc() {
    need!(gate::live(), gate::file(&target("c/handles")));
    let mut program = handles();
    let pid = program.pid().to_string();
    need!(profile_fits("pthread", &pid));
    let agent = Agent::watch(program.pid(), &["--profile", "pthread"]);
    program.command("threads 8 10");
    let reported = Reported::of(&agent.interrupt(), program.pid());
    assert_eq!(reported.counts(), (8, 8));
    let site = &reported.sites()[0];
    assert!(site["function"].as_str().is_some_and(|it| it.contains("thread")), "{site}");
    reported.assert_lossless();
}

/// Whether a shipped profile can be applied to a process here.
fn profile_fits(profile: &str, pid: &str) -> Result<(), String> {
    let outcome = agent::run(["inspect", "--pid", pid, "--profile", profile]);
    if outcome.code() == Some(0) { Ok(()) } else { Err(outcome.stderr) }
}

#[test]
fn work_that_is_queued_with_libuv() {
    need!(gate::live(), gate::file(&target("c/uv")));
    let mut program = Program::start(&mut Command::new(target("c/uv")));
    let agent = Agent::watch(program.pid(), &["--profile", "libuv"]);
    program.command("queue 2000");
    program.command("hold 50");
    program.command("refuse 5");
    let truth = program.command("truth");
    let reported = Reported::of(&agent.interrupt(), program.pid());
    assert_eq!(reported.counts(), (number(&truth, "opened"), number(&truth, "closed")));
    let held = reported.site("hold_orders");
    assert_eq!((number(held, "live"), &held["line"]), (50, &truth["leak_line"]));
    assert_eq!(held["task"], "wait_for_release");
    reported.assert_lossless();
    program.command("release");
}

#[test]
fn a_storm_through_libuv_by_the_programs_own_function() {
    need!(gate::live(), gate::file(&target("c/uv")));
    let mut program = Program::start(&mut Command::new(target("c/uv")));
    let flags = ["--start", "uv_queue_work:task=arg2@ret:entry=arg3", "--end", "after_work"];
    let agent = Agent::watch(program.pid(), &flags);
    let truth = program.command("queue 200000");
    let reported = Reported::of(&agent.interrupt(), program.pid());
    assert_eq!(reported.counts(), (200_000, 200_000));
    assert_eq!(number(&truth, "closed"), 200_000);
    reported.assert_lossless();
}

#[test]
fn tasks_of_async_task_in_a_dev_build() {
    need!(gate::live(), gate::file(&target("smol/dev/smol-truth")));
    let mut program = Program::start(&mut Command::new(target("smol/dev/smol-truth")));
    let agent = Agent::watch(program.pid(), &["--profile", "async-task"]);
    program.command("open 100");
    program.command("close 40");
    let truth = program.command("storm 20000");
    let reported = Reported::of(&agent.interrupt(), program.pid());
    assert_eq!(reported.counts(), (number(&truth, "opened"), number(&truth, "closed")));
    assert_eq!(number(reported.site("smol_truth::leak_orders"), "live"), 60);
    assert_eq!(number(reported.site("smol_truth::handle_request"), "started"), 20_000);
    reported.assert_lossless();
}

#[test]
fn an_optimised_build_of_async_task_is_refused() {
    need!(gate::live(), gate::file(&target("smol/release/smol-truth")));
    let program = Program::start(&mut Command::new(target("smol/release/smol-truth")));
    let pid = program.pid().to_string();
    let outcome = agent::run(["watch", "--pid", &pid, "--profile", "async-task"]);
    assert_eq!(outcome.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("inlined async-task's functions"), "{}", outcome.stderr);
}

/// A Python program that makes asyncio tasks, finishes and keeps them, and says what it did.
const ASYNCIO: &str = r#"
import asyncio, gc, os, sys
kept, made, freed = [], 0, 0
async def work(): return 1
async def wait(): await asyncio.Event().wait()
async def main():
    global made, freed
    loop = asyncio.get_running_loop()
    print('{"pid": %d}' % os.getpid(), flush=True)
    while True:
        words = (await loop.run_in_executor(None, sys.stdin.readline)).split()
        if not words: return
        n = int(words[1]) if len(words) > 1 else 0
        if words[0] == "open":
            kept.extend(loop.create_task(wait()) for _ in range(n)); made += n
            await asyncio.sleep(0)
        elif words[0] == "close":
            for task in kept[:n]: task.cancel()
            await asyncio.gather(*kept[:n], return_exceptions=True)
            del kept[:n]; task = None; gc.collect(); freed += n
        elif words[0] == "storm":
            for _ in range(n): await loop.create_task(work())
            await asyncio.sleep(0) # the loop holds what woke us until we let go of it
            gc.collect(); made += n; freed += n
        print('{"opened": %d, "closed": %d, "live": %d}' % (made, freed, len(kept)), flush=True)
asyncio.run(main())
"#;

/// Pythons that may have the symbols of `_asyncio`.
fn pythons() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["python3", "python3.12", "python3.11", "python3-dbg"];
    let named = std::env::var_os("LEAKWATCH_PYTHON").map(PathBuf::from);
    let found = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    named.into_iter().chain(found).filter(|path| path.is_file()).collect()
}

/// Starts the program; none where this is no Python that runs, as with the names that version managers put into PATH.
fn asyncio(python: &Path) -> Option<Program> {
    let mut guard = Guard::start(Command::new(python).args(["-c", ASYNCIO]));
    let stdin = guard.child().stdin.take().expect("it is piped");
    let answers = Lines::of(guard.child().stdout.take().expect("it is piped"));
    answers.next(PATIENCE).ok()?;
    Some(Program { guard, stdin, answers })
}

#[test]
fn tasks_of_asyncio() {
    need!(gate::live());
    let mut refused = "no python3 in PATH".to_owned();
    let fitting = pythons().into_iter().find(|python| {
        asyncio(python).is_some_and(|program| {
            profile_fits("asyncio", &program.pid().to_string()).map_err(|why| refused = why).is_ok()
        })
    });
    need!(fitting.as_ref().ok_or(refused));
    let mut program = asyncio(&fitting.expect("checked")).expect("it started a moment ago");
    let agent = Agent::watch(program.pid(), &["--profile", "asyncio"]);
    let before = program.command("truth");
    program.command("open 100");
    program.command("close 40");
    let truth = program.command("storm 20000");
    let reported = Reported::of(&agent.interrupt(), program.pid());
    let since = |field: &str| number(&truth, field) - number(&before, field);
    assert_eq!(reported.counts(), (since("opened"), since("closed")));
    assert_eq!(number(&reported.process["tasks"], "live"), 60);
    reported.assert_lossless();
}

#[test]
fn a_python_without_symbols_is_said_to_be_one() {
    need!(gate::live());
    let stripped = pythons().into_iter().find(|python| {
        asyncio(python).is_some_and(|program| profile_fits("asyncio", &program.pid().to_string()).is_err())
    });
    need!(stripped.as_ref().ok_or("every python3 here has its symbols".to_owned()));
    let program = asyncio(&stripped.expect("checked")).expect("it started a moment ago");
    let outcome = agent::run(["watch", "--pid", &program.pid().to_string(), "--profile", "asyncio"]);
    assert_eq!(outcome.code(), Some(1));
    assert!(outcome.stderr.contains("there is no function _asyncio_Task___init__ in"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("stripped"), "{}", outcome.stderr);
}

#[test]
fn a_result_is_never_taken_in_a_go_program() {
    let go = matrix::go_target(matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 1], "cgo");
    need!(gate::live(), gate::file(&go.path));
    let program = leakwatch_tests::Target::start(&go.path);
    let pid = program.pid().to_string();
    let outcome = agent::run(["watch", "--pid", &pid, "--start", "malloc:task=ret", "--end", "free"]);
    assert_eq!(outcome.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Go runtime, whose stacks move"), "{}", outcome.stderr);
    let outcome = agent::run(["watch", "--pid", &pid, "--start", "runtime.newproc", "--end", "free"]);
    assert_eq!(outcome.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Go functions cannot be named"), "{}", outcome.stderr);
}

#[test]
fn a_named_runtime_beside_goroutines() {
    let go = matrix::go_target(matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 1], "cgo");
    need!(gate::live(), gate::file(&go.path));
    let mut program = leakwatch_tests::Target::start(&go.path);
    let flags = ["--start", "pthread_create:entry=arg3", "--end", "pthread_join"];
    let agent = Agent::watch(program.pid(), &flags);
    let before = program.truth();
    program.command("storm 10000");
    let after = program.check();
    let outcome = agent.interrupt();
    let report = outcome.report();
    let process = report.json()["processes"][0].clone();
    let kinds: Vec<&str> = process["runtimes"]
        .as_array()
        .expect("runtimes")
        .iter()
        .filter_map(|it| it["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["go", "custom"]);
    let sites = process["sites"].as_array().expect("sites").iter();
    let started: u64 = sites
        .filter(|site| site["runtime"] == "go" && site["system"] == false)
        .map(|site| number(site, "started"))
        .sum();
    assert_eq!(started, after.started - before.started);
}
