//! `cargo xtask soak`: real servers under mixed load while leakwatch proves, all at once, for a quarter of an hour: nobody who
//! was proven to wait for ever may run again.
//!
//! It builds nothing: it takes `LEAKWATCH_BIN`, or what was built last.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leakwatch_tests::{agent, gate, soak};

/// How long, unless it is said.
const MINUTES: u64 = 15;

/// Runs it and prints a table for docs/proof.md.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let minutes = match arguments {
        [] => MINUTES,
        [minutes, ..] => minutes.parse().with_context(|| format!("{minutes} is no number of minutes"))?,
    };
    for name in soak::SERVERS {
        gate::third_party(name).map_err(anyhow::Error::msg)?;
    }
    println!("{minutes} minutes with {}", agent::binary().map_err(anyhow::Error::msg)?.display());
    let length = Duration::from_secs(minutes.saturating_mul(60));
    let rows = soak::soak(length, &soak::SERVERS, &["--prove=5s", "--budget", "20%"]);
    println!(
        "| server | load: steps, reloads | goroutines | heap | proofs | passes of the last | judged | proven | refuted | processor time |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for row in &rows {
        let proof = &row.proof;
        println!(
            "| {} | {}, {} | {} | {} MB | {} ({} failed) | {} | {} | {} | {} | {} % |",
            row.name,
            row.steps,
            row.reloads,
            proof["goroutines"],
            proof["heap_bytes"].as_u64().unwrap_or(0) / 1_000_000,
            proof["proofs"],
            proof["failed"],
            proof["passes"],
            proof["judged"],
            proof["proven"],
            proof["refuted"],
            proof["cpu_percent_of_one_core"],
        );
        for problem in proof["problems"].as_array().into_iter().flatten() {
            println!("{}: {problem}", row.name);
        }
        for story in proof["refutations"].as_array().into_iter().flatten() {
            println!("{}: REFUTED: {story}", row.name);
        }
    }
    let refuted = rows.iter().filter(|row| row.proof["refuted"] != 0).count();
    ensure!(refuted == 0, "proofs of {refuted} servers were refuted");
    Ok(())
}
