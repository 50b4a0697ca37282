//! `cargo xtask accuracy`: how often verdicts are right, on programs whose truth is known.
//!
//! It watches `tests/targets/corpus` in every mode, attached early and late, for a minute each, and real servers under
//! rising load. What it saw is kept as recordings, from which `--replay` scores again after a change to the rules. It builds
//! nothing: it takes `LEAKWATCH_BIN`, or what was built last, and the targets of `cargo xtask targets corpus`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use leakwatch_tests::corpus::{self, Attach, Case, Half, Running, Score};
use leakwatch_tests::{agent, gate, soak};

use crate::overhead::machine;
use crate::shell;

/// Real servers; traefik is loaded by the soak alone.
const SERVERS: [&str; 4] = ["caddy", "nats-server", "prometheus", "etcd"];

/// Runs it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut halves: Vec<Half> = Half::ALL.to_vec();
    let mut replay = false;
    for argument in arguments {
        match argument.as_str() {
            "tuning" => halves = vec![Half::Tuning],
            "held-out" => halves = vec![Half::HeldOut],
            "--replay" => replay = true,
            other => bail!("`cargo xtask accuracy` does not know {other:?}: tuning, held-out, --replay"),
        }
    }
    for runtime in corpus::RUNTIMES {
        let program = corpus::program(runtime);
        ensure!(program.is_file(), "{} is missing: run `cargo xtask targets corpus`", program.display());
    }
    println!("with {}", agent::binary().map_err(anyhow::Error::msg)?.display());
    let folder = shell::work_dir().join("accuracy");
    let mut cases = Vec::new();
    for runtime in corpus::RUNTIMES {
        cases.extend(of_runtime(runtime, &halves, &folder, replay)?);
    }
    let servers = if halves.contains(&Half::HeldOut) { of_servers(&folder, replay)? } else { Vec::new() };
    let page = page(&cases, &servers, &halves)?;
    println!("{page}");
    if halves.len() == Half::ALL.len() {
        let path = shell::root().join("docs").join("accuracy.md");
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// Each half of a runtime's shapes is a process of its own; they run side by side.
fn of_runtime(runtime: &'static str, halves: &[Half], folder: &Path, replay: bool) -> Result<Vec<Case>> {
    let mut running = Vec::new();
    for half in halves {
        let mut shapes = corpus::shapes(runtime);
        shapes.retain(|shape| Half::of(runtime, &shape.name) == *half);
        println!("{runtime}, {}: {} shapes", half.name(), shapes.len());
        running.push(Running::start(runtime, shapes));
    }
    let mut cases = Vec::new();
    for attach in [Attach::Early, Attach::Late] {
        let folder = folder.join(halves.iter().map(|half| half.name()).collect::<Vec<_>>().join(" "));
        let recordings: Vec<PathBuf> = if replay {
            corpus::recordings(&running, attach, &folder)
        } else {
            corpus::record(&running, attach, &folder)
        };
        let mut recordings = recordings.iter();
        for program in &running {
            for mode in corpus::modes(runtime) {
                let recording = recordings.next().context("a recording of each")?;
                ensure!(recording.is_file(), "{} is missing: run without --replay", recording.display());
                cases.extend(program.score(&corpus::replay(recording), attach, mode));
            }
        }
    }
    Ok(cases)
}

/// A server, how many sites it has, and those that were accused.
struct Served {
    name: &'static str,
    mode: &'static str,
    sites: usize,
    accused: Vec<String>,
    suspected: Vec<String>,
}

/// None of these leaks.
fn of_servers(folder: &Path, replay: bool) -> Result<Vec<Served>> {
    for name in SERVERS {
        gate::third_party(name).map_err(anyhow::Error::msg)?;
    }
    let mut served = Vec::new();
    for mode in ["probes", "memory"] {
        let path = folder.join(format!("servers-{mode}.lwrec"));
        if !replay {
            println!("servers under rising load, {mode} …");
            soak::record_rising(&SERVERS, corpus::WATCH_S, mode, &path);
        }
        let reports = corpus::replay(&path);
        let last = reports.last().context("a report")?;
        for (name, process) in SERVERS.iter().zip(last["processes"].as_array().context("processes")?) {
            let sites = process["sites"].as_array().context("sites")?;
            let called = |verdict: &str| {
                let called = sites.iter().filter(|site| site["verdict"] == verdict);
                called.map(|site| format!("{} {}: {}", site["function"], site["task"], site["why"])).collect()
            };
            served.push(Served {
                name,
                mode,
                sites: sites.len(),
                accused: called("leak"),
                suspected: called("suspect"),
            });
        }
    }
    Ok(served)
}

fn page(cases: &[Case], servers: &[Served], halves: &[Half]) -> Result<String> {
    let mut page = String::new();
    writeln!(page, "# How often verdicts are right\n")?;
    writeln!(page, "Written by `cargo xtask accuracy`: {}.\n", machine()?)?;
    let (leaks, fine) = (kinds(cases, true), kinds(cases, false));
    writeln!(
        page,
        "{leaks} kinds of leaks and {fine} look-alikes (`tests/targets/corpus`), of Go, tokio and threads, run side by side, and \
         each was watched for {} s: by probes and by memory alone, attached at the start of the program and a minute \
         later. Threads are counted by the kernel in any mode. The corpus was cut in two by a hash of its names before any \
         threshold was chosen; thresholds were chosen by the tuning half.\n",
        corpus::WATCH_S
    )?;
    writeln!(
        page,
        "What counts is the verdict at the end. *Precision* is of `leak`. *Recall* is told twice: of `leak`, and of `leak` or \
         `suspect`, as a leak that stopped growing before the attach looks like a pool without work and is never called \
         more than a suspect.\n"
    )?;
    for half in halves {
        let of_half: Vec<&Case> = cases.iter().filter(|case| case.half == *half).collect();
        writeln!(
            page,
            "## The half {}\n",
            if *half == Half::Tuning { "for tuning" } else { "that was held out" }
        )?;
        table(&mut page, &of_half)?;
        times(&mut page, &of_half)?;
        wrong(&mut page, &of_half)?;
    }
    if !servers.is_empty() {
        writeln!(
            page,
            "## Servers under rising load\n\nNone of them leaks. No threshold was chosen by them.\n"
        )?;
        writeln!(page, "| server | mode | sites | `leak` | `suspect` |\n| --- | --- | --- | --- | --- |")?;
        for Served { name, mode, sites, accused, suspected } in servers {
            writeln!(page, "| {name} | {mode} | {sites} | {} | {} |", accused.len(), suspected.len())?;
        }
        for served in servers {
            for why in &served.accused {
                writeln!(page, "* {} ({}): {why}", served.name, served.mode)?;
            }
        }
    }
    Ok(page)
}

fn kinds(cases: &[Case], leaks: bool) -> usize {
    let names = cases.iter().filter(|case| case.leaks == leaks).map(|case| (case.runtime, &case.name));
    names.collect::<std::collections::BTreeSet<_>>().len()
}

/// Recall and precision by runtime, mode and attach, and of the rules of today.
fn table(page: &mut String, cases: &[&Case]) -> Result<()> {
    writeln!(
        page,
        "| runtime | mode | attached | recall of `leak` | recall of `leak` or `suspect` | precision |"
    )?;
    writeln!(page, "| --- | --- | --- | --- | --- | --- |")?;
    let row = |page: &mut String, label: &str, cases: &[&Case]| {
        let (leak, found) = (score(cases, Case::said_leak), score(cases, Case::found));
        writeln!(
            page,
            "| {label} | {} | {} | {} |",
            ratio(leak.found, leak.leaks, leak.recall()),
            ratio(found.found, found.leaks, found.recall()),
            ratio(leak.found, leak.found + leak.accused, leak.precision()),
        )
    };
    for runtime in corpus::RUNTIMES {
        for mode in corpus::modes(runtime) {
            for attach in [Attach::Early, Attach::Late] {
                let some: Vec<&Case> = cases
                    .iter()
                    .copied()
                    .filter(|case| (case.runtime, case.mode, case.attach) == (runtime, mode, attach))
                    .collect();
                row(page, &format!("{runtime} | {mode} | {}", attach.name()), &some)?;
            }
        }
    }
    row(page, "all | | ", cases)?;
    writeln!(page, "\nThe rules that people use today, in the same watches, site by site:\n")?;
    writeln!(page, "| rule | recall | precision |\n| --- | --- | --- |")?;
    for (label, rule) in [
        ("more than 1,000 alive", (|case| case.today.count) as fn(&Case) -> bool),
        ("half as many again as at the attach, and 10 more", |case| case.today.growth),
        ("slope above 5 a second", |case| case.today.slope),
    ] {
        let score = score(cases, rule);
        writeln!(
            page,
            "| {label} | {} | {} |",
            ratio(score.found, score.leaks, score.recall()),
            ratio(score.found, score.found + score.accused, score.precision()),
        )?;
    }
    writeln!(page)?;
    Ok(())
}

fn score(cases: &[&Case], rule: impl Fn(&Case) -> bool) -> Score {
    Score::of(cases.iter().copied(), rule)
}

fn ratio(part: usize, whole: usize, share: Option<f64>) -> String {
    share.map_or_else(|| "none".to_owned(), |share| format!("{share:.3} ({part} of {whole})"))
}

/// Time to verdict.
fn times(page: &mut String, cases: &[&Case]) -> Result<()> {
    let quantiles = |times: Vec<f64>| {
        let mut times = times;
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100).copied();
        match (at(50), at(90)) {
            (Some(median), Some(most)) => format!("{median:.0} s (median), {most:.0} s (90 %)"),
            _ => "none".to_owned(),
        }
    };
    let leaks = || cases.iter().filter(|case| case.leaks);
    let to_leak = leaks().filter(|case| case.said_leak()).filter_map(|case| case.leak_s).collect();
    let to_found = leaks().filter(|case| case.found()).filter_map(|case| case.found_s).collect();
    writeln!(
        page,
        "Time to `leak`: {}. Time to `leak` or `suspect`: {}.\n",
        quantiles(to_leak),
        quantiles(to_found)
    )?;
    Ok(())
}

/// What was missed and what was accused, at the end or on the way.
fn wrong(page: &mut String, cases: &[&Case]) -> Result<()> {
    let mut list = |title: &str, is: &dyn Fn(&Case) -> bool, with_why: bool| -> Result<()> {
        let those: Vec<&&Case> = cases.iter().filter(|case| is(case)).collect();
        writeln!(
            page,
            "{title}: {}.\n",
            if those.is_empty() { "none".to_owned() } else { those.len().to_string() }
        )?;
        for case in &those {
            let why = if with_why { format!(": {}", case.why) } else { String::new() };
            let when = case.leak_s.map_or_else(String::new, |at_s| format!(", `leak` at {at_s:.0} s"));
            writeln!(
                page,
                "* {} *{}* ({}, {}): `{}`{when}{why}",
                case.runtime,
                case.name,
                case.mode,
                case.attach.name(),
                case.verdict
            )?;
        }
        if !those.is_empty() {
            writeln!(page)?;
        }
        Ok(())
    };
    list("Missed altogether", &|case| case.leaks && !case.found(), true)?;
    list("Suspected only", &|case| case.leaks && case.found() && !case.said_leak(), false)?;
    list("Accused", &|case| !case.leaks && case.said_leak(), true)?;
    list(
        "Accused on the way and taken back",
        &|case| !case.leaks && !case.said_leak() && case.leak_s.is_some(),
        false,
    )?;
    list("Suspected and none", &|case| !case.leaks && case.verdict == "suspect", false)
}
