//! `cargo xtask churn`: 300 processes of 20 binaries, 50 of them replaced each second for a minute and each fifth of them with
//! children, while `leakwatch agent` watches all of them. Prints what the agent had of the machine before, in the middle and
//! afterwards, and what it took meanwhile.

use std::time::Duration;

use anyhow::{Context as _, bail};
use leakwatch_tests::{HostAgent, agent, churn, churn::Figures, gate, matrix};

/// Processes at once, and binaries that they are of.
const PROCESSES: usize = 300;
const BINARIES: usize = 20;

/// How many are replaced in a second.
const PER_SECOND: u32 = 50;

/// What else runs on the machine is not read: what that costs is no figure of this.
const CONFIG: &str = "[discover]\ninclude = [{ comm = \"truth\" }]\n";

/// Runs it, for 60 seconds or as many as are given.
#[expect(clippy::cast_precision_loss, reason = "some thousand processes, some hundred megabytes")]
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let seconds = match arguments {
        [] => 60,
        [seconds] => seconds.parse().context("the argument is a number of seconds")?,
        _ => bail!("the only argument is a number of seconds"),
    };
    for gate in [gate::live(), agent::binary().map(drop)] {
        gate.map_err(anyhow::Error::msg)?;
    }
    let binaries: Vec<_> =
        matrix::go_matrix().into_iter().map(|binary| binary.path).filter(|path| path.is_file()).collect();
    let step = (binaries.len() / BINARIES).max(1);
    let binaries: Vec<_> = binaries.into_iter().step_by(step).take(BINARIES).collect();
    if binaries.is_empty() {
        bail!("there are no test programs; `cargo xtask targets` builds them");
    }
    let host = HostAgent::start("churn", CONFIG);
    let length = Duration::from_secs(seconds);
    let churned = churn::churn(&host, &binaries, PROCESSES, PER_SECOND, length);
    println!(
        "{} processes of {} binaries were started in all, {:.1} replaced each second for {seconds} s",
        churned.started,
        binaries.len(),
        (churned.started as f64 - PROCESSES as f64) / length.as_secs_f64(),
    );
    println!(
        "the agent took {:.2} % of a core meanwhile; of {} looks for processes older than {} s, {} found one missing",
        churned.cpu_percent,
        churned.looked_for,
        churn::MISSED.as_secs(),
        churned.missed,
    );
    let [forks, counted] = churned.forks;
    println!("those that ran at the end had forked {forks} times; the agent counted {counted}");
    println!(
        "{:<14}{:>9}{:>12}{:>8}{:>8}{:>9}{:>9}{:>10}",
        "", "watched", "RSS MB", "fds", "eBPF", "threads", "series", "CPU s"
    );
    let rows = [
        ("before", churned.before),
        ("all there", churned.full),
        ("all there again", churned.full_again),
        ("all gone", churned.after),
    ];
    for (name, figures) in rows {
        let Figures { watched, rss_bytes, open_fds, bpf, threads, cpu_s, series } = figures;
        let rss = rss_bytes as f64 / 1e6;
        println!(
            "{name:<16}{watched:>7}{rss:>12.1}{open_fds:>8}{bpf:>8}{threads:>9}{series:>9}{cpu_s:>10.1}"
        );
    }
    Ok(())
}
