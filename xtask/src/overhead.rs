//! `cargo xtask overhead`: what watching costs, side by side with its floor and with bpftrace, in one run.
//!
//! The machine is shared and noisy: each figure is the processor time of the watched program, the ways take turns, and
//! the cheapest round of each counts, as the others were disturbed. Nothing here is a test: it prints, and writes
//! `docs/overhead.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use leakwatch_tests::agent::{self, Agent};
use leakwatch_tests::target::Target;
use leakwatch_tests::{NativeTarget, matrix};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::shell::{self, Stopwatch, cargo, root};
use crate::tools;

/// Which truth program is watched.
const RELEASE: &str = "1.27.3";

/// Goroutines in one measurement; a start and an end each.
const LIVES: u32 = 150_000;

/// Turns that each way takes.
const ROUNDS: usize = 9;

/// Goroutines alive while leakwatch's memory and idle cost are measured.
const ALIVE: u32 = 200_000;

/// How long an idle leakwatch is looked at.
const IDLE: Duration = Duration::from_secs(20);

/// A way to watch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Unwatched,
    Floor,
    Watch,
    Stream,
    Bpftrace,
}

impl Way {
    const ALL: [Self; 5] = [Self::Unwatched, Self::Floor, Self::Watch, Self::Stream, Self::Bpftrace];

    /// What is measured with a tokio program: what bpftrace users write for one has no counterpart.
    const TOKIO: [Self; 4] = [Self::Unwatched, Self::Floor, Self::Watch, Self::Stream];

    const fn name(self) -> &'static str {
        match self {
            Self::Unwatched => "not watched",
            Self::Floor => "floor: two empty eBPF programs on the same two instructions",
            Self::Watch => "leakwatch: counters by process and site, lifetimes, live table",
            Self::Stream => "leakwatch, and each start and end through the ring buffer",
            Self::Bpftrace => "bpftrace counting at the entries of newproc1 and goexit0",
        }
    }
}

/// Runs everything and writes the table.
pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    shell::run(cargo("build").args(["--release", "--package", "leakwatch"]))?;
    let target = matrix::go_target(RELEASE, "plain");
    ensure!(target.path.is_file(), "needs {}; run `cargo xtask targets {RELEASE} plain`", target.name());
    let bpftrace = tools::bpftrace()?;
    let mut page = heading()?;

    println!("cost of a goroutine's life, {ROUNDS} rounds of {LIVES} …");
    let costs = lives(&target.path, &Way::ALL, &bpftrace)?;
    write_lives(&mut page, &costs);

    println!("a storm through the ring buffer …");
    write_storm(&mut page, &target.path, "goroutines");

    let tokio = matrix::any_tokio_target();
    ensure!(tokio.path.is_file(), "needs {0}; run `cargo xtask targets {0}`", tokio.name());
    println!("cost of a tokio task's life, {ROUNDS} rounds of {LIVES} …");
    let costs = lives(&tokio.path, &Way::TOKIO, &bpftrace)?;
    write_tokio_lives(&mut page, &tokio, &costs);
    write_storm(&mut page, &tokio.path, "tokio tasks");

    let pool = matrix::targets_root().join("c").join("handles");
    ensure!(pool.is_file(), "needs {}; run `cargo xtask targets c`", pool.display());
    println!("cost of a handle's life, {ROUNDS} rounds of {LIVES} …");
    let costs = named_lives(&pool, &bpftrace)?;
    write_named_lives(&mut page, &costs);
    write_named_storm(&mut page, &pool);

    println!("memory and idle cost with {ALIVE} goroutines alive …");
    write_idle(&mut page, &target.path)?;

    println!("start to first report on a large binary …");
    write_first_report(&mut page)?;

    let path = root().join("docs").join("overhead.md");
    fs::create_dir_all(root().join("docs"))?;
    fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{page}\nwritten to {}", path.display());
    Ok(())
}

fn heading() -> Result<String> {
    Ok(format!("# What watching costs\n\nWritten by `cargo xtask overhead`: {}.\n", machine()?))
}

/// What figures are of, for the heading of a page.
pub(crate) fn machine() -> Result<String> {
    let kernel = shell::output(shell::command("uname").arg("-r"))?;
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(" unknown");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    Ok(format!(
        "kernel {}, {count} cores of{} (a virtual machine shared with others: compare figures of one table, not of two runs)",
        kernel.trim(),
        model.trim_start_matches(['\t', ':']),
    ))
}

/// Cheapest and median cost of a life in ns of the program's processor time, by way.
fn lives(program: &Path, ways: &[Way], bpftrace: &Path) -> Result<Vec<(Way, f64, f64)>> {
    let mut target = Target::start(program);
    rounds(ways, |way| {
        let watcher = Watcher::start(way, target.pid(), &[], program, bpftrace)?;
        target.command("storm 2000");
        let before = cpu_ns(target.pid())?;
        target.command(&format!("storm {LIVES}"));
        let cost = (cpu_ns(target.pid())? - before) / f64::from(LIVES);
        watcher.stop()?;
        Ok(cost)
    })
}

/// Measures each way once a round, in turns; of each the cheapest round and the median.
fn rounds(ways: &[Way], mut measure: impl FnMut(Way) -> Result<f64>) -> Result<Vec<(Way, f64, f64)>> {
    let mut costs: Vec<(Way, Vec<f64>)> = ways.iter().map(|way| (*way, Vec::new())).collect();
    for round in 1..=ROUNDS {
        for (way, costs) in &mut costs {
            costs.push(measure(*way)?);
        }
        println!("  round {round}");
    }
    Ok(summed_up(costs))
}

/// Of each way the cheapest round and the median.
fn summed_up(costs: Vec<(Way, Vec<f64>)>) -> Vec<(Way, f64, f64)> {
    costs
        .into_iter()
        .map(|(way, mut costs)| {
            costs.sort_by(f64::total_cmp);
            (
                way,
                costs.first().copied().unwrap_or(f64::NAN),
                costs.get(ROUNDS / 2).copied().unwrap_or(f64::NAN),
            )
        })
        .collect()
}

/// Flags that name the C program's pool of handles.
const POOL: [&str; 2] = ["--profile", "handle-pool"];

/// The same for handles of a C pool, a runtime that is named: a start and an end are a call each.
fn named_lives(program: &Path, bpftrace: &Path) -> Result<Vec<(Way, f64, f64)>> {
    let mut target = NativeTarget::start(&mut Command::new(program));
    rounds(&Way::TOKIO, |way| {
        let watcher = Watcher::start(way, target.pid(), &POOL, program, bpftrace)?;
        target.answer("storm pool 2000");
        let before = cpu_ns(target.pid())?;
        target.answer(&format!("storm pool {LIVES}"));
        let cost = (cpu_ns(target.pid())? - before) / f64::from(LIVES);
        watcher.stop()?;
        Ok(cost)
    })
}

/// Starts and ends of handles per second, from four threads, through the default ring buffer.
fn write_named_storm(page: &mut String, program: &Path) {
    const THREADS: u32 = 4;
    const EACH: u32 = 500_000;
    let mut target = NativeTarget::start(&mut Command::new(program));
    let flags: Vec<&str> = POOL.into_iter().chain(["--stream"]).collect();
    let agent = Agent::watch(target.pid(), &flags);
    let begun = Stopwatch::start();
    target.answer(&format!("threads {THREADS} {EACH}"));
    let rate = f64::from(THREADS * EACH) / begun.seconds();
    let report = agent.interrupt().report();
    let process = report.process(target.pid());
    let _infallible = writeln!(
        page,
        "\n## A storm of handles\n\n{} handles of the same pool from {THREADS} threads: {rate:.0} starts/s (and as many ends) through the \
         ring buffer of default size, {} events lost; counted {} starts and {} ends.",
        THREADS * EACH,
        process.lost_events(),
        // What was alive at the attach is not known of such a runtime.
        process.json()["tasks"]["started"],
        process.json()["tasks"]["ended"],
    );
}

fn write_named_lives(page: &mut String, lives: &[(Way, f64, f64)]) {
    page.push_str(
        "\n## A life in a runtime that is named\n\nThe same with handles of a C pool (`--profile handle-pool`): one probe on the \
         instruction behind the call that gives one out, one where it is taken back.\n\n| watched by | ns a life | added | times the \
         floor |\n| --- | --- | --- | --- |\n",
    );
    write_table(page, lives);
}

fn write_lives(page: &mut String, lives: &[(Way, f64, f64)]) {
    let _infallible = write!(
        page,
        "\n## A goroutine's life\n\nProcessor time of a Go {RELEASE} program per goroutine (one start, one end; {LIVES} of them, GOMAXPROCS 2), \
         the cheapest of {ROUNDS} rounds that take turns, medians in brackets.\n\n| watched by | ns a life | added | times the floor |\n| --- | --- | --- | --- |\n"
    );
    write_table(page, lives);
    let _infallible = writeln!(
        page,
        "\nAgainst bpftrace, leakwatch adds {:.1} times less (with the ring buffer {:.1} times).",
        added(lives, Way::Bpftrace, false) / added(lives, Way::Watch, false),
        added(lives, Way::Bpftrace, false) / added(lives, Way::Stream, false),
    );
}

/// What this way adds to a life, ns: by the cheapest rounds, or by the medians.
fn added(lives: &[(Way, f64, f64)], way: Way, median: bool) -> f64 {
    let of = |way: Way| {
        let found = lives.iter().find(|(other, ..)| *other == way);
        found.map_or(f64::NAN, |&(_, least, middle)| if median { middle } else { least })
    };
    of(way) - of(Way::Unwatched)
}

fn write_table(page: &mut String, lives: &[(Way, f64, f64)]) {
    let added = |way, median| added(lives, way, median);
    for &(way, least, middle) in lives {
        let (extra, times) = if way == Way::Unwatched {
            (String::new(), String::new())
        } else {
            (
                format!("{:.0} ({:.0})", added(way, false), added(way, true)),
                format!(
                    "{:.2} ({:.2})",
                    added(way, false) / added(Way::Floor, false),
                    added(way, true) / added(Way::Floor, true)
                ),
            )
        };
        let _infallible = writeln!(page, "| {} | {least:.0} ({middle:.0}) | {extra} | {times} |", way.name());
    }
}

fn write_tokio_lives(page: &mut String, binary: &matrix::TokioBinary, lives: &[(Way, f64, f64)]) {
    let _infallible = write!(
        page,
        "\n## A tokio task's life\n\nThe same with tokio {} (a release build with symbols, two workers): the floor has empty programs on all \
         of its instructions, of which a task passes one where it starts and one where it ends.\n\n| watched by | ns a life | added | times the floor |\n\
         | --- | --- | --- | --- |\n",
        binary.release,
    );
    write_table(page, lives);
}

/// Starts per second that go through the default ring buffer, and what is lost.
fn write_storm(page: &mut String, program: &Path, tasks: &str) {
    const STARTED: u32 = 3_000_000;
    let mut target = Target::start(program);
    let agent = Agent::watch(target.pid(), &["--stream"]);
    let begun = Stopwatch::start();
    target.command_within(&format!("storm {STARTED} 4"), Duration::from_mins(5));
    let rate = f64::from(STARTED) / begun.seconds();
    let outcome = agent.interrupt();
    let report = outcome.report();
    let process = report.process(target.pid());
    let _infallible = writeln!(
        page,
        "\n## A storm of {tasks}\n\n{STARTED} {tasks} as fast as the program can: {rate:.0} starts/s (and as many ends) through the ring \
         buffer of default size, {} events lost; counted {} starts and {} ends.",
        process.lost_events(),
        process.tasks().started,
        process.tasks().ended,
    );
}

fn write_idle(page: &mut String, program: &Path) -> Result<()> {
    let mut target = Target::start(program);
    target.command_within(&format!("spawn chan {ALIVE}"), Duration::from_mins(3));
    let agent = Agent::watch(target.pid(), &[]);
    let share = idle_percent(&agent)?;
    let [resident, peak] = [status_kib(agent.pid(), "VmRSS:")?, status_kib(agent.pid(), "VmHWM:")?];
    agent.interrupt();
    drop(target);

    let mut target = Target::start(program);
    target.command("spawn chan 100");
    let agent = Agent::watch(target.pid(), &[]);
    let small_share = idle_percent(&agent)?;
    agent.interrupt();
    let _infallible = writeln!(
        page,
        "\n## Memory and idleness\n\n| | |\n| --- | --- |\n| resident memory of leakwatch, {ALIVE} live goroutines (peak) | {} MiB ({} MiB) |\n\
         | processor time of leakwatch, target idle with {ALIVE} goroutines | {share:.2} % of a core |\n\
         | processor time of leakwatch, target idle with 100 goroutines | {small_share:.3} % of a core |",
        resident / 1024,
        peak / 1024,
    );
    Ok(())
}

/// Processor time of a leakwatch whose target does nothing, percent of a core, once its start is over.
fn idle_percent(agent: &Agent) -> Result<f64> {
    std::thread::sleep(Duration::from_secs(8));
    let before = cpu_ns(agent.pid())?;
    let begun = Stopwatch::start();
    std::thread::sleep(IDLE);
    Ok((cpu_ns(agent.pid())? - before) / 1e9 / begun.seconds() * 100.0)
}

fn write_first_report(page: &mut String) -> Result<()> {
    let traefik = match matrix::third_party("traefik") {
        Ok(path) => path,
        Err(_missing) => tools::third_party("traefik")?,
    };
    let size = fs::metadata(&traefik)?.len() >> 20;
    let folder = shell::work_dir().join("overhead");
    fs::create_dir_all(&folder)?;
    let mut program = Command::new(&traefik)
        .args(["--entryPoints.web.address=127.0.0.1:0", "--log.level=ERROR"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    let pid = program.id();
    let mut times = Vec::new();
    for _ in 0..3 {
        let begun = Stopwatch::start();
        agent::watch_for(pid, "100ms", &["--interval", "100ms"]);
        times.push(begun.seconds());
    }
    program.kill()?;
    program.wait()?;
    let _infallible = writeln!(
        page,
        "\n## First report\n\nFrom the start of leakwatch to its report on traefik (a Go binary of {size} MiB without symbols), a watch of \
         0.1 s among it: {}.",
        times.iter().map(|time| format!("{time:.2} s")).collect::<Vec<_>>().join(", "),
    );
    Ok(())
}

/// Something that watches, for the length of one measurement.
enum Watcher {
    Nobody,
    Leakwatch(Agent),
    Other(Child),
}

impl Watcher {
    /// `flags`: what leakwatch is told besides.
    fn start(way: Way, pid: u32, flags: &[&str], program: &Path, bpftrace: &Path) -> Result<Self> {
        let pid_text = pid.to_string();
        Ok(match way {
            Way::Unwatched => Self::Nobody,
            Way::Floor => {
                let mut agent = Agent::start(["floor", "--pid", &pid_text].iter().chain(flags));
                agent.wait_attached();
                Self::Leakwatch(agent)
            }
            Way::Watch => Self::Leakwatch(Agent::watch(pid, flags)),
            Way::Stream => Self::Leakwatch(Agent::watch(pid, &[flags, &["--stream"]].concat())),
            Way::Bpftrace => {
                let program = program.display();
                let script = format!(
                    "uprobe:{program}:runtime.newproc1 {{ @starts = count(); }} \
                     uprobe:{program}:runtime.goexit0 {{ @ends = count(); }}"
                );
                let mut child = Command::new(bpftrace)
                    .args(["-p", &pid_text, "-e", &script])
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .context("cannot start bpftrace")?;
                wait_for_probe(&mut child)?;
                Self::Other(child)
            }
        })
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Nobody => {}
            Self::Leakwatch(agent) => {
                agent.interrupt();
            }
            Self::Other(mut child) => {
                nix::sys::signal::kill(
                    Pid::from_raw(i32::try_from(child.id())?),
                    nix::sys::signal::Signal::SIGINT,
                )?;
                child.wait()?;
            }
        }
        Ok(())
    }
}

/// Gives bpftrace the time to place its probes: it says nothing that tells when they are there.
fn wait_for_probe(child: &mut Child) -> Result<()> {
    std::thread::sleep(Duration::from_secs(3));
    if let Some(status) = child.try_wait()? {
        bail!("bpftrace ended at once: {status}");
    }
    Ok(())
}

/// Processor time that a process has used, ns.
fn cpu_ns(pid: u32) -> Result<f64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?))?;
    let time = clock.now()?;
    #[expect(clippy::cast_precision_loss, reason = "hours in nanoseconds fit")]
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

/// A size of `/proc/PID/status`, KiB.
fn status_kib(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line in status")?;
    value.trim().trim_end_matches(" kB").parse().context("not a size")
}
