//! `cargo xtask proofs`: what a proof costs, by the size of the heap, and what it does to the answers of a server, beside the
//! runtime's own profile of leaked goroutines.
//!
//! It builds nothing: it takes `LEAKWATCH_BIN`, or what was built last for release. The machine is shared and noisy: costs are
//! processor time, and the ways of the second table take turns.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leakwatch_tests::agent::{self, Agent};
use leakwatch_tests::{Target, matrix};

use crate::overhead::machine;
use crate::shell::{self, Stopwatch};

/// The release whose runtime has a profile of its own.
const RELEASE: &str = "1.27.3";
/// How long the target may take to make its heap.
const PATIENCE: Duration = Duration::from_mins(10);
/// Connections of the load, and how long each way is measured in a turn.
const CONNECTIONS: usize = 4;
const TURN: Duration = Duration::from_secs(5);
const TURNS: usize = 5;

/// Runs it and prints the tables for docs/proof.md. With arguments only heaps of so many MB.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let sizes: Vec<u64> = match arguments {
        [] => vec![1024, 8192],
        sizes => sizes.iter().map(|size| size.parse().context("a size in MB")).collect::<Result<_>>()?,
    };
    println!("{}; {}", machine()?, agent::binary().map_err(anyhow::Error::msg)?.display());
    println!(
        "| process | heap | passes | processor time of the proof | of a pass | own memory | took | proven |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for size in sizes {
        let mut target = Started::new()?;
        target.target.command_within(&format!("heap {size}"), PATIENCE);
        // Without anybody who could leak there would be nothing to prove.
        target.target.command("spawn 100");
        row(&format!("{size} MB, at rest"), &target, false)?;
        // Among these some run all the time.
        target.target.command("make 1");
        row(&format!("{size} MB, under load"), &target, true)?;
    }
    if !arguments.is_empty() {
        return Ok(());
    }
    let mut target = Started::new()?;
    target.target.command_within("spawn 1000000", PATIENCE);
    row("1,000,000 goroutines that leak, at rest", &target, false)?;
    drop(target);
    latency()
}

/// The target, serving.
struct Started {
    target: Target,
    address: String,
}

impl Started {
    fn new() -> Result<Self> {
        let program = matrix::go_target(RELEASE, "plain").path.with_file_name("prove");
        ensure!(program.is_file(), "needs {}; `cargo xtask targets` makes it", program.display());
        let folder = shell::work_dir().join("proofs");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("address");
        let mut target = Target::start_command(Command::new(program).env("PROVE_ADDRESS", &file));
        target.command("serve");
        Ok(Self { target, address: std::fs::read_to_string(file)? })
    }
}

/// One proof, as a row.
fn row(name: &str, started: &Started, loaded: bool) -> Result<()> {
    let pid = started.target.pid().to_string();
    let watch =
        ["watch", "--pid", &pid, "--mode", "memory", "--prove=1h", "--duration", "1s", "--format", "json"];
    let outcome = with_load(&started.address, loaded, || agent::run(watch)).0;
    let report = outcome.report();
    let proof = &report.json()["processes"][0]["proof"];
    let number = |key: &str| proof[key].as_f64().with_context(|| format!("{key}: {proof}"));
    let (heap, own) = (number("heap_bytes")?, number("own_bytes")?);
    let passes = number("passes")? + number("passes_void")?;
    println!(
        "| {name} | {:.0} MB | {}{} | {:.2} s | {:.2} s | {:.1} MB, {:.2} % | {:.1} s | {} |",
        heap / 1e6,
        passes,
        if proof["stood_still"] == true { ", stood still" } else { "" },
        number("cpu_s")?,
        number("cpu_s")? / passes.max(1.0),
        own / 1e6,
        own * 100.0 / heap,
        number("took_s")?,
        proof["proven"],
    );
    for problem in proof["problems"].as_array().into_iter().flatten() {
        println!("{name}: {problem}");
    }
    Ok(())
}

/// Does something while connections are kept busy; also how long each request took, in µs, sorted.
fn with_load<T>(address: &str, loaded: bool, run: impl FnOnce() -> T) -> (T, Vec<f64>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let connections = if loaded { CONNECTIONS } else { 0 };
        let clients: Vec<_> = (0..connections).map(|_| scope.spawn(|| requests(address, &over))).collect();
        let done = run();
        over.store(true, Ordering::Relaxed);
        let mut took: Vec<f64> =
            clients.into_iter().flat_map(|client| client.join().unwrap_or_default()).collect();
        took.sort_by(f64::total_cmp);
        (done, took)
    })
}

/// Requests over one connection, one after the other: how long each took, in µs.
fn requests(address: &str, over: &AtomicBool) -> Vec<f64> {
    let mut took = Vec::new();
    let Ok(mut stream) = TcpStream::connect(address) else { return took };
    drop(stream.set_nodelay(true));
    let mut answer = [0; 4096];
    while !over.load(Ordering::Relaxed) {
        let begun = Stopwatch::start();
        if stream.write_all(&[1]).and_then(|()| stream.read_exact(&mut answer)).is_err() {
            break;
        }
        took.push(begun.seconds() * 1e6);
        // Some thousand requests a second together: a server that is busy, not one that is overrun.
        std::thread::sleep(Duration::from_micros(500));
    }
    took
}

/// The answers of a server with a heap of 256 MB, under three conditions in turns.
fn latency() -> Result<()> {
    let mut started = Started::new()?;
    started.target.command("make 1");
    started.target.command_within("heap 256", PATIENCE);
    let pid = started.target.pid().to_string();
    let address = started.address.clone();
    let mut all: [Vec<f64>; 3] = Default::default();
    let mut count = [0_u64; 3];
    for _ in 0..TURNS {
        let ((), alone) = with_load(&address, true, || std::thread::sleep(TURN));
        let (proofs, with_proofs) = with_load(&address, true, || {
            let arguments = [
                "watch",
                "--pid",
                &pid,
                "--mode",
                "memory",
                "--prove=10ms",
                "--budget",
                "1000%",
                "--format",
                "json",
            ];
            let seconds = format!("{}s", TURN.as_secs());
            let outcome = Agent::start([&arguments[..], &["--duration", &seconds]].concat()).wait();
            outcome.report().json()["processes"][0]["proof"]["proofs"].as_u64().unwrap_or(0)
        });
        let (profiles, with_profiles) = with_load(&address, true, || {
            let begun = Stopwatch::start();
            let mut profiles = 0;
            while begun.elapsed() < TURN {
                started.target.command("leaks");
                profiles += 1;
            }
            profiles
        });
        for (sum, took) in all.iter_mut().zip([alone, with_proofs, with_profiles]) {
            sum.extend(took);
        }
        for (sum, more) in count.iter_mut().zip([0, proofs, profiles]) {
            *sum += more;
        }
    }
    println!("\n| heap of 256 MB, {CONNECTIONS} connections | requests | p50 | p99 | p99.9 | longest |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let names =
        ["nothing else", "proofs one after the other", "the runtime's own profile, one after the other"];
    for ((name, mut took), count) in names.into_iter().zip(all).zip(count) {
        took.sort_by(f64::total_cmp);
        let at = |share: usize| took.get(took.len().saturating_sub(1) * share / 1000).copied().unwrap_or(0.0);
        let name = if count > 0 { format!("{name} ({count})") } else { name.to_owned() };
        println!(
            "| {name} | {} | {:.0} µs | {:.0} µs | {:.0} µs | {:.1} ms |",
            took.len(),
            at(500),
            at(990),
            at(999),
            at(1000) / 1e3
        );
    }
    Ok(())
}
