//! `cargo xtask dumps`: how long dumps take, and what requests of the dumped program feel, leakwatch's beside its own.
//!
//! Its own (`debug=2`) stops the world. The truth program measures requests that a worker answers, each from when it was
//! due; so a stop is in all requests that wait meanwhile. Nothing here is a test: it prints, and writes `docs/dump-speed.md`.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leakwatch_tests::agent;
use leakwatch_tests::matrix;
use leakwatch_tests::target::Target;

use crate::overhead::machine;
use crate::shell::{self, Stopwatch, cargo, root};

/// Which truth program is dumped.
const RELEASE: &str = "1.27.3";
/// Goroutines that are parked.
const SIZES: [u32; 3] = [1000, 100_000, 1_000_000];
/// Turns that each way takes; the best counts, as the others were disturbed.
const ROUNDS: usize = 3;
/// Milliseconds for which requests are measured: longer than a dump takes.
const MEASURED: [u32; 3] = [1000, 3000, 12_000];
/// When in that time leakwatch begins.
const HEAD_START: Duration = Duration::from_millis(200);

/// What one round gave.
#[derive(Clone, Copy)]
struct Round {
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

/// Runs everything and writes the table.
pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    shell::run(cargo("build").args(["--release", "--package", "leakwatch"]))?;
    let program = matrix::go_target(RELEASE, "plain");
    ensure!(program.path.is_file(), "needs {}; run `cargo xtask targets {RELEASE} plain`", program.name());
    let mut page = format!(
        "# How long a dump takes, and what the program feels\n\nWritten by `cargo xtask dumps`: {}.\n\nA Go {RELEASE} program with \
         so many parked goroutines and a worker that answers a request every 200 us; the round with the shortest dump of \
         {ROUNDS}. Latencies are from when a request was due to its answer, over the whole measurement, of which the dump is a \
         part.\n\n| goroutines | dumped by | seconds | p50 us | p99 us | max us |\n| --- | --- | --- | --- | --- | --- |\n",
        machine()?,
    );
    for (size, millis) in SIZES.into_iter().zip(MEASURED) {
        let mut target = Target::start(&program.path);
        target.command(&format!("spawn chan {size}"));
        for way in
            ["nobody", "leakwatch dump --format text", "leakwatch dump --format pprof", "itself (debug=2)"]
        {
            let mut best: Option<Round> = None;
            for _ in 0..ROUNDS {
                let round = round(&mut target, way, millis)?;
                if best.is_none_or(|best| round.seconds < best.seconds) {
                    best = Some(round);
                }
            }
            let Some(Round { seconds, p50_us, p99_us, max_us }) = best else { continue };
            let seconds = if way == "nobody" { String::new() } else { format!("{seconds:.3}") };
            let line = format!("| {size} | {way} | {seconds} | {p50_us:.0} | {p99_us:.0} | {max_us:.0} |");
            println!("{line}");
            writeln!(page, "{line}")?;
        }
    }
    let path = root().join("docs").join("dump-speed.md");
    fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

fn round(target: &mut Target, way: &str, millis: u32) -> Result<Round> {
    let format = way.strip_prefix("leakwatch dump --format ");
    let pid = target.pid().to_string();
    let dumper = format.map(|format| {
        let format = format.to_owned();
        thread::spawn(move || -> Result<f64> {
            thread::sleep(HEAD_START);
            let path = shell::work_dir().join(format!("dumped-{pid}"));
            let begun = Stopwatch::start();
            let status = Command::new(agent::binary().map_err(anyhow::Error::msg)?)
                .args(["dump", "--pid", &pid, "--format", &format, "--output"])
                .arg(&path)
                .status()?;
            let seconds = begun.seconds();
            ensure!(status.success(), "leakwatch dump failed");
            fs::remove_file(&path)?;
            Ok(seconds)
        })
    });
    let own = if way.starts_with("itself") { "measuredump" } else { "measure" };
    let answer = target.command_within(&format!("{own} {millis}"), Duration::from_mins(2));
    let figure = |name: &str| answer[name].as_f64().unwrap_or(f64::NAN);
    let seconds = match dumper {
        Some(dumper) => dumper.join().map_err(|_panic| anyhow::anyhow!("the dumping thread panicked"))??,
        None => figure("dump_ns") / 1e9,
    };
    Ok(Round {
        seconds,
        p50_us: figure("p50_ns") / 1e3,
        p99_us: figure("p99_ns") / 1e3,
        max_us: figure("max_ns") / 1e3,
    })
}
