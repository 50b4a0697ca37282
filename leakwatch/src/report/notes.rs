//! What the figures do not show, in words: losses, problems, doubts. Every output says the same.

use super::clean::clean;
use super::units::{count, duration};
use super::words::noun;
use super::{Loss, Mode, ProcessReport, ProofSample, ZombieReport};

/// What is to be known beside the figures of a process, a sentence each, safe to show; empty where all is well.
pub fn notes(process: &ProcessReport) -> Vec<String> {
    let mut notes = Vec::new();
    for runtime in &process.runtimes {
        match runtime.mode {
            Mode::Probes => {}
            Mode::Memory => {
                notes.push(format!("{} is read from memory only: rates are sampled", runtime.kind));
            }
            Mode::Mixed => {
                notes.push(format!(
                    "{} was read from memory part of the time: rates are partly sampled",
                    runtime.kind
                ));
            }
        }
        notes.extend(runtime.problems.iter().map(|problem| clean(problem)));
    }
    if process.tasks.live_at_attach.is_none() {
        let noun = noun(process);
        notes.push(format!(
            "what was alive at attach is not known: only {noun}s started since then are counted"
        ));
    }
    if let Some(drift) = process.tasks.drift.filter(|drift| is_far(*drift, process.tasks.live)) {
        notes.push(format!("probes count {drift:+} live tasks compared with the program's memory"));
    }
    notes.extend(process.proof.iter().flat_map(proofs));
    notes.extend(process.zombies.iter().map(zombies));
    notes.extend(process.losses.iter().map(sentence));
    notes
}

/// What is in the way of proofs, and above all whether one was wrong.
fn proofs(proof: &ProofSample) -> Vec<String> {
    let mut notes: Vec<String> = proof.problems.iter().map(|problem| clean(problem)).collect();
    if proof.refuted > 0 {
        notes.push(format!(
            "{} ran or ended after a proof that nothing could wake it: proofs are not to be trusted here, please report it",
            count(proof.refuted, "goroutine")
        ));
        notes.extend(proof.refutations.iter().map(|story| clean(story)));
    }
    notes
}

/// Children that ended and that nobody collected.
fn zombies(zombies: &ZombieReport) -> String {
    let oldest = match zombies.oldest_s {
        Some(seconds) => format!(", the oldest for {}", duration(seconds)),
        None => ", some since before the attach".to_owned(),
    };
    format!(
        "{} of {} not collected by the process{oldest}",
        count(zombies.count, "zombie"),
        clean(&zombies.command)
    )
}

/// Is a drift more than the tasks that come and go while memory is read?
pub fn is_far(drift: i64, live: u64) -> bool {
    drift.unsigned_abs() > (live / 50).max(10)
}

/// A loss as a sentence that says what it does to the figures. Verbs agree with any number.
fn sentence(loss: &Loss) -> String {
    let n = |noun: &str| count(loss.count, noun);
    let halves =
        || if loss.count == 1 { "1 start or end".to_owned() } else { format!("{} starts or ends", n("")) };
    match &*loss.name {
        "ring_full" => format!("the ring buffer had no room for {}; totals are exact", n("event")),
        "live_table_full" => {
            format!("the live table had no room for {}; totals are exact, ages are not", n("task"))
        }
        "site_table_full" => format!("the site table had no room for {}; totals are exact", halves()),
        "facts_unreadable" => format!("could not read the site of {}", n("task")),
        "task_unreadable" => format!("could not read {}: no figure has them", halves()),
        "end_without_start" => format!("saw the end, but not the start, of {}", n("task")),
        "thread_end_without_start" => format!("saw the end, but not the start, of {}", n("thread")),
        "start_without_end" => format!("missed the end of {}: live counts are too high", n("task")),
        "descriptor_missing" => format!("could not tell what {} meant: a bug of leakwatch", n("probe hit")),
        "tracepoint_unreadable" => format!("could not read all of {}", n("thread or process event")),
        "stacks_skipped" => format!(
            "did not take the stack of {} of threads or processes, too many in one second: their site is not known, totals \
             are exact",
            n("creation")
        ),
        "stack_unreadable" => {
            format!("could not read the stack of {} of threads or processes", n("creation"))
        }
        "frames_unreadable" => format!(
            "could not read the interpreter's frames at {} of threads or processes: their site is the interpreter's own code",
            n("creation")
        ),
        "child_table_full" => {
            format!(
                "had no room for {}: what they executed and when they ended is not known",
                n("child process")
            )
        }
        "census_unreadable" => format!("could not read {} from memory", n("task")),
        "sites_over_limit" => format!("had no room for {}: their tasks are only in the totals", n("site")),
        name => format!("lost: {} {}", n(""), clean(name)),
    }
}
